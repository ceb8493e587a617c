"""
C{list}: sites that are listed, told at once by where a part goes to or comes from.

Rules with C{category:} block the same sites for connections, names and requests. This inspector is for what should
pass and be written down, or be blocked for some parts only (uploads, programs)::

    [inspect:shady]
    use = list
    match = direction:upload
    categories = sharing, shady
    action = report
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from sslintercept.config import units
from sslintercept.config.key import setting
from sslintercept.inspect.engines import Engines
from sslintercept.inspect.inspector import Inspector
from sslintercept.inspect.part import Part
from sslintercept.inspect.shipped.acts import ACTS, act
from sslintercept.inspect.verdict import SITE, Evidence, Verdict
from sslintercept.sites.listing import Listing

_URL: Final = re.compile(r"([a-z]+)://(?:\[[^\]]*\]|[^/?:]*)(?::([0-9]{1,5}))?([/?].*)?", re.DOTALL)
"""as L{sslintercept.transform.message.Message.url} writes it; what is no host of a list is found on none"""


@dataclass(frozen=True, slots=True)
class ListOptions:
    """Of C{list}."""

    categories: tuple[str, ...] = setting(
        units.listed(units.token()), "malware, phishing", "categories of the [sites:NAME] lists that count; *: all"
    )
    action: str = act("block", "report")


class ListInspector(Inspector):
    """Sites that are listed."""

    Options = ListOptions

    def __init__(self, options: ListOptions, engines: Engines) -> None:
        super().__init__(options)
        self._sites = engines.sites
        self._any = "*" in options.categories
        self._categories = frozenset(word.lower() for word in options.categories)
        self._act = ACTS[options.action]

    def glance(self, part: Part) -> Verdict | None:
        """See L{Inspector.glance}."""
        for listing in self._listings(part):
            if self._any or listing.category.lower() in self._categories:
                shown = listing._replace(file=listing.file.rpartition("/")[2])
                name = f"{listing.list}:{listing.category}"
                evidence = (Evidence(name, str(shown)),)
                return Verdict(self._act, SITE, name, str(shown), evidence, engine="list", version=listing.list)
        return None

    def _listings(self, part: Part) -> tuple[Listing, ...]:
        url = _URL.match(part.url)
        if url is None:
            return self._sites.all_of_host(part.host) if part.host else ()
        scheme, port, target = url.groups()
        target = target or "/"
        if not target.startswith("/"):
            target = f"/{target}"
        return self._sites.all_of_url(
            scheme, part.host, int(port) if port else None, target.encode("latin-1", "replace")
        )

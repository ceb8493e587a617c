"""
Rules in Adblock's language, as far as they are about whole sites: C{||example.com^} and exceptions C{@@||}.

Most rules of such lists are about parts of pages, or depend on who asks; a list of sites cannot say that, so they are
skipped. An exception with conditions is skipped like a rule with conditions: it would let through more than was meant.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from sslintercept.sites.key import name_key, network_key, quoted
from sslintercept.sites.lines import NOTHING, location
from sslintercept.sites.listing import Entry, Kind

WHOLE: Final = frozenset((b"all", b"document", b"doc", b"important"))
"""Options with which a rule is still about the whole site."""

_HEADER = re.compile(rb"\[[A-Za-z][A-Za-z0-9 .;+-]*\]")
_COSMETIC = re.compile(rb"(?:^|[^#])#(?:@?[?$%]{0,2}|@?\$\?)#")
_SITE = re.compile(rb"(\*\.)?([^/^*|$\s]+?)\.?(?:\^\|?)?")
_PATH = re.compile(rb"([^/^*|$\s]+/[^\^*|\s]*)\*?")
_MARKUP = re.compile(rb"<[!/A-Za-z]")


class Adblock:
    """One rule a line; C{!} begins comments, C{[Adblock Plus 2.0]} the list."""

    def read(self, line: bytes) -> Sequence[Entry] | None:
        """
        Take what is about whole sites.

        A name alone is that host, as in AdGuard's lists for name servers; C{||example.com/path} is a prefix.
        """
        text = line.strip()
        if not text or text.startswith(b"!") or _HEADER.fullmatch(text) is not None:
            return NOTHING
        if _MARKUP.match(text) is not None:
            raise ValueError("markup, no rule")
        if _COSMETIC.search(text) is not None:
            return None
        if text.startswith(b"#"):
            return NOTHING
        exception = text.startswith(b"@@")
        rule = text.removeprefix(b"@@")
        pattern, dollar, options = rule.rpartition(b"$")
        if not dollar or b"/" in options:
            pattern = rule
        elif not all(option.strip() in WHOLE for option in options.split(b",")):
            return None
        if not pattern.startswith(b"||"):
            return self._bare(pattern, exception)
        pattern = pattern[2:]
        if (match := _SITE.fullmatch(pattern)) is not None:
            return self._site(match[2], Kind.BELOW if match[1] else Kind.DOMAIN, exception)
        if (match := _PATH.fullmatch(pattern)) is not None:
            entry = location(match[1], Kind.DOMAIN)
            return (entry._replace(exception=exception),)
        return None

    def _site(self, text: bytes, kind: Kind, exception: bool) -> Sequence[Entry] | None:
        if (key := network_key(text)) is not None:
            return (Entry(key, Kind.NETWORK, exception),)
        host, colon, _ = text.partition(b":")
        if colon:
            name_key(host)
            return None  # a port is no part of a name, and all ports would be more than was meant
        return (Entry(name_key(text), kind, exception),)

    def _bare(self, text: bytes, exception: bool) -> Sequence[Entry] | None:
        if not text or text.startswith((b"|", b"/")) or any(byte in text for byte in b"*^/?=&"):
            return None
        if b" " in text:
            raise ValueError(f"{quoted(text)} is no rule")
        if b"." not in text.strip(b"."):
            return None
        try:
            return (Entry(name_key(text), Kind.HOST, exception),)
        except ValueError:
            return None

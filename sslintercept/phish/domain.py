"""
Where a host belongs: the domain that somebody registered, by the Public Suffix List, and its name in letters.

Private suffixes count, too: what a customer of a hoster puts below C{github.io} is his, not the hoster's.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache, lru_cache
from typing import Final, NamedTuple

from publicsuffixlist import PublicSuffixList

from sslintercept.sites.key import MAX_NAME, NAME, address_of, labels_of

ACE: Final = "xn--"
"""how A-labels begin (RFC 5890 2.3.2.1)"""
MOST_LABELS: Final = 8
"""labels at the end of a host in which its registered domain is looked for"""

_NO_SCRIPT: Final = frozenset(("MODIFIER", "COMBINING", "KATAKANA-HIRAGANA", "IDEOGRAPHIC", "MASCULINE", "FEMININE"))
"""first words of names of letters that belong to no script of their own"""
_TOGETHER: Final = (
    frozenset(("LATIN", "CJK", "HIRAGANA", "KATAKANA")),
    frozenset(("LATIN", "CJK", "BOPOMOFO")),
    frozenset(("LATIN", "CJK", "HANGUL")),
)
"""scripts that are written together (UTS 39 5.2, Highly Restrictive)"""
_NAME = re.compile(NAME.pattern.decode("ascii"))


class Domain(NamedTuple):
    """
    A host taken apart.

    @ivar registrable: what somebody registered, C{example.co.uk}.
    @ivar core: its first label, C{example}; C{suffix}: the rest, C{co.uk}.
    @ivar below: the labels in front of it.
    """

    registrable: str
    core: str
    suffix: str
    below: tuple[str, ...]


@cache
def suffixes() -> PublicSuffixList:
    """The list that comes with the library; made once, which takes a tenth of a second."""
    return PublicSuffixList()


def cleaned(host: str) -> str:
    """A host in lower-case A-labels without a trailing dot, or an IP literal; empty for what is neither."""
    if len(host) > MAX_NAME + 1:
        return ""
    host = host.strip().strip("[]")
    if address_of(host) is not None:
        return host
    try:
        name = labels_of(host)
    except ValueError:
        return ""
    return name if _NAME.fullmatch(name) else ""


def split(host: str) -> Domain | None:
    """Take a L{cleaned} host apart; C{None} for an address, a bare word, or a public suffix."""
    if "." not in host or address_of(host) is not None:
        return None
    # The last ones decide what is registered, and the list has no suffix that is as long.
    registrable = suffixes().privatesuffix(".".join(host.split(".")[-MOST_LABELS:]))
    if registrable is None:
        return None
    core, _, suffix = registrable.partition(".")
    below = host[: -len(registrable) - 1]
    return Domain(registrable, core, suffix, tuple(below.split(".")) if below else ())


@lru_cache(maxsize=4096)
def registrable(host: str) -> str:
    """The domain that a L{cleaned} host belongs to; the host itself where there is none."""
    domain = split(host)
    return domain.registrable if domain is not None else host


def below(host: str, domain: str) -> bool:
    """Whether a host is a domain, or lies below it."""
    return host == domain or host.endswith("." + domain)


def shown(label: str) -> str:
    """A label as a browser may show it; itself if it cannot be decoded."""
    if not label.startswith(ACE):
        return label
    try:
        return label.removeprefix(ACE).encode("ascii").decode("punycode")
    except UnicodeError:
        return label


def mixed(host: str) -> str | None:
    """The first label whose letters are of scripts that nobody writes together, as it is shown; C{None} without one."""
    if ACE not in host:
        return None
    for label in host.split("."):
        found = shown(label)
        scripts = {script for character in found if (script := _script(character))}
        if len(scripts) > 1 and not any(scripts <= together for together in _TOGETHER):
            return found
    return None


@lru_cache(maxsize=1024)
def _script(character: str) -> str:
    """The script of a letter by its name; empty for what has none."""
    if not character.isalpha():
        return ""
    first = unicodedata.name(character, "").partition(" ")[0]
    return "" if first in _NO_SCRIPT else first

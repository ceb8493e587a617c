"""
Hosts that look like those of brands, and are none of theirs.

Characters that look alike come from Unicode (UTS 39 4, L{sslintercept.phish.confusables}); what it leaves out because
it looks alike only at a glance is in L{GLANCE}. Names that begin or end with the same two characters and are about as
long are compared by their edits: one edit cannot change both ends, and two that do are not found.

Cost: a host that is like nothing costs its public suffix, some dictionary look-ups, and one for each place at which a
brand may begin.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from enum import Enum
from typing import Final, NamedTuple

from sslintercept.phish.confusables import ALIKE
from sslintercept.phish.domain import Domain, cleaned, shown, split

SHORTEST_NEAR: Final = 5
"""characters of a name that may be mistyped"""
SHORTEST_TYPO: Final = 8
"""characters of a name of which one mistyped is hardly another word"""
SHORTEST_TWO: Final = 10
"""characters of a name in which two may be mistyped"""
LONGEST: Final = 32
"""characters of a name that are looked at for mistypings"""
ENDS: Final = 2
"""characters at either end of which one end is as in the brand, however it is mistyped"""
MOST_IN_FRONT: Final = 6
"""labels of a host, from its beginning, in which brands are looked for in front of another domain"""
SHORTEST_WORD: Final = 3
"""characters of a brand that is found between hyphens"""
SHORTEST_PART: Final = 6
"""characters of a brand that is found within other words"""
BAITS: Final = (
    *("login", "logon", "signin", "secur", "verif", "account", "support", "service", "update", "billing", "invoice"),
    *("payment", "wallet", "recover", "confirm", "unlock", "password", "customer", "helpdesk", "online", "portal"),
    *("konto", "sicher", "kunde", "anmeld", "compte", "cuenta", "auth", "alert", "refund", "reward", "track"),
)
"""what phishers put beside a brand's name"""
MOST_KNOWN: Final = 4096
"""hosts whose answer is remembered"""

GLANCE: Final = {
    "2": "z",
    "3": "e",
    "4": "a",
    "5": "s",
    "6": "b",
    "7": "t",
    "8": "b",
    "9": "g",
    "1": "l",
    "i": "l",
    "-": "",
    "\u0432": "b",
    "\u043a": "k",
    "\u043c": "rn",
    "\u043d": "h",
    "\u0438": "u",
    "\u043f": "n",
    "\u0442": "t",
    "\u0448": "w",
    "\u03b7": "n",
    "\u03ba": "k",
    "\u03c4": "t",
    "\u03c9": "w",
    "\u00df": "b",
}
"""what is taken for another at a glance, beside Unicode's table: digits, C{i} and C{l}, small Cyrillic and Greek"""

PLAIN: Final = frozenset(((), ("www",), ("mail",)))
"""labels in front of a domain that say nothing"""
_MAP: Final = {ord(source): looks for looks, sources in ALIKE.items() for source in sources}
_GLANCE: Final = {ord(source): looks for source, looks in GLANCE.items()}
_PAIRS: Final = (("vv", "w"), ("cl", "d"))
"""pairs of letters that look like one"""
_WORDS = re.compile("[-_0-9]+")


class How(Enum):
    """In which way a host looks like a brand's."""

    SCRIPT = "script"
    """letters of other alphabets that look the same"""
    ALIKE = "alike"
    """letters and digits that look alike: paypa1, rnicrosoft"""
    TYPO = "typo"
    """one character of a longer name differs"""
    NEAR = "near"
    """one character of a short name differs, or two of a long one"""
    SUFFIX = "suffix"
    """the same name below another suffix"""
    INSIDE = "inside"
    """the whole domain in front of another: paypal.com.example.net"""
    LABEL = "label"
    """its name in front of another domain: paypal.example.net"""
    BAIT = "bait"
    """its name beside words of logins and payments: paypal-login.com"""
    WORD = "word"
    """its name is one of several words: paypal-garden.com"""
    PART = "part"
    """its name is within a longer word: mypaypalstory.com"""


class Likeness(NamedTuple):
    """
    What a host looks like.

    @ivar brand: the domain of it.
    @ivar shown: the host, or its label, as a browser may show it.
    """

    how: How
    brand: str
    shown: str


class Brand(NamedTuple):
    """A brand by its domain."""

    domain: str
    core: str
    """its name, as it is shown"""
    suffix: str
    skeleton: str
    letters: int


def skeleton(text: str) -> str:
    """What a text looks like (UTS 39 4), in small letters without marks; two that look alike have the same."""
    if not text.isascii():
        text = unicodedata.normalize("NFD", text)
    text = text.translate(_MAP)
    if not text.isascii():
        text = "".join(c for c in unicodedata.normalize("NFD", text) if not unicodedata.combining(c))
    return text.lower()


def glance(looks: str) -> str:
    """What a L{skeleton} is taken for at a glance; hyphens are not seen."""
    looks = looks.translate(_GLANCE)
    for pair, one in _PAIRS:
        if pair in looks:
            looks = looks.replace(pair, one)
    return looks


def distance(one: str, other: str) -> int:
    """Edits from one to the other, neighbours exchanged counted as one (optimal string alignment)."""
    begin, end = 0, min(len(one), len(other))
    while begin < end and one[begin] == other[begin]:
        begin += 1
    one, other, end = one[begin:], other[begin:], end - begin
    while end and one[-1] == other[-1]:
        one, other, end = one[:-1], other[:-1], end - 1
    if not one or not other:
        return len(one) + len(other)
    before: list[int] = []
    last = list(range(len(other) + 1))
    for row, here in enumerate(one, 1):
        now = [row]
        for column, there in enumerate(other, 1):
            least = min(last[column] + 1, now[-1] + 1, last[column - 1] + (here != there))
            if row > 1 and column > 1 and here == other[column - 2] and one[row - 2] == there:
                least = min(least, before[column - 2] + 1)
            now.append(least)
        before, last = last, now
    return last[-1]


def letters(text: str) -> int:
    """Which characters are in a text, as bits; one edit changes at most two of them."""
    bits = 0
    for character in text:
        bits |= 1 << (ord(character) & 63)
    return bits


def allowed_edits(length: int) -> int:
    """How many characters of a name of that length may differ."""
    return 0 if not SHORTEST_NEAR <= length <= LONGEST else 1 if length < SHORTEST_TWO else 2


class Brands:
    """
    All brands, ready to be compared with.

    @param domains: a brand's hosts, usually registered domains; all below them is the brand's.
    @param allies: hosts that may look like brands: other domains of theirs, and what is innocently alike.
    @raise ValueError: one of them is no host, or a brand is no domain that can be registered.
    """

    def __init__(self, domains: Iterable[str] = (), allies: Iterable[str] = ()) -> None:
        self.domains: dict[str, Brand] = {}
        self._cores: dict[str, Brand] = {}
        self._skeletons: dict[str, Brand] = {}
        self._glances: dict[str, Brand] = {}
        self._fronts: dict[str, list[Brand]] = {}
        self._backs: dict[str, list[Brand]] = {}
        """those that may be mistyped, by their two ends"""
        self._starts: dict[str, list[Brand]] = {}
        """those that are found within words, by their beginnings"""
        self._known: dict[str, Likeness | None] = {}
        self._allies = frozenset(map(_host, allies))
        for domain in domains:
            self._add(_host(domain))

    def _add(self, domain: str) -> None:
        parts = split(domain)
        if parts is None:
            raise ValueError(f"{domain} is no domain that can be registered")
        core = shown(parts.core)
        looks = skeleton(core)
        brand = self.domains[domain] = Brand(domain, core, parts.suffix, looks, letters(looks))
        self._cores.setdefault(core, brand)
        self._skeletons.setdefault(looks, brand)
        self._glances.setdefault(glance(looks), brand)
        if allowed_edits(len(looks)):
            self._fronts.setdefault(looks[:ENDS], []).append(brand)
            self._backs.setdefault(looks[-ENDS:], []).append(brand)
        if len(looks) >= SHORTEST_PART:
            self._starts.setdefault(looks[:SHORTEST_PART], []).append(brand)

    def owner(self, host: str) -> str | None:
        """The brand that a host belongs to: it is one's domain, or lies below one."""
        domains = self.domains
        while host:
            if host in domains:
                return host
            host = host.partition(".")[2]
        return None

    def ally(self, host: str) -> bool:
        """Whether a host is, or lies below, one that may look like a brand."""
        allies = self._allies
        while host and allies:
            if host in allies:
                return True
            host = host.partition(".")[2]
        return False

    def find(self, host: str) -> Likeness | None:
        """What a host in A-labels (L{sslintercept.phish.domain.cleaned}) looks like, the strongest likeness first."""
        known = self._known
        if host in known:
            return known[host]
        if len(known) >= MOST_KNOWN:
            known.clear()
        known[host] = likeness = self._find(host)
        return likeness

    def named(self, text: str) -> str | None:
        """The brand whose name, or domain, is among the words of a text for people; one that looks alike counts."""
        words = re.split(r"[^\w.-]+", text)
        for word in words:
            bare = word.strip(".-_")
            if len(bare) < SHORTEST_WORD:
                continue
            for spelling in (bare.lower(), bare):
                looks = skeleton(spelling)
                brand = self._skeletons.get(looks) or self._skeletons.get(looks.partition(".")[0])
                if brand is not None:
                    return brand.domain
        joined = skeleton("".join(words).lower())
        for brand in self.domains.values():  # one for each of them, but only for what people read
            if "-" in brand.core and brand.skeleton.replace("-", "") in joined:
                return brand.domain
        return None

    def _find(self, host: str) -> Likeness | None:
        if not self.domains or self.owner(host) is not None or self.ally(host):
            return None
        domain = split(host)
        if domain is None:
            return None
        core = shown(domain.core)
        if (brand := self._cores.get(core)) is not None:
            return Likeness(How.SUFFIX, brand.domain, domain.registrable)
        looks = skeleton(core)
        if (brand := self._skeletons.get(looks)) is not None:
            return Likeness(How.ALIKE if core.isascii() else How.SCRIPT, brand.domain, core)
        if (brand := self._glances.get(glance(looks))) is not None:
            return Likeness(How.ALIKE if core.isascii() else How.SCRIPT, brand.domain, core)
        return self._mistyped(core, looks) or self._in_front(domain) or self._baited(core, looks)

    def _baited(self, core: str, looks: str) -> Likeness | None:
        """A brand within a label; with bait beside it it is more."""
        found = self._within(core, looks)
        if found is not None and any(bait in core for bait in BAITS):
            return found._replace(how=How.BAIT)
        return found

    def _mistyped(self, core: str, looks: str) -> Likeness | None:
        length = len(looks)
        bits = 0
        best: tuple[int, Brand] | None = None
        for brand in (*self._fronts.get(looks[:ENDS], ()), *self._backs.get(looks[-ENDS:], ())):
            edits = allowed_edits(len(brand.skeleton))
            if abs(len(brand.skeleton) - length) > edits:
                continue
            bits = bits or letters(looks)
            if (bits ^ brand.letters).bit_count() <= 2 * edits:
                apart = distance(looks, brand.skeleton)
                if apart <= edits and (best is None or apart < best[0]):
                    best = apart, brand
        if best is None:
            return None
        apart, brand = best
        how = How.TYPO if apart == 1 and len(brand.skeleton) >= SHORTEST_TYPO else How.NEAR
        return Likeness(how, brand.domain, core)

    def _in_front(self, domain: Domain) -> Likeness | None:
        """A brand among the labels in front of another domain."""
        if domain.below in PLAIN:
            return None
        for at, label in enumerate(domain.below[:MOST_IN_FRONT]):
            brand = self._skeletons.get(skeleton(shown(label)))
            if brand is not None:
                rest = ".".join(domain.below[at + 1 :]) + "."
                how = How.INSIDE if rest.startswith(brand.suffix + ".") else How.LABEL
                return Likeness(how, brand.domain, ".".join((*domain.below, domain.registrable)))
        for label in domain.below[:MOST_IN_FRONT]:
            text = shown(label)
            if (found := self._within(text, skeleton(text))) is not None and found.how is How.WORD:
                return found._replace(how=How.LABEL, shown=".".join((*domain.below, domain.registrable)))
        return None

    def _within(self, core: str, looks: str) -> Likeness | None:
        """A brand among the words of a label, or within one."""
        if "-" in looks or not core.isalpha():
            for word in _WORDS.split(core):
                if len(word) >= SHORTEST_WORD and (brand := self._cores.get(word)) is not None:
                    return Likeness(How.WORD, brand.domain, core)
            for word in looks.split("-"):
                if len(word) >= SHORTEST_WORD:
                    brand = self._skeletons.get(word) or self._glances.get(glance(word))
                    if brand is not None:
                        return Likeness(How.WORD, brand.domain, core)
        starts = self._starts
        for at in range(len(looks) - SHORTEST_PART + 1):
            for brand in starts.get(looks[at : at + SHORTEST_PART], ()):
                if looks.startswith(brand.skeleton, at):
                    # With a hyphen in its own name it cannot be one word of several.
                    how = How.WORD if "-" in brand.skeleton else How.PART
                    return Likeness(how, brand.domain, core)
        return None


def _host(text: str) -> str:
    """@raise ValueError: it is no host."""
    host = cleaned(text)
    if not host:
        raise ValueError(f"{text[:80]!r} is no host")
    return host

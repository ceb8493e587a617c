"""
What lists say of a host or a URL: within a list the most specific entry, between lists the first that says anything.

An exception silences its own list for what it covers, however specific the other entries are, as in Adblock's rules;
in a response policy zone the closest trigger decides. It never silences another list.

Cost: a name that is in no list costs its one spelling, one CRC-32, and one bit for each list. Names that are looked up
one label further have something listed below them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final, NamedTuple, TypeAlias
from zlib import crc32

from sslintercept.sites.image import EXCEPTION, KIND, NUMBERS, Hit, Image, kind_of, line_of, source_of
from sslintercept.sites.key import (
    MAX_NAME,
    address_of,
    asked_key,
    authority_key,
    literal_key,
    prefix_key,
    shown,
    target_key,
)
from sslintercept.sites.listing import Kind, Listing

HOST, DOMAIN, BELOW, URL, PREFIX = (
    NUMBERS[kind] for kind in (Kind.HOST, Kind.DOMAIN, Kind.BELOW, Kind.URL, Kind.PREFIX)
)
NONE: Final = ()
MAX_SEGMENTS: Final = 64
"""Segments of a path that prefixes are looked for in; deeper, only the whole path is."""
MOST_ORIGINS: Final = 4096
"""of which it is remembered that lists have nothing about them, or may have"""
WWW: Final = b"www."
"""Prefixes without it are about hosts with it, too (squidGuard's urllist)."""


Step: TypeAlias = tuple[bytes, int]
"""A key, or the beginning of some, with its CRC-32."""


class SiteList:
    """One list that can be asked."""

    __slots__ = ("image", "name")

    def __init__(self, name: str, image: Image) -> None:
        self.name, self.image = name, image

    def listing(self, hit: Hit) -> Listing:
        key, number = hit
        file, category = self.image.sources[source_of(number)]
        return Listing(self.name, category, file, line_of(number), shown(key), kind_of(number))

    def decided(self, hits: list[Hit]) -> list[Hit]:
        """
        What is left when exceptions have had their say, the most specific first.

        @param hits: all that apply, the most specific last.
        """
        for at in range(len(hits) - 1, -1, -1):
            if hits[at][1] & EXCEPTION:
                hits = hits[at + 1 :] if self.image.closest else []
                break
        hits.reverse()
        return hits


Found: TypeAlias = Iterator[tuple[SiteList, list[Hit]]]


class Asked(NamedTuple):
    """The rest of a URL."""

    scheme: str
    port: int | None
    target: bytes


def anchor_of(key: bytes) -> int:
    """The CRC-32 of a name's last two labels: a list with nothing at or below them has nothing about the name."""
    return crc32(key[key.rfind(b".", 0, key.rfind(b".")) + 1 :])


def spelled(host: str) -> tuple[bytes | None, bytes, int]:
    """An address, if the host is one, its key, which is empty if no list could spell it, and the L{anchor_of} that."""
    return _spelled(host) if len(host) <= MAX_NAME + 1 else _spelled.__wrapped__(host)


@lru_cache(maxsize=4096)
def _spelled(host: str) -> tuple[bytes | None, bytes, int]:
    address = address_of(host)
    key = (asked_key(host) if address is None else literal_key(address)) or b""
    return address, key, anchor_of(key)


def suffixes(key: bytes) -> list[Step]:
    """The name and all of two labels or more that it lies below, the shortest first."""
    found: list[Step] = []
    begin = key.rfind(b".", 0, key.rfind(b".")) + 1
    while begin:
        name = key[begin:]
        found.append((name, crc32(name)))
        begin = key.rfind(b".", 0, begin - 1) + 1
    found.append((key, crc32(key)))
    return found


def names(image: Image, steps: list[Step]) -> list[Hit]:
    """All entries about a name, the most specific last, and of equal ones the first line."""
    found: list[Hit] = []
    held, bits, find = image.held, image.bits, image.find
    if image.top and (dot := steps[0][0].rfind(b".")) >= 0:
        name = steps[0][0][dot + 1 :]
        found += (hit for hit in find(name, crc32(name)) if hit[1] & KIND != HOST)
    left = len(steps)
    for name, crc in steps:
        if not held[(crc & bits) >> 3] >> (crc & 7) & 1:
            break
        left -= 1
        for hit in find(name, crc):
            kind = hit[1] & KIND
            if kind == DOMAIN or kind == (BELOW if left else HOST):
                found.append(hit)
    return found


def networks(image: Image, address: bytes) -> list[Hit]:
    """All entries about a packed address, the longest prefix last."""
    found: list[Hit] = []
    for size, prefix in reversed(image.prefixes):
        if size == len(address):
            key = prefix_key(address, prefix)
            found += image.find(key, crc32(key))
    return found


def origins(authority: bytes) -> list[Step]:
    """The beginnings of keys of URLs under which a URL may be listed."""
    found = [authority + b"/"]
    if authority.startswith(WWW):
        found.insert(0, found[0][len(WWW) :])
    return [(origin, crc32(origin)) for origin in found]


def urls(image: Image, steps: Sequence[Step], target: bytes) -> list[Hit]:
    """All entries about a URL, hosts not included, the most specific last."""
    found: list[Hit] = []
    path, mark, _ = target.partition(b"?")
    for number, (origin, crc) in enumerate(steps, 1):
        if not image.holds(crc):
            continue
        authority = origin[:-1]
        for cut in prefixes(path):
            found += of_kind(image, authority + path[:cut], PREFIX)
        if mark:
            found += of_kind(image, authority + target, PREFIX)
        if number == len(steps):
            found += of_kind(image, authority + path, URL)
            if mark:
                found += of_kind(image, authority + target, URL)
    return found


def prefixes(path: bytes) -> Iterator[int]:
    """Where the prefixes of a path end, the shortest first; all but the root are without the slash at their end."""
    yield 1
    at = 0
    for _ in range(MAX_SEGMENTS):
        at = path.find(b"/", at + 1)
        if at < 0:
            break
        yield at
    if len(path) > 1 and not path.endswith(b"/"):
        yield len(path)


def of_kind(image: Image, key: bytes, kind: int) -> list[Hit]:
    return [hit for hit in image.find(key, crc32(key)) if hit[1] & KIND == kind]


class Sites:
    """
    All lists, in their order.

    @ivar lists: replaced as a whole when one is loaded anew.
    @ivar generation: another object then.
    """

    __slots__ = ("_lists", "_silent", "generation")

    def __init__(self, lists: tuple[SiteList, ...] = ()) -> None:
        self.lists = lists

    @property
    def lists(self) -> tuple[SiteList, ...]:
        """What is asked, in this order."""
        return self._lists

    @lists.setter
    def lists(self, lists: tuple[SiteList, ...]) -> None:
        self._lists = lists
        self.generation = object()
        self._silent: dict[tuple[str, str, int | None], bool] = {}
        """what L{silent} has said of these"""

    def host(self, name: str) -> Listing | None:
        """
        Why a host is listed: a name, or an IP literal with or without brackets.

        Asked where only a host is known: CONNECT, SNI, a question for a name.
        """
        address, key, anchor = spelled(name)
        if address is not None:
            return first(self._hits(name))
        if not key:
            return None
        steps: list[Step] = []
        for one in self._lists:  # the same as below, for names only, and without what a generator costs
            image = one.image
            if image.held[(anchor & image.bits) >> 3] >> (anchor & 7) & 1 or image.top:
                steps = steps or suffixes(key)
                hits = names(image, steps)
                if hits and (left := one.decided(hits)):
                    return one.listing(left[0])
        return None

    def url(self, scheme: str, host: str, port: int | None, target: bytes) -> Listing | None:
        """
        Why a URL is listed, or its host is.

        @param target: path and query, as they are in a request.
        """
        return first(self._hits(host, Asked(scheme, port, target)))

    def all_of_host(self, name: str) -> tuple[Listing, ...]:
        """Every category of every list that a host is in, each with its most specific entry."""
        return every(self._hits(name))

    def all_of_url(self, scheme: str, host: str, port: int | None, target: bytes) -> tuple[Listing, ...]:
        """The same of a URL and its host."""
        if self.silent(scheme, host, port):
            return ()
        return every(self._hits(host, Asked(scheme, port, target)))

    def silent(self, scheme: str, host: str, port: int | None) -> bool:
        """
        Whether surely no list has anything about a host, or any URL of it, whatever its target. Remembered of the
        origins asked for last.
        """
        known, origin = self._silent, (scheme, host, port)
        if (answer := known.get(origin)) is None:
            answer = self._is_silent(*origin)
            if len(known) >= MOST_ORIGINS:
                known.clear()
            if len(host) <= MAX_NAME:
                known[origin] = answer
        return answer

    def _is_silent(self, scheme: str, host: str, port: int | None) -> bool:
        address, key, anchor = spelled(host)
        if not key:
            return True
        crcs = [crc for _, crc in origins(authority_key(scheme, key, port))]
        if address is None:
            crcs.append(anchor)
        for one in self._lists:
            image = one.image
            if (image.top if address is None else image.prefixes) or any(map(image.holds, crcs)):
                return False
        return True

    def _hits(self, host: str, asked: Asked | None = None) -> Found:
        """What each list has about a host, and about a URL of it; lists that have nothing are left out."""
        address, key, anchor = spelled(host)
        if not key:
            return
        begins = origins(authority_key(asked.scheme, key, asked.port)) if asked is not None else NONE
        steps: list[Step] = []
        path = b""
        for one in self._lists:
            image = one.image
            held, bits = image.held, image.bits
            hits: list[Hit] = []
            if address is not None:
                hits = networks(image, address) if image.prefixes else hits
            elif held[(anchor & bits) >> 3] >> (anchor & 7) & 1 or image.top:
                steps = steps or suffixes(key)
                hits = names(image, steps)
            for _, crc in begins:
                if asked is not None and held[(crc & bits) >> 3] >> (crc & 7) & 1:
                    path = path or target_key(asked.target)
                    hits += urls(image, begins, path)
                    break
            if hits:
                yield one, hits


def first(found: Found) -> Listing | None:
    for one, hits in found:
        if left := one.decided(hits):
            return one.listing(left[0])
    return None


def every(found: Found) -> tuple[Listing, ...]:
    listings: dict[tuple[str, str], Listing] = {}
    for one, hits in found:
        for listing in map(one.listing, one.decided(hits)):
            listings.setdefault((listing.list, listing.category), listing)
    return tuple(listings.values())

"""
What lists say of a host or a URL: within a list the most specific entry, between lists the first that says anything.

An exception silences its own list for what it covers, however specific the other entries are, as in Adblock's rules;
in a response policy zone the closest trigger decides. It never silences another list.

Cost: a name that is in no list costs its one spelling, one CRC-32, and one bit for each list. Names that are looked up
one label further have something listed below them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final
from zlib import crc32

from sslintercept.sites.image import EXCEPTION, KIND, NUMBERS, Hit, Image, said
from sslintercept.sites.key import address_of, asked_key, authority_key, prefix_key, shown, target_key
from sslintercept.sites.listing import Kind, Listing

HOST, DOMAIN, BELOW, URL, PREFIX = (
    NUMBERS[kind] for kind in (Kind.HOST, Kind.DOMAIN, Kind.BELOW, Kind.URL, Kind.PREFIX)
)
MAX_SEGMENTS: Final = 64
"""Segments of a path that prefixes are looked for in; deeper, only the whole path is."""
WWW: Final = b"www."
"""Prefixes without it are about hosts with it, too (squidGuard's urllist)."""


class SiteList:
    """One list that can be asked."""

    __slots__ = ("image", "name")

    def __init__(self, name: str, image: Image) -> None:
        self.name, self.image = name, image

    def listing(self, hit: Hit) -> Listing:
        key, number = hit
        kind, _, line, source = said(number)
        file, category = self.image.sources[source]
        return Listing(self.name, category, file, line, shown(key), kind)

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


def names(image: Image, key: bytes) -> list[Hit]:
    """All entries about a name, the most specific last."""
    found: list[Hit] = []
    held, bits, find = image.held, image.bits, image.find
    dot = key.rfind(b".")
    if image.top and dot >= 0:
        top = key[dot + 1 :]
        found += [hit for hit in find(top, crc32(top)) if hit[1] & KIND != HOST]
    begin = key.rfind(b".", 0, dot) + 1 if dot > 0 else 0
    while True:
        name = key[begin:] if begin else key
        crc = crc32(name)
        at = crc & bits
        if not held[at >> 3] >> (at & 7) & 1:
            return found
        for hit in find(name, crc):
            kind = hit[1] & KIND
            if kind == DOMAIN or kind == (BELOW if begin else HOST):
                found.append(hit)
        if not begin:
            return found
        begin = key.rfind(b".", 0, begin - 1) + 1


def networks(image: Image, address: bytes) -> list[Hit]:
    """All entries about a packed address, the longest prefix last."""
    found: list[Hit] = []
    for size, prefix in reversed(image.prefixes):
        if size == len(address):
            key = prefix_key(address, prefix)
            found += image.find(key, crc32(key))
    return found


def urls(image: Image, authority: bytes, target: bytes) -> list[Hit]:
    """All entries about a URL, hosts not included, the most specific last."""
    found: list[Hit] = []
    if authority.startswith(WWW):
        found += (hit for hit in urls(image, authority[len(WWW) :], target) if hit[1] & KIND == PREFIX)
    if not image.holds(crc32(authority + b"/")):
        return found
    path, mark, _ = target.partition(b"?")
    for cut in prefixes(path):
        found += of_kind(image, authority + path[:cut], PREFIX)
    found += of_kind(image, authority + path, URL)
    if mark:
        for kind in (PREFIX, URL):
            found += of_kind(image, authority + target, kind)
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
    """

    __slots__ = ("lists",)

    def __init__(self, lists: tuple[SiteList, ...] = ()) -> None:
        self.lists = lists

    def host(self, name: str) -> Listing | None:
        """
        Why a host is listed: a name, or an IP literal with or without brackets.

        Asked where only a host is known: CONNECT, SNI, a question for a name.
        """
        if (address := address_of(name)) is not None:
            return self._first((one, networks(one.image, address)) for one in self.lists)
        key = asked_key(name)
        if not key:
            return None
        crc = crc32(key[key.rfind(b".", 0, key.rfind(b".")) + 1 :])
        for one in self.lists:
            image = one.image
            at = crc & image.bits
            if (image.held[at >> 3] >> (at & 7) & 1 or image.top) and (found := one.decided(names(image, key))):
                return one.listing(found[0])
        return None

    def url(self, scheme: str, host: str, port: int | None, target: bytes) -> Listing | None:
        """
        Why a URL is listed, or its host is.

        @param target: path and query, as they are in a request.
        """
        return self._first(self._of_url(scheme, host, port, target))

    def all_of_host(self, name: str) -> tuple[Listing, ...]:
        """Every category of every list that a host is in, each with its most specific entry."""
        if (address := address_of(name)) is not None:
            return self._all((one, networks(one.image, address)) for one in self.lists)
        key = asked_key(name)
        return self._all((one, names(one.image, key)) for one in self.lists) if key else ()

    def all_of_url(self, scheme: str, host: str, port: int | None, target: bytes) -> tuple[Listing, ...]:
        """The same of a URL and its host."""
        return self._all(self._of_url(scheme, host, port, target))

    def _of_url(self, scheme: str, host: str, port: int | None, target: bytes) -> Iterator[tuple[SiteList, list[Hit]]]:
        authority = authority_key(scheme, host, port)
        if authority is None:
            return
        path = target_key(target)
        address = address_of(host)
        key = b"" if address is not None else asked_key(host) or b""
        for one in self.lists:
            hits = networks(one.image, address) if address is not None else names(one.image, key)
            yield one, hits + urls(one.image, authority, path)

    @staticmethod
    def _first(asked: Iterator[tuple[SiteList, list[Hit]]]) -> Listing | None:
        for one, hits in asked:
            if hits and (found := one.decided(hits)):
                return one.listing(found[0])
        return None

    @staticmethod
    def _all(asked: Iterator[tuple[SiteList, list[Hit]]]) -> tuple[Listing, ...]:
        found: dict[tuple[str, str], Listing] = {}
        for one, hits in asked:
            for listing in map(one.listing, one.decided(hits)):
                found.setdefault((listing.list, listing.category), listing)
        return tuple(found.values())

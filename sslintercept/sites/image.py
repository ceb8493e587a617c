"""
A list as one block of bytes in which a site is found without making an object for each entry.

Layout, native byte order, each part at a multiple of eight bytes: a head (JSON: sizes, files, report), the slots of an
open hash table, what each entry says, where its key begins, a filter, the keys one behind the other.

A slot holds the CRC-32 of a key and the number of an entry, and a key found by them is compared byte by byte, so that
no collision lists an innocent site. CRC-32 says the same in every process, which C{hash} does not; that somebody can
make names with the same one is bounded by L{MAX_CHAIN}.

The filter (Bloom, one bit a key) also knows the ancestors of names and the origins of URLs. So a look-up goes from the
right, C{example.com} before C{www.example.com}, and ends at the first name under which nothing is listed: mostly after
one bit.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Sequence
from typing import Final, NamedTuple, TypeAlias
from zlib import crc32

from sslintercept.sites.key import is_network
from sslintercept.sites.listing import Entry, Kind, ListError, Report

MAX_ENTRIES: Final = 8_000_000
"""entries of one list; about 400 MiB"""
MAX_KEYS: Final = 1 << 31
"""bytes of all keys"""
MAX_CHAIN: Final = 2000
"""slots that are looked at for one key; a list that needs more is made to be slow, or names a site as often"""
MAX_FILES: Final = 0xFFFF
"""files, and pairs of a file and a category"""
NONE: Final = ()
MAGIC: Final = b"sites 1\n"
KINDS: Final = tuple(Kind)
NUMBERS: Final = {kind: number for number, kind in enumerate(KINDS)}
KIND: Final = 0x7F
"""the bits of an entry with the number of its kind"""
EXCEPTION: Final = 0x80
"""the bit of an entry that takes off the list"""
BITS: Final = 16
"""bits of the filter for each entry, at least"""


class Source(NamedTuple):
    """A file, as far as it is about one category."""

    file: str
    category: str


Hit: TypeAlias = tuple[bytes, int]
"""An entry that was found: its key, and what it says, as a number that L{said} takes apart."""


class Said(NamedTuple):
    """What an entry says besides its key."""

    kind: Kind
    exception: bool
    line: int
    source: int


def said(number: int) -> Said:
    return Said(KINDS[number & KIND], bool(number & EXCEPTION), number >> 24, number >> 8 & 0xFFFF)


class Builder:
    """
    Takes entries one after the other, and makes an image of them.

    @ivar report: what was taken, for the image.
    @ivar closest: see L{Image}.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.report = Report()
        self.closest = False
        self._keys = bytearray()
        self._begins = array("I")
        self._says = array("Q")
        self._sources: dict[Source, int] = {}

    def source(self, file: str, category: str) -> int:
        """
        Give the number of a source.

        @raise ListError: there are too many.
        """
        number = self._sources.setdefault(Source(file, category), len(self._sources))
        if number > MAX_FILES:
            raise self._error(f"more than {MAX_FILES} files and categories")
        return number

    def add(self, entry: Entry, line: int, source: int) -> None:
        """@raise ListError: there are too many."""
        if len(self._says) >= MAX_ENTRIES or len(self._keys) > MAX_KEYS:
            raise self._error(f"more than {MAX_ENTRIES} entries, or {MAX_KEYS >> 20} MiB of them")
        self._begins.append(len(self._keys))
        self._keys += entry.key
        flags = NUMBERS[entry.kind] | (EXCEPTION if entry.exception else 0)
        self._says.append((line & 0xFFFFFFFF) << 24 | source << 8 | flags)

    def _error(self, what: str) -> ListError:
        return ListError(what, where=f"list {self.name}", remedy="split it, or leave something out")

    def finish(self) -> list[bytes | bytearray | array[int]]:
        """
        Give the parts of the image, to be written one after the other.

        @raise ListError: its keys are made to collide.
        """
        begins, says, keys = self._begins, self._says, bytes(self._keys)
        begins.append(len(keys))
        count = len(says)
        size = 1 << max(3, (count * 2 - 1).bit_length() if count else 3)
        slots, mask = array("Q", bytes(8 * size)), size - 1
        bits = 1 << max(9, (count * BITS - 1).bit_length() if count else 9)
        held, low = bytearray(bits >> 3), bits - 1
        prefixes: set[tuple[int, int]] = set()
        top = duplicates = 0
        for number in range(count):
            key = keys[begins[number] : begins[number + 1]]
            crc = crc32(key)
            at, what, met = crc & mask, says[number] & 0xFFFFFF, 0
            while slot := slots[at]:
                if slot >> 32 == crc:
                    other = (slot & 0xFFFFFFFF) - 1
                    if says[other] & 0xFFFFFF == what and keys[begins[other] : begins[other + 1]] == key:
                        duplicates += 1
                        break
                at, met = (at + 1) & mask, met + 1
                if met > MAX_CHAIN:
                    raise self._error(f"more than {MAX_CHAIN} keys at one place of the table")
            else:
                slots[at] = crc << 32 | (number + 1)
                held[(crc & low) >> 3] |= 1 << (crc & 7)
                if is_network(key):
                    prefixes.add((key[0], key[1]))
                elif (slash := key.find(b"/")) >= 0:
                    crc = crc32(key[: slash + 1])
                    held[(crc & low) >> 3] |= 1 << (crc & 7)
                elif (dot := key.rfind(b".")) < 0:
                    top = 1
                else:
                    while dot := key.rfind(b".", 0, dot) + 1:
                        crc = crc32(key[dot:])
                        held[(crc & low) >> 3] |= 1 << (crc & 7)
                        dot -= 1
        self.report.duplicates, self.report.entries = duplicates, count - duplicates
        head = {
            "slots": size,
            "count": count,
            "filter": len(held),
            "keys": len(keys),
            "top": top,
            "closest": self.closest,
            "prefixes": sorted(prefixes, reverse=True),
            "sources": list(self._sources),
            "report": self.report.plain(),
        }
        text = json.dumps(head).encode("ascii")
        text += b" " * (-len(text) % 8)
        if len(begins) % 2:
            begins.append(0)
        return [MAGIC, len(text).to_bytes(8, "little"), text, slots, says, begins, held, keys]


class Image:
    """
    What L{Builder} made, ready to be asked.

    @ivar size: bytes of all of it.
    @ivar held: the filter; C{bits} masks a CRC-32 to a bit of it.
    @ivar top: whether a name of a single label is listed.
    @ivar closest: whether the closest entry decides, be it an exception or not (RPZ); else any exception does.
    @ivar prefixes: which kinds of networks are listed: bytes of the address, length of the prefix; the longest first.
    """

    __slots__ = (
        *("_begins", "_keys", "_mask", "_says", "_slots"),
        *("bits", "closest", "held", "prefixes", "report", "size", "sources", "top"),
    )

    def __init__(self, data: memoryview) -> None:
        """
        @param data: stays in use as long as the image.

        @raise ValueError: it is no image.
        """
        if bytes(data[:8]) != MAGIC:
            raise ValueError("no image of a list")
        end = 16 + int.from_bytes(data[8:16], "little")
        head = json.loads(bytes(data[16:end]))
        parts: list[memoryview] = []
        count: int = head["count"]
        for length in (head["slots"] * 8, count * 8, (count + 2) // 2 * 8, head["filter"], head["keys"]):
            parts.append(data[end : end + length])
            end += length
        self._slots, self._says, self._begins = parts[0].cast("Q"), parts[1].cast("Q"), parts[2].cast("I")
        self._mask: int = head["slots"] - 1
        self.held, self._keys = bytes(parts[3]), parts[4]
        self.bits = len(self.held) * 8 - 1
        self.top, self.closest = bool(head["top"]), bool(head["closest"])
        self.prefixes: tuple[tuple[int, int], ...] = tuple((size, prefix) for size, prefix in head["prefixes"])
        self.sources = tuple(Source(*pair) for pair in head["sources"])
        self.report = Report(**head["report"])
        self.size = data.nbytes

    def find(self, key: bytes, crc: int) -> Sequence[Hit]:
        """All entries with this key, in the order of the list."""
        slots, mask = self._slots, self._mask
        at = crc & mask
        found: list[Hit] | None = None
        while slot := slots[at]:
            if slot >> 32 == crc:
                number = (slot & 0xFFFFFFFF) - 1
                if self._keys[self._begins[number] : self._begins[number + 1]] == key:
                    if found is None:
                        found = []
                    found.append((key, self._says[number]))
            at = (at + 1) & mask
        return found or NONE

    def holds(self, crc: int) -> bool:
        """Whether something may be listed under the key with this CRC-32, or below the name that it is of."""
        at = crc & self.bits
        return bool(self.held[at >> 3] >> (at & 7) & 1)

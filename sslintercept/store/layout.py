"""
What lies where in a span, and what its three headers look like: that of the span, of a snapshot, of a document.

```
 header │ snapshot A │ snapshot B │ data: documents, a log that wraps │ header again
```

Everything is little-endian. A position counts the bytes of the log since the span was made and only grows; C{position
% size} is the place in the data (ATS has a phase bit instead). A document carries its position, so what is read proves
to be what the directory meant, and the span's generation, which nobody outside knows, so no content can pose as a
document.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from xxhash import xxh3_64_intdigest

PAGE: Final = 4096
"""bytes; every write is whole pages (O_DIRECT)"""
BLOCK: Final = 512
"""bytes; a document begins at a block (ATS: CACHE_BLOCK_SIZE)"""
EDGE: Final = 128 * 1024
"""bytes at both ends of a slice that are empty before something becomes a span: file systems, volumes and partitions
keep their marks there"""
LARGEST_DOCUMENT: Final = 2 * 2**20
"""bytes of content"""
KEY: Final = 16
"""bytes of a key"""
MOST_PINNED: Final = 16384
"""documents of one span that are pinned"""
SMALLEST: Final = 16 * 2**20
"""bytes of a slice"""
LARGEST: Final = 2**46
"""bytes of a slice: the log may wrap 2048 times until positions are used up"""
VERSION: Final = 1

TOMBSTONE, HEAD, FRAGMENT = range(3)
"""kinds of documents; a tombstone has no content and says that its key was removed"""

_SPAN: Final = struct.Struct("<8sIIQQQQQQ")
"""magic, version, bytes of a page, generation, bytes of the slice, buckets, bytes of a snapshot's place, data's
start and size; a checksum follows"""
_SNAPSHOT: Final = struct.Struct("<8sQQQQIIQ")
"""magic, generation, sequence, position, floor, pins, clean or not, checksum of the body; a checksum follows"""
_DOCUMENT: Final = struct.Struct("<8sQQ16sdIIQ")
"""magic, generation, position, key, pinned until, length, kind, checksum of the content; a checksum follows"""
_CHECKSUM: Final = struct.Struct("<Q")
_PIN: Final = struct.Struct("<Q16sd")
"""position, key, pinned until"""

MAGIC_SPAN: Final = b"\x89sslspan"
MAGIC_SNAPSHOT: Final = b"\x89sslsnap"
MAGIC_DOCUMENT: Final = b"\x89ssldocu"
DOCUMENT_HEADER: Final = _DOCUMENT.size + _CHECKSUM.size
"""bytes in front of the content"""
LARGEST_WHOLE: Final = -(-(DOCUMENT_HEADER + LARGEST_DOCUMENT) // BLOCK) * BLOCK
"""bytes of a document in the log"""
WAYS: Final = 8
"""entries of a bucket of the directory"""
BUCKET: Final = WAYS * 16
"""bytes of a bucket"""

Bytes = bytes | bytearray | memoryview


class SpanHeader(NamedTuple):
    """
    How a slice is divided.

    @ivar generation: a random number by which its documents know that they belong to it.
    @ivar slice: bytes of it all; C{place}: of a snapshot; C{start}, C{size}: of the data.
    """

    generation: int
    slice: int
    buckets: int
    place: int
    start: int
    size: int

    def packed(self) -> bytes:
        """The page that is written."""
        head = _SPAN.pack(MAGIC_SPAN, VERSION, PAGE, *self)
        return (head + _CHECKSUM.pack(xxh3_64_intdigest(head))).ljust(PAGE, b"\0")


def divided(size: int, average: int, generation: int) -> SpanHeader:
    """
    Divide a slice of C{size} bytes for documents of C{average} bytes.

    The directory has room for a quarter more documents than that makes, since its buckets do not fill evenly.
    """
    size -= size % PAGE
    buckets = max(1, size * 5 // (average * WAYS * 4))
    place = PAGE + up(buckets * BUCKET, PAGE) + up(MOST_PINNED * _PIN.size, PAGE)
    start = PAGE + 2 * place
    return SpanHeader(generation, size, buckets, place, start, size - start - PAGE)


def span_header(page: Bytes) -> SpanHeader | None:
    """Read a span's header; C{None} if it is none of this version, or damaged."""
    magic, version, page_size, *rest = _SPAN.unpack_from(page)
    if magic != MAGIC_SPAN or version != VERSION or page_size != PAGE or not _intact(page, _SPAN.size):
        return None
    return SpanHeader(*rest)


class SnapshotHeader(NamedTuple):
    """
    What a snapshot of the directory is of.

    @ivar sequence: the higher is the newer.
    @ivar position: everything below was in the log when it was begun; the log from there on is to be scanned.
    @ivar floor: everything below is overwritten.
    @ivar pins: how many pinned documents are named behind the directory.
    @ivar clean: whether the store was stopped with it, and nothing was written since.
    @ivar checksum: of directory and pins.
    """

    generation: int
    sequence: int
    position: int
    floor: int
    pins: int
    clean: int
    checksum: int

    def packed(self) -> bytes:
        """The page that is written."""
        head = _SNAPSHOT.pack(MAGIC_SNAPSHOT, *self)
        return (head + _CHECKSUM.pack(xxh3_64_intdigest(head))).ljust(PAGE, b"\0")


def snapshot_header(page: Bytes, generation: int) -> SnapshotHeader | None:
    """Read a snapshot's header; C{None} if it is none of this span, or damaged."""
    magic, *rest = _SNAPSHOT.unpack_from(page)
    if magic != MAGIC_SNAPSHOT or not _intact(page, _SNAPSHOT.size):
        return None
    header = SnapshotHeader(*rest)
    return header if header.generation == generation and header.pins <= MOST_PINNED else None


class Document(NamedTuple):
    """What a document says of itself. C{position} is where it begins, C{length} that of its content."""

    generation: int
    position: int
    key: bytes
    pinned_until: float
    length: int
    kind: int
    checksum: int

    @property
    def whole(self) -> int:
        """Bytes in the log."""
        return whole(self.length)


def put_document(memory: memoryview, at: int, document: Document) -> None:
    """Write a document's header into memory at C{at}."""
    _DOCUMENT.pack_into(memory, at, MAGIC_DOCUMENT, *document)
    end = at + _DOCUMENT.size
    _CHECKSUM.pack_into(memory, end, xxh3_64_intdigest(memory[at:end]))


def document_at(memory: Bytes, at: int, generation: int) -> Document | None:
    """
    Read a document's header at C{at}; whether its content is intact is not looked at.

    @return: C{None} if there is none of this generation, or it is damaged.
    """
    if at + DOCUMENT_HEADER > len(memory):
        return None
    magic, *rest = _DOCUMENT.unpack_from(memory, at)
    if magic != MAGIC_DOCUMENT or rest[0] != generation or not _intact(memory, _DOCUMENT.size, at):
        return None
    document = Document(*rest)
    return document if document.length <= LARGEST_DOCUMENT and document.kind <= FRAGMENT else None


def packed_pin(position: int, key: bytes, until: float) -> bytes:
    """A pinned document as a snapshot names it."""
    return _PIN.pack(position, key, until)


def pins_of(memory: Bytes) -> list[tuple[int, bytes, float]]:
    """The pinned documents a snapshot names."""
    return list(_PIN.iter_unpack(memory))


PIN: Final = _PIN.size
"""bytes of a pinned document in a snapshot"""


def whole(length: int) -> int:
    """Bytes in the log of a document with C{length} bytes of content."""
    return -(-(DOCUMENT_HEADER + length) // BLOCK) * BLOCK


def up(number: int, unit: int) -> int:
    """The next multiple."""
    return -(-number // unit) * unit


def _intact(memory: Bytes, size: int, at: int = 0) -> bool:
    found: int = _CHECKSUM.unpack_from(memory, at + size)[0]
    return found == xxh3_64_intdigest(memoryview(memory)[at : at + size])

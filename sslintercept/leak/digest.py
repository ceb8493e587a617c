"""
Hashes with a number each, sorted, in one piece of bytes that a file can hold: who reads it learns no text.

The hashes are BLAKE2b with a key (RFC 7693 2.9), cut to 64 bits. Who has the key, too, can try texts; so the key is
in a file of its own, and both are readable for their owner only.
"""

from __future__ import annotations

import os
import stat
import struct
import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path
from typing import Final

from sslintercept.errors import ConfigError

KEY_BYTES: Final = 32
MOST_ENTRIES: Final = 8_000_000
"""12 bytes each"""
_HEAD: Final = struct.Struct("<8s8sI")
_MAGIC: Final = b"SSLIDIG1"


def digest(key: bytes, text: bytes) -> int:
    """64 bits of the keyed hash of some text."""
    return int.from_bytes(blake2b(text, digest_size=8, key=key, person=b"leak").digest(), "little")


def _check(key: bytes) -> bytes:
    """Tells whether a table was made with this key."""
    return blake2b(b"", digest_size=8, key=key, person=b"leak-key").digest()


def pack(key: bytes, entries: Iterable[tuple[int, int]]) -> bytes:
    """
    Make the bytes of a table of digests and numbers below 2^32; a digest may be there several times.

    @raise ConfigError: there are more than L{MOST_ENTRIES}.
    """
    known = sorted(set(entries))
    if len(known) > MOST_ENTRIES:
        raise ConfigError(f"{len(known)} hashes", where="leak", remedy=f"register less: at most {MOST_ENTRIES} fit")
    hashes, numbers = array("Q", [each for each, _ in known]), array("I", [number for _, number in known])
    if sys.byteorder == "big":
        hashes.byteswap()
        numbers.byteswap()
    return _HEAD.pack(_MAGIC, _check(key), len(known)) + hashes.tobytes() + numbers.tobytes()


class DigestTable:
    """
    Looks digests up.

    @raise ConfigError: the bytes are no table, or one of another key.
    """

    __slots__ = ("_hashes", "_numbers")

    def __init__(self, key: bytes, packed: bytes, *, where: str = "leak") -> None:
        remedy = "make it again"
        if len(packed) < _HEAD.size or packed[:8] != _MAGIC:
            raise ConfigError("this is no table of hashes", where=where, remedy=remedy)
        _, check, count = _HEAD.unpack_from(packed)
        if check != _check(key):
            raise ConfigError(
                "the hashes were made with another key", where=where, remedy="give the key they were made with"
            )
        if count > MOST_ENTRIES or len(packed) != _HEAD.size + 12 * count:
            raise ConfigError("the table of hashes is cut or too long", where=where, remedy=remedy)
        middle = _HEAD.size + 8 * count
        self._hashes, self._numbers = array("Q", packed[_HEAD.size : middle]), array("I", packed[middle:])
        if sys.byteorder == "big":
            self._hashes.byteswap()
            self._numbers.byteswap()

    def __len__(self) -> int:
        return len(self._hashes)

    def find(self, wanted: int) -> tuple[int, ...]:
        """The numbers of a digest."""
        hashes = self._hashes
        begin = end = bisect_left(hashes, wanted)
        while end < len(hashes) and hashes[end] == wanted:
            end += 1
        return tuple(self._numbers[begin:end])


def make_key() -> bytes:
    """A new key."""
    return os.urandom(KEY_BYTES)


def write_secret(path: Path, data: bytes) -> None:
    """
    Write a file that only its owner may read, whole or not at all.

    @raise OSError: it cannot be written.
    """
    half = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            half.replace(path)
        except OSError:
            half.unlink(missing_ok=True)
            raise


def store_secret(path: Path, data: bytes) -> None:
    """
    The same, for whoever is told of errors in words.

    @raise ConfigError: it cannot be written.
    """
    try:
        write_secret(path, data)
    except OSError as error:
        raise ConfigError(f"cannot write {path} ({error.strerror})", where="leak", remedy="name another file") from None


def read_secret(path: Path, most: int = 8 + 12 * MOST_ENTRIES + _HEAD.size) -> bytes:
    """
    Read such a file.

    @raise ConfigError: it cannot be read, is no file, others can read it too, or it has more than *most* bytes.
    """
    try:
        # Looked at first, because opening a FIFO would wait for somebody to write to it.
        if not stat.S_ISREG(path.stat().st_mode):
            raise ConfigError(f"{path} is not a regular file", where="leak", remedy="check the path")
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(most + 1)
    except OSError as error:
        raise ConfigError(f"cannot read {path} ({error.strerror})", where="leak", remedy="check the path") from None
    if mode & 0o077:
        raise ConfigError(f"others may read {path}", where="leak", remedy=f"chmod 600 {path}")
    if len(data) > most:
        raise ConfigError(f"{path} is too large", where="leak", remedy=f"it may have {most} bytes")
    return data


def read_key(path: Path) -> bytes:
    """
    Read a key.

    @raise ConfigError: as L{read_secret}, or it is no key: an empty one would make hashes without any.
    """
    key = read_secret(path, KEY_BYTES)
    if len(key) != KEY_BYTES:
        what = f"{path} is no key: it has {len(key)} bytes, not {KEY_BYTES}"
        raise ConfigError(what, where="leak", remedy="name the file of the key")
    return key


def read_or_make_key(path: Path) -> tuple[bytes, bool]:
    """
    Read a key, or make it where there is no such file; and whether it was made.

    @raise ConfigError: as L{read_key}, or it cannot be written.
    """
    if os.path.exists(path):  # not where nobody may look: then it cannot be written, and that is told
        return read_key(path), False
    key = make_key()
    store_secret(path, key)
    return key, True

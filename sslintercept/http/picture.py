"""
What stands in the place of an image: a sign that says no, as a PNG (ISO/IEC 15948) of a few hundred bytes.

It is painted here, so that no file of unknown origin is in the package; PNG, since every program that shows images
shows it.
"""

from __future__ import annotations

import zlib
from functools import cache
from typing import Final

SIZE: Final = 32
"""pixels of a side"""
_PALETTE: Final = bytes((255, 255, 255, 192, 32, 32, 255, 255, 255))
"""outside of the sign, the sign, the bar in it: red, green, blue of each"""


@cache
def sign() -> bytes:
    """The file."""
    rows = b"".join(b"\0" + bytes(_colour(x, y) for x in range(SIZE)) for y in range(SIZE))
    header = SIZE.to_bytes(4, "big") * 2 + bytes((8, 3, 0, 0, 0))  # 8 bits of a palette, not interlaced
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (
            _chunk(b"IHDR", header),
            _chunk(b"PLTE", _PALETTE),
            _chunk(b"tRNS", b"\0"),
            _chunk(b"IDAT", zlib.compress(rows, 9)),
            _chunk(b"IEND", b""),
        )
    )


def _colour(x: int, y: int) -> int:
    """Twice the distances from the middle, so that they are whole."""
    across, down = 2 * x - SIZE + 1, 2 * y - SIZE + 1
    if across * across + down * down > (SIZE - 2) ** 2:
        return 0
    return 2 if abs(down) <= SIZE // 6 and abs(across) <= SIZE * 2 // 3 else 1


def _chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

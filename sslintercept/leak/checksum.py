"""Check digits: what tells a number that somebody issued from one that only looks like it."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Final

_DOUBLED: Final = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)
"""twice a digit, its digits added"""
_D5: Final = (
    *("0123456789", "1234067895", "2340178956", "3401289567", "4012395678"),
    *("5987604321", "6598710432", "7659821043", "8765932104", "9876543210"),
)
"""the dihedral group of the pentagon (Verhoeff, Error Detecting Decimal Codes, 1969)"""
_VERHOEFF_STEP: Final = (
    "0123456789",
    "1576283094",
    "5803796142",
    "8916043527",
    "9453126870",
    "4286573901",
    "2793806415",
    "7046913258",
)
_BASE62: Final = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def luhn(digits: bytes) -> bool:
    """ISO/IEC 7812-1 annex B: every second digit from the right is doubled."""
    total = sum(digits[-1::-2]) - 48 * len(digits[-1::-2])
    return (total + sum(_DOUBLED[digit - 48] for digit in digits[-2::-2])) % 10 == 0


def mod97(text: bytes) -> int:
    """ISO 7064 MOD 97-10 of digits and capital letters, A being 10: right ones give 1."""
    return int("".join(str(int(chr(character), 36)) for character in text)) % 97


def mod11_10(digits: bytes) -> bool:
    """ISO 7064 MOD 11,10."""
    product = 10
    for digit in digits[:-1]:
        product = ((product + digit - 48) % 10 or 10) * 2 % 11
    return (11 - product) % 10 == digits[-1] - 48


def verhoeff(digits: bytes) -> bool:
    """Verhoeff's code: each place has a permutation, and the permuted digits multiply to 0."""
    state = 0
    for place, digit in enumerate(reversed(digits)):
        state = int(_D5[state][int(_VERHOEFF_STEP[place % 8][digit - 48])])
    return state == 0


def weighted(digits: bytes, weights: Sequence[int]) -> int:
    """Each digit times its weight, summed up; as many digits as there are weights."""
    return sum((digit - 48) * weight for digit, weight in zip(digits, weights, strict=False))


def ean13(digits: bytes) -> bool:
    """GS1 General Specifications 7.9: 13 digits, weights 1 and 3."""
    return weighted(digits, (1, 3) * 6 + (1,)) % 10 == 0


def crc_base62(text: bytes) -> bytes:
    """CRC-32 in six digits of base 62, as GitHub puts it at the end of its tokens."""
    number, digits = zlib.crc32(text), bytearray()
    for _ in range(6):
        number, digit = divmod(number, 62)
        digits.append(_BASE62[digit])
    return bytes(reversed(digits))

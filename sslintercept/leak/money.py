"""Payment cards and bank accounts: who issues which numbers, and how long they are."""

from __future__ import annotations

from typing import Final

from sslintercept.leak.checksum import luhn, mod97
from sslintercept.leak.detector import SURE, Detector

_ISSUERS: Final[tuple[tuple[int, int, tuple[int, ...], str], ...]] = (
    (400000, 499999, (13, 16, 19), "Visa"),
    (510000, 559999, (16,), "Mastercard"),
    (222100, 272099, (16,), "Mastercard"),
    (340000, 349999, (15,), "American Express"),
    (370000, 379999, (15,), "American Express"),
    (300000, 305999, (14,), "Diners Club"),
    (309500, 309599, (14,), "Diners Club"),
    (360000, 369999, (14,), "Diners Club"),
    (380000, 399999, (14,), "Diners Club"),
    (601100, 601199, (16, 19), "Discover"),
    (644000, 659999, (16, 19), "Discover"),
    (622126, 622925, (16, 19), "China UnionPay"),
    (624000, 626999, (16, 19), "China UnionPay"),
    (628200, 628899, (16, 19), "China UnionPay"),
    (352800, 358999, (16,), "JCB"),
)
"""First six digits from and to, lengths, network (ISO/IEC 7812-1 and the networks' ranges)."""
_GROUPS: Final = frozenset(((4, 4, 4, 4), (4, 6, 5), (4, 6, 4), (4, 4, 4, 4, 3), (4, 4, 5), (4, 3, 3, 3)))
"""how cards are printed"""
_BARE: Final = 40
_GROUPED: Final = 70

_IBAN: Final[dict[bytes, int]] = {
    code.encode(): length
    for length, codes in {
        15: "NO",
        16: "BE",
        18: "DK FK FO FI GL NL SD",
        19: "MK SI",
        20: "AT BA EE KZ LT LU MN XK",
        21: "CH HR LI LV",
        22: "BG BH CR DE GB GE IE ME RS VA",
        23: "AE GI IL IQ OM TL SO",
        24: "AD CZ ES MD PK RO SA SE SK TN VG",
        25: "LY PT ST",
        26: "IS TR",
        27: "BI DJ FR GR IT MC MR SM",
        28: "AL AZ BY CY DO GT HU LB NI PL SV",
        29: "BR EG PS QA UA",
        30: "JO KW MU YE",
        31: "MT SC",
        32: "LC",
        33: "RU",
    }.items()
    for code in codes.split()
}
"""Country and length (SWIFT, IBAN Registry)."""


def network(digits: bytes) -> str:
    """Who issues cards with this number, or nobody."""
    head, length = int(digits[:6]), len(digits)
    for first, last, lengths, name in _ISSUERS:
        if first <= head <= last and length in lengths:
            return name
    return ""


def card(text: bytes) -> int:
    """
    What a card number is worth: 1 in 45 random ones of 16 digits passes issuer and Luhn, so they are not enough.

    Separated ones must be so everywhere, by the same separator, as cards are printed.
    """
    separators = {*text} - {*b"0123456789"}
    digits = text.translate(None, b" -")
    if len(separators) > 1 or not network(digits) or not luhn(digits) or len({*digits}) == 1:
        return 0
    if not separators:
        return _BARE
    groups = tuple(len(group) for group in text.split(bytes(separators)))
    return _GROUPED if groups in _GROUPS else 0


def iban(text: bytes) -> int:
    """What an IBAN is worth: 1 in 97 random ones of a known country and its length passes."""
    compact = text.replace(b" ", b"").replace(b"-", b"").upper()
    if _IBAN.get(compact[:2]) != len(compact) or mod97(compact[4:] + compact[:4]) != 1:
        return 0
    return SURE


_IBANS: Final = b"|".join(
    rb"(?:%b)[0-9]{2}(?:[ -]?[A-Z0-9]){%d}"
    % (b"|".join(sorted(code for code, known in _IBAN.items() if known == length)), length - 4)
    for length in sorted({*_IBAN.values()})
)
_CARD: Final = rb"(?:4[0-9]{3}|5[1-5][0-9]{2}|2[2-7][0-9]{2}|6[024-8][0-9]{2}|3[0-9]{3})(?:[ -]?[0-9]){8,14}[0-9]"

DETECTORS: Final = (
    Detector(
        "card",
        "payment card number",
        _CARD,
        number=True,
        check=card,
        near=(
            *(
                "card",
                "visa",
                "mastercard",
                "amex",
                "american express",
                "diners",
                "discover",
                "jcb",
                "unionpay",
                "maestro",
            ),
            *(
                "cvv",
                "cvc",
                "pan",
                "credit",
                "debit",
                "valid thru",
                "kreditkarte",
                "karte",
                "carte",
                "tarjeta",
                "carta",
            ),
            *("cartao", "kaart", "карт", "カード", "卡号"),
        ),
        near_score=90,
        company=True,
        front=6,
        back=4,
        source="ISO/IEC 7812-1",
    ),
    Detector(
        "iban",
        "bank account (IBAN)",
        # As countries, two letters would cost the engine more than the few more places that any two bring.
        rb"[A-Z]{2}[0-9]{2}[ -]?[A-Z0-9]{4}",
        _IBANS,
        check=iban,
        front=4,
        back=2,
        source="ISO 13616-1, SWIFT IBAN Registry",
    ),
)

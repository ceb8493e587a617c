"""
Numbers that states give to people, with what tells a right one: check digits, dates of birth, ranges never issued.

Many are short, and a check digit alone passes a tenth of all numbers. What a number is worth says how much it tells by
itself; the weaker ones need a word nearby, or company. Which rule is from where stands with each row of the table.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sslintercept.leak.checksum import ean13, luhn, mod11_10, verhoeff, weighted
from sslintercept.leak.detector import Detector

_WEAK: Final = 30
"""needs a word nearby"""
_FAIR: Final = 60
"""enough by itself: the format and its check leave one random string in some thousands"""
_NEAR: Final = 90
_DNI: Final = b"TRWAGMYFPDXBNJZSQVHLCKE"
_HETU: Final = b"0123456789ABCDEFHJKLMNPRSTUVWXY"
_CN_CHECK: Final = b"10X98765432"
_CN_WEIGHTS: Final = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_MONTHS: Final = b"ABCDEHLMPRST"
_DAYS: Final = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_NOT_DIGITS: Final = bytes(character for character in range(256) if character not in b"0123456789")


def _digits(text: bytes) -> bytes:
    return text.translate(None, _NOT_DIGITS)


def _dated(month: bytes, day: bytes) -> bool:
    """Whether there is such a day in some year."""
    return 1 <= int(month) <= 12 and 1 <= int(day) <= _DAYS[int(month) - 1]


def _worth(score: int, right: Callable[[bytes], bool]) -> Callable[[bytes], int]:
    return lambda text: score if right(text) else 0


def steuer_id(text: bytes) -> bool:
    """Of the first ten digits one is there twice or thrice, and the others once (since 2016: two may be missing)."""
    digits = _digits(text)
    counts = sorted(digits[:10].count(digit) for digit in {*digits[:10]})
    return digits[0] != 48 and counts[-1] in (2, 3) and counts[-2] == 1 and mod11_10(digits)


def nir(text: bytes) -> bool:
    """Sex, year, month, place, and 97 less the rest of the division by 97; Corsica's 2A and 2B count as 19 and 18."""
    compact = text.replace(b" ", b"").upper()
    number = compact[:13].replace(b"2A", b"19").replace(b"2B", b"18")
    month = int(compact[3:5])
    return (1 <= month <= 12 or 20 <= month <= 42 or month >= 50) and 97 - int(number) % 97 == int(compact[13:])


def dni(text: bytes) -> bool:
    """A letter for the number's rest after 23; NIE puts X, Y, Z in front for 0, 1, 2."""
    compact = text.translate(None, b" -.").upper()
    number = compact[:-1].translate(bytes.maketrans(b"XYZ", b"012"))
    return _DNI[int(number) % 23] == compact[-1]


_ODD_VALUES: Final = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)
_OMOCODIA: Final = bytes.maketrans(b"LMNPQRSTUV", b"0123456789")


def codice_fiscale(text: bytes) -> bool:
    """Letters of the name, year, month, day, place and a letter summed up of odd and even places."""
    code = text.upper()
    day = int(code[9:11].translate(_OMOCODIA))
    total = 0
    for place, character in enumerate(code[:15]):
        value = character - 48 if character < 58 else character - 65
        total += _ODD_VALUES[value] if place % 2 == 0 else value
    return code[8] in _MONTHS and (1 <= day <= 31 or 41 <= day <= 71) and code[15] - 65 == total % 26


def bsn(text: bytes) -> bool:
    digits = _digits(text).rjust(9, b"0")
    return int(digits) > 9999999 and weighted(digits, (9, 8, 7, 6, 5, 4, 3, 2, -1)) % 11 == 0


def pesel(text: bytes) -> bool:
    """The month has the century in its tens."""
    month = int(text[2:4]) % 20
    return _dated(b"%d" % month, text[4:6]) and weighted(text, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1)) % 10 == 0


def nino(text: bytes) -> bool:
    """No check digit, but prefixes that are not given."""
    prefix = text[:2].upper()
    return (
        prefix[0] not in b"DFIQUV"
        and prefix[1] not in b"DFIQUVO"
        and prefix not in (*(b"BG", b"GB", b"KN", b"NK", b"NT", b"TN", b"ZZ"),)
    )


def nhs(text: bytes) -> bool:
    digits = _digits(text)
    check = 11 - weighted(digits[:9], (10, 9, 8, 7, 6, 5, 4, 3, 2)) % 11
    return check != 10 and check % 11 == digits[9] - 48 and len({*digits}) > 1


def ssn(text: bytes) -> bool:
    """Never given: area 000, 666 and from 900, group 00, serial 0000; and those that were printed as examples."""
    digits = _digits(text)
    area = int(digits[:3])
    return (
        0 < area < 900
        and area != 666
        and digits[3:5] != b"00"
        and digits[5:] != b"0000"
        and digits not in (*(b"078051120", b"219099999", b"123456789"),)
    )


def ahv(text: bytes) -> bool:
    return ean13(_digits(text))


def cpf(text: bytes) -> bool:
    digits = _digits(text)
    first = weighted(digits, range(10, 1, -1)) * 10 % 11 % 10
    second = weighted(digits, range(11, 1, -1)) * 10 % 11 % 10
    return digits[9:] == b"%d%d" % (first, second) and len({*digits}) > 1


def resident_id(text: bytes) -> bool:
    """Province, date of birth, and ISO 7064 MOD 11-2."""
    return (
        11 <= int(text[:2]) <= 82
        and 1900 <= int(text[6:10]) <= 2099
        and _dated(text[10:12], text[12:14])
        and _CN_CHECK[weighted(text[:17], _CN_WEIGHTS) % 11] == text[17:].upper()[0]
    )


def aadhaar(text: bytes) -> bool:
    digits = _digits(text)
    return verhoeff(digits) and digits != digits[::-1]


def personnummer(text: bytes) -> bool:
    """Date of birth, and Luhn of the last ten digits; coordination numbers add 60 to the day."""
    digits = _digits(text)[-10:]
    return _dated(digits[2:4], b"%d" % (int(digits[4:6]) % 60)) and luhn(digits)


def national_number(text: bytes) -> bool:
    """97 less the rest after 97; with 2 in front for those born since 2000. Months may have 20 or 40 more."""
    digits = _digits(text)
    month = int(digits[2:4]) % 20
    number, check = int(digits[:9]), int(digits[9:])
    return month <= 12 and int(digits[4:6]) <= 31 and check in (97 - number % 97, 97 - (2000000000 + number) % 97)


def hetu(text: bytes) -> bool:
    """Date of birth, a sign for the century, and a character for the rest after 31."""
    code = text.upper()
    return _dated(code[2:4], code[:2]) and _HETU[int(code[:6] + code[7:10]) % 31] == code[10]


def fodselsnummer(text: bytes) -> bool:
    digits = _digits(text)
    day = int(digits[:2]) % 40
    month = int(digits[2:4]) % 40
    return (
        _dated(b"%d" % month, b"%d" % day)
        and weighted(digits, (3, 7, 6, 1, 8, 9, 4, 5, 2, 1)) % 11 == 0
        and weighted(digits, (5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1)) % 11 == 0
    )


_OMO: Final = rb"[0-9LMNPQRSTUV]"

DETECTORS: Final = (
    Detector(
        "de-tax-id",
        "Germany: Steuer-Identifikationsnummer",
        rb"[1-9][0-9] ?[0-9]{3} ?[0-9]{3} ?[0-9]{3}",
        number=True,
        check=_worth(_WEAK, steuer_id),
        near=("steuer", "idnr", "identifikationsnummer", "tin", "tax id"),
        near_score=_NEAR,
        company=True,
        back=2,
        source="Paragraph 139b AO; check digit: ISO 7064 MOD 11,10",
    ),
    Detector(
        "fr-nir",
        "France: numéro de sécurité sociale (NIR)",
        rb"[1-478] ?[0-9]{2} ?[0-9]{2} ?(?:[0-9]{2}|2[AaBb]) ?[0-9]{3} ?[0-9]{3} ?[0-9]{2}",
        number=True,
        check=lambda text: (_FAIR if b" " in text else _WEAK) if nir(text) else 0,
        near=("sécu", "secu", "nir", "insee", "assur"),
        near_score=_NEAR,
        company=True,
        back=2,
        source="INSEE, décret 82-103",
    ),
    Detector(
        "es-dni",
        "Spain: DNI and NIE",
        # Seven digits and a letter behind the first character: one that digits may begin with is everywhere.
        rb"-?[0-9]{7}-?[A-HJ-NP-TV-Za-hj-np-tv-z]",
        whole=rb"(?:[0-9]{8}|[XYZxyz]-?[0-9]{7})-?[A-HJ-NP-TV-Za-hj-np-tv-z]",
        lead=1,
        number=True,
        check=_worth(_WEAK, dni),
        near=("dni", "nie", "nif", "documento", "identidad"),
        near_score=_NEAR,
        back=1,
        company=True,
        source="Real Decreto 1553/2005",
    ),
    Detector(
        "it-codice-fiscale",
        "Italy: codice fiscale",
        # Six letters are in every sentence; what follows them is not. Letters for digits are written in capitals; with
        # those exactly, and months, the engine takes twice the memory for hardly fewer places.
        rb"[0-9L-V]{2}[A-Za-z][0-9L-V]{2}[A-Za-z][0-9L-V]{3}[A-Za-z]",
        whole=rb"[A-Za-z]{6}(?:%b{2}[A-EHLMPRST]%b{2}[A-Z]%b{3}[A-Z]|[0-9]{2}[A-EHLMPRSTa-ehlmprst][0-9]{2}[A-Za-z]"
        rb"[0-9]{3}[A-Za-z])" % (_OMO, _OMO, _OMO),
        lead=6,
        number=True,
        check=_worth(_FAIR, codice_fiscale),
        near=("codice", "fiscale", "c.f."),
        near_score=_NEAR,
        back=2,
        source="D.M. 23 December 1976 n. 13813",
    ),
    Detector(
        "nl-bsn",
        "Netherlands: burgerservicenummer",
        rb"[0-9]{4}[. ]?[0-9]{2}[. ]?[0-9]{3}",
        number=True,
        check=_worth(_WEAK, bsn),
        near=("bsn", "burgerservice", "sofinummer", "sofi-nummer"),
        near_score=_NEAR,
        company=True,
        back=2,
        source="RvIG, burgerservicenummer: weights 9 to 2 and -1, modulo 11",
    ),
    Detector(
        "pl-pesel",
        "Poland: PESEL",
        rb"[0-9]{4}[0-3][0-9]{6}",
        number=True,
        check=_worth(_WEAK, pesel),
        near=("pesel",),
        near_score=_NEAR,
        company=True,
        back=2,
        source="Ustawa o ewidencji ludności, article 15",
    ),
    Detector(
        "uk-nino",
        "United Kingdom: National Insurance number",
        # Two letters are in every word; what follows them is not.
        rb" ?[0-9]{2} ?[0-9]{2} ?[0-9]{2} ?[A-Da-d]",
        whole=rb"[A-CEGHJ-PR-TW-Za-ceghj-pr-tw-z][A-CEGHJ-NPR-TW-Za-ceghj-npr-tw-z] ?"
        rb"[0-9]{2} ?[0-9]{2} ?[0-9]{2} ?[A-Da-d]",
        lead=2,
        number=True,
        check=_worth(_FAIR, nino),
        near=("national insurance", "nino", "ni number", "ni no", "insurance"),
        near_score=_NEAR,
        back=1,
        source="HMRC NIM39110",
    ),
    Detector(
        "uk-nhs",
        "United Kingdom: NHS number",
        rb"[0-9]{3}[ -]?[0-9]{3}[ -]?[0-9]{4}",
        number=True,
        check=_worth(_WEAK, nhs),
        near=("nhs", "patient"),
        near_score=_NEAR,
        company=True,
        back=2,
        source="NHS Data Dictionary, NHS NUMBER",
    ),
    Detector(
        "us-ssn",
        "United States: social security number",
        rb"[0-9]{3}[ -]?[0-9]{2}[ -]?[0-9]{4}",
        number=True,
        check=_worth(_WEAK, ssn),
        most=_WEAK,
        near=("ssn", "social sec", "social-sec", "socialsec", "ss#", "taxpayer"),
        near_score=_NEAR,
        back=2,
        source="SSA POMS RM 10201.035; no check digit",
    ),
    Detector(
        "ch-ahv",
        "Switzerland: AHV number",
        rb"756\.?[0-9]{4}\.?[0-9]{4}\.?[0-9]{2}",
        number=True,
        check=_worth(_FAIR, ahv),
        near=("ahv", "avs", "sozialvers", "oasi"),
        near_score=_NEAR,
        back=2,
        source="AHVV article 133; check digit: GS1 EAN-13",
    ),
    Detector(
        "br-cpf",
        "Brazil: CPF",
        rb"[0-9]{3}\.?[0-9]{3}\.?[0-9]{3}-?[0-9]{2}",
        number=True,
        check=lambda text: (_FAIR if b"." in text and b"-" in text else _WEAK) if cpf(text) else 0,
        near=("cpf", "contribuinte"),
        near_score=_NEAR,
        company=True,
        back=2,
        source="Receita Federal, two check digits modulo 11",
    ),
    Detector(
        "cn-resident-id",
        "China: resident identity card",
        rb"[1-8][0-9]{5}(?:19|20)[0-9]{2}[01][0-9][0-3][0-9][0-9]{3}[0-9Xx]",
        number=True,
        check=_worth(_FAIR, resident_id),
        near=("身份证", "公民身份", "id card", "resident"),
        near_score=_NEAR,
        back=2,
        source="GB 11643-1999",
    ),
    Detector(
        "in-aadhaar",
        "India: Aadhaar",
        rb"[2-9][0-9]{3}[ -]?[0-9]{4}[ -]?[0-9]{4}",
        number=True,
        check=_worth(_WEAK, aadhaar),
        near=("aadhaar", "aadhar", "uidai", "आधार"),
        near_score=_NEAR,
        company=True,
        back=2,
        source="UIDAI; check digit: Verhoeff",
    ),
    Detector(
        "se-personnummer",
        "Sweden: personnummer",
        rb"(?:(?:19|20)[0-9]{2}|[0-9]{2})[01][0-9][0-9]{2}[-+]?[0-9]{4}",
        number=True,
        check=lambda text: (_FAIR if text[-5] in b"-+" else _WEAK) if personnummer(text) else 0,
        near=("personnummer", "personnr", "samordningsnummer"),
        near_score=_NEAR,
        company=True,
        back=2,
        source="Skatteverket SKV 704",
    ),
    Detector(
        "be-national-number",
        "Belgium: rijksregisternummer",
        rb"[0-9]{2}\.?[0-9]{2}\.?[0-9]{2}-?[0-9]{3}\.?[0-9]{2}",
        number=True,
        check=lambda text: (_FAIR if b"." in text else _WEAK) if national_number(text) else 0,
        near=("rijksregister", "registre national", "niss", "insz", "national number"),
        near_score=_NEAR,
        company=True,
        back=2,
        source="Royal decree of 3 April 1984",
    ),
    Detector(
        "fi-hetu",
        "Finland: henkilötunnus",
        rb"[0-3][0-9][01][0-9][0-9]{2}[-+A-FU-Y][0-9]{3}[0-9A-FHJ-NPR-Y]",
        number=True,
        check=_worth(_FAIR, hetu),
        near=("hetu", "henkilötunnus", "henkilotunnus", "personbeteckning"),
        near_score=_NEAR,
        back=1,
        source="Decree 128/2010, changed by 690/2022",
    ),
    Detector(
        "no-fodselsnummer",
        "Norway: fødselsnummer",
        rb"[0-7][0-9][0-9][0-9][0-9]{2} ?[0-9]{5}",
        number=True,
        check=_worth(_WEAK, fodselsnummer),
        near=("fødselsnummer", "fodselsnummer", "fnr", "personnummer"),
        near_score=_NEAR,
        company=True,
        back=2,
        source="Skatteetaten, two check digits modulo 11",
    ),
)

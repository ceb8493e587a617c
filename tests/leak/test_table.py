"""The detectors that ship: right numbers are found, wrong ones are not."""

from __future__ import annotations

import pytest

from sslintercept.errors import ConfigError
from sslintercept.leak.pattern import Patterns
from sslintercept.leak.scan import Finding, Policy, Scan
from sslintercept.leak.table import GROUPS, TABLE, chosen

ALL = Patterns(tuple(TABLE.values()))


def found(text: str, *, score: int = 50) -> list[Finding]:
    scan = Scan(Policy([ALL], score=score))
    return scan.feed(text) + scan.finish()


def kinds(text: str) -> list[str]:
    return [finding.detector for finding in found(text)]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("4111 1111 1111 1111", "card"),
        ("4111-1111-1111-1111", "card"),
        ("visa 4111111111111111", "card"),
        ("card=5555555555554444&x", "card"),
        ("Kreditkarte: 3782 822463 10005", "card"),
        ("card 6011111111111117", "card"),
        ("card 3530111333300000", "card"),
        ("diners 30569309025904", "card"),
        ("card number 2223003122003222", "card"),
        ("visa 1,4111111111111111,2", "card"),
        ("DE89 3704 0044 0532 0130 00 COBADEFF", "iban"),
        ("GB82WEST12345698765432", "iban"),
        ("FR14 2004 1010 0505 0001 3M02 606 ok", "iban"),
        ("NL91ABNA0417164300.", "iban"),
        ("Steuer-ID 86 095 742 719", "de-tax-id"),
        ("2 55 08 14 168 025 38", "fr-nir"),
        ("DNI 12345678Z", "es-dni"),
        ("NIE X-1234567-L", "es-dni"),
        ("RSSMRA85T10A562S", "it-codice-fiscale"),
        ("BSN: 111222333", "nl-bsn"),
        ("PESEL 44051401359", "pl-pesel"),
        ("AB 12 34 56 C", "uk-nino"),
        ("NHS number 943 476 5919", "uk-nhs"),
        ("SSN 219-09-9998", "us-ssn"),
        ("756.9217.0769.85", "ch-ahv"),
        ("529.982.247-25", "br-cpf"),
        ("11010519491231002X", "cn-resident-id"),
        ("aadhaar 2341 2341 2346", "in-aadhaar"),
        ("811228-9874", "se-personnummer"),
        ("85.07.30-033.28", "be-national-number"),
        ("131052-308T", "fi-hetu"),
        ("fødselsnummer 15076500565", "no-fodselsnummer"),
        ("ghp_zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ" + "0mLq17", "github-token"),
        ("url = postgres://joe:s3cr3tpw@db.test/x", "url-password"),
        ('db_password = "Tr0ub4dor.3"', "password"),
        ("PuTTY-User-Key-File-3: ssh-ed25519", "putty-key"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA", "private-key"),
        ("-----BEGIN RSA PRIVATE KEY-----\r\nProc-Type: 4,ENCRYPTED\r\n\r\nMIIEpAIBAAKCAQEA", "private-key"),
        ('"-----BEGIN PRIVATE KEY-----\\nMIIEvQIBADANBgkqhkiG"', "private-key"),
        ("-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nlQOYBGPgpXIBCADf", "private-key"),
    ],
)
def test_it_is_found(text: str, name: str) -> None:
    assert kinds(f"Hello, {text}\n") == [name]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("visa 4111 1111 1111 1112", id="a card with a wrong digit"),
        pytest.param("4111111111111111", id="a card's digits alone"),
        pytest.param("visa 41111111111111111111", id="digits in a longer run"),
        pytest.param("41 11 11 11 11 11 11 11 and more", id="digits in groups no card has"),
        pytest.param("4111-1111 1111-1111", id="separators of two kinds"),
        pytest.param("card 0.4111111111111111", id="a fraction"),
        pytest.param("lat 48.255081416802538", id="a fraction that is a number of a person"),
        pytest.param("DE89370400440532013001", id="an IBAN with a wrong digit"),
        pytest.param("DE8937040044053201300", id="an IBAN with a digit too few"),
        pytest.param("943 476 5919", id="an NHS number that nothing tells from another number"),
        pytest.param("219-09-9998", id="an SSN that nothing tells from another number"),
        pytest.param("SSN 666-09-9998", id="an area that is not given"),
        pytest.param("529.982.247-26", id="a CPF with a wrong digit"),
        pytest.param("ghp_zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ0mLq18", id="a token with a wrong check sum"),
        pytest.param("AKIAIOSFODNN7EXAMPLE", id="an example of documentation"),
        pytest.param('password = "changeme123"', id="a placeholder"),
        pytest.param("password = get_password(user)", id="source code"),
        pytest.param("password: str = field(default='')", id="a type"),
        pytest.param("-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEF", id="a public key"),
        pytest.param("-----BEGIN PRIVATE KEY-----", id="a line of documentation"),
        pytest.param("eyJub3QiOiJhIHRva2VuIn0.eyJhIjoxMjM0NTY3fQ.x", id="JSON that is no JWT"),
    ],
)
def test_it_is_not_found(text: str) -> None:
    assert kinds(f"Hello, {text}\n") == []


@pytest.mark.parametrize("name", TABLE)
def test_every_detector_says_where_it_is_from(name: str) -> None:
    assert TABLE[name].name == name
    assert TABLE[name].title
    assert TABLE[name].source


def test_evidence_never_shows_the_secret() -> None:
    text = "visa 4111 1111 1111 1111, ghp_zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ" + '0mLq17, password="Tr0ub4dor.3"'
    evidence = [finding.evidence for finding in found(text)]
    assert evidence == ["4111 11** **** 1111", "ghp_***********…************", 'password="*********.*']


def test_cards_in_company_are_found_without_a_word() -> None:
    cards = [f"41111111111{number:04}" for number in range(0, 2000, 7)]
    right = [card + digit for card in cards for digit in "0123456789" if luhn_right(card + digit)][:12]
    assert kinds("\n".join(right)) == ["card"] * 12


def test_numbers_that_only_look_like_cards_are_no_company() -> None:
    assert kinds("\n".join(str(4111111111110000 + number) for number in range(500))) == []


def luhn_right(number: str) -> bool:
    return sum(sum(divmod(int(digit) * (1 + place % 2), 10)) for place, digit in enumerate(reversed(number))) % 10 == 0


def test_the_name_of_a_group_stands_for_all_of_it() -> None:
    assert chosen(["payment", "jwt", "card"]) == (*GROUPS["payment"], TABLE["jwt"])


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ConfigError, match="no detector visa"):
        chosen(["visa"])

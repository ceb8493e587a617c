"""What texts stand for, and what is said about those that stand for nothing."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslintercept.config import units
from sslintercept.config.endpoint import ALLOWED
from sslintercept.config.units import NotAllowed, Unit
from sslintercept.facts import Address

FOLDER = Path("/srv/proxy/etc")


def refusal(unit: Unit[object], text: str) -> str:
    with pytest.raises(ValueError) as caught:
        unit(text, FOLDER)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("300ms", 0.3), ("0.5s", 0.5), ("10s", 10.0), ("5m", 300.0), ("1.5h", 5400.0), ("30d", 2592000.0), ("007s", 7.0)],
)
def test_a_duration_is_float_seconds(text: str, seconds: float) -> None:
    value = units.duration()(text)
    assert value == seconds
    assert isinstance(value, float)


@pytest.mark.parametrize(
    "text", ["10parsecs", "10", "s", "10 s", "-1s", "1e3s", ".5s", "1.s", "10S", "١٠s", "10s\n5s", "1m30s"]
)
def test_what_is_no_duration_is_refused_with_what_is_allowed(text: str) -> None:
    assert refusal(units.duration(), text) == "not a duration; allowed: a number with ms, s, m, h or d, from 1ms to 30d"


def test_a_duration_stays_within_its_bounds() -> None:
    unit = units.duration("1h", "99d")
    assert (unit("1h"), unit("99d")) == (3600.0, 8553600.0)
    assert refusal(unit, "59m").startswith("too small; allowed: a number with ms, s, m, h or d, from 1h to 99d")
    assert refusal(unit, "100d").startswith("too large")


@given(st.integers(0, 10**12 - 1), st.sampled_from(list(units.BYTES)))
def test_a_size_is_its_number_times_its_unit(number: int, suffix: str) -> None:
    assert units.size("0B", "999999999999GiB")(f"{number}{suffix}") == number * units.BYTES[suffix]


@pytest.mark.parametrize("text", ["64KB", "64kib", "64", "1.5MiB", "-1B", "64 KiB", "", "²B"])
def test_what_is_no_size_is_refused(text: str) -> None:
    assert refusal(units.size("1B", "1MiB"), text).startswith(
        "not a size; allowed: a whole number with B, KiB, MiB or GiB"
    )


def test_a_size_stays_within_its_bounds() -> None:
    unit = units.size("1KiB", "1MiB")
    assert (unit("1KiB"), unit("1024KiB")) == (1024, 1048576)
    assert refusal(unit, "1023B").startswith("too small")
    assert refusal(unit, "2MiB").startswith("too large")


def test_an_integer_stays_within_its_bounds() -> None:
    unit = units.integer(1, 16)
    assert (unit("1"), unit("16")) == (1, 16)
    assert refusal(unit, "0") == "too small; allowed: a whole number from 1 to 16"
    assert refusal(unit, "-3").startswith("too small")
    assert refusal(unit, "17").startswith("too large")
    assert refusal(unit, "1_0").startswith("not a whole number")
    assert refusal(unit, "9" * 5000).startswith("not a whole number")


@pytest.mark.parametrize("text", ["on", "yes", "true", "On", "TRUE"])
def test_a_switch_is_on(text: str) -> None:
    assert units.switch()(text) is True


@pytest.mark.parametrize("text", ["off", "no", "false", "No"])
def test_a_switch_is_off(text: str) -> None:
    assert units.switch()(text) is False


def test_a_switch_is_nothing_else() -> None:
    assert refusal(units.switch(), "1") == "neither on nor off; allowed: on, yes, true, off, no or false"


def test_a_choice_is_one_of_its_words() -> None:
    unit = units.choice("json", "squid")
    assert unit("squid") == "squid"
    assert refusal(unit, "JSON") == "not one of the choices; allowed: json or squid"


def test_a_list_has_commas_and_may_span_lines() -> None:
    assert units.listed(units.integer(1, 65535))("443,8443 ,\n993") == (443, 8443, 993)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("443,,993", "an item is empty"),
        ("443,", "an item is empty"),
        ("443, x", "not a whole number: x"),
        ("443, 0443", "listed twice: 0443"),
        ("1\n2", "not a whole number: 1 ..."),
        ("1,2,3,4,5", "5 items are too many"),
    ],
)
def test_a_list_names_the_item_that_is_wrong(text: str, what: str) -> None:
    unit = units.listed(units.integer(1, 65535), most=4)
    assert refusal(unit, text) == f"{what}; allowed: a list with commas, each item a whole number from 1 to 65535"


def test_a_word_may_stand_for_a_value_of_its_own() -> None:
    unit = units.word_or("*", None, units.integer(1, 9))
    assert unit("*") is None
    assert unit("9") == 9
    assert refusal(unit, "10") == "too large; allowed: *, or a whole number from 1 to 9"


def test_a_phrase_is_one_line_of_so_many_bytes() -> None:
    unit = units.phrase(4, "four bytes")
    assert unit("a bc") == "a bc"
    assert refusal(unit, "aéé") == "too long; allowed: four bytes"
    assert refusal(unit, "a\nb") == "more than one line; allowed: four bytes"


def test_a_language_is_a_tag_in_lower_case() -> None:
    assert units.language()("pt-BR") == "pt-br"
    for text in ("", "d", "de_AT", "../x", "de-", "a-b-c-d-e"):
        assert refusal(units.language(), text).startswith("not a tag of a language")


def test_a_token_has_no_white_space_and_no_separators() -> None:
    assert units.token()("gate-1.example") == "gate-1.example"
    for text in ("a b", "a/b", "a:1", "ü", "a" * 65):
        assert refusal(units.token(), text).startswith("not a token")


@pytest.mark.parametrize(
    "text",
    [
        "tcp:8080",
        "tcp:0:interface=127.0.0.1",
        r"tcp:8080:interface=\:\:1",
        "tcp:port=8080",
        "tcp:interface=127.0.0.1:port=8080",
        "tcp:8080:127.0.0.1",
        "systemd:domain=INET:index=0",
        "tcp6:8080",
    ],
)
def test_an_endpoint_is_kept_as_it_is_written(text: str) -> None:
    assert units.endpoint()(text) == text


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("8080", "not an endpoint"),
        ("127.0.0.1:8080", "not an endpoint"),
        ("tcp:", "not an endpoint"),
        ("unix:" + "a" * 4096, "too long"),
        ("tcp:99999", "no port from 0 to 65535"),
        ("tcp:-1", "no port from 0 to 65535"),
        ("tcp:http", "no port from 0 to 65535"),
        ("tcp:interface=127.0.0.1", "no port from 0 to 65535"),
        ("tcp:1\ntcp:2", "more than one line"),
    ],
)
def test_an_endpoint_that_cannot_be_one_is_refused(text: str, what: str) -> None:
    assert refusal(units.endpoint(), text) == f"{what}; allowed: {ALLOWED}"


def test_a_relative_path_starts_from_the_folder_of_the_ini_file() -> None:
    assert units.path()("../var/ca.pem", FOLDER) == Path("/srv/proxy/var/ca.pem")
    assert units.path()("ca.pem", FOLDER) == Path("/srv/proxy/etc/ca.pem")
    assert units.path()("/etc/hosts", FOLDER) == Path("/etc/hosts")


def test_a_path_is_one_line_and_no_longer_than_the_system_takes() -> None:
    assert refusal(units.path(), "a\nb") == "more than one line; allowed: a path"
    assert refusal(units.path(), "a" * 4097) == "too long; allowed: a path"


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("mail.example:993", "mail.example", 993),
        ("Mail.Example.:993", "mail.example", 993),
        ("192.0.2.1:1", "192.0.2.1", 1),
        ("[2001:DB8::1]:65535", "2001:db8::1", 65535),
        ("xn--bcher-kva.example:443", "xn--bcher-kva.example", 443),
        ("_dmarc.example:80", "_dmarc.example", 80),
        ("mail.example", "mail.example", 53),
        ("[2001:db8::1]", "2001:db8::1", 53),
        ("2001:db8::1", "2001:db8::1", 53),
    ],
)
def test_an_address_is_a_host_and_a_port(text: str, host: str, port: int) -> None:
    assert units.address(port=53)(text) == Address(host, port)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("mail.example", "no port"),
        ("2001:db8::1", "no port"),
        ("mail.example:", "not a port"),
        ("mail.example:0", "not a port"),
        ("mail.example:65536", "not a port"),
        ("mail.example:+1", "not a port"),
        ("[2001:db8::1]:", "not a port"),
        ("[2001:db8::1", "not an IPv6 address in brackets"),
        ("[2001:db8::1]993", "not an IPv6 address in brackets"),
        ("[192.0.2.1]:993", "not an IPv6 address in brackets"),
        ("[::zz]:993", "not an IP address"),
        ("192.0.2.256:993", "not a host"),
        ("1.2.3:993", "not a host"),
        (":993", "not a host"),
        ("-a.example:993", "not a host"),
        ("a..example:993", "not a host"),
        ("a b:993", "not a host"),
        ("a" * 64 + ".example:993", "not a host"),
        (".".join(["a" * 60] * 5) + ":993", "not a host"),
        ("bücher.example:993", "not ASCII, write the name as xn--..."),
    ],
)
def test_an_address_that_cannot_be_one_is_refused(text: str, what: str) -> None:
    assert refusal(units.address(), text) == (
        f"{what}; allowed: a host name or IP address as host:port, IPv6 in brackets before a port"
    )


def test_a_name_is_no_literal_address() -> None:
    unit = units.address(port=53, literal=True)
    assert unit("192.0.2.53:5353") == Address("192.0.2.53", 5353)
    assert refusal(unit, "ns.example").startswith("not an IP address; allowed: an IP address as host or host:port (53")


@given(st.ip_addresses(), st.integers(1, 65535))
def test_an_address_that_is_written_out_is_read_back(ip: ipaddress.IPv4Address, port: int) -> None:
    address = Address(str(ip), port)
    assert units.address()(str(address)) == address


def test_a_network_has_no_bits_behind_its_prefix() -> None:
    unit = units.network()
    assert unit("192.0.2.0/24") == ipaddress.ip_network("192.0.2.0/24")
    assert unit("2001:db8::1") == ipaddress.ip_network("2001:db8::1/128")
    assert refusal(unit, "192.0.2.1/24").startswith(
        "bits are set behind the prefix; allowed: an IP address or a network"
    )
    assert refusal(unit, "192.0.2.0/33").startswith("not a network")


@given(st.text())
def test_any_text_is_read_or_refused_with_what_is_allowed(text: str) -> None:
    for unit in (
        units.duration(),
        units.size("0B", "1GiB"),
        units.integer(0, 9),
        units.switch(),
        units.listed(units.choice("a", "b")),
        units.token(),
        units.endpoint(),
        units.path(),
        units.address(53),
        units.network(),
    ):
        refused: NotAllowed | None = None
        try:
            unit(text, FOLDER)
        except NotAllowed as error:
            refused = error
        if refused is not None:
            assert refused.allowed == unit.allowed
            assert str(refused) == f"{refused.what}; allowed: {unit.allowed}"


def test_a_text_is_shown_short_in_one_line_and_harmless() -> None:
    assert units.shown("10parsecs") == "10parsecs"
    assert units.shown("a" * 61) == "a" * 60 + " ..."
    assert units.shown("-----BEGIN PRIVATE KEY-----\nsecret") == "-----BEGIN PRIVATE KEY----- ..."
    assert units.shown("a\x1b[2Jb") == "a\\u001b[2Jb"
    assert units.shown("a\u202eb") == "a\\u202eb"

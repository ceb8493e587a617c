from __future__ import annotations

from collections.abc import Coroutine
from ipaddress import ip_address
from typing import Any

import pytest

from sslintercept.phish.spf import MOST_LOOKUPS, Check, PermError, Result, check, parse
from tests.phish.build import Zone

CLIENT = "192.0.2.3"
SENDER = "strong-bad@email.example.com"


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine comes to that never waits."""
    try:
        work.send(None)
    except StopIteration as ended:
        return ended.value
    raise AssertionError("it waits")


def result(record: str | list[str], client: str = CLIENT, sender: str = SENDER, **more: Any) -> Result:
    records = {"txt email.example.com": [record] if isinstance(record, str) else record, **more.pop("zone", {})}
    return run(check(Zone(records), client, sender, **more))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ("v=spf1 +all", Result.PASS),
        ("v=spf1 -all", Result.FAIL),
        ("v=spf1 ~all", Result.SOFTFAIL),
        ("v=spf1 ?all", Result.NEUTRAL),
        ("v=spf1", Result.NEUTRAL),
        ("V=SPF1 -ALL", Result.FAIL),
        ("v=spf1  ip4:192.0.2.0/24   -all", Result.PASS),
        ("v=spf1 ip4:192.0.2.3 -all", Result.PASS),
        ("v=spf1 ip4:198.51.100.0/24 -all", Result.FAIL),
        ("v=spf1 ip6:2001:db8::/32 -all", Result.FAIL),
        ("v=spf1 -ip4:192.0.2.3 +all", Result.FAIL),
        ("v=spf1 unknown=thing -all", Result.FAIL),
        ("v=spf1 exp=why.example -all", Result.FAIL),
        ("v=spf10 -all", Result.NONE),
        ("something else", Result.NONE),
    ],
)
def test_a_record_is_evaluated_in_order(record: str, expected: Result) -> None:
    assert result(record) is expected


@pytest.mark.parametrize(
    "record",
    [
        "v=spf1 moo -all",
        "v=spf1 -all:x",
        "v=spf1 ip4:300.0.2.1 -all",
        "v=spf1 ip4:2001:db8::1 -all",
        "v=spf1 ip6:192.0.2.1 -all",
        "v=spf1 ip4 -all",
        "v=spf1 a/33 -all",
        "v=spf1 a//129 -all",
        "v=spf1 a: -all",
        "v=spf1 include -all",
        "v=spf1 exists:x/24 -all",
        "v=spf1 redirect=",
        "v=spf1 redirect=a.example redirect=b.example",
        "v=spf1 a:%{x}.example -all",
        "v=spf1 a:%z.example -all",
        "v=spf1 exists:%{d0}.example -all",
        "v=spf1 +-all",
        "v=spf1 " + "ip4:192.0.2.9 " * 200,
    ],
)
def test_a_record_that_is_malformed_is_an_error_for_good(record: str) -> None:
    assert result(record) is Result.PERMERROR


def test_two_records_and_a_record_outside_ascii_are_errors() -> None:
    assert result(["v=spf1 -all", "v=spf1 +all"]) is Result.PERMERROR
    assert result(["v=spf1 \xff"]) is Result.PERMERROR
    assert result(["other", "v=spf1 -all"]) is Result.FAIL


@pytest.mark.parametrize(
    ("record", "zone", "expected"),
    [
        ("v=spf1 a -all", {"a email.example.com": [CLIENT]}, Result.PASS),
        ("v=spf1 a -all", {"a email.example.com": ["192.0.2.4"]}, Result.FAIL),
        ("v=spf1 a/24 -all", {"a email.example.com": ["192.0.2.77"]}, Result.PASS),
        ("v=spf1 a:other.example/24//64 -all", {"a other.example": ["192.0.2.77"]}, Result.PASS),
        ("v=spf1 a:a/b.example -all", {"a a/b.example": [CLIENT]}, Result.PASS),
        ("v=spf1 mx -all", {"mx email.example.com": [(10, "m.example")], "a m.example": [CLIENT]}, Result.PASS),
        ("v=spf1 mx/24 -all", {"mx email.example.com": [(10, "m.example")], "a m.example": ["192.0.2.1"]}, Result.PASS),
        ("v=spf1 mx -all", {"mx email.example.com": [(0, ".")]}, Result.FAIL),
        ("v=spf1 ptr -all", {}, Result.FAIL),
        ("v=spf1 include:i.example -all", {"txt i.example": ["v=spf1 ip4:192.0.2.3 -all"]}, Result.PASS),
        ("v=spf1 include:i.example -all", {"txt i.example": ["v=spf1 -all"]}, Result.FAIL),
        ("v=spf1 include:i.example ?all", {"txt i.example": ["v=spf1 ~all"]}, Result.NEUTRAL),
        ("v=spf1 include:i.example -all", {}, Result.PERMERROR),
        ("v=spf1 include:i.example -all", {"txt i.example": None}, Result.TEMPERROR),
        ("v=spf1 redirect=r.example", {"txt r.example": ["v=spf1 +all"]}, Result.PASS),
        ("v=spf1 redirect=r.example", {}, Result.PERMERROR),
        ("v=spf1 redirect=r.example -all", {"txt r.example": ["v=spf1 +all"]}, Result.FAIL),
        ("v=spf1 redirect=email.example.com", {}, Result.PERMERROR),
        ("v=spf1 include:email.example.com", {}, Result.PERMERROR),
        ("v=spf1 exists:%{ir}.sbl.example -all", {"a 3.2.0.192.sbl.example": ["127.0.0.2"]}, Result.PASS),
        ("v=spf1 exists:%{l1r-}.lp.%{d2} -all", {"a strong.lp.example.com": ["127.0.0.2"]}, Result.PASS),
        ("v=spf1 a:%{h} -all", {"a mx.sender.example": [CLIENT]}, Result.PASS),
    ],
)
def test_mechanisms_ask(record: str, zone: dict[str, Any], expected: Result) -> None:
    assert result(record, zone=zone, helo="mx.sender.example") is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("%{s}", "strong-bad@email.example.com"),
        ("%{o}", "email.example.com"),
        ("%{d}", "email.example.com"),
        ("%{d4}", "email.example.com"),
        ("%{d3}", "email.example.com"),
        ("%{d2}", "example.com"),
        ("%{d1}", "com"),
        ("%{dr}", "com.example.email"),
        ("%{d2r}", "example.email"),
        ("%{l}", "strong-bad"),
        ("%{l-}", "strong.bad"),
        ("%{lr}", "strong-bad"),
        ("%{lr-}", "bad.strong"),
        ("%{l1r-}", "strong"),
        ("%{ir}.%{v}._spf.%{d2}", "3.2.0.192.in-addr._spf.example.com"),
        ("%{lr-}.lp._spf.%{d2}", "bad.strong.lp._spf.example.com"),
        ("%{S}", "strong-bad%40email.example.com"),
        ("%%%_%-", "% %20"),
    ],
)
def test_macros_are_undone_as_in_the_examples_of_rfc_7208(text: str, expected: str) -> None:
    assert Check(Zone(), ip_address(CLIENT), SENDER)._expanded(text, "email.example.com") == expected


def test_an_address_of_version_6_is_spelled_in_digits() -> None:
    made = Check(Zone(), ip_address("2001:db8::cb01"), SENDER)._expanded("%{ir}.%{v}._spf.%{d2}", "email.example.com")
    assert made == "1.0.b.c.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6._spf.example.com"


def test_a_name_that_is_too_long_loses_labels_in_front() -> None:
    made = Check(Zone(), ip_address(CLIENT), SENDER)._expanded(
        "a" * 60 + "." + "b" * 60 + "." + "%{d}" * 11, "x.example.com"
    )
    assert len(made) <= 253
    assert made.startswith("b")


@pytest.mark.parametrize(
    ("client", "expected"),
    [("2001:db8::1", Result.PASS), ("2001:db9::1", Result.FAIL), ("::ffff:192.0.2.3", Result.PASS), ("x", Result.NONE)],
)
def test_clients_of_both_versions_are_checked(client: str, expected: Result) -> None:
    assert result("v=spf1 ip4:192.0.2.0/24 ip6:2001:db8::/32 -all", client) is expected


def test_a_bounce_is_checked_by_the_name_of_helo() -> None:
    zone = Zone({"txt mx.example": ["v=spf1 -all"]})
    assert run(check(zone, CLIENT, "", "mx.example")) is Result.FAIL
    assert run(check(zone, CLIENT, "")) is Result.NONE


@pytest.mark.parametrize(
    "domain", ["", "nodots", "a..b", "x" * 64 + ".example", "[192.0.2.1]", ("a" * 60 + ".") * 5 + "b"]
)
def test_a_domain_that_is_none_has_no_opinion(domain: str) -> None:
    zone = Zone()
    assert run(check(zone, CLIENT, f"a@{domain}")) is Result.NONE
    assert zone.asked == []


def test_a_server_that_does_not_answer_is_an_error_for_now() -> None:
    assert run(check(Zone({"txt email.example.com": None}), CLIENT, SENDER)) is Result.TEMPERROR


def test_ten_look_ups_are_allowed_and_eleven_are_not() -> None:
    def record(count: int) -> str:
        return "v=spf1 " + " ".join(f"a:h{number}.example" for number in range(count)) + " -all"

    zone = {f"a h{number}.example": ["198.51.100.1"] for number in range(20)}
    assert result(record(MOST_LOOKUPS), zone=zone) is Result.FAIL
    assert result(record(MOST_LOOKUPS + 1), zone=zone) is Result.PERMERROR


def test_two_empty_answers_are_allowed_and_three_are_not() -> None:
    assert result("v=spf1 a:a.example a:b.example -all") is Result.FAIL
    assert result("v=spf1 a:a.example a:b.example a:c.example -all") is Result.PERMERROR


def test_an_mx_with_eleven_exchanges_is_an_error() -> None:
    zone = {"mx email.example.com": [(number, f"m{number}.example") for number in range(11)]}
    assert result("v=spf1 mx -all", zone=zone) is Result.PERMERROR


def test_records_that_include_each_other_end() -> None:
    zone = {"txt a.example": ["v=spf1 include:b.example"], "txt b.example": ["v=spf1 include:a.example"]}
    assert result("v=spf1 include:a.example -all", zone=zone) is Result.PERMERROR


def test_a_record_is_read_before_anything_is_asked() -> None:
    zone = Zone({"txt email.example.com": ["v=spf1 a:asked.example moo"]})
    assert run(check(zone, CLIENT, SENDER)) is Result.PERMERROR
    assert zone.asked == ["txt email.example.com"]
    with pytest.raises(PermError):
        parse("v=spf1 moo")

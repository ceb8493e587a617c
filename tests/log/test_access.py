"""The access log: both formats, and what must never stand in them."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslintercept.errors import ConnectError, PolicyError
from sslintercept.facts import Action, Address, ClientHello, Decision, Facts, TlsLeg, Verdict
from sslintercept.log.access import (
    FORMATS,
    NOTICES,
    AccessLog,
    ConnectionEntry,
    TransactionEntry,
    percent_encoded,
    shown_url,
)

LEG = TlsLeg("TLSv1.3", "TLS_AES_128_GCM_SHA256", "X25519", "http/1.1", "www.example.com", False, "")
ORIGIN = Address("203.0.113.9", 443)
DECISION = Decision(Action.INTERCEPT, "default", "no rule matched")
GONE = ConnectError("refused", where="connect to 203.0.113.9:443", remedy="is it up?")


REFUSED = PolicyError("not that port", where="origin:25", remedy="see [http] connect_ports")


def facts() -> Facts:
    made = Facts("c1", Address("192.0.2.7", 40000), "proxy")
    made.destination = Address("www.example.com", 443)
    made.path = ["tcp", "http-connect", "tls1.3", "http1"]
    made.client_tls = LEG
    made.upstream_tls = LEG._replace(resumed=True, verified="ok")
    made.verdicts = [Verdict("http/1", "RFC 9112 3"), Verdict("tls", "RFC 8446 5.1", "smtp", True)]
    return made


def entry(**changes: Any) -> TransactionEntry:  # any field
    made = TransactionEntry("c1", 3, 1732340000.1234, 0.0567, "GET", "https://www.example.com/a?token=s3cret")
    usual = {
        "status": 200,
        "bytes_in": 345,
        "bytes_out": 12345,
        "upstream": ORIGIN,
        "content_type": "text/html; charset=utf-8",
    }
    return made._replace(**{**usual, **changes})


def line(format: str, made: TransactionEntry, about: Facts | None = None, decision: Decision | None = DECISION) -> str:
    lines: list[str] = []
    log = AccessLog(lines.append, format)
    log.transaction(made, log.connection_part(about or facts(), decision))
    (only,) = lines
    return only


def told(made: TransactionEntry, about: Facts | None = None, decision: Decision | None = DECISION) -> dict[str, Any]:
    found = json.loads(line("json", made, about, decision))
    assert isinstance(found, dict)
    return found


def connection(
    format: str, made: ConnectionEntry, about: Facts | None = None, decision: Decision | None = DECISION
) -> str:
    lines: list[str] = []
    AccessLog(lines.append, format).connection(made, about or facts(), decision)
    return lines[0]


def test_a_transaction_as_json_says_everything() -> None:
    assert told(entry(reused=True)) == {
        "type": "transaction",
        "time": 1732340000.123,
        "id": "c1-3",
        "client": "192.0.2.7",
        "client_port": 40000,
        "listener": "proxy",
        "user": None,
        "login": None,
        "destination": "www.example.com:443",
        "stack": "tcp/http-connect/tls1.3/http1",
        "rule": "default",
        "action": "intercept",
        "reason": "no rule matched",
        "probe": ["http/1: RFC 9112 3", "tls: RFC 8446 5.1"],
        "mismatch": True,
        "ja4": None,
        "client_tls": {
            "version": "TLSv1.3",
            "cipher": "TLS_AES_128_GCM_SHA256",
            "group": "X25519",
            "alpn": "http/1.1",
            "sni": "www.example.com",
            "resumed": False,
            "verified": "",
        },
        "layers": [],
        "parent": None,
        "upstream_tls": {
            "version": "TLSv1.3",
            "cipher": "TLS_AES_128_GCM_SHA256",
            "group": "X25519",
            "alpn": "http/1.1",
            "sni": "www.example.com",
            "resumed": True,
            "verified": "ok",
        },
        "method": "GET",
        "url": "https://www.example.com/a?",
        "status": 200,
        "bytes_in": 345,
        "bytes_out": 12345,
        "duration_ms": 56.7,
        "upstream": "203.0.113.9:443",
        "reused": True,
        "result": "TCP_MISS",
        "error": None,
    }


def test_what_is_not_known_is_null() -> None:
    found = told(entry(upstream=None), Facts("c1", Address("2001:db8::1", 1), "proxy"), None)
    for name in (
        "user",
        "login",
        "destination",
        "rule",
        "action",
        "reason",
        "ja4",
        "client_tls",
        "upstream_tls",
        "upstream",
    ):
        assert found[name] is None, name
    assert found["probe"] == []
    assert found["mismatch"] is False


def test_the_fingerprint_of_the_hello_is_logged() -> None:
    about = facts()
    about.client_hello = ClientHello(
        0x0303, (), (), (), None, (), (), (), (), False, False, False, "t13d1516h2_8daaf6152771_e5627efa2ab1", 1
    )
    assert told(entry(), about)["ja4"] == "t13d1516h2_8daaf6152771_e5627efa2ab1"


def test_a_connection_as_json_shares_the_fields_of_its_transactions() -> None:
    made = ConnectionEntry(1732340001.0, 1.5, 200, 3, 1000, 2000, ORIGIN, True)
    found = json.loads(connection("json", made))
    shared = told(entry())
    own = {"type", "id", "time", "transactions", "bytes_in", "bytes_out", "duration_ms", "reused", "result"}
    assert set(shared) - set(found) == {"method", "url"}
    assert {name: found[name] for name in set(found) - own} == {
        name: shared[name] for name in set(shared) - own - {"method", "url"}
    }
    assert {name: found[name] for name in own} == {
        "type": "connection",
        "id": "c1",
        "time": 1732340001.0,
        "transactions": 3,
        "bytes_in": 1000,
        "bytes_out": 2000,
        "duration_ms": 1500.0,
        "reused": True,
        "result": "NONE",
    }


def test_a_transaction_in_squids_columns() -> None:
    assert line("squid", entry()) == (
        "1732340000.123     57 192.0.2.7 TCP_MISS/200 12345 GET https://www.example.com/a? - "
        "HIER_DIRECT/203.0.113.9 text/html"
    )
    about = facts()
    about.user = "jo doe"
    assert line("squid", entry(upstream=None, status=0, content_type=""), about) == (
        "1732340000.123     57 192.0.2.7 NONE/000 12345 GET https://www.example.com/a? jo%20doe HIER_NONE/- -"
    )


def test_a_connection_in_squids_columns() -> None:
    made = ConnectionEntry(1732340001.0, 12.5, 200, 0, 100, 2000, ORIGIN)
    assert connection("squid", made, decision=Decision(Action.TUNNEL, "banks", "x")) == (
        "1732340001.000  12500 192.0.2.7 TCP_TUNNEL/200 2000 CONNECT www.example.com:443 - HIER_DIRECT/203.0.113.9 -"
    )
    about = facts()
    about.parent = "uplink"
    assert "FIRSTUP_PARENT/203.0.113.9" in connection("squid", made, about)
    assert "FIRSTUP_PARENT/203.0.113.9" in line("squid", entry(parent="uplink"))
    nowhere = Facts("c1", Address("192.0.2.7", 1), "proxy")
    assert connection("squid", ConnectionEntry(1732340001.0, 0.0), nowhere, None) == (
        "1732340001.000      0 192.0.2.7 NONE/000 0 CONNECT - - HIER_NONE/- -"
    )


@pytest.mark.parametrize(
    ("changes", "result"),
    [
        ({}, "TCP_MISS"),
        ({"error": GONE}, "TCP_MISS_ABORTED"),
        ({"upstream": None}, "NONE"),
        ({"upstream": None, "error": GONE}, "NONE"),
        ({"denied": True}, "TCP_DENIED"),
        ({"error": REFUSED}, "TCP_DENIED"),
    ],
)
def test_a_transaction_has_squids_result(changes: dict[str, object], result: str) -> None:
    assert entry(**changes).result == result
    assert told(entry(**changes))["result"] == result


@pytest.mark.parametrize(
    ("action", "error", "result"),
    [
        (Action.TUNNEL, None, "TCP_TUNNEL"),
        (Action.TUNNEL, GONE, "TCP_TUNNEL_ABORTED"),
        (Action.BLOCK, None, "TCP_DENIED"),
        (Action.BLOCK, GONE, "TCP_DENIED"),
        (Action.INTERCEPT, None, "NONE"),
        (Action.INTERCEPT, GONE, "NONE"),
        (Action.INTERCEPT, REFUSED, "TCP_DENIED"),
    ],
)
def test_a_connection_has_squids_result(action: Action, error: Exception | None, result: str) -> None:
    made = ConnectionEntry(1.0, 1.0, error=error)
    assert json.loads(connection("json", made, decision=Decision(action, "r", "w")))["result"] == result
    assert f" {result}/000 " in connection("squid", made, decision=Decision(action, "r", "w"))


@pytest.mark.parametrize(("error", "result"), [(None, "TCP_TUNNEL"), (GONE, "TCP_TUNNEL_ABORTED")])
def test_what_was_relayed_unopened_is_a_tunnel_whatever_the_rules_would_have_allowed(
    error: Exception | None, result: str
) -> None:
    about = facts()
    about.path = ["tcp", "http-connect", "tunnel"]
    told_of = json.loads(connection("json", ConnectionEntry(1.0, 1.0, error=error), about))
    assert (told_of["action"], told_of["result"]) == ("intercept", result)


def test_a_destination_without_a_host_is_none() -> None:
    about = facts()
    about.destination = Address("", 443)
    assert told(entry(), about)["destination"] is None
    assert " CONNECT - - " in connection("squid", ConnectionEntry(1.0, 1.0), about)


def test_an_error_of_ours_is_logged_with_its_kind_and_words() -> None:
    found = told(entry(error=GONE))
    assert found["error"] == "connect"
    assert found["error_text"] == "connect to 203.0.113.9:443: refused; is it up?"
    long = ConnectError("x" * 5000, where="w", remedy="r")
    assert len(told(entry(error=long))["error_text"]) == 500


def test_of_a_foreign_error_only_the_class_is_logged() -> None:
    found = told(entry(error=ValueError("password hunter2")))
    assert (found["error"], found["error_text"]) == ("internal", "ValueError")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://a.example/", "https://a.example/"),
        ("https://a.example/x?token=1&b=2", "https://a.example/x?"),
        ("https://a.example/x?", "https://a.example/x?"),
        ("https://a.example?x=1", "https://a.example?"),
        ("https://a.example/x#access_token=1", "https://a.example/x"),
        ("https://a.example/x#a?b=1", "https://a.example/x"),
        ("https://jo:pw@a.example/x", "https://a.example/x"),
        ("https://jo:p@w@a.example/x", "https://a.example/x"),
        ("https://jo:pw@a.example", "https://a.example"),
        ("https://jo:pw@a.example?x=jo@b", "https://a.example?"),
        ("https://a.example/jo@b", "https://a.example/jo@b"),
        ("jo:pw@a.example:443", "a.example:443"),
        ("a.example:443", "a.example:443"),
        ("a.example/jo://x@b", "a.example/jo://x@b"),
        ("jo:pw@a.example/x://b", "a.example/x://b"),
        ("jo:pw@a.example/x", "a.example/x"),
        ("/path/jo@b?x=1", "/path/jo@b?"),
        ("/http://jo:pw@b", "/http://jo:pw@b"),
        ("*", "*"),
        ("", ""),
    ],
)
def test_a_url_is_shown_without_what_may_be_secret(url: str, shown: str) -> None:
    assert shown_url(url) == shown


def test_a_query_is_shown_when_asked_for_but_never_a_password() -> None:
    assert shown_url("https://jo:pw@a.example/x?b=jo@c#d", queries=True) == "https://a.example/x?b=jo@c"
    lines: list[str] = []
    for format in FORMATS:
        log = AccessLog(lines.append, format, queries=True)
        log.transaction(entry(), log.connection_part(facts(), DECISION))
    assert all("/a?token=s3cret" in each for each in lines)


@pytest.mark.parametrize("format", FORMATS)
def test_no_format_shows_secrets_by_default(format: str) -> None:
    shown = line(format, entry(url="https://jo:hunter2@a.example/x?token=s3cret#hunter3"))
    assert "https://a.example/x?" in shown
    assert not re.search("s3cret|hunter", shown)


def test_a_url_is_cut() -> None:
    shown = shown_url("https://a.example/" + "x" * 10_000)
    assert len(shown) == 4099
    assert shown.endswith("x...")


NASTY = st.text(max_size=50) | st.sampled_from(['"},{"', "\r\n", "a\x1b[2Jb", "\u2028", "\udc80", " - "])


@given(NASTY, NASTY, NASTY, NASTY)
def test_whatever_the_network_sends_stays_in_its_field_of_json(method: str, url: str, name: str, user: str) -> None:
    about = facts()
    about.destination, about.user = Address(name, 443), user
    about.client_tls = LEG._replace(server_name=name)
    shown = line("json", entry(method=method, url=url), about, Decision(Action.BLOCK, "r", name))
    assert shown.isascii()
    assert shown.isprintable()
    found = json.loads(shown)
    assert (found["method"], found["url"]) == (method, shown_url(url))
    assert (found["user"], found["client_tls"]["sni"], found["reason"]) == (user, name, name)


@given(NASTY, NASTY, NASTY, NASTY)
def test_whatever_the_network_sends_stays_in_its_column_of_squid(method: str, url: str, kind: str, user: str) -> None:
    about = facts()
    about.user = user
    shown = line("squid", entry(method=method, url=url, content_type=kind), about)
    assert shown.isascii()
    assert shown.isprintable()
    assert len(shown.split()) == 10


def test_a_column_of_squid_is_percent_encoded() -> None:
    assert percent_encoded("a b\r\nü\udc80") == "a%20b%0D%0A%C3%BC%ED%B2%80"
    assert percent_encoded("") == "-"


def test_long_words_are_cut() -> None:
    about = facts()
    about.user = "u" * 1000
    about.verdicts = [Verdict("x", str(number)) for number in range(20)]
    found = told(entry(method="M" * 1000), about, Decision(Action.BLOCK, "r", "w" * 1000))
    assert (len(found["method"]), len(found["user"]), len(found["reason"])) == (100, 100, 500)
    assert found["probe"] == [f"x: {number}" for number in range(12, 20)]


def test_connections_are_logged_only_if_wanted() -> None:
    lines: list[str] = []
    AccessLog(lines.append, "json", connections=False).connection(ConnectionEntry(1.0, 1.0), facts(), DECISION)
    assert lines == []


def test_an_unknown_format_is_refused_with_those_allowed() -> None:
    with pytest.raises(ValueError, match="unknown log format 'xml'; allowed are json, squid"):
        AccessLog(print, "xml")


def test_every_format_can_say_that_lines_were_dropped() -> None:
    assert set(NOTICES) == set(FORMATS)
    assert json.loads(NOTICES["json"](7)) == {"type": "dropped", "lines": 7}
    assert NOTICES["squid"](7) == "# 7 lines dropped"

"""What a service says of itself, and what its ISTag is worth."""

from __future__ import annotations

import pytest

from sslintercept.errors import ConfigError, EngineError
from sslintercept.facts import Address
from sslintercept.icap.options import (
    CHANGES,
    LEAST_TTL,
    MOST_PREVIEW,
    MOST_TTL,
    WITHIN,
    Options,
    Tag,
    Transfer,
    options,
    tag,
)
from sslintercept.icap.service import place
from sslintercept.icap.verdict import Threat, threats
from sslintercept.icap.wire import Kind, ReplyHead, ReplyReader

from .support import told


def head(answer: bytes) -> ReplyHead:
    reader = ReplyReader("icap")
    reader.feed(answer)
    assert reader.head is not None
    return reader.head


def found(**more: str | int | None) -> Options:
    return options(head(told(**more)), "icap")  # type: ignore[arg-type] # the arguments of told


def test_what_it_says_is_understood() -> None:
    more = "Max-Connections: 7\r\nOptions-TTL: 60\r\nService: Scan 1\r\nX-Include: X-Client-IP\r\n"
    assert found(more=more) == Options(
        frozenset((Kind.REQMOD, Kind.RESPMOD)),
        4,
        True,
        True,
        7,
        60.0,
        b"one",
        "Scan 1",
        frozenset((b"x-client-ip",)),
        {},
    )


def test_what_it_leaves_out_has_a_meaning() -> None:
    least = options(head(b"ICAP/1.0 200 OK\r\nMethods: REQMOD\r\n\r\n"), "icap")
    assert (least.preview, least.allow_204, least.connections, least.ttl, least.tag) == (
        None,
        False,
        None,
        MOST_TTL,
        None,
    )


@pytest.mark.parametrize(("ttl", "held"), [(0, LEAST_TTL), (10, 10), (10**9, MOST_TTL)])
def test_how_long_it_holds_is_bounded(ttl: int, held: float) -> None:
    assert found(more=f"Options-TTL: {ttl}\r\n").ttl == held


def test_a_preview_is_bounded_and_so_is_nothing_less_than_one_connection() -> None:
    assert found(preview=10**9).preview == MOST_PREVIEW
    assert found(more="Max-Connections: 0\r\n").connections == 1


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (b"ICAP/1.0 404 Service not found\r\n\r\n", "refused"),
        (b"ICAP/1.0 503 Overloaded\r\n\r\n", "busy"),
        (b"ICAP/1.0 200 OK\r\nMethods: FOO\r\n\r\n", "rubbish"),
        (told(more="Max-Connections: many\r\n"), "rubbish"),
        (told(more="Preview: 4\r\n"), "rubbish"),
    ],
)
def test_options_of_no_use_are_named(answer: bytes, fault: str) -> None:
    with pytest.raises(EngineError) as error:
        options(head(answer), "icap")
    assert error.value.fault == fault


def test_what_is_sent_of_a_body_goes_by_its_extension() -> None:
    lists = "Transfer-Preview: *\r\nTransfer-Ignore: gif, JPG\r\nTransfer-Complete: exe\r\n"
    wants = found(more=lists)
    assert [wants.transfer(one) for one in ("jpg", "EXE", "txt", "")] == [
        Transfer.IGNORE,
        Transfer.COMPLETE,
        Transfer.PREVIEW,
        Transfer.PREVIEW,
    ]
    assert found().transfer("txt") is Transfer.PREVIEW
    assert found(preview=None, more=lists).transfer("txt") is Transfer.COMPLETE


@pytest.mark.parametrize(
    ("value", "meaning"),
    [
        ('"a b"', None),
        ('"a-b:1.0"', b"a-b:1.0"),
        ("a-b", b"a-b"),
        ('"' + "x" * 65 + '"', None),
        ('"a', None),
        ("", None),
    ],
)
def test_a_tag_is_quoted_or_a_word_and_short(value: str, meaning: bytes | None) -> None:
    assert tag(head(told(tag=value))) == meaning


def test_verdicts_are_kept_under_a_tag_until_it_changes() -> None:
    held = Tag()
    assert held.fault == "missing"
    assert held.heard(b"one", 0)
    assert not held.heard(b"one", 1)
    assert held.heard(b"two", 2)
    assert (held.now, held.fault) == (b"two", "")


def test_a_tag_that_is_missing_or_changes_all_the_time_is_none() -> None:
    held = Tag()
    held.heard(None, 0)
    assert held.fault == "missing"
    for at in range(CHANGES + 1):
        held.heard(b"%d" % at, 1)
    assert held.fault == "restless"
    assert held.now is None
    held.heard(b"calm", WITHIN + 1)
    assert held.fault == ""


@pytest.mark.parametrize(
    ("uri", "where"),
    [
        ("icap://a.test/x", (Address("a.test", 1344), False)),
        ("icaps://a.test/x", (Address("a.test", 11344), True)),
        ("icap://[2001:db8::1]:99/x", (Address("2001:db8::1", 99), False)),
    ],
)
def test_an_address_says_where_and_how(uri: str, where: tuple[Address, bool]) -> None:
    assert place(uri) == where


@pytest.mark.parametrize(
    "uri", ["http://a.test/", "icap:///x", "icap://a.test:x/", "icap://a b/", "icap://a/\r\nX: y", "icap://[::1"]
)
def test_what_is_no_address_is_refused(uri: str) -> None:
    with pytest.raises(ConfigError):
        place(uri)


@pytest.mark.parametrize(
    ("fields", "meaning"),
    [
        ("", ()),
        ("X-Infection-Found: Type=0; Resolution=2; Threat=Eicar;\r\n", (Threat("Eicar", "virus", "blocked"),)),
        ("X-Infection-Found: Eicar\r\n", (Threat("Eicar"),)),
        ("X-Virus-ID: Eicar Test\r\n", (Threat("Eicar Test"),)),
        (
            "X-Virus-ID: a\r\nX-Violations-Found: 2\r\n\tf1\r\n\ta\r\n\t17\r\n\t2\r\n\tf2\r\n\tb\r\n\t0\r\n\t1\r\n",
            (Threat("a", "violation", "blocked", "f1"), Threat("b", "violation", "repaired", "f2")),
        ),
        ("X-Violations-Found: 3\r\n", (Threat("3"),)),
        ("X-Violations-Found: 0\r\n", ()),
        ("X-Violations-Found: none\r\n", (Threat("none"),)),
    ],
)
def test_what_was_found_is_told_in_one_form(fields: str, meaning: tuple[Threat, ...]) -> None:
    assert threats(head(told(more=fields))) == meaning

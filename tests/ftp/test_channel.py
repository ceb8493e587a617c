"""What a data connection carries, and which ones are expected."""

from __future__ import annotations

import pytest

from sslintercept.dialogue.watcher import Part, Terms
from sslintercept.facts import Action, Address, Decision, Scope
from sslintercept.ftp import channel as module
from sslintercept.ftp.channel import DataChannel, DataWatcher, Expectations, Expected
from sslintercept.testing.talk import PLAIN, Talk
from tests.mail.scripts import Script, every_cut

FILE = Part("ftp", "file", "a.txt", False, "alice")
HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"


def talk_of(channel: DataChannel, terms: Terms = PLAIN) -> Talk:
    return Talk(lambda wires, terms: DataWatcher(wires, terms, channel), terms)


def test_a_file_is_whole_when_its_connection_has_ended_and_the_server_said_so() -> None:
    for good in (True, False):
        channel = DataChannel()
        talk = talk_of(channel)
        channel.carries(FILE, False)
        talk.says(server=b"con").says(server=b"tent")
        talk.watcher.ended()
        assert (talk.client, talk.parts[0].content, talk.parts[0].whole) == (b"content", b"content", None)
        channel.over(good)
        assert talk.parts[0].whole is good


def test_an_empty_file_is_a_part_too() -> None:
    channel = DataChannel()
    talk = talk_of(channel)
    channel.carries(FILE, False)
    talk.watcher.ended()
    channel.over(True)
    assert [(kept.content, kept.whole) for kept in talk.parts] == [(b"", True)]


def test_whoever_waits_for_the_command_is_told_once_in_either_order() -> None:
    told: list[bool | None] = []
    early, late, vain = DataChannel(), DataChannel(), DataChannel()
    early.carries(FILE, True)
    for channel in (early, late, vain):
        channel.when_asked(lambda channel=channel: told.append(channel.protected))  # type: ignore[misc]  # a closure
    assert told == [True]
    late.carries(FILE, False)
    late.over(True)
    vain.over(False)
    vain.over(False)
    assert told == [True, False, None]


def test_bytes_that_pass_are_noticed() -> None:
    moved: list[int] = []
    talk = talk_of(DataChannel(lambda: moved.append(1)))
    talk.says(client=b"a", server=b"b").says(server=b"c")
    assert len(moved) == 3


def test_a_client_that_begins_with_tls_in_the_clear_is_not_handed_on() -> None:
    script: Script = [("C", HELLO)]
    for version in every_cut(script):
        channel = DataChannel()
        talk = talk_of(channel)
        channel.carries(FILE, False)
        # What follows is for whoever begins TLS; the test's stand-in gives nothing more to the watcher.
        talk.plays(version)
        talk.watcher.ended()
        assert (talk.upgraded, talk.server, talk.parts) == (True, b"", [])
        assert HELLO.startswith(talk.peeked)
        assert len(talk.peeked) >= 6


@pytest.mark.parametrize("content", [b"\x16\x03", b"\x16\x03\x09more", b"\x16", b"text", HELLO[:5]])
def test_a_file_that_only_looks_like_tls_at_first_is_handed_on_whole(content: bytes) -> None:
    for version in every_cut([("C", content)]):
        channel = DataChannel()
        talk = talk_of(channel)
        channel.carries(FILE, False)
        talk.plays(version)
        assert talk.watcher.client_ended()
        assert (talk.server, talk.parts[0].content, talk.upgraded) == (content, content, False)


def test_inside_of_tls_everything_is_content() -> None:
    channel = DataChannel()
    talk = talk_of(channel, Terms(secured=True)).says(client=HELLO)
    assert (talk.server, talk.upgraded) == (HELLO, False)


# what is expected

HERE, THERE = Address("192.0.2.7", 1025), Address("ftp.test", 1025)


def expected(until: float = 60.0) -> Expected:
    scope = Scope(Address("ftp.test", 21), Decision(Action.INTERCEPT, "r", "why"))
    return Expected(DataChannel(), scope, None, lambda: None, until)


def test_what_is_expected_comes_once_and_from_whom_it_was_told_of() -> None:
    expectations, one = Expectations(), expected()
    assert expectations.add("a", [HERE, THERE], one, 0.0)
    assert len(expectations) == 2
    assert expectations.take("b", HERE, 1.0) is None
    assert expectations.take("a", Address("192.0.2.7", 1026), 1.0) is None
    assert expectations.take("a", THERE, 1.0) is one
    assert expectations.take("a", HERE, 1.0) is None
    assert len(expectations) == 0


def test_what_comes_too_late_is_not_expected_any_more() -> None:
    expectations = Expectations()
    expectations.add("a", [HERE], expected(60.0), 0.0)
    assert expectations.take("a", HERE, 60.0) is None
    assert len(expectations) == 0


def test_what_will_not_come_is_forgotten_and_nothing_else() -> None:
    expectations, one, other = Expectations(), expected(), expected()
    expectations.add("a", [HERE, THERE], one, 0.0)
    expectations.add("a", [THERE], other, 0.0)
    assert len(expectations) == 2
    expectations.forget("a", one)
    expectations.forget("a", one)
    expectations.forget("b", one)
    assert len(expectations) == 1
    assert expectations.take("a", THERE, 1.0) is other


def test_a_client_that_expects_too_much_takes_nothing_from_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_OF_A_CLIENT", 2)
    expectations = Expectations()
    expectations.add("b", [HERE], expected(), 0.0)
    for port in range(5):
        assert expectations.add("a", [Address("x", port)], expected(), 0.0)
    assert len(expectations) == 3
    assert [expectations.take("a", Address("x", port), 1.0) is not None for port in range(5)] == [False] * 3 + [
        True
    ] * 2
    assert expectations.take("b", HERE, 1.0) is not None


def test_where_there_is_no_room_only_what_is_too_old_makes_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_EXPECTED", 2)
    expectations = Expectations()
    assert expectations.add("a", [HERE], expected(10.0), 0.0)
    assert expectations.add("b", [HERE], expected(60.0), 0.0)
    assert not expectations.add("c", [HERE], expected(60.0), 5.0)
    assert expectations.add("c", [HERE], expected(60.0), 10.0)
    assert expectations.take("b", HERE, 11.0) is not None

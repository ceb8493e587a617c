"""Stages in a row: what any of them changes, drops or holds, the receiver reads what is left, in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from sslintercept.errors import InterceptError
from sslintercept.facts import Side
from sslintercept.websocket.chain import STEP, Chain
from sslintercept.websocket.deflate import Deflate
from sslintercept.websocket.frame import BINARY, TEXT, Bytes, WebSocketError
from sslintercept.websocket.relay import Inspector, Relay
from sslintercept.websocket.stage import MessageStage, MessageStageError
from tests.websocket.reference import KEY, Message, Sender, frame, messages, senders, split
from tests.websocket.test_relay import said, terms


class Waits:
    """What a stage may do; it waits until the test says so."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Any, Callable[[Any], object]]] = []

    def wait(self, answer: Deferred[Any], decide: Callable[[Any], object]) -> None:
        self.waiting.append((answer, decide))

    def send(self, to: Side, message: str | bytes) -> None:
        raise NotImplementedError

    def close(self, code: int = 1000, reason: str = "") -> None:
        raise NotImplementedError

    def decide(self) -> None:
        answer, decide = self.waiting.pop(0)
        decide(answer.result)


class Scripted(MessageStage):
    """Does with each message what it was told: C{keep}, C{change} or C{drop}, at once or later."""

    def __init__(self, script: Sequence[tuple[str, bool]]) -> None:
        self.script = list(script)

    def answer(self, message: Any, mark: Any) -> Any:
        what, later = self.script.pop(0) if self.script else ("keep", False)
        answer = {"keep": message, "change": message + mark, "drop": None}[what]
        if not later:
            return answer
        waiting: Deferred[Any] = Deferred()
        waiting.callback(answer)
        return waiting

    def text(self, text: str, sender: Side) -> Any:
        return self.answer(text, "!")

    def binary(self, data: bytes, sender: Side) -> Any:
        return self.answer(data, b"!")


class Row:
    """A chain and what leaves it."""

    def __init__(self, *stages: MessageStage, masked: bool = False, deflate: Deflate | None = None) -> None:
        self.waits = Waits()
        self.out = bytearray()
        self.decided = 0
        for stage in stages:
            stage.conversation = self.waits
        self.chain = Chain(
            Side.CLIENT if masked else Side.UPSTREAM,
            [(f"s{at}", stage) for at, stage in enumerate(stages)],
            self.write,
            keys=(lambda: KEY) if masked else None,
            deflate=deflate,
            decided=self.note,
        )

    def write(self, data: Bytes) -> None:
        self.out += data

    def note(self) -> None:
        self.decided += 1

    def settle(self) -> None:
        while self.waits.waiting:
            before = self.decided
            self.waits.decide()
            assert self.decided == before + 1
            self.chain.settle()


SCRIPTS = st.lists(st.tuples(st.sampled_from(["keep", "keep", "change", "drop"]), st.booleans()), max_size=8)


@given(
    st.lists(SCRIPTS, min_size=1, max_size=3),
    st.lists(messages(), max_size=6),
    senders(),
    st.lists(st.integers(0, 400), max_size=6),
    st.booleans(),
)
def test_the_receiver_reads_what_the_stages_left(
    scripts: list[list[tuple[str, bool]]], sent: list[Message], sender: Sender, cuts: list[int], at_once: bool
) -> None:
    row = Row(*map(Scripted, scripts), masked=sender.masked, deflate=terms(sender))
    data = b"".join(map(sender.message, sent))
    for piece in split(data, cuts):
        row.chain.feed(memoryview(piece) if at_once else piece)
        if not at_once:
            row.settle()
    row.settle()
    assert row.chain.clear
    expected = []
    scripts = [list(script) for script in scripts]
    for message in sent:
        content: bytes | None = message.content
        for script in scripts:
            if content is not None:
                what = script.pop(0)[0] if script else "keep"
                content = {"keep": content, "change": content + b"!", "drop": None}[what]
        if content is not None:
            expected.append((message.opcode, content))
    assert said(bytes(row.out), sender) == expected
    assert row.chain.messages == len(sent)


def test_where_nobody_changes_anything_bytes_leave_as_they_came() -> None:
    sender = Sender(True, 15)
    data = b"".join(sender.message(Message(TEXT, b"again " * 20, True, cuts=(3,))) for _ in range(5))
    for step in (1, 5, len(data)):
        row = Row(MessageStage(), Scripted([]), MessageStage(), masked=True, deflate=Deflate())
        for at in range(0, len(data), step):
            row.chain.feed(data[at : at + step])
        assert row.out == data


def test_behind_a_held_message_at_most_a_step_is_in_the_relay_and_nothing_is_lost() -> None:
    row = Row(Scripted([("keep", True)] * 3000))
    data = frame(TEXT, b"x" * 100) * 3000
    row.chain.feed(data)
    assert not row.chain.clear
    link = row.chain._links[0]
    assert len(link._kept[0]) >= len(data) - STEP
    row.settle()
    assert row.out == data


def test_a_halted_chain_keeps_what_comes_until_it_is_settled() -> None:
    row = Row(MessageStage())
    data = frame(BINARY, b"x") * 10
    row.chain.halted = True
    row.chain.feed(data)
    row.chain.feed(data)
    assert not row.out
    row.chain.settle()
    assert not row.out
    row.chain.halted = False
    row.chain.settle()
    assert row.out == data * 2


def test_what_comes_behind_a_close_frame_is_not_kept() -> None:
    row = Row(MessageStage())
    row.chain.feed(frame(8, b"") + bytes(STEP) * 2)
    row.chain.feed(bytes(100))
    assert row.out == frame(8, b"")
    assert row.chain.clear
    assert not row.chain._links[0]._kept


class Raising(MessageStage):
    def __init__(self, error: Exception) -> None:
        self.error = error

    def text(self, text: str, sender: Side) -> str:
        raise self.error


def test_whoever_raised_is_named_even_behind_others() -> None:
    row = Row(MessageStage(), Raising(ValueError("secret")), MessageStage())
    with pytest.raises(MessageStageError, match=r"^s1: it failed \(ValueError\)") as caught:
        row.chain.feed(frame(TEXT, b"a"))
    assert isinstance(caught.value.__cause__, ValueError)


def test_what_was_raised_on_purpose_is_said_as_it_is() -> None:
    error = WebSocketError("too rude", code=1008, side=Side.UPSTREAM)
    with pytest.raises(WebSocketError, match="too rude"):
        Row(Raising(error)).chain.feed(frame(TEXT, b"a"))


def test_a_decision_that_makes_no_sense_is_the_stages_failure() -> None:
    class Twice:
        def __init__(self, relay: Relay) -> None:
            self.relay = relay

        def begin(self, opcode: int) -> None:
            self.relay.accept()
            self.relay.accept()

        def content(self, piece: Bytes) -> None:
            """Not reached."""

        def end(self) -> None:
            """Not reached."""

        def closing(self, code: int, reason: str) -> None:
            """Not reached."""

    class Confused(MessageStage):
        def inspect(self, relay: Relay, sender: Side) -> Inspector:
            return Twice(relay)

    with pytest.raises(MessageStageError, match="s0: it failed") as caught:
        Row(Confused()).chain.feed(frame(TEXT, b"a"))
    assert isinstance(caught.value.__cause__, InterceptError)

"""One direction: as it came where nobody changed it, and readable for the receiver whatever was changed."""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslintercept.errors import InterceptError
from sslintercept.facts import Side
from sslintercept.websocket.deflate import Deflate
from sslintercept.websocket.frame import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    POLICY,
    PONG,
    TEXT,
    TOO_BIG,
    Bytes,
    WebSocketError,
)
from sslintercept.websocket.relay import Relay
from tests.websocket.reference import KEY, Event, Message, Sender, frame, joined, messages, read, senders, split

OURS = b"\xaa\xbb\xcc\xdd"


@dataclass
class Decision:
    """What becomes of a message, and when: C{begin}, C{content}, C{end} or C{later}."""

    what: str = "accept"
    when: str = "begin"
    content: Sequence[bytes] = (b"other",)


@dataclass
class Direction:
    """A relay, an inspector that decides as it was told, and what came out."""

    masked: bool = False
    deflate: Deflate | None = None
    decisions: list[Decision] = field(default_factory=list)
    held: int = 1 << 20

    def __post_init__(self) -> None:
        self.out = b""
        self.writes: list[bytes] = []
        self.heard: list[Event] = []
        self.relay = Relay(
            lambda relay: self, self.write, keys=self.key if self.masked else None, deflate=self.deflate, held=self.held
        )
        self.decision: Decision | None = None

    def key(self) -> bytes:
        return OURS

    def write(self, data: Bytes) -> None:
        self.out += data
        self.writes.append(bytes(data))

    def begin(self, opcode: int) -> None:
        self.heard.append(("begin", opcode))
        self.decision = self.decisions.pop(0) if self.decisions else Decision()
        self.decide("begin")

    def content(self, piece: Bytes) -> None:
        self.heard.append(("content", bytes(piece)))
        self.decide("content")

    def end(self) -> None:
        self.heard.append(("end",))
        self.decide("content", "end")

    def closing(self, code: int, reason: str) -> None:
        self.heard.append(("close", code, reason))

    def decide(self, *now: str) -> None:
        decision = self.decision
        if decision is None or decision.when not in now:
            return
        self.decision = None
        if decision.what == "accept":
            self.relay.accept()
        elif decision.what == "drop":
            self.relay.drop()
        elif decision.what == "replace":
            self.relay.replace(b"".join(decision.content))
        else:
            *fragments, last = decision.content
            self.relay.change()
            for fragment in fragments:
                self.relay.fragment(fragment)
            self.relay.finish(last)

    def feed(self, *parts: Bytes) -> bytes:
        """Feed, decide what is left for later, and give what came out."""
        before = len(self.out)
        for part in parts:
            self.relay.feed(part)
            while not self.relay.flowing and self.decision is not None and self.decision.when == "later":
                self.decide("later")
        return self.out[before:]


def terms(sender: Sender) -> Deflate | None:
    bits = sender.bits
    return None if bits is None else Deflate(not sender.takeover, not sender.takeover, bits, bits)


def said(data: bytes, sender: Sender) -> list[tuple[int, bytes]]:
    """Opcode and content of the messages that a receiver reads there."""
    events, code = read(data, masked=sender.masked, bits=sender.bits, takeover=sender.takeover)
    assert code is None
    events = joined([event for event in events if event[0] in ("begin", "content")])
    found: list[tuple[int, bytes]] = []
    for kind, value, *_ in events:
        if kind == "begin":
            assert isinstance(value, int)
            found.append((value, b""))
        else:
            assert isinstance(value, bytes)
            found[-1] = (found[-1][0], value)
    return found


def frames(data: bytes, *, masked: bool = False) -> list[tuple[int, int]]:
    """First byte and length of every frame there, none above 125 bytes."""
    found, at = [], 0
    while at < len(data):
        size = data[at + 1] & 127
        found.append((data[at], size))
        at += 2 + size + (4 if masked else 0)
    return found


WHEN = st.sampled_from(["begin", "content", "end", "later"])
ACCEPTED = st.builds(Decision, when=WHEN)
CONTENTS = st.lists(st.sampled_from([b"", b"abc", b"0123456789" * 8, b"other"]), min_size=1, max_size=3)
DECISIONS = st.one_of(
    ACCEPTED, st.builds(Decision, st.sampled_from(["accept", "drop", "replace", "change"]), WHEN, CONTENTS)
)
CUTS = st.lists(st.integers(0, 600), max_size=8)


@given(sender=senders(), parts=st.lists(st.tuples(messages(), ACCEPTED), max_size=6), cuts=CUTS)
def test_what_is_only_looked_at_leaves_byte_for_byte_as_it_came(
    sender: Sender, parts: list[tuple[Message, Decision]], cuts: list[int]
) -> None:
    data = b"".join(sender.message(message) for message, _ in parts) + sender.frame(CLOSE, b"\x03\xe8bye")
    for pieces in (split(data, cuts), [data[at : at + 1] for at in range(len(data))]):
        direction = Direction(sender.masked, terms(sender), [decision for _, decision in parts])
        assert sorted(direction.feed(*pieces)) == sorted(data)  # a ping may overtake what is held
        assert said(direction.out, sender) == [(one.opcode, one.content) for one, _ in parts]
        if not any(message.pings for message, _ in parts):
            assert direction.out == data
        assert not direction.relay.flowing


@given(sender=senders(), parts=st.lists(st.tuples(messages(), DECISIONS), max_size=8), cuts=CUTS)
def test_a_receiver_reads_what_was_decided_whatever_came_before(
    sender: Sender, parts: list[tuple[Message, Decision]], cuts: list[int]
) -> None:
    data = b"".join(sender.message(message) for message, _ in parts)
    expected = [
        (message.opcode, message.content if decision.what == "accept" else b"".join(decision.content))
        for message, decision in parts
        if decision.what != "drop"
    ]
    direction = Direction(sender.masked, terms(sender), [decision for _, decision in parts])
    direction.feed(*split(data, cuts))
    assert said(direction.out, sender) == expected
    assert direction.relay.flowing


def compressed(*contents: bytes, bits: int = 9) -> list[bytes]:
    """Messages that are compressed in two blocks each, as ours never are; none above 125 bytes."""
    engine, out = zlib.compressobj(9, zlib.DEFLATED, -bits), []
    for content in contents:
        halves = content[:9], content[9:]
        payload = b"".join(engine.compress(half) + engine.flush(zlib.Z_SYNC_FLUSH) for half in halves)
        out.append(frame(BINARY, payload[:-4], rsv1=True))
    return out


TERMS = Deflate(server_max_window_bits=9)
SENDER = Sender(masked=False, bits=9)


@pytest.mark.parametrize("what", ["drop", "replace", "change"])
def test_out_of_step_messages_are_compressed_anew_until_the_windows_are_the_same(what: str) -> None:
    contents = [b"to be or not to be" + bytes([at]) * 100 for at in range(12)]
    data = compressed(*contents)
    engine = zlib.decompressobj(-9)
    with pytest.raises(zlib.error, match="too far back"):  # what the receiver would find if they passed as they came
        engine.decompress(data[1][2:] + b"\x00\x00\xff\xff")
    direction = Direction(False, TERMS, [Decision(what, content=[b"to ", b"see"])])
    out = [direction.feed(part) for part in data]
    # 118 bytes each: behind five of them the window of 512 holds nothing else.
    assert [ours == theirs for ours, theirs in zip(out, data, strict=True)] == [False] * 6 + [True] * 6
    first = [] if what == "drop" else [(BINARY, b"to see")]
    assert said(direction.out, SENDER) == first + [(BINARY, content) for content in contents[1:]]


def test_what_is_changed_while_out_of_step_begins_the_count_again() -> None:
    contents = [b"to be or not to be" + bytes([at]) * 100 for at in range(14)]
    data = compressed(*contents)
    direction = Direction(False, TERMS, [Decision("drop"), Decision(), Decision(), Decision("replace")])
    out = [direction.feed(part) for part in data]
    assert [ours == theirs for ours, theirs in zip(out, data, strict=True)] == [False] * 9 + [True] * 5
    kept = [(BINARY, content) for content in contents]
    assert said(direction.out, SENDER) == [*kept[1:3], (BINARY, b"other"), *kept[4:]]


def test_two_losses_of_step_far_apart_do_not_disturb_each_other() -> None:
    contents = [b"to be or not to be" + bytes([at]) * (100 + at) for at in range(20)]
    decisions = [Decision("drop"), *[Decision()] * 8, Decision("replace", content=[b"to see"])]
    direction = Direction(False, TERMS, decisions)
    direction.feed(*compressed(*contents))
    kept = [(BINARY, content) for content in contents]
    assert said(direction.out, SENDER) == [*kept[1:9], (BINARY, b"to see"), *kept[10:]]


def test_without_context_takeover_nothing_gets_out_of_step() -> None:
    data = [compressed(b"Hello, Hello")[0] for _ in range(4)]
    direction = Direction(False, Deflate(True, False, 9, 15), [Decision("drop"), Decision("replace")])
    assert direction.feed(data[0]) == b""
    assert said(direction.feed(data[1]), SENDER) == [(BINARY, b"other")]
    assert direction.out[0] == 0xC2
    assert direction.feed(*data[2:]) == b"".join(data[2:])


def test_what_came_without_compression_may_be_changed_and_all_stay_in_step() -> None:
    sender = Sender(masked=False, bits=9)
    data = [sender.message(Message(TEXT, b"Hello, Hello", compressed=at % 2 == 0)) for at in range(6)]
    direction = Direction(False, TERMS, [Decision(), Decision("drop"), Decision(), Decision("replace"), Decision()])
    out = [direction.feed(part) for part in data]
    assert out == [data[0], b"", data[2], frame(TEXT, b"other"), data[4], data[5]]


def test_messages_of_our_own_are_not_compressed_and_disturb_no_window() -> None:
    data = compressed(b"Hello, Hello", b"Hello, Hello")
    direction = Direction(False, TERMS)
    direction.feed(data[0])
    direction.relay.send_message(TEXT, b"Hello")
    assert direction.feed(data[1]) == data[1]
    assert direction.out == data[0] + frame(TEXT, b"Hello") + data[1]


def test_for_a_window_of_256_bytes_what_would_be_compressed_anew_goes_plain() -> None:
    contents = [b"Hello " * 60] * 8
    data = compressed(*contents)  # this compressor refers no further back than 250 bytes
    direction = Direction(False, Deflate(server_max_window_bits=8), [Decision(), Decision("replace")])
    out = [direction.feed(part) for part in data]
    assert out[0] == data[0]
    assert out[1] == frame(BINARY, b"other")
    assert out[2:] == [frame(BINARY, contents[0])] * 6


@pytest.mark.parametrize("when", ["begin", "end", "later"])
@pytest.mark.parametrize("masked", [False, True])
def test_a_message_compressed_anew_keeps_its_frames_and_the_content_of_each(when: str, masked: bool) -> None:
    sender = Sender(masked, bits=9)
    first = sender.message(Message(TEXT, b"Hello", compressed=True))
    engine = sender._engine
    pieces = [b"Hel", b"", b"lo, Hello"]
    flushed = [engine.compress(piece) + engine.flush(zlib.Z_SYNC_FLUSH) for piece in pieces]
    second = (
        sender.frame(TEXT, flushed[0], fin=False, rsv1=True)
        + sender.frame(CONTINUATION, b"", fin=False)
        + sender.frame(CONTINUATION, flushed[2], fin=False)
        + sender.frame(CONTINUATION, b"\x00")
    )
    for parts in ([first, second], [first, *(second[at : at + 1] for at in range(len(second)))]):
        direction = Direction(masked, terms(sender), [Decision("drop"), Decision(when=when)])
        out = direction.feed(*parts)
        if len(parts) == 2 or when != "begin":
            assert [first for first, _ in frames(out, masked=masked)] == [0x41, 0x00, 0x00, 0x80]
            theirs = zlib.decompressobj(-9)
            at, got = 0, []
            for _, size in frames(out, masked=masked):
                key = out[at + 2 : at + 6] if masked else bytes(4)
                at += 6 if masked else 2
                payload = bytes(byte ^ key[i % 4] for i, byte in enumerate(out[at : at + size]))
                got.append(theirs.decompress(payload))
                at += size
            assert got == [*pieces, b""]
        assert said(out, sender) == [(TEXT, b"Hello, Hello")]


def test_accepted_half_way_a_message_compressed_anew_goes_on_where_it_was() -> None:
    sender = Sender(masked=False, bits=9)
    first = sender.message(Message(TEXT, b"Hello", compressed=True))
    noise = bytes(range(200)) + b"Hello"
    second = sender.message(Message(BINARY, noise, compressed=True, cuts=[60, 130]))
    for cut in range(0, len(second), 3):
        direction = Direction(False, TERMS, [Decision("drop"), Decision(when="content")])
        direction.feed(first, second[:cut], second[cut:])
        assert said(direction.out, sender) == [(BINARY, noise)]


def test_nothing_is_left_of_a_message_that_was_held_and_dropped() -> None:
    for deflate, data in ((TERMS, compressed(b"first", b"second", b"third")), (None, [frame(TEXT, b"x")] * 3)):
        direction = Direction(False, deflate, [Decision("drop"), Decision("drop", "end"), Decision(when="end")])
        direction.feed(data[0], data[1][:-1], data[1][-1:], data[2])
        assert [content for _, content in said(direction.out, SENDER)] == [b"third" if deflate else b"x"]
        direction = Direction(False, deflate, [Decision("drop"), Decision("drop", "content"), Decision(when="end")])
        direction.feed(data[0], data[1][:-1], data[1][-1:], data[2])
        assert [content for _, content in said(direction.out, SENDER)] == [b"third" if deflate else b"x"]


def test_a_large_frame_compressed_anew_leaves_as_it_comes_in_several() -> None:
    sender = Sender(masked=False, bits=15)
    first = sender.message(Message(TEXT, b"Hello", compressed=True))
    content = random.Random(1).randbytes(50_000)
    parts = split(sender.message(Message(BINARY, content, compressed=True)), range(1000, 50_000, 1000))
    direction = Direction(False, Deflate(), [Decision("drop")])
    direction.feed(first)
    for at, part in enumerate(parts):
        assert len(direction.feed(part)) > 900 or at < 2
    assert said(direction.out, Sender(False, bits=15)) == [(BINARY, content)]


def test_an_accepted_message_is_not_held() -> None:
    data = frame(TEXT, b"Hello", fin=False, key=KEY) + frame(CONTINUATION, b"!", key=KEY)
    direction = Direction(masked=True)
    for at in range(len(data)):
        direction.feed(data[at : at + 1])
        if at + 1 not in (1, 2, 3, 4, 5, 12, 13, 14, 15, 16):  # inside of a head
            assert direction.out == data[: at + 1]


def test_nothing_is_read_while_a_message_waits_for_its_inspector() -> None:
    first, second = frame(TEXT, b"first"), frame(TEXT, b"second")
    direction = Direction(decisions=[Decision(when="never"), Decision("replace", "never")])
    direction.feed(first + second)
    assert (direction.out, direction.relay.flowing) == (b"", False)
    direction.relay.feed(frame(PING, b""))  # kept
    direction.relay.accept()
    assert (direction.out, direction.relay.flowing) == (first, False)
    direction.relay.change()
    direction.relay.fragment(b"an")
    assert not direction.relay.flowing
    direction.relay.send_message(BINARY, b"added")
    direction.relay.finish(b"other")
    expected = frame(TEXT, b"an", fin=False) + frame(CONTINUATION, b"other") + frame(BINARY, b"added")
    assert direction.out == first + expected + frame(PING, b"")
    assert direction.relay.flowing


def test_a_message_may_be_changed_while_it_comes() -> None:
    class Shouting(Direction):
        def begin(self, opcode: int) -> None:
            self.relay.change()

        def content(self, piece: Bytes) -> None:
            self.relay.fragment(bytes(piece).upper())

        def end(self) -> None:
            self.relay.finish()

    direction = Shouting()
    assert direction.feed(frame(TEXT, b"hel", fin=False)) == frame(TEXT, b"HEL", fin=False)
    assert direction.feed(frame(CONTINUATION, b"lo")) == frame(0, b"LO", fin=False) + frame(0, b"")
    assert direction.feed(frame(TEXT, b"!")) == frame(TEXT, b"!", fin=False) + frame(0, b"")


def test_what_was_dropped_or_replaced_is_heard_of_no_more() -> None:
    for what in ("drop", "replace"):
        direction = Direction(decisions=[Decision(what, "content")])
        direction.feed(frame(TEXT, b"a", fin=False), frame(CONTINUATION, b"b", fin=False), frame(CONTINUATION, b"c"))
        assert direction.heard == [("begin", TEXT), ("content", b"a")]
        assert direction.out == (b"" if what == "drop" else frame(TEXT, b"other"))


def test_a_message_that_nobody_accepts_is_held_up_to_a_limit() -> None:
    for sender, content in ((Sender(True), bytes(2000)), (Sender(False, bits=9), bytes(2000))):
        message = Message(BINARY, content, compressed=True)
        first, second, third = (sender.message(message) for _ in range(3))
        decisions = [Decision("drop"), Decision(when="end")]
        room = 64 + len(second) if sender.masked else 2000 + 64
        Direction(sender.masked, terms(sender), list(decisions), held=room).feed(first, second, third)
        direction = Direction(sender.masked, terms(sender), list(decisions), held=room - 1)
        direction.feed(first)
        with pytest.raises(WebSocketError, match="nobody accepted") as caught:
            direction.feed(second)
        assert caught.value.code == TOO_BIG
        assert caught.value.side is (Side.CLIENT if sender.masked else Side.UPSTREAM)
        assert direction.out == b""


def test_frames_without_content_are_not_held_without_a_limit() -> None:
    direction = Direction(decisions=[Decision(when="end")], held=6400)
    direction.feed(frame(TEXT, b"", fin=False))
    for _ in range(95):
        direction.feed(frame(CONTINUATION, b"", fin=False))
    with pytest.raises(WebSocketError):
        direction.feed(frame(CONTINUATION, b"", fin=False))


def test_pings_and_pongs_pass_a_message_that_is_held() -> None:
    direction = Direction(masked=True, decisions=[Decision(when="end")])
    ping, pong = frame(PING, b"1", key=KEY), frame(PONG, b"2", key=KEY)
    assert direction.feed(frame(TEXT, b"a", fin=False, key=KEY), ping, pong) == ping + pong
    assert direction.feed(frame(CONTINUATION, b"b", key=KEY)) == (
        frame(TEXT, b"a", fin=False, key=KEY) + frame(CONTINUATION, b"b", key=KEY)
    )


def test_a_close_frame_passes_and_whatever_is_decided_later_leads_to_nothing() -> None:
    close = frame(CLOSE, b"\x03\xe8bye", key=KEY)
    for what in ("accept", "drop", "replace", "change"):
        direction = Direction(masked=True, decisions=[Decision(what, "end")])
        assert direction.feed(frame(TEXT, b"a", fin=False, key=KEY), close + b"more") == close
        assert direction.heard == [("begin", TEXT), ("content", b"a"), ("close", 1000, "bye")]
        direction.decide("end")
        assert (direction.out, direction.relay.flowing) == (close, False)


def test_what_we_add_comes_with_our_keys_where_a_frame_may_be() -> None:
    data = frame(TEXT, b"Hello", key=KEY)
    direction = Direction(masked=True)
    direction.relay.send_control(PING, b"1")
    direction.feed(data[:8])
    direction.relay.send_control(PONG)
    direction.relay.send_message(TEXT, b"behind")
    assert not direction.relay.send_close(POLICY, "no")
    direction.feed(data[8:])
    ping, pong = frame(PING, b"1", key=OURS), frame(PONG, b"", key=OURS)
    assert direction.out == ping + data + pong + frame(CLOSE, b"\x03\xf0no", key=OURS)
    assert direction.relay.send_close(POLICY)


def test_a_message_is_added_before_one_that_is_held() -> None:
    direction = Direction(decisions=[Decision(when="end")])
    direction.feed(frame(TEXT, b"a", fin=False))
    direction.relay.send_message(TEXT, b"before")
    direction.feed(frame(CONTINUATION, b"b"))
    assert said(direction.out, SENDER) == [(TEXT, b"before"), (TEXT, b"ab")]


def test_a_decision_belongs_to_a_message_and_is_made_once() -> None:
    direction = Direction(decisions=[Decision()])
    for decide in (direction.relay.accept, direction.relay.drop, direction.relay.change):
        with pytest.raises(InterceptError, match="between messages"):
            decide()
    direction.feed(frame(TEXT, b"a", fin=False))
    for decide in (direction.relay.accept, direction.relay.drop, direction.relay.change, direction.relay.finish):
        with pytest.raises(InterceptError, match="after a message was accepted"):
            decide()
    with pytest.raises(InterceptError, match="while a message is being changed"):
        direction.relay.fragment(b"")

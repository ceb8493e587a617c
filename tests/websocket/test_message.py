"""Messages out of frames and back: against a slow second reader, at any cut, with anything changed (RFC 6455, 7692)."""

from __future__ import annotations

import tracemalloc
import zlib
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslintercept.errors import InterceptError
from sslintercept.facts import Side
from sslintercept.websocket.deflate import Deflate, Deflater
from sslintercept.websocket.frame import (
    BAD_DATA,
    BINARY,
    CLOSE,
    CONTINUATION,
    NO_STATUS,
    NORMAL,
    PING,
    PONG,
    PROTOCOL_ERROR,
    TEXT,
    TOO_BIG,
    Bytes,
    WebSocketError,
)
from sslintercept.websocket.message import MAX_WAITING, MessageReader, MessageWriter
from tests.websocket.reference import KEY, KEYS, Event, Message, Sender, frame, joined, messages, read, senders, split


class Noting:
    """Writes down what it hears, and puts together what came."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.raw = b""

    def begin(self, opcode: int, compressed: bool) -> None:
        self.events.append(("begin", opcode, compressed))

    def content(self, piece: Bytes) -> None:
        assert piece
        self.events.append(("content", bytes(piece)))

    def frame(self, raw: Bytes, left: int, fin: bool) -> None:
        self.raw += raw

    def end(self) -> None:
        self.events.append(("end",))

    def control(self, opcode: int, payload: bytes, raw: bytes) -> None:
        self.events.append(("control", opcode, payload))
        self.raw += raw

    def closing(self, code: int, reason: str, raw: bytes) -> None:
        self.events.append(("close", code, reason))
        self.raw += raw


def terms(sender: Sender) -> Deflate | None:
    bits = sender.bits
    return None if bits is None else Deflate(not sender.takeover, not sender.takeover, bits, bits)


def hear(
    parts: Sequence[Bytes], *, masked: bool = False, deflate: Deflate | None = None, limit: int = 1 << 20
) -> tuple[list[Event], int | None, bytes]:
    noting = Noting()
    reader = MessageReader(noting, masked=masked, deflate=deflate, limit=limit)
    try:
        for part in parts:
            reader.feed(part)
    except WebSocketError as error:
        return joined(noting.events), error.code, noting.raw
    return joined(noting.events), None, noting.raw


HELLO = [("begin", TEXT, True), ("content", b"Hello"), ("end",)]


@pytest.mark.parametrize(
    ("example", "events"),
    [
        pytest.param("c1 07 f2 48 cd c9 c9 07 00", HELLO, id="one block (7692 7.2.3.1)"),
        pytest.param("41 03 f2 48 cd 80 04 c9 c9 07 00", HELLO, id="in fragments (7692 7.2.3.1)"),
        pytest.param("c1 07 f2 48 cd c9 c9 07 00 c1 05 f2 00 11 00 00", HELLO * 2, id="one window (7692 7.2.3.2)"),
        pytest.param("c1 0b 00 05 00 fa ff 48 65 6c 6c 6f 00", HELLO, id="stored (7692 7.2.3.3)"),
        pytest.param("c1 08 f3 48 cd c9 c9 07 00 00", HELLO, id="a last block (7692 7.2.3.4)"),
        pytest.param("c1 0d f2 48 05 00 00 00 ff ff ca c9 c9 07 00", HELLO, id="two blocks (7692 7.2.3.5)"),
        pytest.param(
            "81 05 48 65 6c 6c 6f c1 07 f2 48 cd c9 c9 07 00",
            [("begin", TEXT, False), *HELLO[1:], *HELLO],
            id="one without compression before (7692 6)",
        ),
        pytest.param("c2 00", [("begin", BINARY, True), ("end",)], id="compressed to nothing"),
    ],
)
def test_the_examples_of_the_rfc_are_read_at_every_cut_and_in_single_bytes(example: str, events: list[Event]) -> None:
    data = bytes.fromhex(example)
    assert joined(read(data, masked=False, bits=15)[0]) == events
    for cut in range(len(data) + 1):
        assert hear([data[:cut], data[cut:]], deflate=Deflate()) == (events, None, data)
    assert hear([data[at : at + 1] for at in range(len(data))], deflate=Deflate()) == (events, None, data)


def test_control_frames_are_heard_between_the_fragments_they_came_between() -> None:
    parts = [frame(TEXT, b"a", fin=False), frame(PING, b"1"), frame(CONTINUATION, b"b"), frame(PONG, b"")]
    assert hear([b"".join(parts)]) == (
        [
            ("begin", TEXT, False),
            ("content", b"a"),
            ("control", PING, b"1"),
            ("content", b"b"),
            ("end",),
            ("control", PONG, b""),
        ],
        None,
        b"".join(parts),
    )


@pytest.mark.parametrize(
    ("payload", "event"),
    [
        (b"", ("close", NO_STATUS, "")),
        (b"\x03\xe8", ("close", NORMAL, "")),
        (b"\x0b\xb8" + "schön".encode(), ("close", 3000, "schön")),
        (b"\x03\xf3" + b"x" * 123, ("close", 1011, "x" * 123)),
    ],
)
def test_after_a_close_frame_nothing_is_heard(payload: bytes, event: Event) -> None:
    data = frame(TEXT, b"a", fin=False, key=KEY) + frame(CLOSE, payload, key=KEY)
    before = [("begin", TEXT, False), ("content", b"a")]
    assert hear([data + b"\xff\xff", b"\xff\xff"], masked=True) == ([*before, event], None, data)


def test_a_close_frame_says_only_codes_that_exist() -> None:
    good = {*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)}
    for code in (*range(5100), 0x7FFF, 0x8000, 0xFFFF):
        expected = None if code in good else PROTOCOL_ERROR
        assert hear([frame(CLOSE, code.to_bytes(2, "big"))])[1] == expected
    assert hear([frame(CLOSE, b"\x03")])[1] == PROTOCOL_ERROR
    assert hear([frame(CLOSE, b"\x03\xe8\xff")])[1] == BAD_DATA
    assert hear([frame(CLOSE, b"\x03\xe8\xc3")])[1] == BAD_DATA


INVALID = [  # the last byte is the first that cannot be in a text (RFC 3629 4)
    pytest.param("80", id="a continuation first"),
    pytest.param("c1", id="an overlong one"),
    pytest.param("c3 28", id="no continuation"),
    pytest.param("e0 9f", id="an overlong one of three bytes"),
    pytest.param("ed a0", id="a surrogate"),
    pytest.param("f0 8f", id="an overlong one of four bytes"),
    pytest.param("f4 90", id="above U+10FFFF"),
    pytest.param("f5", id="far above"),
    pytest.param("e2 82 28", id="no third byte"),
    pytest.param("f0 9f 98 28", id="no fourth byte"),
]


@pytest.mark.parametrize("wrong", INVALID)
@pytest.mark.parametrize("compressed", [False, True])
def test_a_text_fails_at_its_first_wrong_byte(wrong: str, compressed: bool) -> None:
    text = "Grüße, ".encode() + bytes.fromhex(wrong)
    payload = Deflater(15).fragment(text) if compressed else text
    deflate = Deflate() if compressed else None
    for cut in range(len(payload)):
        data = frame(TEXT, payload[:cut], fin=False, rsv1=compressed) + frame(CONTINUATION, payload[cut:], fin=False)
        assert hear([data], deflate=deflate)[1] == BAD_DATA
        assert hear([data[at : at + 1] for at in range(len(data))], deflate=deflate)[1] == BAD_DATA
    data = frame(TEXT, text[:-1] + b"more", fin=False)
    assert hear([data[: len(text) + 1]])[1] is None
    assert hear([frame(BINARY, text)])[1] is None


def test_a_text_must_not_end_inside_a_character_but_a_fragment_may() -> None:
    euro = "€".encode()
    fragments = frame(TEXT, euro[:1], fin=False) + frame(CONTINUATION, euro[1:2], fin=False)
    assert hear([fragments + frame(CONTINUATION, euro[2:])])[1] is None
    events, code, raw = hear([fragments + frame(CONTINUATION, b"")])
    with pytest.raises(WebSocketError, match="inside a character") as caught:
        MessageReader(Noting(), masked=True).feed(frame(TEXT, euro[:1], key=KEY))
    assert caught.value.side is Side.CLIENT
    assert (code, raw) == (BAD_DATA, fragments)  # of the last frame nothing was given away
    assert events[-1] != ("end",)


def test_a_message_above_the_limit_is_an_error_before_its_bytes_come() -> None:
    first, second = frame(BINARY, bytes(60), fin=False), frame(CONTINUATION, bytes(41))
    assert hear([first, second[:1]], limit=100)[1] is None
    assert hear([first, second[:2]], limit=100)[1] == TOO_BIG
    assert hear([first, frame(CONTINUATION, bytes(40)), first], limit=100)[1] is None


def test_what_a_message_decompresses_to_counts() -> None:
    data = frame(BINARY, Deflater(15).end(bytes(101)), rsv1=True)
    assert hear([data], deflate=Deflate(), limit=100)[1] == TOO_BIG
    assert hear([data], deflate=Deflate(), limit=101)[1] is None


def test_a_bomb_in_many_frames_is_refused_and_takes_no_memory() -> None:
    engine = zlib.compressobj(9, zlib.DEFLATED, -15)
    payload = b"".join(engine.compress(bytes(1 << 20)) for _ in range(200)) + engine.flush(zlib.Z_SYNC_FLUSH)
    data = b"".join(
        frame(0 if at else BINARY, payload[at : at + 100], fin=False, rsv1=not at) for at in range(0, 200_000, 100)
    )

    class Silent(Noting):
        def content(self, piece: Bytes) -> None: ...

        def frame(self, raw: Bytes, left: int, fin: bool) -> None: ...

    reader = MessageReader(Silent(), masked=False, deflate=Deflate())
    tracemalloc.start()
    with pytest.raises(WebSocketError) as caught:
        [reader.feed(part) for part in split(data, range(0, len(data), 65536))]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert caught.value.code == TOO_BIG
    assert peak < 1 << 20


CONVERSATION = st.lists(messages(), max_size=5)
CUTS = st.lists(st.integers(0, 400), max_size=8)


@given(sender=senders(), said=CONVERSATION, cuts=CUTS)
def test_a_conversation_is_heard_as_the_slow_reader_hears_it_whatever_the_cuts(
    sender: Sender, said: list[Message], cuts: list[int]
) -> None:
    data = b"".join(map(sender.message, said)) + sender.frame(CLOSE, b"\x03\xe8bye")
    events, code = read(data, masked=sender.masked, bits=sender.bits, takeover=sender.takeover)
    assert code is None
    said_events = joined([event for event in events if event[0] in ("begin", "content")])
    assert [event[1] for event in said_events if event[0] == "content"] == [one.content for one in said if one.content]
    for parts in ([data], split(data, cuts), [data[at : at + 1] for at in range(len(data))]):
        got = hear(parts, masked=sender.masked, deflate=terms(sender))
        assert got == (joined(events), None, data)


@given(
    sender=senders(),
    said=CONVERSATION,
    changes=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 2), st.binary(max_size=3)), min_size=1, max_size=3),
    cuts=CUTS,
)
def test_whatever_is_changed_is_heard_or_refused_as_by_the_slow_reader(
    sender: Sender, said: list[Message], changes: list[tuple[int, int, bytes]], cuts: list[int]
) -> None:
    data = b"".join(map(sender.message, said)) + sender.frame(CLOSE, b"\x03\xe8bye")
    for at, gone, more in changes:
        data = data[:at] + more + data[at + gone :]
    events, code = read(data, masked=sender.masked, bits=sender.bits, takeover=sender.takeover)
    heard = joined(events)
    for parts in ([data], split(data, cuts), [data[at : at + 1] for at in range(len(data))]):
        got, refused, raw = hear(parts, masked=sender.masked, deflate=terms(sender), limit=2**63 - 1)
        assert refused == code
        assert data.startswith(raw)
        if code is None:
            assert got == heard
        else:  # what came in the same piece as the error is not given
            assert got[:-1] == heard[: max(0, len(got) - 1)]


def written(keys: bytes | None = None, deflater: Deflater | None = None) -> tuple[MessageWriter, list[bytes]]:
    out: list[bytes] = []
    make = None if keys is None else lambda: keys
    return MessageWriter(lambda data: out.append(bytes(data)), keys=make, deflater=deflater), out


@pytest.mark.parametrize("key", [None, KEY])
def test_a_message_is_one_frame_or_as_many_as_it_was_given_in(key: bytes | None) -> None:
    writer, out = written(key)
    writer.message(TEXT, b"whole")
    writer.begin(BINARY)
    writer.end(b"whole, too")
    writer.begin(TEXT)
    writer.fragment(b"a")
    writer.control(PING, b"now")
    writer.fragment(b"")
    writer.end()
    assert out == [
        frame(TEXT, b"whole", key=key),
        frame(BINARY, b"whole, too", key=key),
        frame(TEXT, b"a", fin=False, key=key),
        frame(PING, b"now", key=key),
        frame(CONTINUATION, b"", fin=False, key=key),
        frame(CONTINUATION, b"", key=key),
    ]


def test_every_frame_to_a_server_has_a_key_of_its_own() -> None:
    keys, out = iter([b"\0\0\0\1", b"\0\0\0\2", b"\0\0\0\3"]), bytearray()
    writer = MessageWriter(out.extend, keys=lambda: next(keys))
    writer.begin(TEXT)
    writer.fragment(b"a")
    writer.control(PONG, b"")
    writer.end(b"b")
    assert [out[at : at + 4] for at in (2, 9, 15)] == [b"\0\0\0\1", b"\0\0\0\2", b"\0\0\0\3"]


def test_a_compressed_message_is_marked_in_its_first_frame_and_one_may_go_without() -> None:
    writer, out = written(deflater=Deflater(15, level=6))
    writer.message(TEXT, b"Hello", compressed=True)
    writer.message(TEXT, b"Hello")
    writer.begin(TEXT, compressed=True)
    writer.fragment(b"Hel")
    writer.end(b"lo")
    assert [part[0] for part in out] == [0xC1, 0x81, 0x41, 0x80]
    assert out[0] == bytes.fromhex("c1 07 f2 48 cd c9 c9 07 00")
    plain = [("begin", TEXT, False), *HELLO[1:]]
    assert joined(read(b"".join(out), masked=False, bits=15)[0]) == HELLO + plain + HELLO


def test_without_a_compressor_messages_go_plain() -> None:
    writer, out = written()
    writer.message(TEXT, b"Hello", compressed=True)
    assert out == [frame(TEXT, b"Hello")]


def test_what_is_added_waits_for_the_end_of_the_frame_or_the_message_that_passes() -> None:
    first, last = frame(TEXT, b"Hello", fin=False, key=KEY), frame(CONTINUATION, b"!", key=KEY)
    writer, out = written(KEY)
    writer.relay(first[:3], 5, False)
    writer.control(PING, b"1")
    writer.relay_control(frame(PONG, b"2", key=KEY))
    writer.message(TEXT, b"behind")
    writer.message(TEXT, b"and again")
    assert out == [first[:3]]
    writer.relay(first[3:], 0, False)
    assert out[1:] == [first[3:], frame(PING, b"1", key=KEY), frame(PONG, b"2", key=KEY)]
    writer.control(PING, b"3")
    assert out[4:] == [frame(PING, b"3", key=KEY)]
    writer.relay(last, 0, True)
    assert out[5:] == [last, frame(TEXT, b"behind", key=KEY), frame(TEXT, b"and again", key=KEY)]


def test_what_waits_is_bounded_also_if_it_is_empty() -> None:
    for size in (0, 1000):
        writer, out = written()
        writer.relay(frame(BINARY, b"a", fin=False), 0, False)
        count = MAX_WAITING // (size + 64)
        for _ in range(count):
            writer.message(BINARY, bytes(size))
        with pytest.raises(InterceptError, match="bytes behind a message"):
            writer.message(BINARY, bytes(size))
        writer.relay(frame(CONTINUATION, b"b", fin=False), 0, False)
        writer.relay(frame(CONTINUATION, b"c"), 0, True)
        assert len(out) == count + 3
        writer.begin(BINARY)
        writer.message(BINARY, bytes(size))  # there is room again
    writer, out = written()
    writer.relay(b"\x82\x05", 5, True)
    for _ in range(MAX_WAITING // 66):
        writer.control(PING, b"")
    with pytest.raises(InterceptError, match="bytes behind a message"):
        writer.control(PING, b"")
    writer.relay(b"Hello", 0, True)
    writer.relay(b"\x82\x05", 5, True)
    writer.control(PING, b"")  # there is room again


def test_a_close_frame_is_the_last_one() -> None:
    writer, out = written()
    writer.begin(TEXT)
    writer.fragment(b"a")
    assert writer.close(1001, "gone")
    assert writer.closed
    writer.end(b"b")
    writer.message(TEXT, b"c")
    writer.control(PING, b"d")
    writer.relay(frame(TEXT, b"e"), 0, True)
    assert writer.close()
    assert out == [frame(TEXT, b"a", fin=False), frame(CLOSE, b"\x03\xe9gone")]


def test_a_close_frame_waits_for_the_end_of_a_frame_and_says_so() -> None:
    writer, out = written()
    writer.relay(b"\x81\x05He", 3, True)
    writer.control(PING, b"")
    assert not writer.close()
    writer.control(PING, b"too late")
    writer.relay(b"llo", 0, True)
    assert writer.closed
    assert out == [b"\x81\x05He", b"llo", frame(PING, b""), frame(CLOSE, b"")]


def test_a_long_reason_is_cut_between_characters() -> None:
    writer, out = written()
    writer.close(1008, "x" * 121 + "€")
    assert out == [frame(CLOSE, b"\x03\xf0" + b"x" * 121)]


@pytest.mark.parametrize("code", [0, 999, 1004, 1006, 1015, 2999, 5000])
def test_codes_that_no_close_frame_may_carry_are_not_written(code: int) -> None:
    writer, out = written()
    with pytest.raises(InterceptError, match="report"):
        writer.close(code)
    assert out == []


def test_messages_are_written_one_after_the_other() -> None:
    writer, _ = written()
    with pytest.raises(InterceptError):
        writer.fragment(b"of nothing")
    writer.begin(TEXT)
    with pytest.raises(InterceptError):
        writer.begin(TEXT)


@given(
    said=st.lists(st.tuples(messages(), st.booleans()), max_size=5),
    key=st.one_of(st.none(), KEYS),
    bits=st.sampled_from([9, 15]),
    takeover=st.booleans(),
)
def test_what_is_written_is_read_again(
    said: list[tuple[Message, bool]], key: bytes | None, bits: int, takeover: bool
) -> None:
    writer, out = written(key, Deflater(bits, takeover=takeover))
    expected: list[Event] = []
    for message, whole in said:
        expected += [("begin", message.opcode, message.compressed), ("content", message.content), ("end",)]
        if whole:
            writer.message(message.opcode, message.content, compressed=message.compressed)
        else:
            *fragments, last = split(message.content, message.cuts)
            writer.begin(message.opcode, compressed=message.compressed)
            for fragment in fragments:
                writer.fragment(fragment)
            writer.end(last)
    data, masked = b"".join(out), key is not None
    assert joined(read(data, masked=masked, bits=bits, takeover=takeover)[0]) == joined(expected)
    assert hear([data], masked=masked, deflate=Deflate(not takeover, not takeover, bits, bits))[0] == joined(expected)

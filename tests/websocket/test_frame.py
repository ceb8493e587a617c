"""Frames: what each says, everything that must not pass for one, and that size costs no memory (RFC 6455 5)."""

import itertools
import tracemalloc
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslintercept.errors import InterceptError
from sslintercept.facts import Side
from sslintercept.websocket.frame import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    PROTOCOL_ERROR,
    TEXT,
    TOO_BIG,
    Bytes,
    FrameReader,
    WebSocketError,
    mask,
    write_frame,
)
from tests.websocket import reference
from tests.websocket.reference import KEY, KEYS

Frame = tuple[int, bool, bool, bytes]

EXAMPLES = [  # RFC 6455 5.7
    pytest.param("81 05 48 65 6c 6c 6f", [(TEXT, True, False, b"Hello")], id="a text"),
    pytest.param("81 85 37 fa 21 3d 7f 9f 4d 51 58", [(TEXT, True, False, b"Hello")], id="a masked text"),
    pytest.param(
        "01 03 48 65 6c 80 02 6c 6f",
        [(TEXT, False, False, b"Hel"), (CONTINUATION, True, False, b"lo")],
        id="a text in fragments",
    ),
    pytest.param("89 05 48 65 6c 6c 6f", [(PING, True, False, b"Hello")], id="a ping"),
    pytest.param("8a 85 37 fa 21 3d 7f 9f 4d 51 58", [(PONG, True, False, b"Hello")], id="a masked pong"),
    pytest.param("82 7e 01 00" + "ab" * 256, [(BINARY, True, False, b"\xab" * 256)], id="256 bytes"),
    pytest.param("82 7f 00 00 00 00 00 01 00 00" + "ab" * 65536, [(BINARY, True, False, b"\xab" * 65536)], id="64 KiB"),
    pytest.param("81 00", [(TEXT, True, False, b"")], id="empty"),
    pytest.param("82 80 37 fa 21 3d", [(BINARY, True, False, b"")], id="empty and masked"),
]

WHOLE = (TEXT, True, False, b"a")
BEGUN = (TEXT, False, False, b"a")
MORE = (CONTINUATION, False, False, b"")
LAST = (CONTINUATION, True, False, b"")

BAD = [  # frames, and the beginning of a head without mask whose last byte makes it wrong
    pytest.param([], "91 00", "reserved bit", id="RSV3 (5.2)"),
    pytest.param([], "a1 00", "reserved bit", id="RSV2 (5.2)"),
    pytest.param([], "c1 00", "reserved bit", id="RSV1 that was not negotiated (5.2)"),
    pytest.param([], "83 00", "reserved opcode 3", id="opcode 3 (5.2)"),
    pytest.param([], "87 00", "reserved opcode 7", id="opcode 7 (5.2)"),
    pytest.param([], "8b 00", "reserved opcode 11", id="opcode 11 (5.2)"),
    pytest.param([], "8f 00", "reserved opcode 15", id="opcode 15 (5.2)"),
    pytest.param([], "09 00", "control frame in fragments", id="a fragmented ping (5.5)"),
    pytest.param([BEGUN], "08 00", "control frame in fragments", id="a fragmented close (5.5)"),
    pytest.param([], "89 7e", "control frame above 125", id="a ping of 126 bytes (5.5)"),
    pytest.param([BEGUN], "88 7f", "control frame above 125", id="a close of 64 KiB (5.5)"),
    pytest.param([], "80 00", "continuation of nothing", id="a continuation at the beginning (5.4)"),
    pytest.param([WHOLE], "00 00", "continuation of nothing", id="a continuation of a whole message (5.4)"),
    pytest.param([BEGUN, LAST], "80 00", "continuation of nothing", id="a continuation after the last one (5.4)"),
    pytest.param([BEGUN], "81 00", "new message inside", id="a text inside a fragmented one (5.4)"),
    pytest.param([BEGUN, MORE], "02 00", "new message inside", id="a binary one inside another (5.4)"),
    pytest.param([], "82 7e 00 7d", "longer than needed", id="125 in two bytes (5.2)"),
    pytest.param([], "82 7f 00 00 00 00 00 00 ff ff", "longer than needed", id="65535 in eight bytes (5.2)"),
    pytest.param([], "82 7f 80 00 00 00 00 00 00 00", "above 2", id="2**63 bytes (5.2)"),
]


class Noting:
    """Puts frames together again."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.unfinished = b""
        self.raw = b""
        self.left: list[int] = []

    def begin(self, opcode: int, fin: bool, rsv1: bool, length: int) -> None:
        assert self.left[-1:] in ([], [0])
        self.head, self.unfinished, self.length = (opcode, fin, rsv1), b"", length

    def piece(self, payload: Bytes, raw: Bytes, left: int) -> None:
        self.unfinished += payload
        self.raw += raw
        self.left.append(left)
        assert len(self.unfinished) + left == self.length
        if not left:
            self.frames.append((*self.head, self.unfinished))


def feed(reader: FrameReader, parts: Sequence[Bytes]) -> None:
    for part in parts:
        reader.feed(part)


def read(parts: Sequence[Bytes], *, masked: bool, deflated: bool = False) -> list[Frame]:
    noting = Noting()
    reader = FrameReader(noting, masked=masked, deflated=deflated)
    feed(reader, parts)
    assert noting.raw == b"".join(parts)
    return noting.frames


def cut_everywhere(data: bytes) -> list[list[bytes]]:
    splits = [[data[:cut], data[cut:]] for cut in range(min(len(data), 300) + 1)]
    return [[data], [data[at : at + 1] for at in range(len(data))], *splits]


def written(frames: Sequence[Frame], key: bytes | None) -> bytes:
    return b"".join(reference.frame(op, payload, fin=fin, rsv1=rsv1, key=key) for op, fin, rsv1, payload in frames)


@pytest.mark.parametrize(("example", "frames"), EXAMPLES)
def test_the_examples_of_the_rfc_are_read_whole_at_every_cut_and_in_single_bytes(
    example: str, frames: list[Frame]
) -> None:
    data = bytes.fromhex(example)
    for parts in cut_everywhere(data):
        assert read(parts, masked=data[1] >= 0x80) == frames


@pytest.mark.parametrize(("example", "frames"), EXAMPLES)
def test_the_examples_of_the_rfc_are_written(example: str, frames: list[Frame]) -> None:
    data = bytes.fromhex(example)
    key = KEY if data[1] >= 0x80 else None
    assert b"".join(write_frame(op, payload, fin=fin, rsv1=rsv1, key=key) for op, fin, rsv1, payload in frames) == data
    assert written(frames, key) == data


@pytest.mark.parametrize(("frames", "head", "why"), BAD)
@pytest.mark.parametrize("key", [None, KEY])
def test_what_is_no_frame_is_an_error_at_that_byte_however_it_comes(
    frames: list[Frame], head: str, why: str, key: bytes | None
) -> None:
    wrong = bytearray.fromhex(head)
    wrong[1] |= 0x80 if key else 0
    data = written(frames, key) + wrong
    for parts in cut_everywhere(data):
        noting = Noting()
        reader = FrameReader(noting, masked=key is not None)
        with pytest.raises(WebSocketError, match=why) as caught:
            feed(reader, parts)
        assert (caught.value.code, caught.value.side) == (PROTOCOL_ERROR, Side.CLIENT if key else Side.UPSTREAM)
        assert caught.value.kind == "websocket"
        assert noting.frames == frames
        with pytest.raises(WebSocketError, match="after an error"):
            reader.feed(b"")
    FrameReader(Noting(), masked=key is not None).feed(data[:-1])


@pytest.mark.parametrize("masked", [False, True])
def test_a_client_must_mask_and_a_server_must_not(masked: bool) -> None:
    reader = FrameReader(Noting(), masked=masked)
    with pytest.raises(WebSocketError, match="mask") as caught:
        reader.feed(reference.frame(TEXT, b"Hello", key=None if masked else KEY))
    assert caught.value.code == PROTOCOL_ERROR


def test_rsv1_marks_the_first_frame_of_a_message_once_it_was_agreed_on() -> None:
    frames = [(TEXT, False, True, b"Hel"), (PING, True, False, b""), LAST, (BINARY, True, True, b"x"), WHOLE]
    assert read([written(frames, None)], masked=False, deflated=True) == frames
    for before, head, why in (([], 0xC9, "control"), ([BEGUN], 0xC0, "continuation"), ([], 0xD1, "reserved bit")):
        reader = FrameReader(Noting(), masked=False, deflated=True)
        reader.feed(written(before, None))
        with pytest.raises(WebSocketError, match=why) as caught:
            reader.feed(bytes([head, 0]))
        assert caught.value.code == PROTOCOL_ERROR


def test_control_frames_may_come_between_fragments() -> None:
    frames = [BEGUN, (PING, True, False, b"1"), MORE, (PONG, True, False, b"2"), LAST, (CLOSE, True, False, b"")]
    assert read([written(frames, KEY)], masked=True) == frames


def test_a_frame_above_the_limit_is_an_error_before_its_payload() -> None:
    reader = FrameReader(Noting(), masked=False, limit=1000)
    reader.feed(reference.frame(BINARY, bytes(1000)))
    with pytest.raises(WebSocketError, match="above 1000 bytes") as caught:
        reader.feed(b"\x82\x7e\x03\xe9")
    assert caught.value.code == TOO_BIG


@pytest.mark.parametrize("masked", [False, True])
def test_a_frame_of_4_gib_needs_no_memory(masked: bool) -> None:
    class Counting:
        size = 0

        def begin(self, opcode: int, fin: bool, rsv1: bool, length: int) -> None:
            assert length == 2**32

        def piece(self, payload: Bytes, raw: Bytes, left: int) -> None:
            assert len(payload) <= 65536
            self.size += len(payload)
            self.left = left

    counting = Counting()
    reader = FrameReader(counting, masked=masked)
    tracemalloc.start()
    try:
        reader.feed(b"\x82" + (b"\xff" if masked else b"\x7f") + (2**32).to_bytes(8, "big") + (KEY if masked else b""))
        for _ in range(16):
            reader.feed(bytes(65536))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (counting.size, counting.left) == (2**20, 2**32 - 2**20)
    assert peak < 600 * 1024  # one read, what it becomes, and the way there


def test_pieces_of_a_view_are_views_unless_there_is_a_mask() -> None:
    class Looking:
        def begin(self, opcode: int, fin: bool, rsv1: bool, length: int) -> None: ...

        def piece(self, payload: Bytes, raw: Bytes, left: int) -> None:
            got.append((type(payload), type(raw)))

    got: list[tuple[type, type]] = []
    for key in (None, KEY):
        FrameReader(Looking(), masked=key is not None).feed(memoryview(reference.frame(TEXT, b"x" * 2000, key=key)))
    assert got == [(memoryview, memoryview), (bytes, memoryview)]
    for key in (None, KEY):
        data = memoryview(bytearray(written([BEGUN, LAST], key)))
        assert read([data[:1], data[1:5], data[5:]], masked=key is not None) == [BEGUN, LAST]


class Pausing(Noting):
    """Pauses after every frame, or stops after the first."""

    def __init__(self, *, stop: bool = False) -> None:
        super().__init__()
        self.reader = FrameReader(self, masked=False)
        self.then = self.reader.stop if stop else self.reader.pause

    def piece(self, payload: Bytes, raw: Bytes, left: int) -> None:
        super().piece(payload, raw, left)
        if not left:
            self.then()


def test_a_paused_reader_keeps_what_is_fed_and_goes_on_with_it() -> None:
    frames = [WHOLE, BEGUN, LAST]
    data = written(frames, None)
    for parts in cut_everywhere(data):
        pausing = Pausing()
        for part in parts:
            pausing.reader.feed(part)
        for count in (1, 2, 3):
            assert (pausing.frames, pausing.reader.flowing) == (frames[:count], False)
            pausing.reader.resume()
        assert pausing.reader.flowing
        assert pausing.raw == data


def test_resuming_inside_of_a_frame_or_without_a_pause_changes_nothing() -> None:
    class Hesitating(Noting):
        def piece(self, payload: Bytes, raw: Bytes, left: int) -> None:
            super().piece(payload, raw, left)
            reader.pause()
            reader.resume()

    hesitating = Hesitating()
    reader = FrameReader(hesitating, masked=False)
    reader.resume()
    reader.feed(written([WHOLE, BEGUN, LAST], None))
    assert hesitating.frames == [WHOLE, BEGUN, LAST]


def test_a_stopped_reader_takes_no_notice_of_anything() -> None:
    pausing = Pausing(stop=True)
    pausing.reader.feed(written([WHOLE, WHOLE], None))
    pausing.reader.resume()
    pausing.reader.feed(b"\xff\xff\xff")
    assert (pausing.frames, pausing.reader.flowing) == ([WHOLE], False)


def test_what_the_sink_raises_passes_through_and_ends_it() -> None:
    class Failing(Noting):
        def piece(self, payload: Bytes, raw: Bytes, left: int) -> None:
            raise KeyError

    reader = FrameReader(Failing(), masked=False)
    with pytest.raises(KeyError):
        reader.feed(written([WHOLE], None))
    with pytest.raises(WebSocketError):
        reader.feed(written([WHOLE], None))


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 125, 126, 1023, 1024, 1025, 1026, 1027, 65535, 65536, 65537])
def test_masking_is_the_same_at_every_size_and_undoes_itself(size: int) -> None:
    data = bytes(at % 251 for at in range(size))
    assert mask(data, KEY) == mask(memoryview(data), KEY) == reference.xor(data, KEY)
    assert mask(mask(data, KEY), KEY) == data
    assert mask(data, bytes(4)) == data


@pytest.mark.parametrize("size", [0, 125, 126, 127, 65535, 65536, 65537])
@pytest.mark.parametrize("key", [None, KEY])
def test_lengths_are_written_as_short_as_they_can_be(size: int, key: bytes | None) -> None:
    assert write_frame(BINARY, bytes(size), key=key) == reference.frame(BINARY, bytes(size), key=key)


@pytest.mark.parametrize(
    ("opcode", "size", "fin", "rsv1", "key"),
    [
        pytest.param(3, 0, True, False, None, id="a reserved opcode"),
        pytest.param(16, 0, True, False, None, id="an opcode that is none"),
        pytest.param(PING, 126, True, False, None, id="a large ping"),
        pytest.param(PING, 0, False, False, None, id="a ping in fragments"),
        pytest.param(PONG, 0, True, True, None, id="a compressed pong"),
        pytest.param(CONTINUATION, 0, True, True, None, id="a compressed continuation"),
        pytest.param(TEXT, 0, True, False, b"abc", id="a short key"),
    ],
)
def test_what_a_peer_would_refuse_is_not_written(
    opcode: int, size: int, fin: bool, rsv1: bool, key: bytes | None
) -> None:
    with pytest.raises(InterceptError, match="report") as caught:
        write_frame(opcode, bytes(size), fin=fin, rsv1=rsv1, key=key)
    assert caught.value.side is Side.OURS


FRAMES = st.one_of(
    st.tuples(st.sampled_from([PING, PONG, CLOSE]), st.just(True), st.just(False), st.binary(max_size=125)),
    st.tuples(
        st.sampled_from([TEXT, BINARY]),
        st.just(True),
        st.booleans(),
        st.one_of(st.binary(max_size=300), st.integers(1000, 70000).map(bytes)),
    ),
)


@given(frames=st.lists(FRAMES, max_size=5), key=st.one_of(st.none(), KEYS), cuts=st.lists(st.integers(0, 9000)))
def test_reading_undoes_writing_whatever_the_cuts(frames: list[Frame], key: bytes | None, cuts: list[int]) -> None:
    data = b"".join(write_frame(op, payload, fin=fin, rsv1=rsv1, key=key) for op, fin, rsv1, payload in frames)
    assert data == written(frames, key)
    assert read(reference.split(data, cuts), masked=key is not None, deflated=True) == frames


@given(st.binary(max_size=12), st.booleans())
def test_any_bytes_are_judged_alike_whole_and_in_single_bytes(data: bytes, masked: bool) -> None:
    def outcome(parts: Sequence[bytes]) -> object:
        noting = Noting()
        reader = FrameReader(noting, masked=masked)
        try:
            feed(reader, parts)
        except WebSocketError as error:
            return noting.frames, error.code, error.what
        return noting.frames, noting.unfinished

    assert outcome([data]) == outcome([data[at : at + 1] for at in range(len(data))])


def test_every_pair_of_first_bytes_is_judged_as_the_rfc_says() -> None:
    for first, second, deflated in itertools.product(range(256), (0, 1, 125, 126, 127, 128), (False, True)):
        for before in ([], [BEGUN]):
            data = written(before, None) + bytes([first, second])
            reader = FrameReader(Noting(), masked=False, deflated=deflated)
            try:
                reader.feed(data)
                code = None
            except WebSocketError as error:
                code = error.code
            assert code == reference.read(data, masked=False, bits=15 if deflated else None)[1]

"""permessage-deflate: what an answer agrees on, and both codings against zlib and the RFC's own bytes (RFC 7692)."""

from __future__ import annotations

import os
import tracemalloc
import zlib
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslintercept.facts import Side
from sslintercept.websocket.deflate import (
    FLOOR,
    OPAQUE,
    PIECE,
    Deflate,
    Deflater,
    Inflater,
    Opaque,
    negotiated,
    readable,
)
from sslintercept.websocket.frame import BAD_DATA, TOO_BIG, WebSocketError
from tests.websocket.reference import REPETITIVE, split

ANSWERS = [  # RFC 7692 5.1 and 7.1
    pytest.param([], None, id="no field"),
    pytest.param([b""], None, id="an empty field"),
    pytest.param([b" , ,", b"\t"], None, id="a list without elements (9110 5.6.1)"),
    pytest.param([b"permessage-deflate"], Deflate(), id="no parameters"),
    pytest.param([b", permessage-deflate ,"], Deflate(), id="empty elements beside it (9110 5.6.1)"),
    pytest.param([b"", b"Permessage-Deflate"], Deflate(), id="in capitals, in the second field"),
    pytest.param(
        [b"permessage-deflate; server_no_context_takeover; client_no_context_takeover"],
        Deflate(server_no_context_takeover=True, client_no_context_takeover=True),
        id="no context takeover (7.1.1)",
    ),
    pytest.param(
        [b'permessage-deflate;server_max_window_bits=8 ; client_max_window_bits = "10"'],
        Deflate(server_max_window_bits=8, client_max_window_bits=10),
        id="window bits, also in quotes (7.1.2)",
    ),
    pytest.param([b"permessage-deflate, permessage-deflate"], OPAQUE, id="twice"),
    pytest.param([b"permessage-deflate", b"x-other"], OPAQUE, id="beside another"),
    pytest.param([b"x-webkit-deflate-frame"], OPAQUE, id="another"),
    pytest.param([b"permessage-deflate; fast"], OPAQUE, id="a parameter that does not exist"),
    pytest.param([b"permessage-deflate; server_no_context_takeover=1"], OPAQUE, id="a value too much (7.1.1.1)"),
    pytest.param([b"permessage-deflate; client_no_context_takeover; client_no_context_takeover"], OPAQUE, id="again"),
    pytest.param([b"permessage-deflate; server_max_window_bits"], OPAQUE, id="a value missing (7.1.2.1)"),
    pytest.param([b"permessage-deflate; client_max_window_bits"], OPAQUE, id="a value missing in an answer (7.1.2.2)"),
    pytest.param([b"permessage-deflate; server_max_window_bits=7"], OPAQUE, id="7 bits"),
    pytest.param([b"permessage-deflate; server_max_window_bits=16"], OPAQUE, id="16 bits"),
    pytest.param([b"permessage-deflate; client_max_window_bits=09"], OPAQUE, id="a leading zero (7.1.2)"),
    pytest.param([b"permessage-deflate; client_max_window_bits=x"], OPAQUE, id="no number"),
    pytest.param([b"permessage-deflate;"], OPAQUE, id="a semicolon too much"),
    pytest.param([b"permessage-deflate x"], OPAQUE, id="two words"),
    pytest.param([b'permessage-deflate; a="b'], OPAQUE, id="an open quote"),
    pytest.param([b'permessage-deflate; a="b,c"'], OPAQUE, id="a quoted value that is no token (6455 9.1)"),
    pytest.param([b"permessage-deflate/1"], OPAQUE, id="no token"),
]

PAIRS = [  # what was offered, what was answered, whether that fits
    pytest.param(b"permessage-deflate", b"permessage-deflate", True, id="the plain one"),
    pytest.param(b"x-other", b"permessage-deflate", False, id="never offered"),
    pytest.param(b"", b"permessage-deflate", False, id="nothing offered"),
    pytest.param(b"permessage-deflate;", b"permessage-deflate", False, id="a malformed offer"),
    pytest.param(
        b"permessage-deflate; server_no_context_takeover", b"permessage-deflate", False, id="asked for (7.1.1.1)"
    ),
    pytest.param(
        b"permessage-deflate; server_no_context_takeover, permessage-deflate",
        b"permessage-deflate",
        True,
        id="the second offer fits (5.1)",
    ),
    pytest.param(
        b"permessage-deflate",
        b"permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=9",
        True,
        id="not asked for, but allowed",
    ),
    pytest.param(
        b"permessage-deflate", b"permessage-deflate; client_max_window_bits=10", False, id="not allowed (7.1.2.2)"
    ),
    pytest.param(
        b"permessage-deflate; client_max_window_bits", b"permessage-deflate; client_max_window_bits=10", True, id="said"
    ),
    pytest.param(
        b"permessage-deflate; client_max_window_bits=9",
        b"permessage-deflate; client_max_window_bits=10",
        True,
        id="the value of an offer is a hint (7.1.2.2)",
    ),
    pytest.param(
        b"permessage-deflate; server_max_window_bits=10",
        b"permessage-deflate; server_max_window_bits=10",
        True,
        id="as small as asked (7.1.2.1)",
    ),
    pytest.param(
        b"permessage-deflate; server_max_window_bits=10",
        b"permessage-deflate; server_max_window_bits=11",
        False,
        id="larger than asked (7.1.2.1)",
    ),
    pytest.param(
        b"permessage-deflate; server_max_window_bits=15", b"permessage-deflate", False, id="not said (7.1.2.1)"
    ),
]


@pytest.mark.parametrize(("answer", "deflate"), ANSWERS)
def test_an_answer_names_the_terms_or_cannot_be_read(answer: list[bytes], deflate: Deflate | Opaque | None) -> None:
    assert negotiated(answer) == deflate


@pytest.mark.parametrize(("offer", "answer", "fits"), PAIRS)
def test_an_answer_that_fits_no_offer_cannot_be_read(offer: bytes, answer: bytes, fits: bool) -> None:
    assert isinstance(negotiated([answer]), Deflate)
    assert (negotiated([answer], [offer]) is not OPAQUE) == fits
    assert negotiated([], [offer]) is None


@pytest.mark.parametrize(
    ("offered", "left"),
    [  # what leads to an answer we can read, as it was written but for white space between
        ([], None),
        ([b"x-other"], None),
        ([b"permessage-deflate;"], None),
        ([b"x-other; a=1, permessage-deflate; client_max_window_bits"], b"permessage-deflate; client_max_window_bits"),
        ([b"permessage-deflate;fast", b"permessage-deflate"], b"permessage-deflate"),
        (
            [b"permessage-deflate; server_max_window_bits=10 ,permessage-deflate"],
            b"permessage-deflate; server_max_window_bits=10, permessage-deflate",
        ),
    ],
)
def test_only_offers_whose_answer_can_be_read_go_on(offered: list[bytes], left: bytes | None) -> None:
    assert readable(offered) == left


@given(
    st.lists(st.sampled_from([b"permessage-deflate", b";", b",", b"=", b'"', b" ", b"10", b"client_max_window_bits"]))
)
def test_any_value_is_judged(words: list[bytes]) -> None:
    value = b"".join(words)
    assert isinstance(negotiated([value]), Deflate | Opaque | None)
    left = readable([value])
    assert left is None or readable([left]) == left


@pytest.mark.parametrize("run", [b" ", b",", b"; ", b"a", b"a ", b"a; ", b";a", b";a=b", b"a=", b"a,", b'a="'])
def test_a_long_value_is_looked_at_once(run: bytes) -> None:
    for value in (run * 30_000 + b"@", b"permessage-deflate; a" + run * 30_000 + b"@"):
        assert negotiated([value]) is OPAQUE
        assert readable([value]) is None


def test_each_side_has_its_own_terms() -> None:
    deflate = Deflate(server_no_context_takeover=True, client_max_window_bits=9, server_max_window_bits=8)
    assert (deflate.takeover(Side.CLIENT), deflate.bits(Side.CLIENT)) == (True, 9)
    assert (deflate.takeover(Side.UPSTREAM), deflate.bits(Side.UPSTREAM)) == (False, 8)
    assert deflate.deflater(Side.UPSTREAM) is None  # zlib compresses for no window that small, but it reads them
    small = zlib.compressobj(9, zlib.DEFLATED, -9)
    assert inflate(deflate.inflater(Side.UPSTREAM), small.compress(b"abc") + small.flush(zlib.Z_SYNC_FLUSH)) == b"abc"
    assert deflate.deflater(Side.CLIENT) is not None


def feed(inflater: Inflater, parts: Sequence[bytes], deliver: Callable[[bytes], None]) -> None:
    for part in parts:
        inflater.feed(part, deliver)


def inflate(inflater: Inflater, *parts: bytes) -> bytes:
    pieces: list[bytes] = []
    feed(inflater, parts, pieces.append)
    inflater.end(pieces.append)
    assert all(0 < len(piece) <= PIECE for piece in pieces)
    return b"".join(pieces)


EXAMPLES = [
    pytest.param("f2 48 cd c9 c9 07 00", id="one block (7.2.3.1)"),
    pytest.param("00 05 00 fa ff 48 65 6c 6c 6f 00", id="a block without compression (7.2.3.3)"),
    pytest.param("f3 48 cd c9 c9 07 00 00", id="a block marked as the last (7.2.3.4)"),
    pytest.param("f2 48 05 00 00 00 ff ff ca c9 c9 07 00", id="two blocks (7.2.3.5)"),
]


@pytest.mark.parametrize("example", EXAMPLES)
@pytest.mark.parametrize("takeover", [False, True])
def test_the_examples_of_the_rfc_are_decompressed_at_every_cut_and_one_behind_the_other(
    example: str, takeover: bool
) -> None:
    data = bytes.fromhex(example)
    inflater = Inflater(15, Side.CLIENT, takeover=takeover)
    for cut in range(len(data) + 1):
        assert inflate(inflater, data[:cut], data[cut:]) == b"Hello"
    assert inflate(inflater, *(data[at : at + 1] for at in range(len(data)))) == b"Hello"


def test_a_message_refers_to_the_one_before_as_in_the_rfc() -> None:
    first, second = bytes.fromhex("f2 48 cd c9 c9 07 00"), bytes.fromhex("f2 00 11 00 00")  # 7.2.3.2
    inflater = Inflater(15, Side.CLIENT)
    assert [inflate(inflater, first), inflate(inflater, second)] == [b"Hello", b"Hello"]
    deflater = Deflater(15, level=6)
    assert [deflater.end(b"Hello"), deflater.end(b"Hello")] == [first, second]
    deflater.reset()
    assert deflater.end(b"Hello") == first
    alone = Deflater(15, takeover=False, level=6)
    assert [alone.end(b"Hello"), alone.end(b"Hello")] == [first, first]


def test_a_reference_to_what_is_not_there_is_an_error() -> None:
    second = bytes.fromhex("f2 00 11 00 00")
    alone = Inflater(15, Side.CLIENT, takeover=False)
    inflate(alone, bytes.fromhex("f2 48 cd c9 c9 07 00"))
    for inflater in (Inflater(15, Side.CLIENT), alone):
        with pytest.raises(WebSocketError, match="too far back") as caught:
            inflate(inflater, second)
        assert (caught.value.code, caught.value.side) == (BAD_DATA, Side.CLIENT)


def test_a_reference_beyond_the_window_agreed_on_is_an_error() -> None:
    noise = os.urandom(1000)
    wide = zlib.compressobj(9, zlib.DEFLATED, -15)
    first, second = ((wide.compress(noise) + wide.flush(zlib.Z_SYNC_FLUSH))[:-4] for _ in range(2))
    inflater = Inflater(10, Side.UPSTREAM)
    assert inflate(inflater, first) + inflate(inflater, second) == noise + noise
    inflater = Inflater(9, Side.UPSTREAM)
    assert inflate(inflater, first) == noise
    with pytest.raises(WebSocketError, match="too far back") as caught:
        inflate(inflater, second)
    assert (caught.value.code, caught.value.side) == (BAD_DATA, Side.UPSTREAM)


def test_what_is_no_compressed_data_is_an_error() -> None:
    with pytest.raises(WebSocketError, match="invalid block type") as caught:
        inflate(Inflater(15, Side.CLIENT), b"\xff\xff")
    assert caught.value.code == BAD_DATA


def test_an_empty_message_is_one_byte_or_none() -> None:
    deflater, inflater = Deflater(15), Inflater(15, Side.CLIENT)
    for content in (b"", b"", b"Hello", b"", b"Hello"):
        payload = deflater.end(content)
        assert payload
        assert inflate(inflater, b"", payload) == content
        assert inflate(inflater) == b""


def test_a_receiver_has_all_of_a_fragment_as_soon_as_it_came() -> None:
    deflater, inflater = Deflater(15), Inflater(15, Side.CLIENT)
    got: list[bytes] = []
    for content in (b"Hello", b"", b"Hello"):
        inflater.feed(deflater.fragment(content), got.append)
    assert b"".join(got) == b"HelloHello"
    last = deflater.end(b"")
    assert last == b"\x00"  # 7.2.3.6
    inflater.feed(last, got.append)
    inflater.end(got.append)
    assert inflate(inflater, deflater.end(b"Hello")) == b"Hello"


def test_a_large_message_comes_in_pieces_and_whole() -> None:
    size = 5 * PIECE
    noise = os.urandom(1000)
    for content in (bytes(size), bytes(PIECE), noise * (size // 1000), os.urandom(size)):
        assert inflate(Inflater(15, Side.CLIENT, floor=2 * size), Deflater(15).end(content)) == content


def bomb(size: int) -> bytes:
    engine = zlib.compressobj(9, zlib.DEFLATED, -15)
    return b"".join(engine.compress(bytes(1 << 20)) for _ in range(size >> 20)) + engine.flush()


def test_a_bomb_is_refused_while_it_takes_no_memory() -> None:
    data, got = bomb(256 << 20), [0]

    def count(piece: bytes) -> None:
        got[0] += len(piece)

    for parts in ([data], split(data, range(0, len(data), 1000))):
        inflater, got[0] = Inflater(15, Side.CLIENT), 0
        tracemalloc.start()
        with pytest.raises(WebSocketError, match="grows more than 200 times") as caught:
            feed(inflater, parts, count)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert caught.value.code == TOO_BIG
        assert FLOOR - PIECE <= got[0] < 4 << 20
        assert peak < 8 * PIECE


def test_what_grows_much_but_stays_small_is_no_bomb() -> None:
    inflater = Inflater(15, Side.CLIENT)
    for _ in range(3):
        assert inflate(inflater, Deflater(15).end(bytes(FLOOR))) == bytes(FLOOR)


def test_ten_thousand_last_blocks_take_no_more_time_each_than_ten() -> None:
    assert inflate(Inflater(15, Side.CLIENT), b"\x03\x00" * 10_000 + b"\x00") == b""


@given(
    contents=st.lists(st.one_of(REPETITIVE, st.binary(max_size=200)), max_size=6),
    bits=st.integers(9, 15),
    takeover=st.booleans(),
    cuts=st.lists(st.integers(0, 200), max_size=4),
)
def test_both_codings_agree_with_zlib_and_undo_each_other(
    contents: Sequence[bytes], bits: int, takeover: bool, cuts: list[int]
) -> None:
    deflater, inflater = Deflater(bits, takeover=takeover), Inflater(bits, Side.CLIENT, takeover=takeover)
    theirs = zlib.decompressobj(-bits)
    for content in contents:
        *fragments, last = split(content, cuts)
        payload = b"".join(deflater.fragment(fragment) for fragment in fragments) + deflater.end(last)
        theirs = theirs if takeover else zlib.decompressobj(-bits)
        assert theirs.decompress(payload + b"\x00\x00\xff\xff") == content
        assert inflate(inflater, *split(payload, cuts)) == content

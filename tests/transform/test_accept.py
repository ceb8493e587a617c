"""Content-Encoding and Accept-Encoding: codings in their order, and answers that a client can read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslintercept.transform.accept import MAX_FIELD, choose, codings_of, readable
from sslintercept.transform.coding import CODINGS, IDENTITY


@pytest.mark.parametrize(
    ("values", "codings"),
    [
        ([], ()),
        ([b""], ()),
        ([b"gzip"], ("gzip",)),
        ([b"GZip"], ("gzip",)),
        ([b"x-gzip"], ("gzip",)),
        ([b"gzip, br"], ("gzip", "br")),
        ([b"gzip", b"br"], ("gzip", "br")),
        ([b" , gzip ,\t, br,,"], ("gzip", "br")),
        ([b"identity"], ()),
        ([b"deflate, Identity, zstd"], ("deflate", "zstd")),
        ([b"compress"], ("compress",)),
        ([b"gzip;q=1"], ("gzip;q=1",)),
        ([b"\xe4"], ("\xe4",)),
    ],
)
def test_codings_are_listed_in_the_order_they_were_put_on(values: list[bytes], codings: tuple[str, ...]) -> None:
    assert codings_of(values) == codings


CHOICES = [  # Accept-Encoding, what the origin used, the answer
    ([], "gzip", "gzip"),
    ([], IDENTITY, IDENTITY),
    ([], "compress", IDENTITY),
    # the examples of RFC 9110 12.5.3
    ([b"compress, gzip"], "gzip", "gzip"),
    ([b"compress, gzip"], "br", "gzip"),
    ([b""], "gzip", IDENTITY),
    ([b"*"], "br", "br"),
    ([b"*"], IDENTITY, IDENTITY),
    ([b"*"], "compress", "zstd"),
    ([b"compress;q=0.5, gzip;q=1.0"], "gzip", "gzip"),
    ([b"compress;q=0.5, gzip;q=1.0"], IDENTITY, IDENTITY),
    ([b"gzip;q=1.0, identity; q=0.5, *;q=0"], "gzip", "gzip"),
    ([b"gzip;q=1.0, identity; q=0.5, *;q=0"], "br", "gzip"),
    ([b"gzip;q=1.0, identity; q=0.5, *;q=0"], IDENTITY, IDENTITY),
    # the origin's own, however little it is liked
    ([b"gzip, deflate, br, zstd"], "deflate", "deflate"),
    ([b"gzip;q=0.001, br"], "gzip", "gzip"),
    ([b"gzip"], IDENTITY, IDENTITY),
    # something else
    ([b"br;q=0.5, deflate;q=0.6"], "zstd", "deflate"),
    ([b"deflate, gzip, br"], "zstd", "br"),
    ([b"gzip;q=0.5, identity"], "br", IDENTITY),
    ([b"gzip;q=0.5, identity;q=0.4"], "br", "gzip"),
    ([b"gzip", b"br;q=0"], "br", "gzip"),
    ([b"br;q=0, *"], "br", "zstd"),
    ([b"identity;q=0, gzip"], IDENTITY, "gzip"),
    ([b"*;q=0, gzip"], IDENTITY, "gzip"),
    # nothing is left, or nothing but identity
    ([b"identity;q=0"], "gzip", IDENTITY),
    ([b"*;q=0"], "gzip", IDENTITY),
    ([b"gzip;q=0"], "gzip", IDENTITY),
    ([b"GZIP;Q=0.000"], "gzip", IDENTITY),
    ([b"compress"], "gzip", IDENTITY),
    # names
    ([b"X-GZip"], "gzip", "gzip"),
    ([b"x-gzip;q=0.5"], "br", "gzip"),
    ([b", ,gzip\t;\tq=1.000 ,"], "gzip", "gzip"),
    ([b"gzip;q=0, gzip"], "gzip", IDENTITY),
    ([b"gzip;q=1."], "gzip", "gzip"),
    ([b"gzip;q=0."], "gzip", IDENTITY),
    # malformed
    ([b"gzip;q=1.1"], "gzip", IDENTITY),
    ([b"gzip;q=-1"], "gzip", IDENTITY),
    ([b"gzip;q=0.1234"], "gzip", IDENTITY),
    ([b"gzip;q="], "gzip", IDENTITY),
    ([b"gzip;q=yes, br"], "gzip", "br"),
    ([b"gzip;q=yes, *"], "gzip", "zstd"),
    ([b"gzip;level=9"], "gzip", IDENTITY),
    ([b"gzip q=1"], "gzip", IDENTITY),
    ([b"identity;q=none, gzip"], IDENTITY, IDENTITY),
    ([b"*;q=none"], "gzip", IDENTITY),
    ([b"\xff\xfe;q=1, gzip"], "gzip", "gzip"),
    ([b";q=1"], "gzip", IDENTITY),
    ([b"gzip," * (MAX_FIELD // 5)], "gzip", "gzip"),
    ([b"gzip," * (MAX_FIELD // 5 + 1)], "gzip", IDENTITY),
]


@pytest.mark.parametrize(("values", "wanted", "answer"), CHOICES)
def test_a_client_is_answered_in_a_coding_it_accepts(values: list[bytes], wanted: str, answer: str) -> None:
    assert choose(values, CODINGS, wanted) == answer


def test_only_what_is_available_is_chosen() -> None:
    assert choose([b"br, gzip;q=0.5"], ("gzip",), "br") == "gzip"
    assert choose([b"br, gzip;q=0.5"], (), "br") == IDENTITY
    assert choose([], ("gzip",), "br") == IDENTITY


@given(
    st.lists(st.text("gzipbr;q=0.1, *\tx").map(str.encode) | st.binary(max_size=40), max_size=4),
    st.sampled_from([*CODINGS, IDENTITY, "compress"]),
)
def test_any_field_leads_to_a_coding_that_we_have(values: list[bytes], wanted: str) -> None:
    assert choose(values, CODINGS, wanted) in (*CODINGS, IDENTITY)
    assert all(name == name.strip(" \t").lower() and "," not in name for name in codings_of(values))


@pytest.mark.parametrize(
    "value", [b" " * MAX_FIELD, b"a" * MAX_FIELD, b"a" + b" " * (MAX_FIELD - 2) + b"x", b"," * 4096]
)
def test_a_long_field_takes_linear_time(value: bytes) -> None:
    assert choose([value], CODINGS, "gzip") == IDENTITY


@pytest.mark.parametrize(
    ("values", "left"),
    [
        ([b"gzip, deflate, br, zstd"], None),
        ([b"gzip;q=0.5, identity"], None),
        ([b""], b"identity"),
        ([b"gzip, br, dcb, dcz"], b"gzip, br"),
        ([b"compress;q=0.5, gzip;q=0.25"], b"gzip;q=0.25"),
        ([b"compress"], b"identity"),
        ([b"*"], b"zstd, br, gzip, deflate"),
        ([b"*;q=0, gzip"], b"zstd;q=0, br;q=0, gzip, deflate;q=0"),
        ([b"br;q=0, *;q=0.5"], b"zstd;q=0.5, br;q=0, gzip;q=0.5, deflate;q=0.5"),
        ([b"gzip", b"exi"], b"gzip"),
        ([b"gzip;q=yes, exi"], b"gzip;q=0"),
        ([b"\xff, identity;q=0.1"], b"identity;q=0.1"),
    ],
)
def test_an_origin_is_offered_only_codings_that_can_be_read(values: list[bytes], left: bytes | None) -> None:
    assert readable(values) == left


@given(st.lists(st.text("gzipbr;q=0.1, *\tx").map(str.encode) | st.binary(max_size=40), max_size=4))
def test_what_is_offered_can_be_read_whatever_the_client_accepts(values: list[bytes]) -> None:
    offered = readable(values)
    if offered is not None:
        assert readable([offered]) is None

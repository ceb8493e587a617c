"""Bodies that leave without a coding, or with one that the client accepts."""

from __future__ import annotations

import gzip

import pytest

from sslintercept.testing.transform import Exchange, splits, transformed
from sslintercept.transform.coding import Decoder, Encoder
from sslintercept.transform.processor import Partial
from sslintercept.transform.recode import Decode, Encode
from sslintercept.transform.shipped.coding import DecodeContent, DecodeOptions, EncodeContent, EncodeOptions
from sslintercept.transform.shipped.replace import ReplaceOptions, ReplaceText

BODY = b"<p>hello</p>" * 200
BROWSER = "gzip, deflate, br, zstd"


def decoding(accept: str = BROWSER, **how: str) -> Exchange:
    return Exchange(DecodeContent(DecodeOptions()), fields={"Accept-Encoding": accept})


def encoding(accept: str | None = BROWSER, codings: tuple[str, ...] = ("br", "gzip"), method: str = "GET") -> Exchange:
    options = EncodeOptions(codings=codings)
    return Exchange(EncodeContent(options), method=method, fields={} if accept is None else {"Accept-Encoding": accept})


def decoded(coding: str, data: bytes) -> bytes:
    return transformed(data, Decode(Decoder((coding,))))


def coded(coding: str, data: bytes) -> bytes:
    encoder = Encoder(coding)
    return encoder.feed(data) + encoder.finish()


# -- decode --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
def test_a_coding_is_taken_off_at_every_split(coding: str) -> None:
    body = coded(coding, BODY)
    for pieces in splits(body, longest=8):
        exchange = decoding()
        pipe = exchange.respond(fields={"Content-Encoding": coding, "Content-Length": str(len(body)), "ETag": '"1"'})
        pipe.send(*pieces)
        assert (pipe.got, pipe.ended) == (BODY, 1)
        assert exchange.head.all(b"Content-Encoding") == []
        assert exchange.head.get(b"ETag") == b'W/"1"'
        assert exchange.head.get(b"Vary") is None


def test_a_body_without_a_coding_is_not_touched() -> None:
    exchange = decoding()
    exchange.respond(fields={"ETag": '"1"'})
    assert exchange.stages == []
    assert exchange.head.head.fields == [(b"ETag", b'"1"')]


def test_a_request_is_decoded_for_its_origin() -> None:
    body = gzip.compress(BODY)
    fields = {"Content-Encoding": "gzip", "Content-Length": str(len(body))}
    exchange = Exchange(DecodeContent(DecodeOptions()), method="POST", fields=fields)
    pipe = exchange.upload()
    pipe.send(body)
    assert pipe.got == BODY
    assert exchange.request.get(b"Content-Encoding") is None


def test_a_range_cannot_be_decoded_and_is_asked_for_again() -> None:
    with pytest.raises(Partial):
        decoding().respond(206, {"Content-Encoding": "gzip"})


def test_a_coding_nobody_knows_stays() -> None:
    exchange = decoding()
    exchange.respond(fields={"Content-Encoding": "compress"})
    assert exchange.stages == []
    assert exchange.head.get(b"Content-Encoding") == b"compress"


def test_head_says_what_get_would() -> None:
    exchange = Exchange(DecodeContent(DecodeOptions()), method="HEAD", fields={"Accept-Encoding": BROWSER})
    exchange.respond(fields={"Content-Encoding": "gzip", "Content-Length": "100", "ETag": '"1"'})
    assert exchange.head.head.fields == [(b"ETag", b'W/"1"')]
    assert exchange.stages == []


def test_what_may_not_be_transformed_keeps_its_coding() -> None:
    exchange = decoding()
    exchange.respond(fields={"Content-Encoding": "gzip", "Cache-Control": "no-transform"})
    assert exchange.head.get(b"Content-Encoding") == b"gzip"


# -- encode --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "coding"),
    [(BROWSER, "br"), ("gzip, br;q=0.5", "gzip"), ("*", "br"), ("gzip", "gzip"), ("br;q=0, *;q=0.1", "gzip")],
)
def test_a_coding_that_the_client_likes_is_put_on_at_every_split(accept: str, coding: str) -> None:
    for pieces in splits(BODY, longest=4):
        exchange = encoding(accept)
        pipe = exchange.respond(fields={"Content-Length": str(len(BODY)), "ETag": '"1"', "Accept-Ranges": "bytes"})
        pipe.send(*pieces)
        assert pipe.ended == 1
        assert decoded(coding, pipe.got) == BODY
        assert exchange.head.head.fields == [
            (b"ETag", b'W/"1"'),
            (b"Vary", b"Accept-Encoding"),
            (b"Content-Encoding", coding.encode()),
        ]


@pytest.mark.parametrize("accept", [None, "", "zstd", "identity", "br;q=0, gzip;q=0"])
def test_a_client_that_accepts_none_gets_the_body_as_it_came(accept: str | None) -> None:
    exchange = encoding(accept)
    exchange.respond(fields={"ETag": '"1"'})
    assert exchange.stages == []
    assert exchange.head.head.fields == [(b"ETag", b'"1"'), (b"Vary", b"Accept-Encoding")]


def test_a_piece_can_be_read_as_soon_as_it_came() -> None:
    pipe = encoding("gzip").respond()
    decoder = Decoder(("gzip",))
    seen = b""
    for event in (b"data: 1\n\n", b"data: 2\n\n"):
        before = len(pipe.got)
        pipe.write(event)
        decoder.feed(pipe.got[before:])
        got = decoder.more()
        seen += got
        assert got == event


@pytest.mark.parametrize(("length", "touched"), [("1023", False), ("1024", True), (None, True)])
def test_a_small_body_is_not_worth_it(length: str | None, touched: bool) -> None:
    exchange = encoding()
    exchange.respond(fields={} if length is None else {"Content-Length": length})
    assert [type(stage) for stage in exchange.stages] == ([Encode] if touched else [])
    spoken = encoding(method="HEAD")
    spoken.respond(fields={} if length is None else {"Content-Length": length})
    assert (spoken.head.get(b"Content-Encoding") == b"br") is touched
    assert (spoken.head.get(b"Content-Length") is None) is (touched or length is None)


def test_a_body_with_a_coding_passes_as_it_is() -> None:
    exchange = encoding()
    exchange.respond(fields={"Content-Encoding": "deflate", "ETag": '"1"'})
    assert exchange.stages == []
    assert exchange.head.get(b"ETag") == b'"1"'


def test_a_range_passes_as_it_is() -> None:
    exchange = encoding()
    exchange.respond(206, {"Content-Range": "bytes 0-2047/9999", "Content-Length": "2048"})
    assert exchange.stages == []


def test_a_request_passes_as_it_is() -> None:
    exchange = Exchange(EncodeContent(EncodeOptions()), method="POST", fields={"Content-Length": "5000"})
    assert exchange.request_stages == []


def test_what_may_not_be_transformed_is_not_compressed() -> None:
    exchange = encoding()
    exchange.respond(fields={"Cache-Control": "no-transform"})
    assert exchange.stages == []
    assert exchange.head.get(b"Content-Encoding") is None


def test_what_others_changed_is_compressed_behind_them() -> None:
    exchange = Exchange(
        EncodeContent(EncodeOptions(codings=("gzip",), minimum=0)),
        ReplaceText(ReplaceOptions(find="hello", replace="bye")),
        fields={"Accept-Encoding": "gzip"},
    )
    pipe = exchange.respond(fields={"Content-Type": "text/html"})
    pipe.send(BODY)
    assert gzip.decompress(pipe.got) == BODY.replace(b"hello", b"bye")


def test_a_standing_reader_stops_the_source() -> None:
    pipe = encoding("gzip").respond()
    pipe.stalled = True
    pipe.high_water = 10
    pipe.write(BODY)
    assert pipe.stopped
    pipe.abort()
    assert pipe.ended == 0

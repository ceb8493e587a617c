"""Codings and chunks taken off and put on in a chain, and readers who change nothing."""

from __future__ import annotations

import gzip
import zlib

import pytest

from sslintercept.errors import MessageError
from sslintercept.testing.transform import Pipe, splits, transformed
from sslintercept.transform.coding import CODINGS, BombError, CodingError, Decoder, Encoder
from sslintercept.transform.recode import Chunk, Dechunk, Decode, Encode, Tap
from sslintercept.transform.stage import Null, StageError, Transform

TEXT = b"the quick brown fox jumps over the lazy dog; " * 40


class Upper(Transform):
    def write(self, data: bytes) -> None:
        self.output.write(data.upper())


class Notes:
    """A reader that writes down what it gets."""

    def __init__(self) -> None:
        self.got = b""
        self.ends: list[bool] = []

    def write(self, data: bytes) -> None:
        assert isinstance(data, bytes)
        self.got += data

    def finish(self, whole: bool) -> None:
        self.ends.append(whole)


def coded(coding: str, data: bytes) -> bytes:
    encoder = Encoder(coding)
    return encoder.feed(data) + encoder.finish()


def views(pieces: list[bytes]) -> list[memoryview]:
    return [memoryview(piece) for piece in pieces]


def decoded(coding: str, data: bytes) -> bytes:
    return transformed(data, Decode(Decoder((coding,))))


@pytest.mark.parametrize("coding", CODINGS)
def test_a_stage_between_decoding_and_encoding_sees_plain_content_at_every_split(coding: str) -> None:
    data = coded(coding, TEXT)
    for pieces in splits(data, longest=16):
        pipe = Pipe(Decode(Decoder((coding,))), Upper(), Encode(Encoder(coding)), length=len(data))
        pipe.send(*views(pieces))
        assert decoded(coding, pipe.got) == TEXT.upper()
        assert pipe.ended == 1


@pytest.mark.parametrize("coding", CODINGS)
def test_what_came_in_can_be_read_at_once(coding: str) -> None:
    pipe = Pipe(Encode(Encoder(coding)), Decode(Decoder((coding,))))
    for event in (b"data: 1\n\n", b"data: 2\n\n"):
        before = pipe.got
        pipe.write(event)
        assert pipe.got == before + event


def test_an_expansion_waits_for_its_reader_and_goes_on() -> None:
    plain = bytes(4 * 1024 * 1024)
    data = zlib.compress(plain)
    pipe = Pipe(Decode(Decoder(("deflate",), ratio=2000)), Null())
    pipe.stalled = True
    pipe.send(data)
    assert pipe.stopped
    rounds = 0
    while not pipe.ended:
        assert pipe.waiting <= 2 * Pipe.high_water
        pipe.waiting = 0
        pipe._held_up = False
        pipe.chain.resumeProducing()
        rounds += 1
    assert pipe.got == plain
    assert rounds > 20


def test_a_bomb_breaks_the_chain_within_its_bounds() -> None:
    pipe = Pipe(Decode(Decoder(("gzip",), ratio=100)))
    pipe.write(gzip.compress(bytes(64 * 1024 * 1024)))
    assert isinstance(pipe.error, BombError)
    assert len(pipe.got) <= 10 * 1024 * 1024


@pytest.mark.parametrize("data", [b"no gzip at all", gzip.compress(TEXT)[:-3]])
def test_content_that_is_not_what_it_says_breaks_the_chain(data: bytes) -> None:
    pipe = Pipe(Decode(Decoder(("gzip",))))
    pipe.send(data)
    assert isinstance(pipe.error, CodingError)
    assert pipe.ended == 0


def test_chunks_are_taken_off_and_put_on() -> None:
    raw = b"4\r\nWiki\r\n6;x=1\r\npedia \r\n0\r\nX-Check: 1\r\n\r\n"
    for pieces in splits(raw):
        pipe = Pipe(Dechunk(), Upper(), Chunk())
        pipe.send(*views(pieces))
        assert transformed(pipe.got, Dechunk()) == b"WIKIPEDIA "


@pytest.mark.parametrize("raw", [b"4\r\nWiki\r\n", b"0\r\n\r\nmore", b"zz\r\n"])
def test_chunks_of_a_stage_that_are_broken_break_the_chain(raw: bytes) -> None:
    pipe = Pipe(Dechunk())
    pipe.send(raw)
    assert isinstance(pipe.error, StageError)
    assert pipe.ended == 0


@pytest.mark.parametrize("coding", CODINGS)
def test_a_reader_sees_the_content_while_the_same_bytes_pass(coding: str) -> None:
    data = coded(coding, TEXT)
    for pieces in splits(data, longest=8):
        notes = Notes()
        pipe = Pipe(Tap(notes, Decoder((coding,))), length=len(data))
        pipe.send(*views(pieces))
        assert (notes.got, notes.ends) == (TEXT, [True])
        assert (pipe.got, pipe.announced) == (data, [len(data)])


def test_a_reader_who_raises_lets_nothing_pass_that_it_has_not_seen() -> None:
    class Refuses(Notes):
        def write(self, data: bytes) -> None:
            if b"bad" in data:
                raise MessageError("refused", where="reader")
            super().write(data)

    notes = Refuses()
    pipe = Pipe(Tap(notes))
    pipe.write(b"good")
    pipe.write(b"bad")
    assert (pipe.got, notes.ends) == (b"good", [False])
    assert isinstance(pipe.error, MessageError)


def test_a_reader_hears_once_that_a_body_broke_off() -> None:
    notes = Notes()
    pipe = Pipe(Tap(notes))
    pipe.write(b"half")
    pipe.abort()
    pipe.abort()
    assert (notes.got, notes.ends) == (b"half", [False])


def test_a_reader_is_not_told_twice_when_it_fails_at_the_end() -> None:
    class Sore(Notes):
        def finish(self, whole: bool) -> None:
            super().finish(whole)
            raise MessageError("too late", where="reader")

    notes = Sore()
    pipe = Pipe(Tap(notes))
    pipe.send(b"all")
    assert (notes.ends, pipe.ended) == ([True], 0)
    assert isinstance(pipe.error, MessageError)


def test_content_cut_off_is_no_whole_content_to_a_reader() -> None:
    notes = Notes()
    pipe = Pipe(Tap(notes, Decoder(("gzip",))))
    pipe.send(gzip.compress(TEXT)[:-1])
    assert notes.ends == [False]
    assert isinstance(pipe.error, CodingError)

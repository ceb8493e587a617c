"""clamd's answers, however they come; and what is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslintercept.clamd.wire import (
    MOST_CHUNK,
    MOST_REPLY,
    Clean,
    Found,
    ReplyReader,
    TooBig,
    Version,
    chunks,
    pong,
    verdict,
    version,
)
from sslintercept.errors import EngineError


def read(*pieces: bytes) -> bytes | None:
    reader = ReplyReader("clamd")
    answers = [reader.feed(piece) for piece in pieces]
    assert all(answer is None for answer in answers[:-1])
    return answers[-1]


@given(st.binary(min_size=1, max_size=50).filter(lambda name: all(byte > 31 and byte != 127 for byte in name)))
def test_an_answer_is_the_same_however_it_comes(name: bytes) -> None:
    whole = b"stream: " + name + b" FOUND\0"
    assert read(*(whole[at : at + 1] for at in range(len(whole)))) == whole[:-1]
    assert all(read(whole[:at], whole[at:]) == whole[:-1] for at in range(len(whole)))
    assert verdict(whole[:-1], "clamd") == Found(name.decode("latin-1"))


@pytest.mark.parametrize(
    ("reply", "meaning"),
    [
        (b"stream: OK", Clean()),
        (b"stream: Eicar-Test.UNOFFICIAL FOUND", Found("Eicar-Test.UNOFFICIAL")),
        (b"stream: OK FOUND", Found("OK")),
        (b"INSTREAM size limit exceeded. ERROR", TooBig()),
    ],
)
def test_each_answer_has_its_meaning(reply: bytes, meaning: object) -> None:
    assert verdict(reply, "clamd") == meaning


@pytest.mark.parametrize(
    ("reply", "fault"),
    [
        (b"stream: Can't allocate memory ERROR", "refused"),
        (b"COMMAND READ TIMED OUT", "refused"),
        (b"stream:  FOUND", "rubbish"),
        (b"stream: OK ", "rubbish"),
        (b"OK", "rubbish"),
        (b"", "rubbish"),
    ],
)
def test_an_error_and_an_answer_to_something_else_are_no_verdict(reply: bytes, fault: str) -> None:
    with pytest.raises(EngineError) as error:
        verdict(reply, "clamd")
    assert error.value.fault == fault


@pytest.mark.parametrize(
    "data", [b"x" * (MOST_REPLY + 1), b"x\n\0", b"stream: OK\0stream: OK\0", b"\x7f\0", b"x" * MOST_REPLY + b"y\0"]
)
def test_what_is_no_answer_is_refused_at_once(data: bytes) -> None:
    with pytest.raises(EngineError):
        read(data)
    with pytest.raises(EngineError):
        read(*(data[at : at + 100] for at in range(0, len(data), 100)), b"y")


def test_a_version_has_signatures_only_with_a_base() -> None:
    assert version(b"ClamAV 1.4.3/27600/Thu Apr 10 08:30:00 2025", "clamd").signatures == 27600
    assert version(b"ClamAV 1.4.3", "clamd") == Version("ClamAV 1.4.3", 0, "")
    with pytest.raises(EngineError):
        version(b"220 mail.test ESMTP", "clamd")
    with pytest.raises(EngineError):
        pong(b"PING", "clamd")


@pytest.mark.parametrize("size", [0, 1, MOST_CHUNK, MOST_CHUNK + 1])
def test_chunks_carry_their_length(size: int) -> None:
    data, framed = bytes(size), b"".join(chunks(bytes(size)))
    found, at = b"", 0
    while at < len(framed):
        length = int.from_bytes(framed[at : at + 4], "big")
        assert 0 < length <= MOST_CHUNK
        found += framed[at + 4 : at + 4 + length]
        at += 4 + length
    assert found == data

"""Card numbers are masked, however they come, and nothing else is."""

from __future__ import annotations

import gzip

import pytest
from sslintercept_redact import Redact

from sslintercept.testing.transform import Exchange, Pipe, splits

TEXT = {"Content-Type": "text/plain"}


def pipe(**fields: str) -> Pipe:
    return Exchange(Redact(Redact.Options())).respond(fields={**TEXT, **fields})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"pay with 4111111111111111 now", b"pay with ************1111 now"),
        (b"4111 1111 1111 1111", b"**** **** **** 1111"),
        (b'{"card":"4111-1111-1111-1111"}', b'{"card":"****-****-****-1111"}'),
        (b"3782 822463 10005", b"**** ****** *0005"),
        (b"1 4111 1111 1111 1111 2 5555555555554444", b"1 **** **** **** 1111 2 ************4444"),
        (b"4111 4111 1111 1111 1111", b"4111 **** **** **** 1111"),
        (b"4111111111111112, check digit", b"4111111111111112, check digit"),
        (b"94111111111111111", b"94111111111111111"),
        (b"41111111111111110000000000", b"41111111111111110000000000"),
        (b"4111 1111-1111 1111", b"4111 1111-1111 1111"),
        (b"", b""),
    ],
)
def test_numbers_are_masked_at_every_cut(text: bytes, expected: bytes) -> None:
    for pieces in splits(text):
        made = pipe()
        made.send(*(piece for piece in pieces if piece))
        assert (made.got, made.ended) == (expected, 1), pieces


def test_only_what_may_become_a_number_waits() -> None:
    made = pipe()
    made.write(b"data: hello\n\ndata: 4111 1111")
    assert made.got == b"data: hello\n\ndata: "
    made.write(b" 1\n\n")
    assert made.got == b"data: hello\n\ndata: 4111 1111 1\n\n"
    made.write(b"4" * 100_000)
    assert len(made.got) > 99_900


def test_the_length_stays_and_the_log_says_how_many() -> None:
    exchange = Exchange(Redact(Redact.Options(keep=0)))
    made = exchange.respond(fields={**TEXT, "Content-Length": "16"})
    made.send(b"4111111111111111")
    assert (made.announced, made.got) == ([16], b"*" * 16)
    assert exchange.notes == {"redact": "1 numbers in the response"}


def test_compressed_content_is_masked_too() -> None:
    exchange = Exchange(Redact(Redact.Options()), fields={"Accept-Encoding": "gzip"})
    made = exchange.respond(fields={**TEXT, "Content-Encoding": "gzip"})
    made.send(gzip.compress(b"4111111111111111"))
    assert gzip.decompress(made.got) == b"************1111"


def test_what_cannot_be_searched_passes_with_a_note() -> None:
    exchange = Exchange(Redact(Redact.Options()))
    made = exchange.respond(fields={"Content-Type": "text/plain; charset=utf-16"})
    made.send(b"4111111111111111")
    assert made.got == b"4111111111111111"
    assert exchange.notes == {"redact": "not applied to charset utf-16"}

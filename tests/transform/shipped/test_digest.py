"""Digests in the access log, of bodies that were whole."""

from __future__ import annotations

import gzip
import hashlib

import pytest

from sslintercept.testing.transform import Exchange, splits
from sslintercept.transform.shipped.digest import Digest, DigestOptions

BODY = b"the content of a file"
SHA256 = hashlib.sha256(BODY).hexdigest()


def test_every_split_has_the_digest_of_the_whole() -> None:
    for pieces in splits(BODY):
        exchange = Exchange(Digest(DigestOptions()))
        pipe = exchange.respond(fields={"Content-Length": str(len(BODY)), "ETag": '"1"'})
        for piece in pieces:
            before = pipe.got
            pipe.write(piece)
            assert pipe.got == before + piece
        pipe.finish()
        assert exchange.notes == {"response_sha256": SHA256, "response_size": str(len(BODY))}
        assert pipe.announced == [len(BODY)]
        assert exchange.head.get(b"ETag") == b'"1"'


def test_content_is_digested_and_not_its_coding() -> None:
    exchange = Exchange(Digest(DigestOptions()))
    pipe = exchange.respond(fields={"Content-Encoding": "gzip"})
    coded = gzip.compress(BODY)
    pipe.send(coded)
    assert pipe.got == coded
    assert exchange.notes["response_sha256"] == SHA256


def test_several_algorithms_are_noted() -> None:
    exchange = Exchange(Digest(DigestOptions(algorithms=("md5", "sha1", "sha256"))))
    exchange.respond().send(BODY)
    assert exchange.notes == {
        "response_md5": hashlib.md5(BODY).hexdigest(),
        "response_sha1": hashlib.sha1(BODY).hexdigest(),
        "response_sha256": SHA256,
        "response_size": str(len(BODY)),
    }


def test_request_and_response_are_told_apart() -> None:
    exchange = Exchange(Digest(DigestOptions()), method="POST", fields={"Content-Length": "3"})
    exchange.upload().send(b"abc")
    exchange.respond().send(BODY)
    assert exchange.notes["request_size"] == "3"
    assert exchange.notes["response_sha256"] == SHA256


def test_a_body_of_nothing_has_a_digest() -> None:
    exchange = Exchange(Digest(DigestOptions()))
    exchange.respond().finish()
    assert exchange.notes == {"response_sha256": hashlib.sha256(b"").hexdigest(), "response_size": "0"}


@pytest.mark.parametrize("how", ["abort", "leave"])
def test_a_body_that_was_not_whole_has_no_digest(how: str) -> None:
    exchange = Exchange(Digest(DigestOptions()))
    pipe = exchange.respond()
    pipe.write(BODY)
    getattr(pipe, how)()
    assert exchange.notes == {}


def test_content_that_is_cut_off_inside_its_coding_has_no_digest() -> None:
    exchange = Exchange(Digest(DigestOptions()))
    exchange.respond(fields={"Content-Encoding": "gzip"}).send(gzip.compress(BODY)[:-1])
    assert exchange.notes == {}


def test_a_range_has_no_digest_and_is_not_asked_for_again() -> None:
    exchange = Exchange(Digest(DigestOptions()))
    exchange.respond(206).send(BODY)
    assert exchange.stages == []
    assert exchange.notes == {}


def test_a_standing_reader_stops_the_source() -> None:
    pipe = Exchange(Digest(DigestOptions())).respond()
    pipe.stalled = True
    pipe.write(bytes(pipe.high_water + 1))
    assert pipe.stopped
    pipe.drain()
    assert not pipe.stopped

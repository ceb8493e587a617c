"""The ClientHello of DTLS from datagrams, whole, in fragments, out of order, hostile; and the cookies."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslintercept.datagram.hello import (
    MAX_HELLO,
    MOST_FRAGMENTS,
    SLOT,
    Cookies,
    Hello,
    HelloReader,
    fatal,
    hello_verify,
    records,
)
from sslintercept.errors import HelloError
from sslintercept.facts import Address
from tests.datagram.support import extension, hello, hello_body, message, record, sized

PEER = Address("192.0.2.1", 4000)


def read(*datagrams: bytes) -> Hello | None:
    reader = HelloReader()
    found = None
    for datagram in datagrams:
        found = reader.feed(datagram) or found
    return found


def test_a_hello_is_read_as_the_one_of_tls_that_it_is() -> None:
    alpn = extension(16, sized(b"\4coap"))
    found = read(hello("A.example", cookie=b"c" * 32, serial=1, extra=alpn))
    assert found is not None
    offered = found.client_hello
    assert offered.server_name == "a.example"
    assert offered.alpn == (b"coap",)
    assert offered.ciphers == (0xC02B, 0xC02F)
    assert offered.versions == (0xFEFD,)
    assert offered.ja4.startswith("dd2d0202cp_")
    assert found.cookie == b"c" * 32
    assert found.number == bytes(7) + b"\1"


def test_versions_count_downwards() -> None:
    listed = extension(43, b"\4\xfe\xfd\xfe\xfc")
    found = read(hello(extra=listed))
    assert found is not None
    assert found.client_hello.versions == (0xFEFD, 0xFEFC)
    assert found.client_hello.ja4.startswith("dd3d")
    old = read(hello(None).replace(b"\xfe\xfd" + bytes(range(3)), b"\xfe\xff" + bytes(range(3))))
    assert old is not None
    assert old.client_hello.ja4.startswith("dd1i")


def test_the_record_for_the_server_is_the_whole_message_in_one_piece() -> None:
    body = hello_body()
    found = read(record(message(body, at=0, size=20), 5), record(message(body, at=20), 6))
    assert found is not None
    [(kind, number, content)] = records(found.record)
    assert (kind, number, content) == (22, bytes(7) + b"\6", message(body))


@given(st.lists(st.integers(1, 90), max_size=8), st.randoms(use_true_random=False))
def test_fragments_come_in_any_order_and_twice(cuts: list[int], rng: random.Random) -> None:
    body = hello_body()
    edges = sorted({0, len(body), *(cut % len(body) for cut in cuts)})
    parts = [message(body, at=a, size=b - a) for a, b in pairwise(edges)]
    parts += parts[:1]
    rng.shuffle(parts)
    reader = HelloReader()
    found = [each for part in parts if (each := reader.feed(record(part))) is not None]
    assert found
    assert found[0].client_hello.server_name == "a.example"


def test_fragments_may_overlap_if_they_agree() -> None:
    body = hello_body()
    found = read(record(message(body, at=10)), record(message(body, at=10, size=5)), record(message(body, size=30)))
    assert found is not None


def test_several_messages_and_records_may_share_a_datagram() -> None:
    body = hello_body()
    other = message(b"abc", kind=11)
    in_one_record = record(other + message(body, size=10) + message(body, at=10))
    in_records = record(b"\1", kind=20) + record(message(body, size=10)) + record(message(body, at=10))
    assert read(in_one_record) is not None
    assert read(in_records) is not None


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        b"\x16",
        hello()[:-1],
        record(message(hello_body()), kind=23),
        record(message(hello_body()), epoch=1),
        record(message(hello_body(), kind=16)),
        record(b"\1\0\0"),
        record(message(hello_body(), size=30)),
        record(message(hello_body(), at=30)),
    ],
)
def test_what_is_no_whole_hello_says_nothing(datagram: bytes) -> None:
    assert read(datagram) is None


BODY = hello_body()


@pytest.mark.parametrize(
    ("datagrams", "why"),
    [
        ([record(message(BODY)[:-1])], "cut short"),
        ([record(message(BODY[:50])[:9] + b"\0\0\x33" + BODY[:51])], "does not fit"),
        ([record(message(BODY, serial=2))], "message 2"),
        ([record(message(bytes(MAX_HELLO + 1), size=10))], f"{MAX_HELLO} are allowed"),
        ([record(message(BODY, size=9)), record(message(BODY + b"x", at=9))], "disagree about its size"),
        ([record(message(BODY, size=9)), record(message(b"\xfe\xfc" + BODY[2:], size=9))], "contradict"),
        ([record(message(BODY, at=5, size=9)), record(message(b"x" * len(BODY), size=9))], "contradict"),
        ([record(message(BODY, at=n, size=1)) for n in range(1, MOST_FRAGMENTS + 2)], "fragments"),
        ([hello("a.example") + hello("b.example")], "same datagram"),
        ([record(message(BODY[:34]))], "before its cipher suites"),
        ([record(message(b""))], "before its cipher suites"),
        ([record(message(BODY[:35] + b"\xff" + BODY[36:]))], "before its cipher suites"),
        ([record(message(BODY[:40]))], "cipher_suites"),
    ],
)
def test_what_can_be_read_in_two_ways_or_not_at_all_is_refused(datagrams: list[bytes], why: str) -> None:
    reader = HelloReader()
    for datagram in datagrams[:-1]:
        assert reader.feed(datagram) is None
    with pytest.raises(HelloError, match=why):
        reader.feed(datagrams[-1])
    with pytest.raises(HelloError, match="another one came"):
        reader.feed(hello())
    assert reader.feed(record(b"\1", kind=20)) is None


@given(st.binary(max_size=300), st.integers(0, 200), st.binary(max_size=3))
def test_nothing_but_a_hello_error_is_raised(noise: bytes, at: int, by: bytes) -> None:
    good = hello()
    for datagram in (noise, record(noise), record(b"\1" + noise), good[:at] + by + good[at + len(by) :]):
        try:
            HelloReader().feed(datagram)
        except HelloError:
            continue


def test_a_cookie_is_good_for_its_address_and_for_a_while() -> None:
    cookies = Cookies(b"k" * 32)
    baked = cookies.bake(PEER, 100.0)
    assert len(baked) == 32
    assert cookies.good(baked, PEER, 100.0 + SLOT)
    assert not cookies.good(baked, PEER, 100.0 + 2 * SLOT)
    assert not cookies.good(baked, PEER._replace(port=4001), 100.0)
    assert not cookies.good(baked, PEER._replace(host="192.0.2.2"), 100.0)
    assert not cookies.good(b"", PEER, 100.0)
    assert not Cookies(b"x" * 32).good(baked, PEER, 100.0)


def test_what_we_say_before_a_proof_is_shorter_than_any_hello() -> None:
    smallest = len(hello(None))
    said = hello_verify(b"c" * 32, bytes(8))
    assert len(said) == 60 <= smallest + 4
    [(kind, number, content)] = records(said)
    assert (kind, number) == (22, bytes(8))
    assert content == message(b"\xfe\xff" + sized(b"c" * 32, 1), kind=3)
    assert list(records(fatal(42, bytes(7) + b"\2"))) == [(21, bytes(7) + b"\2", b"\2\x2a")]

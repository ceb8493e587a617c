"""Messages of SOCKS: whole, in pieces, broken; and what is answered."""

from __future__ import annotations

import contextlib
import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslintercept.errors import ClientError, ConnectError, InterceptError, ResolveError, TimedOut
from sslintercept.facts import Address
from sslintercept.net.connector import Denied, refusal
from sslintercept.socks.wire import (
    MAX_MESSAGE,
    NO_METHOD,
    Command,
    Layout,
    Login,
    Reader,
    Reply,
    Request,
    SocksError,
    code_of,
    greeting,
    login,
    login_answer,
    method,
    read_datagram,
    reply,
    request4,
    request5,
    write_datagram,
)

V4 = b"\x01\xc0\x00\x02\x07"
V6 = b"\x04" + ipaddress.ip_address("2001:db8::7").packed
PORT = b"\x01\xbb"


def named(host: bytes) -> bytes:
    return b"\x03" + bytes((len(host),)) + host


SAMPLES: list[tuple[Layout[Any], bytes, object]] = [  # Any: messages of every kind
    (greeting, b"\x05\x01\x00", b"\x00"),
    (greeting, b"\x05\x03\x00\x01\x02", b"\x00\x01\x02"),
    (greeting, b"\x05\xff" + bytes(255), bytes(255)),
    (login, b"\x01\x05alice\x06secret", Login(b"alice", b"secret")),
    (login, b"\x01\x00\x00", Login(b"", b"")),
    (login, b"\x01\xff" + b"u" * 255 + b"\xff" + b"p" * 255, Login(b"u" * 255, b"p" * 255)),
    (request5, b"\x05\x01\x00" + V4 + PORT, Request(5, Command.CONNECT, Address("192.0.2.7", 443))),
    (request5, b"\x05\x02\x00" + V6 + PORT, Request(5, Command.BIND, Address("2001:db8::7", 443))),
    (
        request5,
        b"\x05\x01\x00" + named(b"Origin.TEST.") + PORT,
        Request(5, Command.CONNECT, Address("origin.test", 443)),
    ),
    (request5, b"\x05\x03\x00\x01" + bytes(6), Request(5, Command.ASSOCIATE, Address("0.0.0.0", 0))),
    (request4, b"\x04\x01" + PORT + V4[1:] + b"me\0", Request(4, Command.CONNECT, Address("192.0.2.7", 443), b"me")),
    (request4, b"\x04\x02" + PORT + bytes(4) + b"\0", Request(4, Command.BIND, Address("0.0.0.0", 443))),
    (
        request4,
        b"\x04\x01" + PORT + b"\0\0\0\x01" + b"u" * 255 + b"\0origin.test\0",
        Request(4, Command.CONNECT, Address("origin.test", 443), b"u" * 255),
    ),
]
BROKEN: list[tuple[Layout[Any], bytes, Reply]] = [  # Any: messages of every kind
    (greeting, b"\x04\x01\x00", Reply.FAILED),
    (greeting, b"\x05\x00", Reply.FAILED),
    (login, b"\x05\x01\x00", Reply.FAILED),
    (request5, b"\x04\x01\x00" + V4 + PORT, Reply.FAILED),
    (request5, b"\x05\x00\x00" + V4 + PORT, Reply.NO_COMMAND),
    (request5, b"\x05\x04\x00" + V4 + PORT, Reply.NO_COMMAND),
    (request5, b"\x05\x01\x01" + V4 + PORT, Reply.FAILED),
    (request5, b"\x05\x01\x00\x02" + bytes(6), Reply.NO_ADDRESS_TYPE),
    (request5, b"\x05\x01\x00" + V4 + b"\0\0", Reply.FAILED),
    (request4, b"\x05\x01" + PORT + V4[1:] + b"\0", Reply.FAILED),
    (request4, b"\x04\x03" + PORT + V4[1:] + b"\0", Reply.NO_COMMAND),
    (request4, b"\x04\x01\0\0" + V4[1:] + b"\0", Reply.FAILED),
    (request4, b"\x04\x01" + PORT + V4[1:] + b"u" * 256, Reply.FAILED),
    (request4, b"\x04\x01" + PORT + b"\0\0\0\x01\0" + b"h" * 256, Reply.FAILED),
    (request4, b"\x04\x01" + PORT + b"\0\0\0\x01\0\0", Reply.FAILED),
]


def outcome(layout: Layout[Any], *pieces: bytes) -> tuple[object, bytes]:  # Any: messages of every kind
    """What a reader says after the last piece, and what is left behind the message."""
    reader = Reader()
    found: object = None
    for piece in pieces:
        reader.feed(piece)
        if found is None:
            try:
                found = reader.take(layout)
            except SocksError as error:
                found = str(error)
    return found, b"" if isinstance(found, str) else reader.rest()


@pytest.mark.parametrize(("layout", "data", "message"), SAMPLES)
def test_a_message_is_the_same_at_every_cut_and_what_follows_stays(
    layout: Layout[object], data: bytes, message: object
) -> None:
    early = b"\x16\x03early"
    for cut in range(len(data) + 1):
        assert outcome(layout, data[:cut], data[cut:] + early) == (message, early)
    assert outcome(layout, *(bytes((byte,)) for byte in data + early)) == (message, early)
    for end in range(len(data)):
        assert layout(data[:end]) is None
    assert len(data) <= MAX_MESSAGE


@pytest.mark.parametrize(("layout", "data", "code"), BROKEN)
def test_what_is_no_message_is_refused_at_every_cut(layout: Layout[object], data: bytes, code: Reply) -> None:
    with pytest.raises(SocksError) as refused:
        layout(data)
    assert isinstance(refused.value, ClientError)
    assert code_of(refused.value) is code
    for cut in range(len(data) + 1):
        assert outcome(layout, data[:cut], data[cut:])[0] == str(refused.value)


@given(sample=st.sampled_from(SAMPLES), data=st.data())
def test_mutated_bytes_mean_the_same_however_they_are_cut(
    sample: tuple[Layout[object], bytes, object], data: st.DataObject
) -> None:
    layout, raw, _ = sample
    mutated = bytearray(raw)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(mutated) - 1))
        mutated[at] = data.draw(st.integers(0, 255))
    mutated += data.draw(st.binary(max_size=20))
    whole = outcome(layout, bytes(mutated))
    assert outcome(layout, *(bytes((byte,)) for byte in mutated)) == whole
    cut = data.draw(st.integers(0, len(mutated)))
    assert outcome(layout, bytes(mutated[:cut]), bytes(mutated[cut:])) == whole


@given(
    st.binary(min_size=MAX_MESSAGE, max_size=MAX_MESSAGE),
    st.sampled_from([(5, greeting), (1, login), (4, request4), (5, request5)]),
)
def test_no_layout_wants_more_than_the_longest_message(data: bytes, which: tuple[int, Layout[object]]) -> None:
    first, layout = which
    with contextlib.suppress(SocksError):
        assert layout(bytes((first,)) + data[1:]) is not None


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (b"192.0.2.7", "192.0.2.7"),
        (b"2001:DB8:0::7", "2001:db8::7"),
        (b"[2001:db8::7]", "2001:db8::7"),
        (b"::ffff:192.0.2.7", "192.0.2.7"),
        (b"XN--BCHER-KVA.example", "xn--bcher-kva.example"),
        (b"_sip.Example", "_sip.example"),
        (b"localhost", "localhost"),
        (b"1.example", "1.example"),
    ],
)
def test_a_host_is_a_name_in_lower_case_or_an_address(written: bytes, read: str) -> None:
    found = request5(b"\x05\x01\x00" + named(written) + PORT)
    assert found is not None
    assert found[0].destination == Address(read, 443)


LONG = b".".join([b"a" * 63] * 3)


@pytest.mark.parametrize(
    "host",
    [
        b"",
        b".",
        b"a..b",
        b"a b",
        b"a/b",
        b"a\0b",
        b"a\r\nb",
        b"u@h",
        b"b\xc3\xbccher",
        b"a" * 64,
        LONG + b"." + b"b" * 62,
        b"127.1",
        b"0x7f.1",
        b"2130706433",
        b"1.2.3.256",
        b"a.127",
        b"fe80::1%eth0",
        b"[192.0.2.7",
    ],
)
def test_what_is_neither_name_nor_address_is_refused(host: bytes) -> None:
    with pytest.raises(SocksError):
        request5(b"\x05\x01\x00" + named(host) + PORT)


def test_a_name_of_253_characters_with_a_dot_behind_it_is_served() -> None:
    host = LONG + b"." + b"b" * 61
    found = request5(b"\x05\x01\x00" + named(host + b".") + PORT)
    assert found is not None
    assert found[0].destination.host == host.decode()


def test_an_address_inside_another_is_the_one_that_packets_go_to() -> None:
    found = request5(b"\x05\x01\x00\x04" + ipaddress.ip_address("::ffff:127.0.0.1").packed + PORT)
    assert found is not None
    assert found[0].destination.host == "127.0.0.1"


def test_a_password_is_in_no_text() -> None:
    assert "secret" not in repr(Login(b"alice", b"secret"))
    assert "me" not in repr(Request(4, Command.CONNECT, Address("h", 1), b"me"))


def test_replies_tell_the_bound_address() -> None:
    assert reply(5, Reply.GRANTED, Address("192.0.2.7", 443)) == b"\x05\x00\x00" + V4 + PORT
    assert reply(5, Reply.GRANTED, Address("2001:db8::7", 443)) == b"\x05\x00\x00" + V6 + PORT
    assert reply(5, Reply.NOT_ALLOWED) == b"\x05\x02\x00\x01" + bytes(6)
    assert reply(5, Reply.GRANTED, Address("unix", 0)) == b"\x05\x00\x00\x01" + bytes(6)
    assert reply(4, Reply.GRANTED, Address("192.0.2.7", 443)) == b"\x00\x5a" + PORT + V4[1:]
    assert reply(4, Reply.GRANTED, Address("2001:db8::7", 443)) == b"\x00\x5a" + bytes(6)
    assert reply(4, Reply.NO_HOST) == b"\x00\x5b" + bytes(6)
    assert method(NO_METHOD) == b"\x05\xff"
    assert (login_answer(True), login_answer(False)) == (b"\x01\x00", b"\x01\x01")


class Blocked(InterceptError):
    kind = "blocked"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Blocked("by a rule", where="h", remedy="r"), 2),
        (refusal(Address("h", 1), Denied("private", "leave it")), 2),
        (ResolveError("none", where="h", remedy="r"), 4),
        (ConnectError("refused", where="h", remedy="r"), 5),
        (TimedOut("late", where="h", remedy="r"), 6),
        (InterceptError("else", where="h", remedy="r"), 1),
        (ValueError("a defect"), 1),
    ],
)
def test_the_kind_of_an_error_chooses_the_reply(error: Exception, code: int) -> None:
    assert code_of(error) == code


@given(
    st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).filter(lambda ip: not getattr(ip, "ipv4_mapped", None)),
    st.integers(1, 65535),
    st.binary(max_size=50),
)
def test_a_datagram_is_read_as_it_was_written(
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int, data: bytes
) -> None:
    written = write_datagram(Address(str(ip), port), data)
    assert read_datagram(written) == (Address(str(ip), port), data)


def test_a_datagram_may_name_its_destination() -> None:
    assert read_datagram(b"\0\0\0" + named(b"origin.test") + b"\0\x35query") == (Address("origin.test", 53), b"query")


def test_a_fragment_is_dropped() -> None:
    assert read_datagram(b"\0\0\x01" + V4 + PORT + b"part") is None


@pytest.mark.parametrize(
    "data", [b"", b"\0\0", b"\0\x01\0" + V4 + PORT, b"\x01\0\0" + V4 + PORT, b"\0\0\0" + V4, b"\0\0\0\x09", b"\0\0\0"]
)
def test_a_datagram_without_a_whole_header_is_refused(data: bytes) -> None:
    with pytest.raises(SocksError):
        read_datagram(data)


def test_a_datagram_to_port_0_is_refused() -> None:
    with pytest.raises(SocksError):
        read_datagram(b"\0\0\0" + V4 + b"\0\0data")

"""The header of the PROXY protocol, in both versions: whole, in pieces, mutilated, and hostile."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslintercept.errors import ClientError
from sslintercept.facts import Address
from sslintercept.probe.proxyline import (
    MAX_LENGTH,
    MAX_LINE,
    OPENING_2,
    ProxyLine,
    ProxyLineError,
    ProxyLineReader,
    crc32c,
)

CLIENT, SERVER = Address("198.51.100.1", 1234), Address("203.0.113.2", 443)
CLIENT6, SERVER6 = Address("2001:db8::1", 1234), Address("2001:db8::2", 443)


def packed(host: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)


def binary(family: int, body: bytes, command: int = 0x21) -> bytes:
    return OPENING_2 + bytes([command, family]) + len(body).to_bytes(2, "big") + body


def ends(source: Address, destination: Address) -> bytes:
    ports = b"".join(end.port.to_bytes(2, "big") for end in (source, destination))
    return packed(source.host) + packed(destination.host) + ports


def value(kind: int, content: bytes) -> bytes:
    return bytes([kind]) + len(content).to_bytes(2, "big") + content


def version_2(source: Address = CLIENT, destination: Address = SERVER, more: bytes = b"") -> bytes:
    return binary(0x21 if ":" in source.host else 0x11, ends(source, destination) + more)


def checked(more: bytes = b"") -> bytes:
    """A header with a checksum, as the specification says: over the header with zeros in its place."""
    made = version_2(more=value(3, bytes(4)) + more)
    at = len(OPENING_2) + 4 + 12 + 3
    return made[:at] + crc32c(made).to_bytes(4, "big") + made[at + 4 :]


def read(*pieces: bytes) -> tuple[ProxyLine | None, bytes]:
    """What a reader makes of pieces, and what it leaves."""
    reader = ProxyLineReader()
    for number, piece in enumerate(pieces):
        if (line := reader.feed(piece)) is not None:
            return line, reader.rest + b"".join(pieces[number + 1 :])
    return None, b""


GOOD = {
    b"PROXY TCP4 198.51.100.1 203.0.113.2 1234 443\r\n": ProxyLine(1, CLIENT, SERVER),
    b"PROXY TCP6 2001:db8::1 2001:DB8:0::2 1234 443\r\n": ProxyLine(1, CLIENT6, SERVER6),
    b"PROXY TCP6 ::ffff:198.51.100.1 ::ffff:203.0.113.2 1234 443\r\n": ProxyLine(1, CLIENT, SERVER),
    b"PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n": ProxyLine(
        1, Address("0.0.0.0", 0), Address("255.255.255.255", 65535)
    ),
    b"PROXY UNKNOWN\r\n": ProxyLine(1),
    b"PROXY UNKNOWN " + b"f" * (MAX_LINE - 16) + b"\r\n": ProxyLine(1),
    version_2(): ProxyLine(2, CLIENT, SERVER),
    version_2(CLIENT6, SERVER6): ProxyLine(2, CLIENT6, SERVER6),
    version_2(Address("::ffff:198.51.100.1", 1234), Address("::ffff:203.0.113.2", 443)): ProxyLine(2, CLIENT, SERVER),
    version_2(more=value(2, b"b\xc3\xbccher.test") + value(1, b"h2") + value(5, b"\0\1")): ProxyLine(
        2, CLIENT, SERVER, "bücher.test", b"h2", b"\0\1"
    ),
    version_2(more=value(4, bytes(9)) + value(4, b"") + value(0xEE, b"x")): ProxyLine(2, CLIENT, SERVER),
    version_2(more=value(5, bytes(128)) + value(2, b"a" * 255)): ProxyLine(
        2, CLIENT, SERVER, "a" * 255, unique_id=bytes(128)
    ),
    version_2(more=value(4, bytes(MAX_LENGTH - 12 - 3))): ProxyLine(2, CLIENT, SERVER),
    checked(value(2, b"a.test")): ProxyLine(2, CLIENT, SERVER, "a.test"),
    binary(0x31, bytes(216) + value(2, b"a.test")): ProxyLine(2, authority="a.test"),
    binary(0x00, b""): ProxyLine(2),
    binary(0x00, b"anything at all"): ProxyLine(2),
    binary(0x00, b"", command=0x20): ProxyLine(2),
    binary(0x11, ends(CLIENT, SERVER), command=0x20): ProxyLine(2),
    binary(0xFF, b"anything at all", command=0x20): ProxyLine(2),
}
"""Headers, and what they say."""


@pytest.mark.parametrize("raw", GOOD)
def test_a_header_says_the_same_at_every_cut_and_nothing_behind_it_is_touched(raw: bytes) -> None:
    behind = b"\r\nPROXY \x16\x03\x01"
    expected = GOOD[raw], behind
    assert read(raw + behind) == expected
    assert read(*(bytes([byte]) for byte in raw + behind)) == expected
    cuts = range(1, len(raw)) if len(raw) < 1000 else (1, 12, 15, 16, 17, len(raw) - 1)
    for at in cuts:
        assert read(raw[:at], raw[at:] + behind) == expected
        assert read(raw[:at]) == (None, b"")
    assert read(raw) == (GOOD[raw], b"")


BAD = {
    b"GET / HTTP/1.1\r\n": "does not begin with one",
    b"\x16": "does not begin with one",
    b"PROXZ": "does not begin with one",
    b"\r\n\r\n\x00\r\nQUIX": "does not begin with one",
    b"PROXY " + b"x" * (MAX_LINE - 6): "more than 107 bytes",
    b"PROXY UNKNOWN " + b"f" * (MAX_LINE - 15) + b"\r\n": "more than 107 bytes",
    b"PROXY \r\n": "neither",
    b"PROXY UDP4 198.51.100.1 203.0.113.2 1 2\r\n": "neither",
    b"PROXY tcp4 198.51.100.1 203.0.113.2 1 2\r\n": "neither",
    b"PROXY TCP4\r\n": "two addresses",
    b"PROXY TCP4 198.51.100.1 203.0.113.2 1\r\n": "two addresses",
    b"PROXY TCP4 198.51.100.1 203.0.113.2 1 2 3\r\n": "two addresses",
    b"PROXY TCP4  198.51.100.1 203.0.113.2 1\r\n": "address of version 1",
    b"PROXY TCP4 198.51.100.1\t203.0.113.2 1 2 3\r\n": "address of version 1",
    b"PROXY TCP4 198.51.100.01 203.0.113.2 1 2\r\n": "address of version 1",
    b"PROXY TCP4 2001:db8::1 203.0.113.2 1 2\r\n": "address of version 1",
    b"PROXY TCP6 198.51.100.1 2001:db8::2 1 2\r\n": "address of version 1",
    b"PROXY TCP6 fe80::1%eth0 2001:db8::2 1 2\r\n": "address of version 1",
    b"PROXY TCP4 198.51.100.\xff 203.0.113.2 1 2\r\n": "address of version 1",
    b"PROXY TCP4 198.51.100.1 203.0.113.2 65536 2\r\n": "port of version 1",
    b"PROXY TCP4 198.51.100.1 203.0.113.2 01 2\r\n": "port of version 1",
    b"PROXY TCP4 198.51.100.1 203.0.113.2 1 -2\r\n": "port of version 1",
    b"PROXY TCP4 198.51.100.1 203.0.113.2 1 \r\n": "port of version 1",
    b"PROXY TCP4 198.51.100.1 203.0.113.2 1 123456\r\n": "port of version 1",
    binary(0x11, ends(CLIENT, SERVER), command=0x11): "version 1 and command 1",
    binary(0x11, ends(CLIENT, SERVER), command=0x22): "version 2 and command 2",
    binary(0x12, ends(CLIENT, SERVER)): "0x12",
    binary(0x41, ends(CLIENT, SERVER)): "0x41",
    binary(0x11, ends(CLIENT, SERVER)[:-1]): "cut short",
    binary(0x21, ends(CLIENT, SERVER)): "cut short",
    binary(0x31, bytes(215)): "cut short",
    OPENING_2 + b"\x21\x11\x10\x01": "4097 bytes; 4096 are allowed",
    version_2(more=b"\x02"): "cut short",
    version_2(more=b"\x02\x00"): "cut short",
    version_2(more=b"\x02\x00\x02a"): "cut short",
    version_2(more=value(2, b"a") + value(2, b"a")): "comes twice",
    version_2(more=value(2, b"")): "authority .* 0 bytes",
    version_2(more=value(2, b"a" * 256)): "authority .* 256 bytes; 255",
    version_2(more=value(2, b"\xff")): "no text",
    version_2(more=value(2, b"a\r\nb")): "no text",
    version_2(more=value(1, bytes(256))): "protocol .* 256 bytes",
    version_2(more=value(5, bytes(129))): "unique id .* 129 bytes; 128",
    version_2(more=value(3, bytes(4))): "checksum",
    version_2(more=value(3, bytes(3))): "checksum",
    version_2(more=value(3, b"")): "checksum",
}
"""What is refused, and why."""


@pytest.mark.parametrize("raw", BAD)
def test_a_bad_header_is_refused_in_words_however_it_comes(raw: bytes) -> None:
    with pytest.raises(ProxyLineError, match=BAD[raw]) as whole:
        read(raw)
    assert isinstance(whole.value, ClientError)
    with pytest.raises(ProxyLineError, match=BAD[raw]):
        read(*(bytes([byte]) for byte in raw))


def test_what_cannot_be_a_header_is_refused_with_its_first_wrong_byte() -> None:
    for opening in (b"PROXY ", OPENING_2):
        for at in range(len(opening)):
            with pytest.raises(ProxyLineError):
                read(opening[:at], b"\xff")


def test_no_byte_of_a_header_with_a_checksum_can_be_changed_unseen() -> None:
    raw = checked(value(2, b"a.test"))
    assert read(raw)[0] is not None
    for at in range(len(raw)):
        if at in (12, 13):
            continue  # a command or a family that says: ignore everything behind me
        changed = raw[:at] + bytes([raw[at] ^ 0x01]) + raw[at + 1 :]
        try:
            line, _ = read(changed + bytes(300))
        except ProxyLineError:
            continue
        assert line is None, at


def test_the_checksum_is_the_one_of_castagnoli() -> None:
    assert crc32c(b"") == 0
    assert crc32c(b"123456789") == 0xE3069283
    # RFC 3720 B.4
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E


PORTS = st.integers(0, 65535)
ENDS_4 = st.builds(Address, st.integers(0, 2**32 - 1).map(lambda number: str(IPv4Address(number))), PORTS)
ENDS_6 = st.builds(Address, st.integers(2**64, 2**128 - 1).map(lambda number: str(IPv6Address(number))), PORTS)


@given(st.tuples(ENDS_4, ENDS_4) | st.tuples(ENDS_6, ENDS_6), st.binary(max_size=20), st.data())
def test_what_is_written_is_read_in_both_versions(
    addresses: tuple[Address, Address], behind: bytes, data: st.DataObject
) -> None:
    source, destination = addresses
    family = "TCP6" if ":" in source.host else "TCP4"
    line = f"PROXY {family} {source.host} {destination.host} {source.port} {destination.port}\r\n".encode()
    for version, raw in ((1, line), (2, version_2(source, destination))):
        at = data.draw(st.integers(0, len(raw)))
        assert read(raw[:at], raw[at:] + behind) == (ProxyLine(version, source, destination), behind)


@given(st.sampled_from(sorted(GOOD)), st.data())
def test_a_header_that_was_mutilated_is_read_or_refused_and_never_anything_else(
    raw: bytes, data: st.DataObject
) -> None:
    changed = bytearray(raw)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    at = data.draw(st.integers(0, len(raw)))
    found: list[object] = []
    for pieces in ([bytes(changed)], [bytes(changed[:at]), bytes(changed[at:])]):
        try:
            found.append(read(*pieces))
        except ProxyLineError as error:
            found.append(str(error))
    assert found[0] == found[1]


@given(st.binary(max_size=200))
def test_any_bytes_behind_an_opening_are_read_or_refused(garbage: bytes) -> None:
    for opening in (b"PROXY ", b"PROXY TCP4 ", OPENING_2, OPENING_2 + b"\x21\x11\x00", version_2()[:28]):
        try:
            read(opening + garbage)
        except ProxyLineError:
            continue

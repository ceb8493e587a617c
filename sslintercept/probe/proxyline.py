"""
The header with which a balancer in front of us says who the client is (PROXY protocol, versions 1 and 2).

Version 1 is a line of text, version 2 a block of bytes with typed values (TLVs) behind the addresses. A header is
believed whole or not at all, and nothing behind it is touched. Whom to believe is decided elsewhere
(L{sslintercept.probe.proxyaccept}): everything here comes from the other end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from sslintercept.errors import ClientError
from sslintercept.facts import Address

OPENING_1: Final = b"PROXY "
OPENING_2: Final = b"\r\n\r\n\x00\r\nQUIT\n"
MAX_LINE: Final = 107
"""bytes of a header of version 1, its line break included (PROXY protocol 2.1)"""
FIXED: Final = 16
"""bytes of a header of version 2 before what its length counts"""
MAX_LENGTH: Final = 4096
"""bytes that this length may count"""
MAX_AUTHORITY: Final = 255
"""bytes of the host name that the client asked the balancer for"""
MAX_ALPN: Final = 255
MAX_UNIQUE_ID: Final = 128
"""bytes (PROXY protocol 2.2.5)"""

FAMILIES: Final[dict[bytes, type[IPv4Address] | type[IPv6Address]]] = {b"TCP4": IPv4Address, b"TCP6": IPv6Address}
LOCAL, PROXY = 0, 1
UNSPEC: Final = 0x00
BLOCKS: Final = {0x11: 12, 0x21: 36, 0x31: 216}
"""Bytes of the addresses of TCP over IPv4, over IPv6, and of a stream of the machine itself (PROXY protocol 2.2)."""
ALPN, AUTHORITY, CRC32C, UNIQUE_ID = 0x01, 0x02, 0x03, 0x05
"""Types of values; those of others are skipped (PROXY protocol 2.2.1 to 2.2.8)."""


class ProxyLineError(ClientError):
    """A header of the PROXY protocol that is missing, malformed or too large."""

    kind = "proxy_line"

    def __init__(self, what: str, remedy: str = "the connection was closed") -> None:
        super().__init__(what, where="PROXY header", remedy=remedy)


@dataclass(frozen=True, slots=True)
class ProxyLine:
    """
    What a header says.

    @ivar source: the client; C{None} where the balancer speaks for itself (a check of its own) or does not know.
    @ivar destination: where the client connected to.
    @ivar authority: the server name that it asked for, as sent.
    @ivar alpn: the protocol it agreed on with the balancer.
    @ivar unique_id: the balancer's own name for the connection.
    """

    version: int
    source: Address | None = None
    destination: Address | None = None
    authority: str | None = None
    alpn: bytes | None = None
    unique_id: bytes | None = None


class ProxyLineReader:
    """
    Reads one header from bytes that come in any pieces.

    @ivar rest: once the header is whole, what came behind it.
    """

    def __init__(self) -> None:
        self._head = bytearray()
        self.rest = b""

    def feed(self, data: bytes | memoryview) -> ProxyLine | None:
        """
        The header, if it is whole now. What can not become one is refused with the first byte that shows it.

        @raise ProxyLineError: this is no header, or a bad one; feed nothing more.
        """
        head = self._head
        head += data
        if head[: len(OPENING_2)] == OPENING_2[: len(head)]:
            return self._binary()
        if head[: len(OPENING_1)] == OPENING_1[: len(head)]:
            return self._text()
        raise ProxyLineError(
            "the connection does not begin with one", "let the balancer send it, or take it out of proxy_protocol"
        )

    def _take(self, length: int) -> bytes:
        """The header's bytes; what is left is no longer ours."""
        taken, self.rest = bytes(self._head[:length]), bytes(self._head[length:])
        self._head.clear()
        return taken

    def _text(self) -> ProxyLine | None:
        end = self._head.find(b"\r\n", 0, MAX_LINE)
        if end >= 0:
            return parse_line(self._take(end + 2)[:-2])
        if len(self._head) >= MAX_LINE:
            raise ProxyLineError(f"a line of version 1 has more than {MAX_LINE} bytes")
        return None

    def _binary(self) -> ProxyLine | None:
        head = self._head
        if len(head) < FIXED:
            return None
        length = int.from_bytes(head[14:16], "big")
        if length > MAX_LENGTH:
            raise ProxyLineError(f"a header of version 2 has {length} bytes; {MAX_LENGTH} are allowed")
        return parse_block(self._take(FIXED + length)) if len(head) >= FIXED + length else None


def parse_line(line: bytes) -> ProxyLine:
    """
    What a line of version 1 says.

    @param line: without its line break.
    @raise ProxyLineError: it is malformed.
    """
    words = line.split(b" ")
    if words[1] == b"UNKNOWN":
        return ProxyLine(1)  # whatever follows is to be ignored
    family = FAMILIES.get(words[1])
    if family is None:
        raise ProxyLineError("a line of version 1 names neither TCP4, TCP6 nor UNKNOWN")
    if len(words) != 6:
        raise ProxyLineError("a line of version 1 has not two addresses and two ports")
    try:
        if b"%" in line:
            raise ValueError("a zone means nothing on another machine")
        source, destination = (family(word.decode("ascii")) for word in words[2:4])
    except ValueError:
        raise ProxyLineError("an address of version 1 is malformed") from None
    return ProxyLine(1, address(source, port(words[4])), address(destination, port(words[5])))


def port(word: bytes) -> int:
    """
    A number from 0 to 65535 as version 1 writes it, without zeros in front.

    @raise ProxyLineError: it is something else.
    """
    if not (word.isdigit() and len(word) <= 5 and int(word) < 65536 and str(int(word)).encode() == word):
        raise ProxyLineError("a port of version 1 is malformed")
    return int(word)


def address(host: IPv4Address | IPv6Address, port: int) -> Address:
    """IPv4-mapped IPv6 (RFC 4291 2.5.5.2) is IPv4, as at our own sockets."""
    if isinstance(host, IPv6Address):
        host = host.ipv4_mapped or host
    return Address(str(host), port)


def parse_block(block: bytes) -> ProxyLine:
    """
    What a header of version 2 says.

    @param block: the whole of it.
    @raise ProxyLineError: it is malformed.
    """
    version, command = divmod(block[12], 16)
    if version != 2 or command not in (LOCAL, PROXY):
        raise ProxyLineError(f"a header of version 2 has version {version} and command {command}")
    family = block[13]
    if command == LOCAL or family == UNSPEC:
        return ProxyLine(2)  # the real ends of the connection count, and all the rest is to be ignored
    if family not in BLOCKS:
        raise ProxyLineError(f"a header of version 2 is for another kind of connection (0x{family:02x})")
    begin = FIXED + BLOCKS[family]
    if len(block) < begin:
        raise ProxyLineError("the addresses of a header of version 2 are cut short")
    found = values(block, begin)
    authority = bounded(found, AUTHORITY, MAX_AUTHORITY, "authority")
    alpn = bounded(found, ALPN, MAX_ALPN, "protocol")
    unique_id = bounded(found, UNIQUE_ID, MAX_UNIQUE_ID, "unique id")
    source, destination = ends(block, BLOCKS[family])
    return ProxyLine(2, source, destination, None if authority is None else words_of(authority), alpn, unique_id)


def ends(block: bytes, size: int) -> tuple[Address | None, Address | None]:
    """Source and destination; those of a machine's own streams have no address."""
    if size == BLOCKS[0x31]:
        return None, None
    kind, width = (IPv4Address, 4) if size == BLOCKS[0x11] else (IPv6Address, 16)
    hosts = (kind(block[FIXED + at : FIXED + at + width]) for at in (0, width))
    ports = (int.from_bytes(block[FIXED + at : FIXED + at + 2], "big") for at in (2 * width, 2 * width + 2))
    source, destination = map(address, hosts, ports)
    return source, destination


def values(block: bytes, begin: int) -> dict[int, bytes]:
    """
    The values that are read here, by type.

    @raise ProxyLineError: one is cut short, comes twice, or the checksum is wrong.
    """
    found: dict[int, bytes] = {}
    for kind, at, value in each(block, begin):
        if kind in found:
            raise ProxyLineError(f"a value of a header of version 2 comes twice (type 0x{kind:02x})")
        if kind in (ALPN, AUTHORITY, CRC32C, UNIQUE_ID):
            found[kind] = value
        if kind == CRC32C and value != crc32c(block[:at] + bytes(4) + block[at + 4 :]).to_bytes(4, "big"):
            raise ProxyLineError("the checksum of a header of version 2 is wrong")
    return found


def each(block: bytes, at: int) -> Iterator[tuple[int, int, bytes]]:
    """Type, place and bytes of every value."""
    while at < len(block):
        begin = at + 3
        end = begin + int.from_bytes(block[at + 1 : begin], "big")
        if end > len(block):
            raise ProxyLineError("a value of a header of version 2 is cut short")
        yield block[at], begin, block[begin:end]
        at = end


def bounded(found: dict[int, bytes], kind: int, limit: int, what: str) -> bytes | None:
    """
    A value, if there is one.

    @raise ProxyLineError: it is empty or too long.
    """
    value = found.get(kind)
    if value is not None and not 1 <= len(value) <= limit:
        raise ProxyLineError(f"the {what} of a header of version 2 has {len(value)} bytes; {limit} are allowed")
    return value


def words_of(authority: bytes) -> str:
    """
    An authority as text.

    @raise ProxyLineError: it is none that a name could be.
    """
    try:
        text = authority.decode()
    except UnicodeDecodeError:
        text = ""
    if not text.isprintable() or not text:
        raise ProxyLineError("the authority of a header of version 2 is no text")
    return text


def crc32c(data: bytes) -> int:
    """The checksum of Castagnoli (RFC 9260 A)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def _divided(byte: int) -> int:
    """What a byte leaves behind when it is divided by the polynomial, its bits reversed."""
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    return byte


_TABLE: Final = tuple(_divided(byte) for byte in range(256))

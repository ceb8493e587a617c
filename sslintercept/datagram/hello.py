"""
The ClientHello of DTLS, and what we say to an address that has not proven itself (RFC 6347 4.2).

The message may be cut into fragments over several datagrams. It is put together, its cookie is taken out, and the rest
is read as the ClientHello of TLS that it is. The proof of an address costs no memory: a cookie is a keyed hash of the
address and the time, and the answer that carries it is shorter than any hello.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from dataclasses import replace
from typing import Final, NamedTuple, NoReturn

from sslintercept.errors import HelloError
from sslintercept.facts import Address, ClientHello
from sslintercept.tls.hello import read_hello

MAX_HELLO: Final = 8 * 1024
"""bytes of the handshake message; it is kept before the address is proven"""
MOST_FRAGMENTS: Final = 32
MOST_NUMBER: Final = 1
"""message_seq of a ClientHello: 0, and 1 behind a HelloVerifyRequest (or a HelloRetryRequest, RFC 9147 5.1)"""
SLOT: Final = 60.0
"""seconds: a cookie is good for one to two of them"""
COOKIE: Final = 32
"""bytes"""
DTLS_1_0, DTLS_1_2, DTLS_1_3 = 0xFEFF, 0xFEFD, 0xFEFC
_JA4_VERSIONS: Final = {DTLS_1_0: "d1", DTLS_1_2: "d2", DTLS_1_3: "d3"}

HEADER: Final = 13
"""bytes of a record's header: type, version, epoch, sequence number, length"""
MESSAGE: Final = 12
"""bytes of a handshake message's header: type, length, message_seq, fragment_offset, fragment_length"""


class Hello(NamedTuple):
    """A whole ClientHello."""

    client_hello: ClientHello
    cookie: bytes
    record: bytes
    """the message in one record, as a server takes it"""
    number: bytes
    """sequence number of the record that completed it, which an answer must carry as well"""


def records(datagram: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Type, epoch with sequence number, and content of each whole record; what is cut short is left out."""
    at, size = 0, len(datagram)
    while at + HEADER <= size:
        end = at + HEADER + int.from_bytes(datagram[at + 11 : at + 13], "big")
        if end > size:
            return
        yield datagram[at], datagram[at + 3 : at + 11], datagram[at + HEADER : end]
        at = end


class _Partial:
    """A message whose fragments are still coming; it takes no more memory than they do."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._parts: dict[int, bytes] = {}

    def add(self, at: int, part: bytes) -> bytes | None:
        """Put a fragment in; the message when nothing is missing. @raise HelloError: they contradict each other."""
        known = self._parts.get(at, b"")
        shared = min(len(known), len(part))
        if known[:shared] != part[:shared]:
            refuse("its fragments contradict each other")
        if len(part) >= len(known):
            self._parts[at] = part
        if len(self._parts) > MOST_FRAGMENTS:
            refuse(f"it comes in more than {MOST_FRAGMENTS} fragments")
        data = bytearray()
        for offset in sorted(self._parts):
            part = self._parts[offset]
            there = data[offset : offset + len(part)]
            if offset > len(data):
                return None
            if part[: len(there)] != there:
                refuse("its fragments contradict each other")
            data += part[len(there) :]
        return bytes(data) if len(data) == self.size else None


class HelloReader:
    """Collects a ClientHello from the datagrams of one flow. After an error it refuses every further one."""

    def __init__(self) -> None:
        self._partial: dict[int, _Partial] = {}
        self._spoiled = False

    def feed(self, datagram: bytes) -> Hello | None:
        """
        Take the next datagram; C{None} means that no hello is complete.

        Records of other kinds, or behind a change of keys, are not looked at.

        @raise HelloError: this is no ClientHello, or not one that may be read in one way only, or it is too large.
        """
        found = None
        try:
            for kind, number, content in records(datagram):
                if kind == 22 and number[:2] == b"\0\0":
                    found = self._messages(number, content, found)
        except HelloError:
            self._spoiled = True
            self._partial.clear()
            raise
        return found

    def _messages(self, number: bytes, content: bytes, found: Hello | None) -> Hello | None:
        at = 0
        while at + MESSAGE <= len(content):
            kind = content[at]
            size = int.from_bytes(content[at + 1 : at + 4], "big")
            serial = int.from_bytes(content[at + 4 : at + 6], "big")
            offset = int.from_bytes(content[at + 6 : at + 9], "big")
            part_size = int.from_bytes(content[at + 9 : at + 12], "big")
            start, at = at + MESSAGE, at + MESSAGE + part_size
            if kind != 1:
                continue
            if self._spoiled:
                refuse("another one came after one that was refused")
            if found is not None:
                refuse("another one follows it in the same datagram")
            if at > len(content) or offset + part_size > size:
                refuse("a fragment is cut short, or does not fit")
            if serial > MOST_NUMBER:
                refuse(f"it is message {serial}; only the first two can be one")
            if size > MAX_HELLO:
                refuse(f"it has {size} bytes; {MAX_HELLO} are allowed")
            partial = self._partial.get(serial)
            if partial is None:
                partial = self._partial[serial] = _Partial(size)
            if partial.size != size:
                refuse("its fragments disagree about its size")
            if (body := partial.add(offset, content[start:at])) is not None:
                del self._partial[serial]
                found = _read(body, serial, number)
        return found


def _read(body: bytes, serial: int, number: bytes) -> Hello:
    """A whole message, as TLS would have it (RFC 6347 4.2.1: the cookie stands behind the session id)."""
    at = 35 + (body[34] if len(body) > 34 else 0)
    size = body[at] if at < len(body) else 0
    end = at + 1 + size
    if end > len(body):
        refuse("it ends before its cipher suites")
    cookie = body[at + 1 : end]
    plain = body[:at] + body[end:]
    message = b"\1" + len(plain).to_bytes(3, "big") + plain
    found = read_hello(b"\x16\3\1" + len(message).to_bytes(2, "big") + message)
    assert found is not None
    listed = 43 in found.extensions
    versions = found.versions if listed else (found.version,)
    highest = min(versions, default=0) if listed else found.version  # DTLS counts downwards
    found = replace(found, versions=versions, ja4=f"d{_JA4_VERSIONS.get(highest, '00')}{found.ja4[3:]}")
    whole = len(body).to_bytes(3, "big")
    content = b"\1" + whole + serial.to_bytes(2, "big") + b"\0\0\0" + whole + body
    record = b"\x16\xfe\xff" + number + len(content).to_bytes(2, "big") + content
    return Hello(found, cookie, record, number)


class Cookies:
    """
    Proofs of addresses, kept by their owners.

    @param key: random bytes of this process.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def bake(self, peer: Address, now: float, age: int = 0) -> bytes:
        """The cookie of C{peer} in the slot of C{now}, or C{age} slots before."""
        slot = int(now // SLOT) - age
        return hmac.digest(self._key, f"{slot} {peer.port} {peer.host}".encode(), "sha256")

    def good(self, cookie: bytes, peer: Address, now: float) -> bool:
        """Whether C{peer} has it from us, and lately."""
        return any(hmac.compare_digest(cookie, self.bake(peer, now, age)) for age in (0, 1))


def hello_verify(cookie: bytes, number: bytes) -> bytes:
    """The datagram that asks for the hello again, with C{cookie} in it (RFC 6347 4.2.1: DTLS 1.0 in any case)."""
    body = b"\xfe\xff" + bytes([len(cookie)]) + cookie
    size = len(body).to_bytes(3, "big")
    content = b"\3" + size + b"\0\0" + b"\0\0\0" + size + body
    return b"\x16\xfe\xff" + number + len(content).to_bytes(2, "big") + content


def fatal(alert: int, number: bytes) -> bytes:
    """The datagram that ends a handshake before there are keys (RFC 6347 4.1)."""
    return b"\x15\xfe\xfd" + number + b"\0\2\2" + bytes([alert])


def refuse(what: str) -> NoReturn:
    """@raise HelloError: always."""
    raise HelloError(what, where="client hello of DTLS", remedy="the datagram was dropped")

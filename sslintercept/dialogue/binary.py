"""
STARTTLS in protocols of bytes: LDAP (RFC 4511 4.14), PostgreSQL (SSL Session Encryption), MySQL (Protocol::SSLRequest).

Each has a judge of what the client says, one of what the server says, and the words in which cleartext is refused.
"""

from __future__ import annotations

import struct
from typing import Final

from sslintercept.dialogue.framing import Broken
from sslintercept.dialogue.judged import NOTHING, TLS, Act, Heard, Said, Turn

REASON: Final = b"encryption is required here"

# LDAP

START_TLS: Final = b"1.3.6.1.4.1.1466.20037"
NOTICE_OF_DISCONNECTION: Final = b"1.3.6.1.4.1.1466.20036"
CONFIDENTIALITY_REQUIRED: Final = 13

_BIND, _BIND_RESPONSE, _UNBIND, _SEARCH, _ENTRY, _ABANDON, _EXTENDED, _EXTENDED_RESPONSE = (
    0x60,
    0x61,
    0x42,
    0x63,
    0x64,
    0x50,
    0x77,
    0x78,
)
_INTEGER, _OCTETS, _ENUMERATED, _SEQUENCE, _SET = 0x02, 0x04, 0x0A, 0x30, 0x31
_SIMPLE, _NAME, _RESPONSE_NAME = 0x80, 0x80, 0x8A


class Ber:
    """Values of BER, one behind the other; lengths are definite and of at most four bytes."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        """Whether there is one more."""
        return self._at < len(self._data)

    def next(self) -> tuple[int, bytes]:
        """
        The next tag, and what it holds.

        @raise Broken: there is none, or not the whole of it.
        """
        head = self._data[self._at : self._at + 6]
        if len(head) < 2:
            raise Broken("a value of LDAP is missing")
        begin, size = self._at + 2, head[1]
        if size >= 0x80:
            more = size - 0x80
            begin, size = begin + more, int.from_bytes(head[2 : 2 + more], "big")
            if not 1 <= more <= 4:
                raise Broken("a length that LDAP does not have")
        if begin + size > len(self._data):
            raise Broken("a value of LDAP is longer than what holds it")
        self._at = begin + size
        return head[0], self._data[begin : begin + size]

    def take(self, tag: int) -> bytes:
        """What the next value holds, which has this C{tag}."""
        found, value = self.next()
        if found != tag:
            raise Broken("a value of LDAP has another type than it should")
        return value


def ber(tag: int, *values: bytes) -> bytes:
    """A value; its length is written as short as possible."""
    value = b"".join(values)
    size = len(value)
    if size < 0x80:
        return bytes((tag, size)) + value
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 + len(length))) + length + value


def ldap_said(message: bytes) -> Said:
    """A request."""
    number, operation, body = _operation(message)
    name = _name(operation + 1, number)
    if operation == _EXTENDED:
        return Said(Act.ASKS if body.take(_NAME) == START_TLS else Act.PLAIN, name)
    if operation == _BIND:
        body.take(_INTEGER)
        body.take(_OCTETS)
        # Without a password nobody has logged in (RFC 4513 5.1), and TLS may still come.
        return Said(Act.PLAIN if body.next() == (_SIMPLE, b"") else Act.LOGS_IN, name)
    if operation == _SEARCH:
        # The root, where the server says what it can do (RFC 4512 5.1).
        root = (body.take(_OCTETS), body.take(_ENUMERATED)) == (b"", b"\x00")
        return Said(Act.LEADS if root else Act.PLAIN)
    return Said(Act.LEADS if operation in (_UNBIND, _ABANDON) else Act.PLAIN)


def ldap_heard(message: bytes, _turn: Turn) -> Heard:
    """A response, or an entry: that of the root may list what the server can do."""
    number, operation, body = _operation(message)
    if operation == _ENTRY:
        return Heard(offer=_extensions(body))
    if operation in (_EXTENDED_RESPONSE, _BIND_RESPONSE):
        agreed = not int.from_bytes(body.take(_ENUMERATED), "big")
        return Heard(agreed, _name(operation, number))
    return NOTHING


def ldap_refusal(message: bytes) -> bytes:
    """Why not in the clear: as the answer where its form is known, else as the notice before the end (4.4.1)."""
    number, operation, _ = _operation(message)
    result = (ber(_ENUMERATED, bytes((CONFIDENTIALITY_REQUIRED,))), ber(_OCTETS), ber(_OCTETS, REASON))
    if operation in (_BIND, _EXTENDED):
        return ber(_SEQUENCE, ber(_INTEGER, number), ber(operation + 1, *result))
    notice = ber(_EXTENDED_RESPONSE, *result, ber(_RESPONSE_NAME, NOTICE_OF_DISCONNECTION))
    return ber(_SEQUENCE, ber(_INTEGER, b"\x00"), notice)


def _operation(message: bytes) -> tuple[bytes, int, Ber]:
    """Number, operation and what it holds of a whole message."""
    values = Ber(Ber(message).take(_SEQUENCE))
    number = values.take(_INTEGER)
    if not 1 <= len(number) <= 4:
        raise Broken("a message of LDAP has no number")
    operation, body = values.next()
    return number, operation, Ber(body)


def _name(response: int, number: bytes) -> str:
    """What an answer is known by: its operation, and the number of the request."""
    return f"{response:x} {int.from_bytes(number, 'big')}"


def _extensions(entry: Ber) -> bool | None:
    """Whether StartTLS is among the extensions of the root, if the entry is the root and lists them."""
    if entry.take(_OCTETS):
        return None
    attributes = Ber(entry.take(_SEQUENCE))
    while attributes:
        attribute = Ber(attributes.take(_SEQUENCE))
        if attribute.take(_OCTETS).lower() == b"supportedextension":
            values = Ber(attribute.take(_SET))
            offer = False if values else None  # only the names of attributes were wanted
            while values:
                offer = values.take(_OCTETS) == START_TLS or offer
            return offer
    return None


# PostgreSQL

_SSL_REQUEST: Final = 80877103
_GSS_REQUEST: Final = 80877104
_CANCEL_REQUEST: Final = 80877102
_VERSIONS: Final = (2, 3)
"""of the protocol"""


def postgresql_said(packet: bytes) -> Said:
    """A first packet: wishes for encryption, the start of the session, or a request to cancel another's query."""
    (code,) = struct.unpack_from(">I", packet, 4)
    if code in (_SSL_REQUEST, _GSS_REQUEST):
        if len(packet) != 8:
            raise Broken("a wish for encryption of PostgreSQL that holds more")
        return Said(Act.ASKS, TLS) if code == _SSL_REQUEST else Said(Act.WRAPS)
    if code != _CANCEL_REQUEST and code >> 16 not in _VERSIONS:
        raise Broken("this is no start of PostgreSQL")
    return Said(Act.LEAVES)


def postgresql_heard(byte: bytes, turn: Turn) -> Heard:
    """One byte; E begins the error of a server that does not know the request."""
    if byte not in (b"S" if turn.said.act is Act.ASKS else b"G", b"N", b"E"):
        raise Broken("this is no answer of PostgreSQL")
    return Heard(agreed=byte in b"SG", leaves=byte == b"E")


_FIELDS: Final = b"SFATAL\x00VFATAL\x00C28000\x00M" + REASON + b": use sslmode=require\x00\x00"
POSTGRESQL_REFUSAL: Final = struct.pack(">cI", b"E", 4 + len(_FIELDS)) + _FIELDS
"""ErrorResponse 28000, invalid_authorization_specification"""


# MySQL

_CLIENT_SSL: Final = 0x0800
_SSL_REQUEST_SIZE: Final = 4 + 32


def mysql_said(packet: bytes) -> Said:
    """What the client answers to the greeting: it either wants TLS, or logs in."""
    if packet[3] != 1 or len(packet) < 4 + 2:
        raise Broken("this is no answer to the greeting of MySQL")
    if not int.from_bytes(packet[4:6], "little") & _CLIENT_SSL:
        return Said(Act.LEAVES)
    if len(packet) != _SSL_REQUEST_SIZE:
        # Servers would begin TLS behind it, although names stand in it in the clear.
        raise Broken("a request for TLS of MySQL that holds more or less than it should")
    return Said(Act.ASKS, TLS)


def mysql_heard(packet: bytes, _turn: Turn) -> Heard:
    """The greeting, or the error that stands in its place."""
    version = packet[4:5]
    if packet[3] != 0 or version not in (b"\x09", b"\x0a", b"\xff"):
        raise Broken("this is no greeting of MySQL")
    if version == b"\xff":
        return Heard(leaves=True)
    if version == b"\x09":
        return Heard(offer=False)
    # The server's version, a thread (4 bytes), the first 8 bytes of a challenge, a zero, the lower capabilities.
    end = packet.find(b"\x00", 5)
    at = end + 1 + 4 + 8 + 1
    if end < 0 or len(packet) < at + 2:
        raise Broken("the greeting of MySQL is cut short")
    return Heard(offer=bool(int.from_bytes(packet[at : at + 2], "little") & _CLIENT_SSL))


_ERROR: Final = b"\xff%b#HY000Connections using insecure transport are prohibited: %b" % (
    (3159).to_bytes(2, "little"),
    REASON,
)
MYSQL_REFUSAL: Final = len(_ERROR).to_bytes(3, "little") + b"\x02" + _ERROR
"""ERR_Packet of ER_SECURE_TRANSPORT_REQUIRED, which comes behind the client's packet"""

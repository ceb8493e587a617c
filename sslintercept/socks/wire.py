"""
The messages of SOCKS 4, 4a and 5, from bytes and to bytes.

Each kind of message has a I{layout}: a function that looks at the bytes so far and gives C{None} (more is needed), the
message and its length, or raises. A layout judges from left to right and keeps its word whatever follows, so that the
answer does not depend on how the network cut the stream. L{Reader} holds the bytes between two messages; what stands
behind the last one is early data for whoever comes next. No message is longer than 520 bytes (L{MAX_MESSAGE}).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from types import MappingProxyType
from typing import Final, NamedTuple, TypeAlias, TypeVar

from sslintercept.errors import ClientError
from sslintercept.facts import Address
from sslintercept.profile.profile import Bytes

MAX_TEXT: Final = 255
"""Bytes of a host, of SOCKS 4's user id, of a user's name, of a password."""
MAX_NAME: Final = 253
"""Characters of a name (RFC 1035 2.3.4), without the dot at its end."""
MAX_MESSAGE: Final = 8 + 2 * (MAX_TEXT + 1)
"""Bytes after which every layout has made up its mind: SOCKS 4a, with a user id and a host."""

NO_LOGIN: Final = 0
PASSWORD: Final = 2
NO_METHOD: Final = 0xFF
"""Methods of SOCKS 5 (RFC 1928 3)."""

_LABEL: Final = re.compile(r"[a-z0-9_-]{1,63}")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")


class Command(IntEnum):
    """What a client asks for (RFC 1928 4)."""

    CONNECT = 1
    BIND = 2
    ASSOCIATE = 3


class Reply(IntEnum):
    """What is answered (RFC 1928 6)."""

    GRANTED = 0
    FAILED = 1
    NOT_ALLOWED = 2
    NO_HOST = 4
    REFUSED = 5
    TOO_LATE = 6
    NO_COMMAND = 7
    NO_ADDRESS_TYPE = 8


REPLIES: Final = MappingProxyType(
    {
        "blocked": Reply.NOT_ALLOWED,
        "forbidden": Reply.NOT_ALLOWED,
        "dns": Reply.NO_HOST,
        "connect": Reply.REFUSED,
        "timeout": Reply.TOO_LATE,
    }
)
"""The reply to an error, by its kind; any other one is L{Reply.FAILED}."""


class SocksError(ClientError):
    """
    A message of SOCKS that is malformed or too large, or asks for what is not served.

    @ivar reply: the reply that says so, if it is a request.
    """

    kind = "socks"

    def __init__(
        self, what: str, *, where: str = "SOCKS", remedy: str = "nothing was forwarded", reply: Reply = Reply.FAILED
    ) -> None:
        super().__init__(what, where=where, remedy=remedy)
        self.reply = reply


class Login(NamedTuple):
    """A name and a password (RFC 1929 2)."""

    user: bytes
    password: bytes

    def __repr__(self) -> str:
        return "Login(...)"


@dataclass(frozen=True, slots=True)
class Request:
    """
    What a client asks for.

    C{user_id} is what a client of SOCKS 4 says of itself; nobody has checked it.
    """

    version: int
    command: Command
    destination: Address
    user_id: bytes = field(default=b"", repr=False)


Message = TypeVar("Message")
Layout: TypeAlias = Callable[[Bytes], tuple[Message, int] | None]


class Reader:
    """Takes one message after another out of bytes that come in any pieces."""

    def __init__(self, peeked: Bytes = b"") -> None:
        self._held = bytearray(peeked)

    def __len__(self) -> int:
        return len(self._held)

    def feed(self, data: Bytes) -> None:
        """Here is more."""
        self._held += data

    def take(self, layout: Layout[Message]) -> Message | None:
        """
        The next message, or C{None} if it is not complete.

        @raise SocksError: it is no such message, whatever follows.
        """
        found = layout(bytes(self._held[:MAX_MESSAGE]))
        if found is None:
            return None
        message, size = found
        del self._held[:size]
        return message

    def rest(self) -> bytes:
        """What stands behind the last message; it is given away."""
        rest = bytes(self._held)
        self._held.clear()
        return rest


# what clients say


def greeting(data: Bytes) -> tuple[bytes, int] | None:
    """The methods that a client of SOCKS 5 offers (RFC 1928 3)."""
    _version(data, 5)
    if len(data) < 2:
        return None
    if not data[1]:
        raise SocksError("a greeting without methods")
    end = 2 + data[1]
    return (bytes(data[2:end]), end) if len(data) >= end else None


def login(data: Bytes) -> tuple[Login, int] | None:
    """A name and a password (RFC 1929 2)."""
    _version(data, 1)
    user = _text(data, 1)
    if user is None:
        return None
    password = _text(data, 2 + len(user))
    if password is None:
        return None
    return Login(user, password), 3 + len(user) + len(password)


def request5(data: Bytes) -> tuple[Request, int] | None:
    """A request of SOCKS 5 (RFC 1928 4)."""
    _version(data, 5)
    if len(data) < 2:
        return None
    command = _command(data[1], Command.ASSOCIATE)
    if len(data) < 3:
        return None
    if data[2]:
        raise SocksError("the reserved byte of a request is not 0")
    found = _address(data, 3)
    if found is None:
        return None
    destination, size = found
    return Request(5, command, _usable(command, destination)), size


def request4(data: Bytes) -> tuple[Request, int] | None:
    """A request of SOCKS 4 or 4a (SOCKS 4A, Y.-D. Lee)."""
    _version(data, 4)
    if len(data) < 2:
        return None
    command = _command(data[1], Command.BIND)
    if len(data) < 8:
        return None
    port = int.from_bytes(data[2:4], "big")
    user_id = _ended(data, 8, "user id")
    if user_id is None:
        return None
    size = 9 + len(user_id)
    if any(data[4:7]) or not data[7]:
        host = str(ipaddress.IPv4Address(bytes(data[4:8])))
    else:
        # 0.0.0.x is nowhere: the name comes behind (4a).
        name = _ended(data, size, "host")
        if name is None:
            return None
        host = _host(name)
        size += 1 + len(name)
    return Request(4, command, _usable(command, Address(host, port)), user_id), size


def _version(data: Bytes, version: int) -> None:
    if len(data) and data[0] != version:
        raise SocksError(f"a message begins with version {data[0]}, not {version}")


def _command(number: int, last: Command) -> Command:
    if not 1 <= number <= last:
        raise SocksError(f"command {number} is unknown", reply=Reply.NO_COMMAND)
    return Command(number)


def _usable(command: Command, destination: Address) -> Address:
    if command is Command.CONNECT and not destination.port:
        raise SocksError("a request to connect to port 0")
    return destination


def _text(data: Bytes, at: int) -> bytes | None:
    """What stands behind a length in one byte."""
    if len(data) <= at:
        return None
    end = at + 1 + data[at]
    return bytes(data[at + 1 : end]) if len(data) >= end else None


def _ended(data: Bytes, at: int, what: str) -> bytes | None:
    """What stands before a zero byte."""
    text, zero, _ = bytes(data[at : at + MAX_TEXT + 1]).partition(b"\0")
    if zero:
        return text
    if len(text) > MAX_TEXT:
        raise SocksError(f"a {what} above {MAX_TEXT} bytes")
    return None


def _address(data: Bytes, at: int) -> tuple[Address, int] | None:
    """A type, an address of that type, and a port (RFC 1928 5); with the place behind them."""
    if len(data) <= at:
        return None
    kind = data[at]
    at += 1
    if kind == 3:
        name = _text(data, at)
        if name is None:
            return None
        host, end = _host(name), at + 1 + len(name)
    elif kind in _SIZES:
        end = at + _SIZES[kind]
        if len(data) < end:
            return None
        host = _literal(bytes(data[at:end]))
    else:
        raise SocksError(f"address type {kind} is unknown", reply=Reply.NO_ADDRESS_TYPE)
    if len(data) < end + 2:
        return None
    return Address(host, int.from_bytes(data[end : end + 2], "big")), end + 2


_SIZES: Final = {1: 4, 4: 16}
"""bytes of an address, by its type"""


def _literal(raw: bytes) -> str:
    """An address in its canonical form: rules are asked about the one that packets are sent to."""
    found = ipaddress.ip_address(raw)
    return str(getattr(found, "ipv4_mapped", None) or found)


def _host(raw: bytes) -> str:
    """
    A name in lower case without the dot at its end, or an address that stands in a name's place.

    Numbers that only look like an address (C{127.1}, C{0x7f.1}) are refused: whoever resolves them may read them as one
    that the rules did not see.
    """
    try:
        name = raw.decode("ascii").lower().removesuffix(".")
    except UnicodeDecodeError:
        raise SocksError("a host that is not ASCII", remedy="send the name as xn--...") from None
    bare = name[1:-1] if name.startswith("[") and name.endswith("]") else name
    try:
        return _literal(ipaddress.ip_address("" if "%" in bare else bare).packed)
    except ValueError:
        labels = name.split(".")
    if len(name) > MAX_NAME or not all(map(_LABEL.fullmatch, labels)) or _NUMBER.fullmatch(labels[-1]):
        raise SocksError("a host that is neither a name nor an address")
    return name


# what we say


def method(number: int) -> bytes:
    """The method we choose, or L{NO_METHOD}."""
    return bytes((5, number))


def login_answer(granted: bool) -> bytes:
    """Whether the name and the password are right (RFC 1929 2)."""
    return b"\x01\x00" if granted else b"\x01\x01"


def reply(version: int, code: Reply, bound: Address | None = None) -> bytes:
    """
    The answer to a request of SOCKS 4 or 5.

    @param bound: the address that the answer tells; C{None} for none.
    """
    if version == 5:
        return bytes((5, code, 0)) + _packed(bound)
    said = 0x5A if code is Reply.GRANTED else 0x5B
    kind, *rest = _packed(bound)
    # SOCKS 4 knows IPv4 only.
    return bytes((0, said, *rest[4:], *rest[:4])) if kind == 1 else bytes((0, said)) + bytes(6)


def code_of(error: Exception) -> Reply:
    """The reply that tells a client what went wrong."""
    if isinstance(error, SocksError):
        return error.reply
    return REPLIES.get(getattr(error, "kind", ""), Reply.FAILED)


def _packed(address: Address | None) -> bytes:
    """An address with its type before it; one that is a name, or none at all, is 0.0.0.0."""
    host, port = address or Address("0.0.0.0", 0)
    try:
        raw = ipaddress.ip_address(host).packed
    except ValueError:
        raw = bytes(4)
    return bytes((1 if len(raw) == 4 else 4,)) + raw + port.to_bytes(2, "big")


# datagrams


def read_datagram(data: Bytes) -> tuple[Address, bytes] | None:
    """
    Where a datagram of a client is to go, and what it carries (RFC 1928 7); C{None} for a fragment, which is dropped.

    @raise SocksError: it has no such header.
    """
    if len(data) < 3 or data[0] or data[1]:
        raise SocksError("a datagram without the header of SOCKS 5")
    if data[2]:
        return None
    found = _address(data, 3)
    if found is None:
        raise SocksError("a datagram that ends within its header")
    destination, end = found
    if not destination.port:
        raise SocksError("a datagram to port 0")
    return destination, bytes(data[end:])


def write_datagram(source: Address, data: Bytes) -> bytes:
    """A datagram for a client: C{data} came from C{source}, which is an IP address (RFC 1928 7)."""
    return b"\0\0\0" + _packed(source) + data

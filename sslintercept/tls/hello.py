"""
The ClientHello, read from bytes before any TLS library sees them (RFC 8446 4.1.2, 5.1).

The hello may come in any number of segments and of TLS records; every byte is looked at once, so the cost is linear
even for single bytes. Whatever is malformed, ambiguous or too large is refused: what a rule decides on must be what the
TLS library will find. Nothing else of the handshake is judged here; that is the library's part.

GREASE (RFC 8701) is taken out of every list. The fingerprint is JA4 as FoxIO specifies it (technical_details/JA4.md).

22 us for the hello of OpenSSL 4 (1.5 KiB), 6 of them for JA4; 0.4 us for a segment of one byte.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from hashlib import sha256
from typing import Final, NoReturn

from sslintercept.errors import HelloError
from sslintercept.facts import ClientHello

MAX_HELLO: Final = 64 * 1024
"""Bytes of the handshake message with its header."""
MAX_WIRE: Final = 128 * 1024
"""Bytes of the records that carry it, their headers included."""
MAX_FRAGMENT: Final = 2**14
"""Bytes in one record (RFC 8446 5.1)."""
MAX_NAME: Final = 253
"""Characters of a host name (RFC 1035 2.3.4)."""

GREASE: Final = frozenset(0x0A0A + 0x1010 * step for step in range(16))
_GREASE_ALPN: Final = frozenset(value.to_bytes(2, "big") for value in GREASE)

_SERVER_NAME: Final = 0
_GROUPS: Final = 10
_SIGNATURE_ALGORITHMS: Final = 13
_ALPN: Final = 16
_SESSION_TICKET: Final = 35
_PRE_SHARED_KEY: Final = 41
_SUPPORTED_VERSIONS: Final = 43
_KEY_SHARE: Final = 51
_ECH: Final = 0xFE0D

_JA4_VERSIONS: Final = {0x0304: "13", 0x0303: "12", 0x0302: "11", 0x0301: "10", 0x0300: "s3", 0x0002: "s2"}
_IN_FIRST_PART: Final = frozenset((_SERVER_NAME, _ALPN))
_NAME = re.compile(rb"[!-~]{1,%d}" % MAX_NAME)
_ALPHANUMERIC = frozenset(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")

_extension = struct.Struct(">HH").unpack_from


class HelloReader:
    """
    Collects a ClientHello from the bytes of a connection. After an error it is of no further use.

    It keeps the handshake message only; whoever passes the bytes on keeps them.
    """

    __slots__ = ("_header", "_hello", "_left", "_message", "_size", "_wire")

    def __init__(self) -> None:
        self._header = bytearray()
        self._left = 0
        """bytes of the current record that have not come yet"""
        self._wire = 0
        self._message = bytearray()
        self._size = 0
        """bytes of the message with its header, once that is known"""
        self._hello: ClientHello | None = None

    def feed(self, data: bytes | bytearray | memoryview) -> ClientHello | None:
        """
        Take the next bytes; C{None} means that the hello is not complete.

        What follows the record in which the hello ends is not looked at, in this call or later ones.

        @raise HelloError: this is no ClientHello, or not one that may be read in one way only, or it is too large.
        """
        at, end = 0, len(data)
        while at < end and self._hello is None:
            if not self._left:
                part = data[at : at + 5 - len(self._header)]
                self._header += part
                at += len(part)
                if len(self._header) == 5:
                    self._begin_record()
                continue
            part = data[at : at + self._left]
            self._message += part
            at += len(part)
            self._left -= len(part)
            self._look()
        return self._hello

    def _begin_record(self) -> None:
        kind, major, minor, size = struct.unpack(">BBBH", self._header)
        if kind & 0x80 and minor == 1:
            _refuse("this is an SSLv2-style hello (RFC 5246 E.2), which is not served")
        if kind != 22:
            _refuse(f"a record of type {kind} comes where a handshake must begin")
        if major != 3 or minor > 4:
            _refuse(f"the record has version {major}.{minor}, which is not one of TLS")
        if not 0 < size <= MAX_FRAGMENT:
            _refuse(f"a record of {size} bytes; 1 to {MAX_FRAGMENT} are allowed")
        self._wire += 5 + size
        if self._wire > MAX_WIRE:
            _refuse(f"its records take more than {MAX_WIRE} bytes")
        self._left = size
        self._header.clear()

    def _look(self) -> None:
        """Judge the message as far as it is here."""
        message = self._message
        if not self._size:
            if len(message) < 4:
                return
            if message[0] != 1:
                _refuse(f"a handshake message of type {message[0]} comes where the ClientHello must be")
            self._size = 4 + int.from_bytes(message[1:4], "big")
            if self._size > MAX_HELLO:
                _refuse(f"it has {self._size} bytes; {MAX_HELLO} are allowed")
        if len(message) + self._left > self._size:
            # A key change may follow, and with it the meaning of what comes next (RFC 8446 5.1).
            _refuse("more bytes follow it in its record")
        if len(message) == self._size:
            self._hello = _parse(bytes(message))


def read_hello(data: bytes) -> ClientHello | None:
    """
    The hello at the beginning of C{data}; C{None} if it is not complete.

    @raise HelloError: like L{HelloReader.feed}.
    """
    return HelloReader().feed(data)


def ja4(
    *,
    version: int,
    ciphers: Sequence[int],
    extensions: Sequence[int],
    alpn: Sequence[bytes],
    signature_algorithms: Sequence[int],
) -> str:
    """
    The JA4 fingerprint of a ClientHello over TCP: C{t13d1516h2_8daaf6152771_e5627efa2ab1}.

    @param version: the highest in supported_versions, or without that extension legacy_version.
    @param ciphers: this and all lists without GREASE, in the order of the hello.
    """
    listed = _hex(sorted([extension for extension in extensions if extension not in _IN_FIRST_PART]))
    if listed and signature_algorithms:
        listed = f"{listed}_{_hex(signature_algorithms)}"
    return (
        f"t{_JA4_VERSIONS.get(version, '00')}{'d' if _SERVER_NAME in extensions else 'i'}"
        f"{min(len(ciphers), 99):02}{min(len(extensions), 99):02}{_ends(alpn[0] if alpn else b'')}"
        f"_{_digest(_hex(sorted(ciphers)))}_{_digest(listed)}"
    )


def _ends(protocol: bytes) -> str:
    """The first and the last character of the first ALPN value, or of its hexadecimal form."""
    if not protocol:
        return "00"
    first, last = protocol[0], protocol[-1]
    return chr(first) + chr(last) if {first, last} <= _ALPHANUMERIC else f"{first >> 4:x}{last & 15:x}"


def _hex(numbers: Sequence[int]) -> str:
    return struct.pack(f">{len(numbers)}H", *numbers).hex(",", 2) if numbers else ""


def _digest(text: str) -> str:
    return sha256(text.encode("ascii")).hexdigest()[:12] if text else "000000000000"


def _refuse(what: str) -> NoReturn:
    raise HelloError(what, where="client hello", remedy="the connection was not served")


def _parse(message: bytes) -> ClientHello:
    """The fields of a whole message; its size is right already."""
    if len(message) < 39:
        _refuse("it ends before its session id")
    version = int.from_bytes(message[4:6], "big")
    if version < 0x0300:
        _refuse(f"legacy_version is {version:#06x}")
    session_size = message[38]
    if session_size > 32:
        _refuse(f"the session id has {session_size} bytes; 32 are allowed")
    at = 39 + session_size
    after = at + 2 + int.from_bytes(message[at : at + 2], "big")
    all_ciphers = _numbers(message[at:after], 2, "cipher_suites")
    compressions = message[after : after + 1]
    at = after + 1 + (compressions[0] if compressions else 0)
    if at <= after + 1 or at > len(message):
        _refuse("compression_methods is empty or cut short")
    found = _extensions(message, at)

    server_name = _server_name(found[_SERVER_NAME]) if _SERVER_NAME in found else None
    all_versions = _optional(found, _SUPPORTED_VERSIONS, 1, "supported_versions")
    all_groups = _optional(found, _GROUPS, 2, "supported_groups")
    all_algorithms = _optional(found, _SIGNATURE_ALGORITHMS, 2, "signature_algorithms")
    all_shares = _key_shares(found[_KEY_SHARE]) if _KEY_SHARE in found else ()
    all_protocols = _protocols(found[_ALPN]) if _ALPN in found else ()
    all_extensions = tuple(found)
    numbers = (all_ciphers, all_extensions, all_versions, all_groups, all_algorithms, all_shares)
    grease = not all(map(GREASE.isdisjoint, numbers)) or not _GREASE_ALPN.isdisjoint(all_protocols)
    if grease:
        ciphers, extensions, versions, groups, algorithms, shares = map(_without_grease, numbers)
        alpn = tuple(protocol for protocol in all_protocols if protocol not in _GREASE_ALPN)
    else:
        (ciphers, extensions, versions, groups, algorithms, shares), alpn = numbers, all_protocols
    listed = _SUPPORTED_VERSIONS in found
    return ClientHello(
        version=version,
        # Without the extension nothing above TLS 1.2 is offered, whatever legacy_version says (RFC 8446 4.2.1).
        versions=versions if listed else (min(version, 0x0303),),
        ciphers=ciphers,
        extensions=extensions,
        server_name=server_name,
        alpn=alpn,
        groups=groups,
        key_shares=shares,
        signature_algorithms=algorithms,
        resumes=_PRE_SHARED_KEY in found or bool(found.get(_SESSION_TICKET)),
        ech=_ECH in found,
        grease=grease,
        ja4=ja4(
            version=max(versions, default=0) if listed else version,
            ciphers=ciphers,
            extensions=extensions,
            alpn=alpn,
            signature_algorithms=algorithms,
        ),
        size=len(message),
    )


def _extensions(message: bytes, at: int) -> dict[int, bytes]:
    """Extensions by type, in their order; a hello may end without the whole block."""
    found: dict[int, bytes] = {}
    total = len(message)
    if at == total:
        return found
    if total - at < 2 or int.from_bytes(message[at : at + 2], "big") != total - at - 2:
        _refuse("the length of its extensions is not what is left of the message")
    at += 2
    while at < total:
        if total - at < 4:
            _refuse("an extension is cut short")
        kind, size = _extension(message, at)
        at += 4
        if size > total - at:
            _refuse(f"extension {kind} is cut short")
        if kind in found:
            _refuse(f"extension {kind} comes twice")
        found[kind] = message[at : at + size]
        at += size
    return found


def _optional(found: dict[int, bytes], kind: int, prefix: int, what: str) -> tuple[int, ...]:
    data = found.get(kind)
    return () if data is None else _numbers(data, prefix, what)


def _numbers(data: bytes, prefix: int, what: str) -> tuple[int, ...]:
    """A list of 16-bit numbers that is all of C{data}, behind its length in C{prefix} bytes."""
    size = len(data) - prefix
    if size < 2 or size % 2 or int.from_bytes(data[:prefix], "big") != size:
        _refuse(f"{what} is not a list of 16-bit numbers")
    return struct.unpack_from(f">{size // 2}H", data, prefix)


def _without_grease(numbers: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(number for number in numbers if number not in GREASE)


def _block(data: bytes, what: str) -> bytes:
    """What stands behind a length in two bytes, and nothing else."""
    if len(data) < 2 or int.from_bytes(data[:2], "big") != len(data) - 2:
        _refuse(f"the length of {what} is wrong")
    return data[2:]


def _server_name(data: bytes) -> str:
    """The one host name; a list without it, or with two, says nothing that could be relied on (RFC 6066 3)."""
    block = _block(data, "server_name")
    names: list[bytes] = []
    at = 0
    while at < len(block):
        # Names of other types have the same form (RFC 6066 3).
        start = at + 3
        end = start + int.from_bytes(block[at + 1 : start], "big")
        if len(block) < max(start, end):
            _refuse("server_name is cut short")
        if block[at] == 0:
            names.append(block[start:end])
        at = end
    if len(names) != 1:
        _refuse(f"server_name has {len(names)} host names; it must have one")
    name = names[0].removesuffix(b".")
    if not _NAME.fullmatch(name):
        _refuse(f"the host name in server_name is not 1 to {MAX_NAME} visible ASCII characters")
    return name.decode("ascii").lower()


def _protocols(data: bytes) -> tuple[bytes, ...]:
    """The names of ALPN (RFC 7301 3.1)."""
    block = _block(data, "application_layer_protocol_negotiation")
    names: list[bytes] = []
    at = 0
    while at < len(block):
        start, at = at + 1, at + 1 + block[at]
        names.append(block[start:at])
    if at != len(block) or not names or not all(names):
        _refuse("application_layer_protocol_negotiation is cut short, or has no name, or an empty one")
    return tuple(names)


def _key_shares(data: bytes) -> tuple[int, ...]:
    """The groups of key_share; none asks for a HelloRetryRequest (RFC 8446 4.2.8)."""
    block = _block(data, "key_share")
    groups: list[int] = []
    at = 0
    while at < len(block):
        if len(block) - at < 4:
            _refuse("key_share is cut short")
        group, size = _extension(block, at)
        at += 4 + size
        if not size or at > len(block):
            _refuse("a key in key_share is empty or cut short")
        groups.append(group)
    return tuple(groups)

"""
What a datagram is, told from the datagram alone, as data: a new protocol is a new line of L{OPENINGS}.

A datagram is whole when it comes, so a judge says yes or no. One with too little to go by (C{weak}) is believed only
where the port expects its protocol. Ports alone name nothing: a port that disagrees is noted as a mismatch, as
L{sslintercept.probe.verdict} does for streams.

1.3 us for QUIC or a ClientHello of DTLS, 3 us until all have said no.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple, TypeAlias

from sslintercept.facts import Verdict

UNRECOGNISED: Final = "unknown"
INITIAL: Final = 1200
"""bytes that a datagram with an Initial packet has at least (RFC 9000 14.1)"""
MOST_LABELS: Final = 127
"""labels of a name (RFC 1035 3.1 bounds it by 255 bytes)"""
CLASSES: Final = frozenset({1, 3, 4, 254, 255})
"""classes of DNS (RFC 6895 3.2)"""

QUIC_V1: Final = 1
QUIC_V2: Final = 0x6B3343CF

Judge: TypeAlias = Callable[[bytes], bool]
"""Never raises, whatever it is given."""


class Opening(NamedTuple):
    """The first datagram of a protocol: its name, how to tell, and where that is written."""

    name: str
    judge: Judge
    source: str
    weak: bool = False
    """too little to go by without a port that expects it"""


def dtls(datagram: bytes) -> bool:
    """A ClientHello, or its first fragment, in a record of epoch 0."""
    return (
        len(datagram) >= 25
        and datagram[0] == 22
        and datagram[1:3] in (b"\xfe\xff", b"\xfe\xfd")
        and datagram[3:5] == b"\0\0"
        and 12 <= int.from_bytes(datagram[11:13], "big") <= len(datagram) - 13
        and datagram[13] == 1
    )


def quic(datagram: bytes) -> bool:
    """A long header (RFC 9000 17.2) of a version that is in use, or of one made up to exercise the negotiation."""
    if len(datagram) < 7 or datagram[0] & 0xC0 != 0xC0:
        return False
    version = int.from_bytes(datagram[1:5], "big")
    kind = datagram[0] >> 4 & 3
    if version == QUIC_V2:
        initial = kind == 1  # RFC 9369 3.2
    elif version == QUIC_V1 or version >> 8 == 0xFF0000:
        initial = kind == 0
    elif version & 0x0F0F0F0F == 0x0A0A0A0A:
        initial = True  # any type: its meaning is the version's (RFC 9000 15)
    else:
        return False
    size = datagram[5]
    if size > 20 or len(datagram) < 7 + size:
        return False
    return not initial or len(datagram) >= INITIAL


def stun(datagram: bytes) -> bool:
    """The magic cookie, and a length that fits (RFC 8489 5)."""
    return (
        len(datagram) >= 20
        and datagram[0] < 0x40
        and datagram[4:8] == b"\x21\x12\xa4\x42"
        and int.from_bytes(datagram[2:4], "big") == len(datagram) - 20
        and len(datagram) % 4 == 0
    )


def dns(datagram: bytes) -> bool:
    """A query with one question that can be read, and nothing but additional records behind it (RFC 1035 4.1)."""
    if len(datagram) < 17:
        return False
    _, flags, questions, answers, authorities, additional = struct.unpack_from(">6H", datagram)
    # No response, no truncation, a plain query; RD, AD and CD may be set.
    if flags & ~0x0130 or (questions, answers, authorities) != (1, 0, 0) or additional > 4:
        return False
    at, size = 12, len(datagram)
    for _ in range(MOST_LABELS):
        if at >= size:
            return False
        length = datagram[at]
        at += 1 + length
        if length > 63:
            return False
        if not length:
            break
    else:
        return False
    if at + 4 > size or (not additional and at + 4 != size):
        return False
    kind, klass = struct.unpack_from(">2H", datagram, at)
    return kind != 0 and klass & 0x7FFF in CLASSES  # mDNS asks for unicast with the highest bit (RFC 6762 5.4)


def wireguard(datagram: bytes) -> bool:
    """A handshake initiation: type 1, three zeros, 148 bytes."""
    return len(datagram) == 148 and datagram[:4] == b"\x01\0\0\0"


def ike(datagram: bytes) -> bool:
    """The first IKE_SA_INIT: no responder yet, version 2, and a length that fits (RFC 7296 3.1)."""
    return (
        len(datagram) >= 28
        and datagram[:8] != bytes(8)
        and datagram[8:16] == bytes(8)
        and datagram[17:20] == b"\x20\x22\x08"
        and int.from_bytes(datagram[24:28], "big") == len(datagram)
    )


def ntp(datagram: bytes) -> bool:
    """A request of a client, version 1 to 4, with or without extensions and a digest."""
    return len(datagram) >= 48 and len(datagram) % 4 == 0 and datagram[0] & 7 == 3 and 1 <= datagram[0] >> 3 & 7 <= 4


def openvpn(datagram: bytes) -> bool:
    """P_CONTROL_HARD_RESET_CLIENT, version 2 or 3, key 0."""
    return len(datagram) >= 14 and datagram[0] in (0x38, 0x50)


def sip(datagram: bytes) -> bool:
    """A request line that ends with the version."""
    line = datagram[:512].partition(b"\r\n")[0]
    return line.endswith(b" SIP/2.0") and line[:1].isalpha()


OPENINGS: Final[tuple[Opening, ...]] = (
    Opening("dtls", dtls, "RFC 6347 4.1"),
    Opening("quic", quic, "RFC 9000 17.2"),
    Opening("stun", stun, "RFC 8489 5"),
    Opening("dns", dns, "RFC 1035 4.1"),
    Opening("wireguard", wireguard, "WireGuard 5.4.2"),
    Opening("ike", ike, "RFC 7296 3.1"),
    Opening("sip", sip, "RFC 3261 7.1"),
    Opening("ntp", ntp, "RFC 5905 7.3", weak=True),
    Opening("openvpn", openvpn, "OpenVPN P_CONTROL_HARD_RESET_CLIENT", weak=True),
)
"""What clients open with, in the order in which it is judged."""

PORTS: Final[Mapping[int, str]] = MappingProxyType(
    {
        53: "dns",
        123: "ntp",
        443: "quic",
        500: "ike",
        853: "quic",
        1194: "openvpn",
        3478: "stun",
        4433: "dtls",
        5060: "sip",
        5353: "dns",
        5349: "dtls",
        5684: "dtls",
        8443: "quic",
        51820: "wireguard",
    }
)
"""What a port lets expect of datagrams (the IANA registry, and what is customary)."""


def judge(datagram: bytes, port: int | None) -> Verdict:
    """
    What the first datagram of a client is.

    @param port: where the client wants to go, if that is known.
    """
    expected = None if port is None else PORTS.get(port)
    for opening in OPENINGS:
        if opening.weak and opening.name != expected:
            continue
        if opening.judge(datagram):
            seen = f"the first datagram is one of {opening.name} ({opening.source})"
            if expected is None:
                return Verdict(opening.name, seen)
            if expected == opening.name:
                return Verdict(opening.name, f"{seen}, and port {port} is for it", expected)
            return Verdict(opening.name, f"{seen}, although port {port} is for {expected}", expected, True)
    seen = f"the first datagram (length {len(datagram)}) matches nothing"
    if expected is None:
        return Verdict(
            UNRECOGNISED, f"{seen}, and {'no port is known' if port is None else f'port {port} tells nothing'}"
        )
    return Verdict(UNRECOGNISED, f"{seen}, although port {port} is for {expected}", expected, True)

"""What a datagram is: each opening is told, each cut or changed one is not, and nothing raises."""

from __future__ import annotations

import os
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslintercept.datagram.probe import OPENINGS, PORTS, judge
from tests.datagram.support import hello

QUERY = struct.pack(">6H", 7, 0x0100, 1, 0, 0, 0) + b"\3www\7example\0" + struct.pack(">2H", 1, 1)
EDNS = struct.pack(">6H", 7, 0x0120, 1, 0, 0, 1) + QUERY[12:] + b"\0\0\x29\x10\0\0\0\0\0\0\0"
QUIC = b"\xc3\0\0\0\1\x08" + bytes(8) + b"\0\0"
STUN = b"\0\1\0\0\x21\x12\xa4\x42" + bytes(12)
WIREGUARD = b"\1\0\0\0" + bytes(144)
IKE = b"\1" * 8 + bytes(8) + b"\x21\x20\x22\x08" + bytes(4) + struct.pack(">I", 28)
NTP = b"\x23" + bytes(47)
OPENVPN = b"\x38" + bytes(13)
SIP = b"OPTIONS sip:a@example SIP/2.0\r\nVia: x\r\n\r\n"


def quic(first: int, version: int, size: int = 1200) -> bytes:
    return (bytes([first]) + version.to_bytes(4, "big") + b"\x08" + bytes(8) + b"\0\0").ljust(size, b"\0")


@pytest.mark.parametrize(
    ("datagram", "port", "protocol"),
    [
        (hello(), 4433, "dtls"),
        (hello().replace(b"\x16\xfe\xfd", b"\x16\xfe\xff", 1), None, "dtls"),
        (quic(0xC3, 1), 443, "quic"),
        (quic(0xD3, 0x6B3343CF), 443, "quic"),
        (quic(0xC3, 0xFF00001D), 443, "quic"),
        (quic(0xC3, 0x1A2A3A4A), None, "quic"),
        (quic(0xD0, 1, 200), 443, "quic"),  # 0-RTT that overtook the Initial
        (QUERY, 53, "dns"),
        (EDNS, None, "dns"),
        (STUN, 3478, "stun"),
        (WIREGUARD, 51820, "wireguard"),
        (IKE, 500, "ike"),
        (SIP, 5060, "sip"),
        (NTP, 123, "ntp"),
        (OPENVPN, 1194, "openvpn"),
    ],
)
def test_an_opening_is_told(datagram: bytes, port: int | None, protocol: str) -> None:
    verdict = judge(datagram, port)
    assert verdict.protocol == protocol
    assert not verdict.mismatch
    assert ("is for it" in verdict.reason) is (port is not None)
    assert verdict.hint == (protocol if port is not None else None)


@pytest.mark.parametrize(
    ("datagram", "port"),
    [
        (b"", 53),
        (b"\x16", 4433),
        (hello()[:24], 4433),
        (hello()[:-1], 4433),
        (b"\x17" + hello()[1:], 4433),
        (b"\x16\3\3" + hello()[3:], 4433),
        (hello()[:3] + b"\0\1" + hello()[5:], 4433),
        (hello()[:13] + b"\2" + hello()[14:], 4433),
        (quic(0xC3, 1, 1199), 443),
        (quic(0xD3, 0x6B3343CF, 1199), 443),
        (quic(0x83, 1), 443),
        (quic(0x43, 1), 443),
        (quic(0xC3, 0), 443),
        (quic(0xC3, 1)[:5] + b"\x15" + bytes(1300), 443),
        (b"\xd0\0\0\0\1\x14" + bytes(20), 443),
        (QUIC[:6], 443),
        (NTP, 443),
        (NTP[:47], 123),
        (NTP + b"\0", 123),
        (b"\x24" + NTP[1:], 123),
        (b"\x03" + NTP[1:], 123),
        (OPENVPN[:13], 1194),
        (OPENVPN, 53),
        (QUERY[:16], 53),
        (QUERY[:-1], 53),
        (QUERY + b"\0", 53),
        (QUERY[:2] + b"\x81\x80" + QUERY[4:], 53),
        (QUERY[:4] + b"\0\2" + QUERY[6:], 53),
        (QUERY[:6] + b"\0\1" + QUERY[8:], 53),
        (QUERY[:10] + b"\0\5" + QUERY[12:], 53),
        (QUERY[:-4] + b"\0\0\0\1", 53),
        (QUERY[:-2] + b"\0\2", 53),
        (QUERY[:12] + b"\xc0" + QUERY[13:], 53),
        (QUERY[:12] + b"\7example", 53),
        (QUERY[:12] + b"\1a" * 130 + b"\0\0\1\0\1", 53),
        (STUN[:4] + bytes(16), 3478),
        (STUN + b"\0\0\0\0", 3478),
        (b"\x40" + STUN[1:], 3478),
        (WIREGUARD[:-1], 51820),
        (WIREGUARD.replace(b"\1\0", b"\2\0", 1), 51820),
        (IKE + b"\0", 500),
        (bytes(8) + IKE[8:], 500),
        (b"\0 SIP/2.0\r\n", 5060),
        (SIP[:20], 5060),
    ],
)
def test_what_is_cut_or_a_little_different_is_not(datagram: bytes, port: int) -> None:
    verdict = judge(datagram, port)
    assert verdict.protocol == "unknown"
    assert verdict.mismatch
    assert verdict.hint == PORTS[port]
    assert f"although port {port} is for {PORTS[port]}" in verdict.reason


def test_a_port_that_disagrees_is_a_mismatch_and_the_bytes_win() -> None:
    verdict = judge(quic(0xC3, 1), 53)
    assert verdict.protocol == "quic"
    assert (verdict.hint, verdict.mismatch) == ("dns", True)
    assert verdict.reason == "the first datagram is one of quic (RFC 9000 17.2), although port 53 is for dns"


def test_what_nobody_knows_is_said_in_words() -> None:
    assert judge(b"abc", None).reason == "the first datagram (length 3) matches nothing, and no port is known"
    assert judge(b"abc", 9).reason == "the first datagram (length 3) matches nothing, and port 9 tells nothing"
    assert not judge(b"abc", 9).mismatch


def test_every_port_expects_a_protocol_that_can_be_told() -> None:
    assert set(PORTS.values()) <= {opening.name for opening in OPENINGS}


@given(st.binary(max_size=1500), st.sampled_from([None, *PORTS]))
def test_no_datagram_makes_it_raise(datagram: bytes, port: int | None) -> None:
    assert judge(datagram, port).reason


@given(
    st.sampled_from([hello(), QUERY, EDNS, STUN, WIREGUARD, IKE, SIP, NTP, OPENVPN, QUIC]),
    st.integers(0, 150),
    st.binary(max_size=4),
)
def test_neither_does_one_that_was_changed_or_cut(datagram: bytes, at: int, by: bytes) -> None:
    for port in (None, *PORTS):
        judge(datagram[:at] + by + datagram[at + len(by) :], port)
        judge(datagram[:at], port)


def test_noise_is_not_named() -> None:
    named = sum(judge(os.urandom(1300), 443).protocol != "unknown" for _ in range(2000))
    assert named == 0

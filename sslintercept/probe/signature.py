"""
How protocols open, as data: the first bytes that a client sends, and the greetings of servers that speak first.

A judge looks at the bytes so far and answers in three values, so a fragmented opening is never mistaken for another.
It keeps its word: once NO or MATCH it stays so whatever bytes follow, which makes a verdict independent of how the
network cut the stream. None of those below needs more than 264 bytes to make up its mind. A new protocol is a new line
of the table; an extension puts its lines in front: C{(*mine, *SIGNATURES)}
(L{sslintercept.interfaces.IProbeSignatures}).

5 us for a request of HTTP/1, 1.4 us for a ClientHello, 13 us until all have said no.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from enum import Enum
from types import MappingProxyType
from typing import Final, NamedTuple, TypeAlias

MAX_METHOD: Final = 24
"""Bytes of a method's name."""
MAX_USER_ID: Final = 255
"""Bytes of the user id in a SOCKS 4 request."""
MAX_DECLARATION: Final = 256
"""Bytes of an XML declaration, the white space after it, and the stream's tag."""
MAX_RECORD: Final = 18432
"""Bytes in a TLS record: 2^14, and 2048 that RFC 5246 6.2.3 lets protection add."""


class Answer(Enum):
    """What a judge says about the bytes so far."""

    NO, MORE, MATCH = range(3)


Judge: TypeAlias = Callable[[bytes], Answer]
"""May be called with no bytes at all, and again with more of the same stream; never raises."""


class Signature(NamedTuple):
    """An opening: the protocol that has it, how to tell, and where that is written."""

    name: str
    judge: Judge
    source: str


def shape(*allowed: Container[int]) -> Judge:
    """Judge byte by byte; each position lists the values it may have."""

    def judge(head: bytes) -> Answer:
        for byte, values in zip(head, allowed, strict=False):
            if byte not in values:
                return Answer.NO
        return Answer.MATCH if len(head) >= len(allowed) else Answer.MORE

    return judge


def literal(*texts: bytes) -> Judge:
    """Judge by fixed bytes; any one of C{texts} will do."""

    def judge(head: bytes) -> Answer:
        if head.startswith(texts):
            return Answer.MATCH
        for text in texts:
            if text.startswith(head):
                return Answer.MORE
        return Answer.NO

    return judge


def either(*judges: Judge) -> Judge:
    """Judge by alternatives: MATCH as soon as one says so, NO when all do."""

    def judge(head: bytes) -> Answer:
        answers = [each(head) for each in judges]
        if Answer.MATCH in answers:
            return Answer.MATCH
        return Answer.MORE if Answer.MORE in answers else Answer.NO

    return judge


def request(methods: Iterable[bytes], *targets: bytes) -> Judge:
    """
    Judge a request line: a known method, a space, and how the target begins.

    @param targets: in lower case, met in any case; none means that every target will do.
    """
    known = frozenset(methods)
    begun = frozenset(method[:end] for method in known for end in range(len(method) + 1))
    target_of = literal(*targets or (b"",))
    enough = max(map(len, known)) + 1 + max(map(len, targets), default=0)

    def judge(head: bytes) -> Answer:
        method, space, target = head[:enough].partition(b" ")
        if not space:
            return Answer.MORE if method in begun else Answer.NO
        return target_of(target.lower()) if method in known else Answer.NO

    return judge


def words(*known: bytes) -> Judge:
    """Judge by the first word of a line, in any case; none of the words may begin with another one."""
    longest = max(map(len, known))

    def judge(head: bytes) -> Answer:
        word = head[:longest].upper()
        for one in known:
            if word.startswith(one):
                behind = head[len(one) : len(one) + 1]
                return Answer.MATCH if behind in _BREAKS else Answer.NO if behind else Answer.MORE
        return Answer.MORE if any(one.startswith(word) for one in known) else Answer.NO

    return judge


def extension_method(head: bytes) -> Answer:
    """
    Judge a request of HTTP/1 whose method no table has: capitals, a space, then a path or an absolute URI.

    The target keeps C{EHLO mail.example} and its like from passing for HTTP.
    """
    begun = _EXTENSION.match(head)
    if begun is None:
        return Answer.NO if head else Answer.MORE
    if begun.end() == len(head):
        return Answer.MORE
    return _target(head[begun.end() :][:8].lower()) if begun[1] else Answer.NO


def tls(head: bytes) -> Answer:
    """Judge a TLS record that begins a ClientHello; the record's length is 1 to L{MAX_RECORD}."""
    answer = _record(head)
    if answer is not Answer.NO and len(head) >= 5 and not 1 <= int.from_bytes(head[3:5], "big") <= MAX_RECORD:
        return Answer.NO
    return answer


def sslv2(head: bytes) -> Answer:
    """Judge the hello of SSLv2, in which clients up to the nineties also offered SSLv3 and TLS."""
    if len(head) >= 2 and int.from_bytes(head[:2], "big") & 0x7FFF < 9:
        return Answer.NO
    answer = _sslv2(head)
    if answer is Answer.MATCH and head[3] == 0 and head[4] != 2:
        return Answer.NO
    return answer


def socks4(head: bytes) -> Answer:
    """Judge a SOCKS 4 or 4a request up to the end of the user id; the host that 4a appends is read by who serves it."""
    if (answer := _socks4(head)) is not Answer.MATCH:
        return answer
    if head.find(0, 8, 9 + MAX_USER_ID) >= 0:
        return Answer.MATCH
    return Answer.MORE if len(head) < 9 + MAX_USER_ID else Answer.NO


def socks5(head: bytes) -> Answer:
    """
    Judge the methods that a SOCKS 5 client offers.

    What follows is not judged: a client that sends its request without waiting is still one of SOCKS 5.
    """
    answer = _socks5(head)
    if answer is Answer.MATCH and len(head) < 2 + head[1]:
        return Answer.MORE
    return answer


def xmpp(head: bytes) -> Answer:
    """Judge the opening of a stream of XML, with or without a declaration before it."""
    answer = _declaration(head)
    if answer is not Answer.MATCH:
        return answer if answer is Answer.MORE else _stream(head)
    _, closed, rest = head[:MAX_DECLARATION].partition(b"?>")
    answer = _stream(rest.lstrip(b" \t\r\n")) if closed else Answer.MORE
    return Answer.NO if answer is Answer.MORE and len(head) >= MAX_DECLARATION else answer


def mqtt(head: bytes) -> Answer:
    """Judge CONNECT of MQTT: its type, the remaining length in one to four bytes, the protocol's name."""
    if head[:1] not in (b"", b"\x10"):
        return Answer.NO
    for end, byte in enumerate(head[1:5], 2):
        if byte < 0x80:
            return _mqtt_name(head[end:])
    return Answer.MORE if len(head) < 5 else Answer.NO


def ldap(head: bytes) -> Answer:
    """Judge a first request of LDAP: a sequence whose length takes one to five bytes, and what it holds."""
    if len(head) < 2:
        return Answer.MORE if head in (b"", b"0") else Answer.NO
    if head[0] != 0x30 or head[1] > 0x84:
        return Answer.NO
    return _ldap_message(head[2 + max(0, head[1] - 0x80) :])


METHODS: Final = frozenset(
    b"ACL BASELINE-CONTROL BCOPY BDELETE BIND BMOVE BPROPFIND BPROPPATCH CHECKIN CHECKOUT CONNECT COPY DELETE GET HEAD "
    b"LABEL LINK LOCK MERGE MKACTIVITY MKCALENDAR MKCOL MKREDIRECTREF MKWORKSPACE MOVE NOTIFY OPTIONS ORDERPATCH PATCH "
    b"POLL POST PROPFIND PROPPATCH PURGE PUT QUERY REBIND REPORT RPC_IN_DATA RPC_OUT_DATA SEARCH SUBSCRIBE TRACE "
    b"UNBIND UNCHECKOUT UNLINK UNLOCK UNSUBSCRIBE UPDATE UPDATEREDIRECTREF VERSION-CONTROL".split()
)
"""The IANA registry of HTTP methods without PRI, and those of Exchange, Outlook and caches."""
RTSP_METHODS: Final = (
    b"ANNOUNCE DESCRIBE GET_PARAMETER OPTIONS PAUSE PLAY PLAY_NOTIFY RECORD REDIRECT SETUP SET_PARAMETER "
    b"TEARDOWN".split()
)
SIP_METHODS: Final = (
    b"ACK BYE CANCEL INFO INVITE MESSAGE NOTIFY OPTIONS PRACK PUBLISH REFER REGISTER SUBSCRIBE UPDATE".split()
)

ANY: Final = range(256)

_record = shape([0x16], [3], range(5), range((MAX_RECORD >> 8) + 1), ANY, [1])
_sslv2 = shape(range(0x80, 0x100), ANY, [1], [0, 3], range(5))
_socks4 = shape([4], [1, 2], ANY, ANY, ANY, ANY, ANY, ANY)
_socks5 = shape([5], range(1, 256))
_EXTENSION = re.compile(rb"[A-Z][A-Z0-9_-]{0,%d}( ?)" % (MAX_METHOD - 1))
_target = literal(b"/", b"http://", b"https://")
_declaration = literal(b"<?xml")
_stream = literal(b"<stream")
_BREAKS: Final = (b" ", b"\r", b"\n")
_ldap_message = shape([2], [1], ANY, [0x60, 0x63, 0x77])
"""a messageID of one byte; then bindRequest, searchRequest or extendedReq"""
_mqtt_name = literal(b"\x00\x04MQTT", b"\x00\x06MQIsdp")

SIGNATURES: Final[tuple[Signature, ...]] = (
    Signature("tls", tls, "RFC 8446 5.1"),
    Signature("sslv2", sslv2, "RFC 5246 E.2"),
    Signature("socks5", socks5, "RFC 1928 3"),
    Signature("socks4", socks4, "SOCKS 4 and 4a, Y.-D. Lee"),
    Signature("http/2", literal(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), "RFC 9113 3.4"),
    Signature("rtsp", request(RTSP_METHODS, b"rtsp://", b"rtsps://", b"rtspu://"), "RFC 7826 13"),
    Signature("sip", request(SIP_METHODS, b"sip:", b"sips:"), "RFC 3261 7.1"),
    Signature("http/1", request(METHODS), "RFC 9112 3"),
    Signature("proxy-v1", literal(b"PROXY "), "PROXY protocol 2.1"),
    Signature("proxy-v2", literal(b"\r\n\r\n\x00\r\nQUIT\n"), "PROXY protocol 2.2"),
    Signature("ssh", literal(b"SSH-"), "RFC 4253 4.2"),
    Signature("rdp", shape([3], [0], ANY, ANY, ANY, [0xE0]), "MS-RDPBCGR 2.2.1.1"),
    Signature("bittorrent", literal(b"\x13BitTorrent protocol"), "BEP 3"),
    Signature("xmpp", xmpp, "RFC 6120 4.2"),
    Signature("xml", literal(b"<?xml"), "XML 1.0 2.8"),
    Signature("mqtt", mqtt, "MQTT 3.1"),
    Signature("ldap", ldap, "RFC 4511 4.1.1"),
    Signature(
        "postgresql",
        either(
            literal(b"\x00\x00\x00\x08\x04\xd2\x16\x2f", b"\x00\x00\x00\x08\x04\xd2\x16\x30"),
            shape([0], [0], [0, 1], ANY, [0x04], [0xD2], [0x16], [0x2E]),  # CancelRequest
            shape([0], [0], ANY, ANY, [0], [3], [0], range(3)),
        ),
        "PostgreSQL 54.7",
    ),
    Signature("smb", shape([0], [0], ANY, ANY, [0xFE, 0xFF], b"S", b"M", b"B"), "MS-SMB2 2.1"),
    Signature("openvpn", shape([0], [14], [0x38], *[ANY] * 8, *[[0]] * 5), "OpenVPN P_CONTROL_HARD_RESET_CLIENT_V2"),
    Signature("dns", shape([0, 1], ANY, ANY, ANY, [0, 1], range(0x80), [0], [1]), "RFC 7766 8"),
    Signature("http/1", extension_method, "RFC 9110 16.1"),
)
"""What clients open with, in the order in which it is judged."""

BY_PORT: Final[Mapping[str, Signature]] = MappingProxyType(
    {
        "irc": Signature(
            "irc", words(b"CAP", b"NICK", b"PASS", b"PING", b"QUIT", b"STARTTLS", b"USER", b"WEBIRC"), "RFC 2812 3.1"
        )
    }
)
"""Openings that mean this on the protocol's own port only: elsewhere they are words of FTP, POP3 and others."""

GREETINGS: Final[tuple[Signature, ...]] = (
    Signature("smtp", literal(b"220 ", b"220-"), "RFC 5321 4.2"),
    Signature("ftp", literal(b"220 ", b"220-"), "RFC 959 5.4"),
    Signature("pop3", literal(b"+OK"), "RFC 1939 3"),
    Signature("imap", literal(b"* OK", b"* PREAUTH", b"* BYE"), "RFC 9051 7.1"),
    Signature("nntp", literal(b"200 ", b"201 "), "RFC 3977 5.1"),
    Signature("sieve", literal(b'"IMPLEMENTATION"'), "RFC 5804 1.7"),
    Signature("ssh", literal(b"SSH-"), "RFC 4253 4.2"),
    Signature("vnc", literal(b"RFB "), "RFC 6143 7.1.1"),
    Signature("mysql", shape(ANY, [0], [0], [0], [10]), "MySQL Protocol::HandshakeV10"),
    Signature("telnet", shape([255], range(251, 255)), "RFC 854"),
)
"""What servers greet with; where two protocols share a greeting, the port decides."""


def judge_all(head: bytes, signatures: Sequence[Signature] = SIGNATURES) -> tuple[Answer, Signature | None]:
    """The first signature that does not say NO decides; with C{None} all have said NO."""
    for signature in signatures:
        answer = signature.judge(head)
        if answer is not Answer.NO:
            return answer, signature
    return Answer.NO, None

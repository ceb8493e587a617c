"""STARTTLS as a table: when TLS begins, what may not pass in the clear, and every byte as it came."""

import struct
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslintercept.dialogue.binary import START_TLS, Ber, ber
from sslintercept.dialogue.framing import (
    LDAP_LIMIT,
    MYSQL_LIMIT,
    SIEVE_LIMIT,
    STANZA_LIMIT,
    STARTUP_LIMIT,
    Broken,
)
from sslintercept.dialogue.upgrade import IRC_LINE, MAX_TURNS, NNTP_LINE, UPGRADES, table, watcher_of
from sslintercept.dialogue.watcher import Terms
from sslintercept.testing.talk import PLAIN, Talk, in_pieces

Script = list[tuple[str, bytes]]

REQUIRED = Terms(required=True)


def talk_of(name: str, terms: Terms = PLAIN, *, strict_offer: bool = False) -> Talk:
    """A conversation of a protocol."""
    return Talk(watcher_of(name), terms, strict_offer=strict_offer)


def said_by(who: str, script: Iterable[tuple[str, bytes]]) -> bytes:
    """Everything that one side says."""
    return b"".join(data for speaker, data in script if speaker == who)


# LDAP


def ldap(number: int, operation: int, *values: bytes) -> bytes:
    """A message."""
    return ber(0x30, ber(2, bytes((number,))), ber(operation, *values))


def result(code: int, *more: bytes) -> bytes:
    """What a response holds."""
    return ber(10, bytes((code,))) + ber(4) + ber(4) + b"".join(more)


def bind(number: int, who: bytes = b"", password: bytes = b"") -> bytes:
    """A simple bind."""
    return ldap(number, 0x60, ber(2, b"\x03"), ber(4, who), ber(0x80, password))


def search(number: int, base: bytes = b"", scope: bytes = b"\x00") -> bytes:
    """A search of everything."""
    rest = (ber(10, b"\x00"), ber(2, b"\x00"), ber(2, b"\x00"), ber(1, b"\x00"), ber(0x87, b"objectClass"), ber(0x30))
    return ldap(number, 0x63, ber(4, base), ber(10, scope), *rest)


def entry(number: int, dn: bytes, **attributes: list[bytes]) -> bytes:
    """An entry that was found."""
    lists = [
        ber(0x30, ber(4, key.encode()), ber(0x31, *(ber(4, value) for value in attributes[key]))) for key in attributes
    ]
    return ldap(number, 0x64, ber(4, dn), ber(0x30, *lists))


LDAP_ASKS = ldap(3, 0x77, ber(0x80, START_TLS))
LDAP_AGREES = ldap(3, 0x78, result(0, ber(0x8A, START_TLS)))
LDAP_REFUSES = ldap(3, 0x78, result(2))
ROOT = entry(1, b"", vendorName=[b"x"], supportedExtension=[b"1.2", START_TLS])

# XMPP

STREAMS = b" xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>"
XMPP_CLIENT = b"<?xml version='1.0'?><stream:stream to='example.com'" + STREAMS
XMPP_SERVER = b"<?xml version='1.0'?>\n<stream:stream from='example.com' id='1'" + STREAMS
FEATURES = (
    b"<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls></stream:features>"
)
SASL = b" xmlns='urn:ietf:params:xml:ns:xmpp-sasl'"
MECHANISMS = b"<stream:features><mechanisms%b><mechanism>PLAIN</mechanism></mechanisms></stream:features>" % SASL
XMPP_ASKS = b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
XMPP_AGREES = b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
XMPP_REFUSES = b"<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
XMPP_AUTH = b"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGpvZQBzZWNyZXQ=</auth>"
XMPP_FAILURE = b"<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><not-authorized/></failure>"
XMPP_SUCCESS = b"<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>"

# PostgreSQL

PG_ASKS = struct.pack(">II", 8, 80877103)
PG_GSS = struct.pack(">II", 8, 80877104)
PG_CANCEL = struct.pack(">IIII", 16, 80877102, 7, 9)
PG_START = struct.pack(">II", 8 + 10, 3 << 16) + b"user\x00joe\x00\x00"

# MySQL


def mysql(number: int, payload: bytes) -> bytes:
    """A packet."""
    return len(payload).to_bytes(3, "little") + bytes((number,)) + payload


def greeting(capabilities: int) -> bytes:
    """HandshakeV10."""
    head = b"\x0a8.4.0\x00" + b"\x07\x00\x00\x00" + b"abcdefgh\x00" + struct.pack("<H", capabilities)
    return mysql(0, head + b"\xff\x02\x00\xff\xdf\x15" + b"\x00" * 10 + b"ijklmnopqrst\x00caching_sha2_password\x00")


MYSQL_GREETING = greeting(0xFFFF)
MYSQL_ASKS = mysql(1, struct.pack("<IIB23x", 0x01FFAE85, 1 << 24, 255))
MYSQL_LOGIN = mysql(1, struct.pack("<IIB23x", 0x01FFA685, 1 << 24, 255) + b"joe\x00\x00")

# Lines

NNTP_LIST = b"101 Capability list:\r\nVERSION 2\r\nREADER\r\nSTARTTLS\r\n.\r\n"
SIEVE_GREETING = b'"IMPLEMENTATION" "Example 1.0"\r\n"SASL" ""\r\n"STARTTLS"\r\n"VERSION" "1.0"\r\nOK\r\n'
IRC_LIST = b":irc.example CAP * LS * :multi-prefix tls\r\n:irc.example CAP * LS :sasl=PLAIN\r\n"

UPGRADED = [  # a dialogue that ends in TLS, and what was offered on the way
    pytest.param("ldap", [("C", LDAP_ASKS), ("S", LDAP_AGREES)], [True], id="ldap"),
    pytest.param(
        "ldap",
        [
            ("C", bind(1)),
            ("S", ldap(1, 0x61, result(0))),
            ("C", search(2)),
            ("S", ROOT + ldap(2, 0x65, result(0))),
            ("C", LDAP_ASKS),
            ("S", LDAP_AGREES),
        ],
        [True, True],
        id="ldap, after an anonymous bind and a look at the root",
    ),
    pytest.param(
        "ldap",
        [
            ("C", search(2, b"dc=example", b"\x02")),
            ("C", LDAP_ASKS),
            ("S", entry(2, b"cn=joe", cn=[b"joe"]) + ldap(2, 0x65, result(0))),
            ("S", LDAP_AGREES),
        ],
        [True],
        id="ldap, while another request waits",
    ),
    pytest.param(
        "xmpp",
        [("C", XMPP_CLIENT), ("S", XMPP_SERVER + FEATURES), ("C", XMPP_ASKS), ("S", XMPP_AGREES)],
        [True, True],
        id="xmpp",
    ),
    pytest.param(
        "xmpp",
        [
            ("C", XMPP_CLIENT.replace(b"jabber:client", b"jabber:server") + b" "),
            ("S", XMPP_SERVER + FEATURES),
            ("C", b'\n<t:starttls xmlns:t="urn:ietf:params:xml:ns:xmpp-tls"></t:starttls>'),
            ("S", b"\n<t:proceed/>"),
        ],
        [True, True],
        id="xmpp between servers, with prefixes and white space",
    ),
    pytest.param(
        "nntp",
        [
            ("S", b"200 news.example\r\n"),
            ("C", b"CAPABILITIES\r\n"),
            ("S", NNTP_LIST),
            ("C", b"STARTTLS\r\n"),
            ("S", b"382 Continue\r\n"),
        ],
        [True, True],
        id="nntp",
    ),
    pytest.param(
        "nntp",
        [
            ("C", b"mode reader\r\nGROUP a.b\r\nLISTGROUP a.b\r\nHEAD 1\r\nSTAT 1\r\nstarttls\r\n"),
            ("S", b"200 news.example\r\n200 reader\r\n211 2 1 2 a.b\r\n211 2 1 2 a.b\r\n1\r\n2\r\n.\r\n"),
            ("S", b"221 1 <1@b>\r\nSubject: 382\r\nSTARTTLS\r\n.\r\n223 1 <1@b>\r\n382 Continue\r\n"),
        ],
        [True],
        id="nntp, pipelined",
    ),
    pytest.param(
        "nntp",
        [
            ("S", b"200 news.example\r\n"),
            ("C", b"POST\r\n"),
            ("S", b"340 go on\r\n"),
            ("C", b"Subject: x\r\n\r\nSTARTTLS\r\n..\r\n.\r\n"),
            ("S", b"240 thanks\r\n"),
            ("C", b"TAKETHIS <1@b>\r\nSubject: x\r\n\r\nSTARTTLS\r\n.\r\nCHECK <2@b>\r\n"),
            ("S", b"239 <1@b>\r\n438 <2@b>\r\n"),
            ("C", b"IHAVE <3@b>\r\n"),
            ("S", b"435 no\r\n"),
            ("C", b"STARTTLS\r\n"),
            ("S", b"382 Continue\r\n"),
        ],
        [True],
        id="nntp, after articles that speak of STARTTLS",
    ),
    pytest.param(
        "nntp",
        [
            ("S", b"200 news.example\r\n"),
            ("C", b"AUTHINFO USER joe\r\n"),
            ("S", b"381 password\r\n"),
            ("C", b"AUTHINFO PASS wrong\r\n"),
            ("S", b"481 no\r\n"),
            ("C", b"AUTHINFO SASL LOGIN\r\n"),
            ("S", b"383 VXNlcm5hbWU6\r\n"),
            ("C", b"am9l\r\n"),
            ("S", b"383 UGFzc3dvcmQ6\r\n"),
            ("C", b"STARTTLS\r\n"),
            ("S", b"481 no\r\n"),
            ("C", b"STARTTLS\r\n"),
            ("S", b"382 Continue\r\n"),
        ],
        [True],
        id="nntp, after logins that failed",
    ),
    pytest.param(
        "sieve",
        [("S", SIEVE_GREETING), ("C", b"STARTTLS\r\n"), ("S", b"OK\r\n")],
        [True, True],
        id="sieve",
    ),
    pytest.param(
        "sieve",
        [
            ("S", SIEVE_GREETING),
            ("C", b'AUTHENTICATE "LOGIN"\r\n'),
            ("S", b'"VXNlcm5hbWU6"\r\n'),
            ("C", b"{4+}\r\nam9l\r\n"),
            ("S", b"{12}\r\nUGFzc3dvcmQ6\r\n"),
            ("C", b'"STARTTLS"\r\n'),
            ("S", b"NO {7}\r\nOK\r\n no\r\n"),
            ("C", b'NOOP "x"\r\nCAPABILITY\r\nStartTLS\r\n'),
            ("S", b'OK (TAG "x") "done"\r\n' + SIEVE_GREETING + b'OK "begin"\r\n'),
        ],
        [True, True, True],
        id="sieve, after a login that failed",
    ),
    pytest.param("postgresql", [("C", PG_ASKS), ("S", b"S")], [True], id="postgresql"),
    pytest.param("postgresql", [("C", PG_GSS), ("S", b"N"), ("C", PG_ASKS), ("S", b"S")], [True], id="postgresql, GSS"),
    pytest.param("postgresql", [("C", PG_GSS + PG_ASKS), ("S", b"NS")], [True], id="postgresql, pipelined"),
    pytest.param("mysql", [("S", MYSQL_GREETING), ("C", MYSQL_ASKS)], [True], id="mysql"),
    pytest.param(
        "irc",
        [
            ("S", b":irc.example NOTICE * :*** Looking up\r\n"),
            ("C", b"CAP LS 302\r\n"),
            ("S", IRC_LIST),
            ("C", b"STARTTLS\r\n"),
            ("S", b":irc.example 670 * :STARTTLS successful, go ahead\r\n"),
        ],
        [True, True],
        id="irc",
    ),
    pytest.param(
        "irc",
        [
            ("C", b"\r\nNICK joe\r\nPING 1\r\n@a=b :joe starttls\r\n"),
            ("S", b"\r\n@time=1 :irc.example PONG 1\r\n:irc.example CAP\r\n670 joe :go\r\n"),
        ],
        [True],
        id="irc, pipelined, with tags",
    ),
]

REFUSED = [  # a dialogue in which the server refuses TLS, and one from there in the clear
    pytest.param("ldap", [("C", LDAP_ASKS), ("S", LDAP_REFUSES)], [("C", bind(4, b"cn=joe", b"x"))], id="ldap"),
    pytest.param(
        "xmpp",
        [("C", XMPP_CLIENT), ("S", XMPP_SERVER), ("C", XMPP_ASKS), ("S", XMPP_REFUSES)],
        [("S", b"</stream:stream>"), ("C", b"</stream:stream>")],
        id="xmpp",
    ),
    pytest.param(
        "nntp",
        [("S", b"200 hi\r\n"), ("C", b"STARTTLS\r\n"), ("S", b"580 no\r\n")],
        [("C", b"LIST\r\n"), ("S", b"215 list\r\n.\r\n")],
        id="nntp",
    ),
    pytest.param(
        "sieve",
        [("S", b"OK\r\n"), ("C", b"STARTTLS\r\n"), ("S", b'NO "not now"\r\n')],
        [("C", b"LOGOUT\r\n"), ("S", b"OK\r\n")],
        id="sieve",
    ),
    pytest.param("sieve", [("S", b"OK\r\n"), ("C", b"STARTTLS\r\n"), ("S", b"BYE\r\n")], [], id="sieve, BYE"),
    pytest.param("postgresql", [("C", PG_ASKS), ("S", b"N")], [("C", PG_START), ("S", b"R\x00\x00")], id="postgresql"),
    pytest.param("postgresql", [("C", PG_ASKS), ("S", b"E")], [("S", b"FATAL\x00")], id="postgresql, error"),
    pytest.param(
        "irc",
        [("C", b"STARTTLS\r\n"), ("S", b":irc.example 691 * :no\r\n")],
        [("C", b"NICK joe\r\n"), ("S", b":irc.example 433 * joe\r\n")],
        id="irc",
    ),
    pytest.param("irc", [("C", b"STARTTLS\r\n"), ("S", b":a 421 * STARTTLS :unknown\r\n")], [], id="irc, unknown"),
]

SETTLED = [  # a dialogue after which there is no TLS any more
    pytest.param("ldap", [("C", bind(1, b"cn=joe", b"x")), ("S", ldap(1, 0x61, result(0)))], id="ldap"),
    pytest.param(
        "ldap",
        [
            ("C", ldap(1, 0x60, ber(2, b"\x03"), ber(4), ber(0xA3, ber(4, b"GSSAPI"), ber(4, b"a")))),
            ("S", ldap(1, 0x61, result(14))),
            ("C", ldap(2, 0x60, ber(2, b"\x03"), ber(4), ber(0xA3, ber(4, b"GSSAPI"), ber(4, b"b")))),
            ("S", ldap(2, 0x61, result(0))),
        ],
        id="ldap, SASL",
    ),
    pytest.param(
        "ldap",
        [
            ("C", bind(2, b"cn=joe", b"x")),
            ("C", LDAP_ASKS),
            ("S", ldap(2, 0x61, result(0))),
            ("S", LDAP_REFUSES),
        ],
        id="ldap, while a request for TLS waits",
    ),
    pytest.param(
        "xmpp",
        [
            ("C", XMPP_CLIENT),
            ("S", XMPP_SERVER + MECHANISMS),
            ("C", XMPP_AUTH),
            ("S", XMPP_FAILURE),
            ("C", XMPP_AUTH),
            ("S", XMPP_SUCCESS),
        ],
        id="xmpp",
    ),
    pytest.param(
        "nntp",
        [
            ("S", b"200 hi\r\n"),
            ("C", b"AUTHINFO USER joe\r\nAUTHINFO PASS secret\r\n"),
            ("S", b"381 password\r\n281 welcome\r\n"),
        ],
        id="nntp",
    ),
    pytest.param(
        "nntp", [("S", b"200 hi\r\n"), ("C", b"COMPRESS DEFLATE\r\n"), ("S", b"206 ok\r\n")], id="nntp, DEFLATE"
    ),
    pytest.param(
        "sieve",
        [("S", SIEVE_GREETING), ("C", b'AUTHENTICATE "PLAIN" "AGoAcw=="\r\n'), ("S", b'OK (SASL "") "hi"\r\n')],
        id="sieve",
    ),
    pytest.param("postgresql", [("C", PG_START)], id="postgresql"),
    pytest.param("postgresql", [("C", PG_CANCEL)], id="postgresql, cancel"),
    pytest.param("postgresql", [("C", PG_GSS), ("S", b"E")], id="postgresql, an old server"),
    pytest.param("mysql", [("S", MYSQL_GREETING), ("C", MYSQL_LOGIN)], id="mysql"),
    pytest.param("mysql", [("S", mysql(0, b"\xff\x10\x04Too many connections"))], id="mysql, an error"),
    pytest.param("mysql", [("S", mysql(0, b"\x093.20\x00")), ("C", mysql(1, b"\x00\x00joe"))], id="mysql of old"),
    pytest.param("irc", [("C", b"NICK joe\r\nUSER joe 0 * :Joe\r\n"), ("S", b":a 001 joe :Welcome\r\n")], id="irc"),
]

CLEARTEXT = [  # what must not be said where TLS is required, and how it is refused
    pytest.param("xmpp", [("C", XMPP_CLIENT)], XMPP_AUTH, UPGRADES["xmpp"].refusal(b""), id="xmpp"),
    pytest.param(
        "xmpp", [("C", XMPP_CLIENT)], b"<stream>secret</stream>", UPGRADES["xmpp"].refusal(b""), id="xmpp, nested"
    ),
    pytest.param("nntp", [], b"AUTHINFO USER joe\r\n", b"483 Encryption is required: STARTTLS first\r\n", id="nntp"),
    pytest.param(
        "sieve",
        [],
        b'AUTHENTICATE "PLAIN" "x"\r\n',
        b'NO (ENCRYPT-NEEDED) "Encryption is required: STARTTLS first"\r\n',
        id="sieve",
    ),
    pytest.param(
        "irc", [("C", b"CAP LS\r\n")], b"NICK joe\r\n", b"ERROR :Encryption is required: STARTTLS first\r\n", id="irc"
    ),
    pytest.param("irc", [], b"\xffOIN #a\r\n", b"ERROR :Encryption is required: STARTTLS first\r\n", id="irc, no word"),
    pytest.param(
        "postgresql", [("C", PG_ASKS), ("S", b"N")], PG_START, UPGRADES["postgresql"].refusal(b""), id="postgresql"
    ),
    pytest.param("mysql", [("S", MYSQL_GREETING)], MYSQL_LOGIN, UPGRADES["mysql"].refusal(b""), id="mysql"),
    pytest.param(
        "ldap",
        [("C", search(1))],
        bind(2, b"cn=joe", b"x"),
        ldap(2, 0x61, result(13)[:-2], ber(4, b"encryption is required here")),
        id="ldap",
    ),
    pytest.param(
        "ldap",
        [],
        bind(2),
        ldap(2, 0x61, result(13)[:-2], ber(4, b"encryption is required here")),
        id="ldap, anonymous",
    ),
    pytest.param(
        "ldap",
        [],
        ldap(5, 0x77, ber(0x80, b"1.2.3")),
        ldap(5, 0x78, result(13)[:-2], ber(4, b"encryption is required here")),
        id="ldap, extended",
    ),
    pytest.param(
        "ldap",
        [("C", ldap(1, 0x50) + ldap(1, 0x42))],
        search(5, b"dc=example"),
        ldap(0, 0x78, result(13)[:-2], ber(4, b"encryption is required here"), ber(0x8A, b"1.3.6.1.4.1.1466.20036")),
        id="ldap, a search",
    ),
]

STRANGE = [  # what leads to the byte at which it is no more understood
    pytest.param("ldap", [("C", b"\x16\x03\x01")], id="ldap, TLS"),
    pytest.param("ldap", [("C", b"\x30\x00")], id="ldap, an empty message"),
    pytest.param("ldap", [("C", ber(0x30, ber(2), ber(0x60)))], id="ldap, no number"),
    pytest.param("ldap", [("C", ber(0x30, ber(4, b"a"), ber(0x60)))], id="ldap, a number of letters"),
    pytest.param("ldap", [("C", LDAP_ASKS), ("S", ldap(3, 0x78, b"\x0a\x05\x00"))], id="ldap, a result cut short"),
    pytest.param("ldap", [("C", LDAP_ASKS), ("S", ldap(3, 0x78, b"\x0a\x80"))], id="ldap, a length of no bytes"),
    pytest.param("xmpp", [("C", b"<?xml version='1.0'?>"), ("C", b"<html>")], id="xmpp, another document"),
    pytest.param("xmpp", [("C", XMPP_CLIENT), ("S", b"<html>")], id="xmpp, a server of something else"),
    pytest.param("xmpp", [("C", XMPP_CLIENT), ("S", XMPP_SERVER), ("C", b"<::x/>")], id="xmpp, no name"),
    pytest.param("xmpp", [("C", XMPP_CLIENT), ("C", b"\x16\x03\x01")], id="xmpp, TLS"),
    pytest.param("nntp", [("S", b"hello\r\n")], id="nntp, no code"),
    pytest.param("nntp", [("S", b"200 hi\r\n"), ("S", b"400 bye\r\n")], id="nntp, a reply without a command"),
    pytest.param("nntp", [("S", b"200 hi\r\n"), ("C", b"\r\n")], id="nntp, an empty line"),
    pytest.param(
        "nntp", [("S", b"200 hi\r\n"), ("C", b"DATE\r\n"), ("S", b"382 go\r\n")], id="nntp, consent to nothing"
    ),
    pytest.param(
        "nntp", [("S", b"200 hi\r\n"), ("C", b"DATE\r\n"), ("S", b"340 go\r\n")], id="nntp, article of nobody"
    ),
    pytest.param("nntp", [("S", b"200 hi\r\n"), ("C", b"POST\r\nSubject: x\r\n")], id="nntp, an impatient article"),
    pytest.param("nntp", [("S", b"200 hi\r\n"), ("C", b"TAKETHIS <1@b>\r\n.\n")], id="nntp, an end in doubt"),
    pytest.param("nntp", [("C", b"DATE\r\n" * MAX_TURNS)], id="nntp, too many commands"),
    pytest.param("sieve", [("S", b"hello\r\n")], id="sieve, no response"),
    pytest.param("sieve", [("S", b"OK\r\nOK\r\n")], id="sieve, a response to nothing"),
    pytest.param("postgresql", [("C", b"\x16\x03\x01\x02")], id="postgresql, TLS"),
    pytest.param("postgresql", [("C", struct.pack(">II", 8, 5 << 16))], id="postgresql, version 5"),
    pytest.param("postgresql", [("C", struct.pack(">III", 12, 80877103, 0))], id="postgresql, a long request"),
    pytest.param("postgresql", [("C", PG_ASKS), ("S", b"G")], id="postgresql, another answer"),
    pytest.param("postgresql", [("C", PG_GSS), ("S", b"G")], id="postgresql, GSS"),
    pytest.param("postgresql", [("S", b"S")], id="postgresql, an answer to nothing"),
    pytest.param("mysql", [("S", mysql(0, b"\x0b"))], id="mysql, version 11"),
    pytest.param("mysql", [("S", mysql(1, b"\x0a"))], id="mysql, no first packet"),
    pytest.param("mysql", [("S", mysql(0, b"\x0a8.4.0"))], id="mysql, a version without an end"),
    pytest.param("mysql", [("S", mysql(0, b"\x0a8.4.0\x00abcd"))], id="mysql, a short greeting"),
    pytest.param("mysql", [("C", MYSQL_ASKS)], id="mysql, a client that greets"),
    pytest.param("mysql", [("S", MYSQL_GREETING), ("C", mysql(2, MYSQL_ASKS[4:]))], id="mysql, no second packet"),
    pytest.param("mysql", [("S", MYSQL_GREETING), ("C", mysql(1, b""))], id="mysql, an empty packet"),
    pytest.param(
        "mysql", [("S", MYSQL_GREETING), ("C", mysql(1, MYSQL_ASKS[4:] + b"joe\x00"))], id="mysql, a long request"
    ),
    pytest.param("mysql", [("S", MYSQL_GREETING + mysql(1, b"x"))], id="mysql, more than a greeting"),
    pytest.param("irc", [("C", b"x" * IRC_LINE)], id="irc, a long line"),
]

OVERSIZE = [  # who says it, and how much of what goes too far
    pytest.param("ldap", "C", b"\x30\x84\x7f\xff\xff\xff", LDAP_LIMIT, id="ldap"),
    pytest.param("xmpp", "C", b"<stream:stream a='" + b"x" * STANZA_LIMIT, STANZA_LIMIT, id="xmpp"),
    pytest.param("nntp", "S", b"200 " + b"x" * NNTP_LINE, NNTP_LINE, id="nntp"),
    pytest.param("sieve", "S", b"OK {4000000}\r\n", SIEVE_LIMIT, id="sieve"),
    pytest.param("postgresql", "C", b"\x00\x01\x00\x00" + b"x" * STARTUP_LIMIT, STARTUP_LIMIT, id="postgresql"),
    pytest.param("mysql", "S", b"\xff\xff\xff\x00\x0a", MYSQL_LIMIT, id="mysql"),
    pytest.param("irc", "S", b"x" * IRC_LINE, IRC_LINE, id="irc"),
]


@pytest.mark.parametrize(("name", "script", "offers"), UPGRADED)
class TestUpgraded:
    """A dialogue that leads to TLS."""

    def test_tls_begins_behind_the_consent_in_pieces_of_every_size(
        self, name: str, script: Script, offers: list[bool]
    ) -> None:
        for size in (*range(1, 12), 1 << 20):
            talk = talk_of(name).plays(in_pieces(script, size))
            assert (talk.upgraded, talk.refused, talk.unseen) == (True, None, None)
            assert (talk.server, talk.client) == (said_by("C", script), said_by("S", script))
            assert talk.offers == offers

    def test_tls_begins_behind_the_consent_at_every_cut(self, name: str, script: Script, offers: list[bool]) -> None:
        for at, (who, data) in enumerate(script):
            for cut in range(1, len(data)):
                talk = talk_of(name).plays([*script[:at], (who, data[:cut]), (who, data[cut:]), *script[at + 1 :]])
                assert (talk.upgraded, talk.refused, talk.unseen) == (True, None, None)
                assert (talk.server, talk.client) == (said_by("C", script), said_by("S", script))

    def test_tls_does_not_begin_before_the_last_byte(self, name: str, script: Script, offers: list[bool]) -> None:
        talk = talk_of(name).plays([*script[:-1], (script[-1][0], script[-1][1][:-1])])
        assert not talk.upgraded

    def test_whatever_stands_behind_the_request_ends_the_conversation(
        self, name: str, script: Script, offers: list[bool]
    ) -> None:
        last = max(at for at, (who, _) in enumerate(script) if who == "C")
        for injected in (b"\r\n", b"\x16", script[last][1]):
            talk = talk_of(name).plays([*script[:last], ("C", script[last][1] + injected)])
            if UPGRADES[name].at_once:
                # There is no consent to wait for: whether it is TLS is seen by whoever begins that.
                assert (talk.upgraded, talk.peeked, talk.refused) == (True, injected, None)
                assert talk.server == said_by("C", script)
                continue
            assert talk.refused is not None
            assert "command injection" in talk.refused
            assert said_by("C", script).startswith(talk.server)
            assert not talk.upgraded

    def test_a_client_that_does_not_wait_for_the_consent_ends_the_conversation(
        self, name: str, script: Script, offers: list[bool]
    ) -> None:
        if UPGRADES[name].at_once:
            pytest.skip("there is nothing to wait for")
        last = max(at for at, (who, _) in enumerate(script) if who == "C")
        talk = talk_of(name).plays([*script[: last + 1], ("C", b"x")])
        assert talk.refused is not None
        assert "command injection" in talk.refused

    def test_whatever_stands_behind_the_consent_ends_the_conversation(
        self, name: str, script: Script, offers: list[bool]
    ) -> None:
        last = max(at for at, (who, _) in enumerate(script) if who == "S")
        for injected in (b"\n", b"\x16", script[last][1]):
            talk = talk_of(name).plays([*script[:last], ("S", script[last][1] + injected), *script[last + 1 :]])
            assert not talk.upgraded
            if not UPGRADES[name].at_once:
                assert talk.refused is not None
                assert "response injection" in talk.refused
            assert talk.refused or talk.unseen

    def test_it_is_the_same_where_tls_is_required_unless_it_says_more(
        self, name: str, script: Script, offers: list[bool]
    ) -> None:
        talk = talk_of(name, REQUIRED).plays(script)
        assert talk.upgraded is not (talk.refused is not None)
        assert said_by("C", script).startswith(talk.server)

    def test_inside_tls_it_is_handed_on_unseen(self, name: str, script: Script, offers: list[bool]) -> None:
        for terms in (Terms(secured=True), Terms(secured=True, upgraded=True)):
            talk = talk_of(name, terms).plays(in_pieces(script, 5))
            assert (talk.server, talk.client) == (said_by("C", script), said_by("S", script))
            assert (talk.upgraded, talk.refused, talk.unseen, talk.offers) == (False, None, None, [])


@pytest.mark.parametrize(("name", "script", "more"), REFUSED)
class TestRefused:
    """A dialogue in which the server does not want TLS."""

    def test_it_goes_on_in_the_clear(self, name: str, script: Script, more: Script) -> None:
        whole = script + more
        for size in (1, 2, 3, 7, 1 << 20):
            talk = talk_of(name).plays(in_pieces(whole, size))
            assert (talk.upgraded, talk.refused, talk.unseen) == (False, None, None)
            assert (talk.server, talk.client) == (said_by("C", whole), said_by("S", whole))
            assert talk.offers[-1] is False

    def test_a_refusal_of_what_was_offered_before_goes_nowhere(self, name: str, script: Script, more: Script) -> None:
        talk = talk_of(name, strict_offer=True).plays(script + more)
        assert talk.refused == "the offer of TLS is missing"
        assert talk.client in (said_by("S", script[:-1]), b"")

    def test_what_was_not_granted_once_may_be_asked_for_again(self, name: str, script: Script, more: Script) -> None:
        if script[-1][1] == b"E":
            pytest.skip("the server says nothing any more")
        asks = next(data for who, data in reversed(script) if who == "C")
        talk = talk_of(name).plays([*script, ("C", asks)])
        assert talk.server == said_by("C", script) + asks
        talk.says(client=b"x")
        assert talk.refused is not None
        assert "command injection" in talk.refused


@pytest.mark.parametrize(("name", "script"), SETTLED)
def test_once_there_is_no_tls_any_more_everything_is_handed_on_at_once(name: str, script: Script) -> None:
    more = [("C", b"\x16\x03"), ("S", b"<!\xff"), ("C", b"x" * (1 << 21)), ("S", b"y")]
    whole = script + more
    for pieces in (whole, in_pieces(script, 1) + more, in_pieces(script, 3) + more):
        talk = talk_of(name).plays(pieces)
        assert (talk.upgraded, talk.refused, talk.unseen) == (False, None, None)
        assert (talk.server, talk.client) == (said_by("C", whole), said_by("S", whole))


@pytest.mark.parametrize(("name", "script"), SETTLED)
def test_what_stands_behind_the_message_that_settles_it_is_handed_on_too(name: str, script: Script) -> None:
    who, last = script[-1]
    talk = talk_of(name).plays([*script[:-1], (who, last + b"\x00half")])
    assert (talk.refused, talk.unseen) == (None, None)
    assert (talk.server if who == "C" else talk.client).endswith(last + b"\x00half")


def test_a_half_message_of_the_client_is_handed_on_when_the_server_settles_it() -> None:
    talk = talk_of("nntp").plays([("S", b"200 hi\r\n"), ("C", b"AUTHINFO PASS x\r\nGRO"), ("S", b"281 hi\r\n2")])
    assert talk.server == b"AUTHINFO PASS x\r\nGRO"
    assert talk.client == b"200 hi\r\n281 hi\r\n2"


@pytest.mark.parametrize(("name", "script", "cleartext", "refusal"), CLEARTEXT)
def test_cleartext_is_refused_in_the_protocols_words_where_tls_is_required(
    name: str, script: Script, cleartext: bytes, refusal: bytes
) -> None:
    for size in (1, 1 << 20):
        talk = talk_of(name, REQUIRED).plays(in_pieces([*script, ("C", cleartext)], size))
        assert talk.refused is not None
        assert "TLS is required" in talk.refused
        assert talk.server == said_by("C", script)
        assert talk.client == said_by("S", script) + refusal


@pytest.mark.parametrize(
    ("name", "script", "last"),
    [
        pytest.param("postgresql", [("C", PG_ASKS), ("S", b"E")], b"Erest", id="postgresql"),
        pytest.param("mysql", [("S", b"")], mysql(0, b"\xff\x10\x04Too many") + b"rest", id="mysql"),
    ],
)
def test_a_servers_error_is_its_last_word_where_tls_is_required(name: str, script: Script, last: bytes) -> None:
    talk = talk_of(name, REQUIRED).plays([*script[:-1], ("S", last)])
    assert talk.refused == "TLS is required, and the server goes on without it"
    assert talk.client == last


def test_another_protection_is_refused_where_tls_is_required() -> None:
    talk = talk_of("postgresql", REQUIRED).plays([("C", PG_GSS), ("S", b"G")])
    assert (talk.server, talk.client, talk.unseen) == (PG_GSS, b"", None)
    assert talk.refused == "TLS is required, and the server agrees to another protection"


@pytest.mark.parametrize(("name", "script"), STRANGE)
def test_what_is_not_understood_is_handed_on_unseen(name: str, script: Script) -> None:
    more = [("C", b"more"), ("S", b"more")]
    whole = script + more
    for pieces in (whole, in_pieces(script, 1) + more):
        talk = talk_of(name).plays(pieces)
        assert (talk.upgraded, talk.refused) == (False, None)
        assert talk.unseen
        assert (talk.server, talk.client) == (said_by("C", whole), said_by("S", whole))


@pytest.mark.parametrize(("name", "script"), STRANGE)
def test_what_is_not_understood_ends_the_conversation_where_tls_is_required(name: str, script: Script) -> None:
    for pieces in (script, in_pieces(script, 1)):
        talk = talk_of(name, REQUIRED).plays([*pieces, ("C", b"secret"), ("S", b"secret")])
        assert talk.refused is not None
        assert talk.unseen is None
        assert b"secret" not in talk.server + talk.client


def test_what_is_held_of_the_other_side_is_handed_on_when_it_becomes_opaque() -> None:
    talk = talk_of("ldap").plays([("S", ROOT[:9]), ("C", b"GET / HTTP/1.1\r\n")])
    assert talk.unseen == "this is no message of LDAP"
    assert (talk.server, talk.client) == (b"GET / HTTP/1.1\r\n", ROOT[:9])


def test_too_many_logins_without_an_answer_are_not_kept() -> None:
    talk = talk_of("ldap")
    for number in range(MAX_TURNS + 1):
        assert talk.unseen is None
        talk.says(client=ber(0x30, ber(2, number.to_bytes(2, "big")), bind(1, b"cn=joe", b"x")[5:]))
    assert talk.unseen == "too many commands wait for a reply"


@pytest.mark.parametrize(("name", "who", "data", "limit"), OVERSIZE)
def test_no_more_is_held_than_the_limit(name: str, who: str, data: bytes, limit: int) -> None:
    talk = talk_of(name)
    for at in range(0, len(data), 1000):
        talk.plays([(who, data[at : at + 1000])])
        assert len(data[: at + 1000]) - len(talk.server + talk.client) <= limit
    assert talk.unseen is not None
    assert talk.server + talk.client == data


MISSING = [  # a server that does not offer TLS
    pytest.param("ldap", [("S", entry(1, b"", supportedExtension=[b"1.2.3"]))], id="ldap"),
    pytest.param("xmpp", [("S", XMPP_SERVER + MECHANISMS)], id="xmpp"),
    pytest.param(
        "nntp", [("S", b"200 hi\r\n"), ("C", b"CAPABILITIES\r\n"), ("S", b"101 list\r\nREADER\r\n.\r\n")], id="nntp"
    ),
    pytest.param("sieve", [("S", b'"IMPLEMENTATION" "x"\r\n"SASL" "STARTTLS"\r\nOK\r\n')], id="sieve"),
    pytest.param("sieve", [("S", b"BYE\r\n")], id="sieve, that greets with a goodbye"),
    pytest.param("xmpp", [("S", XMPP_SERVER.replace(b" version='1.0'>", b">"))], id="xmpp, an old stream"),
    pytest.param(
        "nntp", [("S", b"200 hi\r\n"), ("C", b"CAPABILITIES\r\n"), ("S", b"500 what\r\n")], id="nntp, an error"
    ),
    pytest.param("irc", [("S", b":a 421 * CAP :unknown\r\n")], id="irc, an error"),
    pytest.param("postgresql", [("C", PG_ASKS), ("S", b"N")], id="postgresql"),
    pytest.param("mysql", [("S", greeting(0xF7FF))], id="mysql"),
    pytest.param("irc", [("S", b"CAP * LS * :sasl\r\nCAP * LS :multi-prefix\r\n")], id="irc"),
]


@pytest.mark.parametrize(("name", "script"), MISSING)
def test_a_missing_offer_is_said_and_goes_nowhere_if_it_must_not_be_missing(name: str, script: Script) -> None:
    talk = talk_of(name).plays(script)
    assert talk.offers == [False]
    assert talk.client == said_by("S", script)
    strict = talk_of(name, strict_offer=True).plays(script)
    assert strict.refused == "the offer of TLS is missing"
    assert len(strict.client) < len(talk.client)


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(entry(1, b"", vendorName=[b"x"]), id="what was not asked for"),
        pytest.param(entry(1, b"", supportedExtension=[]), id="names only"),
        pytest.param(entry(1, b"cn=x", supportedExtension=[b"1.2"]), id="another entry"),
    ],
)
def test_a_root_that_does_not_list_extensions_says_nothing_about_tls(found: bytes) -> None:
    assert talk_of("ldap").says(server=found).offers == []


@pytest.mark.parametrize("reply", [b"200 hi\r\n", b"211 1 2 3\r\n"])
def test_a_reply_that_lists_nothing_says_nothing_about_tls(reply: bytes) -> None:
    assert talk_of("nntp").says(server=reply).offers == []


def test_a_server_that_speaks_before_tls_of_mysql_ends_the_conversation() -> None:
    talk = talk_of("mysql").plays([("S", MYSQL_GREETING + b"\x07"), ("C", MYSQL_ASKS)])
    assert talk.refused is not None
    assert "response injection" in talk.refused
    assert talk.server == b""


def test_a_starttls_of_another_namespace_is_none() -> None:
    talk = talk_of("xmpp").plays([("C", XMPP_CLIENT + b"<starttls/><starttls xmlns='urn:x'/>" + XMPP_ASKS)])
    assert talk.refused is None
    assert talk.server.endswith(XMPP_ASKS)


def test_nothing_is_looked_at_any_more_after_the_end() -> None:
    talk = talk_of("nntp").says(server=b"200 hi\r\n")
    talk.watcher.ended()
    talk.says(client=b"STARTTLS\r\n", server=b"382 go\r\n")
    assert (talk.server, talk.client, talk.upgraded) == (b"", b"200 hi\r\n", False)


def test_a_value_is_written_as_it_is_read() -> None:
    for size in (0, 1, 127, 128, 255, 256, 70_000):
        values = Ber(ber(4, b"x" * size) + ber(5))
        assert values.take(4) == b"x" * size
        assert values.next() == (5, b"")
        assert not values
        with pytest.raises(Broken):
            values.next()


def dialogue(name: object, script: object, *_: object) -> tuple[str, Script]:
    """The first two values of a case, which are objects to pytest."""
    assert isinstance(name, str)
    assert isinstance(script, list)
    return name, script


DIALOGUES = [dialogue(*case.values) for case in (*UPGRADED, *REFUSED, *SETTLED)]


@given(st.data())
def test_whatever_is_said_nothing_raises_and_nothing_is_changed_or_kept(data: st.DataObject) -> None:
    name, spoken = data.draw(st.sampled_from(DIALOGUES))
    script = list(spoken)
    for _ in range(data.draw(st.integers(0, 3))):
        index = data.draw(st.integers(0, len(script) - 1))
        who, speech = script[index]
        at = data.draw(st.integers(0, len(speech)))
        drop = data.draw(st.integers(0, 4))
        script[index] = (who, speech[:at] + data.draw(st.binary(max_size=4)) + speech[at + drop :])
    if data.draw(st.booleans()):
        script = data.draw(st.permutations(script))
    size = data.draw(st.sampled_from([1, 3, 16, 1 << 20]))
    talk = talk_of(name, Terms(required=data.draw(st.booleans()))).plays(in_pieces(script, size))
    assert said_by("C", script).startswith(talk.server)
    if talk.refused is None:
        assert said_by("S", script).startswith(talk.client)
    if talk.unseen is not None:
        assert (talk.server, talk.client) == (said_by("C", script), said_by("S", script))


def test_every_row_has_a_dialogue_that_leads_to_tls_and_every_row_but_one_a_refusal() -> None:
    assert {case.values[0] for case in UPGRADED} == set(UPGRADES)
    assert {case.values[0] for case in REFUSED} == {name for name in UPGRADES if not UPGRADES[name].at_once}
    assert {case.values[0] for case in CLEARTEXT} == {case.values[0] for case in SETTLED} == set(UPGRADES)


def test_the_page_has_the_table() -> None:
    page = (Path(__file__).parents[2] / "docs" / "starttls.md").read_text(encoding="utf-8")
    assert table() in page


def test_an_unknown_protocol_has_no_watcher() -> None:
    with pytest.raises(KeyError):
        watcher_of("gopher")

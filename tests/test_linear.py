"""Nothing that a peer says costs more than its length: four times as much of it takes about four times as long."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from typing import Final

import pytest

from sslintercept.dialogue.binary import ber
from sslintercept.dialogue.upgrade import watcher_of
from sslintercept.dialogue.watcher import MakeWatcher, Terms, Watcher, Wires
from sslintercept.errors import InterceptError
from sslintercept.ftp.address import read_epsv, read_six
from sslintercept.ftp.control import FtpWatcher
from sslintercept.http.fields import via_names
from sslintercept.http.head import read_request, read_response
from sslintercept.mail.dots import AmbiguousEnd, Content
from sslintercept.mail.imap import ImapWatcher
from sslintercept.mail.login import Login
from sslintercept.mail.pop3 import Pop3Watcher
from sslintercept.mail.smtp import SmtpWatcher
from sslintercept.socks.wire import Reader, request4
from sslintercept.testing.talk import Talk
from sslintercept.tls.hello import HelloReader
from sslintercept.transform.shipped.html import Finder
from tests.ftp.test_control import Ways

Work = Callable[[], object]

TOO_STEEP: Final = 9.0
"""How much longer four times as much may take: in between 4, and the 16 of something quadratic."""
AT_ONCE: Final = 0.01
"""Seconds; what takes no longer at its largest freezes nobody, and tells nothing about its slope."""
TRIES: Final = 4


def ftp(wires: Wires, terms: Terms) -> Watcher:
    return FtpWatcher(wires, terms, Ways())


class Deaf(Talk):
    """A conversation of which nothing is kept: what is measured is the watcher."""

    def to_server(self, data: bytes) -> None: ...
    def to_client(self, data: bytes) -> None: ...


def talk(make: MakeWatcher, *script: bytes, client: bytes = b"", server: bytes = b"") -> Work:
    """A conversation; C{script} is said before by the server and the client in turns, the server first."""

    def work() -> None:
        says = Deaf(make)
        for at, speech in enumerate(script):
            says.plays([("C" if at % 2 else "S", speech)])
        says.says(client=client).says(server=server)

    return work


def whole_head(n: int, begin: bytes, unit: bytes) -> Work:
    raw = begin + unit * n + b"\r\n\r\n"

    def work() -> None:
        for read in (lambda: read_request(raw, "http", None), lambda: read_response(raw, b"GET")):
            try:
                read()
            except InterceptError:
                continue

    return work


def html(n: int, begin: bytes, unit: bytes) -> Work:
    """A search for a place that is not there."""
    page = begin + unit * n

    def work() -> None:
        Finder(b"body", closing=True).feed(page)

    return work


def content(n: int, unit: bytes) -> Work:
    def work() -> None:
        for data in (unit * n, *[b"x" + unit] * n):
            try:
                Content().feed(data)
            except AmbiguousEnd:
                continue

    return work


def hello(n: int) -> Work:
    """A hello of many small extensions, byte by byte."""
    extensions = b"".join(struct.pack(">HH", 1000 + number, 0) for number in range(n))
    body = b"\x03\x03" + bytes(33) + b"\x00\x02\x13\x01\x01\x00" + struct.pack(">H", len(extensions)) + extensions
    message = b"\x01" + len(body).to_bytes(3, "big") + body
    records = [
        b"\x16\x03\x01" + struct.pack(">H", len(message[at : at + 1000])) + message[at : at + 1000]
        for at in range(0, len(message), 1000)
    ]

    def work() -> None:
        reader = HelloReader()
        found = [reader.feed(bytes((byte,))) for byte in b"".join(records)]
        assert found[-1] is not None

    return work


def socks(n: int) -> Work:
    """Requests of SOCKS 4a, byte by byte."""

    def work() -> None:
        for _ in range(n):
            reader = Reader()
            for byte in b"\x04\x01\x00\x50\x00\x00\x00\x01" + b"u" * 100 + b"\0" + b"a" * 60 + b".b\0":
                reader.feed(bytes((byte,)))
                reader.take(request4)

    return work


def entry(n: int) -> bytes:
    """An entry of LDAP with many attributes, each with many values."""
    values = ber(0x31, *[ber(4, b"x")] * 20)
    return ber(0x30, ber(2, b"\1"), ber(0x64, ber(4), ber(0x30, *[ber(0x30, ber(4, b"a"), values)] * n)))


IMAP = b"* OK hi\r\n"
SMTP = (b"220 hi\r\n", b"EHLO me\r\n", b"250-x\r\n250 CHUNKING\r\n")
STREAM = b"<stream:stream xmlns='jabber:client'>"
XMPP = (STREAM, STREAM)

WORKS: Final[dict[str, tuple[int, Callable[[int], Work]]]] = {
    "imap: openings of sections in a string": (
        40_000,
        lambda n: talk(ImapWatcher, IMAP, server=b'* 1 FETCH (ENVELOPE ("' + b"BODY[" * n + b'"))\r\n'),
    ),
    "imap: openings of sections before a literal": (
        40_000,
        lambda n: talk(ImapWatcher, IMAP, server=b"* 1 FETCH (" + b"BINARY[" * n + b" {5}\r\n"),
    ),
    "imap: strings without an end": (
        4_000,
        lambda n: talk(ImapWatcher, IMAP, server=b"* 1 FETCH (" + b'RFC822 "\\"' * n + b"\r\n"),
    ),
    "imap: escapes in a string without an end": (
        8_000,
        lambda n: talk(ImapWatcher, IMAP, client=b'a LOGIN "' + b'\\"' * n + b"\r\n"),
    ),
    "imap: literals of nothing from the client": (
        5_000,
        lambda n: talk(ImapWatcher, IMAP, client=b"a X {0+}\r\n\r\n" * n),
    ),
    "imap: literals of nothing from the server": (
        5_000,
        lambda n: talk(ImapWatcher, IMAP, server=b"* X {0}\r\n\r\n" * n),
    ),
    "imap: digits": (40_000, lambda n: talk(ImapWatcher, IMAP, server=b"* 1 FETCH (BODY[]<" + b"1" * n * 5 + b"\r\n")),
    "smtp: chunks of nothing": (400, lambda n: talk(SmtpWatcher, *SMTP, client=b"BDAT 0\r\n" * n)),
    "smtp: mails of nothing": (400, lambda n: talk(SmtpWatcher, *SMTP, client=b"BDAT 0 LAST\r\n" * n)),
    "smtp: recipients and mails": (
        200,
        lambda n: talk(SmtpWatcher, *SMTP, client=b"RCPT TO:<a>\r\n" * n + b"BDAT 0 LAST\r\n" * n),
    ),
    "smtp: an address without an end": (
        250,
        lambda n: talk(SmtpWatcher, *SMTP, client=b"MAIL FROM:<" + b'"\\""' * n + b"\r\n"),
    ),
    "smtp: a reply of many lines": (8_000, lambda n: talk(SmtpWatcher, server=b"220-\r\n" * n + b"220 x\r\n")),
    "smtp: mails of a dot": (
        1_500,
        lambda n: talk(SmtpWatcher, *SMTP, client=b"DATA\r\n.\r\n" * n, server=b"354 go\r\n250 ok\r\n" * n),
    ),
    "a mail of dots": (2_000, lambda n: content(n, b"\r\n..")),
    "a mail of returns": (4_000, lambda n: content(n, b"\r")),
    "a mail of loose ends": (2_000, lambda n: content(n, b"\n\0x")),
    "a login of zeros": (40_000, lambda n: lambda: Login(b"PLAIN").response(b"AAAA" * n)),
    "pop3: answers of no lines": (
        240,
        lambda n: talk(Pop3Watcher, b"+OK\r\n", b"LIST\r\n" * n, server=b"+OK\r\n.\r\n" * n),
    ),
    "pop3: an answer of dots": (
        40_000,
        lambda n: talk(Pop3Watcher, b"+OK\r\n", b"RETR 1\r\n", server=b"+OK\r\n" + b"..\r\n" * n),
    ),
    "ftp: a reply of many lines": (8_000, lambda n: talk(ftp, server=b"220-\r\n" * n + b"220 x\r\n")),
    "ftp: numbers": (
        400,
        lambda n: lambda: [(read_six(b"1," * n * count), read_epsv(b"(|||" * n * count)) for count in range(50)],
    ),
    "ftp: what Telnet puts in": (
        240,
        lambda n: talk(ftp, b"220 hi\r\n", client=(b"NOOP" + b"\xff" * 999 + b"\r\n") * n),
    ),
    "ftp: addresses of many lines": (
        8_000,
        lambda n: talk(ftp, b"220 hi\r\n", b"PASV\r\n", server=b"227-1,2,3,4,5,6\r\n" * n),
    ),
    "ftp: questions during a transfer": (
        240,
        lambda n: talk(ftp, b"220 hi\r\n", b"RETR x\r\n", b"150 go\r\n", b"STAT\r\n" * n, server=b"211 10 %\r\n" * n),
    ),
    "ftp: commands": (240, lambda n: talk(ftp, b"220 hi\r\n", b"NOOP\r\n" * n, server=b"200 ok\r\n" * n)),
    "xmpp: less than, less than": (
        15_000,
        lambda n: talk(watcher_of("xmpp"), *XMPP, server=b"<features><a><![CDATA[" + b"<" * n + b"]]></a></features>"),
    ),
    "xmpp: prefixes": (
        5_000,
        lambda n: talk(watcher_of("xmpp"), *XMPP, server=b"<features><a b='" + b"x:y" * n + b"'/></features>"),
    ),
    "xmpp: namespaces": (
        1_500,
        lambda n: talk(watcher_of("xmpp"), *XMPP, server=b"<a" + b' xmlns  = "' * n + b"' />"),
    ),
    "xmpp: spaces": (15_000, lambda n: talk(watcher_of("xmpp"), *XMPP, server=b"<a xmlns" + b" " * n + b"/>")),
    "xmpp: versions": (
        5_000,
        lambda n: talk(watcher_of("xmpp"), STREAM, server=b"<stream:stream a='" + b" version  " * n + b"'>"),
    ),
    "xmpp: children": (4_000, lambda n: talk(watcher_of("xmpp"), *XMPP, server=b"<a/>" * n)),
    "xmpp: a child of children": (
        4_000,
        lambda n: talk(watcher_of("xmpp"), *XMPP, server=b"<b>" + b"<a/>" * (n - 9) + b"</b>"),
    ),
    "nntp: a list": (
        8_000,
        lambda n: talk(watcher_of("nntp"), b"200 hi\r\n", b"LIST\r\n", server=b"215\r\n" + b"x\r\n" * n),
    ),
    "nntp: commands": (
        1_000,
        lambda n: talk(watcher_of("nntp"), b"200 hi\r\n", b"DATE\r\n" * n, server=b"111 x\r\n" * n),
    ),
    "sieve: literals of nothing": (
        2_500,
        lambda n: talk(watcher_of("sieve"), b"OK\r\n", client=b"X" + b" {0+}\r\n" * n + b"\r\n"),
    ),
    "sieve: capabilities": (2_000, lambda n: talk(watcher_of("sieve"), server=b'"A" "B"\r\n' * n + b"OK\r\n")),
    "irc: words": (1_000, lambda n: talk(watcher_of("irc"), server=b"CAP * LS :" + b"a " * n + b"\r\n")),
    "irc: messages": (4_000, lambda n: talk(watcher_of("irc"), server=b"PING\r\n" * n)),
    "ldap: attributes": (2_000, lambda n: talk(watcher_of("ldap"), server=entry(n))),
    "socks: byte by byte": (20, socks),
    "http: a target of colons": (8_000, lambda n: whole_head(n, b"GET ", b"a:")),
    "http: spaces": (15_000, lambda n: whole_head(n, b"GET / HTTP/1.1\r\nHost: a\r\nConnection:", b" ,")),
    "http: returns": (15_000, lambda n: whole_head(n, b"GET / HTTP/1.1\r\nTE", b"\r")),
    "http: Via": (8_000, lambda n: lambda: via_names(b"1.1 a (" + b"\\(" * n)),
    "http: comments in Via": (8_000, lambda n: lambda: via_names(b"1.1 a " + b"(" * n + b"()" * n)),
    "tls: byte by byte": (2_500, hello),
    "html: tags without an end": (20_000, lambda n: html(n, b"", b"<a b=")),
    "html: attributes": (8_000, lambda n: html(n, b"<a ", b"=x ")),
    "html: quotes": (8_000, lambda n: html(n, b"", b"<a b='")),
    "html: names": (60_000, lambda n: html(n, b"<", b"a")),
    "html: what begins nothing": (4_000, lambda n: html(n, b"", b"<")),
}


def seconds(work: Work) -> float:
    """CPU time, the least of a few."""
    found = []
    for _ in range(3):
        begun = time.process_time()
        work()
        found.append(time.process_time() - begun)
    return min(found)


@pytest.mark.parametrize("name", WORKS)
def test_four_times_as_much_takes_about_four_times_as_long(name: str) -> None:
    size, make = WORKS[name]
    found = []
    for _ in range(TRIES):
        little, much = seconds(make(size)), seconds(make(4 * size))
        if much < AT_ONCE or much < TOO_STEEP * little:
            return
        found.append(f"{much / little:.1f} times {little * 1000:.1f} ms")
    pytest.fail(f"{name}: {', '.join(found)}")

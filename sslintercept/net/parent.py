"""
Other proxies on the way to an origin: HTTP by CONNECT, in the clear or in TLS, and SOCKS 5.

A parent is spoken to until it has opened the way; then its part of the connection looks like any other server
connection, and the origin's TLS goes on top of it (for a parent in TLS that is TLS in TLS). Names are the parent's to
resolve: they are never looked up here.
"""

from __future__ import annotations

import ipaddress
import re
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol, ITransport
from twisted.python.failure import Failure
from zope.interface import implementer

from sslintercept.errors import InterceptError, TimedOut, UpstreamError
from sslintercept.facts import Address, ClientHello
from sslintercept.net.challenge import challenges
from sslintercept.net.upstream import Secured, UpstreamTls
from sslintercept.net.vconnection import NetVConnection
from sslintercept.profile.profile import Bytes

_BODY = re.compile(rb"\n(?:content-length:[ \t]*0*[1-9]|transfer-encoding:)", re.IGNORECASE)
"""a field that an answer which opens a tunnel never has (RFC 9110 9.3.6)"""
MOST_HEAD = 16 * 1024
"""bytes of a parent's answer to CONNECT"""
SOCKS_REPLIES = {
    1: "general failure",
    2: "not allowed by its rules",
    3: "network unreachable",
    4: "host unreachable",
    5: "connection refused",
    6: "TTL expired",
    7: "command not supported",
    8: "address type not supported",
}
"""RFC 1928 6"""


class Parent(NamedTuple):
    """A proxy between us and origins."""

    name: str
    proxy: str
    """C{http}, C{https} or C{socks5}"""
    address: Address
    user: str | None = None
    password: str = ""
    login: bytes | None = None
    """of a proxy that a client has asked for, and not the settings: the client's Proxy-Authorization, or empty"""

    def __repr__(self) -> str:
        return f"<parent {self.name}: {self.proxy} {self.address}>"


class ParentError(UpstreamError):
    """The parent does not open the way."""

    kind = "parent"


class NoProxy(ParentError):
    """Who was asked for a way is no proxy at all."""


class LoginWanted(ParentError):
    """
    A proxy that a client has asked for wants that client to log in.

    @ivar challenges: the values of its Proxy-Authenticate fields that a client can answer through us.
    """

    def __init__(self, what: str, *, where: str, challenges: Sequence[bytes]) -> None:
        super().__init__(what, where=where, remedy="log in there")
        self.challenges = challenges


WAYS_OUT = {
    "connect": "is it up? See [parent:{}] address",
    "dns": "see [parent:{}] address",
    "certificate": "see [parent:{}] address, and [upstream-tls] extra_trust",
    "upstream_tls": "does it speak TLS? See [parent:{}] proxy",
    "forbidden": "see [parent:{}] address",
}
"""what to do about an error on the way to a parent, by its kind"""
LOOK = "look at the parent"
LOGIN = "see [parent:{}] user and password_file"


@contextmanager
def blamed(parent: Parent) -> Iterator[None]:
    """Whatever goes wrong in here is told as that parent's fault, and not as the destination's."""
    where = f"parent {parent.name}"
    try:
        yield
    except ParentError:
        raise
    except TimedOut as error:
        raise TimedOut(error.what, where=where, remedy=LOOK) from None
    except UpstreamError as error:
        remedy = WAYS_OUT.get(error.kind, LOOK).format(parent.name)
        raise ParentError(error.what, where=where, remedy=remedy) from None


NOT_SERVED = (b"400", b"404", b"405", b"501")
"""what servers that are no proxies answer CONNECT with"""


@implementer(IProtocol, IHalfCloseableProtocol)
class Conversation:
    """
    The session of a connection to a parent while it is asked to open the way.

    It collects what comes, and fires whoever waits for a certain amount of it.
    """

    takes_views = True

    def __init__(self, vc: NetVConnection, parent: Parent) -> None:
        self._vc = vc
        self._parent = parent
        self._got = bytearray()
        self._enough: Callable[[bytearray], int] = lambda got: 0
        self._waiting: Deferred[bytes] | None = None
        vc.attach(self)

    def makeConnection(self, transport: ITransport) -> None:
        """Nothing to begin."""

    def connectionMade(self) -> None:
        """Nothing to begin."""

    def dataReceived(self, data: Bytes) -> None:
        self._got += data
        self._look()

    def _look(self) -> None:
        waiting = self._waiting
        if waiting is None:
            return
        size = self._enough(self._got)
        if size:
            self._waiting = None
            piece = bytes(self._got[:size])
            del self._got[:size]
            waiting.callback(piece)
        elif len(self._got) > MOST_HEAD:
            self.fail(self.error(f"its answer is larger than {MOST_HEAD} bytes"))

    async def read(self, enough: Callable[[bytearray], int]) -> bytes:
        """
        Wait for a piece.

        @param enough: how many bytes of what came are the piece; 0 while it is not whole.
        @raise ParentError: the parent closed the connection, or said too much.
        """
        self._enough = enough
        waiting: Deferred[bytes] = Deferred()
        self._waiting = waiting
        if self._vc.closing:
            self.fail(self.error("it closed the connection"))
        self._look()
        return await waiting

    def leave(self) -> None:
        """Go; what came beyond the answer is delivered to whoever sits above as soon as this call stack has ended."""
        if self._got:
            rest, profile = bytes(self._got), self._vc.top
            self._vc.handler.soon(lambda: profile.deliver(rest))

    def error(
        self, what: str, no_proxy: bool = False, remedy: str = "look at what it says about this way"
    ) -> ParentError:
        """What the parent did wrong."""
        kind = NoProxy if no_proxy else ParentError
        return kind(what, where=f"parent {self._parent.name}", remedy=remedy.format(self._parent.name))

    def fail(self, error: InterceptError) -> None:
        """It will not go on."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.errback(error)

    def readConnectionLost(self) -> None:
        self.fail(self.error("it closed the connection"))
        self._vc.close()

    def writeConnectionLost(self) -> None:
        """Our own doing."""

    def connectionLost(self, reason: Failure) -> None:
        self.fail(self.error("the connection to it was lost"))


async def open_way(vc: NetVConnection, parent: Parent, destination: Address, tls: UpstreamTls, timeout: float) -> None:
    """
    Ask C{parent}, which C{vc} leads to, for a way to C{destination}.

    Afterwards nothing sits on top of C{vc}; whatever the destination said already comes to the next session.

    @raise ParentError: it refuses, or does not speak what it should.
    @raise InterceptError: its TLS fails, or it takes longer than C{timeout} seconds.
    """
    conversation = Conversation(vc, parent)
    try:
        if parent.proxy == "https":
            await secure(vc, tls, parent.address.host, None)

        def too_slow(_kind: str) -> None:
            conversation.fail(TimedOut("it did not open the way in time", where=f"parent {parent.name}", remedy=LOOK))

        vc.deadline = vc.handler.now + timeout
        vc.timed_out = too_slow
        if parent.proxy == "socks5":
            await _socks(vc, parent, destination, conversation)
        else:
            await _connect(vc, parent, destination, conversation)
    except BaseException:
        vc.close()
        raise
    vc.deadline = float("inf")
    conversation.leave()


async def secure(vc: NetVConnection, tls: UpstreamTls, name: str, hello: ClientHello | None) -> None:
    """
    TLS with a proxy on the way; C{vc} is closed where that fails.

    @raise InterceptError: there is none, or the certificate is not the proxy's.
    """
    waiting: Deferred[None] = Deferred()

    def done(_secured: Secured | None, error: InterceptError | None) -> None:
        waiting.callback(None) if error is None else waiting.errback(error)

    handshake = tls.push(vc, name, (b"http/1.1",), hello, done)
    handshake.begin()
    try:
        await waiting
    except BaseException:
        vc.close(faithful=False)
        raise


async def _connect(vc: NetVConnection, parent: Parent, destination: Address, conversation: Conversation) -> None:
    authority = str(destination).encode("ascii")
    login = b""
    if parent.user is not None:
        pair = f"{parent.user}:{parent.password}".encode()
        login = b"Proxy-Authorization: Basic %b\r\n" % b64encode(pair)
    elif parent.login:
        login = b"Proxy-Authorization: %b\r\n" % parent.login
    vc.write(b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (authority, authority, login))
    head = await conversation.read(_head_end)
    start = head.partition(b"\n")[0].split(None, 2)
    if len(start) < 2 or not start[0].startswith(b"HTTP/1.") or not start[1].isdigit():
        raise conversation.error("its answer to CONNECT is not HTTP", True)
    while start[1].startswith(b"1"):
        # An interim answer; the one that counts follows (RFC 9110 15.2).
        head = await conversation.read(_head_end)
        start = [*head.partition(b"\n")[0].split(None, 2), b""]
    if not start[1].startswith(b"2"):
        status = start[1][:3]
        what = f"it answered CONNECT {destination} with {status.decode('latin-1')}"
        if status == b"407":
            if parent.login is not None:
                raise LoginWanted(what, where=f"parent {parent.name}", challenges=challenges(head))
            raise conversation.error(what, remedy=LOGIN)
        raise conversation.error(what, status in NOT_SERVED)
    if _BODY.search(head):
        raise conversation.error(f"it answered CONNECT {destination} with a page", True)


def _head_end(got: bytearray) -> int:
    return got.find(b"\r\n\r\n") + 4 if b"\r\n\r\n" in got else 0


async def _socks(vc: NetVConnection, parent: Parent, destination: Address, conversation: Conversation) -> None:
    """RFC 1928, and RFC 1929 for the login."""
    vc.write(b"\x05\x01\x00" if parent.user is None else b"\x05\x02\x00\x02")
    version, method = await conversation.read(_exactly(2))
    if version != 5:
        raise conversation.error("it does not speak SOCKS 5", True)
    if method not in (0, 2) or (method == 2 and parent.user is None):
        raise conversation.error("it takes no login that we have", remedy=LOGIN)
    if method == 2:
        assert parent.user is not None
        user, password = parent.user.encode(), parent.password.encode()
        vc.write(b"\x01%c%b%c%b" % (len(user), user, len(password), password))
        _, status = await conversation.read(_exactly(2))
        if status:
            raise conversation.error("it refuses our login", remedy=LOGIN)
    where = _socks_address(destination)
    if where is None:
        raise conversation.error(f"a name of {len(destination.host)} bytes cannot be told to it")
    vc.write(b"\x05\x01\x00" + where)
    head = await conversation.read(_socks_reply)
    if head[1]:
        why = SOCKS_REPLIES.get(head[1], f"reply {head[1]}")
        raise conversation.error(f"it does not connect to {destination} ({why})")


def _socks_address(destination: Address) -> bytes | None:
    """RFC 1928 5; C{None} for a name that is too long."""
    try:
        literal = ipaddress.ip_address(destination.host)
    except ValueError:
        name = destination.host.encode("ascii")
        if len(name) > 255:
            return None
        kind = b"\x03%c%b" % (len(name), name)
    else:
        kind = (b"\x01" if literal.version == 4 else b"\x04") + literal.packed
    return kind + destination.port.to_bytes(2, "big")


def _exactly(size: int) -> Callable[[bytearray], int]:
    return lambda got: size if len(got) >= size else 0


def _socks_reply(got: bytearray) -> int:
    """The size of a reply: 4 bytes, an address of its type, a port."""
    if len(got) < 5:
        return 0
    size = {1: 10, 3: 7 + got[4], 4: 22}.get(got[3], 10)
    return size if len(got) >= size else 0

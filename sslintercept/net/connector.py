"""
From a name to a connection (ATS: NetProcessor.connect_re).

The name is resolved first; the addresses are tried in the order they came, each for a share of the time, and the first
that answers wins. A literal address never costs a look-up.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from collections.abc import Callable, Sequence
from select import EPOLLOUT
from typing import TYPE_CHECKING, Protocol

from twisted.internet.defer import Deferred

from sslintercept.errors import ConnectError, UpstreamError
from sslintercept.facts import Address, Side
from sslintercept.net.handler import option
from sslintercept.net.listener import address
from sslintercept.net.vconnection import HIGH_WATER, LOW_WATER, NetVConnection
from sslintercept.profile.tcp import TcpProfile

if TYPE_CHECKING:
    from sslintercept.net.handler import NetHandler

MOST_ADDRESSES = 8
"""addresses of one name that are tried"""


class Resolver(Protocol):
    """Who knows the addresses of a name (L{sslintercept.interfaces.IResolver})."""

    def resolve(self, host: str) -> Deferred[Sequence[str]]: ...


class Attempt:
    """One connect under way: a socket that is watched until it is writable, and a time limit."""

    def __init__(self, handler: NetHandler, peer: Address, limit: float) -> None:
        self._handler = handler
        self.peer = peer
        self.turn = -1
        self.done: Deferred[socket.socket] = Deferred(lambda _: self._end())
        family = socket.AF_INET6 if ":" in peer.host else socket.AF_INET
        self._sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self._watched = False
        try:
            option(self._sock)
            code = self._sock.connect_ex((peer.host, peer.port))
        except BaseException:
            self._sock.close()
            raise
        self._timer = handler.later(limit, self._too_slow)
        if code in (0, errno.EINPROGRESS):
            handler.add(self._sock.fileno(), self, EPOLLOUT)
            self._watched = True
        else:
            handler.soon(lambda: self._failed(code))

    def readable(self) -> None:
        """Never asked for."""

    def event(self, event: int) -> None:
        """Connected, or refused."""
        code = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._failed(code)
            return
        sock = self._sock
        self._release()
        self.done.callback(sock)

    def abort(self) -> None:
        """A defect while the outcome was looked at."""
        self._failed(errno.ECONNABORTED)

    def _release(self) -> None:
        if self._watched:
            self._watched = False
            self._handler.remove(self._sock.fileno())
        if self._timer.active():
            self._timer.cancel()

    def _end(self) -> None:
        self._release()
        self._sock.close()

    def _failed(self, code: int) -> None:
        if not self.done.called:
            self._end()
            self.done.errback(OSError(code, os.strerror(code)))

    def _too_slow(self) -> None:
        self._failed(errno.ETIMEDOUT)


class Connector:
    """
    Opens server connections.

    @param water: the high and low water marks of the connections.
    @ivar allowed: asked for every address before a packet leaves; it returns a reason to refuse it, or C{None}.
    @ivar back: the same for L{connect_back}.
    """

    def __init__(
        self,
        handler: NetHandler,
        resolver: Resolver,
        *,
        timeout: float,
        water: tuple[int, int] = (HIGH_WATER, LOW_WATER),
        allowed: Callable[[str, int], str | None] = lambda host, port: None,
        back: Callable[[str, int], str | None] = lambda host, port: None,
    ) -> None:
        self._handler = handler
        self._resolver = resolver
        self._timeout = timeout
        self._water = water
        self.allowed = allowed
        self.back = back

    async def addresses(self, host: str) -> Sequence[str]:
        """
        The addresses to try for C{host}.

        @raise ResolveError: it has none.
        """
        try:
            return [str(ipaddress.ip_address(host))]
        except ValueError:
            return (await self._resolver.resolve(host))[:MOST_ADDRESSES]

    async def connect(self, destination: Address, addresses: Sequence[str] | None = None) -> NetVConnection:
        """
        A connection with its base in place and nothing on top.

        @raise ResolveError: the name has no address.
        @raise ConnectError: no address answered, or none may be used.
        """
        if addresses is None:
            addresses = await self.addresses(destination.host)
        return await self._try(destination, addresses, self.allowed)

    async def connect_back(self, client: Address) -> NetVConnection:
        """
        A connection to a client that waits for one, at its own address; where clients live is no forbidden place.

        @raise ConnectError: it does not answer, or it is a port of our own.
        """
        return await self._try(client, [client.host], self.back)

    async def _try(
        self, destination: Address, addresses: Sequence[str], allowed: Callable[[str, int], str | None]
    ) -> NetVConnection:
        end = self._handler.seconds() + self._timeout
        last: UpstreamError | None = None
        for i, host in enumerate(addresses):
            peer = Address(host, destination.port)
            if (refused := allowed(host, destination.port)) is not None:
                last = refusal(destination, refused)
                continue
            left = end - self._handler.seconds()
            if left <= 0:
                last = last or too_slow(destination)
                break
            share = max(left / (len(addresses) - i), min(left, 1.0))
            try:
                sock = await Attempt(self._handler, peer, share).done
            except (OSError, ValueError, OverflowError) as error:
                why = error.strerror if isinstance(error, OSError) else str(error)
                last = ConnectError(
                    f"cannot connect to {peer} ({why})",
                    where=str(destination),
                    remedy="the origin or the way to it is down",
                )
                continue
            vc = NetVConnection(self._handler, Side.UPSTREAM, peer, address(sock.getsockname()))
            vc.high_water, vc.low_water = self._water
            vc.open(TcpProfile(vc, sock, self._handler))
            return vc
        raise last or ConnectError("no address to try", where=str(destination), remedy="look at the name's records")


def too_slow(destination: Address) -> ConnectError:
    """The error when the time was over before every address was tried."""
    return ConnectError(
        "no address answered in time", where=str(destination), remedy="the origin or the way to it is down"
    )


class Forbidden(ConnectError):
    """The destination is one that this gateway must not be used to reach."""

    kind = "forbidden"


def refusal(destination: Address, why: str) -> Forbidden:
    """The error for an address that may not be used."""
    return Forbidden(why, where=str(destination), remedy="see [http] private_destinations")

"""
A UDP port for questions: each datagram is one, nothing is kept of it, and its answer goes back from where it was asked.

Sources can be forged, so whoever is not near gets no more than L{FACTOR} times the bytes it sent: a longer answer is
cut to say that it may be asked for over TCP (RFC 5358, RFC 7766 5).
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from select import EPOLLIN
from typing import TYPE_CHECKING, Final

from twisted.logger import Logger

from sslintercept.errors import ConfigError
from sslintercept.facts import Address
from sslintercept.nameserver.reply import Query, shortened
from sslintercept.net.listener import way_out
from sslintercept.net.nearness import Near, nearness
from sslintercept.net.udp import BUFFER, CONTROL, DATAGRAMS, VIEW, SocketAddress, answer_from, ask_local, bind

if TYPE_CHECKING:
    from sslintercept.net.handler import NetHandler

FACTOR: Final = 8
"""times the bytes of a question that a stranger is answered with"""
LEAST: Final = 512
"""bytes that an answer may have in any case: what every client could always get (RFC 1035 2.3.4)"""

Ask = Callable[[bytes, Address, Callable[["Query | None", bytes], object]], object]
"""AnswerTable a message of a client (L{sslintercept.nameserver.service.NameService.ask})."""


class QuestionPort:
    """
    @param ask: called with each datagram and who sent it.
    @param share: let other workers have the same port.
    @raise ConfigError: the port cannot be had.
    @ivar address: where it is.
    """

    log = Logger()

    def __init__(self, handler: NetHandler, at: Address, listener: str, ask: Ask, *, share: bool = False) -> None:
        self._handler = handler
        self._ask = ask
        self.turn = -1
        self.open = True
        try:
            self._sock = bind(*at, share=share)
        except OSError as error:
            raise ConfigError(
                f"cannot use UDP on {at} ({error.strerror or error})",
                where=f"[listen:{listener}] endpoint",
                remedy=way_out(error),
            ) from None
        ask_local(self._sock)
        self.address = Address(*self._sock.getsockname()[:2])
        handler.add(self._sock.fileno(), self, EPOLLIN)

    def readable(self) -> None:
        """Take what waits."""
        receive, ask = self._sock.recvmsg_into, self._ask
        for _ in range(DATAGRAMS):
            try:
                size, control, _, source = receive((BUFFER,), CONTROL)
            except BlockingIOError:
                return
            except OSError:
                continue  # an earlier answer of ours came back; whose, the kernel does not say
            if not source[1]:
                continue  # nobody can be answered at port 0
            answer = Answer(self._sock, source, control[0][2] if control else b"", size)
            try:
                ask(bytes(VIEW[:size]), Address(source[0], source[1]), answer)
            except Exception:
                self.log.failure("a question could not be answered")
            if not self.open:
                return

    def event(self, event: int) -> None:
        """An error on the socket shows at the next read."""
        self.readable()

    def abort(self) -> None:
        """A defect outside of every question."""
        self.close()

    def close(self) -> None:
        """Close the socket; answers that come later go nowhere. Twice is once."""
        if self.open:
            self.open = False
            self._handler.remove(self._sock.fileno())
            self._sock.close()


class Answer:
    """The way back of one question."""

    __slots__ = ("_info", "_size", "_sock", "_to")

    def __init__(self, sock: socket.socket, to: SocketAddress, info: bytes, size: int) -> None:
        self._sock, self._to, self._info, self._size = sock, to, info, size

    def __call__(self, query: Query | None, made: bytes) -> None:
        """Send it, as far as it fits."""
        if query is not None:
            most = max(self._size * FACTOR, LEAST)
            if len(made) > most and nearness(self._to[0]) is Near.WORLD:
                query = query._replace(size=min(query.size, most))
            made = shortened(query, made)
        try:
            self._sock.sendmsg((made,), answer_from(self._sock, self._info), 0, self._to)
        except OSError:
            return  # lost, like any datagram; or the port is closed

"""
The tcp profile: the base of a connection, between a socket and the layer above (deck: tcpProfileSM).

New born and pre-transfer are empty. Transfer reads into one buffer that all connections of the process share, and
writes at once: only what the kernel does not take is copied and queued. Pre-close sends FIN behind the queue and then
reads on for a short bounded time, so that input nobody wants does not turn the last answer into a reset.

Python calls: one read event costs L{TcpProfile.readable}, C{recv_into} and C{deliver}; one write L{TcpProfile.write}
and C{send}.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections import deque
from collections.abc import Callable
from select import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP
from typing import TYPE_CHECKING, Protocol

from sslintercept.profile.profile import Bytes, Profile, Stage, ignore_end

if TYPE_CHECKING:
    from sslintercept.profile.chain import ProfileChain

READ_SIZE = 256 * 1024
"""bytes of the shared receive buffer: the most one read event brings"""
DRAIN_LIMIT = 1024 * 1024
"""bytes thrown away after our FIN before the connection is cut"""
BUFFERS = 64
"""queued pieces handed to one C{sendmsg}"""

_VIEW = memoryview(bytearray(READ_SIZE))
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Poller(Protocol):
    """Who watches the descriptor (L{sslintercept.net.handler.NetHandler})."""

    now: float

    def add(self, fd: int, profile: TcpProfile, mask: int) -> None: ...
    def modify(self, fd: int, mask: int) -> None: ...
    def remove(self, fd: int) -> None: ...
    def soon(self, call: Callable[[], object]) -> None: ...


class TcpProfile(Profile):
    """
    One socket.

    @ivar active: when bytes last moved, on the poller's clock.
    @ivar failed: called once with the error when the socket breaks.
    @ivar grew: called when bytes were queued, with the number queued; C{shrank} when some of them left.
    @ivar fin_out: called once when everything written and our FIN have left.
    @ivar gone: called once when everything was said and the socket is closed.
    @ivar read: bytes read so far; C{sent}: bytes written so far.
    """

    __slots__ = (
        "_error",
        "_mask",
        "_poller",
        "_queue",
        "_recv_into",
        "_send",
        "_spoke",
        "_watched",
        "active",
        "drained",
        "failed",
        "fd",
        "fin_out",
        "fin_received",
        "fin_sent",
        "finishing",
        "gone",
        "grew",
        "queued",
        "read",
        "sent",
        "shrank",
        "sock",
        "turn",
    )

    name = "tcp"

    def __init__(self, chain: ProfileChain, sock: socket.socket, poller: Poller) -> None:
        super().__init__(chain, None)
        self.sock = sock
        self.fd = sock.fileno()
        self._poller = poller
        self._recv_into = sock.recv_into
        self._send = sock.send
        self._queue: deque[memoryview] = deque()
        self.queued = 0
        self.active = self._spoke = poller.now
        self.read = self.sent = 0
        self.fin_received = self.fin_sent = self.finishing = False
        self.drained = -1
        """bytes thrown away since the close began; -1 before"""
        self.failed: Callable[[OSError], object] = lambda error: None
        self.grew: Callable[[int], object] = lambda queued: None
        self.shrank: Callable[[int], object] = lambda queued: None
        self.fin_out: Callable[[], object] = lambda: None
        self.gone: Callable[[], object] = lambda: None
        self._error: OSError | None = None
        """why the peer takes nothing more, while what it said before is still being read"""
        self._mask = 0
        self._watched = False
        self.turn = -1

    def new_born(self) -> None:
        """Tell the kernel that we batch ourselves, and be watched from now on."""
        super().new_born()
        self._watch(EPOLLIN)

    def _watch(self, mask: int) -> None:
        if mask == self._mask and self._watched:
            return
        self._mask = mask
        if self._watched:
            self._poller.modify(self.fd, mask)
        else:
            self._watched = True
            self._poller.add(self.fd, self, mask)

    # reading

    def readable(self) -> None:
        """Read once; more is reported again, so that one fast sender cannot starve the others."""
        if not self._mask & EPOLLIN:
            return  # paused by somebody whose turn came before ours
        try:
            n = self._recv_into(_VIEW)
        except BlockingIOError:
            return
        except OSError as error:
            self.broke(error)
            return
        self.active = self._poller.now
        if n:
            self.read += n
            self.deliver(_VIEW[:n])
            return
        if self._error is not None and self._error.errno != errno.EPIPE:
            # The kernel reports a reset once; whoever reads on sees an end, which is none.
            self.broke(self._error)
            return
        self.fin_received = True
        self._watch(self._mask & ~EPOLLIN)
        if self.drained >= 0:
            self._close_if_said()
        else:
            ended, self.ended = self.ended, ignore_end
            ended(True)

    def event(self, event: int) -> None:
        """Everything but plain readability: writable, hung up, error."""
        if event & EPOLLERR:
            code = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                error = OSError(code, "the connection broke")
                if self._has_last_words():
                    self._error = error
                    self.finishing = self.fin_sent = True
                    self._unwatch()
                else:
                    self._lose(error)
                return
        if event & EPOLLOUT:
            self.writable()
        if self.stage is Stage.DEAD:
            return
        if event & EPOLLIN and self._mask & EPOLLIN:
            self.readable()
        elif event & (EPOLLHUP | EPOLLRDHUP) and not event & EPOLLOUT:
            # Both directions are finished while nobody reads: stop the report, or it repeats for ever.
            self._unwatch()

    def pause(self) -> None:
        """No read events until L{resume}."""
        if self._mask & EPOLLIN and self.drained < 0:
            self._watch(self._mask & ~EPOLLIN)

    def resume(self) -> None:
        """Read events again."""
        if not self.fin_received and self.stage is not Stage.DEAD and (not self._mask & EPOLLIN or not self._watched):
            self._watch(self._mask | EPOLLIN)

    @property
    def reading(self) -> bool:
        """Whether read events are asked for."""
        return bool(self._mask & EPOLLIN)

    # writing

    def write(self, data: Bytes, above: Profile | None = None) -> None:
        """Send at once what the kernel takes, queue the rest."""
        if above is not self.upper:
            self.refuse()
        size = len(data)
        if self._queue or self.finishing:
            if self.finishing:
                if (error := self._error) is not None:
                    self._poller.soon(lambda: self.broke(error))
                return
            n = 0
        else:
            try:
                n = self._send(data)
            except BlockingIOError:
                n = 0
            except OSError as error:
                self._lose(error)
                return
            self.active = self._poller.now
            self.sent += n
            if n == size:
                return
        rest = memoryview(bytes(data[n:] if n else data))
        self._queue.append(rest)
        self.queued += len(rest)
        self._watch(self._mask | EPOLLOUT)
        self.grew(self.queued)

    def writable(self) -> None:
        """The kernel takes bytes again."""
        queue = self._queue
        if queue:
            try:
                n = self.sock.sendmsg([queue[i] for i in range(min(len(queue), BUFFERS))])
            except BlockingIOError:
                return
            except OSError as error:
                self._lose(error)
                return
            self.active = self._spoke = self._poller.now
            self.sent += n
            self.queued -= n
            while n:
                piece = queue[0]
                if len(piece) > n:
                    queue[0] = piece[n:]
                    break
                n -= len(piece)
                queue.popleft()
            if queue:
                self.shrank(self.queued)
                return
        self._watch(self._mask & ~EPOLLOUT)
        if self.finishing:
            self._send_fin()
        else:
            self.shrank(0)

    def _lose(self, error: OSError) -> None:
        """The peer takes nothing more; what it said before it left may still be here, for example an early answer."""
        self._error = error
        self.finishing = self.fin_sent = True
        self._queue.clear()
        self.queued = 0
        self._watch(self._mask & ~EPOLLOUT)

        def read_on() -> None:
            before = -1
            while self.reading and self.read != before:
                before = self.read
                self.readable()
            self.broke(error)

        self._poller.soon(read_on)

    def _has_last_words(self) -> bool:
        """
        Whether the peer is gone while somebody stands still who has not read all of it: he will when he goes on.

        Unless something is to be written: then it is the loss that counts.
        """
        if self.reading or self.queued or self.drained >= 0:
            return False
        try:
            return bool(self.sock.recv(1, socket.MSG_PEEK))
        except OSError:
            return False

    def pending(self) -> int:
        return self.queued

    # closing

    def finish(self) -> None:
        """FIN behind everything written. Reading goes on. Twice is once."""
        if not self.finishing:
            self.finishing = True
            if not self._queue:
                self._send_fin()

    def _send_fin(self) -> None:
        if self.fin_sent or self.stage is Stage.DEAD:
            return
        self.fin_sent = True
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            # The peer is gone already: reading tells whoever still reads, and a close has nothing to wait for.
            self.fin_received = self.fin_received or self.drained >= 0
        self.fin_out()
        self._close_if_said()

    def pre_close(self, faithful: bool = True) -> None:
        """FIN, then throw input away until the peer's FIN (the chain bounds the time, this the bytes)."""
        super().pre_close(faithful)
        if self.drained < 0:
            self.drained = 0
            self.deliver = self._drain
            self.ended = ignore_end
            self._spoke = self.active
            self.finish()
            if self.stage is not Stage.DEAD:
                if not self.fin_received:
                    self._watch(self._mask | EPOLLIN)
                self._close_if_said()

    def half_close(self) -> None:
        self.finish()

    def _drain(self, data: Bytes) -> None:
        # What nobody wants does not keep the connection: only our own bytes leaving do.
        self.active = self._spoke
        self.drained += len(data)
        if self.drained > DRAIN_LIMIT:
            self.leave()

    def _close_if_said(self) -> None:
        if self.drained >= 0 and self.fin_sent and self.fin_received and self.stage is not Stage.DEAD:
            self.leave()

    def leave(self) -> None:
        """Close without waiting any longer; the kernel still delivers what it has."""
        self.die()
        self.gone()

    def broke(self, error: OSError) -> None:
        """The socket is unusable."""
        if self.stage is not Stage.DEAD:
            closing = self.drained >= 0
            self.die()
            if closing:
                self.gone()
            else:
                self.failed(error)

    def cut(self) -> None:
        """Close so that the peer sees RST."""
        if self.stage is not Stage.DEAD:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self.die()

    def abort(self) -> None:
        """A defect in a session above (L{sslintercept.net.handler.NetHandler}): cut, and tell the connection."""
        if self.stage is not Stage.DEAD:
            self.cut()
            self.failed(OSError(errno.ECONNABORTED, "a defect in the session; see the log"))

    def _unwatch(self) -> None:
        if self._watched:
            self._watched = False
            self._poller.remove(self.fd)

    def die(self) -> None:
        if self.stage is not Stage.DEAD:
            super().die()
            self._unwatch()
            self.sock.close()
            self.finishing = True
            self._mask = 0
            self._queue.clear()
            self.queued = 0

"""
The ssl profile: TLS on whatever lies below, in either role (deck: sslProfileSM).

New born makes the session, pre-transfer shakes hands, transfer encrypts and decrypts, pre-close says close_notify. The
side of the connection chooses the role: towards clients we are the server, upstream the client. An upstream profile
says nothing until somebody writes (deck: "handshake triggered by do_io_write"); what is written before the handshake is
complete waits here. A C{done} hook may hold the layer after the handshake, for example to look at the origin's
certificate: no byte of the application passes before L{SslProfile.release}.

Python calls: a chunk costs L{SslProfile.transfer}, C{Engine.decrypt} and C{deliver}; a write L{SslProfile.write},
C{Engine.encrypt} and the lower layer's C{write}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sslintercept.errors import TlsError
from sslintercept.facts import TlsLeg
from sslintercept.profile.profile import Bytes, Profile, Stage, ignore, ignore_end
from sslintercept.tls.engine import STEP, Engine

if TYPE_CHECKING:
    from sslintercept.profile.chain import ProfileChain

WRITE = 8 * STEP
"""bytes encrypted in one go; longer writes are cut"""
HELD = 64 * 1024
"""bytes of the peer taken while somebody looks at its certificate; beyond that it is not read"""


class SslProfile(Profile):
    """
    One layer of TLS.

    @ivar done: called with this profile when the handshake is complete; whoever sets it calls L{release} later. With
        C{None} the layer opens by itself.
    @ivar broke: called once with the L{TlsError} that ended the layer.
    @ivar progress: told the names of the steps on the way, for a recorder (L{sslintercept.log.steps}).
    @ivar leg: what was agreed on, from the handshake's end on.
    """

    __slots__ = (
        "_begun",
        "_engine",
        "_fed",
        "_lower_is_done",
        "_said",
        "_touched",
        "_waiting",
        "broke",
        "done",
        "held",
        "leg",
        "make_engine",
        "progress",
        "server",
        "waiting",
    )

    name = "ssl"

    def __init__(
        self,
        chain: ProfileChain,
        lower: Profile,
        make_engine: Callable[[int], Engine],
        *,
        server: bool,
        done: Callable[[SslProfile], object] | None = None,
        broke: Callable[[TlsError], object],
    ) -> None:
        super().__init__(chain, lower)
        self.make_engine = make_engine
        self.server = server
        self.done = done
        self.broke = broke
        self.leg: TlsLeg | None = None
        self.progress: Callable[[str], object] | None = None
        self.held = False
        self._begun = server
        self._fed = 0
        """bytes that came while the layer was held"""
        self._lower_is_done = False
        """the layer below ended while this one was held"""
        self._said = False
        self._touched = False
        self._waiting: list[bytes] = []
        self.waiting = 0
        """bytes of the application that wait for the handshake's end"""
        self._engine: Engine

    @property
    def label(self) -> str:
        return self.leg.version.lower().replace("v", "") if self.leg is not None else self.name

    @property
    def engine(self) -> Engine:
        """The session, for the certificate's sake and for logs."""
        return self._engine

    def new_born(self) -> None:
        """Make the session; the first byte of the peer, or our first write, starts the handshake."""
        self._engine = self.make_engine(sum(isinstance(p, SslProfile) for p in self.chain.profiles) - 1)
        assert self.lower is not None
        self.lower.deliver = self._shake
        self.lower.ended = self._lower_ended
        self.enter(Stage.PRE_TRANSFER)

    # pre-transfer

    def begin(self) -> None:
        """Start an upstream handshake that no write has started yet."""
        if not self._begun:
            self._begun = True
            progress = self.progress
            if progress is not None:
                progress("upstream_handshake_started")
            self._shake(b"")
            if progress is not None:
                progress("upstream_hello_sent")

    def _shake(self, data: Bytes) -> None:
        self._touched = True
        try:
            self._engine.feed(data)
            finished = not self.held and self._engine.handshake()
        except TlsError as error:
            self._flush()
            self.fail(error)
            return
        if not (finished and self.server and self._engine.modern):
            self._flush()
        # Else session tickets are left to say, and leave with our first bytes: a client that only sends never reads
        # them, and what lies unread when it closes makes its kernel reset the connection, with the last it sent.
        if self.held:
            self._fed += len(data)
            if self._fed > HELD:
                self.pause()
        elif finished and self.stage is Stage.PRE_TRANSFER:
            self.held = True
            self.leg = self._engine.leg("", "")
            if self.done is None:
                self.release()
            else:
                self.done(self)

    def release(self) -> None:
        """Let the application's bytes pass."""
        if self.stage is not Stage.PRE_TRANSFER:
            return
        assert self.lower is not None
        self.enter(Stage.TRANSFER)
        self.lower.deliver = self.transfer
        waiting, self._waiting, self.waiting = self._waiting, [], 0
        if waiting:
            self.write(b"".join(waiting), self.upper)
            if self.progress is not None:
                self.progress("request_sent")
        if self.is_open():
            self.chain.opened()
        if self._fed > HELD:
            self.resume()
        # Plaintext may have come in the flight that ended the handshake, or while the layer was held.
        if self.is_open():
            self.transfer(b"")
        if self._lower_is_done:
            self._lower_ended(False)

    # transfer

    def transfer(self, data: Bytes) -> None:
        """Decrypt everything that is complete and hand it up once."""
        engine = self._engine
        try:
            plain = engine.decrypt(data)
        except TlsError as error:
            self._flush()
            self.fail(error)
            return
        if plain:
            self.deliver(plain)
        elif data:
            # A message of TLS itself may want an answer: a refused renegotiation, a key update.
            self._flush()
        if engine.closed and self.stage is not Stage.DEAD:
            if engine.fault is not None:
                self._flush()
                self.fail(engine.fault)
                return
            ended, self.ended = self.ended, ignore_end
            ended(True)

    def write(self, data: Bytes, above: Profile | None = None) -> None:
        """Encrypt and hand down once; before the handshake's end keep it."""
        if above is not self.upper:
            self.refuse()
        if self.stage is Stage.TRANSFER:
            if self._said:
                return
            size = len(data)
            try:
                if 0 < size <= WRITE:
                    self.lower.write(self._engine.encrypt(data), self)  # type: ignore[union-attr]  # never a base
                else:
                    for at in range(0, size, WRITE):
                        self.lower.write(self._engine.encrypt(data[at : at + WRITE]), self)  # type: ignore[union-attr]
                        if self.stage is not Stage.TRANSFER:
                            return  # somebody who was told that the queue is long closed the connection
            except TlsError as error:
                self.fail(error)
        elif self.stage is Stage.PRE_TRANSFER:
            if data:
                self._waiting.append(bytes(data))
                self.waiting += len(data)
                self.chain.kept_back()
            if self.stage is Stage.PRE_TRANSFER:
                self.begin()

    def _flush(self) -> None:
        """Send what the session itself has to say."""
        if (said := self._engine.flush()) and self.lower is not None:
            self.lower.write(said, self)

    def pending(self) -> int:
        return self.waiting + super().pending()

    def trim(self) -> None:
        if self.stage is Stage.TRANSFER:
            self._engine.trim()

    def untouched(self) -> bool:
        return self.stage is Stage.PRE_TRANSFER and not self._touched and not self.waiting

    # the end

    def _lower_ended(self, clean: bool) -> None:
        """The layer below ended; without our close_notify that is a truncation (RFC 8446 6.1)."""
        if self.stage is Stage.PRE_TRANSFER:
            if self.held:
                # What came before the end is still here, and goes first.
                self._lower_is_done = True
            else:
                self.fail(TlsError("the peer closed the connection during the handshake", where="TLS"))
            return
        ended, self.ended = self.ended, ignore_end
        ended(False)

    def pre_close(self, faithful: bool = True) -> None:
        """
        close_notify, unless the peer's goodbye was wanted to look like a truncation.

        Before the handshake's end there is nothing to say: what waits for it is dropped.
        """
        if self.stage is Stage.TRANSFER:
            if faithful:
                self.half_close()
            super().pre_close(faithful)
        elif self.stage is Stage.PRE_TRANSFER:
            self.die()

    def half_close(self) -> None:
        """Say close_notify once; the peer may go on sending (RFC 8446 6.1)."""
        if self.stage is Stage.TRANSFER and not self._said:
            self._said = True
            self._engine.shutdown()
            self._flush()

    def fail(self, error: TlsError) -> None:
        """The layer is unusable; the owner is told once."""
        if self.stage is not Stage.DEAD:
            broke = self.broke
            self.die()
            broke(error)

    def die(self) -> None:
        super().die()
        assert self.lower is not None
        self.lower.deliver, self.lower.ended = ignore, ignore_end
        self._waiting.clear()
        self.waiting = 0

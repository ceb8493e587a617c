"""
The dtls profile: DTLS on a flow of datagrams, in either role (deck: dtlsProfileSM).

New born makes the session. Pre-transfer agrees: a server first wants its cookie back, which proves the address, then
both sides shake hands and say a flight again when the timer ends. Transfer turns one write into one record in one
datagram, and each record that came into one C{deliver}. Pre-close says close_notify and waits for nothing.

A datagram that is no DTLS, or is late, doubled or forged, is dropped and counted and ends nothing (RFC 6347 4.1.2.7).
Before there are keys a forger who sees the hello can still end a handshake, as in every DTLS.

Python calls: a datagram costs L{DtlsProfile.transfer}, C{DtlsEngine.decrypt} and C{deliver}; a write
L{DtlsProfile.write}, C{DtlsEngine.encrypt} and the lower layer's C{write}. Relaying from one session into another
takes 9 us more than relaying as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from sslintercept.errors import TlsError
from sslintercept.facts import TlsLeg
from sslintercept.profile.profile import Bytes, Profile, Stage, ignore, ignore_end
from sslintercept.profile.udp import UdpProfile
from sslintercept.tls.dtls import LARGEST, well_formed

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

    from sslintercept.profile.chain import ProfileChain

KEPT = 8
"""datagrams kept in each direction until the handshake is complete; more are dropped"""


class Engine(Protocol):
    """What is needed of a session (L{sslintercept.tls.dtls.DtlsEngine})."""

    closed: bool
    fault: TlsError | None

    def listen(self, hello: Bytes) -> bool: ...
    def feed(self, datagram: Bytes) -> None: ...
    def handshake(self) -> bool: ...
    def decrypt(self, datagram: Bytes) -> list[bytes]: ...
    def encrypt(self, data: Bytes) -> bytes: ...
    def flush(self) -> list[bytes]: ...
    def shutdown(self) -> None: ...
    def timeout(self) -> float | None: ...
    def timed_out(self) -> None: ...
    def leg(self, server_name: str, verified: str) -> TlsLeg: ...
    def peer_chain(self) -> list[bytes]: ...


class DtlsProfile(Profile):
    """
    One layer of DTLS.

    @ivar done: called with this profile when the handshake is complete; whoever sets it calls L{release} later. With
        C{None} the layer opens by itself.
    @ivar broke: called once with the L{TlsError} that ended the layer.
    @ivar leg: what was agreed on, from the handshake's end on.
    @ivar bad: datagrams that came and meant nothing.
    @ivar dropped: datagrams that could not be kept or sent.
    """

    __slots__ = (
        "_begun",
        "_early",
        "_later",
        "_listening",
        "_said",
        "_timer",
        "_waiting",
        "bad",
        "broke",
        "done",
        "dropped",
        "engine",
        "held",
        "leg",
        "make_engine",
    )

    name = "dtls"

    def __init__(
        self,
        chain: ProfileChain,
        lower: Profile,
        make_engine: Callable[[], Engine],
        *,
        server: bool,
        later: Callable[[float, Callable[[], object]], IDelayedCall],
        done: Callable[[DtlsProfile], object] | None = None,
        broke: Callable[[TlsError], object],
    ) -> None:
        """
        @param later: calls back after so many seconds (L{sslintercept.net.handler.NetHandler.later}).
        """
        super().__init__(chain, lower)
        self.make_engine = make_engine
        self.done = done
        self.broke = broke
        self.leg: TlsLeg | None = None
        self.held = False
        self.bad = self.dropped = 0
        self.engine: Engine
        self._later = later
        self._listening = server
        """the client's address is not proven yet"""
        self._begun = server
        self._said = False
        self._timer: IDelayedCall | None = None
        self._waiting: list[bytes] = []
        """written before the handshake's end"""
        self._early: list[bytes] = []
        """came while the layer was held"""

    @property
    def label(self) -> str:
        return self.leg.version.lower().replace("v", "") if self.leg is not None else self.name

    def new_born(self) -> None:
        """Make the session; the peer's hello, or L{begin}, starts the handshake."""
        self.engine = self.make_engine()
        assert self.lower is not None
        self.lower.deliver = self._received
        self.enter(Stage.PRE_TRANSFER)

    # pre-transfer

    def begin(self) -> None:
        """Start a client's handshake that no write has started yet."""
        if not self._begun:
            self._begun = True
            self._shake()

    def _received(self, data: Bytes) -> None:
        """A datagram before the handshake's end."""
        if self.held:
            if len(self._early) < KEPT:
                self._early.append(bytes(data))
            else:
                self.dropped += 1
            return
        if not self._begun or not well_formed(data):
            self.bad += 1
            return
        if self._listening:
            if not self._proves(data):
                return
        else:
            self.engine.feed(data)
        self._shake()

    def _proves(self, hello: Bytes) -> bool:
        """Whether a client's hello brings its cookie back; else it is asked for."""
        try:
            self._listening = not self.engine.listen(hello)
        except TlsError:
            self.bad += 1  # nothing is agreed on with anybody yet, so nothing is broken
            return False
        self._flush()
        if not self._listening and isinstance(self.lower, UdpProfile):
            self.lower.proven = True
        return not self._listening

    def _shake(self) -> None:
        try:
            finished = self.engine.handshake()
        except TlsError as error:
            self._flush()
            self.fail(error)
            return
        self._flush()
        if not finished:
            self._arm()
            return
        self._disarm()
        self.held = True
        self.leg = self.engine.leg("", "")
        if self.done is None:
            self.release()
        else:
            self.done(self)

    def release(self) -> None:
        """Let the application's datagrams pass."""
        if self.stage is not Stage.PRE_TRANSFER:
            return
        assert self.lower is not None
        self.enter(Stage.TRANSFER)
        self.lower.deliver = self.transfer
        waiting, self._waiting = self._waiting, []
        for data in waiting:
            self.write(data, self.upper)
        self.chain.opened()
        # Records of the application may have come in the datagram that ended the handshake, or while we were held.
        early, self._early = self._early, []
        for data in (b"", *early):
            if self.is_open():
                self.transfer(data)

    # the timer

    def _arm(self) -> None:
        """Once for each flight, never for a datagram of the application."""
        self._disarm()
        delay = self.engine.timeout()
        if delay is not None:
            self._timer = self._later(delay, self._timed_out)

    def _disarm(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _timed_out(self) -> None:
        self._timer = None
        try:
            self.engine.timed_out()
        except TlsError as error:
            self._flush()
            self.fail(error)
            return
        self._flush()
        self._arm()

    # transfer

    def transfer(self, data: Bytes) -> None:
        """Hand each record's plaintext up by itself."""
        engine = self.engine
        try:
            plain = engine.decrypt(data)
        except TlsError as error:
            self._flush()
            self.fail(error)
            return
        for datagram in plain:
            self.deliver(datagram)
        if not plain and data and not self._flush() and not engine.closed:
            # The peer's last flight again wants ours again; what wants nothing is late, doubled or forged.
            self.bad += 1
        if engine.closed and self.stage is not Stage.DEAD:
            if engine.fault is not None:
                self.fail(engine.fault)
                return
            ended, self.ended = self.ended, ignore_end
            ended(True)

    def write(self, data: Bytes, above: Profile | None = None) -> None:
        """One record in one datagram; before the handshake's end a few are kept, as the network might."""
        if above is not self.upper:
            self.refuse()
        if not 0 < len(data) <= LARGEST:
            self.dropped += 1  # a record of nothing cannot be told from nothing
        elif self.stage is Stage.TRANSFER:
            if self._said:
                return
            try:
                said = self.engine.encrypt(data)
            except TlsError as error:
                self.fail(error)
                return
            assert self.lower is not None
            self.lower.write(said, self)
        elif self.stage is Stage.PRE_TRANSFER:
            if len(self._waiting) < KEPT:
                self._waiting.append(bytes(data))
            else:
                self.dropped += 1
            self.begin()

    def _flush(self) -> bool:
        """Send what the session itself has to say, if anything."""
        assert self.lower is not None
        said = self.engine.flush()
        for datagram in said:
            self.lower.write(datagram, self)
        return bool(said)

    # the end

    def pre_close(self, faithful: bool = True) -> None:
        """close_notify, unless the goodbye is to be left out. Before the handshake's end there is nothing to say."""
        if self.stage is Stage.TRANSFER:
            if faithful:
                self.half_close()
            super().pre_close(faithful)
        elif self.stage is Stage.PRE_TRANSFER:
            self.die()

    def half_close(self) -> None:
        """Say close_notify once."""
        if self.stage is Stage.TRANSFER and not self._said:
            self._said = True
            self.engine.shutdown()
            self._flush()

    def fail(self, error: TlsError) -> None:
        """The layer is unusable; the owner is told once."""
        if self.stage is not Stage.DEAD:
            broke = self.broke
            self.die()
            broke(error)

    def die(self) -> None:
        super().die()
        self._disarm()
        assert self.lower is not None
        self.lower.deliver = ignore
        self._waiting.clear()
        self._early.clear()

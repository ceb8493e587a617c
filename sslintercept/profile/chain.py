"""
The stack of profiles of one connection: pushed and popped while it lives (deck: ProfileSM chain).

Open goes bottom-up, close goes top-down. Exactly one base (tcp; later udp) stands at the bottom and is never removed.
Whoever keeps a C{write} of the chain for later must hold the wire (L{ProfileChain.hold}): while a wire is held the
chain refuses to push and pop, or plain bytes would pass below a new layer. Whoever keeps one without holding it is
refused by the layer itself once another one stands on it.
"""

from __future__ import annotations

from collections.abc import Callable

from sslintercept.errors import StageError
from sslintercept.profile.profile import Bytes, Profile, Receiver, Stage, Wire, ignore, ignore_end

MAX_PROFILES = 32
"""Against runaway nesting, whatever the configured number of TLS layers."""


class ProfileChain:
    """
    The stack of one connection. C{str()} gives the deck's equation: C{tcp + tls1.3 + tls1.3}.

    @ivar top: the uppermost profile; sessions sit on it.
    @ivar write: the top's C{write}; it changes with every push and pop, so look it up for each write.
    @ivar on_stage: called with (profile, stage) at each change of stage, or C{None}.
    """

    __slots__ = ("on_stage", "profiles", "top", "wires", "write")

    def __init__(self) -> None:
        self.profiles: list[Profile] = []
        self.top: Profile
        self.write: Wire = ignore
        self.wires = 0
        self.on_stage: Callable[[Profile, Stage], object] | None = None

    def refuse(self, what: str) -> None:
        """@raise StageError: always."""
        raise StageError(what, where=f"chain {self}", remedy="nothing was changed")

    def base(self, profile: Profile) -> None:
        """
        Put the base at the bottom.

        @raise StageError: there is one already.
        """
        if self.profiles:
            self.refuse(f"a second base ({profile.name}) was refused")
        self.profiles.append(profile)
        self.top = profile
        self.write = profile.write
        profile.new_born()

    def push(self, make: Callable[[ProfileChain, Profile], Profile], peeked: Bytes = b"") -> Profile:
        """
        Add a layer on top.

        @param make: makes the profile from the chain and the layer below it.
        @param peeked: bytes already read from below; they go through the new layer as if they came now.
        @raise StageError: there is no base, a wire is held, or the chain is too long. Nothing was changed then, nor
            when the layer itself cannot be made and raises something else.
        """
        if not self.profiles:
            self.refuse("a layer without a base was refused")
        if self.wires:
            self.refuse(f"a push was refused while {self.wires} wire(s) are held")
        if len(self.profiles) >= MAX_PROFILES:
            self.refuse("the chain is too long")
        lower = self.top
        profile = make(self, lower)
        deliver, ended = lower.deliver, lower.ended
        self.profiles.append(profile)
        lower.upper = self.top = profile
        self.write = profile.write
        profile.deliver, lower.deliver = deliver, ignore
        profile.ended, lower.ended = ended, ignore_end
        try:
            profile.new_born()
        except BaseException:
            self._take_away(deliver, ended)
            raise
        if peeked:
            lower.deliver(peeked)
        return profile

    def pop(self) -> None:
        """
        Take the top layer away; nothing may have gone through it in either direction.

        @raise StageError: only the base is left, a wire is held, or the layer has begun. Nothing was changed then.
        """
        if len(self.profiles) < 2:
            self.refuse("the base cannot be popped")
        if self.wires:
            self.refuse(f"a pop was refused while {self.wires} wire(s) are held")
        if not self.top.untouched():
            self.refuse(f"{self.top.label} cannot be popped: bytes have gone through it")
        self._take_away(self.top.deliver, self.top.ended)

    def _take_away(self, deliver: Receiver, ended: Callable[[bool], object]) -> None:
        profile = self.profiles.pop()
        profile.die()
        self.top = lower = self.profiles[-1]
        lower.upper = None
        self.write = lower.write
        lower.deliver, lower.ended = deliver, ended

    def hold(self) -> Wire:
        """The wire down from here, for keeps until L{release}."""
        self.wires += 1
        return self.top.write

    def release(self) -> None:
        """
        Give a held wire back; the holder must not use it any more.

        @raise StageError: none is held.
        """
        if not self.wires:
            self.refuse("a wire was given back that nobody holds")
        self.wires -= 1

    def kept_back(self) -> None:
        """Called by a layer that keeps what was written until it has agreed with the peer: L{pending} has grown."""

    def opened(self) -> None:
        """Called by a layer that lets bytes pass from now on."""

    def pending(self) -> int:
        """Bytes written that have not left, in all layers."""
        return self.top.pending()

    def __str__(self) -> str:
        return " + ".join(profile.label for profile in self.profiles) or "nothing"

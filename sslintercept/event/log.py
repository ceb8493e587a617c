"""
Whoever finds something tells it here, once; from here it goes to every sink.

A sink that raises hurts no other, and nobody who tells something ever waits or fails.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from sslintercept.errors import InterceptError
from sslintercept.event.quarantine import Quarantine
from sslintercept.event.record import Event

SECONDS: Final = 5.0
"""for sinks to write what waits, at the end"""
GRACE: Final = 1.0
"""seconds beyond that after which nobody is waited for any more"""
MOST_COUNTED: Final = 256
"""pairs of a kind and an act that are counted; a plugin may have kinds of its own"""
OTHERS: Final = ("other", "other")


class Teller(Protocol):
    """Who gets events (L{sslintercept.interfaces.IEventSinkPlugin})."""

    def tell(self, event: Event) -> object: ...


class Sink(Teller, Protocol):
    """
    One of ours: it never waits, and never raises.

    @ivar dropped: events that it could not take.
    """

    @property
    def dropped(self) -> int: ...
    def start(self) -> object:
        """Begin, in the process that stays."""

    def reopen(self) -> object:
        """A SIGHUP came."""

    def close(self, seconds: float) -> Deferred[None]:
        """Write what waits; no event comes any more."""


class Copies(Protocol):
    """Who keeps copies (L{sslintercept.event.quarantine.Quarantine})."""

    def keep(self, content: Iterable[bytes], event: Event) -> Deferred[str]:
        """Fires with the id under which a copy is kept, or with nothing; never fails."""


class Events(Protocol):
    """Where inspectors tell what they found (L{EventLog})."""

    @property
    def quarantine(self) -> Copies: ...
    def tell(self, event: Event) -> None: ...
    def tell_with_copy(self, event: Event, content: Iterable[bytes]) -> Deferred[str]: ...


class Clock(Protocol):
    """Twisted's clock."""

    def callLater(self, delay: float, callable: Callable[..., object], *args: object) -> IDelayedCall: ...


class EventLog:
    """
    Fans events out, and counts them. All calls come on the reactor's thread.

    @ivar sinks: by name; L{use} exchanges them. C{others}: those of plugins.
    @ivar counts: events by kind and act; C{failures}: how often a sink raised.
    """

    log = Logger()

    def __init__(
        self, sinks: Mapping[str, Sink], quarantine: Quarantine, clock: Clock, others: Iterable[Teller] = ()
    ) -> None:
        self.sinks = dict(sinks)
        self.quarantine = quarantine
        self.others = list(others)
        self.counts: Counter[tuple[str, str]] = Counter()
        self.failures = 0
        self._clock = clock

    def start(self) -> None:
        """
        Begin to write.

        @raise ConfigError: a file cannot be opened.
        """
        for sink in self.sinks.values():
            sink.start()
        self.quarantine.start()

    def tell(self, event: Event) -> None:
        """Write it down, everywhere; never waits, never raises."""
        what = event.kind, event.act
        self.counts[what if what in self.counts or len(self.counts) < MOST_COUNTED else OTHERS] += 1
        for sink in (*self.sinks.values(), *self.others):
            try:
                sink.tell(event)
            except Exception:
                self.failures += 1
                self.log.failure("an event was not told to {sink}", sink=type(sink).__name__)

    def tell_with_copy(self, event: Event, content: Iterable[bytes]) -> Deferred[str]:
        """
        Keep a copy first, so that the event says truly whether there is one.

        @return: fires with the copy's id, or with nothing, once the event is told; never fails.
        """

        def tell(kept: str) -> str:
            self.tell(replace(event, quarantine=kept))
            return kept

        return self.quarantine.keep(content, event).addCallback(tell)

    def use(self, sinks: Mapping[str, Sink]) -> None:
        """
        From now on those: new ones begin, what others have still to write, they write.

        A new one that cannot begin is left out, and an error says so.
        """
        before, self.sinks = self.sinks, {}
        for name, sink in sinks.items():
            if before.get(name) is not sink:
                try:
                    sink.start()
                except InterceptError as error:
                    self.log.error("{error}", error=str(error))
                    continue
            self.sinks[name] = sink
        for name, sink in before.items():
            if self.sinks.get(name) is not sink:
                sink.close(SECONDS).addErrback(self._not_closed)

    def reopen(self) -> None:
        """A SIGHUP came: files may have been renamed."""
        for sink in self.sinks.values():
            sink.reopen()

    def summary(self) -> str:
        """For the program's log: what was told, and what of it was lost."""
        counted = ", ".join(f"{count} {kind} {act}" for (kind, act), count in self.counts.most_common(16))
        lost = ", ".join(f"{sink.dropped} not in {name}" for name, sink in self.sinks.items() if sink.dropped)
        return f"events: {counted or 'none'}{'; ' if lost else ''}{lost}"

    def close(self, seconds: float = SECONDS) -> Deferred[None]:
        """Let everybody write what waits. Fires when all have, or soon after C{seconds}; never fails."""
        done: Deferred[None] = Deferred()
        closing = [sink.close(seconds) for sink in self.sinks.values()]
        closing.append(self.quarantine.close(seconds))
        for each in closing:
            each.addErrback(self._not_closed)
        late = self._clock.callLater(seconds + GRACE, done.callback, None)

        def all_closed(_results: list[Any]) -> None:  # Any: what DeferredList gives
            if late.active():
                late.cancel()
                done.callback(None)

        DeferredList(closing).addCallback(all_closed)
        return done

    def _not_closed(self, reason: Any) -> None:  # Any: a Failure
        self.log.failure("a sink of events did not end well", reason)

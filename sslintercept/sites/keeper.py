"""
Keeps lists loaded: reads them at the start, when a file has changed, and when told to, and swaps each at once.

A list that cannot be used any more leaves the one that was loaded before where it is. Lists are read one after the
other, so that the memory and the CPU of one are the most that a reload takes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from sslintercept.errors import ConfigError
from sslintercept.sites.compile import Compilation
from sslintercept.sites.image import Image
from sslintercept.sites.listing import ListError, ListSettings, Report
from sslintercept.sites.look import SiteList, Sites
from sslintercept.sites.read import stamp

INTERVAL: Final = 60.0
"""seconds between two looks at the files"""
MAX_LISTS: Final = 256

Elsewhere: TypeAlias = "Callable[[Callable[[], Any]], Deferred[Any]]"  # Any: passes on whatever the call returns
"""Calls a function on another thread, for example C{deferToThread}."""


class Clock(Protocol):
    """Twisted's clock."""

    def seconds(self) -> float: ...
    def callLater(self, delay: float, callable: Callable[..., object], *args: object) -> IDelayedCall: ...


class Making(Protocol):
    """Makes an image of one list (L{Compilation})."""

    def run(self) -> Image: ...
    def cancel(self) -> None: ...


class State(NamedTuple):
    """One list as reports show it."""

    name: str
    loaded: float | None
    """when it was read, by the clock; C{None} if it never was"""
    report: Report | None
    """what became of its lines"""
    size: int
    """bytes in memory"""
    error: str
    """why the latest attempt failed; empty if it did not"""

    def __str__(self) -> str:
        text = f"list {self.name}: {self.report if self.report is not None else 'not loaded'}"
        return f"{text}; {self.error}" if self.error else text


class Kept:
    """One list, and what is known of its files."""

    __slots__ = ("error", "loaded", "settings", "sites", "stamp")

    def __init__(self, settings: ListSettings) -> None:
        self.settings = settings
        self.sites: SiteList | None = None
        self.stamp: object = None
        self.loaded: float | None = None
        self.error = ""


class Keeper:
    """
    All lists of one generation of settings.

    @ivar sites: to be asked; the same object all the time.
    """

    log = Logger()

    def __init__(
        self,
        clock: Clock,
        elsewhere: Elsewhere,
        lists: Sequence[ListSettings],
        *,
        interval: float = INTERVAL,
        make: Callable[[ListSettings], Making] = Compilation,
    ) -> None:
        """
        @param interval: seconds between two looks at the files.

        @raise ConfigError: too many lists, or two of a name.
        """
        names = [settings.name for settings in lists]
        if len(names) > MAX_LISTS:
            raise ConfigError(f"{len(names)} lists", where="lists of sites", remedy=f"{MAX_LISTS} are allowed")
        if len(set(names)) < len(names):
            raise ConfigError("two lists have one name", where="lists of sites", remedy="rename one")
        self.sites = Sites()
        self._clock, self._elsewhere, self._interval, self._make = clock, elsewhere, interval, make
        self._kept = tuple(map(Kept, lists))
        self._making: Making | None = None
        self._next: IDelayedCall | None = None
        self._round: Deferred[None] | None = None
        self._again: Deferred[None] | None = None
        self._stopped = False

    def start(self) -> Deferred[None]:
        """Read all lists. Fires when each was tried; see L{missing}."""
        return self.reload()

    def read(self) -> None:
        """
        Read all lists that are not there yet, here and now: before anybody is served that they would have stopped.

        @raise ListError: one cannot be used.
        """
        for kept in self._kept:
            if kept.sites is None:
                kept.stamp = stamp(kept.settings)
                self._use(kept, self._make(kept.settings).run())

    def watch(self) -> None:
        """Look from now on whether files have changed."""
        if self._next is None and self._round is None and not self._stopped:
            self._next = self._clock.callLater(self._interval, self._look)

    def adopt(self, before: Keeper) -> None:
        """Begin with the lists that another one has read by the same settings."""
        for kept in self._kept:
            for other in before._kept:
                if other.settings == kept.settings and other.sites is not None:
                    kept.sites, kept.stamp, kept.loaded = other.sites, other.stamp, other.loaded
        self._show()

    def _use(self, kept: Kept, image: Image) -> None:
        kept.sites = SiteList(kept.settings.name, image)
        kept.loaded, kept.error = self._clock.seconds(), ""
        self._show()
        self.log.info("list {name}: {report}", name=kept.settings.name, report=str(image.report))

    def _show(self) -> None:
        self.sites.lists = tuple(each.sites for each in self._kept if each.sites is not None)

    def reload(self) -> Deferred[None]:
        """
        Read all lists anew, changed or not (SIGHUP). Fires when each was tried; never fails.

        While a round is under way another one follows it, however often this is called.
        """
        told: Deferred[None] = Deferred()
        if self._stopped:
            told.callback(None)
        elif self._round is None:
            self._begin(True).chainDeferred(told)
        else:
            if self._again is None:
                self._again = Deferred()
            self._again.addCallback(lambda _: told.callback(None))
        return told

    def stop(self) -> None:
        """Look no more, and end the process that reads."""
        self._stopped = True
        if self._next is not None:
            self._next.cancel()
            self._next = None
        if self._making is not None:
            self._making.cancel()

    @property
    def missing(self) -> tuple[str, ...]:
        """The lists that were never loaded; nothing is listed by them."""
        return tuple(kept.settings.name for kept in self._kept if kept.sites is None)

    def states(self) -> list[State]:
        """Every list's state."""
        return [
            State(
                kept.settings.name,
                kept.loaded,
                kept.sites.image.report if kept.sites is not None else None,
                kept.sites.image.size if kept.sites is not None else 0,
                kept.error,
            )
            for kept in self._kept
        ]

    def _begin(self, anew: bool) -> Deferred[None]:
        if self._next is not None:
            self._next.cancel()
            self._next = None
        self._round = Deferred.fromCoroutine(self._go(anew))
        return self._round.addErrback(lambda reason: self.log.failure("lists of sites", reason)).addCallback(self._over)

    def _over(self, _: object) -> None:
        self._round = None
        again, self._again = self._again, None
        if self._stopped:
            if again is not None:
                again.callback(None)
        elif again is not None:
            self._begin(True).chainDeferred(again)
        else:
            self._next = self._clock.callLater(self._interval, self._look)

    def _look(self) -> None:
        self._next = None
        self._begin(False)

    async def _go(self, anew: bool) -> None:
        for kept in self._kept:
            now = await self._elsewhere(partial(stamp, kept.settings))
            if self._stopped:
                return
            if anew or now != kept.stamp:
                await self._load(kept, now)

    async def _load(self, kept: Kept, before: object) -> None:
        """Read a list; what it was while it was written is not taken."""
        settings = kept.settings
        self._making = making = self._make(settings)
        try:
            image = await self._elsewhere(making.run)
            after = await self._elsewhere(partial(stamp, settings))
            if after != before:
                where = f"list {settings.name}"
                raise ListError("it changed while it was read", where=where, remedy="it will be read again")
        except ListError as error:
            if self._stopped:
                return
            if str(error) != kept.error:
                self.log.error("{error}", error=str(error))
            kept.error = str(error)
            # Not that of a list that changes: it is to be looked at again. One that is bad stays bad until it changes.
            kept.stamp = before
            return
        finally:
            self._making = None
        kept.stamp = before
        self._use(kept, image)

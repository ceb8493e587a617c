"""Events as lines of JSON in a file, or on standard output (L{sslintercept.log.writer} writes them)."""

from __future__ import annotations

from typing import Final

from twisted.internet.defer import Deferred

from sslintercept.event.backlog import Elsewhere
from sslintercept.event.record import Event, to_json
from sslintercept.log.writer import LineWriter

MODE: Final = 0o600
WHERE: Final = "[events] file"


class EventFile:
    """The sink; L{reopen} goes on in a new file after a rotation."""

    def __init__(self, path: str, elsewhere: Elsewhere) -> None:
        """@param path: C{-} for standard output."""
        self._writer = LineWriter(path, mode=MODE, where=WHERE)
        self._elsewhere = elsewhere

    @property
    def dropped(self) -> int:
        """Events for which there was no room."""
        return self._writer.dropped

    def start(self) -> None:
        """@raise ConfigError: the file cannot be opened."""
        self._writer.start()

    def tell(self, event: Event) -> None:
        """Write it soon."""
        self._writer.write(to_json(event))

    def reopen(self) -> None:
        """Go on in a new file of the same name."""
        self._writer.reopen()

    def close(self, seconds: float) -> Deferred[None]:
        """Write what waits, and end; fires after C{seconds} at the latest."""
        return self._elsewhere(lambda: self._writer.close(seconds))

"""
Lines to one ICAP server: how many at most, how many wait, and those that are kept for the next request.

Kept and used lines together are never more than there are places. Whatever happens on a kept one, even a byte that
nobody asked for, takes it out.
"""

from __future__ import annotations

from collections import OrderedDict

from sslintercept.net.line import Line, OpenLine
from sslintercept.net.places import Places


class LinePool:
    """
    @param keep: seconds that an idle line is kept; 0 for never.
    """

    def __init__(self, places: Places, open_line: OpenLine, keep: float) -> None:
        self.places = places
        self._open_line = open_line
        self._keep = keep
        self._idle: OrderedDict[Line, None] = OrderedDict()
        self._closed = False
        self.opened = self.reused = 0

    @property
    def idle(self) -> int:
        """Lines that are kept now."""
        return len(self._idle)

    async def take(self, fresh: bool = False) -> Line:
        """
        A line and a place; L{give} or L{drop} gives them back.

        @param fresh: one that was not used before.
        @raise EngineError: there is no place, or no connection.
        """
        await self.places.take()
        if self._idle and not fresh:
            line, _ = self._idle.popitem()
            line.release()
            self.reused += 1
            return line
        try:
            self._trim(self.places.most - self.places.taken)
            line = await self._open_line()
        except BaseException:
            self.places.free()
            raise
        self.opened += 1
        return line

    def give(self, line: Line) -> None:
        """An exchange has ended well on it."""
        line.used = True
        line.release()
        if not self._keep or self._closed or line.closed:
            line.close()
        else:
            self._idle[line] = None
            line.lost = lambda fault, why: self._out(line)
            line.received = lambda data: self._out(line)
            line.expect(self._keep, 0)
        self.places.free()
        self._trim(self.places.most - self.places.taken)

    def drop(self, line: Line) -> None:
        """It is of no use any more."""
        line.close()
        self.places.free()

    def close(self) -> None:
        """Close what is kept, and send away who waits."""
        self._closed = True
        self._trim(0)
        self.places.close()

    def _trim(self, most: int) -> None:
        while len(self._idle) > max(0, most):
            self._out(next(iter(self._idle)))

    def _out(self, line: Line) -> None:
        if line in self._idle:
            del self._idle[line]
        line.close()

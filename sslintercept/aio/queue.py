"""
What waits, in the order in which it begins.

Requests of a priority above 0 come first, the highest before the others, equals as they arrived; those of priority 0
follow in their own order (ATS: aio_todo, http_aio_todo). Nothing ages: as long as a higher one waits, no lower begins.
"""

from __future__ import annotations

import heapq
from collections import deque

from sslintercept.aio.request import Request


class WaitQueue:
    """The batches that wait, by the priority of their first parts; bounded by whoever pushes."""

    def __init__(self) -> None:
        self._urgent: list[tuple[int, int, Request]] = []
        self._others: deque[Request] = deque()
        self._serial = 0

    def __len__(self) -> int:
        return len(self._urgent) + len(self._others)

    def push(self, request: Request) -> None:
        """Have it wait behind its equals."""
        if request.priority:
            self._serial += 1
            heapq.heappush(self._urgent, (-request.priority, self._serial, request))
        else:
            self._others.append(request)

    def first(self) -> Request | None:
        """Whose turn it is."""
        if self._urgent:
            return self._urgent[0][2]
        return self._others[0] if self._others else None

    def pop(self) -> Request | None:
        """Whose turn it is, and waits no more."""
        if self._urgent:
            return heapq.heappop(self._urgent)[2]
        return self._others.popleft() if self._others else None

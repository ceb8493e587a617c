"""What a store counts, and how it is shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(slots=True)
class Counters:
    """
    What happened in one span since the process began.

    @ivar refused: documents that were not written, since too much waited for the disk.
    @ivar damaged: documents that were read and not intact.
    @ivar evicted: documents that lost their entry to others of a full bucket.
    @ivar evacuated: documents that were moved to the front of the log.
    @ivar pins_refused: documents that were not pinned, since too much was; C{pins_lost}: that could not be moved.
    @ivar write_failed: documents that the disk did not take.
    """

    writes: int = 0
    bytes_written: int = 0
    reads: int = 0
    hits: int = 0
    removed: int = 0
    refused: int = 0
    reads_refused: int = 0
    damaged: int = 0
    io_errors: int = 0
    write_failed: int = 0
    evicted: int = 0
    evacuated: int = 0
    pins_refused: int = 0
    pins_lost: int = 0
    wraps: int = 0
    snapshots: int = 0


class Stat(NamedTuple):
    """
    A store at this moment.

    @ivar documents: alive; C{used}: their bytes in the log, both right to a 256th of each span.
    @ivar size: bytes of data of the spans in service.
    @ivar waiting: bytes of memory for what waits for the disk.
    @ivar pinned: bytes of pinned documents.
    @ivar spans: in service; C{of}: all.
    @ivar snapshot_age: seconds since the oldest of the spans' last snapshots; C{None} before there is one.
    @ivar counters: the sums of all spans.
    """

    documents: int
    used: int
    size: int
    waiting: int
    pinned: int
    spans: int
    of: int
    snapshot_age: float | None
    counters: Counters

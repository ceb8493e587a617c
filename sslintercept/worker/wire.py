"""
What a worker process and we say to each other: frames of a small JSON object and bytes, both with their lengths.

To the worker::

    {"keep": "KEY"}                                             and bytes that it keeps for later jobs
    {"task": "module:function", "meta": {...}, "kept": "KEY"}   and the content

From the worker: C{ready} once; then for each job any number of C{item}, and one C{end} or C{failed}::

    {"ready": "how it is confined"}
    {"item": {...}}                                             and content
    {"end": true}
    {"failed": "what, in words", "fault": "too_big"}

A worker has read what attackers sent, and one of them may be in it by now: all that it says is bounded and checked.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

T = TypeVar("T")

LENGTHS: Final = struct.Struct("!IQ")
"""of the object, and of the bytes behind it"""
MOST_META: Final = 128 * 1024
"""bytes of an object"""
MOST_KEPT: Final = 8
"""what a worker keeps for later jobs; one more, and the one that came first is forgotten"""
ITEM_COST: Final = 1024
"""bytes that an item counts as beside its own: what an object takes in memory"""
MOST_WORDS: Final = 200
"""characters of what a worker says in words that are kept"""
FAULTS: Final = frozenset(("too_big", "refused"))
"""what a worker may call its failure"""
TASK: Final = re.compile(r"sslintercept(?:\.[a-z][a-z0-9_]*)+:[a-z][a-z0-9_]*")
"""which functions may be asked for"""


class Rubbish(ValueError):
    """Bytes that are not what was agreed on."""


class FailedError(Exception):
    """
    A worker says that it cannot do its job.

    @ivar what: in words, fit for a line of a log; C{fault}: one of L{FAULTS}, or C{rubbish}.
    """

    def __init__(self, what: str, fault: str) -> None:
        super().__init__(what)
        self.what = what
        self.fault = fault


class Item(NamedTuple):
    """One piece of what a task gives."""

    meta: dict[str, object]
    content: bytes


@dataclass(frozen=True, slots=True)
class Job:
    """
    What a task knows beside its content.

    @ivar seconds: until its process is killed; C{memory}: bytes of address space that it has; C{answer}: bytes that its
        items may have together, each counting L{ITEM_COST} more.
    @ivar key: of C{kept}, empty if there is nothing.
    @ivar kept: bytes that were sent once for many jobs.
    """

    seconds: float
    memory: int
    answer: int
    key: str = ""
    kept: bytes = b""


Task = Callable[[Mapping[str, object], bytes, Job], Iterator[Item]]
"""what a task is: called in the worker with the job's meta and content"""


def pack(meta: Mapping[str, object], length: int = 0) -> bytes:
    """
    What stands in front of C{length} bytes.

    @raise Rubbish: the object is too large, or is none of JSON.
    """
    try:
        text = json.dumps(meta, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (ValueError, TypeError, RecursionError) as error:
        raise Rubbish(f"no object of JSON ({type(error).__name__})") from None
    if len(text) > MOST_META:
        raise Rubbish(f"an object of {len(text)} bytes")
    return LENGTHS.pack(len(text), length) + text


def lengths(head: bytes | bytearray, most: int) -> tuple[int, int]:
    """
    What follows C{head}, which has L{LENGTHS}.size bytes.

    @raise Rubbish: too much.
    """
    meta, content = LENGTHS.unpack(head)
    if meta > MOST_META or content > most:
        raise Rubbish(f"a frame of {meta} and {content} bytes")
    return meta, content


def unpack(text: bytes | bytearray) -> dict[str, object]:
    """
    The object of a frame.

    @raise Rubbish: it is none.
    """
    try:
        meta = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise Rubbish("no JSON") from None
    if not isinstance(meta, dict):
        raise Rubbish("no object")
    return meta


def _no_constant(name: str) -> object:
    raise Rubbish(name)


def keep(kept: dict[str, T], key: str, content: T) -> None:
    """Keep something for later jobs; both ends of the line forget the same."""
    kept.pop(key, None)
    while len(kept) >= MOST_KEPT:
        del kept[next(iter(kept))]
    kept[key] = content


class FrameReader:
    """
    Frames, from bytes as they come.

    @ivar most: bytes that the content of the next frame may have; whoever reads lowers it with what has come.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._held = bytearray()
        self._lengths: tuple[int, int] | None = None

    @property
    def held(self) -> int:
        """Bytes of a frame that is not complete."""
        return len(self._held) + (LENGTHS.size if self._lengths else 0)

    def feed(self, data: bytes) -> None:
        """More has come; L{frame} gives what is complete."""
        self._held += data

    def frame(self) -> tuple[dict[str, object], bytes] | None:
        """
        The next frame, C{None} if it has not all come.

        @raise Rubbish: nothing can be read any more.
        """
        held = self._held
        if self._lengths is None:
            if len(held) < LENGTHS.size:
                return None
            self._lengths = lengths(held[: LENGTHS.size], self.most)
            del held[: LENGTHS.size]
        meta_length, length = self._lengths
        if len(held) < meta_length + length:
            return None
        self._lengths = None
        view = memoryview(held)
        meta, content = bytes(view[:meta_length]), bytes(view[meta_length : meta_length + length])
        view.release()
        del held[: meta_length + length]
        return unpack(meta), content


class Answer:
    """
    What a worker gives for one job, frame by frame.

    @ivar items: what has come; C{left}: bytes that may still come.
    """

    def __init__(self, most: int) -> None:
        self.items: list[Item] = []
        self.left = most
        self._most = most

    def take(self, meta: dict[str, object], content: bytes) -> bool:
        """
        The next frame; whether it was the last one.

        @raise FailedError: the worker says so.
        @raise Rubbish: it is none of an answer, or more than there may be.
        """
        if isinstance(item := meta.get("item"), dict):
            # The meta has no more bytes than a frame may have; that it costs as much as it is long is a guess.
            self.left -= ITEM_COST + len(content) + len(str(item))
            if self.left < 0:
                raise Rubbish(f"more than {self._most} bytes")
            self.items.append(Item(item, content))
            return False
        if meta.get("end") is True:
            return True
        if isinstance(failed := meta.get("failed"), str):
            fault = str(meta.get("fault"))
            raise FailedError(printable(failed), fault if fault in FAULTS else "rubbish")
        raise Rubbish("neither item nor end")


def printable(text: str) -> str:
    """Fit for a line of a log."""
    return "".join(char if char.isprintable() else "?" for char in text[:MOST_WORDS])

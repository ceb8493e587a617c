"""Runs the task here, and looks at what it gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sslintercept.unpack.task import unpack
from sslintercept.worker.wire import Item, Job, pack

JOB = Job(seconds=60.0, memory=2**30, answer=2**27)


class Found:
    """
    What was taken out.

    @ivar items: without the last; C{end}: the meta of that.
    """

    def __init__(self, content: bytes, limits: Mapping[str, int] | None = None, job: Job = JOB, **meta: str) -> None:
        items = list(unpack({**meta, "limits": limits or {}}, content, job))
        for item in items:
            pack(item.meta)  # it could be sent
        *self.items, last = items
        assert last.meta["kind"] == "end"
        assert last.content == b""
        self.end: dict[str, Any] = last.meta
        assert self.end["members"] == len(self.items)

    @property
    def notes(self) -> set[str]:
        return set(self.end["notes"])

    def paths(self) -> list[str]:
        return [path(item) for item in self.items]

    def contents(self) -> dict[str, bytes]:
        return {path(item): item.content for item in self.items}

    def noted(self) -> dict[str, list[str]]:
        """Notes of the pieces that have some."""
        return {path(item): notes for item in self.items if isinstance(notes := item.meta["notes"], list) and notes}

    def texts(self) -> str:
        return "\n".join(item.content.decode() for item in self.items if item.meta["kind"] == "text")


def path(item: Item) -> str:
    names = item.meta["path"]
    assert isinstance(names, list)
    return " > ".join(names)

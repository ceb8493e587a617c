"""
A plugin that decides about mails and files by words in them, and takes its time; tests put it beside ours.

It holds the last L{HOLD} bytes, and says what it thinks L{DELAY} seconds behind the end.
"""

from __future__ import annotations

from typing import Final

from twisted.internet import reactor
from twisted.plugin import IPlugin
from zope.interface import implementer

from sslintercept.errors import InspectedError
from sslintercept.interfaces import IPartGate, IPartHandler, IPartWay

HOLD: Final = 100_000
DELAY: Final = 0.2
REFUSED: Final = b"refuse-this"
REPLACED: Final = b"tag-this"
SUBJECT: Final = b"Subject: "


@implementer(IPartGate)
class Words:
    """One part."""

    def __init__(self) -> None:
        self.held = b""
        self.released = False
        self.timer: object = None

    def begin(self, way: IPartWay) -> None:
        self.way = way

    def write(self, data: bytes) -> None:
        self.held += data
        if len(self.held) > HOLD:
            data, self.held = self.held[:-HOLD], self.held[-HOLD:]
            self.released = True
            self.way.release(data)

    def finish(self, whole: bool) -> None:
        self.timer = reactor.callLater(DELAY, self.decide)

    def decide(self) -> None:
        self.timer = None
        if REFUSED in self.held:
            self.way.ended(InspectedError("found", where="a test", remedy="none", category="malware", event="e-1"))
            return
        if REPLACED in self.held and not self.released:
            self.way.replace(self.held.replace(SUBJECT, SUBJECT + b"[suspicious] "))
        else:
            self.way.release(self.held)
        self.way.ended(None)

    def abort(self) -> None:
        if self.timer is not None:
            self.timer.cancel()  # type: ignore[attr-defined]


@implementer(IPlugin, IPartHandler)
class ByWords:
    """Wants to decide about all of them."""

    def part(self, part: object, facts: object) -> IPartGate:
        return Words()


by_words = ByWords()

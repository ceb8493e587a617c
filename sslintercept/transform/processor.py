"""
Which transforms a message gets (ATS: TransformProcessor).

A transform is asked once for each message it matches, in the order of the ini file. It may change the head, answer in
its place, and give a stage or a reader for the body; those become one row (L{sslintercept.transform.arrange}).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from sslintercept.errors import InterceptError, ResponseError
from sslintercept.facts import Facts, RequestHead, ResponseHead, Side
from sslintercept.rule.match import Match
from sslintercept.transform.accept import codings_of, readable
from sslintercept.transform.arrange import Bounds, Leave, Row, Sees, unvalidate
from sslintercept.transform.coding import CODINGS, MAX_CODINGS, UnknownCoding
from sslintercept.transform.message import Direction, Message
from sslintercept.transform.recode import Reader
from sslintercept.transform.stage import StageError, Transform

log = Logger()


class Transformer:
    """
    A transform with its options; L{transform} is asked for each message that it matches.

    @cvar sees: what its stages get. Readers always get plain content.
    @cvar changes: whether its stages may change content: then validators of the origin are weakened or left out, and
        C{no-transform} counts.
    @cvar partial: whether its stages and readers can do with a piece of the content (L{Message.partial}). If it gives
        one to a response that holds only a piece, and they cannot, the whole is asked for; then it hears of that.
    """

    sees = Sees.CONTENT
    changes = True
    partial = False

    def transform(self, message: Message) -> Transform | Reader | None:
        """
        Look at a message, change its head, or L{Message.answer} it.

        @return: who gets the body, if anybody; of a message without one nobody hears anything. What a stage needs of
            the machine it takes when it begins.
        """
        raise NotImplementedError


class Entry(NamedTuple):
    """A transform in its place."""

    name: str
    match: Match[Message]
    transformer: Transformer
    respect_no_transform: bool = True
    block_unknown_coding: bool = False


class Given(NamedTuple):
    """What a transform gave for the body of a message."""

    entry: Entry
    part: Transform | Reader

    @property
    def changes(self) -> bool:
        """Whether it may change the content."""
        return isinstance(self.part, Transform) and self.entry.transformer.changes

    @property
    def sees(self) -> Sees:
        """What it wants to get."""
        return self.entry.transformer.sees if isinstance(self.part, Transform) else Sees.CONTENT


class Stages(NamedTuple):
    """
    What a body goes through; nothing, if C{stages} is empty.
    """

    stages: Sequence[Transform] = ()
    raw_in: bool = False
    """the first gets the chunks as they came"""
    raw_out: bool = False
    """the last gives raw chunks"""


class Partial(ResponseError):
    """A response with a piece of the content, where a transform needs all of it."""


class Loop(Protocol):
    """Who calls back later."""

    def later(self, delay: float, call: Callable[[], object]) -> IDelayedCall: ...


class TransformProcessor:
    """The transforms of one generation of settings."""

    def __init__(self, entries: Sequence[Entry], bounds: Bounds, loop: Loop) -> None:
        self.entries = tuple(entries)
        self.bounds = bounds
        self.loop = loop

    def begin(self, head: RequestHead, facts: Facts) -> Transforming | None:
        """
        Look at a request before it is forwarded.

        @return: C{None} if no transform gets it, nor ever its response.
        @raise InterceptError: a transform refuses it, or is broken.
        """
        notes: dict[str, str] = {}
        has_body = head.length != 0 or head.method in (b"POST", b"PUT", b"PATCH")
        request = Message(Direction.REQUEST, head, None, facts, self.loop.later, notes, has_body=has_body)
        prospect = Message(Direction.RESPONSE, head, None, facts, self.loop.later, notes, has_body=True)
        now = [entry for entry in self.entries if entry.match.judge(request, True)]
        later = [entry for entry in self.entries if entry.match.judge(prospect) is not False]
        if not now and not later:
            return None
        transforming = Transforming(self.bounds, request, later)
        transforming.start(now)
        return transforming


class Transforming:
    """
    The transforms of one transaction.

    @ivar request: the request; its C{answered} says whether it is to be forwarded, its C{notes} are for the log.
    @ivar stages: for the request's body.
    """

    __slots__ = ("_accept", "_bounds", "_later", "request", "stages")

    def __init__(self, bounds: Bounds, request: Message, later: Sequence[Entry]) -> None:
        self._bounds = bounds
        self._later = later
        self._accept: list[bytes] = []
        self.request = request
        self.stages = Stages()

    def start(self, entries: Sequence[Entry]) -> None:
        """Ask those that get the request."""
        request = self.request
        given = ask(request, entries)
        if request.answered is None:
            self.stages = self._arrange(request, given)
            if self._later:
                self._limit_codings()

    def _limit_codings(self) -> None:
        """Let the origin use only codings that we can take off."""
        self._accept = self.request.all(b"Accept-Encoding")
        if self._accept and (limited := readable(self._accept)) is not None:
            self.request.set(b"Accept-Encoding", limited)

    def response(self, head: ResponseHead, *, has_body: bool) -> tuple[Message, Stages]:
        """
        Look at a response before it is forwarded.

        @return: the response, which may be answered otherwise, and what its body goes through.
        @raise Partial: it holds a piece where a transform needs all.
        @raise InterceptError: a transform refuses it, or is broken.
        """
        to, notes = self.request, self.request.notes
        message = Message(Direction.RESPONSE, to.request, head, to.facts, to.later, notes, has_body=has_body)
        entries = [entry for entry in self._later if entry.match.judge(message, True)]
        given = ask(message, entries)
        if message.answered is not None:
            return message, Stages()
        return message, self._arrange(message, given)

    def _arrange(self, message: Message, given: Sequence[Given]) -> Stages:
        codings = codings_of(message.all(b"Content-Encoding"))
        given = [each for each in given if welcome(each, message, codings)]
        if not given:
            return Stages()
        if message.partial and not all(each.entry.transformer.partial for each in given):
            raise Partial("a piece of the content", where="transform", remedy="all of it is asked for", status=502)
        if any(each.changes and not isinstance(each.part, Leave) for each in given):
            unvalidate(message, with_length=not message.has_body)
        row = Row(message, self._bounds, given[0].sees, self._accept)
        for each in given:
            if isinstance(each.part, Transform):
                row.add(each.part, each.sees)
            else:
                row.read(each.part)
        row.close()
        # The head of a body that is only spoken of (HEAD) says what it would be.
        return Stages(row.stages, row.raw_in, row.raw_out) if message.has_body else Stages()


def ask(message: Message, entries: Sequence[Entry]) -> list[Given]:
    """
    What the transforms give for a message; one that answers ends the row.

    @raise InterceptError: one refuses it, or is broken.
    """
    given: list[Given] = []
    for entry in entries:
        try:
            part = entry.transformer.transform(message)
        except InterceptError:
            raise
        except Exception as error:
            log.failure("a transform failed")
            what = f"it failed ({type(error).__name__})"
            raise StageError(what, where=f"[transform:{entry.name}]", remedy="see the proxy's log") from error
        if message.answered is not None:
            break
        if part is not None:
            given.append(Given(entry, part))
    return given


def welcome(each: Given, message: Message, codings: Sequence[str]) -> bool:
    """
    Whether what was given gets the body: the sender may forbid changes, or use a coding that nobody knows.

    @raise UnknownCoding: the settings say that it is not to pass then.
    """
    if each.changes and each.entry.respect_no_transform and forbids(message):
        return False
    if each.sees is not Sees.CONTENT or message.partial:
        return True
    unknown = next((coding for coding in codings if coding not in CODINGS), None)
    if unknown is None:
        if len(codings) <= MAX_CODINGS:
            return True
        unknown = f"{codings[0]} and {len(codings) - 1} more"
    if each.entry.block_unknown_coding:
        raise UnknownCoding(unknown, Side.CLIENT if message.direction is Direction.REQUEST else Side.UPSTREAM)
    message.note(each.entry.name, f"not applied to content coding {unknown[:40]}")
    return False


def forbids(message: Message) -> bool:
    """Whether the message asks not to be transformed (RFC 9111 5.2)."""
    return any(
        directive.strip().lower() == b"no-transform"
        for value in message.all(b"Cache-Control")
        for directive in value.split(b",")
    )

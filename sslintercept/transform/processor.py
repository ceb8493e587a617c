"""
Which transforms a message gets (ATS: TransformProcessor), and a conversation over WebSocket.

A transform is asked once for each message it matches, in the order of the ini file. It may change the head, answer in
its place, and give a stage or a reader for the body; those become one row (L{sslintercept.transform.arrange}).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from twisted.logger import Logger

from sslintercept.errors import InterceptError, ResponseError
from sslintercept.facts import Facts, RequestHead, ResponseHead, Side
from sslintercept.rule.match import Match
from sslintercept.transform.accept import codings_of, readable
from sslintercept.transform.arrange import Bounds, Leave, Row, Sees, unvalidate
from sslintercept.transform.coding import CODINGS, MAX_CODINGS, UnknownCoding
from sslintercept.transform.link import Loop
from sslintercept.transform.message import Direction, Message
from sslintercept.transform.recode import Reader
from sslintercept.transform.stage import StageError, Transform
from sslintercept.transform.vconnection import PATIENCE
from sslintercept.websocket.deflate import OPAQUE, Deflate, negotiated
from sslintercept.websocket.deflate import readable as readable_extensions
from sslintercept.websocket.stage import MessageStage

EXTENSIONS: Final = b"Sec-WebSocket-Extensions"
SEES: Final = {int(each): each for each in Sees}
"""by number; asked for every body, and calling L{Sees} takes ten times as long"""

log = Logger()


@dataclass(frozen=True)
class NoOptions:
    """Of a transform that has none."""


class Transformer:
    """
    A transform with its options; L{transform} is asked for each message that it matches.

    @cvar Options: a dataclass whose fields are keys of its section (L{sslintercept.config.key.setting}).
    @cvar sees: what its stages get. Readers always get plain content.
    @cvar changes: whether its stages may change content: then validators of the origin are weakened or left out, and
        C{no-transform} counts.
    @cvar partial: whether its stages and readers can do with a piece of the content (L{Message.partial}). If it gives
        one to a response that holds only a piece, and they cannot, the whole is asked for; then it hears of that.
    @ivar only_bodies: it has nothing to do with messages without a body, but for requests with a query and responses
        that begin a conversation; it need not be asked.
    """

    Options: type[Any] = NoOptions  # Any: each transform has its own dataclass
    sees = Sees.CONTENT
    changes = True
    partial = False
    only_bodies = False

    def __init__(self, options: Any = None) -> None:  # Any: an instance of C{Options}
        self.options = options

    def transform(self, message: Message) -> Transform | Reader | None:
        """
        Look at a message, change its head, or L{Message.answer} it.

        @return: who gets the body, if anybody; of a message without one nobody hears anything. What a stage needs of
            the machine it takes when it begins.
        """
        raise NotImplementedError

    def messages(self, message: Message) -> MessageStage | None:
        """
        Look at a response 101 to WebSocket that matches, behind L{transform}.

        @return: what the conversation's messages go through, a new one for each.
        """
        return None


class Entry(NamedTuple):
    """A transform in its place."""

    name: str
    match: Match[Message]
    transformer: Transformer
    respect_no_transform: bool = True
    block_unknown_coding: bool = False


class Given(NamedTuple):
    """
    What a transform gave for the body of a message.

    @ivar changes: whether it may change the content; C{sees}: what it wants to get.
    """

    entry: Entry
    part: Transform | Reader
    changes: bool
    sees: Sees

    @property
    def alone(self) -> Transform | None:
        """The stage, if it gets a body as it comes and gives it on so: nothing has to stand beside it."""
        part = self.part
        if self.changes or self.sees is not Sees.CODED or not isinstance(part, Transform) or isinstance(part, Leave):
            return None
        return part

    @classmethod
    def of(cls, entry: Entry, part: Transform | Reader) -> Given:
        """A stage may say for itself what its transformer says of all; a reader gets content and leaves it."""
        if not isinstance(part, Transform):
            return cls(entry, part, False, Sees.CONTENT)
        kind = entry.transformer
        changes = kind.changes if part.changes is None else part.changes
        return cls(entry, part, changes, kind.sees if part.sees is None else SEES[part.sees])


class Stages(NamedTuple):
    """
    What a body goes through; nothing, if C{stages} is empty.
    """

    stages: Sequence[Transform] = ()
    raw_in: bool = False
    """the first gets the chunks as they came"""
    raw_out: bool = False
    """the last gives raw chunks"""


NO_STAGES: Final = Stages()


class MessageStages(NamedTuple):
    """What the messages of a conversation over WebSocket go through, at least one stage, and how they may come."""

    stages: Sequence[tuple[str, MessageStage]]
    """with the section that errors name"""
    deflate: Deflate | None


class UnknownExtension(ResponseError):
    """Client and server agreed on an extension of WebSocket that we cannot read."""

    kind = "unknown_coding"


class Partial(ResponseError):
    """A response with a piece of the content, where a transform needs all of it."""


class Prospect(Message):
    """
    A message that only conditions are asked of: one object for all, since most requests are not selected by anybody.
    """

    __slots__ = ()

    def __init__(self, direction: Direction) -> None:
        self.direction = direction
        self.response = None

    def of(self, head: RequestHead, facts: Facts) -> Prospect:
        """Stand for the message of this request."""
        self.request, self.facts = head, facts
        self.length = head.length if head.length >= 0 else None
        return self


class TransformProcessor:
    """
    The transforms of one generation of settings.

    @param patience: seconds that a stage may hold a body without giving a byte.
    @param nearest: stands nearest to the server: it gets requests last, and responses first.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        bounds: Bounds,
        loop: Loop,
        patience: float = PATIENCE,
        nearest: Entry | None = None,
    ) -> None:
        self.entries = tuple(entries)
        self.patience = patience
        self.bounds = bounds
        self.loop = loop
        self._requests = [entry for entry in entries if may_match(entry.match, Direction.REQUEST)]
        self._responses = [entry for entry in entries if may_match(entry.match, Direction.RESPONSE)]
        if nearest is not None:
            self._requests.append(nearest)
            self._responses.insert(0, nearest)
        both = (*self._requests, *self._responses)
        self.always = all(entry.match.always for entry in both)
        """all are asked of all messages"""
        self.only_bodies = all(entry.transformer.only_bodies for entry in both)
        """none has anything to do with what has no body"""
        self._asked = Prospect(Direction.REQUEST)
        self._awaited = Prospect(Direction.RESPONSE)

    def select(self, head: RequestHead, facts: Facts) -> Transforming | None:
        """
        Look at a request before it is forwarded.

        @return: what is to be started; C{None} if no transform gets it, nor ever its response.
        """
        now, later = self._requests, self._responses
        if not self.always:
            if now:
                asked = self._asked.of(head, facts)
                now = [entry for entry in now if entry.match.judge(asked, True)]
            if later:
                awaited = self._awaited.of(head, facts)
                later = [entry for entry in later if entry.match.judge(awaited) is not False]
        has_body = head.length != 0 or head.method in (b"POST", b"PUT", b"PATCH")
        if self.only_bodies and not has_body and b"?" not in head.target:
            now = []
        if not now and not later:
            return None
        request = Message(Direction.REQUEST, head, None, facts, self.loop.later, {}, has_body=has_body)
        return Transforming(self, request, now, later)


class Transforming:
    """
    The transforms of one transaction.

    @ivar request: the request; its C{answered} says whether it is to be forwarded, its C{notes} are for the log.
    @ivar stages: for the request's body.
    """

    __slots__ = ("_accept", "_later", "_now", "_processor", "request", "stages")

    def __init__(
        self, processor: TransformProcessor, request: Message, now: Sequence[Entry], later: Sequence[Entry]
    ) -> None:
        self._processor = processor
        self._now = now
        self._later = later
        self._accept: list[bytes] = []
        self.request = request
        self.stages = NO_STAGES

    def start(self, content: bytes | None = None) -> None:
        """
        Ask those that get the request.

        @param content: its body, if all of it is there.
        @raise InterceptError: a transform refuses it, or is broken.
        """
        request = self.request
        given: list[Given] = []
        if self._now:
            request.content = content
            given = ask(request, self._now)
        if request.answered is None:
            if given:
                self.stages = self._arrange(request, given)
            for entry in self._later:
                if entry.transformer.sees is Sees.CONTENT:
                    self._limit_codings()
                    break
            if request.request.upgrade is not None:
                self._limit_extensions()

    def _limit_codings(self) -> None:
        """Let the origin use only codings that we can take off."""
        self._accept = self.request.all(b"Accept-Encoding")
        if self._accept and (limited := readable(self._accept)) is not None:
            self.request.set(b"Accept-Encoding", limited)

    def _limit_extensions(self) -> None:
        """Let the origin agree only to extensions of WebSocket that we can read, if somebody may want to."""
        request = self.request
        if b"websocket" not in (request.request.upgrade or b"").lower() or not any(
            talks(entry.transformer) for entry in self._later
        ):
            return
        offered = request.all(EXTENSIONS)
        limited = readable_extensions(offered)
        if limited is not None:
            request.set(EXTENSIONS, limited)
        elif offered:
            request.remove(EXTENSIONS)

    def conversation(self, message: Message) -> MessageStages | None:
        """
        What the messages go through after this response, which L{response} gave; C{None} if nobody wants them.

        @raise InterceptError: a transform refuses the conversation, or is broken.
        """
        if message.response is None or not switches(message.response):
            return None
        entries = [each for each in self._later if talks(each.transformer) and each.match.judge(message, True)]
        if not entries:
            return None
        offered = [value for name, value in message.request.fields if name.lower() == EXTENSIONS.lower()]
        deflate = negotiated(message.all(EXTENSIONS), offered)
        stages: list[tuple[str, MessageStage]] = []
        for entry in entries:
            if entry.transformer.changes and entry.respect_no_transform and forbids(message):
                continue
            if deflate is not OPAQUE:
                try:
                    stage = entry.transformer.messages(message)
                except Exception as error:
                    raise of_transform(entry, error) from error
                if stage is not None:
                    stages.append((f"[transform:{entry.name}]", stage))
            elif entry.block_unknown_coding:
                what, remedy = "an extension of WebSocket that we cannot read", "let it pass unseen by rule"
                raise UnknownExtension(what, where=f"[transform:{entry.name}]", remedy=remedy)
            else:
                message.note(entry.name, "not applied to an extension of WebSocket that we cannot read")
        return MessageStages(stages, deflate) if stages and deflate is not OPAQUE else None

    def passes(self, head: ResponseHead) -> bool:
        """Whether nobody has to be asked about a response without a body."""
        return head.status != 101 and self._processor.only_bodies

    def response(self, head: ResponseHead, *, has_body: bool, content: bytes | None = None) -> tuple[Message, Stages]:
        """
        Look at a response before it is forwarded.

        @param content: its body, if all of it is there.
        @return: the response, which may be answered otherwise, and what its body goes through.
        @raise Partial: it holds a piece where a transform needs all.
        @raise InterceptError: a transform refuses it, or is broken.
        """
        to, notes = self.request, self.request.notes
        message = Message(Direction.RESPONSE, to.request, head, to.facts, to.later, notes, has_body=has_body)
        message.content = content
        entries = self._later
        if not self._processor.always:
            entries = [entry for entry in entries if entry.match.judge(message, True)]
        given = ask(message, entries)
        if not given or message.answered is not None:
            return message, NO_STAGES
        return message, self._arrange(message, given)

    def _arrange(self, message: Message, given: Sequence[Given]) -> Stages:
        given = [each for each in given if welcome(each, message)]
        if not given:
            return NO_STAGES
        if message.partial and message.has_body and not all(each.entry.transformer.partial for each in given):
            raise Partial("a piece of the content", where="transform", remedy="all of it is asked for", status=502)
        first = given[0]
        if len(given) == 1 and message.length is not None and (stage := first.alone) is not None:
            return Stages((stage,)) if message.has_body else NO_STAGES
        if any(each.changes and not isinstance(each.part, Leave) for each in given):
            unvalidate(message, with_length=not message.has_body)
        row = Row(message, self._processor.bounds, first.sees, self._accept)
        for each in given:
            if isinstance(each.part, Transform):
                row.add(each.part, each.sees)
            else:
                row.read(each.part)
        row.close()
        if not message.has_body:
            # The head of a body that is only spoken of (HEAD) says what it would be.
            return NO_STAGES
        if row.stages and not row.raw_out and message.all(b"Trailer"):
            # What comes behind chunks ends with them (RFC 9110 6.5.1).
            message.head.fields = [field for field in message.head.fields if field[0].lower() != b"trailer"]
        return Stages(row.stages, row.raw_in, row.raw_out)


def ask(message: Message, entries: Sequence[Entry]) -> list[Given]:
    """
    What the transforms give for a message; one that answers ends the row.

    @raise InterceptError: one refuses it, or is broken.
    """
    given: list[Given] = []
    for entry in entries:
        try:
            part = entry.transformer.transform(message)
        except Exception as error:
            raise of_transform(entry, error) from error
        if message.answered is not None:
            break
        if part is not None:
            given.append(Given.of(entry, part))
            message.content = None  # who is next gets what this one makes of it
    message.content = None
    return given


def of_transform(entry: Entry, error: Exception) -> InterceptError:
    """What a transform raised: it refuses the message, or is broken."""
    if isinstance(error, InterceptError):
        return error
    log.failure("a transform failed")
    return StageError(
        f"it failed ({type(error).__name__})", where=f"[transform:{entry.name}]", remedy="see the proxy's log"
    )


def may_match(match: Match[Message], direction: Direction) -> bool:
    """Whether messages that go this way may match."""
    return all(
        (each.table.find(direction.value) is None) is each.negated
        for each in match.conditions
        if each.name == "direction"
    )


def switches(head: ResponseHead) -> bool:
    """Whether it goes on with WebSocket."""
    return head.status == 101 and (head.upgrade or b"").strip().lower() == b"websocket"


def talks(transformer: Transformer) -> bool:
    """Whether it may give stages for messages."""
    return type(transformer).messages is not Transformer.messages


def welcome(each: Given, message: Message) -> bool:
    """
    Whether what was given gets the body: the sender may forbid changes, or use a coding that nobody knows.

    @raise UnknownCoding: the settings say that it is not to pass then.
    """
    if each.changes and each.entry.respect_no_transform and forbids(message):
        return False
    if each.sees is not Sees.CONTENT or message.partial:
        return True
    codings = codings_of(message.all(b"Content-Encoding"))
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

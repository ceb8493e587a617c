"""
Bodies of HTTP under inspection: a stage among the transforms of a message.

The body is held back as it came, with its codings, and its content is shown to the inspectors; only where one of them
may change it are codings taken off and put on again. A head does not leave before the first byte of its body, so what
is decided by then still can be answered with a page; what is decided later breaks the transfer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from sslintercept.errors import EngineError, InspectedError
from sslintercept.facts import HOP_BY_HOP, Side
from sslintercept.inspect.conversation import InspectMessages
from sslintercept.inspect.entry import Decision, Entry, Found, failure
from sslintercept.inspect.hold import Hold
from sslintercept.inspect.inspection import Inspection
from sslintercept.inspect.part import MOST_NAME, Part
from sslintercept.inspect.processor import InspectProcessor
from sslintercept.inspect.verdict import TAG, Act, Verdict
from sslintercept.profile.profile import Bytes
from sslintercept.rule.match import Match
from sslintercept.transform.accept import codings_of
from sslintercept.transform.arrange import Bounds, Sees
from sslintercept.transform.coding import CODINGS, MAX_CODINGS, Decoder
from sslintercept.transform.message import FRAMING, Answer, Direction, Message, charset_of
from sslintercept.transform.processor import EXTENSIONS, Prospect, Transformer, switches
from sslintercept.transform.processor import Entry as TransformEntry
from sslintercept.transform.stage import Transform
from sslintercept.websocket.deflate import OPAQUE, negotiated
from sslintercept.websocket.stage import MessageStage

_UNSHOWN: Final = HOP_BY_HOP | {b"content-length", b"content-encoding", b"proxy-authorization"}
_PARAMETER: Final = re.compile(
    rb";[ \t]*([!#$%&'*+.^_`|~0-9A-Za-z-]{1,40})[ \t]*=[ \t]*"
    rb"(?:\"((?:[^\"\\]|\\.){0,1024})\"|([^\s;\"][^\s;]{0,1023}))"
)
_ESCAPED: Final = re.compile(rb"\\(.)")
"""RFC 6266 4.1, RFC 9110 5.6.4"""


class AnsweredError(InspectedError):
    """
    An inspector's engine has said what a client is told.

    @ivar answer: that.
    """

    answer: Answer

    @classmethod
    def of(cls, error: InspectedError, answer: Answer) -> AnsweredError:
        """The same error with an answer."""
        made = cls(error.what, where=error.where, remedy=error.remedy, category=error.category, event=error.event)
        made.answer = answer
        return made


class AnyOf(Match[Message]):
    """Whether any of the inspectors wants a message, or the conversation that it may begin."""

    __slots__ = ("_entries",)

    def __init__(self, entries: Sequence[Entry]) -> None:
        super().__init__(())
        self._entries = entries
        self.always = any(entry.bodies.always for entry in entries)

    def judge(self, facts: Message, final: bool = False) -> bool | None:
        """See L{Match.judge}."""
        if self.always:
            return True
        answer: bool | None = False
        for entry in self._entries:
            holds = entry.bodies.judge(facts, final)
            if holds is not True and facts.request.upgrade is not None:
                conversation = entry.conversations.judge(facts, final)
                holds = conversation if holds is False or conversation else holds
            if holds:
                return True
            if holds is None:
                answer = None
        return answer


class InspectBodies(Transformer):
    """All inspectors of a generation, as one transform."""

    def __init__(self, processor: InspectProcessor, bounds: Bounds) -> None:
        super().__init__()
        self._processor = processor
        self._bounds = bounds
        self._heads = any(entry.looks and entry.inspector.heads for entry in processor.entries)
        """somebody wants to see requests without a body"""
        self._glances = any(entry.glances and not entry.inspector.queries for entry in processor.entries)
        """somebody has something to say of messages without a body"""
        self.only_bodies = not (self._heads or self._glances)

    def entry(self) -> TransformEntry:
        """Its place among the transforms."""
        return TransformEntry("inspection", AnyOf(self._processor.entries), self, respect_no_transform=False)

    def transform(self, message: Message) -> Transform | None:
        """See L{Transformer.transform}."""
        processor = self._processor
        request = message.direction is Direction.REQUEST
        queries = request and b"?" in message.request.target
        response = message.response
        switching = response is not None and response.status == 101 and switches(response)
        if not (message.has_body or self._glances or queries or switching or (request and self._heads)):
            return None
        looking: list[Entry] = []
        glancing: list[Entry] = []
        heads = changes = False
        for entry in processor.entries:
            if entry.bodies.always or entry.bodies.judge(message, True):
                inspector = entry.inspector
                if entry.looks:
                    looking.append(entry)
                    heads = heads or inspector.heads
                    changes = changes or inspector.changes
                if entry.glances and (queries or not inspector.queries):
                    glancing.append(entry)
        if heads and request:
            # Who judges requests wants to see those without a body, too.
            message.has_body = True
        looked_at = bool(looking) and message.has_body
        if glancing and not request:
            # Whoever has glanced at the request has said what there is to say.
            glancing = [entry for entry in glancing if not entry.bodies.always]
            if glancing:
                asked = Prospect(Direction.REQUEST).of(message.request, message.facts)
                glancing = [entry for entry in glancing if not entry.bodies.judge(asked, True)]
            if looked_at and message.partial:
                glancing = []  # all of it is asked for, and glanced at then
        if switching:
            self._opaque(message)
        if not looked_at and not glancing:
            return None
        part = BodyPart(message)
        if glancing:
            decision = processor.glance(part, glancing)
            if decision.found:
                refuse(processor.settle(part, decision), decision)
        if not looked_at:
            return None
        if heads:
            part.request_head, part.response_head = heads_of(message)
        elif (content := message.content) is not None and self._judged(part, looking, message, content):
            return None
        part.settle()
        return self._stage(part, looking, message, changes=changes)

    def _judged(self, part: Part, entries: Sequence[Entry], message: Message, content: bytes) -> bool:
        """
        Whether a body that is there as a whole passes, and nobody has to look at it to know.

        @raise InspectedError: it does not pass.
        """
        if message.partial or len(content) > self._processor.limits.hold or message.all(b"Content-Encoding"):
            return False
        decision = self._processor.judge(part, entries, content)
        if decision is None:
            return False
        if decision.worst is not None:
            pass_on(self._processor, part, decision, message)
        return True

    def _stage(self, part: Part, entries: Sequence[Entry], message: Message, *, changes: bool) -> Transform:
        """What the body goes through."""
        codings = codings_of(message.all(b"Content-Encoding"))
        decoder = None
        if codings and (len(codings) > MAX_CODINGS or any(coding not in CODINGS for coding in codings)):
            if not message.partial:  # else all of it is asked for, and told of then
                self._unreadable(part, entries, f"content coding {codings[0][:40]} cannot be taken off")
            # Receivers that do not know the coding either take the content as it came.
            stage = InspectStage(self._processor, part, entries, message, None, changes=changes)
            stage.sees = Sees.CODED
            return stage
        if codings and not changes and not message.partial:
            side = Side.CLIENT if message.direction is Direction.REQUEST else Side.UPSTREAM
            decoder = Decoder(codings, ratio=self._bounds.ratio, limit=self._bounds.limit, side=side)
        return InspectStage(self._processor, part, entries, message, decoder, changes=changes)

    def _opaque(self, message: Message) -> None:
        """@raise InspectedError: it begins a conversation that nobody can read, which the settings do not let pass."""
        offered = [value for name, value in message.request.fields if name.lower() == EXTENSIONS.lower()]
        if negotiated(message.all(EXTENSIONS), offered) is not OPAQUE:
            return
        entries = [each for each in self._processor.entries if each.looks and each.conversations.judge(message, True)]
        if entries:
            part = BodyPart(message).but(carrier="websocket")
            self._unreadable(part, entries, "an extension of WebSocket cannot be read")

    def _unreadable(self, part: Part, entries: Sequence[Entry], what: str) -> None:
        """@raise InspectedError: the settings say that what cannot be read does not pass."""
        error = EngineError(what, where="inspection", remedy="see unreadable", fault="unreadable")
        found = []
        for entry in entries:
            verdict = failure(entry, error)
            act = Act.BLOCK if entry.unreadable_closed else Act.REPORT
            found.append(Found(entry, part, Verdict(act, verdict.kind, "unknown_coding", what)))
        decision = Decision.of(found)
        refuse(self._processor.settle(part, decision), decision)

    def messages(self, message: Message) -> MessageStage | None:
        """See L{Transformer.messages}."""
        processor = self._processor
        entries = [entry for entry in processor.entries if entry.conversations.judge(message, True)]
        glancing = [entry for entry in entries if entry.glances and not entry.bodies.judge(message, True)]
        if glancing:
            part = BodyPart(message).but(carrier="websocket")
            decision = processor.glance(part, glancing)
            refuse(processor.settle(part, decision), decision)
        return InspectMessages(processor, message, entries) if any(entry.looks for entry in entries) else None


def refuse(error: InspectedError | None, decision: Decision) -> None:
    """@raise InspectedError: the part does not pass."""
    if error is None:
        return
    answer = None if decision.worst is None else decision.worst.verdict.answer
    raise error if answer is None else AnsweredError.of(error, answer)


def pass_on(processor: InspectProcessor, part: Part, decision: Decision, message: Message) -> None:
    """
    Write down what was found of a part that has not begun to pass, and mark it.

    @raise InspectedError: it does not pass.
    """
    refuse(processor.settle(part, decision), decision)
    if decision.act is Act.TAG:
        _mark(message, decision)


class InspectStage(Transform):
    """
    One body.

    @ivar part: what the inspectors are told of it.
    @ivar settled: called once when it is known that it passes, in whatever form, before what is held does.

    @param decoder: takes off the codings that it is held with.
    """

    limited = False

    def __init__(
        self,
        processor: InspectProcessor,
        part: Part,
        entries: Sequence[Entry],
        message: Message,
        decoder: Decoder | None,
        *,
        changes: bool,
    ) -> None:
        self.sees = Sees.CONTENT if changes else Sees.CODED
        self.changes = changes
        self.part = part
        self.settled: Callable[[], object] = _nothing
        self._processor = processor
        self._message = message
        self._decoder = decoder
        self._length: int | None = None
        self._over = False
        self._ended = False
        self._shown = False
        """all of the content was shown before it came"""
        self._told: Decision | None = None
        """and this was decided"""
        self._body: Any = None  # Any: a Body, which two protocols of Twisted describe in part
        self._entries = entries
        self._hold: Hold
        self._inspection: Inspection
        """these two from L{_look} on"""

    def _look(self) -> None:
        self._hold = Hold(self._processor.limits.hold, self._pass)
        self._inspection = self._processor.inspect(self.part, self._entries, self._decided)
        self._inspection.mask = self._hold.mask

    def whole(self, body: bytes) -> bool:
        """
        See L{Transform.whole}. A body that passes at once costs no chain, and what is small mostly does.
        """
        decision = self._looked_at(body) if len(body) <= self._processor.limits.hold else None
        if decision is None or decision.act in (Act.REDACT, Act.REPLACE):
            return False
        if decision.worst is not None:
            pass_on(self._processor, self.part, decision, self._message)
        return True

    def _looked_at(self, body: bytes) -> Decision | None:
        """What looks say of the whole body, if they say it at once."""
        self._look()
        self._shown = True
        self._hold.write(body)
        try:
            self._show(body)
            self._end_inspection()
        except Exception:
            self._inspection.cancel()
            raise
        return self._told

    def begin(self, output: Any) -> None:  # Any: an Output
        """See L{Transform.begin}."""
        super().begin(output)
        if not self._shown:
            self._look()
        self._inspection.stop, self._inspection.go = output.pause, output.resume

    def expect(self, length: int) -> None:
        """The length is given on with the first byte: until then another body may take this one's place."""
        self._length = length

    def write(self, data: bytes) -> None:
        """See L{Transform.write}."""
        if self._shown:
            return  # all of it is held already
        if self._inspection.over:
            if not self._over:
                self._pass(data)
            return
        # However large a piece is: nothing of it passes before it was looked at.
        self._hold.add(data)
        self._show(data)
        self._hold.trim()

    def _show(self, data: bytes) -> None:
        inspection, decoder = self._inspection, self._decoder
        if decoder is None:
            inspection.write(data)
            return
        decoder.feed(data)
        while (piece := decoder.more()) and not inspection.over:
            inspection.write(piece)

    def _end_inspection(self) -> None:
        if self._decoder is not None and not self._inspection.over:
            self._decoder.finish()
        self._inspection.finish()

    def finish(self) -> None:
        """See L{Transform.finish}."""
        self._ended = True
        if self._shown:
            decision, self._told = self._told, None
            if decision is not None:
                self._decide(decision)
            return
        if self._inspection.over:
            if not self._over:
                self._over = True
                self.output.finish()
            return
        self._end_inspection()

    def drained(self) -> None:
        """See L{Transform.drained}."""
        if self._body is not None:
            self._body.resumeProducing()

    def abort(self, reason: Exception) -> None:
        """See L{Transform.abort}."""
        self._over = True
        self._inspection.cancel()
        self._hold.take()
        told, self._told = self._told, None
        if told is not None and told.worst is not None:
            told.worst.verdict.let_go()
        body, self._body = self._body, None
        if body is not None:
            body.stopProducing()

    # what passes

    def _pass(self, data: Bytes) -> None:
        length, self._length = self._length, None
        if length is not None:
            self.output.expect(length)
        self.output.write(data)

    def _decided(self, decision: Decision) -> None:
        if self._shown and not self._ended:
            self._told = decision
        else:
            self._decide(decision)

    def _decide(self, decision: Decision) -> None:
        error = self._processor.settle(self.part, decision)
        if error is not None:
            answer = None if decision.worst is None else decision.worst.verdict.answer
            self._over = True
            self._hold.take()
            self.output.fail(error if answer is None else AnsweredError.of(error, answer))
            return
        if decision.worst is not None:
            if decision.act is Act.REPLACE:
                self._replace(decision.worst)
                return
            if decision.act is Act.TAG and not self._hold.released:
                _mark(self._message, decision)
        self.settled()
        self._hold.let_go()
        if self._ended:
            self._over = True
            if self._length is not None:
                self.output.expect(self._length)
            self.output.finish()

    def _replace(self, found: Found) -> None:
        """Something else takes the place of what has not passed; once some of it has, that is too late."""
        verdict = found.verdict
        self._over = True
        self._hold.take()
        if self._hold.released:
            verdict.let_go()
            self.output.fail(self._processor.late(found.part, found.entry))
            return
        self.settled()
        if verdict.fields is not None:
            kept = [field for field in self._message.head.fields if field[0].lower() in FRAMING]
            given = [field for field in verdict.fields if field[0].lower() not in FRAMING]
            self._message.head.fields = kept + given
        content = verdict.content
        if content is None or isinstance(content, bytes):
            self.output.expect(len(content or b""))
            self.output.write(content or b"")
            self.output.finish()
            return
        self._body = content
        content.read_to(self._from_body, self._body_ended, self.output.fail)

    def _from_body(self, data: Bytes) -> None:
        self.output.write(data)
        if self.output.full and self._body is not None:
            self._body.pauseProducing()

    def _body_ended(self) -> None:
        self._body = None
        self.output.finish()


def _nothing() -> None:
    """Nobody wants to know."""


def _mark(message: Message, decision: Decision) -> None:
    """Say in a field what decides."""
    assert decision.worst is not None
    tag = decision.worst.verdict.tag
    plain = "".join(letter if " " <= letter <= "~" else "?" for letter in tag).encode("ascii")
    message.set(TAG.encode("ascii"), plain[:MOST_NAME])


class BodyPart(Part):
    """What a message's body is to an inspector; what few ask for is found out when somebody does."""

    __slots__ = ("_message",)

    def __init__(self, message: Message) -> None:
        self._message = message
        self.kind = "body"
        self.parent = None
        self.direction = message.direction
        self.facts = message.facts
        self.length = message.length
        self.sniffed = ""
        self.status = None if message.response is None else message.response.status
        declared = b", ".join(message.all(b"Content-Type"))
        known = _declared if len(declared) <= MOST_NAME else _declared.__wrapped__
        self.content_type, self.media_type, self.charset = known(declared)

    def settle(self) -> None:
        """Find out now what transforms that are asked behind may change."""
        self.name = name_of(self._message)

    def __getattr__(self, name: str) -> Any:  # Any: each has its own type
        """Called for what has no value yet."""
        if name not in _LATER:
            raise AttributeError(name)
        value = _LATER[name](self._message)
        setattr(self, name, value)
        return value


_LATER: Final[dict[str, Callable[[Message], object]]] = {
    "carrier": lambda _: "http",
    "name": lambda message: name_of(message),
    "url": lambda message: message.url,
    "host": lambda message: message.request.authority.host,
    "user": lambda message: message.facts.user,
    "method": lambda message: message.request.method.decode("latin-1"),
    "sender": lambda _: "",
    "recipients": lambda _: (),
    "request_head": lambda _: b"",
    "response_head": lambda _: b"",
}


@lru_cache(1024)
def _declared(content_type: bytes) -> tuple[str, str, str | None]:
    """What a Content-Type says: all of it, the media type, and the charset."""
    declared = content_type[:MOST_NAME].decode("latin-1")
    return declared, declared.partition(";")[0].strip().lower(), charset_of(content_type)


def heads_of(message: Message) -> tuple[bytes, bytes]:
    """
    The heads of a request and of a response, as somebody wants to see them who is shown plain content: the target in
    absolute form, no fields for one hop, and no Content-Encoding. Without a response its head is empty.
    """
    request, response = message.request, message.response
    start = b"%b %b HTTP/1.1" % (request.method, message.url.encode("latin-1", "replace"))
    coded = response is None and bool(message.all(b"Content-Encoding"))
    first = _shown(start, request.fields, None if coded else request.length)
    if response is None:
        return first, b""
    coded = bool(message.all(b"Content-Encoding"))
    start = b"HTTP/1.1 %d %b" % (response.status, response.reason)
    return first, _shown(start, response.fields, None if coded else response.length)


def _shown(start: bytes, fields: Sequence[tuple[bytes, bytes]], length: int | None) -> bytes:
    lines = [start]
    lines += [b"%b: %b" % field for field in fields if field[0].lower() not in _UNSHOWN]
    if length is not None and length > 0:
        lines.append(b"Content-Length: %d" % length)
    return b"\r\n".join([*lines, b"", b""])


def name_of(message: Message) -> str:
    """
    The file's name, as Content-Disposition or the last segment of the path says it; not to be trusted. Its end counts
    most, without the dots and spaces that some systems leave out.
    """
    disposition = message.get(b"Content-Disposition")
    name = _disposed(disposition) if disposition else ""
    if not name:
        name = message.path.rpartition("/")[2]
        if "%" in name:
            name = unquote_to_bytes(name.encode("latin-1")).decode("utf-8", "replace")
    return name.replace("\\", "/").rpartition("/")[2].rstrip(" .")[-MOST_NAME:]


def _disposed(disposition: bytes) -> str:
    """The name that a Content-Disposition gives; C{filename*} counts before C{filename} (RFC 6266 4.3)."""
    plain = ""
    for name, quoted, token in _PARAMETER.findall(b";" + disposition[:4096]):
        value = _ESCAPED.sub(rb"\1", quoted) or token
        if name.lower() == b"filename*":
            charset, _, rest = value.partition(b"'")
            extended = unquote_to_bytes(rest.partition(b"'")[2])
            if charset.lower() == b"utf-8":
                return extended.decode("utf-8", "replace")
            if charset.lower() == b"iso-8859-1":
                return extended.decode("latin-1")
        elif name.lower() == b"filename" and not plain:
            plain = value.decode("utf-8", "replace")
    return plain

"""
One message on its way through a service: asked with a preview if it likes, answered while the body still comes.

The body is written here by whoever has it, who is stopped and set going. What is kept of it is the preview, until the
service has said what it wants (RFC 3507 4.5), or a short body as a whole, so that the service may say 204 or 206 behind
its end (4.6); of everything else nothing is kept, unless the caller says that it keeps the body itself.

A request on a kept line that turns out to be dead is said again on a new one, once, and only while all of it is here.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from sslintercept.errors import EngineError, InterceptError
from sslintercept.icap import wire
from sslintercept.icap.body import AnswerBody
from sslintercept.icap.message import Answered, Modified, ModRequest, Outcome, Report, Unchanged
from sslintercept.icap.options import Options, Transfer, refused
from sslintercept.icap.verdict import threats
from sslintercept.icap.wire import Kind, ReplyHead, ReplyReader
from sslintercept.net.intake import MOST_KEPT, Intake, Producer
from sslintercept.net.line import Line
from sslintercept.profile.profile import Bytes
from sslintercept.tunnel.chunk import encode

if TYPE_CHECKING:
    from sslintercept.icap.service import Service

MOST_FIELDS: Final = 32
"""fields beginning with X- that are told"""


class _Stage(Enum):
    WAITING = "waiting for options, the preview, or a line"
    PREVIEW = "the preview is said, and the service must say what it wants"
    SENDING = "the body passes as it comes"
    SAID = "everything is said"
    RETURNED = "the caller has the body back"
    OVER = "over"


class Modification:
    """
    A consumer of the body, and the outcome.

    @ivar outcome: fires as soon as the head of an answer is there, or fails with an L{EngineError}; cancelling ends
        everything. When it fires with L{Unchanged} the caller must be done with writing here within the call.
    @ivar detached: called once if the rest of the body is not wanted any more; writing it does no harm.
    """

    def __init__(self, service: Service, asked: ModRequest) -> None:
        self._service = service
        self._asked = asked
        self._intake = Intake()
        self._stage = _Stage.WAITING
        self._line: Line | None = None
        self._reader = ReplyReader(service.where)
        self._body: AnswerBody | None = None
        self._preview: int | None = None
        self._options: Options
        self._retain = False
        """a body so short that it is kept as a whole"""
        self._retried = False
        self._getting: Deferred[None] | None = None
        self.detached: Callable[[], object] = lambda: None
        self.outcome: Deferred[Outcome] = Deferred(lambda _: self.fail(self._error("the caller gave up", "dropped")))

    @property
    def kept(self) -> bytes | None:
        """
        The body as far as it was written, if all of it is still here: who goes on without a verdict can begin with it.
        """
        return bytes(self._intake.kept) if self._intake.whole else None

    # IConsumer

    def write(self, data: Bytes) -> None:
        """
        Take more of the body.

        @raise InterceptError: the caller has got it back, or does not stop when it is told to.
        """
        if self._stage is _Stage.RETURNED:
            raise InterceptError("the body was given back already", where="ICAP", remedy="report the caller")
        if self._stage is not _Stage.OVER:
            self._intake.write(data)

    def finish(self) -> None:
        """The body has ended as it should."""
        if not self._intake.ended:
            self._intake.finish()

    def abort(self, reason: Exception, fault: str = "dropped") -> None:
        """
        The body broke off, or nobody wants the outcome.

        @param fault: C{hangs}, if the caller has waited too long: then it counts as the service's failure.
        """
        self.fail(self._error(f"the body broke off ({reason})", fault))

    def registerProducer(self, producer: Producer, streaming: bool) -> None:
        """Let C{producer}, which must push, be stopped while the service has enough."""
        self._intake.attach(producer)

    def unregisterProducer(self) -> None:
        """Nothing more comes."""
        self._intake.attach(None)

    # getting a line

    def start(self) -> None:
        """Ask for what is needed; called once."""
        if not self._asked.body:
            self._intake.finish()
        self._get(self._prepare())

    def _get(self, preparing: Coroutine[Any, Any, None]) -> None:  # Any: what it awaits is its own business
        self._getting = Deferred.fromCoroutine(preparing)
        self._getting.addErrback(self._not_got)

    def _not_got(self, failure: Failure) -> None:
        if self._stage is not _Stage.OVER:  # else it is our own cancelling
            assert isinstance(failure.value, Exception)
            self._end(failure.value)

    async def _prepare(self) -> None:
        service, asked = self._service, self._asked
        options = self._options = await service.options()
        if asked.kind not in options.methods:
            raise self._error(f"it takes no {asked.kind.name}", "refused")
        transfer = options.transfer(asked.extension)
        if transfer is Transfer.IGNORE:
            service.left(self, self._error("it was not asked", "dropped"))
            self._give_back(Report(0, service.tag.now, (), ()))
            return
        if asked.body:
            most = min(service.limits.most_kept, MOST_KEPT)
            self._retain = not asked.keeps and asked.length is not None and asked.length <= most
            if transfer is Transfer.PREVIEW:
                self._preview = options.preview
                ready: Deferred[None] = Deferred()
                # One byte more than a preview tells whether it is the whole body.
                self._intake.expect((options.preview or 0) + 1, lambda: ready.callback(None))
                await ready
        await self._begin(fresh=False)

    async def _begin(self, fresh: bool) -> None:
        line = self._line = await self._service.pool.take(fresh)
        self._reader = ReplyReader(self._service.where)
        line.received, line.lost = self._received, self._lost
        line.full, line.room = self._intake.stop, self._room
        line.owes = lambda: line.is_full or (self._stage is _Stage.SAID and not (self._body and self._body.stopped))
        self._say(line)

    def _room(self) -> None:
        if self._stage is _Stage.SENDING:
            self._intake.go()

    # asking

    def _say(self, line: Line) -> None:
        service, asked, intake = self._service, self._asked, self._intake
        if asked.body and intake.ended and intake.whole:
            self._retain = True  # it is here already, and short
        fields = service.fields(asked, self._options)
        if allow := self._allow():
            fields.append((b"Allow", allow))
        if self._preview is not None:
            fields.append((b"Preview", b"%d" % self._preview))
        head = wire.request(asked.kind, service.uri, service.host, fields, asked.heads(), asked.body)
        if self._preview is not None:
            self._say_preview(line, head, self._preview)
        elif asked.body:
            self._stage = _Stage.SENDING
            line.expect(0, service.limits.idle)
            line.write(head)
            intake.lead(self._send, self._finish, retain=self._retain)
        else:
            self._stage = _Stage.SAID
            line.expect(service.limits.first_byte, 0)
            line.write(head)

    def _allow(self) -> bytes:
        """
        204 and 206 within a preview need no word (RFC 3507 4.6) and C{Allow: 206}; behind it both must be named. A
        preview that is the whole body counts as both, and not every server takes it as a preview.
        """
        outside = self._retain or self._asked.keeps or not self._asked.body
        if self._options.allow_206 and (self._retain or (self._preview is not None and not outside)):
            return b"204, 206" if outside else b"206"
        return b"204" if outside else b""

    def _say_preview(self, line: Line, head: bytes, size: int) -> None:
        kept = self._intake.kept
        whole = self._intake.ended and len(kept) <= size
        chunk = b"".join(encode(bytes(kept[:size])))
        self._stage = _Stage.SAID if whole else _Stage.PREVIEW
        line.expect(self._service.limits.first_byte, 0)
        line.write(head + chunk + (wire.IEOF if whole else wire.LAST))

    def _go_on(self) -> None:
        """The service wants the rest."""
        line = self._line
        if line is None or self._stage is not _Stage.PREVIEW:
            raise wire.rubbish("100 where nothing is left to be said", self._service.where)
        self._stage = _Stage.SENDING
        line.expect(0, self._service.limits.idle)
        self._reader = ReplyReader(self._service.where)
        assert self._preview is not None
        self._intake.lead(self._send, self._finish, at=self._preview, retain=self._retain)

    def _send(self, data: Bytes) -> None:
        if self._line is not None:
            self._line.write(b"".join(encode(data)))

    def _finish(self) -> None:
        if self._line is not None and self._stage is _Stage.SENDING:
            self._stage = _Stage.SAID
            limits = self._service.limits
            self._line.expect(limits.first_byte if self._reader.head is None else 0, limits.idle)
            self._line.write(wire.LAST)

    # being answered

    def _received(self, data: Bytes) -> None:
        try:
            self._read(data)
        except EngineError as error:
            if not self._again(error):
                self.fail(error)

    def _read(self, data: Bytes) -> None:
        while len(data):
            reader = self._reader
            known = reader.head is not None
            pieces, taken = reader.feed(data)
            data = data[taken:]
            if reader.head is not None and not known:
                self._heard(reader.head)
            body = self._body
            for piece in pieces:
                if body is not None:
                    body.write(piece)
            if self._line is None:
                return  # ended meanwhile
            if reader is self._reader and reader.done:
                if len(data):
                    raise wire.rubbish("more than one answer", self._service.where)
                self._answered(self._line, reader)
                return

    def _heard(self, head: ReplyHead) -> None:
        self._service.heard(head)
        if head.status == 100:
            self._go_on()
            return
        if head.status == 204:
            if self._stage is not _Stage.PREVIEW and not self._intake.whole and not self._asked.keeps:
                raise wire.rubbish("204 that was not allowed", self._service.where)
            return
        if head.status not in (200, 206):
            raise refused(head, self._service.where)
        if head.status == 206 and not (self._options.allow_206 and b"206" in self._allow()):
            raise wire.rubbish("206 that was not allowed", self._service.where)
        assert self._line is not None
        self._line.expect(0, self._service.limits.idle)
        if head.body:
            self._body = AnswerBody(self._line.pause, self._line.resume)
            self._body.gone = lambda: self.fail(self._error("nobody reads the answer", "dropped"))
        report = self._report(head)
        if head.request is not None and self._asked.kind is Kind.REQMOD:
            self.outcome.callback(Modified(head.request, self._body, report))
        elif head.response is not None:
            make = Answered if self._asked.kind is Kind.REQMOD else Modified
            self.outcome.callback(make(head.response, self._body, report))
        else:
            raise wire.rubbish("an answer without the head of HTTP that belongs there", self._service.where)

    def _report(self, head: ReplyHead) -> Report:
        extra = [field for field in head.fields if field[0][:2].lower() == b"x-"]
        return Report(head.status, self._service.tag.now, threats(head), tuple(extra[:MOST_FIELDS]))

    def _answered(self, line: Line, reader: ReplyReader) -> None:
        head = reader.head
        assert head is not None
        if reader.original is not None and not self._intake.whole:
            raise wire.rubbish("a use-original-body of a body that is gone", self._service.where)
        if reader.original is not None and self._intake.ended and reader.original > self._intake.size:
            raise wire.rubbish("a use-original-body beyond the body", self._service.where)
        self._line = None
        early = self._stage is _Stage.SENDING
        if early or head.closes:
            self._service.pool.drop(line)
        else:
            self._service.pool.give(line)
        if head.status == 204:
            self._give_back(self._report(head))
        elif reader.original is not None and self._body is not None:
            self._splice(self._body, reader.original)
        else:
            unwanted = not self._intake.ended
            self._over(None)
            self._intake.drop()
            if unwanted:
                self._service.handler.soon(self.detached)
            if self._body is not None:
                self._body.finish()

    def _give_back(self, report: Report) -> None:
        kept = self.kept
        self._over(None, _Stage.RETURNED)
        if not self.outcome.called:
            self.outcome.callback(Unchanged(kept, report))
        self._intake.drop()

    def _splice(self, body: AnswerBody, at: int) -> None:
        """The rest of the original follows what the service gave: it passes here, and not through the service."""
        self._service.left(self, None)
        self._stage = _Stage.SAID
        skip = max(0, at - self._intake.size)

        def receive(data: Bytes) -> None:
            nonlocal skip
            beginning = min(skip, len(data))
            skip -= beginning
            if beginning < len(data):
                body.write(data[beginning:])

        def end() -> None:
            self._stage = _Stage.OVER
            if skip:
                body.fail(wire.rubbish("a use-original-body beyond the body", self._service.where))
            else:
                body.finish()

        body.source(self._intake.stop, self._intake.go)
        self._intake.lead(receive, end, at=at)
        if body.stopped:
            self._intake.stop()

    # ending

    def _lost(self, fault: str, why: str) -> None:
        error = self._error(why, fault)
        if not self._again(error):
            self.fail(error)

    def _again(self, error: EngineError) -> bool:
        """Say it again on a new line, if the kept one was dead and everything that was said is still here."""
        line = self._line
        dead = error.fault == "lost" and not self._reader.begun and self._stage is not _Stage.WAITING
        if line is None or not line.used or not dead or self._retried or not self._intake.whole:
            return False
        self._retried = True
        self._line = None
        self._service.pool.drop(line)
        self._stage = _Stage.WAITING
        self._service.retried += 1
        self._intake.hold()
        self._get(self._begin(fresh=True))
        return True

    def fail(self, error: EngineError) -> None:
        """End it with an error. Twice is once."""
        self._end(error)

    def _end(self, error: Exception) -> None:
        if self._stage in (_Stage.OVER, _Stage.RETURNED):
            return
        line, self._line = self._line, None
        if line is not None:
            self._service.pool.drop(line)
        unwanted = not self._intake.ended
        self._over(error)
        if self._getting is not None:
            self._getting.cancel()
        if not self.outcome.called:
            self.outcome.errback(error)
        elif self._body is not None and isinstance(error, EngineError):
            self._body.fail(error)
        if unwanted:
            self._intake.go()
            self._service.handler.soon(self.detached)

    def _over(self, error: Exception | None, stage: _Stage = _Stage.OVER) -> None:
        self._stage = stage
        self._service.left(self, error)

    def _error(self, what: str, fault: str) -> EngineError:
        return self._service.error(what, fault)

"""
What transforms do to one transaction: a chain of stages for its request, and one for its response.

The transaction asks here at three places: before its request leaves (L{HttpTransform.begin}), when there is a server
connection to send it by (L{HttpTransform.sends}), and when a response's head has come (L{HttpTransform.takes}). A head
leaves when its chain says that there is output, and how long that is; so a message has exactly one framing field,
which says what follows. A chain holds a body by two tunnels: one from its source into the chain, one from the chain to
its sink (ATS: two chained tunnels). See C{docs/transforms.md}.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from sslintercept.errors import InterceptError
from sslintercept.facts import CHUNKED, UNTIL_CLOSE, RequestHead, ResponseHead, reason_of
from sslintercept.http.alone import RANGES
from sslintercept.http.head import has_body, write_request, write_response
from sslintercept.http.hit import Hit
from sslintercept.http.origin import OriginSession
from sslintercept.http.page import EVENT
from sslintercept.http.waiting import Waiting
from sslintercept.inspect.body import AnsweredError
from sslintercept.profile.profile import Bytes
from sslintercept.transform.link import Loop
from sslintercept.transform.message import Answer
from sslintercept.transform.processor import NO_STAGES, Partial, Stages, Transforming, TransformProcessor
from sslintercept.transform.stage import StageError, Transform
from sslintercept.transform.vconnection import TransformVConnection
from sslintercept.tunnel.tunnel import Consumer, HttpTunnel, Producer, Sink, Source

if TYPE_CHECKING:
    from sslintercept.http.proxy import HttpProxy
    from sslintercept.http.sm import HttpSM

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Passage:
    """
    One body from its source through a chain to its sink.

    @ivar length: of the output, as soon as it is C{ready}; C{None} if nobody knows.

    @param ready: there is output, or the end of it.
    @param failed: a stage broke; nothing of the chain is left.
    """

    def __init__(
        self,
        stages: Sequence[Transform],
        loop: Loop,
        patience: float,
        *,
        ready: Callable[[], object],
        failed: Callable[[InterceptError], object],
    ) -> None:
        self.ready = False
        self.length: int | None = None
        self._tell, self._failed = ready, failed
        self._from: Producer | None = None
        self._into: Consumer | None = None
        self._tunnels: list[HttpTunnel] = []
        self.chain = TransformVConnection(
            stages, loop, ready=self._ready, failed=self._broke, detached=self._detached, patience=patience
        )

    def bring(
        self,
        name: str,
        source: Source,
        length: int,
        *,
        raw: bool,
        complete: Callable[[bytes], object],
        failed: Callable[[Exception], object],
        abandoned: Callable[[], object],
    ) -> Producer:
        """
        Lead the body into the chain, and let that begin.

        @param raw: the chain gets chunks as they come.
        @param abandoned: the rest of the body is not wanted.
        """
        tunnel = HttpTunnel()
        self._tunnels.append(tunnel)
        producer = tunnel.produce(name, source, length, chunked_out=raw, complete=complete, failed=failed)
        producer.abandoned = abandoned
        self._from = producer
        self._into = tunnel.consume("transform", self.chain, producer, ended=self._came)
        self.chain.start(length if length >= 0 else None)
        return producer

    def _came(self, error: Exception | None) -> None:
        if error is None:
            self.chain.finish()
        else:
            self.chain.abort(error)

    def _broke(self, error: InterceptError) -> None:
        self._failed(error)

    @property
    def came(self) -> int:
        """Bytes that have come in, framing included."""
        return 0 if self._from is None else self._from.ndone

    def hand_over(
        self,
        *,
        ready: Callable[[], object],
        complete: Callable[[bytes], object],
        failed: Callable[[Exception], object],
        abandoned: Callable[[], object],
    ) -> Producer | None:
        """
        From now on somebody else hears of it.

        @return: who brings the body, if that is still coming.
        """
        self._tell, self._failed = ready, failed
        producer = self._from
        if producer is None or not producer.alive:
            return None
        producer.complete, producer.failed, producer.abandoned = complete, failed, abandoned
        return producer

    def _ready(self, length: int | None) -> None:
        self.ready, self.length = True, length
        self._tell()

    def _detached(self) -> None:
        if self._into is not None:
            self._into.detach()

    def take_whole(self) -> bytes | None:
        """The output, if all of it is there already: no tunnel is needed then."""
        if not self.chain.whole:
            return None
        kept: list[Bytes] = []
        self.chain.read_to(kept.append, _nothing)
        return b"".join(kept)

    def lead(
        self,
        name: str,
        sink: Sink,
        length: int,
        *,
        chunked: bool,
        complete: Callable[[bytes], object],
        failed: Callable[[Exception], object],
    ) -> None:
        """
        Lead the output to its sink.

        @param length: as for a producer: bytes, C{CHUNKED} if the chain gives chunks, or C{UNTIL_CLOSE}.
        """
        tunnel = HttpTunnel()
        self._tunnels.append(tunnel)
        producer = tunnel.produce(
            "transform", self.chain, length, chunked_out=chunked, complete=complete, failed=failed
        )
        tunnel.consume(name, sink, producer)
        self.chain.read_to(producer.receive, lambda: producer.end(truncated=False))

    def stop(self) -> None:
        """Let go of everything; stages that have begun and not finished are aborted."""
        for tunnel in self._tunnels:
            tunnel.stop()
        if self._into is not None:
            self.chain.stopProducing()


class HttpTransform:
    """
    The transforms of one transaction.

    @ivar request: the passage of the request's body, if it has stages; C{response}: the response's.
    @ivar waiting: of a download, what becomes of it if its verdict takes long (L{sslintercept.http.waiting}).
    """

    __slots__ = (
        "_asked_again",
        "_left",
        "_loop",
        "_pending",
        "_processor",
        "_proxy",
        "_sm",
        "_transforming",
        "request",
        "response",
        "waiting",
    )

    def __init__(self, sm: HttpSM, proxy: HttpProxy, processor: TransformProcessor, transforming: Transforming) -> None:
        self._sm = sm
        self._proxy = proxy
        self._processor = processor
        self._transforming = transforming
        self._loop = sm.session.vc.handler
        self._asked_again = False
        self._left = False
        self._pending = NO_STAGES
        """those of the request, until there is a server connection"""
        self.request: Passage | None = None
        self.response: Passage | None = None
        self.waiting: Waiting | None = None

    @property
    def notes(self) -> dict[str, str]:
        """What transforms want in the log."""
        return self._transforming.request.notes

    @property
    def untouched(self) -> bool:
        """Whether no body has gone into a stage, or all that it gave is a head: the request may be sent once more."""
        alone = self.request is None or (self._left and self.request.length == 0)
        return alone and self.response is None and not self._pending.stages

    @property
    def sent(self) -> bool:
        """Whether nothing of the request is still in its stages."""
        return self._left or (self.request is None and not self._pending.stages)

    # the request

    def begin(self) -> bool:
        """Ask the transforms; true if one has answered."""
        sm, transforming = self._sm, self._transforming
        try:
            transforming.start(content_of(sm.head, sm.rest))
        except InterceptError as error:
            self.broke(error)
            return True
        answered = transforming.request.answered
        if answered is not None:
            self._answer(answered)
            return True
        self._pending = transforming.stages
        return False

    def _passage(self, stages: Stages, ready: Callable[[], object]) -> Passage:
        patience = self._processor.patience
        return Passage(stages.stages, self._loop, patience, ready=ready, failed=self.broke)

    def sends(self, origin: OriginSession) -> bool:
        """
        There is a server connection: true if the request is, or will be, sent from here. Asked again when its
        handshake is done.

        Stages begin only then, so that no body is taken for a server that cannot be reached, or is not the one it
        should be (TS-4044); one that is there already, and may be judged at once, has been (L{Message.content}). The
        connection waits meanwhile; should it be lost, another one is opened when there is something to send.
        """
        stages, self._pending = self._pending, NO_STAGES
        if stages.stages:
            if origin.handshake is not None:
                self._pending = stages
                origin.handshake.profile.begin()
                return True
            head, sm = self._sm.head, self._sm
            try:
                content = content_of(head, sm.rest)
                if content is not None and unchanged(stages, content):
                    return False
            except InterceptError as error:
                self.broke(error)
                return True
            self.request = self._passage(stages, self._request_ready)
        passage = self.request
        if passage is None:
            return False
        if passage.ready:
            self._send(origin, passage)
        elif origin.handshake is not None:
            origin.handshake.profile.begin()
        elif self._sm.request_body is None:
            self._take_body(passage)
        return True

    def _take_body(self, passage: Passage) -> None:
        sm = self._sm
        head, client = sm.head, sm.session.vc
        rest = sm.take_rest()
        if head.expect_continue:
            # The server is asked when there is something to send: by then nobody has waited for its leave.
            head.expect_continue = False
            if not rest:
                client.write(CONTINUE)
        sm.request_body = producer = passage.bring(
            "client",
            client,
            head.length,
            raw=self._transforming.stages.raw_in,
            complete=sm.request_came,
            failed=sm.request_failed,
            abandoned=_unwanted,
        )
        if sm.over:
            return  # a stage would not begin
        client.idle_limit = self._proxy.body_idle
        sm.session.resume()
        if rest:
            producer.receive(rest)
        elif head.length == 0:
            producer.end(truncated=False)

    def _request_ready(self) -> None:
        sm, passage = self._sm, self.request
        origin = sm.origin
        if sm.over or passage is None or origin is None:
            return
        if origin.usable and not origin.vc.closing:
            self._send(origin, passage)
        else:
            sm.reopen()

    def _send(self, origin: OriginSession, passage: Passage) -> None:
        sm, proxy = self._sm, self._proxy
        raw_out, length = self._transforming.stages.raw_out, passage.length
        try:
            if raw_out and length is None:
                raise StageError("it announced no length", where="transform", remedy="a stage of raw chunks has to")
            framed = CHUNKED if raw_out or length is None else length
            raw = write_request(sm.head, proxy.via, framed)
        except InterceptError as error:
            self.broke(error)
            return
        sm.note_sending(origin)
        if not raw_out and (body := passage.take_whole()) is not None:
            origin.send(sm, raw + body)
            self._left = True
            sm.request_sent()
            return
        origin.send(sm, raw)
        proxy.carry_body(origin)
        passage.lead(
            "server",
            origin.vc,
            framed if raw_out or length is not None else UNTIL_CLOSE,
            chunked=framed == CHUNKED,
            complete=self._request_sent,
            failed=self._misframed,
        )

    def _misframed(self, error: Exception) -> None:
        """What a stage of raw chunks gave is none."""
        self.broke(StageError(str(error), where="transform", remedy="correct the plugin"))

    def _request_sent(self, _rest: bytes) -> None:
        # The last chunk is still to be written.
        self._left = True
        self._loop.soon(self._sm.request_sent)

    # the response

    def takes(self, origin: OriginSession, head: ResponseHead, rest: bytes) -> bool:
        """
        A response's head has come, and C{rest} behind it: true if it is, or will be, forwarded from here.
        """
        sm, content = self._sm, content_of(head, rest)
        with_body = content is not None or has_body(head.status, sm.method)
        if not with_body and self._transforming.passes(head):
            return False
        try:
            stages, answered = self._stages(head, with_body, content)
        except Partial as error:
            self._ask_for_all(error)
            return True
        except InterceptError as error:
            self.broke(error)
            return True
        if answered is not None:
            if head.status != 101 and 0 <= head.length <= len(rest):
                sm.response_came(rest[head.length :])
            else:
                sm.leave_origin()
            self._answer(answered)
            return True
        if not stages.stages:
            return False
        try:
            if content is not None and unchanged(stages, content):
                return False
        except InterceptError as error:
            self.broke(error)
            return True
        self.response = passage = self._passage(stages, self._response_ready)
        origin.body = producer = passage.bring(
            "server",
            origin.vc,
            head.length,
            raw=False,
            complete=sm.response_came,
            failed=self.broke,
            abandoned=sm.leave_origin,
        )
        if sm.cache is not None:
            sm.cache.attach(producer)
        self._may_wait(passage, stages)
        self._proxy.carry_body(origin)
        origin.bring(rest)
        return True

    def takes_hit(self, hit: Hit) -> bool:
        """
        The cache answers, and the head is the transaction's: true if it is, or will be, forwarded from here.
        """
        sm = self._sm
        try:
            stages, answered = self._stages(sm.answering, has_body(sm.answering.status, sm.method))
        except Partial as error:
            hit.stopProducing()
            if self._asked_again or sm.cache is None:
                self.broke(error)
            else:
                self._asked_again = True
                sm.cache.again_whole()
            return True
        except InterceptError as error:
            hit.stopProducing()
            self.broke(error)
            return True
        if answered is not None:
            hit.stopProducing()
            self._answer(answered)
            return True
        if not stages.stages:
            return False
        self.response = passage = self._passage(stages, self._response_ready)
        producer = passage.bring(
            "cache",
            hit,
            hit.length,
            raw=False,
            complete=hit.came,
            failed=self.broke,
            abandoned=hit.stopProducing,
        )
        self._may_wait(passage, stages)
        hit.lead(producer)
        return True

    def _may_wait(self, passage: Passage, stages: Stages) -> None:
        """Its client gets a page if its verdict takes long, where the settings say so."""
        if self._proxy.waiting_after and self._proxy.waiting is not None:
            self.waiting = self._proxy.waiting.begin(self._proxy, self._sm, passage, stages.stages)

    def _stages(
        self, head: ResponseHead, with_body: bool, content: bytes | None = None
    ) -> tuple[Stages, Answer | None]:
        """
        Ask the transforms about a response.

        @param content: its body, if all of it is there.
        @return: what its body goes through; what is answered in its place, if anything.
        @raise Partial: one of them needs all of the content, and this is a part.
        @raise InterceptError: a stage cannot be made.
        """
        sm = self._sm
        message, stages = self._transforming.response(head, has_body=with_body, content=content)
        if head.status == 101 and message.answered is None:
            sm.messages = self._transforming.conversation(message)
        return stages, message.answered

    def _ask_for_all(self, error: Partial) -> None:
        """A transform needs the whole content, and the client asked for a piece: ask for the whole, once."""
        sm = self._sm
        origin, head = sm.origin, sm.head
        if self._asked_again or head.length or sm.method != b"GET" or origin is None:
            self.broke(error)
            return
        self._asked_again = True
        sm.leave_origin()
        if sm.cache is not None:
            sm.cache.asks_whole()
        else:
            head.fields = [field for field in head.fields if field[0].lower() not in RANGES]
        sm.session.facts.step("retried")
        sm.ask_again(origin.key)

    def _response_ready(self) -> None:
        sm, passage = self._sm, self.response
        if sm.over or passage is None or (self.waiting is not None and self.waiting.keeps()):
            return
        length = UNTIL_CLOSE if passage.length is None else passage.length
        raw = sm.begin_response(length)
        if raw is None:
            return
        if (body := passage.take_whole()) is not None:
            sm.send_head(raw + body)
            sm.response_sent()
            return
        client = sm.session.vc
        sm.send_head(raw)
        client.idle_limit = self._proxy.body_idle
        passage.lead(
            "client",
            client,
            length,
            chunked=length < 0 and sm.head.version >= 11,
            complete=self._response_sent,
            failed=self.broke,
        )

    def _response_sent(self, _rest: bytes) -> None:
        # The last chunk is still to be written; and the rest of a body that a stage does not want is not waited for.
        self._sm.response_sent()

    # the end

    def _answer(self, answer: Answer) -> None:
        """Answer the client as a transform said."""
        sm, proxy = self._sm, self._proxy
        request = sm.head
        close = request.close or not sm.whole or proxy.draining
        head = ResponseHead()
        head.version, head.status, head.length = 11, answer.status, len(answer.body)
        head.reason = reason_of(answer.status)
        head.fields = list(answer.fields)
        head.upgrade = head.block_via = None
        try:
            raw = write_response(
                head,
                version=request.version,
                via=None,
                close=close,
                chunked=False,
                announce_keep_alive=request.version == 10 and not close,
                method=sm.method,
            )
        except InterceptError as error:
            self.broke(error)
            return
        sm.answer(answer.status, raw + answer.body if has_body(answer.status, sm.method) else raw, close)

    def let_go(self) -> None:
        """The response goes another way; its client is answered otherwise."""
        self.response = self.waiting = None

    def broke(self, error: Exception) -> None:
        """A body, or what a stage makes of it, will not be whole."""
        sm = self._sm
        if sm.over:
            return
        if not isinstance(error, InterceptError):
            error = StageError(str(error), where="transform", remedy="see the proxy's log")
        sm.leave_origin()
        if isinstance(error, AnsweredError) and not sm.answered:
            sm.error = error
            answer, named = error.answer, (EVENT.encode("ascii"), error.event.encode("ascii"))
            self._answer(answer._replace(fields=(*answer.fields, named)) if error.event else answer)
        else:
            sm.fail(error)

    def stop(self) -> None:
        """The transaction is over."""
        sm = self._sm
        if self.waiting is not None:
            self.waiting.stop()
        for passage in (self.request, self.response):
            if passage is not None:
                passage.stop()
        if self.response is not None and sm.origin is not None:
            # A stage had enough before the response was whole.
            sm.leave_origin()


def content_of(head: RequestHead | ResponseHead, rest: bytes) -> bytes | None:
    """The body of a message, if there is one, and all of it is in C{rest}."""
    return rest[: head.length] if 0 < head.length <= len(rest) else None


def unchanged(stages: Stages, body: bytes) -> bool:
    """
    Whether a body that is there as a whole passes as it is, so that it needs no chain.

    @raise InterceptError: it does not pass.
    """
    return len(stages.stages) == 1 and stages.stages[0].whole(body)


def _nothing() -> None:
    """The end of what is there as a whole."""


def _unwanted() -> None:
    """The rest of a request's body is not wanted; who sends it is answered, and heard out."""

"""
One transaction: a request, where it goes, and what comes back (ATS: HttpSM).

The transaction speaks in heads, bodies and ends; the bytes of HTTP/1 are the sessions' business on either side
(L{sslintercept.http.session}, L{sslintercept.http.origin}). A request whose answer arrives in one read never builds a
tunnel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sslintercept.errors import (
    CertificateError,
    ClientError,
    InterceptError,
    LostError,
    MessageError,
    TimedOut,
    UpstreamError,
)
from sslintercept.facts import CHUNKED, Address, Decision, Facts, RequestHead, ResponseHead
from sslintercept.http.cachesm import CacheSM
from sslintercept.http.head import write_request, write_response
from sslintercept.http.origin import OriginSession
from sslintercept.http.pool import OriginKey
from sslintercept.http.refresh import Fill
from sslintercept.http.transform import HttpTransform
from sslintercept.http.upgrade import switch
from sslintercept.net.challenge import challenges
from sslintercept.transform.processor import MessageStages, TransformProcessor
from sslintercept.tunnel.tunnel import Consumer, HttpTunnel, Producer, Source

if TYPE_CHECKING:
    from sslintercept.http.proxy import HttpProxy
    from sslintercept.http.session import HttpSession

IDEMPOTENT = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"})
"""methods that may be sent again when a kept connection turns out to be closed (RFC 9110 9.2.2)"""


RESPONSE_STEPS = (
    ("response_received", "response_decrypted", "response_parsed", "response_built"),
    ("plain_response_received", "plain_response_parsed", "response_built"),
)
HEAD_STEPS = (("response_head_forwarded", "response_head_sent"), ("plain_response_head_sent",))
BODY_STEPS = (("body_relayed",), ("plain_body_relayed",))
"""steps of the recorder with TLS towards the origin, and without"""


class HttpSM:
    """
    @ivar head: the request; C{rest}: what has come behind it, and nobody has taken yet.
    @ivar session: the client's session; C{proxy}: what it shares with others.
    @ivar status: the final status, 0 while there is none.
    @ivar request_body: the producer of a request body that is under way.
    @ivar whole: everything of the request has come.
    @ivar transform: what transforms do to this transaction, if any does something.
    @ivar cache: what the cache does to it, if it is asked; C{cached}: the same as Squid's result code, for the log.
    """

    __slots__ = (
        "_answered",
        "_delimited",
        "_keep",
        "_over",
        "_response",
        "_retried",
        "_to_client",
        "_tunnel",
        "begun",
        "cache",
        "cached",
        "decision",
        "error",
        "head",
        "messages",
        "method",
        "origin",
        "proxy",
        "received",
        "request_body",
        "rest",
        "reused",
        "sent_before",
        "session",
        "status",
        "transform",
        "upstream",
        "whole",
    )

    def __init__(self, proxy: HttpProxy, session: HttpSession, head: RequestHead) -> None:
        self.proxy = proxy
        self.session = session
        self.head = head
        self.method = head.method
        self.rest = b""
        self._answered = False
        self._delimited = False
        """only the end of the connection ends the response's body"""
        self._over = False
        self._keep = False
        self._retried = False
        self.whole = head.length == 0
        self.transform: HttpTransform | None = None
        self.cache: CacheSM | None = None
        self.cached = ""
        self._response: ResponseHead | None = None
        self._tunnel: HttpTunnel | None = None
        self._to_client: Consumer | None = None
        self.request_body: Producer | None = None
        self.origin: OriginSession | None = None
        self.decision: Decision | None = None
        self.error: Exception | None = None
        self.messages: MessageStages | None = None
        """what goes between the two sides after a 101 to WebSocket, if anybody wants that; said before L{response}"""
        self.status = 0
        self.received = 0
        self.reused = False
        self.upstream: Address | None = None
        """whom the request was sent to"""
        tcp = session.vc.tcp
        self.begun = session.vc.handler.now
        self.sent_before = tcp.sent

    @property
    def facts(self) -> Facts:
        """What is known of the client's connection."""
        return self.session.facts

    @property
    def received_body(self) -> int:
        """Bytes of the request's body so far."""
        if self.request_body is not None:
            return self.request_body.ndone
        return max(self.head.length, 0) if self.status else 0

    @property
    def over(self) -> bool:
        """Whether the transaction has ended, one way or the other."""
        return self._over

    @property
    def sent(self) -> bool:
        """Whether all of the request has come, and nothing of it is still in a stage."""
        return self.whole and (self.transform is None or self.transform.sent)

    @property
    def waits_for_client(self) -> bool:
        """Whether it is the client's turn: to take what was written, or to send more of its body."""
        vc = self.session.vc
        body = self.request_body
        return vc.pending() > 0 or (body is not None and body.alive and vc.tcp.reading)

    # the request

    def start(self, rest: bytes) -> None:
        """Begin; C{rest} is what the client sent behind the head."""
        head = self.head
        if head.length == 0:
            if rest:
                self.session.hold(rest)
        else:
            self.rest = rest
        proxy = self.proxy
        if proxy.take_request(self) or (proxy.transforms is not None and self._transform(proxy.transforms)):
            return
        if proxy.cache is None or not proxy.cache.begin(self):
            self.forward()

    def forward(self) -> None:
        """Let the request go to its origin."""
        proxy, head = self.proxy, self.head
        key = proxy.key_for(self.session, head)
        origin = proxy.take_origin(key)
        if origin is not None:
            self.reused = True
            if self.session.facts.sequence is not None:
                self.session.facts.step("pool_reused")
            self.send(origin)
        else:
            if head.length:
                self.session.vc.pauseProducing()
            proxy.open_origin(self, key)

    def _transform(self, processor: TransformProcessor) -> bool:
        """Ask the transforms; true if one has answered."""
        transforming = processor.select(self.head, self.session.facts)
        if transforming is None:
            return False
        self.transform = HttpTransform(self, self.proxy, processor, transforming)
        return self.transform.begin()

    def take_rest(self) -> bytes:
        """What has come behind the request's head."""
        rest, self.rest = self.rest, b""
        return rest

    def reopen(self) -> None:
        """The server connection can no longer be used, and nothing was sent by it: find another one."""
        origin, self.origin = self.origin, None
        assert origin is not None
        origin.release(keep=False)
        self.ask_again(origin.key)

    def ask_again(self, key: OriginKey) -> None:
        """Send the request by another server connection."""
        self._response = None
        self.reused = False
        self.proxy.open_origin(self, key)

    def send(self, origin: OriginSession) -> None:
        """There is a server connection: forward the request."""
        self.origin = origin
        self.upstream = origin.vc.peer
        self.session.facts.upstream_tls = origin.leg
        if self.transform is not None and self.transform.sends(origin):
            return
        head = self.head
        proxy = self.proxy
        try:
            raw = write_request(head, proxy.via)
        except InterceptError as error:
            origin.release(keep=origin.uses > 0)
            self.origin = None
            self.fail(error)
            return
        self.note_sending(origin)
        length = head.length
        if length == 0:
            origin.send(self, raw)
            proxy.await_response(origin)
            return
        rest = self.take_rest()
        if 0 < length <= len(rest):
            self.whole = True
            origin.send(self, raw + rest[:length])
            self.session.hold(rest[length:])
            proxy.await_response(origin)
            self.session.resume()
            return
        origin.send(self, raw)
        tunnel = self._tunnel = HttpTunnel()
        client = self.session.vc
        producer = tunnel.produce(
            "client",
            client,
            length,
            chunked_out=length == CHUNKED,
            complete=self._request_complete,
            failed=self.request_failed,
            abandoned=self._request_unwanted,
        )
        tunnel.consume("server", origin.vc, producer)
        self.request_body = producer
        proxy.carry_body(origin)
        client.idle_limit = proxy.body_idle
        client.resumeProducing()
        if rest:
            producer.receive(rest)

    def _request_complete(self, rest: bytes) -> None:
        self.request_came(rest)
        self.request_sent()

    def request_came(self, rest: bytes) -> None:
        """All of the request has come; C{rest} behind it."""
        if not self._over:
            self.whole = True
            self.session.hold(rest)

    def request_sent(self) -> None:
        """All of the request has left."""
        if self.session.facts.sequence is not None:
            self.session.facts.step("request_body_relayed")
        if self.origin is not None and self._response is None:
            self.proxy.await_response(self.origin)

    def _request_unwanted(self) -> None:
        """The server connection is gone; its session says why, and what it answered before."""

    def note_sending(self, origin: OriginSession) -> None:
        """Record that the request leaves; behind a handshake that is under way it waits."""
        facts = self.session.facts
        if facts.sequence is not None:
            facts.step("request_forwarded")
            if origin.handshake is None:
                facts.step("request_sent" if origin.key.secure else "plain_request_sent")

    def request_failed(self, error: Exception) -> None:
        """The client broke its own body: nothing of it may look complete to the origin."""
        if self._over:
            return
        self.leave_origin()
        if not isinstance(error, MessageError) or error.status >= 500:
            error = MessageError("the request body ended early", where="request")
        self.fail(error)

    def leave_origin(self) -> None:
        """Cut the server connection: what is under way on it is of no use to anybody."""
        origin, self.origin = self.origin, None
        if origin is not None:
            if origin.body is not None:
                self.received = origin.body.ndone
            origin.cut()

    # the response

    def informational(self, head: ResponseHead) -> None:
        """A 1xx response is relayed to clients that know them (RFC 9110 15.2)."""
        if self.head.version >= 11:
            if self.session.facts.sequence is not None and head.status == 100:
                self.session.facts.step("continue_sent")
            self.session.vc.write(
                write_response(
                    head, version=11, via=self.proxy.via, close=False, chunked=False, announce_keep_alive=False
                )
            )

    def response(self, head: ResponseHead, rest: bytes) -> None:
        """The final head; C{rest} is what came behind it."""
        origin = self.origin
        if origin is None or self._over:
            return
        session = self.session
        proxy = self.proxy
        length = head.length
        if head.status == 101 and not self._may_switch(head):
            origin.fail(
                MessageError("101 to a protocol that was not asked for", where=str(self.head.authority), status=502)
            )
            return
        self._response = head
        if head.status == 401:
            proxy.note_login(session, origin, head)
        if self.cache is not None and self.cache.takes(origin, head, rest):
            return
        if self.transform is not None and self.transform.takes(origin, head, rest):
            return
        raw = self.begin_response(length)
        if raw is None:
            return
        client = session.vc
        size = len(rest)
        if 0 <= length <= size:
            if head.status == 101:
                self.send_head(raw)
                self._upgraded(rest)
                return
            self.send_head(raw + rest[:length] if length else raw)
            self.received = length
            if self.cache is not None:
                self.cache.put(rest[:length])
            self.response_came(rest[length:])
            self.finish()
            return
        if self._tunnel is None:
            self._tunnel = HttpTunnel()
        producer = self._tunnel.produce(
            "server",
            origin.vc,
            length,
            chunked_out=length < 0 and not self._delimited,
            complete=self._response_complete,
            failed=self._response_failed,
        )
        self._to_client = self._tunnel.consume("client", client, producer)
        if self.cache is not None:
            self.cache.attach(producer)
        origin.body = producer
        if session.facts.sequence is not None:
            session.facts.step("response_tunnel_made", producer.action.value)
        self.send_head(raw)
        proxy.carry_body(origin)
        client.idle_limit = proxy.body_idle
        origin.bring(rest)

    def present(self, head: ResponseHead) -> None:
        """This answers, from elsewhere than a server connection."""
        self._response = head

    @property
    def answered(self) -> bool:
        """Whether the client has got a head."""
        return self._answered

    @property
    def answering(self) -> ResponseHead:
        """The head that answers."""
        assert self._response is not None
        return self._response

    @property
    def received_status(self) -> int:
        """What the origin answered with, 0 if it did not."""
        return self._response.status if self._response is not None and self.upstream is not None else 0

    def let_go_of_client(self, producer: Producer) -> None:
        """What C{producer} brings goes on to others; the client gets it another way."""
        producer.complete, producer.failed = self.response_came, lambda error: self.leave_origin()
        to_client, self._to_client = self._to_client, None
        if to_client is not None:
            to_client.detach()

    def lead_to_client(
        self, source: Source, length: int, complete: Callable[[bytes], object], name: str = "cache"
    ) -> Producer:
        """Lead a body from the cache, or from elsewhere on the disk, to the client; its head was begun."""
        tunnel = self._tunnel = HttpTunnel()
        client = self.session.vc
        producer = tunnel.produce(
            name,
            source,
            length,
            chunked_out=length < 0 and not self._delimited,
            complete=complete,
            failed=self._response_failed,
        )
        tunnel.consume("client", client, producer)
        client.idle_limit = self.proxy.body_idle
        return producer

    def begin_response(self, length: int) -> bytes | None:
        """
        From now on it is answered: the head for the client.

        @param length: of the body, negative if nobody knows.
        @return: C{None} if it cannot be written, and something else has been answered.
        """
        head, request = self._response, self.head
        assert head is not None
        proxy = self.proxy
        chunked = length < 0 and request.version >= 11
        close = request.close or (length < 0 and not chunked) or not self.whole or proxy.draining
        try:
            raw = write_response(
                head,
                version=request.version,
                via=proxy.via,
                close=close,
                chunked=chunked,
                announce_keep_alive=request.version == 10 and not close,
                method=request.method,
                length=length,
                challenges=challenges(head.raw) if request.beyond and head.status == 407 else (),
            )
        except InterceptError as error:
            if self.origin is not None:
                self.origin.fail(error)
            else:
                self.fail(error)
            return None
        self._answered = True
        self._keep = not close
        self._delimited = not chunked and length < 0
        self.status = head.status
        if self.session.facts.sequence is not None:
            self._record(RESPONSE_STEPS, str(head.status))
        return raw

    def send_head(self, raw: bytes) -> None:
        """Let the head of the response leave."""
        if self.session.facts.sequence is not None:
            self._record(HEAD_STEPS, str(self.status))
        self.session.vc.write(raw)

    def _record(self, steps: tuple[tuple[str, ...], tuple[str, ...]], detail: str = "") -> None:
        """Record what the deck draws in several steps: those with TLS towards the origin, or those without."""
        origin = self.origin
        for name in steps[0 if origin is not None and origin.key.secure else 1]:
            self.session.facts.step(name, detail)

    def _response_complete(self, rest: bytes) -> None:
        self.response_sent()
        self.response_came(rest)

    def response_sent(self) -> None:
        """All of the response has left."""
        if self.session.facts.sequence is not None:
            self._record(BODY_STEPS)
        # The last chunk is still to be written: the session goes on when this call stack has ended.
        self.session.vc.handler.soon(self.finish)

    def response_came(self, rest: bytes) -> None:
        """All of the response has come, and C{rest} behind it: give the server connection back."""
        origin, self.origin = self.origin, None
        if origin is not None:
            if origin.body is not None:
                self.received = origin.body.ndone
            response = self._response
            kept = origin.release(keep=self.sent and response is not None and not response.close, rest=rest)
            if kept and self.session.facts.sequence is not None:
                self.session.facts.step("pool_kept")

    def _response_failed(self, error: Exception) -> None:
        """The body ended early: the client gets what came, and sees that it is not all (RFC 9112 8)."""
        if self._over:
            return
        self.error = error
        self.leave_origin()
        self._end()
        self._cut_short()

    def _cut_short(self) -> None:
        """Let the client see that its response is not all there; without TLS only a reset can say that of some."""
        vc = self.session.vc
        if self._delimited and not self.session.facts.depth:
            vc.abort(self.error if isinstance(self.error, InterceptError) else None)
        else:
            vc.close(faithful=False)

    def _may_switch(self, head: ResponseHead) -> bool:
        """Whether the client offered what the origin switches to (RFC 9110 7.8)."""
        offered = _protocols(self.head.upgrade)
        return self.sent and bool(offered) and _protocols(head.upgrade) <= offered

    def _upgraded(self, rest: bytes) -> None:
        """101: both connections go on in another protocol."""
        origin, self.origin = self.origin, None
        assert origin is not None
        assert self._response is not None
        origin.sm = None
        self._end()
        decision = self.decision or self.proxy.default
        switch(self.proxy, self.session, origin, self._response.upgrade, decision, rest, self.messages)

    # the end

    def finish(self) -> None:
        """Everything was said; go on with the client."""
        if self._over:
            return
        self._end()
        whole = self.whole
        self.session.drains = not whole
        self.session.finished(self._keep and whole)

    def hand_over(self) -> None:
        """The connection has gone to another session; the transaction ends without a line of its own."""
        self._over = True

    def _end(self) -> None:
        if not self._over:
            self._over = True
            transform = self.transform
            if self._tunnel is not None:
                self._tunnel.stop()
            if transform is not None:
                transform.stop()
            if self.cache is not None:
                self.cache.stop()
            self.session.vc.idle_limit = self.proxy.keep_alive_timeout
            self.proxy.ended(self)
            if transform is not None and transform.sent:
                # The two refer to each other; memory that waits for the collector is cold when it is used again.
                self.transform = None

    @property
    def closes(self) -> bool:
        """Whether the connection ends with an answer of our own: always if there is, or was, a body on its way."""
        return self.head.close or self.head.length != 0 or self.method == b"CONNECT"

    def answer(self, status: int, page: bytes, close: bool) -> None:
        """
        Answer ourselves.

        @param close: C{page} says that the connection ends here.
        """
        if self._over:
            return
        session = self.session
        self.status = status
        if self.method == b"CONNECT":
            session.facts.connect_status, session.facts.error = status, self.error
        session.vc.write(page)
        session.drains = not self.whole
        self._end()
        session.resume()
        session.finished(not close)

    def fail(self, error: InterceptError) -> None:
        """Nothing came back that could be forwarded."""
        if self._over:
            return
        self.error = error
        if self._answered:
            self._response_failed(error)
            return
        if self.cache is not None and _is_failure(error) and self.cache.stands_in():
            self.error = None
            return
        self.proxy.fail(self, error)

    def origin_lost(self, error: Exception | None) -> None:
        """The server connection is gone, or breaks its protocol."""
        origin, self.origin = self.origin, None
        if self._over:
            return
        if self._answered:
            if origin is not None and origin.body is not None:
                self.received = origin.body.ndone
            if not isinstance(error, InterceptError):
                what = "the origin closed in the middle of the response"
                error = LostError(what, where=str(self.head.authority), remedy="try again")
            self.error = error
            self._end()
            if origin is not None and origin.vc.error is not None:
                self.session.vc.mirror(origin.vc)
            self._cut_short()
            return
        if isinstance(error, UpstreamError | MessageError) or (
            isinstance(error, InterceptError) and error.kind == "timeout"
        ):
            self.fail(error)
            return
        if (
            self.reused
            and not self._retried
            and self.head.length == 0
            and self.method in IDEMPOTENT
            and origin is not None
            and (self.transform is None or self.transform.untouched)
        ):
            # The origin closed a kept connection just as we used it; the request goes once more, on a new one.
            self._retried = True
            self.session.facts.step("retried")
            self.ask_again(origin.key)
            return
        why = f" ({error})" if error is not None else ""
        self.fail(
            LostError(
                f"the origin closed the connection before it answered{why}",
                where=str(self.head.authority),
                remedy="try again",
            )
        )

    def client_ended(self) -> None:
        """The client has finished sending. Over TLS that is a goodbye; in the clear it may still want its answer."""
        body = self.request_body
        if body is not None and body.alive:
            body.end(truncated=True)
        elif self.session.facts.depth:
            self.client_lost(None)
            self.session.vc.close()

    def client_stands_still(self) -> None:
        """The client neither takes what was written nor sends what it announced, for too long."""
        body = self.request_body
        if body is not None and body.alive and not self._answered:
            body.fail(MessageError("the request body stands still", where="request", status=408))
            return
        why = TimedOut("the client stands still", where="client connection", remedy="see [tunnel] idle_timeout")
        self.client_lost(why)
        self.session.vc.abort(why)

    def client_lost(self, error: Exception | None) -> None:
        """The client is gone: nobody waits for the response but, perhaps, the cache (ATS: background fill)."""
        if self._over:
            return
        if not isinstance(error, InterceptError):
            where = str(self.session.facts.client)
            error = ClientError("the client went away", where=where, remedy="it did not wait for the response")
        self.error = error
        self._fill()
        self.leave_origin()
        self._end()

    def _fill(self) -> None:
        """Let what comes go on to the cache, if it is worth having."""
        origin, cache, response = self.origin, self.cache, self._response
        producer = origin.body if origin is not None else None
        if (
            cache is not None
            and cache.fills
            and origin is not None
            and producer is not None
            and producer.alive
            and response is not None
            and self.transform is None
        ):
            self.received = producer.ndone
            if cache.writing is not None:
                cache.writing.alone = True
            self.origin = self._tunnel = cache.writing = None
            Fill(origin, producer, keep=self.sent and not response.close)
            if self._to_client is not None:
                self._to_client.detach()


def _is_failure(error: InterceptError) -> bool:
    """Whether the origin fails, as C{stale-if-error} means it; one that cannot prove who it is does not."""
    return isinstance(error, UpstreamError | TimedOut) and not isinstance(error, CertificateError)


def _protocols(upgrade: bytes | None) -> set[bytes]:
    """The names in an Upgrade field, without case."""
    return {name.strip().lower() for name in (upgrade or b"").split(b",")} - {b""}


def same_origin(a: Address, b: Address) -> bool:
    """Whether two authorities are the same (RFC 9110 4.3.2): names without case, ports as numbers."""
    return a.port == b.port and a.host.lower().rstrip(".") == b.host.lower().rstrip(".")

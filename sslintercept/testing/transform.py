"""
A transform chain in memory, for the tests of stages: its source, its reader and its time are the test's.

::

    pipe = Pipe(Upper())
    pipe.send(b"hello ", b"world")
    assert pipe.got == b"HELLO WORLD"

A transformer is asked as the proxy would ask it, with an L{Exchange}::

    exchange = Exchange(Shout(ShoutOptions()))
    pipe = exchange.respond(fields={"Content-Type": "text/plain"})
    pipe.send(b"hello")
    assert pipe.got == b"HELLO"
    assert exchange.head.get(b"X-Shouted") == b"yes"

A reader that stands still is C{pipe.stalled = True} until L{Pipe.drain}, one that goes away L{Pipe.leave}, an origin
that breaks off L{Pipe.abort}; time passes with C{pipe.loop.advance}. L{splits} cuts an input in the ways that find what
goes wrong at borders. Nothing here waits or opens a socket.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from urllib.parse import urlsplit

from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock

from sslintercept.errors import InterceptError
from sslintercept.facts import UNTIL_CLOSE, Address, Facts, RequestHead, ResponseHead
from sslintercept.http.head import read_request, read_response
from sslintercept.profile.profile import Bytes
from sslintercept.rule.match import Match
from sslintercept.transform.arrange import Bounds
from sslintercept.transform.message import Answer, Direction, Message
from sslintercept.transform.processor import Entry, Transformer, Transforming, TransformProcessor
from sslintercept.transform.stage import Null, Transform
from sslintercept.transform.vconnection import PATIENCE, TransformVConnection


class PipeLoop(Clock):
    """A clock that stands still, and calls that come when the present call stack has ended."""

    def soon(self, call: Callable[[], object]) -> None:
        """See L{sslintercept.net.handler.NetHandler.soon}."""
        self.callLater(0, call)

    def later(self, delay: float, call: Callable[[], object]) -> IDelayedCall:
        """See L{sslintercept.net.handler.NetHandler.later}."""
        return self.callLater(delay, call)


class Pipe:
    """
    A chain between a source that can be stopped and a reader that may stand still.

    @ivar announced: each length that the chain reported with its readiness: exactly one, C{None} for an unknown one.
    @ivar ended: how often the reader heard that this is all.
    @ivar error: what broke the chain.
    @ivar detached: whether the chain said that it needs no more input.
    @ivar stopped: whether the source has to wait now.
    @ivar stalled: set it, and the reader takes nothing until L{drain}; what comes nevertheless is in C{waiting}.

    @param length: of the input, if the source knows it.
    @param reading: whether the reader begins by itself as soon as there is output.
    @param loop: where time comes from, if others share it.
    """

    high_water = 64 * 1024
    """bytes waiting at the reader above which it stops the chain"""

    def __init__(
        self,
        *stages: Transform,
        length: int | None = None,
        reading: bool = True,
        patience: float = PATIENCE,
        loop: PipeLoop | None = None,
    ) -> None:
        self.loop = loop or PipeLoop()
        self.chain = TransformVConnection(
            stages, self.loop, ready=self._ready, failed=self._failed, detached=self._detached, patience=patience
        )
        self.chain.registerProducer(self, True)
        self.announced: list[int | None] = []
        self.ended = 0
        self.error: InterceptError | None = None
        self.detached = False
        self.stopped = False
        self.stalled = False
        self.waiting = 0
        self._reading = reading
        self._held_up = False
        self._got = bytearray()
        self.chain.start(length)

    @property
    def got(self) -> bytes:
        """What the reader got so far."""
        return bytes(self._got)

    # the source

    def write(self, *pieces: Bytes) -> None:
        """Bring pieces of the body, whether or not the chain wants them; a view is taken back afterwards."""
        for piece in pieces:
            if not isinstance(piece, memoryview):
                self.chain.write(piece)
                continue
            shared = bytearray(piece)
            self.chain.write(memoryview(shared))
            shared[:] = b"\xaa" * len(shared)
        self.loop.advance(0)

    def finish(self) -> None:
        """The body has ended."""
        self.chain.finish()
        self.loop.advance(0)

    def send(self, *pieces: Bytes) -> None:
        """Bring a whole body."""
        self.write(*pieces)
        self.finish()

    def abort(self, reason: Exception | None = None) -> None:
        """The body breaks off."""
        self.chain.abort(reason or ConnectionError("the source broke off"))
        self.loop.advance(0)

    def pauseProducing(self) -> None:
        """The chain has enough."""
        self.stopped = True

    def resumeProducing(self) -> None:
        """The chain wants more."""
        self.stopped = False

    def stopProducing(self) -> None:
        """Not called: a chain says that it is detached."""

    # the reader

    def read(self) -> None:
        """Begin to read, where the test has not left that to us."""
        self.chain.read_to(self._take, self._end)
        self.loop.advance(0)

    def drain(self) -> None:
        """The reader takes all that waits, and goes on."""
        self.stalled = False
        self.waiting = 0
        if self._held_up:
            self._held_up = False
            self.chain.resumeProducing()
        self.loop.advance(0)

    def leave(self) -> None:
        """The reader goes away."""
        self.chain.stopProducing()
        self.loop.advance(0)

    def _ready(self, length: int | None) -> None:
        self.announced.append(length)
        if self._reading:
            self.chain.read_to(self._take, self._end)

    def _take(self, data: Bytes) -> None:
        self._got += data
        if self.stalled:
            self.waiting += len(data)
            if self.waiting > self.high_water and not self._held_up:
                self._held_up = True
                self.chain.pauseProducing()

    def _end(self) -> None:
        self.ended += 1

    def _failed(self, error: InterceptError) -> None:
        self.error = error

    def _detached(self) -> None:
        self.detached = True


def splits(data: bytes, longest: int = 64) -> Iterator[list[bytes]]:
    """
    Cut C{data} in every way that has a meaning of its own: whole, at each of its first and last C{longest} places,
    and into single bytes if it is short enough for that to be quick.
    """
    yield [data]
    places = set(range(1, min(longest, len(data)))) | set(range(max(1, len(data) - longest), len(data)))
    for at in sorted(places):
        yield [data[:at], data[at:]]
    if len(data) <= 64 * 1024:
        yield [data[at : at + 1] for at in range(len(data))]


def transformed(data: bytes, *stages: Transform) -> bytes:
    """
    What C{stages} make of a whole body.

    @raise InterceptError: the chain broke.
    @raise AssertionError: it did not end.
    """
    pipe = Pipe(*stages, length=len(data))
    pipe.send(data) if data else pipe.finish()
    if pipe.error is not None:
        raise pipe.error
    assert pipe.ended == 1, "the output has not ended; does a stage wait?"
    return pipe.got


def a_request(url: str = "https://www.example/", method: str = "GET", fields: Mapping[str, str] | None = None) -> bytes:
    """
    The bytes of a request head, as a client sends it inside a tunnel.

    A body is announced by C{fields}: C{Content-Length} or C{Transfer-Encoding}.
    """
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [f"{method} {target} HTTP/1.1", f"Host: {parts.netloc}", *map(": ".join, (fields or {}).items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def a_response(status: int = 200, fields: Mapping[str, str] | None = None) -> bytes:
    """The bytes of a response head; without C{Content-Length} in C{fields} its body ends with the connection."""
    lines = [f"HTTP/1.1 {status} As it is", *map(": ".join, (fields or {}).items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def request_head(url: str, method: str, fields: Mapping[str, str] | None) -> RequestHead:
    """What the proxy reads out of L{a_request}."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return read_request(a_request(url, method, fields), parts.scheme, Address(parts.hostname or "", port))


def some_facts() -> Facts:
    """What is known of a client's connection."""
    facts = Facts("c1", Address("192.0.2.7", 40000), "proxy")
    facts.destination = Address("www.example", 443)
    return facts


def a_message(
    url: str = "https://www.example/",
    *,
    method: str = "GET",
    fields: Mapping[str, str] | None = None,
    status: int | None = None,
    of_response: Mapping[str, str] | None = None,
    loop: PipeLoop | None = None,
) -> Message:
    """
    A request, or with C{status} the response to it.

    @param fields: of the request.
    @param of_response: its fields.
    """
    request = request_head(url, method, fields)
    response = None if status is None else read_response(a_response(status, of_response), request.method)
    direction = Direction.REQUEST if response is None else Direction.RESPONSE
    has_body = request.length != 0 if response is None else response.length != 0
    later = (loop or PipeLoop()).later
    return Message(direction, request, response, some_facts(), later, {}, has_body=has_body)


class Exchange:
    """
    A request and its response through transformers that match both.

    @ivar request: the request as it is forwarded; C{head}: the response as it is forwarded, once there is one.
    @ivar stages: what the response's body goes through, once there was one.
    @ivar loop: the time of all that waits.

    @param method: with one that has a body, and C{fields} that announce it, L{upload} carries it.
    @param settings: of each entry (L{Entry}): C{respect_no_transform}, C{block_unknown_coding}.
    @raise InterceptError: a transformer refuses the request.
    """

    def __init__(
        self,
        *transformers: Transformer,
        url: str = "https://www.example/",
        method: str = "GET",
        fields: Mapping[str, str] | None = None,
        match: Match[Message] | None = None,
        **settings: bool,
    ) -> None:
        self.loop = PipeLoop()
        match = match or Match([])
        entries = [Entry(f"t{at}", match, each, **settings) for at, each in enumerate(transformers, 1)]
        processor = TransformProcessor(entries, Bounds(200, 64 * 1024 * 1024), self.loop)
        self._head = request_head(url, method, fields)
        self.transforming: Transforming | None = processor.select(self._head, some_facts())
        if self.transforming is not None:
            self.transforming.start()
        self._response: Message | None = None
        self.stages: list[Transform] = []

    @property
    def request(self) -> Message:
        assert self.transforming is not None, "no transformer gets the request or its response"
        return self.transforming.request

    @property
    def head(self) -> Message:
        assert self._response is not None, "there was no response"
        return self._response

    @property
    def notes(self) -> dict[str, str]:
        """What stands in the access log."""
        return self.request.notes

    @property
    def answer(self) -> Answer | None:
        """What the client is answered in the place of what the origin says."""
        if self._response is not None and self._response.answered is not None:
            return self._response.answered
        return self.request.answered

    def upload(self, **how: bool) -> Pipe:
        """The pipe of the request's body."""
        return Pipe(*(self.request_stages or (Null(),)), length=self.request.length, loop=self.loop, **how)

    @property
    def request_stages(self) -> list[Transform]:
        """What the request's body goes through."""
        assert self.transforming is not None, "no transformer gets the request or its response"
        return list(self.transforming.stages.stages)

    def respond(self, status: int = 200, fields: Mapping[str, str] | None = None, **how: bool) -> Pipe:
        """
        The origin answers; the pipe is that of the response's body, and changes nothing if no stage gets it.

        @param how: for L{Pipe}: C{reading}.
        @raise InterceptError: a transformer refuses it.
        """
        assert self.transforming is not None, "no transformer gets the response"
        head: ResponseHead = read_response(a_response(status, fields), self._head.method)
        self._response, found = self.transforming.response(head, has_body=head.length != 0)
        self.stages = list(found.stages)
        length = head.length if head.length != UNTIL_CLOSE and head.length >= 0 else None
        return Pipe(*(self.stages or (Null(),)), length=length, loop=self.loop, **how)

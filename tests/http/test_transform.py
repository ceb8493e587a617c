"""Transforms of whole transactions: framing by what comes out, both directions, and everybody's end."""

from __future__ import annotations

import gzip
from collections.abc import Callable

import pytest
from twisted.internet.defer import Deferred

from sslintercept.load import CHECKS
from sslintercept.rule.match import parse_with
from sslintercept.testing.gateway import OK, Answers, MemoryGateway, silent
from sslintercept.testing.loop import Loop
from sslintercept.testing.peer import Peer
from sslintercept.transform.arrange import Bounds, Sees
from sslintercept.transform.message import Direction, Message
from sslintercept.transform.processor import Entry, Transformer, TransformProcessor
from sslintercept.transform.recode import Reader
from sslintercept.transform.select import CONDITIONS_OF_MESSAGES
from sslintercept.transform.stage import Later, Null, StageError, Transform
from tests.http.test_session import GET, POST, asked
from tests.sequences.support import CLIENT_FIRST, get, intercepted, responses, unchunked

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"
UPLOAD = POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"
MARK = 64 * 1024


@pytest.fixture
def gateway(loop: Loop) -> MemoryGateway:
    return MemoryGateway(loop)


class Of(Transformer):
    """Gives a stage for what a match holds for, and keeps each that it gave."""

    def __init__(self, make: Callable[[], Transform | Reader | None], sees: Sees = Sees.CONTENT) -> None:
        super().__init__()
        self.sees = sees
        self.made: list[Transform | Reader | None] = []
        self._make = make

    def transform(self, message: Message) -> Transform | Reader | None:
        self.made.append(self._make())
        return self.made[-1]


class Heard(Transform):
    """Passes everything on, and writes down what it hears."""

    def __init__(self) -> None:
        self.got = bytearray()
        self.heard: list[str] = []

    def expect(self, length: int) -> None:
        self.heard.append(f"expect {length}")
        self.output.expect(length)

    def write(self, data: bytes) -> Later:
        self.got += data
        self.output.write(data)
        return None

    def finish(self) -> Later:
        self.heard.append("finish")
        self.output.finish()
        return None

    def abort(self, reason: Exception) -> None:
        self.heard.append("abort")


class Double(Transform):
    """Gives every byte twice."""

    def write(self, data: bytes) -> Later:
        self.output.write(twice(data))
        return None


class Collect(Transform):
    """Gives all at the end, and says first how long that is."""

    def begin(self, output: object) -> None:
        super().begin(output)  # type: ignore[arg-type]  # as the base
        self.kept = b""

    def write(self, data: bytes) -> Later:
        self.kept += data
        return None

    def finish(self) -> Later:
        self.output.expect(len(self.kept))
        self.output.write(self.kept)
        self.output.finish()
        return None


class Breaks(Transform):
    """Passes so many bytes, then it breaks."""

    def __init__(self, after: int) -> None:
        self.left = after

    def write(self, data: bytes) -> Later:
        if len(data) > self.left:
            raise RuntimeError("as the test wants it")
        self.left -= len(data)
        self.output.write(data)
        return None


class First(Transform):
    """Gives so many bytes and has enough."""

    def __init__(self, size: int) -> None:
        self.left = size

    def write(self, data: bytes) -> Later:
        self.output.write(data[: self.left])
        self.left -= len(data)
        if self.left <= 0:
            self.output.finish()
        return None


class Holds(Transform):
    """Waits until the test lets it go on."""

    def __init__(self) -> None:
        self.waiting: Deferred[None] = Deferred()

    def write(self, data: bytes) -> Later:
        self.output.write(data)
        return self.waiting


def twice(data: bytes) -> bytes:
    """What L{Double} makes."""
    return bytes(byte for byte in data for _ in range(2))


def use(gateway: MemoryGateway, *transformers: Transformer, match: str = "", **how: bool) -> None:
    """Let the gateway use these, in this order."""
    CHECKS.messages(match)
    found = parse_with(CONDITIONS_OF_MESSAGES, match)
    entries = [Entry(f"t{at}", found, each, **how) for at, each in enumerate(transformers)]
    gateway.proxy.transforms = TransformProcessor(entries, Bounds(200.0, 1 << 40), gateway.handler)


def met(gateway: MemoryGateway, raw: bytes = GET) -> tuple[Peer, Peer]:
    """A client that has asked, and the origin's end of the connection, which says nothing by itself."""
    origin = gateway.origin("origin.test:80", silent)
    client = gateway.client()
    client.send(raw)
    gateway.pump()
    return client, origin.last


def framing(head: bytes) -> list[bytes]:
    """The framing fields of a head."""
    lines = head.lower().split(b"\r\n")
    return [line for line in lines if line.startswith((b"content-length", b"transfer-encoding"))]


# responses


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 10_000_000])
@pytest.mark.parametrize("direction", ["request", "response"])
@pytest.mark.parametrize("chunked", [False, True])
def test_the_null_transform_changes_nothing(gateway: MemoryGateway, size: int, direction: str, chunked: bool) -> None:
    """T6.1"""
    body = bytes(range(256)) * (size // 256) + bytes(size % 256)
    framed = b"Transfer-Encoding: chunked\r\n\r\n" if chunked else b"Content-Length: %d\r\n\r\n" % size
    raw = framed + (b"%x\r\n%b\r\n0\r\n\r\n" % (size, body) if chunked and size else b"0\r\n\r\n" if chunked else body)
    use(gateway, Of(Null), match=f"direction:{direction}")
    answers = Answers(OK if direction == "request" else b"HTTP/1.1 200 OK\r\n" + raw)
    gateway.origin("origin.test:80", answers)
    client = gateway.client()
    for _ in range(2):
        (found,) = asked(gateway, POST + raw if direction == "request" else GET, client)
        assert found.status == 200
        if direction == "response":
            assert found.body == body
            assert len(framing(found.head)) == 1
        else:
            assert len(framing(answers.requests[-1])) == 1
            arrived = answers.bodies[-1]
            assert (unchunked(arrived)[0] if b"chunked" in framing(answers.requests[-1])[0] else arrived) == body


def test_a_response_gets_its_new_length_when_that_is_known_at_its_first_byte(gateway: MemoryGateway) -> None:
    """T6.5"""
    use(gateway, Of(Double), match="direction:response")
    gateway.origin("origin.test:80")
    (found,) = asked(gateway, GET)
    assert found.body == twice(b"hello")
    assert framing(found.head) == [b"content-length: 10"]


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
def test_a_response_of_unknown_length_is_chunked_for_who_knows_that(gateway: MemoryGateway, version: bytes) -> None:
    """T6.4, T6.5"""
    collector = Of(Heard)
    use(gateway, Of(Double), collector, match="direction:response")
    client, peer = met(gateway, GET.replace(b"1.1", version))
    peer.send(CHUNKED[:-20])
    gateway.pump()
    peer.send(CHUNKED[-20:])
    gateway.pump()
    (found,) = responses(client.take())
    assert found.body == twice(b"hello world")
    assert framing(found.head) == ([b"transfer-encoding: chunked"] if version == b"1.1" else [])
    assert client.ended is (version == b"1.0")
    (heard,) = collector.made
    assert isinstance(heard, Heard)
    assert heard.got == twice(b"hello world")


def test_a_late_exact_length_is_sent(gateway: MemoryGateway) -> None:
    """T6.5"""
    use(gateway, Of(Double), Of(Collect), match="direction:response")
    client, peer = met(gateway)
    for piece in (CHUNKED[:-20], CHUNKED[-20:]):
        peer.send(piece)
        gateway.pump()
    (found,) = responses(client.take())
    assert framing(found.head) == [b"content-length: 22"]
    assert found.body == twice(b"hello world")


def test_one_byte_in_comes_out_in_the_same_turn(gateway: MemoryGateway) -> None:
    use(gateway, Of(Null), Of(Double), Of(Null), match="direction:response")
    client, peer = met(gateway)
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nd")
    gateway.pump()
    assert client.take().endswith(b"\r\n\r\n2\r\ndd\r\n")
    peer.send(b"x")
    gateway.pump()
    assert client.take() == b"2\r\nxx\r\n"


def test_three_stages_keep_their_order_and_a_client_that_stands_still_stops_the_origin(
    gateway: MemoryGateway,
) -> None:
    """T6.6"""
    last = Of(Heard)
    use(gateway, Of(Double), Of(Null), last, match="direction:response")
    gateway.origin("origin.test:80", silent)
    client = gateway.client()
    client.reading = False
    client.send(GET)
    gateway.pump()
    peer = gateway.connector.origins.popitem()[1].last
    total = 40_000_000
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total + bytes(total))
    gateway.pump()
    assert client.vc.pending() < 4 * MARK
    assert peer.vc.tcp.read < 10_000_000
    client.reading = True
    gateway.pump()
    assert isinstance(last.made[0], Heard)
    assert len(last.made[0].got) == 2 * total
    assert last.made[0].heard == ["finish"]


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_client_that_leaves_ends_every_stage_once(gateway: MemoryGateway, how: str) -> None:
    """T6.6"""
    stages = [Of(Heard), Of(Heard), Of(Heard)]
    use(gateway, *stages, match="direction:response")
    client, peer = met(gateway)
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n12345")
    gateway.pump()
    getattr(client, how)()
    gateway.pump()
    peer.send(b"67890")
    gateway.pump()
    for each in stages:
        (stage,) = each.made
        assert isinstance(stage, Heard)
        assert stage.heard.count("abort") == 1
    assert peer.ended


def test_a_stage_that_breaks_before_the_head_is_a_page(gateway: MemoryGateway) -> None:
    """T6.7"""
    kept = Of(Heard)
    use(gateway, kept, Of(lambda: Breaks(0)), Of(Null), match="direction:response")
    gateway.origin("origin.test:80")
    (found,) = asked(gateway, GET)
    assert found.status == 500
    assert b"Breaks" in found.body
    assert gateway.transactions()[-1]["error"] == "transform"
    assert isinstance(kept.made[0], Heard)
    assert "abort" in kept.made[0].heard or "finish" in kept.made[0].heard
    gateway.loop.failures.clear()


def test_a_stage_that_breaks_behind_the_head_cuts_the_response_short(gateway: MemoryGateway) -> None:
    """T6.7"""
    use(gateway, Of(lambda: Breaks(5)), match="direction:response")
    client, peer = met(gateway)
    peer.send(b"HTTP/1.1 200 OK\r\n\r\nhello")
    gateway.pump()
    peer.send(b"more")
    gateway.pump()
    got = client.take()
    assert got.endswith(b"5\r\nhello\r\n")
    assert client.ended
    assert peer.ended
    assert gateway.transactions()[-1]["error"] == "transform"
    gateway.loop.failures.clear()


def test_a_response_that_breaks_off_does_not_look_whole(gateway: MemoryGateway) -> None:
    """T5.2"""
    for piece, status in ((b"", 502), (b"hello", 200)):
        heard = Of(Heard)
        use(gateway, heard, match="direction:response")
        origin = gateway.origin("origin.test:80", silent)
        client = gateway.client()
        client.send(GET)
        gateway.pump()
        origin.last.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + piece)
        gateway.pump()
        origin.last.close()
        gateway.pump()
        got = client.take()
        assert got.startswith(b"HTTP/1.1 %d" % status)
        if status == 200:
            assert got.endswith(b"\r\n\r\nhello")
            assert client.ended
        assert isinstance(heard.made[0], Heard)
        assert heard.made[0].heard == ["expect 100", "abort"]


def test_a_stage_that_has_enough_stops_the_origin_and_the_client_gets_a_whole_response(
    gateway: MemoryGateway,
) -> None:
    use(gateway, Of(lambda: First(3)), match="direction:response")
    origin = gateway.origin("origin.test:80", silent)
    client = gateway.client()
    client.send(GET)
    gateway.pump()
    origin.last.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nhello")
    gateway.pump()
    (found,) = responses(client.take())
    assert (found.body, framing(found.head)) == (b"hel", [b"content-length: 3"])
    assert origin.last.ended
    assert not client.ended
    origin.respond = Answers(OK)
    assert asked(gateway, GET, client)[0].body == b"hel"


def test_a_response_in_gzip_is_changed_as_it_reads_and_leaves_as_the_client_accepts(gateway: MemoryGateway) -> None:
    coded = gzip.compress(b"hello")
    raw = b'HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nETag: "x"\r\nContent-Length: %d\r\n\r\n' % len(coded) + coded
    gateway.origin("origin.test:80", raw)
    use(gateway, Of(Double), match="direction:response")
    for accept in (b"gzip", b"identity"):
        (found,) = asked(gateway, GET[:-2] + b"Accept-Encoding: %b\r\n\r\n" % accept)
        body = gzip.decompress(found.body) if accept == b"gzip" else found.body
        assert body == twice(b"hello")
        assert (b"content-encoding: gzip" in found.head.lower()) is (accept == b"gzip")
        assert b'ETag: W/"x"' in found.head
        assert b"Vary: Accept-Encoding" in found.head


def test_content_that_is_damaged_is_the_origins_fault(gateway: MemoryGateway) -> None:
    raw = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello"
    gateway.origin("origin.test:80", raw)
    use(gateway, Of(Null), match="direction:response")
    (found,) = asked(gateway, GET)
    assert found.status == 502
    assert b"http_response_content_coding" in found.head
    assert gateway.transactions()[-1]["error"] == "coding"


@pytest.mark.parametrize(("block", "status"), [(False, 200), (True, 502)])
def test_a_coding_that_nobody_knows_passes_unseen_or_is_refused(
    gateway: MemoryGateway, block: bool, status: int
) -> None:
    raw = b"HTTP/1.1 200 OK\r\nContent-Encoding: odd\r\nContent-Length: 5\r\n\r\nhello"
    gateway.origin("origin.test:80", raw)
    use(gateway, Of(Double), match="direction:response", block_unknown_coding=block)
    (found,) = asked(gateway, GET)
    assert found.status == status
    line = gateway.transactions()[-1]
    if block:
        assert line["error"] == "unknown_coding"
    else:
        assert found.body == b"hello"
        assert line["notes"] == {"t0": "not applied to content coding odd"}


def test_a_piece_is_asked_for_again_as_a_whole_once(gateway: MemoryGateway) -> None:
    def answer(head: bytes, _body: bytes) -> bytes:
        if b"Range" in head:
            return b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-1/5\r\nContent-Length: 2\r\n\r\nhe"
        return OK

    answers = Answers(answer)
    gateway.origin("origin.test:80", answers)
    use(gateway, Of(Double), match="direction:response")
    ranged = GET[:-2] + b"Range: bytes=0-1\r\n\r\n"
    (found,) = asked(gateway, ranged)
    assert (found.status, found.body) == (200, twice(b"hello"))
    assert [b"Range" in head for head in answers.requests] == [True, False]
    answers.answer = lambda head, body: answer(b"Range", b"")
    (found,) = asked(gateway, ranged)
    assert found.status == 502


def test_heads_alone_have_no_stages_and_no_length_that_would_be_wrong(gateway: MemoryGateway) -> None:
    made = Of(Heard)
    use(gateway, made, match="direction:response")
    gateway.origin("origin.test:80", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
    (found,) = asked(gateway, GET.replace(b"GET", b"HEAD"), None, b"HEAD")
    assert found.status == 200
    assert framing(found.head) == []
    gateway.origin("other.test:80", b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\n\r\n')
    client = gateway.client()
    client.send(GET.replace(b"origin.test", b"other.test"))
    gateway.pump()
    got = client.take()
    assert got.startswith(b"HTTP/1.1 304 ")
    assert b'W/"x"' in got
    assert [stage.heard for stage in made.made if isinstance(stage, Heard)] == [[], []]


def test_inside_tls_it_is_the_same(loop: Loop) -> None:
    gateway = MemoryGateway(loop, CLIENT_FIRST)
    gateway.origin("origin.test:443", tls=gateway.leaf("origin.test"))
    use(gateway, Of(Double), match="direction:response")
    client = intercepted(gateway)
    for _ in range(3):
        assert get(gateway, client).body == twice(b"hello")
    assert len(gateway.connector.origins.popitem()[1].peers) == 1


# requests


@pytest.mark.parametrize("chunked", [True, False])
def test_a_request_of_unknown_length_is_chunked(gateway: MemoryGateway, chunked: bool) -> None:
    answers = Answers(OK)
    gateway.origin("origin.test:80", answers)
    use(gateway, Of(Double), match="direction:request")
    client = gateway.client()
    raw = UPLOAD if chunked else POST + b"Content-Length: 11\r\n\r\nhello world"
    for piece in (raw[:-20], raw[-20:-12], raw[-12:]) if chunked else (raw[:-6], raw[-6:]):
        client.send(piece)
        gateway.pump()
    assert responses(client.take())[0].status == 200
    (head,) = answers.requests
    assert framing(head) == [b"transfer-encoding: chunked"]
    assert unchunked(answers.bodies[0])[0] == twice(b"hello world")
    line = gateway.transactions()[-1]
    assert line["bytes_in"] == len(raw)


def test_a_request_that_ends_in_its_first_turn_has_a_length(gateway: MemoryGateway) -> None:
    answers = Answers(OK)
    gateway.origin("origin.test:80", answers)
    use(gateway, Of(Double), match="direction:request")
    asked(gateway, UPLOAD)
    assert framing(answers.requests[0]) == [b"content-length: 22"]
    assert answers.bodies == [twice(b"hello world")]


def test_a_stage_may_want_raw_chunks_and_must_say_how_many_bytes_it_gives(gateway: MemoryGateway) -> None:
    """T6.3"""
    answers = Answers(OK)
    gateway.origin("origin.test:80", answers)
    raw = Of(Collect, Sees.CHUNKS)
    use(gateway, raw, match="direction:request")
    client = gateway.client()
    for at in range(0, len(UPLOAD), 7):
        client.send(UPLOAD[at : at + 7])
        gateway.pump()
    assert responses(client.take())[0].status == 200
    assert framing(answers.requests[0]) == [b"transfer-encoding: chunked"]
    assert answers.bodies == [UPLOAD.partition(b"\r\n\r\n")[2]]
    assert isinstance(raw.made[0], Collect)
    assert raw.made[0].kept == answers.bodies[0]
    use(gateway, Of(Null, Sees.CHUNKS), match="direction:request")
    client = gateway.client()
    client.send(UPLOAD[:-5])
    gateway.pump()
    assert responses(client.take())[0].status == 500
    assert len(answers.requests) == 1
    assert gateway.transactions()[-1]["error"] == "transform"


def test_a_stage_of_raw_chunks_that_breaks_them_breaks_the_request(gateway: MemoryGateway) -> None:
    class Wrong(Collect):
        def finish(self) -> Later:
            self.kept = b"zz\r\n" + self.kept
            return super().finish()

    answers = Answers(OK)
    gateway.origin("origin.test:80", answers)
    use(gateway, Of(Wrong, Sees.CHUNKS), match="direction:request")
    (found,) = asked(gateway, UPLOAD)
    assert found.status == 500
    assert gateway.transactions()[-1]["error"] == "transform"
    assert answers.requests == []


def test_nothing_is_taken_from_a_client_before_its_server_is_reached(gateway: MemoryGateway) -> None:
    """TS-4044"""
    gateway.origin("origin.test:80")
    held: list[Callable[[], None]] = []
    gateway.connector.held = held
    made = Of(Heard)
    use(gateway, made, match="direction:request")
    client = gateway.client()
    client.send(POST + b"Content-Length: 5\r\n\r\nhello")
    gateway.pump()
    assert isinstance(made.made[0], Heard)
    assert made.made[0].heard == []
    for go_on in held:
        go_on()
    gateway.connector.held = None
    gateway.pump()
    assert made.made[0].heard == ["expect 5", "finish"]
    assert responses(client.take())[0].status == 200


def test_a_server_that_leaves_while_a_stage_thinks_is_replaced(gateway: MemoryGateway) -> None:
    origin = gateway.origin("origin.test:80", Answers(OK))
    client = gateway.client()
    asked(gateway, GET, client)

    class Late(Transform):
        waiting: Deferred[None] = Deferred()

        def finish(self) -> Later:
            self.waiting.addCallback(lambda _: self.output.finish())
            return self.waiting

        def write(self, data: bytes) -> Later:
            self.kept = data
            self.waiting.addCallback(lambda _: self.output.write(data))
            return None

    use(gateway, Of(Late), match="direction:request")
    client.send(POST + b"Content-Length: 5\r\n\r\nhello")
    gateway.pump()
    origin.last.close()
    gateway.pump()
    Late.waiting.callback(None)
    gateway.pump()
    assert [one.status for one in responses(client.take())] == [200]
    assert len(origin.peers) == 2
    assert isinstance(origin.respond, Answers)
    assert origin.respond.bodies == [b"", b"hello"]


def test_a_client_that_waits_for_leave_gets_it_from_us(gateway: MemoryGateway) -> None:
    answers = Answers(OK)
    gateway.origin("origin.test:80", answers)
    use(gateway, Of(Double), match="direction:request")
    client = gateway.client()
    client.send(POST + b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\n")
    gateway.pump()
    assert client.take() == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.send(b"hello")
    gateway.pump()
    assert responses(client.take())[0].status == 200
    assert b"Expect" not in answers.requests[0]
    assert answers.bodies == [twice(b"hello")]


def test_a_request_that_breaks_off_reaches_nobody_as_a_whole(gateway: MemoryGateway) -> None:
    heard = Of(Heard)
    origin = gateway.origin("origin.test:80", silent)
    use(gateway, heard, match="direction:request")
    client = gateway.client()
    client.send(POST + b"Content-Length: 50\r\n\r\nhello")
    gateway.pump()
    client.finish()
    gateway.pump()
    assert origin.last.ended
    assert isinstance(heard.made[0], Heard)
    assert heard.made[0].heard == ["expect 50", "abort"]
    assert gateway.transactions()[-1]["error"] is not None


def test_a_request_in_a_broken_coding_is_the_clients_fault(gateway: MemoryGateway) -> None:
    origin = gateway.origin("origin.test:80")
    use(gateway, Of(Null), match="direction:request")
    (found,) = asked(gateway, POST + b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello")
    assert found.status == 400
    assert origin.peers[0].got == b""


def test_a_stage_that_breaks_an_upload_is_a_page_and_the_origin_is_left(gateway: MemoryGateway) -> None:
    origin = gateway.origin("origin.test:80", silent)
    use(gateway, Of(lambda: Breaks(5)), match="direction:request")
    client = gateway.client()
    client.send(POST + b"Content-Length: 50\r\n\r\nhello")
    gateway.pump()
    client.send(b"more")
    gateway.pump()
    assert responses(client.take())[0].status == 500
    assert origin.last.was_cut
    gateway.loop.failures.clear()


@pytest.mark.parametrize("match", ["direction:request method:POST", "method:POST"])
def test_an_origin_that_answers_while_a_stage_holds_the_request_is_not_kept(gateway: MemoryGateway, match: str) -> None:
    """What is missing of the request would be taken from the next one."""

    class Last(Transform):
        """Holds the end back."""

        def finish(self) -> Later:
            return Deferred()

    origin = gateway.origin("origin.test:80", silent)
    stages = iter([Last(), Null()])
    use(gateway, Of(lambda: next(stages)), match=match)
    client = gateway.client()
    client.send(UPLOAD[:-16])
    gateway.pump()
    client.send(UPLOAD[-16:])
    gateway.pump()
    assert origin.last.got.endswith(b"6\r\n world\r\n")
    origin.last.send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
    gateway.pump()
    assert responses(client.take())[0].status == 413
    assert origin.last.ended
    origin.respond = Answers(OK)
    assert asked(gateway, GET, client)[0].status == 200
    assert len(origin.peers) == 2


def test_a_client_that_sends_ahead_is_bounded_while_a_stage_begins(gateway: MemoryGateway) -> None:
    gateway.origin("origin.test:80", silent)
    use(gateway, Of(Null), match="direction:request")
    client = gateway.client()
    client.send((POST + b"Content-Length: 0\r\n\r\n") * 40000)
    gateway.pump()
    assert client.vc.tcp.read < 700_000


def test_an_origin_that_answers_early_is_believed(gateway: MemoryGateway) -> None:
    origin = gateway.origin("origin.test:80", silent)
    use(gateway, Of(Double), match="direction:request")
    client = gateway.client()
    client.send(POST + b"Content-Length: 5000\r\n\r\nhello")
    gateway.pump()
    origin.last.send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
    gateway.pump()
    assert responses(client.take())[0].status == 413
    client.send(bytes(4995))
    client.close()
    gateway.pump()


def test_a_stage_that_has_enough_of_a_request_ends_it(gateway: MemoryGateway) -> None:
    answers = Answers(OK)
    gateway.origin("origin.test:80", answers)
    use(gateway, Of(lambda: First(3)), match="direction:request")
    client = gateway.client()
    client.send(POST + b"Content-Length: 5000\r\n\r\nhello")
    gateway.pump()
    assert (answers.bodies, framing(answers.requests[0])) == ([b"hel"], [b"content-length: 3"])
    assert responses(client.take())[0].status == 200
    client.send(bytes(4995))
    gateway.pump()
    client.close()


def test_both_directions_at_once_each_with_its_own_chain(gateway: MemoryGateway) -> None:
    answers = Answers(lambda head, body: b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    gateway.origin("origin.test:80", answers)
    use(gateway, Of(Double))
    client = gateway.client()
    for _ in range(3):
        (found,) = asked(gateway, POST + b"Content-Length: 2\r\n\r\nab", client)
        assert found.body == twice(twice(b"ab"))


# answers, heads, and who is not asked


def test_a_transform_answers_in_the_place_of_the_origin(gateway: MemoryGateway) -> None:
    class Elsewhere(Transformer):
        def transform(self, message: Message) -> None:
            message.answer(302, {b"Location": b"https://elsewhere.test/"}, b"gone")
            message.note("elsewhere", message.url)

    origin = gateway.origin("origin.test:80")
    client = gateway.client()
    for direction, count in (("request", 0), ("response", 1)):
        use(gateway, Elsewhere(), match=f"direction:{direction}")
        for _ in range(2):
            (found,) = asked(gateway, GET, client)
            assert (found.status, found.body) == (302, b"gone")
            assert b"Location: https://elsewhere.test/" in found.head
        assert len(origin.peers) == count
        assert gateway.transactions()[-1]["notes"] == {"elsewhere": "http://origin.test/"}
    (found,) = asked(gateway, GET.replace(b"GET", b"HEAD"), client, b"HEAD")
    assert found.status == 302
    (found,) = asked(gateway, POST + b"Content-Length: 3\r\n\r\nabc", client)
    assert found.status == 302


def test_a_connection_that_has_switched_is_not_kept_when_a_transform_answers_instead(gateway: MemoryGateway) -> None:
    class No(Transformer):
        def transform(self, message: Message) -> None:
            message.answer(403, {}, b"no")

    origin = gateway.origin("origin.test:80", silent)
    use(gateway, No(), match="direction:response")
    client = gateway.client()
    client.send(GET[:-2] + b"Connection: upgrade\r\nUpgrade: other\r\n\r\n")
    gateway.pump()
    origin.last.send(b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n")
    gateway.pump()
    assert responses(client.take())[0].status == 403
    assert origin.last.ended


def test_heads_are_changed_both_ways(gateway: MemoryGateway) -> None:
    class Marks(Transformer):
        def transform(self, message: Message) -> None:
            message.set(b"X-Way", message.direction.value.encode())
            if message.response is not None:
                message.response.status = 299

    answers = Answers(OK)
    gateway.origin("origin.test:80", answers)
    use(gateway, Marks())
    (found,) = asked(gateway, GET)
    assert found.status == 299
    assert b"X-Way: response" in found.head
    assert b"X-Way: request" in answers.requests[0]
    assert answers.requests[0].count(b"Host: ") == 1


def test_a_transformer_that_fails_costs_its_transaction_only(gateway: MemoryGateway) -> None:
    class Fails(Transformer):
        def transform(self, message: Message) -> None:
            if message.path == "/bad" or (message.direction is Direction.RESPONSE and message.path == "/late"):
                raise RuntimeError("as the test wants it")

    gateway.origin("origin.test:80")
    use(gateway, Fails())
    client = gateway.client()
    for path, status in (("/", 200), ("/bad", 500), ("/", 200), ("/late", 500), ("/", 200)):
        (found,) = asked(gateway, GET.replace(b"test/ ", b"test%b " % path.encode()), client)
        assert found.status == status
    gateway.loop.failures.clear()


def test_what_is_not_selected_goes_its_usual_way(gateway: MemoryGateway) -> None:
    made = Of(Null)
    use(gateway, made, match="host:other.test")
    gateway.origin("origin.test:80")
    assert asked(gateway, GET)[0].body == b"hello"
    assert made.made == []
    assert "notes" not in gateway.transactions()[-1]


def test_a_kept_connection_that_died_is_tried_again(gateway: MemoryGateway) -> None:
    class Dying(Answers):
        def __call__(self, peer: Peer) -> None:
            if peer.used and len(peer.got) > peer.used:
                peer.close()
            else:
                super().__call__(peer)

    origin = gateway.origin("origin.test:80", Dying(OK))
    use(gateway, Of(Double), match="direction:response")
    client = gateway.client()
    for _ in range(2):
        assert asked(gateway, GET, client)[0].body == twice(b"hello")
    assert len(origin.peers) == 2


def test_a_stage_that_thinks_for_too_long_is_broken_off(gateway: MemoryGateway, loop: Loop) -> None:
    class Never(Transform):
        def finish(self) -> Later:
            return Deferred()

        def write(self, data: bytes) -> Later:
            return None

    gateway.origin("origin.test:80")
    use(gateway, Of(Never), match="direction:response")
    client = gateway.client()
    client.send(GET)
    gateway.pump()
    loop.pass_time(61)
    gateway.pump()
    (found,) = responses(client.take())
    assert (found.status, b"gave nothing for 60 s" in found.body) == (500, True)


def test_errors_of_stages_have_a_kind_of_their_own() -> None:
    assert StageError("x", where="y", remedy="z").kind == "transform"


def test_a_head_with_a_range_is_not_a_piece_and_trailers_are_not_promised(gateway: MemoryGateway) -> None:
    use(gateway, Of(Double), match="direction:response")
    gateway.origin("origin.test:80", b"HTTP/1.1 206 Partial Content\r\nContent-Length: 2\r\n\r\n")
    ranged = GET[:-2] + b"Range: bytes=0-1\r\n\r\n"
    (found,) = asked(gateway, ranged.replace(b"GET", b"HEAD"), None, b"HEAD")
    assert found.status == 206
    gateway.origin("other.test:80", CHUNKED.replace(b"chunked\r\n", b"chunked\r\nTrailer: X-T\r\n", 1))
    (found,) = asked(gateway, GET.replace(b"origin.test", b"other.test"))
    assert found.body == twice(b"hello world")
    assert b"Trailer" not in found.head


@pytest.mark.parametrize("genuine", [True, False])
def test_no_body_is_taken_for_an_origin_that_is_not_genuine(loop: Loop, genuine: bool) -> None:
    gateway = MemoryGateway(loop, CLIENT_FIRST)
    leaf = gateway.leaf("origin.test" if genuine else "another.test")
    gateway.origin("origin.test:443", Answers(OK), tls=leaf)
    made = Of(Heard)
    use(gateway, made, match="direction:request")
    client = intercepted(gateway)
    client.send(b"POST / HTTP/1.1\r\nHost: origin.test\r\nContent-Length: 5\r\n\r\nhello")
    gateway.pump()
    assert responses(client.take())[0].status == (200 if genuine else 502)
    assert isinstance(made.made[0], Heard)
    assert made.made[0].heard == (["expect 5", "finish"] if genuine else [])
    assert bytes(made.made[0].got) == (b"hello" if genuine else b"")

"""Which transforms a message gets, in which order, and what of them is welcome."""

from __future__ import annotations

import gzip
from collections.abc import Callable

import pytest
from twisted.logger import capturedLogs

from sslintercept.errors import InterceptError, MessageError
from sslintercept.http.head import read_response
from sslintercept.rule.match import Match, parse_with
from sslintercept.testing.transform import Exchange, PipeLoop, a_message, request_head, some_facts
from sslintercept.transform.arrange import Bounds, Sees
from sslintercept.transform.coding import UnknownCoding
from sslintercept.transform.message import Message
from sslintercept.transform.processor import (
    Entry,
    Partial,
    Stages,
    Transformer,
    Transforming,
    TransformProcessor,
    forbids,
)
from sslintercept.transform.recode import Reader
from sslintercept.transform.select import CONDITIONS_OF_MESSAGES
from sslintercept.transform.stage import StageError, Transform

Part = Transform | Reader | None


def match(text: str) -> Match[Message]:
    return parse_with(CONDITIONS_OF_MESSAGES, text)


class Append(Transform):
    def __init__(self, what: bytes) -> None:
        self.what = what

    def finish(self) -> None:
        self.output.write(self.what)
        self.output.finish()


class Seen:
    def __init__(self) -> None:
        self.got = b""

    def write(self, data: bytes) -> None:
        self.got += data

    def finish(self, whole: bool) -> None:
        self.whole = whole


class Made(Transformer):
    """A transformer out of a function; it remembers what it was asked for."""

    def __init__(
        self,
        make: Callable[[Message], Part] = lambda message: None,
        *,
        sees: Sees = Sees.CONTENT,
        changes: bool = True,
        partial: bool = False,
    ) -> None:
        self.make, self.asked = make, list[Message]()
        self.sees, self.changes, self.partial = sees, changes, partial

    def transform(self, message: Message) -> Part:
        self.asked.append(message)
        return self.make(message)


def appending(what: bytes, **how: bool) -> Made:
    return Made(lambda message: Append(what), **how)  # type: ignore[arg-type]  # only bools are given


def processor(*entries: tuple[str, Transformer]) -> TransformProcessor:
    made = [Entry(f"t{at}", match(text), transformer) for at, (text, transformer) in enumerate(entries, 1)]
    return TransformProcessor(made, Bounds(200, 1024 * 1024), PipeLoop())


def begin(*entries: tuple[str, Transformer], method: str = "GET") -> Transforming | None:
    transforming = processor(*entries).select(request_head("https://www.example/", method, {}), some_facts())
    if transforming is not None:
        transforming.start()
    return transforming


class Plain(Transformer):
    """As a plugin's author begins."""

    def transform(self, message: Message) -> Append:
        return Append(b"!")


# -- who is asked --------------------------------------------------------------------------------------------------


def test_a_transaction_that_no_transform_gets_costs_nothing_more() -> None:
    made = Made()
    assert begin() is None
    assert begin(("host:other.example", made), ("method:POST direction:response", made)) is None
    assert made.asked == []


def test_transforms_are_asked_once_a_message_in_their_order() -> None:
    order: list[str] = []

    def named(name: str) -> Made:
        return Made(lambda message: order.append(f"{name} {message.direction.value}"))

    exchange = Exchange(named("a"), named("b"))
    exchange.respond()
    assert order == ["a request", "b request", "a response", "b response"]


def test_a_transform_of_responses_does_not_hear_of_requests() -> None:
    made = Made()
    exchange = Exchange(made, match=match("status:2xx type:text/html"))
    assert made.asked == []
    exchange.respond(404, {"Content-Type": "text/html"})
    assert made.asked == []
    exchange.respond(200, {"Content-Type": "text/html"})
    assert [message.head for message in made.asked] == [exchange.head.head]


def test_a_transform_of_bodies_alone_is_asked_of_nothing_else() -> None:
    made = Made()
    made.only_bodies = True
    found = Exchange(made).transforming
    assert found is not None
    for status, fields, passes in (
        (204, "", True),
        (101, "Upgrade: websocket\r\nConnection: upgrade\r\n", False),
    ):
        assert found.passes(read_response(f"HTTP/1.1 {status} X\r\n{fields}\r\n".encode(), b"GET")) is passes
    assert made.asked == []
    Exchange(made, url="https://www.example/?q=1")
    Exchange(made, method="POST")
    Exchange(made, Made())
    assert [message.request.method for message in made.asked] == [b"GET", b"POST", b"GET"]


def test_what_is_unknown_when_a_message_comes_counts_as_absent() -> None:
    made = Made()
    exchange = Exchange(made, match=match("!protocol:ssh !sni:other.example"))
    assert len(made.asked) == 1
    exchange.respond()
    assert len(made.asked) == 2


def test_request_and_response_share_their_notes_and_facts() -> None:
    made = Made(lambda message: message.note(message.direction.value, "seen"))
    exchange = Exchange(made)
    exchange.respond()
    assert exchange.notes == {"request": "seen", "response": "seen"}
    assert made.asked[0].facts is made.asked[1].facts
    assert made.asked[1].request is made.asked[0].request


@pytest.mark.parametrize(
    ("method", "fields", "has_body"),
    [
        ("GET", {}, False),
        ("GET", {"Content-Length": "1"}, True),
        ("DELETE", {}, False),
        ("POST", {"Content-Length": "0"}, True),
        ("PUT", {"Transfer-Encoding": "chunked"}, True),
        ("PATCH", {}, True),
    ],
)
def test_a_request_has_a_body_if_it_says_so_or_its_method_does(
    method: str, fields: dict[str, str], has_body: bool
) -> None:
    exchange = Exchange(appending(b"!"), method=method, fields=fields)
    assert exchange.request.has_body is has_body
    assert bool(exchange.request_stages) is has_body


# -- what becomes of a body ----------------------------------------------------------------------------------------


def test_stages_of_several_transforms_stand_in_their_order() -> None:
    exchange = Exchange(appending(b"1"), appending(b"2"))
    pipe = exchange.respond()
    pipe.send(b"body ")
    assert pipe.got == b"body 12"


def test_a_body_that_nobody_wants_goes_through_nothing() -> None:
    exchange = Exchange(Made(), method="POST", fields={"Transfer-Encoding": "chunked"})
    assert exchange.transforming is not None
    assert exchange.transforming.stages == Stages((), raw_in=False, raw_out=False)
    exchange.respond(fields={"ETag": '"1"', "Content-Encoding": "gzip"})
    assert exchange.stages == []
    assert exchange.head.head.fields == [(b"ETag", b'"1"'), (b"Content-Encoding", b"gzip")]


def test_a_request_is_transformed_before_it_is_forwarded() -> None:
    exchange = Exchange(appending(b"!"), method="POST", fields={"Content-Length": "4"})
    pipe = exchange.upload()
    pipe.send(b"body")
    assert pipe.got == b"body!"


def test_raw_chunks_are_given_to_the_first_that_wants_them() -> None:
    raw = Exchange(
        Made(lambda message: Append(b""), sees=Sees.CHUNKS), method="POST", fields={"Transfer-Encoding": "chunked"}
    )
    assert raw.transforming is not None
    assert raw.transforming.stages.raw_in
    assert raw.transforming.stages.raw_out


@pytest.mark.parametrize("changes", [True, False])
def test_validators_are_weakened_by_stages_that_may_change_content(changes: bool) -> None:
    exchange = Exchange(appending(b"!", changes=changes))
    exchange.respond(fields={"ETag": '"1"', "Accept-Ranges": "bytes"})
    kept = [(b"ETag", b'W/"1"')] if changes else [(b"ETag", b'"1"'), (b"Accept-Ranges", b"bytes")]
    assert exchange.head.head.fields == kept


def test_a_reader_changes_nothing_whatever_its_transform_says() -> None:
    seen = Seen()
    exchange = Exchange(Made(lambda message: seen, changes=True))
    pipe = exchange.respond(fields={"ETag": '"1"', "Cache-Control": "no-transform"})
    pipe.send(b"body")
    assert (pipe.got, seen.got, seen.whole) == (b"body", b"body", True)
    assert exchange.head.get(b"ETag") == b'"1"'


def test_a_body_that_is_only_spoken_of_is_spoken_of_as_it_would_be() -> None:
    exchange = Exchange(appending(b"!"), method="HEAD", fields={"Accept-Encoding": "br"})
    exchange.respond(fields={"ETag": '"1"', "Content-Length": "5", "Content-Encoding": "gzip"})
    assert exchange.stages == []
    assert exchange.head.get(b"Content-Length") is None
    assert exchange.head.get(b"ETag") == b'W/"1"'
    assert exchange.head.get(b"Content-Encoding") == b"br"
    assert exchange.head.get(b"Vary") == b"Accept-Encoding"


# -- no-transform --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "answer"),
    [
        (None, False),
        ("no-transform", True),
        ("max-age=1, No-Transform", True),
        ("no-transform=1", False),
        ("x-no-transform", False),
    ],
)
def test_a_sender_may_forbid_changes(value: str | None, answer: bool) -> None:
    assert forbids(a_message(fields={} if value is None else {"Cache-Control": value})) is answer


def test_what_may_not_be_changed_passes_unless_the_settings_say_otherwise() -> None:
    fields = {"Cache-Control": "no-transform", "ETag": '"1"'}
    asked = Exchange(appending(b"!"))
    asked.respond(fields=fields)
    assert asked.stages == []
    assert asked.head.get(b"ETag") == b'"1"'
    pipe = Exchange(appending(b"!"), respect_no_transform=False).respond(fields=fields)
    pipe.send(b"body")
    assert pipe.got == b"body!"


def test_what_may_not_be_changed_can_still_be_delayed() -> None:
    exchange = Exchange(appending(b"", changes=False))
    exchange.respond(fields={"Cache-Control": "no-transform"})
    assert len(exchange.stages) == 1


# -- codings -------------------------------------------------------------------------------------------------------


def test_an_origin_is_asked_for_codings_that_can_be_read_while_the_client_gets_what_it_accepts() -> None:
    exchange = Exchange(appending(b"!"), fields={"Accept-Encoding": "dcb, br;q=0.5"})
    assert exchange.request.get(b"Accept-Encoding") == b"br;q=0.5"
    exchange.respond(fields={"Content-Encoding": "gzip"})
    assert exchange.head.get(b"Content-Encoding") == b"br"


def test_an_origin_is_asked_as_the_client_asks_if_nobody_gets_the_response() -> None:
    exchange = Exchange(appending(b"!"), fields={"Accept-Encoding": "dcb, br"}, match=match("direction:request"))
    assert exchange.request.get(b"Accept-Encoding") == b"dcb, br"


def test_a_client_that_accepts_nothing_special_is_not_made_to() -> None:
    exchange = Exchange(appending(b"!"))
    assert exchange.request.get(b"Accept-Encoding") is None


@pytest.mark.parametrize("coding", ["compress", "gzip, exi", "gzip,gzip,gzip,gzip,gzip"])
def test_a_coding_nobody_can_take_off_passes_with_a_note(coding: str) -> None:
    exchange = Exchange(appending(b"!"))
    exchange.respond(fields={"Content-Encoding": coding, "ETag": '"1"'})
    assert exchange.stages == []
    assert exchange.notes["t1"].startswith("not applied to content coding ")
    assert exchange.head.get(b"ETag") == b'"1"'


@pytest.mark.parametrize("coding", ["compress", "gzip,gzip,gzip,gzip,gzip"])
def test_a_coding_nobody_can_take_off_is_blocked_if_the_settings_say_so(coding: str) -> None:
    with pytest.raises(UnknownCoding):
        Exchange(appending(b"!"), block_unknown_coding=True).respond(fields={"Content-Encoding": coding})


def test_a_reader_does_without_a_body_that_it_cannot_read() -> None:
    exchange = Exchange(Made(lambda message: Seen()))
    exchange.respond(fields={"Content-Encoding": "compress"})
    assert exchange.stages == []
    assert "t1" in exchange.notes


def test_a_stage_that_sees_coded_content_needs_to_know_no_coding() -> None:
    exchange = Exchange(Made(lambda message: Append(b"!"), sees=Sees.CODED), block_unknown_coding=True)
    pipe = exchange.respond(fields={"Content-Encoding": "compress"})
    pipe.send(b"body")
    assert pipe.got == b"body!"


def test_a_coded_body_is_plain_to_its_stage() -> None:
    exchange = Exchange(appending(b" world"), fields={"Accept-Encoding": "gzip"})
    pipe = exchange.respond(fields={"Content-Encoding": "gzip"})
    pipe.send(gzip.compress(b"hello"))
    assert gzip.decompress(pipe.got) == b"hello world"


# -- pieces --------------------------------------------------------------------------------------------------------


def test_a_piece_is_not_enough_for_a_transform_that_needs_all() -> None:
    for needs in (appending(b"!"), Made(lambda message: Seen())):
        exchange = Exchange(appending(b"!", partial=True), needs)
        with pytest.raises(Partial):
            exchange.respond(206)
        pipe = exchange.respond(200)
        pipe.send(b"whole")
        assert pipe.got.startswith(b"whole!")


def test_a_transform_that_declares_nothing_sees_all_of_plain_content_and_changes_it() -> None:
    exchange = Exchange(Plain(), fields={"Accept-Encoding": "gzip"})
    pipe = exchange.respond(fields={"Content-Encoding": "gzip", "ETag": '"1"', "Digest": "x"})
    pipe.send(gzip.compress(b"body"))
    assert gzip.decompress(pipe.got) == b"body!"
    plain = Exchange(Plain())
    plain.respond(fields={"ETag": '"1"', "Digest": "x"})
    assert plain.head.head.fields == [(b"ETag", b'W/"1"')]
    with pytest.raises(Partial):
        plain.respond(206)


def test_a_piece_is_enough_where_nobody_wants_the_body() -> None:
    exchange = Exchange(Made(lambda message: message.set(b"X", b"y")))
    exchange.respond(206)
    assert exchange.head.get(b"X") == b"y"
    forbidden = Exchange(appending(b"!"))
    forbidden.respond(206, {"Cache-Control": "no-transform"})
    assert forbidden.stages == []


def test_a_piece_is_enough_for_a_transform_that_can_do_with_it() -> None:
    pipe = Exchange(appending(b"!", partial=True)).respond(206, {"Content-Encoding": "compress"})
    pipe.send(b"piece")
    assert pipe.got == b"piece!"


def test_a_transform_that_does_not_match_asks_for_nothing() -> None:
    exchange = Exchange(Made(), match=match("status:200"))
    exchange.respond(206)
    assert exchange.stages == []


# -- answers and refusals ------------------------------------------------------------------------------------------


def test_an_answer_ends_the_row_and_nothing_is_forwarded() -> None:
    before, after = appending(b"!"), Made()
    answers = Made(lambda message: message.answer(403, {b"X": b"y"}, b"no"))
    exchange = Exchange(before, answers, after, method="POST", fields={"Accept-Encoding": "dcb"})
    assert exchange.answer is not None
    assert exchange.answer.status == 403
    assert exchange.request_stages == []
    assert after.asked == []
    assert exchange.request.get(b"Accept-Encoding") == b"dcb"


def test_a_response_may_be_answered_otherwise() -> None:
    def answer(message: Message) -> None:
        if message.response is not None:
            message.answer(451)

    exchange = Exchange(appending(b"!"), Made(answer))
    assert exchange.answer is None
    exchange.respond(fields={"ETag": '"1"'})
    assert exchange.answer is not None
    assert exchange.answer.status == 451
    assert exchange.stages == []


def test_a_refusal_is_the_transforms_own_error() -> None:
    def refuse(message: Message) -> None:
        raise MessageError("too much", where="test", status=413)

    with pytest.raises(MessageError, match="too much"):
        Exchange(Made(refuse))


def test_a_transform_that_raises_is_named_and_logged_and_nothing_of_it_is_shown() -> None:
    def fail(message: Message) -> None:
        raise ZeroDivisionError("secret")

    with capturedLogs() as events, pytest.raises(StageError) as caught:
        begin(("direction:request", Made()), ("", Made(fail)))
    assert str(caught.value) == "[transform:t2]: it failed (ZeroDivisionError); see the proxy's log"
    assert [event["log_format"] for event in events] == ["a transform failed"]


def test_a_transform_has_to_say_what_it_does() -> None:
    with pytest.raises(NotImplementedError):
        Transformer().transform(a_message())
    with pytest.raises(InterceptError, match="NotImplementedError"):
        Exchange(Transformer())

"""Bodies of HTTP under inspection, in a whole gateway in memory."""

from __future__ import annotations

import gzip
import zlib

import pytest

from sslintercept.testing.gateway import Answers, MemoryGateway, silent
from sslintercept.testing.loop import Loop
from tests.http.test_session import GET, POST, asked
from tests.http.test_sm import dying
from tests.inspect.stubs import Word, WordLook
from tests.sequences.support import CLIENT_FIRST, get, intercepted, responses

EVIL = "[inspect:one]\nuse = tests.inspect.stubs:evil\n"
HOLD = "[inspection]\nhold = 64KiB\n"
BIG = 300_000


def answer(body: bytes, fields: bytes = b"") -> bytes:
    """A response with a length."""
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%b\r\n%b" % (len(body), fields, body)


def download(loop: Loop, ini: str, raw: bytes, request: bytes = GET) -> tuple[MemoryGateway, list[object]]:
    gateway = MemoryGateway(loop, ini)
    gateway.origin("origin.test:80", raw)
    return gateway, list(asked(gateway, request))


def test_what_is_fine_passes_as_it_came(loop: Loop) -> None:
    gateway = MemoryGateway(loop, EVIL)
    gateway.origin("origin.test:80", answer(b"x" * BIG, b'ETag: "strong"\r\n'))
    (found,) = asked(gateway, GET)
    assert found.body == b"x" * BIG
    assert b"Content-Length: %d" % BIG in found.head
    assert b'ETag: "strong"' in found.head
    assert gateway.events.told == []


def test_what_is_bad_is_answered_with_a_page_that_names_the_event(loop: Loop) -> None:
    gateway = MemoryGateway(loop, EVIL)
    gateway.origin("origin.test:80", answer(b"an EVIL thing"))
    (found,) = asked(gateway, GET)
    (event,) = gateway.events.told
    assert found.status == 403
    assert b"EVIL" not in found.body
    assert event.id.encode() in found.head + found.body
    assert (event.act, event.inspector, event.name, event.direction) == ("block", "one", "Bad", "response")
    assert event.url == "http://origin.test/"
    assert gateway.transactions()[0]["error"] == "inspected"


def test_what_the_engine_wants_said_is_said_and_the_event_named(loop: Loop) -> None:
    gateway = MemoryGateway(loop, EVIL + "answer = yes\n")
    gateway.origin("origin.test:80", answer(b"an EVIL thing"))
    (found,) = asked(gateway, GET)
    (event,) = gateway.events.told
    assert (found.status, found.body) == (403, b"not that")
    assert b"X-By: the engine\r\n" in found.head
    assert f"Sslintercept-Event: {event.id}\r\n".encode() in found.head + b"\r\n"
    assert gateway.transactions()[0]["error"] == "inspected"


def test_the_same_inside_of_intercepted_tls(loop: Loop) -> None:
    gateway = MemoryGateway(loop, EVIL + CLIENT_FIRST)
    gateway.origin("origin.test:443", Answers(answer(b"an EVIL thing")), tls=gateway.leaf("origin.test"))
    client = intercepted(gateway)
    assert get(gateway, client).status == 403
    assert gateway.events.told[0].url == "https://origin.test/"


def test_a_bad_upload_does_not_reach_the_origin(loop: Loop) -> None:
    gateway = MemoryGateway(loop, EVIL)
    answers = Answers(answer(b"thanks"))
    gateway.origin("origin.test:80", answers)
    (found,) = asked(gateway, POST + b"Content-Length: 4\r\n\r\nEVIL")
    assert found.status == 403
    assert answers.requests == []
    assert gateway.events.told[0].direction == "request"


def test_a_match_leaves_the_others_alone(loop: Loop) -> None:
    gateway = MemoryGateway(loop, EVIL + "match = direction:upload\n")
    gateway.origin("origin.test:80", answer(b"EVIL"))
    (found,) = asked(gateway, GET)
    assert found.status == 200
    assert gateway.proxy.transforms is not None


def test_a_late_verdict_breaks_the_transfer_and_not_the_tail(loop: Loop) -> None:
    gateway = MemoryGateway(loop, EVIL + HOLD)
    gateway.origin("origin.test:80", silent)
    client = gateway.client()
    client.send(GET)
    gateway.pump()
    origin = gateway.connector.origins.popitem()[1].last
    origin.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (BIG + 4) + b"x" * BIG)
    gateway.pump()
    head, _, body = client.take().partition(b"\r\n\r\n")
    assert b"200 OK" in head
    assert BIG - 64 * 1024 <= len(body) < BIG
    origin.send(b"EVIL")
    gateway.pump()
    assert b"EVIL" not in client.take()
    assert client.ended
    assert len(gateway.events.told) == 1


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@pytest.mark.parametrize("content", [b"fine" * 1000, b"an EVIL thing"])
def test_codings_are_taken_off_for_the_inspector_alone(loop: Loop, coding: str, content: bytes) -> None:
    coded = gzip.compress(content) if coding == "gzip" else zlib.compress(content)
    gateway = MemoryGateway(loop, EVIL)
    gateway.origin("origin.test:80", answer(coded, b"Content-Encoding: %b\r\n" % coding.encode()))
    (found,) = asked(gateway, GET.replace(b"\r\n\r\n", b"\r\nAccept-Encoding: gzip, deflate\r\n\r\n"))
    if b"EVIL" in content:
        assert found.status == 403
    else:
        assert found.body == coded


@pytest.mark.parametrize(("policy", "status"), [("open", 200), ("closed", 503)])
def test_content_in_an_unknown_coding_is_left_to_the_policy(loop: Loop, policy: str, status: int) -> None:
    gateway = MemoryGateway(loop, EVIL + f"unreadable = {policy}\n")
    gateway.origin("origin.test:80", answer(b"coded", b"Content-Encoding: secret\r\n"))
    (found,) = asked(gateway, GET)
    assert found.status == status
    assert [each.name for each in gateway.events.told] == ["unknown_coding"]


def test_a_chunked_response_stays_one(loop: Loop) -> None:
    gateway = MemoryGateway(loop, EVIL + HOLD)
    size = 200_000
    raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (size, b"x" * size)
    gateway.origin("origin.test:80", raw)
    (found,) = asked(gateway, GET)
    assert found.body == b"x" * size


def test_a_head_alone_is_no_part(loop: Loop) -> None:
    gateway = MemoryGateway(loop, EVIL)
    gateway.origin("origin.test:80", Answers(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n"))
    (found,) = asked(gateway, GET.replace(b"GET", b"HEAD"), None, b"HEAD")
    assert found.status == 200
    assert b"Content-Length: 999" in found.head


def test_what_was_found_is_overwritten(loop: Loop) -> None:
    gateway = MemoryGateway(loop, EVIL + "act = redact\n")
    gateway.origin("origin.test:80", answer(gzip.compress(b"an EVIL thing"), b"Content-Encoding: gzip\r\n"))
    (found,) = asked(gateway, GET.replace(b"\r\n\r\n", b"\r\nAccept-Encoding: gzip\r\n\r\n"))
    assert gzip.decompress(found.body) == b"an **** thing"
    assert gateway.events.told[0].act == "redact"


def test_something_else_takes_its_place(loop: Loop) -> None:
    gateway = MemoryGateway(loop, EVIL + "act = replace\n")
    gateway.origin("origin.test:80", answer(b"an EVIL thing", b'ETag: "strong"\r\n'))
    (found,) = asked(gateway, GET)
    assert found.body == b"CLEAN"
    assert b"Content-Length: 5" in found.head
    assert b'ETag: W/"strong"' in found.head


def test_a_mark_stands_in_the_head(loop: Loop) -> None:
    gateway = MemoryGateway(loop, EVIL + "act = tag\n")
    gateway.origin("origin.test:80", answer(b"an EVIL thing"))
    (found,) = asked(gateway, GET)
    assert found.body == b"an EVIL thing"
    assert b"X-Sslintercept-Inspection: malware; Bad; score=7" in found.head


def test_what_is_reported_passes(loop: Loop) -> None:
    gateway = MemoryGateway(loop, EVIL + "act = report\n")
    gateway.origin("origin.test:80", answer(b"an EVIL thing"))
    (found,) = asked(gateway, GET)
    assert found.body == b"an EVIL thing"
    assert [each.act for each in gateway.events.told] == ["report"]


def test_a_copy_is_kept(loop: Loop) -> None:
    gateway = MemoryGateway(loop, EVIL + "act = quarantine\n")
    gateway.origin("origin.test:80", answer(b"an EVIL thing"))
    (found,) = asked(gateway, GET)
    assert found.status == 403
    (event,) = gateway.events.told
    assert gateway.events.quarantine.kept == {event.quarantine: b"an EVIL thing"}


def test_a_client_that_leaves_ends_the_inspection(loop: Loop) -> None:
    gateway = MemoryGateway(loop, EVIL)
    gateway.origin("origin.test:80", silent)
    client = gateway.client()
    client.send(GET)
    gateway.pump()
    origin = gateway.connector.origins.popitem()[1].last
    origin.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 600)
    gateway.pump()
    client.reset()
    gateway.pump()
    assert gateway.events.told == []
    assert gateway.inspection is not None
    assert gateway.inspection.budget.used == 0


def test_an_origin_that_breaks_off_is_passed_on_as_broken(loop: Loop) -> None:
    gateway = MemoryGateway(loop, EVIL)
    gateway.origin("origin.test:80", silent)
    client = gateway.client()
    client.send(GET)
    gateway.pump()
    origin = gateway.connector.origins.popitem()[1].last
    origin.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 600)
    origin.reset()
    gateway.pump()
    (found,) = responses(client.take())
    assert found.status == 502


def test_a_piece_of_a_resource_is_asked_for_as_a_whole(loop: Loop) -> None:
    gateway = MemoryGateway(loop, EVIL)

    def serve(head: bytes, body: bytes) -> bytes:
        if b"Range" in head:
            return b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 3-6/10\r\nContent-Length: 4\r\n\r\nEVIL"
        return answer(b"an EVIL th")

    gateway.origin("origin.test:80", Answers(serve))
    (found,) = asked(gateway, GET.replace(b"\r\n\r\n", b"\r\nRange: bytes=3-6\r\n\r\n"))
    assert found.status == 403


@pytest.mark.parametrize(
    ("fields", "path", "name"),
    [
        (b"", "/a/b/setup%20one.exe?x=/y.txt", "setup one.exe"),
        (b'Content-Disposition: attachment; filename="in\\\\voice.pdf"\r\n', "/x", "voice.pdf"),
        (b"Content-Disposition: attachment; filename*=UTF-8''na%C3%AFve.txt\r\n", "/x", "naïve.txt"),
        (b"Content-Disposition: attachment; filename=../../etc/passwd\r\n", "/x", "passwd"),
        (b"Content-Disposition: attachment; filename=a.txt; filename*=UTF-8''b.exe\r\n", "/x", "b.exe"),
        (b"Content-Disposition: attachment; filename*=iso-8859-1'en'%A3.exe; filename=a.txt\r\n", "/x", "£.exe"),
        (b"Content-Disposition: attachment; filename*=nobody''b.exe; filename=a.txt\r\n", "/x", "a.txt"),
        (
            b"Content-Disposition: attachment; filename=\"a; filename*=UTF-8''b.txt;.exe\"\r\n",
            "/x",
            "a; filename*=UTF-8''b.txt;.exe",
        ),
        (b'Content-Disposition: attachment; xfilename=a.txt; filename="b\\".exe"\r\n', "/x", 'b".exe'),
        (b"Content-Disposition: filename=a.exe\r\n", "/x", "a.exe"),
        (b"Content-Disposition: attachment\r\n", "/x.exe", "x.exe"),
        (b'Content-Disposition: attachment; filename="a.exe. "\r\n', "/x", "a.exe"),
        (b"Content-Disposition: attachment; filename=%b.exe\r\n" % (b"a" * 600), "/x", "a" * 508 + ".exe"),
        (b"", "/" + "a" * 600 + ".exe", "a" * 508 + ".exe"),
        (b"", "/", ""),
    ],
)
def test_a_name_is_what_the_sender_says(loop: Loop, fields: bytes, path: str, name: str) -> None:
    gateway = MemoryGateway(loop, EVIL + "act = report\n")
    gateway.origin("origin.test:80", answer(b"EVIL", fields))
    asked(gateway, GET.replace(b"origin.test/ ", b"origin.test" + path.encode() + b" "))
    assert gateway.events.told[0].part == name


@pytest.mark.parametrize(("first", "status"), [(b"EVIL", 403), (b"fine", 200)])
def test_what_is_decided_while_a_look_stops_the_part_counts_for_all_of_it(
    loop: Loop, first: bytes, status: int
) -> None:
    gateway = MemoryGateway(loop, "[inspect:one]\nuse = tests.inspect.stubs:halting\n")
    first += b"x" * 596
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in (first, b"y" * 700, b""))
    gateway.origin("origin.test:80", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
    client = gateway.client()
    assert asked(gateway, GET, client) == []
    loop.advance(1.1)
    gateway.pump()
    (found,) = responses(client.take())
    assert found.status == status
    assert (found.body == first + b"y" * 700) is (status == 200)


def looks_of(gateway: MemoryGateway) -> list[WordLook]:
    """All looks so far."""
    assert gateway.inspection is not None
    return [
        look
        for entry in gateway.inspection.entries
        if isinstance(entry.inspector, Word)
        for look in entry.inspector.looks
        if isinstance(look, WordLook)
    ]


@pytest.mark.parametrize("sent_by", ["client", "origin"])
def test_a_damaged_coding_ends_the_looks_that_have_begun(loop: Loop, sent_by: str) -> None:
    gateway = MemoryGateway(loop, EVIL)
    damaged = gzip.compress(bytes(range(256)) * 200, 0)[:-4] + b"oops"
    coded = b"Content-Encoding: gzip\r\n"
    if sent_by == "origin":
        gateway.origin("origin.test:80", answer(damaged, coded))
        (found,) = asked(gateway, GET)
    else:
        gateway.origin("origin.test:80", Answers(answer(b"thanks")))
        (found,) = asked(gateway, POST + coded + b"Content-Length: %d\r\n\r\n" % len(damaged) + damaged)
    assert found.status >= 400
    (look,) = looks_of(gateway)
    assert len(look.got) > 1000
    assert look.aborted


@pytest.mark.parametrize("act", ["block", "redact", "replace"])
def test_what_is_bad_in_an_unknown_coding_is_seen_as_it_came(loop: Loop, act: str) -> None:
    gateway = MemoryGateway(loop, EVIL + f"act = {act}\n")
    gateway.origin("origin.test:80", answer(b"an EVIL thing", b"Content-Encoding: none\r\n"))
    (found,) = asked(gateway, GET)
    assert [each.name for each in gateway.events.told] == ["unknown_coding", "Bad"]
    assert b"EVIL" not in found.body
    assert found.status == (403 if act == "block" else 200)


def test_a_piece_in_an_unknown_coding_is_told_of_once(loop: Loop) -> None:
    gateway = MemoryGateway(loop, EVIL)

    def serve(head: bytes, body: bytes) -> bytes:
        if b"Range" in head:
            return (
                b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 3-6/10\r\nContent-Encoding: none\r\n"
                b"Content-Length: 4\r\n\r\nEVIL"
            )
        return answer(b"an EVIL th", b"Content-Encoding: none\r\n")

    gateway.origin("origin.test:80", Answers(serve))
    (found,) = asked(gateway, GET.replace(b"\r\n\r\n", b"\r\nRange: bytes=3-6\r\n\r\n"))
    assert found.status == 403
    assert [each.name for each in gateway.events.told] == ["unknown_coding", "Bad"]


@pytest.mark.parametrize(
    ("act", "policy", "status"), [("raise", "open", 200), ("raise", "closed", 503), ("change", "open", 503)]
)
def test_a_glance_that_fails_leaves_the_part_to_the_policy(loop: Loop, act: str, policy: str, status: int) -> None:
    ini = (
        f"[inspect:one]\nuse = tests.inspect.stubs:glancing\nact = {act}\nfail = {policy}\nmatch = direction:download\n"
    )
    gateway = MemoryGateway(loop, ini)
    gateway.origin("origin.test:80", answer(b"a thing"))
    (found,) = asked(gateway, GET)
    assert found.status == status
    assert {each.kind for each in gateway.events.told} == {"failure"}


def test_what_is_asked_for_again_as_a_whole_is_glanced_at_once(loop: Loop) -> None:
    glances = "[inspect:two]\nuse = tests.inspect.stubs:glancing\nmatch = direction:download\n"
    gateway = MemoryGateway(loop, EVIL + glances)

    def serve(head: bytes, body: bytes) -> bytes:
        if b"Range" in head:
            return b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-3/4\r\nContent-Length: 4\r\n\r\nfine"
        return answer(b"fine")

    gateway.origin("origin.test:80", Answers(serve))
    (found,) = asked(gateway, GET.replace(b"\r\n\r\n", b"\r\nRange: bytes=0-3\r\n\r\n"))
    assert found.body == b"fine"
    assert [each.name for each in gateway.events.told] == ["Bad"]


ASKING = "[inspect:one]\nuse = tests.inspect.stubs:asking\nmatch = direction:upload\n"


def test_a_request_is_seen_before_the_cache_answers(loop: Loop) -> None:
    gateway = MemoryGateway(loop, ASKING + "[cache]\npath = cache\n")
    gateway.origin("origin.test:80", Answers(answer(b"kept", b"Cache-Control: max-age=100\r\n")))
    assert asked(gateway, GET)[0].status == 200
    (found,) = asked(gateway, GET.replace(b"\r\n\r\n", b"\r\nX-Who: EVIL\r\n\r\n"))
    assert found.status == 403
    (found,) = asked(gateway, GET)
    assert found.body == b"kept"
    assert b"fwd=bypass" in found.head


def test_a_request_whose_head_was_seen_goes_once_more_when_a_kept_connection_dies(loop: Loop) -> None:
    gateway = MemoryGateway(loop, ASKING)
    script = dying(gateway)
    client = gateway.client()
    assert asked(gateway, GET, client)[0].status == 200
    script.answer = lambda head, body: answer(b"here")
    assert asked(gateway, GET, client)[0].body == b"here"
    assert len(gateway.connector.origins.popitem()[1].peers) == 2
    assert gateway.inspection is not None
    inspector = gateway.inspection.entries[0].inspector
    assert isinstance(inspector, Word)
    assert len(inspector.looks) == 2


def test_nothing_of_a_piece_passes_before_it_was_looked_at(loop: Loop) -> None:
    gateway = MemoryGateway(loop, HOLD + EVIL + "early = yes\n")
    gateway.origin("origin.test:80", answer(b"EVIL" + b"x" * BIG))
    (found,) = asked(gateway, GET)
    assert found.status == 403

"""Downloads whose verdict takes long: pages, links, and everybody's end, in a whole gateway in memory."""

from __future__ import annotations

import errno
import gzip
import os
import re
from collections.abc import Callable, Iterator
from html import unescape
from pathlib import Path

import pytest

from sslintercept.facts import Address, Side
from sslintercept.http.room import MOST_OF_A_CLIENT, SWEEP, is_download
from sslintercept.http.waiting import KEPT, UNVISITED, shown_size
from sslintercept.testing.gateway import Answers, MemoryGateway, silent
from sslintercept.testing.loop import Loop
from sslintercept.testing.peer import Peer
from tests.http.test_session import asked
from tests.inspect.stubs import LateLook
from tests.sequences.support import CLIENT_FIRST, Response, intercepted, responses

INI = "[inspect:one]\nuse = tests.inspect.stubs:late\ntimeout = 1h\n"
WAIT = "[inspection]\nhold = 64KiB\nwaiting_page = 10s\n"
BIG = 300_000
CONTENT = bytes(range(256)) * (BIG // 256)
HTML = b"Accept: text/html,application/xhtml+xml;q=0.9,*/*;q=0.8\r\n"
ZIP = b"Content-Type: application/zip\r\n"

Make = Callable[..., MemoryGateway]


@pytest.fixture
def make(loop: Loop) -> Iterator[Make]:
    """Gateways whose origin says nothing by itself, and where nobody waits any more in the end."""
    made: list[MemoryGateway] = []

    def gateway(more: str = "", wait: str = WAIT) -> MemoryGateway:
        made.append(MemoryGateway(loop, INI + wait + more))
        made[-1].origin("origin.test:80", silent)
        return made[-1]

    yield gateway
    loop.pump()
    for each in made:
        each.waiting.close(now=True)
        assert len(each.waiting) == each.waiting.budget.used == 0


def request(target: bytes = b"/a/report.zip", fields: bytes = HTML, method: bytes = b"GET") -> bytes:
    return b"%b http://origin.test%b HTTP/1.1\r\nHost: origin.test\r\n%b\r\n" % (method, target, fields)


def begin(gateway: MemoryGateway, raw: bytes | None = None, client: Peer | None = None) -> tuple[Peer, Peer]:
    """A client that has asked, and the server connection that the request came to."""
    client = client or gateway.client()
    client.send(raw or request())
    gateway.pump()
    return client, gateway.connector.origins[Address("origin.test", 80)].last


def head(size: int, fields: bytes = ZIP) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%b\r\n" % (size, fields)


def look(gateway: MemoryGateway) -> LateLook:
    assert gateway.inspection is not None
    found = gateway.inspection.entries[0].inspector.looks[-1]  # type: ignore[attr-defined]  # a stub
    assert isinstance(found, LateLook)
    return found


def page(gateway: MemoryGateway, client: Peer, *, ready: bool = False) -> str:
    """Where the page leads that a client has just got."""
    (found,) = responses(client.take())
    return leads(found, ready=ready)


def leads(found: Response, *, ready: bool = False) -> str:
    assert found.status == (200 if ready else 503)
    assert b"X-Content-Type-Options: nosniff" in found.head
    assert b"Cache-Control: no-store" in found.head
    assert b"error=" not in found.head
    refresh = re.search(rb"\r\nRefresh: (\d+); url=(\S+)", found.head)
    link = re.search(rb'<a href="([^"]+)">', found.body)
    assert refresh is not None
    assert link is not None
    assert unescape(link[1].decode()) == refresh[2].decode()
    assert int(refresh[1]) == (1 if ready else 5)
    return refresh[2].decode()


def visit(gateway: MemoryGateway, path: str, client: Peer | None = None, method: bytes = b"GET") -> Response:
    (found,) = asked(gateway, request(path.encode(), HTML, method), client, method)
    return found


def behind_a_page(gateway: MemoryGateway, content: bytes = CONTENT, fields: bytes = ZIP) -> tuple[Peer, Peer, str]:
    """A download of which all but the last byte has come, and where its client asks."""
    client, origin = begin(gateway)
    origin.send(head(len(content), fields) + content[:-1])
    gateway.pump()
    assert client.take() == b""
    gateway.loop.pass_time(10)
    return client, origin, page(gateway, client)


# the way to the file


def test_the_page_says_how_far_it_is_and_leads_to_the_file_when_it_passes(make: Make) -> None:
    gateway = make()
    client, origin = begin(gateway)
    origin.send(head(BIG, ZIP + b'ETag: "x"\r\nCache-Control: max-age=60\r\nAccept-Ranges: bytes\r\n') + b"x" * 150_000)
    gateway.pump()
    gateway.loop.pass_time(9)
    assert client.take() == b""
    gateway.loop.pass_time(1)
    (found,) = responses(client.take())
    path = leads(found)
    assert b"report.zip: 146.5 KiB / 293.0 KiB (50 %)" in found.body
    assert b"origin.test" in found.body
    assert re.fullmatch(r"/\.sslintercept/waiting/[A-Za-z0-9_-]{22}", path)
    origin.send(b"y" * (BIG - 150_000))
    gateway.pump()
    said = visit(gateway, path, client)
    assert b"(100 %)" in said.body
    assert leads(said) == path
    look(gateway).say()
    gateway.pump()
    link = leads(visit(gateway, path, client), ready=True)
    assert re.fullmatch(r"/\.sslintercept/waiting/[A-Za-z0-9_-]{22}/report\.zip", link)
    assert link.split("/")[3] != path.split("/")[3]
    file = visit(gateway, link, client)
    assert file.status == 200
    assert file.body == b"x" * 150_000 + b"y" * (BIG - 150_000)
    for line in (b"Content-Length: %d" % BIG, b'ETag: "x"', b"Content-Type: application/zip"):
        assert line in file.head
    assert b"X-Content-Type-Options: nosniff" in file.head
    assert file.head.count(b"Cache-Control") == 1
    assert b"Accept-Ranges" not in file.head
    assert [line["status"] for line in gateway.transactions()] == [503, 503, 200, 200]
    assert gateway.transactions()[1]["url"].endswith("/.sslintercept/waiting")
    assert gateway.steps().count("waiting_answered") == 3
    assert os.listdir(gateway.waiting.folder) == []


def test_the_link_gives_the_file_once(make: Make) -> None:
    gateway = make()
    _, origin, path = behind_a_page(gateway)
    origin.send(CONTENT[-1:])
    gateway.pump()
    look(gateway).say()
    gateway.pump()
    link = leads(visit(gateway, path), ready=True)
    assert visit(gateway, link).body == CONTENT
    assert (visit(gateway, link).status, visit(gateway, path).status) == (404, 404)
    assert len(gateway.waiting) == gateway.waiting.budget.used == 0


def test_a_head_of_the_link_costs_nothing(make: Make) -> None:
    gateway = make()
    _, origin, path = behind_a_page(gateway)
    assert visit(gateway, path, method=b"HEAD").status == 503
    origin.send(CONTENT[-1:])
    gateway.pump()
    look(gateway).say()
    gateway.pump()
    link = leads(visit(gateway, path), ready=True)
    told = visit(gateway, link, method=b"HEAD")
    assert told.status == 200
    assert told.head.count(b"Content-Length: %d" % len(CONTENT)) == 1
    assert visit(gateway, link, method=b"POST").status == 404
    assert visit(gateway, link).body == CONTENT


def test_a_file_that_was_not_delivered_whole_may_be_asked_for_again(make: Make) -> None:
    content = CONTENT * 10
    gateway = make()
    _, origin, path = behind_a_page(gateway, content)
    origin.send(content[-1:])
    gateway.pump()
    look(gateway).say()
    gateway.pump()
    link = leads(visit(gateway, path), ready=True)
    slow = gateway.client(buffer=4096)
    slow.vc.high_water = 8192
    slow.received = lambda peer: None
    slow.sock.setblocking(False)
    reading = slow.turn
    gateway.loop.others.remove(reading)
    slow.sock.send(request(link.encode()))
    gateway.pump()
    assert visit(gateway, link).status == 404
    gateway.loop.others.append(reading)
    slow.reset()
    gateway.pump()
    assert visit(gateway, link).body == content


def test_what_is_small_waits_too_when_the_engine_does(make: Make) -> None:
    gateway = make()
    client, origin = begin(gateway)
    origin.send(head(5) + b"small")
    gateway.pump()
    gateway.loop.pass_time(10)
    path = page(gateway, client)
    look(gateway).say()
    gateway.pump()
    assert visit(gateway, leads(visit(gateway, path), ready=True)).body == b"small"


def test_what_is_empty_is_given_too(make: Make) -> None:
    gateway = make()
    client, origin = begin(gateway)
    origin.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n%b\r\n" % ZIP)
    gateway.pump()
    gateway.loop.pass_time(10)
    path = page(gateway, client)
    origin.send(b"0\r\n\r\n")
    gateway.pump()
    look(gateway).say()
    gateway.pump()
    link = leads(visit(gateway, path), ready=True)
    found = visit(gateway, link)
    assert (found.status, found.body) == (200, b"")
    assert visit(gateway, link).status == 404


def test_a_chunked_download_has_a_length_in_the_end(make: Make) -> None:
    gateway = make()
    client, origin = begin(gateway)
    origin.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n%b\r\n%x\r\n" % (ZIP, len(CONTENT)) + CONTENT)
    gateway.pump()
    gateway.loop.pass_time(10)
    (found,) = responses(client.take())
    assert b"report.zip: 292.8 KiB<" in found.body
    path = leads(found)
    origin.send(b"\r\n0\r\n\r\n")
    gateway.pump()
    look(gateway).say()
    gateway.pump()
    file = visit(gateway, leads(visit(gateway, path), ready=True))
    assert file.body == CONTENT
    assert b"Content-Length: %d" % len(CONTENT) in file.head
    # The server connection can be used again.
    again, same = begin(gateway, request(fields=b""))
    assert same is origin
    again.reset()


def test_content_codings_stay_as_they_are(make: Make) -> None:
    content = gzip.compress(os.urandom(200_000))
    gateway = make()
    _, origin, path = behind_a_page(gateway, content, ZIP + b"Content-Encoding: gzip\r\n")
    origin.send(content[-1:])
    gateway.pump()
    look(gateway).say()
    gateway.pump()
    file = visit(gateway, leads(visit(gateway, path), ready=True))
    assert file.body == content
    assert b"Content-Encoding: gzip" in file.head


def test_the_same_inside_of_intercepted_tls(make: Make) -> None:
    gateway = make(CLIENT_FIRST)
    origin = gateway.origin("origin.test:443", silent, tls=gateway.leaf("origin.test"))
    client = intercepted(gateway)

    def get(path: str) -> Response:
        client.send(b"GET %b HTTP/1.1\r\nHost: origin.test\r\n%b\r\n" % (path.encode(), HTML))
        gateway.pump()
        (found,) = responses(client.take())
        return found

    client.send(b"GET /x.iso HTTP/1.1\r\nHost: origin.test\r\n%b\r\n" % HTML)
    gateway.pump()
    origin.last.send(head(BIG) + b"x" * BIG)
    gateway.pump()
    gateway.loop.pass_time(10)
    path = page(gateway, client)
    look(gateway).say()
    gateway.pump()
    link = leads(get(path), ready=True)
    assert visit(gateway, link).status == 404, "another site, although of the same name"
    assert get(link).body == b"x" * BIG
    assert gateway.transactions()[-1]["url"] == "https://origin.test/.sslintercept/waiting"


# what does not pass


def test_what_is_bad_becomes_the_block_page(make: Make) -> None:
    gateway = make()
    client, origin = begin(gateway)
    origin.send(head(BIG) + b"x" * (BIG - 4))
    gateway.pump()
    gateway.loop.pass_time(10)
    path = page(gateway, client)
    origin.send(b"EVIL")
    gateway.pump()
    look(gateway).say()
    gateway.pump()
    (event,) = gateway.events.told
    for _ in range(2):
        found = visit(gateway, path)
        assert found.status == 403
        assert event.id.encode() in found.body
    assert b"EVIL" not in found.body
    assert gateway.waiting.budget.used == 0
    assert gateway.transactions()[-1]["error"] == "inspected"


def test_what_is_bad_before_the_page_is_answered_at_once_and_as_a_whole(make: Make) -> None:
    gateway = make()
    client, origin = begin(gateway)
    origin.send(head(BIG) + b"x" * (BIG - 4) + b"EVIL")
    gateway.pump()
    look(gateway).say()
    gateway.pump()
    (found,) = responses(client.take())
    assert found.status == 403
    assert gateway.waiting.budget.used == 0


@pytest.mark.parametrize("reset", [False, True])
def test_an_origin_that_breaks_off_gives_an_error_page(make: Make, reset: bool) -> None:
    gateway = make()
    _, origin, path = behind_a_page(gateway)
    if reset:
        origin.reset()
    else:
        origin.close()
    gateway.pump()
    found = visit(gateway, path)
    assert found.status == 502
    assert look(gateway).aborted
    assert gateway.waiting.budget.used == 0


def test_an_origin_that_breaks_off_before_the_page_does_so_too(make: Make) -> None:
    gateway = make()
    client, origin = begin(gateway)
    origin.send(head(BIG) + b"x" * 200_000)
    gateway.pump()
    origin.close()
    gateway.pump()
    (found,) = responses(client.take())
    assert found.status == 502


def test_an_origin_that_stands_still_gives_an_error_page(make: Make) -> None:
    gateway = make("[tunnel]\nidle_timeout = 60s\n")
    _, _, path = behind_a_page(gateway)
    gateway.loop.pass_time(70)
    assert visit(gateway, path).status == 504


# in time


def test_a_verdict_in_time_lets_the_file_follow_what_is_kept(make: Make) -> None:
    gateway = make()
    client, origin = begin(gateway)
    origin.send(head(2 * BIG) + b"x" * BIG)
    gateway.pump()
    assert client.take() == b""
    assert gateway.waiting.budget.used == 2 * BIG
    look(gateway).tell(None)  # although not all of it has come
    gateway.pump()
    first = client.take()
    assert first.endswith(b"x" * BIG)
    origin.send(b"y" * BIG)
    gateway.pump()
    (found,) = responses(first + client.take())
    assert (found.status, found.body) == (200, b"x" * BIG + b"y" * BIG)
    assert b"Content-Length: %d" % (2 * BIG) in found.head
    gateway.loop.pass_time(20)
    assert client.take() == b""
    assert gateway.waiting.budget.used == 0


def test_a_verdict_on_all_of_it_in_time_gives_the_usual_response(make: Make) -> None:
    gateway = make()
    client, origin = begin(gateway)
    origin.send(head(len(CONTENT), ZIP + b'ETag: "x"\r\n') + CONTENT)
    gateway.pump()
    assert client.take() == b""
    look(gateway).say()
    gateway.pump()
    (found,) = responses(client.take())
    assert (found.status, found.body) == (200, CONTENT)
    assert b'ETag: "x"' in found.head
    assert b"nosniff" not in found.head
    assert gateway.waiting.budget.used == 0
    again, same = begin(gateway, request(fields=b""), client)
    assert same is origin
    again.reset()


def test_a_slow_client_holds_the_origin_when_its_file_follows(make: Make) -> None:
    gateway = make()
    client = gateway.client(buffer=4096)
    client.send(request())
    gateway.pump()
    origin = gateway.connector.origins[Address("origin.test", 80)].last
    size = 8 << 20
    origin.send(head(size) + b"x" * BIG)
    gateway.pump()
    gateway.loop.others.remove(client.turn)
    look(gateway).tell(None)
    gateway.pump()
    origin.send(b"x" * (size - BIG))
    gateway.pump()
    assert client.vc.tcp.queued < 2 << 20
    gateway.loop.others.append(client.turn)
    gateway.pump()
    (found,) = responses(client.take())
    assert len(found.body) == size


def test_nobody_waits_for_what_no_inspector_wants(make: Make) -> None:
    gateway = make()
    assert gateway.inspection is not None
    gateway.inspection.entries[0].inspector._make = lambda part: None  # type: ignore[attr-defined]  # a stub
    client, origin = begin(gateway)
    origin.send(head(BIG) + b"x" * 1000)
    gateway.pump()
    assert client.take().endswith(b"x" * 1000)
    assert not gateway.waiting.folder.exists() or os.listdir(gateway.waiting.folder) == []


def test_a_client_that_leaves_before_the_page_ends_it_all(make: Make) -> None:
    gateway = make()
    client, origin = begin(gateway)
    origin.send(head(BIG) + b"x" * 200_000)
    gateway.pump()
    client.reset()
    gateway.pump()
    assert origin.ended
    assert look(gateway).aborted
    assert gateway.waiting.budget.used == 0


# who gets no page


@pytest.mark.parametrize(
    ("fields", "answer"),
    [
        (b"", ZIP),
        (b"Accept: */*\r\n", ZIP),
        (b"Sec-Fetch-Dest: empty\r\n" + HTML, ZIP),
        (b"Sec-Fetch-Dest: document\r\nSec-Purpose: prefetch\r\n" + HTML, ZIP),
        (b"X-Requested-With: XMLHttpRequest\r\n" + HTML, ZIP),
        (HTML, b"Content-Type: text/html; charset=utf-8\r\n"),
        (HTML, b"Content-Type: image/png\r\n"),
        (HTML, b"Content-Type: multipart/x-mixed-replace\r\n"),
        (HTML, b""),
    ],
)
def test_no_page_for_what_is_no_navigation_or_no_download(make: Make, fields: bytes, answer: bytes) -> None:
    gateway = make()
    client, origin = begin(gateway, request(fields=fields))
    origin.send(head(BIG, answer) + b"x" * 200_000)
    gateway.pump()
    gateway.loop.pass_time(11)
    assert client.take().startswith(b"HTTP/1.1 200 OK")
    client.reset()


@pytest.mark.parametrize(
    ("fields", "answer"),
    [
        (b"Sec-Fetch-Dest: document\r\n", ZIP),
        (HTML, b"Content-Type: text/csv\r\nContent-Disposition: attachment\r\n"),
    ],
)
def test_a_page_for_what_browsers_call_a_document_and_for_attachments(make: Make, fields: bytes, answer: bytes) -> None:
    gateway = make()
    client, origin = begin(gateway, request(fields=fields + HTML))
    origin.send(head(BIG, answer) + b"x" * 200_000)
    gateway.pump()
    gateway.loop.pass_time(11)
    page(gateway, client)


@pytest.mark.parametrize("start", [b"HTTP/1.1 404 Not Found", b"HTTP/1.1 500 Oops"])
def test_no_page_for_other_statuses(make: Make, start: bytes) -> None:
    gateway = make()
    client, origin = begin(gateway)
    origin.send(head(BIG).replace(b"HTTP/1.1 200 OK", start) + b"x" * 200_000)
    gateway.pump()
    gateway.loop.pass_time(11)
    assert client.take().startswith(start)
    client.reset()


def test_without_the_option_nothing_is_kept_and_the_path_is_the_origin_s(make: Make) -> None:
    gateway = make(wait="[inspection]\nhold = 64KiB\n")
    assert gateway.proxy.waiting is None
    client, origin = begin(gateway)
    origin.send(head(BIG) + b"x" * 200_000)
    gateway.pump()
    assert client.take().startswith(b"HTTP/1.1 200 OK")
    client.reset()
    answers = Answers(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
    gateway.origin("origin.test:80", answers)
    last = gateway.client()
    last.send(request(b"/.sslintercept/waiting/x"))
    gateway.pump()
    look(gateway).say()
    gateway.pump()
    assert responses(last.take())[0].body == b"hi"
    assert answers.requests[0].startswith(b"GET /.sslintercept/waiting/x HTTP/1.1")


# whose it is


def other(gateway: MemoryGateway) -> Peer:
    vc, sock = gateway.loop.pair(Side.CLIENT)
    vc.peer = Address("192.0.2.99", 50000)
    peer = Peer(gateway.loop, sock, vc)
    gateway.accepted(gateway.settings.listeners[0].name, vc)
    return peer


def test_another_client_and_another_host_get_neither_page_nor_file(make: Make) -> None:
    gateway = make()
    _, origin, path = behind_a_page(gateway)
    origin.send(CONTENT[-1:])
    gateway.pump()
    look(gateway).say()
    gateway.pump()
    link = leads(visit(gateway, path), ready=True)
    elsewhere = request(link.encode()).replace(b"origin.test", b"www.origin.test")
    for each in (path, link):
        assert visit(gateway, each, other(gateway)).status == 404
    (found,) = asked(gateway, elsewhere)
    assert found.status == 404
    assert visit(gateway, link).body == CONTENT


def test_nothing_below_the_path_reaches_an_origin(make: Make) -> None:
    gateway = make()
    for target in ("", "/", "?x", "/wrong", "/wrong/name?x", "/%80"):
        (found,) = asked(gateway, request(b"/.sslintercept/waiting" + target.encode()))
        assert found.status == 404
    assert gateway.connector.opened == []


def test_a_client_has_a_limited_number_of_pages(make: Make) -> None:
    gateway = make()
    for _ in range(MOST_OF_A_CLIENT):
        client, origin = begin(gateway)
        origin.send(head(BIG) + b"x")
    gateway.pump()
    gateway.loop.pass_time(10)
    assert len(gateway.waiting) == MOST_OF_A_CLIENT
    client, origin = begin(gateway)
    origin.send(head(BIG) + b"x" * 200_000)
    gateway.pump()
    gateway.loop.pass_time(10)
    assert client.take().startswith(b"HTTP/1.1 200 OK")
    client.reset()


# bounds


def test_what_has_no_room_flows_as_it_would_without_a_page(make: Make) -> None:
    gateway = make(wait=WAIT + "waiting_size = 1MiB\n")
    client, origin = begin(gateway)
    origin.send(head(2 << 20) + b"x" * BIG)
    gateway.pump()
    assert client.take().startswith(b"HTTP/1.1 200 OK")
    gateway.loop.pass_time(11)
    client.reset()


def test_what_is_slow_and_has_no_room_gets_no_page(make: Make) -> None:
    gateway = make(wait=WAIT + "waiting_size = 1MiB\n")
    client, origin = begin(gateway)
    origin.send(head(2 << 20) + b"x" * 1000)
    gateway.pump()
    gateway.loop.pass_time(11)
    assert client.take() == b""
    origin.send(b"x" * BIG)
    gateway.pump()
    assert client.take().startswith(b"HTTP/1.1 200 OK")
    client.reset()


def test_what_turns_out_to_have_no_room_flows_then(make: Make) -> None:
    gateway = make(wait=WAIT + "waiting_size = 1MiB\n")
    client, origin = begin(gateway)
    size = 3 << 20
    origin.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n%b\r\n%x\r\n" % (ZIP, size) + b"x" * BIG)
    gateway.pump()
    assert client.take() == b""
    origin.send(b"x" * (size - BIG) + b"\r\n0\r\n\r\n")
    gateway.pump()
    got = client.take()
    assert 0 < len(got) < size
    look(gateway).say()
    gateway.pump()
    (found,) = responses(got + client.take())
    assert found.body == b"x" * size


def test_what_turns_out_to_have_no_room_behind_a_page_ends_with_one(make: Make) -> None:
    gateway = make(wait=WAIT + "waiting_size = 1MiB\n")
    client, origin = begin(gateway)
    size = 3 << 20
    origin.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n%b\r\n%x\r\n" % (ZIP, size) + b"x" * BIG)
    gateway.pump()
    gateway.loop.pass_time(10)
    path = page(gateway, client)
    origin.send(b"x" * (size - BIG))
    gateway.pump()
    found = visit(gateway, path)
    assert found.status == 503
    assert b"Too many downloads wait" in found.body
    assert gateway.waiting.budget.used == 0


def test_a_full_disk_before_the_page_lets_it_flow_and_behind_it_ends_it(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    gateway = make()
    monkeypatch.setattr(os, "pwrite", full)
    client, origin = begin(gateway)
    origin.send(head(len(CONTENT)) + CONTENT)
    gateway.pump()
    look(gateway).say()
    gateway.pump()
    assert responses(client.take())[0].body == CONTENT
    monkeypatch.undo()
    _, origin, path = behind_a_page(gateway, CONTENT * 2)
    monkeypatch.setattr(os, "pwrite", full)
    origin.send(CONTENT)
    gateway.pump()
    look(gateway).say()
    gateway.pump()
    found = visit(gateway, path)
    assert found.status == 503
    assert b"No space left on device" in found.body


def test_a_folder_that_cannot_be_used_costs_the_page_alone(make: Make, tmp_path: Path) -> None:
    gateway = make()
    (tmp_path / "file").touch()
    gateway.waiting.folder = tmp_path / "file"
    client, origin = begin(gateway)
    origin.send(head(BIG) + b"x" * 200_000)
    gateway.pump()
    assert client.take().startswith(b"HTTP/1.1 200 OK")
    client.reset()


def test_a_client_that_never_comes_back_ends_the_transfer(make: Make) -> None:
    gateway = make()
    _, origin, path = behind_a_page(gateway)
    gateway.loop.pass_time(UNVISITED - SWEEP)
    assert not origin.ended
    assert visit(gateway, path).status == 503
    gateway.loop.pass_time(UNVISITED - SWEEP)
    assert not origin.ended
    gateway.loop.pass_time(2 * SWEEP)
    assert origin.ended
    assert len(gateway.waiting) == gateway.waiting.budget.used == 0
    assert look(gateway).aborted


def test_a_file_that_nobody_fetches_goes(make: Make) -> None:
    gateway = make()
    _, origin, path = behind_a_page(gateway)
    origin.send(CONTENT[-1:])
    gateway.pump()
    look(gateway).say()
    gateway.pump()
    gateway.loop.pass_time(KEPT - SWEEP)
    assert gateway.waiting.budget.used == len(CONTENT)
    gateway.loop.pass_time(2 * SWEEP)
    assert gateway.waiting.budget.used == len(gateway.waiting) == 0
    assert visit(gateway, path).status == 404


def test_stopping_ends_what_is_under_way_and_gives_no_more_pages(make: Make) -> None:
    gateway = make()
    _, origin, _ = behind_a_page(gateway)
    waits, second = begin(gateway)
    second.send(head(BIG) + b"x" * 200_000)
    gateway.pump()
    gateway.proxy.draining = True
    gateway.waiting.close()
    gateway.pump()
    assert origin.ended
    assert waits.take() == b""
    gateway.loop.pass_time(10)
    assert waits.take().startswith(b"HTTP/1.1 200 OK")
    waits.reset()


def test_stopping_lets_whoever_gets_a_file_have_it(make: Make) -> None:
    content = CONTENT * 10
    gateway = make()
    _, origin, path = behind_a_page(gateway, content)
    origin.send(content[-1:])
    gateway.pump()
    look(gateway).say()
    gateway.pump()
    link = leads(visit(gateway, path), ready=True)
    slow = gateway.client(buffer=4096)
    gateway.loop.others.remove(slow.turn)
    slow.sock.send(request(link.encode()))
    gateway.pump()
    gateway.waiting.close()
    assert len(gateway.waiting) == 1
    gateway.loop.others.append(slow.turn)
    gateway.pump()
    assert responses(slow.take())[0].body == content
    assert len(gateway.waiting) == 0


def test_what_waits_outlives_settings_that_have_no_page(make: Make) -> None:
    gateway = make()
    behind_a_page(gateway)
    later = MemoryGateway(gateway.loop, INI)
    assert later.proxy.waiting is None
    later.waiting = gateway.waiting
    assert type(gateway.gateway)(later.settings, later).proxy.waiting is gateway.waiting


# beside it


def test_the_cache_gets_what_its_client_waits_for(make: Make) -> None:
    gateway = make("[cache]\npath = nowhere\n")
    client, origin = begin(gateway)
    origin.send(head(len(CONTENT), ZIP + b"Cache-Control: max-age=600\r\n") + CONTENT[:-1])
    gateway.pump()
    gateway.loop.pass_time(10)
    page(gateway, client)
    origin.send(CONTENT[-1:])
    gateway.pump()
    look(gateway).say()
    gateway.pump()
    again, _ = begin(gateway, request(fields=b""))
    gateway.pump()
    look(gateway).say()
    gateway.pump()
    (found,) = responses(again.take())
    assert found.body == CONTENT
    assert gateway.connector.opened == [Address("origin.test", 80)]


@pytest.mark.parametrize("fine", [True, False])
def test_what_comes_from_the_cache_waits_too(make: Make, fine: bool) -> None:
    content = CONTENT * 4 if fine else CONTENT * 4 + b"EVIL"
    gateway = make("[cache]\npath = nowhere\n")
    first, origin = begin(gateway, request(fields=b""))
    origin.send(head(len(content), ZIP + b"Cache-Control: max-age=600\r\n") + content)
    gateway.pump()
    look(gateway).tell(None)
    gateway.pump()
    assert first.take().endswith(content[-4:])
    client, _ = begin(gateway)
    assert client.take() == b""
    gateway.loop.pass_time(10)
    path = page(gateway, client)
    look(gateway).say()
    gateway.pump()
    if fine:
        assert visit(gateway, leads(visit(gateway, path), ready=True)).body == content
    else:
        assert visit(gateway, path).status == 403
    assert gateway.connector.opened == [Address("origin.test", 80)]


def test_a_template_of_one_s_own_may_wait(make: Make, tmp_path: Path) -> None:
    (tmp_path / "wait.html").write_text('<p>$title: <a href="$continue">$what</a></p>')
    gateway = make(f"[pages]\nfolder = {tmp_path}\nlanguage = de\n")
    client, origin = begin(gateway)
    origin.send(head(2048) + b"x" * 1024)
    gateway.pump()
    gateway.loop.pass_time(10)
    (found,) = responses(client.take())
    assert leads(found).startswith("/.sslintercept/waiting/")
    assert "Die Datei wird geprüft" in found.body.decode()
    assert b"report.zip: 1.0 KiB / 2.0 KiB (50 %)" in found.body


@pytest.mark.parametrize(
    ("name", "end"), [("..", ""), (".", ""), ("x" * 300 + ".zip", "x" * 96 + ".zip"), ("ä b", "%C3%A4%20b")]
)
def test_a_link_ends_with_what_a_browser_may_save(make: Make, name: str, end: str) -> None:
    gateway = make()
    _, origin, path = behind_a_page(
        gateway, CONTENT, ZIP + b'Content-Disposition: attachment; filename="%b"\r\n' % name.encode()
    )
    origin.send(CONTENT[-1:])
    gateway.pump()
    look(gateway).say()
    gateway.pump()
    link = leads(visit(gateway, path), ready=True)
    assert link.split("/")[4] == end
    assert visit(gateway, link).body == CONTENT


def test_a_name_from_the_network_is_only_a_name(make: Make) -> None:
    gateway = make()
    name = b'attachment; filename="../<b>\\"x; y.exe"\r\n'
    _, origin, path = behind_a_page(gateway, CONTENT, ZIP + b"Content-Disposition: " + name)
    origin.send(CONTENT[-1:])
    gateway.pump()
    look(gateway).say()
    gateway.pump()
    found = visit(gateway, path)
    assert b"<b>" not in found.body
    link = leads(found, ready=True)
    assert re.fullmatch(r"/\.sslintercept/waiting/[A-Za-z0-9_-]{22}/[A-Za-z0-9_.~%-]+", link)
    assert b"Content-Disposition: " + name in visit(gateway, link).head + b"\r\n"


@pytest.mark.parametrize(
    ("fields", "kind", "answer"),
    [
        ([], "application/pdf", True),
        ([], "font/woff2", True),
        ([], "application/xhtml+xml", False),
        ([], "video/mp4", False),
        ([(b"content-disposition", b"Attachment; filename=x")], "", True),
        ([(b"content-disposition", b"inline")], "text/plain", False),
    ],
)
def test_what_is_a_download(fields: list[tuple[bytes, bytes]], kind: str, answer: bool) -> None:
    assert is_download(fields, kind) is answer


def test_sizes_are_written_for_people() -> None:
    assert [shown_size(n) for n in (0, 1536, 3 << 20, 5 << 30)] == ["0.0 KiB", "1.5 KiB", "3.0 MiB", "5.0 GiB"]

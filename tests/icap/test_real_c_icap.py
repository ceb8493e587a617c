"""c-icap as it is installed: its echo, its 206, and its scanner with a clamd behind it that knows one signature."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred, fail

from sslintercept.facts import Address
from sslintercept.icap.message import Modified, ModRequest, Unchanged
from sslintercept.icap.modify import Modification
from sslintercept.icap.service import Limits, Service
from sslintercept.icap.wire import Kind
from sslintercept.net.connector import Connector
from sslintercept.net.line import tcp
from sslintercept.testing import engines
from sslintercept.testing.engines import EICAR
from sslintercept.testing.loop import RealLoop
from tests.engines import fault, found
from tests.process.tools import server_port

from .support import GET, OK, Reading

HTML = OK.replace(b"text/plain", b"text/html")
LONG = b"a line of text\n" * 400
"""more than a preview"""
BIG = 16 * 1024 * 1024
"""bytes: more than every buffer on the way"""


class Nobody:
    """Knows no names."""

    def resolve(self, host: str) -> Deferred[Sequence[str]]:
        return fail(ValueError(host))


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder, port = tmp_path_factory.mktemp("icap"), server_port()
    with engines.clamd(folder, server_port(), most="10M") as sock, engines.c_icap(folder, port, sock):
        yield port


@pytest.fixture
def loop() -> Iterator[RealLoop]:
    made = RealLoop()
    yield made
    assert made.leftovers() == []
    made.close()


Maker = Callable[..., Service]


@pytest.fixture
def service(loop: RealLoop, port: int) -> Iterator[Maker]:
    made: list[Service] = []

    def make(name: str, limits: Limits | None = None) -> Service:
        connector = Connector(loop.handler, Nobody(), timeout=5)
        uri = f"icap://127.0.0.1:{port}/{name}"
        made.append(Service(loop.handler, tcp(connector, Address("127.0.0.1", port), uri), uri, limits=limits))
        return made[-1]

    yield make
    for one in made:
        assert one.pool.places.taken == 0
        one.close()


class Sending:
    """Brings a body as fast as it is taken, a piece a turn."""

    def __init__(self, loop: RealLoop, to: Modification, body: bytes) -> None:
        self.to, self.loop = to, loop
        self.left = memoryview(body)
        self.stopped = False
        self.stops = 0
        to.registerProducer(self, True)
        self.turn()

    def pauseProducing(self) -> None:
        self.stopped = True
        self.stops += 1

    def resumeProducing(self) -> None:
        self.stopped = False
        self.loop.handler.soon(self.turn)

    def turn(self) -> None:
        if self.stopped:
            return
        if not self.left:
            self.to.finish()
            return
        piece, self.left = self.left[:16384], self.left[16384:]
        self.to.write(piece)
        if not self.stopped:
            self.loop.handler.soon(self.turn)


def response(service: Service, head: bytes = OK, **more: int) -> Modification:
    return service.modify(ModRequest(Kind.RESPMOD, GET, head, body=True, **more))  # type: ignore[arg-type] # flags


def sent(loop: RealLoop, service: Service, body: bytes, head: bytes = OK, **more: int) -> object:
    """The outcome of a small response."""
    modification = response(service, head, **more)
    modification.write(body)
    modification.finish()
    return found(loop, modification.outcome)


def read(loop: RealLoop, modified: Modified) -> bytes:
    reading = Reading(modified.body)
    loop.until(lambda: reading.ended or reading.error)
    assert reading.error is None
    return bytes(reading.got)


def test_its_options_are_understood(loop: RealLoop, service: Maker) -> None:
    told = found(loop, service("echo").options())
    assert (told.preview, told.allow_204, told.ttl) == (1024, True, 3600.0)
    assert told.tag is not None
    assert told.methods == {Kind.REQMOD, Kind.RESPMOD}


def test_a_short_body_is_unchanged_and_the_line_kept(loop: RealLoop, service: Maker) -> None:
    scan = service("scan")
    for _ in range(5):
        came = sent(loop, scan, b"harmless")
        assert isinstance(came, Unchanged)
        assert came.kept == b"harmless"
    assert (scan.pool.opened, scan.pool.idle) == (1, 1)


def test_a_request_without_a_body_passes(loop: RealLoop, service: Maker) -> None:
    modification = service("echo").modify(ModRequest(Kind.REQMOD, GET))
    assert isinstance(found(loop, modification.outcome), Unchanged)


def test_a_body_larger_than_every_buffer_comes_back_as_it_went(loop: RealLoop, service: Maker) -> None:
    echo, body = service("echo"), bytes(range(256)) * (BIG // 256)
    found(loop, echo.options())
    assert echo._options is not None
    echo._options = echo._options._replace(preview=None)  # else it says 204 in the preview
    modification = response(echo)
    sending = Sending(loop, modification, body)
    assert read(loop, found(loop, modification.outcome)) == body
    assert sending.stops > 0
    assert echo.pool.idle == 1


def test_malware_is_found_and_another_page_comes_in_its_place(loop: RealLoop, service: Maker) -> None:
    scan = service("scan")
    came = sent(loop, scan, EICAR)
    assert isinstance(came, Modified)
    assert [(threat.name, threat.resolution) for threat in came.report.threats] == [(engines.FOUND, "blocked")]
    assert came.head.startswith(b"HTTP/1.")
    assert b"Eicar-Test" in read(loop, came)
    assert isinstance(sent(loop, scan, b"harmless"), Unchanged)


def test_malware_behind_the_preview_is_found_and_a_long_clean_body_comes_back(loop: RealLoop, service: Maker) -> None:
    scan = service("scan")
    found(loop, scan.options())
    for body, threats in ((LONG, 0), (EICAR + LONG, 1)):
        modification = response(scan)
        Sending(loop, modification, body)
        came = found(loop, modification.outcome)
        assert isinstance(came, Modified), came
        assert len(came.report.threats) == threats
        assert (read(loop, came) == body) == (threats == 0)


def test_a_body_that_somebody_keeps_is_not_sent_back(loop: RealLoop, service: Maker) -> None:
    scan = service("scan")
    found(loop, scan.options())
    for more, kept in (({"keeps": True}, None), ({"length": 5000}, LONG)):
        modification = response(scan, OK, **more)
        Sending(loop, modification, LONG)
        came = found(loop, modification.outcome)
        assert isinstance(came, Unchanged)
        assert came.kept == kept


@pytest.mark.parametrize("size", [10, 100_000])
def test_its_206_is_put_before_the_original(loop: RealLoop, service: Maker, size: int) -> None:
    body = b"<html>" + b"x" * size
    modification = response(service("ex206"), HTML)
    Sending(loop, modification, body)
    came = found(loop, modification.outcome)
    assert isinstance(came, Modified)
    assert came.report.status == 206
    page = read(loop, came)
    assert b"<!--A simple comment" in page
    assert page.endswith(b"x" * size)


def test_many_at_once_share_a_few_lines(loop: RealLoop, service: Maker) -> None:
    scan = service("scan", Limits(connections=4))
    bodies = [EICAR if at % 3 == 0 else b"harmless" for at in range(30)]
    asked = [response(scan) for _ in bodies]
    for one, body in zip(asked, bodies, strict=True):
        one.write(body)
        one.finish()
    came = [found(loop, one.outcome) for one in asked]
    assert [len(one.report.threats) for one in came] == [int(body is EICAR) for body in bodies]
    for one in came:
        if isinstance(one, Modified):
            read(loop, one)
    assert scan.pool.opened <= 4


def test_a_service_that_is_not_there_is_refused(loop: RealLoop, service: Maker) -> None:
    modification = response(service("nothing"))
    modification.outcome.addErrback(lambda failure: failure)
    loop.until(lambda: modification.outcome.called)
    assert fault(modification.outcome) == "refused"


@pytest.fixture
def own(loop: RealLoop, tmp_path: Path) -> Iterator[tuple[Service, Callable[[], AbstractContextManager[None]]]]:
    """An echo that can be started and stopped."""
    port = server_port()
    uri = f"icap://127.0.0.1:{port}/echo"
    connector = Connector(loop.handler, Nobody(), timeout=5)
    service = Service(loop.handler, tcp(connector, Address("127.0.0.1", port), uri), uri)
    yield service, lambda: engines.c_icap(tmp_path, port, tmp_path / "nothing")
    service.close()


Own = tuple[Service, Callable[[], AbstractContextManager[None]]]


def test_a_server_that_was_started_anew_is_asked_again_on_a_new_line(loop: RealLoop, own: Own) -> None:
    service, started = own
    for _ in range(2):
        with started():
            came = found(loop, service.modify(ModRequest(Kind.REQMOD, GET)).outcome)
            if isinstance(came, Modified):  # it says now this, now that
                read(loop, came)
            loop.until(lambda: service.pool.idle == 1)
    assert service.pool.opened == 2


def test_a_server_that_dies_meanwhile_is_unreachable_and_the_body_still_here(loop: RealLoop, own: Own) -> None:
    service, started = own
    with started():
        found(loop, service.options())
        modification = response(service)
        modification.write(b"x" * 500)
        loop.pump()
    modification.write(b"x" * 2000)
    loop.until(lambda: modification.outcome.called)
    assert fault(modification.outcome) == "unreachable"
    assert modification.kept == b"x" * 2500

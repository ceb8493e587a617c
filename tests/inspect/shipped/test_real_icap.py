"""Parts shown to c-icap as it is installed: its echo, and its scanner with a clamd behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sslintercept.errors import EngineError
from sslintercept.inspect.shipped.icap import IcapInspector, IcapOptions
from sslintercept.inspect.verdict import MALWARE, Act, Verdict
from sslintercept.testing import engines
from sslintercept.testing.engines import EICAR
from sslintercept.testing.loop import RealLoop
from sslintercept.transform.message import Direction
from tests.icap.support import GET, OK
from tests.inspect import material
from tests.process.tools import server_port

from .support import Bringing, Handler, Shown, part, waited

OUT = Direction.REQUEST
HTML = OK.replace(b"text/plain", b"text/html")
POST = b"POST http://origin.test/up HTTP/1.1\r\nHost: origin.test\r\nContent-Type: application/zip\r\n\r\n"
BIG = 3 * 1024 * 1024
"""bytes: so many that c-icap begins to send them back before it has looked at all of them"""


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


Maker = Callable[..., IcapInspector]


@pytest.fixture
def services(loop: RealLoop, port: int) -> Iterator[Maker]:
    made: list[IcapInspector] = []

    def make(*names: str, **options: Any) -> IcapInspector:
        uris = tuple(f"icap://127.0.0.1:{port}/{name}" for name in names)
        made.append(IcapInspector(IcapOptions(services=uris, **options), Handler(loop)))
        return made[-1]

    yield make
    for one in made:
        assert one.room.taken == 0
        for service in one.services:
            assert service.pool.places.taken == 0
        one.close()


def shown(loop: RealLoop, inspector: IcapInspector, body: bytes, **more: Any) -> Shown:
    one = Shown(inspector, part(**{"request_head": GET, "response_head": OK, **more}))
    Bringing(loop, one, body)
    return waited(loop, one)


class Reading:
    """Reads what takes a part's place to its end."""

    def __init__(self, loop: RealLoop, verdict: Verdict) -> None:
        self.got = bytearray()
        self.fault = ""
        self.over = False
        content = verdict.content
        assert content is not None
        assert not isinstance(content, bytes)
        content.read_to(self._write, self._end, self._failed)
        loop.until(lambda: self.over)

    def _write(self, data: Any) -> None:
        self.got += data

    def _end(self) -> None:
        self.over = True

    def _failed(self, error: Exception) -> None:
        assert isinstance(error, EngineError)
        self.over, self.fault = True, error.fault


def test_an_echo_lets_everything_pass_as_it_was(loop: RealLoop, services: Maker) -> None:
    echo = services("echo")
    for body in (b"", b"short", bytes(range(256)) * 4096):
        one = shown(loop, echo, body)
        assert (one.verdict, one.error) == (None, None)


def test_an_echo_without_previews_says_everything_while_it_comes(loop: RealLoop, services: Maker) -> None:
    body = bytes(range(256)) * (BIG // 256)
    one = shown(loop, services("echo", preview=None), body)
    assert (one.verdict, one.error) == (None, None)


def test_malware_in_responses_is_found_and_its_page_told(loop: RealLoop, services: Maker) -> None:
    scan = services("scan")
    for body in (EICAR, material.eicar_zip(), material.eicar_tar_gz(), EICAR + b"a line of text\n" * 400):
        found = shown(loop, scan, body).verdict
        assert found is not None
        assert (found.act, found.kind, found.name, found.reason) == (
            Act.BLOCK,
            MALWARE,
            engines.FOUND,
            f"icap scan found {engines.FOUND}",
        )
        assert found.answer is not None
        assert found.answer.status == 403
        assert b"Eicar-Test" in found.answer.body
    for body in (material.HARMLESS, material.zipped({"a": material.HARMLESS}), b"a line of text\n" * 400):
        one = shown(loop, scan, body)
        assert (one.verdict, one.error) == (None, None)


def test_malware_in_requests_is_found(loop: RealLoop, services: Maker) -> None:
    scan = services("scan", action="quarantine")
    found = shown(loop, scan, material.eicar_zip(), direction=OUT, request_head=POST, response_head=b"").verdict
    assert found is not None
    assert (found.act, found.name) == (Act.QUARANTINE, engines.FOUND)
    one = shown(loop, scan, material.HARMLESS, direction=OUT, request_head=POST, response_head=b"")
    assert (one.verdict, one.error) == (None, None)


@pytest.mark.parametrize("direction", list(Direction))
@pytest.mark.parametrize(
    ("carrier", "kind", "body"),
    [
        ("ftp", "file", material.eicar_zip()),
        ("smtp", "message", material.eicar_mail()),
        ("imap", "message", material.eicar_mail()),
        ("websocket", "message", EICAR),
    ],
)
def test_malware_in_what_others_carry_is_found(
    loop: RealLoop, services: Maker, carrier: str, kind: str, body: bytes, direction: Direction
) -> None:
    scan = services("scan")
    one = Shown(scan, part(carrier, direction, kind=kind, host="origin.test", name="invoice.zip"), body)
    found = waited(loop, one).verdict
    assert found is not None
    assert (found.act, found.name, found.answer) == (Act.BLOCK, engines.FOUND, None)


@pytest.mark.parametrize("announced", [True, False])
def test_malware_that_is_found_when_much_was_said_already_does_not_pass(
    loop: RealLoop, services: Maker, announced: bool
) -> None:
    body = EICAR + bytes(BIG)
    head = OK.replace(b"\r\n\r\n", b"\r\nContent-Length: %d\r\n\r\n" % len(body)) if announced else OK
    one = shown(loop, services("scan"), body, response_head=head)
    assert one.fault == "lost"


def test_a_clean_body_of_which_much_was_said_already_passes(loop: RealLoop, services: Maker) -> None:
    body = b"a line of text\n" * (BIG // 15)
    head = OK.replace(b"\r\n\r\n", b"\r\nContent-Length: %d\r\n\r\n" % len(body))
    one = shown(loop, services("scan"), body, response_head=head)
    assert (one.verdict, one.error) == (None, None)


def test_its_206_takes_a_parts_place(loop: RealLoop, services: Maker) -> None:
    body = b"<html>" + b"x" * 500
    found = shown(loop, services("ex206"), body, response_head=HTML).verdict
    assert found is not None
    assert found.act is Act.REPLACE
    page = bytes(Reading(loop, found).got)
    assert b"<!--A simple comment" in page
    assert page.endswith(b"x" * 500)


def test_two_services_in_a_row(loop: RealLoop, services: Maker) -> None:
    both = services("echo", "scan")
    found = shown(loop, both, EICAR).verdict
    assert found is not None
    assert (found.name, found.engine) == (engines.FOUND, "icap echo scan")
    assert shown(loop, both, material.HARMLESS).error is None


def test_many_at_once_share_a_few_lines(loop: RealLoop, services: Maker) -> None:
    scan = services("scan", connections=4)
    bodies = [material.eicar_zip() if at % 3 == 0 else material.HARMLESS for at in range(30)]
    looks = [Shown(scan, part(request_head=GET, response_head=OK), body) for body in bodies]
    for one, body in zip(looks, bodies, strict=True):
        waited(loop, one)
        assert one.error is None
        assert (one.verdict is not None) is (body is not material.HARMLESS)
    assert scan.services[0].pool.opened <= 4


def test_a_service_that_is_not_there_is_refused_and_a_server_unreachable(
    loop: RealLoop, services: Maker, tmp_path: Path
) -> None:
    assert shown(loop, services("nothing"), b"x").fault == "refused"
    gone = IcapInspector(IcapOptions(services=(f"icap://localhost:{server_port()}/scan",)), Handler(loop))
    assert shown(loop, gone, b"x").fault == "unreachable"

"""clamd as it is installed, with a signature of our own, over TCP and a unix socket."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred, fail

from sslintercept.clamd.client import Clamd, Limits
from sslintercept.clamd.wire import Clean, Found, TooBig
from sslintercept.facts import Address
from sslintercept.net.connector import Connector
from sslintercept.net.line import local, tcp
from sslintercept.testing import engines
from sslintercept.testing.engines import EICAR
from sslintercept.testing.loop import RealLoop
from tests.engines import fault, found
from tests.process.tools import server_port

MOST = 1024 * 1024
"""bytes: its StreamMaxLength"""


class Nobody:
    """Knows no names."""

    def resolve(self, host: str) -> Deferred[Sequence[str]]:
        return fail(ValueError(host))


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int]]:
    port = server_port()
    with engines.clamd(tmp_path_factory.mktemp("clamd"), port) as sock:
        yield sock, port


@pytest.fixture
def loop() -> Iterator[RealLoop]:
    made = RealLoop()
    yield made
    assert made.leftovers() == []
    made.close()


@pytest.fixture(params=["unix", "tcp"])
def clamd(real: tuple[Path, int], loop: RealLoop, request: pytest.FixtureRequest) -> Clamd:
    path, port = real
    if request.param == "unix":
        return Clamd(loop.handler, local(loop.handler, str(path), "clamd"), limits=Limits(most=MOST))
    connector = Connector(loop.handler, Nobody(), timeout=5)
    return Clamd(loop.handler, tcp(connector, Address("127.0.0.1", port), "clamd"), limits=Limits(most=MOST))


@pytest.mark.parametrize(("body", "expected"), [(b"harmless", Clean()), (EICAR, Found(engines.FOUND))])
def test_malware_is_found_and_other_bodies_are_clean(
    loop: RealLoop, clamd: Clamd, body: bytes, expected: object
) -> None:
    scan = clamd.scan()
    for at in range(0, len(body), 10):
        scan.write(body[at : at + 10])
    scan.finish()
    assert found(loop, scan.outcome) == expected


def test_a_body_as_long_as_it_takes_is_scanned_and_a_longer_one_is_named(loop: RealLoop, clamd: Clamd) -> None:
    for size, expected in ((MOST, Clean()), (MOST + 1, TooBig())):
        scan = clamd.scan()
        scan.write(bytes(size))
        scan.finish()
        assert found(loop, scan.outcome) == expected


def test_its_own_limit_is_named_where_ours_is_above_it(loop: RealLoop, real: tuple[Path, int]) -> None:
    clamd = Clamd(loop.handler, local(loop.handler, str(real[0]), "clamd"))
    scan = clamd.scan()
    scan.write(bytes(MOST + 1))
    assert found(loop, scan.outcome) == TooBig()


def test_many_scans_at_once_get_each_its_verdict(loop: RealLoop, clamd: Clamd) -> None:
    bodies = [EICAR if at % 3 == 0 else b"harmless" for at in range(50)]
    scans = [clamd.scan() for _ in bodies]
    for scan, body in zip(scans, bodies, strict=True):
        scan.write(body)
        scan.finish()
    verdicts = [found(loop, scan.outcome) for scan in scans]
    assert [isinstance(verdict, Found) for verdict in verdicts] == [body is EICAR for body in bodies]


def test_it_is_there_and_has_a_version(loop: RealLoop, clamd: Clamd) -> None:
    ping = Deferred.fromCoroutine(clamd.ping())
    loop.until(lambda: ping.called)
    assert found(loop, clamd.version()).engine.startswith("ClamAV ")


def test_one_that_is_not_there_is_unreachable(loop: RealLoop, tmp_path: Path) -> None:
    clamd = Clamd(loop.handler, local(loop.handler, str(tmp_path / "nothing"), "clamd"))
    scan = clamd.scan()
    scan.finish()
    assert fault(scan.outcome) == "unreachable"

"""Files shown to clamd as it is installed, with a signature of our own."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from sslintercept.inspect.shipped.clamd import ClamdInspector, ClamdOptions
from sslintercept.inspect.verdict import MALWARE, Act
from sslintercept.testing import engines
from sslintercept.testing.engines import EICAR
from sslintercept.testing.loop import RealLoop
from tests.inspect import material
from tests.process.tools import server_port
from tests.standstill import stand_still

from .support import Bringing, Handler, Shown, part, waited

MOST = 1024 * 1024
"""bytes: its StreamMaxLength"""


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


@pytest.fixture(params=["unix", "tcp", "name"])
def inspector(real: tuple[Path, int], loop: RealLoop, request: pytest.FixtureRequest) -> Iterator[ClamdInspector]:
    sock, port = real
    address = {"unix": f"unix:{sock}", "tcp": f"tcp:127.0.0.1:{port}", "name": f"tcp:localhost:{port}"}[request.param]
    made = ClamdInspector(ClamdOptions(address=address, largest=MOST), Handler(loop))
    yield made
    made.close()


def test_malware_is_found_at_any_depth_and_other_files_pass(loop: RealLoop, inspector: ClamdInspector) -> None:
    bad = [EICAR, material.eicar_zip(), material.eicar_zip_in_zip(3), material.eicar_tar_gz(), material.eicar_mail()]
    good = [material.HARMLESS, material.zipped({"a": material.HARMLESS}), material.innocent_mail(), b""]
    good += [make("harmless") for make in material.DOCUMENTS.values()]
    for body in bad + good:
        one = waited(loop, Shown(inspector, part(), body))
        assert one.error is None
        assert (one.verdict is not None) is (body in bad), body[:60]
        if one.verdict is not None:
            assert (one.verdict.act, one.verdict.kind, one.verdict.name) == (Act.BLOCK, MALWARE, engines.FOUND)
            assert one.verdict.engine.startswith("clamd 1.")


def test_many_at_once_get_each_its_verdict(loop: RealLoop, inspector: ClamdInspector) -> None:
    bodies = [material.eicar_zip() if at % 3 == 0 else material.HARMLESS for at in range(40)]
    looks = [Shown(inspector, part(), body) for body in bodies]
    for one, body in zip(looks, bodies, strict=True):
        waited(loop, one)
        assert one.error is None
        assert (one.verdict is not None) is (body is not material.HARMLESS)


def test_a_part_as_long_as_it_takes_is_scanned_and_a_longer_one_is_too_big(
    loop: RealLoop, inspector: ClamdInspector
) -> None:
    for size in (MOST, MOST + 1):
        one = Shown(inspector, part())
        Bringing(loop, one, bytes(size))
        waited(loop, one)
        assert one.verdict is None
        assert (one.error is None) is (size == MOST)
    assert one.fault == "too_big"


def test_its_own_limit_below_ours_is_too_big(loop: RealLoop, real: tuple[Path, int]) -> None:
    inspector = ClamdInspector(ClamdOptions(address=f"unix:{real[0]}"), Handler(loop))
    one = Shown(inspector, part())
    Bringing(loop, one, bytes(2 * MOST))
    assert waited(loop, one).fault == "too_big"


def test_one_that_goes_or_stands_still_gives_no_verdict_and_one_that_comes_back_does(
    loop: RealLoop, tmp_path: Path
) -> None:
    sock = tmp_path / "clamd.sock"
    inspector = ClamdInspector(ClamdOptions(address=f"unix:{sock}", scans=1), Handler(loop))
    assert waited(loop, Shown(inspector, part(), EICAR)).fault == "unreachable"
    with engines.clamd(tmp_path, server_port()) as _:
        assert waited(loop, Shown(inspector, part(), EICAR)).verdict is not None
        process = int((tmp_path / "clamd.pid").read_text())
        stand_still(process)
        try:
            hanging = Shown(inspector, part(), EICAR)
            late: list[bool] = []
            loop.handler.later(0.5, lambda: late.append(hanging.over))
            loop.until(lambda: late)
            hanging.look.abort()
            assert late == [hanging.over] == [False]
            assert inspector.clamd.places.taken == 0
        finally:
            os.kill(process, signal.SIGCONT)
        begun = Shown(inspector, part())
        begun.write(material.HARMLESS)
        loop.until(lambda: inspector.clamd.places.taken == 1)
    # As it goes, clamd sometimes judges what it has got of a stream.
    assert waited(loop, begun).fault in ("lost", "rubbish")

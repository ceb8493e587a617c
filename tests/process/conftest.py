"""Fixtures of this folder: origins for the whole run, a proxy for a test or a module."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.process.kept import KeptOrigin
from tests.process.origins import BODY_NAME, NAMES, BodyOrigin, Certificates, Nginx, serving
from tests.process.running import Proxy, settings

ProxyMaker = Callable[[str], Proxy]


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """What the origins show."""
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hosts file with every name that is used here."""
    path = tmp_path_factory.mktemp("hosts") / "hosts"
    path.write_text(f"127.0.0.1 {' '.join(NAMES)} {BODY_NAME} another-name.test\n::1 six.test\n")
    return path


@pytest.fixture(scope="session")
def nginx(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Nginx]:
    """An nginx."""
    server = Nginx(tmp_path_factory.mktemp("nginx"), certificates)
    yield server
    server.stop()


@pytest.fixture
def origin(certificates: Certificates) -> Iterator[BodyOrigin]:
    """An HTTPS origin that echoes, digests, holds and reports."""
    with serving(BodyOrigin(certificates.files[BODY_NAME])) as server:
        yield server


@pytest.fixture
def plain_origin() -> Iterator[BodyOrigin]:
    """The same without TLS."""
    with serving(BodyOrigin(None)) as server:
        yield server


@pytest.fixture
def plain() -> Iterator[KeptOrigin]:
    """An origin in the clear for what is kept."""
    with serving(KeptOrigin(None)) as server:
        assert isinstance(server, KeptOrigin)
        yield server


@pytest.fixture
def ini(certificates: Certificates, hosts: Path) -> Callable[[str], str]:
    """The whole text of an ini file from what a test adds to the usual one."""
    return lambda text: settings(text, certificates.trust, hosts)


@contextmanager
def proxies(certificates: Certificates, hosts: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyMaker]:
    """Make proxies; each must end well at the end."""
    made: list[Proxy] = []

    def make(text: str = "") -> Proxy:
        made.append(Proxy(tmp_path_factory.mktemp("proxy"), settings(text, certificates.trust, hosts)))
        return made[-1]

    try:
        yield make
        for each in made:
            each.stop()
    finally:
        for each in made:
            each.kill()


@pytest.fixture
def proxy(certificates: Certificates, hosts: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyMaker]:
    """Makes proxies with settings that a test adds, for this test."""
    with proxies(certificates, hosts, tmp_path_factory) as make:
        yield make


@pytest.fixture(scope="module")
def module_proxy(
    certificates: Certificates, hosts: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ProxyMaker]:
    """The same, for the rest of the module."""
    with proxies(certificates, hosts, tmp_path_factory) as make:
        yield make


@pytest.fixture(scope="module")
def gateway(module_proxy: ProxyMaker) -> Proxy:
    """One proxy with the usual settings for all tests of a module."""
    return module_proxy("")

"""Fixtures of this folder: origins and servers for the whole run, a proxy for a test or a module."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.process.carriers import Echo, Mailboxes, Servers, Shelf
from tests.process.kept import KeptOrigin
from tests.process.mailservers import Dovecot, Postfix
from tests.process.origins import BODY_NAME, NAMES, BodyOrigin, Certificates, Nginx, serving
from tests.process.running import Proxy, settings
from tests.process.servers import Vsftpd

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


@pytest.fixture(scope="session")
def mailboxes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where mail lies."""
    folder = tmp_path_factory.mktemp("mail")
    shutil.chown(folder, "nobody")
    return folder


@pytest.fixture(scope="session")
def postfix(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates, mailboxes: Path) -> Iterator[Postfix]:
    """A Postfix."""
    server = Postfix(tmp_path_factory.mktemp("postfix"), certificates, mailboxes)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def dovecot(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates, mailboxes: Path) -> Iterator[Dovecot]:
    """A Dovecot."""
    server = Dovecot(tmp_path_factory.mktemp("dovecot"), certificates, mailboxes)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def servers(
    tmp_path_factory: pytest.TempPathFactory,
    certificates: Certificates,
    mailboxes: Path,
    postfix: Postfix,
    dovecot: Dovecot,
) -> Iterator[Servers]:
    """A server of every protocol that carries content."""
    with ExitStack() as running:
        plain, secure = Shelf(None), Shelf(certificates.files[BODY_NAME])
        for shelf in (plain, secure):
            running.enter_context(serving(shelf))
        echo = Echo()
        running.callback(echo.stop)
        vsftpd = Vsftpd(tmp_path_factory.mktemp("vsftpd"), certificates)
        running.callback(vsftpd.stop)
        yield Servers(plain, secure, echo, vsftpd, postfix, dovecot, Mailboxes(mailboxes))


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


@pytest.fixture(scope="session")
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

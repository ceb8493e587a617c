"""Engines are reached by address or name, in the clear or by TLS, with what inspectors are given for that."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence

import pytest
from twisted.internet.defer import Deferred, succeed

from sslintercept.facts import Address
from sslintercept.inspect.reach import reached
from sslintercept.inspect.shipped.icap import IcapInspector, IcapOptions
from sslintercept.net.connector import Connector
from sslintercept.net.upstream import UpstreamTls
from sslintercept.testing.loop import Loop
from sslintercept.testing.peer import EPOCH, Peer
from sslintercept.tls.context import UpstreamContext
from sslintercept.tls.verify import Verifier
from tests.engines import fault, outcome
from tests.icap.support import reply, told
from tests.support import authority, leaf, loop

from .shipped.support import Handler, Shown, part

__all__ = ["loop"]


class One:
    """Knows one name."""

    def resolve(self, host: str) -> Deferred[Sequence[str]]:
        assert host == "engine.test"
        return succeed(["127.0.0.1"])


class Named(Handler):
    """Can reach engines by their names."""

    def __init__(self, loop: Loop) -> None:
        super().__init__(loop)
        self.connector = Connector(loop.handler, One(), timeout=3.0)


class Secure(Named):
    """And by TLS."""

    def __init__(self, loop: Loop) -> None:
        super().__init__(loop)
        self.secure = UpstreamTls(
            UpstreamContext(min_version="1.2"),
            Verifier([authority().certificate], None),
            require=True,
            timeout=5.0,
            wall_clock=lambda: EPOCH,
        )


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


def accepted(loop: Loop, listener: socket.socket) -> Peer:
    """The engine's end of the only connection."""
    loop.pump()
    sock, _ = listener.accept()
    sock.setblocking(False)
    loop.peers.append(sock)
    (vc,) = loop.handler.connections
    return Peer(loop, sock, vc)


@pytest.mark.parametrize(("engines", "host"), [(Handler, "127.0.0.1"), (Handler, "localhost"), (Named, "engine.test")])
def test_an_engine_is_reached_by_its_address_or_name(
    loop: Loop, listener: socket.socket, engines: type[Handler], host: str
) -> None:
    opening = reached(engines(loop), Address(host, listener.getsockname()[1]), "engine")()
    peer = accepted(loop, listener)
    line = outcome(opening)
    line.write(b"question")
    loop.pump()
    assert peer.take() == b"question"
    line.close()


def test_a_name_that_nobody_knows_or_tls_that_nobody_has_is_a_mistake(loop: Loop) -> None:
    with pytest.raises(ValueError, match="no names"):
        reached(Handler(loop), Address("engine.test", 1), "engine")
    with pytest.raises(ValueError, match="needs TLS"):
        reached(Named(loop), Address("engine.test", 1), "engine", secure=True)


@pytest.mark.parametrize(("name", "good"), [("engine.test", True), ("other.test", False)])
def test_a_service_by_tls_must_be_the_one_that_is_meant(
    loop: Loop, listener: socket.socket, name: str, good: bool
) -> None:
    uri = f"icaps://engine.test:{listener.getsockname()[1]}/scan"
    inspector = IcapInspector(IcapOptions(services=(uri,)), Secure(loop))
    one = Shown(inspector, part(), b"abcd")
    peer = accepted(loop, listener)

    def script(peer: Peer) -> None:
        asked = peer.take()
        if asked.startswith(b"OPTIONS " + uri.encode()):
            peer.send(told())
        elif asked:
            peer.send(reply(204, None))

    peer.received = script
    peer.serve_tls(leaf(name))
    loop.pump()
    assert one.over
    assert one.verdict is None
    assert (one.error is None) is good
    if not good:
        assert one.fault == "unreachable"
    inspector.close()


def test_nobody_at_the_address_is_unreachable(loop: Loop, listener: socket.socket) -> None:
    where = Address(*listener.getsockname())
    listener.close()
    opening = reached(Handler(loop), where, "engine")()
    loop.pump()
    assert fault(opening) == "unreachable"

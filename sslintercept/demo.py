"""
C{make demo}: an origin, the proxy and a client in one process; prints what was recorded of one HTTPS request.

Everything is made for the occasion in a temporary folder and thrown away.
"""

from __future__ import annotations

import http.client
import ssl
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from OpenSSL import crypto
from twisted.internet.defer import Deferred
from twisted.internet.ssl import CertificateOptions
from twisted.internet.task import react
from twisted.internet.threads import deferToThread
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from sslintercept.load import load
from sslintercept.log.sequence import Sequence
from sslintercept.service import SslInterceptService
from sslintercept.tls.authority import Authority
from sslintercept.tls.leaf import LeafRequest, LeafSource

INI = """\
[sslintercept]
state_dir = {folder}/state
[listen:proxy]
endpoint = tcp:0:interface=127.0.0.1
[upstream-tls]
trust = {folder}/origin-ca.pem
handshake_order = client-first
[log]
access = {folder}/access.log
sequence = {folder}/sequences
"""
BODY = b"Hello from the origin, seen in the clear on its way.\n" * 8000


class Hello(Resource):
    """The origin's only page."""

    isLeaf = True

    def render_GET(self, request: Request) -> bytes:
        """Answer."""
        request.setHeader(b"content-type", b"text/plain")
        return BODY


def origin(folder: Path, reactor: Any) -> Any:
    """Listen as an HTTPS origin with a CA of its own (Any: Twisted's port and reactor)."""
    authority = Authority.untrusted("CA of the demo's origin", datetime.now(UTC))
    (folder / "origin-ca.pem").write_bytes(authority.export("pem"))
    now = datetime.now(UTC).timestamp()
    leaf = LeafSource(authority, lifetime=3600.0 * 24, key_path=None).leaf(LeafRequest(host="localhost"), now)
    options = CertificateOptions(
        privateKey=crypto.PKey.from_cryptography_key(leaf.private_key),
        certificate=crypto.load_certificate(crypto.FILETYPE_ASN1, leaf.der),
    )
    page = Hello()  # type: ignore[no-untyped-call]  # twisted.web is untyped
    return reactor.listenSSL(0, Site(page), options, interface="127.0.0.1")


def fetch(proxy_port: int, origin_port: int, ca: Path) -> tuple[int, bytes]:
    """One request through the proxy, as any client would make it."""
    context = ssl.create_default_context(cafile=str(ca))
    client = http.client.HTTPSConnection("127.0.0.1", proxy_port, context=context, timeout=20)
    client.set_tunnel("localhost", origin_port)
    client.request("GET", "/", headers={"Connection": "close"})
    response = client.getresponse()
    body = response.read()
    client.close()
    return response.status, body


async def run(reactor: Any, folder: Path) -> None:
    """Make everything, fetch, print, tidy up."""
    server = origin(folder, reactor)
    ini = folder / "demo.ini"
    ini.write_text(INI.format(folder=folder))
    service = SslInterceptService(load(ini), reactor)
    recorded: Deferred[Sequence] = Deferred()
    service.recorded = recorded.callback
    service.started = lambda: None
    service.privilegedStartService()
    service.startService()
    try:
        status, body = await deferToThread(
            fetch, service.addresses()[0].port, server.getHost().port, service.settings.ca.certificate
        )
        sequence = await recorded
        assert body == BODY
        print(sequence.plantuml())
        print(sequence.mermaid())
        print(f"the client got {status} and {len(body)} bytes, as the origin sent them; the access log says:")
    finally:
        await service.stopService()
        await server.stopListening()
    print((folder / "access.log").read_text(), end="")


def main() -> None:
    """Run the demo."""
    with tempfile.TemporaryDirectory(prefix="sslintercept-demo-") as name:
        react(lambda reactor: Deferred.fromCoroutine(run(reactor, Path(name))))


if __name__ == "__main__":
    main()

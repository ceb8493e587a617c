"""
sslsplit with a static target: transparent, so no CONNECT.

Its http and https specs force Connection: close, so keep-alive needs the ssl and tcp specs (no look at HTTP).
"""

from __future__ import annotations

from types import SimpleNamespace

from peer import Peer


class Sslsplit(Peer):
    program = "sslsplit"
    caps = frozenset({"plain", "bump"})
    direct = True
    specs = ("ssl", "tcp")

    def argv(self, ctx: SimpleNamespace, kind: str) -> list[object]:
        ctx.env.update(SSL_CERT_FILE=str(ctx.trust), SSL_CERT_DIR="/nonexistent")
        tls, plain = self.specs
        return [
            *("sslsplit", "-k", ctx.cakey, "-c", ctx.ca, "-K", ctx.cakey, "-o", "VerifyPeer=yes"),
            *(tls, "127.0.0.1", ctx.port, "127.0.0.1", ctx.https),
            *(plain, "127.0.0.1", ctx.port + 1, "127.0.0.1", ctx.origin),
        ]


PEERS = [
    Sslsplit("sslsplit"),
    Sslsplit("sslsplit-https", specs=("https", "http"), skip={"plain-rps", "bump-rps", "bump-up", "mem-idle"}),
]

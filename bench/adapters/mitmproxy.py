"""
mitmdump, a single process: from C{BENCH_MITMDUMP}, the path, or a virtual environment C{mitm} in C{BENCH_TMP}.

TLS to the proxy port is taken without any option, with a certificate forged for the proxy's own name.
"""

from __future__ import annotations

import os
import shutil
from types import SimpleNamespace

from peer import TMP, Peer


class Mitm(Peer):
    program = os.environ.get("BENCH_MITMDUMP") or shutil.which("mitmdump") or str(TMP / "mitm/bin/mitmdump")
    caps = frozenset({"plain", "bump", "tunnel", "tls"})
    options: tuple[str, ...] = ()
    start_timeout = 40

    def argv(self, ctx: SimpleNamespace, kind: str) -> list[object]:
        (ctx.dir / "mitmproxy-ca.pem").write_text(ctx.capem.read_text())
        ctx.proxy_ca = ctx.ca
        return [
            *(self.program, "-q", "--listen-host", "127.0.0.1", "-p", ctx.port, "--set", f"confdir={ctx.dir}"),
            *("--set", f"ssl_verify_upstream_trusted_ca={ctx.trust}"),
            *self.options,
            *(("--ignore-hosts", ".*") if kind == "tunnel" else ()),
        ]


PEERS = [Mitm("mitmproxy"), Mitm("mitmproxy-stream", options=("--set", "stream_large_bodies=1m"))]

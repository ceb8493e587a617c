"""
proxy.py, as many workers as cores, in a virtual environment C{proxypy} in C{BENCH_TMP}.

It refuses a TLS proxy port together with interception, so there is no TLS in TLS.
"""

from __future__ import annotations

import os
from types import SimpleNamespace

from peer import TMP, Peer


class ProxyPy(Peer):
    program = str(TMP / "proxypy/bin/proxy")
    caps = frozenset({"plain", "bump", "tunnel"})

    def argv(self, ctx: SimpleNamespace, kind: str) -> list[object]:
        (ctx.dir / "certs").mkdir()
        workers = os.cpu_count()
        command: list[object] = [
            *(self.program, "--hostname", "127.0.0.1", "--port", ctx.port, "--num-workers", workers),
            *("--num-acceptors", workers, "--log-level", "ERROR", "--data-dir", ctx.dir / "data"),
            *("--open-file-limit", 16384, "--backlog", 1024, "--timeout", 60),
        ]
        if kind != "tunnel":
            command += [
                *("--ca-key-file", ctx.cakey, "--ca-cert-file", ctx.ca, "--ca-signing-key-file", ctx.cakey),
                *("--ca-cert-dir", ctx.dir / "certs", "--ca-file", ctx.trust),
            ]
        return command


PEERS = [ProxyPy("proxypy")]

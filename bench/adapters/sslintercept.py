"""
This project: C{.venv/bin/twistd} of the checkout, or of the folder C{SSLINTERCEPT_BIN}.

Verification and the access log are on, as a user would have them.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

from peer import Peer

BIN = Path(os.environ.get("SSLINTERCEPT_BIN", Path(__file__).resolve().parents[2] / ".venv" / "bin"))


class Ours(Peer):
    program = str(BIN / "twistd")
    caps = frozenset({"plain", "bump", "tunnel", "tls", "cache", "bump-cache"})
    workers = 1

    def argv(self, ctx: SimpleNamespace, kind: str) -> list[object]:
        rule = "[rule:all]\naction = tunnel\n" if kind == "tunnel" else ""
        cache = ""
        if ctx.cache:
            cache = f"[cache]\npath = {ctx.store}\nsize = {ctx.cache.size >> 20}MiB\n"
            cache += f"memory = {ctx.cache.memory >> 20}MiB\ndecrypted = {'yes' if ctx.cache.decrypted else 'no'}\n\n"
        ini = ctx.dir / "sslintercept.ini"
        ini.write_text(f"""\
[sslintercept]
state_dir = {ctx.dir}/state
workers = {self.workers}

[listen:proxy]
endpoint = tcp:{ctx.port}:interface=127.0.0.1
accept = http, tls

[ca]
certificate = {ctx.ca}
key = {ctx.cakey}

[proxy-tls]
certificate = {ctx.proxy_cert}
key = {ctx.proxy_key}

[upstream-tls]
trust = {ctx.trust}

[log]
access = {ctx.dir}/access.log

{cache}{rule}""")
        return [self.program, "-n", "--pidfile=", "sslintercept", "--config", ini]


PEERS = [Ours("sslintercept"), Ours("sslintercept-2w", workers=2)]

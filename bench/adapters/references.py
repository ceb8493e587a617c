"""Physical references: no proxy at all, and C relays that clients address directly."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

from peer import ORIGIN, Peer, leaf

NGINX_STREAM = Path("/usr/lib/nginx/modules/ngx_stream_module.so")


class Nothing(Peer):
    """Clients go straight to the origin; a sleeping process stands in for a proxy."""

    program = "sleep"
    caps = frozenset({"plain", "bump", "tunnel"})
    direct, port = True, ORIGIN
    skip = frozenset({"bump-forge", "mem-idle", "mem-slow"})

    def argv(self, ctx: SimpleNamespace, kind: str) -> list[object]:
        return ["sleep", 100000]


class HaproxyTcp(Peer):
    """A blind relay of plain bytes."""

    program = "haproxy"
    caps = frozenset({"tunnel"})
    direct = True

    def listener(self, ctx: SimpleNamespace) -> str:
        return f"mode tcp\n bind 127.0.0.1:{ctx.port}\n server o 127.0.0.1:{ctx.origin}\n"

    def argv(self, ctx: SimpleNamespace, kind: str) -> list[object]:
        (ctx.dir / "haproxy.cfg").write_text(f"""\
global
 nbthread {os.cpu_count()}
 maxconn 8000
 tune.ssl.default-dh-param 2048
defaults
 timeout connect 5s
 timeout client 90s
 timeout server 90s
listen l
 {self.listener(ctx)}""")
        return ["haproxy", "-db", "-q", "-f", ctx.dir / "haproxy.cfg"]


class HaproxyTls(HaproxyTcp):
    """Ends TLS with a ready wildcard leaf and opens verified TLS to the origin: interception work without forging."""

    caps = frozenset({"bump"})
    skip = frozenset({"bump-forge"})

    def listener(self, ctx: SimpleNamespace) -> str:
        leaf(ctx.dir / "wild", "*.bench.test", ctx.ca, ctx.cakey)
        parts = (ctx.dir / "wild.key", ctx.dir / "wild.pem", ctx.ca)
        (ctx.dir / "leaf.pem").write_text("".join(part.read_text() for part in parts))
        return f"""\
mode http
 option http-keep-alive
 http-reuse never
 bind 127.0.0.1:{ctx.port} ssl crt {ctx.dir}/leaf.pem alpn http/1.1
 server o 127.0.0.1:{ctx.https} ssl verify required ca-file {ctx.trust} sni ssl_fc_sni no-ssl-reuse
"""


class NginxStream(Peer):
    program = "nginx"
    caps = frozenset({"tunnel"})
    direct = True

    def installed(self) -> bool:
        return super().installed() and NGINX_STREAM.exists()

    def argv(self, ctx: SimpleNamespace, kind: str) -> list[object]:
        (ctx.dir / "nginx.conf").write_text(f"""\
load_module {NGINX_STREAM};
worker_processes {os.cpu_count()};
daemon off;
user root;
pid {ctx.dir}/pid;
error_log {ctx.dir}/error.log;
worker_rlimit_nofile 16384;
events {{ worker_connections 8000; }}
stream {{ server {{ listen 127.0.0.1:{ctx.port} reuseport; proxy_pass 127.0.0.1:{ctx.origin}; }} }}
""")
        return ["nginx", "-c", ctx.dir / "nginx.conf"]


PEERS = [Nothing("nothing"), HaproxyTcp("haproxy-tcp"), HaproxyTls("haproxy-tls"), NginxStream("nginx-stream")]

"""
Squid with OpenSSL.

Its https_port refuses ssl-bump without intercept, so there is no TLS in TLS. Its forged leaves use the CA's own key, so
the CA's key type sets the price of a handshake.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from types import SimpleNamespace

from peer import Peer

CERTGEN = "/usr/lib/squid/security_file_certgen"


class Squid(Peer):
    program = "squid"
    caps = frozenset({"plain", "bump", "tunnel"})
    workers = 1

    def installed(self) -> bool:
        return super().installed() and os.path.exists(CERTGEN)  # else a build without OpenSSL

    def argv(self, ctx: SimpleNamespace, kind: str) -> list[object]:
        bump = ""
        port = f"http_port 127.0.0.1:{ctx.port}"
        if kind == "bump":
            subprocess.run(
                [CERTGEN, "-c", "-s", ctx.dir / "ssl_db", "-M", "64MB"], check=True, stdout=subprocess.DEVNULL
            )
            port += f" ssl-bump tls-cert={ctx.capem} generate-host-certificates=on dynamic_cert_mem_cache_size=64MB"
            bump = f"""\
sslcrtd_program {CERTGEN} -s {ctx.dir}/ssl_db -M 64MB
sslcrtd_children 4 startup=2 idle=1
acl step1 at_step SslBump1
ssl_bump peek step1
ssl_bump bump all
"""
        (ctx.dir / "squid.conf").write_text(f"""\
{port}
{bump}tls_outgoing_options cafile={ctx.trust} flags=NO_DEFAULT_CA
workers {self.workers}
http_access allow all
cache deny all
cache_mem 8 MB
access_log none
cache_log {ctx.dir}/cache.log
cache_store_log none
pid_filename {ctx.dir}/squid.pid
coredump_dir {ctx.dir}
hosts_file /etc/hosts
dns_nameservers 127.0.0.1
visible_hostname bench
shutdown_lifetime 0 seconds
max_filedescriptors 16384
pinger_enable off
""")
        for path in (ctx.dir, *ctx.dir.rglob("*")):
            shutil.chown(path, "proxy", "proxy")
        return ["squid", "--foreground", "-f", ctx.dir / "squid.conf", "-n", f"bench{os.getpid() % 10000}"]


PEERS = [Squid("squid"), Squid("squid-2w", workers=2), Squid("squid-rsa", ca_type="rsa")]

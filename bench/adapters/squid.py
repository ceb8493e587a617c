"""
Squid with OpenSSL.

Its https_port refuses ssl-bump without intercept, so there is no TLS in TLS. Its forged leaves use the CA's own key, so
the CA's key type sets the price of a handshake.

Its cache on disk is C{aufs}, a file for each response, read by threads; or C{rock}, slots of 16 KiB in one file, read
by a process of its own, and the only kind that several workers may share. Rock keeps one response for each value of a
hash with as many values as there are slots, so of 4000 responses in 131072 slots about three in a hundred push each
other out. Where memory is enough there is no disk.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

from peer import Cache, Peer

CERTGEN = "/usr/lib/squid/security_file_certgen"


class Squid(Peer):
    program = "squid"
    caps: frozenset[str] | set[str] = frozenset({"plain", "bump", "tunnel", "cache", "bump-cache"})
    workers = 1
    storage = "aufs"

    def installed(self) -> bool:
        return super().installed() and os.path.exists(CERTGEN)  # else a build without OpenSSL

    def cache(self, cache: Cache | None, folder: Path) -> str:
        """What squid.conf says of the cache."""
        if cache is None:
            return "cache deny all\ncache_mem 8 MB\n"
        lines = f"cache_mem {cache.memory >> 20} MB\nmaximum_object_size_in_memory 1 MB\n"
        if cache.disk:
            levels = " 16 256" if self.storage == "aufs" else ""
            lines += f"cache_dir {self.storage} {folder} {cache.size >> 20}{levels}\n"
        return lines

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
{self.cache(ctx.cache, ctx.store)}access_log none
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
        command = ["squid", "-f", ctx.dir / "squid.conf", "-n", f"bench{os.getpid() % 10000}"]
        if ctx.cache and ctx.cache.disk:
            subprocess.run([*command, "-z", "-N"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return [*command, "--foreground"]


PEERS = [
    Squid("squid"),
    Squid("squid-2w", workers=2, storage="rock"),
    Squid("squid-rsa", ca_type="rsa", caps={"plain", "bump", "tunnel"}),
    Squid("squid-rock", storage="rock", caps={"cache"}, skip={"hit-ram", "hit-ram-64k", "miss", "miss-64k"}),
]

"""Apache Traffic Server 9 as Debian packages it: forward proxy and blind CONNECT; it cannot bump CONNECT."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

from peer import Peer

ETC = Path("/etc/trafficserver")


class Ats(Peer):
    program = "traffic_server"
    caps = frozenset({"plain", "tunnel", "cache"})
    start_timeout = 20

    def installed(self) -> bool:
        return super().installed() and ETC.exists()

    def argv(self, ctx: SimpleNamespace, kind: str) -> list[object]:
        root, etc = ctx.dir, ctx.dir / "etc"
        shutil.copytree(ETC, etc)
        layout = {key: root / key for key in ("runtimedir", "logdir", "cachedir", "localstatedir")}
        for folder in layout.values():
            folder.mkdir()
        library = next(path for place in ("", "*/") for path in Path("/usr/lib").glob(f"{place}trafficserver"))
        layout.update(prefix=root, exec_prefix=root, bindir=Path("/usr/bin"), sbindir=Path("/usr/sbin"), sysconfdir=etc)
        layout.update(datadir=Path("/usr/share/trafficserver"), includedir=Path("/usr/include"))
        layout.update(libdir=library, libexecdir=library / "modules")
        # by hand, as Debian's `traffic_layout init` is broken
        (root / "runroot.yaml").write_text("".join(f"{key}: {path}\n" for key, path in layout.items()))
        (etc / "records.config").write_text(f"""\
CONFIG proxy.config.http.server_ports STRING {ctx.port}:ip-in=127.0.0.1
CONFIG proxy.config.http.connect_ports STRING *
CONFIG proxy.config.reverse_proxy.enabled INT 0
CONFIG proxy.config.url_remap.remap_required INT 0
CONFIG proxy.config.http.cache.http INT {int(ctx.cache is not None)}
CONFIG proxy.config.http.cache.required_headers INT 2
CONFIG proxy.config.cache.ram_cache.size INT {ctx.cache.memory if ctx.cache else 0}
CONFIG proxy.config.http.insert_response_via_str INT 0
CONFIG proxy.config.exec_thread.autoconfig.enabled INT 0
CONFIG proxy.config.exec_thread.limit INT {os.cpu_count()}
CONFIG proxy.config.admin.user_id STRING trafficserver
CONFIG proxy.config.log.logging_enabled INT 0
CONFIG proxy.config.hostdb.host_file.path STRING /etc/hosts
CONFIG proxy.config.diags.debug.enabled INT 0
CONFIG proxy.config.ssl.client.verify.server.policy STRING ENFORCED
""")
        (etc / "storage.config").write_text(f"{ctx.store} {ctx.cache.size}\n" if ctx.cache else "")
        (etc / "ip_allow.yaml").write_text(
            "ip_allow:\n  - apply: in\n    ip_addrs: 127.0.0.0/8\n    action: allow\n    methods: ALL\n"
        )
        for path in (root, *root.rglob("*")):
            if not path.is_symlink():
                shutil.chown(path, "trafficserver", "trafficserver")
        ctx.env["TS_RUNROOT"] = str(root / "runroot.yaml")
        return ["traffic_server", f"--run-root={root}/runroot.yaml"]


PEERS = [Ats("ats")]

"""A zone that is signed with the tools of BIND: what a validating client gets, and what it validates it with."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

ORIGIN: Final = "signed.test"
RECORDS: Final = "$TTL 60\n@ SOA ns root 1 60 60 60 30\n@ NS ns\nns A 127.0.0.1\nwww A 192.0.2.1\nalias CNAME www\n"


def sign(folder: Path) -> str:
    """
    Write the signed zone into C{folder}/signed. It has three keys, so that they fit into no datagram of 1232 bytes.

    @return: the keys to trust, as delv and named read them.
    """
    for kind in ("KSK", "KSK", "ZSK"):
        flag = ("-f", kind) if kind == "KSK" else ()
        bind("dnssec-keygen", "-q", "-K", str(folder), "-a", "RSASHA256", "-b", "2048", *flag, ORIGIN)
    (folder / "unsigned").write_text(RECORDS)
    files = ("-o", ORIGIN, "-d", str(folder), "-f", str(folder / "signed"), str(folder / "unsigned"))
    bind("dnssec-signzone", "-q", "-S", "-K", str(folder), *files)
    anchors = []
    for file in sorted(folder.glob(f"K{ORIGIN}.*.key")):
        fields = file.read_text().rpartition(" DNSKEY ")[2].split()
        if fields[0] == "257":  # a key that signs keys
            anchors.append(f'"{ORIGIN}." static-key {" ".join(fields[:3])} "{"".join(fields[3:])}";')
    return "trust-anchors { " + " ".join(anchors) + " };\n"


def bind(name: str, *options: str) -> None:
    """Run one of BIND's tools."""
    where = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin")
    assert where is not None, f"{name} is not installed"
    subprocess.run([where, *options], check=True, capture_output=True)

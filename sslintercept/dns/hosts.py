"""Names that no server is asked for: those of a hosts file (hosts(5)), and those with a meaning of their own."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import Final

LARGEST: Final = 4 * 1024 * 1024
"""bytes of a hosts file that are read"""
LOOK: Final = 1.0
"""seconds between two looks at the file"""
LOOPBACK: Final = ("127.0.0.1", "::1")
"""what C{localhost} and everything below it stand for (RFC 6761 6.3)"""
NOWHERE: Final = ("invalid", "onion")
"""top-level names that are in no zone (RFC 6761 6.4, RFC 7686 2)"""


class HostsFile:
    """
    A hosts file, read again when it has changed.

    @ivar names: the addresses of each name, names folded and without a trailing dot.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.names: dict[str, tuple[str, ...]] = {}
        self._stamp: tuple[int, int, int] | None = None
        self._look_at = float("-inf")

    def get(self, name: str, now: float) -> tuple[str, ...] | None:
        """The addresses of C{name}, which is folded and has no trailing dot, or C{None}."""
        if now >= self._look_at:
            self._look_at = now + LOOK
            self._refresh()
        return self.names.get(name)

    def _refresh(self) -> None:
        try:
            stat = os.stat(self.path)
            stamp = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if stamp == self._stamp:
                return
            with open(self.path, encoding="ascii", errors="replace") as file:
                text = file.read(LARGEST)
        except OSError:
            self._stamp, self.names = None, {}
            return
        self._stamp = stamp
        self.names = parse(text)


def parse(text: str) -> dict[str, tuple[str, ...]]:
    """What a hosts file says; lines that cannot be understood are ignored, as by every resolver."""
    names: dict[str, list[str]] = {}
    for line in text.splitlines():
        fields = line.partition("#")[0].split()
        if len(fields) < 2:
            continue
        try:
            host = str(ipaddress.ip_address(fields[0]))
        except ValueError:
            continue
        for name in fields[1:]:
            kept = names.setdefault(name.lower().rstrip("."), [])
            if host not in kept:
                kept.append(host)
    return {name: tuple(hosts) for name, hosts in names.items()}


def special(name: str) -> tuple[str, ...] | None:
    """The addresses of a special name, none for one that is nowhere; C{None} for all other names."""
    last = name[name.rfind(".") + 1 :]
    if last == "localhost":
        return LOOPBACK
    return () if last in NOWHERE else None

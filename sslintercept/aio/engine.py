"""Which engine it is: C{[aio] engine}."""

from __future__ import annotations

from twisted.logger import Logger

from sslintercept.aio.native import NativeEngine
from sslintercept.aio.request import DiskEngine, Handler
from sslintercept.aio.threads import THREADS, ThreadEngine
from sslintercept.errors import ConfigError

log = Logger()


def choose(setting: str, handler: Handler, *, threads: int = THREADS) -> DiskEngine:
    """
    The engine for a setting; C{auto} means native. Where the kernel refuses, threads take its place; the log says so.

    @param threads: for each file that is served by threads.
    @raise ConfigError: there is no such engine.
    """
    if setting == "threads":
        return ThreadEngine(handler, threads=threads)
    if setting not in ("auto", "native"):
        what = (
            "uring is not in this version (see docs/aio.md)"
            if setting == "uring"
            else f"there is no disk engine {setting}"
        )
        raise ConfigError(what, where="[aio] engine", remedy="write auto, native or threads")
    try:
        return NativeEngine(handler, threads=threads)
    except OSError as error:
        log.warn("[aio] engine: the kernel refuses native requests ({why}); threads serve the disk", why=error.strerror)
        return ThreadEngine(handler, threads=threads)

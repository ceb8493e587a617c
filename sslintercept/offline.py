"""C{sslintercept cache ...} where no process runs: the spans are opened here, asked, and closed again."""

from __future__ import annotations

from time import time

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from sslintercept.cache.disk import Disk
from sslintercept.cache.operate import operate
from sslintercept.cache.processor import Absent, CacheProcessor
from sslintercept.config.schema import Settings
from sslintercept.net.handler import NetHandler


async def _operate(settings: Settings, handler: NetHandler, word: str, argument: str) -> None:
    for worker in range(settings.workers):
        processor = CacheProcessor(Absent(), handler, time, memory=0, largest=0)
        disk = Disk(settings, handler, processor, worker)
        try:
            await disk.start()
            assert disk.cached is not None
            where = f"{worker}: " if settings.workers > 1 else ""
            await operate(disk.cached, word, argument, lambda line, where=where: print(where + line))  # type: ignore[misc]  # a default, not a parameter
        finally:
            await disk.stop()


def operate_alone(settings: Settings, word: str, argument: str) -> int:
    """
    Do what is asked for; 0 if that went well.

    @raise InterceptError: the spans cannot be used.
    """
    from twisted.internet import reactor  # the choice of one is made by importing it

    handler = NetHandler(reactor)
    outcome: list[object] = []

    def over(result: object) -> None:
        outcome.append(result)
        handler.stop()
        reactor.stop()

    def begin() -> None:
        handler.start()
        Deferred.fromCoroutine(_operate(settings, handler, word, argument)).addBoth(over)

    reactor.callWhenRunning(begin)
    reactor.run()
    if isinstance(outcome[0], Failure):
        outcome[0].raiseException()
    return 0

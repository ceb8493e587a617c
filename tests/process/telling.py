"""
The service of a gateway in a process, which tells the events that a line on its standard input names.

C{python -m tests.process.telling INI}: C{tell ID KIND} tells one, C{keep ID CONTENT} one with a copy, C{many NUMBER} so
many; each line is answered with one. The end of the input, or SIGTERM, ends it.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

from twisted.internet import reactor as installed
from twisted.logger import globalLogBeginner, textFileLogObserver

from sslintercept.load import load
from sslintercept.service import SslInterceptService
from tests.event.events import event

reactor: Any = installed  # Any: it provides a dozen interfaces; mypy knows no intersection


def say(text: object) -> None:
    """Answer."""
    print(text, flush=True)


def asked(service: SslInterceptService, line: str) -> None:
    """Do what a line says."""
    word, *rest = line.split()
    if word == "tell":
        service.events.tell(event(id=rest[0], kind=rest[1]))
    elif word == "keep":
        service.events.tell_with_copy(event(id=rest[0], act="quarantine"), [rest[1].encode()]).addCallback(say)
        return
    elif word == "many":
        for number in range(int(rest[0])):
            service.events.tell(event(id=str(number)))
    say(service.events.summary())


def main(ini: str) -> None:
    """Run until the end."""
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)], redirectStandardIO=False)
    service = SslInterceptService(load(Path(ini)), reactor)
    service.started = lambda: say("up")

    def listen() -> None:
        for line in sys.stdin:
            reactor.callFromThread(asked, service, line)
        reactor.callFromThread(reactor.stop)

    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    reactor.callWhenRunning(service.privilegedStartService)
    reactor.callWhenRunning(service.startService)
    threading.Thread(target=listen, daemon=True).start()
    reactor.run(installSignalHandlers=False)


if __name__ == "__main__":
    main(sys.argv[1])

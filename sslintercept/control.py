"""
Questions to processes that run: a socket in the state folder, where only who runs them may ask.

A question is one line of words, an answer lines, the last of them C{.} alone, or C{! } and what went wrong.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

from sslintercept.errors import InterceptError

MOST_QUESTION: Final = 16 * 1024
"""bytes of a question"""
PATIENCE: Final = 600.0
"""seconds that an answer may take"""
NAME: Final = "control"

Answerer = Callable[[str, str, Callable[[str], object]], Deferred[None]]
"""called with the first word of a question, the rest of it, and what takes lines"""


class Questions(LineOnlyReceiver):
    """One who asks."""

    delimiter = b"\n"
    MAX_LENGTH = MOST_QUESTION
    log = Logger()

    def __init__(self, answer: Answerer) -> None:
        self._answer = answer

    def lineReceived(self, line: bytes) -> None:
        word, _, rest = line.decode("utf-8", "replace").partition(" ")

        def said(text: str) -> None:
            self.sendLine(text.replace("\n", " ").encode("utf-8", "replace"))  # type: ignore[no-untyped-call]  # Twisted's

        def failed(failure: Failure) -> None:
            if not isinstance(failure.value, InterceptError):
                self.log.failure("a question was not answered", failure=failure)
            said(f"! {failure.value}")

        def over(_: object) -> None:
            if self.transport is not None:
                self.transport.loseConnection()

        self._answer(word, rest, lambda text: said(f" {text}")).addCallbacks(lambda _: said("."), failed).addBoth(over)


class ControlPort:
    """
    The socket of this process.

    @param reactor: provides C{listenUNIX}.
    """

    def __init__(self, reactor: Any, path: Path, answer: Answerer) -> None:
        # Any: the reactor is a module with many interfaces
        self._reactor, self._path = reactor, path
        self._factory = Factory.forProtocol(lambda: Questions(answer))
        self._factory.noisy = False
        self._port: IListeningPort | None = None

    def open(self) -> None:
        """
        Listen, with mode 0600; the socket of a process that is gone is replaced.

        @raise OSError: it cannot be made.
        """
        self._path.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            self._port = self._reactor.listenUNIX(str(self._path), self._factory, mode=0o600)
        finally:
            os.umask(before)

    def close(self) -> None:
        """Listen no more."""
        if self._port is not None:
            self._port.stopListening()
            self._port = None


def socket_of(state_dir: Path, worker: int) -> Path:
    """Where a process listens."""
    return state_dir / f"{NAME}-{worker}.sock"


def ask(state_dir: Path, question: str) -> Iterator[tuple[str, str]]:
    """
    Ask every process that runs; gives the process's name and a line, again and again.

    @raise InterceptError: one of them says that it cannot, or ends before it has said everything.
    """
    for path in sorted(state_dir.glob(f"{NAME}-*.sock")):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(PATIENCE)
            try:
                connection.connect(str(path))
            except OSError:
                continue  # of a process that is gone
            yield from _answers(connection, path, question)


def _answers(connection: socket.socket, path: Path, question: str) -> Iterator[tuple[str, str]]:
    try:
        connection.sendall(question.encode("utf-8") + b"\n")
        with connection.makefile("r", encoding="utf-8", errors="replace", newline="\n") as answer:
            for line in answer:
                text = line.removesuffix("\n")
                if text.startswith("! "):
                    raise InterceptError(text[2:], where=path.name, remedy="see the proxy's log")
                if text == ".":
                    return
                yield path.stem, text[1:]
    except OSError as error:
        why = error.strerror or "it takes too long"
        raise InterceptError(f"no answer ({why})", where=path.name, remedy="look at that process") from None
    raise InterceptError("it ended in the middle of its answer", where=path.name, remedy="ask again")

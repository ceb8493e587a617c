"""Questions to processes that run, as the command asks them."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from sslintercept.control import ask, socket_of
from sslintercept.errors import InterceptError


def answered(folder: Path, answer: bytes) -> list[str]:
    """Ask a process that says C{answer}, and no more."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(socket_of(folder, 0)))
        server.listen()

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            return [line for _, line in ask(folder, "cache stat ")]
        finally:
            thread.join()


def test_an_answer_is_lines_up_to_a_dot(tmp_path: Path) -> None:
    assert answered(tmp_path, b" one\n .\n.\n") == ["one", "."]


@pytest.mark.parametrize("answer", [b"", b" one\n", b" one\n! it broke\n"])
def test_an_answer_that_is_not_all_there_is_an_error(tmp_path: Path, answer: bytes) -> None:
    with pytest.raises(InterceptError):
        answered(tmp_path, answer)

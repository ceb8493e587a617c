"""
What is said to clamd and what it answers, as bytes (clamd(8), COMMANDS).

A command begins with C{z} and ends with NUL, and so does its answer. INSTREAM is followed by chunks, each behind its
length in four bytes, the last one empty.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from sslintercept.errors import EngineError
from sslintercept.profile.profile import Bytes

INSTREAM: Final = b"zINSTREAM\0"
PING: Final = b"zPING\0"
VERSION: Final = b"zVERSION\0"
END: Final = bytes(4)
"""an empty chunk: the end of the body"""

MOST_CHUNK: Final = 1024 * 1024
"""bytes of one chunk; clamd takes as many as its StreamMaxLength"""
MOST_REPLY: Final = 4096
"""bytes of an answer; the longest hold the name of a signature"""

_FOUND = re.compile(rb"stream: (.{1,1024}) FOUND")
_PLAIN = re.compile(rb"[\x20-\x7e\x80-\xff]*")
_VERSION = re.compile(rb"(ClamAV [^/]{1,64})(?:/(\d{1,10})/(.{1,64}))?")
_SIZE = b"INSTREAM size limit exceeded. ERROR"


class Clean(NamedTuple):
    """No signature matches."""


class Found(NamedTuple):
    """A signature matches."""

    name: str


class TooBig(NamedTuple):
    """The body is longer than clamd's StreamMaxLength: nobody knows what is in it."""


Verdict = Clean | Found | TooBig


class Version(NamedTuple):
    """
    Which engine, and which signatures.

    @ivar signatures: the number of the daily base, 0 without one; C{made}: when it was made, in clamd's words.
    """

    engine: str
    signatures: int
    made: str

    @property
    def tag(self) -> bytes:
        """What changes when verdicts may change, like the ISTag of ICAP; a base of one's own has no number."""
        return f"{self.engine}/{self.signatures}/{self.made}".encode("latin-1")


def chunks(data: Bytes) -> Iterator[Bytes]:
    """Frame C{data}; nothing gives nothing, since an empty chunk is the end."""
    for at in range(0, len(data), MOST_CHUNK):
        piece = data[at : at + MOST_CHUNK]
        yield len(piece).to_bytes(4, "big")
        yield piece


class ReplyReader:
    """
    Takes an answer apart from what comes.

    @param where: what errors call the engine.
    """

    __slots__ = ("_got", "_where")

    def __init__(self, where: str) -> None:
        self._where = where
        self._got = bytearray()

    def feed(self, data: Bytes) -> bytes | None:
        """
        The answer without its NUL, or C{None} while it is not complete; then the next may begin.

        @raise EngineError: more than L{MOST_REPLY} bytes, control characters, or more than one answer.
        """
        got = self._got
        end = bytes(data[: MOST_REPLY + 1]).find(b"\0")
        got += data[: end if end >= 0 else MOST_REPLY + 1]
        if len(got) > MOST_REPLY or not _PLAIN.fullmatch(got):
            raise rubbish("an answer that is none", self._where)
        if end < 0:
            return None
        if len(data) > end + 1:
            raise rubbish("more than one answer", self._where)
        self._got = bytearray()
        return bytes(got)


def verdict(reply: bytes, where: str) -> Verdict:
    """
    What an answer to INSTREAM says.

    @raise EngineError: it is an error of clamd (C{refused}), or no such answer (C{rubbish}).
    """
    if reply == b"stream: OK":
        return Clean()
    if (match := _FOUND.fullmatch(reply)) is not None:
        return Found(match[1].decode("latin-1"))
    if reply == _SIZE:
        return TooBig()
    if reply.endswith(b" ERROR") or reply == b"COMMAND READ TIMED OUT":
        raise EngineError(shown(reply), where=where, remedy="see clamd's log", fault="refused")
    raise rubbish(f"an answer to INSTREAM that is none ({shown(reply)})", where)


def version(reply: bytes, where: str) -> Version:
    """
    What an answer to VERSION says.

    @raise EngineError: it is none.
    """
    match = _VERSION.fullmatch(reply)
    if match is None:
        raise rubbish(f"an answer to VERSION that is none ({shown(reply)})", where)
    return Version(match[1].decode("latin-1"), int(match[2] or 0), (match[3] or b"").decode("latin-1"))


def pong(reply: bytes, where: str) -> None:
    """@raise EngineError: it is no answer to PING."""
    if reply != b"PONG":
        raise rubbish(f"an answer to PING that is none ({shown(reply)})", where)


def shown(reply: bytes) -> str:
    """The beginning of an answer, for an error."""
    return reply[:120].decode("latin-1")


def rubbish(what: str, where: str) -> EngineError:
    """The error for what clamd would not say."""
    return EngineError(f"it sent {what}", where=where, remedy="is it clamd?", fault="rubbish")

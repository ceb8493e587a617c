"""
What is shown to a service, and what comes of it: unchanged, another message, or an answer in the origin's place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from sslintercept.icap.body import AnswerBody
from sslintercept.icap.verdict import Threat
from sslintercept.icap.wire import Field, Kind


@dataclass(frozen=True, slots=True)
class ModRequest:
    """
    What is shown to a service.

    @ivar request: the head of the HTTP request, with its empty line; C{response}: of the response, for RESPMOD.
    @ivar body: whether a body follows; C{length}: how long it is, or C{None} if nobody knows.
    @ivar keeps: the caller keeps the body until the outcome is there, so that the service may say 204 at any time.
    @ivar extension: what the name of the content ends with, without the dot; the service may want others whole.
    @ivar client, server, user: told to the service if they are known, as X-Client-IP and so on.
    @ivar more: other fields for the service.
    """

    kind: Kind
    request: bytes
    response: bytes | None = None
    body: bool = False
    length: int | None = None
    keeps: bool = False
    extension: str = ""
    client: str = ""
    server: str = ""
    user: str = ""
    more: tuple[Field, ...] = ()

    def heads(self) -> list[tuple[bytes, bytes]]:
        """Its parts as they are sent."""
        heads = [(b"req-hdr", self.request)]
        return heads if self.response is None else [*heads, (b"res-hdr", self.response)]


class Report(NamedTuple):
    """
    What the service said beside the message.

    @ivar status: of its answer; 0 if it was not asked.
    @ivar tag: what this verdict may be kept under, or C{None}: not at all.
    @ivar fields: the fields of its answer that begin with X-.
    """

    status: int
    tag: bytes | None
    threats: tuple[Threat, ...]
    fields: tuple[tuple[bytes, bytes], ...]


class Unchanged(NamedTuple):
    """
    The message may pass as it is.

    @ivar kept: the body as far as it was written, for the caller to pass on; then comes the rest, which the caller
        still has and which is not to be written here any more. C{None} only where the caller keeps the body itself.
    """

    kept: bytes | None
    report: Report


class Modified(NamedTuple):
    """Another message of the same kind takes its place: a head of HTTP with its empty line, and a body or none."""

    head: bytes
    body: AnswerBody | None
    report: Report


class Answered(NamedTuple):
    """A response to the request that was shown: the origin is not asked."""

    head: bytes
    body: AnswerBody | None
    report: Report


Outcome = Unchanged | Modified | Answered

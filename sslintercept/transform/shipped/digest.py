"""
C{digest}: notes the digest and the size of each body in the access log.

Good for finding out who got a file, or sent one, whatever its name was::

    [transform:downloads]
    use = digest
    match = type:application/* direction:response

The notes are C{response_sha256} and C{response_size}, or C{request_...}. They are about the content, without content
codings, and stand in the log only if the body came and was handed on as a whole.

Limits. C{md5} and C{sha1} are for comparing with lists that have nothing better: content can be made to have a given
one. A range of content (206) has no digest. SHA-256 takes 9 ms of a core for each MiB, where the processor cannot do it
itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from sslintercept.config import units
from sslintercept.config.key import setting
from sslintercept.transform.message import Message
from sslintercept.transform.processor import Transformer


@dataclass(frozen=True, slots=True)
class DigestOptions:
    """Of C{digest}."""

    algorithms: tuple[str, ...] = setting(
        units.listed(units.choice("sha256", "sha1", "md5")), "sha256", "which digests are noted"
    )


class Hash:
    """A reader that notes what it saw, if that was all."""

    def __init__(self, message: Message, algorithms: Sequence[str]) -> None:
        self._message = message
        self._hashes = [hashlib.new(name, usedforsecurity=False) for name in algorithms]
        self._size = 0

    def write(self, data: bytes) -> None:
        self._size += len(data)
        for each in self._hashes:
            each.update(data)

    def finish(self, whole: bool) -> None:
        if not whole:
            return
        direction = self._message.direction.value
        for each in self._hashes:
            self._message.note(f"{direction}_{each.name}", each.hexdigest())
        self._message.note(f"{direction}_size", str(self._size))


class Digest(Transformer):
    """Notes digests."""

    def __init__(self, options: DigestOptions) -> None:
        self.options = options

    def transform(self, message: Message) -> Hash | None:
        return None if message.partial else Hash(message, self.options.algorithms)

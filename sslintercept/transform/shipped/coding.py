"""
C{decode} and C{encode}: take content codings off for good, or put one on where there was none.

C{decode} is good for receivers that claim more than they can, and for looking at what is on the wire::

    [transform:plain]
    use = decode
    match = client:192.0.2.15

C{encode} is good for origins that do not compress, in front of a thin line::

    [transform:smaller]
    use = encode
    match = host:intranet.example type:text/*,application/json
    codings = br, gzip
    minimum = 1KiB

The client's liking counts first (C{q=}), then the order of C{codings}; a client that accepts none of them, or says
nothing, gets the body as it came. Each piece can be read as soon as it came, so server-sent events do not wait.

Limits. Name the types with C{match}: pictures, videos and archives only take time and become no smaller. Coded bodies
have no known length and no strong ETag, and ranges are not offered. What carries secrets beside what an attacker may
choose can be guessed by its compressed length (BREACH), so leave such pages alone. C{encode} is for responses; bodies
with a coding pass as they are. C{decode} changes requests, too, unless C{match} says C{direction:response}, and asks
again for the whole where an origin sends a range, since a piece of coded content cannot be decoded.
"""

from __future__ import annotations

from dataclasses import dataclass

from sslintercept.config import units
from sslintercept.config.key import setting
from sslintercept.transform.accept import codings_of
from sslintercept.transform.arrange import Leave
from sslintercept.transform.coding import CODINGS, IDENTITY
from sslintercept.transform.message import Direction, Message
from sslintercept.transform.processor import Transformer


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """Of C{decode}: there are none."""


@dataclass(frozen=True, slots=True)
class EncodeOptions:
    """Of C{encode}."""

    codings: tuple[str, ...] = setting(
        units.listed(units.choice(*CODINGS)), "zstd, br, gzip", "what may be put on, in the order of our liking"
    )
    minimum: int = setting(units.size("0B", "1GiB"), "1KiB", "bytes of a body that is worth it, if its size is known")


class DecodeContent(Transformer):
    """Lets bodies leave without a coding."""

    def __init__(self, options: DecodeOptions) -> None:
        self.options = options

    def transform(self, message: Message) -> Leave | None:
        return Leave(IDENTITY) if codings_of(message.all(b"Content-Encoding")) else None


class EncodeContent(Transformer):
    """Lets responses leave with a coding that the client accepts."""

    def __init__(self, options: EncodeOptions) -> None:
        self.options = options

    def transform(self, message: Message) -> Leave | None:
        if message.direction is Direction.REQUEST or message.partial or codings_of(message.all(b"Content-Encoding")):
            return None
        size = size_of(message)
        return None if size is not None and size < self.options.minimum else Leave(*self.options.codings)


def size_of(message: Message) -> int | None:
    """Bytes of the body, or of one that is only spoken of (HEAD), if anybody knows."""
    if message.has_body:
        return message.length
    spoken = message.get(b"Content-Length") or b""
    return int(spoken) if spoken.isdigit() and len(spoken) < 20 else None

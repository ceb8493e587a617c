"""C{redact}: masks card numbers in text, byte for byte, wherever chunks end."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sslintercept.config.key import setting
from sslintercept.config.units import integer
from sslintercept.transform.message import Message
from sslintercept.transform.processor import Transformer
from sslintercept.transform.stage import Transform

LONGEST = 19
"""bytes of a number, blanks or hyphens between its groups included"""
CARD = re.compile(
    rb"(?<![0-9])(?=([2-6](?:[0-9]{12,18}|[0-9]{3}(?:([ -])[0-9]{4}\2[0-9]{4}\2[0-9]{4}|([ -])[0-9]{6}\3[0-9]{5})))"
    rb"(?![0-9]))"
)
BEGUN = re.compile(rb"(?<![0-9])[2-6][0-9 -]*\Z")
"""what may become a number when more comes"""
DIGIT = re.compile(rb"[0-9]")


def is_genuine(number: bytes) -> bool:
    """Whether the check digit is right (ISO/IEC 7812-1, Luhn)."""
    digits = [byte - 0x30 for byte in reversed(number) if byte >= 0x30]
    return (sum(digits[::2]) + sum(sum(divmod(2 * digit, 10)) for digit in digits[1::2])) % 10 == 0


class Mask(Transform):
    """Masks all digits of a number but the last C{keep}; as many bytes come out as go in."""

    def __init__(self, message: Message, keep: int) -> None:
        self._message = message
        self._keep = keep
        self._before = b""
        """the last byte that was given"""
        self._held = b""
        self._count = 0

    def expect(self, length: int) -> None:
        self.output.expect(length)

    def write(self, data: bytes) -> None:
        self._give(self._held + data, ended=False)

    def finish(self) -> None:
        self._give(self._held, ended=True)
        if self._count:
            self._message.note("redact", f"{self._count} numbers in the {self._message.direction.value}")
        self.output.finish()

    def _give(self, data: bytes, *, ended: bool) -> None:
        """Give what is certain, and hold the rest."""
        text = bytearray(self._before + data)
        at = begin = len(self._before)
        begun = None if ended else BEGUN.search(text, max(at, len(text) - LONGEST))
        end = len(text) if begun is None else begun.start()
        while (found := CARD.search(text, at)) is not None and found.start() < end:
            at = found.start() + 1
            if is_genuine(found[1]):
                at = found.end(1)
                end = max(end, at)
                masked = slice(found.start(), at - self._keep)
                text[masked] = DIGIT.sub(b"*", text[masked])
                self._count += 1
        self._held = bytes(text[end:])
        self._before = bytes(text[:end][-1:])
        self.output.write(bytes(text[begin:end]))


class Redact(Transformer):
    """Masks card numbers in the bodies that its section matches."""

    @dataclass(frozen=True)
    class Options:
        """Of C{redact}."""

        keep: int = setting(integer(0, 4), "4", "digits at the end of a number that stay")

    def transform(self, message: Message) -> Mask | None:
        if (message.charset or "").startswith(("utf-16", "utf-32")):
            message.note("redact", f"not applied to charset {message.charset}")
            return None
        return Mask(message, self.options.keep)

"""Text of RTF (Microsoft's specification 1.9.1): characters by code page and by Unicode, without what is not shown."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from sslintercept.unpack.budget import TRUNCATED, Budget
from sslintercept.unpack.charset import known
from sslintercept.unpack.piece import MEMBER, Piece, text

MOST_DEPTH: Final = 10_000
"""groups inside each other"""
_TOKEN: Final = re.compile(
    rb"\\([a-zA-Z]{1,40})(-?[0-9]{1,10})? ?|\\'([0-9a-fA-F]{2})|\\([^a-zA-Z'])|([{}])|[\r\n]+|([^\\{}\r\n]+)", re.DOTALL
)
_SKIPPED: Final = frozenset(
    (b"fonttbl", b"colortbl", b"stylesheet", b"listtable", b"listoverridetable", b"rsidtbl", b"generator", b"pict")
)
_BREAKS: Final = frozenset((b"par", b"line", b"sect", b"page", b"row"))


def open_rtf(piece: Piece, budget: Budget) -> Iterator[Piece]:
    """What is written, and embedded objects, which are hex."""
    data = piece.content
    out: list[bytes | str] = []
    objects: list[bytes] = []
    stack: list[tuple[bool, bool, int]] = []
    skip = inside = False
    """of this group: it is not shown; it is an object's data"""
    after, left, charset = 1, 0, "cp1252"
    """characters that stand in for one of Unicode; how many of them are to come"""
    at = count = 0
    while (token := _TOKEN.match(data, at)) is not None or at < len(data):
        if token is None:
            at += 1
            continue
        at = token.end()
        count += 1
        if not count & 0xFFF:
            budget.tick()
        word, number, hexed, symbol, brace, plain = token.groups()
        if brace == b"{":
            if len(stack) < MOST_DEPTH:
                stack.append((skip, inside, after))
        elif brace == b"}":
            left = 0
            if stack:
                skip, inside, after = stack.pop()
        elif word is not None:
            if word == b"bin" and number:
                at += max(0, int(number))
            elif word == b"objdata":
                skip = inside = True
                objects.append(b"")
            elif word in _SKIPPED:
                skip = True
            elif word == b"ansicpg" and number:
                charset = known(f"cp{int(number)}") or charset
            elif word == b"uc" and number:
                after = max(0, min(int(number), 10))
            elif skip:
                continue
            elif word in _BREAKS:
                out.append("\n")
            elif word in (b"tab", b"cell"):
                out.append("\t")
            elif word == b"u" and number:
                out.append(chr(int(number) & 0xFFFF))
                left = after
        elif symbol == b"*":
            skip = True
        elif inside and plain:
            objects[-1] += plain
        elif not skip:
            if hexed is not None or symbol is not None:
                if left:
                    left -= 1
                else:
                    out.append(bytes.fromhex(hexed.decode()) if hexed else b" " if symbol == b"~" else symbol)
            elif plain is not None:
                if len(plain) > left:
                    out.append(plain[left:])
                left = max(0, left - len(plain))
    notes = [TRUNCATED] if stack else []
    yield text("text", "".join(_decoded(out, charset)), *notes)
    for each in objects:
        digits = re.sub(rb"[^0-9a-fA-F]", b"", each)
        yield Piece(MEMBER, "object", bytes.fromhex(digits[: len(digits) & ~1].decode()))


def _decoded(pieces: list[bytes | str], charset: str) -> Iterator[str]:
    """Neighbours of one kind together: a character may take several bytes, or two halves (UTF-16)."""
    at = 0
    while at < len(pieces):
        kind = type(pieces[at])
        end = at
        while end < len(pieces) and type(pieces[end]) is kind:
            end += 1
        run = pieces[at:end]
        if kind is bytes:
            yield b"".join(each for each in run if isinstance(each, bytes)).decode(charset, "replace")
        else:
            joined = "".join(each for each in run if isinstance(each, str))
            yield joined.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        at = end

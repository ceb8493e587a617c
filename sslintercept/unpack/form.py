"""Forms and JSON: what they say, with escapes undone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote_to_bytes

from sslintercept.unpack.budget import Budget
from sslintercept.unpack.charset import decode
from sslintercept.unpack.piece import FIELD, Piece, text

_SCALAR: Final = re.compile(r'"((?:[^"\\]++|\\.)*+)(?:"|\\?\Z)|(-?[0-9][0-9.eE+-]*+)', re.DOTALL)
"""a string, ended or cut off, or a number: always a match where a quote is, so that one pass is enough"""
_ESCAPES: Final = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_SHORT: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


def open_form(piece: Piece, budget: Budget) -> Iterator[Piece]:
    """The fields of application/x-www-form-urlencoded (WHATWG URL 5.1)."""
    data, at = piece.content, 0
    while at < len(data):
        end = data.find(b"&", at)
        end = len(data) if end < 0 else end
        if end > at:
            name, _, value = data[at:end].replace(b"+", b" ").partition(b"=")
            decoded = unquote_to_bytes(name).decode("utf-8", "replace")
            yield Piece(FIELD, decoded, unquote_to_bytes(value), charset=piece.charset)
        else:
            budget.tick()
        at = end + 1


def open_json(piece: Piece, budget: Budget) -> Iterator[Piece]:
    """
    All strings and numbers of a JSON text, a line each, names of members in front of what they name.

    It is not parsed: so it may be cut off, nested as deep as it likes, or many texts in a row.
    """
    source, notes = decode(piece.content, piece.charset)
    lines = []
    for match in _SCALAR.finditer(source):
        if (string := match[1]) is None:
            lines.append(match[2])
        else:
            lines.append(unescape(string) if "\\" in string else string)
        if not len(lines) & 0xFFF:
            budget.tick()
    if lines:
        yield text("json", "\n".join(lines), *notes)


def unescape(string: str) -> str:
    """What stands between the quotes of a string (RFC 8259 7)."""
    try:
        return str(json.loads(f'"{string}"', strict=False))
    except ValueError:  # cut off, or escapes of some other language
        return _ESCAPES.sub(_escaped, string)


def _escaped(match: re.Match[str]) -> str:
    if match[1]:
        return chr(int(match[1], 16))
    return _SHORT.get(match[2], match[2])

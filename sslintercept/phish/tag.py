"""
Marks a mail: fields in front of its head, and words in front of its subject.

Whatever came with the mail under names like ours goes, also where only some readers would see a field: behind a line
that is none, or behind a bare CR. Signatures of DKIM that cover the subject are not good any more afterwards.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Sequence
from textwrap import wrap
from typing import Final

OURS: Final = "X-Sslintercept-"
"""how the names of our fields begin"""
FIELD: Final = f"{OURS}Phishing"
"""the field that tells a score"""
LONGEST_VALUE: Final = 2000
"""characters of a value"""
LONGEST_LINE: Final = 76
"""characters of a line, where it can be folded (RFC 2047 2)"""
LONGEST_PREFIX: Final = 45
"""bytes of UTF-8 in one encoded word (RFC 2047 2)"""

_LINE = re.compile(rb"[^\r\n]*(?:\r\n|\n|\r)|[^\r\n]+")
_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:")
_EMPTY = re.compile(rb"(?:\A|(?<=\n))\r?\n")
_OURS = OURS.lower().encode("ascii")


def marks(score: int, reasons: Iterable[str]) -> tuple[str, str]:
    """The field that tells a score, and the names of its reasons."""
    return FIELD, f"score={score}; reasons={', '.join(reasons)}"


def tagged(message: bytes, subject_prefix: str, fields: Sequence[tuple[str, str]]) -> bytes:
    """
    Mark a mail.

    @param message: the whole of it, with CRLF or bare LF; new lines end as its first one does.
    @param subject_prefix: empty to leave the subject alone; one that is there already does not come twice.
    @param fields: names and values; what cannot stand in a value becomes a question mark.
    """
    first = message.find(b"\n")
    newline = b"\n" if first >= 0 and message[first - 1 : first] != b"\r" else b"\r\n"
    prefix = _prefix(subject_prefix)
    empty = _EMPTY.search(message)
    end = empty.start() if empty is not None else len(message)
    kept, subjects = _kept(_LINE.findall(message[:end]), prefix, newline)
    rest = message[end:]
    if kept is None:
        # No field at all: it is a body without a head.
        kept, rest = [], message if end == 0 and rest else newline + message
    elif kept and not kept[-1].endswith((b"\n", b"\r")):
        kept.append(newline)
    made = [_field(name, value, newline) for name, value in fields]
    if prefix and not subjects:
        made.append(b"Subject: " + prefix + newline)
    return b"".join((*made, *kept, rest))


def _kept(lines: Sequence[bytes], prefix: bytes, newline: bytes) -> tuple[list[bytes] | None, int]:
    """The lines that stay, those of subjects with the prefix, and how many there are; C{None} if none is a field."""
    kept: list[bytes] = []
    subjects = 0
    dropping = is_head = False
    for line in lines:
        if line[:1] not in (b" ", b"\t"):
            found = _FIELD.match(line)
            is_head = is_head or found is not None
            name = found[1].lower() if found is not None else b""
            dropping = name.startswith(_OURS)
            if found is not None and name == b"subject":
                subjects += 1
                line = _subject(line[: found.end()], line[found.end() :], prefix, newline)
        if not dropping:
            kept.append(line)
    return (kept if is_head else None), subjects


def _subject(name: bytes, value: bytes, prefix: bytes, newline: bytes) -> bytes:
    """The first line of a subject with the prefix; an encoded word behind it stays a word of its own."""
    text = value.strip()
    if not prefix or text == prefix or text.startswith((prefix + b" ", prefix + b"\t")):
        return name + value
    if not text:
        return name + b" " + prefix + (value.lstrip(b" \t") or newline)
    fits = len(name) + len(prefix) + len(text) + 2 <= LONGEST_LINE
    return name + b" " + prefix + (b" " if fits else newline + b" ") + value.lstrip(b" \t")


def _prefix(text: str) -> bytes:
    """
    Words for a subject. What is not ASCII becomes an encoded word, with a blank at its end: the one behind it is not
    shown if another such word follows (RFC 2047 6.2).
    """
    text = "".join(c if c.isprintable() else "?" for c in text).strip()
    if text.isascii():
        return text.encode("ascii")
    raw = text.encode()[:LONGEST_PREFIX].decode("utf-8", "ignore")
    return b"=?utf-8?b?" + b64encode(f"{raw} ".encode()) + b"?="


def _field(name: str, value: str, newline: bytes) -> bytes:
    """One field, folded at its blanks."""
    clean = "".join(c if " " <= c <= "~" else "?" for c in value[:LONGEST_VALUE])
    lines = wrap(clean, LONGEST_LINE - len(name) - 2, break_long_words=False, break_on_hyphens=False) or [""]
    return f"{name}: ".encode("ascii") + (newline + b" ").join(line.encode("ascii") for line in lines) + newline

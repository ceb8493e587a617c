"""
Bytes of a declared charset, as text, where what is declared may be a lie.

Who lies wants an inspector to see something else than the reader does. So a mark at the beginning counts first, then
the declared charset if it is one that mail and pages use and the bytes fit it, then what the bytes look like.
"""

from __future__ import annotations

import codecs
from typing import Final

from sslintercept.unpack.budget import CHARSET

_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_WIDE: Final = {"utf-16": "utf-16-le", "utf-32": "utf-32-le"}
"""with no mark, as pages have it (WHATWG Encoding 4.2)"""
_KNOWN: Final = frozenset(
    (
        *("utf-8", "ascii", "utf-7", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"),
        *(f"iso8859-{number}" for number in range(1, 17)),
        *(f"cp125{number}" for number in range(9)),
        *("cp437", "cp850", "cp852", "cp855", "cp862", "cp864", "cp866", "cp874", "cp932", "cp949", "cp950"),
        *("koi8-r", "koi8-u", "mac-roman", "mac-cyrillic", "tis-620"),
        *("gb2312", "gbk", "gb18030", "hz", "big5", "big5hkscs"),
        *("shift_jis", "shift_jis_2004", "shift_jisx0213", "euc_jp", "euc_jis_2004", "euc_jisx0213"),
        *("iso2022_jp", "iso2022_jp_1", "iso2022_jp_2", "iso2022_jp_ext", "iso2022_kr", "euc_kr", "johab"),
    )
)
"""Python's names; none that maps letters of ASCII elsewhere, or takes long"""
_WINDOW: Final = 4096
"""bytes that tell whether text is of two or four bytes a character"""


def known(charset: str) -> str:
    """Python's name of a charset, empty if it is none that we decode."""
    try:
        name = codecs.lookup(charset.strip("\"' ")[:40]).name
    except (LookupError, ValueError):
        return ""
    return name if name in _KNOWN else ""


def decode(data: bytes, charset: str = "") -> tuple[str, list[str]]:
    """The text, with what cannot be decoded replaced, and a note if the charset was a lie."""
    for mark, name in _MARKS:
        if data.startswith(mark):
            true = not charset or name.startswith((known(charset) or "?")[:6])
            return data[len(mark) :].decode(name, "replace"), [] if true else [CHARSET]
    lie = [CHARSET] if charset else []
    looks, name = _looks_wide(data), known(charset)
    if name.startswith(("utf-16", "utf-32")):
        name = looks or _WIDE.get(name, name)
        if not looks and _fits(data, "utf-8"):
            return data.decode("utf-8"), lie
    elif looks:
        return data.decode(looks, "replace"), lie
    if name and _fits(data, name):
        return data.decode(name), []
    if _fits(data, "utf-8"):
        return data.decode("utf-8"), lie
    return data.decode(name if name and name != "ascii" else "cp1252", "replace"), lie


def _fits(data: bytes, name: str) -> bool:
    try:
        data.decode(name)
    except (UnicodeError, ValueError):
        return False
    return True


def is_wide(data: bytes, charset: str) -> bool:
    """Whether engines that read bytes as ASCII would miss this text."""
    name = known(charset) if charset else ""
    return name.startswith(("utf-7", "utf-16", "utf-32", "iso2022", "hz")) or bool(_looks_wide(data)) or _marked(data)


def _marked(data: bytes) -> bool:
    return any(data.startswith(mark) for mark, name in _MARKS if name != "utf-8")


def _looks_wide(data: bytes) -> str:
    """Text of Latin letters in UTF-16 or UTF-32 has its zeros at every second or three of four places."""
    window = data[:_WINDOW]
    if len(window) < 4 or 0 not in window:
        return ""
    zeros = [window[place::4].count(0) / len(window[place::4]) for place in range(4)]
    many = [share > 0.6 for share in zeros]
    few = [share < 0.2 for share in zeros]
    if many[1] and many[2] and many[3] and few[0]:
        return "utf-32-le"
    if many[0] and many[1] and many[2] and few[3]:
        return "utf-32-be"
    if many[1] and many[3] and few[0] and few[2]:
        return "utf-16-le"
    if many[0] and many[2] and few[1] and few[3]:
        return "utf-16-be"
    return ""

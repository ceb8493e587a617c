"""
Text in bodies: which media types are text, and which charsets can be worked on as bytes.

A charset is looked up here and nowhere else: its name comes from the network, and Python would import a module by it
and remember each name it does not know. C{iso-8859-1} and C{us-ascii} are read as browsers read them, as windows-1252
(WHATWG Encoding 4.2).
"""

from __future__ import annotations

from typing import Final

from sslintercept.config.units import Unit, unit

_LATIN: Final = ("ascii", "us-ascii", "iso-8859-1", "iso8859-1", "latin1", "windows-1252", "cp1252")
SEPARATE: Final[dict[str, str]] = {
    "utf-8": "utf-8",
    "utf8": "utf-8",
    **dict.fromkeys(_LATIN, "cp1252"),
    **{f"iso-8859-{part}": f"iso8859-{part}" for part in (2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 14, 15, 16)},
    **{f"windows-125{page}": f"cp125{page}" for page in (0, 1, 3, 4, 5, 6, 7, 8)},
    "koi8-r": "koi8-r",
    "koi8-u": "koi8-u",
}
"""charsets in which the bytes of one character are never part of another's, with their names in Python"""
LIKE_ASCII: Final[dict[str, str]] = {
    **SEPARATE,
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "gb18030": "gb18030",
    "big5": "big5",
    "shift_jis": "cp932",
    "euc-jp": "euc_jp",
    "euc-kr": "cp949",
}
"""charsets in which C{<}, C{>}, C{/}, C{=}, quotes and hyphens are always themselves"""
_NO_TREE: Final = frozenset(("json", "xml", "javascript", "ecmascript", "x-javascript", "x-www-form-urlencoded"))


def is_text(media_type: str) -> bool:
    """Whether content of the type, in lower case, is text: C{text/*}, JSON, XML, scripts, forms."""
    kind, _, name = media_type.partition("/")
    return kind == "text" or (kind == "application" and (name in _NO_TREE or name.endswith(("+json", "+xml"))))


def text(most: int) -> Unit[str]:
    """Text of at most C{most} bytes in UTF-8; of a value in several lines the line breaks are part."""

    def read(value: str) -> str:
        if len(value.encode()) > most:
            raise ValueError("too long")
        return value

    return unit(read, f"text of at most {most} bytes")


def charset() -> Unit[str]:
    """One of L{SEPARATE}."""

    def read(value: str) -> str:
        if value.lower() not in SEPARATE:
            raise ValueError("not a charset we can search")
        return value.lower()

    return unit(read, "utf-8, iso-8859-1 to -16, windows-1250 to -1258, koi8-r or koi8-u")

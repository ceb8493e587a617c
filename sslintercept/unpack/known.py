"""
What can be opened: which format a part has, by what is declared, what its first bytes say, and its name.

Asked for every part in the process that carries the traffic: two look-ups in tables, no library is imported.
"""

from __future__ import annotations

from typing import Final

_SNIFFED: Final = {
    "application/zip": "zip",
    "application/pdf": "pdf",
    "application/gzip": "gzip",
    "application/x-bzip2": "bzip2",
    "application/x-xz": "xz",
    "application/zstd": "zstd",
    "application/x-tar": "tar",
    "application/x-ole-storage": "ole",
    "application/rtf": "rtf",
    "application/x-7z-compressed": "closed",
    "application/vnd.rar": "closed",
    "application/vnd.ms-cab-compressed": "closed",
}
"""first bytes that leave no doubt"""
_TYPES: Final = {
    **_SNIFFED,
    "application/x-zip-compressed": "zip",
    "application/java-archive": "zip",
    "application/epub+zip": "zip",
    "application/vnd.android.package-archive": "zip",
    "application/x-gzip": "gzip",
    "application/x-bzip": "bzip2",
    "application/x-pdf": "pdf",
    "application/msword": "ole",
    "application/vnd.ms-excel": "ole",
    "application/vnd.ms-powerpoint": "ole",
    "application/vnd.ms-outlook": "ole",
    "text/rtf": "rtf",
    "text/html": "html",
    "application/xhtml+xml": "html",
    "text/xml": "xml",
    "application/xml": "xml",
    "image/svg+xml": "xml",
    "application/json": "json",
    "text/json": "json",
    "application/x-ndjson": "json",
    "application/csp-report": "json",
    "application/x-www-form-urlencoded": "form",
    "message/rfc822": "mail",
    "message/global": "mail",
    "multipart/form-data": "multipart",
    "application/x-rar-compressed": "closed",
}
_BEGINNINGS: Final = (
    ("multipart/", "multipart"),
    ("application/vnd.openxmlformats-officedocument.", "zip"),
    ("application/vnd.oasis.opendocument.", "zip"),
)
_ENDINGS: Final = (("+json", "json"), ("+xml", "xml"), ("+zip", "zip"))
_NAMES: Final = {
    "eml": "message/rfc822",
    "mht": "message/rfc822",
    "mhtml": "message/rfc822",
    "json": "application/json",
    "htm": "text/html",
    "html": "text/html",
    "xml": "text/xml",
    "txt": "text/plain",
    "csv": "text/csv",
}
"""types that first bytes do not tell"""
_GENERIC: Final = frozenset(("", "application/octet-stream", "binary/octet-stream", "text/plain"))
"""declared types that say nothing"""


def format_of(media_type: str, sniffed: str, name: str = "") -> str:
    """
    How a part is opened: one word, empty if there is nothing to open.

    C{closed} is an archive that we know and cannot open, C{text} one in a charset that no engine reads as it is.

    @param media_type: as declared, in lower case, without parameters; C{sniffed}: L{sslintercept.unpack.sniff.sniff}.
    """
    if kind := _SNIFFED.get(sniffed):
        return kind
    if media_type in _GENERIC:
        media_type = by_name(name) or media_type
    if kind := _TYPES.get(media_type) or _TYPES.get(sniffed):
        return kind
    for begin, kind in _BEGINNINGS:
        if media_type.startswith(begin):
            return kind
    for end, kind in _ENDINGS:
        if media_type.endswith(end):
            return kind
    return "text" if media_type.startswith("text/") and not sniffed else ""


def opens(media_type: str, sniffed: str, name: str = "") -> bool:
    """Whether L{sslintercept.unpack.task.unpack} has something to say of a part."""
    return format_of(media_type, sniffed, name) != ""


def by_name(name: str) -> str:
    """The media type that the ending of a name says, as far as first bytes do not tell it; else empty."""
    return _NAMES.get(name.rpartition(".")[2].lower(), "")

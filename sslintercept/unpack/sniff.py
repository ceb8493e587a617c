"""What the first bytes of a part say that it is."""

from __future__ import annotations

from typing import Final

HEAD: Final = 512
"""bytes from which a type is told"""

_OPENINGS: Final = (
    (b"PK\x03\x04", "application/zip"),
    (b"PK\x05\x06", "application/zip"),
    (b"%PDF-", "application/pdf"),
    (b"\x1f\x8b", "application/gzip"),
    (b"BZh", "application/x-bzip2"),
    (b"\xfd7zXZ\0", "application/x-xz"),
    (b"\x28\xb5\x2f\xfd", "application/zstd"),
    (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (b"Rar!\x1a\x07", "application/vnd.rar"),
    (b"MSCF", "application/vnd.ms-cab-compressed"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "application/x-ole-storage"),
    (b"{\\rtf", "application/rtf"),
    (b"MZ", "application/vnd.microsoft.portable-executable"),
    (b"\x7fELF", "application/x-elf"),
    (b"\xca\xfe\xba\xbe", "application/x-mach-binary"),
    (b"\xcf\xfa\xed\xfe", "application/x-mach-binary"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
)
"""WHATWG MIME Sniffing 6 and 7, and what field guides add for archives and programs"""
_BY_FIRST: Final = {
    first: [(opening, kind) for opening, kind in _OPENINGS if opening[0] == first]
    for first in {opening[0] for opening, _ in _OPENINGS}
}
_TEXTS: Final = (b"<!doctype html", b"<html", b"<head", b"<body", b"<script", b"<svg")
_ASCII: Final = (b"MZ", b"GIF8", b"BZh", b"MSCF")
"""openings with which a text may begin as well; what they are of has binary bytes near its beginning"""
_MARKS: Final = (b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff")
"""of text in UTF-16 and UTF-32 (WHATWG MIME Sniffing 7.2)"""
_BINARY: Final = bytes((*range(0x09), 0x0B, *range(0x0E, 0x1B), *range(0x1C, 0x20)))
"""binary data bytes (WHATWG MIME Sniffing 7.2)"""


def sniff(head: bytes) -> str:
    """The media type that the first bytes of a part say; C{text/plain} for what is text, empty if nothing is known."""
    head = head[:HEAD]
    textual = len(head.translate(None, _BINARY)) == len(head)
    for opening, kind in _BY_FIRST.get(head[0], ()) if head else ():
        if head.startswith(opening) and not (textual and opening in _ASCII):
            return kind
    if head[257:262] == b"ustar":
        return "application/x-tar"
    text = head.lstrip(b" \t\r\n\x0c\xef\xbb\xbf")
    if text.startswith(b"<"):
        text = text.lower()
        if text.startswith(_TEXTS):
            return "image/svg+xml" if text.startswith(b"<svg") else "text/html"
        if text.startswith(b"<?xml"):
            return "text/xml"
    if (head and textual) or head.startswith(_MARKS):
        return "text/plain"
    return ""

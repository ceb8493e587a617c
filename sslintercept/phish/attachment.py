"""
What is odd about an attachment: its name, its first bytes, and what lies open in archives and office documents.

Nothing is unpacked here: of a ZIP archive the names are read, of an OLE file the names of its streams.
"""

from __future__ import annotations

import re
import struct
import zipfile
from io import BytesIO
from typing import Final

SIGNS: Final = {
    "double-extension": "its name has one extension behind another: invoice.pdf.exe",
    "bidi": "characters in its name turn the direction of writing",
    "padding": "many spaces hide the end of its name",
    "program": "a program",
    "script": "a script",
    "shortcut": "a shortcut",
    "disk-image": "a disk image",
    "macro": "an office document with macros",
    "encrypted": "encrypted",
    "contains-program": "an archive with a program, script or shortcut",
    "contains-archive": "an archive within an archive",
    "other-type": "its bytes are of another type than its name says",
    "html": "a page of HTML",
}
"""signs, and what they mean"""


def words(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


PROGRAMS: Final = words("exe scr com pif cpl msi msix appx dll sys jar apk deb rpm dmg pkg app elf xll gadget")
SCRIPTS: Final = words(
    "js jse vbs vbe wsf wsh hta ps1 psm1 bat cmd sh py pl reg sct chm msc ws application diagcab settingcontent-ms"
)
SHORTCUTS: Final = words("lnk url website scf library-ms searchconnector-ms desktop")
IMAGES: Final = words("iso img vhd vhdx udf daa")
MACROS: Final = words("docm dotm xlsm xltm xlam pptm potm ppam ppsm sldm")
PAGES: Final = words("htm html shtml xhtml xht svg mht mhtml")
ARCHIVES: Final = words("zip rar 7z gz tgz tar bz2 xz cab ace arj lzh zst")
HARMLESS: Final = words(
    "pdf doc docx xls xlsx ppt pptx odt ods odp rtf txt csv jpg jpeg png gif tif tiff bmp mp3 mp4 wav avi mov eml"
)
"""extensions that people trust"""
RISKY: Final = PROGRAMS | SCRIPTS | SHORTCUTS
NAMED: Final = (
    (PROGRAMS, "program"),
    (SCRIPTS, "script"),
    (SHORTCUTS, "shortcut"),
    (IMAGES, "disk-image"),
    (MACROS, "macro"),
    (PAGES, "html"),
)
"""what an extension says"""

OPENINGS: Final = (
    (b"MZ", "program"),
    (b"\x7fELF", "program"),
    (b"\xca\xfe\xba\xbe", "program"),
    (b"\xcf\xfa\xed\xfe", "program"),
    (b"L\0\0\0\x01\x14\x02\0", "shortcut"),
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (b"Rar!\x1a\x07", "rar"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"\x1f\x8b", "gz"),
    (b"MSCF", "cab"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "ole"),
    (b"%PDF-", "pdf"),
    (b"{\\rtf", "rtf"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpg"),
    (b"GIF8", "gif"),
    (b"vhdxfile", "disk-image"),
    (b"conectix", "disk-image"),
)
"""how files begin: WHATWG MIME Sniffing 6, MS-SHLLINK 2.1, MS-VHDX 2.2.1"""
ISO_AT: Final = 0x8001
"""where an ISO 9660 image says CD001 (ECMA-119 8.1.2)"""
MOST_MEMBERS: Final = 1000
"""names of an archive that are looked at"""
MOST_DIRECTORY: Final = 1024 * 1024
"""bytes of an archive's directory that are read"""
PADDING: Final = 10
"""spaces in a row that hide what follows"""

BIDI: Final = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""characters that turn the direction of writing (UAX 9 2)"""
_PADDING = re.compile(rf"[\s\u00a0\u2000-\u200b\u3000\u2800]{{{PADDING}}}")
_EXTENSION = re.compile(r"\.\s*([a-z0-9_-]{1,18})\s*$")
_PAGE = re.compile(
    rb"(?:\xef\xbb\xbf)?[\s\0]{0,64}(?:<!doctype html|<html|<head|<body|<script|<svg|<\?xml[^>]{0,80}>\s*<svg)"
)
_END = struct.Struct("<4s4H2LH")


def extension(name: str) -> str:
    """What is behind the last dot, in small letters."""
    match = _EXTENSION.search("".join(c for c in name if c not in BIDI).lower())
    return match[1] if match else ""


def sniffed(content: bytes) -> str:
    """What the first bytes say; empty if they say nothing."""
    for opening, kind in OPENINGS:
        if content.startswith(opening):
            return kind
    if content[ISO_AT : ISO_AT + 5] == b"CD001":
        return "disk-image"
    if _PAGE.match(content[:256].lower()) is not None:
        return "html"
    return ""


def signs(name: str, declared: str, content: bytes) -> tuple[str, tuple[str, ...]]:
    """
    What the bytes say, and what is odd.

    @param declared: the media type as declared, in small letters.
    """
    kind = sniffed(content)
    last = extension(name)
    found: list[str] = []
    if BIDI.intersection(name):
        found.append("bidi")
    if _PADDING.search(name) is not None:
        found.append("padding")
    before = extension(name.lower().rstrip()[: -len(last) - 1].rstrip()) if last else ""
    if before in HARMLESS and last in RISKY | PAGES | IMAGES | ARCHIVES - {"gz", "bz2", "xz", "zst"}:
        found.append("double-extension")
    found += [sign for extensions, sign in NAMED if last in extensions]
    if kind in ("program", "shortcut", "disk-image", "html"):
        found.append(kind)
    elif declared in ("text/html", "application/xhtml+xml", "image/svg+xml"):
        found.append("html")
    elif kind == "zip":
        found += _of_zip(content)
    elif kind == "ole":
        found += _of_ole(content)
    if last in HARMLESS and not _fits(last, kind):
        found.append("other-type")
    return kind, tuple(dict.fromkeys(found))


def _fits(last: str, kind: str) -> bool:
    """Whether bytes of a kind may have a name with that extension."""
    if kind in ("program", "shortcut", "disk-image", "html"):
        return last == "eml"
    if last == "pdf":
        return kind in ("pdf", "")
    if last in ("jpg", "jpeg", "png", "gif"):
        return kind in ("png", "jpg", "gif", "")
    return True


def _of_zip(content: bytes) -> list[str]:
    """Signs of an archive, or of an office document that is one (ECMA-376 2)."""
    at = content.rfind(b"PK\x05\x06", -65_557)
    if at < 0 or len(content) - at < _END.size or _END.unpack_from(content, at)[5] > MOST_DIRECTORY:
        return []
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            members = archive.infolist()[:MOST_MEMBERS]
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError, struct.error):
        return []
    names = [member.filename.lower() for member in members]
    found = []
    if any(name.endswith("vbaproject.bin") for name in names):
        found.append("macro")
    if any(member.flag_bits & 1 for member in members):
        found.append("encrypted")
    if "[content_types].xml" in names or "meta-inf/manifest.mf" in names:
        return found
    extensions = {extension(name) for name in names}
    if extensions & (RISKY | IMAGES | MACROS | PAGES):
        found.append("contains-program")
    if extensions & ARCHIVES:
        found.append("contains-archive")
    return found


def _of_ole(content: bytes) -> list[str]:
    """Signs of an OLE file, by names in its directory (MS-CFB 2.6.1, MS-OVBA 2.2.1, MS-OFFCRYPTO 2.3.4.4)."""
    found = []
    if "_VBA_PROJECT".encode("utf-16-le") in content:
        found.append("macro")
    if "EncryptedPackage".encode("utf-16-le") in content:
        found.append("encrypted")
    return found

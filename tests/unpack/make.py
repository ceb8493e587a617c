"""Makes what is taken apart: archives, documents and mails, honest ones and others."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Mapping

EICAR = b"X5O!P%@AP[4\\PZX54(P^)7CC)7}$" + b"EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"


def zipped(members: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip as C{zipfile} makes it."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return out.getvalue()


def tarred(members: Mapping[str, bytes], kind: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=kind) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def nested(leaf: bytes, depth: int) -> bytes:
    """Zips inside each other, the leaf inside the innermost."""
    content = zipped({"leaf.txt": leaf})
    for number in range(depth - 1):
        content = zipped({f"{number}.zip": content})
    return content


def member(
    name: bytes,
    content: bytes,
    *,
    flags: int = 0,
    packed: int | None = None,
    size: int | None = None,
    crc: int | None = None,
    method: int = 8,
    data: bytes | None = None,
    extra: bytes = b"",
) -> bytes:
    """A member of a zip with its own header, which may lie."""
    if data is None:
        data = squeezed(content) if method == 8 else content
    header = struct.pack(
        "<4s5H3I2H",
        b"PK\x03\x04",
        20,
        flags,
        method,
        0,
        33,
        zlib.crc32(content) if crc is None else crc,
        len(data) if packed is None else packed,
        len(content) if size is None else size,
        len(name),
        len(extra),
    )
    return header + name + extra + data


def listed(
    name: bytes,
    content: bytes,
    at: int,
    *,
    flags: int = 0,
    packed: int | None = None,
    size: int | None = None,
    crc: int | None = None,
    method: int = 8,
    extra: bytes = b"",
) -> bytes:
    """A line of a zip's directory, which may lie."""
    data = squeezed(content) if method == 8 else content
    return (
        struct.pack(
            "<4s6H3I5H2I",
            b"PK\x01\x02",
            20,
            20,
            flags,
            method,
            0,
            33,
            zlib.crc32(content) if crc is None else crc,
            len(data) if packed is None else packed,
            len(content) if size is None else size,
            len(name),
            len(extra),
            0,
            0,
            0,
            0,
            at,
        )
        + name
        + extra
    )


def archive(members: bytes, directory: bytes, count: int) -> bytes:
    """A zip of these."""
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, count, count, len(directory), len(members), 0)
    return members + directory + end


def squeezed(content: bytes) -> bytes:
    """Deflated."""
    press = zlib.compressobj(9, zlib.DEFLATED, -15)
    return press.compress(content) + press.flush()


W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
A = 'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main"'
S = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
TYPES = (
    '<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
    '<Default Extension="xml" ContentType="application/xml"/></Types>'
)


def docx(*paragraphs: str, **others: bytes) -> bytes:
    """A text; each paragraph in two runs, as programs write them."""
    runs = "".join(
        f"<w:p><w:r><w:t>{each[: len(each) // 2]}</w:t></w:r><w:r><w:t>{each[len(each) // 2 :]}</w:t></w:r></w:p>"
        for each in paragraphs
    )
    parts = {
        "[Content_Types].xml": TYPES,
        "_rels/.rels": "<Relationships/>",
        "word/document.xml": f"<w:document {W}><w:body>{runs}</w:body></w:document>",
        "word/header1.xml": f"<w:hdr {W}><w:p><w:r><w:t>In the header</w:t></w:r></w:p></w:hdr>",
        "word/comments.xml": f"<w:comments {W}><w:comment><w:p><w:r><w:t>A remark</w:t></w:r></w:p></w:comment>"
        "</w:comments>",
        "word/styles.xml": f"<w:styles {W}>style</w:styles>",
        "docProps/core.xml": "<c:coreProperties xmlns:c='c'><c:creator>An author</c:creator></c:coreProperties>",
        "customXml/item1.xml": "<data><hidden>In custom XML</hidden></data>",
    }
    return zipped({**{name: text.encode() for name, text in parts.items()}, **others})


def xlsx() -> bytes:
    """A workbook with cells of all kinds."""
    strings = f"<sst {S}><si><t>Name</t></si><si><r><t>4111 1111 </t></r><r><t>1111 1111</t></r></si></sst>"
    rows = (
        '<row><c t="s"><v>0</v></c><c t="s"><v>1</v></c></row>'
        "<row><c><v>4111111111111110</v></c><c><v>4.111111111111E+15</v></c><c><v>1.5</v></c></row>"
        '<row><c t="inlineStr"><is><t>inline</t></is></c><c t="str"><f>"a"&amp;"b"</f><v>ab</v></c>'
        '<c t="s"><v>99</v></c></row>'
    )
    parts = {
        "[Content_Types].xml": TYPES,
        "xl/workbook.xml": f"<workbook {S}/>",
        "xl/worksheets/sheet1.xml": f"<worksheet {S}><sheetData>{rows}</sheetData></worksheet>",
        "xl/sharedStrings.xml": strings,
        "xl/comments1.xml": f"<comments {S}><commentList><comment><text><t>Remark</t></text></comment></commentList>"
        "</comments>",
    }
    return zipped({name: text.encode() for name, text in parts.items()})


def pptx() -> bytes:
    """Slides with notes."""
    runs = "<a:p><a:r><a:t>A slide</a:t></a:r></a:p><a:p><a:r><a:t>second</a:t></a:r></a:p>"
    slide = f"<p:sld xmlns:p='p' {A}>{runs}</p:sld>"
    notes = f"<p:notes xmlns:p='p' {A}><a:p><a:r><a:t>Spoken</a:t></a:r></a:p></p:notes>"
    parts = {"[Content_Types].xml": TYPES, "ppt/slides/slide1.xml": slide, "ppt/notesSlides/notesSlide1.xml": notes}
    return zipped(
        {**{name: text.encode() for name, text in parts.items()}, "ppt/media/image1.png": b"\x89PNG\r\n\x1a\n"}
    )


def odt(manifest: str = "<manifest/>") -> bytes:
    """A text of ODF."""
    namespaces = "xmlns:text='t' xmlns:table='ta' xmlns:office='o'"
    content = (
        f"<office:document-content {namespaces}><text:p>First<text:s text:c='2'/>line</text:p><table:table-row>"
        "<table:table-cell office:value='4111111111111111'><text:p>4.11E+15</text:p></table:table-cell>"
        "</table:table-row></office:document-content>"
    )
    parts = {
        "mimetype": "application/vnd.oasis.opendocument.text",
        "content.xml": content,
        "META-INF/manifest.xml": manifest,
    }
    return zipped({name: text.encode() for name, text in parts.items()})


def pdf(*pages: str, attachment: bytes | None = None) -> bytes:
    """A page for each text, and perhaps a file."""
    kids = " ".join(f"{10 + 2 * number} 0 R" for number in range(len(pages)))
    names = "/Names << /EmbeddedFiles << /Names [(a.bin) 4 0 R] >> >>" if attachment is not None else ""
    objects = {
        1: f"<< /Type /Catalog /Pages 2 0 R {names} >>".encode(),
        2: f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode(),
        3: b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    }
    if attachment is not None:
        objects[4] = b"<< /Type /Filespec /F (a.bin) /UF (a.bin) /EF << /F 5 0 R >> >>"
        objects[5] = b"<< /Type /EmbeddedFile /Length %d >>\nstream\n%b\nendstream" % (len(attachment), attachment)
    for number, page in enumerate(pages):
        lines = " ".join(f"({line}) Tj T*" for line in page.split("\n"))
        stream = f"BT /F1 12 Tf 14 TL 50 700 Td {lines} ET".encode()
        objects[10 + 2 * number] = (
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Resources << /Font << /F1 3 0 R >> >> "
            b"/Contents %d 0 R >>" % (11 + 2 * number)
        )
        objects[11 + 2 * number] = b"<< /Length %d >>\nstream\n%b\nendstream" % (len(stream), stream)
    out, places = bytearray(b"%PDF-1.7\n"), {}
    for number, body in objects.items():
        places[number] = len(out)
        out += b"%d 0 obj\n%b\nendobj\n" % (number, body)
    start, most = len(out), max(objects) + 1
    out += b"xref\n0 %d\n0000000000 65535 f \n" % most
    for number in range(1, most):
        out += b"%010d 00000 n \n" % places[number] if number in places else b"0000000000 65535 f \n"
    out += b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (most, start)
    return bytes(out)


def compound(*names: str, content: bytes = b"") -> bytes:
    """An OLE compound file with these streams, in one sector of a directory, and content that belongs to none."""
    fat = struct.pack("<128I", 0xFFFFFFFD, 0xFFFFFFFE, *[0xFFFFFFFF] * 126)
    entries = b"".join(
        name.encode("utf-16-le").ljust(64, b"\0") + struct.pack("<HB", 2 * len(name) + 2, 2) + bytes(61)
        for name in names
    )
    header = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16) + struct.pack("<5H", 0x3E, 3, 0xFFFE, 9, 6) + bytes(6)
    header += struct.pack("<IIIIIIIII", 0, 1, 1, 0, 4096, 0xFFFFFFFE, 0, 0xFFFFFFFE, 0)
    header += struct.pack("<109I", 0, *[0xFFFFFFFF] * 108)
    return header + fat + entries.ljust(512, b"\0") + content


UNIT = 10
"""bytes of each step of the stream below"""


def quine() -> bytes:
    """
    A zip whose only member is the zip itself, but for its checksum.

    Steps are C{L}: write so many of the units that follow, and C{R}: write so many of the last units again. They are
    put so that what is written is always ahead of what is read, by the step that is read (the idea is R. Cox's).
    """

    def literal(count: int) -> bytes:
        return b"\0\0\0\xff\xff" + b"\0" + struct.pack("<2H", UNIT * count, UNIT * count ^ 0xFFFF)

    def repeat(count: int, last: int = 0) -> bytes:
        # (bits of the extra length, code, smallest) of the lengths and distances that are used (RFC 1951 3.2.5)
        extra, code, least = {40: (3, 273, 35), 50: (3, 274, 43), 90: (4, 278, 83)}[UNIT * count]
        far_extra, far_code, far_least = {40: (4, 10, 33), 50: (4, 11, 49), 90: (5, 12, 65)}[UNIT * count]

        def number(value: int, width: int) -> str:
            return format(value, f"0{width}b")[::-1] if width else ""

        bits = "010"  # a block that is not the last, of fixed codes
        bits += format(code - 256, "07b") + number(UNIT * count - least, extra)
        bits += format(far_code, "05b") + number(UNIT * count - far_least, far_extra) + "0000000"
        bits += "010" + "0000000" + f"{last}00"  # an empty block, and the beginning of a stored one
        padded = bits.ljust(-(-len(bits) // 8) * 8, "0")
        coded = bytes(int(padded[at : at + 8][::-1], 2) for at in range(0, len(padded), 8)) + b"\0\0\xff\xff"
        assert len(coded) == UNIT
        return coded

    def around(packed: int, size: int) -> tuple[bytes, bytes]:
        first = member(b"quine.zip.", b"", data=b"", packed=packed, size=size, crc=0)
        directory = listed(b"quine.zip.", b"", 0, packed=packed, size=size, crc=0)
        end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 1, 1, len(directory), len(first) + packed, 2) + b"  "
        return first, directory + end

    def stream(first: bytes, end: bytes) -> bytes:
        before, behind = len(first) // UNIT + 1, len(end) // UNIT + 1
        one, four, nothing, back = literal(1), literal(4), literal(0), repeat(4)
        head, again = literal(before), repeat(before)
        tail, finish = literal(behind), repeat(behind, last=1)
        steps = [head, first, head, again, one, again, one, one, four, again, one, one, four, back]
        steps += [four, back, four, back, four, back, four, back, four, nothing, tail, back]
        steps += [four, nothing, tail, nothing, tail, nothing, tail, finish, end, finish]
        return b"".join(steps)

    packed = len(stream(*around(0, 0)))
    first, end = around(packed, len(around(0, 0)[0]) + packed + len(around(0, 0)[1]))
    whole = first + stream(first, end) + end
    assert zlib.decompress(stream(first, end), -15) == whole
    return whole

"""
What tests of inspection send: files with the test virus at any depth, documents with a text, numbers, mails, bodies.

Everything is made of bytes here, the same each time; nothing is read from a disk. Text that stands for a secret is made
up, and numbers that look like cards are random digits.
"""

from __future__ import annotations

import gzip
import io
import json
import random
import tarfile
import zipfile
import zlib
from base64 import b64encode
from collections.abc import Mapping, Sequence
from textwrap import wrap
from urllib.parse import quote_plus
from xml.sax.saxutils import escape

from sslintercept.testing.engines import EICAR

SEED = 20240229
DAY = (2024, 2, 29, 12, 0, 0)
"""when every member of an archive was changed last"""
BOUNDARY = "----parts-of-the-tests"
HARMLESS = b"Nothing is in here that anybody looks for.\n"

_RELATIONS = "http://schemas.openxmlformats.org/package/2006/relationships"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_TYPES = "http://schemas.openxmlformats.org/package/2006/content-types"
_WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_SHEET = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_SLIDE = "http://schemas.openxmlformats.org/presentationml/2006/main"
_DRAWING = "http://schemas.openxmlformats.org/drawingml/2006/main"
_MAIN = "application/vnd.openxmlformats-officedocument"


# archives


def zipped(members: Mapping[str, bytes], compressed: bool = True) -> bytes:
    """A ZIP file."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name, DAY)
            info.compress_type = archive.compression
            archive.writestr(info, content)
    return out.getvalue()


def tarred(members: Mapping[str, bytes]) -> bytes:
    """A tar file, compressed by gzip."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return gzip.compress(out.getvalue(), mtime=0)


def eicar_zip() -> bytes:
    """The test virus in a ZIP file, beside something harmless."""
    return zipped({"read me.txt": HARMLESS, "invoice.com": EICAR})


def eicar_zip_in_zip(depth: int = 2) -> bytes:
    """The test virus in so many ZIP files, each in the next."""
    content, name = EICAR, "invoice.com"
    for at in range(depth):
        content, name = zipped({name: content, "read me.txt": HARMLESS}), f"box-{at}.zip"
    return content


def eicar_tar_gz() -> bytes:
    """The test virus in a compressed tar file."""
    return tarred({"read me.txt": HARMLESS, "bin/invoice.com": EICAR})


# mails and forms


def mail(
    text: str,
    *,
    sender: str = "anna@sender.test",
    to: str = "bert@recipient.test",
    subject: str = "News",
    html: str = "",
    attachments: Sequence[tuple[str, str, bytes]] = (),
    more: Sequence[str] = (),
) -> bytes:
    """
    A mail (RFC 5322, RFC 2045).

    @param attachments: name, media type and content of each, sent as base64.
    @param more: other lines of its head.
    """
    head = [f"From: {sender}", f"To: {to}", f"Subject: {subject}", "Date: Thu, 29 Feb 2024 12:00:00 +0000"]
    head += ["Message-ID: <1@sender.test>", *more, "MIME-Version: 1.0"]
    parts = [f"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n{text}"]
    if html:
        parts.append(f"Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n{html}")
    for name, media_type, content in attachments:
        lines = "\r\n".join(wrap(b64encode(content).decode("ascii"), 76))
        parts.append(
            f'Content-Type: {media_type}; name="{name}"\r\nContent-Transfer-Encoding: base64\r\n'
            f'Content-Disposition: attachment; filename="{name}"\r\n\r\n{lines}'
        )
    if len(parts) == 1:
        return ("\r\n".join(head) + "\r\n" + parts[0] + "\r\n").encode()
    kind = "mixed" if attachments else "alternative"
    head.append(f'Content-Type: multipart/{kind}; boundary="{BOUNDARY}"')
    body = "".join(f"--{BOUNDARY}\r\n{part}\r\n" for part in parts)
    return ("\r\n".join(head) + f"\r\n\r\n{body}--{BOUNDARY}--\r\n").encode()


def eicar_mail() -> bytes:
    """A mail with the test virus in a ZIP file that is attached."""
    return mail("The invoice is attached.", attachments=[("invoice.zip", "application/zip", eicar_zip())])


def upload(files: Sequence[tuple[str, str, str, bytes]], fields: Mapping[str, str] | None = None) -> tuple[str, bytes]:
    """
    The Content-Type and the body of a form with files (RFC 7578).

    @param files: field, file name, media type and content of each.
    """
    body = bytearray()
    for name, value in (fields or {}).items():
        body += f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
    for name, filename, media_type, content in files:
        body += (
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="{filename}"\r\n'
            f"Content-Type: {media_type}\r\n\r\n"
        ).encode()
        body += content + b"\r\n"
    return f"multipart/form-data; boundary={BOUNDARY}", bytes(body) + f"--{BOUNDARY}--\r\n".encode()


def eicar_upload() -> tuple[str, bytes]:
    """The Content-Type and the body of a form with the test virus in it."""
    return upload([("file", "invoice.com", "application/octet-stream", EICAR)], {"title": "an invoice"})


def form(fields: Mapping[str, str]) -> bytes:
    """The body of a form without files."""
    return "&".join(f"{quote_plus(name)}={quote_plus(value)}" for name, value in fields.items()).encode("ascii")


def api(text: str) -> bytes:
    """A body of JSON with a text deep inside."""
    return json.dumps(
        {"jsonrpc": "2.0", "id": 7, "method": "note.add", "params": {"tags": ["a", "b"], "note": {"text": text}}}
    ).encode()


# documents (ECMA-376)


def docx(text: str) -> bytes:
    """A document of Word; each line is a paragraph."""
    lines = "".join(
        f'<w:p><w:r><w:t xml:space="preserve">{escape(line)}</w:t></w:r></w:p>' for line in text.split("\n")
    )
    main = _xml(f'<w:document xmlns:w="{_WORD}"><w:body>{lines}</w:body></w:document>')
    return _office("word/document.xml", f"{_MAIN}.wordprocessingml.document.main+xml", main)


def xlsx(text: str) -> bytes:
    """A workbook of Excel; each line is a row with one cell of shared text."""
    lines = text.split("\n")
    cells = "".join(f'<row r="{at + 1}"><c r="A{at + 1}" t="s"><v>{at}</v></c></row>' for at in range(len(lines)))
    shared = "".join(f'<si><t xml:space="preserve">{escape(line)}</t></si>' for line in lines)
    book = _xml(
        f'<workbook xmlns="{_SHEET}" xmlns:r="{_OFFICE}"><sheets><sheet name="One" sheetId="1" r:id="rId1"/></sheets>'
        "</workbook>"
    )
    return _office(
        "xl/workbook.xml",
        f"{_MAIN}.spreadsheetml.sheet.main+xml",
        book,
        [
            (
                "xl/worksheets/sheet1.xml",
                "worksheet",
                f"{_MAIN}.spreadsheetml.worksheet+xml",
                _xml(f'<worksheet xmlns="{_SHEET}"><sheetData>{cells}</sheetData></worksheet>'),
            ),
            (
                "xl/sharedStrings.xml",
                "sharedStrings",
                f"{_MAIN}.spreadsheetml.sharedStrings+xml",
                _xml(f'<sst xmlns="{_SHEET}" count="{len(lines)}" uniqueCount="{len(lines)}">{shared}</sst>'),
            ),
        ],
    )


def pptx(text: str) -> bytes:
    """A presentation of PowerPoint with one slide; each line is a paragraph."""
    lines = "".join(f"<a:p><a:r><a:t>{escape(line)}</a:t></a:r></a:p>" for line in text.split("\n"))
    slide = _xml(
        f'<p:sld xmlns:p="{_SLIDE}" xmlns:a="{_DRAWING}"><p:cSld><p:spTree><p:sp><p:txBody>{lines}</p:txBody></p:sp>'
        "</p:spTree></p:cSld></p:sld>"
    )
    show = _xml(
        f'<p:presentation xmlns:p="{_SLIDE}" xmlns:r="{_OFFICE}">'
        '<p:sldIdLst><p:sldId id="256" r:id="rId1"/></p:sldIdLst></p:presentation>'
    )
    return _office(
        "ppt/presentation.xml",
        f"{_MAIN}.presentationml.presentation.main+xml",
        show,
        [("ppt/slides/slide1.xml", "slide", f"{_MAIN}.presentationml.slide+xml", slide)],
    )


def _xml(text: str) -> bytes:
    return f'<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n{text}'.encode()


def _office(main: str, kind: str, content: bytes, more: Sequence[tuple[str, str, str, bytes]] = ()) -> bytes:
    """
    @param more: name, relation, media type and content of the parts that the main one refers to, C{rId1} first.
    """
    folder, _, name = main.rpartition("/")
    types = "".join(
        f'<Override PartName="/{part}" ContentType="{media_type}"/>'
        for part, media_type in [(main, kind), *((part, media_type) for part, _, media_type, _ in more)]
    )
    related = "".join(
        f'<Relationship Id="rId{at}" Type="{_OFFICE}/{relation}" Target="{part.removeprefix(folder + "/")}"/>'
        for at, (part, relation, _, _) in enumerate(more, 1)
    )
    members = {
        "[Content_Types].xml": _xml(
            f'<Types xmlns="{_TYPES}"><Default Extension="rels" ContentType="application/vnd.openxmlformats-package.'
            f'relationships+xml"/><Default Extension="xml" ContentType="application/xml"/>{types}</Types>'
        ),
        "_rels/.rels": _xml(
            f'<Relationships xmlns="{_RELATIONS}"><Relationship Id="rId1" Type="{_OFFICE}/officeDocument" '
            f'Target="{main}"/></Relationships>'
        ),
        main: content,
        **{part: inner for part, _, _, inner in more},
    }
    if related:
        members[f"{folder}/_rels/{name}.rels"] = _xml(f'<Relationships xmlns="{_RELATIONS}">{related}</Relationships>')
    return zipped(members)


def pdf(text: str, compressed: bool = True) -> bytes:
    """A PDF of one page (ISO 32000-1 7.5); each line of ASCII stands under the one before."""
    lines = text.split("\n")
    # What lies outside of a page is not shown, and so not there.
    width, height = max(612, 144 + 10 * max(map(len, lines))), max(792, 144 + 14 * len(lines))
    shown = [f"BT /F1 11 Tf 14 TL 72 {height - 72} Td"]
    for line in lines:
        safe = line.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")
        shown.append(f"({safe}) Tj T*")
    stream = "\n".join([*shown, "ET"]).encode("ascii")
    coding = b""
    if compressed:
        stream, coding = zlib.compress(stream), b" /Filter /FlateDecode"
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 %d %d] /Contents 4 0 R"
        b" /Resources << /Font << /F1 5 0 R >> >> >>" % (width, height),
        b"<< /Length %d%b >>\nstream\n%b\nendstream" % (len(stream), coding, stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    out = bytearray(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n")
    places = []
    for number, content in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%b\nendobj\n" % (number, content)
    table = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    out += b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, table)
    return bytes(out)


DOCUMENTS = {"docx": docx, "xlsx": xlsx, "pptx": pptx, "pdf": pdf}
"""each by the ending of its name"""


# numbers


def luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of the others (ISO/IEC 7812-1, annex B)."""
    total = 0
    for at, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + at % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def numbers(count: int, *, valid: bool, seed: int = SEED, prefix: str = "4") -> list[str]:
    """So many different numbers of 16 digits that begin so, and whose check digit is right, or is wrong."""
    source = random.Random(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        digits = prefix + "".join(source.choices("0123456789", k=16 - len(prefix)))
        if luhn(digits) is valid:
            found[digits] = None
    return list(found)


def in_fours(digits: str, between: str = " ") -> str:
    """As it stands on a card."""
    return between.join(digits[at : at + 4] for at in range(0, len(digits), 4))


def with_words(number: str) -> str:
    """A text that says what the number is."""
    return f"Please charge my credit card {in_fours(number)}, expiry date 12/29, CVV 123. Cardholder: A. Example."


def without_words(number: str) -> str:
    """A text in which the number might be anything."""
    return f"Measured: {number}. The next series starts tomorrow morning."


# phishing


def phishing_mail() -> bytes:
    """A mail that wants a password: the name of another sender, a link that shows one host and leads to another."""
    link = "http://203.0.113.7/login/secure-bank.example/verify?id=77"
    return mail(
        "Dear customer,\r\n\r\nyour account has been suspended. Verify your password within 24 hours, or it will be "
        f"closed:\r\n\r\n{link}\r\n",
        sender='"Secure Bank Support" <support@mail-77.test>',
        subject="Urgent: your account has been suspended",
        html="<html><body><p>Dear customer,</p><p>your account has been <b>suspended</b>. Verify your password within "
        f'24 hours:</p><p><a href="{link}">https://www.secure-bank.example/login</a></p>'
        f'<form action="{link}" method="post">Password: <input type="password" name="pass"></form></body></html>',
        more=["Reply-To: collect@another.test"],
    )


def innocent_mail() -> bytes:
    """A mail that wants nothing."""
    return mail(
        "Hello Bert,\r\n\r\nthe minutes of Tuesday are on our page: https://www.sender.test/minutes\r\n\r\nAnna\r\n",
        subject="Minutes",
        html="<html><body><p>Hello Bert,</p><p>the minutes of Tuesday are on "
        '<a href="https://www.sender.test/minutes">our page</a>.</p><p>Anna</p></body></html>',
    )

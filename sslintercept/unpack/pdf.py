"""
Text and attachments of PDF (ISO 32000), by PDFium: the one library in C++ that reads what attackers made of them.

It repairs what is cut off or damaged, as the readers that people use do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

import pypdfium2  # type: ignore[import-untyped]  # it ships no types
from pypdfium2 import raw

from sslintercept.unpack.budget import ENCRYPTED, ENTRIES, RUBBISH, SIZE, TRUNCATED, Budget
from sslintercept.unpack.piece import ATTACHMENT, Piece, text

_OBJECT: Final = re.compile(rb"([0-9]{1,8})[ \t\r\n]{1,9}([0-9]{1,5})[ \t\r\n]{1,9}obj\b")
MOST_ATTACHMENTS: Final = 1000
_TAIL: Final = 2048
"""bytes at whose end a whole file says that it ends (ISO 32000-1 7.5.5, and readers are lenient)"""


def open_pdf(piece: Piece, budget: Budget) -> Iterator[Piece]:
    """A text with all pages, and what is attached."""
    content = piece.content
    try:
        try:
            document = pypdfium2.PdfDocument(content)
        except pypdfium2.PdfiumError as error:
            content = repaired(content)
            if error.err_code != raw.FPDF_ERR_FORMAT or not content:
                raise
            document = pypdfium2.PdfDocument(content)
    except pypdfium2.PdfiumError as error:
        locked = error.err_code in (raw.FPDF_ERR_PASSWORD, raw.FPDF_ERR_SECURITY)
        note = ENCRYPTED if locked else RUBBISH
        budget.hit(note)
        yield Piece("text", "text", b"", "text/plain", "utf-8", encrypted=locked, notes=[note])
        return
    try:
        notes = [] if b"%%EOF" in piece.content[-_TAIL:] else [TRUNCATED]
        pages = _pages(document, budget, notes)
        yield text("text", "\n".join(pages), *notes)
        yield from _attachments(document, budget)
    finally:
        document.close()


def repaired(content: bytes) -> bytes:
    """
    With a trailer, which PDFium needs to read what was cut off; other readers look for the catalog, as we do here.

    Empty if there is none.
    """
    found = content.rfind(b"/Catalog")
    begun = list(_OBJECT.finditer(content, max(0, found - _TAIL), max(0, found)))
    if not begun:
        return b""
    number, generation = int(begun[-1][1]), int(begun[-1][2])
    trailer = b"trailer\n<< /Root %d %d R >>\nstartxref\n0\n%%%%EOF\n" % (number, generation)
    return content + b"\nendstream\nendobj\n" + trailer


def _pages(document: pypdfium2.PdfDocument, budget: Budget, notes: list[str]) -> list[str]:
    pages: list[str] = []
    room = budget.room
    for number in range(len(document)):
        budget.tick()
        if number >= budget.limits.pages:
            notes.append(ENTRIES)
            break
        try:
            page = document[number]
        except pypdfium2.PdfiumError:
            notes.append(RUBBISH)
            continue
        try:
            found = page.get_textpage()
            said = found.get_text_range()  # also what lies beside the page, where nobody sees it
            found.close()
        except pypdfium2.PdfiumError:
            notes.append(RUBBISH)
            continue
        finally:
            page.close()
        room -= len(said)
        if room < 0:
            notes.append(SIZE)
            break
        pages.append(said.replace("\r\n", "\n"))
    notes[:] = dict.fromkeys(notes)
    return pages


def _attachments(document: pypdfium2.PdfDocument, budget: Budget) -> Iterator[Piece]:
    for number in range(min(document.count_attachments(), MOST_ATTACHMENTS)):
        with suppress(pypdfium2.PdfiumError):
            attachment = document.get_attachment(number)
            content = bytes(attachment.get_data())
            room = budget.room
            yield Piece(ATTACHMENT, attachment.get_name(), content[:room], notes=[SIZE] if len(content) > room else [])

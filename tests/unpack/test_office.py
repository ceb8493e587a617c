"""Texts of OOXML, ODF, OLE, RTF and PDF, and what they hide."""

from __future__ import annotations

import pytest

from sslintercept.unpack.office import whole
from tests.unpack.make import EICAR, TYPES, compound, docx, odt, pdf, pptx, xlsx, zipped
from tests.unpack.tools import Found

LAUGHS = (
    '<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "ha">'
    + "".join(f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(12))
    + "]><w:document xmlns:w='w'><w:p>&m;</w:p></w:document>"
).encode()


class TestOoxml:
    def test_all_texts_of_a_docx_come_out(self) -> None:
        found = Found(docx("Hello wörld", "The card is 4111111111111111"))
        assert found.contents()["word/document.xml"].decode() == "Hello wörld\nThe card is 4111111111111111"
        for word in ("In the header", "A remark", "An author", "In custom XML"):
            assert word in found.texts()
        assert "style" not in found.texts()
        assert not found.notes

    def test_cells_of_a_workbook_stand_in_their_rows(self) -> None:
        found = Found(xlsx())
        sheet = found.contents()["xl/worksheets/sheet1.xml"].decode()
        assert sheet.split("\n") == [
            "Name\t4111 1111 1111 1111",
            "4111111111111110\t4111111111111000\t1.5",
            'inline\t"a"&"b" ab',
        ]
        assert "Remark" in found.texts()

    def test_slides_and_their_notes_come_out_and_pictures_as_members(self) -> None:
        found = Found(pptx())
        assert found.contents()["ppt/slides/slide1.xml"] == b"A slide\nsecond"
        assert found.contents()["ppt/notesSlides/notesSlide1.xml"] == b"Spoken"
        [picture] = [item for item in found.items if item.meta["kind"] == "member"]
        assert picture.meta["media_type"] == "image/png"

    def test_macros_are_noted_and_come_as_a_member(self) -> None:
        found = Found(docx("x", **{"word/vbaProject.bin": compound("VBA")}))
        assert found.noted()["word/vbaProject.bin"] == ["macros"]
        assert "macros" in found.notes

    def test_a_document_in_a_document_in_a_zip_is_opened(self) -> None:
        found = Found(zipped({"a.docx": docx("outer", **{"word/embeddings/b.xlsx": xlsx()})}))
        assert "a.docx > word/embeddings/b.xlsx > xl/worksheets/sheet1.xml" in found.paths()

    def test_entities_are_not_expanded(self) -> None:
        found = Found(docx("x", **{"word/footer1.xml": LAUGHS}))
        assert found.noted()["word/footer1.xml"] == ["entities"]
        assert sum(len(item.content) for item in found.items) < 1000

    def test_a_bomb_of_xml_is_cut_off(self) -> None:
        big = b"<w:document xmlns:w='w'>" + b"<w:p><w:t>x</w:t></w:p>" * 3_000_000
        found = Found(zipped({"[Content_Types].xml": TYPES.encode(), "word/document.xml": big}))
        assert "size" in found.notes
        assert sum(len(item.content) for item in found.items) < 17 * 2**20

    def test_xml_that_is_cut_off_gives_what_it_has(self) -> None:
        found = Found(docx("x", **{"word/footer1.xml": b"<w:ftr xmlns:w='w'><w:p>What is left</w:p><w:p"}))
        assert found.contents()["word/footer1.xml"] == b"What is left"
        assert found.noted()["word/footer1.xml"] == ["truncated"]

    def test_elements_nested_without_end_do_no_harm(self) -> None:
        found = Found(docx("x", **{"word/footer1.xml": b"<a>" * 200_000}))
        assert found.noted() == {"word/footer1.xml": ["truncated"]}

    @pytest.mark.parametrize(
        ("number", "shown"),
        [
            ("4.1111111111111E+15", "4111111111111100"),
            ("1e5", "100000"),
            ("1.5E+0", "1.5E+0"),
            ("1.2.3E5", "1.2.3E5"),
            ("9E+99", "9E+99"),
        ],
    )
    def test_large_numbers_are_written_out(self, number: str, shown: str) -> None:
        assert whole(number) == shown


class TestOdf:
    def test_text_and_values_come_out(self) -> None:
        found = Found(odt())
        assert found.contents()["content.xml"] == b"First  line\n4111111111111111 4.11E+15"
        assert not found.notes

    def test_encryption_is_noted(self) -> None:
        assert "encrypted" in Found(odt("<m:manifest xmlns:m='m'><m:encryption-data/></m:manifest>")).notes


class TestOle:
    def test_runs_of_characters_come_out(self) -> None:
        content = bytes(20) + "Card 4111 Überweisung".encode("utf-16-le") + bytes(9) + b"One byte each" + bytes(7)
        found = Found(compound("WordDocument", content=content + "Привет".encode("utf-16-le")))
        assert "Card 4111 Überweisung" in found.texts()
        assert "One byte each" in found.texts()
        assert "Привет" in found.texts()
        assert not found.notes

    @pytest.mark.parametrize(
        ("stream", "note"), [("VBA", "macros"), ("_VBA_PROJECT_CUR", "macros"), ("EncryptedPackage", "encrypted")]
    )
    def test_macros_and_encryption_are_noted(self, stream: str, note: str) -> None:
        assert Found(compound("WordDocument", stream)).notes == {note}

    def test_sectors_that_go_in_circles_or_nowhere_end(self) -> None:
        whole_file = bytearray(compound("a"))
        whole_file[512 + 4 : 512 + 8] = b"\x01\0\0\0"
        assert not Found(bytes(whole_file)).notes
        whole_file[48:52] = b"\0\0\0\x70"
        assert Found(bytes(whole_file)).notes == {"truncated"}
        assert Found(compound("a")[:600]).notes == {"truncated"}


class TestRtf:
    def test_text_comes_without_what_is_not_shown(self) -> None:
        source = rb"{\rtf1\ansi\ansicpg1251{\fonttbl{\f0 Arial;}}{\*\generator x;}Card \b 4111\b0  1111\par "
        source += rb"\'cf\'f0 \u8364?\u-10179?\u-8704?}"
        found = Found(source)
        assert found.texts().strip() == "Card 4111 1111\nПр €😀"
        assert not found.notes

    def test_objects_come_as_members(self) -> None:
        found = Found(rb"{\rtf1 x{\object{\*\objdata " + EICAR.hex().encode() + b"}}}")
        assert EICAR in found.contents().values()

    def test_groups_without_end_are_noted(self) -> None:
        assert Found(b"{\\rtf1 " + b"{" * 100_000 + b"x").notes == {"truncated"}

    def test_binary_data_is_passed_over(self) -> None:
        assert Found(b"{\\rtf1 a\\bin5 }}}}}b}").texts() == "ab"


class TestPdf:
    def test_text_of_all_pages_comes_out(self) -> None:
        found = Found(pdf("Hello page one\nCard 4111 1111 1111 1111", "Second page"))
        assert "Card 4111 1111 1111 1111" in found.texts()
        assert "Second page" in found.texts()
        assert not found.notes

    def test_what_lies_beside_the_page_comes_out_too(self) -> None:
        assert "behind the edge" in Found(pdf("x" * 300 + " behind the edge")).texts()

    def test_what_is_attached_comes_out(self) -> None:
        found = Found(pdf("x", attachment=zipped({"eicar.com": EICAR})))
        assert found.contents()["a.bin > eicar.com"] == EICAR

    @pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9, 0.99])
    def test_a_truncated_file_ends_and_is_noted(self, share: float) -> None:
        whole_file = pdf(*["A page"] * 20)
        found = Found(whole_file[: int(len(whole_file) * share)])
        assert found.notes & {"truncated", "rubbish"}
        if share > 0.5:
            assert "A page" in found.texts()

    def test_more_pages_than_allowed_are_noted(self) -> None:
        found = Found(pdf("one", "two", "three"), {"pages": 2})
        assert found.notes == {"entries"}
        assert "two" in found.texts()
        assert "three" not in found.texts()

    def test_pages_that_count_themselves_do_no_harm(self) -> None:
        source = pdf("x").replace(b"/Kids [10 0 R] /Count 1", b"/Kids [2 0 R]  /Count 9")
        Found(source)

    def test_an_encrypted_file_is_flagged(self) -> None:
        locked = pdf("x").replace(
            b"/Root 1 0 R",
            b"/Root 1 0 R /Encrypt << /Filter /Standard /V 1 /R 2 /P -4 /O <"
            + b"41" * 32
            + b"> /U <"
            + b"42" * 32
            + b"> >> /ID [<41> <41>]",
        )
        found = Found(locked)
        assert found.notes == {"encrypted"}
        assert found.items[0].meta["encrypted"] is True

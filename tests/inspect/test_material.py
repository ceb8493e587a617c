"""The files of these tests are what they say: readers that are not ours open them."""

from __future__ import annotations

import io
import tarfile
import zipfile
import zlib
from email import message_from_bytes, policy
from email.message import EmailMessage
from urllib.parse import parse_qs
from xml.etree import ElementTree

import pytest

from sslintercept.testing.engines import EICAR
from tests.inspect import material

TEXT = "A <first> & line\nand (a) second"


def members(archive: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        assert opened.testzip() is None
        return {name: opened.read(name) for name in opened.namelist()}


def parsed(mail: bytes) -> EmailMessage:
    return message_from_bytes(mail, policy=policy.default)


def test_the_virus_is_in_every_archive() -> None:
    assert members(material.eicar_zip())["invoice.com"] == EICAR
    outer = members(material.eicar_zip_in_zip(3))
    assert members(members(outer["box-1.zip"])["box-0.zip"])["invoice.com"] == EICAR
    with tarfile.open(fileobj=io.BytesIO(material.eicar_tar_gz()), mode="r:gz") as archive:
        found = archive.extractfile("bin/invoice.com")
        assert found is not None
        assert found.read() == EICAR


def test_everything_is_the_same_each_time() -> None:
    for make in (material.eicar_zip, material.eicar_tar_gz, material.eicar_mail, material.phishing_mail):
        assert make() == make()
    assert material.numbers(3, valid=True) == material.numbers(3, valid=True)


def test_a_mail_has_its_text_and_its_attachment() -> None:
    mail = parsed(material.eicar_mail())
    text, attached = mail.iter_parts()
    assert isinstance(text, EmailMessage)
    assert isinstance(attached, EmailMessage)
    assert text.get_content() == "The invoice is attached."
    assert attached.get_filename() == "invoice.zip"
    assert members(attached.get_content())["invoice.com"] == EICAR


@pytest.mark.parametrize("make", [material.phishing_mail, material.innocent_mail])
def test_a_mail_without_attachments_says_the_same_twice(make: object) -> None:
    assert callable(make)
    mail = parsed(make())
    assert not mail.defects
    assert [part.get_content_type() for part in mail.iter_parts()] == ["text/plain", "text/html"]


def test_a_form_with_a_file_is_read_as_it_was_meant() -> None:
    kind, body = material.eicar_upload()
    form = parsed(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + body)
    title, file = form.iter_parts()
    assert title.get_payload() == "an invoice"
    assert file.get_payload(decode=True) == EICAR
    assert parse_qs(material.form({"a b": "c&d=é"}).decode()) == {"a b": ["c&d=é"]}


@pytest.mark.parametrize(
    ("ending", "place"),
    [("docx", "word/document.xml"), ("xlsx", "xl/sharedStrings.xml"), ("pptx", "ppt/slides/slide1.xml")],
)
def test_a_document_has_every_part_that_it_refers_to_and_its_text(ending: str, place: str) -> None:
    found = members(material.DOCUMENTS[ending](TEXT))
    types = ElementTree.fromstring(found["[Content_Types].xml"])
    named = [part.get("PartName", "")[1:] for part in types if part.get("PartName")]
    assert set(named) <= set(found)
    texts = [one.text for one in ElementTree.fromstring(found[place]).iter() if one.tag.endswith("}t")]
    assert texts == TEXT.split("\n")


@pytest.mark.parametrize("compressed", [True, False])
def test_a_pdf_says_where_its_parts_are(compressed: bool) -> None:
    made = material.pdf(TEXT, compressed)
    table = int(made.rsplit(b"startxref\n", 1)[1].split()[0])
    assert made[table:].startswith(b"xref\n0 6\n")
    for number, line in enumerate(made[table:].splitlines()[3:8], 1):
        assert made[int(line[:10]) :].startswith(b"%d 0 obj\n" % number)
    begin = made.index(b"stream\n") + 7
    stream = made[begin : made.index(b"\nendstream")]
    shown = zlib.decompress(stream) if compressed else stream
    assert b"(and \\(a\\) second) Tj" in shown
    assert (b"second" in made) is not compressed


def test_numbers_have_a_check_digit_that_is_right_or_wrong() -> None:
    assert material.luhn("4111111111111111")
    assert not material.luhn("4111111111111112")
    for valid in (True, False):
        made = material.numbers(50, valid=valid)
        assert len(set(made)) == 50
        assert all(len(one) == 16 and material.luhn(one) is valid for one in made)
    assert material.in_fours("4111111111111111") == "4111 1111 1111 1111"
    number = material.numbers(1, valid=True)[0]
    assert number in material.without_words(number)
    assert material.in_fours(number) in material.with_words(number)


def test_a_text_is_found_in_a_body_of_json() -> None:
    assert b'"text": "a secret"' in material.api("a secret")

"""Parts: what they are called, where they lie, and what their first bytes say."""

from __future__ import annotations

import bz2
import gzip
import lzma
import random

import pytest

from sslintercept.inspect.part import MOST_NAME
from sslintercept.transform.message import Direction
from sslintercept.unpack.sniff import HEAD, sniff
from tests.inspect.material import DOCUMENTS, tarred, zipped
from tests.inspect.support import a_part


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (zipped({"a": b"x"}), "application/zip"),
        (zipped({}), "application/zip"),
        (DOCUMENTS["docx"]("x"), "application/zip"),
        (DOCUMENTS["pdf"]("x"), "application/pdf"),
        (tarred({"a": b"x"}), "application/gzip"),
        (gzip.decompress(tarred({"a": b"x"})), "application/x-tar"),
        (bz2.compress(b"text"), "application/x-bzip2"),
        (lzma.compress(b"text"), "application/x-xz"),
        (b"MZ\x90\0\3", "application/vnd.microsoft.portable-executable"),
        (b"\x7fELF\2\1", "application/x-elf"),
        (b"GIF89a\1\0\1\0", "image/gif"),
        (b"{\\rtf1 text}", "application/rtf"),
        (b" \r\n<!DocType HTML><p>", "text/html"),
        (b"<script>", "text/html"),
        (b"<svg xmlns=", "image/svg+xml"),
        (b"\xef\xbb\xbf<?xml version='1.0'?>", "text/xml"),
        (b"text", "text/plain"),
        ("Größe".encode(), "text/plain"),
        ("Größe".encode("latin-1"), "text/plain"),
        (b"\xff\xfea\0", "text/plain"),
        (b"\xfe\xff\0a", "text/plain"),
        (b"MZ is a text", "text/plain"),
        (b"GIF89a is a text", "text/plain"),
        (b"BZh is a text", "text/plain"),
        (b"MSCF is a text", "text/plain"),
        (b"text\0", ""),
        (b"\0\1\2", ""),
        (b"", ""),
        (b"x" * HEAD + b"\0", "text/plain"),
    ],
)
def test_the_first_bytes_say_what_it_is(head: bytes, kind: str) -> None:
    assert sniff(head) == kind


@pytest.mark.parametrize("name", DOCUMENTS)
def test_any_beginning_of_a_document_says_the_same_or_nothing(name: str) -> None:
    content = DOCUMENTS[name]("Some text.\n" * 50)
    whole = sniff(content)
    assert all(sniff(content[:size]) == whole for size in range(5, 600))


def test_what_is_compressed_is_never_taken_for_text() -> None:
    for seed in range(200):
        chance = random.Random(seed)
        text = "".join(chance.choices("etaoin shrdlu", k=chance.randrange(200))).encode()
        assert sniff(bz2.compress(text)) == "application/x-bzip2"
        assert sniff(zipped({"a": text})) == "application/zip"


def test_a_type_is_what_the_bytes_say_and_else_what_was_declared() -> None:
    part = a_part(media_type="text/csv")
    assert part.type == "text/csv"
    part.sniffed = "application/zip"
    assert part.type == "application/zip"


def test_a_piece_lies_in_the_part_it_was_taken_out_of() -> None:
    mail = a_part(carrier="smtp", kind="message", media_type="message/rfc822", sender="a@b.test", content_type="x")
    mail.sniffed, mail.request_head = "text/plain", b"head"
    archive = mail.member("attachment", "report.zip", "application/zip", 7)
    text = archive.member("text", "", "text/plain", 3, "utf-8")
    assert text.outermost is mail
    assert (text.parent, archive.parent, mail.parent) == (archive, mail, None)
    assert text.path == "report.zip > text"
    assert (text.carrier, text.sender, text.length, text.charset) == ("smtp", "a@b.test", 3, "utf-8")
    assert (text.sniffed, text.content_type, text.request_head) == ("", "", b"")
    assert archive.member("member", "n" * 1000, "", 0).name == "n" * MOST_NAME


def test_a_path_has_the_names_from_the_outermost() -> None:
    assert a_part().path == ""
    assert a_part(name="a.zip").member("member", "b.exe", "", 0).path == "a.zip > b.exe"


def test_what_a_client_sends_leaves() -> None:
    assert a_part(direction=Direction.REQUEST).leaves
    assert not a_part(direction=Direction.RESPONSE).leaves


def test_the_heads_of_a_message_are_not_shown_in_logs() -> None:
    part = a_part(request_head=b"Cookie: secret").member("member", "a", "", 0)
    assert "secret" not in repr(part)

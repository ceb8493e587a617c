"""The walk through everything: what it says, limits, and whatever somebody may send."""

from __future__ import annotations

import bz2
import gzip
import lzma
import random
import zipfile
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslintercept.testing.loop import RealLoop
from sslintercept.unpack.known import by_name, format_of, opens
from sslintercept.unpack.sniff import sniff
from sslintercept.worker.pool import Limits
from sslintercept.worker.wire import Job
from tests.unpack.make import EICAR, compound, docx, member, nested, odt, pdf, tarred, xlsx, zipped
from tests.unpack.tools import Found
from tests.worker.tools import Pools, came

MAIL = (
    b"Subject: =?utf-8?b?w6Q=?=\r\nContent-Type: multipart/mixed; boundary=q\r\n\r\n--q\r\nContent-Type: text/html; "
    b"charset=utf-16\r\n\r\n<html>x\r\n--q\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: attachment; "
    b"filename*0=a; filename*1=.zip\r\n\r\nUEsDBBQAAAAIAAAAIQ==\r\n--q--\r\n"
)
SEEDS: dict[str, tuple[bytes, str]] = {
    "zip": (zipped({"a.txt": b"x" * 100, "b.zip": zipped({"c": b"y"}), "d.xml": b"<a>b</a>"}), ""),
    "lzma": (zipped({"a.txt": b"x" * 100}, zipfile.ZIP_LZMA), ""),
    "streamed": (member(b"a", EICAR, flags=8, packed=0, size=0), ""),
    "tar": (tarred({"a": b"x", "b" * 200: b"y"}), ""),
    "gzip": (gzip.compress(tarred({"a": b"x"})), ""),
    "bzip2": (bz2.compress(b"x" * 100), ""),
    "xz": (lzma.compress(b"x" * 100), ""),
    "docx": (docx("Hello"), ""),
    "xlsx": (xlsx(), ""),
    "odt": (odt(), ""),
    "pdf": (pdf("Hello", attachment=b"x"), ""),
    "ole": (compound("VBA", "WordDocument", content=b"Hello world"), ""),
    "rtf": (rb"{\rtf1\ansi\uc1 Hello \'e4\u8364?{\*\objdata 4142}\bin3 xyz\par}", ""),
    "html": (b"<html><p title='x'>Hello &amp;<script>x</script><!-- c --><textarea>", "text/html"),
    "xml": (b"<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b 'c'>]><a b='c'>d&b;</a>", ""),
    "json": (b'{"a": ["\\u0041\\n", 1.5e3, "\\ud83d"]}', "application/json"),
    "form": (b"a=1&b=%41&c", "application/x-www-form-urlencoded"),
    "mail": (MAIL, "message/rfc822"),
    "multipart": (b'--b\r\nContent-Disposition: form-data; name="f"\r\n\r\nvalue\r\n--b--', "multipart/form-data"),
    "text": ("wide".encode("utf-16"), "text/plain"),
}


@st.composite
def mutated(draw: st.DrawFn) -> tuple[str, bytes, str]:
    """A good example in which some bytes are overwritten, taken out, doubled, or exchanged with those of another."""
    name = draw(st.sampled_from(sorted(SEEDS)))
    content, media_type = SEEDS[name]
    data = bytearray(content)
    chance = random.Random(draw(st.integers(0, 2**32)))
    for _ in range(draw(st.integers(0, 8))):
        at = chance.randrange(len(data) + 1)
        length = chance.choice((1, 1, 2, 4, 30))
        what = chance.randrange(5)
        if what == 0:
            data[at : at + length] = chance.randbytes(length)
        elif what == 1:
            del data[at : at + length]
        elif what == 2:
            data[at:at] = data[at : at + 10 * length]
        elif what == 3:
            data[at : at + length] = chance.choice((b"\xff", b"\0", b"\x7f")) * length
        else:
            other = SEEDS[chance.choice(sorted(SEEDS))][0]
            start = chance.randrange(len(other))
            data[at:at] = other[start : start + 10 * length]
    return name, bytes(data), media_type


class TestWhateverIsSent:
    @given(mutated())
    def test_what_is_damaged_ends_with_an_end(self, what: tuple[str, bytes, str]) -> None:
        _, content, media_type = what
        found = Found(content, {"total": 2**20, "member": 2**18}, media_type=media_type)
        assert sum(len(item.content) for item in found.items) <= 2**20

    @given(st.binary(max_size=300), st.sampled_from(sorted(SEEDS)))
    def test_what_is_random_ends_with_an_end(self, content: bytes, name: str) -> None:
        seed, media_type = SEEDS[name]
        Found(seed[:8] + content, media_type=media_type)
        Found(content, media_type=media_type)

    @pytest.mark.parametrize("name", sorted(SEEDS))
    def test_what_is_cut_off_anywhere_ends_with_an_end(self, name: str) -> None:
        content, media_type = SEEDS[name]
        for cut in range(0, len(content), max(1, len(content) // 100)):
            Found(content[:cut], media_type=media_type)

    @pytest.mark.parametrize("name", sorted(SEEDS))
    def test_what_is_whole_gives_something(self, name: str) -> None:
        content, media_type = SEEDS[name]
        assert Found(content, media_type=media_type).items

    @pytest.mark.parametrize(
        "media_type", sorted({media_type for _, media_type in SEEDS.values()} | {"application/zip"})
    )
    @pytest.mark.parametrize("name", sorted(SEEDS))
    def test_what_is_declared_as_something_else_ends_with_an_end(self, name: str, media_type: str) -> None:
        Found(SEEDS[name][0], media_type=media_type)


class TestMeta:
    def test_an_item_says_what_it_is(self) -> None:
        found = Found(zipped({"a/b.docx": docx("x")}), name="outer.zip")
        assert found.items[0].meta == {
            "kind": "member",
            "name": "a/b.docx",
            "path": ["a/b.docx"],
            "depth": 1,
            "media_type": "application/zip",
            "charset": "",
            "encrypted": False,
            "notes": [],
        }
        assert found.items[1].meta["path"] == ["a/b.docx", "word/document.xml"]
        assert found.items[1].meta["charset"] == "utf-8"

    def test_what_cannot_be_opened_has_only_an_end(self) -> None:
        found = Found(b"\x89PNG\r\n\x1a\n" + bytes(100))
        assert found.items == []
        assert found.end == {"kind": "end", "notes": [], "members": 0, "places": []}

    def test_places_of_notes_are_bounded(self) -> None:
        found = Found(zipped({f"{number}": b"PK\x03\x04" for number in range(200)}))
        assert len(found.end["places"]) == 64

    def test_what_is_in_members_is_told_by_name_where_bytes_do_not_tell(self) -> None:
        found = Found(zipped({"a.eml": MAIL, "b.json": b'{"a": "\\u0041"}', "c.txt": "wide".encode("utf-16")}))
        assert "a.eml > headers" in found.paths()
        assert found.contents()["b.json > json"] == b"a\nA"
        assert found.contents()["c.txt > text"] == b"wide"


class TestLimits:
    def test_time_ends_it_with_what_has_been_found(self) -> None:
        found = Found(zipped({f"{number}": b"x" for number in range(100)}), job=Job(seconds=0.0, memory=1, answer=1))
        assert found.notes == {"time"}

    @pytest.mark.parametrize(
        ("limits", "note", "members"),
        [
            ({"entries": 3}, "entries", 3),
            ({"total": 5}, "size", 5),
            ({"member": 0}, "size", 10),
            ({"depth": 1}, None, 10),
        ],
    )
    def test_limits_of_a_job_count(self, limits: dict[str, int], note: str | None, members: int) -> None:
        found = Found(zipped({f"{number}": b"x" for number in range(10)}), limits)
        assert found.end["members"] == members
        assert found.notes == ({note} if note else set())


class TestInAProcess:
    """With the limits of a real process around it."""

    @pytest.mark.parametrize("name", sorted(SEEDS))
    def test_everything_works_confined(self, loop: RealLoop, pools: Pools, name: str) -> None:
        content, media_type = SEEDS[name]
        items = came(loop, pools().run("sslintercept.unpack.task:unpack", {"media_type": media_type}, content))
        here = Found(content, media_type=media_type)
        assert [item.content for item in items[:-1]] == [item.content for item in here.items]
        assert items[-1].meta == here.end

    @pytest.mark.parametrize(
        "content",
        [
            zipped({f"{number}": bytes(16 * 2**20) for number in range(5)}),
            bz2.compress(bytes(50 * 2**20)),
            gzip.compress(b"<html>" + b"<td>1234567 " * 700_000),
            gzip.compress(b"{\\rtf1 " + b"\\'e4\\u1234?" * 200_000),
            nested(b"x", 50),
            docx("x" * 10_000_000),
            pdf(*["A page of words. " * 20] * 300),
            b"<html>" + b"<p>A word &amp; another</p>" * 300_000,
        ],
        ids=["zip", "bzip2", "html-gzip", "rtf", "nested", "docx", "pdf", "html"],
    )
    def test_what_is_large_stays_within_time_and_memory(self, loop: RealLoop, pools: Pools, content: bytes) -> None:
        items = came(loop, pools(1, Limits()).run("sslintercept.unpack.task:unpack", {}, content))
        assert isinstance(items, list), items
        end: dict[str, Any] = items[-1].meta
        assert end["kind"] == "end"
        assert "time" not in end["notes"]
        assert sum(len(item.content) for item in items) <= 64 * 2**20


@pytest.mark.parametrize(
    ("media_type", "sniffed", "name", "expected"),
    [
        ("text/plain", "application/zip", "", "zip"),
        ("application/json", "text/plain", "", "json"),
        ("application/problem+json", "text/plain", "", "json"),
        ("application/octet-stream", "text/plain", "a.json", "json"),
        ("text/plain", "text/html", "", "html"),
        ("text/html", "text/plain", "", "html"),
        ("image/svg+xml", "image/svg+xml", "", "xml"),
        ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", "", "", "zip"),
        ("multipart/related", "text/plain", "", "multipart"),
        ("text/plain", "", "", "text"),
        ("text/plain", "text/plain", "a.txt", ""),
        ("image/png", "image/png", "a.html", ""),
        ("", "", "", ""),
        ("", "application/vnd.rar", "", "closed"),
    ],
)
def test_what_can_be_opened_is_told_by_type_and_name(media_type: str, sniffed: str, name: str, expected: str) -> None:
    assert format_of(media_type, sniffed, name) == expected
    assert opens(media_type, sniffed, name) is bool(expected)


def test_names_tell_types_only_where_bytes_do_not() -> None:
    assert by_name("A.EML") == "message/rfc822"
    assert by_name("a.zip") == by_name("zip") == by_name("") == ""
    assert sniff(b"PK\x03\x04") == "application/zip"

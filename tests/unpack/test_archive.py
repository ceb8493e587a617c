"""Archives as they should be, and archives that want to do harm or to hide something."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
import sys
import tarfile
import time
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Iterator

import pytest

from tests.unpack.make import EICAR, archive, listed, member, nested, quine, squeezed, tarred, zipped
from tests.unpack.tools import Found

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MIB = 2**20


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_members_of_a_zip_come_in_order(method: int) -> None:
    found = Found(zipped({"a.txt": b"first", "folder/": b"", "folder/b.bin": bytes(range(256)) * 50}, method))
    assert found.contents() == {"a.txt": b"first", "folder/b.bin": bytes(range(256)) * 50}
    assert not found.notes


@pytest.mark.parametrize(("method", "press"), [(93, zstd.compress), (95, lzma.compress)])
def test_rarer_methods_of_zip_are_read(method: int, press: Callable[[bytes], bytes]) -> None:
    packed = press(b"content")
    first = member(b"a", b"content", method=method, data=packed)
    found = Found(archive(first, listed(b"a", b"content", 0, method=method, packed=len(packed)), 1))
    assert found.contents() == {"a": b"content"}
    assert not found.notes


def test_a_method_that_we_do_not_know_is_noted() -> None:
    first = member(b"a", b"content", method=9, data=b"xxx")
    found = Found(archive(first, listed(b"a", b"content", 0, method=9, packed=3), 1))
    assert found.noted() == {"a": ["unopened"]}


def test_a_test_virus_in_a_zip_in_a_zip_comes_out() -> None:
    found = Found(zipped({"inner.zip": zipped({"eicar.com": EICAR})}))
    assert found.contents()["inner.zip > eicar.com"] == EICAR
    assert found.paths() == ["inner.zip", "inner.zip > eicar.com"]


def test_a_zip64_is_read() -> None:
    wide = struct.pack("<2H2Q", 1, 16, 7, len(squeezed(b"content")))
    first = member(b"a", b"content", packed=0xFFFFFFFF, size=0xFFFFFFFF, extra=wide)
    wide_at = struct.pack("<2H3Q", 1, 24, 7, len(squeezed(b"content")), 0)
    directory = listed(b"a", b"content", 0xFFFFFFFF, packed=0xFFFFFFFF, size=0xFFFFFFFF, extra=wide_at)
    end64 = struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 1, len(directory), len(first))
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, len(first) + len(directory), 1)
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    whole = first + directory + end64 + locator + end
    with zipfile.ZipFile(io.BytesIO(whole)) as other:
        assert other.read("a") == b"content"
    assert Found(whole).contents() == {"a": b"content"}
    assert not Found(whole).notes
    assert Found(b"#!/bin/sh\n" + whole, media_type="application/zip").contents() == {"a": b"content"}


def test_a_zip_behind_a_program_is_read() -> None:
    found = Found(b"MZ" + bytes(5000) + zipped({"a": b"content"}), media_type="application/zip")
    assert found.contents() == {"a": b"content"}


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8, 0.95])
def test_of_a_truncated_zip_comes_what_is_there(share: float) -> None:
    whole = zipped({f"{number}.txt": bytes([65 + number]) * 1000 for number in range(20)})
    found = Found(whole[: int(len(whole) * share)])
    assert "truncated" in found.notes
    assert found.contents()["0.txt"] == b"A" * 1000


def test_an_empty_zip_is_no_rubbish() -> None:
    found = Found(zipped({}))
    assert found.items == []
    assert not found.notes


class TestLies:
    def test_a_size_that_is_too_small_hides_nothing(self) -> None:
        first = member(b"a", b"x" * 50 + EICAR, size=10)
        found = Found(archive(first, listed(b"a", b"x" * 50 + EICAR, 0, size=10), 1))
        assert EICAR in found.contents()["a"]
        assert found.noted() == {"a": ["lies"]}

    def test_a_packed_size_that_is_too_small_hides_nothing(self) -> None:
        content = bytes(range(256)) * 10 + EICAR
        first = member(b"a", content, packed=20)
        found = Found(archive(first, listed(b"a", content, 0, packed=20), 1))
        assert found.contents()["a"] == content
        assert "lies" in found.noted()["a"]

    def test_a_name_that_differs_is_noted(self) -> None:
        first = member(b"harmless.txt", EICAR)
        found = Found(archive(first, listed(b"a.exe", EICAR, 0), 1))
        assert found.contents() == {"a.exe": EICAR}
        assert found.noted() == {"a.exe": ["lies"]}

    def test_a_checksum_that_is_wrong_is_noted(self) -> None:
        found = Found(archive(member(b"a", b"x", crc=1), listed(b"a", b"x", 0, crc=1), 1))
        assert found.noted() == {"a": ["lies"]}

    def test_a_member_that_is_not_listed_comes_out(self) -> None:
        first, second = member(b"shown", b"harmless"), member(b"hidden", EICAR)
        found = Found(archive(first + second, listed(b"shown", b"harmless", 0), 1))
        assert found.contents() == {"shown": b"harmless", "hidden": EICAR}
        assert found.noted() == {"hidden": ["unlisted"]}

    def test_a_stored_member_that_is_not_listed_and_says_no_size_comes_out(self) -> None:
        first, second = member(b"shown", b"harmless"), member(b"hidden", EICAR, method=0, flags=8, packed=0, size=0)
        found = Found(archive(first + second, listed(b"shown", b"harmless", 0), 1))
        assert EICAR in found.contents()["hidden"]

    def test_zips_that_are_stored_members_are_listed_by_themselves(self) -> None:
        found = Found(zipped({"a.zip": zipped({"b": b"x"})}, zipfile.ZIP_STORED))
        assert found.paths() == ["a.zip", "a.zip > b"]
        assert not found.notes

    def test_members_that_overlap_are_noted_and_read(self) -> None:
        first = member(b"a", b"content")
        directory = listed(b"a", b"content", 0) + listed(b"a", b"content", 0)
        found = Found(archive(first, directory, 2))
        assert [item.content for item in found.items] == [b"content", b"content"]
        assert found.items[1].meta["notes"] == ["overlap"]

    def test_a_directory_that_points_outside_is_noted(self) -> None:
        found = Found(archive(member(b"a", b"x"), listed(b"b", b"x", 5000), 1))
        assert found.noted()["b"] == ["lies"]
        assert found.contents()["a"] == b"x"

    def test_a_directory_at_another_place_than_said_is_found(self) -> None:
        whole = bytearray(archive(member(b"a", EICAR), listed(b"a", EICAR, 0), 1))
        struct.pack_into("<2I", whole, len(whole) - 10, 3, 7)
        found = Found(bytes(whole))
        assert EICAR in found.contents().values()
        assert "lies" in found.notes

    def test_a_count_that_is_wrong_is_noted(self) -> None:
        found = Found(archive(member(b"a", b"x"), listed(b"a", b"x", 0), 7))
        assert found.contents() == {"a": b"x"}
        assert "lies" in found.notes

    def test_an_encrypted_member_is_flagged(self) -> None:
        first = member(b"a", b"x" * 30, flags=1)
        found = Found(archive(first, listed(b"a", b"x" * 30, 0, flags=1), 1))
        assert found.items[0].meta["encrypted"] is True
        assert found.noted() == {"a": ["encrypted"]}
        assert found.notes == {"encrypted"}

    def test_a_name_cannot_write_on_a_terminal_or_be_without_end(self) -> None:
        name = b"\x1b[2J\xe2\x80\xaegnp.exe" + b"x" * 60000
        found = Found(archive(member(name, b"x", flags=0x800), listed(name, b"x", 0, flags=0x800), 1))
        shown = found.items[0].meta["name"]
        assert isinstance(shown, str)
        assert shown.startswith("\ufffd[2J\ufffdgnp.exe")
        assert len(shown) == 512


class TestBombs:
    @pytest.fixture(autouse=True)
    def bounded(self) -> Iterator[None]:
        begun = time.process_time()
        tracemalloc.start()
        yield
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert most < 320 * MIB
        assert time.process_time() - begun < 20

    def test_one_member_of_gigabytes_is_cut_off(self) -> None:
        zeros = gigabyte()
        first = member(b"a", b"", data=zeros, size=2**30)
        found = Found(archive(first, listed(b"a", b"", 0, packed=len(zeros), size=2**30), 1))
        assert len(found.items[0].content) == 16 * MIB
        assert found.noted()["a"][-1] == "size"

    def test_a_stream_of_a_ratio_that_nobody_needs_is_cut_off(self) -> None:
        found = Found(bz2.compress(bytes(50 * MIB)), name="a.bz2")
        assert len(found.contents()["a"]) == MIB
        assert found.noted() == {"a": ["ratio"]}

    @pytest.mark.parametrize(
        "press",
        [bz2.compress, lzma.compress, gzip.compress, zstd.compress, lambda data: zipped({"a": data})],
        ids=["bzip2", "xz", "gzip", "zstd", "zip"],
    )
    def test_every_kind_of_stream_is_bounded(self, press: Callable[[bytes], bytes]) -> None:
        found = Found(press(bytes(40 * MIB)))
        assert len(found.items[0].content) <= 16 * MIB
        assert found.notes <= {"ratio", "size"}
        assert found.notes

    def test_sixteen_zips_of_sixteen_zips_of_bombs_are_bounded_together(self) -> None:
        """The kind of 42.zip."""
        content = zipped({"bomb": bytes(12 * MIB)})
        for level in range(3):
            content = zipped({f"{level}-{number}.zip": content for number in range(16)})
        assert len(content) < 100_000
        found = Found(content)
        assert sum(len(item.content) for item in found.items) <= 64 * MIB
        assert "size" in found.notes

    def test_a_zip_that_contains_itself_ends(self) -> None:
        found = Found(quine())
        assert found.end["members"] == 16
        assert "depth" in found.notes
        assert found.items[-1].content == quine()

    def test_members_that_overlap_are_bounded_together(self) -> None:
        """The kind of Fifield's: many entries of one stream."""
        zeros = squeezed(bytes(10 * MIB))
        first = member(b"a", b"", data=zeros, size=10 * MIB)
        line = listed(b"a", b"", 0, packed=len(zeros), size=10 * MIB)
        found = Found(archive(first, line * 5000, 5000))
        assert sum(len(item.content) for item in found.items) <= 64 * MIB
        assert found.notes >= {"overlap", "size"}

    def test_fifty_zips_inside_each_other_are_opened_to_the_sixteenth(self) -> None:
        found = Found(nested(EICAR, 50))
        assert [item.meta["depth"] for item in found.items] == list(range(1, 17))
        assert found.noted() == {found.paths()[-1]: ["depth"]}
        assert zipfile.is_zipfile(io.BytesIO(found.items[-1].content))
        assert found.end["places"] == [["depth", found.items[-1].meta["path"]]]

    def test_the_same_fifty_are_opened_where_the_limit_allows_it(self) -> None:
        assert Found(nested(EICAR, 50), {"depth": 51}).items[-1].content == EICAR


class TestMany:
    """What is small and many."""

    @pytest.fixture(autouse=True)
    def bounded(self) -> Iterator[None]:
        begun = time.process_time()
        yield
        assert time.process_time() - begun < 10

    def test_a_hundred_thousand_members_are_counted(self) -> None:
        line = listed(b"a", b"", 0, packed=2)
        found = Found(archive(member(b"a", b"", packed=2), line * 60_000, 60_000))
        assert found.end["members"] == 10_000
        assert "entries" in found.notes

    def test_millions_of_empty_streams_take_no_longer_than_allowed(self) -> None:
        found = Found(gzip.compress(b"") * 200_000, name="a.gz")
        assert found.contents() == {"a": b""}

    def test_millions_of_headers_that_are_none_take_no_longer_than_allowed(self) -> None:
        found = Found(member(b"a", b"x") + b"PK\x03\x04" * 4 * MIB, {"entries": 100})
        assert found.notes == {"truncated", "entries"}

    def test_a_dictionary_of_gigabytes_is_not_made(self) -> None:
        packed = bytearray(lzma.compress(b"x" * 1000, lzma.FORMAT_ALONE))
        struct.pack_into("<I", packed, 1, 2**31)
        data = b"\x09\x14\x05\x00" + packed[:5] + packed[13:]
        first = member(b"a", b"x" * 1000, method=14, data=bytes(data))
        found = Found(archive(first, listed(b"a", b"x" * 1000, 0, method=14, packed=len(data)), 1))
        assert "size" in found.noted()["a"]


def gigabyte() -> bytes:
    """A gibibyte of zeros, deflated, without ever having it: the same block again and again."""
    press = zlib.compressobj(9, zlib.DEFLATED, -15)
    press.compress(bytes(MIB)) + press.flush(zlib.Z_FULL_FLUSH)
    block = press.compress(bytes(MIB)) + press.flush(zlib.Z_FULL_FLUSH)
    return block * 1024 + press.flush()


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_files_of_a_tar_come_with_their_names(kind: int) -> None:
    names = ["a.txt", "folder/b.txt"] + ([] if kind == tarfile.USTAR_FORMAT else ["x" * 200, "ä" * 100])
    found = Found(tarred({name: name.encode() for name in names}, kind))
    assert found.contents() == {name: name.encode() for name in names}
    assert not found.notes


@pytest.mark.parametrize("press", [gzip.compress, bz2.compress, lzma.compress, zstd.compress])
def test_compressed_tars_are_opened(press: Callable[[bytes], bytes]) -> None:
    found = Found(press(tarred({"eicar.com": EICAR})), name="x.tgz")
    assert found.paths() == ["x.tar", "x.tar > eicar.com"] or found.paths() == ["x.tgz", "x.tgz > eicar.com"]
    assert found.items[-1].content == EICAR


class TestTar:
    def test_files_behind_blocks_of_zeros_come_out(self) -> None:
        found = Found(tarred({"a": b"x"}) + tarred({"eicar.com": EICAR}))
        assert found.contents() == {"a": b"x", "eicar.com": EICAR}

    def test_of_a_truncated_tar_comes_what_is_there(self) -> None:
        found = Found(tarred({"a": b"x" * 5000})[:2000])
        assert found.contents() == {"a": b"x" * (2000 - 512)} or found.noted() == {"a": ["truncated"]}
        assert "truncated" in found.notes

    @pytest.mark.parametrize(
        "size", [b"\x80" + b"\xff" * 11, b"\xff" * 12, b"77777777777\0", b"\x80\0\0\0" + b"\x7f" * 8]
    )
    def test_sizes_that_lie_end(self, size: bytes) -> None:
        whole = bytearray(tarred({"a": b"x"}, tarfile.USTAR_FORMAT))
        whole[124:136] = size
        whole[148:156] = b" " * 8
        whole[148:156] = b"%06o\0 " % sum(whole[:512])
        found = Found(bytes(whole) + tarred({"b": EICAR}))
        assert found.notes & {"truncated", "rubbish"}

    def test_headers_that_are_none_are_passed_over(self) -> None:
        found = Found(tarred({"a": b"x"}) + b"?" * 1024 + tarred({"b": EICAR}))
        assert found.contents()["b"] == EICAR
        assert found.notes == {"rubbish"}

    def test_a_tar_of_rubbish_ends_early(self) -> None:
        found = Found(tarred({"a": b"x"}) + b"?" * 4 * MIB)
        assert found.notes == {"rubbish"}


def test_streams_that_follow_each_other_come_together() -> None:
    for press in (gzip.compress, bz2.compress, lzma.compress, zstd.compress):
        assert Found(press(b"one ") + press(b"two")).items[0].content == b"one two"


def test_what_follows_a_stream_and_is_none_is_noted() -> None:
    found = Found(gzip.compress(b"one") + b"something else")
    assert found.items[0].content == b"one"
    assert found.notes == {"lies"}
    assert not Found(gzip.compress(b"one") + bytes(100)).notes


@pytest.mark.parametrize("press", [gzip.compress, bz2.compress, lzma.compress, zstd.compress])
def test_streams_that_are_cut_off_or_damaged_are_noted(press: Callable[[bytes], bytes]) -> None:
    content = b"".join(b"%d" % number for number in range(20000))
    whole = press(content)
    cut = Found(whole[: len(whole) // 2])
    assert cut.notes == {"truncated"}
    assert content.startswith(cut.items[0].content)
    damaged = Found(whole[: len(whole) // 2] + bytes(100) + whole[len(whole) // 2 + 100 :])
    assert damaged.notes & {"rubbish", "truncated", "lies"} or damaged.items[0].content != content


@pytest.mark.parametrize("opening", [b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07\x01\0", b"MSCF"])
def test_archives_that_we_cannot_open_are_named(opening: bytes) -> None:
    assert Found(opening + bytes(100)).notes == {"unopened"}
    found = Found(zipped({"a.bin": opening + bytes(100)}))
    assert found.noted() == {"a.bin": ["unopened"]}

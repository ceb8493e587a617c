"""Lists as blocks of bytes."""

from __future__ import annotations

import sys
import tracemalloc
from binascii import crc32
from pathlib import Path

import pytest

from sslintercept.sites import image as module
from sslintercept.sites.compile import compiled
from sslintercept.sites.image import EXCEPTION, Builder, Image, kind_of, line_of, source_of
from sslintercept.sites.listing import Entry, Kind, ListError, ListSettings
from sslintercept.sites.look import SiteList, Sites

MILLION = 1_000_000
MIB = 2**20
# Two names with one CRC-32.
TWINS = (b"plumless.example", b"buckeroo.example")


def made(*entries: Entry) -> Image:
    builder = Builder("bad")
    for line, entry in enumerate(entries, 1):
        builder.add(entry, line, builder.source("file", ""))
    return Image(b"".join(map(bytes, builder.finish())))


def test_names_with_one_checksum_are_told_apart() -> None:
    one, other = TWINS
    assert crc32(one) == crc32(other)
    lists = Sites((SiteList("bad", made(Entry(one, Kind.DOMAIN))),))
    assert lists.host(one.decode()) is not None
    assert lists.host(other.decode()) is None


def test_an_entry_keeps_what_it_says() -> None:
    builder = Builder("bad")
    source = [builder.source("file", category) for category in ("a", "b")]
    builder.add(Entry(b"example.com", Kind.BELOW, True), 4_000_000_000, source[1])
    image = Image(b"".join(map(bytes, builder.finish())))
    ((key, number),) = image.find(b"example.com", crc32(b"example.com"))
    assert key == b"example.com"
    assert (kind_of(number), line_of(number), source_of(number)) == (Kind.BELOW, 4_000_000_000, 1)
    assert number & EXCEPTION
    assert image.sources[1] == ("file", "b")


def test_an_entry_that_is_there_already_is_counted_and_the_first_line_stays() -> None:
    image = made(*[Entry(b"example.com", Kind.DOMAIN)] * 3)
    assert (image.report.entries, image.report.duplicates) == (1, 2)
    ((_, number),) = image.find(b"example.com", crc32(b"example.com"))
    assert line_of(number) == 1


def test_an_empty_list_lists_nothing() -> None:
    assert Sites((SiteList("bad", made()),)).host("example.com") is None


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(ValueError, match="no image"):
        Image(b"example.com\n")
    builder = Builder("bad")
    whole = b"".join(map(bytes, builder.finish()))
    with pytest.raises(ValueError, match="half an image"):
        Image(whole[:-1])


def test_keys_that_are_made_to_collide_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CHAIN", 20)
    monkeypatch.setattr(module, "crc32", lambda key: 7)
    with pytest.raises(ListError, match="at one place of the table"):
        made(*[Entry(b"host%d.example" % n, Kind.HOST) for n in range(30)])


def test_a_list_has_a_greatest_number_of_entries_and_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ENTRIES", 3)
    with pytest.raises(ListError, match="more than 3 entries"):
        made(*[Entry(b"host%d.example" % n, Kind.HOST) for n in range(4)])
    monkeypatch.setattr(module, "MAX_FILES", 3)
    builder = Builder("bad")
    assert [builder.source("file", category) for category in "abcda"] == [0, 1, 2, 3, 0]
    with pytest.raises(ListError, match="more than 3 files"):
        builder.source("file", "e")


def test_a_million_domains_take_less_than_120_mib_and_are_all_found() -> None:
    builder = Builder("bad")
    source = builder.source("file", "")
    for n in range(MILLION):
        builder.add(Entry(b"a-%d.some-name%d.example" % (n, n % 1000), Kind.DOMAIN), n + 1, source)
    parts = builder.finish()
    tracemalloc.start()
    image = Image(b"".join(parts))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 120 * MIB
    assert held < image.size + sys.getsizeof(image.held) + MIB
    assert image.report.entries == MILLION
    lists = Sites((SiteList("bad", image),))
    for n in range(0, MILLION, 997):
        found = lists.host(f"www.a-{n}.some-name{n % 1000}.example")
        assert found is not None
        assert found.line == n + 1
        assert lists.host(f"b-{n}.some-name{n % 1000}.example") is None


def test_a_file_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_text("example.com\n")
    image = compiled(ListSettings("bad", path))
    assert image.find(b"example.com", crc32(b"example.com"))
    assert image.report.formats == ["plain"]

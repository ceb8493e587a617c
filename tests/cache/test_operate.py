"""What operators type, and where spans are."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from sslintercept.cache.operate import matches, shown, uri_of
from sslintercept.cache.place import parts_of
from sslintercept.cache.resource import Resource
from sslintercept.config.schema import CacheSettings
from sslintercept.errors import ConfigError
from sslintercept.store.store import Part

MIB = 2**20


@pytest.mark.parametrize(
    ("url", "uri"),
    [
        ("http://a.example", b"http://a.example:80/"),
        ("HTTP://A.Example./x?y#z", b"http://a.example:80/x?y"),
        ("https://a.example/x", b"https://a.example:443/x"),
        ("https://user:pw@a.example:8443/", b"https://a.example:8443/"),
        ("http://[2001:db8::1]/", b"http://[2001:db8::1]:80/"),
        ("ftp://a.example/", None),
        ("a.example", None),
        ("http://", None),
        ("http://a.example:99999/", None),
        ("http://a.example/\u00e4", None),
    ],
)
def test_a_url_is_read_as_somebody_types_it(url: str, uri: bytes | None) -> None:
    assert uri_of(url) == uri


@pytest.mark.parametrize(
    ("pattern", "meant"),
    [
        ("", True),
        ("*", True),
        ("http://a.example:80/*", True),
        ("http://a.example/x.png", True),
        ("http://*.example:80/x.p?g", True),
        ("http://A.example:80/*", False),
        ("http://b.example/x.png", False),
    ],
)
def test_a_pattern_means_what_it_says(pattern: str, meant: bool) -> None:
    assert matches(Resource(b"http://a.example:80/x.png", ()), pattern) is meant


def test_what_is_shown_cannot_do_anything_to_a_terminal() -> None:
    assert shown(b"http://a.example:80/\x1b[2J\n\xff") == "http://a.example:80/%1B[2J%0A%FF"


# spans


def settings(*paths: Path, size: int = 64 * MIB) -> CacheSettings:
    return CacheSettings(paths, size, 0, False, MIB, 0.0)


def test_a_folder_has_a_file_for_each_process(tmp_path: Path) -> None:
    assert parts_of(settings(tmp_path), 2, 4) == [Part(tmp_path / "cache-2.span", 0, 64 * MIB)]


def test_a_folder_that_is_not_there_is_made_for_us_alone(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    parts_of(settings(path), 0, 1)
    assert path.stat().st_mode & 0o777 == 0o700


def test_a_file_is_shared_in_equal_slices_of_whole_pages(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    parts = [parts_of(settings(path, size=64 * MIB + 5), n, 3)[0] for n in range(3)]
    sizes = {part.size for part in parts}
    assert sizes == {(64 * MIB + 5) // 3 // 4096 * 4096}
    assert [part.offset for part in parts] == [n * parts[0].size for n in range(3)]
    assert parts[2].offset + parts[2].size <= 64 * MIB + 5


def test_several_places_are_several_spans(tmp_path: Path) -> None:
    assert len(parts_of(settings(tmp_path / "a", tmp_path / "b"), 0, 1)) == 2


def test_no_path_is_no_span() -> None:
    assert parts_of(CacheSettings(None, MIB, 0, False, MIB, 0.0), 0, 1) == []


@pytest.mark.parametrize("kind", ["socket", "pipe", "below a file"])
def test_what_cannot_hold_a_cache_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    if kind == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(path))
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.touch()
        path /= "y"
    with pytest.raises(ConfigError, match=r"\[cache\] path"):
        parts_of(settings(path), 0, 1)

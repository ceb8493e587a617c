"""Tables of hashes: what was put in is found, nothing else is, and files are for their owner only."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslintercept.errors import ConfigError
from sslintercept.leak import digest as digests
from sslintercept.leak.digest import (
    DigestTable,
    digest,
    make_key,
    pack,
    read_key,
    read_or_make_key,
    read_secret,
    store_secret,
    write_secret,
)

KEY = bytes(32)
ENTRIES = st.lists(st.tuples(st.integers(0, 50) | st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1)), max_size=30)


@given(ENTRIES)
def test_what_was_put_in_is_found(entries: list[tuple[int, int]]) -> None:
    table = DigestTable(KEY, pack(KEY, entries))
    assert len(table) == len(set(entries))
    for wanted in {*range(51), *(each for each, _ in entries)}:
        assert table.find(wanted) == tuple(sorted({number for each, number in entries if each == wanted}))


def test_a_hash_depends_on_the_key() -> None:
    assert digest(KEY, b"x") == digest(KEY, b"x")
    assert digest(make_key(), b"x") != digest(KEY, b"x")


@pytest.mark.parametrize(
    ("packed", "what"),
    [
        (b"", "no table"),
        (b"x" * 40, "no table"),
        (pack(bytes(31) + b"1", []), "another key"),
        (pack(KEY, [(1, 1)])[:-1], "cut"),
        (pack(KEY, [(1, 1)]) + b"x", "too long"),
    ],
)
def test_bytes_that_are_no_table_are_refused(packed: bytes, what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        DigestTable(KEY, packed)


def test_a_file_is_for_its_owner_only_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "key"
    write_secret(path, b"one")
    write_secret(path, b"two")
    assert read_secret(path) == b"two"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_secret(tmp_path / "key", b"one")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_is_told_in_words(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot write .*/none/key \(No such file or directory\); name another file"):
        store_secret(tmp_path / "none" / "key", b"one")


def test_a_key_is_made_once_and_read_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "key"
    key, made = read_or_make_key(path)
    assert (len(key), made, path.stat().st_mode & 0o777) == (32, True, 0o600)
    assert read_or_make_key(path) == (key, False)
    assert read_key(path) == key


@pytest.mark.parametrize("size", [0, 31])
def test_a_key_of_another_length_is_refused(tmp_path: Path, size: int) -> None:
    write_secret(tmp_path / "key", bytes(size))
    for read in (read_key, read_or_make_key):
        with pytest.raises(ConfigError, match=f"is no key: it has {size} bytes, not 32"):
            read(tmp_path / "key")


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    with pytest.raises(ConfigError, match="not a regular file"):
        read_secret(tmp_path / "fifo")


def test_more_hashes_than_fit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "MOST_ENTRIES", 2)
    with pytest.raises(ConfigError, match="3 hashes"):
        pack(KEY, [(1, 1), (2, 2), (3, 3)])


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    write_secret(path, b"one")
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="others may read"):
        read_secret(path)


def test_a_file_that_is_too_large_or_missing_is_refused(tmp_path: Path) -> None:
    write_secret(tmp_path / "key", b"12345")
    with pytest.raises(ConfigError, match="too large"):
        read_secret(tmp_path / "key", most=4)
    with pytest.raises(ConfigError, match="cannot read"):
        read_secret(tmp_path / "nothing")

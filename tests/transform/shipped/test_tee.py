"""Copies of bodies: private, bounded, named by us, and never in the way of the body."""

from __future__ import annotations

import gzip
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.logger import capturedLogs

from sslintercept.testing.transform import Exchange, Pipe, splits
from sslintercept.transform.shipped import tee
from sslintercept.transform.shipped.tee import Tee, TeeOptions

BODY = bytes(range(256)) * 8
"""2 KiB"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "bodies"


@pytest.fixture(autouse=True)
def private() -> Iterator[None]:
    """Whatever the umask: modes are what they are without its help."""
    before = os.umask(0)
    yield
    os.umask(before)


def options(folder: Path, *, max_body: int = 1 << 20, max_files: int = 100, max_bytes: int = 1 << 20) -> TeeOptions:
    return TeeOptions(folder=folder, max_body=max_body, max_files=max_files, max_bytes=max_bytes)


def kept(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def sent(transformer: Tee, body: bytes = BODY, status: int = 200) -> tuple[Pipe, dict[str, str]]:
    exchange = Exchange(transformer)
    pipe = exchange.respond(status)
    pipe.send(body)
    assert (pipe.got, pipe.ended) == (body, 1)
    return pipe, exchange.notes


def test_every_split_is_kept_as_the_whole(folder: Path) -> None:
    transformer = Tee(options(folder, max_files=1000))
    count = 0
    for pieces in splits(BODY, longest=4):
        pipe = Exchange(transformer).respond()
        for piece in pieces:
            before = pipe.got
            pipe.write(piece)
            assert pipe.got == before + piece
        pipe.finish()
        count += 1
    assert set(kept(folder).values()) == {BODY}
    assert len(kept(folder)) == count


def test_a_file_is_named_by_us_and_only_we_can_read_it(folder: Path) -> None:
    _, notes = sent(Tee(options(folder)))
    assert kept(folder) == {"c1-000001-response": BODY}
    assert notes == {"response_tee": "c1-000001-response"}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "c1-000001-response").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("connection", "name"), [("5f3a-1b", "5f3a-1b"), ("../../-etc/x\0\n", "etcx"), ("/", "0"), ("x" * 300, "x" * 64)]
)
def test_no_name_leaves_the_folder_whatever_the_connection_is_called(folder: Path, connection: str, name: str) -> None:
    exchange = Exchange(Tee(options(folder)))
    exchange.request.facts.id = connection
    exchange.respond().send(b"body")
    assert list(kept(folder)) == [f"{name}-000001-response"]


def test_requests_are_kept_too(folder: Path) -> None:
    exchange = Exchange(Tee(options(folder)), method="POST", fields={"Content-Length": "4"})
    exchange.upload().send(b"form")
    exchange.respond().send(b"page")
    assert kept(folder) == {"c1-000001-request": b"form", "c1-000002-response": b"page"}


def test_content_is_kept_without_its_coding(folder: Path) -> None:
    pipe = Exchange(Tee(options(folder))).respond(fields={"Content-Encoding": "gzip"})
    coded = gzip.compress(BODY)
    pipe.send(coded)
    assert pipe.got == coded
    assert kept(folder) == {"c1-000001-response": BODY}


def test_a_body_of_nothing_is_not_kept(folder: Path) -> None:
    Exchange(Tee(options(folder))).respond().finish()
    assert kept(folder) == {}


def test_a_file_is_part_until_its_body_is_whole(folder: Path) -> None:
    pipe = Exchange(Tee(options(folder))).respond()
    pipe.write(BODY)
    assert list(kept(folder)) == ["c1-000001-response.part"]
    pipe.finish()
    assert list(kept(folder)) == ["c1-000001-response"]


@pytest.mark.parametrize("how", ["abort", "leave"])
def test_a_body_that_breaks_off_stays_part(folder: Path, how: str) -> None:
    exchange = Exchange(Tee(options(folder)))
    pipe = exchange.respond()
    pipe.write(BODY)
    getattr(pipe, how)()
    assert kept(folder) == {"c1-000001-response.part": BODY}
    assert exchange.notes == {"response_tee": "c1-000001-response.part (broke off)"}


def test_a_range_is_part(folder: Path) -> None:
    _, notes = sent(Tee(options(folder)), status=206)
    assert kept(folder) == {"c1-000001-response.part": BODY}
    assert notes == {"response_tee": "c1-000001-response.part (a range)"}


@pytest.mark.parametrize("size", [1, 2047, 2048])
def test_of_a_large_body_the_beginning_is_kept(folder: Path, size: int) -> None:
    _, notes = sent(Tee(options(folder, max_body=size)))
    whole = size == len(BODY)
    assert kept(folder) == {"c1-000001-response" + ("" if whole else ".part"): BODY[:size]}
    assert ("only the beginning" in notes["response_tee"]) is not whole


def test_what_comes_behind_the_beginning_is_not_kept(folder: Path) -> None:
    pipe = Exchange(Tee(options(folder, max_body=3))).respond()
    pipe.send(b"ab", b"cd", b"ef")
    assert pipe.got == b"abcdef"
    assert kept(folder) == {"c1-000001-response.part": b"abc"}


def test_a_folder_that_is_taken_away_costs_the_copy_and_nothing_else(folder: Path) -> None:
    exchange = Exchange(Tee(options(folder)))
    pipe = exchange.respond()
    pipe.write(BODY)
    shutil.rmtree(folder)
    with capturedLogs() as events:
        pipe.finish()
    assert (pipe.got, pipe.ended) == (BODY, 1)
    assert exchange.notes == {"response_tee": "not kept, see the proxy's log"}
    assert len(events) == 1


def test_all_files_together_are_bounded(folder: Path) -> None:
    transformer = Tee(options(folder, max_bytes=5000))
    notes = [sent(transformer)[1]["response_tee"] for _ in range(5)]
    assert sum(map(len, kept(folder).values())) == 5000
    assert notes[2:] == [
        "c1-000003-response.part (only the beginning)",
        "not kept, the folder is full",
        "not kept, the folder is full",
    ]


def test_a_body_is_not_kept_from_its_middle_on(folder: Path) -> None:
    transformer = Tee(options(folder, max_files=1))
    sent(transformer)
    pipe = Exchange(transformer).respond()
    pipe.write(b"begin")
    transformer.folder.files = 0
    pipe.send(b"end")
    assert kept(folder) == {"c1-000001-response": BODY}


def test_files_are_bounded_in_number(folder: Path) -> None:
    transformer = Tee(options(folder, max_files=2))
    for _ in range(4):
        sent(transformer)
    assert len(kept(folder)) == 2


def test_what_is_there_at_the_start_counts_and_is_not_overwritten(folder: Path) -> None:
    sent(Tee(options(folder)), b"first")
    transformer = Tee(options(folder, max_files=2))
    sent(transformer, b"second")
    sent(transformer, b"third")
    assert kept(folder) == {"c1-000001-response": b"first", "c1-000002-response": b"second"}
    assert transformer.folder.size == len("firstsecond")


def test_a_part_of_another_worker_is_not_written_into(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    (folder / "c1-000001-response.part").write_bytes(b"theirs")
    sent(Tee(options(folder)), b"ours")
    assert kept(folder) == {"c1-000001-response.part": b"theirs", "c1-000002-response": b"ours"}


def test_counting_goes_on_where_it_was_left(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    (folder / "5f3a-1b-000041-request.part").write_bytes(b"older")
    (folder / "abc-99-other").write_bytes(b"not ours")
    sent(Tee(options(folder)))
    assert "c1-000042-response" in kept(folder)


def test_names_that_other_workers_take_meanwhile_are_passed_over(folder: Path) -> None:
    transformer = Tee(options(folder))
    sent(transformer, b"first")
    for number in range(2, 5):
        (folder / f"c1-{number:06d}-response{'.part' if number % 2 else ''}").write_bytes(b"theirs")
    sent(transformer, b"second")
    assert kept(folder)["c1-000005-response"] == b"second"
    for number in range(6, 6 + tee.TRIES):
        (folder / f"c1-{number:06d}-response.part").write_bytes(b"theirs")
    with capturedLogs() as events:
        _, notes = sent(transformer, b"third")
    assert notes == {"response_tee": "not kept, see the proxy's log"}
    assert len(events) == 1


def test_a_full_folder_is_not_read_to_its_end(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    for number in range(5):
        (folder / f"{number}").write_bytes(b"x")
    transformer = Tee(options(folder, max_files=3))
    _, notes = sent(transformer)
    assert notes == {"response_tee": "not kept, the folder is full"}
    assert transformer.folder.files == 3


def test_a_link_is_not_followed(folder: Path, tmp_path: Path) -> None:
    folder.mkdir(mode=0o700)
    (folder / "c1-000001-response.part").symlink_to(tmp_path / "elsewhere")
    sent(Tee(options(folder)), b"ours")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("what", ["open to others", "a file", "a link", "no parent"])
def test_a_folder_that_cannot_be_trusted_keeps_nothing_and_the_body_passes(folder: Path, what: str) -> None:
    if what == "open to others":
        folder.mkdir(mode=0o755)
    elif what == "a file":
        folder.write_bytes(b"")
    elif what == "a link":
        (folder.parent / "other").mkdir(mode=0o700)
        folder.symlink_to(folder.parent / "other")
    else:
        folder = folder / "below" / "nothing"
    with capturedLogs() as events:
        transformer = Tee(options(folder))
        for _ in range(3):
            _, notes = sent(transformer)
            assert notes["response_tee"] == "not kept, see the proxy's log"
    assert len(events) == 1
    assert what in ("a file", "no parent") or not list(folder.iterdir())


def test_a_disk_that_is_full_costs_the_copy_and_nothing_else(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """/dev/full takes the place of the disk."""
    opened, made = os.open, list[Path]()

    def full(path: Path, flags: int, mode: int = 0o777) -> int:
        os.close(opened(path, flags, mode))
        made.append(path)
        return opened("/dev/full", os.O_WRONLY)

    monkeypatch.setattr(os, "open", full)
    transformer = Tee(options(folder))
    with capturedLogs() as events:
        exchange = Exchange(transformer)
        pipe = exchange.respond()
        pipe.send(*[bytes(100_000)] * 3)
        notes = exchange.notes
        assert (pipe.got, len(made)) == (bytes(300_000), 1)
        _, again = sent(transformer, b"small enough to fail at its end only")
    assert notes == again == {"response_tee": "not kept, see the proxy's log"}
    assert len(events) == 1
    assert kept(folder) == {}
    assert (transformer.folder.files, transformer.folder.size) == (0, 0)


def test_a_copy_holds_one_piece_of_memory(folder: Path) -> None:
    transformer = Tee(options(folder))
    pipe = Exchange(transformer).respond()
    for _ in range(5):
        pipe.write(bytes(50_000))
    assert sum(map(len, kept(folder).values())) >= 250_000 - tee.BUFFER
    pipe.abort()


def test_a_standing_reader_stops_the_source(folder: Path) -> None:
    pipe = Exchange(Tee(options(folder))).respond()
    pipe.stalled = True
    pipe.write(bytes(pipe.high_water + 1))
    assert pipe.stopped
    pipe.abort()

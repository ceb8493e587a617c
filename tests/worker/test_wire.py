"""Frames between us and worker processes."""

from __future__ import annotations

import pytest

from sslintercept.worker.wire import LENGTHS, MOST_KEPT, MOST_META, TASK, FrameReader, Rubbish, keep, pack

FRAMES: list[tuple[dict[str, object], bytes]] = [
    ({"item": {"name": "ä\n"}}, b"content"),
    ({"end": True}, b""),
    ({}, bytes(300)),
]
STREAM = b"".join(pack(meta, len(content)) + content for meta, content in FRAMES)


def read(*pieces: bytes, most: int = 1000) -> list[tuple[dict[str, object], bytes]]:
    reader, found = FrameReader(most), []
    for piece in pieces:
        reader.feed(piece)
        while (frame := reader.frame()) is not None:
            found.append(frame)
    assert not reader.held or len(found) < len(FRAMES)
    return found


def test_frames_are_read_whole_in_single_bytes_and_at_every_cut() -> None:
    assert read(STREAM) == FRAMES
    assert read(*(STREAM[at : at + 1] for at in range(len(STREAM)))) == FRAMES
    for cut in range(len(STREAM)):
        assert read(STREAM[:cut], STREAM[cut:]) == FRAMES


def test_what_is_held_of_a_frame_is_counted() -> None:
    reader = FrameReader(1000)
    for size in range(1, len(STREAM)):
        reader.feed(STREAM[size - 1 : size])
        while reader.frame() is not None:
            pass
        assert bool(reader.held) == (size not in {pack_end(1), pack_end(2), pack_end(3)})


def pack_end(frames: int) -> int:
    return sum(len(pack(meta, len(content))) + len(content) for meta, content in FRAMES[:frames])


@pytest.mark.parametrize(
    "stream",
    [
        LENGTHS.pack(MOST_META + 1, 0),
        LENGTHS.pack(2, 1001),
        LENGTHS.pack(2, 2**64 - 1),
        LENGTHS.pack(0, 0),
        LENGTHS.pack(2, 0) + b"[]",
        LENGTHS.pack(4, 0) + b"null",
        LENGTHS.pack(8, 0) + b'{"a":NaN',
        LENGTHS.pack(9, 0) + b'{"a":NaN}',
        LENGTHS.pack(2, 0) + b"\xff\xfe",
        LENGTHS.pack(MOST_META, 0) + b"[" * MOST_META,
        LENGTHS.pack(9004, 0) + b'{"a":' + b"9" * 8998 + b"}",
    ],
)
def test_rubbish_is_refused(stream: bytes) -> None:
    with pytest.raises(Rubbish):
        read(stream)


@pytest.mark.parametrize("meta", [{"a": "x" * MOST_META}, {"a": float("nan")}, {"a": b""}, {"a": "\ud800"}])
def test_what_is_no_json_or_too_large_is_not_sent(meta: dict[str, object]) -> None:
    with pytest.raises(Rubbish):
        pack(meta)


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("sslintercept.unpack.task:unpack", True),
        ("os:system", False),
        ("sslintercept:main", False),
        ("sslintercept.unpack.task:__import__", False),
        ("sslintercept.unpack.task:unpack.x", False),
        ("sslintercept..task:unpack", False),
        ("xsslintercept.unpack:unpack", False),
        ("sslintercept.unpack:unpack\n", False),
    ],
)
def test_only_functions_of_this_package_are_tasks(name: str, right: bool) -> None:
    assert bool(TASK.fullmatch(name)) is right


def test_what_is_kept_longest_is_forgotten_first() -> None:
    kept: dict[str, int] = {}
    for number in range(MOST_KEPT + 2):
        keep(kept, str(number), number)
    assert list(kept.values()) == list(range(2, MOST_KEPT + 2))
    keep(kept, "2", 99)
    assert list(kept)[-1] == "2"
    assert len(kept) == MOST_KEPT

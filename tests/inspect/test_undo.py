"""Text out of bytes as they come, and back to where it was."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from urllib.parse import quote_plus

import pytest

from sslintercept.inspect.shipped.undo import STEP, Charset, Form, Json, Layer, Undo, wide
from tests.test_linear import AT_ONCE, TOO_STEEP, TRIES, seconds

SAID = 'Größe: "4111" \\ a/b\n\t中文 😀 end'
JSON = json.dumps(SAID)[1:-1].encode()
FORM = quote_plus(SAID).encode()
LAYERS: dict[str, tuple[Callable[[], list[Layer]], bytes]] = {
    "json": (lambda: [Json(True)], JSON),
    "json without need": (lambda: [Json(True)], SAID.replace("\\", "").encode()),
    "form": (lambda: [Form(True)], FORM),
    "utf-16-le": (lambda: [Charset(True, "utf-16-le")], SAID.encode("utf-16-le")),
    "utf-16-be": (lambda: [Charset(True, "utf-16-be")], SAID.encode("utf-16-be")),
    "gb18030": (lambda: [Charset(True, "gb18030")], SAID.encode("gb18030")),
    "json in utf-16": (lambda: [Charset(True, "utf-16-le"), Json(True)], JSON.decode().encode("utf-16-le")),
    "form in gb18030": (
        lambda: [Form(True), Charset(True, "gb18030")],
        quote_plus(SAID, encoding="gb18030").encode(),
    ),
}


def undone(layers: list[Layer], *pieces: bytes) -> bytes:
    undo = Undo(layers)
    return b"".join([*(undo.feed(piece, False) for piece in pieces), undo.feed(b"", True)])


def said(layers: list[Layer], *pieces: bytes) -> str:
    return undone(layers, *pieces).decode()


@pytest.mark.parametrize("name", LAYERS)
def test_the_text_is_the_same_whole_in_single_bytes_and_at_every_cut(name: str) -> None:
    make, raw = LAYERS[name]
    text = SAID.replace("\\", "") if "without" in name else SAID
    assert said(make(), raw) == text
    assert said(make(), *(raw[at : at + 1] for at in range(len(raw)))) == text
    for at in range(len(raw)):
        assert said(make(), raw[:at], raw[at:]) == text


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_every_place_in_the_text_is_known_in_what_came(name: str, size: int) -> None:
    make, raw = LAYERS[name]
    layers = make()
    undo = Undo(layers)
    text = b"".join([*(undo.feed(raw[at : at + size], False) for at in range(0, len(raw), size)), undo.feed(b"", True)])
    for begin in range(len(text)):
        for end in (begin + 1, len(text)):
            span = undo.span(begin, end)
            assert span is not None
            first, last = span
            # What is left in front and behind says what stands there, but for characters that are cut.
            front, back = undone(make(), raw[:first]), undone(make(), raw[last:])
            assert text.startswith(front)
            assert text.endswith(back)
            assert begin - len(front) < 4
            assert len(text) - len(back) - end < 4


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (r"\ud83d\ude00", "😀"),
        (r"\ud83d", "?"),
        (r"\ude00\ud83d", "??"),
        (r"\ud83dx", "?x"),
        (r"\ud83d\u0041", "?A"),
        (r"\\u0041", r"\u0041"),
        (r"\\\u0041", "\\A"),
        (r"\u00", r"\u00"),
        (r"\x41\q", r"\x41\q"),
        ("\\", "\\"),
        (r"\n4111", "\n4111"),
        (r"https:\/\/a.test", "https://a.test"),
        (r"\"", '"'),
    ],
)
def test_escapes_of_json_are_undone_as_they_are_meant(raw: str, text: str) -> None:
    data = raw.encode()
    for at in range(len(data) + 1):
        assert said([Json(True)], data[:at], data[at:]) == text


def test_half_an_escape_of_a_form_stays_as_it_is() -> None:
    for raw, text in (("%4", "%4"), ("%zz%4", "%zz%4"), ("%%31", "%1"), ("100%", "100%"), ("a+b%2B", "a b+")):
        for at in range(len(raw)):
            assert said([Form(True)], raw[:at].encode(), raw[at:].encode()) == text


def test_a_place_that_is_long_gone_is_not_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sslintercept.inspect.shipped.undo.KEPT", 10_000)
    undo = Undo([Form(True)])
    for _ in range(20):
        undo.feed(b"%41" * STEP, False)
    size = 20 * STEP
    assert undo.span(0, 4) is None
    assert undo.span(size - 4, size) == (3 * size - 12, 3 * size)
    kept = undo.layers[0]._kept
    assert kept is not None
    assert sum(len(raw) for _, _, _, raw in kept) < 3 * (10_000 + 2 * STEP)


def test_without_being_asked_for_nothing_is_remembered() -> None:
    undo = Undo([Form(False)])
    assert undo.feed(b"%41%42", False) == b"AB"
    assert undo.span(0, 1) is None
    assert Undo().span(3, 5) == (3, 5)


def test_where_bytes_cannot_be_encoded_again_nobody_knows_the_place() -> None:
    undo = Undo([Charset(True, "shift_jis")])
    assert undo.feed(b"a\xff\xffb", True).decode().strip("ab").strip("\ufffd") == ""
    assert undo.span(0, 1) is None


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_wide_text_is_told_by_its_mark_or_by_its_zeros(codec: str) -> None:
    assert wide("\ufeffab".encode(codec)) == codec
    assert wide("\ufeff中文中文中文中文".encode(codec)) == codec
    assert wide("card number 4111".encode(codec)) == codec
    assert wide("Größe: 中文".encode(codec)) == codec


def test_other_bytes_are_not_taken_for_wide_text() -> None:
    chance = random.Random(1)
    for head in (b"", b"ab", "\ufeffcard".encode(), b"card number", b"a\0b", bytes(64), b"abc\0" * 20, b"\0\0\0a"):
        assert wide(head) == ""
    assert sum(bool(wide(chance.randbytes(64))) for _ in range(1000)) <= 2


HOSTILE: dict[str, tuple[type[Form | Json], bytes]] = {
    "backslashes": (Json, b"\\"),
    "halves of pairs": (Json, b"\\ud83d"),
    "percent signs": (Form, b"%"),
    "escapes": (Form, b"%41"),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("traced", [True, False])
def test_four_times_as_much_takes_about_four_times_as_long(name: str, traced: bool) -> None:
    layer, unit = HOSTILE[name]
    text = unit * (50_000 // len(unit))

    def work(data: bytes) -> None:
        undo = Undo([layer(traced)])
        undo.feed(data, False)
        undo.feed(b"", True)

    found = []
    for _ in range(TRIES):
        little, much = seconds(lambda: work(text)), seconds(lambda: work(text * 4))
        if much < AT_ONCE or much < TOO_STEEP * little:
            return
        found.append(f"{much / little:.1f} times {little * 1000:.1f} ms")
    pytest.fail(f"{name}: {', '.join(found)}")

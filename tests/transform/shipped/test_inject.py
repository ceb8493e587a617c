"""A snippet in pages: where it is asked for, once, in bytes that the page understands."""

from __future__ import annotations

from pathlib import Path

import pytest

from sslintercept.errors import ConfigError
from sslintercept.testing.transform import Exchange, Pipe, a_message, splits
from sslintercept.transform.shipped.inject import LARGEST, InjectHtml, InjectOptions
from sslintercept.transform.stage import Transform

PAGE = b"<!doctype html><html><head><title>a</title></head><body>text</body></html>"
PLACES = [
    ("head", b"<!doctype html><html><head>[+]<title>a</title></head><body>text</body></html>"),
    ("body", b"<!doctype html><html><head><title>a</title></head><body>text[+]</body></html>"),
    ("end", PAGE + b"[+]"),
]


def inject(place: str = "body", html: str = "[+]") -> InjectHtml:
    return InjectHtml(InjectOptions(html=html, place=place))


def stage(place: str = "body", charset: str = "utf-8", html: str = "[+]") -> Transform:
    message = a_message(status=200, of_response={"Content-Type": f"text/html; charset={charset}"})
    made = inject(place, html).transform(message)
    assert made is not None
    return made


def injected(
    body: bytes, place: str = "body", content_type: str = "text/html", html: str = "[+]"
) -> tuple[bytes, dict[str, str]]:
    exchange = Exchange(inject(place, html))
    pipe = exchange.respond(fields={"Content-Type": content_type})
    pipe.send(body) if body else pipe.finish()
    assert pipe.ended == 1
    return pipe.got, exchange.notes


@pytest.mark.parametrize(("place", "page"), PLACES)
def test_a_snippet_stands_where_it_is_asked_for_at_every_split(place: str, page: bytes) -> None:
    for pieces in splits(PAGE):
        pipe = Pipe(stage(place), length=len(PAGE))
        pipe.send(*pieces)
        assert pipe.got == page
        assert pipe.ended == 1


def test_a_document_without_an_end_of_body_has_the_snippet_at_its_end() -> None:
    assert injected(b"<p>text") == (b"<p>text[+]", {})
    assert injected(b"<p>text</bo") == (b"<p>text</bo[+]", {})


def test_a_document_without_a_head_has_no_snippet_and_a_note() -> None:
    assert injected(b"<p>text", "head") == (b"<p>text", {"inject-html": "the document has no such place"})


@pytest.mark.parametrize("place", ["head", "body", "end"])
def test_nothing_is_put_into_a_body_of_nothing(place: str) -> None:
    assert injected(b"", place) == (b"", {})


def test_a_page_comes_as_it_is_made() -> None:
    pipe = Pipe(stage())
    for piece in (b"<p>one", b"<p>two</p>", b"<div a='", b"'>"):
        before = pipe.got
        pipe.write(piece)
        assert pipe.got == before + piece
    pipe.write(b"</bo")
    assert pipe.got.endswith(b"'>")
    pipe.write(b"x")
    assert pipe.got.endswith(b"'></box")


def test_the_first_byte_waits_only_if_it_may_begin_utf_16() -> None:
    pipe = Pipe(stage("end"))
    pipe.write(b"a")
    assert pipe.got == b"a"


def test_a_page_that_breaks_off_has_no_snippet() -> None:
    pipe = Pipe(stage("end"))
    pipe.write(b"<p>text")
    pipe.abort()
    assert (pipe.got, pipe.ended) == (b"<p>text", 0)


def test_a_standing_reader_stops_the_page() -> None:
    pipe = Pipe(stage())
    pipe.stalled = True
    pipe.write(b"x" * (Pipe.high_water + 1))
    assert pipe.stopped
    pipe.drain()
    assert not pipe.stopped


@pytest.mark.parametrize("mark", [b"\xff\xfe", b"\xfe\xff"])
def test_utf_16_is_known_by_its_first_bytes(mark: bytes) -> None:
    body = mark + b"<\0/\0b\0o\0d\0y\0>\0</body>"
    for pieces in splits(body):
        exchange = Exchange(inject())
        pipe = exchange.respond(fields={"Content-Type": "text/html"})
        pipe.send(*pieces)
        assert pipe.got == body
        assert exchange.notes == {"inject-html": "not applied to UTF-16"}


def test_one_byte_that_looks_like_utf_16_is_given() -> None:
    assert injected(b"\xff")[0] == b"\xff"


@pytest.mark.parametrize(
    ("content_type", "snippet"),
    [
        ("text/html; charset=utf-8", "é猫".encode()),
        ("text/html; charset=iso-8859-1", b"\xe9&#29483;"),
        ("text/html; charset=Shift_JIS", b"&#233;" + "猫".encode("cp932")),
        ("text/html", b"&#233;&#29483;"),
    ],
)
def test_a_snippet_is_written_in_the_charset_of_its_page(content_type: str, snippet: bytes) -> None:
    assert injected(b"x</body>", "body", content_type, "é猫")[0] == b"x" + snippet + b"</body>"


@pytest.mark.parametrize("charset", ["utf-16", "utf-16le", "utf-7", "iso-2022-jp", "hz", "x" * 300])
def test_a_charset_that_is_not_like_ascii_passes_with_a_note(charset: str) -> None:
    got, notes = injected(b"x</body>", "body", f"text/html; charset={charset}")
    assert (got, notes) == (b"x</body>", {"inject-html": f"not applied to charset {charset[:40]}"})


@pytest.mark.parametrize("content_type", ["text/plain", "application/json", "application/xhtml+xml", "image/png"])
def test_only_html_is_touched(content_type: str) -> None:
    assert injected(b"x</body>", "body", content_type) == (b"x</body>", {})


def test_a_request_is_not_touched() -> None:
    fields = {"Content-Type": "text/html", "Content-Length": "5"}
    assert inject().transform(a_message(method="POST", fields=fields)) is None


@pytest.mark.parametrize(
    ("wanted_for", "touched"), [("document", True), ("iframe", True), ("empty", False), ("script", False)]
)
def test_what_a_script_asks_for_is_no_page(wanted_for: str, touched: bool) -> None:
    message = a_message(fields={"Sec-Fetch-Dest": wanted_for}, status=200, of_response={"Content-Type": "text/html"})
    assert (inject().transform(message) is not None) is touched


def test_the_policy_of_the_page_stays() -> None:
    exchange = Exchange(inject())
    exchange.respond(fields={"Content-Type": "text/html", "Content-Security-Policy": "default-src 'self'"})
    assert exchange.head.get(b"Content-Security-Policy") == b"default-src 'self'"


# -- the snippet ---------------------------------------------------------------------------------------------------


def test_a_snippet_may_stand_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "notice.html"
    for snippet in ("<b>é</b>", "x" * LARGEST):
        file.write_text(snippet, "utf-8")
        assert InjectHtml(InjectOptions(file=file)).html == snippet


def test_a_file_that_cannot_be_used_is_said_at_the_start(tmp_path: Path) -> None:
    large, binary = tmp_path / "large", tmp_path / "binary"
    large.write_bytes(b"x" * (LARGEST + 1))
    binary.write_bytes(b"\xff")
    for file, what in ((large, "too large"), (binary, "not UTF-8"), (tmp_path / "none", "cannot read")):
        with pytest.raises(ConfigError, match=what):
            InjectHtml(InjectOptions(file=file))


def test_one_snippet_is_needed(tmp_path: Path) -> None:
    for options in (InjectOptions(), InjectOptions(html="x", file=tmp_path)):
        with pytest.raises(ConfigError, match="neither html nor file"):
            InjectHtml(options)

"""Templates of one's own: which are taken, which are refused in one line, and what a browser lets them do."""

from base64 import b64encode
from hashlib import sha256
from pathlib import Path

import pytest

from sslintercept.config.schema import PagesSettings
from sslintercept.errors import ConfigError
from sslintercept.http.page import Notice, page
from sslintercept.http.template import KINDS, MOST_BYTES, PLACEHOLDERS, Pages, built_in, checked
from sslintercept.http.wants import Wants

NOTICE = Notice(403, "blocked", "why", "", "c1", "http_request_denied", "block", host="bad.test")


def pages(folder: Path, language: str = "auto", **templates: str) -> Pages:
    for name, text in templates.items():
        (folder / f"{name.replace('__', '.').replace('_', '-')}.html").write_text(text, encoding="utf-8")
    return Pages(PagesSettings(folder=folder, language=language))


def body(made: Pages, *languages: str, notice: Notice = NOTICE) -> str:
    raw = page(notice, made, Wants(languages=languages), close=False, via_name="gw")
    return raw.partition(b"\r\n\r\n")[2].decode()


def fault(folder: Path, **templates: str) -> str:
    with pytest.raises(ConfigError) as caught:
        pages(folder, **templates)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_template_of_one_s_own_takes_the_place_of_ours(tmp_path: Path) -> None:
    made = pages(tmp_path, block="<p>$host $$5 ${status}</p>")
    assert body(made) == "<p>bad.test $5 403</p>"
    assert "<h1>Blocked</h1>" in body(made, notice=NOTICE._replace(kind="error"))


def test_a_template_in_the_reader_s_language_is_preferred(tmp_path: Path) -> None:
    made = pages(tmp_path, block="all: $title", block__de="nur deutsch: $title", block__pt_br="$lang: $title")
    assert body(made, "de-AT".lower()) == "nur deutsch: Gesperrt"
    assert body(made, "fr") == "all: Bloqué"
    assert body(made, "pt-br", "fr") == "pt-br: Blocked"
    assert body(made) == "all: Blocked"


def test_every_placeholder_has_a_value(tmp_path: Path) -> None:
    text = " ".join(f"[${name}]" for name in sorted(PLACEHOLDERS))
    assert "$" not in body(pages(tmp_path, block=text))


@pytest.mark.parametrize("kind", KINDS)
def test_ours_pass_their_own_check(kind: str) -> None:
    assert built_in(kind).policy.startswith("'sha256-")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("<p>$nobody</p>", "unknown placeholder $nobody; there are $button, $category"),
        ("100 $ and more", "a $ that begins no placeholder"),
        ("<a href=$url>x</a>", "a placeholder outside of quotes in <a>"),
        ("<p $title>", "a placeholder outside of quotes in <p>"),
        ("<a href='/'$url>", "a placeholder outside of quotes in <a>"),
        ("<style>p{color:$title}</style>", "a placeholder in <style>"),
        ("<style>p{}", "a <style> that does not end"),
        ("<script>1</script>", "a script"),
        ("<SCRIPT src=x></SCRIPT>", "a script"),
        ("<p onclick='x'>", "the attribute onclick"),
        ('<p style="color:red">', "the attribute style"),
        ("x" * (MOST_BYTES + 1), "larger than 256 KiB"),
    ],
)
def test_a_template_that_would_not_do_is_refused_with_its_file(tmp_path: Path, text: str, why: str) -> None:
    said = fault(tmp_path, block=text)
    assert why in said
    assert f"[pages] {tmp_path / 'block.html'}" in said


@pytest.mark.parametrize("name", ["blok", "block__", "block__de_", "index", "block__deutschland__de"])
def test_a_name_that_is_no_page_is_refused(tmp_path: Path, name: str) -> None:
    assert "no kind of page" in fault(tmp_path, **{name: "x"})


def test_what_is_no_template_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "logo.svg").write_bytes(b"\xff")
    assert "<h1>" in body(pages(tmp_path))


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "block.html").mkdir()
    assert "cannot be read (Is a directory)" in fault(tmp_path)
    with pytest.raises(ConfigError, match=r"cannot read .*/none"):
        Pages(PagesSettings(folder=tmp_path / "none"))
    (tmp_path / "block.html").rmdir()
    (tmp_path / "block.html").write_bytes(b"\xff")
    assert "not UTF-8" in fault(tmp_path)


def test_too_many_templates_are_refused(tmp_path: Path) -> None:
    for first in "abcdefghijklmnop":
        for second in "abcdefghijklmnopq":
            (tmp_path / f"block.{first}{second}.html").write_text("x")
    assert "272 templates" in fault(tmp_path)


def test_a_language_without_pages_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no page in it; there are de, en, es, fr, zh; add block\.it\.html"):
        Pages(PagesSettings(language="it"))
    assert body(pages(tmp_path, "it", block__it="ciao")) == "ciao"
    assert "Gesperrt" in body(Pages(PagesSettings(language="de-at")), "fr")
    assert "Blocked" in body(Pages(PagesSettings(language="en-us")), "fr")


def hashed(style: str) -> str:
    return f"'sha256-{b64encode(sha256(style.encode()).digest()).decode()}'"


def test_styles_are_allowed_by_their_hash_and_nothing_else_is() -> None:
    text = "<style>a{}\r\nb{content:'$$&amp;<'}</style><p>$title<style media=print>c{}</style>"
    made = checked(text, "x")
    assert made.policy == f"{hashed(chr(10).join(['a{}', 'b{content:' + repr('$&amp;<') + '}']))} {hashed('c{}')}"
    assert checked("<p>no style", "x").policy == "'none'"


def test_the_policy_of_a_page_is_that_of_its_template(tmp_path: Path) -> None:
    raw = page(NOTICE, pages(tmp_path, block="<style>p{}</style>"), Wants(), close=False, via_name="gw").decode()
    (line,) = (line for line in raw.split("\r\n") if line.startswith("Content-Security-Policy: "))
    assert line == (
        f"Content-Security-Policy: default-src 'none'; style-src {hashed('p{}')}; img-src data:; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    )

"""The proxy's own responses: well framed, harmless, and told apart from an origin's."""

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
from httptools import HttpResponseParser

from sslintercept.config.schema import PagesSettings
from sslintercept.errors import InterceptError
from sslintercept.http.head import find_end, read_response
from sslintercept.http.page import EVENT, Notice, connect_established, page
from sslintercept.http.template import BUILT_IN, KINDS, PLACEHOLDERS, Pages, language
from sslintercept.http.wants import Form, Wants, wants

PAGES = Pages(PagesSettings())
HTML = Wants()


def made(
    status: int = 502,
    *,
    what: str = "The name has no address.",
    accept: bytes = b"text/html",
    close: bool = False,
    head_only: bool = False,
    error: str = "dns_error",
    via_name: str = "gw",
) -> bytes:
    notice = Notice(status, "unreachable", what, "Check the name.", "c42", error)
    wanted = wants([(b"Accept", accept)])
    return page(notice, PAGES, wanted, close=close, head_only=head_only, via_name=via_name)


def parsed(response: bytes) -> tuple[dict[bytes, bytes], bytes]:
    end = find_end(response)
    head = read_response(response[:end], b"GET")
    assert head.length == len(response) - end
    return {name.lower(): value for name, value in head.fields}, response[end:]


def test_a_page_is_one_complete_response() -> None:
    ends: list[bool] = []

    class Seen:
        def on_message_complete(self) -> None:
            ends.append(True)

    HttpResponseParser(Seen()).feed_data(made())
    assert ends == [True]


def test_a_page_says_what_happened_what_to_do_and_its_id() -> None:
    fields, body = parsed(made())
    assert fields[b"content-type"] == b"text/html; charset=utf-8"
    for text in (b"The origin cannot be reached", b"The name has no address.", b"Check the name.", b"c42", b"502"):
        assert text in body


def test_a_page_is_not_stored_and_runs_nothing() -> None:
    fields, body = parsed(made())
    assert fields[b"cache-control"] == b"no-store"
    assert fields[b"content-security-policy"].startswith(b"default-src 'none'; style-src 'sha256-")
    assert b"<script" not in body


def test_proxy_status_names_the_proxy_and_the_error() -> None:
    fields, _ = parsed(made(error="connection_refused"))
    assert fields[b"proxy-status"] == b"gw; error=connection_refused"


def test_a_name_that_is_no_token_is_written_as_a_string() -> None:
    fields, _ = parsed(made(via_name='10 "a\\b"'))
    assert fields[b"proxy-status"] == rb'"10 \"a\\b\""; error=dns_error'


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "'\"&<>", "<img src=x onerror=y>"])
def test_what_comes_from_the_network_is_escaped(text: str) -> None:
    _, body = parsed(made(what=text))
    assert text.encode() not in body
    assert b"&lt;" in body


def test_controls_and_directional_overrides_are_shown_as_unknown() -> None:
    _, body = parsed(made(what="a\r\n\u202eb\ud800c"))
    assert "a\ufffd\ufffd\ufffdb\ufffdc".encode() in body


def test_a_percent_sign_is_only_text() -> None:
    _, body = parsed(made(what="100 %(id)s %d"))
    assert b"100 %(id)s %d" in body


def test_a_program_that_prefers_json_gets_a_problem_document() -> None:
    fields, body = parsed(made(what='a "b" <c>', accept=b"application/json"))
    assert fields[b"content-type"] == b"application/problem+json"
    assert json.loads(body) == {
        "type": "about:blank",
        "title": "The origin cannot be reached",
        "status": 502,
        "detail": 'a "b" <c>',
        "remedy": "Check the name.",
        "id": "c42",
    }


def test_close_is_announced_only_when_meant() -> None:
    assert b"\r\nConnection: close\r\n" in made(close=True)
    assert b"Connection:" not in made()


def test_the_answer_to_head_is_the_head_of_the_page() -> None:
    whole = made()
    assert made(head_only=True) == whole[: find_end(whole)]


def test_a_status_without_a_registered_phrase_has_an_empty_one() -> None:
    assert made(599).startswith(b"HTTP/1.1 599 \r\n")
    assert made(421).startswith(b"HTTP/1.1 421 Misdirected Request\r\n")


@pytest.mark.parametrize(
    ("status", "error", "via_name"), [(200, "a", "gw"), (502, "a b", "gw"), (502, "a", "g\r\nw"), (502, "a", "gü")]
)
def test_a_page_that_cannot_be_written_is_our_error(status: int, error: str, via_name: str) -> None:
    with pytest.raises(InterceptError):
        made(status, error=error, via_name=via_name)


def test_the_answer_to_connect_has_no_fields() -> None:
    assert read_response(connect_established(), b"CONNECT").length == 0
    assert connect_established() == b"HTTP/1.1 200 Connection established\r\n\r\n"


# what else a page says


BLOCKED = Notice(
    403,
    "malware",
    "[inspect:av]: Eicar",
    "never shown",
    "e-17",
    "http_request_denied",
    "block",
    event="e-17",
    category="malware",
    rule="r1",
    host="bad.test",
    url="http://bad.test/x?y",
)


def shown(notice: Notice, wanted: Wants = HTML, pages: Pages = PAGES) -> tuple[dict[bytes, bytes], bytes]:
    return parsed(page(notice, pages, wanted, close=False, via_name="gw"))


@pytest.mark.parametrize("form", list(Form))
def test_the_id_is_in_a_field_whatever_the_form(form: Form) -> None:
    fields, _ = shown(BLOCKED, Wants(form, "text/css"))
    assert fields[EVENT.lower().encode()] == b"e-17"
    assert (fields[b"cache-control"], fields[b"x-content-type-options"]) == (b"no-store", b"nosniff")
    assert fields[b"referrer-policy"] == b"no-referrer"
    assert b"frame-ancestors 'none'" in fields[b"content-security-policy"]


def test_an_id_that_no_field_may_have_is_made_harmless() -> None:
    fields, body = shown(BLOCKED._replace(id="1\r\nSet-Cookie: a=b <i>"))
    assert fields[EVENT.lower().encode()] == b"1??Set-Cookie:?a?b??i?"
    assert b"set-cookie" not in fields
    assert b"<i>" not in body


def test_json_tells_programs_event_category_and_rule() -> None:
    _, body = shown(BLOCKED, Wants(Form.JSON))
    assert json.loads(body) == {
        "type": "about:blank",
        "title": "Malware was found",
        "status": 403,
        "detail": "[inspect:av]: Eicar",
        "remedy": "It was not passed on. Ask whoever runs this proxy.",
        "id": "e-17",
        "event": "e-17",
        "category": "malware",
        "rule": "r1",
    }


def test_an_image_is_answered_by_a_sign() -> None:
    fields, body = shown(BLOCKED, Wants(Form.IMAGE))
    assert fields[b"content-type"] == b"image/png"
    assert body.startswith(b"\x89PNG\r\n\x1a\n")
    assert b"malware" not in body


def test_an_image_that_cannot_be_had_stays_one_that_cannot_be_shown() -> None:
    fields, body = shown(BLOCKED._replace(kind="error"), Wants(Form.IMAGE))
    assert fields[b"content-type"] == b"text/plain; charset=utf-8"
    assert b"Eicar" in body


def test_a_script_is_answered_by_nothing() -> None:
    fields, body = shown(BLOCKED, Wants(Form.EMPTY, "text/javascript"))
    assert (fields[b"content-type"], body) == (b"text/javascript", b"")


def test_plain_text_is_lines() -> None:
    pages = Pages(PagesSettings(contact="help@corp.test"))
    _, body = shown(BLOCKED, Wants(Form.TEXT), pages)
    assert body.decode().splitlines() == [
        "Malware was found",
        "[inspect:av]: Eicar",
        "It was not passed on. Ask whoever runs this proxy.",
        "help@corp.test",
        "e-17",
    ]


def test_what_the_origin_had_answered_is_in_proxy_status() -> None:
    fields, _ = shown(BLOCKED._replace(received=200))
    assert fields[b"proxy-status"] == b"gw; error=http_request_denied; received-status=200"


def test_a_further_field_that_would_be_two_is_our_error() -> None:
    with pytest.raises(InterceptError):
        page(BLOCKED, PAGES, HTML, close=False, via_name="gw", fields=["A: b\r\nC: d"])
    assert b"\r\nA: b\r\n" in page(BLOCKED, PAGES, HTML, close=False, via_name="gw", fields=["A: b"])


# escaping

HOSTILE = "\"><script>alert(1)</script>' onload=x <!-- $title ${what} & {{7*7}} \u202e \r\n"


class Structure(HTMLParser):
    """The tags of a page with the names of their attributes."""

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, list[str]]] = []
        self.feed(body.decode())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, [name for name, _ in attrs]))

    def handle_comment(self, data: str) -> None:
        self.tags.append(("!", []))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["what", "remedy", "id", "event", "category", "rule", "host", "url", "link"])
def test_whatever_a_value_is_it_stays_text(name: str, kind: str, tmp_path: Path) -> None:
    places = "".join(f"<p title='${one}'>${one}</p>" for one in sorted(PLACEHOLDERS))
    (tmp_path / f"{kind}.html").write_text(places)
    notice = BLOCKED._replace(kind=kind, text="name")
    for pages in (PAGES, Pages(PagesSettings(folder=tmp_path))):
        changed = Notice(**{**notice._asdict(), name: HOSTILE})
        harmless, hostile = (shown(one, pages=pages)[1] for one in (notice, changed))
        assert Structure(hostile).tags == Structure(harmless).tags
        assert "\u202e".encode() not in hostile
        assert b"{{7*7}}" in hostile or pages is PAGES


def test_a_contact_is_escaped_too() -> None:
    _, body = shown(BLOCKED, pages=Pages(PagesSettings(contact='<a href="x">ask</a>')))
    assert b"&lt;a href=&quot;x&quot;&gt;ask&lt;/a&gt;" in body


def test_a_very_long_text_is_cut() -> None:
    _, body = shown(BLOCKED._replace(what="w" * 10_000))
    assert b"w" * 2000 in body
    assert b"w" * 2001 not in body


# languages


@pytest.mark.parametrize("tag", BUILT_IN)
def test_every_language_has_the_same_texts(tag: str) -> None:
    assert list(language(tag).texts) == list(language("en").texts)
    assert all(title for title, _ in language(tag).texts.values())
    # Only the errors themselves are in English.
    assert tag == "en" or all(remedy for _, remedy in language(tag).texts.values())


@pytest.mark.parametrize(
    ("tag", "title"), [("de", "Gesperrt"), ("fr", "Bloqué"), ("es", "Bloqueado"), ("zh", "已被阻止"), ("en", "Blocked")]
)
def test_a_page_is_in_the_language_of_its_reader(tag: str, title: str) -> None:
    fields, body = shown(BLOCKED._replace(text="blocked"), Wants(languages=(tag,)))
    assert f"<h1>{title}</h1>".encode() in body
    assert fields[b"content-language"] == language(tag).tag.encode()
    assert f'<html lang="{language(tag).tag}">'.encode() in body


def test_a_language_may_be_fixed() -> None:
    _, body = shown(BLOCKED, Wants(languages=("de",)), Pages(PagesSettings(language="fr")))
    assert "Logiciel malveillant détecté".encode() in body

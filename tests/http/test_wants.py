"""What an answer must be so that whoever asked can use it."""

import pytest

from sslintercept.facts import Fields
from sslintercept.http.wants import MOST_RANGES, Accepts, Form, Wants, lookup, preferred, wants

NAVIGATION = b"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8"
IMAGES = b"image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "json_wins"),
    [
        (b"", False),
        (b"*/*", False),
        (b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", False),
        (b"application/json", True),
        (b"application/problem+json", True),
        (b"application/vnd.github+json", True),
        (b"application/vnd.github+json;q=0", False),
        (b"application/json, text/plain, */*", False),
        (b"application/json, */*;q=0.5", True),
        (b"application/*;q=0.9, text/*;q=0.8", True),
        (b"text/html;q=0.2, application/json;q=0.3", True),
        (b"application/json;q=2, text/html;q=0.1", False),
        (b"text/html;q=0, */*", True),
        (b"APPLICATION/JSON; charset=utf-8 ; q=1.0", True),
        (b"image/png, ;;q=, \xff", False),
    ],
)
def test_accept_chooses_between_html_and_json(accept: bytes, json_wins: bool) -> None:
    assert Accepts(accept).prefers_json() is json_wins


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        (b"", Form.HTML),
        (b"*/*", Form.HTML),
        (NAVIGATION, Form.HTML),
        (IMAGES, Form.IMAGE),
        (b"image/png", Form.IMAGE),
        (b"image/png;q=0.5, text/html", Form.HTML),
        (b"image/webp,*/*", Form.HTML),
        (b"application/json", Form.JSON),
        (b"text/plain", Form.TEXT),
        (b"application/x-git-upload-pack-result", Form.TEXT),
        (b"application/dns-message", Form.TEXT),
        (b"text/*", Form.HTML),
        (b"text/css,*/*;q=0.1", Form.HTML),
        (b" , ,", Form.HTML),
        (b"text/html;q=0", Form.TEXT),
    ],
)
def test_without_a_destination_accept_decides(accept: bytes, form: Form) -> None:
    assert wants([(b"accept", accept)]).form is form


@pytest.mark.parametrize(
    ("destination", "accept", "form", "type", "navigates"),
    [
        (b"document", NAVIGATION, Form.HTML, "", True),
        (b"iframe", NAVIGATION, Form.HTML, "", True),
        (b"document", b"application/json", Form.HTML, "", True),
        (b"image", IMAGES, Form.IMAGE, "", False),
        (b"image", b"*/*", Form.IMAGE, "", False),
        (b"empty", b"*/*", Form.JSON, "", False),
        (b"empty", b"", Form.JSON, "", False),
        (b"empty", b"application/json", Form.JSON, "", False),
        (b"empty", b"text/html, application/xhtml+xml", Form.HTML, "", False),
        (b"empty", b"text/html;q=0, */*", Form.JSON, "", False),
        (b"script", b"*/*", Form.EMPTY, "text/javascript", False),
        (b"serviceworker", b"*/*", Form.EMPTY, "text/javascript", False),
        (b"style", b"text/css,*/*;q=0.1", Form.EMPTY, "text/css", False),
        (b"font", b"*/*", Form.EMPTY, "font/woff2", False),
        (b"video", b"*/*", Form.EMPTY, "video/mp4", False),
        (b"manifest", b"*/*", Form.EMPTY, "application/manifest+json", False),
        (b"report", b"*/*", Form.JSON, "", False),
        (b"SCRIPT", b"*/*", Form.EMPTY, "text/javascript", False),
        (b"of-tomorrow", b"*/*", Form.HTML, "", False),
        (b"of-tomorrow", IMAGES, Form.IMAGE, "", False),
    ],
)
def test_a_browser_says_what_it_will_do_with_it(
    destination: bytes, accept: bytes, form: Form, type: str, navigates: bool
) -> None:
    fields: Fields = [(b"Sec-Fetch-Dest", destination), (b"Accept", accept)]
    assert wants(fields) == Wants(form, type, (), navigates)


@pytest.mark.parametrize(
    ("accept", "form"),
    [(b"*/*", Form.JSON), (b"text/html, */*; q=0.01", Form.HTML), (b"application/json, text/html", Form.HTML)],
)
def test_a_library_that_says_xmlhttprequest_gets_json_unless_it_wants_html(accept: bytes, form: Form) -> None:
    assert wants([(b"X-Requested-With", b"XMLHttpRequest"), (b"Accept", accept)]).form is form


def test_several_lines_of_accept_are_one_list() -> None:
    assert wants([(b"Accept", b"text/plain"), (b"accept", b"text/html")]).form is Form.HTML


def test_without_any_field_it_is_for_people() -> None:
    assert wants([]) == Wants(Form.HTML, "", (), True)


@pytest.mark.parametrize(
    ("field", "languages"),
    [
        (b"", []),
        (b"de-AT, de;q=0.9, en;q=0.8", ["de-at", "de", "en"]),
        (b"en;q=0.2, FR", ["fr", "en"]),
        (b"*, es;q=0.5", ["es"]),
        (b"de;q=0, <script>, fr;q=x", []),
        (b"a" * 5000, []),
        (b", ".join(b"a%d" % n for n in range(100)), []),
    ],
)
def test_the_languages_a_reader_likes_in_their_order(field: bytes, languages: list[str]) -> None:
    assert list(preferred(field)) == languages


def test_no_more_than_some_languages_are_tried() -> None:
    assert len(list(preferred(b",".join([b"de"] * 200)))) == MOST_RANGES


@pytest.mark.parametrize(
    ("languages", "found"),
    [
        ([], "en"),
        (["de-at"], "de"),
        (["de-de-1996"], "de"),
        (["it", "fr-ca"], "fr"),
        (["zh-hans-cn"], "zh"),
        (["zh-a-x-y"], "zh"),
        (["pt-br"], "pt-br"),
        (["pt"], "en"),
        (["d"], "en"),
        (["tlh"], "en"),
    ],
)
def test_a_language_is_looked_up_by_leaving_out_its_end(languages: list[str], found: str) -> None:
    assert lookup(languages, {"de", "en", "fr", "zh", "pt-br"}) == found

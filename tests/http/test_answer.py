"""What a whole gateway says where it answers itself: in which words, to whom, and with which id."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sslintercept.errors import ConfigError, InspectedError
from sslintercept.http.answer import CONTENT, FOUND, INTERNAL, PROXY_STATUS, REFUSED
from sslintercept.http.sm import HttpSM
from sslintercept.http.template import BUILT_IN, language
from sslintercept.testing.gateway import OK, Answers, MemoryGateway
from sslintercept.testing.loop import Loop
from tests.http.test_session import asked
from tests.sequences.support import Response

BLOCK = "[rule:no-games]\nmatch = host:games.test\naction = block\n"


def get(gateway: MemoryGateway, host: str = "games.test", *fields: str, method: str = "GET") -> Response:
    lines = [f"{method} http://{host}/x?a=<b> HTTP/1.1", f"Host: {host}", *fields, "", ""]
    (found,) = asked(gateway, "\r\n".join(lines).encode(), None, method.encode())
    return found


def test_every_answer_has_a_text() -> None:
    keys = {text for _, _, text in PROXY_STATUS.values()} | set(REFUSED.values()) | FOUND | {INTERNAL[2]}
    keys |= {"loop", "login", "tunnel", "misdirected", "request", "content", "blocked", "warn", "expired"}
    keys |= {"waiting", "inspected", "gone"}
    assert CONTENT
    for tag in BUILT_IN:
        assert set(language(tag).texts) == keys


@pytest.mark.parametrize(
    ("fields", "title"),
    [
        ([], "Blocked"),
        (["Accept-Language: fr-CH, en;q=0.5"], "Bloqué"),
        (["Accept-Language: en;q=0.5", "Accept-Language: zh-CN"], "已被阻止"),
    ],
)
def test_a_block_page_is_in_the_language_of_its_reader(loop: Loop, fields: list[str], title: str) -> None:
    page = get(MemoryGateway(loop, BLOCK), "games.test", *fields)
    assert f"<h1>{title}</h1>".encode() in page.body
    assert b"rule no-games: host games.test matches games.test" in page.body


def test_templates_language_and_contact_come_from_the_settings(loop: Loop, tmp_path: Path) -> None:
    (tmp_path / "block.html").write_text("<p>$title|$contact|$rule|<a href='$url'>$host</a></p>", encoding="utf-8")
    gateway = MemoryGateway(loop, f"{BLOCK}[pages]\nfolder = {tmp_path}\nlanguage = de\ncontact = IT <it@x.test>\n")
    assert get(gateway, "games.test", "Accept-Language: fr").body.decode() == (
        "<p>Gesperrt|IT &lt;it@x.test&gt;|no-games|<a href='http://games.test/x?a=&lt;b&gt;'>games.test</a></p>"
    )


def test_a_template_is_read_once(loop: Loop, tmp_path: Path) -> None:
    (tmp_path / "block.html").write_text("first", encoding="utf-8")
    gateway = MemoryGateway(loop, f"{BLOCK}[pages]\nfolder = {tmp_path}\n")
    (tmp_path / "block.html").unlink()
    assert get(gateway).body == b"first"


def test_a_broken_template_is_refused_before_anything_runs(loop: Loop, tmp_path: Path) -> None:
    (tmp_path / "warn.html").write_text("$nobody", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"warn\.html: unknown placeholder \$nobody"):
        MemoryGateway(loop, f"[pages]\nfolder = {tmp_path}\n")


def test_the_id_in_the_field_is_the_log_s(loop: Loop) -> None:
    gateway = MemoryGateway(loop, BLOCK)
    page = get(gateway)
    assert f"\r\nSslintercept-Event: {gateway.transactions()[-1]['id']}\r\n".encode() in page.head


@pytest.mark.parametrize(
    ("fields", "kind", "body"),
    [
        (["Sec-Fetch-Dest: image", "Accept: image/*"], b"image/png", b"\x89PNG"),
        (["Sec-Fetch-Dest: style", "Accept: text/css"], b"text/css", b""),
        (["Accept: application/json"], b"application/problem+json", b"{"),
        (["Accept: text/plain"], b"text/plain; charset=utf-8", b"Blocked\n"),
        (["Accept: */*"], b"text/html; charset=utf-8", b"<!DOCTYPE html>"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_an_answer_is_of_the_kind_that_was_asked_for(
    loop: Loop, fields: list[str], kind: bytes, body: bytes, method: str
) -> None:
    page = get(MemoryGateway(loop, BLOCK), "games.test", *fields, method=method)
    assert page.status == 403
    assert b"\r\nContent-Type: " + kind + b"\r\n" in page.head
    assert page.body.startswith(body if method == "GET" else b"")
    assert method == "GET" or page.body == b""


# inspectors


def found(category: str, event: str = "ev-9") -> InspectedError:
    return InspectedError("Eicar", where="[inspect:av]", remedy="ask", category=category, event=event)


@pytest.fixture
def inspecting(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> MemoryGateway:
    """A gateway in which the response of C{CATEGORY.test} is not let pass."""
    gateway = MemoryGateway(loop)

    def begin_response(sm: HttpSM, length: int) -> None:
        sm.fail(found(sm.head.authority.host.partition(".")[0], "" if sm.head.target == b"/none" else "ev-9"))
        sm.leave_origin()

    monkeypatch.setattr(HttpSM, "begin_response", begin_response)
    for category in ("malware", "site", "leak", "phishing", "failure", "watermark"):
        gateway.origin(f"{category}.test:80", Answers(OK))
    return gateway


@pytest.mark.parametrize(
    ("category", "status", "title", "error"),
    [
        ("malware", 403, "Malware was found", b"http_request_denied"),
        ("site", 403, "This site is blocked", b"http_request_denied"),
        ("leak", 403, "This must not leave", b"http_request_denied"),
        ("phishing", 403, "This looks like phishing", b"http_request_denied"),
        ("failure", 503, "It could not be inspected", b"proxy_internal_error"),
        ("watermark", 403, "Blocked", b"http_request_denied"),
    ],
)
def test_what_an_inspector_found_is_said_by_its_category(
    inspecting: MemoryGateway, category: str, status: int, title: str, error: bytes
) -> None:
    page = get(inspecting, f"{category}.test", "Accept: application/json")
    said = json.loads(page.body)
    assert (page.status, said["title"], said["category"]) == (status, title, category)
    assert (said["id"], said["event"], said["detail"]) == ("ev-9", "ev-9", "[inspect:av]: Eicar")
    assert b"Proxy-Status: sslintercept; error=" + error + b"; received-status=200\r\n" in page.head + b"\r\n"
    assert b"\r\nSslintercept-Event: ev-9\r\n" in page.head
    line = inspecting.transactions()[-1]
    assert (line["error"], line["result"], line["status"]) == ("inspected", "TCP_DENIED", status)


def test_without_an_event_the_id_is_the_transaction_s(inspecting: MemoryGateway) -> None:
    raw = b"GET http://malware.test/none HTTP/1.1\r\nHost: malware.test\r\nAccept: application/json\r\n\r\n"
    said = json.loads(asked(inspecting, raw)[0].body)
    assert said["id"] == inspecting.transactions()[-1]["id"]
    assert "event" not in said


def test_what_was_not_forwarded_was_answered_by_nobody_else(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = MemoryGateway(loop)
    monkeypatch.setattr(HttpSM, "forward", lambda sm: sm.fail(found("leak")))
    page = get(gateway, "a.test")
    assert b"Proxy-Status: sslintercept; error=http_request_denied\r\n" in page.head
    assert b"<h1>This must not leave</h1>" in page.body

"""Rules that warn, through a whole gateway: who is asked, who may go on, and what an origin never sees."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html import unescape

import pytest

from sslintercept.facts import Address, Facts
from sslintercept.http.consent import LINK, PATH, cookie_name
from sslintercept.net.vconnection import NetVConnection
from sslintercept.testing.gateway import OK, Answers, MemoryGateway
from sslintercept.testing.loop import Loop
from sslintercept.testing.peer import Peer
from tests.http.test_session import asked
from tests.sequences.support import ESTABLISHED, Response, connected, intercepted, responses

RULE = "[rule:careful]\nmatch = host:.site.test\naction = warn\nwarn_for = 30m\n"
HOST = "www.site.test"


class Browser:
    """Somebody who asks for pages of L{HOST}, in the clear or inside TLS, and keeps cookies as browsers do."""

    def __init__(self, gateway: MemoryGateway, secure: bool) -> None:
        self.gateway = gateway
        self.secure = secure
        self.cookies: dict[tuple[str, bool], str] = {}
        """by their names, and whether they are for the domain"""
        self.client: Peer | None = None

    @property
    def begin(self) -> str:
        return "" if self.secure else f"http://{HOST}"

    def ask(self, target: str = "/page?q=1", *fields: str, method: str = "GET", cookies: bool = True) -> Response:
        if self.client is None or self.client.vc.closing:
            where = f"{HOST}:443"
            self.client = intercepted(self.gateway, where, HOST) if self.secure else self.gateway.client()
        lines = [f"{method} {self.begin}{target} HTTP/1.1", f"Host: {HOST}", *fields]
        if cookies and self.cookies:
            pairs = [f"{name}={value}" for (name, _), value in self.cookies.items()]
            lines.append(f"Cookie: mine=1; {'; '.join(pairs)}")
        self.client.send("\r\n".join([*lines, "", ""]).encode())
        self.gateway.pump()
        (found,) = responses(self.client.take(), method.encode())
        for line in found.head.split(b"\r\n"):
            if line.startswith(b"Set-Cookie: "):
                name, _, rest = line[12:].decode().partition("=")
                self.cookies[name, "; Domain=site.test" in rest] = rest.partition(";")[0]
        return found

    def button(self, page: Response) -> str:
        """Where the form of a page leads."""
        return link_of(page)

    def press(self, link: str, *fields: str) -> Response:
        return self.ask(link, "Content-Length: 0", "Origin: null", *fields, method="POST")


def link_of(page: Response) -> str:
    found = re.search(rb'<form method="post" action="([^"]+)">', page.body)
    assert found, page.body
    return unescape(found[1].decode())


@pytest.fixture
def gateway(loop: Loop) -> MemoryGateway:
    made = MemoryGateway(loop, RULE)
    for host in (HOST, "other.test"):
        made.origin(f"{host}:443", Answers(OK), tls=made.leaf(host))
        made.origin(f"{host}:80", Answers(OK))
    return made


@pytest.fixture(params=[False, True], ids=["http", "https"])
def browser(gateway: MemoryGateway, request: pytest.FixtureRequest) -> Browser:
    return Browser(gateway, request.param)


def heads(gateway: MemoryGateway) -> list[bytes]:
    """What origins were asked."""
    found: list[bytes] = []
    for origin in gateway.connector.origins.values():
        assert isinstance(origin.respond, Answers)
        found += origin.respond.requests
    return found


def test_a_page_asks_and_nobody_is_reached(gateway: MemoryGateway, browser: Browser) -> None:
    page = browser.ask()
    assert page.status == 403
    assert b"<h1>Are you sure?</h1>" in page.body
    assert b"rule careful: host www.site.test matches .site.test" in page.body
    assert b"form-action 'self'; frame-ancestors 'none'" in page.head
    assert b"Proxy-Status: sslintercept; error=http_request_denied" in page.head
    assert gateway.connector.opened == []
    line = gateway.transactions()[-1]
    assert (line["rule"], line["action"], line["result"]) == ("careful", "warn", "TCP_DENIED")
    assert "consented" not in line


def test_whoever_continues_gets_the_page_and_is_not_asked_again(gateway: MemoryGateway, browser: Browser) -> None:
    redirect = browser.press(browser.button(browser.ask()))
    assert redirect.status == 303
    scheme = "https" if browser.secure else "http"
    assert f"\r\nLocation: {scheme}://{HOST}/page?q=1\r\n".encode() in redirect.head
    assert gateway.connector.opened == []
    assert [browser.ask(target).body for target in ("/page?q=1", "/more")] == [b"hello", b"hello"]
    lines = gateway.transactions()[-3:]
    assert [line["status"] for line in lines] == [303, 200, 200]
    assert [(line["rule"], line["action"], line.get("consented")) for line in lines] == [("careful", "warn", True)] * 3
    assert lines[-1]["result"] == "TCP_MISS"
    assert "consented" in gateway.steps()


def test_the_cookie_is_not_forwarded_and_the_others_are(gateway: MemoryGateway, browser: Browser) -> None:
    browser.press(browser.button(browser.ask()))
    browser.ask()
    (head,) = heads(gateway)
    assert b"Cookie: mine=1" in head.split(b"\r\n")
    assert b"sslintercept-" not in head


def test_the_names_of_cookies_are_as_their_scheme_allows(browser: Browser) -> None:
    browser.press(browser.button(browser.ask()))
    of_host, of_domain = ("__Host-", "__Secure-") if browser.secure else ("", "")
    name = cookie_name("careful")
    assert set(browser.cookies) == {(of_host + name, False), (of_domain + name, True)}


def test_after_its_time_a_consent_is_asked_for_again(gateway: MemoryGateway, browser: Browser, loop: Loop) -> None:
    browser.press(browser.button(browser.ask()))
    assert browser.ask().status == 200
    loop.advance(30 * 60 - 5)
    assert browser.ask().status == 200
    loop.advance(5)
    assert browser.ask().status == 403


def test_another_client_with_the_same_cookie_is_asked(gateway: MemoryGateway, browser: Browser) -> None:
    browser.press(browser.button(browser.ask()))
    assert browser.ask().status == 200
    for facts in gateway.facts:
        facts.client = Address("198.51.100.99", 1)
    assert browser.ask().status == 403


def test_a_forged_cookie_is_none(browser: Browser) -> None:
    browser.cookies = {(cookie_name("careful"), False): "9999999999." + "A" * 43}
    assert browser.ask().status == 403


def changed(link: str) -> str:
    return link[:-1] + ("A" if link[-1] != "A" else "B")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda link: link.replace("rule=careful", "rule=none"),
        lambda link: re.sub(r"token=(\d+)", "token=9999999999", link),
        lambda link: link + "x",
        lambda link: link.partition("?")[0],
        lambda link: PATH.decode() + "?rule=careful",
        lambda link: PATH.decode() + "/",
    ],
)
def test_a_link_that_is_not_ours_sets_no_cookie_and_reaches_nobody(
    gateway: MemoryGateway, browser: Browser, spoil: Callable[[str], str]
) -> None:
    link = browser.button(browser.ask())
    found = browser.press(spoil(link))
    assert found.status == 403
    assert b"not valid any more" in found.body
    assert b"Set-Cookie" not in found.head
    assert (browser.cookies, heads(gateway)) == ({}, [])


def test_a_link_of_another_client_is_none(gateway: MemoryGateway, browser: Browser) -> None:
    link = browser.button(browser.ask())
    for facts in gateway.facts:
        facts.client = Address("198.51.100.99", 1)
    assert browser.press(link).status == 403


def test_a_link_that_is_too_old_is_none(browser: Browser, loop: Loop) -> None:
    link = browser.button(browser.ask())
    loop.advance(LINK)
    assert browser.press(link).status == 403


def test_a_link_of_one_host_is_none_on_another(gateway: MemoryGateway) -> None:
    browser = Browser(gateway, secure=False)
    link = browser.button(browser.ask())
    raw = f"POST http://a.site.test{link} HTTP/1.1\r\nHost: a.site.test\r\nContent-Length: 0\r\n\r\n"
    assert asked(gateway, raw.encode())[0].status == 403


def test_following_a_link_without_pressing_the_button_is_not_enough(browser: Browser) -> None:
    link = browser.button(browser.ask())
    for method in ("GET", "HEAD", "PUT", "OPTIONS"):
        fields = ["Content-Length: 0"] if method == "PUT" else []
        found = browser.ask(link, *fields, method=method)
        assert (found.status, b"Set-Cookie" in found.head) == (403, False)


def test_a_script_cannot_press_the_button(browser: Browser) -> None:
    link = browser.button(browser.ask())
    for mode in ("cors", "no-cors", "same-origin"):
        assert browser.press(link, f"Sec-Fetch-Mode: {mode}").status == 403
    assert browser.press(link, "Sec-Fetch-Mode: navigate").status == 303


def test_a_script_is_not_told_the_link(browser: Browser) -> None:
    found = browser.ask("/api", "Sec-Fetch-Dest: empty", "Sec-Fetch-Mode: cors", "Accept: */*")
    said = json.loads(found.body)
    assert (found.status, said["rule"], "continue" in said) == (403, "careful", False)
    html = browser.ask("/api", "Sec-Fetch-Dest: empty", "Accept: text/html")
    assert b"token=" not in html.body
    assert b'action=""' in html.body
    assert b"form-action 'none'" in html.head


def test_a_program_is_told_the_link_and_not_let_pass(gateway: MemoryGateway, browser: Browser) -> None:
    said = json.loads(browser.ask("/api", "Accept: application/json").body)
    assert (said["status"], said["rule"], said["title"]) == (403, "careful", "Are you sure?")
    assert gateway.connector.opened == []
    assert browser.press(said["continue"]).status == 303
    assert browser.ask("/api", "Accept: application/json").status == 200


@pytest.mark.parametrize(("destination", "kind"), [("image", b"image/png"), ("script", b"text/javascript")])
def test_parts_of_pages_are_refused_in_their_own_kind(browser: Browser, destination: str, kind: bytes) -> None:
    found = browser.ask("/x", f"Sec-Fetch-Dest: {destination}", "Accept: */*")
    assert found.status == 403
    assert b"Content-Type: " + kind in found.head
    assert b"token=" not in found.body


def test_head_is_answered_by_the_head_of_the_page(browser: Browser) -> None:
    found = browser.ask(method="HEAD")
    assert (found.status, found.body) == (403, b"")
    assert b"Content-Length: " in found.head


def test_what_a_form_sent_is_lost_and_its_address_is_asked_for(browser: Browser) -> None:
    found = browser.ask("/form", "Content-Length: 0", method="POST")
    assert found.status == 403
    assert b"Location: " in browser.press(browser.button(found)).head


def test_an_address_that_looks_like_another_site_stays_here(browser: Browser) -> None:
    redirect = browser.press(browser.button(browser.ask("//evil.test/x")))
    assert f"://{HOST}//evil.test/x\r\n".encode() in redirect.head


def test_one_consent_is_good_for_the_whole_site(gateway: MemoryGateway) -> None:
    browser = Browser(gateway, secure=False)
    browser.press(browser.button(browser.ask()))
    token = browser.cookies[cookie_name("careful"), True]
    gateway.origin("img.site.test:80", Answers(OK))
    cookie = f"Cookie: {cookie_name('careful')}={token}"
    raw = f"GET http://img.site.test/ HTTP/1.1\r\nHost: img.site.test\r\n{cookie}\r\n\r\n"
    assert asked(gateway, raw.encode())[0].status == 200


def test_another_process_with_the_same_key_knows_the_consent(loop: Loop, gateway: MemoryGateway) -> None:
    browser = Browser(gateway, secure=False)
    link = browser.button(browser.ask())
    other = MemoryGateway(loop, RULE)
    other.origin(f"{HOST}:80", Answers(OK))
    browser.gateway, browser.client = other, None
    assert browser.press(link).status == 303
    browser.gateway, browser.client = gateway, None
    assert browser.ask().status == 200


def test_hosts_without_a_warning_are_left_alone(gateway: MemoryGateway) -> None:
    raw = b"GET http://other.test/ HTTP/1.1\r\nHost: other.test\r\nCookie: a=b\r\n\r\n"
    assert asked(gateway, raw)[0].status == 200
    assert b"Cookie: a=b" in heads(gateway)[0]


def test_our_cookie_does_not_reach_a_host_that_no_rule_warns_of(gateway: MemoryGateway) -> None:
    cookie = f"{cookie_name('careful')}=1700000000.{'A' * 43}"
    raw = f"GET http://other.test/ HTTP/1.1\r\nHost: other.test\r\nCookie: {cookie}\r\n\r\n"
    assert asked(gateway, raw.encode())[0].status == 200
    assert b"sslintercept-" not in heads(gateway)[0]


def test_without_a_rule_that_warns_the_path_is_the_origin_s(loop: Loop) -> None:
    gateway = MemoryGateway(loop)
    origin = Answers(OK)
    gateway.origin("origin.test:80", origin)
    raw = b"GET http://origin.test%b HTTP/1.1\r\nHost: origin.test\r\n\r\n" % PATH
    assert asked(gateway, raw)[0].status == 200


def test_a_rule_that_blocks_is_not_continued_past(loop: Loop) -> None:
    gateway = MemoryGateway(loop, RULE)
    browser = Browser(gateway, secure=False)
    link = browser.button(browser.ask())
    stricter = MemoryGateway(loop, "[rule:no]\nmatch = host:.site.test\naction = block\n" + RULE)
    browser.gateway, browser.client = stricter, None
    assert b"rule no" in browser.press(link).body


# where no page can be shown


def opened(gateway: MemoryGateway, data: bytes, where: str = f"{HOST}:25") -> bytes:
    client = connected(gateway, where)
    client.send(data)
    gateway.pump()
    gateway.loop.advance(30)
    gateway.pump()
    assert client.ended
    return client.take()


def test_what_is_not_http_is_blocked(gateway: MemoryGateway) -> None:
    gateway.origin(f"{HOST}:2222", b"")
    gateway.origin(f"{HOST}:25", b"")
    assert opened(gateway, b"SSH-2.0-x\r\n", f"{HOST}:2222") == b""
    assert gateway.log[-1]["error"] == "blocked"
    assert gateway.log[-1]["result"] == "TCP_DENIED"


def test_mail_is_told_in_its_own_words(gateway: MemoryGateway) -> None:
    origin = gateway.origin(f"{HOST}:25", lambda peer: None)
    origin.greeting = b"220 mail ESMTP\r\n"
    client = gateway.client()
    client.send(b"CONNECT %b:25 HTTP/1.1\r\nHost: %b:25\r\n\r\n" % (HOST.encode(), HOST.encode()))
    gateway.pump()
    assert client.take() == ESTABLISHED + b"554 5.7.1 Blocked by a rule\r\n"
    assert origin.peers == []


def test_a_session_of_a_plugin_gets_nothing_that_a_rule_warns_of(gateway: MemoryGateway) -> None:
    met: list[bytes] = []

    class Plugin:
        protocol = "ssh"

        def accept(self, vc: NetVConnection, facts: Facts, peeked: bytes) -> None:
            met.append(peeked)
            vc.close()

    gateway.gateway.probe.register(Plugin())
    gateway.gateway.probe.foreign.add("ssh")
    gateway.origin("other.test:2222", b"")
    opened(gateway, b"SSH-2.0-x\r\n", f"{HOST}:2222")
    assert met == []
    opened(gateway, b"SSH-2.0-x\r\n", "other.test:2222")
    assert met == [b"SSH-2.0-x\r\n"]


def test_a_silent_client_never_hears_the_server(gateway: MemoryGateway) -> None:
    origin = gateway.origin(f"{HOST}:4444", lambda peer: None)
    origin.greeting = b"hello\r\n"
    client = connected(gateway, f"{HOST}:4444")
    gateway.loop.advance(30)
    gateway.pump()
    assert (client.take(), client.ended, origin.peers) == (b"", True, [])


def test_a_client_that_speaks_only_http_2_is_not_let_pass(loop: Loop) -> None:
    gateway = MemoryGateway(loop, f"{RULE}[probe]\nunknown = tunnel\n")
    gateway.origin(f"{HOST}:443", Answers(OK), tls=gateway.leaf(HOST))
    client = connected(gateway, f"{HOST}:443")
    client.start_tls(HOST, alpn=(b"h2",))
    gateway.pump()
    assert not client.secure
    assert gateway.connector.opened == []


def test_a_client_that_does_not_trust_us_is_not_tunnelled_by_and_by(loop: Loop) -> None:
    gateway = MemoryGateway(loop, f"{RULE}[client-tls]\nlearn = on\nlearn_after = 1\n")
    gateway.origin(f"{HOST}:443", Answers(OK), tls=gateway.leaf(HOST))
    now = gateway.wall_clock()
    for _ in range(3):
        gateway.learned.rejected("192.0.2.1", HOST, "unknown_ca", now)
        for facts in gateway.facts:
            gateway.learned.rejected(facts.client.host, HOST, "unknown_ca", now)
        client = intercepted(gateway, f"{HOST}:443", HOST)
        client.send(b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % HOST.encode())
        gateway.pump()
        assert responses(client.take())[0].status == 403


def test_what_looks_like_tls_and_is_none_is_not_relayed(loop: Loop) -> None:
    gateway = MemoryGateway(loop, f"{RULE}[probe]\nunknown = tunnel\n")
    gateway.origin(f"{HOST}:443", b"")
    client = connected(gateway, f"{HOST}:443")
    client.send(b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00" + bytes(100))
    gateway.pump()
    assert client.ended
    assert gateway.connector.opened == []


def test_a_proxy_that_a_rule_warns_of_is_not_gone_through(gateway: MemoryGateway) -> None:
    client = connected(gateway, f"{HOST}:8080")
    found = asked(gateway, b"CONNECT other.test:443 HTTP/1.1\r\nHost: other.test:443\r\n\r\n", client)
    assert [one.status for one in found] == [403]
    client = connected(gateway, f"{HOST}:8080")
    found = asked(gateway, b"GET http://other.test/ HTTP/1.1\r\nHost: other.test\r\n\r\n", client)
    assert [one.status for one in found] == [403]
    assert b"<form" not in found[0].body
    client = connected(gateway, f"{HOST}:8080")
    client.send(b"\x05\x01\x00\x05\x01\x00\x03\x0aother.test\x01\xbb")
    gateway.pump()
    assert b"\x05\x02" in client.take()
    assert gateway.connector.opened == []


def test_a_consent_is_good_for_what_follows_an_upgrade(loop: Loop) -> None:
    gateway = MemoryGateway(loop, f"{RULE}[probe]\nunknown = tunnel\n")
    browser = Browser(gateway, secure=False)
    answers = Answers(OK)
    origin = gateway.origin(f"{HOST}:80", answers)
    browser.press(browser.button(browser.ask()))
    answers.answer = lambda head, body: (
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: odd\r\n\r\n"
    )
    assert browser.ask("/ws", "Connection: Upgrade", "Upgrade: odd").status == 101
    assert browser.client is not None
    browser.client.send(b"\xffwhatever")
    gateway.pump()
    assert bytes(origin.last.got).endswith(b"\xffwhatever")

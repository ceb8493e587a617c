"""Rules by category in a whole gateway: at every door, and for URLs inside of TLS."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import pytest

from sslintercept.dns import message
from sslintercept.dns.message import wire
from sslintercept.facts import Address
from sslintercept.sites.compile import compiled
from sslintercept.sites.listing import ListSettings
from sslintercept.sites.look import SiteList
from sslintercept.testing.gateway import OK, Answers, MemoryGateway
from sslintercept.testing.loop import Loop
from tests.http.test_session import asked
from tests.sequences.support import CLIENT_FIRST, get, intercepted

RULE = "[rule:bad]\nmatch = category:malware\naction = block\n"


@pytest.fixture
def gateway(loop: Loop, tmp_path: Path) -> MemoryGateway:
    path = tmp_path / "list"
    path.write_text("evil.test\ngood.test/bad\n", encoding="ascii")
    made = MemoryGateway(loop, f"{CLIENT_FIRST}[sites:malware]\npath = {path}\n{RULE}")
    made.origin("good.test:443", Answers(OK), tls=made.leaf("good.test"))
    made.origin("good.test:80", Answers(OK))
    return made


def plain(gateway: MemoryGateway, url: str) -> int:
    host = url.split("/")[2]
    (found,) = asked(gateway, f"GET {url} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    if found.status == 403:
        assert b"list malware (malware)" in found.body
    return found.status


def test_a_tunnel_to_a_listed_site_is_not_opened(gateway: MemoryGateway) -> None:
    raw = b"CONNECT www.evil.test:443 HTTP/1.1\r\nHost: www.evil.test:443\r\n\r\n"
    (found,) = asked(gateway, raw)
    assert (found.status, gateway.connector.opened) == (403, [])
    assert b"domain evil.test" in found.body


def test_a_request_for_a_listed_site_is_not_made(gateway: MemoryGateway) -> None:
    assert plain(gateway, "http://evil.test/") == 403
    assert gateway.connector.opened == []


def test_a_listed_url_is_blocked_and_its_host_is_not(gateway: MemoryGateway) -> None:
    assert [plain(gateway, f"http://good.test/{path}") for path in ("bad", "bad/x", "fine", "badly")] == [
        403,
        403,
        200,
        200,
    ]


def test_a_listed_url_inside_of_tls_is_blocked_and_the_connection_goes_on(gateway: MemoryGateway) -> None:
    client = intercepted(gateway, "good.test:443", "good.test")
    found = [get(gateway, client, path, "good.test").status for path in ("/fine", "/bad", "/fine")]
    assert found == [200, 403, 200]
    assert [line["rule"] for line in gateway.transactions()[-3:]] == ["default", "bad", "default"]


def test_a_list_that_is_loaded_anew_counts_in_a_connection_of_which_no_list_had_anything(
    gateway: MemoryGateway, tmp_path: Path
) -> None:
    gateway.origin("other.test:443", Answers(OK), tls=gateway.leaf("other.test"))
    client = intercepted(gateway, "other.test:443", "other.test")
    assert [get(gateway, client, "/bad", "other.test").status for _ in range(2)] == [200, 200]
    path = tmp_path / "newer"
    path.write_text("other.test/bad\n", encoding="ascii")
    image = compiled(ListSettings("malware", path, category="malware"))
    gateway.gateway.proxy.rules.sites.lists = (SiteList("malware", image),)
    found = [get(gateway, client, path, "other.test").status for path in ("/bad", "/fine", "/bad")]
    assert found == [403, 200, 403]


class Watched(SiteList):
    """One that can be watched."""

    __slots__ = ("__weakref__",)


def test_a_list_that_was_replaced_is_let_go_of_by_connections_that_stay(gateway: MemoryGateway) -> None:
    gateway.origin("other.test:443", Answers(OK), tls=gateway.leaf("other.test"))
    lists = gateway.gateway.proxy.rules.sites
    lists.lists = (Watched("malware", lists.lists[0].image),)
    watched = weakref.ref(lists.lists[0])
    client = intercepted(gateway, "other.test:443", "other.test")
    assert get(gateway, client, "/", "other.test").status == 200
    lists.lists = ()
    gc.collect()
    assert watched() is None


def test_what_was_said_of_a_request_is_not_said_of_the_next_tunnel(gateway: MemoryGateway) -> None:
    client = gateway.client()
    raw = b"GET http://good.test/bad HTTP/1.1\r\nHost: good.test\r\n\r\n"
    assert asked(gateway, raw, client)[0].status == 403
    raw = b"CONNECT good.test:443 HTTP/1.1\r\nHost: good.test:443\r\n\r\n"
    assert asked(gateway, raw, client)[0].status == 200


def test_a_question_for_a_listed_name_gets_no_address(gateway: MemoryGateway) -> None:
    replies: list[bytes] = []
    data = message.query(7, message.question(wire("www.evil.test"), message.A))
    client = Address("198.51.100.7", 5353)
    gateway.gateway.name_service.ask(data, client, "proxy", lambda query, made: replies.append(made))
    gateway.pump()
    assert [made[3] & 15 for made in replies] == [message.NXDOMAIN]

"""Sites that are listed, told before any content comes."""

from __future__ import annotations

from pathlib import Path

import pytest

from sslintercept.errors import ConfigError
from sslintercept.examine import idle_engines
from sslintercept.inspect.shipped.sites import ListInspector, ListOptions
from sslintercept.inspect.verdict import SITE, Act
from sslintercept.sites.compile import Compilation
from sslintercept.sites.listing import ListSettings
from sslintercept.sites.look import SiteList
from sslintercept.testing.gateway import MemoryGateway
from sslintercept.testing.loop import Loop
from tests.http.test_session import GET, POST, asked
from tests.http.test_websocket import REQUEST, SWITCH, TEXT
from tests.inspect.support import World, a_part, entry
from tests.inspect.test_conversation import talk
from tests.websocket.reference import KEY, frame

LISTED = "listed.test\nhttp://partly.test/bad\nhttp://asked.test/find?q=evil\n192.0.2.0/24\n2001:db8::/32\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def sites(folder: Path, name: str = "shady", category: str = "Sharing", text: str = LISTED) -> SiteList:
    path = folder / f"{name}.txt"
    path.write_text(text)
    return SiteList(name, Compilation(ListSettings(name, path, "auto", category)).run())


def inspector(*lists: SiteList, **options: object) -> ListInspector:
    engines = idle_engines()
    engines.sites.lists = lists
    return ListInspector(ListOptions(**options), engines)  # type: ignore[arg-type]  # each has its own type


@pytest.mark.parametrize(
    ("url", "host", "found"),
    [
        ("http://listed.test/", "listed.test", "listed.test"),
        ("https://www.listed.test/a?b", "www.listed.test", "listed.test"),
        ("https://listed.test:8443/", "listed.test", "listed.test"),
        ("https://listed.test", "listed.test", "listed.test"),
        ("http://listed.test*", "listed.test", "listed.test"),
        ("http://partly.test/bad", "partly.test", "partly.test/bad"),
        ("https://partly.test/bad/more?x", "partly.test", ""),
        ("http://partly.test/bad?query", "partly.test", "partly.test/bad"),
        ("http://partly.test/good", "partly.test", ""),
        ("http://partly.test:81/bad", "partly.test", ""),
        ("http://asked.test/find?q=evil", "asked.test", "asked.test/find?q=evil"),
        ("http://asked.test?q=evil", "asked.test", ""),
        ("http://192.0.2.7/", "192.0.2.7", "192.0.2.0/24"),
        ("http://[2001:db8::1]/", "2001:db8::1", "2001:db8::/32"),
        ("http://[2001:db8::1]:8080/[", "2001:db8::1", "2001:db8::/32"),
        ("http://fine.test/listed.test", "fine.test", ""),
        ("http://fine.test/\xff[:99999", "fine.test", ""),
        ("http://fine.test:99999/", "fine.test", ""),
        ("", "listed.test", "listed.test"),
        ("", "fine.test", ""),
        ("", "", ""),
    ],
)
def test_a_url_or_a_host_is_looked_up(tmp_path: Path, url: str, host: str, found: str) -> None:
    verdict = inspector(sites(tmp_path), categories=("sharing",)).glance(a_part(url=url, host=host))
    assert bool(verdict) is bool(found)
    if verdict is not None:
        assert (verdict.act, verdict.kind, verdict.name) == (Act.BLOCK, SITE, "shady:Sharing")
        assert (verdict.engine, verdict.version) == ("list", "shady")
        assert found in verdict.reason
        assert str(tmp_path) not in verdict.reason


def test_only_the_categories_that_are_named_count(tmp_path: Path) -> None:
    one, other = sites(tmp_path, "a", "Games"), sites(tmp_path, "b", "Malware")
    plain = sites(tmp_path, "c", "", "uncategorised.test")
    part = a_part(host="listed.test")

    def name(*categories: str, host: str = "listed.test") -> str:
        verdict = inspector(one, other, plain, categories=categories).glance(a_part(host=host))
        return "" if verdict is None else verdict.name

    assert name("games") == "a:Games"
    assert name("MALWARE", "none") == "b:Malware"
    assert name("none") == ""
    assert name("*") == "a:Games"
    assert name("*", host="uncategorised.test") == "c:"
    assert name("games", host="uncategorised.test") == ""
    verdict = inspector(one, other, plain).glance(part)
    assert verdict is not None
    assert verdict.name == "b:Malware"


def test_a_list_that_is_loaded_anew_counts_at_once(tmp_path: Path) -> None:
    engines = idle_engines()
    found = ListInspector(ListOptions(categories=("*",)), engines)
    assert found.glance(a_part(host="listed.test")) is None
    engines.sites.lists = (sites(tmp_path),)
    assert found.glance(a_part(host="listed.test")) is not None


@pytest.mark.parametrize(("action", "act"), [("report", Act.REPORT), ("tag", Act.TAG)])
def test_the_act_is_the_one_of_the_section(tmp_path: Path, action: str, act: Act) -> None:
    verdict = inspector(sites(tmp_path), categories=("*",), action=action).glance(a_part(host="listed.test"))
    assert verdict is not None
    assert verdict.act is act


def test_content_is_of_no_interest(tmp_path: Path) -> None:
    world = World(entry(inspector(sites(tmp_path), categories=("*",))))
    decision = world.whole(b"listed.test", a_part(host="listed.test"))
    assert decision is not None
    assert decision.found == ()


# in a whole gateway


def ini(folder: Path, more: str) -> str:
    (folder / "shady.txt").write_text("origin.test\n")
    return (
        f"[sites:shady]\npath = {folder}/shady.txt\ncategory = sharing\n"
        f"[inspect:shady]\nuse = list\ncategories = sharing\n{more}"
    )


def test_a_listed_site_is_answered_with_a_page_before_anything_is_sent(loop: Loop, tmp_path: Path) -> None:
    gateway = MemoryGateway(loop, ini(tmp_path, ""))
    origin = gateway.origin("origin.test:80", OK)
    (found,) = asked(gateway, GET)
    assert found.status == 403
    assert origin.peers == []
    (event,) = gateway.events.told
    assert (event.kind, event.act, event.name) == ("site", "block", "shady:sharing")


def test_a_match_blocks_uploads_and_lets_the_others_pass(loop: Loop, tmp_path: Path) -> None:
    gateway = MemoryGateway(loop, ini(tmp_path, "match = method:POST direction:upload\n"))
    gateway.origin("origin.test:80", OK)
    assert [found.status for found in asked(gateway, GET)] == [200]
    assert [found.status for found in asked(gateway, POST + b"Content-Length: 1\r\n\r\nx")] == [403]


def test_what_is_reported_passes_with_one_event_a_request(loop: Loop, tmp_path: Path) -> None:
    gateway = MemoryGateway(loop, ini(tmp_path, "match = direction:request\naction = report\n"))
    gateway.origin("origin.test:80", OK)
    assert [found.status for found in asked(gateway, GET)] == [200]
    assert [event.act for event in gateway.events.told] == ["report"]


WEBSOCKET = "match = carrier:websocket\naction = "


def test_a_conversation_over_websocket_is_asked_about_once(loop: Loop, tmp_path: Path) -> None:
    said = talk(loop, ini(tmp_path, f"{WEBSOCKET}report\n"))
    data = frame(TEXT, b"hello", key=KEY)
    assert said.say(data + data) == data + data
    assert [event.carrier for event in said.gateway.events.told] == ["websocket"]
    said.client.close()


def test_a_conversation_over_websocket_with_a_listed_site_does_not_begin(loop: Loop, tmp_path: Path) -> None:
    gateway = MemoryGateway(loop, ini(tmp_path, f"{WEBSOCKET}block\n"))
    gateway.origin("origin.test:80", SWITCH + b"\r\n")
    (found,) = asked(gateway, REQUEST.replace(b"GET ", b"GET http://origin.test") + b"\r\n")
    assert found.status == 403
    assert [event.carrier for event in gateway.events.told] == ["websocket"]


def test_a_category_without_a_name_is_a_mistake(loop: Loop) -> None:
    with pytest.raises(ConfigError, match="categories"):
        MemoryGateway(loop, "[inspect:shady]\nuse = list\ncategories =\n")

"""The condition C{category}: what is looked up, and when."""

from __future__ import annotations

from pathlib import Path

import pytest

from sslintercept.config.schema import SITE_FORMATS
from sslintercept.facts import UNKNOWN, Address, Facts
from sslintercept.rule.category import parse, sites_of, url_of
from sslintercept.sites.compile import compiled
from sslintercept.sites.listing import ListSettings
from sslintercept.sites.look import SiteList, Sites
from sslintercept.sites.read import FORMATS


@pytest.fixture
def sites(tmp_path: Path) -> Sites:
    """Two lists."""
    found = []
    for name, lines in (
        ("malware", "evil.test\n192.0.2.0/24\ngood.test/bad\ngood.test/phish\n"),
        ("games", "play.test\nevil.test\n"),
    ):
        path = tmp_path / name
        path.write_text(lines, encoding="ascii")
        found.append(SiteList(name, compiled(ListSettings(name, path, category=name))))
    return Sites(tuple(found))


def facts(destination: str, server_name: str | None = None, unknown: bool = False) -> Facts:
    made = Facts("x", Address("198.51.100.7", 1), "proxy")
    made.destination = Address(destination, 443)
    made.server_name = UNKNOWN if unknown else server_name
    return made


@pytest.mark.parametrize(
    ("destination", "name", "category", "answer"),
    [
        ("evil.test", None, "malware", True),
        ("www.evil.test", None, "malware", True),
        ("evil.test", None, "games", True),
        ("play.test", None, "malware", False),
        ("play.test", None, "malware,games", True),
        ("play.test", None, "*", True),
        ("good.test", None, "*", False),
        ("good.test", "evil.test", "malware", True),
        ("192.0.2.9", None, "malware", True),
        ("192.0.2.9", "good.test", "malware", True),
        ("198.51.100.1", "evil.test", "MALWARE", True),
        ("198.51.100.1", None, "*", False),
        ("2001:db8::1", None, "*", False),
    ],
)
def test_any_name_that_is_known_counts(
    sites: Sites, destination: str, name: str | None, category: str, answer: bool
) -> None:
    match = parse(f"category:{category}", sites)
    assert match.judge(facts(destination, name)) is answer
    assert parse(f"!category:{category}", sites).judge(facts(destination, name)) is not answer


def test_of_an_address_the_name_is_waited_for(sites: Sites) -> None:
    match = parse("category:malware", sites)
    assert match.judge(facts("192.0.2.9", unknown=True)) is None
    assert match.judge(facts("192.0.2.9", unknown=True), final=True) is False
    assert match.judge(facts("evil.test", unknown=True)) is True
    assert match.needs == {"destination", "server_name"}


@pytest.mark.parametrize(
    ("url", "answer"),
    [
        (("http", "good.test", 80, b"/bad/x?y"), True),
        (("https", "good.test", 443, b"/phish"), True),
        (("http", "good.test", 80, b"/fine"), False),
        (("http", "evil.test", 80, b"/"), True),
        (("http", "192.0.2.1", 8080, b"/"), True),
        (("http", "2001:db8::1", 80, b"/bad/"), False),
    ],
)
def test_of_a_request_the_url_counts(sites: Sites, url: tuple[str, str, int, bytes], answer: bool) -> None:
    scheme, host, port, target = url
    asked = facts("unrelated.test")
    asked.url = url_of(scheme, Address(host, port), target)
    assert parse("category:malware", sites).judge(asked) is answer


def test_the_reason_names_list_and_line(sites: Sites) -> None:
    words = parse("category:malware", sites).words(facts("www.evil.test"))
    assert "list malware (malware): domain evil.test" in words
    assert words.endswith("domain evil.test, malware line 1")


def test_a_target_with_spaces_is_one_url(sites: Sites) -> None:
    asked = facts("x.test")
    asked.url = url_of("http", Address("x.test", 80), b"/ evil.test")
    assert sites_of(asked) == "http://x.test:80/%20evil.test"
    assert parse("category:*", sites).judge(asked) is False


def test_lists_that_change_are_asked_as_they_are(sites: Sites) -> None:
    match = parse("category:malware", sites)
    sites.lists = ()
    assert match.judge(facts("evil.test")) is False


def test_the_ini_file_knows_every_format() -> None:
    assert set(SITE_FORMATS) == set(FORMATS)

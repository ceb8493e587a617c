"""Where clients are sent: each part quoted for its place, never to another host, never to where they are."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslintercept.config.units import NotAllowed
from sslintercept.errors import MessageError
from sslintercept.facts import Address
from sslintercept.rule.match import parse_with
from sslintercept.testing.transform import Exchange, a_message
from sslintercept.transform.select import CONDITIONS_OF_MESSAGES
from sslintercept.transform.shipped.redirect import LONGEST, Redirect, RedirectOptions, same

UNIT = RedirectOptions.__dataclass_fields__["to"].metadata["key"].unit


def location(to: str, url: str) -> str:
    message = a_message(url)
    Redirect(RedirectOptions(to=UNIT(to))).transform(message)
    assert message.answered is not None
    ((name, value),) = message.answered.fields
    assert name == b"Location"
    return value.decode("ascii")


@pytest.mark.parametrize(
    ("to", "url", "leads"),
    [
        ("https://new.example", "http://old.example/a?b", "https://new.example"),
        ("https://new.example{path}", "https://old.example/a/b?c", "https://new.example/a/b"),
        ("https://new.example{path}{query}", "https://old.example/a?b=c&d", "https://new.example/a?b=c&d"),
        ("https://new.example{path}{query}", "https://old.example/a", "https://new.example/a"),
        ("https://{host}{path}{query}", "http://old.example:8080/a?b", "https://old.example/a?b"),
        ("https://{host}:8443/x", "http://[2001:db8::1]/", "https://[2001:db8::1]:8443/x"),
        ("https://n.example/from/{host}", "http://old.example/", "https://n.example/from/old.example"),
        (
            "https://n.example?u={url}",
            "https://old.example/a?b&c",
            "https://n.example?u=https%3A%2F%2Fold.example%2Fa%3Fb%26c",
        ),
        ("https://n.example/?p={path}&x=1", "https://o.example/a&x=2", "https://n.example/?p=%2Fa%26x%3D2&x=1"),
        ("https://n.example/?q={query}", "https://o.example/?a=%20", "https://n.example/?q=%3Fa%3D%2520"),
        ("https://n.example{path}", "https://o.example/a%20b%0D%0A", "https://n.example/a%20b%0D%0A"),
        ("https://n.example{path}", "https://o.example//evil.example/", "https://n.example//evil.example/"),
        ("https://n.example{path}", "https://o.example/'\"<>\\^`{|}", "https://n.example/'%22%3C%3E%5C%5E%60%7B%7C%7D"),
        ("https://[2001:db8::2]{path}", "https://o.example/a", "https://[2001:db8::2]/a"),
        ("https://n.example/#{path}", "https://o.example/a", "https://n.example/#/a"),
    ],
)
def test_a_request_leads_to(to: str, url: str, leads: str) -> None:
    assert location(to, url) == leads


def test_a_target_without_a_path_has_the_root() -> None:
    message = a_message("https://o.example/")
    message.request.target = b"*"
    assert Redirect(RedirectOptions(to="https://n.example{path}")).location(message) == "https://n.example/"


@given(st.binary(max_size=30))
def test_no_target_leads_to_another_host_or_field(rest: bytes) -> None:
    message = a_message("https://o.example/")
    message.request.target = b"/" + rest
    redirect = Redirect(RedirectOptions(to="https://n.example{path}{query}"))
    led = redirect.location(message)
    assert urlsplit(led).netloc == "n.example"
    assert led.isascii()
    assert not any(character.isspace() or ord(character) < 32 for character in led)
    asked = Redirect(RedirectOptions(to="https://n.example/?back={url}&x=1")).location(message)
    assert set(parse_qs(urlsplit(asked).query, keep_blank_values=True)) == {"back", "x"}


@pytest.mark.parametrize("status", ["301", "302", "303", "307", "308"])
def test_a_request_is_answered_and_not_forwarded(status: str) -> None:
    exchange = Exchange(Redirect(RedirectOptions(to="https://n.example", status=status)), method="POST")
    assert exchange.answer is not None
    assert (exchange.answer.status, exchange.answer.body) == (int(status), b"")


def test_a_response_may_be_answered_too() -> None:
    match = parse_with(CONDITIONS_OF_MESSAGES, "status:404")
    exchange = Exchange(Redirect(RedirectOptions(to="https://n.example/gone")), match=match)
    assert exchange.answer is None
    exchange.respond(404)
    assert exchange.answer is not None
    assert exchange.answer.status == 302


@pytest.mark.parametrize(
    ("to", "url"),
    [
        ("https://{host}{path}{query}", "https://www.example/a?b"),
        ("https://www.example{path}", "https://www.example/a"),
        ("https://WWW.example:443/", "https://www.example/"),
        ("https://www.example", "https://www.example/"),
        ("https://www.example./#top", "https://www.example/"),
        ("http://{host}:8080{path}", "http://www.example:8080//"),
    ],
)
def test_a_request_is_not_sent_to_where_it_is(to: str, url: str) -> None:
    message = a_message(url)
    Redirect(RedirectOptions(to=UNIT(to))).transform(message)
    assert message.answered is None
    assert message.notes == {"redirect": "not sent to itself"}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://a.example/", "http://a.example/"),
        ("https://a.example/", "https://a.example:8443/"),
        ("https://a.example/", "https://b.example/"),
        ("https://a.example/a", "https://a.example/A"),
        ("https://a.example/?a", "https://a.example/?b"),
    ],
)
def test_other_addresses_are_not_the_same(one: str, other: str) -> None:
    assert not same(one, other)


def test_an_address_that_becomes_too_long_is_refused() -> None:
    message = a_message("https://o.example/" + "a" * LONGEST)
    with pytest.raises(MessageError, match="too long") as caught:
        Redirect(RedirectOptions(to="https://n.example{path}")).transform(message)
    assert caught.value.status == 414


def test_a_host_that_is_none_is_no_part_of_an_address() -> None:
    message = a_message()
    message.request.authority = Address("evil.example/x", 443)
    with pytest.raises(MessageError, match="its host is none"):
        Redirect(RedirectOptions(to="https://{host}/")).transform(message)


@pytest.mark.parametrize(
    "to",
    [
        "",
        "/relative",
        "//n.example/",
        "ftp://n.example/",
        "javascript:alert(1)",
        "https://",
        "https://user@n.example/",
        "https://n.example{host}",
        "https://n.example{url}",
        "https://{path}",
        "https://{other}/",
        "https://n.example/{other}",
        "https://n.example/{",
        "https://n.example/ x",
        "https://n.example/é",
        "https://n.example/\r\nSet-Cookie: a",
        "https://n.example:99999/",
        "https://n.example:/",
        "https://[::g]/",
        "https://[1.2.3.4]/",
        "https://n.example/" + "a" * 2048,
    ],
)
def test_an_address_that_is_none_is_refused_at_the_start(to: str) -> None:
    with pytest.raises(NotAllowed):
        UNIT(to)

"""Which messages a transform gets: every condition that only a message can be asked, and those of connections."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sslintercept.rule.match import CONDITIONS, Match, parse_with
from sslintercept.testing.transform import PipeLoop, a_message
from sslintercept.transform.message import Direction, Message
from sslintercept.transform.select import CONDITIONS_OF_MESSAGES, Globs


def parse(text: str) -> Match[Message]:
    return parse_with(CONDITIONS_OF_MESSAGES, text)


def awaited() -> Message:
    """The response to a request, before it has come."""
    sent = a_message()
    return Message(Direction.RESPONSE, sent.request, None, sent.facts, PipeLoop().later, {}, has_body=True)


REQUEST = a_message(
    "https://www.example:8443/a/b.html?q", method="POST", fields={"Content-Type": "Text/HTML", "Content-Length": "1024"}
)
RESPONSE = a_message(status=404, of_response={"Content-Type": "image/png; x=y", "Content-Length": "2048"})
ENDLESS = a_message(status=200)

JUDGED = [
    ("", REQUEST, True),
    ("host:www.example", REQUEST, True),
    ("host:*.example", REQUEST, True),
    ("host:other.example", REQUEST, False),
    ("port:8443", REQUEST, True),
    ("port:443", REQUEST, False),
    ("port:8000-9000", REQUEST, True),
    ("path:/a/b.html", REQUEST, True),
    ("path:/a/*", REQUEST, True),
    ("path:/b/*", REQUEST, False),
    ("path:*q", REQUEST, False),
    ("method:POST", REQUEST, True),
    ("method:get,post", REQUEST, True),
    ("method:GET", REQUEST, False),
    ("direction:request", REQUEST, True),
    ("direction:Response", REQUEST, False),
    ("direction:response", RESPONSE, True),
    ("direction:request,response", RESPONSE, True),
    ("status:404", REQUEST, False),
    ("!status:404", REQUEST, True),
    ("status:404", RESPONSE, True),
    ("status:4xx", RESPONSE, True),
    ("status:4XX", RESPONSE, True),
    ("status:400-499", RESPONSE, True),
    ("status:500-599,200", RESPONSE, False),
    ("type:text/html", REQUEST, True),
    ("type:TEXT/*", REQUEST, True),
    ("type:image/*", REQUEST, False),
    ("type:image/png", RESPONSE, True),
    ("type:*/*", RESPONSE, True),
    ("type:*/*", ENDLESS, False),
    ("size:1KiB-1KiB", REQUEST, True),
    ("size:1025B-", REQUEST, False),
    ("size:-1023B", REQUEST, False),
    ("size:-1KiB", REQUEST, True),
    ("size:0B-", ENDLESS, False),
    ("!size:0B-", ENDLESS, True),
    ("client:192.0.2.0/24", REQUEST, True),
    ("client:198.51.100.0/24", REQUEST, False),
    ("listener:proxy", REQUEST, True),
    ("depth:0", REQUEST, True),
    ("method:POST type:text/html host:www.example", REQUEST, True),
    ("method:POST type:image/png", REQUEST, False),
]


@pytest.mark.parametrize(("text", "message", "answer"), JUDGED)
def test_a_message_is_judged_by(text: str, message: Message, answer: bool) -> None:
    assert parse(text).judge(message) is answer
    assert parse(text).judge(message, True) is answer


@pytest.mark.parametrize(
    "text", ["status:200", "type:text/html", "size:0B-", "!status:200", "type:*/* host:www.example"]
)
def test_what_depends_on_the_response_is_not_yet_known(text: str) -> None:
    assert parse(text).judge(awaited()) is None


@pytest.mark.parametrize("text", ["direction:request", "host:other.example status:200", "method:POST type:*/*"])
def test_a_transform_that_will_never_get_the_response_is_known_before_it_comes(text: str) -> None:
    assert parse(text).judge(awaited()) is False


def test_the_host_is_that_of_the_request_and_not_of_the_connection() -> None:
    message = a_message("https://inner.example/")
    assert parse("host:inner.example").judge(message) is True
    assert parse("host:www.example").judge(message) is False


def test_every_condition_of_rules_is_one_of_messages() -> None:
    assert set(CONDITIONS) < set(CONDITIONS_OF_MESSAGES)
    for name in ("sni", "user", "protocol", "mismatch", "sni_mismatch", "ja4"):
        kind = CONDITIONS_OF_MESSAGES[name]
        assert kind.read(REQUEST) is CONDITIONS[name].read(REQUEST.facts)
        assert kind.needs == CONDITIONS[name].needs


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("status:99", "is not a status"),
        ("status:600", "is not a status"),
        ("status:0xx", "is not a status"),
        ("status:6xx", "is not a status"),
        ("status:xx", "is not a status"),
        ("status:300-200", "ends before it begins"),
        ("type:html", "is not a media type"),
        ("type:text/", "is not a media type"),
        ("type:text/html;x", "is not a media type"),
        ("size:1KiB", "is not a range of sizes"),
        ("size:-", "is not a range of sizes"),
        ("size:2KiB-1KiB", "is not a range of sizes"),
        ("size:1-2", "is not a range of sizes"),
        ("size:1KiB-2KiB-3KiB", "is not a range of sizes"),
        ("direction:up", "is neither request nor response"),
        ("direction:request,both", "is neither request nor response"),
    ],
)
def test_a_value_that_says_nothing_is_refused_with_what_is_allowed(text: str, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        parse(text)


@pytest.mark.parametrize(
    ("glob", "fitting", "others"),
    [
        ("*", ["", "/", "/a"], []),
        ("/a*", ["/a", "/ab"], ["/", "x/a"]),
        ("*.js", [".js", "/x.js"], ["/x.jsx"]),
        ("/a*b*c", ["/abc", "/axbxc", "/abbcc"], ["/acb", "/ab", "/bc"]),
        ("/a*a", ["/aa", "/aba"], ["/a"]),
        ("a**b", ["ab", "axb"], ["a"]),
        ("*ab*ab*", ["abab", "xabyabz"], ["ab", "aab", "abb"]),
    ],
)
def test_a_star_in_a_path_stands_for_anything(glob: str, fitting: list[str], others: list[str]) -> None:
    globs = Globs([glob])
    assert all(globs.find(path) == glob for path in fitting)
    assert all(globs.find(path) is None for path in others)


def test_many_stars_cost_one_pass() -> None:
    assert Globs(["*a" * 200 + "*b"]).find("a" * 30_000) is None
    assert Globs(["*a" * 200 + "*b"]).find("a" * 30_000 + "b") is not None


def test_what_is_found_is_spelled_as_the_rule_spells_it() -> None:
    assert parse("status:4xx").words(RESPONSE) == "status 404 matches 4xx"
    assert parse("type:Image/*").words(RESPONSE) == "type image/png matches Image/*"
    assert parse("size:1KiB-").words(RESPONSE) == "size 2048 matches 1KiB-"


def test_the_page_names_every_condition() -> None:
    page = (Path(__file__).parents[2] / "docs" / "transforms.md").read_text()
    table = page.partition("\n| name | values | looks at |\n")[2].partition("\n\n")[0]
    named = [name for row in table.splitlines()[1:] for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    assert sorted(named) == sorted(CONDITIONS_OF_MESSAGES)

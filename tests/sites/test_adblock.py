"""Adblock's rules about whole sites."""

from __future__ import annotations

import pytest

from sslintercept.sites.adblock import Adblock
from sslintercept.sites.key import network_key
from sslintercept.sites.listing import Entry, Kind


@pytest.mark.parametrize(
    ("line", "entry"),
    [
        (b"||example.com^\n", Entry(b"example.com", Kind.DOMAIN)),
        (b"||Example.com^|", Entry(b"example.com", Kind.DOMAIN)),
        (b"||example.com", Entry(b"example.com", Kind.DOMAIN)),
        (b"@@||good.example.com^", Entry(b"good.example.com", Kind.DOMAIN, True)),
        (b"||example.com^$important,all", Entry(b"example.com", Kind.DOMAIN)),
        (b"||*.example.com^", Entry(b"example.com", Kind.BELOW)),
        (b"||192.0.2.1^", Entry(network_key(b"192.0.2.1") or b"", Kind.NETWORK)),
        (b"||example.com/ads/*", Entry(b"example.com/ads", Kind.PREFIX)),
        (b"@@||example.com/ads$document", Entry(b"example.com/ads", Kind.PREFIX, True)),
        ("||bücher.example^".encode(), Entry(b"xn--bcher-kva.example", Kind.DOMAIN)),
        (b"example.com", Entry(b"example.com", Kind.HOST)),
    ],
)
def test_a_rule_about_a_whole_site_lists_it(line: bytes, entry: Entry) -> None:
    assert Adblock().read(line) == (entry,)


@pytest.mark.parametrize("line", [b"", b"! a comment", b"[Adblock Plus 2.0]", b"# another"])
def test_comments_and_headers_list_nothing(line: bytes) -> None:
    assert Adblock().read(line) == ()


@pytest.mark.parametrize(
    "line",
    [
        b"||example.com^$third-party",
        b"@@||example.com^$script,domain=x.example",
        b"example.com##.banner",
        b"##.banner",
        b"example.com#@#.banner",
        b"example.com#?#div:has(a)",
        b"example.com#$#body { color: red }",
        b"/banner[0-9]+/",
        b"|https://example.com/x",
        b"||ads.*^",
        b"||example.com:8080^",
        b"-banner-ad.",
        b"&ad_type=",
        b"banner",
        b"ads.300",
    ],
)
def test_a_rule_about_anything_else_is_skipped(line: bytes) -> None:
    assert Adblock().read(line) is None


@pytest.mark.parametrize("line", [b"<html>", b"||exa_mple..com^", b"two words.", b"<!DOCTYPE html>"])
def test_what_is_no_rule_is_malformed(line: bytes) -> None:
    with pytest.raises(ValueError):
        Adblock().read(line)

"""Keys: what is the same resource, and what is the same request for it (RFC 9111 2, 4.1)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslintercept.cache.key import MAX_NAMED, MAX_TARGET, key_beside, key_of, variant_of
from sslintercept.facts import Address
from tests.cache.build import ORIGIN, ask

SIX = Address("2001:db8::1", 8080)


@pytest.mark.parametrize(
    ("scheme", "authority", "target", "key"),
    [
        pytest.param("http", ORIGIN, b"/", b"http://a.example:80/", id="http"),
        pytest.param("https", ORIGIN, b"/", b"https://a.example:80/", id="another scheme is another resource"),
        pytest.param("http", SIX, b"/a?b", b"http://[2001:db8::1]:8080/a?b", id="IPv6, a port, a query"),
        pytest.param("http", ORIGIN, b"/%7e/../A", b"http://a.example:80/%7e/../A", id="paths stay as they are"),
        pytest.param("http", ORIGIN, b"*", None, id="no path"),
        pytest.param("", ORIGIN, b"a.example:80", None, id="CONNECT"),
        pytest.param("ftp", ORIGIN, b"/", None, id="no HTTP"),
        pytest.param("http", ORIGIN, b"/a b", None, id="a space"),
        pytest.param("http", ORIGIN, b"/a#b", None, id="a fragment"),
        pytest.param("http", ORIGIN, b"/" * MAX_TARGET, b"http://a.example:80" + b"/" * MAX_TARGET, id="long"),
        pytest.param("http", ORIGIN, b"/" * (MAX_TARGET + 1), None, id="too long"),
    ],
)
def test_the_key_is_scheme_authority_and_path(scheme: str, authority: Address, target: bytes, key: bytes) -> None:
    """RFC 9111 2, RFC 9110 7.1"""
    assert key_of(scheme, authority, target) == key


@pytest.mark.parametrize(
    ("reference", "key"),
    [
        pytest.param(b"/x?y", b"http://a.example:80/x?y", id="a path"),
        pytest.param(b"x", b"http://a.example:80/b/x", id="a relative path"),
        pytest.param(b"../x", b"http://a.example:80/x", id="one with dots"),
        pytest.param(b"?y", b"http://a.example:80/b/c?y", id="a query"),
        pytest.param(b"/x#y", b"http://a.example:80/x", id="a fragment"),
        pytest.param(b"http://A.Example.", b"http://a.example:80/", id="the same origin, spelt otherwise"),
        pytest.param(b"http://a.example:80/x", b"http://a.example:80/x", id="with its port"),
        pytest.param(b"//a.example/x", b"http://a.example:80/x", id="without its scheme"),
        pytest.param(b"https://a.example:80/x", None, id="another scheme"),
        pytest.param(b"http://b.example/x", None, id="another host"),
        pytest.param(b"http://a.example:81/x", None, id="another port"),
        pytest.param(b"http://a.example:0/x", None, id="port 0"),
        pytest.param(b"http://b@a.example/x", None, id="somebody's"),
        pytest.param(b"http://a.example:x/", None, id="a port that is none"),
        pytest.param(b"http://[::/", None, id="an address that is none"),
        pytest.param(b"http://:80/x", None, id="no host"),
        pytest.param(b"mailto:a", None, id="no HTTP"),
        pytest.param(b"/x\ty", None, id="a control"),
        pytest.param(b"/\xe9", None, id="more than ASCII"),
        pytest.param(b"/x y", None, id="a space"),
        pytest.param(b"/" * (MAX_TARGET + 1), None, id="too long"),
    ],
)
def test_a_reference_has_a_key_if_it_is_of_the_same_origin(reference: bytes, key: bytes | None) -> None:
    """RFC 9111 4.4, RFC 9110 4.3.1"""
    assert key_beside("http", ORIGIN, b"/b/c?d", reference) == key


def test_what_has_no_key_has_none_beside_it() -> None:
    assert key_beside("http", ORIGIN, b"*", b"/") is None


@given(st.binary(max_size=60) | st.text("htp:/.@[]#?a\t%", max_size=30).map(str.encode))
def test_no_reference_leads_to_another_origin(reference: bytes) -> None:
    key = key_beside("http", ORIGIN, b"/b", reference)
    assert key is None or key.startswith(b"http://a.example:80/")


ALIKE = [
    pytest.param("Accept-Encoding", "gzip, br", "br,GZIP", True, id="order and case of codings"),
    pytest.param("Accept-Encoding", "gzip, gzip", "gzip", True, id="a coding said twice"),
    pytest.param("Accept-Encoding", "gzip;q=0.5", "gzip ; q=0.5", True, id="white space around a weight"),
    pytest.param("Accept-Encoding", "gzip;q=0.5", "gzip", False, id="a weight"),
    pytest.param("Accept-Encoding", "", "identity", False, id="empty, and something"),
    pytest.param("Accept-Language", "de, EN", "de,en", True, id="case of languages"),
    pytest.param("Accept-Language", "de, en", "en, de", False, id="order of languages"),
    pytest.param("Accept", "text/html, a/b", "text/html,a/b", True, id="white space in Accept"),
    pytest.param("Accept", "text/html", "TEXT/html", False, id="case in Accept, whose parameters may depend on it"),
    pytest.param("Accept", 'a/b;c=" , "', 'a/b;c=","', False, id="white space in a quoted string"),
    pytest.param("Accept", "a/b;c=d, e/f", "a/b ;c=d ,e/f", True, id="white space around parameters"),
    pytest.param("Cookie", "a=b", "a=B", False, id="case of what is not known"),
    pytest.param("Cookie", "a;b", "a; b", False, id="white space in what is not known"),
    pytest.param("X", "a,b", "a, b", False, id="white space in a list that is not known to be one"),
]


@pytest.mark.parametrize(("name", "one", "other", "same"), ALIKE)
def test_requests_match_if_they_say_the_same(name: str, one: str, other: str, same: bool) -> None:
    """RFC 9111 4.1"""
    vary = (name.lower().encode(),)
    first, second = (variant_of(vary, ask(f"{name}: {value}")) for value in (one, other))
    assert first is not None
    assert (first == second) is same


def test_lines_match_what_they_are_when_joined() -> None:
    """RFC 9111 4.1, RFC 9110 5.3"""
    for name in ("X", "Accept"):
        vary = (name.lower().encode(),)
        assert variant_of(vary, ask(f"{name}: a", f"{name}: b")) == variant_of(vary, ask(f"{name}: a, b"))


def test_an_absent_field_matches_an_absent_one_only() -> None:
    """RFC 9111 4.1"""
    vary = (b"accept", b"x")
    assert variant_of(vary, ask()) == ((b"accept", None), (b"x", None))
    assert variant_of(vary, ask("X:")) == ((b"accept", None), (b"x", b""))


def test_fields_that_vary_does_not_name_say_nothing() -> None:
    """RFC 9111 4.1"""
    assert variant_of((), ask("Accept: a")) == variant_of((), ask("Accept: b")) == ()


def test_a_request_that_says_too_much_matches_nothing() -> None:
    assert variant_of((b"x",), ask(f"X: {'a' * MAX_NAMED}")) is not None
    assert variant_of((b"x",), ask(f"X: {'a' * MAX_NAMED}b")) is None

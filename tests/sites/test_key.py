"""One spelling for hosts, networks and URLs."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslintercept.sites.key import (
    MAX_TARGET,
    address_of,
    asked_key,
    authority_key,
    host_key,
    name_key,
    network_key,
    prefix_key,
    shown,
    target_key,
    url_key,
)

LABEL = st.text("abcxyz019-_", min_size=1, max_size=12)
NAME = st.lists(LABEL, min_size=1, max_size=5).map(".".join).filter(lambda name: not name.split(".")[-1].isdigit())


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (b"Example.COM", b"example.com"),
        (b"example.com.", b"example.com"),
        ("bücher.example".encode(), b"xn--bcher-kva.example"),
        ("BÜCHER。example".encode(), b"xn--bcher-kva.example"),
        (b"xn--bcher-kva.example", b"xn--bcher-kva.example"),
        (b"_dmarc.-odd-.example", b"_dmarc.-odd-.example"),
    ],
)
def test_a_name_has_one_spelling(text: bytes, key: bytes) -> None:
    assert name_key(text) == key


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b".",
        b"a..b",
        b"a b.example",
        b"1.2.3.4",
        b"x.256",
        b"a" * 64 + b".example",
        b"\xff.example",
        b"\xc3\xbc" * 9000,
    ],
)
def test_what_is_no_name_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError):
        name_key(text)


@given(NAME)
def test_a_name_in_any_case_and_with_a_dot_is_found_by_its_key(name: str) -> None:
    assert asked_key(name.upper() + ".") == name_key(name.encode()) == name_key(name.upper().encode() + b".")


def test_a_name_that_no_list_could_spell_has_no_key() -> None:
    assert asked_key("a" * 255) is None
    assert asked_key("\ud800.example") is None


@given(st.ip_addresses(), st.integers(0, 128))
def test_an_address_lies_in_the_network_that_a_list_spells(address: object, length: int) -> None:
    literal = str(address)
    network = ip_network(literal).supernet(new_prefix=length % (ip_network(literal).max_prefixlen + 1))
    key = network_key(str(network).encode())
    assert key is not None
    found = address_of(literal)
    assert found is not None
    if len(found) == key[0]:  # an IPv4-mapped address in a network that is wider than all of them does not count
        assert prefix_key(found, key[1]) == key


def test_ipv4_written_as_ipv6_is_ipv4() -> None:
    assert address_of("::ffff:192.0.2.1") == address_of("192.0.2.1") == ip_address("192.0.2.1").packed
    assert network_key(b"::ffff:192.0.2.0/120") == network_key(b"192.0.2.0/24")
    assert address_of("[2001:db8::1]") == address_of("2001:DB8::1")


@pytest.mark.parametrize("host", ["example.com", "1.2.3", "256.1.1.1", "a1", "", "cafe::zz"])
def test_what_is_no_address_is_none(host: str) -> None:
    assert address_of(host) is None


@pytest.mark.parametrize(
    ("text", "key", "scheme"),
    [
        (b"http://Example.com", b"example.com/", "http"),
        (b"HTTPS://example.com:443/A?b", b"example.com/A?b", "https"),
        (b"http://example.com:443/", b"example.com:443/", "http"),
        (b"example.com:80/x", b"example.com/x", ""),
        (b"example.com:8080/x#part", b"example.com:8080/x", ""),
        (b"http://user:word@192.0.2.1:81/Mozi.m", b"192.0.2.1:81/Mozi.m", "http"),
        (b"http://[2001:DB8::0:1]/x", b"[2001:db8::1]/x", "http"),
        (b"ftp://example.com:21/%7efile", b"example.com/~file", "ftp"),
        (b"http://example.com?q=%41", b"example.com/?q=A", "http"),
    ],
)
def test_a_url_has_one_spelling(text: bytes, key: bytes, scheme: str) -> None:
    assert url_key(text) == (key, scheme)


@pytest.mark.parametrize(
    "text", [b"", b"/x", b"http://", b"http:///x", b"mailto:x", b"http://a:99999/", b"http://a:0/"]
)
def test_what_is_no_url_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError):
        url_key(text)


@pytest.mark.parametrize(
    ("target", "key"),
    [
        (b"", b"/"),
        (b"/a/./b/../c", b"/a/c"),
        (b"/a/%2e%2E/c/", b"/c/"),
        (b"/../../x", b"/x"),
        (b"//a///b", b"/a/b"),
        (b"/a/..", b"/"),
        (b"/a%2fb%zz", b"/a%2Fb%25zz"),
        (b"/\xc3\xbc \\", b"/%C3%BC%20%5C"),
        (b"/x?a/../b=%7E%3d", b"/x?a/../b=~%3D"),
        (b"/x?", b"/x?"),
    ],
)
def test_a_target_has_one_spelling(target: bytes, key: bytes) -> None:
    assert target_key(target) == key


@given(st.text("/.%2eE5a?#é\\").map(lambda text: b"/" + text.encode()))
def test_the_one_spelling_is_its_own(target: bytes) -> None:
    once = target_key(target)
    assert target_key(once) == once


@given(st.text("/ab.~-_", max_size=20).map(lambda text: b"/" + text.encode()), st.data())
def test_percent_encoding_of_unreserved_characters_changes_nothing(target: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(target) - 1))
    if target[at] != ord("/"):
        spelled = b"%s%%%02x%s" % (target[:at], target[at], target[at + 1 :])
        assert target_key(spelled) == target_key(target)


def test_a_long_target_is_cut() -> None:
    assert target_key(b"/" + b"a" * MAX_TARGET * 2) == b"/" + b"a" * (MAX_TARGET - 1)


def test_the_scheme_decides_which_port_is_left_out() -> None:
    assert authority_key("https", b"example.com", 443) == b"example.com"
    assert authority_key("https", b"example.com", 80) == b"example.com:80"
    assert authority_key("http", b"[::1]", None) == b"[::1]"
    assert authority_key("", b"example.com", 443) == authority_key("", b"example.com", 80) == b"example.com"
    assert authority_key("gopher", b"example.com", 70) == b"example.com:70"


def test_a_host_of_a_url_is_a_name_or_an_address_in_one_spelling() -> None:
    assert host_key("Example.com.") == b"example.com"
    assert host_key("2001:DB8:0::1") == host_key("[2001:db8::1]") == b"[2001:db8::1]"
    assert host_key("::ffff:192.0.2.1") == b"192.0.2.1"
    assert host_key("") is None


def test_keys_are_shown_as_people_write_them() -> None:
    for text in ("192.0.2.1", "192.0.2.0/24", "2001:db8::/32"):
        key = network_key(text.encode())
        assert key is not None
        assert shown(key) == text
    assert shown(b"example.com/x") == "example.com/x"

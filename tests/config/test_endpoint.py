"""Endpoint strings: what they mean, what is no such string, and which two cannot be open at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslintercept.config.endpoint import Endpoint, parse


@pytest.mark.parametrize(
    ("text", "kind", "host", "port"),
    [
        ("tcp:8080", "tcp", "0.0.0.0", 8080),
        ("tcp:8080:interface=127.0.0.1", "tcp", "127.0.0.1", 8080),
        ("tcp:8080:127.0.0.1:100", "tcp", "127.0.0.1", 8080),
        (r"tcp:interface=\:\:1:port=0:backlog=5", "tcp", "::1", 0),
        ("tcp6:8443", "tcp6", "::", 8443),
        ("tcp6:8443:50:::1".replace(":::1", r":\:\:1"), "tcp6", "::1", 8443),
        ("udp:53", "udp", "0.0.0.0", 53),
        ("udp6:53:interface=fd00\\:\\:1", "udp6", "fd00::1", 53),
        ("systemd:domain=INET6:name=proxy", "systemd", "", 0),
        ("systemd:INET:0", "systemd", "", 0),
    ],
)
def test_an_endpoint_says_where_it_is(text: str, kind: str, host: str, port: int) -> None:
    assert parse(text) == Endpoint(kind, host, port)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "not an endpoint"),
        ("tcp", "not an endpoint"),
        ("tcp:", "not an endpoint"),
        ("ssl:443:privateKey=x.pem", "write tcp, and accept = tls"),
        ("unix:/run/proxy", "unix is no kind of endpoint that is served"),
        ("haproxy:tcp:1", "haproxy is no kind"),
        ("tcp:1:2:3:4", "tcp takes 3 arguments at most: port, interface, backlog"),
        ("tcp:1:iface=eth0", "tcp takes no iface; it takes port, interface, backlog"),
        ("udp:1:backlog=5", "udp takes no backlog"),
        ("tcp:1:port=2", "port is given twice"),
        ("tcp:65536", "no port from 0 to 65535"),
        ("tcp:interface=127.0.0.1", "no port from 0 to 65535"),
        ("tcp:1:backlog=many", "backlog is no number"),
        ("systemd:domain=UNIX:name=x", "domain is neither INET nor INET6"),
        ("systemd:domain=INET", "give either index or name"),
        ("systemd:domain=INET:name=x:index=0", "give either index or name"),
        ("systemd:domain=INET:index=x", "index is no number"),
    ],
)
def test_what_is_no_endpoint_is_told_in_words(text: str, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        parse(text)


@pytest.mark.parametrize(
    ("one", "other", "collide"),
    [
        ("tcp:1", "tcp:1", True),
        ("tcp:1", "tcp:2", False),
        ("tcp:0", "tcp:0", False),
        ("tcp:1", "udp:1", False),
        ("tcp:1", "tcp:1:interface=127.0.0.1", True),
        ("tcp:1:interface=127.0.0.2", "tcp:1:interface=127.0.0.1", False),
        ("tcp6:1", "tcp:1", True),
        ("tcp6:1", "tcp:1:interface=127.0.0.1", True),
        ("tcp6:1:interface=\\:\\:1", "tcp:1", False),
        ("udp6:1", "udp:1", False),
        ("udp6:1", "udp6:1:interface=\\:\\:1", True),
        ("tcp:1:interface=localhost", "tcp:1:interface=127.0.0.1", False),
        ("systemd:INET:0", "systemd:INET:1", False),
    ],
)
def test_two_ports_collide_on_one_address_or_where_one_is_on_all(one: str, other: str, collide: bool) -> None:
    assert parse(one).collides(parse(other)) is collide
    assert parse(other).collides(parse(one)) is collide


@given(st.sampled_from(["tcp:", "udp6:", "systemd:", ""]), st.text(alphabet="portinefac0123456789:=.\\") | st.text())
def test_any_text_is_understood_or_refused_in_words(kind: str, rest: str) -> None:
    try:
        found = parse(kind + rest)
    except ValueError:
        return
    assert 0 <= found.port <= 65535

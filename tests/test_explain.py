"""What a request would meet, told without making it."""

from __future__ import annotations

from pathlib import Path

import pytest

from sslintercept.errors import ConfigError
from sslintercept.explain import explain, listener_of, question
from sslintercept.load import load

PROXY = "[listen:proxy]\nendpoint = tcp:8080:interface=127.0.0.1\n"
FIXED = "[listen:mail]\nendpoint = tcp:9930\ntarget = mail.example:993\n"
NAMED = "[listen:names]\nendpoint = tcp:4443\ntarget = sni\n"
REDIRECTED = "[listen:redirected]\nendpoint = tcp6:8443\ntarget = original\n"
DATAGRAMS = "[listen:dns]\nendpoint = udp:53\ntarget = 192.0.2.53:53\n"
DENY = "[http]\nprivate_destinations = deny\n"


def told(
    folder: Path, text: str, url: str, *, listener: str | None = None, client: str = "192.0.2.1", sni: str | None = None
) -> list[str]:
    (folder / "hosts").write_text("10.0.0.7 inside.test\n127.0.0.1 here.test\n")
    (folder / "x.ini").write_text(f"{text}\n[dns]\nhosts = hosts\n")
    settings = load(folder / "x.ini")
    return list(explain(settings, question(url, client, sni), listener_of(settings, listener)))


def test_a_proxy_that_clients_know_is_named_its_destination(tmp_path: Path) -> None:
    rule = "[rule:banks]\nmatch = host:.bank.example !client:10.0.0.0/8 mismatch:no\naction = tunnel\n"
    lines = told(tmp_path, PROXY + rule, "https://www.bank.example/account")
    assert lines == [
        "listener proxy (tcp:8080:interface=127.0.0.1), client 192.0.2.1",
        "the client says CONNECT",
        "destination www.bank.example:443, server name www.bank.example",
        "probe: the first bytes are those of tls (RFC 8446 5.1), and port 443 is for https",
        "  rule banks (line 3), tunnel: decides, because host www.bank.example matches .bank.example, "
        "client 192.0.2.1 does not match 10.0.0.0/8, mismatch is no",
        "  rule default, intercept: not reached",
        "decision: tunnel, rule banks: host www.bank.example matches .bank.example, "
        "client 192.0.2.1 does not match 10.0.0.0/8, mismatch is no",
    ]
    assert "the client asks for the whole URL" in told(tmp_path, PROXY, "http://a.test/")
    assert "the client says SOCKS 5" in told(tmp_path, PROXY + "accept = socks5\n", "https://a.test/")


def test_the_default_is_the_first_listener_that_clients_may_name_destinations_to(tmp_path: Path) -> None:
    assert told(tmp_path, FIXED + PROXY, "https://a.test/")[0].startswith("listener proxy ")
    assert told(tmp_path, FIXED + DATAGRAMS, "https://a.test/")[0].startswith("listener mail ")
    assert told(tmp_path, FIXED + PROXY, "https://a.test/", listener="mail")[0].startswith("listener mail ")
    with pytest.raises(ConfigError, match="no listener none; there are mail, proxy"):
        told(tmp_path, FIXED + PROXY, "https://a.test/", listener="none")


def test_a_fixed_target_is_where_everybody_is_sent(tmp_path: Path) -> None:
    lines = told(tmp_path, FIXED, "https://whatever.test/", sni="mail.example")
    assert "everybody is sent to mail.example:993" in lines
    assert "destination mail.example:993, server name mail.example" in lines
    assert "probe: the first bytes are those of tls (RFC 8446 5.1), and port 993 is for imaps" in lines


def test_a_listener_by_server_name_has_a_port_of_its_own(tmp_path: Path) -> None:
    lines = told(tmp_path, NAMED, "https://a.test:8443/")
    assert "destination a.test:4443, server name a.test" in lines
    assert told(tmp_path, NAMED, "http://a.test/")[-1] == "refused: without a server name nobody knows where it leads"
    assert told(tmp_path, NAMED, "https://192.0.2.7/")[-1].startswith("refused: without a server name")


def test_redirected_clients_come_with_an_address(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"come with an address and no name .*--sni a.test"):
        told(tmp_path, REDIRECTED, "https://a.test/")
    lines = told(tmp_path, REDIRECTED, "https://8.8.8.8/", sni="a.test")
    assert "destination 8.8.8.8:443, server name a.test" in lines


def test_datagrams_are_judged_as_datagrams(tmp_path: Path) -> None:
    rule = "[rule:quic]\nmatch = protocol:quic\naction = block\n"
    lines = told(tmp_path, DATAGRAMS + rule, "https://a.test/", listener="dns")
    assert "destination 192.0.2.53:53" in lines
    assert lines[-1] == "decision: block, rule quic: protocol quic matches quic"


def test_a_mismatch_is_seen_by_rules(tmp_path: Path) -> None:
    rule = "[rule:odd]\nmatch = mismatch:yes\naction = block\n"
    assert told(tmp_path, PROXY + rule, "https://a.test:25/")[-1] == "decision: block, rule odd: mismatch is yes"
    assert "decision: intercept" in told(tmp_path, PROXY + rule, "https://a.test/")[-2]


def test_ports_that_connect_may_not_name_end_it_before_the_rules(tmp_path: Path) -> None:
    ports = "[http]\nconnect_ports = 443\n"
    assert "refused with 403" in told(tmp_path, PROXY + ports, "https://a.test:25/")[-1]
    for text, url in ((PROXY, "http://a.test:25/"), (PROXY + "accept = socks5\n", "https://a.test:25/")):
        assert "refused" not in "\n".join(told(tmp_path, text + ports, url)[:-1])


@pytest.mark.parametrize(
    ("text", "url", "refused"),
    [
        (PROXY + DENY, "https://10.0.0.1/", "10.0.0.1 is in a private network; see [http] private_destinations"),
        (PROXY + DENY, "https://inside.test/", "10.0.0.7 is in a private network; see [http] private_destinations"),
        (PROXY + DENY, "https://localhost/", "127.0.0.1 is in a private network; see [http] private_destinations"),
        (PROXY + DENY, "https://outside.test/", ""),
        (PROXY, "https://10.0.0.1/", ""),
        (PROXY, "https://127.0.0.1:8080/", "the destination is this proxy itself; name another destination"),
        (PROXY, "http://here.test:8080/", "the destination is this proxy itself; name another destination"),
        (PROXY, "https://127.0.0.1:8081/", ""),
        (DENY + "[listen:in]\nendpoint = tcp:25\ntarget = inside.test:993\n", "https://a.test/", ""),
    ],
)
def test_where_nobody_is_led_is_told(tmp_path: Path, text: str, url: str, refused: str) -> None:
    last = told(tmp_path, text, url)[-1]
    assert last == f"refused with 403: {refused}" if refused else "refused with" not in last


def test_the_parent_is_told_who_looks_names_up_himself(tmp_path: Path) -> None:
    parent = "[parent:up]\nproxy = http\naddress = parent.test:3128\nmatch = host:.test\n"
    lines = told(tmp_path, PROXY + DENY + parent, "https://inside.test/")
    assert "way: by http parent.test:3128, parent up" in lines
    assert lines[-1].startswith("TLS: towards the client 1.2 or newer")
    direct = "[parent:none]\nproxy = direct\n"
    assert "way: straight, parent none" in told(tmp_path, PROXY + direct, "https://a.test/")


def test_transforms_are_named_with_what_they_get(tmp_path: Path) -> None:
    sections = "".join(
        f"[transform:{name}]\nuse = null\nmatch = {match}\n"
        for name, match in (
            ("all", ""),
            ("up", "direction:request path:/a/*"),
            ("down", "direction:response host:a.test"),
            ("pages", "type:text/html"),
            ("none", "host:b.test"),
        )
    )
    lines = told(tmp_path, PROXY + sections, "https://a.test/a/b c?d=\u00e9")
    assert lines[-5:] == [
        "transform all (null): the request and the response",
        "transform up (null): the request",
        "transform down (null): the response",
        "transform pages (null): the response, depending on what that is",
        "transform none (null): nothing of it",
    ]
    blocked = told(tmp_path, PROXY + sections + "[rule:b]\naction = block\n", "https://a.test/")
    assert not any(line.startswith("transform") for line in blocked)


def test_inspectors_are_named_with_what_they_get(tmp_path: Path) -> None:
    sections = "".join(
        f"[inspect:{name}]\nuse = {use}\nmatch = {match}\n"
        for name, use, match in (
            ("all", "dlp", ""),
            ("leaks", "dlp", "direction:upload carrier:http path:/a/*"),
            ("virus", "tests.inspect.stubs:evil", "direction:download type:application/*"),
            ("mails", "phishing", "carrier:mail"),
            ("talks", "dlp", "carrier:websocket direction:upload"),
            ("others", "dlp", "host:b.test"),
        )
    )
    lines = told(tmp_path, PROXY + sections, "https://a.test/a/b")
    assert lines[-6:] == [
        "inspected by all (dlp): the request, the response and messages over WebSocket",
        "inspected by leaks (dlp, match direction:upload carrier:http path:/a/*): the request",
        "inspected by virus (tests.inspect.stubs:evil, match direction:download type:application/*): "
        "the response, depending on what that is and messages over WebSocket",
        "inspected by mails (phishing, match carrier:mail): nothing of it",
        "inspected by talks (dlp, match carrier:websocket direction:upload): messages over WebSocket",
        "inspected by others (dlp, match host:b.test): nothing of it",
    ]
    tunnelled = told(tmp_path, PROXY + sections + "[rule:t]\naction = tunnel\n", "https://a.test/")
    assert not any(line.startswith("inspected") for line in tunnelled)


def test_a_parent_may_be_chosen_by_a_category(tmp_path: Path) -> None:
    (tmp_path / "far").write_text("far.test\n")
    lists = "[sites:far]\npath = far\n[parent:far]\nmatch = category:far\nproxy = http\naddress = 192.0.2.9:3128\n"
    assert "way: by http 192.0.2.9:3128, parent far" in told(tmp_path, PROXY + lists, "https://www.far.test/")
    assert not [line for line in told(tmp_path, PROXY + lists, "https://near.test/") if line.startswith("way: ")]


def test_a_rule_that_warns_tells_what_comes_of_it(tmp_path: Path) -> None:
    rule = "[rule:w]\nmatch = host:a.test\naction = warn\nwarn_for = 90m\n"
    lines = told(tmp_path, PROXY + rule, "https://a.test/")
    at = lines.index("decision: warn, rule w: host a.test matches a.test")
    assert lines[at + 1] == (
        "warning: a page asks first; who continues is not asked again for 1 h 30 min. What is not HTTP is blocked"
    )
    assert lines[at + 2].startswith("TLS: towards the client 1.2 or newer")
    lines = told(tmp_path, DATAGRAMS + "[rule:w]\naction = warn\n", "https://192.0.2.53:53/", listener="dns")
    assert lines[-1] == "warning: blocked, datagrams carry no page"

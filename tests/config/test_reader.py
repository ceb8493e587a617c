"""From files to settings, and from mistakes to lines that say what to do."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslintercept.config import endpoint, reader, schema
from sslintercept.config.reader import MOST_MISTAKES, Checks, ConfigMistakes, Mistake, find, nearest, read
from sslintercept.config.schema import ListenSettings, RuleSettings, Settings
from sslintercept.errors import ConfigError
from sslintercept.facts import Address
from sslintercept.load import load


@pytest.fixture
def ini(tmp_path: Path) -> Path:
    return tmp_path / "etc" / "x.ini"


def settings(ini: Path, text: str) -> Settings:
    ini.parent.mkdir(exist_ok=True)
    ini.write_text(text, encoding="utf-8")
    return read(ini)


def mistakes(ini: Path, text: str) -> list[str]:
    """Every mistake as text, without the folder."""
    with pytest.raises(ConfigMistakes) as caught:
        settings(ini, text)
    return [line.removeprefix(f"{ini.parent}/") for line in str(caught.value).split("\n")]


def test_an_empty_file_gives_the_defaults(ini: Path, tmp_path: Path) -> None:
    s = settings(ini, "")
    assert (s.path, s.generation, s.warnings, s.rules) == (ini, 1, (), ())
    assert (s.state_dir, s.workers, s.max_connections, s.drain_timeout) == (tmp_path / "var", 1, 30000, 30.0)
    assert s.listeners == (
        ListenSettings("proxy", "tcp:8080:interface=127.0.0.1", ("http", "tls", "socks4", "socks5"), None, line=0),
    )
    assert s.ca == schema.CaSettings(
        tmp_path / "var/ca.pem", tmp_path / "var/ca.key", "p256", 30 * 86400.0, "sslintercept CA"
    )
    assert s.proxy_tls == schema.ProxyTlsSettings(None, None)
    assert s.client_tls == schema.ClientTlsSettings("1.2", 4, False, 3, 86400.0)
    assert s.upstream_tls == schema.UpstreamTlsSettings("system", None, "1.2", "require", "adaptive", 600.0)
    assert s.dns == schema.DnsSettings("system", Path("/etc/resolv.conf"), Path("/etc/hosts"))
    assert s.tunnel == schema.TunnelSettings(300.0, 65536, 32768)
    assert s.probe == schema.ProbeSettings(10.0, 0.3, 65536, "tunnel")
    assert s.http == schema.HttpSettings(
        10.0, 60.0, 120.0, 65536, None, "allow", 10.0, 15.0, "sslintercept", 60.0, 256, 32
    )
    assert s.cache == schema.CacheSettings(None, 2**30, 64 * 2**20, False, 4 * 2**30, 0.0)
    assert s.aio == schema.AioSettings("auto", 8)
    assert s.log == schema.LogSettings("-", "json", True, None, None)
    assert s.admin == schema.AdminSettings()


def test_the_ca_lies_in_the_state_folder_unless_it_is_placed_elsewhere(ini: Path, tmp_path: Path) -> None:
    moved = settings(ini, "[sslintercept]\nstate_dir = /srv/state\n")
    assert (moved.ca.certificate, moved.ca.key) == (Path("/srv/state/ca.pem"), Path("/srv/state/ca.key"))
    placed = settings(ini, "[sslintercept]\nstate_dir = /srv/state\n[ca]\nkey = own.key\n")
    assert (placed.ca.certificate, placed.ca.key) == (Path("/srv/state/ca.pem"), tmp_path / "etc/own.key")


def test_every_key_can_be_given_another_value(ini: Path, tmp_path: Path) -> None:
    s = settings(
        ini,
        """\
[sslintercept]
state_dir = /srv/state
workers = 4
max_connections = 10
drain_timeout = 0s
[listen:in]
endpoint = tcp:3128
accept = http
[listen:mail]
endpoint = tcp:9993
accept = tls
target = Mail.example:993
[listen:nat]
endpoint = tcp:9443
target = original
[listen:names]
endpoint = tcp:9444
target = sni
[ca]
certificate = a.pem
key = /b.key
key_type = rsa2048
leaf_lifetime = 99d
name = Our own CA
[proxy-tls]
certificate = c.pem
key = c.key
[client-tls]
min_version = 1.3
max_layers = 16
learn = on
learn_after = 1
learn_for = 1h
[upstream-tls]
trust = roots.pem
extra_trust = more.pem
min_version = 1.3
verify = report
handshake_order = client-first
remember = 0s
[dns]
servers = 192.0.2.53, [2001:db8::1]:5353, 2001:db8::2
resolv_conf = resolv.conf
hosts = hosts
search = One.example, two.example
rotate = on
tcp = on
tls = Dns.example
mix_case = off
families = ipv4
timeout = 1s
cache_size = 10
serve_stale = 0s
rebinding = allow
strip_ech = off
[dns-for:corp]
domains = corp.example, Other.example
servers = 192.0.2.54, 192.0.2.55:5353
rotate = on
[tunnel]
idle_timeout = 1m
high_water = 1B
low_water = 1B
[probe]
timeout = 1s
silence = 0s
limit = 1KiB
unknown = close
[http]
header_timeout = 1s
response_timeout = 2s
keep_alive_timeout = 3s
max_header = 1KiB
connect_ports = 443, 8443
private_destinations = deny
connect_timeout = 4s
tls_timeout = 5s
via = off
pool_idle = 6s
pool_size = 7
pool_per_origin = 8
[aio]
engine = threads
threads = 32
[log]
access = access.log
format = squid
connections = off
sequence = seq
keylog = keys.log
""",
    )
    here = tmp_path / "etc"
    assert (s.state_dir, s.workers, s.max_connections, s.drain_timeout) == (Path("/srv/state"), 4, 10, 0.0)
    every = ("http", "tls", "socks4", "socks5")
    assert s.listeners == (
        ListenSettings("in", "tcp:3128", ("http",), None),
        ListenSettings("mail", "tcp:9993", ("tls",), Address("mail.example", 993)),
        ListenSettings("nat", "tcp:9443", every, "original"),
        ListenSettings("names", "tcp:9444", every, "sni"),
    )
    assert [listener.line for listener in s.listeners] == [6, 9, 13, 16]
    assert s.ca == schema.CaSettings(here / "a.pem", Path("/b.key"), "rsa2048", 99 * 86400.0, "Our own CA")
    assert s.proxy_tls == schema.ProxyTlsSettings(here / "c.pem", here / "c.key")
    assert s.client_tls == schema.ClientTlsSettings("1.3", 16, True, 1, 3600.0)
    assert s.upstream_tls == schema.UpstreamTlsSettings(
        here / "roots.pem", here / "more.pem", "1.3", "report", "client-first", 0.0
    )
    servers = (Address("192.0.2.53", 53), Address("2001:db8::1", 5353), Address("2001:db8::2", 53))
    assert s.dns == schema.DnsSettings(
        *(servers, here / "resolv.conf", here / "hosts", ("one.example", "two.example"), True, True, "dns.example"),
        *(False, "ipv4", 1.0, 10, 0.0, "allow", False),
    )
    (split,) = s.split_dns
    assert (split.name, split.domains, split.rotate) == ("corp", ("corp.example", "other.example"), True)
    assert split.servers == (Address("192.0.2.54", 53), Address("192.0.2.55", 5353))
    assert s.tunnel == schema.TunnelSettings(60.0, 1, 1)
    assert s.probe == schema.ProbeSettings(1.0, 0.0, 1024, "close")
    assert s.http == schema.HttpSettings(1.0, 2.0, 3.0, 1024, (443, 8443), "deny", 4.0, 5.0, "off", 6.0, 7, 8)
    assert s.aio == schema.AioSettings("threads", 32)
    assert s.log == schema.LogSettings(str(here / "access.log"), "squid", False, here / "seq", here / "keys.log")


def test_workers_auto_is_one_for_each_core_we_may_use(ini: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 2, 5})
    assert settings(ini, "[sslintercept]\nworkers = auto\n").workers == 3
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(500)))
    assert settings(ini, "[sslintercept]\nworkers = auto\n").workers == 64


def test_settings_cannot_be_changed_and_count_their_generation(ini: Path) -> None:
    settings(ini, "")
    s = read(ini, generation=7)
    assert s.generation == 7
    with pytest.raises(dataclasses.FrozenInstanceError):
        s.http.via = "other"  # type: ignore[misc]  # that is the test
    assert not hasattr(s, "__dict__")


def test_the_path_is_absolute_wherever_one_stands(ini: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings(ini, "")
    monkeypatch.chdir(ini.parent.parent)
    s = read(Path("etc/x.ini"))
    assert (s.path, s.state_dir) == (ini, ini.parent.parent / "var")


# rules


def test_rules_keep_their_order_their_text_and_their_line(ini: Path) -> None:
    text = (
        "[rule:b]\nmatch = host:a,\n   b  port:443\naction = tunnel\n\n"
        "[rule:a]\nmatch =\naction = block\n[rule:c]\naction = intercept\n"
    )
    assert settings(ini, text).rules == (
        RuleSettings("b", "host:a, b port:443", "tunnel", 1),
        RuleSettings("a", "", "block", 6),
        RuleSettings("c", "", "intercept", 9),
    )


def test_a_match_is_judged_by_whoever_knows_matches(ini: Path) -> None:
    asked: list[str] = []

    def check(text: str) -> None:
        asked.append(text)
        if text == "bad":
            raise ValueError("'bad' is no condition")

    settings(ini, "[rule:a]\nmatch = fine\naction = block\n[rule:b]\nmatch = bad\naction = block\n")
    with pytest.raises(ConfigMistakes) as caught:
        read(ini, Checks(check, check, type, check, type))
    assert asked == ["fine", "bad"]
    assert caught.value.mistakes == (Mistake(str(ini), 5, "rule:b", "match", "bad", "'bad' is no condition"),)
    assert str(caught.value) == f"{ini}:5: [rule:b] match = bad: 'bad' is no condition"


def test_a_rule_needs_an_action(ini: Path) -> None:
    assert mistakes(ini, "[http]\n[rule:a]\nmatch = x\n") == [
        "x.ini:2: [rule:a] action: missing; allowed: intercept, tunnel, block or warn"
    ]


# mistakes


def test_a_mistake_says_where_what_and_what_is_allowed(ini: Path) -> None:
    assert mistakes(ini, "\n[http]\nheader_timeout = 10parsecs ; long\n") == [
        "x.ini:3: [http] header_timeout = 10parsecs: not a duration; "
        "allowed: a number with ms, s, m, h or d, from 1ms to 30d"
    ]


def test_all_mistakes_are_listed_in_the_order_of_lines(ini: Path) -> None:
    text = """\
[tunnel]
low_water = 65KiB
[htpp]
whatever = 1
[http]
max_header = 2MiB
haeder_timeout = 10s
max_header = 3MiB
nonsense
[listen:a]
accept = https
"""
    every = "a list with commas, each item http, tls, socks4, socks5 or dns"
    assert mistakes(ini, text) == [
        "x.ini:2: [tunnel] low_water: above high_water; allowed: at most high_water",
        "x.ini:3: [htpp]: unknown section; the nearest is [http]",
        "x.ini:6: [http] max_header = 2MiB: too large; "
        "allowed: a whole number with B, KiB, MiB or GiB, from 1KiB to 1MiB",
        "x.ini:7: [http] haeder_timeout: unknown key; the nearest is header_timeout",
        "x.ini:8: [http] max_header: given twice, first in line 6; keep one of the two",
        "x.ini:9: [http]: not understood; write [SECTION], key = value, or a comment that begins with ; or #",
        f"x.ini:10: [listen:a] endpoint: missing; allowed: {endpoint.ALLOWED}",
        f"x.ini:11: [listen:a] accept = https: not one of the choices: https; allowed: {every}",
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[Http]", "1: [Http]: unknown section; the nearest is [http]"),
        ("[rules:a]", "1: [rules:a]: unknown section; the nearest is [rule:NAME]"),
        (
            "[listen]",
            "1: [listen]: needs a name; write [listen:NAME]; "
            "allowed: at most 64 letters, digits, dots, hyphens and underscores",
        ),
        (
            "[rule:a b]",
            "1: [rule:a b]: needs a name; write [rule:NAME]; "
            "allowed: at most 64 letters, digits, dots, hyphens and underscores",
        ),
        ("[foo]", f"1: [foo]: unknown section; there are {', '.join(s.heading for s in schema.SECTIONS)}"),
        ("[:a]", f"1: [:a]: unknown section; there are {', '.join(s.heading for s in schema.SECTIONS)}"),
        ("[proxy-tls]\nfoo = 1", "2: [proxy-tls] foo: unknown key; there are certificate, key"),
        ("[http:a]", "1: [http:a]: takes no name; write [http]"),
        (
            "[http]\nvia =",
            "2: [http] via: empty; give it a value or remove the key; "
            "allowed: at most 64 letters, digits and characters of !#$%&'*+-.^_`|~",
        ),
        ("[log]\nvia = off", "2: [log] via: unknown key; it belongs in [http]"),
        ("[http]\nendpoint = tcp:1", "2: [http] endpoint: unknown key; it belongs in [listen:NAME]"),
        ("[dns]\nHosts = x", "2: [dns] Hosts: unknown key; the nearest is hosts"),
        (
            "[sslintercept]\nworkers = 65",
            "2: [sslintercept] workers = 65: too large; allowed: a whole number from 1 to 64, or auto",
        ),
        (
            "[aio]\nengine = fast",
            "2: [aio] engine = fast: not one of the choices; allowed: auto, native or threads",
        ),
        ("[aio]\nthreads = 0", "2: [aio] threads = 0: too small; allowed: a whole number from 1 to 32"),
        ("[aio]\nthreads = 33", "2: [aio] threads = 33: too large; allowed: a whole number from 1 to 32"),
        ("[http]\n[log]\n[http]", "3: [http]: given twice, first in line 1; keep one of the two"),
        ("via = off", "1: via: a key before the first section; write a line like [http] above it"),
    ],
)
def test_a_mistake_has_one_clear_line(ini: Path, text: str, line: str) -> None:
    assert mistakes(ini, text) == [f"x.ini:{line}"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "[aio]\nengine = uring",
            "2: [aio] engine = uring: not in this version; see docs/aio.md; allowed: auto, native or threads",
        ),
        ("[admin]\nport = 1", "2: [admin] port: not part of this version; remove the key"),
    ],
)
def test_what_this_version_does_not_do_is_refused(ini: Path, text: str, line: str) -> None:
    assert mistakes(ini, text) == [f"x.ini:{line}"]


def test_what_is_reserved_may_stand_there_with_its_only_value(ini: Path) -> None:
    s = settings(ini, "[cache]\ndecrypted = off\n[admin]\n")
    assert not s.cache.decrypted


def test_a_mistake_never_shows_more_than_the_first_line_of_a_value(ini: Path) -> None:
    assert mistakes(ini, "[ca]\nkey = -----BEGIN PRIVATE KEY-----\n  MIGHAgEA\n  c2VjcmV0\n") == [
        "x.ini:2: [ca] key = -----BEGIN PRIVATE KEY----- ...: more than one line; allowed: a path"
    ]


def test_mistakes_are_a_config_error_that_carries_them(ini: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        settings(ini, "[http]\nvia = a b\n")
    assert isinstance(caught.value, ConfigMistakes)
    (mistake,) = caught.value.mistakes
    assert mistake[:6] == (str(ini), 2, "http", "via", "a b", "not a token")
    assert (caught.value.where, caught.value.what) == (str(ini), "not a token")


def test_a_file_of_nothing_but_mistakes_is_given_up(ini: Path) -> None:
    lines = mistakes(ini, "[http]\n" + "nonsense\n" * (MOST_MISTAKES + 5))
    assert len(lines) == MOST_MISTAKES + 1
    assert lines[-1] == f"x.ini: more than {MOST_MISTAKES} mistakes; the rest is not listed"


# cross checks


def test_low_water_may_be_high_water_but_not_above(ini: Path) -> None:
    assert settings(ini, "[tunnel]\nlow_water = 64KiB\n").tunnel.low_water == 65536
    what = "[tunnel] low_water: above high_water; allowed: at most high_water"
    assert mistakes(ini, "[tunnel]\n\nhigh_water = 16KiB\n") == [f"x.ini:3: {what}"]
    assert mistakes(ini, "[tunnel]\nhigh_water = 1KiB\nlow_water = 2KiB\n") == [f"x.ini:3: {what}"]


def test_a_water_mark_that_cannot_be_read_is_not_compared(ini: Path) -> None:
    for key in ("low_water", "high_water"):
        assert len(mistakes(ini, f"[tunnel]\n{key} = lots\n")) == 1


def test_the_proxys_own_certificate_and_key_come_together(ini: Path) -> None:
    assert mistakes(ini, "[proxy-tls]\ncertificate = a.pem\n") == [
        "x.ini:2: [proxy-tls] key: missing, while certificate is given; give both or none"
    ]
    assert mistakes(ini, "[proxy-tls]\nkey = a.key\n") == [
        "x.ini:2: [proxy-tls] certificate: missing, while key is given; give both or none"
    ]


@pytest.mark.parametrize("second", ["tcp:1", "tcp:port=1:interface=127.0.0.1", "tcp6:1"])
def test_two_listeners_cannot_have_the_same_port(ini: Path, second: str) -> None:
    text = f"[listen:a]\nendpoint = tcp:1\n[listen:b]\nendpoint = {second}\n[listen:c]\nendpoint = tcp:2\n"
    what = "the same port as [listen:a] in line 1; give each its own"
    assert mistakes(ini, text) == [f"x.ini:4: [listen:b] endpoint = {second}: {what}"]


@pytest.mark.parametrize(("given_", "used", "warnings"), [(32, 32, 0), (33, 32, 1)])
def test_name_servers_beyond_32_are_left_out_with_a_warning(ini: Path, given_: int, used: int, warnings: int) -> None:
    s = settings(ini, "[dns]\nservers = " + ", ".join(f"192.0.2.{n}" for n in range(given_)) + "\n")
    assert s.dns.servers == tuple(Address(f"192.0.2.{n}", 53) for n in range(used))
    assert s.warnings == (f"{ini}:2: [dns] servers: 33 addresses, only the first 32 are used",) * warnings


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        (
            "[dns-for:a]\ndomains = x.example\nservers = 192.0.2.1\n"
            "[dns-for:b]\ndomains = y.example, X.example\nservers = 192.0.2.2\n",
            "5: [dns-for:b] domains = x.example: also in [dns-for:a] in line 1",
        ),
        (
            "[dns-for:a]\ndomains = " + ", ".join(f"n{n}.example" for n in range(65)) + "\nservers = 192.0.2.1\n",
            "2: [dns-for:a] domains: more than 64 domains in all",
        ),
        ("[dns-for:a]\ndomains = x.example\n", "1: [dns-for:a] servers: missing; allowed: a list with commas"),
    ],
)
def test_a_domain_has_its_servers_once(ini: Path, text: str, mistake: str) -> None:
    assert [line[: len("x.ini:") + len(mistake)] for line in mistakes(ini, text)] == [f"x.ini:{mistake}"]


# files that are none


def test_a_missing_file_a_folder_and_a_fifo_have_one_line_each(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path, what in (
        (tmp_path / "none.ini", "there is no such file; name one that exists"),
        (tmp_path, "a folder; name an ini file"),
        (fifo, "not a regular file; name an ini file"),
    ):
        with pytest.raises(ConfigMistakes) as caught:
            read(path)
        assert str(caught.value) == f"{path}: {what}"


def test_a_file_that_cannot_be_opened_is_named_with_the_reason(ini: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings(ini, "")

    def refuse(path: Path) -> os.stat_result:
        raise PermissionError(13, "Permission denied", str(path))

    # Root may read everything, so the system's refusal is played.
    monkeypatch.setattr(os, "stat", refuse)
    with pytest.raises(ConfigMistakes, match="Permission denied") as caught:
        read(ini)
    monkeypatch.undo()
    remedy = "make it readable for the user the proxy runs as"
    assert str(caught.value) == f"{ini}: cannot be read (Permission denied); {remedy}"


def test_a_path_no_file_can_have_is_a_mistake_too(tmp_path: Path) -> None:
    with pytest.raises(ConfigMistakes, match="cannot be read"):
        read(tmp_path / "a\0b")


def test_a_file_may_be_one_mib_large_and_no_more(ini: Path) -> None:
    assert settings(ini, ";" + "x" * (2**20 - 1)).generation == 1
    assert mistakes(ini, ";" + "x" * 2**20) == ["x.ini: larger than 1 MiB; name an ini file"]


# whatever it holds

LINES = st.sampled_from(
    [
        *(f"[{section.name}:x]" if section.named else f"[{section.name}]" for section in schema.SECTIONS),
        *(f"{key.name} = {key.default}" for section in schema.SECTIONS for key in section.keys),
        *(f"{key.name} = ~!" for section in schema.SECTIONS for key in section.keys),
        "[inspect:x]",
        "  more",
        "",
        "endpoint = tcp:1",
        "action = block",
    ]
)


@given(st.lists(LINES, max_size=30).map("\n".join) | st.text(max_size=80))
def test_any_file_gives_settings_or_mistakes(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.ini"
    path.write_text(text, encoding="utf-8", newline="")
    result: Settings | ConfigMistakes
    try:
        result = read(path)
    except ConfigMistakes as error:
        result = error
    if isinstance(result, ConfigMistakes):
        numbers = [mistake.line for mistake in result.mistakes]
        assert numbers == sorted(numbers)
        assert str(result).count("\n") == len(numbers) - 1
    else:
        assert result.listeners


def test_the_nearest_name_forgives_case_and_slips() -> None:
    assert nearest("HEADER_TIMOUT", ["header_timeout", "tls_timeout"]) == "header_timeout"
    assert nearest("zzz", ["only"]) is None


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("[listen:a]\nendpoint = tcp:1\ntransparent = on", "needs target = original"),
        ("[listen:a]\nendpoint = udp:1", "datagrams name no destination; give target = original or an address"),
        ("[listen:a]\nendpoint = udp:1\ntarget = sni", "datagrams name no destination"),
        ("[listen:a]\nendpoint = udp:1\ntarget = original", "needs transparent = on for datagrams (TPROXY)"),
        ("[listen:a]\nendpoint = udp:1\ntarget = a.test:1\nproxy_protocol = 192.0.2.1", "not for datagrams"),
        ("[listen:a]\nendpoint = udp:1\ntarget = a.test:1\naccept = http", "accept: not for datagrams"),
        ("[parent:a]\nproxy = direct\naddress = p.test:1", "address: beside proxy = direct"),
        (
            "[mail]\nsessions = off\n[rule:a]\naction = intercept\nstarttls = require",
            "a.ini:5: [rule:a] starttls = require: nobody would see whether TLS begins; remove it, or set [mail]",
        ),
        ("[mail]\nsessions = off\n[rule:a]\naction = block\nstarttls = keep", "[rule:a] starttls = keep: nobody"),
        ("[rule:a]\naction = tunnel\nstarttls = require", "starttls = require: nobody looks into what is tunnelled"),
        ("[parent:a]\nproxy = http", "address: missing; say where the parent listens"),
        ("[parent:a]\nproxy = http\naddress = p.test:1\nuser = u", "password_file: missing, while user is given"),
        ("[parent:a]\nproxy = http\naddress = p.test:1\npassword_file = f", "user: missing, while password_file"),
        ("[parent:a]\nproxy = direct\nmatch = hots:x", "did you mean host"),
    ],
)
def test_what_does_not_go_together_is_a_mistake(tmp_path: Path, text: str, what: str) -> None:
    file = tmp_path / "a.ini"
    file.write_text(text)
    with pytest.raises(ConfigMistakes) as caught:
        load(file)
    assert what in str(caught.value)


def test_parents_come_in_the_order_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "a.ini"
    file.write_text("[parent:b]\nproxy = direct\nmatch = host:x.test\n[parent:a]\nproxy = https\naddress = p.test:3128")
    b, a = read(file).parents
    assert (b.name, b.proxy, b.address, b.match) == ("b", "direct", None, "host:x.test")
    assert (a.name, a.proxy, a.address, a.user) == ("a", "https", ("p.test", 3128), None)


def test_the_file_that_was_named_is_taken_else_the_first_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / "etc" / "one.ini", tmp_path / "two.ini"
    monkeypatch.setattr(reader, "PLACES", (first, second))
    assert find("three.ini") == Path("three.ini")
    second.touch()
    assert find(None) == second
    first.parent.mkdir()
    first.touch()
    assert find(None) == first


def test_where_no_file_is_both_places_are_named_and_how_to_name_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = tmp_path / "one.ini", tmp_path / "two.ini"
    monkeypatch.setattr(reader, "PLACES", places)
    with pytest.raises(ConfigError, match=f"neither {places[0]} nor {places[1]} is there; .*--config"):
        find(None)


def test_a_place_that_cannot_be_looked_at_is_not_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = tmp_path / ("x" * 300) / "one.ini"
    monkeypatch.setattr(reader, "PLACES", (closed, tmp_path))
    assert find(None) == closed
    with pytest.raises(ConfigMistakes, match=r"cannot be read .*make it readable for the user"):
        read(closed)

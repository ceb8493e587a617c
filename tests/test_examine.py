"""What a start would refuse and warn of, found before it: nothing is made meanwhile."""

from __future__ import annotations

from configparser import RawConfigParser
from pathlib import Path

import pytest

from sslintercept.examine import ConfigErrors, Examined, examine
from sslintercept.load import load
from sslintercept.socks.users import Cost, make_line
from sslintercept.testing.pki import make_ca, make_leaf

HERE = "[listen:p]\nendpoint = tcp:0:interface=127.0.0.1\n"
USUAL = """
[sslintercept]
state_dir = state
[upstream-tls]
trust = roots.pem
[dns]
hosts = hosts
resolv_conf = hosts
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder for settings, with files that may be named in them."""
    (tmp_path / "hosts").touch()
    (tmp_path / "noise").write_text("noise")
    ca = make_ca("One")
    leaf = make_leaf(ca, ["proxy.test"])
    (tmp_path / "one.pem").write_bytes(leaf.pem)
    (tmp_path / "one.key").write_bytes(leaf.key_pem)
    (tmp_path / "other.key").write_bytes(make_leaf(ca, ["x"], key_kind="rsa").key_pem)
    (tmp_path / "roots.pem").write_bytes(ca.pem)
    (tmp_path / "users").write_text(make_line("alice", "secret", Cost(16, 1, 1)) + "\n")
    (tmp_path / "users").chmod(0o600)
    return tmp_path


def found(home: Path, text: str, listen: str = HERE) -> Examined:
    """What is found in settings of which C{text} and C{listen} are a part; the others are good."""
    parser = RawConfigParser()
    for part in (USUAL, listen, text):
        parser.read_string(part)
    (home / "x.ini").write_text(
        "".join(f"[{name}]\n" + "".join(f"{k} = {v}\n" for k, v in parser[name].items()) for name in parser.sections())
    )
    before = snapshot(home)
    result = examine(load(home / "x.ini"))
    assert snapshot(home) == before, "nothing is made"
    return result


def snapshot(home: Path) -> set[Path]:
    return set(home.rglob("*"))


def test_settings_that_can_be_started_with_have_nothing_to_tell(home: Path) -> None:
    assert found(home, "[log]\naccess = access.log\nkeylog = keys\nsequence = a/b\n[socks]\nbind = off\n") == ([], [])


def test_the_secret_of_consents_is_looked_at_where_a_rule_warns(home: Path) -> None:
    (home / "state").mkdir()
    (home / "state" / "consent.secret").write_bytes(b"short")
    assert found(home, "[rule:a]\naction = block\n").mistakes == []
    (mistake,) = found(home, "[rule:a]\naction = warn\n").mistakes
    assert "consent.secret can be read by others" in mistake.what
    (home / "state" / "consent.secret").unlink()
    assert found(home, "[rule:a]\naction = warn\n").mistakes == []


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("[sslintercept]\nstate_dir = noise/state\n", "[sslintercept] state_dir", "noise is no folder"),
        ("[sslintercept]\nstate_dir = noise\n", "[sslintercept] state_dir", "noise is no folder"),
        ("[ca]\ncertificate = one.pem\n", "[ca]", "ca.key is missing, but"),
        ("[ca]\ncertificate = noise\nkey = one.key\n", "[ca] certificate", "holds no certificate"),
        ("[ca]\ncertificate = one.pem\nkey = noise\n", "[ca] key", "holds no private key"),
        ("[ca]\ncertificate = one.pem\nkey = other.key\n", "[ca] key", "is not the key of"),
        ("[ca]\ncertificate = one.pem\nkey = one.key\n", "[ca] certificate", "is no CA"),
        ("[ca]\ncertificate = noise/ca.pem\nkey = noise/ca.key\n", "[ca] certificate", "noise is no folder"),
        ("[upstream-tls]\ntrust = nowhere.pem\n", "[upstream-tls] trust", "nowhere.pem (No such file"),
        ("[upstream-tls]\nextra_trust = noise\n", "[upstream-tls] extra_trust", "no usable certificate"),
        ("[proxy-tls]\ncertificate = one.pem\nkey = other.key\n", "[proxy-tls] key", "is not the key of"),
        ("[proxy-tls]\ncertificate = none.pem\nkey = one.key\n", "[proxy-tls]", "none.pem (No such file"),
        ("[socks]\nusers = noise\n", "noise:1", "not a user's line"),
        ("[socks]\nusers = nowhere\n", "nowhere", "cannot be read"),
        (
            "[parent:a]\nproxy = http\naddress = p.test:1\nuser = u\npassword_file = nowhere\n",
            "[parent:a] password_file",
            "nowhere (No such file",
        ),
        ("[log]\naccess = nowhere/access.log\n", "[log] access", "its folder is not there"),
        ("[log]\naccess = .\n", "[log] access", "a folder"),
        ("[log]\nkeylog = link\n", "[log] keylog", "a symbolic link"),
        ("[log]\nsequence = noise\n", "[log] sequence", "noise is no folder"),
        ("[pages]\nfolder = noise\n", "[pages] folder", "noise (Not a directory)"),
        ("[pages]\nlanguage = tlh\n", "[pages] language", "there is no page in tlh"),
        ("[pages]\nfolder = pages\n", "pages/warn.html", "unknown placeholder $who"),
        ("[events]\nfile = nowhere/x\n", "[events] file", "its folder is not there"),
        ("[events]\nsyslog_trust = noise\n", "[events] syslog_trust", "no usable certificate"),
    ],
)
def test_what_a_start_would_refuse_is_a_mistake_with_its_place(home: Path, text: str, where: str, what: str) -> None:
    (home / "link").symlink_to("noise")
    (home / "pages").mkdir()
    (home / "pages" / "warn.html").write_text("<p>$who</p>")
    mistakes = found(home, text).mistakes
    assert len(mistakes) == 1, mistakes
    assert mistakes[0].where.endswith(where)
    assert what in mistakes[0].what


def test_all_mistakes_are_told_at_once_a_line_each(home: Path) -> None:
    result = found(home, "[socks]\nusers = noise\n[log]\naccess = nowhere/access.log\nsequence = noise\n")
    with pytest.raises(ConfigErrors) as refused:
        result.refuse()
    lines = str(refused.value).splitlines()
    assert len(lines) == 3
    assert all(word in line for word, line in zip(("noise:1", "[log] access", "[log] sequence"), lines, strict=True))


def test_a_reload_looks_again_at_nothing_that_is_opened_once(home: Path) -> None:
    (home / "state").mkdir()
    (home / "state" / "ca.key").write_text("not to be read any more")
    assert len(found(home, "[log]\naccess = nowhere/access.log\n").mistakes) == 2
    running = load(home / "x.ini")
    assert examine(running, running).mistakes == []
    assert found(home, "[log]\nkeylog = .\n[sslintercept]\nstate_dir = noise\n").mistakes != []
    assert len(examine(load(home / "x.ini"), running).mistakes) == 2


def test_the_key_of_leaves_is_looked_at_too(home: Path) -> None:
    (home / "state").mkdir()
    (home / "state" / "leaf.key").write_text("noise")
    (mistake,) = found(home, "").mistakes
    assert str(mistake).startswith("leaf key: ")


# warnings


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("[dns]\nhosts = none\nresolv_conf = hosts\n", "[dns] hosts: cannot read"),
        ("[dns]\nhosts = hosts\nresolv_conf = none\n", "[dns] resolv_conf: cannot read"),
    ],
)
def test_a_file_of_names_that_cannot_be_read_is_warned_of(home: Path, text: str, what: str) -> None:
    result = found(home, text)
    assert result.mistakes == []
    assert [what in warning for warning in result.warnings] == [True]


def test_resolv_conf_may_be_missing_where_nobody_reads_it(home: Path) -> None:
    assert found(home, "[dns]\nhosts = hosts\nresolv_conf = none\nservers = 192.0.2.1\nsearch = none\n").warnings == []


def test_what_loaders_warn_of_comes_too(home: Path) -> None:
    (home / "users").chmod(0o644)
    (warning,) = found(home, "[socks]\nusers = users\n", HERE + "accept = socks5\n").warnings
    assert "every user of this machine" in warning


@pytest.mark.parametrize(
    ("accept", "words"),
    [("http, tls, socks5", "http or tls"), ("http", "http"), ("tls, socks5", "tls"), ("socks5", "")],
)
def test_users_of_socks_do_not_keep_others_from_http(home: Path, accept: str, words: str) -> None:
    warnings = found(home, "[socks]\nusers = users\n", f"{HERE}accept = {accept}\n").warnings
    if not words:
        assert warnings == []
    else:
        (warning,) = warnings
        assert warning.startswith(
            f"[listen:p]: [socks] users is for SOCKS alone: who comes by {words} is asked for no password"
        )


@pytest.mark.parametrize(
    ("listen", "text", "open_"),
    [
        ("tcp:8080", "", True),
        ("tcp6:8080", "", True),
        ("tcp:8080:interface=192.0.2.1", "", True),
        ("systemd:INET:index=0", "", True),
        ("tcp:8080:interface=127.0.0.1", "", False),
        (r"tcp:8080:interface=\:\:1", "", False),
        ("tcp:8080:interface=localhost", "", False),
        ("tcp:8080\naccept = socks5", "[socks]\nusers = users\n", False),
        ("tcp:8080\ntarget = mail.test:25", "", False),
        ("tcp:8080\ntarget = original", "", False),
        ("udp:53\ntarget = ns.test:53", "", False),
    ],
)
def test_a_proxy_for_everybody_is_warned_of(home: Path, listen: str, text: str, open_: bool) -> None:
    warnings = found(home, text, f"[listen:p]\nendpoint = {listen}\n").warnings
    assert [warning.startswith("[listen:p] is an open proxy: ") for warning in warnings] == [True] * open_


WAITING = "[inspect:one]\nuse = clamd\naddress = unix:clamd.sock\n[inspection]\nwaiting_page = 10s\n"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[sslintercept]\nworkers = 2\nspread = connections\n", "[sslintercept] spread = connections: whoever waits"),
        (
            "[sslintercept]\nworkers = 2\n[listen:p]\nproxy_protocol = 10.0.0.0/8\n",
            "[listen:p] proxy_protocol: whoever",
        ),
        ("[sslintercept]\nworkers = 2\n", ""),
        ("[sslintercept]\nspread = connections\n", ""),
    ],
)
def test_a_waiting_page_needs_clients_that_come_to_the_same_worker(home: Path, text: str, why: str) -> None:
    said = [line for line in found(home, WAITING + text).warnings if "waiting_page" in line]
    assert len(said) == bool(why)
    assert all(why in line for line in said)


def test_a_waiting_page_needs_a_folder(home: Path) -> None:
    (home / "state").mkdir()
    (home / "state" / "waiting").touch()
    mistakes = found(home, WAITING).mistakes
    assert ["[inspection] waiting_page" in str(one) for one in mistakes] == [True]
    assert found(home, WAITING.replace("10s", "off")).mistakes == []

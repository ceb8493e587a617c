"""Mistakes of whoever runs the proxy, and the commands that help: what is printed, and the exit status."""

from __future__ import annotations

import os
import pty
import re
import socket
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography import x509
from twisted.internet.defer import execute

from sslintercept.socks.users import Users
from tests.process.conftest import ProxyMaker
from tests.process.tools import free_port, ours, run, tool

MISTAKES = """\
[sslintercept]
workers = many
[htpp]
key = 1
[http]
header_timeuot = 3s
max_header = 5 parsecs
[rule:one]
match = hots:a.example
action = intercpt
[rule:two]
match = host:a.example
"""
EXPECTED = (
    r":2: \[sslintercept\] workers = many: .*allowed: .*1 to 64",
    r":3: \[htpp\]: unknown section; the nearest is \[http\]",
    r":6: \[http\] header_timeuot: unknown key; the nearest is header_timeout",
    r":7: \[http\] max_header = 5 parsecs: .*allowed: .*KiB",
    r":9: \[rule:one\] match = hots:a.example: .*host.*llowed: ",
    r":10: \[rule:one\] action = intercpt: .*allowed: intercept, tunnel, block or warn",
    r":11: \[rule:two\] action: ",
)
ELLIPTIC = ("-algorithm", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")

DOCS = Path(__file__).parents[2] / "docs"

Ini = Callable[[str], str]
Done = subprocess.CompletedProcess[str]


def start(folder: Path, text: str) -> Done:
    """Run the proxy with settings that keep it from starting."""
    (folder / "proxy.ini").write_text(text)
    return run(ours("twistd"), "-n", "--pidfile=", "sslintercept", "--config", "proxy.ini", folder=folder)


def command(folder: Path, *arguments: str) -> Done:
    return run(ours("sslintercept"), *arguments, folder=folder)


def line_of(done: Done) -> str:
    """The one line on standard error of a program that ended with status 1."""
    assert "Traceback" not in done.stderr + done.stdout
    assert done.returncode == 1, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "[twisted" not in line]
    return line


@pytest.mark.parametrize("asked", ["twistd", "check-config"])
def test_every_mistake_is_a_line_with_its_place_and_what_is_allowed(tmp_path: Path, asked: str) -> None:
    (tmp_path / "proxy.ini").write_text(MISTAKES)
    done = start(tmp_path, MISTAKES) if asked == "twistd" else command(tmp_path, "check-config", "proxy.ini")
    assert (done.returncode, done.stdout) == (1, "")
    lines = done.stderr.splitlines()
    assert len(lines) == len(EXPECTED), done.stderr
    for line, expected in zip(lines, EXPECTED, strict=True):
        assert re.search(expected, line), (line, expected)
    assert not (tmp_path / "state").exists()


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = run(ours("twistd"), "-n", "--pidfile=", "sslintercept", "--config", "none.ini", folder=tmp_path)
    assert line_of(done) == f"{tmp_path}/none.ini: there is no such file; name one that exists"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_port_that_is_taken_is_named(tmp_path: Path, ini: Ini, workers: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        endpoint = f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
        text = ini(f"[sslintercept]\nworkers = {workers}\n[listen:proxy]\nendpoint = {endpoint}\n")
        line = line_of(start(tmp_path, text))
    assert line.startswith(f"[listen:proxy] endpoint: cannot listen on {endpoint} (Address already in use); ")


def test_several_workers_cannot_share_a_port_of_the_kernels_choice(tmp_path: Path, ini: Ini) -> None:
    line = line_of(start(tmp_path, ini("[sslintercept]\nworkers = 2\n")))
    assert line.startswith("[listen:proxy] endpoint: several workers cannot share")


@pytest.mark.parametrize("half", ["ca.pem", "ca.key"])
def test_a_ca_of_which_half_is_missing_is_never_made_anew(tmp_path: Path, ini: Ini, half: str) -> None:
    (tmp_path / "proxy.ini").write_text(ini(""))
    assert command(tmp_path, "ca", "init", "-c", "proxy.ini").returncode == 0
    (tmp_path / "state" / half).unlink()
    line = line_of(start(tmp_path, ini("")))
    assert line.startswith("[ca]: ")
    assert half in line
    assert not (tmp_path / "state" / half).exists()


@pytest.mark.parametrize("kind", ["a folder", "noise", "another key"])
def test_a_key_that_cannot_be_used_is_named_and_kept(tmp_path: Path, ini: Ini, kind: str) -> None:
    (tmp_path / "proxy.ini").write_text(ini(""))
    command(tmp_path, "ca", "init", "-c", "proxy.ini")
    key = tmp_path / "state" / "ca.key"
    secret = key.read_text().splitlines()[1]
    if kind == "another key":
        made = run(tool("openssl"), "genpkey", *ELLIPTIC, folder=tmp_path)
        key.write_text(made.stdout)
    elif kind == "noise":
        key.write_text(secret)
    else:
        key.unlink()
        key.mkdir()
    line = line_of(start(tmp_path, ini("")))
    assert line.startswith("[ca] key: ")
    assert str(key) in line
    assert secret not in line
    assert key.exists()


def test_trust_that_cannot_be_read_is_named(tmp_path: Path, ini: Ini) -> None:
    line = line_of(start(tmp_path, ini("[upstream-tls]\ntrust = nowhere.pem\n")))
    assert line.startswith("[upstream-tls] trust: ")
    assert "nowhere.pem" in line


def test_an_own_certificate_with_another_key_is_named(tmp_path: Path, ini: Ini) -> None:
    (tmp_path / "proxy.ini").write_text(ini(""))
    command(tmp_path, "ca", "init", "-c", "proxy.ini")
    made = run(
        *(tool("openssl"), "req", "-x509", "-newkey", *ELLIPTIC[1:], "-nodes"),
        *("-subj", "/CN=proxy.test", "-keyout", "own.key", "-out", "own.pem"),
        folder=tmp_path,
    )
    assert made.returncode == 0, made.stderr
    line = line_of(start(tmp_path, ini("[proxy-tls]\ncertificate = own.pem\nkey = state/ca.key\n")))
    assert line.startswith("[proxy-tls] key: ")


@pytest.mark.parametrize("path", ["/proc/nothing/here", "proxy.ini/state"])
def test_a_state_folder_that_cannot_be_made_is_named(tmp_path: Path, ini: Ini, path: str) -> None:
    line = line_of(start(tmp_path, ini(f"[sslintercept]\nstate_dir = {path}\n")))
    assert line.startswith("[sslintercept] state_dir: ")


def test_a_log_that_cannot_be_written_is_named(tmp_path: Path, ini: Ini) -> None:
    line = line_of(start(tmp_path, ini("[log]\naccess = nowhere/access.log\n")))
    assert line.startswith("[log] access: ")
    assert "nowhere" in line


# what belongs to somebody else

NOBODY = 65534
LOW = 81
"""a port that not everybody may open"""


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """A folder that everybody may enter; those of pytest are closed to others."""
    if os.geteuid() != 0:
        pytest.skip("only root can start programs as somebody else")
    with tempfile.TemporaryDirectory(prefix="sslintercept-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def as_nobody(folder: Path, *command: str) -> Done:
    """Run a program of ours as a user who owns nothing."""
    return run(ours(command[0]), *command[1:], folder=folder, user=NOBODY)


START = ("twistd", "-n", "--pidfile=", "sslintercept", "--config", "proxy.ini")


@pytest.mark.parametrize("asked", [START, ("sslintercept", "ca", "show", "-c", "proxy.ini")])
def test_a_state_folder_that_cannot_be_entered_is_named(shared_folder: Path, asked: tuple[str, ...]) -> None:
    state = shared_folder / "state"
    state.mkdir(mode=0o700)
    (shared_folder / "proxy.ini").write_text("[sslintercept]\nstate_dir = state\n")
    line = line_of(as_nobody(shared_folder, *asked))
    assert line == (
        f"[ca] certificate: cannot look at {state}/ca.pem (Permission denied); "
        "run as the user its folder belongs to, or let this one enter it"
    )


def test_a_low_port_needs_a_right_which_is_named(shared_folder: Path) -> None:
    if int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) <= LOW:
        pytest.skip("everybody may open low ports here")
    (shared_folder / "state").mkdir()
    os.chown(shared_folder / "state", NOBODY, NOBODY)
    for endpoint in (f"tcp:{LOW}:interface=127.0.0.1", f"udp:{LOW}:interface=127.0.0.1"):
        target = "target = 127.0.0.1:9\n" if endpoint.startswith("udp") else ""
        (shared_folder / "proxy.ini").write_text(
            f"[sslintercept]\nstate_dir = state\n[listen:low]\nendpoint = {endpoint}\n{target}"
        )
        line = line_of(as_nobody(shared_folder, *START))
        assert line.startswith("[listen:low] endpoint: cannot ")
        assert "(Permission denied); ports below 1024 need CAP_NET_BIND_SERVICE" in line


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("[log]\naccess = x.log\n", "[log] access: cannot write into"),
        ("[log]\naccess = kept.log\n", "[log] access: cannot append to"),
        ("[log]\naccess = closed/x.log\n", "[log] access: cannot look at"),
        ("[log]\nkeylog = keys\n", "[log] keylog: cannot write into"),
        ("[log]\nsequence = sequences\n", "[log] sequence: cannot make"),
        ("[sslintercept]\nstate_dir = other\n", "[sslintercept] state_dir: cannot make"),
    ],
)
def test_what_the_user_may_not_write_is_refused_by_the_start_and_by_check_config(
    shared_folder: Path, text: str, where: str
) -> None:
    (shared_folder / "closed").mkdir(mode=0o700)
    (shared_folder / "kept.log").touch(mode=0o644)
    (shared_folder / "state").mkdir()
    os.chown(shared_folder / "state", NOBODY, NOBODY)
    usual = "[listen:p]\nendpoint = tcp:0:interface=127.0.0.1\n"
    if "[sslintercept]" not in text:
        usual += "[sslintercept]\nstate_dir = state\n"
    (shared_folder / "proxy.ini").write_text(usual + text)
    for asked in (START, ("sslintercept", "check-config", "proxy.ini")):
        line = line_of(as_nobody(shared_folder, *asked))
        assert line.startswith(where), line
        assert "(Permission denied)" in line
    assert list((shared_folder / "state").iterdir()) == []


def test_a_folder_of_settings_that_cannot_be_entered_is_named(shared_folder: Path) -> None:
    (shared_folder / "etc").mkdir(mode=0o700)
    (shared_folder / "etc" / "sslintercept.ini").touch()
    line = line_of(as_nobody(shared_folder, "sslintercept", "explain", "https://a.example/"))
    assert line.startswith(
        f"{shared_folder}/etc/sslintercept.ini: cannot be read (Permission denied); make it readable"
    )


def test_the_start_and_check_config_tell_every_mistake_of_what_is_named_at_once(tmp_path: Path, ini: Ini) -> None:
    text = ini("[socks]\nusers = none\n[log]\naccess = nowhere/access.log\n[proxy-tls]\ncertificate = a\nkey = b\n")
    for done in (start(tmp_path, text), command(tmp_path, "check-config", "proxy.ini")):
        assert "Traceback" not in done.stderr
        assert done.returncode == 1
        lines = [line for line in done.stderr.splitlines() if "[twisted" not in line]
        assert len(lines) == 3, lines
        assert [word in line for word, line in zip(("[proxy-tls]", "none: ", "[log] access"), lines, strict=True)]
    assert not (tmp_path / "state").exists()


def test_warnings_are_told_by_check_config_and_once_by_the_start(proxy: ProxyMaker, tmp_path: Path) -> None:
    made = proxy(f"[sslintercept]\nworkers = 2\n[listen:proxy]\nendpoint = tcp:{free_port()}\n")
    assert made.said().count("[listen:proxy] is an open proxy: ") == 1
    done = run(ours("sslintercept"), "check-config", str(made.ini), folder=tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith("warning: [listen:proxy] is an open proxy: ")


# the commands


@pytest.fixture
def folder(tmp_path: Path, ini: Ini) -> Path:
    """A folder with settings and nothing else."""
    (tmp_path / "etc").mkdir()
    rules = "[rule:banks]\nmatch = host:.bank.example\naction = tunnel\n"
    (tmp_path / "etc" / "sslintercept.ini").write_text(ini(rules + "[http]\nconnect_ports = 443, 8443\n"))
    return tmp_path


def test_a_file_without_mistakes_is_said_to_have_none(folder: Path) -> None:
    done = command(folder, "check-config", "etc/sslintercept.ini")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "etc/sslintercept.ini: no mistakes; 1 listener(s), 1 rule(s)\n"
    assert not (folder / "etc" / "state").exists()


def test_the_ca_is_made_once_described_and_handed_out(folder: Path) -> None:
    assert line_of(command(folder, "ca", "show")).endswith("run sslintercept ca init")
    made, kept = command(folder, "ca", "init"), command(folder, "ca", "init")
    state = folder / "etc" / "state"
    assert (made.returncode, made.stdout.splitlines()[0]) == (0, f"made {state}/ca.pem")
    assert (kept.returncode, kept.stdout.splitlines()[0]) == (0, f"kept {state}/ca.pem")
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert stat.S_IMODE((state / "ca.key").stat().st_mode) == 0o600
    shown = command(folder, "ca", "show")
    assert "CN=sslintercept CA" in shown.stdout
    pem = command(folder, "ca", "export").stdout
    assert pem == (state / "ca.pem").read_text()
    assert command(folder, "ca", "export", "--format", "der", "-o", "ca.der").stdout == "wrote ca.der\n"
    certificate = x509.load_der_x509_certificate((folder / "ca.der").read_bytes())
    assert certificate == x509.load_pem_x509_certificate(pem.encode())
    assert format(certificate.serial_number, "x") in shown.stdout


def test_a_certificate_is_not_exported_to_where_nothing_can_be_written(folder: Path) -> None:
    command(folder, "ca", "init")
    assert line_of(command(folder, "ca", "export", "-o", "nowhere/ca.pem")).startswith("--output: cannot write nowhere")


def test_plugins_are_listed_or_their_interfaces(folder: Path) -> None:
    done = command(folder, "plugins")
    assert (done.returncode, done.stderr) == (0, "")
    assert "IProbeSignatures, IAcceptorPlugin, ITransformPlugin, IInspectorPlugin, IPartHandler" in done.stdout


@pytest.mark.parametrize(
    ("page", "names"),
    [("plugins", ("FingerSignatures", "FingerPlugin")), ("mail", ("CountParts",)), ("events", ("Pager",))],
)
def test_the_plugins_of_the_docs_are_found(folder: Path, page: str, names: tuple[str, ...]) -> None:
    text = (DOCS / f"{page}.md").read_text()
    (code,) = [one for one in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "IPlugin" in one]
    home = folder / "sslintercept" / "plugins"
    home.mkdir(parents=True)
    (home / "example.py").write_text(code)
    done = run(ours("sslintercept"), "plugins", folder=folder, environment={"PYTHONPATH": str(folder)})
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(names)
    assert str(home / "example.py") in done.stdout


def test_a_user_of_socks_is_made_from_a_password_on_standard_input(folder: Path) -> None:
    done = run(ours("sslintercept"), "socks-user", "alice", folder=folder, given=b"wonder land\n")
    assert (done.returncode, done.stderr) == (0, "")
    (folder / "users").write_text(done.stdout)
    users = Users.load(folder / "users", execute)[0]
    answers: list[bool] = []
    for password in (b"wonder land", b"wonder"):
        users.verify(b"alice", password, "127.0.0.1").addCallback(answers.append)
    assert answers == [True, False]
    assert "wonder" not in done.stdout


@pytest.mark.parametrize(("name", "given"), [("a:b", b"x\n"), ("alice", b""), ("alice", b"\n")])
def test_a_user_that_could_not_log_in_is_refused_in_one_line(folder: Path, name: str, given: bytes) -> None:
    assert line_of(run(ours("sslintercept"), "socks-user", name, folder=folder, given=given)).startswith(
        "socks-user: a"
    )


@pytest.mark.parametrize(("second", "code"), [(b"wonder land", 0), (b"wonder", 1)])
def test_a_password_is_asked_for_twice_on_a_terminal_and_never_shown(second: bytes, code: int) -> None:
    ours_end, its_end = pty.openpty()
    with subprocess.Popen(
        [ours("sslintercept"), "socks-user", "alice"],
        stdin=its_end,
        stdout=its_end,
        stderr=its_end,
        start_new_session=True,
    ) as program:
        os.close(its_end)
        said = b""
        for question, typed in ((b"password of alice: ", b"wonder land"), (b"once more: ", second)):
            while not said.endswith(question):
                said += os.read(ours_end, 1000)
            os.write(ours_end, typed + b"\n")
        with suppress(OSError):  # how a terminal ends
            while piece := os.read(ours_end, 1000):
                said += piece
        os.close(ours_end)
    assert program.returncode == code
    assert b"wonder" not in said
    assert (b"alice:scrypt:" in said) is (code == 0)
    assert (b"the two passwords differ" in said) is (code == 1)


def test_explain_says_listener_rule_and_tls(folder: Path) -> None:
    done = command(folder, "explain", "https://www.bank.example/account")
    assert (done.returncode, done.stderr) == (0, "")
    assert "listener proxy (tcp:0:interface=127.0.0.1), client 127.0.0.1" in done.stdout
    assert "destination www.bank.example:443, server name www.bank.example" in done.stdout
    assert "decision: tunnel, rule banks: host www.bank.example matches .bank.example" in done.stdout
    other = command(folder, "explain", "https://example.org:8443/").stdout
    assert "rule banks (line" in other
    assert "decision: intercept, rule default" in other
    assert "TLS: towards the client 1.2 or newer" in other
    assert "refused with 403" in command(folder, "explain", "https://example.org:25/").stdout
    assert "decision: intercept" in command(folder, "explain", "http://example.org:25/").stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("ftp://a.example/",),
        ("https://a.example:99999/",),
        ("https://a.example:0/",),
        ("https://[::1/",),
        ("https:///",),
        ("nothing",),
        ("https://a.example/", "--client", "me"),
        ("https://a.example/", "--listener", "none"),
    ],
)
def test_explain_refuses_in_one_line_what_it_cannot_explain(folder: Path, arguments: tuple[str, ...]) -> None:
    assert line_of(command(folder, "explain", *arguments))


def test_commands_without_a_file_say_where_they_looked(tmp_path: Path) -> None:
    line = line_of(command(tmp_path, "explain", "https://a.example/"))
    assert f"neither {tmp_path}/etc/sslintercept.ini nor /etc/sslintercept/sslintercept.ini is there" in line
    assert "--config FILE" in line

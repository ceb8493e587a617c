"""What the wiring decides by itself, without a process."""

from __future__ import annotations

from pathlib import Path

import pytest

from sslintercept.config.reader import read
from sslintercept.config.schema import Settings
from sslintercept.net.local import Bound
from sslintercept.service import MOST_THREADS, banner, hashing_threads


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 1), (3, 1), (8, 4), (128, MOST_THREADS)])
def test_passwords_are_hashed_on_half_of_the_machine_at_most(cores: int, threads: int) -> None:
    assert hashing_threads(cores) == threads


def settings(folder: Path, text: str) -> Settings:
    (folder / "x.ini").write_text("[sslintercept]\nstate_dir = /srv/state\n" + text)
    return read(folder / "x.ini")


MAIL = "[listen:mail]\nendpoint = tcp:25\ntarget = mail.test:25\n"
DNS = "[listen:dns]\nendpoint = udp:53\ntarget = ns.test:53\n"


def proxy(accept: str) -> str:
    return f"[listen:p]\nendpoint = tcp:8080\naccept = {accept}\n"


@pytest.mark.parametrize(
    ("text", "ports", "attempt"),
    [
        (proxy("http, tls, socks4, socks5"), ["TCP 127.0.0.1 8080"], "--proxy http://127.0.0.1:8080 --cacert"),
        (
            MAIL + proxy("socks5, http"),
            ["TCP 0.0.0.0 25", "TCP 0.0.0.0 8080"],
            "--proxy http://127.0.0.1:8080 --cacert",
        ),
        (DNS + proxy("http"), ["UDP 0.0.0.0 53", "TCP :: 8080"], "--proxy http://[::1]:8080 --cacert"),
        (proxy("tls"), ["TCP 127.0.0.1 1"], "--proxy https://127.0.0.1:1 --proxy-cacert /srv/state/ca.pem --cacert"),
        (
            proxy("tls") + "[proxy-tls]\ncertificate = a\nkey = b\n",
            ["TCP 127.0.0.1 1"],
            "--proxy https://127.0.0.1:1 --cacert",
        ),
        (proxy("socks4, socks5"), ["TCP 127.0.0.1 1"], "--proxy socks5h://127.0.0.1:1 --cacert"),
        (
            proxy("socks5") + "[socks]\nusers = u\n",
            ["TCP 127.0.0.1 1"],
            "--proxy socks5h://127.0.0.1:1 --proxy-user NAME --cacert",
        ),
        (proxy("socks4"), ["TCP 127.0.0.1 1"], "--proxy socks4a://127.0.0.1:1 --cacert"),
        (
            proxy("socks5") + "[listen:q]\nendpoint = tcp:2\naccept = http\n",
            ["TCP 127.0.0.1 1", "TCP 127.0.0.1 2"],
            "--proxy http://127.0.0.1:2 --cacert",
        ),
        (MAIL, ["TCP 0.0.0.0 25"], None),
        (DNS, ["UDP 0.0.0.0 53"], None),
    ],
)
def test_the_line_to_try_fits_the_first_port_that_is_a_proxy(
    tmp_path: Path, text: str, ports: list[str], attempt: str | None
) -> None:
    bound = [Bound(kind, host, int(port)) for kind, host, port in map(str.split, ports)]
    lines = banner(settings(tmp_path, text), bound).splitlines()
    authority = "the CA certificate that clients must trust: /srv/state/ca.pem"
    if attempt is None:
        assert lines[-1] == authority
        assert len(lines) == len(ports) + 1
    else:
        assert lines[-2:] == [authority, f"try: curl {attempt} /srv/state/ca.pem https://example.com/"]


def test_the_banner_names_every_port_and_a_path_that_a_shell_takes(tmp_path: Path) -> None:
    made = settings(tmp_path, DNS + proxy("http") + "[ca]\ncertificate = /srv/our ca.pem\n")
    text = banner(made, [Bound("UDP", "::", 53), Bound("TCP", "127.0.0.1", 8080)])
    assert text.splitlines()[:2] == [
        "sslintercept listens on 127.0.0.1:8080",
        "sslintercept listens for datagrams on [::]:53",
    ]
    assert text.endswith("--cacert '/srv/our ca.pem' https://example.com/")

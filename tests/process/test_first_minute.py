"""What somebody meets who starts the proxy for the first time."""

from __future__ import annotations

import shlex
import stat

import pytest

from tests.process.conftest import ProxyMaker
from tests.process.origins import Nginx
from tests.process.tools import ROOT, run


@pytest.mark.parametrize("accept", ["http, tls, socks4, socks5", "tls", "socks5", "socks4"])
def test_the_last_lines_on_the_screen_say_where_it_listens_where_the_ca_lies_and_what_to_type(
    proxy: ProxyMaker, nginx: Nginx, accept: str
) -> None:
    made = proxy(f"[listen:proxy]\naccept = {accept}\n")
    listens, authority, attempt = made.said().splitlines()[-3:]
    assert listens == f"sslintercept listens on 127.0.0.1:{made.address[1]}"
    assert authority == f"the CA certificate that clients must trust: {made.ca}"
    assert made.ca.is_file()
    command = shlex.split(attempt.removeprefix("try: "))
    assert command[0] == "curl"
    assert command[-1] == "https://example.com/"
    done = run(*command[:-1], "--silent", "--show-error", nginx.url(), folder=made.folder)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "hello from nginx\n" * 4)


def test_the_ca_is_made_on_first_start_for_its_owner_alone_and_kept_afterwards(proxy: ProxyMaker, nginx: Nginx) -> None:
    made = proxy("")
    folder, key = made.folder / "state", made.folder / "state" / "ca.key"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE((folder / "leaf.key").stat().st_mode) == 0o600
    certificate = made.ca.read_bytes()
    made.stop()
    second = proxy(f"[sslintercept]\nstate_dir = {folder}\n[ca]\ncertificate = {made.ca}\nkey = {key}\n")
    assert made.ca.read_bytes() == certificate
    assert second.curl(nginx.url(), "--cacert", made.ca).status == 200


def test_the_readme_shows_the_lines_that_are_printed(proxy: ProxyMaker) -> None:
    made = proxy("")
    printed = "\n".join(made.said().splitlines()[-3:])
    shown = printed.replace(made.ports[0], "127.0.0.1:8080").replace(str(made.ca), "/home/you/sslintercept/var/ca.pem")
    assert f"```text\n{shown}\n```" in (ROOT / "README.md").read_text(encoding="utf-8")

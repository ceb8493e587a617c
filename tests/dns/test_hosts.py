"""The hosts file, and names that no server is asked for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sslintercept.dns import hosts as module
from sslintercept.dns.hosts import HostsFile, parse, special


def test_lines_name_addresses_and_what_is_no_line_is_ignored() -> None:
    text = (
        "127.0.0.1 localhost  here # a comment\n"
        "::1\tlocalhost LOCALHOST.\n"
        "127.0.0.1 localhost\n"
        "# 192.0.2.1 no.test\n"
        "not-an-address x.test\n"
        "192.0.2.2\n"
        "\xff\n"
        "2001:DB8::1 six.test."
    )
    assert parse(text) == {
        "localhost": ("127.0.0.1", "::1"),
        "here": ("127.0.0.1",),
        "six.test": ("2001:db8::1",),
    }


def test_a_file_is_read_again_when_it_has_changed_and_looked_at_once_a_second(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    hosts = HostsFile(path)
    assert hosts.get("a.test", 0.0) is None
    path.write_text("192.0.2.1 a.test\n")
    assert hosts.get("a.test", 0.9) is None
    assert hosts.get("a.test", 1.0) == ("192.0.2.1",)
    names = hosts.names
    assert hosts.get("a.test", 2.0) == ("192.0.2.1",)
    assert hosts.names is names
    path.write_text("192.0.2.22 a.test\n")
    assert hosts.get("a.test", 3.0) == ("192.0.2.22",)
    os.unlink(path)
    assert hosts.get("a.test", 4.0) is None
    path.write_text("192.0.2.1 a.test\n")
    assert hosts.get("a.test", 5.0) == ("192.0.2.1",)


def test_a_file_is_read_up_to_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGEST", 17)
    path = tmp_path / "hosts"
    path.write_text("192.0.2.1 a.test\n192.0.2.2 b.test\n")
    assert HostsFile(path).get("b.test", 0.0) is None


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("localhost", ("127.0.0.1", "::1")),
        ("a.b.localhost", ("127.0.0.1", "::1")),
        ("notlocalhost", None),
        ("localhost.test", None),
        ("x.invalid", ()),
        ("abc.onion", ()),
        ("onion.example", None),
        ("", None),
    ],
)
def test_special_names_are_known_without_a_server(name: str, found: tuple[str, ...] | None) -> None:
    assert special(name) == found

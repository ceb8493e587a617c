"""resolv.conf(5), and the order of search domains."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslintercept.dns.message import BadName
from sslintercept.dns.resolvconf import LOCAL, MOST_DOMAINS, MOST_TRIES, ResolvConf, Search, load, parse
from sslintercept.dns.server import MAX_NAMED, WAITS
from sslintercept.facts import Address

from .support import labels

ONE, TWO = labels("one.test"), labels("two.test")


def test_the_file_is_understood() -> None:
    read = parse(
        "# a comment\n; another\n\nnameserver 192.0.2.1 # why\nnameserver 2001:db8::1\nnameserver fe80::1%eth0\n"
        "nameserver ns.test\nnameserver\nnameserver 192.0.2.1\nnonsense here\ndomain zero.test\n"
        "search One.test bad..name . two.test\noptions ndots:2 timeout:3 attempts:4 rotate use-vc edns0 timeout:x\n"
    )
    assert read == ResolvConf(
        (Address("192.0.2.1", 53), Address("2001:db8::1", 53), Address("fe80::1%eth0", 53)),
        Search((ONE, TWO), 2),
        1,
        4,
        True,
        True,
    )
    assert read.waits == (1.0,) * 12


def test_options_are_within_bounds() -> None:
    read = parse("options ndots:99 timeout:99999 attempts:77\nnameserver ::1\n")
    assert (read.search.ndots, read.timeout, read.rounds) == (15, 30, 5)
    assert parse("options timeout:0 attempts:0 ndots:123456789").timeout == 1


def test_servers_domains_and_attempts_are_bounded() -> None:
    text = "options attempts:2\n" + "".join(f"nameserver 192.0.2.{i}\n" for i in range(100))
    read = parse(text + "search " + " ".join(f"n{i}.test" for i in range(100)))
    assert len(read.servers) == MAX_NAMED
    assert len(read.search.domains) == MOST_DOMAINS
    assert len(read.waits) == MOST_TRIES


def test_without_a_file_the_local_server_is_asked(tmp_path: Path) -> None:
    assert load(tmp_path / "none") == ResolvConf() == parse("")
    assert ResolvConf().servers == LOCAL
    (tmp_path / "resolv.conf").write_bytes(b"nameserver 192.0.2.7\n\xff\xfe\n")
    assert load(tmp_path / "resolv.conf").servers == (Address("192.0.2.7", 53),)


@given(st.text(max_size=200), st.sampled_from(["nameserver ", "options ", "search ", "domain "]))
def test_no_text_raises(text: str, keyword: str) -> None:
    parse(text)
    parse(keyword + text)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("www", ["www.one.test", "www.two.test", "www"]),
        ("a.b", ["a.b", "a.b.one.test", "a.b.two.test"]),
        ("www.", ["www"]),
    ],
)
def test_search_domains_stand_behind_or_before(name: str, expected: list[str]) -> None:
    assert Search((ONE, TWO), 1).names(name) == tuple(map(labels, expected))


def test_without_domains_there_is_one_name() -> None:
    assert Search().names("www") == (labels("www"),)


def test_a_name_that_is_too_long_behind_a_domain_is_tried_alone() -> None:
    name = ".".join(["x" * 60] * 4)
    assert Search((labels("quite.a.long.domain.test"), b"\1a\0")).names(name) == (labels(name), labels(name + ".a"))
    with pytest.raises(BadName):
        Search((ONE,)).names("a..b")


@pytest.mark.parametrize(
    ("options", "waits"),
    [
        ("", WAITS),
        ("options rotate", WAITS),
        ("options timeout:2", (2.0,) * 4),
        ("options attempts:3", (5.0,) * 6),
        ("options timeout:1 attempts:1", (1.0,) * 2),
    ],
)
def test_the_schedule_is_the_files_if_it_says_so_and_else_ours(options: str, waits: tuple[float, ...]) -> None:
    assert parse(f"nameserver 192.0.2.1\nnameserver 192.0.2.2\n{options}\n").waits == waits

"""Response policy zones."""

from __future__ import annotations

import pytest

from sslintercept.sites import zone as module
from sslintercept.sites.key import network_key
from sslintercept.sites.listing import Entry, Kind
from sslintercept.sites.zone import Zone, backwards

ZONE = b"""$TTL 2h ; the default
$ORIGIN rpz.example.
@ IN SOA localhost. root.localhost. (
    2026112801 ; serial ) not the end
    6h 1h 1w 2h )
  IN NS localhost.

; and now
bad.example 1h30M IN CNAME .
*.bad.example IN CNAME .
nodata.example CNAME *.
ok.bad.example CNAME rpz-passthru.
old.example CNAME old.example.
drop.example CNAME rpz-drop.
abs.example.rpz.example. CNAME .
garden.example A 192.0.2.1
   AAAA 2001:db8::1
24.0.2.0.192.rpz-ip CNAME .
"""


def entries(text: bytes) -> list[Entry]:
    zone = Zone()
    return [entry for line in text.splitlines() for entry in zone.read(line) or ()]


def test_triggers_list_names_and_networks() -> None:
    assert entries(ZONE) == [
        Entry(b"bad.example", Kind.HOST),
        Entry(b"bad.example", Kind.BELOW),
        Entry(b"nodata.example", Kind.HOST),
        Entry(b"ok.bad.example", Kind.HOST, True),
        Entry(b"old.example", Kind.HOST, True),
        Entry(b"drop.example", Kind.HOST),
        Entry(b"abs.example", Kind.HOST),
        Entry(b"garden.example", Kind.HOST),
        Entry(b"garden.example", Kind.HOST),
        Entry(network_key(b"192.0.2.0/24") or b"", Kind.NETWORK),
    ]


def test_the_zone_may_be_known_by_its_soa_record_alone() -> None:
    assert entries(b"rpz.test. IN SOA a. b. 1 2 3 4 5\nbad.example.rpz.test. CNAME .") == [
        Entry(b"bad.example", Kind.HOST)
    ]


@pytest.mark.parametrize(
    "line",
    [
        b"x.example CNAME rpz-tcp-only.",
        b"ns.example.rpz-nsdname CNAME .",
        b"32.1.2.0.192.rpz-client-ip CNAME .",
        b"x.example MX 10 mail.example.",
        b"$INCLUDE other.zone",
    ],
)
def test_what_a_list_of_sites_cannot_say_is_skipped(line: bytes) -> None:
    assert Zone().read(line) is None


@pytest.mark.parametrize(
    "line",
    [
        b"x.example",
        b" CNAME .",
        b"x.example CNAME",
        b"()",
        b"x.example CNAME . .",
        b"x.example <b>",
        b"x.example. CNAME .",
        b"$ORIGIN",
        b"a\\032b.example CNAME .",
        b"33.0.2.0.192.rpz-ip CNAME .",
    ],
)
def test_what_is_no_record_is_malformed(line: bytes) -> None:
    with pytest.raises(ValueError):
        Zone().read(line)


def test_an_absolute_name_of_another_zone_is_malformed() -> None:
    zone = Zone()
    zone.read(b"$ORIGIN rpz.example.")
    with pytest.raises(ValueError, match="not in the zone"):
        zone.read(b"bad.example. CNAME .")


def test_parentheses_that_never_close_end_somewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_OPEN", 3)
    zone = Zone()
    for line in (b"@ SOA a. b. (", b"1", b"2"):
        assert zone.read(line) == ()
    with pytest.raises(ValueError, match="more than 3 lines"):
        zone.read(b"3")
    assert zone.read(b"bad.example CNAME .") == (Entry(b"bad.example", Kind.HOST),)


@pytest.mark.parametrize(
    ("text", "network"),
    [
        (b"32.1.2.0.192", b"192.0.2.1"),
        (b"8.0.0.0.10", b"10.0.0.0/8"),
        (b"48.zz.1.db8.2001", b"2001:db8:1::/48"),
        (b"128.1.zz.2001", b"2001::1"),
        (b"128.1.zz", b"::1"),
    ],
)
def test_networks_are_written_backwards(text: bytes, network: bytes) -> None:
    assert backwards(text) == network_key(network)

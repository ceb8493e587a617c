"""Plain lists, hosts files, comma-separated values."""

from __future__ import annotations

import pytest

from sslintercept.sites.key import network_key
from sslintercept.sites.lines import Hosts, Plain, Table, Urls
from sslintercept.sites.listing import Entry, Kind


def net(text: bytes) -> Entry:
    key = network_key(text)
    assert key is not None
    return Entry(key, Kind.NETWORK)


@pytest.mark.parametrize(
    ("line", "entry"),
    [
        (b"example.com\r\n", Entry(b"example.com", Kind.DOMAIN)),
        (b"  Example.com. # why\n", Entry(b"example.com", Kind.DOMAIN)),
        (b".example.com", Entry(b"example.com", Kind.DOMAIN)),
        (b"*.example.com", Entry(b"example.com", Kind.BELOW)),
        (b"192.0.2.1", net(b"192.0.2.1")),
        (b"192.0.2.0/24 ; note", net(b"192.0.2.0/24")),
        (b"2001:db8::/32", net(b"2001:db8::/32")),
        (b"http://example.com/x/", Entry(b"example.com/x/", Kind.URL)),
        (b"http://example.com/x/*", Entry(b"example.com/x", Kind.PREFIX)),
        (b"example.com/x/", Entry(b"example.com/x", Kind.PREFIX)),
        (b"example.com/", Entry(b"example.com", Kind.DOMAIN)),
        (b"example.com:8080", Entry(b"example.com:8080/", Kind.PREFIX)),
        (b"192.0.2.1/x", Entry(b"192.0.2.1/x", Kind.PREFIX)),
    ],
)
def test_a_plain_line_lists_a_name_a_network_or_a_url(line: bytes, entry: Entry) -> None:
    assert Plain().read(line) == (entry,)


@pytest.mark.parametrize("line", [b"", b"\n", b"# x", b"; x", b"! x", b"// x"])
def test_comments_list_nothing(line: bytes) -> None:
    assert Plain().read(line) == ()


@pytest.mark.parametrize("line", [b"<html>", b"a b", b"1.2.3", b"\xff\xfe", b"a,b"])
def test_a_plain_line_that_is_neither_is_malformed(line: bytes) -> None:
    with pytest.raises(ValueError):
        Plain().read(line)


def test_a_name_alone_among_urls_is_that_host_only() -> None:
    assert Urls().read(b"example.com") == (Entry(b"example.com", Kind.HOST),)
    assert Urls().read(b"example.com/") == (Entry(b"example.com", Kind.HOST),)


def test_a_hosts_file_lists_what_it_sends_nowhere() -> None:
    read = Hosts().read
    assert read(b"0.0.0.0 a.example B.example # c.example\n") == [
        Entry(b"a.example", Kind.HOST),
        Entry(b"b.example", Kind.HOST),
    ]
    assert read(b"::1\tip6-localhost localhost") == []
    assert read(b"# 0.0.0.0 a.example") == ()
    assert read(b"192.0.2.7 intranet.example") is None
    assert read(b"255.255.255.255 broadcasthost") == ()
    for line in (b"0.0.0.0", b"here a.example", b"0.0.0.0 a..example"):
        with pytest.raises(ValueError):
            read(line)


URLHAUS = b"""################
# abuse.ch URLhaus Database Dump (CSV)
#
# id,dateadded,url,url_status,last_online,threat,tags,urlhaus_link,reporter
"3","2026-11-28 10:00:07","http://192.0.2.9:4711/Mozi.m","offline","","malware_download","elf,Mozi","https://urlhaus.abuse.ch/url/3/","x"
"4","2026-11-28 10:00:08","https://bad.example/a, b.exe","online","","botnet","None","https://urlhaus.abuse.ch/url/4/","y"
"""


def test_a_table_of_urlhaus_lists_urls_with_their_threat() -> None:
    table = Table()
    found = [entry for line in URLHAUS.splitlines() for entry in table.read(line) or ()]
    assert found == [
        Entry(b"192.0.2.9:4711/Mozi.m", Kind.URL, category="malware_download"),
        Entry(b"bad.example/a,%20b.exe", Kind.URL, category="botnet"),
    ]


def test_the_header_of_a_table_may_be_a_row() -> None:
    table = Table()
    assert table.read(b"first_seen,dst_ip,dst_port,malware") == ()
    assert table.read(b'"2026-11-28","192.0.2.9","443","x"') == (net(b"192.0.2.9"),)


def test_a_table_without_header_shows_its_column_by_the_first_url() -> None:
    table = Table()
    assert table.read(b'1,"http://bad.example/x"') == (Entry(b"bad.example/x", Kind.URL),)
    assert table.read(b"2,bad.example") == (Entry(b"bad.example", Kind.DOMAIN),)


def test_an_address_with_a_port_is_the_address() -> None:
    table = Table()
    table.read(b"# ioc_value,threat_type")
    assert table.read(b"192.0.2.9:8080,botnet_cc") == (net(b"192.0.2.9")._replace(category="botnet_cc"),)


@pytest.mark.parametrize("line", [b'"a', b"a,b", b"x" + b"," * 100])
def test_a_row_that_cannot_be_read_is_malformed(line: bytes) -> None:
    with pytest.raises(ValueError):
        Table().read(line)


def test_an_empty_row_and_a_comment_that_is_no_row_list_nothing() -> None:
    assert Table().read(b"\n") == ()
    assert Table().read(b'# "a, url\n') == ()


def test_a_row_with_too_few_fields_is_malformed() -> None:
    table = Table()
    table.read(b"# id,url")
    with pytest.raises(ValueError, match="too few"):
        table.read(b"1")

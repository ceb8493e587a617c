"""What lists say of hosts and URLs."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from sslintercept.sites.compile import compiled
from sslintercept.sites.image import Builder, Image
from sslintercept.sites.listing import Entry, Kind, Listing, ListSettings
from sslintercept.sites.look import MAX_SEGMENTS, SiteList, Sites
from tests.sites.build import listed, sites


def test_the_verdict_names_list_category_file_line_and_what_matched(tmp_path: Path) -> None:
    lists = sites(tmp_path, "# a comment\nexample.com\n")
    path = str(tmp_path / "bad.txt")
    found = lists.host("www.Example.com.")
    assert found == Listing("bad", "", path, 2, "example.com", Kind.DOMAIN)
    assert str(found) == f"list bad: domain example.com, {path} line 2"


def test_a_domain_lists_what_is_below_and_a_host_does_not(tmp_path: Path) -> None:
    asked = ("example.com", "a.b.example.com", "notexample.com", "com", "example.com.evil.test", "")
    assert listed(sites(tmp_path, "example.com\n"), *asked) == ["example.com", "a.b.example.com"]
    assert listed(sites(tmp_path, "0.0.0.0 example.com\n"), *asked) == ["example.com"]
    assert listed(sites(tmp_path, "*.example.com\n"), *asked) == ["a.b.example.com"]


def test_a_name_is_found_in_every_spelling(tmp_path: Path) -> None:
    lists = sites(tmp_path, "bücher.example\n")
    asked = ["bücher.example", "BÜCHER.example.", "xn--bcher-kva.example", "XN--BCHER-KVA.EXAMPLE", "a.bücher。example"]
    assert listed(lists, *asked) == asked


def test_within_a_list_the_most_specific_entry_is_named(tmp_path: Path) -> None:
    lists = sites(tmp_path, "example.com\nads.example.com\nexample.com\n")
    for name, line in (("x.ads.example.com", 2), ("example.com", 1), ("x.example.com", 1)):
        found = lists.host(name)
        assert found is not None
        assert found.line == line


def test_of_equal_entries_the_first_is_named(tmp_path: Path) -> None:
    text = "url,threat\nexample.com,first\nexample.com,second\n192.0.2.1,first\n192.0.2.1,second\n"
    text += "example.org/x,first\nexample.org/x,second\n"
    lists = sites(tmp_path, text)
    found = [lists.host("a.example.com"), lists.host("192.0.2.1"), lists.url("http", "example.org", 80, b"/x")]
    assert [listing.category for listing in found if listing is not None] == ["first"] * 3


def test_an_exception_silences_its_list_however_specific_other_entries_are(tmp_path: Path) -> None:
    lists = sites(tmp_path, "||example.com^\n||ads.good.example.com^\n@@||good.example.com^\n")
    asked = ("example.com", "good.example.com", "ads.good.example.com", "bad.example.com")
    assert listed(lists, *asked) == ["example.com", "bad.example.com"]


def test_in_a_policy_zone_the_closest_trigger_decides(tmp_path: Path) -> None:
    zone = "$ORIGIN rpz.\n*.example.com CNAME rpz-passthru.\nads.example.com CNAME .\nexample.com CNAME .\n"
    lists = sites(tmp_path, zone + "ok.test CNAME rpz-passthru.\n*.test CNAME .\n", suffixes=True)
    asked = ("example.com", "www.example.com", "ads.example.com", "ok.test", "bad.test", "test")
    assert listed(lists, *asked) == ["example.com", "ads.example.com", "bad.test"]


def test_between_lists_the_first_decides_and_exceptions_hold_in_their_own_only(tmp_path: Path) -> None:
    lists = sites(tmp_path, "||example.com^\n@@||good.example.com^\n", "deep.example.com\ngood.example.com\n")
    for name, listing in (("deep.example.com", "bad"), ("good.example.com", "bad2")):
        found = lists.host(name)
        assert found is not None
        assert found.list == listing


def test_addresses_are_found_in_the_longest_network(tmp_path: Path) -> None:
    lists = sites(tmp_path, "192.0.2.0/24\n192.0.2.7\n2001:db8::/32\n198.51.0.0/16\n")
    for host, line in (
        ("192.0.2.7", 2),
        ("192.0.2.8", 1),
        ("::ffff:192.0.2.8", 1),
        ("[2001:db8::5]", 3),
        ("198.51.255.1", 4),
    ):
        found = lists.host(host)
        assert found is not None
        assert (found.line, found.kind) == (line, Kind.NETWORK)
    assert listed(lists, "192.0.3.1", "2001:db9::1", "192.0.2.example.com") == []


def test_an_exception_holds_for_an_address_in_a_network(tmp_path: Path) -> None:
    assert listed(sites(tmp_path, "||192.0.2.1^\n@@||192.0.2.1^\n"), "192.0.2.1") == []


def urls(lists: Sites, *targets: str, host: str = "example.com") -> list[str]:
    return [target for target in targets if lists.url("https", host, 443, target.encode()) is not None]


def test_a_prefix_lists_what_goes_on_behind_a_slash_or_a_query(tmp_path: Path) -> None:
    lists = sites(tmp_path, "example.com/bad\n")
    asked = ("/bad", "/bad/", "/bad/x/y", "/bad?x", "/bad/x?y", "/x/../%62ad/z", "/badly", "/", "/x/bad", "/BAD")
    assert urls(lists, *asked) == ["/bad", "/bad/", "/bad/x/y", "/bad?x", "/bad/x?y", "/x/../%62ad/z"]
    assert lists.host("example.com") is None


def test_prefixes_are_looked_for_in_so_many_segments_and_in_the_whole_path(tmp_path: Path) -> None:
    deep = "/x" * (MAX_SEGMENTS + 10)
    lists = sites(tmp_path, f"example.com{deep}\n")
    assert urls(lists, deep, deep + "?y", deep + "/y", "/x") == [deep, deep + "?y"]


def test_a_prefix_holds_with_www_and_for_no_other_host_or_port(tmp_path: Path) -> None:
    lists = sites(tmp_path, "example.com/bad\n")
    assert urls(lists, "/bad", host="www.example.com")
    assert not urls(lists, "/bad", host="api.example.com")
    assert lists.url("http", "example.com", 80, b"/bad") is not None
    assert lists.url("https", "example.com", 8443, b"/bad") is None


def test_a_full_url_lists_itself_and_with_any_query_if_it_has_none(tmp_path: Path) -> None:
    lists = sites(tmp_path, "http://example.com/bad\nhttp://example.com/login?id=7\n")
    asked = ("/bad", "/bad?x=1", "/bad/more", "/bad/", "/login", "/login?id=7", "/login?id=8")
    assert urls(lists, *asked) == ["/bad", "/bad?x=1", "/login?id=7"]


def test_a_url_is_also_listed_by_its_host_but_the_entry_about_the_url_is_named(tmp_path: Path) -> None:
    lists = sites(tmp_path, "example.com\nexample.com/bad\n192.0.2.0/24\n")
    for host, target, line in (("example.com", b"/x", 1), ("example.com", b"/bad/x", 2), ("192.0.2.1", b"/", 3)):
        found = lists.url("http", host, 80, target)
        assert found is not None
        assert found.line == line


def test_an_exception_for_a_path_lets_that_path_through(tmp_path: Path) -> None:
    assert urls(sites(tmp_path, "||example.com^\n@@||example.com/ok\n"), "/ok/x", "/x") == ["/x"]


def test_a_host_that_no_list_could_spell_is_listed_by_none(tmp_path: Path) -> None:
    lists = sites(tmp_path, "example.com\n")
    for host in ("a" * 300, "\ud800", ""):
        assert lists.host(host) is None
        assert lists.url("http", host, 80, b"/") is None
        assert lists.all_of_host(host) == ()
        assert lists.silent("http", host, 80)


def test_where_no_list_has_anything_about_an_origin_that_is_known_of_all_its_urls(tmp_path: Path) -> None:
    lists = sites(tmp_path, "example.com/bad\n", "evil.test\n192.0.2.0/24\n")
    assert lists.silent("https", "example.org", 443)
    assert lists.silent("https", "example.com", 8443)
    for host in ("example.com", "www.example.com", "evil.test", "www.evil.test", "192.0.2.1"):
        assert not lists.silent("https", host, 443)
    assert lists.silent("http", "2001:db8::1", 80) is False, "there are networks, and it may be in one"


def test_every_category_of_a_site_can_be_asked_for(tmp_path: Path) -> None:
    for category, text in (("adult", "example.com\n"), ("games", "example.com\nplay.example.com\n")):
        (tmp_path / category).mkdir()
        (tmp_path / category / "domains").write_text(text)
    (tmp_path / "games" / "urls").write_text("example.org/play\n")
    image = compiled(ListSettings("ut1", tmp_path))
    lists = Sites((SiteList("ut1", image),))
    found = [(each.category, each.matched) for each in lists.all_of_host("www.play.example.com")]
    assert found == [("games", "play.example.com"), ("adult", "example.com")]
    assert [each.file for each in lists.all_of_url("http", "example.org", 80, b"/play/1")] == ["games/urls"]
    assert lists.all_of_host("192.0.2.1") == ()


def test_a_top_level_name_is_listed_only_when_that_is_allowed(tmp_path: Path) -> None:
    text = "zip\nexample.com\n"
    assert listed(sites(tmp_path, text), "a.zip", "zip", "example.com") == ["example.com"]
    allowed = sites(tmp_path, text, suffixes=True)
    assert listed(allowed, "a.zip", "zip", "www.example.com", "a.test") == ["a.zip", "zip", "www.example.com"]


LABEL = st.sampled_from(["a", "b", "c", "d"])
NAME = st.lists(LABEL, min_size=2, max_size=4).map(".".join)
ENTRIES = st.lists(st.tuples(NAME, st.sampled_from((Kind.HOST, Kind.DOMAIN, Kind.BELOW)), st.booleans()), max_size=8)


@given(ENTRIES, st.lists(LABEL, min_size=1, max_size=5).map(".".join))
def test_a_look_up_says_what_going_through_all_entries_says(entries: list[tuple[str, Kind, bool]], name: str) -> None:
    builder = Builder("bad")
    for line, (key, kind, exception) in enumerate(entries, 1):
        builder.add(Entry(key.encode(), kind, exception), line, builder.source("file", ""))
    image = Image(b"".join(map(bytes, builder.finish())))
    lists = Sites((SiteList("bad", image),))
    hits = [
        (key, exception)
        for key, kind, exception in entries
        if (kind is not Kind.BELOW and name == key) or (kind is not Kind.HOST and name.endswith("." + key))
    ]
    found = lists.host(name)
    if not hits or any(exception for _, exception in hits):
        assert found is None
    else:
        assert found is not None
        assert found.matched == max((key for key, _ in hits), key=len)

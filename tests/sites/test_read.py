"""Files and folders: formats, bounds, and what is refused."""

from __future__ import annotations

import contextlib
import gzip
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslintercept.sites import read as module
from sslintercept.sites.compile import compiled
from sslintercept.sites.key import is_network, shown
from sslintercept.sites.listing import ListError, ListSettings, Report
from sslintercept.sites.look import SiteList, Sites
from sslintercept.sites.read import FORMATS, SAMPLE, parts, recognised, stamp
from tests.sites.build import listed, settings, sites
from tests.sites.test_lines import URLHAUS
from tests.sites.test_zone import ZONE

SAMPLES = {
    "rpz": ZONE,
    "adblock": b"[Adblock Plus 2.0]\n! Title: x\n||example.com^\n@@||good.example.com^\nfoo.example##.ad\n",
    "hosts": b"# hosts\n127.0.0.1 localhost\n::1 localhost\n0.0.0.0 bad.example # x\n0.0.0.0 worse.example\n",
    "csv": URLHAUS,
    "plain": b"# domains\nexample.com\nsub.example.org\n192.0.2.0/24\nexample.net/x\nhttp://example.net/y,z\n",
}


def report(folder: Path, text: str | bytes, format_: str = "auto", suffixes: bool = False) -> Report:
    return compiled(settings(folder, text, format_, suffixes=suffixes)).report


@pytest.mark.parametrize("name", SAMPLES)
def test_a_format_is_recognised(name: str, tmp_path: Path) -> None:
    assert recognised(SAMPLES[name]) == name
    assert recognised(b"\xef\xbb\xbf" + SAMPLES[name].replace(b"\n", b"\r\n")) == name
    found = report(tmp_path, SAMPLES[name])
    assert found.formats == [name]
    assert found.entries > 0
    assert not found.malformed


def test_a_line_that_is_cut_off_does_not_decide_on_the_format(tmp_path: Path) -> None:
    sample = b"||a.example^\n".ljust(SAMPLE, b"x")
    assert recognised(sample) == "adblock"
    assert report(tmp_path, "||a.example^\n" * 6000).formats == ["adblock"]


WORDS = st.sampled_from(
    b'a.example|192.0.2.1|2001:db8::|/24|http://|://|/x|||^|@@|$|,|#|##|!|;|"|(|)| |\t|$ORIGIN|IN|CNAME|A|.|*.|rpz-ip|'
    b"rpz-passthru.|\\|%|\x00|\xff|\xc3\xbc|[|]|:|80|url".split(b"|")
)


@given(st.sampled_from(sorted(FORMATS)), st.lists(st.lists(WORDS | st.binary(max_size=4), max_size=9).map(b"".join)))
def test_whatever_a_line_says_it_is_read_or_malformed(name: str, lines: list[bytes]) -> None:
    parser = FORMATS[name].parser()
    for line in lines:
        with contextlib.suppress(ValueError):
            for entry in parser.read(line) or ():
                assert 0 not in entry.key or is_network(entry.key)
                assert b"\n" not in entry.key or is_network(entry.key)
                assert shown(entry.key)
    recognised(b"\n".join(lines))


def test_what_looks_like_nothing_is_refused(tmp_path: Path) -> None:
    assert recognised(b"<!DOCTYPE html>\n<p>Not found, sorry</p>\n") is None
    with pytest.raises(ListError, match="in no format that is known; write"):
        report(tmp_path, "<!DOCTYPE html>\n<p>Not found</p>\n")
    with pytest.raises(ListError, match="unknown format 'yaml'; write auto or rpz"):
        report(tmp_path, "example.com\n", "yaml")


def test_malformed_lines_are_skipped_counted_and_the_first_are_named(tmp_path: Path) -> None:
    text = "".join(f"host{n}.example\n" for n in range(20)) + "a b\n" * 8 + "last.example\n"
    found = report(tmp_path, text)
    assert (found.entries, found.malformed, found.lines) == (21, 8, 29)
    assert len(found.mistakes) == 5
    assert found.mistakes[0] == f"{tmp_path / 'bad.txt'} line 21: 'a b' is not a name"
    assert "21 entries of 29 lines (plain), 0 duplicates, 0 skipped, 8 malformed: " in str(found)


def test_a_list_of_which_most_is_malformed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ListError, match=r"list bad: .*3 lines are malformed.*2 can be used; .*line 3: 'a b' is not"):
        report(tmp_path, "x.example\ny.example\na b\nc d\ne f\n", "plain")


def test_a_list_of_which_nothing_can_be_used_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ListError, match="2 say nothing of whole sites, 0 can be used"):
        report(tmp_path, "example.com##.ad\n/banner/\n", "adblock")


def test_an_empty_file_is_refused_and_a_comment_is_an_empty_list(tmp_path: Path) -> None:
    with pytest.raises(ListError, match="not a single line"):
        report(tmp_path, "")
    assert report(tmp_path, "# nothing today\n").entries == 0


def test_lines_files_and_lists_have_a_greatest_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_LINE", 20)
    found = report(tmp_path, f"a.example\n{'x' * 70}.example\nb.example\n{'c' * 11}.example\nd.example", "plain")
    assert (found.entries, found.lines) == (4, 5)
    assert found.mistakes == [f"{tmp_path / 'bad.txt'} line 2: more than 20 bytes"]
    monkeypatch.setattr(module, "MAX_LINES", 2)
    with pytest.raises(ListError, match="more than 2 lines"):
        report(tmp_path, "a.example\nb.example\nc.example\n")
    monkeypatch.setattr(module, "MAX_BYTES", 15)
    with pytest.raises(ListError, match="has more than 0 MiB"):
        report(tmp_path, "a.example\nb.example\n")
    with pytest.raises(ListError, match="has more than 0 MiB"):
        report(tmp_path, "a" * 100, "plain")


def test_a_compressed_file_is_read_and_one_that_is_cut_is_refused(tmp_path: Path) -> None:
    packed = gzip.compress("".join(f"host{n}.example\n" for n in range(500)).encode())
    assert report(tmp_path, packed).entries == 500
    with pytest.raises(ListError, match="is not whole"):
        report(tmp_path, packed[:-20])
    with pytest.raises(ListError, match="is not whole"):
        report(tmp_path, packed[:30] + b"\0" * 30 + packed[60:])


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, what in (("pipe", "not a regular file"), ("none", "cannot read .*No such file")):
        with pytest.raises(ListError, match=what):
            compiled(ListSettings("bad", tmp_path / name))


def test_more_than_can_be_meant_is_malformed(tmp_path: Path) -> None:
    text = "com\n*.de\n0.0.0.0/0\n::/0\nco.uk\n" + "".join(f"host{n}.example\n" for n in range(6)) + "com.example\n"
    found = report(tmp_path, text)
    assert (found.entries, found.malformed) == (7, 5)
    path = tmp_path / "bad.txt"
    assert found.mistakes == [
        f"{path} line 1: com is a whole top-level domain",
        f"{path} line 2: de is a whole top-level domain",
        f"{path} line 3: 0.0.0.0/0 is every address",
        f"{path} line 4: ::/0 is every address",
        f"{path} line 5: co.uk is a whole public suffix",
    ]
    assert report(tmp_path, text, suffixes=True).entries == 12


def test_an_exception_may_be_as_wide_as_it_likes_and_a_host_is_only_itself(tmp_path: Path) -> None:
    assert report(tmp_path, "||bad.com^\n@@||com^\n").malformed == 0
    assert report(tmp_path, "0.0.0.0 co.uk\n0.0.0.0 bad.example\n").malformed == 0


def ut1(folder: Path) -> Path:
    """A folder as UT1's, with a link of an old name."""
    for category, file, text in (
        ("adult", "domains", "example.com\n192.0.2.1\n"),
        ("adult", "urls", "example.org/adult\nexample.net\n"),
        ("adult", "expressions", "(sex|xxx)\n"),
        ("games", "domains", "play.example\n"),
        ("games", "urls", ""),
    ):
        (folder / category).mkdir(exist_ok=True)
        (folder / category / file).write_text(text)
    (folder / "porn").symlink_to("adult")
    (folder / "README").write_text("UT1\n")
    return folder


def test_a_folder_of_categories_is_one_list(tmp_path: Path) -> None:
    image = compiled(ListSettings("ut1", ut1(tmp_path)))
    lists = Sites((SiteList("ut1", image),))
    assert image.report.entries == 5
    for host, category in (("www.example.com", "adult"), ("192.0.2.1", "adult"), ("play.example", "games")):
        found = lists.host(host)
        assert found is not None
        assert (found.category, found.file) == (category, f"{category}/domains")
    assert listed(lists, "example.net", "www.example.net", "example.org") == ["example.net"]
    assert lists.url("http", "example.org", 80, b"/adult/1") is not None


def test_categories_of_a_folder_can_be_chosen_links_too(tmp_path: Path) -> None:
    folder = ut1(tmp_path)
    assert [part.shown for part in parts(ListSettings("ut1", folder, categories=("games",)))] == [
        "games/domains",
        "games/urls",
    ]
    assert {part.category for part in parts(ListSettings("ut1", folder, categories=("porn",)))} == {"porn"}
    with pytest.raises(ListError, match="no category nothing, that"):
        parts(ListSettings("ut1", folder, categories=("nothing", "games", "that")))


def test_a_single_category_folder_has_its_own_name_or_the_one_it_is_given(tmp_path: Path) -> None:
    folder = ut1(tmp_path) / "games"
    assert {part.category for part in parts(ListSettings("ut1", folder))} == {"games"}
    assert {part.category for part in parts(ListSettings("ut1", folder, category="play"))} == {"play"}


def test_a_folder_without_lists_or_with_too_much_in_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ListError, match="no files domains or urls"):
        parts(ListSettings("ut1", tmp_path))
    monkeypatch.setattr(module, "MAX_CATEGORIES", 2)
    with pytest.raises(ListError, match="over 2 entries"):
        parts(ListSettings("ut1", ut1(tmp_path)))


def test_a_folder_that_cannot_be_looked_into_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(ListError, match=r"cannot read .* \(Permission denied\); make it readable"):
        parts(ListSettings("ut1", tmp_path))


def test_a_stamp_changes_with_a_file_and_with_the_files_of_a_folder(tmp_path: Path) -> None:
    folder = ListSettings("ut1", ut1(tmp_path))
    before = stamp(folder)
    assert before == stamp(folder)
    (tmp_path / "games" / "domains").write_text("play.example\nmore.example\n")
    changed = stamp(folder)
    assert changed != before
    (tmp_path / "games" / "urls").unlink()
    assert stamp(folder) != changed
    assert stamp(ListSettings("none", tmp_path / "none")) == ()


def test_every_format_can_be_asked_for_and_the_lists_say_the_same(tmp_path: Path) -> None:
    texts = {
        "plain": "bad.example\n",
        "urls": "bad.example\n",
        "hosts": "0.0.0.0 bad.example\n",
        "adblock": "||bad.example^\n",
        "csv": "domain,why\nbad.example,x\n",
        "rpz": "bad.example CNAME .\n",
    }
    assert texts.keys() == FORMATS.keys()
    for format_, text in texts.items():
        assert listed(sites(tmp_path, text, format_=format_), "bad.example", "good.example") == ["bad.example"]

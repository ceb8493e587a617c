"""The ini file as lines: what belongs to whom, where it stands, and what cannot be used."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslintercept.config.lines import Fault, parse

NOT_UNDERSTOOD = "not understood; write [SECTION], key = value, or a comment that begins with ; or #"


def values(text: str) -> dict[str, dict[str, str]]:
    sections, faults = parse(text.encode())
    assert faults == []
    return {section.name: {key: entry.value for key, entry in section.entries.items()} for section in sections}


def faults(text: str) -> list[Fault]:
    return parse(text.encode())[1]


def test_sections_and_keys_know_their_lines() -> None:
    sections, found = parse(b"\n[http]\nvia = off\n\n[log]\n# why\naccess = -\n")
    assert found == []
    assert [(section.name, section.line) for section in sections] == [("http", 2), ("log", 5)]
    assert (sections[0].entries["via"].line, sections[1].entries["access"].line) == (3, 7)


def test_an_empty_file_has_no_sections() -> None:
    assert values("") == {}
    assert values("\n  \n; nothing\n # at all\n") == {}


def test_white_space_around_names_and_values_does_not_count() -> None:
    assert values("[ http ]\n\tvia=a = b\t\n") == {"http": {"via": "a = b"}}


def test_a_comment_begins_after_white_space_only() -> None:
    text = "[http] ; a\na = x ; y\nb = x;y\nc = x # y ; z\nd = x#y\t#z\ne = ;y\n"
    assert values(text) == {"http": {"a": "x", "b": "x;y", "c": "x", "d": "x#y", "e": ""}}


def test_a_deeper_line_continues_the_value() -> None:
    text = "[dns]\nservers =\n  192.0.2.1, ; one\n  # none\n\t[::1]:53\nhosts = x\n"
    assert values(text) == {"dns": {"servers": "192.0.2.1,\n[::1]:53", "hosts": "x"}}


def test_a_file_may_be_indented_as_a_whole() -> None:
    assert values("  [a]\n    x = 1\n      2\n    y = 3\n  [b]\n") == {"a": {"x": "1\n2", "y": "3"}, "b": {}}


def test_a_blank_line_ends_a_value() -> None:
    assert values("[a]\nx = 1\n\n  y = 2\n") == {"a": {"x": "1", "y": "2"}}


def test_carriage_returns_and_a_byte_order_mark_do_no_harm() -> None:
    sections, found = parse(b"\xef\xbb\xbf[a]\r\nx = 1\r\n")
    assert found == []
    assert sections[0].entries["x"].value == "1"


def test_the_last_line_needs_no_end() -> None:
    assert values("[a]\nx = 1") == {"a": {"x": "1"}}


def test_a_section_given_twice_names_both_lines_and_is_kept_twice() -> None:
    sections, found = parse(b"[a]\nx = 1\n[b]\n[a]\nx = 2\n")
    assert found == [Fault(4, "a", "", "given twice, first in line 1; keep one of the two")]
    assert [section.name for section in sections] == ["a", "b", "a"]


def test_a_key_given_twice_names_both_lines_and_the_first_stays() -> None:
    sections, found = parse(b"[a]\nx = 1\nx = 2\n  3\n")
    assert found == [Fault(3, "a", "x", "given twice, first in line 2; keep one of the two")]
    assert sections[0].entries["x"].value == "1"


def test_keys_before_the_first_section_are_one_fault() -> None:
    sections, found = parse(b"x = 1\ny = 2\n[a]\n")
    assert found == [Fault(1, "", "x", "a key before the first section; write a line like [http] above it")]
    assert [section.name for section in sections] == ["a"]


@pytest.mark.parametrize("line", ["[http", "[http]x", "[]", "[ ]", "[a]b]", "[" + "a" * 81 + "]"])
def test_the_keys_below_a_broken_heading_belong_to_no_section(line: str) -> None:
    sections, found = parse(f"[a]\n{line}\nx = 1\n".encode())
    assert found == [Fault(2, "", "", "not a section; write [NAME] in a line of its own")]
    assert [(section.name, section.entries) for section in sections] == [("a", {})]


@pytest.mark.parametrize("line", ["via", "via: off", "= off", "9a = b", "a b = c", "k" * 41 + " = 1"])
def test_a_line_that_is_no_key_is_a_fault(line: str) -> None:
    assert faults(f"[a]\n{line}\n") == [Fault(2, "a", "", NOT_UNDERSTOOD)]


def test_a_private_key_pasted_by_mistake_is_not_repeated() -> None:
    secret = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgevZzL1gdAFr88hb2"
    found = faults(f"[ca]\n-----BEGIN PRIVATE KEY-----\n{secret}\n{secret}==\n-----END PRIVATE KEY-----\n")
    assert [fault.line for fault in found] == [2, 3, 4, 5]
    assert secret not in repr(found)


def test_bad_utf_8_and_control_characters_are_named_with_their_line() -> None:
    sections, found = parse(b"[a]\nx = \xff\ny = \x1b[2J\nz = 1\x00\nv = a\rb\nw = 1\n")
    assert found == [
        Fault(2, "a", "", "not UTF-8; save the file as UTF-8"),
        Fault(3, "a", "", "a control character; remove it"),
        Fault(4, "a", "", "a control character; remove it"),
        Fault(5, "a", "", "a control character; remove it"),
    ]
    assert list(sections[0].entries) == ["w"]


NAMES = st.text(string.ascii_lowercase, min_size=1, max_size=8)
VALUES = st.text(string.ascii_letters + string.digits + ".:=[]*ü", max_size=12)


@given(st.dictionaries(NAMES, st.dictionaries(NAMES, VALUES, max_size=4), max_size=4), st.sampled_from(["\n", "\r\n"]))
def test_what_is_written_is_read_back(written: dict[str, dict[str, str]], end: str) -> None:
    rows = [row for name, keys in written.items() for row in (f"[{name}]", *(f"{k} = {v}" for k, v in keys.items()))]
    assert values(end.join(rows)) == written


@given(st.binary(max_size=200) | st.text("[]=;#a \t\n\r\x00é", max_size=60).map(str.encode))
def test_any_bytes_give_sections_and_faults_with_lines_of_the_file(data: bytes) -> None:
    sections, found = parse(data)
    numbers = range(1, data.count(b"\n") + 2)
    assert all(fault.line in numbers for fault in found)
    assert all(section.line in numbers and section.name for section in sections)
    assert sorted(fault.line for fault in found) == [fault.line for fault in found]

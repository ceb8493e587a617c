"""Text of HTML, XML and JSON."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslintercept.unpack.markup import html_text
from tests.unpack.tools import Found


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("<p>Hello <b>wo</b>rld &amp; &eacute;&#x34;1</p>", "Hello world & é41"),
        ("<td>1</td><td>2</td>", "1\n2"),
        ("a<script>x('<b>')</script>b<style>y</style>c", "a\nb\nc"),
        ("a<!-- x --><b>b</b><!-->c<!--->d<!--x--!>e<!-- open", "abcde"),
        ("a<!x>b<?y>c</ z>d", "abcd"),
        ("1 < 2 <3 & x", "1 < 2 <3 & x"),
        ("<a title='x &gt; y' href=z>t</a>", "x > y\nt"),
        ('<a =">shown</a>', "shown"),
        ("<a b='>'>shown</a>", "shown"),
        ("<a b=c'>shown</a>", "shown"),
        ('<input value=4111><img alt="pic">', "4111\npic"),
        ("<textarea><b>&amp;</textarea>x", "<b>&\nx"),
        ("<title>a<b</title>x", "a<b\nx"),
        ("<xmp>&amp;<p></xmp>x", "&amp;<p>\nx"),
        ("<script>never ends", ""),
        ("<iframe srcdoc='<p>in&lt;b&gt;ner</p>'></iframe>", "inner"),
        ("<SCRIPT>x</sCript >shown", "shown"),
        ("&#99999999999999999999;" + "&#" + "9" * 5000 + ";x", "\ufffd\ufffdx"),
        ("<plaintext><b>", "<b>"),
        ("cut off <a b='", "cut off"),
    ],
)
def test_what_a_reader_of_html_sees_comes_out(source: str, expected: str) -> None:
    assert html_text(source) == expected


@pytest.mark.parametrize(
    "source",
    [
        "<div>" * 200_000,
        "<" * 1_000_000,
        "<a " * 300_000,
        "<a b='" * 200_000,
        "<a b=" * 200_000,
        "<!--" * 300_000,
        "<!-" * 300_000,
        "</" * 500_000,
        "&" * 1_000_000,
        "&#" * 500_000,
        "&amp" * 250_000,
        " " * 1_000_000,
        "<script>" * 100_000,
        "<title>" * 100_000,
        "\n \t" * 300_000,
        "<a title='" + "<a title=" * 100_000,
        "<a srcdoc='<a srcdoc=\"" + "<b srcdoc=x>" * 100_000,
    ],
)
def test_html_that_nobody_writes_honestly_is_read_in_time(source: str) -> None:
    begun = time.process_time()
    html_text(source)
    assert time.process_time() - begun < 5


def test_a_page_comes_as_a_text_in_utf_8_whatever_its_charset() -> None:
    for charset in ("utf-8", "utf-16", "iso-8859-1"):
        found = Found("<html>Grüße".encode(charset), media_type="text/html", charset=charset)
        assert found.texts() == "Grüße"
        assert not found.notes


def test_xml_gives_text_and_attributes() -> None:
    found = Found(b"<?xml version='1.0' encoding='iso-8859-1'?><a b='card'>4111<c>\xe4</c></a>")
    assert found.texts() == "card\n4111\nä"


@pytest.mark.parametrize(
    ("source", "note"),
    [
        (b"<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", "entities"),
        (b"<?xml version='1.0'?><!DOCTYPE a [<!ENTITY % b SYSTEM 'file:///etc/passwd'>%b;]><a/>", "entities"),
        (b"<?xml version='1.0' encoding='nonsense'?><a>b</a>", "rubbish"),
        (b"<?xml version='1.0'?><a>b", "truncated"),
        (b"<?xml version='1.0'?><a></b>", "rubbish"),
    ],
)
def test_xml_that_is_not_as_it_should_be_is_noted(source: bytes, note: str) -> None:
    assert Found(source).notes == {note}


def test_json_gives_strings_and_numbers_in_order() -> None:
    found = Found(
        b'{"card": 4111111111111111, "n\\u0061me": ["a\\nb", -1.5e3, true, "\\ud83d\\ude00"]}',
        media_type="application/json",
    )
    assert found.texts() == "card\n4111111111111111\nname\na\nb\n-1.5e3\n😀"


@pytest.mark.parametrize(
    "source",
    [b'"' * 500_001, b'"\\' * 500_000, b"[" * 1_000_000, b'{"a":' * 200_000, b"1" * 1_000_000, b'"' + b"\\u" * 500_000],
)
def test_json_that_nobody_writes_honestly_is_read_in_time(source: bytes) -> None:
    begun = time.process_time()
    Found(source, media_type="application/json")
    assert time.process_time() - begun < 5


def strings(value: Any) -> list[str]:  # Any: whatever JSON may be
    if isinstance(value, dict):
        return [each for pair in value.items() for part in pair for each in strings(part)]
    if isinstance(value, list):
        return [each for part in value for each in strings(part)]
    return [value] if isinstance(value, str) else []


@given(
    st.recursive(
        st.text(st.characters(exclude_categories=["Cs"])),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    ),
    st.booleans(),
)
def test_every_string_of_any_json_comes_out(value: object, escaped: bool) -> None:
    found = Found(json.dumps(value, ensure_ascii=escaped).encode(), media_type="application/json")
    assert found.texts() == "\n".join(strings(value))

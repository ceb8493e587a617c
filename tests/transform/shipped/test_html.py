"""The place in a document: real tags only, at every split."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslintercept.testing.transform import splits
from sslintercept.transform.shipped.html import LOOK, Finder

MARK = b"|"

HEADS = [  # the mark stands where the place is
    b"<head>|",
    b"<!doctype html><html><HEAD>|<title>x</title>",
    b"<head lang=en class='a>b' data-x=\"c>d\">|x",
    b"<head\n>|",
    b"<head/>|",
    b"<header></header><head>|",
    b"<headx><head >|",
    b"<!-- <head> --><head>|",
    b"<!--><head>|-->",
    b"<!---><head>|",
    b"<!-- --!><head>|",
    b"<!-- -- > - <head> ---><head>|",
    b"<script>'<head>'</script><head>|",
    b"<script><head></scrip></scriptx><head></SCRIPT ><head>|",
    b"<title><head></title/><head>|",
    b"<style><!-- <head></style><head>|",
    b"<p title='<head>'><head>|",
    b'<p title = "<head>" x><head>|',
    b"<p title=it's><head>|",
    b'<p title=a="b><head>|',
    b"<p a b = c d><head>|",
    b"<? <head> <head>|",
    b"</ ><head>|",
    b"</><head>|",
    b"a < b <<head>|",
    b"a <1> <head>|",
    b"</head><head>|",
    b"<xmp><head></xmp><iframe><head></iframe><head>|",
]
BODIES = [
    b"<body>x|</body></html>",
    b"x|</BODY\n>",
    b"x|</body x='>'>",
    b"<body></bodyx></bod>|</body></body>",
    b"<!-- </body> -->|</body>",
    b"<script>document.write('</body>')</script>|</body>",
    b"<textarea></body></textarea>|</body>",
    b"<a href='</body>'>|</body>",
    b"x<|</body>",
]
NOWHERE = [
    b"",
    b"plain text",
    b"<head",
    b"<head x='>",
    b"<!-- <head>",
    b"<script><head>",
    b"<script><head></script",
    b"<hea",
    b"<header>",
    b"</",
    b"<!-",
    b"<!-- --",
    b"<averylongnameofatag>",
    b"a <",
    b"</<head>",
    b"<textareas><scripted",
]


def found(finder: Finder, pieces: list[bytes]) -> bytes:
    """The document with its mark; checks that less than is said is ever held."""
    got, sent, behind = b"", 0, None
    for piece in pieces:
        sent += len(piece)
        if behind is not None:
            got += piece
            continue
        before, behind = finder.feed(piece)
        got += before
        if behind is not None:
            got += MARK + behind
        else:
            assert sent - len(got) < LOOK
    return got + finder.rest()


@pytest.mark.parametrize("marked", HEADS)
def test_the_place_behind_head_is_found_at_every_split(marked: bytes) -> None:
    for pieces in splits(marked.replace(MARK, b"")):
        assert found(Finder(b"head", closing=False), pieces) == marked


@pytest.mark.parametrize("marked", BODIES)
def test_the_place_in_front_of_the_end_of_body_is_found_at_every_split(marked: bytes) -> None:
    for pieces in splits(marked.replace(MARK, b"")):
        assert found(Finder(b"body", closing=True), pieces) == marked


@pytest.mark.parametrize("document", NOWHERE)
def test_a_document_without_the_place_comes_out_as_it_is(document: bytes) -> None:
    for pieces in splits(document) if document else []:
        assert found(Finder(b"head", closing=False), pieces) == document


TOKENS = [
    b"<head>",
    b"</body>",
    b"<script>",
    b"</script>",
    b"<!--",
    b"-->",
    b"'",
    b'"',
    b"=",
    b" ",
    b">",
    b"<",
    b"/",
    b"x",
    b"<p",
    b"</p>",
    b"<p a='",
    b"<a b = c>",
]


@given(st.lists(st.sampled_from(TOKENS), max_size=12), st.lists(st.integers(0, 60), max_size=6))
def test_any_document_is_cut_at_the_same_place_however_it_comes(tokens: list[bytes], cuts: list[int]) -> None:
    document = b"".join(tokens)
    whole = found(Finder(b"body", closing=True), [document])
    places = sorted({cut for cut in cuts if cut < len(document)} | {0, len(document)})
    pieces = [document[begin:end] for begin, end in pairwise(places)]
    assert found(Finder(b"body", closing=True), pieces) == whole
    assert whole.replace(MARK, b"") == document

"""The document of a resource, and what is done with its alternates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslintercept.cache.message import Span, Stored
from sslintercept.cache.ready import Ready, ready_of
from sslintercept.cache.record import decode, encode
from sslintercept.cache.resource import (
    FRAGMENT,
    MOST_ALTERNATES,
    Alternate,
    Extent,
    Piece,
    Resource,
    document_key,
    fragment_key,
    freshened,
    with_alternate,
    with_piece,
    without,
)
from tests.cache.build import HOUR, NOW, PLAIN, TAG, answer, ask, store

URI = b"http://a.example:80/"


def again(resource: Resource) -> Resource:
    """Written and read."""
    found = decode(memoryview(b"".join(encode(resource))))
    assert found is not None
    return found


def same(one: Resource, other: Resource) -> bool:
    return one.uri == other.uri and [(a.stored, a.content, a.pieces) for a in one.alternates] == [
        (a.stored, a.content, a.pieces) for a in other.alternates
    ]


def test_what_was_written_is_read() -> None:
    varied = store(HOUR, TAG, "Vary: Accept, X", "X-\xe4: \xff\x80", request=ask("Accept: a"))
    part = replace(varied, spans=(Span(3, 9), Span(20, 30)), total=50, invalid=True, authorized=True)
    resource = Resource(
        URI,
        (
            Alternate(store(HOUR), b""),
            Alternate(varied, b"hello"),
            Alternate(part, None, (Piece(3, 9, b"n" * 16), Piece(20, 30, b"m" * 16))),
            Alternate(store(HOUR, "Vary: X"), bytes(range(256)) * 100),
        ),
    )
    assert same(again(resource), resource)


octets = st.binary(max_size=40)


@given(st.lists(st.tuples(octets, octets), max_size=5), st.binary(max_size=300), octets)
def test_any_bytes_survive(lines: list[tuple[bytes, bytes]], content: bytes, uri: bytes) -> None:
    stored = store(HOUR)
    stored = replace(stored, response=replace(stored.response, fields=lines))
    found = again(Resource(uri, (Alternate(stored, content),)))
    assert (found.uri, found.alternates[0].stored.response.fields, found.alternates[0].content) == (uri, lines, content)


def seen(raw: bytes | bytearray) -> tuple[Alternate, ...]:
    """What is found in a document; nothing, if it cannot be read."""
    found = decode(memoryview(raw))
    return () if found is None else found.alternates


@given(st.data())
def test_what_is_cut_or_changed_is_refused_or_read_but_never_an_error(data: st.DataObject) -> None:
    raw = bytearray(b"".join(encode(Resource(URI, (Alternate(store(HOUR, TAG), b"hello"),)))))
    cut = data.draw(st.integers(0, len(raw)))
    seen(raw[:cut])
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    seen(raw)


@pytest.mark.parametrize("raw", [b"", b"\0" * 50, b"\xff" * 50, b"\2" + bytes(60), b"GET / HTTP/1.1\r\n" * 9])
def test_what_is_no_document_has_nothing(raw: bytes) -> None:
    assert seen(raw) == ()


def document(known: bytes) -> bytes:
    """A document with JSON that nobody wrote."""
    head, uri, block, _ = map(bytes, encode(Resource(URI, ())))
    return head[:-4] + len(known).to_bytes(4, "little") + uri + block + known


@pytest.mark.parametrize(
    "known", [b"[" * 100_000, b"[[1e999,[],0,0,[],false,null,null,false,null,[]]]", b"{}", b"null", b"[[]]", b"\xff"]
)
def test_json_that_python_chokes_on_is_nothing(known: bytes) -> None:
    assert seen(document(known)) == ()


@pytest.mark.parametrize(
    "alternate",
    [
        Alternate(replace(store(HOUR), total=9), b"hello"),
        Alternate(replace(store(HOUR), total=9), None, (Piece(9, 0, b"n" * 16),)),
        Alternate(replace(store(HOUR), total=9), None, (Piece(0, 9, b"n"),)),
    ],
)
def test_content_that_contradicts_what_is_said_of_it_is_nothing(alternate: Alternate) -> None:
    assert seen(b"".join(encode(Resource(URI, (alternate,))))) == ()


def test_content_that_is_not_all_there_is_nothing() -> None:
    raw = b"".join(encode(Resource(URI, (Alternate(store(HOUR), b"hello"),))))
    assert seen(raw[:-1]) == ()


# what is ready


def ready(content: bytes = b"hello") -> Ready:
    made = ready_of(replace(store(HOUR, TAG), total=len(content)), content, PLAIN, NOW)
    assert made is not None
    return made


def test_what_is_ready_is_read_without_the_rest() -> None:
    resource = Resource(URI, (Alternate(store(HOUR, TAG), b"hello"),), ready=ready())
    found = decode(memoryview(b"".join(encode(resource))))
    assert found is not None
    assert (found.ready, found.size > 0) == (resource.ready, True)
    assert found.alternates[0].content == b"hello"
    assert found.ready == resource.ready


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    "spoilt",
    [
        lambda made, value: made._replace(since=value),
        lambda made, value: made._replace(until=value),
        lambda made, value: made._replace(born=value),
    ],
)
def test_numbers_that_are_none_make_nothing_ready(spoilt: Callable[[Ready, float], Ready], value: float) -> None:
    resource = Resource(URI, (Alternate(store(HOUR, TAG), b"hello"),), ready=spoilt(ready(), value))
    found = decode(memoryview(b"".join(encode(resource))))
    assert found is not None
    assert found.ready is None


def test_nothing_is_ready_whose_content_is_cut() -> None:
    raw = b"".join(encode(Resource(URI, (Alternate(store(HOUR, TAG), b"hello"),), ready=ready())))
    assert decode(memoryview(raw[:-1])) is None


# alternates


def kept(*fields: str, content: bytes = b"", request: str = "X: 1") -> Alternate:
    return Alternate(store(HOUR, *fields, request=ask(request)), content)


def test_a_new_one_takes_the_place_of_what_answers_the_same() -> None:
    first = with_alternate(URI, None, kept("Vary: X", content=b"old"))
    both = with_alternate(URI, first, kept("Vary: X", content=b"other", request="X: 2"))
    found = with_alternate(URI, both, kept("Vary: X", content=b"new"))
    assert [one.content for one in found.alternates] == [b"other", b"new"]


def test_there_are_never_too_many() -> None:
    resource = None
    for n in range(MOST_ALTERNATES + 3):
        resource = with_alternate(URI, resource, kept("Vary: X", request=f"X: {n}", content=b"%d" % n))
    assert resource is not None
    assert [one.content for one in resource.alternates] == [b"%d" % n for n in range(3, MOST_ALTERNATES + 3)]


def test_leaving_one_out_leaves_the_others() -> None:
    resource = with_alternate(URI, with_alternate(URI, None, kept("Vary: X")), kept("Vary: X", request="X: 2"))
    first, second = resource.alternates
    assert without(resource, first.stored).alternates == (second,)  # type: ignore[union-attr]  # it is one
    assert without(resource, store("Cache-Control: max-age=9", request=ask("Y: 1", target="/x"))) is not None
    assert without(None, first.stored) is None


def test_a_304_renews_what_it_is_about_also_when_that_was_read_anew() -> None:
    resource = with_alternate(URI, None, Alternate(store(HOUR, TAG), b"hello"))
    news = answer(TAG, "Cache-Control: max-age=7", status=304, requested=NOW + 9, received=NOW + 9)
    found = freshened(again(resource), [resource.alternates[0].stored], news, ask(), PLAIN)
    assert found is not None
    (one,) = found.alternates
    assert (one.stored.response.control.max_age, one.content) == (7, b"hello")


def test_a_304_that_forbids_to_keep_it_removes_it() -> None:
    resource = with_alternate(URI, None, Alternate(store(HOUR, TAG), b"hello"))
    news = answer(TAG, "Cache-Control: no-store", status=304)
    found = freshened(resource, [resource.alternates[0].stored], news, ask(), PLAIN)
    assert found is not None
    assert found.alternates == ()


# pieces


def partial(*pieces: Piece) -> Alternate:
    return Alternate(stored_part(), None, pieces)


def stored_part() -> Stored:
    return replace(store(HOUR, TAG), spans=(Span(0, 9),), total=100)


A, B = b"a" * 16, b"b" * 16


def test_a_byte_is_found_in_its_fragment() -> None:
    one = partial(Piece(10, 10 + 2 * FRAGMENT + 5, A))
    assert one.extent(9) is None
    assert one.extent(10) == Extent(fragment_key(A, 0), 0, FRAGMENT)
    assert one.extent(10 + FRAGMENT + 7) == Extent(fragment_key(A, 1), 7, FRAGMENT - 7)
    assert one.extent(10 + 2 * FRAGMENT + 1) == Extent(fragment_key(A, 2), 1, 4)
    assert one.extent(10 + 2 * FRAGMENT + 5) is None


def test_pieces_that_a_new_one_covers_are_dropped() -> None:
    found = with_piece(partial(Piece(0, 5, A), Piece(20, 30, A)), stored_part(), Piece(0, 10, B))
    assert found.pieces == (Piece(20, 30, A), Piece(0, 10, B))


def test_every_document_has_a_key_of_its_own() -> None:
    keys = {fragment_key(A, 0), fragment_key(A, 1), fragment_key(B, 0), document_key(URI), document_key(URI + b"x")}
    assert len(keys) == 5

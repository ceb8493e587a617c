"""Headers come back as they were written, damaged ones do not, and every slice is divided without overlaps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslintercept.store.layout import (
    BUCKET,
    DOCUMENT_HEADER,
    LARGEST,
    LARGEST_DOCUMENT,
    LARGEST_WHOLE,
    MOST_PINNED,
    PAGE,
    PIN,
    SMALLEST,
    Document,
    SnapshotHeader,
    SpanHeader,
    divided,
    document_at,
    packed_pin,
    pins_of,
    put_document,
    snapshot_header,
    span_header,
    whole,
)

NUMBER = st.integers(0, 2**64 - 1)


@given(st.integers(SMALLEST // PAGE, LARGEST // PAGE), st.integers(512, 2**20))
def test_what_a_slice_is_divided_into_does_not_overlap(pages: int, average: int) -> None:
    header = divided(pages * PAGE, average, 1)
    assert header.place >= PAGE + header.buckets * BUCKET + MOST_PINNED * PIN
    assert header.start == PAGE + 2 * header.place
    assert header.start + header.size + PAGE == pages * PAGE
    assert header.start % PAGE == header.size % PAGE == 0


def test_the_smallest_slice_has_room_for_the_largest_documents() -> None:
    assert divided(SMALLEST, 8192, 1).size > 5 * LARGEST_WHOLE


@given(st.tuples(*[NUMBER] * 6))
def test_a_header_of_a_span_comes_back(numbers: tuple[int, int, int, int, int, int]) -> None:
    header = SpanHeader(*numbers)
    assert span_header(header.packed()) == header
    assert len(header.packed()) == PAGE


def test_a_damaged_header_of_a_span_is_none() -> None:
    good = divided(SMALLEST, 8192, 77).packed()
    for at in range(72):
        assert span_header(flipped(good, at)) is None


def test_a_damaged_header_of_a_snapshot_is_none_and_neither_is_one_of_another_span() -> None:
    header = SnapshotHeader(77, 1, 2, 3, 4, 1, 6)
    good = header.packed()
    assert snapshot_header(good, 77) == header
    assert snapshot_header(good, 78) is None
    assert snapshot_header(header._replace(pins=MOST_PINNED + 1).packed(), 77) is None
    for at in range(64):
        assert snapshot_header(flipped(good, at), 77) is None


DOCUMENT = Document(77, 512 * 99, b"k" * 16, 1.5, 1000, 2, 12345)


def test_a_header_of_a_document_comes_back_and_a_damaged_one_is_none() -> None:
    memory = memoryview(bytearray(4096))
    put_document(memory, 512, DOCUMENT)
    assert document_at(memory, 512, 77) == DOCUMENT
    assert document_at(memory, 512, 78) is None
    assert document_at(memory, 513, 77) is None
    for at in range(512, 512 + DOCUMENT_HEADER):
        assert document_at(flipped(memory, at), 512, 77) is None


@pytest.mark.parametrize("wrong", [DOCUMENT._replace(length=LARGEST_DOCUMENT + 1), DOCUMENT._replace(kind=3)])
def test_a_document_that_cannot_be_is_none(wrong: Document) -> None:
    memory = memoryview(bytearray(512))
    put_document(memory, 0, wrong)
    assert document_at(memory, 0, 77) is None


def test_a_header_that_memory_cuts_off_is_none() -> None:
    memory = memoryview(bytearray(512))
    put_document(memory, 0, DOCUMENT)
    assert document_at(memory[: DOCUMENT_HEADER - 1], 0, 77) is None


def test_documents_are_whole_blocks() -> None:
    assert [whole(length) for length in (0, 512 - DOCUMENT_HEADER, 513 - DOCUMENT_HEADER)] == [512, 512, 1024]
    assert whole(LARGEST_DOCUMENT) == LARGEST_WHOLE


def test_pins_come_back() -> None:
    pins = [(512, b"a" * 16, 1.0), (1024, b"b" * 16, 2.5)]
    assert pins_of(b"".join(packed_pin(*pin) for pin in pins)) == pins


def flipped(memory: bytes | memoryview, at: int) -> bytes:
    changed = bytearray(memory)
    changed[at] ^= 1
    return bytes(changed)

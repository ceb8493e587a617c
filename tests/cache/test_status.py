"""Cache-Status (RFC 9211)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslintercept.cache.status import MAX_NUMBER, Forward, Outcome, cache_status, member


@pytest.mark.parametrize(
    ("outcome", "value"),
    [
        pytest.param(Outcome(), b"p; hit", id="a hit (2.1)"),
        pytest.param(Outcome(ttl=7.9), b"p; hit; ttl=7", id="fresh (2.4)"),
        pytest.param(Outcome(ttl=-0.1), b"p; hit; ttl=-1", id="stale (2.4)"),
        pytest.param(Outcome(ttl=1e20), b"p; hit; ttl=%d" % MAX_NUMBER, id="very fresh (RFC 8941 3.3.1)"),
        pytest.param(Outcome(stored=True, collapsed=True, status=200), b"p; hit", id="a hit says no more"),
        pytest.param(
            Outcome(Forward.STALE, 304, 9, detail="was 304"),
            b'p; fwd=stale; fwd-status=304; ttl=9; detail="was 304"',
            id="validated (2.2, 2.3)",
        ),
        pytest.param(
            Outcome(Forward.URI_MISS, stored=True, collapsed=True),
            b"p; fwd=uri-miss; stored; collapsed",
            id="stored and collapsed (2.5, 2.6)",
        ),
        pytest.param(Outcome(detail='a "b" \\ \u00e9\n'), b'p; hit; detail="a \\"b\\" \\\\ "', id="detail (2.8)"),
        pytest.param(Outcome(detail="a:b"), b"p; hit; detail=a:b", id="a token as detail (2.8)"),
    ],
)
def test_an_outcome_is_told(outcome: Outcome, value: bytes) -> None:
    assert member("p", outcome) == value


@pytest.mark.parametrize("forward", Forward)
def test_every_reason_to_forward_has_its_word(forward: Forward) -> None:
    """RFC 9211 2.2"""
    assert member("p", Outcome(forward)) == b"p; fwd=" + forward.name.lower().replace("_", "-").encode()


def test_the_cache_nearest_to_the_client_comes_last() -> None:
    """RFC 9211 2"""
    assert cache_status([], "p", Outcome()) == b"p; hit"
    assert cache_status([b"", b"o; hit"], "p", Outcome(Forward.MISS)) == b"o; hit, p; fwd=miss"


@given(
    st.text(max_size=20),
    st.text(max_size=20),
    st.none() | st.floats(-1e300, 1e300),
    st.none() | st.sampled_from(Forward),
)
def test_the_field_is_one_line_of_ascii_and_never_tells_a_key(
    name: str, detail: str, ttl: float | None, forward: Forward | None
) -> None:
    value = member(name, Outcome(forward, ttl=ttl, detail=detail))
    assert all(0x20 <= byte < 0x7F for byte in value)
    assert b"; key" not in member("p", Outcome(forward, 200, ttl, True, True))

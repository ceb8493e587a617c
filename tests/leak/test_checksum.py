"""Check digits: right numbers pass, and no single wrong digit does."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslintercept.leak import checksum

DIGITS = "0123456789"


@pytest.mark.parametrize(
    ("check", "right"),
    [
        pytest.param(checksum.luhn, b"4111111111111111", id="Luhn, even length"),
        pytest.param(checksum.luhn, b"378282246310005", id="Luhn, odd length"),
        pytest.param(checksum.verhoeff, b"2363", id="Verhoeff"),
        pytest.param(checksum.mod11_10, b"86095742719", id="MOD 11,10"),
        pytest.param(checksum.ean13, b"7569217076985", id="EAN-13"),
        pytest.param(lambda digits: checksum.mod97(digits) == 1, b"3214282912345698765432161182", id="MOD 97-10"),
    ],
)
def test_a_right_number_passes_and_each_single_wrong_digit_fails(check: Callable[[bytes], bool], right: bytes) -> None:
    assert check(right)
    for place, digit in enumerate(right.decode()):
        for other in set(DIGITS) - {digit}:
            wrong = right.decode()[:place] + other + right.decode()[place + 1 :]
            assert not check(wrong.encode()), wrong


@given(st.text(DIGITS, min_size=1, max_size=18))
def test_exactly_one_check_digit_completes_a_number_after_luhn(number: str) -> None:
    assert sum(checksum.luhn((number + digit).encode()) for digit in DIGITS) == 1


@given(st.text(DIGITS, min_size=1, max_size=18))
def test_exactly_one_check_digit_completes_a_number_after_verhoeff(number: str) -> None:
    assert sum(checksum.verhoeff((number + digit).encode()) for digit in DIGITS) == 1


def test_the_check_sum_of_githubs_published_example_is_the_one_it_carries() -> None:
    assert checksum.crc_base62(b"zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ") == b"0mLq17"


def test_a_check_sum_in_base_62_has_six_digits_also_where_it_is_small() -> None:
    assert checksum.crc_base62(b"") == b"000000"

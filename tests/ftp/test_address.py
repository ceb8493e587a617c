"""Addresses of data connections."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslintercept.facts import Address
from sslintercept.ftp.address import read_eprt, read_epsv, read_six, write_eprt, write_six

ports = st.integers(1, 65535)


@given(st.ip_addresses(v=4), ports)
def test_six_numbers_are_read_as_they_are_written(host: object, port: int) -> None:
    assert read_six(write_six(Address(str(host), port))) == (str(host), port)


@given(st.ip_addresses(), ports)
def test_an_address_of_any_family_is_read_as_it_is_written(host: object, port: int) -> None:
    assert read_eprt(write_eprt(Address(str(host), port))) == (str(host), port)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"Entering Passive Mode (192,0,2,7,4,1).\r\n", ("192.0.2.7", 1025)),
        (b"Entering Passive Mode 192,0,2,7,4,1\r\n", ("192.0.2.7", 1025)),
        (b"192,0,2,7,4", None),
        (b"192,0,2,256,4,1", None),
        (b"192,0,2,7,0,0", None),
        (b"1192,0,2,7,4,1", None),
        (b"192,0,2,7,4,1111", None),
        (b"", None),
    ],
)
def test_six_numbers_are_found_or_not(text: bytes, found: tuple[str, int] | None) -> None:
    assert read_six(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"|1|192.0.2.7|1025|", ("192.0.2.7", 1025)),
        (b"!2!2001:DB8::7!1025! ", ("2001:db8::7", 1025)),
        (b"|1|2001:db8::7|1025|", None),
        (b"|2|192.0.2.7|1025|", None),
        (b"|1|192.0.2|1025|", None),
        (b"|1|192.0.2.7|0|", None),
        (b"|1|192.0.2.7|65536|", None),
        (b"|3|192.0.2.7|1025|", None),
        (b"|1|192.0.2.7|1025", None),
    ],
)
def test_an_extended_address_is_read_or_not(text: bytes, found: tuple[str, int] | None) -> None:
    assert read_eprt(text) == found


@pytest.mark.parametrize(
    ("text", "port"),
    [
        (b"229 Entering Extended Passive Mode (|||6446|)\r\n", 6446),
        (b"229 ok (!!!1!)", 1),
        (b"229 ok (|||0|)", None),
        (b"229 ok (|||65536|)", None),
        (b"229 ok (||6446|)", None),
        (b"229 ok", None),
    ],
)
def test_an_extended_port_is_read_or_not(text: bytes, port: int | None) -> None:
    assert read_epsv(text) == port

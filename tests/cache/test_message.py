"""What of a message is read, and which fields are kept (RFC 9111 3.1)."""

from __future__ import annotations

import pytest

from sslintercept.cache.message import NOT_KEPT, kept_fields
from tests.cache.build import DATE, HOUR, NOW, answer, ask, fields


def test_a_field_is_read_from_all_its_lines_whatever_the_case_of_its_name() -> None:
    request = ask("X-A: 1", "x-a: 2", "Cache-Control: no-cache", "CACHE-CONTROL: no-store")
    assert request.says(b"x-a") == [b"1", b"2"]
    assert request.says(b"x-b") == ()
    assert request.control.no_cache
    assert request.control.no_store


@pytest.mark.parametrize(("length", "upgrade", "plain"), [(0, None, True), (1, None, False), (0, b"websocket", False)])
def test_a_request_is_plain_without_content_and_upgrade(length: int, upgrade: bytes | None, plain: bool) -> None:
    assert ask(length=length, upgrade=upgrade).plain is plain


def test_a_response_without_date_was_generated_when_it_came() -> None:
    """RFC 9110 6.6.1"""
    assert answer(received=NOW + 5).generated == NOW + 5
    assert answer(DATE, received=NOW + 5).generated == NOW


def test_all_fields_are_kept_also_those_that_nobody_knows() -> None:
    """RFC 9111 3.1"""
    lines = (DATE, HOUR, "X-Unknown: 1", "X-Unknown: 2", "Server: x")
    assert kept_fields(answer(*lines)) == fields(lines)


@pytest.mark.parametrize("name", sorted(NOT_KEPT))
def test_fields_of_one_hop_are_not_kept(name: bytes) -> None:
    """RFC 9111 3.1; RFC 9110 7.6.1, 11.7"""
    assert kept_fields(answer(DATE, f"{name.decode().title()}: x")) == fields([DATE])


def test_fields_that_connection_names_are_not_kept() -> None:
    """RFC 9111 3.1, RFC 9110 7.6.1"""
    assert kept_fields(answer("Connection: X-A, close", "Connection: x-b", "X-A: 1", "X-B: 2", DATE)) == fields([DATE])


def test_connection_cannot_take_away_what_a_cache_depends_on() -> None:
    lines = ("Vary: Cookie", HOUR)
    assert kept_fields(answer("Connection: vary, cache-control", *lines)) == fields(lines)


@pytest.mark.parametrize("directive", ["private", "no-cache"])
def test_fields_that_a_directive_names_are_not_kept(directive: str) -> None:
    """RFC 9111 3.1, 5.2.2.4, 5.2.2.7"""
    control = f'Cache-Control: max-age=1, {directive}="set-cookie, X-User"'
    assert kept_fields(answer(control, "Set-Cookie: a=b", "x-user: c", DATE)) == fields([control, DATE])

"""The table of ports: its promises hold, and who speaks first is answered for both sides of TLS."""

import pytest

from sslintercept.probe.port import PORTS, greets_first, hint_of
from sslintercept.probe.signature import GREETINGS


@pytest.mark.parametrize("port", [21, 22, 23, 25, 110, 119, 143, 587, 3306, 4190, 5900])
def test_the_server_greets_in_plain_text_and_not_after_starttls(port: int) -> None:
    assert greets_first(port)
    assert not greets_first(port, secure=True)


@pytest.mark.parametrize("port", [465, 563, 990, 993, 995])
def test_the_server_greets_inside_of_implicit_tls_only(port: int) -> None:
    assert not greets_first(port)
    assert greets_first(port, secure=True)


@pytest.mark.parametrize("port", [None, 0, 80, 443, 636, 853, 1080, 8080, 8443, 65000])
@pytest.mark.parametrize("secure", [False, True])
def test_the_client_speaks_first_elsewhere(port: int | None, secure: bool) -> None:
    assert not greets_first(port, secure=secure)


@pytest.mark.parametrize(
    ("port", "protocol"),
    [(443, "https"), (8443, "https"), (465, "smtps"), (993, "imaps"), (995, "pop3s"), (990, "ftps"), (853, "dot")],
)
def test_a_port_of_implicit_tls_is_known_as_such(port: int, protocol: str) -> None:
    hint = hint_of(port)
    assert hint is not None
    assert (hint.protocol, hint.tls) == (protocol, True)


def test_no_port_and_an_unknown_port_hint_at_nothing() -> None:
    assert hint_of(None) is None
    assert hint_of(65000) is None


def test_implicit_tls_carries_something_and_nothing_else_does() -> None:
    assert all(bool(hint.carries) is hint.tls for hint in PORTS.values())
    assert all(0 < port < 65536 for port in PORTS)


def test_every_server_that_greets_has_a_greeting() -> None:
    greeted = {hint.carries or hint.protocol for hint in PORTS.values() if hint.server_first}
    assert greeted == {signature.name for signature in GREETINGS}

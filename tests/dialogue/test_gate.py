"""The way into TLS: nothing passes in the clear behind the request, or behind the consent to it."""

from sslintercept.dialogue.gate import Gate
from sslintercept.dialogue.watcher import Terms, Wires
from sslintercept.testing.talk import Talk


class Nobody:
    """A watcher that is never given anything."""

    def __init__(self, wires: Wires, terms: Terms) -> None:
        self.gate = Gate(wires)

    def from_client(self, data: bytes) -> None:
        """Nothing."""

    def from_server(self, data: bytes) -> None:
        """Nothing."""

    def client_ended(self, clean: bool = True) -> bool:
        """Nothing."""
        return True

    def server_ended(self, clean: bool = True) -> bool:
        """Nothing."""
        return True

    def ended(self) -> None:
        """Nothing."""


def gate(*, strict: bool = False) -> tuple[Talk, Gate]:
    """A gate, and what becomes of its conversation."""
    talk = Talk(Nobody, strict_offer=strict)
    return talk, Gate(talk)


def test_a_request_with_nothing_behind_it_is_handed_on_and_consent_begins_tls() -> None:
    talk, way = gate()
    assert not way.asked
    way.ask(b"STLS\r\n", b"")
    assert way.asked
    assert (talk.server, talk.client, talk.upgraded) == (b"STLS\r\n", b"", False)
    way.answered(b"+OK\r\n", b"", agreed=True)
    assert not way.asked
    assert (talk.client, talk.upgraded, talk.refused) == (b"+OK\r\n", True, None)


def test_a_request_with_something_behind_it_goes_nowhere() -> None:
    talk, way = gate()
    way.ask(b"STLS\r\n", b"U")
    assert not way.asked
    assert talk.server == b""
    assert talk.refused is not None
    assert "command injection" in talk.refused


def test_a_client_that_goes_on_before_the_answer_ends_the_conversation() -> None:
    talk, way = gate()
    way.ask(b"STLS\r\n", b"")
    way.trespassed()
    assert talk.server == b"STLS\r\n"
    assert talk.refused is not None
    assert "command injection" in talk.refused


def test_consent_with_something_behind_it_goes_nowhere() -> None:
    talk, way = gate()
    way.ask(b"STLS\r\n", b"")
    way.answered(b"+OK\r\n", b"+", agreed=True)
    assert (talk.client, talk.upgraded) == (b"", False)
    assert talk.refused is not None
    assert "response injection" in talk.refused


def test_a_refusal_is_handed_on_and_one_may_ask_again() -> None:
    talk, way = gate()
    way.ask(b"STLS\r\n", b"")
    way.answered(b"-ERR\r\n", b"+OK more\r\n", agreed=False)
    assert not way.asked
    assert (talk.client, talk.upgraded, talk.refused) == (b"-ERR\r\n", False, None)
    way.ask(b"STLS\r\n", b"")
    way.answered(b"+OK\r\n", b"", agreed=True)
    assert talk.server == b"STLS\r\n" * 2
    assert talk.upgraded
    assert talk.offers == [False, True]


def test_a_refusal_of_what_was_offered_before_goes_nowhere_if_the_offer_must_be_kept() -> None:
    talk, way = gate(strict=True)
    way.ask(b"STLS\r\n", b"")
    assert not way.answered(b"-ERR\r\n", b"", agreed=False)
    assert (talk.client, talk.refused) == (b"", "the offer of TLS is missing")

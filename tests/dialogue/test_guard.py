"""Gates in a whole gateway: what a conversation does while one decides, and what becomes of it when one fails."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sslintercept.dialogue.watcher import Part, Way
from sslintercept.dialogue.words import refusal
from sslintercept.facts import Facts
from sslintercept.mail.smtp import CLOSES, LEFT
from sslintercept.testing.gate import EVENT, Does, Gates, ScriptedGate
from sslintercept.testing.gateway import MemoryGateway, silent
from sslintercept.testing.loop import Loop
from sslintercept.testing.peer import Peer

IDLE = "[mail]\nidle_timeout = 20s\n"
MAIL = b"Subject: x\r\n\r\nhello\r\n"
NO = refusal("smtp", "malware", EVENT)


class Story:
    """A client that hands a mail in."""

    def __init__(self, loop: Loop, *handlers: Gates | Odd, more: str = "") -> None:
        self.loop = loop
        self.gateway = MemoryGateway(loop, f"[listen:d]\nendpoint = tcp:2525\ntarget = mx.test:25\n{more}", handlers)
        self.origin = self.gateway.origin("mx.test:25", silent)
        self.origin.greeting = b"220 hi\r\n"
        self.client = self.gateway.client()
        loop.pass_time(1)
        self.says(client=b"MAIL FROM:<a@c>\r\nRCPT TO:<b@s>\r\nDATA\r\n", server=b"250 Ok\r\n250 Ok\r\n354 Go\r\n")
        self.server.take()

    @property
    def server(self) -> Peer:
        return self.origin.last

    def says(self, *, client: bytes = b"", server: bytes = b"") -> bytes:
        """First the one, then the other; what the client has heard."""
        for peer, data in ((self.client, client), (self.server, server)):
            if data:
                peer.send(data)
                self.gateway.pump()
        return self.client.take()


class Odd:
    """A handler whose gate does something of its own with the first bytes, and at the end."""

    def __init__(
        self, write: Callable[[Way, bytes], object], finish: Callable[[Way], object] = lambda way: None
    ) -> None:
        self.write, self.finish = write, finish

    def part(self, part: Part, facts: Facts) -> OddGate:
        return OddGate(self)


class OddGate:
    """See L{Odd}."""

    way: Way

    def __init__(self, odd: Odd) -> None:
        self.odd = odd

    def begin(self, way: Way) -> None:
        self.way = way

    def write(self, data: bytes) -> None:
        self.odd.write(self.way, data)

    def finish(self, whole: bool) -> None:
        self.odd.finish(self.way)

    def abort(self) -> None:
        pass


def test_a_mail_passes_when_its_gate_has_taken_its_time(loop: Loop) -> None:
    gates = Gates(Does.HOLD, later=True)
    story = Story(loop, gates)
    assert story.says(client=MAIL + b".\r\nQUIT\r\n") == b""
    assert story.server.take() == b""
    assert not story.client.vc.tcp.reading
    gates.decide()
    story.gateway.pump()
    assert story.server.take() == MAIL + b".\r\nQUIT\r\n"
    assert story.client.vc.tcp.reading
    assert story.says(server=b"250 Ok\r\n221 Bye\r\n") == b"250 Ok\r\n221 Bye\r\n"
    assert story.gateway.facts[0].error is None


def test_an_end_that_was_held_passes_behind_the_mail(loop: Loop) -> None:
    gates = Gates(Does.HOLD, later=True)
    story = Story(loop, gates)
    story.client.send(MAIL + b".\r\n")
    story.client.finish()
    story.gateway.pump()
    assert not story.server.ended
    gates.decide()
    story.gateway.pump()
    assert story.server.take() == MAIL + b".\r\n"
    assert story.server.ended
    assert story.says(server=b"250 Ok\r\n") == b"250 Ok\r\n"


@pytest.mark.parametrize("later", [False, True])
def test_a_refusal_reaches_the_client_and_the_log_and_the_server_is_cut(loop: Loop, later: bool) -> None:
    gates = Gates(Does.REFUSE, later=later)
    story = Story(loop, gates)
    story.client.send(MAIL + b".\r\n")
    story.gateway.pump()
    gates.decide()
    story.gateway.pump()
    assert story.client.take() == NO + CLOSES
    assert story.client.ended
    assert story.server.take() == b""
    assert story.server.vc.cut
    story.client.close()
    loop.pass_time(3)
    assert story.gateway.log[-1]["error"] == "inspected"
    assert story.gateway.parts[0].whole is True


def test_sinks_see_what_a_gate_sees(loop: Loop) -> None:
    story = Story(loop, Gates(Does.EARLY))
    story.says(client=MAIL)
    (kept,) = story.gateway.parts
    assert (kept.content, kept.whole) == (MAIL, False)


def test_only_one_may_decide(loop: Loop) -> None:
    story = Story(loop, Gates(Does.PASS), Gates(Does.PASS))
    assert story.server.ended
    assert loop.failures
    loop.failures.clear()


def test_a_conversation_that_waits_for_a_gate_is_not_silent(loop: Loop) -> None:
    gates = Gates(Does.HOLD, later=True)
    story = Story(loop, gates, more=IDLE)
    story.says(client=MAIL + b".\r\n")
    loop.pass_time(90)
    assert not story.client.ended
    gates.decide()
    story.gateway.pump()
    assert story.says(server=b"250 Ok\r\n") == b"250 Ok\r\n"
    loop.pass_time(19)
    assert not story.client.ended
    loop.pass_time(3)
    assert story.client.ended


def test_a_client_that_stops_in_a_held_mail_is_silent(loop: Loop) -> None:
    gates = Gates(Does.HOLD)
    story = Story(loop, gates, more=IDLE)
    story.says(client=MAIL)
    loop.pass_time(25)
    assert story.client.ended
    assert gates.all[0].aborted
    assert story.server.vc.cut


def test_a_gate_stops_whoever_brings_the_mail(loop: Loop) -> None:
    ways: list[Way] = []

    def enough(way: Way, data: bytes) -> None:
        if not ways:
            way.pause()
        ways.append(way)
        way.release(data)

    story = Story(loop, Odd(enough, lambda way: way.ended(None)), more=IDLE)
    story.says(client=b"one\r\n")
    story.says(client=b"two\r\n")
    assert story.server.take() == b"one\r\n"
    loop.pass_time(30)
    assert not story.client.ended
    ways[0].resume()
    story.says(client=b".\r\n")
    assert story.server.take() == b"two\r\n.\r\n"


def test_the_client_is_told_when_the_server_leaves_while_its_mail_is_held(loop: Loop) -> None:
    gates = Gates(Does.HOLD, later=True)
    story = Story(loop, gates)
    story.says(client=MAIL + b".\r\n")
    story.server.finish()
    story.gateway.pump()
    assert story.client.take() == LEFT
    assert story.client.ended
    assert gates.all[0].aborted


def test_a_client_that_is_gone_takes_its_held_mail_with_it(loop: Loop) -> None:
    gates = Gates(Does.HOLD, later=True)
    story = Story(loop, gates)
    story.says(client=MAIL + b".\r\n")
    story.client.vc.abort()
    story.gateway.pump()
    assert gates.all[0].aborted
    assert story.server.vc.cut
    assert story.server.take() == b""


def raises(way: Way, data: bytes = b"") -> None:
    raise RuntimeError("a defect")


@pytest.mark.parametrize(
    "odd",
    [
        Odd(raises),
        Odd(lambda way, data: None, raises),
        Odd(lambda way, data: way.release(data * 2)),
        Odd(lambda way, data: way.replace(b"x")),
        Odd(lambda way, data: way.ended(None)),
    ],
)
def test_a_gate_that_fails_ends_its_conversation(loop: Loop, odd: Odd) -> None:
    story = Story(loop, odd)
    story.says(client=MAIL + b".\r\n")
    assert story.client.ended
    assert b".\r\n" not in story.server.take()
    assert story.server.vc.cut
    assert loop.failures
    loop.failures.clear()


def test_a_gate_that_fails_later_ends_its_conversation_too(loop: Loop) -> None:
    ways: list[Way] = []
    story = Story(loop, Odd(lambda way, data: None, ways.append))
    story.says(client=MAIL + b".\r\n")
    ways[0].ended(None)
    story.gateway.pump()
    assert story.client.ended
    assert story.server.vc.cut
    assert loop.failures
    loop.failures.clear()


def test_commands_behind_a_mail_may_begin_tls_when_it_has_passed(loop: Loop) -> None:
    gates = Gates(Does.HOLD, later=True)
    story = Story(loop, gates)
    story.says(client=MAIL + b".\r\nSTARTTLS\r\n")
    gates.decide()
    story.gateway.pump()
    assert story.server.take() == MAIL + b".\r\nSTARTTLS\r\n"
    assert story.says(server=b"250 Ok\r\n220 Go\r\n") == b"250 Ok\r\n220 Go\r\n"
    story.server.serve_tls(story.gateway.leaf("mx.test"))
    story.client.start_tls("mx.test")
    story.gateway.pump()
    assert story.client.secure, story.client.fault
    story.says(client=b"EHLO me\r\n")
    assert story.server.take() == b"EHLO me\r\n"


def test_a_gate_that_was_let_go_of_says_nothing_any_more(loop: Loop) -> None:
    gates = Gates(Does.HOLD, later=True)
    story = Story(loop, gates)
    story.says(client=MAIL + b".\r\n")
    story.client.vc.abort()
    story.gateway.pump()
    gate: ScriptedGate = gates.all[0]
    assert gate.way is not None
    gate.way.release(MAIL)
    gate.way.replace(b"x")
    gate.way.pause()
    gate.way.resume()
    gate.way.ended(None)
    assert story.server.take() == b""

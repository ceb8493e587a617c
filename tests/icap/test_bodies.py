"""Whatever a service does and however bytes are cut, no byte of a body is lost, doubled or moved."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sslintercept.icap.chain import Chain
from sslintercept.icap.message import ModRequest, Unchanged
from sslintercept.icap.modify import Modification
from sslintercept.icap.wire import IEOF, LAST, Kind
from sslintercept.testing.loop import Loop, checked_loop
from sslintercept.testing.peer import Peer
from tests.engines import Stopping, outcome

from .support import CONTINUE, GET, NEW, OK, Reading, made, reply, told

Pieces = list[bytes]
PLANS = ("204 in the preview", "204 at the end", "echo", "206", "late 206")


class Scripted:
    """
    A server that follows a plan, as far as it is allowed to, and whose answers are cut.

    @ivar cut: bytes of an answer sent at once.
    """

    def __init__(self, loop: Loop, plan: str, at: int, cut: int) -> None:
        self._loop, self._plan, self._at, self._cut = loop, plan, at, cut
        self._left = b""
        loop.others.append(self.turn)
        self._peer: Peer | None = None
        self._allow = b""
        self._continued = False

    def __call__(self, peer: Peer) -> None:
        got, self._peer = bytes(peer.got), peer
        if not got.endswith((LAST, IEOF)):
            return
        if not self._continued:
            self._allow = got.partition(b"Allow: ")[2].partition(b"\r\n")[0]
        preview = b"Preview" in got and not got.endswith(IEOF) and not self._continued
        if preview and self._plan in ("204 at the end", "echo", "late 206"):
            self._continued = True
            self._say(CONTINUE)
            return
        self._say(self._final(got))

    def _final(self, got: bytes) -> bytes:
        within = b"Preview" in got and not self._continued
        if self._plan.startswith("204") and (within or b"204" in self._allow):
            return reply(204, None)
        if self._plan.endswith("206") and b"206" in self._allow and (within or b"204" in self._allow):
            begun = reply(206, NEW, None).replace(b"null-body", b"res-body")
            return begun + b"3\r\nnew\r\n0; use-original-body=%d\r\n\r\n" % self._at
        if within and not got.endswith(IEOF):
            self._continued = True
            return CONTINUE
        return reply(body=said(got))

    def _say(self, answer: bytes) -> None:
        self._left += answer

    def turn(self) -> bool:
        if not self._left or self._peer is None:
            return False
        self._peer.send(self._left[: self._cut])
        self._left = self._left[self._cut :]
        return True


def said(got: bytes) -> bytes:
    """The body in a request, its preview and the rest."""
    body, rest = b"", got[got.rindex(OK) + len(OK) if OK in got else got.rindex(NEW) + len(NEW) :]
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size.partition(b";")[0], 16)
        body += rest[:length]
        rest = rest[length + 2 :]
    return body


def passed(to: Modification | Chain, loop: Loop, pieces: Pieces) -> bytes:
    """Bring a body the way a session does, and give what would reach the client."""
    producer, got, left = Stopping(), bytearray(), list(pieces)
    to.registerProducer(producer, True)
    reading: Reading | None = None

    def decided() -> bool:
        nonlocal reading
        if not to.outcome.called:
            return False
        came: Any = outcome(to.outcome)
        if isinstance(came, Unchanged):
            got.extend(b"".join(pieces) if came.kept is None else came.kept + b"".join(left))
            return True
        if reading is None:
            reading = Reading(came.body)
        return reading.ended

    loop.pump()
    for _ in range(100):
        if decided():
            return bytes(reading.got) if reading is not None else bytes(got)
        if producer.stopped:
            loop.pump()
            assert not producer.stopped or decided(), "it never goes on"
        elif left:
            to.write(left.pop(0))
        else:
            to.finish()
        loop.pump()
    raise AssertionError("it never ends")


bodies = st.lists(st.binary(min_size=1, max_size=9), min_size=1, max_size=6)


def expected(plan: str, body: bytes, at: int, came: bytes) -> bool:
    """Whether what came is the body, or has a new beginning where the plan says so."""
    return came == body or ("206" in plan and came == b"new" + body[at:])


@given(
    bodies,
    st.sampled_from(PLANS),
    st.sampled_from((None, 0, 1, 4, 20)),
    st.integers(1, 200),
    st.sampled_from(("none", "length", "keeps")),
    st.data(),
)
def test_one_service(pieces: Pieces, plan: str, preview: int | None, cut: int, knows: str, data: st.DataObject) -> None:
    body = b"".join(pieces)
    at = data.draw(st.integers(0, len(body)))
    with checked_loop() as loop:
        service, _ = made(loop, Scripted(loop, plan, at, cut), told(preview))
        length = len(body) if knows == "length" else None
        asked = ModRequest(Kind.RESPMOD, GET, OK, body=True, length=length, keeps=knows == "keeps")
        came = passed(service.modify(asked), loop, pieces)
        service.close()
    assert expected(plan, body, at, came)


@given(bodies, st.lists(st.sampled_from(("204 in the preview", "204 at the end", "echo")), min_size=2, max_size=3))
def test_several_in_a_row(pieces: Pieces, plans: list[str]) -> None:
    with checked_loop() as loop:
        services = [made(loop, Scripted(loop, plan, 0, 50))[0] for plan in plans]
        chain = Chain(services, ModRequest(Kind.RESPMOD, GET, OK, body=True)).start()
        came = passed(chain, loop, pieces)
        for service in services:
            service.close()
    assert came == b"".join(pieces)

"""Messages of WebSocket under inspection: each is a part, and waits for its verdict as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred

from sslintercept.facts import Side
from sslintercept.inspect.entry import Decision, Entry, Found
from sslintercept.inspect.hold import Hold
from sslintercept.inspect.part import Part
from sslintercept.inspect.verdict import FAILURE, Act, Verdict
from sslintercept.transform.message import Direction, Message
from sslintercept.websocket.stage import Binary, MessageStage, Text

if TYPE_CHECKING:
    from sslintercept.inspect.inspection import Inspection
    from sslintercept.inspect.processor import InspectProcessor

VIOLATION = 1008
"""a message against policy (RFC 6455 7.4.1)"""


class InspectMessages(MessageStage):
    """
    One conversation.

    What is longer than may be held ends it if one of the inspectors that want it is closed to what is too large; else
    it passes unseen.
    """

    def __init__(self, processor: InspectProcessor, message: Message, entries: Sequence[Entry]) -> None:
        self._processor = processor
        self._message = message
        self._entries = entries
        self.max_message = processor.limits.hold
        self._waiting: list[Inspection] = []

    def text(self, text: str, sender: Side) -> Text:
        """See L{MessageStage.text}."""
        judged = self._inspect(text.encode(), "text/plain", "utf-8", sender)
        if isinstance(judged, Deferred):
            return judged.addCallback(lambda data: None if data is None else data.decode())
        return None if judged is None else judged.decode()

    def binary(self, data: bytes, sender: Side) -> Binary:
        """See L{MessageStage.binary}."""
        return self._inspect(data, "", None, sender)

    def longer(self, sender: Side, *, text: bool) -> bool:
        """See L{MessageStage.longer}."""
        part = self._part(sender, "text/plain" if text else "", "utf-8" if text else None, None)
        what = f"it has more than the {self.max_message} bytes that are held"
        found = [
            Found(entry, part, Verdict(Act.BLOCK if entry.largest_closed else Act.REPORT, FAILURE, "too_big", what))
            for entry in self._entries
            if entry.looks and entry.match.judge(part, True)
        ]
        if not found:
            return False
        return self._processor.settle(part, Decision.of(found)) is not None

    def ended(self) -> None:
        """See L{MessageStage.ended}."""
        waiting, self._waiting = self._waiting, []
        for inspection in waiting:
            inspection.cancel()

    def _part(self, sender: Side, media_type: str, charset: str | None, length: int | None) -> Part:
        """What a message of this side is to an inspector."""
        message, request = self._message, self._message.request
        direction = Direction.REQUEST if sender is Side.CLIENT else Direction.RESPONSE
        return Part(
            carrier="websocket",
            kind="message",
            direction=direction,
            facts=message.facts,
            media_type=media_type,
            charset=charset,
            length=length,
            url=message.url,
            host=request.authority.host,
            user=message.facts.user,
            method=request.method.decode("latin-1"),
        )

    def _inspect(self, data: bytes, media_type: str, charset: str | None, sender: Side) -> Binary:
        part = self._part(sender, media_type, charset, len(data))
        # By now it is known which way the message goes, and how long it is.
        entries = [entry for entry in self._entries if entry.match.judge(part, True)]
        if not entries or not data:
            return data
        passed: list[bytes] = []
        hold = Hold(max(len(data), 1), passed.append)
        hold.write(data)
        answer: list[bytes | None] = []
        later: Deferred[bytes | None] | None = None

        def decided(decision: Decision) -> None:
            if inspection in self._waiting:
                self._waiting.remove(inspection)
            answer.append(self._answer(part, decision, hold, passed))
            if later is not None and not later.called:  # a refusal ends the conversation, and so who waits
                later.callback(answer[0])

        inspection = self._processor.inspect(part, entries, decided)
        inspection.mask = hold.mask
        inspection.write(data)
        inspection.finish()
        if answer:
            return answer[0]
        later = Deferred(lambda _: inspection.cancel())
        self._waiting.append(inspection)
        return later

    def _answer(self, part: Part, decision: Decision, hold: Hold, passed: list[bytes]) -> bytes | None:
        error = self._processor.settle(part, decision)
        if error is not None:
            self.conversation.close(VIOLATION, f"{error.category}, event {error.event}"[:120])
            return None
        if decision.act is Act.REPLACE and decision.worst is not None:
            content = decision.worst.verdict.content
            if isinstance(content, bytes):
                return content
            decision.worst.verdict.let_go()
            self.conversation.close(VIOLATION, "a message was changed in a way that is not possible here")
            return None
        hold.let_go()
        return b"".join(passed)

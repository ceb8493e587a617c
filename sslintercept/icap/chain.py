"""
Several services in a row: each sees what the one before has made of the message, while it comes.

The body of one outcome is written to the next modification, which stops it like any producer. Nothing is kept between
two services but what each of them keeps itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from sslintercept.icap.body import AnswerBody
from sslintercept.icap.message import Answered, Modified, ModRequest, Outcome, Report, Unchanged
from sslintercept.icap.wire import Kind
from sslintercept.net.intake import Producer
from sslintercept.profile.profile import Bytes

if TYPE_CHECKING:
    from sslintercept.icap.modify import Modification
    from sslintercept.icap.service import Service


class Hand:
    """
    Holds one producer for modifications that take it over from each other: only the wish of the last one counts.
    """

    def __init__(self, producer: Producer) -> None:
        self._producer = producer
        self._stopped = False
        self.owner: object = None

    def settle(self, owner: object, stop: bool) -> None:
        """C{owner} wishes the producer to stop, or to go on."""
        if owner is self.owner and stop is not self._stopped:
            self._stopped = stop
            if stop:
                self._producer.pauseProducing()
            else:
                self._producer.resumeProducing()


class Grip:
    """One modification's way to a producer."""

    def __init__(self, hand: Hand) -> None:
        self._hand = hand
        self.wish = False
        hand.owner = self

    def pauseProducing(self) -> None:
        self.wish = True
        self._hand.settle(self, True)

    def resumeProducing(self) -> None:
        self.wish = False
        self._hand.settle(self, False)

    def settle(self) -> None:
        """It has been given everything that was left over; from now on its wish counts."""
        self._hand.settle(self, self.wish)


class Chain:
    """
    A consumer of the body, and the outcome of all; see L{sslintercept.icap.modify.Modification}.

    @param services: at least one, the first to see the message first.
    @ivar detached: called once if the rest of the body is not wanted any more.
    """

    def __init__(self, services: Sequence[Service], asked: ModRequest) -> None:
        self._left = list(services)
        self._asked = asked
        self._body: AnswerBody | None = None
        """the message as it is now, if it is not the caller's own"""
        self._changed = False
        self._reports: list[Report] = []
        self._under_way: list[Modification] = []
        self._sink: Modification
        """where the caller's body goes"""
        self._hand: Hand | None = None
        """whoever brings the message as it is now"""
        self._over = b""
        """what a service that was not asked has left over for the next"""
        self._ended = False
        self.detached: Callable[[], object] = lambda: None
        self.outcome: Deferred[Outcome] = Deferred(lambda _: self.abort(ValueError("the caller gave up")))

    def start(self) -> Chain:
        """Show the message to the first; called once."""
        self._next(b"")
        return self

    @property
    def kept(self) -> bytes | None:
        """The original body as far as it was written, if all of it is still here."""
        return None if self._changed else self._sink.kept

    # IConsumer

    def write(self, data: Bytes) -> None:
        """Take more of the body."""
        self._sink.write(data)

    def finish(self) -> None:
        """The body has ended as it should."""
        self._ended = True
        self._sink.finish()

    def abort(self, reason: Exception, fault: str = "dropped") -> None:
        """The body broke off, or nobody wants the outcome (L{sslintercept.icap.modify.Modification.abort})."""
        for modification in self._under_way:
            modification.abort(reason, fault)

    def registerProducer(self, producer: Producer, streaming: bool) -> None:
        """Let C{producer}, which must push, be stopped while there is enough."""
        hand = Hand(producer)
        if not self._changed:
            self._hand = hand
        self._sink.registerProducer(Grip(hand), streaming)

    def unregisterProducer(self) -> None:
        """Nothing more comes."""
        if not self._changed:
            self._hand = None
        self._sink.unregisterProducer()

    # one after the other

    def _next(self, kept: bytes) -> None:
        service = self._left.pop(0)
        keeps = self._asked.keeps and not self._left and not self._changed
        modification = service.modify(replace(self._asked, keeps=keeps))
        self._under_way.append(modification)
        if not self._changed:
            self._sink = modification
            modification.detached = lambda: self.detached()
        if modification.outcome.called:
            self._over = kept
        else:
            self._over = b""
            self._feed(modification, kept)
        modification.outcome.addCallbacks(self._came, self._failed)

    def _feed(self, modification: Modification, kept: bytes) -> None:
        """Bring it the message as it is now."""
        grip = None
        if self._hand is not None:
            grip = Grip(self._hand)
            modification.registerProducer(grip, True)
        if kept:
            modification.write(kept)
        if self._body is not None:
            self._body.read_to(modification.write, modification.finish, modification.abort)
        elif self._ended and not self._changed:
            modification.finish()
        if grip is not None:
            grip.settle()

    def _came(self, outcome: Outcome) -> None:
        self._reports.append(outcome.report)
        if isinstance(outcome, Unchanged):
            kept = None if outcome.kept is None else self._over + outcome.kept
            if self._left:
                self._next(kept or b"")
            elif self._changed:
                self.outcome.callback(Modified(self._head, self._rest(kept or b""), self._report()))
            else:
                self.outcome.callback(Unchanged(kept, self._report()))
            return
        self._changed = True
        self._body = outcome.body
        self._hand = None if outcome.body is None else Hand(outcome.body)
        if isinstance(outcome, Answered) or not self._left:
            self.outcome.callback(outcome._replace(report=self._report()))
            return
        asked = replace(self._asked, body=outcome.body is not None, length=None)
        if self._asked.kind is Kind.REQMOD:
            self._asked = replace(asked, request=outcome.head)
        else:
            self._asked = replace(asked, response=outcome.head)
        self._next(b"")

    @property
    def _head(self) -> bytes:
        """The head of the message as it is now."""
        asked = self._asked
        return asked.request if asked.response is None else asked.response

    def _rest(self, kept: bytes) -> AnswerBody | None:
        """The body that somebody has made and the last service has given back."""
        body, hand = self._body, self._hand
        if body is None or hand is None:
            return None
        whole = AnswerBody(lambda: hand.settle(whole, True), lambda: hand.settle(whole, False))
        whole.gone = body.stopProducing
        hand.owner = whole
        if kept:
            whole.write(kept)
        body.read_to(whole.write, whole.finish, whole.fail)
        hand.settle(whole, whole.stopped)
        return whole

    def _report(self) -> Report:
        """What all of them said; of fields, what the last one said."""
        tags = [report.tag for report in self._reports]
        tag = None if None in tags else b"+".join(tag for tag in tags if tag is not None)
        threats = tuple(threat for report in self._reports for threat in report.threats)
        return self._reports[-1]._replace(tag=tag, threats=threats)

    def _failed(self, failure: Failure) -> None:
        if not self.outcome.called:
            self.outcome.errback(failure)
            self.abort(ValueError("another service failed"))

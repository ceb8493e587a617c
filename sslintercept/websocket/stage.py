"""
What a stage of a conversation over WebSocket is, and what it may do with the messages.

An author writes a class with L{MessageStage} as its base and overrides what is not to pass as it is::

    class Upper(MessageStage):
        def text(self, text: str, sender: Side) -> str:
            return text.upper() if sender is Side.CLIENT else text

A stage serves one conversation, in both directions. Messages go through the stages in the order of the ini file,
whoever sent them; L{sslintercept.websocket.chain} has them one behind the other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol, TypeVar

from twisted.internet.defer import Deferred

from sslintercept.errors import InterceptError
from sslintercept.facts import Side
from sslintercept.websocket.frame import NORMAL, TEXT, TOO_BIG, Bytes, WebSocketError
from sslintercept.websocket.relay import Inspector, Relay

MAX_WHOLE: Final = 1024 * 1024
"""Bytes of a message that a stage is given as a whole, if it says nothing else."""

T = TypeVar("T")
Text = str | None | Deferred[str | None]
Binary = bytes | None | Deferred[bytes | None]


class MessageStageError(InterceptError):
    """A stage raised, took too long, or did what it must not."""

    kind = "transform"


class Conversation(Protocol):
    """
    What a stage may do beside answering for a message, from L{MessageStage.begin} on; nothing of it has an effect when
    the conversation is over.
    """

    def send(self, to: Side, message: str | bytes) -> None:
        """
        Say something to one side; no other stage gets it. It comes before a message that is held, and behind one that
        is on its way.

        @raise InterceptError: too much waits behind such a message already.
        """

    def close(self, code: int = NORMAL, reason: str = "") -> None:
        """
        End the conversation on both sides.

        @raise InterceptError: a code that no close frame may carry.
        """

    def wait(self, answer: Deferred[T], decide: Callable[[T], object]) -> None:
        """
        Call C{decide} with what C{answer} brings. If either fails, or it takes too long, the conversation ends; if the
        conversation ends before, the answer is cancelled.
        """


class MessageStage:
    """
    As it stands, one that changes nothing; a message that nobody changes passes byte for byte, in its frames.

    L{begin} comes first and L{ended} last, once each; what another one does may end it before it began. What a stage
    raises ends its conversation with 1011 and nothing else; an error of L{sslintercept.errors} that says that something
    is not allowed ends it with 1008.

    @ivar conversation: what it may do beside answering; there before anything is called.
    @cvar max_message: bytes of a message, decompressed, that L{text} and L{binary} are given; up to three times as many
        are held in each direction.
    @cvar refuse_longer: what is longer ends the conversation with 1009; otherwise it passes unseen. A message that
        comes in hundreds of frames for each 64 KiB of C{max_message} is refused in any case.
    """

    max_message = MAX_WHOLE
    refuse_longer = False
    conversation: Conversation

    def begin(self) -> None:
        """Both sides have agreed; nobody has said anything yet that a stage has seen."""

    def text(self, text: str, sender: Side) -> Text:
        """
        A text from this side; a stage that does not override this costs it nothing.

        @return: what passes in its place: the same, another text, C{None} for nothing; or a Deferred of these. While
            that has no result nothing more is read of what this side says.
        """
        return text

    def binary(self, data: bytes, sender: Side) -> Binary:
        """The same for what is no text."""
        return data

    def longer(self, sender: Side, *, text: bool) -> bool:
        """A message of this side is above C{max_message}: whether that ends the conversation, or it passes unseen."""
        return self.refuse_longer

    def closing(self, code: int, reason: str, sender: Side) -> None:
        """This side closes; 1005 if it does not say why. The other one may still have something to say."""

    def ended(self) -> None:
        """The conversation is over, in whatever way: let go of everything."""

    def inspect(self, relay: Relay, sender: Side) -> Inspector:
        """
        Make what hears of messages piece by piece, once for each side, before L{begin}. Who overrides this gets
        no L{text}, L{binary} and L{closing}; a message that is not decided on is limited by C{max_message}, but not in
        time.
        """
        return Whole(self, relay, sender)


class Whole:
    """Gives a stage whole messages (L{sslintercept.websocket.relay.Inspector})."""

    def __init__(self, stage: MessageStage, relay: Relay, sender: Side) -> None:
        self._stage, self._relay, self._sender = stage, relay, sender
        kind = type(stage)
        self._texts = kind.text is not MessageStage.text
        self._binaries = kind.binary is not MessageStage.binary
        self._text = self._passes = False
        self._content = bytearray()

    def begin(self, opcode: int) -> None:
        """Collect it if the stage wants it."""
        self._text = opcode == TEXT
        self._content.clear()
        self._passes = not (self._texts if self._text else self._binaries)
        if self._passes:
            self._relay.accept()

    def content(self, piece: Bytes) -> None:
        """Some more, or too much."""
        if self._passes:
            return
        stage = self._stage
        if len(self._content) + len(piece) <= stage.max_message:
            self._content += piece
            return
        if stage.longer(self._sender, text=self._text):
            what = f"a message above {stage.max_message} bytes"
            raise WebSocketError(what, code=TOO_BIG, side=self._sender)
        self._passes = True
        self._content = bytearray()
        self._relay.accept()

    def end(self) -> None:
        """Ask the stage."""
        if self._passes:
            return
        stage, sender, content = self._stage, self._sender, bytes(self._content)
        self._content = bytearray()
        # Any: what comes from an author's code is looked at when it is there
        came: str | bytes = content.decode() if self._text else content
        answer: Any = stage.text(came, sender) if isinstance(came, str) else stage.binary(came, sender)
        if isinstance(answer, Deferred):
            stage.conversation.wait(answer, lambda result: self._decide(came, result))
        else:
            self._decide(came, answer)

    def closing(self, code: int, reason: str) -> None:
        """Tell the stage."""
        self._stage.closing(code, reason, self._sender)

    def _decide(self, came: str | bytes, answer: object) -> None:
        if answer is None:
            self._relay.drop()
        elif answer == came:
            self._relay.accept()
        elif isinstance(answer, str) and isinstance(came, str):
            self._relay.replace(answer.encode())
        elif isinstance(answer, bytes) and isinstance(came, bytes):
            self._relay.replace(answer)
        else:
            what = f"it answered a {type(came).__name__} with a {type(answer).__name__}"
            raise TypeError(what)

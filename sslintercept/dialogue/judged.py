"""
What a message means to somebody who waits for TLS, and nothing else of it: the words of the tables of STARTTLS.

A judge gets one whole message and raises L{sslintercept.dialogue.framing.Broken} if it can't be one of its protocol.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Final, NamedTuple, TypeAlias


class Act(Enum):
    """What a client does with a message."""

    LEADS = "on the way to TLS"
    PLAIN = "not on the way to TLS"
    ASKS = "asks for TLS"
    WRAPS = "asks for another protection, in which nothing can be seen"
    LOGS_IN = "if the server agrees there is no TLS any more"
    LEAVES = "from here on there is no TLS any more"


class Next(Enum):
    """What comes from the client instead of a command."""

    COMMAND = "a command"
    NOTHING = "nothing, until the server has answered"
    LINE = "one line, then nothing until the server has answered"
    DOTTED = "lines up to one with a single dot"


class Said(NamedTuple):
    """A message of the client, judged."""

    act: Act
    name: str = ""
    """what its answer is known by; where replies come in turn, the command"""
    replied: bool = True
    """where replies come in turn: it has one of its own"""
    next: Next = Next.COMMAND


class Heard(NamedTuple):
    """A message of the server, judged."""

    agreed: bool = False
    """to what it answers"""
    name: str = ""
    """what it answers, where replies don't come in turn; nothing that matters if empty"""
    final: bool = True
    """where replies come in turn: the last message of its reply"""
    offer: bool | None = None
    """whether TLS is offered, if it says so"""
    next: Next | None = None
    """what the server waits for, before it ends its reply"""
    leaves: bool = False
    """from here on there is no TLS any more, nor anything known"""


class Turn:
    """
    A reply that is waited for, and what of it has come.

    @ivar opening: its first message; judges keep what they want to know later.
    @ivar listed: TLS was among the capabilities in it.
    """

    __slots__ = ("listed", "opening", "said")

    def __init__(self, said: Said) -> None:
        self.said = said
        self.opening = b""
        self.listed = False


JudgeClient: TypeAlias = Callable[[bytes], Said]
JudgeServer: TypeAlias = Callable[[bytes, Turn], Heard]

TLS: Final = "tls"
LOGIN: Final = "login"
"""the names of what is asked where messages carry no number"""
GREETING: Final = Said(Act.LEADS, "greeting")
"""what a server's greeting answers"""
NOTHING: Final = Heard()
"""a message that is about something else"""

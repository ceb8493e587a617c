"""
Which parts an inspector gets: the conditions of rules, and those that a part can be asked.

What a message of HTTP can be asked is in L{sslintercept.transform.select}; an inspector's match is asked of messages
before there is a part, so that one that nobody inspects costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sslintercept.inspect.part import Part
from sslintercept.rule.match import CONDITIONS, Kind, Match, Table, Value, Words, parse_with
from sslintercept.transform.message import Direction, Message
from sslintercept.transform.select import CONDITIONS_OF_MESSAGES, NOTHING, Globs, MediaTypes, Sizes, Statuses

CARRIERS: Final = ("http", "websocket", "smtp", "lmtp", "pop3", "imap", "ftp")


class Carriers(Words):
    """Names of L{CARRIERS}; C{mail} is all that carry mail."""

    def __init__(self, values: Sequence[str]) -> None:
        spelled: list[str] = []
        for value in values:
            if value.lower() == "mail":
                spelled += ["smtp", "lmtp", "pop3", "imap"]
            elif value.lower() in CARRIERS:
                spelled.append(value)
            else:
                raise ValueError(f"{value!r} is none of mail, {', '.join(CARRIERS)}")
        super().__init__(spelled)


class Directions(Words):
    """C{request} or C{response}; C{upload} and C{download} say the same."""

    def __init__(self, values: Sequence[str]) -> None:
        words = {"upload": "request", "download": "response"}
        super().__init__([words.get(value.lower(), value.lower()) for value in values])
        for value in self.words:
            if value not in (Direction.REQUEST.value, Direction.RESPONSE.value):
                raise ValueError(f"{value!r} is none of request, upload, response, download")


class Addresses:
    """Addresses of mail: C{*@example.com}, without regard to case."""

    def __init__(self, values: Sequence[str]) -> None:
        self._globs = Globs([value.lower() for value in values])

    def find(self, value: str) -> str | None:
        return next((found for one in value.lower().split("\n") if (found := self._globs.find(one))), None)


class FileNames:
    """Names of files: C{*.exe}, without regard to case."""

    def __init__(self, values: Sequence[str]) -> None:
        self._globs = Globs([value.lower() for value in values])

    def find(self, value: str) -> str | None:
        return self._globs.find(value.lower())


def _path(part: Part) -> Value:
    if not part.url:
        return None
    rest = part.url.partition("://")[2]
    _, slash, path = rest.partition("/")
    return slash + path.partition("?")[0] if slash else None


def _of_connection(kind: Kind[object]) -> Kind[Part]:
    return Kind(lambda part: kind.read(part.facts), kind.table, kind.needs)


def _host(values: Sequence[str]) -> Table:
    return CONDITIONS["host"].table(values)


CONDITIONS_OF_PARTS: Final[dict[str, Kind[Part]]] = {
    **{name: _of_connection(kind) for name, kind in CONDITIONS.items()},  # type: ignore[arg-type]  # of facts
    "host": Kind(lambda part: part.host or None, _host, NOTHING),
    "path": Kind(_path, Globs, NOTHING),
    "method": Kind(lambda part: part.method or None, Words, NOTHING),
    "direction": Kind(lambda part: part.direction.value, Directions, NOTHING),
    "status": Kind(lambda part: None if part.status is None else str(part.status), Statuses, NOTHING),
    "type": Kind(lambda part: part.media_type or None, MediaTypes, NOTHING),
    "size": Kind(lambda part: None if part.length is None else str(part.length), Sizes, NOTHING),
    "carrier": Kind(lambda part: part.carrier, Carriers, NOTHING),
    "name": Kind(lambda part: part.name, FileNames, NOTHING),
    "sender": Kind(lambda part: part.sender or None, Addresses, NOTHING),
    "recipient": Kind(lambda part: "\n".join(part.recipients) or None, Addresses, NOTHING),
}


def _of_message(carrier: str) -> dict[str, Kind[Message]]:
    """The same of what HTTP carries, before there is a part; nothing else has a sender or a file's name then."""
    return {
        **CONDITIONS_OF_MESSAGES,
        "direction": Kind(CONDITIONS_OF_MESSAGES["direction"].read, Directions, NOTHING),
        "carrier": Kind(lambda message: carrier, Carriers, NOTHING),
        "name": Kind(lambda message: message.path.rpartition("/")[2], FileNames, NOTHING),
        "sender": Kind(lambda message: None, Addresses, NOTHING),
        "recipient": Kind(lambda message: None, Addresses, NOTHING),
    }


_OF_BODIES: Final = _of_message("http")
_OF_CONVERSATIONS: Final = _of_message("websocket")
_LATER: Final = frozenset(("direction", "name", "size", "status", "type"))
"""what a message over WebSocket is, and which way it goes, is known when it comes"""


def of_parts(text: str) -> Match[Part]:
    """@raise ValueError: what is wrong with a match, and what is allowed."""
    return parse_with(CONDITIONS_OF_PARTS, text)


def of_bodies(text: str) -> Match[Message]:
    """The same match, asked of the messages whose bodies are parts."""
    return parse_with(_OF_BODIES, text)


def of_conversations(text: str) -> Match[Message]:
    """The same of conversations over WebSocket, before there is a message; what that is asked waits for it."""
    parsed = parse_with(_OF_CONVERSATIONS, text)
    return Match([each for each in parsed.conditions if each.name not in _LATER])


def check_part_match(text: str) -> None:
    """@raise ValueError: C{text} is no match of parts."""
    of_parts(text)

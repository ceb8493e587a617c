"""
What is seen in a mail or page: plain values, which cross from the worker that read it as JSON.

The worker reads hostile content, so that what it says is hostile, too: L{parsed} takes what has the right types, within
the bounds, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, get_type_hints

MOST_TEXT: Final = 8192
"""characters of one text"""
MOST_SHORT: Final = 1024
"""characters of a name, a title, an address, a URL"""
MOST_ITEMS: Final = 64
"""items of a list"""
MOST_OBSERVED: Final = 1000
"""observations of one mail or page that are judged"""


@dataclass(frozen=True, slots=True)
class Head:
    """
    The head of a mail.

    @ivar sender: the address of From, C{display} its display name; C{senders} counts addresses in all From fields.
    @ivar reply: the address of Reply-To; C{path}: of Return-Path; C{other}: of Sender.
    @ivar received: how many Received fields there are.
    @ivar results: the values of Authentication-Results, the newest first.
    @ivar signers: what DKIM-Signature fields say: C{selector domain}.
    @ivar listed: it says to be of a list (List-Id, List-Unsubscribe).
    """

    sender: str = ""
    display: str = ""
    senders: int = 0
    reply: str = ""
    path: str = ""
    other: str = ""
    subject: str = ""
    received: int = 0
    results: tuple[str, ...] = ()
    signers: tuple[str, ...] = ()
    listed: bool = False


@dataclass(frozen=True, slots=True)
class Text:
    """The beginning of what is to be read."""

    sample: str = ""
    password: bool = False
    """it tells a password: for an archive, a document"""


@dataclass(frozen=True, slots=True)
class Link:
    """
    Where something leads.

    @ivar kind: C{link}, C{text} (a URL in plain text), C{frame}, C{refresh}, C{image}, C{style}, C{data} (a data: URL
        that is shown as a page).
    @ivar scheme: in small letters; C{host} in A-labels, or an address; C{port} 0 if none is said.
    @ivar target: path and query.
    @ivar login: it has a user name in front of the host.
    @ivar shown: what the reader sees of it.
    @ivar part: the part that it is in: C{body}, C{page}, or the name of an attachment.
    """

    kind: str = "link"
    scheme: str = ""
    host: str = ""
    port: int = 0
    target: str = "/"
    login: bool = False
    shown: str = ""
    part: str = ""


@dataclass(frozen=True, slots=True)
class Form:
    """
    A form.

    @ivar scheme: of its action, empty if it has none, or one without a host; C{host} likewise.
    @ivar password: it asks for a password; C{fields}: names of its fields that sound like credentials.
    @ivar mail: its action is an address.
    """

    scheme: str = ""
    host: str = ""
    password: bool = False
    fields: tuple[str, ...] = ()
    mail: bool = False
    part: str = ""


@dataclass(frozen=True, slots=True)
class Script:
    """A script, with the signs of smuggling that it has (L{sslintercept.phish.page.SIGNS})."""

    signs: tuple[str, ...] = ()
    part: str = ""


@dataclass(frozen=True, slots=True)
class Attachment:
    """
    An attachment.

    @ivar declared: its type as declared, C{sniffed}: by its first bytes, empty if unknown.
    @ivar signs: what is odd about it (L{sslintercept.phish.attachment.SIGNS}).
    """

    name: str = ""
    declared: str = ""
    sniffed: str = ""
    size: int = 0
    signs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """A page as a whole."""

    title: str = ""
    images: int = 0
    """images from elsewhere"""
    part: str = ""


@dataclass(frozen=True, slots=True)
class End:
    """The last one: reading got to its end; C{cut} says what was left out."""

    cut: tuple[str, ...] = ()


Observation = Head | Text | Link | Form | Script | Attachment | Page | End
KINDS: Final[dict[str, type[Observation]]] = {
    each.__name__.lower(): each for each in (Head, Text, Link, Form, Script, Attachment, Page, End)
}
_HINTS: Final = {kind: get_type_hints(kind) for kind in KINDS.values()}


def plain(observation: Observation) -> dict[str, Any]:  # Any: JSON
    """As JSON has it, and UTF-8; texts are cut to their bounds."""
    made: dict[str, Any] = {"what": type(observation).__name__.lower()}
    for field in fields(observation):
        value = getattr(observation, field.name)
        if isinstance(value, str):
            value = _whole(value[: MOST_TEXT if field.name == "sample" else MOST_SHORT])
        elif isinstance(value, tuple):
            value = [_whole(each[:MOST_SHORT]) for each in value[:MOST_ITEMS]]
        made[field.name] = value
    return made


def _whole(text: str) -> str:
    """The text without halves of characters, which stand for bytes that are none and cannot be written down."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def parsed(meta: Mapping[str, Any]) -> Observation | None:
    """What L{plain} wrote; C{None} for anything else."""
    kind = KINDS.get(str(meta.get("what")))
    if kind is None:
        return None
    values: dict[str, Any] = {}
    for name, wanted in _HINTS[kind].items():
        value = meta.get(name)
        if wanted in (str, bool, int) and type(value) is wanted:
            if isinstance(value, str) and len(value) > (MOST_TEXT if name == "sample" else MOST_SHORT):
                return None
        elif wanted == tuple[str, ...] and isinstance(value, list) and len(value) <= MOST_ITEMS:
            if not all(isinstance(each, str) and len(each) <= MOST_SHORT for each in value):
                return None
            value = tuple(value)
        else:
            return None
        values[name] = value
    return kind(**values)


def all_parsed(metas: Iterable[Mapping[str, Any]]) -> list[Observation]:
    """All that can be read of the first L{MOST_OBSERVED}."""
    found = [parsed(meta) for meta, _ in zip(metas, range(MOST_OBSERVED), strict=False)]
    return [each for each in found if each is not None]

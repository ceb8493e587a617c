"""
What a mail says of itself, and what is in it: its head, its texts, its attachments.

Runs where it may die: in a worker.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from email import message_from_bytes
from email.errors import HeaderParseError, MessageError
from email.header import decode_header, make_header
from email.message import Message
from email.utils import getaddresses
from typing import Final

from sslintercept.phish.attachment import signs
from sslintercept.phish.observed import MOST_SHORT, MOST_TEXT, Attachment, End, Head, Link, Observation, Text
from sslintercept.phish.page import read_page
from sslintercept.phish.place import place

MOST_FIELD: Final = 8192
"""characters of a field that are read"""
MOST_PARTS: Final = 200
"""parts of a mail that are looked at"""
MOST_PART: Final = 1024 * 1024
"""characters of a text that are read"""
MOST_SIGNATURES: Final = 5
"""signatures of DKIM that are told"""
MOST_RESULTS: Final = 10
"""Authentication-Results fields that are told"""

_URL = re.compile(r"https?://[^\s<>\"'\[\]{}|^`]{1,2048}", re.IGNORECASE)
_PASSWORD = re.compile(
    r"(?:password|passcode|passwor[dt]|kennwort|mot de passe|contrase\u00f1a|senha|parola|has\u0142o|wachtwoord"
    r"|\u043f\u0430\u0440\u043e\u043b\u044c|\u5bc6\u7801|\u5bc6\u78bc|\u30d1\u30b9\u30ef\u30fc\u30c9)"
    r"[^\n]{0,40}?(?:\s(?:is|ist|est|es|\u00e8)\s|[:=\uff1a])\s*\S{3}",
    re.IGNORECASE,
)
_TAG = re.compile(r"(?:^|;)\s*([a-z]{1,2})\s*=\s*([^;]{1,253})", re.IGNORECASE)


def decoded(value: object) -> str:
    """A field's value for people: encoded words undone (RFC 2047), line breaks gone; as it is if that fails."""
    text = str(value)[:MOST_FIELD]
    if "=?" in text:
        with suppress(HeaderParseError, LookupError, ValueError, TypeError):
            text = str(make_header(decode_header(text)))
    return " ".join(text.split())


def addresses(message: Message, name: str) -> list[tuple[str, str]]:
    """Display names and addresses of all fields of a name."""
    values = [str(value)[:MOST_FIELD] for value in message.get_all(name, [])[:4]]
    found = [(decoded(display), address.strip()) for display, address in getaddresses(values)]
    return [each for each in found if "@" in each[1]] or [each for each in found if each != ("", "")]


def first(message: Message, name: str) -> str:
    """The first address of a field."""
    found = addresses(message, name)
    return found[0][1][:MOST_SHORT] if found else ""


def head_of(message: Message) -> Head:
    """What the head says."""
    senders = addresses(message, "From")
    display, sender = senders[0] if senders else ("", "")
    signers = []
    for value in message.get_all("DKIM-Signature", [])[:MOST_SIGNATURES]:
        tags = {tag.lower(): "".join(text.split()) for tag, text in _TAG.findall(str(value)[:MOST_FIELD])}
        signers.append(f"{tags.get('s', '')} {tags.get('d', '')}")
    return Head(
        sender=sender,
        display=display,
        senders=len(senders),
        reply=first(message, "Reply-To"),
        path=first(message, "Return-Path"),
        other=first(message, "Sender"),
        subject=decoded(message.get("Subject", "")),
        received=len(message.get_all("Received", [])),
        results=tuple(
            " ".join(str(value)[:MOST_SHORT].split())
            for value in message.get_all("Authentication-Results", [])[:MOST_RESULTS]
        ),
        signers=tuple(signers),
        listed="List-Id" in message or "List-Unsubscribe" in message,
    )


def text_of(part: Message, content: bytes) -> str:
    """The text of a part in its charset; what cannot be read is replaced."""
    charset = part.get_content_charset() or "utf-8"
    try:
        return content[: 4 * MOST_PART].decode(charset, "replace")[:MOST_PART]
    except (LookupError, UnicodeError):
        return content[:MOST_PART].decode("latin-1")


def read_mail(content: bytes) -> Iterator[Observation]:
    """What there is to be seen, the head first, L{End} last."""
    try:
        message = message_from_bytes(content)
        yield head_of(message)
        cut: list[str] = []
        password = False
        for count, part in enumerate(message.walk()):
            if count >= MOST_PARTS:
                cut.append("parts")
                break
            if part.is_multipart():
                continue
            for seen in _of_part(part):
                if isinstance(seen, Text) and not seen.password and _PASSWORD.search(seen.sample) is not None:
                    seen = Text(seen.sample, True)
                password = password or (isinstance(seen, Text) and seen.password)
                yield seen
        yield End(tuple(cut))
    except (RecursionError, MessageError, ValueError, LookupError, AttributeError, TypeError) as error:
        # What the library does not bear (nests, headers that are none) must not hide what was seen so far.
        yield End((f"unreadable: {type(error).__name__}",))


def _of_part(part: Message) -> Iterator[Observation]:
    payload = part.get_payload(decode=True)
    content = payload if isinstance(payload, bytes) else b""
    declared = part.get_content_type().lower()
    name = decoded(part.get_filename() or "")[:MOST_SHORT]
    attached = bool(name) or part.get_content_disposition() == "attachment"
    if declared == "text/plain" and not attached:
        text = text_of(part, content)
        for url in _URL.findall(text):
            to = place(url.rstrip(".,;:!?)"))
            if to.host:
                yield Link("text", *to, "", "body")
        yield Text(text[:MOST_TEXT])
    elif declared == "text/html" and not attached:
        yield from read_page(text_of(part, content), "body")
    elif attached or not declared.startswith("text/"):
        kind, odd = signs(name, declared, content)
        yield Attachment(name, declared, kind, len(content), odd)
        if "html" in odd:
            yield from read_page(text_of(part, content), name or "attachment")

"""
Messages with and without what must not leave, in everything that carries text, made by a seeded generator.

A sample is a text of one to three kilobytes: none to three kinds of secrets (of L{KINDS}), made by
L{tests.leak.corpus}, by a registered table and by registered documents, between decoys of all kinds. The same text is
put into each carrier. Half of the samples hold decoys only, among them what is next to a secret: cards with a wrong
check digit, one cell of a row, rows nobody registered, paragraphs of documents nobody registered.
"""

from __future__ import annotations

import html
import random
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from sslintercept.leak import exact, fingerprint
from tests.inspect.material import DOCUMENTS, api, form, mail, numbers, tarred, upload, zipped
from tests.leak.corpus import DECOYS, SECRETS, digits, prose, word

ROWS = 300
PLANS = 5
WORDS = 500
"""of a registered document"""
TAKEN = 200
"""words that are taken out of one"""
KEY = bytes(range(32))
TABLE = "customers"
PAPERS = "plans"
KINDS = (
    *("card", "iban", "de-tax-id", "uk-nino", "us-ssn"),
    *("private-key", "github-token", "aws-key-id", "stripe-key", "password"),
    *(TABLE, PAPERS),
)


class Sample(NamedTuple):
    """A text, and which kinds of secrets are in it."""

    text: str
    kinds: frozenset[str]


def person(chance: random.Random) -> str:
    return f"{word(chance).capitalize()} {word(chance).capitalize()}{digits(chance, 1)}"


@cache
def rows() -> tuple[tuple[str, str], ...]:
    """Of the registered table."""
    chance = random.Random("rows")
    return tuple((person(chance), digits(chance, 9)) for _ in range(ROWS))


@cache
def papers() -> tuple[str, ...]:
    """The registered documents."""
    chance = random.Random("papers")
    return tuple(prose(chance, WORDS) for _ in range(PLANS))


def registered() -> tuple[bytes, bytes]:
    """The table and the documents, as files hold them."""
    table = exact.register(KEY, ("name", "account"), rows()).packed
    return table, fingerprint.register(KEY, {f"plan {n}": [text.encode()] for n, text in enumerate(papers())}).packed


def row(chance: random.Random) -> str:
    name, account = chance.choice(rows())
    return chance.choice(
        [f"{name}, account {account}", f"{account}: {name}", f"account {account} of Mr {name.upper()}"]
    )


def paragraph(chance: random.Random) -> str:
    words = chance.choice(papers()).split()
    at = chance.randrange(WORDS - TAKEN)
    return lines(words[at : at + TAKEN])


def lines(words: list[str]) -> str:
    return "\n".join(" ".join(words[at : at + 12]) for at in range(0, len(words), 12))


def secret(chance: random.Random, kind: str) -> str:
    if kind == TABLE:
        return row(chance)
    if kind == PAPERS:
        return paragraph(chance)
    make, before = SECRETS[kind]
    return chance.choice(before) + make(chance)


NEXT: dict[str, Callable[[random.Random], str]] = {
    "wrong card": lambda chance: "card " + numbers(1, valid=False, seed=chance.randrange(1 << 30))[0],
    "one cell": lambda chance: chance.choice(rows())[chance.randrange(2)],
    "another row": lambda chance: f"{person(chance)}, account {digits(chance, 9)}",
    "another paper": lambda chance: lines(prose(chance, TAKEN).split()),
}
OTHERS = {**{name: make for name, make in DECOYS.items() if name != "table"}, **NEXT}


def sample(seed: int) -> Sample:
    """Of ASCII, as not every carrier here has other letters."""
    chance = random.Random(seed)
    kinds = chance.sample(KINDS, chance.randint(1, 3)) if seed % 2 else []
    makes: list[Callable[[random.Random], str]] = [lambda chance, kind=kind: secret(chance, kind) for kind in kinds]  # type: ignore[misc]  # a loop variable kept
    makes += chance.choices(list(OTHERS.values()), k=12)
    chance.shuffle(makes)
    pieces = [f"{prose(chance, chance.randint(8, 20))}. {make(chance)}" for make in makes]
    text = "\n".join(pieces)
    return Sample(text, frozenset(kinds)) if text.isascii() else sample(seed + 100_000)


Made = tuple[bytes, dict[str, Any]]  # Any: fields of a part
"""the content, and what is declared"""


def page(text: str) -> str:
    paragraphs = "".join(f"<p>{html.escape(line, quote=False)}</p>\n" for line in text.split("\n"))
    return f"<!DOCTYPE html><html><head><title>Note</title></head><body>{paragraphs}</body></html>"


def multipart(text: str) -> Made:
    content_type, body = upload([("file", "note.txt", "text/plain", text.encode())], {"title": "a note"})
    return body, {"media_type": "multipart/form-data", "content_type": content_type}


def sent(content: bytes) -> Made:
    return content, {"carrier": "smtp", "kind": "message", "media_type": "message/rfc822"}


def file(content: bytes, name: str) -> Made:
    return content, {"media_type": "application/octet-stream", "name": name}


CARRIERS: dict[str, Callable[[str], Made]] = {
    "text": lambda text: (text.encode(), {}),
    "text in UTF-16": lambda text: (b"\xff\xfe" + text.encode("utf-16-le"), {}),
    "form": lambda text: (form({"id": "7", "note": text}), {"media_type": "application/x-www-form-urlencoded"}),
    "form with a file": multipart,
    "JSON": lambda text: (api(text), {"media_type": "application/json"}),
    "message of WebSocket": lambda text: (api(text), {"carrier": "websocket", "kind": "message"}),
    "HTML": lambda text: (page(text).encode(), {"media_type": "text/html"}),
    "mail": lambda text: sent(mail(text)),
    "mail with HTML": lambda text: sent(mail("See the page.", html=page(text))),
    "mail with docx": lambda text: sent(
        mail("See the file.", attachments=[("note.docx", "application/octet-stream", DOCUMENTS["docx"](text))])
    ),
    "zip": lambda text: file(zipped({"readme.txt": b"nothing", "note.txt": text.encode()}), "notes.zip"),
    "zip in zip": lambda text: file(zipped({"notes.zip": zipped({"note.json": api(text)})}), "notes.zip"),
    "tar.gz": lambda text: file(tarred({"notes/note.txt": text.encode()}), "notes.tgz"),
    **{
        name: lambda text, name=name, make=make: file(make(text), f"note.{name}")  # type: ignore[misc]  # loop variables kept
        for name, make in DOCUMENTS.items()
    },
}
"""whatever carries a text"""

"""What tests of phishing share: mails and pages made by hand, workers without a process, name servers in memory."""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from email.message import EmailMessage
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, fail, succeed

from sslintercept.errors import EngineError, ResolveError
from sslintercept.phish.observed import Observation, all_parsed
from sslintercept.phish.read import read


class Item(NamedTuple):
    meta: dict[str, Any]
    content: bytes = b""


class Workers:
    """A pool that runs its tasks at once; values cross as JSON."""

    def __init__(self, error: Exception | None = None) -> None:
        self.tasks: list[str] = []
        self.error = error

    def run(self, task: str, meta: dict[str, Any], content: bytes) -> Deferred[list[Item]]:
        self.tasks.append(task)
        if self.error is not None:
            return fail(self.error)
        module, _, name = task.partition(":")
        function = getattr(importlib.import_module(module), name)
        items = function(json.loads(json.dumps(meta)), content, None)
        return succeed([Item(json.loads(json.dumps(item.meta)), item.content) for item in items])


BROKEN = EngineError("it died", where="worker", remedy="none", fault="lost")


class Zone:
    """
    Name servers in memory.

    @ivar records: by type and name; C{None}: nobody can say.
    """

    def __init__(self, records: dict[str, Any] | None = None) -> None:
        self.records = {key.lower(): value for key, value in (records or {}).items()}
        self.asked: list[str] = []

    def _of(self, kind: str, name: str) -> Any:
        key = f"{kind} {name.lower().removesuffix('.')}"
        self.asked.append(key)
        found = self.records.get(key, [])
        if found is None:
            raise ResolveError("silence", where=name, remedy="none")
        return found

    async def txt(self, name: str) -> Sequence[bytes]:
        return [text.encode() for text in self._of("txt", name)]

    async def addresses(self, name: str, version: int) -> Sequence[str]:
        return list(self._of("a" if version == 4 else "aaaa", name))

    async def mx(self, name: str) -> Sequence[tuple[int, str]]:
        return list(self._of("mx", name))


def mail(
    text: str = "Hello.",
    html: str = "",
    sender: str = "Alice <alice@friend.example>",
    subject: str = "Hello",
    attachments: Sequence[tuple[str, str, bytes]] = (),
    **fields: str,
) -> bytes:
    """A mail as a good program writes it."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = sender, "bob@example.org", subject
    for name, value in fields.items():
        message[name.replace("_", "-")] = value
    message.set_content(text)
    if html:
        message.add_alternative(html, subtype="html")
    for name, kind, content in attachments:
        main, _, sub = kind.partition("/")
        message.add_attachment(content, maintype=main, subtype=sub, filename=name)
    return message.as_bytes().replace(b"\n", b"\r\n")


def seen(content: bytes, **meta: str) -> list[Observation]:
    """What a worker would see."""
    items = [json.loads(json.dumps(item.meta)) for item in read(meta or {"kind": "mail"}, content)]
    return all_parsed(items)

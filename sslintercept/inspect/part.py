"""
What an inspector looks at: one part of what somebody sends, whatever carries it.

A part is a body of HTTP, a field or file of a form, a message of WebSocket, a mail, a file of FTP, or a piece that was
taken out of one of these: a member of an archive, an attachment, the text of a document.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Final

from sslintercept.facts import Facts
from sslintercept.transform.message import Direction
from sslintercept.unpack.sniff import HEAD, sniff

__all__ = ["HEAD", "Part", "sniff"]

MOST_NAME: Final = 512
"""characters of a name that are kept"""


@dataclass(slots=True)
class Part:
    """
    One part; L{but} copies it.

    @ivar carrier: C{http}, C{websocket}, C{smtp}, C{lmtp}, C{pop3}, C{imap} or C{ftp}.
    @ivar kind: C{body}, C{message}, C{file}, C{field} (of a form), C{member} (of an archive), C{attachment} or C{text}
        (taken out of a document).
    @ivar direction: C{REQUEST} leaves, C{RESPONSE} comes in.
    @ivar facts: what is known of the client's connection.
    @ivar name: of the file, if somebody says so; not to be trusted.
    @ivar media_type: as declared, in lower case, without parameters; C{sniffed}: by its first bytes, empty if unknown.
    @ivar charset: as declared, in lower case; C{content_type}: all of what was declared, as it was written.
    @ivar length: bytes; C{None} if nobody knows.
    @ivar url: what it is asked of, for HTTP and WebSocket.
    @ivar host: the other end.
    @ivar sender: of a mail; C{recipients} likewise.
    @ivar user: who sends or gets it, as far as a protocol says.
    @ivar parent: the part that it was taken out of.
    @ivar request_head: of HTTP, its heads as ICAP services want to see them: the target in absolute form, with their
        empty line, without hop-by-hop fields, and with fields that tell of the content as it is shown: no
        Content-Encoding that was undone. C{response_head} likewise. Empty for other carriers and for members.
    """

    carrier: str
    kind: str
    direction: Direction
    facts: Facts
    name: str = ""
    media_type: str = ""
    charset: str | None = None
    length: int | None = None
    url: str = ""
    host: str = ""
    sender: str = ""
    recipients: tuple[str, ...] = ()
    user: str | None = None
    sniffed: str = ""
    content_type: str = ""
    method: str = ""
    status: int | None = None
    parent: Part | None = field(default=None, repr=False)
    request_head: bytes = field(default=b"", repr=False)
    response_head: bytes = field(default=b"", repr=False)

    @property
    def leaves(self) -> bool:
        """Whether it goes from a client to the outside."""
        return self.direction is Direction.REQUEST

    @property
    def outermost(self) -> Part:
        """What it was taken out of in the end."""
        part = self
        while part.parent is not None:
            part = part.parent
        return part

    @property
    def path(self) -> str:
        """The names from the outermost part to this one: C{mail > report.zip > invoice.exe}."""
        names: list[str] = []
        part: Part | None = self
        while part is not None:
            if name := part.name or (part.kind if part.parent is not None else ""):
                names.append(name)
            part = part.parent
        return " > ".join(reversed(names))

    @property
    def type(self) -> str:
        """What it is taken for: what its first bytes say, else what was declared."""
        return self.sniffed or self.media_type

    def but(self, **changes: Any) -> Part:  # Any: each has its own type
        """The same with other values."""
        return Part(**{name: changes[name] if name in changes else getattr(self, name) for name in NAMES})

    def member(self, kind: str, name: str, media_type: str, length: int, charset: str | None = None) -> Part:
        """A part that was taken out of this one."""
        return self.but(
            kind=kind,
            name=name[:MOST_NAME],
            media_type=media_type,
            charset=charset,
            length=length,
            sniffed="",
            content_type="",
            parent=self,
            request_head=b"",
            response_head=b"",
        )


NAMES: Final = tuple(each.name for each in fields(Part))

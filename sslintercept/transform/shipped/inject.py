"""
C{inject-html}: puts a snippet into HTML pages.

Good for a banner, a notice, a script of one's own::

    [transform:notice]
    use = inject-html
    match = host:*.example direction:response
    html = <p class="notice">This connection is inspected.</p>
    place = body

C{place = head} is behind C{<head>}, where a script runs before all others; C{body} is in front of C{</body>}, or at the
end of a document that has none; C{end} is at the end. The page goes on as it comes: less than 12 bytes are held, those
that may be the beginning of a tag.

Limits. Content-Security-Policy stays as it is and may forbid what is put in: inline scripts and styles usually, other
hosts' often. Allow it with a hash, or use the transform C{headers}; a policy in the page itself cannot be changed.
Characters that the page's charset does not have become C{&#...;}, and all above ASCII do if the response names no
charset; a script does not understand that, so keep it to ASCII. UTF-16, UTF-32 and charsets with states
(C{iso-2022-jp}) pass with a note. A document without C{<head>} in words gets nothing at C{place = head}, with a note.
What a browser says it asks for from a script (C{Sec-Fetch-Dest}) passes; a fragment fetched by a client that says
nothing is a document to us, so match by path where that matters.
"""

# ruff: noqa: RUF009 -- setting() makes a field of a dataclass, just as dataclasses.field() does
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sslintercept.config import units
from sslintercept.config.key import setting
from sslintercept.errors import ConfigError
from sslintercept.transform.message import Direction, Message
from sslintercept.transform.processor import Transformer
from sslintercept.transform.shipped.html import Finder
from sslintercept.transform.shipped.text import LIKE_ASCII, text
from sslintercept.transform.stage import Transform

LARGEST: Final = 64 * 1024
"""bytes of a snippet"""
DOCUMENTS: Final = frozenset((b"document", b"iframe", b"frame", b"embed", b"object"))
"""what a browser asks for that it shows as a page (Fetch Metadata 2.1)"""
WIDE: Final = (b"\xff\xfe", b"\xfe\xff")
"""how UTF-16 and UTF-32 begin"""


@dataclass(frozen=True, slots=True)
class InjectOptions:
    """Of C{inject-html}."""

    html: str | None = setting(text(LARGEST), None, "the snippet", example="<p>This connection is inspected.</p>")
    file: Path | None = setting(
        units.path(), None, "file with the snippet in UTF-8, instead; it is read at the start", example="notice.html"
    )
    place: str = setting(
        units.choice("head", "body", "end"), "body", "behind <head>, in front of </body>, or at the end"
    )


class Inject(Transform):
    """
    Puts bytes into a document, once.

    @param finder: finds the place; C{None} for the end.
    @param or_end: whether the end will do where the finder finds nothing.
    @param missed: called if it was not put in, though there was a document.
    """

    def __init__(
        self, snippet: bytes, finder: Finder | None, *, or_end: bool = True, missed: Callable[[str], object]
    ) -> None:
        self._snippet = snippet
        self._finder = finder
        self._or_end = or_end
        self._missed = missed
        self._first = b""
        """the only byte so far, if it may begin UTF-16"""
        self._begun = False

    def write(self, data: bytes) -> None:
        if not self._begun:
            data, self._first = self._first + data, b""
            if len(data) == 1 and data in (b"\xff", b"\xfe"):
                self._first = data
                return
            self._begun = True
            if data.startswith(WIDE):
                self._finder, self._or_end = None, False
                self._missed("not applied to UTF-16")
        if self._finder is None:
            self.output.write(data)
            return
        before, behind = self._finder.feed(data)
        self.output.write(before)
        if behind is not None:
            self._finder, self._or_end = None, False
            self.output.write(self._snippet)
            self.output.write(behind)

    def finish(self) -> None:
        if self._finder is not None:
            self.output.write(self._finder.rest())
            if self._begun and not self._or_end:
                self._missed("the document has no such place")
        self.output.write(self._first)
        if self._begun and self._or_end:
            self.output.write(self._snippet)
        self.output.finish()


class InjectHtml(Transformer):
    """
    Puts a snippet into HTML pages.

    @raise ConfigError: there is no snippet, or there are two.
    """

    def __init__(self, options: InjectOptions) -> None:
        self.place = options.place
        self.html = snippet_of(options)
        self._written: dict[str, bytes] = {}

    def transform(self, message: Message) -> Inject | None:
        if message.direction is Direction.REQUEST or message.media_type != "text/html":
            return None
        wanted_for = message.request_field(b"Sec-Fetch-Dest")
        if wanted_for is not None and wanted_for not in DOCUMENTS:
            return None
        codec = "ascii" if message.charset is None else LIKE_ASCII.get(message.charset)
        if codec is None:
            message.note("inject-html", f"not applied to charset {(message.charset or '')[:40]}")
            return None
        finder = None if self.place == "end" else Finder(self.place.encode("ascii"), closing=self.place == "body")
        return Inject(
            self._snippet(codec),
            finder,
            or_end=self.place != "head",
            missed=lambda why: message.note("inject-html", why),
        )

    def _snippet(self, codec: str) -> bytes:
        """The snippet in one of the charsets of our table, made once."""
        written = self._written.get(codec)
        if written is None:
            written = self._written[codec] = self.html.encode(codec, "xmlcharrefreplace")
        return written


def snippet_of(options: InjectOptions) -> str:
    """@raise ConfigError: neither or both are given, or the file cannot be used."""
    where = "inject-html"
    if (options.html is None) is (options.file is None):
        raise ConfigError("neither html nor file is given, or both", where=where, remedy="give one of them")
    if options.html is not None:
        return options.html
    assert options.file is not None
    try:
        with options.file.open("rb") as file:
            data = file.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise ConfigError(f"{options.file} is too large", where=where, remedy=f"use at most {LARGEST} bytes")
        return data.decode("utf-8")
    except OSError as error:
        what = f"cannot read {options.file} ({error.strerror})"
        raise ConfigError(what, where=where, remedy="make it readable for the proxy's user") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{options.file} is not UTF-8", where=where, remedy="save it as UTF-8") from error

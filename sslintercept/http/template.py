"""
The templates of pages and the languages they are in: read once, when settings are read, and checked then.

A template is HTML with placeholders, C{$title}; every value is escaped where it is put in, so a placeholder may stand
in text and in quoted attributes. Styles of a template are allowed by their hash; scripts are none of a page's business.
"""

from __future__ import annotations

import re
import tomllib
from base64 import b64encode
from collections.abc import Iterator, Sequence
from functools import cache
from hashlib import sha256
from html import escape
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Final, NamedTuple

from sslintercept.config.schema import PagesSettings
from sslintercept.errors import ConfigError
from sslintercept.http.wants import DEFAULT_LANGUAGE, lookup

KINDS: Final = ("error", "block", "warn", "wait")
"""kinds of pages"""
MOST_BYTES: Final = 256 * 1024
"""of a template"""
MOST_FILES: Final = 256
"""templates in a folder"""
PLACEHOLDERS: Final = frozenset(
    (
        *("title", "what", "remedy", "id", "event", "category", "host", "url", "rule"),
        *("contact", "status", "continue", "button", "lang", "via"),
    )
)
BUILT_IN: Final = ("de", "en", "es", "fr", "zh")

_FILE = re.compile(r"([a-z]+)(?:\.([a-z]{2,8}(?:-[a-z0-9]{1,8}){0,3}))?\.html")
_PLACEHOLDER = re.compile(r"\$(?!\$)")
_DOUBLED = re.compile(r"\$\$")
_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'")


class Language(NamedTuple):
    """
    What pages say in a language.

    @ivar tag: for C{lang} (RFC 5646).
    @ivar button: what continues behind a warning.
    @ivar texts: for each occasion a title, and what the reader can do.
    """

    tag: str
    button: str
    texts: dict[str, tuple[str, str]]


class Page(NamedTuple):
    """A template that was checked, and what a browser may do with what it makes."""

    text: Template
    policy: str
    """of the styles, for Content-Security-Policy"""

    def fill(self, values: dict[str, str]) -> bytes:
        """Put in the values, escaped; there must be one for each of L{PLACEHOLDERS}."""
        return self.text.substitute({name: escape(value) for name, value in values.items()}).encode()


class Pages:
    """
    The pages of one generation of settings.

    @ivar contact: whom users may ask.
    """

    def __init__(self, settings: PagesSettings) -> None:
        """@raise ConfigError: a template cannot be read or used, or there is nothing in the language."""
        self.contact = settings.contact or ""
        self._templates: dict[str, dict[str, Page]] = {kind: {"": built_in(kind)} for kind in KINDS}
        if settings.folder is not None:
            for kind, language, page in own(settings.folder):
                self._templates[kind][language] = page
        self._tags = {kind: frozenset((*BUILT_IN, *found)) - {""} for kind, found in self._templates.items()}
        self._fixed: tuple[str, ...] = ()
        if settings.language != "auto":
            self._fixed = (settings.language,)
            there = sorted(frozenset().union(*self._tags.values()))
            if lookup(self._fixed, there) == DEFAULT_LANGUAGE and not settings.language.startswith(DEFAULT_LANGUAGE):
                raise ConfigError(
                    f"there is no page in {settings.language}",
                    where="[pages] language",
                    remedy=f"there are {', '.join(there)}; add block.{settings.language}.html and others to the folder",
                )

    def choose(self, kind: str, languages: Sequence[str]) -> tuple[Page, Language]:
        """The template of a C{kind} and the texts for a reader who likes C{languages}."""
        templates = self._templates[kind]
        tag = lookup(self._fixed or languages, self._tags[kind])
        words = language(lookup((tag,), BUILT_IN))
        if tag in templates and tag not in BUILT_IN:
            words = words._replace(tag=tag)
        return templates.get(tag) or templates[""], words


@cache
def language(tag: str) -> Language:
    """The texts of one of L{BUILT_IN}."""
    read = tomllib.loads(_shipped(f"{tag}.toml"))
    texts = {occasion: (title, remedy) for occasion, (title, remedy) in read["texts"].items()}
    return Language(read["tag"], read["button"], texts)


@cache
def built_in(kind: str) -> Page:
    """The template that is used where there is no other."""
    return checked(_shipped(f"{kind}.html"), f"{kind}.html")


def _shipped(name: str) -> str:
    return files("sslintercept.http.pages").joinpath(name).read_text(encoding="utf-8")


def own(folder: Path) -> Iterator[tuple[str, str, Page]]:
    """
    The templates of a folder: kind, language (or empty), and the page. What does not end in C{.html} is left alone.

    @raise ConfigError: one cannot be read or used, or has no such name.
    """
    try:
        names = sorted(path.name for path in folder.iterdir() if path.name.endswith(".html"))
    except OSError as error:
        why = error.strerror
        raise ConfigError(
            f"cannot read {folder} ({why})", where="[pages] folder", remedy="name a folder that can be read"
        ) from None
    if len(names) > MOST_FILES:
        raise ConfigError(f"{len(names)} templates", where=f"[pages] {folder}", remedy=f"at most {MOST_FILES}")
    for name in names:
        match, where = _FILE.fullmatch(name.lower()), f"[pages] {folder / name}"
        if match is None or match[1] not in KINDS:
            remedy = f"call it {', '.join(f'{kind}.html' for kind in KINDS)}, or with a language like block.de.html"
            raise ConfigError("no kind of page", where=where, remedy=remedy)
        yield match[1], match[2] or "", checked(_read(folder / name, where), where)


def _read(path: Path, where: str) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise ConfigError(f"larger than {MOST_BYTES >> 10} KiB", where=where, remedy="make it smaller")
        return data.decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"cannot be read ({error.strerror})", where=where, remedy="make it readable") from None
    except UnicodeDecodeError:
        raise ConfigError("not UTF-8", where=where, remedy="save it in that coding") from None


def checked(text: str, where: str) -> Page:
    """
    A template that may be used.

    @raise ConfigError: it has a placeholder that nobody knows, or one where escaping does not help; or a script.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")  # as browsers read it before they hash a style
    template = Template(text)
    if not template.is_valid():
        raise ConfigError("a $ that begins no placeholder", where=where, remedy="write $$ for the character")
    unknown = sorted(set(template.get_identifiers()) - PLACEHOLDERS)
    if unknown:
        names = ", ".join(f"${name}" for name in sorted(PLACEHOLDERS))
        raise ConfigError(f"unknown placeholder ${unknown[0]}", where=where, remedy=f"there are {names}")
    looking = _Looking()
    looking.feed(text)
    looking.close()
    if looking.fault:
        raise ConfigError(looking.fault, where=where, remedy="see docs/pages.md")
    styles = [_DOUBLED.sub("$", style).encode() for style in looking.styles]
    hashes = " ".join(f"'sha256-{b64encode(sha256(style).digest()).decode()}'" for style in styles)
    return Page(template, hashes or "'none'")


class _Looking(HTMLParser):
    """
    Looks for what must not stand in a template.

    @ivar fault: the first thing found, or empty; C{styles}: what stands in each C{<style>}.
    """

    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.fault = ""
        self.styles: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        raw = self.get_starttag_text() or ""
        if tag == "script":
            self._found("a script, which no browser would run")
        elif tag == "style":
            self.styles.append("")
        if _has_placeholder(_QUOTED.sub("", raw)):
            self._found(f"a placeholder outside of quotes in <{tag}>")
        for name, value in attrs:
            if (name == "style" or name.startswith("on")) and value is not None:
                self._found(f"the attribute {name}, which no browser would follow; a <style> may stand in the page")

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "style":
            self.styles[-1] += data
            if _has_placeholder(data):
                self._found("a placeholder in <style>")

    def close(self) -> None:
        if self.cdata_elem == "style":
            self._found("a <style> that does not end")
        super().close()

    def _found(self, fault: str) -> None:
        self.fault = self.fault or fault


def _has_placeholder(text: str) -> bool:
    return _PLACEHOLDER.search(_DOUBLED.sub("", text)) is not None

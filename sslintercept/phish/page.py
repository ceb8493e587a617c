"""
What a page of HTML shows and does: where it leads, what it asks for, what its scripts are up to.

Runs where it may die: in a worker.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from selectolax.lexbor import LexborHTMLParser, LexborNode

from sslintercept.phish.observed import MOST_TEXT, Form, Link, Observation, Page, Script, Text
from sslintercept.phish.place import CONTROL, MOST_URL, NOWHERE, joined, place

MOST_NODES: Final = 2000
"""elements of one kind that are looked at"""
DEEPEST: Final = 5000
"""
elements that are left open, beyond which a page is not read: the parser needs the square of it, browsers stop at 512
"""
MOST_SCRIPT: Final = 1024 * 1024
"""characters of all scripts that are looked at"""
MOST_SHOWN: Final = 256
"""characters that are kept of what is shown of a link"""
LARGE: Final = 1000
"""characters in a row that are a file in base 64 rather than anything else"""

SIGNS: Final = {
    "blob": "it makes a file in the browser",
    "save": "it saves a file without being asked",
    "download": "it names a download",
    "decode": "it decodes base 64",
    "large": "it has a file in it, in base 64 or numbers",
    "hidden": "it runs what it has decoded",
}
"""what scripts do that smuggle files past a gateway (MITRE ATT&CK T1027.006)"""
_SIGNS: Final = (
    ("blob", re.compile(r"\bnew\s{0,8}Blob\b|createObjectURL", re.IGNORECASE)),
    ("save", re.compile(r"msSave(?:OrOpen)?Blob", re.IGNORECASE)),
    ("download", re.compile(r"""\.download\s{0,8}=|["']download["']""", re.IGNORECASE)),
    ("decode", re.compile(r"\batob\s{0,8}\(|fromCharCode|Uint8Array\.from|charCodeAt", re.IGNORECASE)),
    (
        "hidden",
        re.compile(r"(?:eval|document\.write|Function)\s{0,8}\(\s{0,8}(?:atob|unescape|decodeURI)", re.IGNORECASE),
    ),
)
_OPENED = re.compile(
    r"<(?!(?:br|img|input|meta|link|hr|source|area|wbr|embed|col|param|track|base|p|li|dt|dd|td|th|tr|option)\b)[a-z]",
    re.IGNORECASE,
)
_RUN = re.compile(r"(?:0x[0-9a-fA-F]{1,2}|[0-9]{1,3})(?:, ?(?:0x[0-9a-fA-F]{1,2}|[0-9]{1,3}))+|[A-Za-z0-9+/=]+")
_CREDENTIAL = re.compile(
    r"pass(?:word|wd|code|phrase)|\bpass\b|\bpwd\b|\bpin\b|\bcv[vc]2?\b|card.?n(?:o|um)|\biban\b|\bssn\b|\botp\b|\b2fa\b|seed.?phrase"
    r"|passwor[dt]|kennwort|contrase|mot.?de.?passe|senha",
    re.IGNORECASE,
)
_REFRESH = re.compile(r"\d*[^;,]{0,16}[;,]\s*(?:url\s*=)?\s*[\"']?\s*([^\"']{1,4096})", re.IGNORECASE)
_SPACES = re.compile(r"\s+")


class TooDeep(Exception):
    """A page that would take the parser too long. Nothing is known of it then, and that is a failure, not a reason."""


def script_signs(texts: Iterable[str]) -> tuple[str, ...]:
    """The signs that scripts have together."""
    left = MOST_SCRIPT
    found: set[str] = set()
    for text in texts:
        text = text[:left]
        left -= len(text)
        found.update(sign for sign, pattern in _SIGNS if sign not in found and pattern.search(text) is not None)
        if "large" not in found and any(len(run[0]) >= LARGE for run in _RUN.finditer(text)):
            found.add("large")
    return tuple(sign for sign in SIGNS if sign in found)


def read_page(html: str, part: str, base: str = "") -> Iterator[Observation]:
    """
    What there is to be seen.

    @param part: what observations call it.
    @param base: the URL that it is from; empty if nobody knows.

    @raise TooDeep: more than L{DEEPEST} elements are left open.
    """
    ended = html.count("</") + html.count("/>")
    if html.count("<") > DEEPEST + ended and sum(1 for _ in _OPENED.finditer(html)) > DEEPEST + ended:
        raise TooDeep
    tree = LexborHTMLParser(html)
    if (node := tree.css_first("base[href]")) is not None:
        base = joined(base, _attribute(node, "href"))
    title = tree.css_first("title")
    images = {
        to.host for node in _all(tree, "img[src], input[src]") if (to := place(_attribute(node, "src"), base)).host
    }
    yield Page(_text(title) if title is not None else "", len(images), part)
    yield from _links(tree, part, base)
    yield from (Link("image", host=host, part=part) for host in sorted(images)[:MOST_NODES])
    yield from _forms(tree, part, base)
    signs = script_signs(node.text() for node in _all(tree, "script"))
    if signs:
        yield Script(signs, part)
    if tree.body is not None:
        for node in _all(tree, "script, style, noscript, template"):
            node.decompose()
        yield Text(_SPACES.sub(" ", tree.body.text(separator=" ")[: 4 * MOST_TEXT])[:MOST_TEXT])


def _all(tree: LexborHTMLParser | LexborNode, selector: str) -> list[LexborNode]:
    return tree.css(selector)[:MOST_NODES]


def _attribute(node: LexborNode, name: str) -> str:
    return node.attributes.get(name) or ""


def _text(node: LexborNode) -> str:
    return _SPACES.sub(" ", node.text()[: 4 * MOST_SHOWN]).strip()[:MOST_SHOWN]


def _links(tree: LexborHTMLParser, part: str, base: str) -> Iterator[Observation]:
    for node in _all(tree, "a[href], area[href]"):
        href = _attribute(node, "href")
        if href.strip(CONTROL)[:5].lower() in ("data:", "blob:"):
            if "download" in node.attributes:
                yield Script(("download", "large") if len(href) >= LARGE else ("download",), part)
            elif href.strip(CONTROL)[:32].lower().startswith(("data:text/html", "data:image/svg", "data:application")):
                yield Link("data", "data", shown=_text(node), part=part)
            continue
        to = place(href, base)
        if to.host:
            yield Link("link", *to, _text(node) or _attribute(node, "alt")[:MOST_SHOWN], part)
    for kind, selector, name in (
        ("frame", "iframe[src], frame[src], embed[src]", "src"),
        ("style", "link[href]", "href"),
    ):
        for node in _all(tree, selector):
            to = place(_attribute(node, name), base)
            if to.host:
                yield Link(kind, *to, "", part)
            elif kind == "frame" and _attribute(node, name).strip(CONTROL)[:32].lower().startswith("data:text/html"):
                yield Link("data", "data", part=part)
    for node in _all(tree, "meta[http-equiv]"):
        if _attribute(node, "http-equiv").strip().lower() == "refresh":
            match = _REFRESH.match(_attribute(node, "content")[:MOST_URL])
            if match is not None and (to := place(match[1], base)).host:
                yield Link("refresh", *to, "", part)


def _forms(tree: LexborHTMLParser, part: str, base: str) -> Iterator[Observation]:
    inside = 0
    for node in _all(tree, "form"):
        password, names = _fields(node)
        inside += password
        action = _attribute(node, "action")
        to = place(action, base) if action else NOWHERE
        mail = action.strip(CONTROL)[:7].lower() == "mailto:"
        yield Form(to.scheme if to.host else "", to.host, password > 0, names, mail, part)
    root = tree.root
    if root is not None:
        password, names = _fields(root)
        if password > inside:
            yield Form("", "", True, names, False, part)


def _fields(node: LexborNode) -> tuple[int, tuple[str, ...]]:
    """How many passwords are asked for, and the names of fields that sound like credentials."""
    passwords = 0
    names: list[str] = []
    for field in _all(node, "input, textarea"):
        if _attribute(field, "type").strip().lower() == "password":
            passwords += 1
        for attribute in ("name", "id", "placeholder", "autocomplete"):
            value = _attribute(field, attribute)[:64]
            if _CREDENTIAL.search(value) is not None:
                names.append(value)
                break
    return passwords, tuple(dict.fromkeys(names))[:16]

"""
The transforms that ship, by the names that C{use =} knows them by.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from sslintercept.transform.processor import Transformer
from sslintercept.transform.shipped.coding import DecodeContent, DecodeOptions, EncodeContent, EncodeOptions
from sslintercept.transform.shipped.digest import Digest, DigestOptions
from sslintercept.transform.shipped.headers import Headers, HeadersOptions
from sslintercept.transform.shipped.inject import InjectHtml, InjectOptions
from sslintercept.transform.shipped.null import Nothing, NullOptions
from sslintercept.transform.shipped.redirect import Redirect, RedirectOptions
from sslintercept.transform.shipped.replace import ReplaceOptions, ReplaceText
from sslintercept.transform.shipped.tee import Tee, TeeOptions
from sslintercept.transform.shipped.throttle import Throttle, ThrottleOptions


class Shipped(NamedTuple):
    """A transform that ships."""

    options: type[Any]  # Any: each transform has its own dataclass
    transformer: Callable[[Any], Transformer]
    doc: str


SHIPPED: Final = {
    "replace-text": Shipped(ReplaceOptions, ReplaceText, "puts one text in the place of another"),
    "inject-html": Shipped(InjectOptions, InjectHtml, "puts a snippet into HTML pages"),
    "headers": Shipped(HeadersOptions, Headers, "sets, adds and removes fields, and changes the status"),
    "redirect": Shipped(RedirectOptions, Redirect, "sends the client somewhere else"),
    "throttle": Shipped(ThrottleOptions, Throttle, "lets each body through at a pace"),
    "digest": Shipped(DigestOptions, Digest, "notes digests of bodies in the access log"),
    "tee": Shipped(TeeOptions, Tee, "keeps copies of bodies in files"),
    "decode": Shipped(DecodeOptions, DecodeContent, "takes content codings off"),
    "encode": Shipped(EncodeOptions, EncodeContent, "compresses what came uncompressed"),
    "null": Shipped(NullOptions, Nothing, "changes nothing"),
}

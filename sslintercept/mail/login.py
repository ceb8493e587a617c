"""
Who logs in, out of what is said in SASL; the secret beside the name is read over and never kept.

C{PLAIN} (RFC 4616), C{LOGIN}, C{CRAM-MD5} (RFC 2195), C{SCRAM-*} (RFC 5802), C{OAUTHBEARER} (RFC 7628) and C{XOAUTH2}
say the name in their first response. Any other mechanism, and whatever does not read like its mechanism, gives none.
"""

from __future__ import annotations

import binascii
import re
from typing import Final

MAX_NAME: Final = 256
"""Characters of a name; what is longer is cut."""

_SCRAM: Final = re.compile(rb"[ny]|p=[A-Za-z0-9.-]{1,64}")
"""The beginning of a GS2 header (RFC 5801 4)."""
_ESCAPED: Final = re.compile(rb"=(2C|3D)")


def shown(raw: bytes) -> str:
    """Give what the peer wrote as text of one line: what is no UTF-8 or not printable is replaced."""
    text = raw.decode("utf-8", "replace")
    return (
        text
        if text.isprintable()
        else "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
    )


class Login:
    """
    One exchange of AUTH.

    @ivar user: who says to be the user, once it was said.
    """

    __slots__ = ("_mechanism", "_said", "user")

    def __init__(self, mechanism: bytes) -> None:
        self._mechanism = mechanism.upper()
        self._said = False
        self.user: str | None = None

    def response(self, encoded: bytes) -> None:
        """
        The client's next response, in base64, without the end of its line.

        An empty first response says nothing yet in any mechanism; C{=} is how an initial one is written (RFC 4954 4).
        """
        if self._said or encoded in (b"", b"=", b"*"):
            return
        self._said = True
        try:
            name = _name(self._mechanism, binascii.a2b_base64(encoded))
        except binascii.Error:
            return
        if name:
            self.user = shown(name)[:MAX_NAME]


def _name(mechanism: bytes, response: bytes) -> bytes:
    """Give the name in a first response, or nothing."""
    if mechanism == b"PLAIN":
        words = response.split(b"\0")
        return words[1] if len(words) == 3 else b""
    if mechanism == b"LOGIN":
        return response
    if mechanism == b"CRAM-MD5":
        return response.rpartition(b" ")[0]
    if mechanism == b"XOAUTH2":
        return _field(response.split(b"\x01"), b"user=")
    if mechanism == b"OAUTHBEARER" or mechanism.startswith(b"SCRAM-"):
        words = response.partition(b"\x01")[0].split(b",")
        if not _SCRAM.fullmatch(words[0]):
            return b""
        name = _field(words[2:], b"n=") or _field(words[1:2], b"a=")
        return _ESCAPED.sub(lambda match: b"," if match[1] == b"2C" else b"=", name)
    return b""


def _field(words: list[bytes], key: bytes) -> bytes:
    """Give the value of the first word that begins with C{key}."""
    return next((word[len(key) :] for word in words if word.startswith(key)), b"")

"""
Checks signatures of DKIM (RFC 6376): the task of a worker, since the mail is hostile and the arithmetic takes its time.

The keys come along, so that nothing is asked for here. A signature that covers only the beginning of the body (C{l=})
is as good as none: anybody may add to it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import dkim  # type: ignore[import-untyped]  # it has no types

from sslintercept.phish.read import Item
from sslintercept.phish.spf import Result

TASK: Final = "sslintercept.phish.signed:verify"
"""its name for the pool"""
MOST_SIGNATURES: Final = 5
"""signatures of one mail that are checked"""
MOST_KEY: Final = 8192
"""bytes of the text of a key: RSA with 16 384 bits has 2.8 KB"""
LONGEST_BLANK: Final = 1024
"""
blanks in a row beyond which nothing is checked: the library's patterns would need the square of it, and no mail that
people send has as many
"""
LEAST_BITS: Final = 1024
"""of a key (RFC 8301 3.2)"""

_BLANKS = bytes.maketrans(b"\t", b" ")
_SELECTOR = re.compile(r"[A-Za-z0-9._-]{1,253}")

_silent = logging.getLogger(f"{__name__}.library")
_silent.disabled = True


def key_name(signer: str) -> str | None:
    """
    Where the key of a signature is.

    @param signer: C{selector domain} (L{sslintercept.phish.observed.Head.signers}).
    @return: C{None} if that is no name.
    """
    selector, _, domain = signer.lower().partition(" ")
    name = f"{selector}._domainkey.{domain.removesuffix('.')}"
    fits = _SELECTOR.fullmatch(selector) is not None and _SELECTOR.fullmatch(domain) is not None and len(name) <= 253
    return name if fits and ".." not in name else None


def verify(meta: Mapping[str, Any], content: bytes, limits: object = None) -> Iterator[Item]:  # noqa: ARG001 -- a pool's task
    """
    Check each signature, an item each: C{signer} and C{result}, a word of L{Result}.

    @param meta: C{keys}: the text of each key by its name; C{None} if nobody could say; those without one are missing.
    @param content: the whole mail.
    """
    keys: dict[str, str | None] = dict(meta.get("keys") or {})
    results = _verify(keys, content) if b" " * LONGEST_BLANK not in content.translate(_BLANKS) else iter(())
    for signer, result in results:
        yield Item({"signer": signer, "result": result.value})


def _verify(keys: Mapping[str, str | None], content: bytes) -> Iterator[tuple[str, Result]]:
    def key(name: bytes, timeout: float = 0) -> bytes | None:  # noqa: ARG001 -- the library says it
        found = keys.get(name.decode("latin-1").lower().removesuffix("."))
        return None if found is None else found.encode("latin-1", "replace")[:MOST_KEY]

    try:
        message = dkim.DKIM(content, logger=_silent, minkey=LEAST_BITS)
    except dkim.DKIMException:
        return
    count = sum(name.lower() == b"dkim-signature" for name, _ in message.headers)
    for at in range(min(count, MOST_SIGNATURES)):
        signer = ""
        try:
            good = bool(message.verify(at, key))
            signer = _signer(message)
            result = Result.PASS if good else Result.FAIL
            if good and b"l" in message.signature_fields:
                result = Result.NEUTRAL
        except dkim.ValidationError:  # another body, or a field that is out of date or malformed
            result = Result.FAIL
            signer = _signer(message)
        except dkim.NaClNotFoundError:  # Ed25519: neither good nor bad to us
            result = Result.NEUTRAL
            signer = _signer(message)
        except (dkim.DKIMException, AssertionError, ValueError, TypeError, KeyError, IndexError):
            # What the library does not bear in hostile fields; a mail whose signature is none is not signed.
            result = Result.PERMERROR
            signer = signer or _signer(message)
        name = key_name(signer)
        if name is not None and result is not Result.PASS:
            if name in keys and keys[name] is None:
                result = Result.TEMPERROR
            elif name not in keys:
                result = Result.PERMERROR
        yield signer, result


def _signer(message: Any) -> str:  # Any: the library has no types
    fields = getattr(message, "signature_fields", None) or {}
    return f"{fields.get(b's', b'').decode('latin-1')} {fields.get(b'd', b'').decode('latin-1')}"

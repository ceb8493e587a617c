"""
The verdict: what the first bytes show and what the port lets expect, combined, with the reason in words.

Bytes are better evidence than a port: a signature that matches wins, and a port that disagrees is noted as a mismatch.
The port decides only where bytes cannot: on the ports of servers that speak first, whose clients are silent or say what
no signature knows. Everything else is C{unknown}, which is a verdict too, and never a guess.

A probe asks again with everything it has whenever bytes come, and once more when its timer or its buffer runs out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sslintercept.facts import Verdict
from sslintercept.probe.port import PortHint, hint_of
from sslintercept.probe.signature import BY_PORT, GREETINGS, SIGNATURES, Answer, Signature, judge_all

CLIENT_WORDS: Final = {
    b"EHLO": "smtp",
    b"HELO": "smtp",
    b"LHLO": "smtp",
    b"USER": "ftp",
    b"AUTH": "ftp",
    b"FEAT": "ftp",
    b"HOST": "ftp",
    b"OPTS": "ftp",
    b"CLNT": "ftp",
}
"""What clients begin with where the greetings of two protocols are alike."""
UNRECOGNISED: Final = "unknown"
"""The protocol of a verdict that names none."""
TLS: Final = frozenset(("tls", "sslv2"))
"""What the ports of implicit TLS expect."""


def judge(
    head: bytes,
    port: int | None,
    *,
    silent: bool = False,
    full: bool = False,
    secure: bool = False,
    signatures: Sequence[Signature] = SIGNATURES,
) -> Verdict | None:
    """
    What the client speaks; C{None} means keep reading.

    The answer for a stream does not depend on how it was cut into pieces, as long as neither timer nor buffer runs out.

    @param head: every byte of this layer so far, in order.
    @param port: where the client wants to go, if that is known.
    @param silent: the timer has passed, decide now.
    @param full: the buffer's limit is reached, decide now.
    @param secure: this layer is inside of TLS that stands around the connection to C{port}.
    """
    hint = hint_of(port)
    expected = _expected(hint, secure)
    own = BY_PORT.get(expected or "")
    known = signatures if own is None else (*signatures, own)
    answer, signature = judge_all(head, known) if head else (Answer.MORE, None)
    if answer is Answer.MATCH and signature is not None:
        return _recognised(signature, port, expected, hint, secure)
    if answer is Answer.MORE and not (silent or full):
        return None
    seen = _seen(len(head), answer, silent)
    if hint is None or expected is None:
        what = "no port is known" if port is None else f"{_about(port, secure)} tells nothing"
        return Verdict(UNRECOGNISED, f"{seen}, and {what}")
    if hint.server_first and hint.tls is secure:
        return Verdict(expected, f"{seen}; on {_about(port, secure)} the server of {expected} speaks first", expected)
    # A port of a protocol that no signature knows is not contradicted by the silence of all signatures.
    refuted = answer is Answer.NO and any(_agrees(each.name, expected, hint, secure) for each in signatures)
    contrast = ", although " if refuted else "; "
    return Verdict(UNRECOGNISED, f"{seen}{contrast}{_about(port, secure)} is for {expected}", expected, refuted)


def judge_greeting(
    greeting: bytes, head: bytes, port: int | None, *, secure: bool = False, signatures: Sequence[Signature] = GREETINGS
) -> Verdict | None:
    """
    What both speak, by what the server said before the client said anything; C{None} if no greeting is known by it.

    Protocols that share a greeting are told apart by the port, or else by the first word of the client.

    @param greeting: the beginning of what the server said.
    @param head: what the client has answered so far.
    """
    hint = hint_of(port)
    expected = _expected(hint, secure)
    matches = [each for each in signatures if each.judge(greeting) is Answer.MATCH]
    if not matches:
        return None
    protocol = CLIENT_WORDS.get(head.partition(b" ")[0].rstrip(b"\r\n").upper(), "")
    signature = next((each for name in (expected, protocol) for each in matches if each.name == name), matches[0])
    return _recognised(signature, port, expected, hint, secure, "what the server greets with is")


def _expected(hint: PortHint | None, secure: bool) -> str | None:
    """What the port says of this layer; nothing of what is inside a TLS that the port does not lead to expect."""
    if hint is None:
        return None
    if not secure:
        return hint.protocol
    return hint.carries or None


def _agrees(protocol: str, expected: str, hint: PortHint, secure: bool) -> bool:
    """Whether a signature's name is what the port expects; C{http} stands for C{http/1} and C{http/2}."""
    if hint.tls and not secure:
        return protocol in TLS
    return protocol == expected or protocol.rstrip("0123456789").rstrip("/") == expected


def _recognised(
    signature: Signature,
    port: int | None,
    expected: str | None,
    hint: PortHint | None,
    secure: bool,
    what: str = "the first bytes are those",
) -> Verdict:
    seen = f"{what} of {signature.name} ({signature.source})"
    if hint is None or expected is None:
        return Verdict(signature.name, seen)
    if _agrees(signature.name, expected, hint, secure):
        return Verdict(signature.name, f"{seen}, and {_about(port, secure)} is for {expected}", expected)
    return Verdict(signature.name, f"{seen}, although {_about(port, secure)} is for {expected}", expected, True)


def _seen(size: int, answer: Answer, silent: bool) -> str:
    if not size:
        return "the client said nothing"
    if answer is Answer.NO:
        return f"the first bytes (length {size}) match no signature"
    return f"the first bytes (length {size}) decide nothing" + (", and no more came in time" if silent else "")


def _about(port: int | None, secure: bool) -> str:
    return f"inside of TLS port {port}" if secure else f"port {port}"

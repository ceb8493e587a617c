"""
Who a mail is really from: SPF, DKIM and DMARC of one message in SMTP.

We stand between the client and the server, so that the client of the connection is whom SPF asks about. The signatures
are checked in a worker, with keys that were fetched here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Protocol

from sslintercept.errors import EngineError, ResolveError
from sslintercept.phish.dmarc import Auth, Policy, Signed, decide, domain_of, parse, places
from sslintercept.phish.domain import cleaned
from sslintercept.phish.observed import Head
from sslintercept.phish.signed import MOST_SIGNATURES, TASK, key_name
from sslintercept.phish.spf import Names, Result, check


class Done(Protocol):
    """What a task gave."""

    @property
    def meta(self) -> Mapping[str, Any]: ...  # Any: JSON


class Workers(Protocol):
    """A pool of processes that may die."""

    def run(self, task: str, meta: dict[str, Any], content: bytes) -> Awaitable[Sequence[Done]]:
        """
        Run a task, C{module:function}, in one of them.

        @raise EngineError: there is no place, or the process died, or took too long.
        """


async def authenticate(
    head: Head, content: bytes, client: str, sender: str, helo: str, names: Names, workers: Workers
) -> Auth | None:
    """
    Check a message; C{None} if From names no domain, or several addresses.

    @param content: the whole message, as the client sent it.
    @param client: the client's address; empty if it is not who sends, then SPF is left out.
    @param sender: of MAIL FROM; C{helo}: what the client calls itself, if that is known.
    """
    domain = domain_of(head.sender)
    if not domain or head.senders != 1:
        return None
    spf = Result.NONE
    if client:
        spf = await check(names, client, sender, helo)
    signatures = await _signatures(head, content, names, workers)
    policy, own, asked = await _policy(domain, names)
    auth = decide(
        domain,
        policy,
        own,
        spf,
        domain_of(sender) or cleaned(helo),
        signatures,
        spf_known=bool(client),
    )
    if not asked:
        return Auth(domain, auth.spf, auth.spf_domain, auth.aligned_spf, auth.dkim, auth.aligned_dkim, Result.TEMPERROR)
    return auth


async def _policy(domain: str, names: Names) -> tuple[Policy | None, bool, bool]:
    """The record for a domain, whether it is its own, and whether anybody could say."""
    for at, place in enumerate(places(domain)):
        try:
            policy = parse(await names.txt(place))
        except ResolveError:
            return None, False, False
        if policy is not None:
            return policy, at == 0, True
    return None, True, True


async def _signatures(head: Head, content: bytes, names: Names, workers: Workers) -> list[Signed]:
    keys: dict[str, str | None] = {}
    for signer in head.signers[:MOST_SIGNATURES]:
        name = key_name(signer)
        if name is None or name in keys:
            continue
        try:
            texts = [text for text in await names.txt(name) if b"p=" in text or b"p =" in text]
            if texts:
                keys[name] = texts[0].decode("latin-1")
        except ResolveError:
            keys[name] = None
    if not keys:
        return []
    try:
        items = await workers.run(TASK, {"keys": keys}, content)
    except EngineError:
        return [Signed(cleaned(signer.partition(" ")[2]), Result.TEMPERROR) for signer in head.signers]
    return [each for item in items[:MOST_SIGNATURES] if (each := _signed(item.meta)) is not None]


def _signed(meta: Mapping[str, Any]) -> Signed | None:
    """What the worker says of one signature; it has read hostile content, so that it may say anything."""
    signer, result = meta.get("signer"), meta.get("result")
    if not isinstance(signer, str) or not isinstance(result, str):
        return None
    try:
        return Signed(cleaned(signer.partition(" ")[2][:256]), Result(result))
    except ValueError:
        return None

"""
DMARC: what the domain in From wants of mails that it did not authenticate (RFC 7489), and what other servers found.

Told apart by organizational domain, that is by the Public Suffix List, as RFC 7489 3.2 has it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from sslintercept.phish.domain import cleaned, registrable
from sslintercept.phish.spf import Result

MOST_RECORD: Final = 4096
"""bytes of a record"""
POLICIES: Final = ("none", "quarantine", "reject")

_TAG = re.compile(r"\s*([a-z]{1,5})\s*=\s*([^;]{0,256}?)\s*(?:;|$)", re.IGNORECASE)
_COMMENT = re.compile(r"\([^()]{0,256}\)")
_METHOD = re.compile(r"\s*(spf|dkim|dmarc)\s*=\s*([a-z]{1,16})\b(.{0,512})", re.IGNORECASE | re.DOTALL)
_PROPERTY = re.compile(
    r"\b(smtp\.mailfrom|smtp\.helo|header\.d|header\.i|header\.from)\s*=\s*\"?([^\s;\"]{1,320})", re.I
)


class Policy(NamedTuple):
    """A record of DMARC."""

    policy: str = "none"
    below: str = "none"
    """for domains below the one that says it"""
    strict_spf: bool = False
    strict_dkim: bool = False


class Signed(NamedTuple):
    """What became of one signature of DKIM."""

    domain: str
    result: Result


@dataclass(frozen=True, slots=True)
class Auth:
    """
    What was found of a mail's origin.

    @ivar domain: the domain in From.
    @ivar spf: for the domain of MAIL FROM, C{spf_domain}; C{aligned_spf}: that is the one in From.
    @ivar dkim: the best of all signatures, C{aligned_dkim}: one of them is good and of the domain in From.
    @ivar dmarc: C{NONE} if the domain has no record, or not enough could be checked.
    @ivar policy: C{none}, C{quarantine} or C{reject}; empty without a record.
    @ivar source: C{checked} by us, or the id of a server that is trusted.
    """

    domain: str
    spf: Result = Result.NONE
    spf_domain: str = ""
    aligned_spf: bool = False
    dkim: Result = Result.NONE
    aligned_dkim: bool = False
    dmarc: Result = Result.NONE
    policy: str = ""
    source: str = "checked"


def domain_of(address: str) -> str:
    """The domain of an address, in A-labels; empty if it has none."""
    return cleaned(address.rpartition("@")[2].strip(" <>")) if "@" in address else ""


def parse(texts: Iterable[bytes]) -> Policy | None:
    """The record among the texts of C{_dmarc}; C{None} without one, or with more than one (RFC 7489 6.6.3)."""
    found = [text for text in texts if re.match(rb"v\s*=\s*DMARC1\s*(?:;|$)", text) is not None]
    if len(found) != 1 or len(found[0]) > MOST_RECORD:
        return None
    tags = {name.lower(): value.lower() for name, value in _TAG.findall(found[0].decode("latin-1"))}
    policy = tags.get("p", "none")
    if policy not in POLICIES:
        policy = "none"
    below = tags.get("sp", policy)
    if tags.get("t") == "y":  # a test (DMARCbis); pct, which that has no more, is not looked at
        policy = below = "none"
    return Policy(policy, below if below in POLICIES else policy, tags.get("aspf") == "s", tags.get("adkim") == "s")


def places(domain: str) -> tuple[str, ...]:
    """Where to ask for the record of a domain: there, then at its organization."""
    above = registrable(domain)
    return (f"_dmarc.{domain}",) if above == domain else (f"_dmarc.{domain}", f"_dmarc.{above}")


def aligned(one: str, other: str, strict: bool) -> bool:
    """Whether two domains are of the same organization, or with *strict* the same (RFC 7489 3.1)."""
    return bool(one) and (one == other or (not strict and registrable(one) == registrable(other)))


def decide(
    domain: str,
    policy: Policy | None,
    own: bool,
    spf: Result,
    spf_domain: str,
    signatures: Sequence[Signed],
    *,
    spf_known: bool = True,
) -> Auth:
    """
    Put together what was found.

    @param own: the record is the domain's own, not its organization's.
    @param spf_known: SPF could be checked; without it a mail that is not signed is neither good nor bad.
    """
    rules = policy or Policy()
    aligned_spf = aligned(spf_domain, domain, rules.strict_spf)
    good = [each for each in signatures if each.result is Result.PASS]
    aligned_dkim = any(aligned(each.domain, domain, rules.strict_dkim) for each in good)
    dkim = Result.PASS if good else signatures[0].result if signatures else Result.NONE
    if policy is None:
        dmarc = Result.NONE
    elif (spf is Result.PASS and aligned_spf) or aligned_dkim:
        dmarc = Result.PASS
    elif spf is Result.TEMPERROR or any(each.result is Result.TEMPERROR for each in signatures):
        dmarc = Result.TEMPERROR
    else:
        dmarc = Result.FAIL if spf_known else Result.NONE
    wanted = "" if policy is None else policy.policy if own else policy.below
    return Auth(domain, spf, spf_domain, aligned_spf, dkim, aligned_dkim, dmarc, wanted)


def from_results(domain: str, fields: Sequence[str], trusted: Iterable[str]) -> Auth | None:
    """
    What a trusted server says in Authentication-Results (RFC 8601); C{None} if none of them is there.

    @param fields: the values, the newest first; the first of a trusted server counts.
    @param trusted: ids of servers that take out fields which claim to be theirs; others are not believed.
    """
    ids = {each.lower() for each in trusted}
    for field in fields:
        text = _COMMENT.sub(" ", field)
        who, _, rest = text.partition(";")
        name = who.split()[0].lower() if who.split() else ""
        if name in ids:
            return _of_results(domain, rest, name, field)
    return None


def _of_results(domain: str, text: str, source: str, field: str) -> Auth:
    spf, spf_domain, dkim, dmarc = Result.NONE, "", list[Signed](), Result.NONE
    said = False
    for clause in text.split(";"):
        match = _METHOD.match(clause)
        if match is None:
            continue
        method = match[1].lower()
        result = _result(match[2].lower())
        properties = {name.lower(): value.lower() for name, value in _PROPERTY.findall(match[3])}
        if method == "spf":
            spf = result
            about = properties.get("smtp.mailfrom") or properties.get("smtp.helo", "")
            spf_domain = cleaned(about.rpartition("@")[2])
        elif method == "dkim":
            about = properties.get("header.d") or properties.get("header.i", "")
            dkim.append(Signed(cleaned(about.rpartition("@")[2]), result))
        else:
            dmarc, said = result, True
    auth = decide(domain, None, True, spf, spf_domain, dkim)
    policy = re.search(r"\bp=(none|quarantine|reject)\b", field, re.IGNORECASE)  # usually in a comment
    return Auth(
        domain,
        auth.spf,
        auth.spf_domain,
        auth.aligned_spf,
        auth.dkim,
        auth.aligned_dkim,
        dmarc if said else Result.NONE,
        policy[1].lower() if policy is not None else "",
        source,
    )


def _result(word: str) -> Result:
    try:
        return Result(word)
    except ValueError:
        return Result.NEUTRAL

"""The line of a question for a name that a rule has answered; for all the others there would be too many lines."""

from __future__ import annotations

from json import JSONEncoder
from typing import Final

from sslintercept.facts import Decision, Facts

MAX_TEXT: Final = 500
"""characters of a name or a reason"""
TYPES: Final = {
    1: "A",
    2: "NS",
    5: "CNAME",
    6: "SOA",
    12: "PTR",
    15: "MX",
    16: "TXT",
    28: "AAAA",
    33: "SRV",
    35: "NAPTR",
    43: "DS",
    46: "RRSIG",
    47: "NSEC",
    48: "DNSKEY",
    52: "TLSA",
    64: "SVCB",
    65: "HTTPS",
    257: "CAA",
}
"""names of types of records (IANA, DNS parameters); others are shown as C{TYPE65280} (RFC 3597 5)"""

_encode = JSONEncoder().encode


def type_name(rtype: int) -> str:
    """A type as readers know it."""
    return TYPES.get(rtype) or f"TYPE{rtype}"


def line(facts: Facts, decision: Decision, name: str, rtype: int, answer: str, now: float) -> str:
    """
    One line of JSON.

    @param answer: what the client was told: addresses, or C{nxdomain}, C{nodata}, C{refused}.
    @param now: seconds since the epoch.
    """
    return _encode(
        {
            "type": "question",
            "time": round(now, 3),
            "id": facts.id,
            "client": facts.client.host,
            "client_port": facts.client.port,
            "listener": facts.listener,
            "name": name[:MAX_TEXT],
            "rtype": type_name(rtype),
            "answer": answer[:MAX_TEXT],
            "rule": decision.rule,
            "action": decision.action.value,
            "reason": decision.reason[:MAX_TEXT],
        }
    )

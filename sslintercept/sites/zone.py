"""
Response policy zones (RPZ): what a name server is told to say of names, in the language of zone files (RFC 1035 5.1).

A name is a trigger for itself, C{*.name} for all below; an address is written backwards in front of C{rpz-ip}. CNAME
C{.} or C{*.} means that it does not exist, C{rpz-passthru.} is an exception, and records of addresses lead elsewhere,
which is a listing as well (draft-vixie-dnsop-dns-rpz 3, 4).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from sslintercept.sites.key import name_key, network_key, quoted
from sslintercept.sites.lines import NOTHING
from sslintercept.sites.listing import Entry, Kind

MAX_OPEN: Final = 100
"""Lines that parentheses may hold together; only the SOA record needs any."""
TRIGGERS: Final = (b"rpz-client-ip", b"rpz-nsdname", b"rpz-nsip")
"""Triggers that are about something else than the site."""
APEX: Final = (b"SOA", b"NS", b"DNSKEY", b"RRSIG", b"NSEC", b"NSEC3", b"NSEC3PARAM", b"ZONEMD", b"TXT")
"""Types that say nothing about a name, or belong to the zone itself."""

_TTL = re.compile(rb"(?:[0-9]+[smhdw])*[0-9]*", re.IGNORECASE)
_COMMENT = re.compile(rb'(?:"[^"]*"|[^";])*')
_QUOTED = re.compile(rb'"[^"]*"')


class Zone:
    """A zone file; C{$INCLUDE} and C{$GENERATE} are not read."""

    def __init__(self) -> None:
        self._origin, self._owner = b"", b""
        self._open = self._depth = 0

    def read(self, line: bytes) -> Sequence[Entry] | None:
        """Take a record; one that goes over several lines is looked at in its first."""
        match = _COMMENT.match(line)
        text = match[0].rstrip() if match is not None else b""
        bare = _QUOTED.sub(b"", text)
        inside = self._depth > 0
        self._depth = max(0, self._depth + bare.count(b"(") - bare.count(b")"))
        self._open = self._open + 1 if self._depth else 0
        if self._open > MAX_OPEN:
            self._open = self._depth = 0
            raise ValueError(f"parentheses around more than {MAX_OPEN} lines")
        if inside or not text.strip():
            return NOTHING
        fields = text.replace(b"(", b" ").replace(b")", b" ").split()
        if not fields:
            raise ValueError("no record")
        if text.startswith(b"$"):
            return self._control(fields)
        if not text[:1].isspace():
            self._owner = fields.pop(0).lower()
        while fields and (fields[0].upper() in (b"IN", b"CH", b"HS") or _TTL.fullmatch(fields[0]) is not None):
            fields.pop(0)
        if not fields or not self._owner:
            raise ValueError("no record")
        return self._record(fields[0].upper(), fields[1:])

    def _control(self, fields: list[bytes]) -> Sequence[Entry] | None:
        if fields[0].upper() == b"$ORIGIN":
            if len(fields) != 2:
                raise ValueError("$ORIGIN without a name")
            self._origin = fields[1].lower().strip(b".")
            return NOTHING
        return NOTHING if fields[0].upper() == b"$TTL" else None

    def _record(self, rtype: bytes, data: list[bytes]) -> Sequence[Entry] | None:
        if rtype == b"SOA" and self._owner.endswith(b".") and not self._origin:
            self._origin = self._owner.strip(b".")
        if rtype in APEX or self._owner == b"@":
            return NOTHING
        trigger = self._owner
        if trigger.endswith(b"."):
            if not self._origin:
                raise ValueError(f"{quoted(trigger)} is absolute, and no $ORIGIN says which zone this is")
            end = b"." + self._origin + b"."
            if not trigger.endswith(end):
                raise ValueError(f"{quoted(trigger)} is not in the zone {self._origin.decode('utf-8', 'replace')}")
            trigger = trigger.removesuffix(end)
        if rtype not in (b"CNAME", b"A", b"AAAA"):
            if not rtype.isalnum():
                raise ValueError(f"{quoted(rtype)} is not a type of records")
            return None
        if len(data) != 1:
            raise ValueError(f"a record {rtype.decode('ascii')} with {len(data)} fields of data")
        target = data[0].lower() if rtype == b"CNAME" else b""
        if target == b"rpz-tcp-only.":
            return None
        own = target.rstrip(b".") in (trigger, trigger.removeprefix(b"*."))
        return self._entry(trigger, target == b"rpz-passthru." or (target != b"." and bool(target) and own))

    def _entry(self, trigger: bytes, exception: bool) -> Sequence[Entry] | None:
        rest, _, last = trigger.rpartition(b".")
        if last in TRIGGERS:
            return None
        if last == b"rpz-ip":
            return (Entry(backwards(rest), Kind.NETWORK, exception),)
        if trigger.startswith(b"*."):
            return (Entry(name_key(trigger[2:]), Kind.BELOW, exception),)
        return (Entry(name_key(trigger), Kind.HOST, exception),)


def backwards(text: bytes) -> bytes:
    """
    Give the key of a network in front of C{rpz-ip}: C{24.0.2.0.192}, C{48.zz.1.db8.2001}.

    @raise ValueError: it is none.
    """
    prefix, *groups = text.split(b".")
    groups.reverse()
    if len(groups) == 4 and all(group.isdigit() for group in groups):
        literal = b".".join(groups)
    else:
        literal = b":".join(b"" if group == b"zz" else group for group in groups)
        literal = b":" + literal if literal.startswith(b":") else literal
        literal = literal + b":" if literal.endswith(b":") else literal
    key = network_key(literal + b"/" + prefix)
    if key is None:
        raise ValueError(f"{quoted(text)} is not a network")
    return key

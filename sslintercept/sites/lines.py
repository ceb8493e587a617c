"""Formats with one site a line: plain names, networks and URLs; hosts files; tables of comma-separated values."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from typing import Final, Protocol

from sslintercept.sites.key import MAX_NAME, NAME, address_of, name_key, network_key, quoted, url_key
from sslintercept.sites.listing import Entry, Kind

NOTHING: Final = ()
SINK: Final = (bytes(4), bytes(16), b"\x7f\0\0\1", bytes(15) + b"\1")
"""C{0.0.0.0}, C{::}, C{127.0.0.1}, C{::1}: where hosts files send what nobody shall reach"""
LOCAL: Final = frozenset(
    b"localhost localhost.localdomain localhost4 localhost6 local broadcasthost "
    b"ip6-localhost ip6-loopback ip6-localnet ip6-mcastprefix ip6-allnodes ip6-allrouters ip6-allhosts 0.0.0.0".split()
)
"""what begins a hosts file and is not meant"""
COLUMNS: Final = (b"url", b"ioc_value", b"domain", b"host", b"hostname", b"dst_ip", b"ip")
"""how the column with the site may be called, the best first (URLhaus, ThreatFox, Feodo Tracker)"""
CATEGORIES: Final = (b"threat", b"threat_type", b"category")
"""and the one with the category"""
MAX_FIELDS: Final = 64
"""fields of a row"""

_COMMENT = re.compile(rb"(?:^|[ \t])[#;!].*|^//.*", re.DOTALL)


class Parser(Protocol):
    """Reads one format, a line at a time; a new one for each file."""

    def read(self, line: bytes) -> Sequence[Entry] | None:
        """
        @return: what the line lists, maybe nothing; C{None} if it is well-formed and cannot be used.

        @raise ValueError: it is malformed.
        """


class Plain:
    """
    A name, network or URL a line; C{#}, C{;}, C{!} and C{//} begin comments.

    A name stands for itself and all below, C{*.name} for all below, C{.name} is like the name. A URL with a scheme is
    that URL; one without, or with C{*} at its end, is a prefix.

    @ivar names: what a name alone stands for.
    """

    names = Kind.DOMAIN

    def read(self, line: bytes) -> Sequence[Entry] | None:
        text = line.strip()
        if NAME.fullmatch(text) is not None and text[-1:].isalpha() and len(text) <= MAX_NAME:
            return (Entry(text, self.names),)
        if b"#" in text or b";" in text or b"!" in text or text.startswith(b"//"):
            text = _COMMENT.sub(b"", text).rstrip()
        return (self.item(text),) if text else NOTHING

    def item(self, text: bytes) -> Entry:
        """@raise ValueError: it is neither name nor network nor URL."""
        if (key := network_key(text)) is not None:
            return Entry(key, Kind.NETWORK)
        if b"/" in text or b":" in text:
            return location(text, self.names)
        if text.startswith(b"*."):
            return Entry(name_key(text[2:]), Kind.BELOW)
        return Entry(name_key(text.removeprefix(b".")), self.names)


class Urls(Plain):
    """The same, except that a name alone is that host only (C{urls} of UT1)."""

    names = Kind.HOST


def location(text: bytes, names: Kind) -> Entry:
    """
    What a URL lists. One without scheme, port, path and query is a name.

    @raise ValueError: it cannot be read.
    """
    prefix = text.endswith(b"*")
    key, scheme = url_key(text.removesuffix(b"*"))
    if scheme and not prefix:
        return Entry(key, Kind.URL)
    if key.count(b"/") == 1 and key.endswith(b"/") and b":" not in key and b"?" not in key:
        host = key[:-1]
        network = network_key(host)
        return Entry(host, names) if network is None else Entry(network, Kind.NETWORK)
    return Entry(key if key.endswith(b"/") and key.count(b"/") == 1 else key.removesuffix(b"/"), Kind.PREFIX)


class Hosts:
    """
    A hosts file (hosts(5)): names that are sent nowhere, each for itself only.

    Lines with other addresses say where something is, not that it is bad; they are skipped.
    """

    def read(self, line: bytes) -> Sequence[Entry] | None:
        fields = line.partition(b"#")[0].split()
        if not fields:
            return NOTHING
        address = address_of(fields[0].decode("ascii", "replace"))
        if address is None:
            raise ValueError(f"{quoted(fields[0])} is not an address")
        if len(fields) < 2:
            raise ValueError("no name behind the address")
        if address not in SINK:
            return NOTHING if all(name in LOCAL for name in fields[1:]) else None
        return [Entry(name_key(name), Kind.HOST) for name in fields[1:] if name.lower() not in LOCAL]


class Table:
    """
    Comma-separated values (RFC 4180); the header, maybe behind C{#}, says what the columns are.

    Without one, the first field of the first row that is a URL shows the column.
    """

    def __init__(self) -> None:
        self._site: int | None = None
        self._category: int | None = None
        self._plain = Plain()

    def read(self, line: bytes) -> Sequence[Entry] | None:
        text = line.strip()
        if not text:
            return NOTHING
        if text.startswith(b"#"):
            self._header(text.lstrip(b"# "))
            return NOTHING
        fields = split(text)
        if self._site is None and self._header(text):
            return NOTHING
        if self._site is None:
            self._site = next((at for at, value in enumerate(fields) if b"://" in value), None)
        if self._site is None:
            raise ValueError("no field is a URL")
        if len(fields) <= self._site:
            raise ValueError("too few fields")
        entry = self._entry(fields[self._site].strip())
        if self._category is not None and len(fields) > self._category:
            entry = entry._replace(category=fields[self._category].strip().decode("utf-8", "replace")[:64])
        return (entry,)

    def _entry(self, value: bytes) -> Entry:
        host, colon, port = value.rpartition(b":")
        if colon and port.isdigit() and b"/" not in value and (key := network_key(host)) is not None:
            return Entry(key, Kind.NETWORK)  # an address with a port: what is bad there is the machine
        return self._plain.item(value)

    def _header(self, text: bytes) -> bool:
        """Learn the columns if it is a header."""
        try:
            names = [name.strip().lower() for name in split(text)]
        except ValueError:
            return False
        known = [name for name in COLUMNS if name in names]
        if not known or len(names) < 2:
            return False
        self._site = names.index(known[0])
        self._category = next((names.index(name) for name in CATEGORIES if name in names), None)
        return True


def split(text: bytes) -> list[bytes]:
    """
    The fields of a row.

    @raise ValueError: it is no row.
    """
    try:
        row = next(csv.reader((text.decode("utf-8", "surrogateescape"),), strict=True, skipinitialspace=True))
    except (csv.Error, StopIteration) as error:
        raise ValueError(f"no row of comma-separated values ({error})") from error
    if len(row) > MAX_FIELDS:
        raise ValueError(f"{len(row)} fields in a row")
    return [value.encode("utf-8", "surrogateescape") for value in row]

"""
The condition C{category}: what lists say of the site that a connection, or a request, leads to.

It is asked wherever rules are: at CONNECT and SOCKS, for a server name, for a question to the name server, and for the
URL of a request. All of the names that are known count, so that a listed one cannot hide behind another.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from sslintercept.facts import UNKNOWN, Address, Facts
from sslintercept.rule.match import CONDITIONS, MAX_NAME, Kind, Match, Value, address_of, parse_with
from sslintercept.sites.listing import Listing
from sslintercept.sites.look import Sites

CATEGORY: Final = "category"
NEEDS: Final = frozenset({"destination", "server_name"})


class Categories:
    """Categories without regard to case; C{*} is any."""

    def __init__(self, sites: Sites, values: Sequence[str]) -> None:
        self._sites = sites
        self._any = "*" in values
        self._words = frozenset(value.lower() for value in values)

    def find(self, value: str) -> str | None:
        """
        Why a site is listed.

        @param value: hosts or URLs, as L{sites_of} gives them.
        """
        for one in value.split(" "):
            for listing in self._listings(one):
                if self._any or listing.category.lower() in self._words:
                    # Whoever is blocked reads this, too: where our files lie is not for them.
                    return str(listing._replace(file=listing.file.rpartition("/")[2]))
        return None

    def _listings(self, one: str) -> Sequence[Listing]:
        scheme, mark, rest = one.partition("://")
        if not mark:
            return self._sites.all_of_host(one)
        authority, _, target = rest.partition("/")
        host, _, port = authority.rpartition(":")
        return self._sites.all_of_url(scheme, host, int(port), b"/" + target.encode("latin-1"))


def sites_of(facts: Facts) -> Value:
    """What a connection or a request leads to: its URL, or else destination and server name, with a space between."""
    if facts.url is not None:
        return facts.url
    destination, name = facts.destination, facts.server_name
    if not isinstance(destination, Address):
        return destination
    if name is UNKNOWN and address_of(destination.host) is not None:
        return UNKNOWN  # of an address a list knows less than of the name that is still to come
    if isinstance(name, str) and name != destination.host and len(name) <= MAX_NAME and " " not in name:
        return f"{destination.host} {name}"
    return destination.host


def url_of(scheme: str, authority: Address, target: bytes) -> str:
    """A URL as L{sites_of} gives it: with its port, and without spaces."""
    return f"{scheme}://{authority}{target.decode('latin-1')}".replace(" ", "%20")


def parse(text: str, sites: Sites) -> Match[Facts]:
    """@raise ValueError: what is wrong, and what is allowed (L{sslintercept.rule.match.parse})."""
    return parse_with({**CONDITIONS, CATEGORY: Kind(sites_of, partial(Categories, sites), NEEDS)}, text)

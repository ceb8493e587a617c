"""Events that are stored, read while the gateway writes: what is asked for, and the lines that match."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sslintercept.errors import ConfigError
from sslintercept.event.store import VERSION

BUSY: Final = 5.0
"""seconds that a writer is waited for"""


@dataclass(frozen=True)
class Query:
    """
    Which events; what is not given does not matter.

    @ivar since: seconds since the epoch, included; C{until}: not included.
    @ivar host: C{.example.com} stands for the domain and all below it.
    @ivar limit: the newest so many.
    """

    since: float | None = None
    until: float | None = None
    id: str | None = None
    kind: tuple[str, ...] = ()
    act: tuple[str, ...] = ()
    inspector: tuple[str, ...] = ()
    client: str | None = None
    host: str | None = None
    limit: int = 100

    def conditions(self) -> tuple[str, list[object]]:
        """As SQL, and the values for its question marks."""
        terms: list[str] = []
        values: list[object] = []

        def term(sql: str, *given: object) -> None:
            terms.append(sql)
            values.extend(given)

        if self.since is not None:
            term("time >= ?", self.since)
        if self.until is not None:
            term("time < ?", self.until)
        for column, words in (("kind", self.kind), ("act", self.act), ("inspector", self.inspector)):
            if words:
                term(f"{column} in ({', '.join('?' * len(words))})", *words)
        for column, word in (("id", self.id), ("client", self.client)):
            if word is not None:
                term(f"{column} = ?", word)
        if self.host is not None:
            host = self.host.lower()
            if host.startswith("."):
                # Not LIKE, to which % and _ mean something.
                term("(lower(host) = ? or substr(lower(host), -?) = ?)", host[1:], len(host), host)
            else:
                term("lower(host) = ?", host)
        return " and ".join(terms) or "1", values


def find(path: Path, query: Query) -> Iterator[str]:
    """
    The lines of the events that match, newest last.

    @raise ConfigError: there is no store, or it cannot be read.
    """
    if not path.exists():
        raise ConfigError(
            "no events have been stored",
            where=str(path),
            remedy="is this the ini file of the gateway, and [events] store on?",
        )
    conditions, values = query.conditions()
    newest = f"select number from event where {conditions} order by time desc, number desc limit ?"
    sql = f"select json from event where number in ({newest}) order by time, number"
    try:
        database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY, isolation_level=None)
        try:
            (version,) = database.execute("pragma user_version").fetchone()
            if not version:
                return  # a gateway is just about to make the tables
            if version != VERSION:
                what = f"the tables are of version {version}, this program reads {VERSION}"
                raise ConfigError(what, where=str(path), remedy="use the version that wrote them")
            for (line,) in database.execute(sql, [*values, query.limit]):
                yield str(line)
        finally:
            database.close()
    except sqlite3.Error as error:
        raise ConfigError(f"cannot be read ({error})", where=str(path), remedy="may this user read it?") from None

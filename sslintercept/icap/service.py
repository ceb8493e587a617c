"""
One service of an ICAP server: what it says of itself, and who is on the way through it (RFC 3507).

OPTIONS are asked before the first request and again when they are too old or the ISTag has changed; whoever needs them
meanwhile waits for the same answer.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from sslintercept.errors import ConfigError, EngineError
from sslintercept.facts import Address
from sslintercept.icap import wire
from sslintercept.icap.message import ModRequest
from sslintercept.icap.modify import Modification
from sslintercept.icap.options import MOST_PREVIEW, Options, Tag, options, tag
from sslintercept.icap.pool import LinePool
from sslintercept.icap.wire import Field, Kind, ReplyHead, ReplyReader
from sslintercept.net.breaker import Breaker
from sslintercept.net.places import Places
from sslintercept.profile.profile import Bytes

if TYPE_CHECKING:
    from sslintercept.net.handler import NetHandler
    from sslintercept.net.line import Line, OpenLine

PORT: Final = 1344
SECURE_PORT: Final = 11344
MOST_OPTIONS: Final = 64 * 1024
"""bytes of a body behind an answer to OPTIONS, which nobody reads"""
OURS = frozenset(("dropped", "stopped", "broken"))
"""faults that tell nothing of the server's health"""


@dataclass(frozen=True, slots=True)
class Limits:
    """
    @ivar connections: at the same time, or fewer if the service wants that (Max-Connections).
    @ivar waiting: requests that may wait for one; C{patience}: seconds that they wait.
    @ivar options: seconds for an answer to OPTIONS.
    @ivar first_byte: seconds for the head of an answer, once everything is said that it needs.
    @ivar idle: seconds that the service may take nothing, or give nothing of a body.
    @ivar keep: seconds that an idle connection is kept.
    @ivar preview: bytes of a preview, if the service wants one as long; C{None} for no previews.
    @ivar most_kept: bytes of a body that is kept as a whole, so that the service may say 204 or 206 behind its end.
    """

    connections: int = 32
    waiting: int = 256
    patience: float = 10.0
    options: float = 10.0
    first_byte: float = 60.0
    idle: float = 30.0
    keep: float = 30.0
    preview: int | None = MOST_PREVIEW
    most_kept: int = 64 * 1024


@dataclass(frozen=True, slots=True)
class Names:
    """
    How the service is told who it is about; an empty name says nothing.

    @ivar encoded: whether users are told in base64, as C{Local://name} (draft-stecher-icap-subid 3.3).
    @ivar wanted_only: what the service has not asked for (X-Include) is not told.
    """

    client: bytes = b"X-Client-IP"
    server: bytes = b"X-Server-IP"
    user: bytes = b"X-Authenticated-User"
    encoded: bool = True
    scheme: str = "Local"
    wanted_only: bool = False


def place(uri: str) -> tuple[Address, bool]:
    """
    Where C{icap://host:port/name} or C{icaps://...} leads, and whether by TLS.

    @raise ConfigError: it is no such thing.
    """
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if (
        host is None
        or parts.scheme not in ("icap", "icaps")
        or not uri.isascii()
        or not uri.isprintable()
        or " " in uri
    ):
        raise ConfigError(f"{uri!r} is no address of a service", where="ICAP", remedy="write icap://host:1344/name")
    secure = parts.scheme == "icaps"
    return Address(host, port or (SECURE_PORT if secure else PORT)), secure


class Service:
    """
    One service.

    @param uri: C{icap://host:port/name}.
    @ivar tag: its ISTag, as its answers tell it; C{breaker}: whether it is asked at all.
    @ivar retried: requests that were said again on another line; C{refreshed}: how often OPTIONS were asked.
    """

    def __init__(
        self,
        handler: NetHandler,
        open_line: OpenLine,
        uri: str,
        *,
        limits: Limits | None = None,
        names: Names | None = None,
        breaker: Breaker | None = None,
    ) -> None:
        self.handler = handler
        self.uri = self.where = uri
        self.host = str(place(uri)[0])
        self.limits = limits or Limits()
        self.breaker = breaker or Breaker()
        self.tag = Tag()
        self._names = names or Names()
        places = Places(
            handler, uri, self.limits.connections, most_waiting=self.limits.waiting, patience=self.limits.patience
        )
        self.pool = LinePool(places, open_line, self.limits.keep)
        self._options: Options | None = None
        self._options_until = 0.0
        self._asking: list[Deferred[Options]] = []
        self._under_way: set[Modification | OptionsQuery] = set()
        self._query: OptionsQuery | None = None
        self.retried = self.refreshed = 0

    # what its users say

    def modify(self, asked: ModRequest) -> Modification:
        """
        Show a message; its body is written into what is returned.

        It never raises; whatever is wrong comes with L{Modification.outcome}.
        """
        modification = Modification(self, asked)
        now = self.handler.seconds()
        if self.breaker.allows(now):
            self._under_way.add(modification)
            modification.start()
        else:
            modification.fail(self.error(self.breaker.refusal(now), "broken"))
        return modification

    def options(self) -> Deferred[Options]:
        """What it says of itself; asked if need be, once, whoever wants to know meanwhile."""
        asked: Deferred[Options] = Deferred()
        if self._options is not None and self.handler.seconds() < self._options_until:
            asked.callback(self._options)
            return asked
        self._asking.append(asked)
        if self._query is None:
            self.refreshed += 1
            self._query = OptionsQuery(self)
            self._under_way.add(self._query)
            self._query.told.addBoth(self._told)
            self._query.start()
        return asked

    def _told(self, told: Options | Failure) -> None:
        self._query = None
        if not isinstance(told, Failure):
            self._options = self._within(told)
            self._options_until = self.handler.seconds() + told.ttl
            self.tag.heard(told.tag, self.handler.seconds())
            most = self.limits.connections
            self.pool.places.most = most if told.connections is None else min(most, told.connections)
            self.pool.places.let_in()
            told = self._options
        asking, self._asking = self._asking, []
        for asked in asking:
            asked.callback(told)  # one that was cancelled ignores it

    def _within(self, told: Options) -> Options:
        """The same, with previews as our own limits allow them (RFC 3507 4.5: a shorter one is in order)."""
        most = self.limits.preview
        return told._replace(preview=None if most is None or told.preview is None else min(told.preview, most))

    def close(self) -> None:
        """End everything that is under way."""
        for one in list(self._under_way):
            one.fail(self.error("it is being stopped", "stopped"))
        self.pool.close()

    # for what is under way

    def heard(self, head: ReplyHead) -> None:
        """An answer came: another tag than before means that the options may be others, too (RFC 3507 4.7)."""
        if head.status in (200, 204, 206) and self.tag.heard(tag(head), self.handler.seconds()) and not self.tag.fault:
            self._options_until = 0.0

    def fields(self, asked: ModRequest, told: Options) -> list[Field]:
        """What it is told beside the message."""
        names, fields = self._names, list(asked.more)
        user = asked.user.encode()
        if user and names.encoded:
            user = b64encode(names.scheme.encode("ascii") + b"://" + user)
        known = ((names.client, asked.client.encode()), (names.server, asked.server.encode()), (names.user, user))
        for name, value in known:
            if name and value and (not names.wanted_only or name.lower() in told.wants):
                fields.append((name, value))
        return fields

    def left(self, one: Modification | OptionsQuery, error: Exception | None) -> None:
        """It is over."""
        if one not in self._under_way:
            return
        self._under_way.discard(one)
        if isinstance(one, OptionsQuery):
            return  # whoever waits for it tells
        self.breaker.ended(error, OURS, self.handler.seconds())

    def error(self, what: str, fault: str) -> EngineError:
        """An error of this service."""
        return EngineError(what, where=self.where, remedy="see the log of the ICAP server", fault=fault)


class OptionsQuery:
    """
    A question for the options.

    @ivar told: fires with them, or fails with an L{EngineError}.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._reader = ReplyReader(service.where)
        self._line: Line | None = None
        self._getting: Deferred[None] | None = None
        self._room = MOST_OPTIONS
        self._retried = False
        self.told: Deferred[Options] = Deferred()

    def start(self) -> None:
        """Get a line."""
        self._get(False)

    def _get(self, fresh: bool) -> None:
        self._getting = Deferred.fromCoroutine(self._ask(fresh))
        self._getting.addErrback(self._not_got)

    def _not_got(self, failure: Failure) -> None:
        assert isinstance(failure.value, Exception)
        self._end(failure.value)

    async def _ask(self, fresh: bool) -> None:
        service = self._service
        line = self._line = await service.pool.take(fresh)
        line.received, line.lost = self._received, self._lost
        line.expect(service.limits.options, 0)
        line.write(wire.request(Kind.OPTIONS, service.uri, service.host, [(b"Allow", b"204, 206")], (), False))

    def _received(self, data: Bytes) -> None:
        service = self._service
        try:
            pieces, taken = self._reader.feed(data)
            self._room -= sum(len(piece) for piece in pieces)
            if taken < len(data) or self._room < 0:
                raise wire.rubbish("more than an answer to OPTIONS", service.where)
            if not self._reader.done:
                return
            assert self._reader.head is not None
            found = options(self._reader.head, service.where)
        except EngineError as error:
            self._end(error)
            return
        line, self._line = self._line, None
        assert line is not None
        if self._reader.head.closes:
            service.pool.drop(line)
        else:
            service.pool.give(line)
        service.left(self, None)
        self.told.callback(found)

    def _lost(self, fault: str, why: str) -> None:
        line = self._line
        if line is not None and line.used and fault == "lost" and not self._reader.begun and not self._retried:
            self._retried = True
            self._line = None
            self._service.pool.drop(line)
            self._get(True)
            return
        self._end(self._service.error(why, fault))

    def fail(self, error: EngineError) -> None:
        """End it with an error. Twice is once."""
        self._end(error)

    def _end(self, error: Exception) -> None:
        if self.told.called:
            return
        line, self._line = self._line, None
        self._service.left(self, error)
        if line is not None:
            self._service.pool.drop(line)
        self.told.errback(error)
        if self._getting is not None:
            self._getting.cancel()

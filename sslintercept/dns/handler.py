"""
Sends the entries to name servers, judges what comes back, and tells whoever waits (ATS: DNSHandler).

A query goes out as a datagram; one whose answer is truncated, or comes back with the case of its letters changed, is
asked again over a connection. An answer that does not fit its query is dropped and counted, and the query goes on
waiting; a server's failure moves it to another server.
"""

from __future__ import annotations

from collections.abc import Iterable
from random import SystemRandom
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from sslintercept.dns import message as m
from sslintercept.dns.alarm import Alarms, Clock
from sslintercept.dns.answer import Answer, Finding, Judgement, judge, misfit
from sslintercept.dns.entry import (
    IN_FLIGHT,
    MOST_ATTEMPTS,
    MOST_PENDING,
    Attempt,
    Entries,
    Entry,
    Full,
    Key,
    State,
    Waiter,
)
from sslintercept.dns.server import WAITS, NameServers, Server, ServerGroup
from sslintercept.dns.stream import OpenStream, Pipe, Stream, Tcp
from sslintercept.dns.transport import Channel, Handler, Ports
from sslintercept.dns.watch import Counters, Watch

ROUNDS = 2
"""failures of every server, one with another, that are borne for one question"""
MOST_PROBES = 256
"""probes of servers under way"""
RAW, SIGNED = 1 << 16, 1 << 17
"""marks in a key beside the flags of its query: the whole message is wanted; with signatures"""


class Random(Protocol):
    """A source of bits that nobody can predict, as L{random.SystemRandom}."""

    def getrandbits(self, k: int, /) -> int: ...


class DnsHandler:
    """
    The entries and their way to the servers.

    @param servers: whom to ask for what.
    @param waits: the time limit of each attempt, seconds.
    @param tcp: ask over TCP only.
    @param open_stream: ask only over streams that this makes, for example of TLS (RFC 7858).
    @param mix_case: raise letters of each question at random, and expect them back.
    """

    log = Logger()

    def __init__(
        self,
        handler: Handler,
        clock: Clock,
        servers: NameServers,
        *,
        waits: tuple[float, ...] = WAITS,
        limit: int = IN_FLIGHT,
        most_pending: int = MOST_PENDING,
        tcp: bool = False,
        open_stream: OpenStream | None = None,
        mix_case: bool = True,
        random: Random | None = None,
    ) -> None:
        self._handler, self._clock, self._servers = handler, clock, servers
        self._waits = waits
        self._bits = (random or SystemRandom()).getrandbits
        self.entries = Entries(self._bits, limit=limit, most_pending=most_pending)
        self._alarms: Alarms[Attempt | Waiter] = Alarms(clock, self._due)
        self._streams_only = tcp or open_stream is not None
        self._open_stream = open_stream or self._open_tcp
        self._mix_case = mix_case
        self._ports: dict[Server, Ports] = {}
        self._pipes: dict[Server, Pipe] = {}
        self._probes: dict[Attempt, ServerGroup] = {}
        self._flushing = False
        self.running = False
        self.counters = Counters()
        self._watch = Watch(clock, self.counters, self._probe, self._call_back)

    def start(self) -> None:
        """From now on questions are taken."""
        self.running = True
        for group in self._servers:
            if group.ignored:
                self.log.warn(
                    "{ignored} of the configured name servers are ignored; {used} is the most",
                    ignored=group.ignored,
                    used=len(group.servers),
                )

    def stop(self) -> None:
        """Fail whoever waits, and close every socket."""
        self.running = False
        for entry in self.entries:
            if entry.state is not State.DONE:  # whoever was told may have cancelled others
                self._fail(entry, "the resolver is stopping")
        for probe in list(self._probes):
            self._forget_probe(probe)
        for ports in self._ports.values():
            ports.close()
        for pipe in self._pipes.values():
            pipe.close()
        self._ports.clear()
        self._pipes.clear()
        self._watch.stop()
        self._alarms.stop()

    # asking

    def ask(self, key: Key, waiter: Waiter, now: float) -> None:
        """Let C{waiter} wait for the answer to C{key}; it may be refused at once."""
        if not self.running:
            waiter.failed("the resolver is not running", "try again later")
            return
        try:
            new = self.entries.join(key, waiter, lambda: self._servers.group(key[0]), now)
        except Full as full:
            self.counters.refused += 1
            waiter.failed(str(full), "try again later")
            return
        if new:
            self._wake()
        else:
            self.counters.coalesced += 1

    def leave(self, waiter: Waiter) -> None:
        """C{waiter} waits no more."""
        self.entries.leave(waiter)
        self._wake()

    def alarm(self, when: float, what: Attempt | Waiter) -> None:
        """The time of C{what} is over at C{when}."""
        self._alarms.set(when, what)

    def _due(self, what: Attempt | Waiter) -> None:
        if isinstance(what, Attempt):
            self._timed_out(what)
        else:
            self._expired(what)

    def _expired(self, waiter: Waiter) -> None:
        self.counters.expired += 1
        why = waiter.entry.why if waiter.entry is not None else "nobody was asked"
        self.leave(waiter)
        waiter.failed(f"no answer in time ({why})", "the name servers, or the way to them, are slow or down")

    # sending

    def _wake(self) -> None:
        """Send what may be sent, at the end of this turn."""
        if not self._flushing:
            self._flushing = True
            self._handler.soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        now = self._clock.seconds()
        while (entry := self.entries.take()) is not None:
            if entry.tries < len(self._waits) and len(entry.attempts) < MOST_ATTEMPTS:
                self._send(entry, entry.group.pick(entry.tried), now)
            else:
                self._exhausted(entry)

    def _send(self, entry: Entry, server: Server, now: float) -> None:
        """Send one attempt of C{entry}, which is in flight."""
        name, rtype, cls, flags = entry.key
        if entry.attempts:
            self.counters.retries += 1
        attempt = self.entries.attempt(entry, server, self._question(name, rtype, cls), now)
        entry.tries += 1
        self.alarm(now + self._waits[entry.tries - 1], attempt)
        self._transmit(attempt, flags, entry.stream, entry.group, now)

    def _transmit(self, attempt: Attempt, flags: int, stream: bool, group: ServerGroup, now: float) -> None:
        """Put C{attempt} on its way; it may have failed when this returns."""
        server = attempt.server
        self.counters.sent += 1
        self._watch.sent(group, server, now)
        signed = flags & SIGNED != 0
        attempt.edns = server.edns or signed
        data = m.query(attempt.id, attempt.question, flags=flags & 0xFFFF, edns=attempt.edns, do=signed)
        try:
            channel = self._pipe(server) if stream or self._streams_only else self._port(server, now)
        except OSError as error:
            self.broken((attempt,), (error.strerror or str(error)).lower())
            return
        attempt.channel = channel
        channel.attempts.add(attempt)
        channel.send(data)

    def _question(self, name: bytes, rtype: int, cls: int) -> bytes:
        if self._mix_case:
            name = m.mixed(name, self._bits(8 * len(name)))
        return m.question(name, rtype, cls)

    def _port(self, server: Server, now: float) -> Channel:
        ports = self._ports.get(server)
        if ports is None:
            ports = self._ports[server] = Ports(self._handler, self, server, self._bits)
        return ports.take(now)

    def _pipe(self, server: Server) -> Channel:
        pipe = self._pipes.get(server)
        if pipe is None:
            pipe = self._pipes[server] = Pipe(self._handler, self, server, self._open_stream)
        return pipe

    def _open_tcp(self, server: Server) -> Deferred[Stream]:
        return Tcp(self._handler, server).opened

    # receiving

    def received(self, data: bytes, channel: Channel, stream: bool) -> None:
        """A message has come (L{sslintercept.dns.transport.Owner})."""
        dropped = self.counters.dropped
        if len(data) < m.HEADER_SIZE:
            dropped["short"] += 1
            return
        attempt = self.entries.sent.get(data[0] << 8 | data[1])
        if attempt is None:
            dropped["id"] += 1
            return
        if attempt.channel is not channel or attempt.heard:
            dropped["duplicate" if attempt.heard else "source"] += 1
            return
        if (reason := misfit(data, attempt.question, stream)) is not None:
            dropped[reason] += 1
            if reason == "case" and attempt.entry is not None:
                # Some servers do it to every question. A connection needs no such check.
                attempt.entry.stream = True
            return
        now = self._clock.seconds()
        if data[2] & 0x02 and not stream:
            attempt.heard = True
            self._truncated(attempt, now)
            return
        parsed = m.parse(data)
        if parsed is None:
            dropped["malformed"] += 1
            return
        attempt.heard = True
        if parsed.rcode in m.WELL:
            self._answered(attempt, parsed, data, now)
        elif attempt.edns and attempt.server.edns and parsed.rcode in (m.FORMERR, m.NOTIMP, m.BADVERS):
            # From now on this server is asked without EDNS (RFC 6891 7).
            attempt.server.edns = False
            self._once_more(attempt, now)
        else:
            self._refused(attempt, f"{attempt.server} failed ({m.RCODES.get(parsed.rcode, parsed.rcode)})", data)

    def _truncated(self, attempt: Attempt, now: float) -> None:
        """The answer did not fit: the same server is asked over a connection (RFC 7766 5)."""
        self.counters.truncated += 1
        if attempt.entry is None:
            self._probed(attempt, now)
        else:
            attempt.entry.stream = True
            self._once_more(attempt, now)

    def _once_more(self, attempt: Attempt, now: float) -> None:
        """The same server is asked at once in another way, if C{attempt} is what its entry waits for."""
        entry = attempt.entry
        if entry is None:
            self._forget_probe(attempt)
        elif entry.state is State.IN_FLIGHT and entry.attempts[-1] is attempt and len(entry.attempts) < MOST_ATTEMPTS:
            attempt.live = False
            entry.tries -= 1
            self._send(entry, attempt.server, now)

    def _answered(self, attempt: Attempt, parsed: m.Message, data: bytes, now: float) -> None:
        """A server that does its work has answered."""
        entry, server = attempt.entry, attempt.server
        if entry is None:
            self._probed(attempt, now)
            return
        name, rtype, cls, flags = entry.key
        judged = judge(parsed, name, rtype, cls)
        if judged.finding is Finding.REFERRAL and not flags & RAW:
            self._refused(attempt, f"{server} does not serve the name")
            return
        self._watch.good(entry.group, server, (name, rtype), now - attempt.sent)
        answer = Answer(
            parsed.rcode,
            m.text(judged.name),
            judged.addresses,
            judged.rdata,
            judged.ttl,
            judged.finding is not Finding.RECORDS,
            str(server),
            now - entry.since,
            _whole(entry, data) if flags & RAW else b"",
        )
        for waiter in self._finish(entry):
            if waiter.live:
                waiter.told(judged, answer, now)

    def _finish(self, entry: Entry) -> list[Waiter]:
        self._wake()
        return self.entries.finish(entry)

    # failing

    def broken(self, attempts: Iterable[Attempt], why: str) -> None:
        """No answer can come to C{attempts} any more (L{sslintercept.dns.transport.Owner})."""
        for attempt in attempts:
            if attempt.live:
                self._refused(attempt, f"{attempt.server} failed ({why})")

    def _refused(self, attempt: Attempt, why: str, data: bytes | None = None) -> None:
        """A server cannot, or will not, answer: another one is asked, or the same once more."""
        self.counters.failures += 1
        attempt.server.failed += 1
        entry = attempt.entry
        if entry is None:
            self._forget_probe(attempt)
            return
        entry.why = why
        entry.failures += 1
        if data is not None:
            entry.last = attempt.server, data
        if entry.state is not State.IN_FLIGHT or entry.attempts[-1] is not attempt:
            return
        if entry.failures >= ROUNDS * len(entry.group.servers):
            self._exhausted(entry)
        else:
            self.entries.again(entry)
            self._wake()

    def _timed_out(self, attempt: Attempt) -> None:
        """The time of an attempt is over; its answer is still welcome."""
        self.counters.timeouts += 1
        attempt.server.timeouts += 1
        entry, channel = attempt.entry, attempt.channel
        if entry is None:
            self._forget_probe(attempt)
        else:
            entry.why = f"{attempt.server} did not answer"
            self.entries.again(entry)
            self._wake()
        if isinstance(channel, Pipe) and channel.heard < attempt.sent:
            channel.give_up("silence on its connection")

    def _exhausted(self, entry: Entry) -> None:
        """There is nobody left to ask."""
        if entry.last is None or not entry.key[3] & RAW:
            self._fail(entry, entry.why)
            return
        server, data = entry.last
        judged = Judgement(Finding.NOTHING, entry.key[0], 0, 0)
        now = self._clock.seconds()
        whole = _whole(entry, data)
        answer = Answer(data[3] & 15, m.text(judged.name), (), (), 0, True, str(server), now - entry.since, whole)
        for waiter in self._finish(entry):
            if waiter.live:
                waiter.told(judged, answer, now)

    def _fail(self, entry: Entry, why: str) -> None:
        for waiter in self._finish(entry):
            if waiter.live:
                waiter.failed(why, "the name servers, or those of the name's zone, are down or broken")

    def _call_back(self, server: Server) -> None:
        """What is in flight to a server that was given up goes elsewhere, and loses nothing by it."""
        for entry in self.entries:
            if entry.state is State.IN_FLIGHT and entry.attempts[-1].server is server:
                entry.tries -= 1
                self.entries.again(entry)
                self._wake()

    # probes

    def _probe(self, group: ServerGroup, server: Server) -> None:
        """Ask a suspected server something, whatever it is."""
        if len(self._probes) < MOST_PROBES:
            now = self._clock.seconds()
            name, rtype = group.probe()
            attempt = self.entries.attempt(None, server, self._question(name, rtype, m.IN), now)
            self._probes[attempt] = group
            self.counters.probes += 1
            self.alarm(now + self._waits[0], attempt)
            self._transmit(attempt, m.RD, False, group, now)

    def _probed(self, attempt: Attempt, now: float) -> None:
        """A probe was answered: the server lives."""
        group = self._probes[attempt]
        self._forget_probe(attempt)
        self._watch.good(group, attempt.server, None, now - attempt.sent)

    def _forget_probe(self, attempt: Attempt) -> None:
        del self._probes[attempt]
        self.entries.release(attempt)


def _whole(entry: Entry, data: bytes) -> bytes:
    """A server's message with the id 0 and a folded question."""
    name, rtype, cls, _ = entry.key
    if data[4:6] != b"\0\1":
        return b"\0\0" + data[2:]
    asked = m.question(name, rtype, cls)
    return b"\0\0" + data[2 : m.HEADER_SIZE] + asked + data[m.HEADER_SIZE + len(asked) :]

"""
Every zope interface: the whole plugin API on one page.

A plugin is found through C{twisted.plugin} (a module in C{sslintercept/plugins/} of any installed distribution). All
calls come on the reactor's thread and must return at once unless a Deferred is allowed. What raises is logged with its
traceback and costs the one connection it was called for.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.plugin import IPlugin
from zope.interface import Attribute, Interface


class IAcceptor(Interface):
    """Takes over a connection whose first bytes were recognised (ATS: SessionAccept)."""

    protocol: str = Attribute("The verdict it serves, for example C{http/1}; one acceptor a verdict.")

    def accept(vc: object, facts: object, peeked: bytes) -> None:
        """
        Own the connection from now on, and return at once.

        Called once for every probe that gave this verdict. Attach a session to C{vc}, or close it.

        @param vc: the L{sslintercept.net.vconnection.NetVConnection}; if C{vc.server_vc} is set, the way to the
            destination is open already.
        @param facts: the L{sslintercept.facts.Facts} of the connection.
        @param peeked: every byte read so far, in order; it may be empty if the port alone decided.
        @raise InterceptError: refuse; the caller closes the connection.
        """


# Any, below: plugins add objects of the folders above; this page stands under all of them.


class IProbeSignatures(IPlugin):
    """Adds openings that the probe recognises."""

    signatures: Iterable[Any] = Attribute(
        "A sequence of L{sslintercept.probe.signature.Signature}, judged before the built-in ones, in order."
    )


class IAcceptorPlugin(IPlugin):
    """Adds sessions for verdicts."""

    def acceptors(gateway: object) -> Iterable[Any]:
        """
        Make the acceptors; called once for each generation of settings.

        @param gateway: the L{sslintercept.service.Gateway}, which has the rules, the connector and the logs.
        @return: a sequence of L{IAcceptor}; one for a verdict that is served already replaces what was there.
        """


class ITransformPlugin(IPlugin):
    """Adds a transform, for C{[transform:NAME]} sections of the ini file."""

    name: str = Attribute("What C{use =} says; letters, digits and hyphens.")
    options: Any = Attribute("A dataclass whose fields are the section's keys (L{sslintercept.config.key.setting}).")

    def transformer(options: object) -> Any:
        """
        Make one for a section; called once for each generation of settings.

        @param options: the section's, an instance of C{options}.
        @return: a L{sslintercept.transform.processor.Transformer}.
        @raise ValueError: the options do not go together; the message becomes a line for the operator.
        """


class IInspectorPlugin(IPlugin):
    """Adds an inspector, for C{[inspect:NAME]} sections of the ini file."""

    name: str = Attribute("What C{use =} says; letters, digits and hyphens.")
    options: Any = Attribute("A dataclass whose fields are the section's keys (L{sslintercept.config.key.setting}).")

    def inspector(options: object, engines: object) -> Any:
        """
        Make one for a section; called once for each generation of settings.

        @param options: the section's, an instance of C{options}.
        @param engines: the L{sslintercept.inspect.engines.Engines}: loop, lists, worker processes.
        @return: a L{sslintercept.inspect.inspector.Inspector}.
        @raise ValueError: the options do not go together; the message becomes a line for the operator.
        """


class IPartSink(Interface):
    """Gets the content of one message or file."""

    def write(data: bytes) -> None:
        """The next bytes; framing (dot-stuffing, literals, chunks) is undone, content codings are not."""

    def finish(whole: bool) -> None:
        """
        The part is over; called exactly once.

        @param whole: false when the transfer broke off, or only a piece of it was asked for.
        """


class IPartWay(Interface):
    """Where a gate lets content pass; calls may come from within calls to the gate, or later."""

    def release(data: bytes) -> None:
        """The next bytes that may pass: as many as were written, in order; some may be overwritten."""

    def replace(data: bytes) -> None:
        """Everything has come and nothing was released: this passes in its place."""

    def ended(error: object) -> None:
        """
        Called exactly once, unless the part was aborted.

        @param error: C{None} when it has come to its end and everything was released, or replaced; else the
            L{sslintercept.errors.InspectedError} with which it is refused, at any time.
        """

    def pause() -> None:
        """Whoever sends the part is not read, until C{resume}."""

    def resume() -> None:
        """It is read again."""


class IPartGate(IPartSink):
    """
    Decides about one message or file: nothing passes but what it lets pass.

    Whoever brings the part waits for it as long as it takes: it has a time limit of its own, and lets pass what is more
    than it may hold. Everything is called on the reactor's thread and must return at once.
    """

    def begin(way: IPartWay) -> None:
        """Called once, before anything else; C{way} is to be used from the next call on."""

    def abort() -> None:
        """Nobody waits any more: let go of everything. Called once at most, and not when it has ended."""


class IPartHandler(IPlugin):
    """Wants to see what conversations carry, or to decide about it: mails, files."""

    def part(part: object, facts: object) -> IPartSink | IPartGate | None:
        """
        A message or a file begins.

        @param part: the L{sslintercept.dialogue.watcher.Part}: what it is, as far as its protocol says.
        @param facts: the L{sslintercept.facts.Facts} of the client's connection.
        @return: who gets its content, or C{None}; whoever has all members of L{IPartGate} decides. Of all handlers one
            may decide about a part. What a handler, a sink or a gate raises ends the connection, and so what has not
            been seen does not pass.
        """


class IEventSinkPlugin(IPlugin):
    """Is told what inspectors find, beside the log, the collectors and the store."""

    def tell(event: object) -> None:
        """
        Something was found, or an engine failed. Called once for each event, in each worker process; must not block.

        @param event: the L{sslintercept.event.record.Event}: bounded, masked, and free of what a log must not hold.
            What a sink raises is logged, and nothing else comes of it.
        """


class IResolver(Interface):
    """Who knows the addresses of a name."""

    def resolve(host: str) -> Deferred[object]:
        """
        The addresses of C{host} in the order they should be tried.

        Called for names only, never for literal addresses.

        @return: a Deferred that fires with a non-empty sequence of address texts, or fails with
            L{sslintercept.errors.ResolveError}. It must fire within 15 seconds.
        """


class ILineSink(Interface):
    """Where log lines go."""

    def write(line: str) -> None:
        """Take one line without its newline. Must not block and must not raise."""

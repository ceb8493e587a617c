"""
C{clamd}: asks ClamAV's daemon whether there is malware in what passes::

    [inspect:virus]
    use = clamd
    address = unix:/run/clamav/clamd.ctl
    largest = 25MiB

clamd takes apart archives, mails and documents itself, so it is shown whole parts only, and what stands in forms, which
it does not take apart. Keep C{largest} at its StreamMaxLength; what is longer has no verdict, and the section says what
becomes of it.

A verdict tells the engine and the number of its signatures. Nothing of a part is kept here but what comes before there
is a connection.

Limits. What clamd skips because of its own limits it calls clean, unless C{AlertExceedsMax yes} is set there; then such
a part has no verdict here. It is not told where a part comes from.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from sslintercept.clamd.client import Clamd, Limits
from sslintercept.clamd.wire import Clean, Found, TooBig, Version
from sslintercept.clamd.wire import Verdict as Reply
from sslintercept.config import units
from sslintercept.config.key import setting
from sslintercept.errors import EngineError
from sslintercept.inspect.inspector import Inspector, Look, Source
from sslintercept.inspect.part import Part
from sslintercept.inspect.reach import Engines, Patience, reached
from sslintercept.inspect.shipped.acts import ACTS
from sslintercept.inspect.verdict import MALWARE, PHISHING, Act, Evidence, Verdict
from sslintercept.net.line import OpenLine, local

VERSION_WAIT: Final = 1.0
"""seconds that a verdict waits for clamd's version, if that is not known yet"""
MOST_PATH: Final = 107
"""bytes of a socket's path (unix(7), sun_path)"""

_PHISHING = re.compile(r"(?i)(?:^|\.)phish(?:ing)?(?:\.|$)")
_EXCEEDED = "Heuristics.Limits.Exceeded"
"""how the names begin of what clamd has not looked into (clamd.conf(5), AlertExceedsMax)"""
_ADDRESS = units.address(3310)


def _address(text: str, folder: Path) -> str:
    kind, colon, rest = text.partition(":")
    if not colon or not rest:
        raise ValueError("neither unix: with a path nor tcp: with a host")
    if kind == "unix":
        path = units.path()(rest, folder)
        if len(bytes(path)) > MOST_PATH:
            raise ValueError(f"the path of a socket has at most {MOST_PATH} bytes")
        return f"unix:{path}"
    if kind == "tcp":
        return f"tcp:{_ADDRESS(rest)}"
    raise ValueError(f"{units.shown(kind)}: is no way to a clamd")


ADDRESS: Final = units.Unit(_address, "unix:/path/of/its/socket, or tcp:host:port")


@dataclass(frozen=True, slots=True)
class ClamdOptions:
    """Of C{clamd}."""

    address: str = setting(ADDRESS, "unix:/run/clamav/clamd.ctl", "where clamd listens: unix:/path or tcp:host:port")
    action: str = setting(units.choice("block", "quarantine", "report"), "block", "what becomes of a part with malware")
    scans: int = setting(units.integer(1, 1000), "10", "scans at the same time; no more than clamd's MaxThreads")
    waiting: int = setting(units.integer(0, 100_000), "256", "parts that may wait for a scan to end")
    largest: int = setting(units.size("1B", "4GiB"), "25MiB", "bytes of a part; no more than clamd's StreamMaxLength")


class ClamdInspector(Inspector):
    """
    Shows parts to a clamd.

    @raise ValueError: there is no way to the address; a socket that is not there yet is none.
    """

    Options = ClamdOptions
    by_content = True
    forms = True

    def __init__(self, options: ClamdOptions, engines: Engines) -> None:
        super().__init__(options)
        self.act = ACTS[options.action]
        self.keeps = self.act is Act.QUARANTINE
        limits = Limits(scans=options.scans, waiting=options.waiting, most=options.largest)
        self.handler = engines.handler
        self.clamd = Clamd(engines.handler, _line(options.address, engines), "clamd", limits)
        self.version: Version | None = None
        """as it was told last"""

    @property
    def tag(self) -> bytes | None:
        """
        What verdicts may be remembered under: another one when they may be different. C{None} while it is not known,
        and for a base of one's own, whose changes clamd does not tell.
        """
        version = self.version
        return version.tag if version is not None and version.signatures else None

    def look(self, part: Part) -> Look | None:
        """@raise EngineError: the part is said to be longer than clamd takes."""
        if part.parent is not None and part.parent.parent is not None:
            return None  # it lies in what is shown to clamd as a whole
        if part.length is not None and part.length > self.options.largest:
            raise self.too_big("the part is longer than [largest]")
        return ClamdLook(self, part)

    def close(self) -> None:
        self.clamd.close()

    def too_big(self, what: str) -> EngineError:
        """The error for a part that clamd has not looked into, or not as a whole."""
        remedy = "see largest, and StreamMaxLength, MaxScanSize and MaxFileSize of clamd"
        return EngineError(what, where="clamd", remedy=remedy, fault="too_big")

    def ask_version(self, told: Callable[[], object]) -> None:
        """Call C{told} as soon as L{version} is as good as it gets."""

        def came(version: Version | Failure) -> None:
            if not isinstance(version, Failure):
                self.version = version
            told()

        self.clamd.version().addBoth(came)


def _line(address: str, engines: Engines) -> OpenLine:
    kind, _, rest = ADDRESS(address).partition(":")
    if kind == "unix":
        return local(engines.handler, rest, "clamd")
    return reached(engines, _ADDRESS(rest), "clamd")


class ClamdLook(Look):
    """One part on its way through clamd."""

    def __init__(self, inspector: ClamdInspector, part: Part) -> None:
        self._inspector = inspector
        self._part = part
        self._timer: IDelayedCall | None = None
        self._patience = Patience(inspector.handler)
        self._scan = inspector.clamd.scan()
        self._scan.outcome.addCallbacks(self._came, self._failed)

    def write(self, data: bytes) -> None:
        self._scan.write(data)

    def finish(self) -> None:
        self._patience.begin()
        self._scan.finish()

    def abort(self) -> None:
        self.over = True
        self._stop_waiting()
        self._scan.abort(ValueError("nobody waits for the verdict"), self._patience.fault)

    def registerProducer(self, source: Source, streaming: bool) -> None:
        self._scan.registerProducer(source, streaming)

    def _came(self, reply: Reply) -> None:
        if isinstance(reply, TooBig):
            self.fail(self._inspector.too_big("the part is longer than clamd takes"))
        elif isinstance(reply, Found) and reply.name.startswith(_EXCEEDED):
            self.fail(self._inspector.too_big(f"it has not looked into all of the part ({reply.name})"))
        elif isinstance(reply, Clean):
            self.tell(None)
            self._inspector.ask_version(lambda: None)  # so that it is known when it is wanted
        else:
            self._found(reply.name)

    def _failed(self, failure: Failure) -> None:
        assert isinstance(failure.value, Exception)
        self.fail(failure.value)

    def _found(self, name: str) -> None:
        """Tell it with the version, for which it is not worth waiting long."""

        def tell() -> None:
            if not self.over:
                self._stop_waiting()
                self.tell(self._verdict(name))

        self._timer = self._inspector.handler.later(VERSION_WAIT, tell)
        self._inspector.ask_version(tell)

    def _stop_waiting(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def _verdict(self, name: str) -> Verdict:
        version = self._inspector.version
        return Verdict(
            self._inspector.act,
            PHISHING if _PHISHING.search(name) else MALWARE,
            name,
            f"clamd found {name}",
            (Evidence(name, where=self._part.path),),
            engine="clamd" if version is None else version.engine.replace("ClamAV", "clamd", 1),
            version="" if version is None or not version.signatures else f"{version.signatures}/{version.made}",
        )

"""
C{icap}: shows what passes to services of ICAP, which let it pass, refuse it, or make something else of it::

    [inspect:scanner]
    use = icap
    services = icap://scanner.example:1344/scan
    action = quarantine

Requests are shown as REQMOD, responses as RESPMOD. What other protocols carry gets heads of HTTP for that: C{PUT
ftp://host/path}, a C{Content-Disposition} with its name. Several services see a part one after the other, each what the
one before has made of it. Servers that have different services for requests and responses need two sections, with
C{match = direction:request} and C{match = direction:response}.

A service that reports a threat, with or without a page, blocks or quarantines the part; its page is what a client of
HTTP is told. One that answers a request itself, changes the status of a response, or asks for something else than the
client did, refuses the part. One that only changes fields or content replaces them, unless C{action = report}.

Limits. New content is read to its end before anything passes, since a service may find something late and just end too
early; it is kept in memory, C{memory} bytes of all parts at most. Content that is only the beginning of what was shown
is no verdict. A new target for a request is not followed: it is a refusal. A service whose OPTIONS say that it ignores
names with a certain ending is not asked about these.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from sslintercept.config import units
from sslintercept.config.key import described, setting
from sslintercept.errors import ConfigError, EngineError
from sslintercept.icap.body import AnswerBody
from sslintercept.icap.chain import Chain
from sslintercept.icap.head import HttpHead, read
from sslintercept.icap.message import Answered, Modified, ModRequest, Outcome, Report, Unchanged
from sslintercept.icap.service import Limits, Names, Service, place
from sslintercept.icap.wire import rubbish
from sslintercept.inspect.inspector import Inspector, Look, Source
from sslintercept.inspect.part import Part
from sslintercept.inspect.reach import Engines, Patience, reached
from sslintercept.inspect.shipped.acts import ACTS
from sslintercept.inspect.shipped.answer import Content, Marks, Page, Room
from sslintercept.inspect.shipped.encapsulate import asked
from sslintercept.inspect.verdict import MALWARE, MOST_EVIDENCE, Act, Evidence, Verdict
from sslintercept.transform.message import BODILESS, Answer

POLICY: Final = "policy"
"""the kind of a verdict that names no threat: the service just does not let it pass as it is"""
MOST_SERVICES: Final = 8
PAGE_WAIT: Final = 5.0
"""seconds that a verdict waits for the service's page"""
NAMES: Final = {
    "X-Authenticated-User": Names(),
    "X-Client-Username": Names(user=b"X-Client-Username", encoded=False),
    "none": Names(user=b""),
}
"""how services are told who it is: base64 of C{Local://name}, the name as it is, or not at all"""


def _service(text: str) -> str:
    try:
        place(text)
    except ConfigError as error:
        raise ValueError(error.what) from None
    if "@" in text:
        raise ValueError("a login, which ICAP has no place for")
    return text


SERVICES: Final = units.listed(units.unit(_service, "icap://host:port/name or icaps://host:port/name"), MOST_SERVICES)


@dataclass(frozen=True, slots=True)
class IcapOptions:
    """Of C{icap}."""

    services: tuple[str, ...] = field(
        metadata=described(
            SERVICES,
            None,
            "services of ICAP that see a part one after the other",
            example="icap://127.0.0.1:1344/scan",
            required=True,
        )
    )
    action: str = setting(
        units.choice("block", "quarantine", "report"), "block", "what becomes of a part that a service finds fault with"
    )
    user: str = setting(units.choice(*NAMES), "X-Authenticated-User", "the field that tells who it is")
    preview: int | None = setting(
        units.word_or("off", None, units.size("0B", "64KiB")), "64KiB", "bytes of a preview, if a service wants so many"
    )
    connections: int = setting(units.integer(1, 1000), "32", "connections with each service at the same time")
    waiting: int = setting(units.integer(0, 100_000), "256", "parts that may wait for one of these")
    largest: int = setting(units.size("1B", "4GiB"), "25MiB", "bytes of a part")
    memory: int = setting(units.size("1MiB", "64GiB"), "64MiB", "bytes of answers that are kept at the same time")


class IcapInspector(Inspector):
    """
    Shows parts to services of ICAP.

    @raise ValueError: there is no way to a service; one that does not answer is none.
    """

    Options = IcapOptions
    heads = True
    changes = True

    def __init__(self, options: IcapOptions, engines: Engines) -> None:
        super().__init__(options)
        self.keeps = ACTS[options.action] is Act.QUARANTINE
        self.act = ACTS[options.action]
        self.handler = engines.handler
        self.room = Room(options.memory)
        limits = Limits(connections=options.connections, waiting=options.waiting, preview=options.preview)
        self.services = []
        for uri in SERVICES(",".join(options.services)):
            destination, secure = place(uri)
            lines = reached(engines, destination, uri, secure=secure)
            self.services.append(Service(engines.handler, lines, uri, limits=limits, names=NAMES[options.user]))
        self.name = "icap " + " ".join(place_name(service.uri) for service in self.services)

    def look(self, part: Part) -> Look | None:
        """@raise EngineError: the part is said to be longer than we show."""
        if part.length is not None and part.length > self.options.largest:
            raise self.error("the part is longer than [largest]", "too_big")
        return IcapLook(self, part, asked(part))

    def close(self) -> None:
        for service in self.services:
            service.close()

    def error(self, what: str, fault: str) -> EngineError:
        """An error of these services."""
        return EngineError(what, where=self.name, remedy="see the log of the ICAP server", fault=fault)


def place_name(uri: str) -> str:
    """The name of a service without the host that has it, since pages show it to clients."""
    return uri.partition("://")[2].partition("/")[2].partition("?")[0] or "service"


def _line(text: str) -> str:
    """A text of a service's as one line."""
    return " ".join(text.split())


class IcapLook(Look):
    """
    One part on its way through the services.

    Nothing is begun before the first bytes or the end: it may be over at once, and C{told} is set only behind
    L{IcapInspector.look}.
    """

    def __init__(self, inspector: IcapInspector, part: Part, said: ModRequest) -> None:
        self._inspector = inspector
        self._part = part
        self._said = said
        self._source: Source | None = None
        self._chain: Chain | None = None
        self._content: Content | None = None
        """what takes its place, as far as it has come"""
        self._page: Page | None = None
        self._timer: IDelayedCall | None = None
        self._patience = Patience(inspector.handler)
        self._marks = Marks()
        """of what was shown"""
        self._ended = False

    # whoever shows it

    def registerProducer(self, source: Source, streaming: bool) -> None:
        self._source = source

    def write(self, data: bytes) -> None:
        self._marks.write(data)
        if self._marks.size > self._inspector.options.largest and self._page is None:
            self._give_up(self._inspector.error("the part is longer than [largest]", "too_big"))
            return
        if not self._said.body:
            self._give_up(self._inspector.error("a part that was said to be empty is not", "dropped"))
            return
        chain = self._begun()
        if not self.over:
            chain.write(data)

    def finish(self) -> None:
        self._ended = True
        self._patience.begin()
        if not self._marks.size:
            self._said = replace(self._said, body=False)  # of no effect on a chain that has begun
        chain = self._begun()
        if not self.over:
            chain.finish()

    def abort(self) -> None:
        self.over = True
        self._let_go(self._patience.fault)

    def _begun(self) -> Chain:
        chain = self._chain
        if chain is None:
            chain = self._chain = Chain(self._inspector.services, self._said).start()
            if self._source is not None:
                chain.registerProducer(self._source, True)
            chain.outcome.addCallback(self._came).addErrback(self._failed)
        return chain

    # the services

    def _failed(self, failure: Failure) -> None:
        assert isinstance(failure.value, Exception)
        self._give_up(failure.value)

    def _came(self, outcome: Outcome) -> None:
        report = outcome.report
        threat = self._threat(report, self._inspector.act) if report.threats else None
        if isinstance(outcome, Unchanged):
            self.tell(threat)
            return
        name = self._inspector.name
        head = read(outcome.head, name)
        refusal = self._refusal(outcome, head)
        if not refusal and (threat is None or self._is_repaired(report)):
            self._take(outcome, head)
        elif 0 < head.status < 200:
            raise rubbish(f"{head.status} as the last word on a part", name)
        else:
            verdict = threat or self._verdict(report, self._inspector.act, POLICY, "refused", refusal)
            self._refuse(outcome.body, head, verdict)

    def _refusal(self, outcome: Modified | Answered, head: HttpHead) -> str:
        """Why what came is no other form of what was shown; empty if it is one."""
        name = self._inspector.name
        if isinstance(outcome, Answered):
            return f"{name} answered {head.status} itself"
        shown = self._shown()
        if head.status != shown.status:
            return f"{name} made {head.status} of {shown.status}"
        if not head.status and not head.asks_as(shown):
            return f"{name} wants something else to be asked"
        return ""

    def _shown(self) -> HttpHead:
        """The head of the part itself, as the services were shown it."""
        said = self._said
        return read(said.request if said.response is None else said.response, "what was shown")

    def _is_repaired(self, report: Report) -> bool:
        """Whether what is left of it may pass in the place of the original."""
        repaired = all(threat.resolution == "repaired" for threat in report.threats)
        return repaired and self._inspector.act is Act.BLOCK

    # refused

    def _refuse(self, body: AnswerBody | None, head: HttpHead, verdict: Verdict) -> None:
        """Tell it, for a client of HTTP with the service's page, for which it is not worth waiting long."""

        def tell(page: bytes | None) -> None:
            answer = None
            if page is not None:
                answer = Answer(head.status, head.fields, b"" if head.status in BODILESS else page)
            self.tell(replace(verdict, answer=answer))
            self._let_go()

        if self._part.carrier != "http" or not head.status or verdict.act is Act.REPORT:
            tell(None)
            return
        self._timer = self._inspector.handler.later(PAGE_WAIT, lambda: tell(None))
        self._page = Page(body, tell)
        self._page.start()

    # replaced

    def _take(self, outcome: Modified | Answered, head: HttpHead) -> None:
        """Take in what takes its place, and then say so."""
        inspector = self._inspector
        keeps = inspector.act is not Act.REPORT
        content = Content(
            outcome.body, head.length, inspector.room, inspector.error, inspector.options.largest, keep=keeps
        )
        self._content = content
        content.came, content.failed = lambda: self._taken(content, outcome.report, head), self._give_up
        content.start()

    def _taken(self, content: Content, report: Report, head: HttpHead) -> None:
        inspector, said = self._inspector, self._said
        if content.length is None and content.marks.begins(self._marks):
            self._give_up(inspector.error("its answer is only the beginning of what was shown", "lost"))
            return
        fields = head.fields if self._part.request_head and head.fields != self._shown().fields else None
        same = content.marks == self._marks if self._ended or not said.body else False
        if (same and fields is None and not report.threats) or inspector.act is Act.REPORT:
            self.tell(None)
            self._let_go()
            return
        if report.threats:
            verdict = self._threat(report, Act.REPLACE)
        else:
            verdict = self._verdict(
                report, Act.REPLACE, POLICY, "replaced", f"{inspector.name} made something else of it"
            )
        self._content = None  # whoever is told has it from now on
        self.tell(replace(verdict, content=content, fields=fields))

    # the end

    def _give_up(self, error: Exception) -> None:
        if not self.over:
            self.fail(error)
            self._let_go()

    def _let_go(self, fault: str = "dropped") -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
        if self._page is not None:
            self._page.stop()
        if self._content is not None:
            self._content.stopProducing()
        if self._chain is not None:
            self._chain.abort(ValueError("nobody waits for the outcome"), fault)

    def _threat(self, report: Report, act: Act) -> Verdict:
        """What it says of the threats that were found."""
        evidence = tuple(
            Evidence(_line(threat.name), threat.resolution, _line(threat.item) or self._part.path)
            for threat in report.threats[:MOST_EVIDENCE]
        )
        name = evidence[0].what
        verdict = self._verdict(report, act, MALWARE, name, f"{self._inspector.name} found {name}")
        return replace(verdict, evidence=evidence)

    def _verdict(self, report: Report, act: Act, kind: str, name: str, reason: str) -> Verdict:
        version = (report.tag or b"").decode("latin-1")
        return Verdict(act, kind, name, reason, engine=self._inspector.name, version=version)

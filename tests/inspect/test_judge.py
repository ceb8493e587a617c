"""Parts that are there as a whole are judged at once, by those that can."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest

from sslintercept.errors import EngineError
from sslintercept.inspect.body import InspectStage
from sslintercept.inspect.inspector import Look
from sslintercept.inspect.part import Part
from sslintercept.inspect.processor import Limits
from sslintercept.inspect.shipped.dlp import DlpInspector, DlpOptions
from sslintercept.inspect.verdict import FAILURE, Act, Verdict
from sslintercept.testing.gateway import OK, MemoryGateway, silent
from sslintercept.testing.loop import Loop
from sslintercept.transform.stage import Transform
from tests.http.test_session import GET, POST, asked
from tests.inspect.material import form
from tests.inspect.stubs import BAD, Word
from tests.inspect.support import World, a_part, entry

CARD = "4111 1111 1111 1111"


class Judge(Word):
    """Finds the same at once, or raises."""

    def __init__(
        self,
        verdict: Verdict = BAD,
        error: Exception | None = None,
        *,
        members: bool = False,
        keeps: bool = False,
        changes: bool = False,
    ) -> None:
        super().__init__(b"EVIL", verdict, members=members, keeps=keeps, changes=changes)
        self.verdict, self.error = verdict, error
        self.judged: list[bytes] = []

    def judge(self, part: Part, content: bytes) -> Verdict | None:
        assert part.sniffed == "text/plain"
        self.judged.append(content)
        if self.error is not None:
            raise self.error
        return self.verdict if b"EVIL" in content else None


def test_what_is_fine_passes_and_nobody_looks() -> None:
    one, other = Judge(), Judge()
    world = World(entry(one), entry(other, "two"))
    decision = world.processor.judge(a_part(), world.processor.entries, b"fine")
    assert decision is not None
    assert (decision.act, decision.found) == (Act.PASS, ())
    assert (one.judged, other.judged, one.looks) == ([b"fine"], [b"fine"], [])


def test_the_first_that_blocks_ends_it_and_reports_stand_beside_it() -> None:
    report = Verdict(Act.REPORT, "site", "odd", "")
    last = Judge()
    world = World(entry(Judge(report)), entry(Judge(), "two"), entry(last, "three"))
    decision = world.processor.judge(a_part(), world.processor.entries, b"EVIL")
    assert decision is not None
    assert [found.verdict for found in decision.found] == [report, BAD]
    assert decision.worst is decision.found[1]
    assert last.judged == []
    assert (decision.size, decision.sha256, decision.content) == (4, "", None)


def test_what_goes_into_quarantine_is_kept_with_its_digest() -> None:
    verdict = Verdict(Act.QUARANTINE, "malware", "Bad", "")
    world = World(entry(Judge(verdict, keeps=True)))
    decision = world.processor.judge(a_part(), world.processor.entries, b"EVIL")
    assert decision is not None
    assert (decision.sha256, decision.content) == (hashlib.sha256(b"EVIL").hexdigest(), (b"EVIL",))


@pytest.mark.parametrize(
    "other",
    [
        entry(Word(), "looks"),
        entry(Judge(changes=True), "changes"),
        entry(Judge(), "small", largest=3),
    ],
    ids=lambda each: each.name,
)
def test_somebody_has_to_look(other: object) -> None:
    first = Judge()
    world = World(entry(first), other)  # type: ignore[arg-type]  # as above
    assert world.processor.judge(a_part(), world.processor.entries, b"EVIL") is None
    assert first.judged == []


def test_what_can_be_taken_apart_is_looked_at() -> None:
    world = World(entry(Judge(members=True)))
    part = a_part(media_type="text/html")
    assert world.processor.judge(a_part(), world.processor.entries, b"fine") is not None
    assert world.processor.judge(part, world.processor.entries, b"fine") is not None
    zipped = a_part(media_type="application/zip")
    assert world.processor.judge(zipped, world.processor.entries, b"fine") is None


@pytest.mark.parametrize("closed", [False, True])
def test_a_failure_is_the_sections(closed: bool, loop: Loop) -> None:
    error = EngineError("it is gone", where="engine", remedy="start it", fault="unreachable")
    world = World(entry(Judge(error=error), closed=closed))
    decision = world.processor.judge(a_part(), world.processor.entries, b"fine")
    assert decision is not None
    assert decision.worst is not None
    verdict = decision.worst.verdict
    assert (verdict.act, verdict.kind) == (Act.BLOCK if closed else Act.REPORT, FAILURE)
    assert (verdict.name, verdict.reason) == ("unreachable", "it is gone")


def test_a_defect_is_logged_and_closed(loop: Loop) -> None:
    world = World(entry(Judge(error=ZeroDivisionError())))
    decision = world.processor.judge(a_part(), world.processor.entries, b"fine")
    assert decision is not None
    assert not decision.passes
    assert decision.found[0].verdict.name == "broken"
    (failure,) = loop.failures
    assert failure.check(ZeroDivisionError)
    loop.failures.clear()


@pytest.mark.parametrize("act", [Act.REDACT, Act.REPLACE])
def test_one_that_would_change_it_and_never_said_so_blocks(act: Act) -> None:
    world = World(entry(Judge(Verdict(act, "leak", "Bad", ""))))
    decision = world.processor.judge(a_part(), world.processor.entries, b"EVIL")
    assert decision is not None
    assert not decision.passes
    assert decision.found[0].verdict.kind == FAILURE


def test_a_small_upload_is_judged_and_one_in_pieces_looked_at(loop: Loop) -> None:
    gateway = MemoryGateway(loop, "[inspect:one]\nuse = tests.inspect.test_judge:judging\n")
    gateway.origin("origin.test:80", silent)
    assert gateway.inspection is not None
    inspector = gateway.inspection.entries[0].inspector
    assert isinstance(inspector, Judge)
    client = gateway.client()
    head = POST + b"Content-Type: text/plain\r\nContent-Length: 4\r\n\r\n"
    client.send(head + b"fine")
    gateway.pump()
    origin = gateway.connector.origins.popitem()[1].last
    assert origin.take().endswith(b"\r\n\r\nfine")
    assert (inspector.judged, inspector.looks) == ([b"fine"], [])
    origin.send(b"HTTP/1.1 204 No Content\r\n\r\n")
    gateway.pump()
    assert b" 204 " in client.take()
    client.send(head + b"fi")
    gateway.pump()
    client.send(b"ne")
    gateway.pump()
    assert origin.take().endswith(b"\r\n\r\nfine")
    assert (len(inspector.judged), len(inspector.looks)) == (1, 1)


@pytest.mark.parametrize("padding", [10, 600])
def test_a_charset_counts_however_far_behind_it_is_said(padding: int, loop: Loop) -> None:
    gateway = MemoryGateway(loop, "[inspect:leaks]\nuse = dlp\ndetectors = card\n")
    gateway.origin("origin.test:80", OK)
    content = CARD.encode("utf-16-be")
    content = b"+%b-" % base64.b64encode(content).rstrip(b"=")
    fields = b"Content-Type: text/plain; x=%b; charset=utf-7\r\nContent-Length: %d" % (b"a" * padding, len(content))
    assert [each.status for each in asked(gateway, POST + fields + b"\r\n\r\n" + content)] == [403]


@pytest.mark.parametrize(
    "length", ["Content-Length: 4\r\n\r\nfine", "Transfer-Encoding: chunked\r\n\r\n4\r\nfine\r\n0\r\n\r\n"]
)
def test_what_is_known_of_a_response_is_what_came_whatever_transforms_change(length: str, loop: Loop) -> None:
    hide = "[transform:hide]\nuse = headers\nmatch = direction:response\nremove = Content-Disposition\nstatus = 203\n"
    gateway = MemoryGateway(loop, f"[inspect:one]\nuse = tests.inspect.test_judge:looking\n{hide}")
    gateway.origin(
        "origin.test:80", f'HTTP/1.1 200 OK\r\nContent-Disposition: x; filename="m.eml"\r\n{length}'.encode()
    )
    assert gateway.inspection is not None
    inspector = gateway.inspection.entries[0].inspector
    assert isinstance(inspector, Named)
    assert [each.status for each in asked(gateway, GET)] == [203]
    assert inspector.seen == [("m.eml", 200)]


def test_an_empty_response_is_looked_at_and_one_without_a_body_is_not(loop: Loop) -> None:
    gateway = MemoryGateway(loop, "[inspect:one]\nuse = tests.inspect.test_judge:looking\n")
    for status, count in ((204, 0), (304, 0), (200, 1)):
        gateway.origin(f"o{status}.test:80", f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n".encode())
        assert gateway.inspection is not None
        inspector = gateway.inspection.entries[0].inspector
        assert isinstance(inspector, Named)
        assert [each.status for each in asked(gateway, GET.replace(b"origin.test", b"o%d.test" % status))] == [status]
        assert len(inspector.seen) == count


class Named(Word):
    """Remembers what is known when it is asked for a look."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, int | None]] = []

    def look(self, part: Part) -> Look | None:
        self.seen.append((part.name, part.status))
        return super().look(part)


def looking(options: object, engines: object) -> Named:
    """For ini files."""
    return Named()


def judging(options: object, engines: object) -> Judge:
    """For ini files."""
    return Judge()


CONTENTS: dict[str, tuple[bytes, dict[str, object]]] = {
    "nothing": (b"nothing of interest", {}),
    "text": (f"pay with {CARD} please".encode(), {}),
    "twice": (f"{CARD} and 5555 5555 5555 4444 and {CARD}".encode(), {}),
    "form": (form({"pay": CARD}), {"media_type": "application/x-www-form-urlencoded"}),
    "json": (json.dumps({"card": "ÄÖ " + CARD}).encode(), {"media_type": "application/json"}),
    "utf-16": (f"pay with {CARD} please".encode("utf-16"), {}),
    "latin-1": (f"größer als {CARD}".encode("latin-1"), {"charset": "iso-8859-1"}),
    "full width": (CARD.translate({0x30 + digit: 0xFF10 + digit for digit in range(10)}).encode(), {}),
    "binary": (b"\0\1\2" + CARD.encode(), {"media_type": "application/octet-stream"}),
}


@pytest.mark.parametrize("action", ["block", "tag", "report", "quarantine"])
@pytest.mark.parametrize("what", CONTENTS)
def test_dlp_judges_as_it_looks(what: str, action: str) -> None:
    content, more = CONTENTS[what]
    inspector = DlpInspector(DlpOptions(detectors=("payment", "credential"), action=action), None)
    world = World(entry(inspector, "leaks"))
    judged = world.processor.judge(a_part(**more), world.processor.entries, content)
    looked = world.whole(content, a_part(**more))
    assert judged is not None
    assert looked is not None
    assert judged.act == looked.act
    assert [each.verdict for each in judged.found] == [each.verdict for each in looked.found]
    assert bool(judged.found) is (what not in ("nothing", "binary"))


def test_a_large_body_is_not_judged(loop: Loop) -> None:
    inspector = Judge()
    world = World(entry(inspector), limits=Limits(hold=3))
    stage: Transform = InspectStage(world.processor, a_part(), world.processor.entries, None, None, changes=False)  # type: ignore[arg-type]  # no head is looked at
    assert not stage.whole(b"fine")
    assert inspector.judged == []

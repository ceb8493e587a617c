"""Parts shown to services of ICAP that follow a script, well or badly behaved."""

from __future__ import annotations

from typing import Any

import pytest

from sslintercept.errors import EngineError
from sslintercept.icap.service import Service
from sslintercept.icap.wire import IEOF, LAST
from sslintercept.inspect.shipped.icap import IcapInspector, IcapOptions
from sslintercept.inspect.verdict import MALWARE, Act, Verdict
from sslintercept.testing.loop import Loop
from sslintercept.testing.peer import Peer
from sslintercept.transform.message import Answer, Direction
from tests.icap.support import CONTINUE, GET, NEW, OK, Handler, Server, at_end, reply, told

from .support import Handler as Given
from .support import Shown, part

OUT, IN = Direction.REQUEST, Direction.RESPONSE
POST = b"POST http://origin.test/form HTTP/1.1\r\nHost: origin.test\r\nX-Own: 1\r\n\r\n"
PAGE = b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/html\r\nConnection: close\r\nVia: 1.0 icap\r\n\r\n"
SAME = reply(204, None)
FOUND = "X-Infection-Found: Type=0; Resolution=2; Threat=Worm.A;\r\n"
REPAIRED = "X-Infection-Found: Type=0; Resolution=1; Threat=Macro.B;\r\n"


def made(
    loop: Loop, *handles: Handler, options: bytes | None = None, **settings: Any
) -> tuple[IcapInspector, list[Server]]:
    """An inspector whose services follow scripts."""
    uris = tuple(f"icap://192.0.2.{at}/scan" for at, _ in enumerate(handles, 1))
    inspector = IcapInspector(IcapOptions(services=uris, **settings), Given(loop))
    servers = [Server(loop, handle, options) for handle in handles]
    for service, server in zip(inspector.services, servers, strict=True):
        service.pool._open_line = server.open
    return inspector, servers


def shown(loop: Loop, inspector: IcapInspector, *pieces: bytes, end: bool = True, **more: Any) -> Shown:
    """A response, unless something else is said."""
    if "carrier" not in more:
        more = {"request_head": GET, "response_head": OK, **more}
    one = Shown(inspector, part(**more))
    for piece in pieces:
        one.write(piece)
        loop.pump()
    if end:
        one.finish()
        loop.pump()
    return one


def sent(loop: Loop, inspector: IcapInspector, *pieces: bytes, **more: Any) -> Shown:
    """A request."""
    return shown(loop, inspector, *pieces, direction=OUT, request_head=POST, response_head=b"", **more)


def verdict(one: Shown) -> Verdict:
    assert one.error is None
    assert one.verdict is not None
    return one.verdict


class Reading:
    """Reads what takes a part's place."""

    def __init__(self, verdict: Verdict) -> None:
        self.got = bytearray()
        self.events: list[str] = []
        content = verdict.content
        assert content is not None
        assert not isinstance(content, bytes)
        content.read_to(self._write, lambda: self.events.append("end"), self._failed)

    def _write(self, data: Any) -> None:
        self.got += data

    def _failed(self, error: Exception) -> None:
        assert isinstance(error, EngineError)
        self.events.append(error.fault)


def whole(verdict: Verdict) -> bytes:
    reading = Reading(verdict)
    assert reading.events == ["end"]
    return bytes(reading.got)


# what passes


def test_what_a_service_leaves_as_it_is_passes(loop: Loop) -> None:
    inspector, (server,) = made(loop, at_end(SAME))
    one = shown(loop, inspector, b"abcdefgh")
    assert (one.over, one.verdict, one.error) == (True, None, None)
    assert b"RESPMOD icap://192.0.2.1/scan ICAP/1.0\r\n" in server.said
    assert GET + OK in server.said
    assert b"Preview: 4\r\n" in server.said
    assert b"X-Client-IP: 192.0.2.9\r\n" in server.said
    assert server.said.endswith(b"4\r\nabcd\r\n" + LAST)


def test_a_part_that_was_let_pass_behind_the_preview_needs_no_copy_back(loop: Loop) -> None:
    inspector, (server,) = made(loop, at_end(CONTINUE, SAME))
    one = shown(loop, inspector, b"abcd" * 10, b"efgh" * 10)
    assert (one.over, one.verdict, one.error) == (True, None, None)
    assert b"Allow: 204\r\n" in server.said


def test_a_request_without_a_body_is_shown_without_one(loop: Loop) -> None:
    inspector, (server,) = made(loop, at_end(SAME))
    one = sent(loop, inspector, length=0)
    assert (one.over, one.verdict, one.error) == (True, None, None)
    assert b"REQMOD " in server.said
    assert b"null-body" in server.said


def test_who_it_is_is_said_as_the_settings_want_it(loop: Loop) -> None:
    for user, said in (
        ("X-Authenticated-User", b"X-Authenticated-User: TG9jYWw6Ly9hbm5h\r\n"),
        ("X-Client-Username", b"X-Client-Username: anna\r\n"),
        ("none", b""),
    ):
        inspector, (server,) = made(loop, at_end(SAME), user=user)
        shown(loop, inspector, b"a", user="anna")
        assert said in server.said
        assert (b"User" in server.said) is bool(said)


def test_previews_can_be_shorter_or_none(loop: Loop) -> None:
    for preview, said in ((None, b""), (2, b"Preview: 2\r\n"), (0, b"Preview: 0\r\n")):
        inspector, (server,) = made(loop, at_end(SAME), preview=preview)
        assert shown(loop, inspector, b"abcdefgh").error is None
        assert said in server.said
        assert (b"Preview" in server.said) is (preview is not None)


def test_other_carriers_are_shown_as_http(loop: Loop) -> None:
    inspector, (server,) = made(loop, at_end(SAME))
    assert shown(loop, inspector, b"ab", carrier="ftp", host="ftp.test", name="a.zip").error is None
    assert b"GET ftp://ftp.test/a.zip HTTP/1.1\r\n" in server.said
    assert b'filename="a.zip"' in server.said
    assert server.said.endswith(b"2\r\nab\r\n" + IEOF)


def test_a_part_that_turns_out_empty_is_shown_without_a_body(loop: Loop) -> None:
    inspector, (server,) = made(loop, at_end(SAME))
    assert shown(loop, inspector).error is None
    assert b"null-body" in server.said


def test_a_part_that_was_said_to_be_empty_and_is_not_has_no_verdict(loop: Loop) -> None:
    inspector, _ = made(loop, at_end(SAME))
    assert sent(loop, inspector, b"abcd", length=0).fault == "dropped"


# what is refused


def test_a_threat_blocks_and_the_page_of_the_service_is_told(loop: Loop) -> None:
    inspector, _ = made(loop, at_end(reply(head=PAGE, body=b"<b>no</b>", more=FOUND)))
    found = verdict(shown(loop, inspector, b"abcdefgh", name="a.exe"))
    assert (found.act, found.kind, found.name, found.reason) == (Act.BLOCK, MALWARE, "Worm.A", "icap scan found Worm.A")
    assert (found.engine, found.version) == ("icap scan", "one")
    assert found.answer == Answer(403, ((b"Content-Type", b"text/html"),), b"<b>no</b>")
    assert [(one.what, one.text, one.where) for one in found.evidence] == [("Worm.A", "blocked", "a.exe")]


def test_a_verdict_is_the_same_wherever_an_answer_is_cut(loop: Loop) -> None:
    answer = reply(head=PAGE, body=b"<b>no</b>", more=FOUND)
    for cut in range(1, len(answer)):
        inspector, (server,) = made(loop, lambda peer: None)
        one = shown(loop, inspector, b"abcdefgh")
        for piece in (answer[:cut], answer[cut:]):
            assert not one.over
            server.peers[-1].send(piece)
            loop.pump()
        found = verdict(one)
        assert found.answer is not None
        assert (found.name, found.answer.status, found.answer.body) == ("Worm.A", 403, b"<b>no</b>")
        inspector.close()


def test_a_threat_in_what_other_carriers_bring_needs_no_page(loop: Loop) -> None:
    inspector, _ = made(loop, at_end(reply(head=PAGE, body=b"x" * 1000, more=FOUND)))
    found = verdict(shown(loop, inspector, b"abcdefgh", carrier="smtp", direction=OUT, kind="message"))
    assert (found.act, found.answer) == (Act.BLOCK, None)


@pytest.mark.parametrize(("action", "act"), [("quarantine", Act.QUARANTINE), ("report", Act.REPORT)])
def test_the_action_is_the_settings(loop: Loop, action: str, act: Act) -> None:
    inspector, _ = made(loop, at_end(reply(head=PAGE, body=b"no", more=FOUND)), action=action)
    found = verdict(shown(loop, inspector, b"abcdefgh"))
    assert found.act is act
    assert (found.answer is None) is (act is Act.REPORT)


def test_a_threat_with_204_is_a_threat(loop: Loop) -> None:
    inspector, _ = made(loop, at_end(reply(204, None, more=FOUND)))
    found = verdict(shown(loop, inspector, b"abcdefgh"))
    assert (found.act, found.name, found.answer) == (Act.BLOCK, "Worm.A", None)


def test_a_threat_in_a_request_is_answered_by_the_service(loop: Loop) -> None:
    inspector, _ = made(loop, at_end(reply(head=PAGE, body=b"no", more=FOUND)))
    found = verdict(sent(loop, inspector, b"abcdefgh"))
    assert found.answer is not None
    assert (found.answer.status, found.answer.body) == (403, b"no")


def test_a_threat_in_a_request_that_goes_on_without_it_is_blocked_without_a_page(loop: Loop) -> None:
    inspector, _ = made(loop, at_end(reply(head=POST, body=b"", kind="req", more=FOUND)))
    found = verdict(sent(loop, inspector, b"abcdefgh"))
    assert (found.act, found.kind, found.answer) == (Act.BLOCK, MALWARE, None)


def test_an_answer_in_the_origins_place_is_a_refusal_by_policy(loop: Loop) -> None:
    moved = b"HTTP/1.1 302 Found\r\nLocation: http://login.test/\r\n\r\n"
    inspector, _ = made(loop, at_end(reply(head=moved, body=None)))
    found = verdict(sent(loop, inspector, length=0))
    assert (found.act, found.kind, found.name) == (Act.BLOCK, "policy", "refused")
    assert found.reason == "icap scan answered 302 itself"
    assert found.answer == Answer(302, ((b"Location", b"http://login.test/"),), b"")


def test_another_status_is_a_refusal_by_policy(loop: Loop) -> None:
    inspector, _ = made(loop, at_end(reply(head=PAGE, body=b"no")))
    found = verdict(shown(loop, inspector, b"abcdefgh"))
    assert (found.kind, found.reason) == ("policy", "icap scan made 403 of 200")
    assert found.answer is not None


@pytest.mark.parametrize("line", [b"GET /form", b"POST http://warning.test/form", b"POST /other"])
def test_another_request_is_refused_and_not_followed(loop: Loop, line: bytes) -> None:
    inspector, _ = made(loop, at_end(reply(head=line + b" HTTP/1.1\r\n\r\n", body=None, kind="req")))
    found = verdict(sent(loop, inspector, b"abcdefgh"))
    assert (found.act, found.kind, found.reason) == (Act.BLOCK, "policy", "icap scan wants something else to be asked")


def test_a_page_that_hangs_holds_a_verdict_up_for_seconds_only(loop: Loop) -> None:
    inspector, (server,) = made(loop, at_end(reply(head=PAGE, body=b"half", more=FOUND)[: -len(LAST)]))
    one = shown(loop, inspector, b"abcdefgh")
    assert not one.over
    loop.pass_time(6)
    found = verdict(one)
    assert (found.name, found.answer) == ("Worm.A", None)
    loop.pump()
    assert server.peers[-1].ended
    assert inspector.services[0].pool.places.taken == 0


@pytest.mark.parametrize("body", [b"x" * 300_000, None])
def test_a_page_that_is_too_long_or_breaks_off_is_not_told(loop: Loop, body: bytes | None) -> None:
    def broken(peer: Peer) -> None:
        peer.send(reply(head=PAGE, body=b"half", more=FOUND)[: -len(LAST)])
        peer.finish()

    script = broken if body is None else at_end(reply(head=PAGE, body=body, more=FOUND))
    inspector, _ = made(loop, script)
    found = verdict(shown(loop, inspector, b"abcdefgh"))
    assert (found.name, found.answer) == ("Worm.A", None)


def test_malware_that_is_found_early_is_no_matter_of_length(loop: Loop) -> None:
    def script(peer: Peer) -> None:
        if peer.got.endswith(LAST):
            peer.take()
            peer.send(reply(head=PAGE, body=b"half", more=FOUND)[: -len(LAST)])

    inspector, (server,) = made(loop, script, largest=100)
    one = shown(loop, inspector, b"abcdefgh", end=False)
    one.write(bytes(200))
    loop.pump()
    server.peers[-1].send(LAST)
    loop.pump()
    found = verdict(one)
    assert found.answer is not None
    assert found.answer.body == b"half"


# what is changed


def test_other_content_and_fields_take_a_parts_place(loop: Loop) -> None:
    inspector, _ = made(loop, at_end(CONTINUE, reply(body=b"new content")))
    found = verdict(shown(loop, inspector, b"abcdefgh"))
    assert (found.act, found.kind, found.name) == (Act.REPLACE, "policy", "replaced")
    assert found.fields == ((b"X-Seen", b"yes"),)
    assert whole(found) == b"new content"
    assert inspector.room.taken == 0


def test_new_content_is_the_same_in_single_bytes(loop: Loop) -> None:
    inspector, (server,) = made(loop, lambda peer: None)
    one = shown(loop, inspector, b"abcdefgh")
    for byte in reply(body=b"new content"):
        assert not one.over
        server.peers[-1].send(bytes([byte]))
        loop.pump()
    assert whole(verdict(one)) == b"new content"


def test_fields_that_are_the_same_are_not_told(loop: Loop) -> None:
    inspector, _ = made(loop, at_end(CONTINUE, reply(head=OK, body=b"new content")))
    assert verdict(shown(loop, inspector, b"abcdefgh")).fields is None
    inspector, _ = made(loop, at_end(CONTINUE, reply(body=b"new content")))
    found = verdict(shown(loop, inspector, b"abcdefgh", carrier="smtp", kind="message"))
    assert (found.fields, whole(found)) == (None, b"new content")


def test_a_request_is_changed_as_well(loop: Loop) -> None:
    head = POST.replace(b"X-Own: 1", b"X-Own: 2")
    inspector, _ = made(loop, at_end(CONTINUE, reply(head=head, body=b"new", kind="req")))
    found = verdict(sent(loop, inspector, b"abcdefgh"))
    assert (found.fields, whole(found)) == (((b"X-Own", b"2"),), b"new")


def test_a_request_without_a_body_may_get_fields(loop: Loop) -> None:
    head = POST.replace(b"X-Own: 1", b"X-Own: 2")
    inspector, _ = made(loop, at_end(reply(head=head, body=None, kind="req")))
    found = verdict(sent(loop, inspector, length=0))
    assert (found.fields, whole(found)) == (((b"X-Own", b"2"),), b"")


def test_what_was_repaired_takes_a_parts_place_unless_it_is_wanted_for_quarantine(loop: Loop) -> None:
    inspector, _ = made(loop, at_end(CONTINUE, reply(head=OK, body=b"repaired", more=REPAIRED)))
    found = verdict(shown(loop, inspector, b"abcdefgh"))
    assert (found.act, found.kind, found.name, whole(found)) == (Act.REPLACE, MALWARE, "Macro.B", b"repaired")
    inspector, _ = made(loop, at_end(CONTINUE, reply(head=OK, body=b"repaired", more=REPAIRED)), action="quarantine")
    assert verdict(shown(loop, inspector, b"abcdefgh")).act is Act.QUARANTINE


def streaming(peer: Peer) -> None:
    """Answers at once, and says back what it is told while it is told it."""
    data = peer.take()
    if b"RESPMOD" in data:
        data = data.partition(b"\r\n\r\n")[2].partition(OK)[2]
        peer.send(reply(head=NEW, body=b"")[: -len(LAST)])
    if data:
        peer.send(data)


def test_an_answer_while_the_part_comes_is_kept_until_it_has_come(loop: Loop) -> None:
    inspector, (server,) = made(loop, streaming, options=told(preview=None))
    server.buffer = 4096
    one = shown(loop, inspector, b"x", end=False)
    for _ in range(100):
        assert not one.stopped
        one.write(b"y" * 16384)
        loop.pump()
    assert inspector.room.taken > 1_600_000
    one.finish()
    loop.pump()
    found = verdict(one)
    assert whole(found) == b"x" + b"y" * 1_638_400
    assert inspector.room.taken == 0


def test_an_answer_that_is_whole_before_the_part_has_ended_is_told_at_once(loop: Loop) -> None:
    inspector, _ = made(loop, at_end(reply(body=b"new content")))
    one = shown(loop, inspector, b"abcdefgh", end=False)
    assert whole(verdict(one)) == b"new content"


def test_what_is_kept_of_all_parts_together_is_bounded(loop: Loop) -> None:
    inspector, _ = made(loop, streaming, options=told(preview=None), memory=100_000)
    looks = [shown(loop, inspector, b"x" * 50_000, end=False) for _ in range(3)]
    assert [one.over for one in looks] == [False, False, True]
    assert looks[2].fault == "busy"
    for one in looks[:2]:
        one.look.abort()
    assert inspector.room.taken == 0


def test_a_part_that_is_longer_than_we_show_has_no_verdict(loop: Loop) -> None:
    inspector, (server,) = made(loop, at_end(SAME), largest=10)
    with pytest.raises(EngineError) as raised:
        inspector.look(part(length=11))
    assert raised.value.fault == "too_big"
    assert shown(loop, inspector, b"abcdefghijk", end=False).fault == "too_big"
    loop.pump()
    assert server.said == b""


def test_content_that_ends_before_its_length_breaks_off(loop: Loop) -> None:
    head = OK.replace(b"\r\n\r\n", b"\r\nContent-Length: 100\r\n\r\n")
    inspector, _ = made(loop, at_end(CONTINUE, reply(head=head, body=b"only so much")))
    for end in (True, False):
        assert shown(loop, inspector, b"abcdefgh", end=end).fault == "lost"


def test_content_that_is_only_the_beginning_of_the_part_is_no_verdict(loop: Loop) -> None:
    body = bytes(range(256)) * 64
    inspector, _ = made(loop, at_end(CONTINUE, reply(body=body[:9000])))
    assert shown(loop, inspector, body).fault == "lost"
    new = NEW.replace(b"\r\n\r\n", b"\r\nContent-Length: 9000\r\n\r\n")
    inspector, _ = made(loop, at_end(CONTINUE, reply(head=new, body=body[:9000])))
    assert whole(verdict(shown(loop, inspector, body))) == body[:9000]


def test_what_comes_back_as_it_was_passes(loop: Loop) -> None:
    inspector, _ = made(loop, at_end(CONTINUE, reply(head=OK, body=b"abcdefgh")))
    one = shown(loop, inspector, b"abcdefgh")
    assert (one.over, one.verdict, one.error) == (True, None, None)
    assert inspector.room.taken == 0


def test_who_only_reports_lets_changed_content_pass_as_it_was(loop: Loop) -> None:
    inspector, _ = made(loop, at_end(CONTINUE, reply(body=b"new content")), action="report")
    one = shown(loop, inspector, b"abcdefgh")
    assert (one.over, one.verdict, one.error) == (True, None, None)
    head = OK.replace(b"\r\n\r\n", b"\r\nContent-Length: 100\r\n\r\n")
    inspector, _ = made(loop, at_end(CONTINUE, reply(head=head, body=b"only so much")), action="report")
    assert shown(loop, inspector, b"abcdefgh").fault == "lost"


# several services


def test_each_service_sees_what_the_one_before_has_made(loop: Loop) -> None:
    inspector, servers = made(
        loop, at_end(CONTINUE, reply(body=b"first")), at_end(CONTINUE, reply(head=PAGE, body=b"no", more=FOUND))
    )
    found = verdict(shown(loop, inspector, b"abcdefgh"))
    assert (found.name, found.engine, found.version) == ("Worm.A", "icap scan scan", "one+one")
    assert b"4\r\nfirs\r\n" in servers[1].said


# what goes wrong


@pytest.mark.parametrize(
    ("script", "fault"),
    [
        (lambda peer: None, "hangs"),
        (lambda peer: peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "rubbish"),
        (at_end(reply(500, None)), "refused"),
        (at_end(reply(503, None)), "busy"),
        (at_end(reply(head=b"no head\r\n\r\n")), "rubbish"),
        (at_end(reply(head=b"HTTP/1.1 200 OK\r\nnot a field\r\n\r\n")), "rubbish"),
        (at_end(reply(head=b"HTTP/1.1 103 Early\r\n\r\n")), "rubbish"),
        (lambda peer: peer.finish(), "lost"),
        (lambda peer: peer.reset(), "lost"),
    ],
)
def test_a_service_that_misbehaves_gives_no_verdict(loop: Loop, script: Handler, fault: str) -> None:
    inspector, _ = made(loop, script)
    one = shown(loop, inspector, b"abcdefgh")
    loop.pass_time(70)
    assert one.fault == fault
    assert inspector.services[0].pool.places.taken == 0


def test_after_many_failures_it_is_not_asked_any_more(loop: Loop) -> None:
    inspector, (server,) = made(loop, at_end(reply(500, None)))
    faults = [shown(loop, inspector, b"abcdefgh").fault for _ in range(6)]
    faults.append(shown(loop, inspector).fault)
    assert faults == ["refused"] * 5 + ["broken"] * 2
    assert server.said.count(b"RESPMOD") == 5


def test_one_that_hangs_is_left_alone_although_nobody_waits_so_long(loop: Loop) -> None:
    inspector, _ = made(loop, lambda peer: None)
    for _ in range(5):
        one = shown(loop, inspector, b"abcdefgh")
        loop.pass_time(6)
        one.look.abort()
    assert shown(loop, inspector, b"abcdefgh").fault == "broken"


def test_who_leaves_early_is_no_fault_of_the_service(loop: Loop) -> None:
    inspector, _ = made(loop, lambda peer: None)
    for _ in range(10):
        shown(loop, inspector, b"abcdefgh").look.abort()
    one = shown(loop, inspector, b"abcdefgh")
    assert not one.over
    one.look.abort()


def test_names_of_threats_are_one_line(loop: Loop) -> None:
    inspector, _ = made(loop, at_end(reply(head=PAGE, body=b"no", more="X-Virus-ID: Worm\r\n  of two lines\r\n")))
    assert verdict(shown(loop, inspector, b"abcdefgh")).name == "Worm of two lines"


def test_another_tag_is_told_with_the_next_verdict(loop: Loop) -> None:
    first = reply(head=PAGE, body=b"no", more=FOUND)
    inspector, (server,) = made(loop, at_end(first, first.replace(b'"one"', b'"two"')))
    versions = []
    for _ in range(2):
        versions.append(verdict(shown(loop, inspector, b"abcdefgh")).version)
    assert versions == ["one", "two"]
    shown(loop, inspector, b"abcdefgh")
    assert server.asked == 2


def test_options_that_come_later_hold_the_part_up_and_not_us(loop: Loop) -> None:
    inspector, (server,) = made(loop, at_end(CONTINUE, SAME))
    server.script = lambda peer: None
    one = shown(loop, inspector, end=False)
    while not one.stopped:
        one.write(b"x" * 16384)
        loop.pump()
    server.peers[0].received = server.script = server.heard
    server.heard(server.peers[0])
    loop.pump()
    assert not one.stopped
    one.finish()
    loop.pump()
    assert (one.over, one.error) == (True, None)


def test_a_name_that_the_service_ignores_passes_at_once(loop: Loop) -> None:
    inspector, (server,) = made(loop, at_end(SAME), options=told(more="Transfer-Ignore: gif\r\n"))
    for _ in range(2):
        one = shown(loop, inspector, b"abcd", end=False, name="a.gif")
        one.write(b"more")
        one.finish()
        assert (one.over, one.verdict, one.error) == (True, None, None)
    assert server.said == b""


@pytest.mark.parametrize("when", ["before", "options", "preview", "page", "content"])
def test_who_waits_no_more_is_told_nothing_and_nothing_is_left(loop: Loop, when: str) -> None:
    script: Handler = {
        "page": at_end(reply(head=PAGE, body=b"half", more=FOUND)[: -len(LAST)]),
        "content": at_end(CONTINUE, reply(body=b"half")[: -len(LAST)]),
    }.get(when, lambda peer: None)
    inspector, (server,) = made(loop, script)
    if when == "options":
        server.script = lambda peer: None
    one = Shown(inspector, part(request_head=GET, response_head=OK))
    if when != "before":
        one.write(b"abcdefgh")
        loop.pump()
    one.look.abort()
    loop.pass_time(70)
    assert not one.over
    assert (inspector.services[0].pool.places.taken, inspector.room.taken) == (0, 0)


def test_closing_ends_what_is_under_way(loop: Loop) -> None:
    inspector, _ = made(loop, lambda peer: None)
    one = shown(loop, inspector, b"abcdefgh")
    inspector.close()
    assert one.fault == "stopped"


@pytest.mark.parametrize(
    ("services", "what"),
    [
        (("http://192.0.2.1/scan",), "no address of a service"),
        (("icap://192.0.2.1:x/scan",), "no address of a service"),
        (("icap://me:secret@192.0.2.1/scan",), "a login"),
        (("icap://192.0.2.1/scan", "icap://192.0.2.1/scan"), "listed twice"),
        (("icap://scanner.test/scan",), "no names are known here"),
        (("icaps://192.0.2.1/scan",), "needs TLS"),
        ((), "empty"),
    ],
)
def test_a_service_that_cannot_be_reached_is_refused_at_once(loop: Loop, services: tuple[str, ...], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        IcapInspector(IcapOptions(services=services), Given(loop))


def test_services_have_lines_and_limits_of_their_own(loop: Loop) -> None:
    inspector, _ = made(loop, at_end(SAME), at_end(SAME), connections=3)
    assert [type(service) for service in inspector.services] == [Service, Service]
    assert [service.pool.places.most for service in inspector.services] == [3, 3]

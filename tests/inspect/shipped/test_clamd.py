"""Parts shown to a clamd that follows a script, well or badly behaved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sslintercept.clamd.wire import END
from sslintercept.errors import EngineError
from sslintercept.inspect.shipped.clamd import ADDRESS, ClamdInspector, ClamdOptions
from sslintercept.inspect.verdict import MALWARE, PHISHING, Act
from sslintercept.testing.loop import Loop
from sslintercept.testing.peer import Peer
from tests.engines import Engine

from .support import Handler, Shown, part

VERSION = b"ClamAV 1.4.6/27600/Thu Feb 29 12:00:00 2024\0"


def says(reply: bytes, version: bytes | None = VERSION) -> Callable[[Peer], object]:
    """Answers when the part has ended, and to VERSION."""

    def script(peer: Peer) -> None:
        if peer.got.startswith(b"zVERSION"):
            if version is not None:
                peer.send(version)
        elif peer.got.endswith(END):
            peer.send(reply)

    return script


def made(loop: Loop, script: Callable[[Peer], object], **options: object) -> tuple[ClamdInspector, Engine]:
    inspector = ClamdInspector(ClamdOptions(**options), Handler(loop))  # type: ignore[arg-type] # of any key
    engine = Engine(loop, script)
    inspector.clamd._open_line = engine.open
    return inspector, engine


def shown(loop: Loop, inspector: ClamdInspector, body: bytes = b"x", **more: object) -> Shown:
    one = Shown(inspector, part(**more), body)  # type: ignore[arg-type] # of any field
    loop.pump()
    return one


def test_a_clean_part_passes_and_nothing_is_said(loop: Loop) -> None:
    inspector, engine = made(loop, says(b"stream: OK\0"))
    one = shown(loop, inspector, b"one")
    assert (one.over, one.verdict, one.error) == (True, None, None)
    assert engine.peers[0].got == b"zINSTREAM\0\0\0\0\3one\0\0\0\0"


def test_what_lies_directly_in_a_form_is_shown_and_what_lies_in_that_is_not(loop: Loop) -> None:
    inspector, _ = made(loop, says(b"stream: OK\0"))
    form = part(media_type="multipart/form-data")
    file = form.member("field", "a.zip", "application/zip", 100)
    assert inspector.look(file) is not None
    assert inspector.look(file.member("member", "a", "", 10)) is None


def test_an_empty_part_passes(loop: Loop) -> None:
    one = shown(loop, made(loop, says(b"stream: OK\0"))[0], b"")
    assert (one.over, one.verdict) == (True, None)


def test_malware_is_blocked_and_named_with_the_engine_and_its_signatures(loop: Loop) -> None:
    inspector, _ = made(loop, says(b"stream: Worm.A FOUND\0"))
    verdict = shown(loop, inspector, name="a.exe").verdict
    assert verdict is not None
    assert (verdict.act, verdict.kind, verdict.name) == (Act.BLOCK, MALWARE, "Worm.A")
    assert verdict.reason == "clamd found Worm.A"
    assert (verdict.engine, verdict.version) == ("clamd 1.4.6", "27600/Thu Feb 29 12:00:00 2024")
    assert [(one.what, one.where) for one in verdict.evidence] == [("Worm.A", "a.exe")]


@pytest.mark.parametrize(("action", "act"), [("quarantine", Act.QUARANTINE), ("report", Act.REPORT)])
def test_the_action_is_the_settings(loop: Loop, action: str, act: Act) -> None:
    verdict = shown(loop, made(loop, says(b"stream: Worm FOUND\0"), action=action)[0]).verdict
    assert verdict is not None
    assert verdict.act is act


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (b"Heuristics.Phishing.Email.SpoofedDomain", PHISHING),
        (b"Html.Phishing.Bank-1", PHISHING),
        (b"Email.Phish.Other", PHISHING),
        (b"Win.Trojan.Phisherman-1", MALWARE),
    ],
)
def test_what_wants_passwords_is_called_phishing(loop: Loop, name: bytes, kind: str) -> None:
    verdict = shown(loop, made(loop, says(b"stream: %b FOUND\0" % name))[0]).verdict
    assert verdict is not None
    assert verdict.kind == kind


def test_what_clamd_has_not_looked_into_has_no_verdict(loop: Loop) -> None:
    inspector, _ = made(loop, says(b"stream: Heuristics.Limits.Exceeded.MaxFileSize FOUND\0"))
    assert shown(loop, inspector).fault == "too_big"


def test_malware_in_the_middle_is_told_before_the_end_and_more_does_no_harm(loop: Loop) -> None:
    def script(peer: Peer) -> None:
        peer.send(VERSION if peer.got.startswith(b"zVERSION") else b"stream: Worm FOUND\0")

    inspector, engine = made(loop, script)
    one = Shown(inspector, part())
    one.write(b"half")
    loop.pump()
    assert one.verdict is not None
    one.look.write(b"the rest")
    one.look.finish()
    assert b"the rest" not in engine.peers[0].got


def test_the_version_is_asked_once_for_many(loop: Loop) -> None:
    inspector, engine = made(loop, says(b"stream: Worm FOUND\0"))
    for _ in range(3):
        assert shown(loop, inspector).verdict is not None
    assert sum(peer.got.startswith(b"zVERSION") for peer in engine.peers) == 1


def test_a_version_that_does_not_come_holds_a_verdict_up_for_a_second(loop: Loop) -> None:
    inspector, _ = made(loop, says(b"stream: Worm FOUND\0", version=None))
    one = shown(loop, inspector)
    assert not one.over
    loop.pass_time(1.1)
    assert one.verdict is not None
    assert (one.verdict.engine, one.verdict.version) == ("clamd", "")


def test_a_version_that_is_none_is_left_out(loop: Loop) -> None:
    inspector, _ = made(loop, says(b"stream: Worm FOUND\0", version=b"rubbish\0"))
    verdict = shown(loop, inspector).verdict
    assert verdict is not None
    assert verdict.engine == "clamd"


def test_verdicts_are_remembered_under_the_version_unless_the_base_has_none(loop: Loop) -> None:
    inspector, _ = made(loop, says(b"stream: OK\0"))
    assert inspector.tag is None
    shown(loop, inspector)
    assert inspector.tag == VERSION[:-1]
    own, _ = made(loop, says(b"stream: OK\0", version=b"ClamAV 1.4.6\0"))
    shown(loop, own)
    assert own.tag is None


def test_a_part_that_is_too_long_is_not_looked_at(loop: Loop) -> None:
    inspector, engine = made(loop, says(b"stream: OK\0"), largest=10)
    with pytest.raises(EngineError, match="longer") as raised:
        inspector.look(part(length=11))
    assert raised.value.fault == "too_big"
    assert engine.peers == []


def test_a_part_that_turns_out_too_long_has_no_verdict(loop: Loop) -> None:
    inspector, _ = made(loop, says(b"stream: OK\0"), largest=10)
    assert shown(loop, inspector, b"0123456789x").fault == "too_big"
    assert shown(loop, inspector, b"0123456789").error is None


def test_a_limit_of_clamd_below_ours_is_too_long_as_well(loop: Loop) -> None:
    inspector, _ = made(loop, lambda peer: peer.send(b"INSTREAM size limit exceeded. ERROR\0"))
    assert shown(loop, inspector).fault == "too_big"


@pytest.mark.parametrize(
    ("script", "fault"),
    [
        (lambda peer: None, "hangs"),
        (lambda peer: peer.send(b"HTTP/1.1 400 Bad Request\r\n"), "rubbish"),
        (says(b"stream: Can't allocate memory ERROR\0"), "refused"),
        (lambda peer: peer.finish(), "lost"),
    ],
)
def test_a_clamd_that_misbehaves_gives_no_verdict(loop: Loop, script: Callable[[Peer], object], fault: str) -> None:
    inspector, _ = made(loop, script)
    one = shown(loop, inspector)
    loop.pass_time(125)
    assert one.fault == fault


def test_a_clamd_that_reads_nothing_stops_whoever_brings_the_part(loop: Loop) -> None:
    inspector, engine = made(loop, says(b"stream: OK\0"))
    engine.buffer = 4096
    one = Shown(inspector, part())
    one.write(b"x")
    engine.peers[0].reading = False
    while not one.stopped:
        one.write(b"x" * 16384)
        loop.pump()
    engine.peers[0].reading = True
    loop.pump()
    assert not one.stopped
    one.finish()
    loop.pump()
    assert (one.over, one.error) == (True, None)


@pytest.mark.parametrize("when", ["before", "meanwhile", "behind", "version"])
def test_who_waits_no_more_is_told_nothing_and_nothing_is_left(loop: Loop, when: str) -> None:
    inspector, _ = made(loop, says(b"stream: Worm FOUND\0", version=None) if when == "version" else lambda peer: None)
    one = Shown(inspector, part())
    if when != "before":
        one.write(b"x")
    if when in ("behind", "version"):
        one.finish()
    loop.pump()
    one.look.abort()
    loop.pass_time(125)
    assert (one.over, one.stopped) == (False, False)
    assert inspector.clamd.places.taken == 0


@pytest.mark.parametrize(("seconds", "left_alone"), [(6, True), (1, False)])
def test_one_that_hangs_is_left_alone_although_nobody_waits_so_long(
    loop: Loop, seconds: float, left_alone: bool
) -> None:
    inspector, _ = made(loop, lambda peer: None)
    for _ in range(5):
        one = shown(loop, inspector)
        loop.pass_time(seconds)
        one.look.abort()
    one = shown(loop, inspector)
    assert one.over is left_alone
    if left_alone:
        assert one.fault == "broken"
    else:
        one.look.abort()


def test_closing_ends_what_is_under_way(loop: Loop) -> None:
    inspector, _ = made(loop, lambda peer: None)
    one = shown(loop, inspector)
    inspector.close()
    assert one.fault == "stopped"


@pytest.mark.parametrize(
    ("address", "what"),
    [
        ("/run/clamd.ctl", "neither unix: with a path nor tcp: with a host"),
        ("unix:", "neither"),
        ("udp:192.0.2.1:3310", "is no way to a clamd"),
        ("tcp:192.0.2.1:0", "not a port"),
        ("tcp:a b:3310", "not a host"),
        ("unix:/" + "x" * 107, "at most 107 bytes"),
        ("tcp:clamd.test:3310", "no names are known here"),
    ],
)
def test_an_address_that_leads_nowhere_is_refused_at_once(loop: Loop, address: str, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        ClamdInspector(ClamdOptions(address=address), Handler(loop))


def test_addresses_are_read_as_they_are_meant() -> None:
    assert ADDRESS("unix:run/clamd.ctl", Path("/etc/proxy")) == "unix:/etc/proxy/run/clamd.ctl"
    assert ADDRESS("tcp:192.0.2.1") == "tcp:192.0.2.1:3310"
    assert ADDRESS("tcp:[2001:db8::1]:3311") == "tcp:[2001:db8::1]:3311"


def test_a_socket_that_is_not_there_is_no_mistake_until_something_is_shown(loop: Loop, tmp_path: Path) -> None:
    inspector = ClamdInspector(ClamdOptions(address=f"unix:{tmp_path}/nothing"), Handler(loop))
    assert shown(loop, inspector).fault == "unreachable"

"""What must not leave, looked for in parts: how they are read, what becomes of what is found, and options."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from urllib.parse import quote_plus

import pytest

from sslintercept.errors import ConfigError
from sslintercept.facts import Side
from sslintercept.inspect.entry import Decision
from sslintercept.inspect.hold import Hold
from sslintercept.inspect.part import Part
from sslintercept.inspect.processor import Limits
from sslintercept.inspect.shipped.dlp import DlpInspector, DlpOptions
from sslintercept.inspect.verdict import FAILURE, LEAK, Act
from sslintercept.leak import exact, fingerprint
from sslintercept.leak.digest import store_secret
from sslintercept.testing.gateway import Answers, MemoryGateway, settings_of
from sslintercept.testing.loop import Loop
from tests.http.test_session import POST, asked
from tests.http.test_websocket import TEXT
from tests.inspect.material import BOUNDARY, api, form, numbers, upload
from tests.inspect.support import World, a_part, entry, piece
from tests.inspect.test_conversation import talk
from tests.websocket.reference import KEY, frame

CARD = "4111 1111 1111 1111"
SAID = f"Bitte meine Kreditkarte belasten: {CARD}, gültig bis 12/29"
STARS = SAID.replace(CARD, "*" * len(CARD))
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
LEAKS = "[inspect:leaks]\nuse = dlp\nmatch = direction:upload\ndetectors = payment, credential\n"


def inspector(**options: object) -> DlpInspector:
    return DlpInspector(DlpOptions(**options), None)  # type: ignore[arg-type]  # each has its own type


def world(limits: Limits | None = None, **options: object) -> World:
    return World(entry(inspector(**options), "leaks"), limits=limits)


def decided(content: bytes, part: Part | None = None, **options: object) -> Decision:
    decision = World(entry(inspector(**options), "leaks")).whole(content, part)
    assert decision is not None
    return decision


class Held:
    """A part that is held back as carriers do, and what passes."""

    def __init__(self, hold: int = 1 << 20, limits: Limits | None = None, **options: object) -> None:
        self.world = World(entry(inspector(action="redact", **options), "leaks"), limits=limits)
        self.passed: list[bytes] = []
        self.hold = Hold(hold, self.passed.append)

    def begin(self, part: Part | None = None) -> None:
        self.inspection = self.world.inspect(part or a_part())
        self.inspection.mask = self.hold.mask

    def write(self, data: bytes) -> None:
        self.hold.write(data)
        self.inspection.write(data)

    def whole(self, content: bytes, part: Part | None = None, size: int = 1 << 20) -> bytes | None:
        """What is left of it, C{None} if it does not pass."""
        self.begin(part)
        for at in range(0, len(content), size):
            self.write(content[at : at + size])
        self.inspection.finish()
        (decision,) = self.world.decisions
        if not decision.passes:
            return None
        self.hold.let_go()
        return b"".join(self.passed)


# how parts are read

UTF16 = SAID.encode("utf-16-le")
SPELLINGS: dict[str, tuple[bytes, dict[str, object]]] = {
    "text": (SAID.encode(), {}),
    "form": (form({"a": "b", "note": SAID}), {"media_type": "application/x-www-form-urlencoded"}),
    "form, all in percent": (
        b"note=" + "".join(f"%{byte:02x}" for byte in SAID.encode()).encode(),
        {"media_type": "application/x-www-form-urlencoded"},
    ),
    "JSON": (api(SAID), {"media_type": "application/json"}),
    "JSON, all in escapes": (
        b'{"note": "' + "".join(f"\\u{ord(letter):04x}" for letter in SAID).encode() + b'"}',
        {"media_type": "application/problem+json"},
    ),
    "JSON behind the end of a line": (json.dumps({"note": f"Karte:\n{CARD}"}).encode(), {"media_type": "text/json"}),
    "JSON that says it is text": (api(SAID), {}),
    "JSON that says nothing": (b" \r\n" + api(SAID), {"media_type": ""}),
    "XML": (f"<a>{SAID}</a>".encode(), {"media_type": "application/xml"}),
    "HTML": (f"<!DOCTYPE html><p>{SAID}".encode(), {"media_type": "text/html"}),
    "nothing declared": (SAID.encode(), {"media_type": ""}),
    "declared as a picture": (SAID.encode(), {"media_type": "image/png"}),
    "declared as data": (SAID.encode(), {"media_type": "application/octet-stream"}),
    "begins as a program": (b"MZ " + SAID.encode(), {"media_type": "application/octet-stream"}),
    "begins as a picture": (b"GIF89a " + SAID.encode(), {"media_type": ""}),
    "has zeros": (b"\0\0" + SAID.encode(), {"media_type": "text/csv"}),
    "begins as a picture with zeros": (b"\x89PNG\r\n\x1a\n\0\0" + SAID.encode(), {"media_type": "text/csv"}),
    "UTF-8 with a mark": (b"\xef\xbb\xbf" + SAID.encode(), {}),
    "UTF-16 with a mark": (b"\xff\xfe" + UTF16, {}),
    "UTF-16 with a mark, nothing declared": (b"\xff\xfe" + UTF16, {"media_type": ""}),
    "UTF-16, big end first": (b"\xfe\xff" + SAID.encode("utf-16-be"), {}),
    "UTF-16 without a mark": (UTF16, {}),
    "UTF-16, declared": (UTF16, {"charset": "utf-16"}),
    "UTF-16, declared as UTF-8": (UTF16, {"charset": "utf-8"}),
    "JSON in UTF-16": (b"\xff\xfe" + api(SAID).decode().encode("utf-16-le"), {"media_type": "application/json"}),
    "UTF-8, declared as UTF-16": (SAID.encode("ascii", "replace"), {"charset": "utf-16"}),
    "Latin-1": (SAID.encode("latin-1"), {"charset": "iso-8859-1"}),
    "Latin-1, not declared": (SAID.encode("latin-1"), {}),
    "windows-1252": (f"€ {SAID}".encode("cp1252"), {"charset": "windows-1252"}),
    "Shift_JIS": (f"カード {CARD}".encode("shift_jis"), {"charset": "shift_jis"}),
    "GBK": (f"信用卡 {CARD}".encode("gbk"), {"charset": "gbk"}),
    "UTF-7": (SAID.encode("utf-7"), {"charset": "utf-7"}),
    "an unknown charset": (SAID.encode(), {"charset": "klingon"}),
    "a form of another charset": (
        quote_plus(f"カード {CARD}", encoding="shift_jis").encode(),
        {"media_type": "application/x-www-form-urlencoded", "charset": "shift_jis"},
    ),
    "a form with a file": (
        upload([("file", "a.txt", "text/plain", SAID.encode())])[1],
        {"media_type": "multipart/form-data"},
    ),
    "the very last bytes": (b"x" * 100_000 + f" credit card {CARD}".encode(), {}),
    "the very first bytes": (CARD.encode() + b" " + b"x" * 100_000, {}),
}


@pytest.mark.parametrize("name", SPELLINGS)
@pytest.mark.parametrize("size", [1, 100, 511, 512, 513, 1 << 20])
def test_it_is_found_however_it_is_spelled_and_cut(name: str, size: int) -> None:
    content, more = SPELLINGS[name]
    if size == 1:
        content = content.replace(b"x" * 100_000, b"x" * 3000)
    seen = world()
    inspection = seen.inspect(a_part(**more))
    for at in range(0, len(content), size):
        inspection.write(content[at : at + size])
    inspection.finish()
    if seen.asked:  # a form with a file is taken apart as well
        seen.asked[0][2].callback([])
    (decision,) = seen.decisions
    assert decision.act is Act.BLOCK
    assert decision.worst is not None
    verdict = decision.worst.verdict
    assert (verdict.kind, verdict.name, verdict.engine) == (LEAK, "card", "dlp")
    assert verdict.evidence[0].text == "4111 11** **** 1111"
    assert CARD not in repr(verdict)


SEEN = [name for name in SPELLINGS if not ("all in" in name or "UTF-7" in name or "UTF-16" in name)]
"""those in which the secret can be seen"""


@pytest.mark.parametrize("name", SEEN)
def test_the_same_without_the_secret_passes(name: str) -> None:
    content, more = SPELLINGS[name]
    for secret in (CARD, CARD.replace(" ", "+")):
        content = content.replace(secret.encode(), b"4111 1111 1111 1112")
    seen = world()
    decision = seen.whole(content, a_part(**more))
    if decision is None:
        seen.asked[0][2].callback([])
        decision = seen.decisions[0]
    assert decision.found == ()


@pytest.mark.parametrize(
    ("content", "more"),
    [
        (b"", {}),
        (bytes(700), {"media_type": "application/octet-stream"}),
        (b"\x89PNG\r\n\x1a\n" + bytes(9) + SAID.encode(), {"media_type": "image/png"}),
    ],
)
def test_what_is_no_text_is_not_read(content: bytes, more: dict[str, object]) -> None:
    assert decided(content, a_part(**more)).found == ()


def test_a_mail_is_read_when_it_is_taken_apart() -> None:
    seen = world()
    assert seen.whole(SAID.encode(), a_part(kind="message", media_type="message/rfc822")) is None
    seen.asked[0][2].callback([piece(SAID.encode(), "text", kind="text", media_type="text/plain")])
    assert seen.decisions[0].act is Act.BLOCK
    assert seen.decisions[0].found[0].part.kind == "text"


@pytest.mark.parametrize(
    ("kind", "name", "media_type", "content", "found"),
    [
        ("text", "json", "text/plain", SAID.encode(), True),
        ("headers", "headers", "", f"Subject: {SAID}".encode(), True),
        ("member", "a.txt", "", SAID.encode(), True),
        ("member", "a.csv", "text/csv", b"\xff\xfe" + UTF16, True),
        ("attachment", "a.dat", "application/octet-stream", SAID.encode(), True),
        ("member", "a.html", "text/html", f"<html>{SAID}".encode(), True),
        ("member", "a.json", "application/json", api(SAID), False),
        ("member", "a.json", "", api(SAID), False),
        ("member", "a.zip", "", b"PK\x03\x04" + SAID.encode(), False),
    ],
)
def test_pieces_are_read_unless_their_text_is_one_too(
    kind: str, name: str, media_type: str, content: bytes, found: bool
) -> None:
    seen = world()
    seen.whole(b"PK\x03\x04", a_part(media_type="application/zip"))
    seen.asked[0][2].callback([piece(content, name, kind=kind, media_type=media_type)])
    assert bool(seen.decisions[0].found) is found


# what becomes of it


@pytest.mark.parametrize(("action", "act"), [("report", Act.REPORT), ("tag", Act.TAG), ("quarantine", Act.QUARANTINE)])
def test_the_act_is_the_one_of_the_section(action: str, act: Act) -> None:
    decision = decided(SAID.encode(), action=action)
    assert decision.act is act
    assert (decision.content is not None) is (action == "quarantine")


def test_what_is_blocked_is_blocked_before_the_part_has_ended() -> None:
    seen = world()
    inspection = seen.inspect(a_part())
    inspection.write(SAID.encode() + b" x" * 10_000)
    inspection.write(b"more")
    assert [each.act for each in seen.decisions] == [Act.BLOCK]


def test_what_is_reported_is_reported_once_and_at_the_end() -> None:
    seen = world(action="report")
    inspection = seen.inspect(a_part())
    for number in numbers(40, valid=True):
        inspection.write(f"card {number} {'x ' * 10_000}".encode())
    assert not seen.decisions
    inspection.finish()
    (found,) = seen.decisions[0].found
    assert found.verdict.reason == "20 card"
    assert len(found.verdict.evidence) == 20


def test_evidence_has_its_place_in_the_part() -> None:
    content = f"Größe {SAID}".encode()
    evidence = decided(content).found[0].verdict.evidence[0]
    assert content[evidence.offset :][: evidence.length].decode() == CARD
    coded = decided(form({"a": SAID}), a_part(media_type="application/x-www-form-urlencoded"), action="report")
    evidence = coded.found[0].verdict.evidence[0]
    assert (evidence.offset, evidence.length) == (0, 0)


# overwritten


MASKED: dict[str, tuple[bytes, dict[str, object], bytes]] = {
    "text": (SAID.encode(), {}, STARS.encode()),
    "text with letters in front": (f"Größe ﬁ № {SAID}".encode(), {}, f"Größe ﬁ № {STARS}".encode()),
    "spaces that are wide": (
        SAID.replace(" 1111", "\u00a01111").encode(),
        {},
        SAID.replace(CARD, "*" * (len(CARD) + 3)).encode(),
    ),
    "form": (
        form({"ä": SAID}),
        {"media_type": "application/x-www-form-urlencoded"},
        form({"ä": SAID}).replace(CARD.replace(" ", "+").encode(), b"*" * len(CARD)),
    ),
    "JSON": (api(SAID), {"media_type": "application/json"}, api(SAID).replace(CARD.encode(), b"*" * len(CARD))),
    "JSON in escapes": (
        rb'{"a": "\u00e4 card \u0034111 1111 1111 \u00311\u0031\u0031 \n"}',
        {"media_type": "application/json"},
        rb'{"a": "\u00e4 card ' + b"*" * 39 + rb' \n"}',
    ),
    "Latin-1": (SAID.encode("latin-1"), {"charset": "latin-1"}, STARS.encode("latin-1")),
    "Latin-1 with letters in front": (
        f"äöü {SAID}".encode("latin-1"),
        {"charset": "latin-1"},
        f"äöü {STARS}".encode("latin-1"),
    ),
    "Shift_JIS": (
        f"カード {CARD} カード".encode("shift_jis"),
        {"charset": "shift_jis"},
        f"カード {'*' * len(CARD)} カード".encode("shift_jis"),
    ),
    "UTF-16": (b"\xff\xfe" + UTF16, {}, b"\xff\xfe" + SAID.replace(CARD, "\u2a2a" * len(CARD)).encode("utf-16-le")),
}


@pytest.mark.parametrize("name", MASKED)
@pytest.mark.parametrize("size", [1, 100, 1 << 20])
def test_what_is_found_is_overwritten_where_it_stands(name: str, size: int) -> None:
    content, more, left = MASKED[name]
    held = Held()
    assert held.whole(content, a_part(**more), size) == left
    assert held.world.decisions[0].act is Act.REDACT
    assert len(left) == len(content)


@pytest.mark.parametrize("name", MASKED)
def test_far_behind_and_at_any_cut_it_is_overwritten_as_well(name: str) -> None:
    content, more, left = MASKED[name]
    far = b"" if name == "UTF-16" else b"   " * 10_000
    for at in range(0, len(content), 7):
        held = Held()
        held.begin(a_part(**more))
        for data in (far + content[:at], content[at:]):
            if data:
                held.write(data)
        held.inspection.finish()
        held.hold.let_go()
        assert b"".join(held.passed) == far + left


def test_what_has_passed_by_the_time_that_it_counts_is_blocked() -> None:
    cards = [f"card {number}\n" for number in numbers(5, valid=True)]
    near = "".join(cards).encode()
    assert Held(least=(("card", 5),)).whole(near) is not None
    far = (b"x " * 10_000).join(card.encode() for card in cards)
    assert Held(least=(("card", 5),)).whole(far) is not None
    assert Held(hold=64 * 1024, least=(("card", 5),)).whole(far, size=10_000) is None
    assert Held(hold=64 * 1024, least=(("card", 6),)).whole(far, size=10_000) == far


def test_a_hold_that_is_shorter_than_the_scan_needs_blocks_and_lets_nothing_slip() -> None:
    content = b"x " * 5000 + SAID.encode() + b" x" * 20_000
    assert Held(hold=20_000).whole(content, size=1000) == content.replace(CARD.encode(), b"*" * len(CARD))
    assert Held(hold=1000).whole(content, size=1000) is None


def test_more_than_is_told_is_blocked_as_soon_as_it_is_found() -> None:
    held = Held()
    held.begin()
    for number in numbers(300, valid=True):
        held.write(f"card {number} {'x ' * 30}".encode())
    held.write(b"x " * 10_000)
    assert [each.act for each in held.world.decisions] == [Act.BLOCK]


@pytest.mark.parametrize(
    "content",
    [
        b"-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA0Z3VS5JJcds3xfn\n-----END RSA PRIVATE KEY-----",
        b"PuTTY-User-Key-File-2: ssh-rsa\nEncryption: none\n",
        b"Bearer eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.c2lnbmF0dXJl",
    ],
)
def test_a_secret_of_which_only_the_beginning_is_found_is_blocked(content: bytes) -> None:
    assert decided(content, action="report").found
    assert Held().whole(content) is None


def test_what_is_inside_of_something_cannot_be_overwritten() -> None:
    held = Held()
    held.begin(a_part(media_type="application/zip"))
    held.write(b"PK\x03\x04")
    held.inspection.finish()
    held.world.asked[0][2].callback([piece(SAID.encode(), "a.txt")])
    assert [each.act for each in held.world.decisions] == [Act.BLOCK]


def test_fields_of_a_form_are_overwritten_in_the_form() -> None:
    content = upload([("file", "a.txt", "text/plain", SAID.encode())], {"note": SAID})[1]
    held = Held()
    held.begin(a_part(media_type="multipart/form-data"))
    held.write(content)
    held.inspection.finish()
    fields = [piece(SAID.encode(), name, kind="field") for name in ("note", "a.txt")]
    held.world.asked[0][2].callback(fields)
    assert [each.act for each in held.world.decisions] == [Act.REDACT]
    held.hold.let_go()
    assert b"".join(held.passed) == content.replace(CARD.encode(), b"*" * len(CARD))
    assert b"".join(held.passed).count(BOUNDARY.encode()) == 3


def test_a_field_that_the_form_does_not_show_is_blocked() -> None:
    held = Held()
    held.begin(a_part(media_type="multipart/form-data"))
    held.write(upload([("file", "a.txt", "text/plain", b"...")])[1])
    held.inspection.finish()
    field = piece(b"\xff\xfe" + UTF16, "a.txt", kind="field", media_type="text/plain")
    held.world.asked[0][2].callback([field._replace(charset="utf-16")])
    assert [each.act for each in held.world.decisions] == [Act.BLOCK]


# options


def files(folder: Path) -> dict[str, str]:
    """Files for each option that names some; they find what L{WORDS} says."""
    (folder / "own.toml").write_text("[[pattern]]\nname = 'project'\npattern = 'PRJ-[0-9]{6}'\n")
    (folder / "words.toml").write_text(
        "[[dictionary]]\nname = 'deal'\nleast = 2\n[dictionary.terms]\nmerger = 1\nfalcon = 1\n"
    )
    key = bytes(range(32))
    store_secret(folder / "leak.key", key)
    rows = exact.register(key, ("name", "account"), [("Anna Beispiel", "77001234"), ("Bert Muster", "77005678")])
    store_secret(folder / "customers.table", rows.packed)
    store_secret(folder / "plans.docs", fingerprint.register(key, {"plan": [PLAN.encode()]}).packed)
    return {
        "patterns": "own.toml",
        "dictionaries": "words.toml",
        "exact": "customers.table\nkey = leak.key",
        "fingerprints": "plans.docs\nkey = leak.key",
    }


PLAN = " ".join(
    f"step{number} of the plan takes {number * 7} days and costs {number * 11} crowns" for number in range(60)
)
WORDS = {
    "patterns": ("project", "see PRJ-123456"),
    "dictionaries": ("deal", "the merger of Falcon"),
    "exact": ("customers", "Anna Beispiel, 77001234"),
    "fingerprints": ("plans", PLAN[:1500]),
}


@pytest.mark.parametrize("option", WORDS)
@pytest.mark.parametrize("action", ["block", "redact"])
def test_each_kind_of_file_finds_what_it_says(loop: Loop, tmp_path: Path, option: str, action: str) -> None:
    name, text = WORDS[option]
    value = files(tmp_path)[option].replace("key = ", f"key = {tmp_path}/")
    ini = f"[inspect:own]\nuse = dlp\ndetectors = none\n{option} = {tmp_path}/{value}\naction = {action}\n"
    proxy = MemoryGateway(loop, ini)
    answers = Answers(OK)
    proxy.origin("origin.test:80", answers)
    body = f"So: {text}. That is all.".encode()
    (found,) = asked(proxy, POST + b"Content-Type: text/plain\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    (event,) = proxy.events.told
    assert event.name == name
    # Of a row all is found, of documents and sets of words only what is enough.
    passes = action == "redact" and option in ("patterns", "exact")
    assert found.status == (200 if passes else 403)
    assert event.act == ("redact" if passes else "block")
    if passes:
        assert text.encode() not in answers.bodies[0]
        assert len(answers.bodies[0]) == len(body)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("detectors = cards", "no detector cards"),
        ("detectors = none", "nothing is looked for"),
        ("least = iban:0", "not a detector's name with a number, like card:5"),
        ("least = us-ssn:2", "least: nothing is called us-ssn"),
        ("dictionaries = none.toml", "none.toml"),
        ("exact = none.table", "registered data needs its key"),
        ("exact = none.table\nkey = none.key", "none.key"),
        ("score = 101", "score"),
        ("action = replace", "action"),
    ],
)
def test_a_mistake_is_told_with_its_section(loop: Loop, tmp_path: Path, text: str, what: str) -> None:
    with pytest.raises(ConfigError, match=what) as caught:
        MemoryGateway(loop, f"[inspect:leaks]\nuse = dlp\n{text}\n")
    assert "inspect:leaks" in str(caught.value)


def test_two_files_may_not_have_the_same_name(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.toml").write_text("[[pattern]]\nname = 'project'\npattern = 'PRJ-[0-9]{6}'\n")
    with pytest.raises(ConfigError, match="two are called project"):
        inspector(patterns=(tmp_path / "a/x.toml", tmp_path / "b/x.toml"))


def test_a_score_above_what_is_found_finds_nothing() -> None:
    bare = numbers(1, valid=True)[0].encode()
    assert decided(b"card " + bare).found
    assert not decided(b"no. " + bare).found
    assert decided(b"no. " + bare, score=20).found
    assert not decided(b"card " + bare, score=100).found


def test_the_section_on_the_page_can_be_read() -> None:
    page = (Path(__file__).parents[2] / "docs" / "leak.md").read_text()
    settings = settings_of(page.partition("```ini\n")[2].partition("```")[0])
    (section,) = settings.inspectors
    options = section.options
    assert (options.detectors[-1], options.least, options.score) == ("us-ssn", (("card", 5), ("iban", 3)), 60)
    assert [path.name for path in options.dictionaries] == ["words.toml", "deals.toml"]
    for key in DlpOptions.__dataclass_fields__:
        assert f"`{key}`" in page
        assert getattr(options, key) is not None


# in a whole gateway


def sent(loop: Loop, ini: str, fields: bytes, body: bytes) -> tuple[int, MemoryGateway, Answers]:
    proxy = MemoryGateway(loop, ini)
    answers = Answers(OK)
    proxy.origin("origin.test:80", answers)
    (found,) = asked(proxy, POST + fields + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
    return found.status, proxy, answers


def test_an_upload_does_not_leave_and_the_page_does_not_say_the_secret(loop: Loop) -> None:
    status, proxy, answers = sent(loop, LEAKS, b"Content-Type: application/json\r\n", api(SAID))
    assert status == 403
    assert answers.requests == []
    (event,) = proxy.events.told
    assert (event.kind, event.name, event.engine, event.direction) == ("leak", "card", "dlp", "request")
    assert CARD not in repr(event)
    assert event.evidence[0].text == "4111 11** **** 1111"


def test_a_compressed_upload_is_read_and_overwritten(loop: Loop) -> None:
    fields = b"Content-Type: text/plain\r\nContent-Encoding: gzip\r\n"
    status, _, answers = sent(loop, LEAKS, fields, gzip.compress(SAID.encode()))
    assert (status, answers.requests) == (403, [])
    status, _, answers = sent(loop, f"{LEAKS}action = redact\n", fields, gzip.compress(SAID.encode()))
    assert status == 200
    assert gzip.decompress(answers.bodies[0]) == STARS.encode()


def test_an_empty_upload_passes(loop: Loop) -> None:
    status, proxy, _ = sent(loop, LEAKS, b"Content-Type: text/plain\r\n", b"")
    assert status == 200
    assert proxy.events.told == []


def test_a_download_is_none_of_its_business(loop: Loop) -> None:
    proxy = MemoryGateway(loop, LEAKS)
    proxy.origin(
        "origin.test:80", b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(SAID.encode()), SAID.encode())
    )
    (found,) = asked(proxy, b"GET http://origin.test/ HTTP/1.1\r\nHost: origin.test\r\n\r\n")
    assert found.body == SAID.encode()


@pytest.mark.parametrize("message", [SAID.encode(), api(SAID)])
def test_a_message_over_websocket_does_not_leave(loop: Loop, message: bytes) -> None:
    said = talk(loop, LEAKS)
    assert b"4111" not in said.say(frame(TEXT, message, key=KEY))
    said.closed()
    assert said.gateway.events.told[0].name == "card"


@pytest.mark.parametrize("message", [SAID.encode(), api(SAID)])
def test_a_message_over_websocket_is_overwritten(loop: Loop, message: bytes) -> None:
    said = talk(loop, f"{LEAKS}action = redact\n")
    heard = said.heard(said.say(frame(TEXT, message, key=KEY)), Side.UPSTREAM)
    assert [event[-1] for event in heard] == [message.replace(CARD.encode(), b"*" * len(CARD))]
    said.client.close()


def test_a_part_that_is_larger_than_is_collected_is_read_nevertheless() -> None:
    seen = world(limits=Limits(collect=1 << 20))
    content = upload([("file", "a.txt", "text/plain", b"x " * (1 << 20) + SAID.encode())])[1]
    inspection = seen.inspect(a_part(media_type="multipart/form-data"))
    inspection.write(content)
    inspection.finish()
    verdicts = [each.verdict for each in seen.decisions[0].found]
    assert {each.kind for each in verdicts} == {LEAK, FAILURE}
    assert seen.decisions[0].act is Act.BLOCK


@pytest.mark.parametrize(
    ("action", "act"),
    [("block", "block"), ("quarantine", "block"), ("redact", "block"), ("tag", "report"), ("report", "report")],
)
def test_a_form_may_stand_in_the_query_of_a_request(loop: Loop, action: str, act: str) -> None:
    gateway = MemoryGateway(loop, LEAKS + f"action = {action}\n")
    answers = Answers(OK)
    gateway.origin("origin.test:80", answers)
    request = b"GET http://origin.test/pay?karte=%b&name=x HTTP/1.1\r\nHost: origin.test\r\n\r\n"
    (found,) = asked(gateway, request % b"kreditkarte+4111+1111%201111+1111")
    assert found.status == (403 if act == "block" else 200)
    assert bool(answers.requests) is (act == "report")
    (event,) = gateway.events.told
    assert (event.act, event.kind, event.name) == (act, "leak", "card")
    assert "4111" not in event.url
    assert event.evidence[0].where == "query"
    assert "1111 1111 1111" not in event.evidence[0].text


def test_a_query_of_others_is_none_of_our_business(loop: Loop) -> None:
    gateway = MemoryGateway(loop, LEAKS)
    gateway.origin("origin.test:80", Answers(OK))
    (found,) = asked(gateway, b"GET http://origin.test/?q=weather HTTP/1.1\r\nHost: origin.test\r\n\r\n")
    assert found.status == 200
    assert gateway.events.told == []

"""What must not leave: found in everything that goes up, and only what it is; and nobody writes it down."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from urllib.parse import quote

import pytest
from websockets.sync.client import connect

from tests.inspect.material import (
    DOCUMENTS,
    api,
    form,
    in_fours,
    mail,
    numbers,
    tarred,
    upload,
    with_words,
    without_words,
    zipped,
)
from tests.process.carriers import (
    Came,
    Servers,
    World,
    fetched,
    ftp_up,
    http_put,
    imap_append,
    refused,
    smtp,
    websocket,
)
from tests.process.conftest import ProxyMaker
from tests.process.origins import BODY_NAME

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="Postfix, Dovecot and vsftpd are started by root only")

INI = """
[events]
file = events.jsonl
[inspection]
hold = 8MiB
[inspect:leaks]
use = dlp
match = direction:upload
detectors = payment, credential
"""
CARD = numbers(1, valid=True, seed=7)[0]
WRONG = numbers(1, valid=False, seed=7)[0]


def posted(world: World, kind: str, body: bytes) -> Came:
    """By curl, to an origin in TLS."""
    shelf = world.servers.secure
    url = shelf.place()
    file = world.gateway.folder / "upload"
    file.write_bytes(body)
    came = fetched(world, url, "--data-binary", f"@{file}", "-H", f"Content-Type: {kind}")
    return Came(shelf.at(url) if came.arrived == b"taken" else None, came.said)


def text_put(world: World, text: str) -> Came:
    return http_put(world, text.encode())


def urlencoded(world: World, text: str) -> Came:
    return posted(world, "application/x-www-form-urlencoded", form({"name": "Anna", "note": text}))


def form_field(world: World, text: str) -> Came:
    kind, body = upload([("file", "a.bin", "application/octet-stream", bytes(range(256)))], {"note": text})
    return posted(world, kind, body)


def json(world: World, text: str) -> Came:
    return posted(world, "application/json", api(text))


def json_escaped(world: World, text: str) -> Came:
    escaped = "".join(f"\\u{ord(letter):04x}" if letter.isdigit() else letter for letter in text)
    return posted(world, "application/json", b'{"note": "%b"}' % escaped.encode())


def document(kind: str) -> Callable[[World, str], Came]:
    def bring(world: World, text: str) -> Came:
        return http_put(world, DOCUMENTS[kind](text))

    bring.__name__ = kind
    return bring


def document_in_form(world: World, text: str) -> Came:
    kind, body = upload([("file", "a.docx", "application/octet-stream", DOCUMENTS["docx"](text))])
    return posted(world, kind, body)


def zip_in_tar(world: World, text: str) -> Came:
    return http_put(world, tarred({"a/b.zip": zipped({"notes.txt": text.encode()})}))


def message(world: World, text: str) -> Came:
    return websocket(world, text.encode())


def text_message(world: World, text: str) -> Came:
    """The same as text."""
    with connect(f"ws://{BODY_NAME}:{world.servers.echo.port}/", proxy=f"http://{world.gateway.ports[0]}") as made:
        made.send(text)
        answer = made.recv(timeout=20)
    assert isinstance(answer, str)
    return Came(answer.encode())


def mailed(world: World, text: str) -> Came:
    return smtp(world, mail(text, html=f"<p>{text}</p>"))


def attached(world: World, text: str) -> Came:
    attachment = ("a.docx", "application/octet-stream", DOCUMENTS["docx"](text))
    return smtp(world, mail("Here it is.", attachments=[attachment]))


def appended(world: World, text: str) -> Came:
    return imap_append(world, mail(text))


def stored(world: World, text: str) -> Came:
    return ftp_up(world, text.encode())


Bring = Callable[[World, str], Came]
PAGE = http_put
WAYS: dict[Bring, Callable[[World, bytes], Came]] = {
    text_put: PAGE,
    urlencoded: PAGE,
    form_field: PAGE,
    json: PAGE,
    json_escaped: PAGE,
    **{document(kind): PAGE for kind in DOCUMENTS},
    document_in_form: PAGE,
    zip_in_tar: PAGE,
    message: websocket,
    mailed: smtp,
    attached: smtp,
    appended: imap_append,
    stored: ftp_up,
}
"""ways of texts, and how a client is told"""
ways = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)


@pytest.fixture(scope="module")
def world(module_proxy: ProxyMaker, ini: Callable[[str], str], servers: Servers) -> Iterator[World]:
    """A gateway that looks at what leaves."""
    made = World(module_proxy, ini, servers, INI)
    yield made
    made.told.none()


def written(world: World) -> bytes:
    """Everything that the gateway has written down."""
    files = [path for path in world.gateway.folder.rglob("*") if path.is_file() and path.name != "upload"]
    assert {"access.log", "events.jsonl", "events.db", "output.txt"} <= {path.name for path in files}
    return b"\n".join(path.read_bytes() for path in files)


def nowhere(text: bytes, number: str) -> None:
    """A number stands in it in no spelling."""
    for spelled in (number, in_fours(number), in_fours(number, "-"), quote(in_fours(number)), in_fours(number, "+")):
        assert spelled.encode() not in text


@ways
def test_a_card_number_does_not_leave_and_is_written_down_nowhere(world: World, way: Bring) -> None:
    came = way(world, with_words(CARD))
    event = world.told.one()
    refused(WAYS[way], came, event)
    assert (event["kind"], event["act"], event["name"]) == ("leak", "block", "card")
    evidence = event["evidence"][0]
    assert evidence["what"] == "card"
    assert (evidence["text"].count("*"), evidence["text"][-4:]) == (6, CARD[-4:])
    assert event["direction"] == "request"
    nowhere(came.said.encode() + written(world), CARD)


@ways
@pytest.mark.parametrize("text", [with_words(WRONG), without_words(CARD)], ids=["wrong", "alone"])
def test_a_number_that_only_looks_like_one_leaves(world: World, way: Bring, text: str) -> None:
    came = way(world, text)
    assert came.arrived is not None, came.said
    world.told.none()


def test_numbers_at_random_are_no_cards(world: World) -> None:
    source = random.Random(3)
    lines = "\n".join(f"{at}: {source.randrange(10**15, 10**16)}" for at in range(2000))
    assert text_put(world, lines).arrived == lines.encode()
    world.told.none()


def test_what_comes_down_is_no_leak(world: World) -> None:
    text = with_words(CARD).encode()
    assert fetched(world, world.servers.secure.lay(text, "text/plain")).arrived == text
    world.told.none()


def test_what_was_found_is_overwritten_and_the_rest_arrives_as_it_was(world: World) -> None:
    text = with_words(CARD)
    with world.under(world.inspection + "action = redact\n"):
        for way in (text_put, text_message, message, stored):
            came = way(world, text)
            assert came.arrived == text.replace(in_fours(CARD), "*" * len(in_fours(CARD))).encode()
            event = world.told.one()
            assert (event["kind"], event["act"], event["name"]) == ("leak", "redact", "card")
        came = posted(world, "application/json", api(text))
        assert came.arrived == api(text.replace(in_fours(CARD), "*" * len(in_fours(CARD))))
        assert world.told.one()["act"] == "redact"
        refused(smtp, attached(world, text), event := world.told.one())
        assert event["act"] == "block"
    nowhere(written(world), CARD)


def test_what_is_only_to_be_written_down_is_written_down_once(world: World) -> None:
    with world.under(world.inspection + "action = report\n"):
        for way in WAYS:
            if way is form_field:
                continue  # it is read twice, as a form and as its field
            assert way(world, with_words(CARD)).arrived is not None, way
            events = world.told.several(PLACES.get(way, 1))
            assert {(event["act"], event["name"]) for event in events} == {("report", "card")}
    nowhere(written(world), CARD)


def test_a_leak_in_a_query_is_not_in_its_event(world: World) -> None:
    shelf = world.servers.secure
    file = world.gateway.folder / "upload"
    file.write_text(with_words(CARD))
    refused(http_put, fetched(world, shelf.place() + "?token=s3cr3t-query", "-T", str(file)), event := world.told.one())
    assert "s3cr3t" not in str(event)


def test_words_and_patterns_of_ones_own_are_found_by_the_same_ways(world: World) -> None:
    folder = world.gateway.folder
    words = '[[dictionary]]\nname = "deal"\nleast = 2\n[dictionary.terms]\n"project nightingale" = 2\n'
    (folder / "words.toml").write_text(words)
    with world.under(world.inspection + "dictionaries = words.toml\n"):
        for way in (text_put, urlencoded, WAYS_BY_NAME["docx"], mailed):
            refused(WAYS[way], way(world, "All about Project\u00a0Nightingale."), event := world.told.one())
            assert (event["kind"], event["name"]) == ("leak", "deal")


WAYS_BY_NAME = {way.__name__: way for way in WAYS}
PLACES = {mailed: 3, WAYS_BY_NAME["xlsx"]: 2}
"""a mail here has a text, HTML, and the text of this; a workbook keeps its texts beside its sheets"""

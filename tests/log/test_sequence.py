"""The recorder: its table, its bounds, and both pictures."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslintercept.log import sequence, steps
from sslintercept.log.sequence import DECK, STEPS, Sequence
from sslintercept.log.steps import BOXES, DECK_STEPS, NOTE, OTHER_STEPS, PARTICIPANTS

MARKED = r"""a\nb <b> %date() ~x "q" [[http://x]] $s **b** __u__ --s-- &#65;"""


def recorded(*names: str) -> Sequence:
    made = Sequence()
    for name in names:
        made.step(name)
    return made


def test_the_deck_has_37_steps_and_the_recorder_tells_them_apart() -> None:
    assert len(DECK) == 37
    assert len(set(DECK)) == 36  # the probe makes an HttpSM twice
    assert [index + 1 for index, name in enumerate(DECK) if name == "http_sm_made"] == [2, 17]
    assert recorded(*DECK).names() == list(DECK)


@pytest.mark.parametrize(
    ("number", "source", "target", "text"),
    [
        (1, "Client", "lvc", "TCP connect and Allocate VC"),
        (4, "httpsm", "httpsm", "Parse request then do OSDNS lookup"),
        (9, "httpsm", "Client", "Send Response [HTTP/1.1 200 Connection Established]"),
        (10, "rvc", "lvc", "Attach server_vc to client_vc"),
        (12, "lvc", "lvcssl", "Probe then attach SSL ProfileSM"),
        (22, "lvc", "httpsm", "Pickup server_vc from client_vc"),
        (25, "rvcssl", "rvc", "TLS handshake triggered by do_io_write()"),
        (27, "rvcssl", "Server", "TLS Handshake"),
        (32, "rvcssl", "httpsm", "Parse response hdr"),
        (36, "lvcssl", "Client", "HTTP RespHdr in TLS Tunnel"),
    ],
)
def test_a_step_of_the_deck_keeps_its_place_and_its_words(number: int, source: str, target: str, text: str) -> None:
    step = DECK_STEPS[number - 1]
    assert (step.source, step.target, step.text) == (source, target, text)


def test_every_step_is_named_once_and_stands_between_participants() -> None:
    names = [step.name for step in OTHER_STEPS]
    assert len(names) == len(set(names))
    assert not set(names) & set(DECK)
    known = {participant.name for participant in PARTICIPANTS}
    for step in STEPS.values():
        assert {step.source, step.target} <= known
        assert {step.wakes, step.sleeps} <= known | {""}
        assert all({source, target} <= known for source, target, _ in step.more)
        assert re.fullmatch("[a-z0-9_]+", step.name)
        assert step.text
        assert step.when
        assert step.arrow in ("->", "-->", "<-->", NOTE)
    assert {participant.box for participant in PARTICIPANTS} == set(BOXES)


def test_every_step_is_recorded_somewhere() -> None:
    package = Path(steps.__file__).parents[1]
    source = "".join(path.read_text() for path in package.rglob("*.py") if path != Path(steps.__file__))
    assert [name for name in STEPS if f'"{name}"' not in source] == []


def test_the_page_about_logs_lists_every_step_as_it_is() -> None:
    page = (Path(__file__).parents[2] / "docs" / "logs.md").read_text()
    listed = [row for row in page.splitlines() if re.match(r"\| (`|\d)", row)]
    deck = [f"| {n} | `{s.name}` | {s.source}, {s.target} | {s.when} |" for n, s in enumerate(DECK_STEPS, 1)]
    other = [f"| `{s.name}` | {s.source}, {s.target} | {s.when} |" for s in OTHER_STEPS]
    assert listed[-len(deck + other) :] == deck + other


def test_an_unknown_step_is_refused_and_not_recorded() -> None:
    made = recorded("accepted")
    with pytest.raises(KeyError, match="acepted"):
        made.step("acepted")
    assert made.names() == ["accepted"]


def test_the_steps_of_a_connection_are_bounded_and_counted() -> None:
    made = recorded("accepted", *["note"] * 600)
    assert len(made.names()) == 500
    assert made.left_out == 101
    assert "note over lvc: 101 more steps were not kept\n@enduml" in made.plantuml()
    assert made.mermaid().endswith("Note over lvc: 101 more steps were not kept\n")


def test_a_picture_shows_only_those_who_take_part() -> None:
    assert recorded("accepted", "client_closed").plantuml() == (
        "@startuml\n"
        "\n"
        'box "Client Side" #DDDDFF\n'
        'actor "Client" as Client\n'
        "end box\n"
        "\n"
        'box "sslintercept" #DDFFDD\n'
        'entity "User Agent VConn\\nProbeSessionAccept" as lvc\n'
        "end box\n"
        "\n"
        "Client -> lvc: TCP connect and Allocate VC\n"
        "activate lvc\n"
        "lvc -> Client: Close\n"
        "deactivate lvc\n"
        "@enduml\n"
    )
    assert recorded("accepted", "client_closed").mermaid() == (
        "sequenceDiagram\n"
        "    actor Client as Client\n"
        "    participant lvc as User Agent VConn<br/>ProbeSessionAccept\n"
        "    Client->>lvc: TCP connect and Allocate VC\n"
        "    activate lvc\n"
        "    lvc->>Client: Close\n"
        "    deactivate lvc\n"
    )


def test_nothing_recorded_is_an_empty_picture() -> None:
    assert Sequence().plantuml() == "@startuml\n\n@enduml\n"
    assert Sequence().mermaid() == "sequenceDiagram\n"


def test_the_deck_is_drawn_with_its_notes_and_lives() -> None:
    picture = recorded(*DECK).plantuml()
    lives = [line for line in picture.splitlines() if "activate" in line]
    assert lives == [
        "activate lvc",
        "activate httpsm",
        "activate rvc",
        "deactivate httpsm",
        "activate lvcssl",
        "activate httpsm",
        "activate rvcssl",
    ]
    assert "note over lvc,rvc: Setup response HttpTunnel\n" in picture
    assert "note over httpsm: The request can be remapped, or looked up in the cache.\n" in picture
    assert "Client <--> lvcssl: TLS Handshake\n" in picture
    assert "rvcssl -> lvcssl: Forward data (with or without transform)\n" in picture
    assert "note over Client,httpsm: Data can flow between Client and HttpSM" in picture
    drawn = recorded(*DECK).mermaid()
    assert "    Client<<-->>lvcssl: TLS Handshake\n" in drawn
    assert "    Server-->>Client: Data\n" in drawn
    assert "    rvcssl->>lvcssl: Forward data (with or without transform)\n" in drawn
    assert "    Note over lvc,rvc: Setup response HttpTunnel\n" in drawn
    assert "    Note over Client,httpsm: Data can flow between Client and HttpSM" in drawn


@pytest.mark.parametrize("draw", [Sequence.plantuml, Sequence.mermaid])
def test_nobody_ends_who_does_not_live_and_nobody_is_born_twice(draw: object) -> None:
    made = recorded(*[step.name for step in OTHER_STEPS], *DECK, *DECK, "client_closed", "client_closed")
    picture = made.plantuml() if draw is Sequence.plantuml else made.mermaid()
    living: set[str] = set()
    for line in map(str.strip, picture.splitlines()):
        verb, _, who = line.partition(" ")
        if verb == "activate":
            assert who not in living
            living.add(who)
        elif verb == "deactivate":
            living.remove(who)
    assert living == {"httpsm", "lvcssl", "rvc", "rvcssl"}


def test_a_detail_stands_behind_the_words_of_its_step() -> None:
    made = Sequence()
    made.step("connect_resolved", "www.example.com")
    made.step("decided", "tunnel: rule banks")
    assert "httpsm -> httpsm: Parse request then do OSDNS lookup [www.example.com]\n" in made.plantuml()
    assert "note over lvc: Rule says [tunnel: rule banks]\n" in made.plantuml()
    assert "httpsm->>httpsm: Parse request then do OSDNS lookup [www.example.com]\n" in made.mermaid()


def test_a_path_of_layers_stays_readable() -> None:
    made = Sequence()
    made.step("note", "tcp/tls1.3/http-connect/server_name=a_b")
    assert "[tcp/tls1.3/http-connect/server_name=a_b]" in made.plantuml()


def test_markup_in_a_detail_is_drawn_as_it_is_written() -> None:
    made = Sequence()
    made.step("note", MARKED)
    line = next(line for line in made.plantuml().splitlines() if line.startswith("note over"))
    restored = re.sub(r"<U\+([0-9A-F]{4})>", lambda found: chr(int(found[1], 16)), line)
    assert restored == f"note over lvc,rvc: Note [{MARKED}]"
    bare = re.sub(r"<U\+[0-9A-F]{4}>", "?", line)
    assert not re.search(r'[\\<>%~"&#$]|\*\*|//|__|--|\[\[', bare)


def test_what_mermaid_means_by_a_sign_is_written_as_its_number() -> None:
    made = Sequence()
    made.step("note", "a;b#c<d>%%{e}&")
    assert "Note [a#59;b#35;c#60;d#62;#37;#37;#123;e#125;#38;]\n" in made.mermaid()


@given(st.text(max_size=300))
def test_a_detail_never_breaks_out_of_its_line(detail: str) -> None:
    made = Sequence()
    made.step("accepted", detail)
    plain = recorded("accepted")
    assert len(made.plantuml().splitlines()) == len(plain.plantuml().splitlines())
    assert len(made.mermaid().splitlines()) == len(plain.mermaid().splitlines())


def test_a_long_detail_is_cut() -> None:
    made = Sequence()
    made.step("accepted", "x" * 5000)
    made.step("accepted", "y" * sequence.MAX_DETAIL)
    picture = made.plantuml()
    assert f"[{'x' * 120}…]" in picture
    assert f"[{'y' * 120}]" in picture

"""What ``make demo`` prints: the deck's steps as PlantUML and as Mermaid, and the log of what happened."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from sslintercept.log.steps import DECK_STEPS
from tests.process.tools import run


def in_order(picture: str) -> None:
    """Every step of the deck has its line, between its participants, behind the line of the one before."""
    lines = iter(picture.splitlines())
    for step in DECK_STEPS:
        pattern = re.compile(rf"\b{step.source}\b(.*\b{step.target})?: {re.escape(step.text)}")
        assert any(pattern.search(line) for line in lines), f"{step.name} is not where it should be in\n{picture}"


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> str:
    done = run(sys.executable, "-m", "sslintercept.demo", folder=tmp_path_factory.mktemp("demo"), timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_demo_prints_a_plantuml_picture_with_the_steps_of_the_deck_in_order(said: str) -> None:
    assert len(DECK_STEPS) == 37
    in_order(said[said.index("@startuml") : said.index("@enduml")])


def test_the_demo_prints_the_same_steps_as_mermaid(said: str) -> None:
    in_order(said[said.index("sequenceDiagram", said.index("@enduml")) :])


def test_the_demo_ends_with_the_response_and_the_access_log(said: str) -> None:
    told, *lines = said.splitlines()[-3:]
    assert told.startswith("the client got 200 and 424000 bytes")
    transaction, connection = map(json.loads, lines)
    assert (transaction["type"], connection["type"]) == ("transaction", "connection")
    assert transaction["stack"] == "tcp/http1/http-connect/tls1.3/http1"
    assert transaction["upstream_tls"]["verified"] == "ok"


def test_the_demo_leaves_nothing_behind(said: str, tmp_path: Path) -> None:
    assert "Traceback" not in said
    done = run(sys.executable, "-m", "sslintercept.demo", folder=tmp_path, environment={"TMPDIR": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []

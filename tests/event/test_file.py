"""The file of events: private, a line each, opened anew when it was renamed."""

from __future__ import annotations

from pathlib import Path

import pytest

from sslintercept.errors import ConfigError
from sslintercept.event.file import EventFile
from sslintercept.event.record import from_json
from tests.event.events import event, until
from tests.event.storing import here


def test_each_event_is_a_line_in_a_file_for_us_alone(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    file = EventFile(str(path), here)
    file.start()
    told = [event(id=str(number), name="a\nb") for number in range(3)]
    for each in told:
        file.tell(each)
    file.close(10.0)
    assert [from_json(line) for line in path.read_bytes().splitlines()] == told
    assert path.stat().st_mode & 0o777 == 0o600
    file.tell(event())
    assert file.dropped == 1


def test_a_file_that_was_renamed_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    file = EventFile(str(path), here)
    file.start()
    path.rename(tmp_path / "old")
    file.reopen()
    until(path.exists)
    file.tell(event())
    file.close(10.0)
    assert len(path.read_text().splitlines()) == 1
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_that_cannot_be_opened_names_its_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\[events\] file"):
        EventFile(str(tmp_path), here).start()

"""The reference in etc/ and docs/ says what the program does, no more and no less."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from sslintercept.config import reference
from sslintercept.config.reader import ConfigMistakes, read
from sslintercept.config.schema import SECTIONS


def test_the_reference_file_is_what_the_schema_gives() -> None:
    assert (reference.ROOT / reference.INI).read_text(encoding="utf-8") == reference.ini(), "run: make docs"


def test_the_reference_page_is_what_the_schema_gives() -> None:
    assert (reference.ROOT / reference.PAGE).read_text(encoding="utf-8") == reference.markdown(), "run: make docs"


def test_reading_the_reference_file_gives_exactly_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "reference.ini").write_text(reference.ini(), encoding="utf-8")
    (tmp_path / "empty.ini").write_text("", encoding="utf-8")
    given, default = read(tmp_path / "reference.ini"), read(tmp_path / "empty.ini")
    assert dataclasses.replace(given, path=default.path) == default


def test_the_reference_file_keeps_its_state_beside_the_folder_it_lies_in() -> None:
    settings = read(reference.ROOT / reference.INI)
    assert settings.state_dir == reference.ROOT / "var"
    assert settings.ca.certificate == reference.ROOT / "var" / "ca.pem"


def test_every_key_stands_in_the_reference_file_once() -> None:
    section = ""
    found: list[tuple[str, str]] = []
    for line in reference.ini().splitlines():
        if heading := re.fullmatch(r"(?:; )?\[([a-z-]+)(:[a-z]+)?\]", line):
            section = heading[1]
        elif key := re.match(r"(?:; )?([a-z_]+) = \S", line) or re.match(r"# (path): caching is not", line):
            found.append((section, key[1]))
        else:
            assert not line or line.startswith("# ")
    assert found == [(section.name, key.name) for section in SECTIONS for key in section.keys]


def test_every_line_of_the_reference_file_fits_a_screen() -> None:
    assert max(map(len, reference.ini().splitlines())) <= 120


def test_what_is_commented_out_works_once_it_is_not(tmp_path: Path) -> None:
    path = tmp_path / "all.ini"
    path.write_text(re.sub("(?m)^; ", "", reference.ini()), encoding="utf-8")
    settings = read(path)
    assert [rule.name for rule in settings.rules] == ["banks"]
    assert settings.proxy_tls.certificate == tmp_path / "proxy.pem"


def test_the_page_has_a_row_for_every_key() -> None:
    page = reference.markdown()
    for section in SECTIONS:
        part = page.split(f"## `{section.heading}`\n")[1].split("\n## ")[0]
        assert re.findall(r"^\| `([a-z_]+)` \|", part, re.MULTILINE) == [key.name for key in section.keys]


def test_the_rows_of_the_page_have_four_cells() -> None:
    rows = [line for line in reference.markdown().splitlines() if line.startswith("|")]
    assert {len(re.split(r"(?<!\\)\|", row)) - 2 for row in rows} == {4}


def test_the_example_of_a_mistake_on_the_page_is_what_the_reader_prints(tmp_path: Path) -> None:
    path = tmp_path / "x.ini"
    path.write_text("\n" * 10 + "[http]\ntls_timeout = 10parsecs\n", encoding="utf-8")
    with pytest.raises(ConfigMistakes) as caught:
        read(path)
    assert str(caught.value).replace(str(tmp_path), "/etc") in reference.markdown()


def test_both_files_are_written_below_the_project(tmp_path: Path) -> None:
    reference.main(tmp_path)
    assert (tmp_path / "etc/sslintercept.ini").read_text(encoding="utf-8") == reference.ini()
    assert (tmp_path / "docs/configuration.md").read_text(encoding="utf-8") == reference.markdown()

"""The page about leaks tells of every detector, and its examples can be used."""

from __future__ import annotations

from pathlib import Path

from sslintercept.leak.files import read_dictionary, read_patterns
from sslintercept.leak.table import TABLE

PAGE = (Path(__file__).parents[2] / "docs" / "leak.md").read_text()


def test_the_page_has_a_row_for_every_detector_and_no_other() -> None:
    rows = [line for line in PAGE.splitlines() if line.count("|") == 4 and line.startswith("| `") and ".py" not in line]
    told = {row.split("`")[1]: row for row in rows if row.split("`")[1] in TABLE or "%" not in row}
    assert list(told) == list(TABLE)
    assert all(each.title in told[name] and each.source in told[name] for name, each in TABLE.items())


def test_the_files_on_the_page_can_be_read(tmp_path: Path) -> None:
    patterns, dictionary = (block.partition("```")[0] for block in PAGE.split("```toml\n")[1:])
    path = tmp_path / "x.toml"
    path.write_text(patterns)
    (project,) = read_patterns(path)
    assert (project.name, project.near_score) == ("project", 90)
    path.write_text(dictionary)
    (deal,) = read_dictionary(path)
    assert (deal.least, deal.score, len(deal.terms), deal.pairs[0].within) == (3, 80, 2, 200)

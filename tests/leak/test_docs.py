"""The page about leaks tells of every detector."""

from __future__ import annotations

from pathlib import Path

from sslintercept.leak.table import TABLE


def test_the_page_has_a_row_for_every_detector_and_no_other() -> None:
    page = (Path(__file__).parents[2] / "docs" / "leak.md").read_text()
    rows = [line for line in page.splitlines() if line.count("|") == 4 and line.startswith("| `") and ".py" not in line]
    told = {row.split("`")[1]: row for row in rows if row.split("`")[1] in TABLE or "%" not in row}
    assert list(told) == list(TABLE)
    assert all(each.title in told[name] and each.source in told[name] for name, each in TABLE.items())

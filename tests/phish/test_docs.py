"""The page about phishing tells of every reason, with its weight."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from sslintercept.inspect.shipped.phishing import PhishingOptions
from sslintercept.phish.judge import LIKENESS, WEIGHTS

PAGE = (Path(__file__).parents[2] / "docs" / "phishing.md").read_text()


def test_every_reason_has_a_row_with_its_weight() -> None:
    for name, (weight, text) in WEIGHTS.items():
        assert f"| `{name}` | {weight} | {text} |" in PAGE
    for how, (weight, _) in LIKENESS.items():
        assert f"| `{how.value}` | {weight} | " in PAGE


def test_every_option_is_told_of() -> None:
    for field in dataclasses.fields(PhishingOptions):
        assert f"`{field.name}`" in PAGE

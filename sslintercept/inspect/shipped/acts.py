"""What the inspectors that ship can do with what they find, as their sections say it."""

from __future__ import annotations

from typing import Final

from sslintercept.config import units
from sslintercept.config.key import setting
from sslintercept.inspect.verdict import Act

ACTS: Final = {
    "block": Act.BLOCK,
    "quarantine": Act.QUARANTINE,
    "report": Act.REPORT,
    "tag": Act.TAG,
    "redact": Act.REDACT,
}
"""by the word of C{action =}"""
MEANS: Final = {
    "block": "does not pass",
    "quarantine": "does not pass, and a copy is kept",
    "report": "passes, and is written down",
    "tag": "passes with a mark",
    "redact": "passes, with what was found overwritten",
}


def act(*words: str) -> str:
    """A key C{action}, whose default is the first of C{words}."""
    meaning = "; ".join(f"{word}: {MEANS[word]}" for word in words)
    return setting(units.choice(*words), words[0], f"what becomes of a part in which something is found; {meaning}")

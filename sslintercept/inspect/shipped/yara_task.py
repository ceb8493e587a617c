"""Rules of YARA over content, in a worker process: the engine is native code, and content is what attackers sent."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import Final, cast

import yara_x

from sslintercept.worker.wire import MOST_KEPT, Item, Job

TASK: Final = "sslintercept.inspect.shipped.yara_task:scan"
SHARE_OF_TIME: Final = 0.8
"""of a job's seconds: the engine ends before the process is killed"""
MOST_RULES: Final = 64
"""rules of one part that are told"""
MOST_STRINGS: Final = 16
"""places of one rule that are told"""
MOST_MATCHES: Final = 10_000
"""of one string, that the engine keeps; conditions count no further"""
MOST_TEXT: Final = 200
"""characters of what a rule says of itself"""

_rules: dict[str, yara_x.Rules] = {}
"""made of what the pool keeps for us, by its key: that takes a second for thousands of rules"""


def scan(meta: Mapping[str, object], content: bytes, job: Job) -> Iterator[Item]:
    """
    One item for each rule that matches, without content; C{late} alone if the engine did not end in time.

    @param meta: C{seconds} that the engine may take.
    """
    rules = _rules.get(job.key)
    if rules is None:
        while len(_rules) >= MOST_KEPT:
            del _rules[next(iter(_rules))]
        rules = _rules[job.key] = yara_x.Rules.deserialize_from(io.BytesIO(job.kept))
    scanner = yara_x.Scanner(rules)
    seconds = min(float(cast("float", meta["seconds"])), job.seconds * SHARE_OF_TIME)
    scanner.set_timeout(max(1, int(seconds)))
    scanner.max_matches_per_pattern(MOST_MATCHES)
    try:
        found = scanner.scan(content)
    except yara_x.TimeoutError:
        yield Item({"late": True}, b"")
        return
    for rule in found.matching_rules[:MOST_RULES]:
        says = dict(rule.metadata)
        strings = [
            [pattern.identifier[:MOST_TEXT], match.offset, match.length]
            for pattern in rule.patterns
            for match in pattern.matches[:MOST_STRINGS]
        ]
        yield Item(
            {
                "rule": rule.identifier[:MOST_TEXT],
                "file": rule.namespace[:MOST_TEXT],
                "tags": [tag[:MOST_TEXT] for tag in rule.tags[:MOST_STRINGS]],
                "severity": str(says.get("severity", ""))[:MOST_TEXT],
                "description": str(says.get("description", ""))[:MOST_TEXT],
                "strings": strings[:MOST_STRINGS],
            },
            b"",
        )

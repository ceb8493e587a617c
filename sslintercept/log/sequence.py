"""
The recorder: what happened on a connection, step by step, and the picture of it.

Only the steps of L{sslintercept.log.steps} can be recorded: a picture that may contain anything proves nothing. It
shows names, numbers and words that we chose; callers give no bytes that were carried.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from sslintercept.log.steps import BOTH, BOXES, DECK, NOTE, PARTICIPANTS, STEPS, Participant, Step

__all__ = ["DECK", "STEPS", "Sequence"]

MAX_STEPS: Final = 500
"""Steps kept of one connection; those after are counted."""
MAX_DETAIL: Final = 120
"""Characters of a detail."""

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
UML_MEANS_MORE = re.compile(r"[\\<>%~\"\[\]$&#]|(?<=\*)\*|(?<=/)/|(?<=_)_|(?<=-)-")
"""What PlantUML reads as markup, link, sprite, function or line break."""
MERMAID_MEANS_MORE = re.compile(r"[#;<>%&{}]")


def plain(detail: str) -> str:
    """One line of bounded length."""
    line = CONTROL.sub(" ", detail[: MAX_DETAIL + 1])
    return line if len(line) <= MAX_DETAIL else line[:MAX_DETAIL] + "…"


def for_plantuml(text: str) -> str:
    return UML_MEANS_MORE.sub(lambda found: f"<U+{ord(found[0]):04X}>", text)


def for_mermaid(text: str) -> str:
    return MERMAID_MEANS_MORE.sub(lambda found: f"#{ord(found[0])};", text)


class Sequence:
    """
    The steps of one connection, in order.

    @ivar left_out: steps that were not kept because there were L{MAX_STEPS} already.
    """

    __slots__ = ("left_out", "steps")

    def __init__(self) -> None:
        self.steps: list[tuple[Step, str]] = []
        self.left_out = 0

    def step(self, name: str, detail: str = "") -> None:
        """
        Record a step.

        @param detail: a few words of ours: a host, a version, a number; never what was carried.

        @raise KeyError: there is no such step in L{STEPS}.
        """
        step = STEPS[name]
        if len(self.steps) < MAX_STEPS:
            self.steps.append((step, plain(detail)))
        else:
            self.left_out += 1

    def names(self) -> list[str]:
        return [step.name for step, _ in self.steps]

    def participants(self) -> list[Participant]:
        """Those that take part, from left to right."""
        taking: set[str] = set()
        for step, _ in self.steps:
            taking.update((step.source, step.target))
            taking.update(name for source, target, _ in step.more for name in (source, target))
        return [participant for participant in PARTICIPANTS if participant.name in taking]

    def plantuml(self) -> str:
        """The picture in the deck's own language."""
        lines = ["@startuml", ""]
        for box, colour in BOXES.items():
            inside = [participant for participant in self.participants() if participant.box == box]
            if inside:
                lines.append(f'box "{box}" {colour}')
                lines += ['{} "{}" as {}'.format(each.kind, r"\n".join(each.title), each.name) for each in inside]
                lines += ["end box", ""]
        return "\n".join([*lines, *self.drawn_plantuml(), "@enduml", ""])

    def drawn_plantuml(self) -> Iterator[str]:
        living = Living()
        for step, detail in self.steps:
            text = step.text + (f" [{for_plantuml(detail)}]" if detail else "")
            over = ",".join(dict.fromkeys((step.source, step.target)))
            if step.note:
                yield f"note over {over}: {step.note}"
            yield (
                f"note over {over}: {text}"
                if step.arrow == NOTE
                else f"{step.source} {step.arrow} {step.target}: {text}"
            )
            for source, target, further in step.more:
                yield f"{source} -> {target}: {further}"
            yield from living.changes(step)
        if self.left_out:
            yield f"note over {self.steps[-1][0].source}: {self.left_out} more steps were not kept"

    def mermaid(self) -> str:
        """The same picture for Markdown."""
        lines = ["sequenceDiagram"]
        for each in self.participants():
            kind = "actor" if each.kind == "actor" else "participant"
            lines.append(f"    {kind} {each.name} as {'<br/>'.join(each.title)}")
        return "\n".join([*lines, *("    " + line for line in self.drawn_mermaid()), ""])

    def drawn_mermaid(self) -> Iterator[str]:
        arrows = {"->": "->>", "-->": "-->>", BOTH: "<<-->>"}
        living = Living()
        for step, detail in self.steps:
            text = for_mermaid(step.text + (f" [{detail}]" if detail else ""))
            over = ",".join(dict.fromkeys((step.source, step.target)))
            if step.note:
                yield f"Note over {over}: {for_mermaid(step.note)}"
            if step.arrow == NOTE:
                yield f"Note over {over}: {text}"
            else:
                yield f"{step.source}{arrows[step.arrow]}{step.target}: {text}"
            for source, target, further in step.more:
                yield f"{source}->>{target}: {further}"
            yield from living.changes(step)
        if self.left_out:
            yield f"Note over {self.steps[-1][0].source}: {self.left_out} more steps were not kept"


class Living:
    """Who lives while a picture is drawn. Both languages refuse to end what does not live."""

    def __init__(self) -> None:
        self.living: set[str] = set()

    def changes(self, step: Step) -> Iterator[str]:
        if step.wakes and step.wakes not in self.living:
            self.living.add(step.wakes)
            yield f"activate {step.wakes}"
        if step.sleeps in self.living:
            self.living.remove(step.sleeps)
            yield f"deactivate {step.sleeps}"

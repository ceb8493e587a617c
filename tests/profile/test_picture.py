"""The picture in the documentation is drawn from the table, so it cannot lie."""

from __future__ import annotations

from pathlib import Path

from sslintercept.profile.profile import FOLLOWS, Stage


def picture() -> str:
    """The stages as a mermaid diagram."""

    def name(stage: Stage) -> str:
        return stage.value.replace("-", "_").replace(" ", "_")

    lines = ["stateDiagram-v2"]
    lines += [f'    state "{stage.value}" as {name(stage)}' for stage in Stage]
    lines.append(f"    [*] --> {name(Stage.NEW_BORN)}")
    for stage in Stage:
        lines += [f"    {name(stage)} --> {name(after)}" for after in Stage if after in FOLLOWS[stage]]
    lines.append(f"    {name(Stage.DEAD)} --> [*]")
    return "\n".join(lines)


def test_the_stages_are_documented_as_they_are() -> None:
    text = (Path(__file__).parents[2] / "docs" / "connections.md").read_text(encoding="utf-8")
    assert f"```mermaid\n{picture()}\n```" in text

"""What use may name, and what is said of sections that name it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sslintercept.config import units
from sslintercept.config.key import setting
from sslintercept.config.schema import InspectSettings
from sslintercept.config.use import load as load_factory
from sslintercept.errors import ConfigError
from sslintercept.examine import examine, idle_engines
from sslintercept.inspect.inspector import Inspector, NoOptions
from sslintercept.inspect.plugin import SHIPPED, InspectorPlugin, find
from sslintercept.interfaces import IInspectorPlugin
from sslintercept.load import inspecting, inspector, load
from tests.inspect.stubs import EvilOptions, Word

HERE = "[listen:p]\nendpoint = tcp:0:interface=127.0.0.1\n"


@dataclass(frozen=True)
class SizeOptions:
    """Of L{Size}."""

    most: int = setting(units.integer(1, 9), "5", "bytes")


class Size(Inspector):
    """An inspector somebody wrote."""

    Options = SizeOptions

    def __init__(self, options: Any, engines: object) -> None:  # Any: an instance of C{Options}
        super().__init__(options)
        if options.most == 7:
            raise ValueError("seven is no size")
        if options.most == 8:
            raise ConfigError("eight is none", where="sizes.txt", remedy="name another")


def bare(options: object, engines: object) -> Inspector:
    """A factory without options."""
    assert isinstance(options, NoOptions)
    return Word()


failing = 3
PLUGIN = InspectorPlugin("size", Size)
ME = "tests.inspect.test_plugin"


def test_each_that_ships_can_be_loaded_and_says_what_it_finds() -> None:
    assert sorted(SHIPPED) == ["clamd", "dlp", "icap", "list", "phishing", "yara"]
    for shipped in SHIPPED.values():
        assert shipped.doc
        assert shipped.options is not NoOptions
        assert issubclass(shipped.inspector, Inspector)  # type: ignore[arg-type]  # those that ship are classes


def test_use_names_what_ships_a_plugin_or_a_factory() -> None:
    assert find("dlp", []) is SHIPPED["dlp"]
    assert find("size", [PLUGIN]) is PLUGIN
    assert IInspectorPlugin.providedBy(PLUGIN)
    assert PLUGIN.options is SizeOptions
    assert find(f"{ME}:Size", []).options is SizeOptions
    assert find(f"{ME}:bare", []).options is NoOptions
    made = find(f"{ME}:Size", []).inspector(SizeOptions(3), idle_engines())
    assert isinstance(made, Size)
    assert made.options.most == 3


@pytest.mark.parametrize(
    ("use", "plugins", "what"),
    [
        ("dpl", [], "no such inspector; did you mean dlp.* There are clamd, dlp, icap"),
        ("zzzzz", [PLUGIN], "is its distribution installed.* size, yara, and module:factory"),
        ("x" * 10_000, [], "no such inspector"),
        ("size", [PLUGIN, PLUGIN], "more than one inspector has this name"),
        ("dlp", [InspectorPlugin("dlp", Size)], "more than one inspector has this name"),
        ("no.such.module:x", [], "module no.such.module cannot be imported"),
        (f"{ME}:none", [], f"module {ME} has no none"),
        (f"{ME}:failing", [], "cannot be called"),
        (f"{ME}:", [], "has no "),
        (":x", [], "fails when it is imported|cannot be imported"),
    ],
)
def test_what_is_nobody_is_told_with_who_there_is(use: str, plugins: Sequence[InspectorPlugin], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        find(use, plugins)


def test_a_module_that_fails_when_it_is_imported_is_a_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_inspector_module.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match=r"fails when it is imported \(ZeroDivisionError: division by zero\)"):
        load_factory("broken_inspector_module:x")


def test_plugins_of_the_folder_are_found_by_their_names() -> None:
    assert inspector("dlp") is SHIPPED["dlp"]
    with pytest.raises(ValueError, match="no such inspector"):
        inspector("size")


# sections


def section(use: str, options: object = None, **more: Any) -> InspectSettings:  # Any: each has its own type
    return InspectSettings("one", use, **{"match": "", **more}, options=NoOptions() if options is None else options)


def test_a_section_becomes_an_inspector_in_its_place() -> None:
    made = inspecting(
        section(
            "tests.inspect.stubs:evil",
            EvilOptions(),
            match="direction:upload",
            fail="open",
            too_large="closed",
            unreadable="closed",
            largest=1000,
            timeout=5.0,
        ),
        idle_engines(),
    )
    assert (made.name, made.closed, made.largest_closed, made.unreadable_closed) == ("one", False, True, True)
    assert (made.largest, made.timeout) == (1000, 5.0)
    assert isinstance(made.inspector, Word)
    assert [len(match.conditions) for match in (made.match, made.bodies, made.conversations)] == [1, 1, 0]


@pytest.mark.parametrize(
    ("most", "what", "remedy"),
    [(7, "seven is no size", "correct the section"), (8, "sizes.txt: eight is none", "name another")],
)
def test_one_that_cannot_be_made_is_told_with_its_section(most: int, what: str, remedy: str) -> None:
    with pytest.raises(ConfigError) as caught:
        inspecting(section(f"{ME}:Size", SizeOptions(most)), idle_engines())
    assert str(caught.value) == f"[inspect:one] use = {ME}:Size: {what}; {remedy}"


def read(folder: Path, text: str) -> object:
    (folder / "hosts").touch()
    base = "[sslintercept]\nstate_dir = state\n[dns]\nhosts = hosts\nresolv_conf = hosts\n"
    (folder / "x.ini").write_text(f"{base}{HERE}{text}")
    return examine(load(folder / "x.ini")).mistakes


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("use = dpl", "did you mean dlp"),
        ("match = direction:upload", "use"),
        (f"use = {ME}:Size\nmost = 10", "most"),
        (f"use = {ME}:Size\nmots = 3", "mots"),
        ("use = dlp\nmatch = direction:sideways", "none of request, upload, response, download"),
        ("use = dlp\nmatch = elephant:1", "elephant"),
        ("use = dlp\ntimeout = 1s\nfail = perhaps", "fail"),
    ],
)
def test_a_mistake_in_a_section_is_told_when_it_is_read(tmp_path: Path, text: str, what: str) -> None:
    with pytest.raises(ConfigError, match=what) as caught:
        read(tmp_path, f"[inspect:one]\n{text}\n")
    assert "[inspect:one]" in str(caught.value)


def test_what_cannot_be_made_is_found_before_the_start_and_hides_nothing(tmp_path: Path) -> None:
    mistakes = read(
        tmp_path,
        f"[inspect:one]\nuse = {ME}:Size\nmost = 7\n[inspect:two]\nuse = dlp\nexact = none.table\nkey = none.key\n"
        f"[inspect:three]\nuse = {ME}:Size\n",
    )
    assert isinstance(mistakes, list)
    told = [str(one) for one in mistakes if "[inspect:" in str(one)]
    assert [one.partition("]")[0] for one in told] == ["[inspect:one", "[inspect:two"]
    assert "none.key" in told[1] or "none.table" in told[1]

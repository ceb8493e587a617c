"""C{[transform:NAME]} in an ini file: what can be used, its own keys, and every mistake before a start."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from zope.interface.verify import verifyObject

from sslintercept.config.reader import ConfigMistakes
from sslintercept.errors import ConfigError
from sslintercept.interfaces import ITransformPlugin
from sslintercept.load import entries, load
from sslintercept.testing.gateway import MemoryGateway
from sslintercept.testing.loop import Loop
from sslintercept.transform.plugin import TransformPlugin, find
from sslintercept.transform.processor import Transformer
from sslintercept.transform.shipped.table import SHIPPED
from tests.http.test_session import GET, asked

MODULE = """\
from dataclasses import dataclass

from sslintercept.config.key import setting
from sslintercept.config.units import choice, integer
from sslintercept.transform.processor import Transformer
from sslintercept.transform.shipped.table import SHIPPED
from sslintercept.transform.stage import Transform


class Shout(Transform):
    def __init__(self, marks):
        self.marks = marks

    def write(self, data):
        self.output.write(data.upper())

    def finish(self):
        self.output.write(b"!" * self.marks)
        self.output.finish()


class Shouting(Transformer):
    @dataclass(frozen=True)
    class Options:
        marks: int = setting(integer(0, 9), "1", "how many exclamation marks")

        def __post_init__(self):
            if self.marks == 7:
                raise ValueError("seven marks are too loud")

    def transform(self, message):
        return Shout(self.options.marks)


class Odd(Transformer):
    def __init__(self, options):
        raise ValueError("nobody can make this")


NOTHING = 1
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "shouting_for_tests.py").write_text(MODULE)
    (tmp_path / "broken_for_tests.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "shouting_for_tests"
    for name in ("shouting_for_tests", "broken_for_tests"):
        sys.modules.pop(name, None)


def mistake(folder: Path, text: str) -> str:
    file = folder / "x.ini"
    file.write_text(text)
    with pytest.raises(ConfigMistakes) as caught:
        load(file)
    return str(caught.value).removeprefix(str(folder) + "/")


def test_a_factory_of_any_module_changes_what_it_is_asked_to(loop: Loop, module: str) -> None:
    gateway = MemoryGateway(
        loop,
        f"[transform:loud]\nuse = {module}:Shouting\nmatch = direction:response host:origin.test\nmarks = 3\n"
        f"[transform:louder]\nuse = {module}:Shouting\nmatch = direction:response status:2xx\n",
    )
    gateway.origin("origin.test:80")
    assert asked(gateway, GET)[0].body == b"HELLO!!!!"


def test_without_such_sections_nobody_is_asked(loop: Loop) -> None:
    assert MemoryGateway(loop).proxy.transforms is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("use = no-such", "x.ini:2: [transform:a] use = no-such: there is no such transform; is its distribution"),
        ("match = host:x", "x.ini:1: [transform:a] use: missing; allowed: a shipped stage, a plugin's name, or module"),
        ("use = no.module:x", "use = no.module:x: module no.module cannot be imported"),
        ("use = broken_for_tests:x", "fails when it is imported (ZeroDivisionError"),
        ("use = M:Missing", "module M has no Missing"),
        ("use = M:NOTHING", "M:NOTHING cannot be called"),
        ("use = M:Shouting\nmarks = 10", "x.ini:3: [transform:a] marks = 10: "),
        ("use = M:Shouting\nmark = 1", "x.ini:3: [transform:a] mark: unknown key; the nearest is marks"),
        ("use = M:Shouting\nmarks = 7", "x.ini:1: [transform:a]: seven marks are too loud"),
        ("use = M:Shouting\nmatch = hots:a", "match = hots:a: unknown condition 'hots', did you mean host?"),
        ("use = M:Shouting\nmatch = status:900", "status"),
        ("use = M:Shouting\nmatch = direction:request status:200", "requests have no status"),
        ("use = M:Shouting\nno_transform = maybe", "allowed: respect or ignore"),
        ("use = M:Shouting\nunknown_coding = maybe", "allowed: pass or block"),
    ],
)
def test_a_mistake_has_its_line_and_says_what_is_allowed(tmp_path: Path, module: str, text: str, expected: str) -> None:
    found = mistake(tmp_path, "[transform:a]\n" + text.replace("M:", f"{module}:") + "\n")
    assert (
        expected.replace("M", module, 1 if expected.startswith("module M") else 0).replace(
            "M:NOTHING", f"{module}:NOTHING"
        )
        in found
    )
    assert "\n" not in found


def test_one_that_cannot_be_made_is_a_line_too(tmp_path: Path, module: str) -> None:
    (tmp_path / "x.ini").write_text(f"[transform:a]\nuse = {module}:Odd\n")
    settings = load(tmp_path / "x.ini")
    with pytest.raises(ConfigError, match="nobody can make this"):
        entries(settings.changes)


def test_what_all_have_in_common_is_set_once(loop: Loop) -> None:
    gateway = MemoryGateway(loop, "[transforms]\nmax_ratio = 50\nmax_decoded = 1MiB\npatience = 5s\n")
    common = gateway.settings.transforms
    assert (common.max_ratio, common.max_decoded, common.patience) == (50, 1 << 20, 5.0)


class Nothing(Transformer):
    def transform(self, message: object) -> None:
        """Nothing."""


def test_a_plugin_is_found_by_its_name_and_two_of_one_name_are_not() -> None:
    plugin = TransformPlugin("nothing", Nothing)
    assert verifyObject(ITransformPlugin, plugin)
    assert find("nothing", {}, [plugin]) is plugin
    assert isinstance(find("null", SHIPPED, [plugin]).transformer(None), Transformer)
    with pytest.raises(ValueError, match="more than one transform has this name"):
        find("null", SHIPPED, [TransformPlugin("null", Nothing)])
    with pytest.raises(ValueError, match="did you mean nothing"):
        find("nothin", {}, [plugin])

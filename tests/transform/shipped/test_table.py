"""The table of what ships: every option is described, every transformer is made of its options."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from pathlib import Path

import pytest

from sslintercept.config import lines
from sslintercept.config.key import Key, Section
from sslintercept.testing.transform import Exchange, splits
from sslintercept.transform import shipped
from sslintercept.transform.processor import Transformer
from sslintercept.transform.shipped.null import Nothing, NullOptions
from sslintercept.transform.shipped.table import SHIPPED, Shipped
from sslintercept.transform.stage import Null

PAGE = Path(__file__).parents[3] / "docs" / "shipped-stages.md"


def keys_of(options: type) -> tuple[Key, ...]:
    return Section("transform", options, "").keys


def example_in(text: str) -> lines.Section:
    """The ini example of a docstring or a page."""
    begin = text.index("[transform:")
    indent = begin - text.rindex("\n", 0, begin) - 1
    block = [line[indent:] for line in text[begin - indent :].split("\n\n")[0].split("```")[0].splitlines()]
    sections, faults = lines.parse("\n".join(block).encode())
    assert not faults
    assert len(sections) == 1
    return sections[0]


def made_by(example: lines.Section, tmp_path: Path) -> tuple[str, Transformer]:
    """What the section of an ini file becomes."""
    entries = {name: entry.value for name, entry in example.entries.items()}
    name = entries.pop("use")
    entries.pop("match", None)
    options, transformer, _ = SHIPPED[name]
    known = {key.name: key for key in keys_of(options)}
    return name, transformer(options(**{key: known[key].unit(text, tmp_path) for key, text in entries.items()}))


def test_the_names_are_those_of_the_ini_file() -> None:
    assert list(SHIPPED) == [
        "replace-text", "inject-html", "headers", "redirect", "throttle", "digest", "tee", "decode", "encode", "null"
    ]  # fmt: skip


@pytest.mark.parametrize("each", SHIPPED.values(), ids=SHIPPED)
def test_every_option_is_a_key_that_says_what_it_means(each: Shipped) -> None:
    assert dataclasses.is_dataclass(each.options)
    assert len(keys_of(each.options)) == len(dataclasses.fields(each.options))
    for key in keys_of(each.options):
        assert key.doc
        assert key.allowed
        text = key.example if key.default is None else key.default
        assert key.default == "" or text
        key.unit(text)


def test_every_module_shows_an_example_that_works(tmp_path: Path) -> None:
    shown = set()
    for found in pkgutil.iter_modules(shipped.__path__):
        doc = importlib.import_module(f"{shipped.__name__}.{found.name}").__doc__ or ""
        parts = ["\n    [transform:" + part for part in doc.split("\n    [transform:")[1:]]
        shown |= {made_by(example_in(part), tmp_path)[0] for part in parts}
    assert shown == set(SHIPPED)


def test_the_page_shows_an_example_and_all_options_of_each(tmp_path: Path) -> None:
    page = PAGE.read_text("utf-8")
    for name, each in SHIPPED.items():
        chapter = page.split(f"\n## {name}\n")[1].split("\n## ")[0]
        assert made_by(example_in(chapter), tmp_path)[0] == name
        for key in keys_of(each.options):
            default = "required" if key.required else "" if key.default is None else f"`{key.default}`"
            assert f"| `{key.name}` | {default if key.default != '' else 'empty'} |" in chapter, key.name


def test_null_changes_nothing_at_every_split() -> None:
    body = bytes(range(256))
    for pieces in splits(body):
        exchange = Exchange(Nothing(NullOptions()))
        pipe = exchange.respond(fields={"Content-Length": "256", "Content-Encoding": "gzip", "ETag": '"1"'})
        pipe.send(*pieces)
        assert (pipe.got, pipe.announced, pipe.ended) == (body, [256], 1)
        assert [type(stage) for stage in exchange.stages] == [Null]
        assert exchange.head.get(b"ETag") == b'"1"'


def test_null_keeps_the_pace_and_the_ends() -> None:
    pipe = Exchange(Nothing(NullOptions())).respond()
    pipe.stalled = True
    pipe.write(bytes(pipe.high_water + 1))
    assert pipe.stopped
    pipe.drain()
    assert not pipe.stopped
    pipe.abort()
    assert pipe.ended == 0

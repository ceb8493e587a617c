"""The schema holds together: what it says of itself is true."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from sslintercept.config import schema
from sslintercept.config.key import Key, Section
from sslintercept.config.schema import SECTIONS, Settings

KEYS = [pytest.param(key, id=f"{section.name}.{key.name}") for section in SECTIONS for key in section.keys]


@pytest.mark.parametrize("key", KEYS)
def test_a_key_says_in_one_line_what_it_means_and_takes(key: Key) -> None:
    for text in (key.doc, key.allowed):
        assert text
        assert "\n" not in text
        assert not text.endswith(".")


@pytest.mark.parametrize("key", KEYS)
def test_a_key_has_a_default_or_an_example(key: Key) -> None:
    if key.default is None:
        assert key.example or (key.name, key.allowed) == ("path", "nothing"), "reserved"
    else:
        assert not key.required


def test_the_examples_are_allowed() -> None:
    for section in SECTIONS:
        for key in section.keys:
            if key.example:
                key.unit(key.example, Path("/"))


ALONE = [section for section in SECTIONS if not section.named and section.name != "ca"]
"""sections whose defaults depend on no other one; where the CA lies follows state_dir"""


@pytest.mark.parametrize("section", ALONE, ids=lambda section: section.name)
def test_a_section_made_without_the_reader_has_its_defaults(section: Section) -> None:
    made = section.settings()
    for key in section.keys:
        expected = None if key.default is None else key.unit(key.default)
        assert getattr(made, key.name) == expected


def test_every_section_is_an_attribute_of_the_settings() -> None:
    attributes = {field.name for field in dataclasses.fields(Settings)}
    process = {key.name for key in schema.PROCESS.keys}
    single = {section.attribute for section in SECTIONS if not section.named and section is not schema.PROCESS}
    assert attributes == process | single | {
        *(
            "path",
            "generation",
            "listeners",
            "rules",
            "parents",
            "split_dns",
            "changes",
            "sites",
            "inspectors",
            "warnings",
        )
    }


def test_every_class_of_settings_is_frozen_and_has_slots() -> None:
    classes: list[type[Any]] = [Settings, *(section.settings for section in SECTIONS)]  # Any: they have no common base
    for settings in classes:
        assert settings.__dataclass_params__.frozen
        assert "__slots__" in vars(settings)


def test_named_sections_say_so_in_their_heading() -> None:
    assert [section.heading for section in SECTIONS if section.named] == [
        "[listen:NAME]",
        "[dns-for:NAME]",
        "[parent:NAME]",
        "[sites:NAME]",
        "[rule:NAME]",
        "[transform:NAME]",
        "[inspect:NAME]",
    ]

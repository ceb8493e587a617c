"""
The ini file with what the folders above the settings know of it: conditions, and the transforms that can be used.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from twisted.plugin import getPlugins

import sslintercept.plugins
from sslintercept.config.reader import Checks, read
from sslintercept.config.schema import InspectSettings, Settings, TransformSettings
from sslintercept.errors import ConfigError
from sslintercept.inspect import plugin as inspectors
from sslintercept.inspect.engines import Engines
from sslintercept.inspect.entry import Entry as Inspecting
from sslintercept.inspect.select import check_part_match, of_bodies, of_conversations, of_parts
from sslintercept.interfaces import IInspectorPlugin, ITransformPlugin
from sslintercept.rule.decide import check_match
from sslintercept.rule.match import parse_with
from sslintercept.transform.plugin import Plugin, Use, find
from sslintercept.transform.processor import Entry
from sslintercept.transform.select import CONDITIONS_OF_MESSAGES, check_message_match
from sslintercept.transform.shipped.table import SHIPPED


def used(use: str) -> Use:
    """
    The transform that C{use =} names.

    @raise ValueError: there is none.
    """
    return find(use, SHIPPED, cast("list[Plugin]", list(getPlugins(ITransformPlugin, sslintercept.plugins))))


def options_of(use: str) -> type[Any]:  # Any: each transform has its own dataclass
    """
    The keys of the transform that C{use =} names.

    @raise ValueError: there is none.
    """
    return used(use).options


def inspector(use: str) -> inspectors.Use:
    """
    The inspector that C{use =} names.

    @raise ValueError: there is none.
    """
    found = getPlugins(IInspectorPlugin, sslintercept.plugins)
    return inspectors.find(use, cast("list[inspectors.Plugin]", list(found)))


def inspector_options(use: str) -> type[Any]:  # Any: each inspector has its own dataclass
    """
    The keys of the inspector that C{use =} names.

    @raise ValueError: there is none.
    """
    return inspector(use).options


CHECKS = Checks(check_match, check_message_match, options_of, check_part_match, inspector_options)


def load(path: Path, generation: int = 1) -> Settings:
    """
    Read an ini file.

    @raise ConfigMistakes: see L{read}.
    """
    return read(path, CHECKS, generation)


def entries(settings: Sequence[TransformSettings]) -> list[Entry]:
    """
    The transforms of C{[transform:NAME]} sections, in their order.

    @raise ConfigError: one cannot be made.
    """
    return [entry(each) for each in settings]


def entry(settings: TransformSettings) -> Entry:
    """
    One of them.

    @raise ConfigError: it cannot be made.
    """
    try:
        made = used(settings.use).transformer(settings.options)
        match = parse_with(CONDITIONS_OF_MESSAGES, settings.match)
    except (ValueError, ConfigError) as error:
        where = f"[transform:{settings.name}] use = {settings.use}"
        what, remedy = (
            (error.what, error.remedy) if isinstance(error, ConfigError) else (str(error), "correct the section")
        )
        raise ConfigError(what, where=where, remedy=remedy) from error
    return Entry(settings.name, match, made, settings.no_transform == "respect", settings.unknown_coding == "block")


def inspecting(settings: InspectSettings, engines: Engines) -> Inspecting:
    """
    The inspector of an C{[inspect:NAME]} section.

    @raise ConfigError: it cannot be made.
    """
    try:
        made = inspector(settings.use).inspector(settings.options, engines)
        matches = of_parts(settings.match), of_bodies(settings.match), of_conversations(settings.match)
    except (ValueError, ConfigError) as error:
        where = f"[inspect:{settings.name}] use = {settings.use}"
        if not isinstance(error, ConfigError):
            raise ConfigError(str(error), where=where, remedy="correct the section") from error
        # It says which file is wrong.
        raise ConfigError(f"{error.where}: {error.what}", where=where, remedy=error.remedy) from error
    return Inspecting(
        settings.name,
        made,
        *matches,
        closed=settings.fail == "closed",
        largest=settings.largest,
        largest_closed=settings.too_large == "closed",
        unreadable_closed=settings.unreadable == "closed",
        timeout=settings.timeout,
    )

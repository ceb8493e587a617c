"""
What C{use =} in a C{[transform:NAME]} section may name: a transform that ships, a plugin, or C{module:factory}.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from twisted.plugin import IPlugin
from zope.interface import implementer

from sslintercept.config import use as uses
from sslintercept.interfaces import ITransformPlugin
from sslintercept.transform.processor import NoOptions, Transformer

Factory = Callable[[Any], Transformer]  # Any: each transform has its own dataclass of options
"""a subclass of L{Transformer}, or any function; its attribute C{Options} is the dataclass that it takes"""


class Use(Protocol):
    """What C{use =} names."""

    @property
    def options(self) -> type[Any]: ...  # Any: as above
    @property
    def transformer(self) -> Factory: ...


class Plugin(Use, Protocol):
    """L{ITransformPlugin}, to the type checker."""

    @property
    def name(self) -> str: ...


@implementer(IPlugin, ITransformPlugin)
class TransformPlugin:
    """
    A transform that can be found by its name. In a module of C{sslintercept/plugins/}::

        upper = TransformPlugin("upper", Upper)
    """

    def __init__(self, name: str, factory: Factory) -> None:
        self.name = name
        self.factory = factory

    @property
    def options(self) -> type[Any]:  # Any: as above
        """See L{ITransformPlugin}."""
        found: type[Any] = getattr(self.factory, "Options", NoOptions)
        return found

    def transformer(self, options: Any) -> Transformer:  # Any: as above
        """See L{ITransformPlugin}."""
        return self.factory(options)


def find(use: str, shipped: Mapping[str, Use], plugins: Iterable[Plugin]) -> Use:
    """
    Who is meant.

    @raise ValueError: nobody, or more than one, or a module that cannot be loaded.
    """
    return uses.find(use, "transform", shipped, plugins, TransformPlugin)

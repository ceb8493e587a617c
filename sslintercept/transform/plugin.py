"""
What C{use =} in a C{[transform:NAME]} section may name: a transform that ships, a plugin, or C{module:factory}.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any, Final, Protocol

from twisted.plugin import IPlugin
from zope.interface import implementer

from sslintercept.config.reader import nearest
from sslintercept.interfaces import ITransformPlugin
from sslintercept.transform.processor import NoOptions, Transformer

MOST_NAME: Final = 256

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
    if ":" in use:
        return TransformPlugin(use, _load(use))
    found: list[Use] = [plugin for plugin in plugins if plugin.name == use]
    if use in shipped:
        found.append(shipped[use])
    if not found:
        names = sorted({*shipped, *(plugin.name for plugin in plugins)})
        near = nearest(use[:80], names)
        hint = f"did you mean {near}?" if near else "is its distribution installed?"
        raise ValueError(f"there is no such transform; {hint} There are {', '.join(names)}, and module:factory")
    if len(found) > 1:
        raise ValueError("more than one transform has this name; name the one you mean by module:factory")
    return found[0]


def _load(use: str) -> Factory:
    module, _, name = use.partition(":")
    try:
        factory = getattr(import_module(module), name)
    except AttributeError:
        raise ValueError(f"module {module} has no {name}") from None
    except ImportError as error:
        raise ValueError(f"module {module} cannot be imported ({error})") from None
    except Exception as error:
        raise ValueError(f"module {module} fails when it is imported ({type(error).__name__}: {error})") from error
    if not callable(factory):
        raise ValueError(f"{use} cannot be called")
    made: Factory = factory
    return made

"""What C{use =} in a section may name: something that ships, a plugin, or C{module:factory}."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any, Protocol, TypeVar

from sslintercept.config.reader import nearest

Factory = Callable[..., Any]  # Any: each kind of section makes something else


class Named(Protocol):
    """A plugin with a name."""

    @property
    def name(self) -> str: ...


T = TypeVar("T")
P = TypeVar("P", bound=Named)


def find(
    use: str,
    what: str,
    shipped: Mapping[str, T],
    plugins: Iterable[P],
    from_factory: Callable[[str, Factory], T],
) -> T | P:
    """
    Who is meant.

    @param what: what messages call it: C{transform}.
    @param from_factory: makes what ships look like, of a name and what was loaded.
    @raise ValueError: nobody, or more than one, or a module that cannot be loaded.
    """
    if ":" in use:
        return from_factory(use, load(use))
    plugins = list(plugins)
    found: list[T | P] = [plugin for plugin in plugins if plugin.name == use]
    if use in shipped:
        found.append(shipped[use])
    if not found:
        names = sorted({*shipped, *(plugin.name for plugin in plugins)})
        near = nearest(use[:80], names)
        hint = f"did you mean {near}?" if near else "is its distribution installed?"
        raise ValueError(f"there is no such {what}; {hint} There are {', '.join(names)}, and module:factory")
    if len(found) > 1:
        raise ValueError(f"more than one {what} has this name; name the one you mean by module:factory")
    return found[0]


def load(use: str) -> Factory:
    """
    What C{module:name} is.

    @raise ValueError: the module cannot be imported, or has nothing of that name that can be called.
    """
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

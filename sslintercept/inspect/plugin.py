"""
What C{use =} in an C{[inspect:NAME]} section may name: an inspector that ships, a plugin, or C{module:factory}.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple, Protocol

from twisted.plugin import IPlugin
from zope.interface import implementer

from sslintercept.config import use as uses
from sslintercept.inspect.engines import Engines
from sslintercept.inspect.inspector import Inspector, NoOptions
from sslintercept.interfaces import IInspectorPlugin

Factory = Callable[[Any, Engines], Inspector]  # Any: each inspector has its own dataclass of options
"""a subclass of L{Inspector}, or any function; its attribute C{Options} is the dataclass that it takes"""


class Use(Protocol):
    """What C{use =} names."""

    @property
    def options(self) -> type[Any]: ...  # Any: as above
    @property
    def inspector(self) -> Factory: ...


class Plugin(Use, Protocol):
    """L{IInspectorPlugin}, to the type checker."""

    @property
    def name(self) -> str: ...


class Shipped(NamedTuple):
    """An inspector that ships; its module is loaded when somebody uses it."""

    place: str
    doc: str

    @property
    def options(self) -> type[Any]:  # Any: as above
        """The keys of its section."""
        found: type[Any] = getattr(self.inspector, "Options", NoOptions)
        return found

    @property
    def inspector(self) -> Factory:
        """Makes one."""
        return uses.load(self.place)


SHIPPED: Final = {
    "clamd": Shipped("sslintercept.inspect.shipped.clamd:ClamdInspector", "malware, told by a clamd"),
    "icap": Shipped("sslintercept.inspect.shipped.icap:IcapInspector", "whatever services of ICAP say"),
    "yara": Shipped("sslintercept.inspect.shipped.yara:YaraInspector", "malware, told by rules of YARA"),
    "list": Shipped("sslintercept.inspect.shipped.sites:ListInspector", "sites that are listed"),
    "dlp": Shipped("sslintercept.inspect.shipped.dlp:DlpInspector", "what must not leave"),
    "phishing": Shipped("sslintercept.inspect.shipped.phishing:PhishingInspector", "mails and pages that phish"),
}


@implementer(IPlugin, IInspectorPlugin)
class InspectorPlugin:
    """
    An inspector that can be found by its name. In a module of C{sslintercept/plugins/}::

        size = InspectorPlugin("size", Size)
    """

    def __init__(self, name: str, factory: Factory) -> None:
        self.name = name
        self.factory = factory

    @property
    def options(self) -> type[Any]:  # Any: as above
        """See L{IInspectorPlugin}."""
        found: type[Any] = getattr(self.factory, "Options", NoOptions)
        return found

    def inspector(self, options: Any, engines: Any) -> Inspector:  # Any: as above; L{Engines}
        """See L{IInspectorPlugin}."""
        return self.factory(options, engines)


def find(use: str, plugins: Iterable[Plugin], shipped: Mapping[str, Use] = SHIPPED) -> Use:
    """
    Who is meant.

    @raise ValueError: nobody, or more than one, or a module that cannot be loaded.
    """
    return uses.find(use, "inspector", shipped, plugins, InspectorPlugin)

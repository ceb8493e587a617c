"""
C{null}: changes nothing.

Good for measuring what a transform costs before it does anything, and for finding out whether it is the transform or
the machine around it that breaks something (ATS has switches for it)::

    [transform:nothing]
    use = null
    match = host:www.example

The body goes through a chain as it would for any other transform, so its pace, its ends and its framing are those of a
transformed one: the length is kept, its codings too.
"""

from __future__ import annotations

from dataclasses import dataclass

from sslintercept.transform.arrange import Sees
from sslintercept.transform.message import Message
from sslintercept.transform.processor import Transformer
from sslintercept.transform.stage import Null


@dataclass(frozen=True, slots=True)
class NullOptions:
    """Of C{null}: there are none."""


class Nothing(Transformer):
    """Gives each body a stage that changes nothing."""

    sees = Sees.CODED
    changes = False
    partial = True

    def __init__(self, options: NullOptions) -> None:
        self.options = options

    def transform(self, message: Message) -> Null:
        return Null()

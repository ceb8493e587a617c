"""What an inspector says of a part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple, Protocol

from sslintercept.profile.profile import Bytes
from sslintercept.transform.message import Answer

MALWARE: Final = "malware"
SITE: Final = "site"
LEAK: Final = "leak"
PHISHING: Final = "phishing"
FAILURE: Final = "failure"
"""kinds of what is found; a failure is an engine that could not say"""
TAG: Final = "X-Sslintercept-Inspection"
"""the field with which L{Act.TAG} marks"""
MOST_EVIDENCE: Final = 64
"""pieces of evidence of one verdict that are kept"""


class Act(IntEnum):
    """What becomes of a part; of several verdicts the gravest counts."""

    PASS = 0
    REPORT = 1
    """it passes, and an event says what was found"""
    TAG = 2
    """a mail, or the head of a message, is marked"""
    REDACT = 3
    """what was found is overwritten"""
    REPLACE = 4
    """other content takes its place"""
    BLOCK = 5
    QUARANTINE = 6
    """it does not pass, and a copy is kept"""


class Body(Protocol):
    """Content that comes piece by piece (L{sslintercept.icap.body.AnswerBody}); it stands still until it is read."""

    def read_to(
        self,
        write: Callable[[Bytes], object],
        finish: Callable[[], object],
        fail: Callable[[Exception], object],
    ) -> None: ...
    def pauseProducing(self) -> None: ...
    def resumeProducing(self) -> None: ...
    def stopProducing(self) -> None: ...


class Evidence(NamedTuple):
    """One piece of it, fit to be written down: never a secret itself."""

    what: str
    """the detector, signature or reason"""
    text: str = ""
    """masked"""
    where: str = ""
    """the part it was in, as L{sslintercept.inspect.part.Part.path} says it"""
    offset: int = 0
    length: int = 0
    """bytes in the content of that part; 0 if it has no place"""
    score: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """
    What was found in a part.

    @ivar kind: L{MALWARE}, L{SITE}, L{LEAK}, L{PHISHING}, L{FAILURE}, or a word of a plugin's.
    @ivar name: of the threat, list or detector: C{Eicar-Test-Signature}, C{card}.
    @ivar reason: the same in words, for logs and pages; nothing secret is in it.
    @ivar engine: which engine said it; C{version}: with which rules.
    @ivar content: what takes the part's place, for L{Act.REPLACE}; C{fields}: of HTTP, the fields of its new head.
    @ivar marks: of a mail, for L{Act.TAG}: fields that are put in front; C{subject}: what its subject begins with then.
    @ivar answer: of HTTP, what a client is told in the place of our page, for L{Act.BLOCK}.
    """

    act: Act
    kind: str
    name: str
    reason: str
    evidence: tuple[Evidence, ...] = ()
    score: int = 0
    engine: str = ""
    version: str = ""
    content: bytes | Body | None = None
    fields: tuple[tuple[bytes, bytes], ...] | None = None
    answer: Answer | None = None
    marks: tuple[tuple[str, str], ...] = ()
    subject: str = ""

    @property
    def tag(self) -> str:
        """The value of L{TAG}."""
        return f"{self.kind}; {self.name}; score={self.score}"

    def let_go(self) -> None:
        """Nobody reads C{content}, or ever will: whoever brings it may forget it."""
        content = self.content
        if content is not None and not isinstance(content, bytes):
            content.stopProducing()

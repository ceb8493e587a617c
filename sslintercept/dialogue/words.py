"""
What a client of mail or FTP is told in place of what an inspector did not let pass.

One line of ASCII per refusal: what kind of thing was found, and the id of the event, with which an administrator finds
the rest. What was found stays in the log; a reply goes to whoever asked, and further with every bounce. Where the
engine could not say (C{failure}) the reply is one that asks to try again.
"""

from __future__ import annotations

import re
from typing import Final

MOST_LINE: Final = 512
"""bytes of a reply with its CRLF: RFC 5321 4.5.3.1.5, RFC 1939 3; FTP and IMAP allow more"""
MOST_WORD: Final = 64
"""characters of a category or an id that are written"""

_FAILURE = "failure"  # as in sslintercept.inspect.verdict
_UNFIT = re.compile(r"[^A-Za-z0-9._:@/+-]")
_SAID = {
    "malware": "Malware found",
    "site": "Blocked by the policy of this network",
    "leak": "Confidential content must not leave this network",
    "phishing": "Phishing found",
    _FAILURE: "It could not be inspected, try again later",
}
_STARTS = {
    # RFC 5321 4.2.3, RFC 3463 3.8
    "smtp": ("554 5.7.1 ", "451 4.7.1 "),
    "lmtp": ("554 5.7.1 ", "451 4.7.1 "),
    # RFC 3206 4
    "pop3": ("-ERR [SYS/PERM] ", "-ERR [SYS/TEMP] "),
    # RFC 5530 3
    "imap": ("NO [CONTACTADMIN] ", "NO [UNAVAILABLE] "),
    # RFC 959 4.2.1
    "ftp": ("550 ", "451 "),
}
"""how a reply begins that is final, and one that is not"""


def refusal(protocol: str, category: str, event: str) -> bytes:
    """
    Make the line with its CRLF; of IMAP, what stands behind the tag and its space.

    @param protocol: C{smtp}, C{lmtp}, C{pop3}, C{imap} or C{ftp}.
    @param category: of L{sslintercept.errors.InspectedError}; one that is not known here is named.
    @param event: the id it was written down under, or empty.
    @raise KeyError: another protocol.
    """
    final, passing = _STARTS[protocol]
    said = _SAID.get(category) or f"Blocked ({_word(category) or 'policy'})"
    words = (passing if category == _FAILURE else final) + said
    if event:
        words += f" (event {_word(event)})"
    return words.encode("ascii") + b"\r\n"


def _word(text: str) -> str:
    """C{text} without what could end a line, or be taken for something else."""
    return _UNFIT.sub("?", text[:MOST_WORD])

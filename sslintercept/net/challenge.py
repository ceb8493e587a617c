"""What a proxy on the way asks of who wants to log in to it (RFC 9110 11.7.1), as far as it can be handed on."""

from __future__ import annotations

import re
from typing import Final

OF_A_CONNECTION: Final = (b"negotiate", b"ntlm")
"""schemes of a login that is one connection's (RFC 4559), and could not be said again on the next"""
_CHALLENGE: Final = re.compile(rb"(?i)\nproxy-authenticate:[ \t]*([\x21-\x7e][\x20-\x7e]*)")


def challenges(head: bytes) -> list[bytes]:
    """The challenges in the C{head} of a response, without those L{OF_A_CONNECTION}: that connection is ours."""
    return [one for one in _CHALLENGE.findall(head) if not one.lower().startswith(OF_A_CONNECTION)]

"""
STARTTLS in protocols of text: NNTP (RFC 3977, RFC 4642), ManageSieve (RFC 5804), IRC (IRCv3), XMPP (RFC 6120 5).

Each has a judge of what the client says, one of what the server says, and the words in which cleartext is refused.
"""

from __future__ import annotations

import re
from typing import Final

from sslintercept.dialogue.framing import Broken
from sslintercept.dialogue.judged import GREETING, LOGIN, NOTHING, TLS, Act, Heard, Next, Said, Turn

# NNTP

_NNTP_ACTS: Final = {
    "STARTTLS": Act.ASKS,
    "CAPABILITIES": Act.LEADS,
    "MODE": Act.LEADS,
    "QUIT": Act.LEADS,
    "AUTHINFO": Act.LOGS_IN,
    "COMPRESS": Act.LOGS_IN,
    "XFEATURE": Act.LOGS_IN,
}
"""TLS is not begun behind a login or a compression (RFC 4642 2.2.2, RFC 8054 2.2.2)."""
_NNTP_DONE: Final = frozenset((b"281", b"283", b"206", b"290"))
_NNTP_LISTS: Final = frozenset((b"100", b"101", b"215", b"220", b"221", b"222", b"224", b"225", b"230", b"231", b"282"))
"""replies of several lines; 211 is one only behind LISTGROUP (RFC 3977 C)"""
_NNTP_WANTS: Final = {b"335": Next.DOTTED, b"340": Next.DOTTED, b"350": Next.LINE, b"383": Next.LINE}
_REPLY = re.compile(rb"([1-5][0-9]{2})[ \r\n]")


def nntp_said(line: bytes) -> Said:
    """A command; articles and the lines of SASL don't come here."""
    words = _words(line)
    act = _NNTP_ACTS.get(words[0], Act.PLAIN)
    follows = Next.COMMAND
    if words[0] in ("POST", "IHAVE") or (act is Act.LOGS_IN and words[1:2] not in (["USER"], ["PASS"])):
        follows = Next.NOTHING
    elif words[0] == "TAKETHIS":
        follows = Next.DOTTED
    return Said(act, words[0], next=follows)


def nntp_heard(line: bytes, turn: Turn) -> Heard:
    """A line of a reply."""
    if turn.opening:
        if line.rstrip(b"\r\n") == b".":
            return Heard(offer=turn.listed if turn.opening == b"101" else None)
        turn.listed = turn.listed or line.split()[:1] == [b"STARTTLS"]
        return Heard(final=False)
    reply = _REPLY.match(line)
    if reply is None:
        raise Broken("this is no reply of NNTP")
    code = reply[1]
    if turn.said.name == "CAPABILITIES" and code != b"101":
        return Heard(offer=False)
    if code == b"382" and turn.said.act is not Act.ASKS:
        raise Broken("the server consents to TLS that nobody asked for")
    if code in _NNTP_LISTS or (code == b"211" and turn.said.name == "LISTGROUP"):
        turn.opening = code
        return Heard(final=False)
    if code in _NNTP_WANTS:
        if turn.said.next is not Next.NOTHING:
            raise Broken("the server waits for what the client has not announced")
        return Heard(final=False, next=_NNTP_WANTS[code])
    return Heard(agreed=code == b"382" or code in _NNTP_DONE)


NNTP_REFUSAL: Final = b"483 Encryption is required: STARTTLS first\r\n"
"""RFC 3977 3.2.1"""


# ManageSieve

_SIEVE_ACTS: Final = {
    "STARTTLS": Act.ASKS,
    "CAPABILITY": Act.LEADS,
    "NOOP": Act.LEADS,
    "LOGOUT": Act.LEADS,
    "AUTHENTICATE": Act.LOGS_IN,
}
_CAPABILITY = re.compile(rb'"([^"\r\n]*)"')


def sieve_said(line: bytes) -> Said:
    """A command, or a string by which the client goes on with SASL."""
    if line[:1] in (b'"', b"{"):
        return Said(Act.PLAIN, replied=False)
    words = _words(line)
    return Said(_SIEVE_ACTS.get(words[0], Act.PLAIN), words[0])


def sieve_heard(line: bytes, turn: Turn) -> Heard:
    """A line of a response; the last one says OK, NO or BYE."""
    if line[:1] in (b'"', b"{"):
        capability = _CAPABILITY.match(line)
        turn.listed = turn.listed or (capability is not None and capability[1].upper() == b"STARTTLS")
        return Heard(final=False)
    word = _words(line)[0]
    lists = turn.said.name in (GREETING.name, "CAPABILITY")
    if word.startswith("OK"):
        return Heard(agreed=True, offer=turn.listed if lists else None)
    if word.startswith(("NO", "BYE")):
        return Heard(offer=False if lists else None)
    raise Broken("this is no response of ManageSieve")


SIEVE_REFUSAL: Final = b'NO (ENCRYPT-NEEDED) "Encryption is required: STARTTLS first"\r\n'
"""RFC 5804 1.3"""


# IRC

_IRC_ACTS: Final = {
    "STARTTLS": Said(Act.ASKS, TLS),
    "CAP": Said(Act.LEADS),
    "PING": Said(Act.LEADS),
    "PONG": Said(Act.LEADS),
    "QUIT": Said(Act.LEADS),
    "NICK": Said(Act.LOGS_IN, LOGIN),
    "USER": Said(Act.LOGS_IN, LOGIN),
}
_IRC_ANSWERS: Final = {b"670": True, b"691": False, b"451": False}
_IRC_CAPABILITIES = re.compile(rb"CAP [^ ]+ LS( \*)? :?([^\r\n]*)", re.IGNORECASE)


def irc_said(line: bytes) -> Said:
    """A message; whoever has registered gets no TLS any more."""
    words = _without_prefix(line).upper().split()
    return _IRC_ACTS.get(words[0].decode("latin-1"), Said(Act.PLAIN)) if words else Said(Act.LEADS)


def irc_heard(line: bytes, turn: Turn) -> Heard:
    """A message; the list of capabilities may come in several."""
    text = _without_prefix(line)
    words = text.split()
    code = words[0] if words else b""
    if code == b"001":
        return Heard(True, LOGIN)
    if code in _IRC_ANSWERS:
        return Heard(_IRC_ANSWERS[code], TLS)
    if code == b"421" and words[2:3]:
        unknown = words[2].upper()
        return Heard(False, TLS) if unknown == b"STARTTLS" else Heard(offer=False if unknown == b"CAP" else None)
    capabilities = _IRC_CAPABILITIES.match(text)
    if capabilities is None:
        return NOTHING
    listed = turn.listed or b"tls" in [word.partition(b"=")[0] for word in capabilities[2].split()]
    turn.listed = listed and capabilities[1] is not None
    return Heard(offer=None if capabilities[1] else listed)


IRC_REFUSAL: Final = b"ERROR :Encryption is required: STARTTLS first\r\n"


def _without_prefix(line: bytes) -> bytes:
    """A message without tags and source (IRCv3 message-tags, RFC 2812 2.3.1)."""
    for mark in (b"@", b":"):
        if line.startswith(mark):
            line = line.partition(b" ")[2].lstrip(b" ")
    return line


def _words(line: bytes) -> list[str]:
    """The first words of a command in capitals."""
    words = line[:64].decode("latin-1").upper().split()[:2]
    if not words:
        raise Broken("an empty line")
    return words


# XMPP

_TLS_SPACE: Final = b"urn:ietf:params:xml:ns:xmpp-tls"
_TAG = re.compile(rb"<(?:([^\s/>:=]*):)?([^\s/>:=]+)([^>]*)")
_XMLNS = re.compile(rb"\sxmlns(?::([^\s=]+))?\s*=\s*(?:'([^']*)'|\"([^\"]*)\")")
_VERSION = re.compile(rb"\sversion\s*=")
_OFFER = re.compile(rb"<(?:[^\s/<>:=]++:)?starttls[\s/>]")
"""no name has a C{<} in it: thousands of them in a row are looked at once, not each time anew"""


def xmpp_said(message: bytes) -> Said:
    """A child of the stream, or what stands around them."""
    name, space, stream = _element(message)
    if not name or (stream and name == b"stream"):
        return Said(Act.LEADS)
    if stream:
        raise Broken("this is no stream of XMPP")
    if name == b"starttls" and space in (None, _TLS_SPACE):
        return Said(Act.ASKS, TLS)
    return Said(Act.LOGS_IN, LOGIN) if name in (b"auth", b"authenticate") else Said(Act.PLAIN)


def xmpp_heard(message: bytes, _turn: Turn) -> Heard:
    """The server's child of the stream."""
    name, space, stream = _element(message)
    if stream and name != b"stream":
        raise Broken("this is no stream of XMPP")
    if stream:
        # Without a version there are no features (RFC 6120 4.7.5).
        return NOTHING if _VERSION.search(message) else Heard(offer=False)
    if name == b"features":
        return Heard(offer=_OFFER.search(message) is not None and _TLS_SPACE in message)
    if name in (b"proceed", b"failure") and space in (None, _TLS_SPACE):
        return Heard(name == b"proceed", TLS)
    return Heard(True, LOGIN) if name == b"success" else NOTHING


XMPP_REFUSAL: Final = (
    b"<stream:error><policy-violation xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>"
    b"<text xmlns='urn:ietf:params:xml:ns:xmpp-streams'>Encryption is required: STARTTLS first</text>"
    b"</stream:error></stream:stream>"
)
"""RFC 6120 4.9.3.14"""


def _element(message: bytes) -> tuple[bytes, bytes | None, bool]:
    """
    The local name, the namespace, and whether it is a stream's tag and no child.

    There is no name for white space, the declaration and closing tags. A prefix that the element does not declare
    itself leaves its namespace open (C{None}); without a prefix that is the stream's, and said so by C{b""}.
    """
    if not message.startswith(b"<") or message.startswith((b"<?", b"</")):
        return b"", b"", False
    tag = _TAG.match(message)
    if tag is None:
        raise Broken("an element without a name")
    spaces = {match[1]: match[2] or match[3] or b"" for match in _XMLNS.finditer(tag[3])}
    space = spaces.get(tag[1], b"" if tag[1] is None else None)
    return tag[2], space, message.rfind(b"<") == 0 and not message.endswith(b"/>")

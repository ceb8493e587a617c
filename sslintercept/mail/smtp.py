"""
Watches SMTP, submission and LMTP (RFC 5321, 6409, 2033).

Both directions pass as they come: a line when it is whole, content and chunks (RFC 3030) at once. A queue of what was
asked (RFC 2920) tells which command a reply answers; what the client may say next hangs on the answer to DATA, AUTH
(RFC 4954) and STARTTLS (RFC 3207), so behind these it is held, or refused, until the answer has come. What this
watcher answers itself takes its place in the queue: a command in the clear where TLS is a must, and addresses that are
too many or too long to be kept.

A watcher that reads on where the server reads something else is blind, so what two readers may read in two ways ends
the conversation: a line that does not end in CRLF, a lone dot beside a bare line end (L{sslintercept.mail.dots}), a
chunk for a server that did not offer CHUNKING, or one without a size. When the two disagree after all, the next 3xx
reply meets a command that cannot have it, and the rest is opaque.

A sink gets content before the server does, and its end before the server gets that. Where a gate decides about a
message (L{sslintercept.dialogue.watcher.PartGate}) the server gets what the gate releases, and the end of the message
only when the gate has ended; whatever the client says behind it waits so long. Of content in chunks the server gets
chunks of ours, so that a refused message can be taken back with RSET. Behind DATA nothing can be taken back: the
server's connection is cut where the message is not complete, and with it the conversation ends.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final

from sslintercept.dialogue.gate import Gate
from sslintercept.dialogue.lines import PIECE, Lines, LineTooLong
from sslintercept.dialogue.passage import Passage
from sslintercept.dialogue.watcher import MAX_REFUSED, Cut, Part, Terms, Wires
from sslintercept.dialogue.words import refusal
from sslintercept.errors import InspectedError
from sslintercept.mail.dots import AmbiguousEnd, Content, Stuffed
from sslintercept.mail.login import Login, shown

MAX_COMMAND: Final = 4096
"""Bytes of a command, its end included; RFC 5321 4.5.3.1.4 says 512, and extensions add to it."""
MAX_AUTH: Final = 12288
"""Bytes of an AUTH command or of a response in it (RFC 4954 4)."""
MAX_REPLY: Final = 4096
"""Bytes of one line of a reply; RFC 5321 4.5.3.1.5 says 512."""
MAX_OUTSTANDING: Final = 2000
"""Commands that wait for their replies."""
MAX_AHEAD: Final = 64 * 1024
"""Bytes of a client that goes on where it must wait for an answer."""
MAX_PATH: Final = 1024
"""Bytes of an address; RFC 5321 4.5.3.1.3 says 256, in ASCII."""
MAX_RECIPIENTS: Final = 4096
MAX_RECIPIENT_BYTES: Final = 256 * 1024
"""Of the recipients of one message."""
MAX_CHUNK_DIGITS: Final = 18
MAX_SWALLOWED: Final = 128 * 1024 * 1024
"""Bytes of a refused mail that are read on, for its client listens only when it has sent everything."""

MUST_TLS: Final = b"530 5.7.0 Must issue a STARTTLS command first\r\n"
TOO_MANY_RECIPIENTS: Final = b"452 4.5.3 Too many recipients\r\n"
LONG_PATH: Final = b"501 5.1.0 Path too long\r\n"
LONG_LINE: Final = b"500 5.5.2 Line too long\r\n"
BARE_END: Final = b"500 5.5.2 A line ends in CRLF\r\n"
NOT_YET: Final = b"503 5.5.1 Wait for the reply\r\n"
NO_CHUNKS: Final = b"503 5.5.1 CHUNKING was not offered\r\n"
NO_SIZE: Final = b"501 5.5.4 The size of a chunk is a number\r\n"
SMUGGLED: Final = b"554 5.6.0 A lone dot stands beside a bare CR or LF\r\n"
OVERRUN: Final = b"421 4.3.2 Too many commands\r\n"
CHUNK_TAKEN: Final = b"250 2.0.0 Ok\r\n"
CLOSES: Final = b"421 4.7.0 This session ends here\r\n"
LEFT: Final = b"421 4.4.2 The server has left\r\n"
BROKEN: Final = b"421 4.3.0 The reply of the server is too long\r\n"

_BEFORE_TLS: Final = frozenset((b"EHLO", b"HELO", b"LHLO", b"NOOP", b"RSET", b"QUIT", b"STARTTLS"))
_CLEARS: Final = frozenset((b"EHLO", b"HELO", b"LHLO", b"RSET", b"XCLIENT", b"end"))
"""What is no transaction afterwards."""
_TURNS: Final = frozenset((b"TURN", b"ATRN"))
"""Now the server is the client (RFC 2645)."""
_GOES_ON: Final = frozenset(((b"AUTH", b"334"), (b"DATA", b"354")))
"""The replies that ask for more."""

_REPLY: Final = re.compile(rb"([2-5][0-9]{2})(?:([ -])([^\0\n]*))?\r?\n?")
"""The last line of a server that leaves may lack its end."""
_CHUNK: Final = re.compile(rb"([0-9]{1,%d})([ \t]+LAST)?[ \t]*" % MAX_CHUNK_DIGITS, re.IGNORECASE)
_PATH: Final = re.compile(
    rb'(?:FROM|TO)[ \t]*:[ \t]*(?:<(?:@[^:>"]*:)?((?:"(?:[^"\\]|\\.)*"|[^">])*)>|([^\s<>]+))', re.IGNORECASE
)
"""An address, with or without its brackets; a route in front of it is left out (RFC 5321 4.1.1.3)."""


class _Stage(Enum):
    COMMAND = "the client says commands"
    WAIT = "it waits for an answer that decides how to read what it says next"
    RESPONSE = "it says one line of SASL"
    CONTENT = "it sends the content of a message"
    CHUNK = "it sends a chunk"
    HELD = "its message is complete, and a gate has it"


@dataclass(slots=True, eq=False)
class _Asked:
    """
    A command that waits for its reply.

    Beside verbs there is C{greeting}, which nobody asks for, and C{end}, of content and of a last chunk.
    """

    verb: bytes
    address: str = ""
    own: bytes = b""
    """the reply, where it is ours: the server was not asked"""
    message: Passage | None = None
    """that it belongs to"""
    silent: bool = False
    """the client is not told: the command was ours"""
    replies: int = 0
    """of C{end}: those still to come, once the first one is there"""


class SmtpWatcher:
    """One conversation (L{sslintercept.dialogue.watcher.Watcher})."""

    protocol = "smtp"

    def __init__(self, wires: Wires, terms: Terms) -> None:
        self._wires = wires
        self._gate = Gate(wires)
        self._clear, self._must = terms.clear, terms.must
        self._over = False

        self._stage = _Stage.COMMAND
        self._commands = Lines(MAX_AUTH)
        self._replies = Lines(MAX_REPLY)
        self._queue: deque[_Asked] = deque(() if terms.upgraded else (_Asked(b"greeting"),))
        self._code = b""
        """of the reply whose last line has not come"""
        self._refused = 0
        """commands in a row that were answered here"""

        self._carrier = "smtp"
        self._offers: set[bytes] = set()
        """of STARTTLS and CHUNKING, those offered by the last reply to EHLO that was no refusal"""
        self._listed: set[bytes] = set()
        """likewise, by the one that is coming in"""
        self._login = Login(b"")
        self._user: str | None = None

        self._sender: str | None = None
        """of the transaction that the server has agreed to, if there is one"""
        self._recipients: list[str] = []
        self._recipient_bytes = 0

        self._message: Passage | None = None
        """that the client is at"""
        self._stuffed = Stuffed(True)
        """content on its way from a gate to the server"""
        self._next_chunk = bytearray()
        """likewise, in chunks: what will be the next one"""
        self._fault = b""
        """what the server said to such a chunk, if it did not take it"""
        self._swallowed = 0
        """bytes of a refused message"""
        self._content = Content()
        self._left = 0
        """bytes of a chunk still to come"""
        self._last = False
        """it is the last one"""
        self._swallow = False
        """nobody gets it: the command was not handed on"""

    # what comes from the client

    def from_client(self, data: bytes) -> None:
        """Bytes of the client."""
        if self._over:
            return
        if self._gate.asked:
            self._over = True
            self._gate.trespassed()
        else:
            self._advance(data)

    def _advance(self, data: bytes) -> None:
        """Go on with what the client said, and with what of it was held."""
        if self._stage is _Stage.CHUNK and data and not len(self._commands):
            # Most of a large chunk need not be put by.
            piece, data = data[: self._left], data[self._left :]
            self._read_chunk(piece)
        self._commands.feed(data)
        new = data
        """as far as it is known to be of a line"""
        while not self._over:
            if self._stage is _Stage.CONTENT:
                new = b""
                piece = self._commands.take()
                if not piece:
                    return
                self._read_content(piece)
                continue
            if self._stage is _Stage.CHUNK:
                new = b""
                piece = self._commands.take(self._left)
                if not piece and self._left:
                    return
                self._read_chunk(piece)
                continue
            if self._stage is _Stage.HELD:
                return
            if self._stage is _Stage.WAIT:
                if len(self._commands) > MAX_AHEAD:
                    self._refuse("the client does not wait for a reply", NOT_YET)
                return
            try:
                line = self._commands.next()
            except LineTooLong:
                self._refuse(f"a command of more than {MAX_AUTH} bytes", LONG_LINE)
                return
            if line is None:
                if b"\0" in new:
                    self._lost("the client does not speak SMTP")
                return
            new = b""
            self._read_line(line)

    def client_ended(self, clean: bool = True) -> bool:
        """See L{sslintercept.dialogue.watcher.Watcher}."""
        if self._over or not clean:
            return True
        if self._stage is _Stage.HELD:
            return False
        if self._stage is not _Stage.WAIT and (line := self._commands.rest()):
            self._read_line(line, line.removesuffix(b"\r"))
        return self._over or not len(self._commands)

    def _read_line(self, line: bytes, text: bytes | None = None) -> None:
        """@param text: the line without its end, where that is not CRLF."""
        if text is None and line.endswith(b"\r\n"):
            text = line[:-2]
        if b"\0" in line:
            self._lost("the client does not speak SMTP", of_client=line)
        elif text is None or b"\r" in text:
            self._refuse("a command with a bare CR or LF", BARE_END)
        elif self._stage is _Stage.RESPONSE:
            self._login.response(text)
            self._stage = _Stage.WAIT
            self._wires.to_server(line)
        else:
            self._read_command(line)

    def _read_command(self, line: bytes) -> None:
        words = line.split(None, 1)
        verb = words[0].upper() if words else b""
        rest = words[1].rstrip(b"\r\n") if len(words) == 2 else b""
        if len(line) > MAX_COMMAND and verb != b"AUTH":
            self._refuse(f"a command of more than {MAX_COMMAND} bytes", LONG_LINE)
        elif len(self._queue) >= MAX_OUTSTANDING:
            self._refuse(f"more than {MAX_OUTSTANDING} commands outstanding", OVERRUN)
        elif verb == b"BDAT":
            self._chunk(line, rest)
        elif self._must and verb not in _BEFORE_TLS:
            self._answer(MUST_TLS)
        elif verb in _COMMANDS:
            _COMMANDS[verb](self, line, verb, rest)
        else:
            self._ask(line, _Asked(verb if verb in _TURNS or verb == b"XCLIENT" else b""))

    def _ask(self, line: bytes, asked: _Asked) -> None:
        self._refused = 0
        self._queue.append(asked)
        self._wires.to_server(line)

    def _answer(self, reply: bytes) -> None:
        """Reply ourselves, when everything asked before has been answered."""
        self._refused += 1
        if self._refused > MAX_REFUSED:
            self._refuse(f"more than {MAX_REFUSED} refused commands in a row", OVERRUN)
            return
        self._queue.append(_Asked(b"", own=reply))
        self._flush()

    def _afresh(self, line: bytes, verb: bytes, rest: bytes) -> None:
        """RSET and greetings: a message in chunks that lacks its last one is given up."""
        self._give_up()
        self._ask(line, _Asked(verb))

    def _start_tls(self, line: bytes, verb: bytes, rest: bytes) -> None:
        if not self._clear:
            self._ask(line, _Asked(b""))
            return
        self._queue.append(_Asked(verb))
        self._stage = _Stage.WAIT
        self._gate.ask(line, self._commands.rest())
        self._over = self._over or not self._gate.asked

    def _auth(self, line: bytes, verb: bytes, rest: bytes) -> None:
        mechanism, _, initial = rest.partition(b" ")
        self._login = Login(mechanism)
        self._login.response(initial.strip())
        self._stage = _Stage.WAIT
        self._ask(line, _Asked(verb))

    def _path(self, line: bytes, verb: bytes, rest: bytes) -> None:
        """MAIL and RCPT; an address that cannot be read is shown as it was written."""
        match = _PATH.match(rest)
        raw = rest if match is None else match[1] if match[1] is not None else match[2]
        if len(raw) > MAX_PATH:
            self._answer(LONG_PATH)
        elif verb == b"RCPT" and (
            len(self._recipients) + len(self._queue) >= MAX_RECIPIENTS or self._recipient_bytes >= MAX_RECIPIENT_BYTES
        ):
            self._answer(TOO_MANY_RECIPIENTS)
        else:
            self._ask(line, _Asked(verb, shown(raw)))

    def _data(self, line: bytes, verb: bytes, rest: bytes) -> None:
        self._stage = _Stage.WAIT
        self._ask(line, _Asked(verb))

    def _chunk(self, line: bytes, rest: bytes) -> None:
        match = _CHUNK.fullmatch(rest)
        if match is None:
            self._refuse("a chunk without a size", NO_SIZE)
            return
        self._left, self._last = int(match[1]), match[2] is not None
        self._swallow = self._must
        if self._must:
            self._answer(MUST_TLS)
        elif b"CHUNKING" not in self._offers:
            self._refuse("a chunk for a server that does not take chunks", NO_CHUNKS)
            return
        else:
            if self._message is None:
                self._begin(*self._expected(), chunks=True)
            message = self._message
            if not self._over and message is not None and not message.gated:
                self._ask(line, _Asked(b"end" if self._last else b"BDAT", message=message))
        self._stage = _Stage.CHUNK

    def _read_chunk(self, piece: bytes) -> None:
        """The next bytes of a chunk, or none if it is empty."""
        self._left -= len(piece)
        if not self._left:
            self._stage = _Stage.COMMAND
        if self._swallow:
            return
        message = self._message
        if message is not None:
            self._swallows(message, len(piece))
            message.write(piece)
            if message.gated:
                if not self._left and not self._over:
                    self._chunk_said(message)
                return
            if self._last and not self._left and not self._over:
                self._message = None
                message.finish(True)
        if piece and not self._over:
            self._wires.to_server(piece)

    def _chunk_said(self, message: Passage) -> None:
        """A chunk of a message that goes through a gate is complete: the server has not heard of it."""
        if not self._last:
            own = CHUNK_TAKEN if message.refused is None else self._refusal(message.refused)
            self._queue.append(_Asked(b"", own=own))
            self._flush()
            return
        message.finish(True)
        if message.refused is not None:
            self._take_back(self._refusal(message.refused))
        elif message.waits and not self._over:
            self._stage = _Stage.HELD

    def _read_content(self, data: bytes) -> None:
        """Take what of C{data} belongs to the message."""
        try:
            content, taken = self._content.feed(data)
        except AmbiguousEnd as error:
            self._refuse(f"{error} may end the message (SMTP smuggling)", SMUGGLED)
            return
        self._commands.give_back(len(data) - taken)
        message, done = self._message, self._content.done
        if done:
            self._stage = _Stage.COMMAND
        if message is not None:
            self._swallows(message, len(content))
            message.write(content)
            if done and not self._over:
                self._message = message if message.gated else None
                message.finish(True)
                if message.refused is not None:
                    self._cut(message.refused)
                elif message.waits and not self._over:
                    self._stage = _Stage.HELD
            if message.gated:
                return
        if not self._over:
            self._wires.to_server(data[:taken])

    # a message that goes through a gate

    def _swallows(self, message: Passage, size: int) -> None:
        """So many bytes of it go nowhere, if it was refused."""
        if message.refused is not None:
            self._swallowed += size
            if self._swallowed > MAX_SWALLOWED:
                self._cut(message.refused)

    def _content_passes(self, data: bytes) -> None:
        try:
            self._wires.to_server(self._stuffed.feed(data))
        except AmbiguousEnd as error:
            self._refuse(f"{error} may end the message (SMTP smuggling)", SMUGGLED, cut=True)

    def _content_ends(self, error: InspectedError | None) -> None:
        """The gate of DATA has ended."""
        if error is not None:
            if self._stage is _Stage.HELD:
                self._cut(error)
            return
        self._message = None
        try:
            self._wires.to_server(self._stuffed.end())
        except AmbiguousEnd as ambiguous:
            self._refuse(f"{ambiguous} may end the message (SMTP smuggling)", SMUGGLED, cut=True)
            return
        self._continue()

    def _chunk_passes(self, data: bytes) -> None:
        self._next_chunk += data
        if len(self._next_chunk) >= PIECE:
            self._say_chunk(b"", _Asked(b"BDAT", silent=True))

    def _chunks_end(self, error: InspectedError | None) -> None:
        """The gate of BDAT has ended."""
        if error is not None:
            if self._stage is _Stage.HELD:
                self._take_back(self._refusal(error))
        elif self._fault:
            self._take_back(self._fault)
        else:
            self._message = None
            self._say_chunk(b" LAST", _Asked(b"end"))
            self._continue()

    def _say_chunk(self, last: bytes, asked: _Asked) -> None:
        chunk, self._next_chunk = bytes(self._next_chunk), bytearray()
        if not self._fault:
            self._ask(b"BDAT %d%b\r\n%b" % (len(chunk), last, chunk), asked)

    def _take_back(self, reply: bytes) -> None:
        """What the server has got of the message in chunks is forgotten, and the client gets this reply."""
        self._message = None
        self._next_chunk.clear()
        self._queue.append(_Asked(b"end", own=reply))
        self._ask(b"RSET\r\n", _Asked(b"RSET", silent=True))
        self._flush()
        self._continue()

    def _continue(self) -> None:
        """Go on with what the client has said meanwhile, if that waited."""
        if self._stage is _Stage.HELD and not self._over:
            self._stage = _Stage.COMMAND
            self._advance(b"")

    def _refusal(self, error: InspectedError) -> bytes:
        return refusal(self._carrier, error.category, error.event)

    def _cut(self, error: InspectedError) -> None:
        """The server waits for the rest of a content that does not come: there is no other way out of DATA."""
        replies = self._refusal(error) * (len(self._recipients) if self._carrier == "lmtp" else 1)
        self._refuse(error.what, replies + CLOSES, error=error, cut=True)

    # what comes from the server

    def from_server(self, data: bytes) -> None:
        """Bytes of the server."""
        if self._over:
            return
        self._replies.feed(data)
        try:
            while not self._over and (line := self._replies.next()) is not None:
                self._read_reply(line)
        except LineTooLong:
            self._refuse(f"a reply with a line of more than {MAX_REPLY} bytes", BROKEN)
        if not self._over and b"\0" in data[data.rfind(b"\n") + 1 :]:
            self._lost("the server does not speak SMTP")

    def server_ended(self, clean: bool = True) -> bool:
        """See L{sslintercept.dialogue.watcher.Watcher}."""
        if clean and not self._over and (line := self._replies.rest()):
            self._read_reply(line)
        if not self._over and self._withheld:
            self._refuse("the server has left, and a message is held", LEFT, cut=True)
        return True

    def _read_reply(self, line: bytes) -> None:
        """One line of a reply; only the last one counts, but for EHLO."""
        match = _REPLY.fullmatch(line)
        if match is None or (self._code and match[1] != self._code):
            self._lost("what the server says is no reply in SMTP", of_server=line)
            return
        code, first = match[1], not self._code
        self._code = code if match[2] == b"-" else b""
        asked = self._queue[0] if self._queue else None
        if asked is not None and asked.verb in (b"EHLO", b"LHLO"):
            if first:
                self._listed = set()
            elif code == b"250":
                self._listed.update(
                    {b"STARTTLS", b"CHUNKING"}.intersection((match[3] or b"").upper().split(None, 1)[:1])
                )
        if self._code:
            if asked is None or not asked.silent:
                self._wires.to_client(line)
        elif asked is not None:
            self._settle(asked, code, line)
        elif code == b"421":
            self._wires.to_client(line)
        else:
            self._lost("the server replies to what nobody asked", of_server=line)

    def _settle(self, asked: _Asked, code: bytes, line: bytes) -> None:
        """C{asked} is answered by a reply that ends in C{line}."""
        if code[:1] == b"3" and (asked.verb, code) not in _GOES_ON:
            self._lost(f"the server asks for more behind a command that has no more ({code.decode()})", of_server=line)
            return
        waited = self._stage is _Stage.WAIT
        if asked.silent and code == b"421":
            self._refuse("the server leaves", line, cut=True)
            return
        if asked.message is not None and asked.message is self._message and asked.verb == b"end" and self._withheld:
            # Before the end of the message: it gives up, or is no server.
            self._refuse("the server replies to a message that is held", line, cut=True)
            return
        if asked.silent and asked.verb == b"BDAT" and code[:1] != b"2":
            self._fault = self._fault or line
        if asked.verb == b"STARTTLS":
            self._stage = _Stage.COMMAND
            agreed = code == b"220"
            self._over = not self._gate.answered(line, self._replies.rest() if agreed else b"", agreed)
            done = True
        else:
            done = asked.verb not in _REPLIES or _REPLIES[asked.verb](self, asked, code)
            if self._over:
                return
            if not asked.silent:
                self._wires.to_client(line)
        if done:
            self._queue.popleft()
            self._flush()
        if asked.verb in _TURNS and code[:1] == b"2" and not self._over:
            self._lost("the client and the server change their places")
        if waited and self._stage is not _Stage.WAIT:
            self._advance(b"")

    def _flush(self) -> None:
        """Say what we have to answer, as far as its turn has come."""
        while not self._over and self._queue and self._queue[0].own:
            asked = self._queue.popleft()
            own = asked.own
            if asked.verb == b"end":
                own *= max(len(self._recipients), 1) if self._carrier == "lmtp" else 1
            self._wires.to_client(own)

    # what a reply means: each says whether it was the last one to its command

    def _greeted(self, asked: _Asked, code: bytes) -> bool:
        """EHLO, HELO, LHLO."""
        if code[:1] == b"2":
            self._carrier = "lmtp" if asked.verb == b"LHLO" else "smtp"
            self._cleared(asked, code)
            if asked.verb != b"HELO":
                self._offers = self._listed
        if self._clear and asked.verb != b"HELO" and not self._wires.offered(b"STARTTLS" in self._offers):
            self._over = True
        return True

    def _authenticated(self, asked: _Asked, code: bytes) -> bool:
        if code == b"334":
            self._stage = _Stage.RESPONSE
            return False
        self._stage = _Stage.COMMAND
        if code == b"235":
            self._user = self._login.user
            self._wires.logged_in(self._user)
        return True

    def _from(self, asked: _Asked, code: bytes) -> bool:
        if code[:1] == b"2":
            self._cleared(asked, code)
            self._sender = asked.address
        return True

    def _to(self, asked: _Asked, code: bytes) -> bool:
        if code[:1] == b"2":
            self._recipients.append(asked.address)
            self._recipient_bytes += len(asked.address)
        return True

    def _cleared(self, asked: _Asked, code: bytes) -> bool:
        if code[:1] == b"2" or asked.verb == b"end":
            self._sender, self._recipients, self._recipient_bytes = None, [], 0
        return True

    def _content_wanted(self, asked: _Asked, code: bytes) -> bool:
        if code != b"354":
            self._stage = _Stage.COMMAND
            return True
        self._give_up()
        asked.verb = b"end"
        self._stage, self._content = _Stage.CONTENT, Content()
        self._begin(self._sender, self._recipients)
        asked.message = self._message
        return False

    def _chunk_taken(self, asked: _Asked, code: bytes) -> bool:
        """The rest of a message of which the server refused a chunk goes nowhere."""
        if code[:1] != b"2" and asked.message is not None:
            asked.message.abort()
        return True

    def _ended(self, asked: _Asked, code: bytes) -> bool:
        """In LMTP there is a reply for each recipient."""
        if not asked.replies:
            asked.replies = max(len(self._recipients), 1) if self._carrier == "lmtp" else 1
        asked.replies -= 1
        return not asked.replies and self._cleared(asked, code)

    # messages

    def _expected(self) -> tuple[str | None, list[str]]:
        """Give the transaction as it is if the server agrees to everything asked: chunks need not wait for replies."""
        since: list[_Asked] = []
        for asked in reversed(self._queue):
            if asked.verb in _CLEARS:
                sender, recipients = None, []
                break
            since.append(asked)
        else:
            sender, recipients = self._sender, self._recipients.copy()
        for asked in reversed(since):
            if asked.verb == b"MAIL":
                sender = asked.address if sender is None else sender
            elif asked.verb == b"RCPT":
                recipients.append(asked.address)
        return sender, recipients

    def _begin(self, sender: str | None, recipients: list[str], chunks: bool = False) -> None:
        part = Part(self._carrier, "message", "", True, self._user, sender or "", tuple(recipients))
        self._stuffed, self._fault, self._swallowed = Stuffed(True), b"", 0
        self._next_chunk.clear()
        passes = self._chunk_passes if chunks else self._content_passes
        ends = self._chunks_end if chunks else self._content_ends
        self._message = Passage(self._wires, part, passes=passes, replaces=passes, ends=ends)

    def _give_up(self) -> None:
        message, self._message = self._message, None
        if message is not None:
            message.abort()

    @property
    def _withheld(self) -> bool:
        """The server lacks something of a message."""
        return self._message is not None and self._message.gated

    # the end

    def _refuse(self, why: str, say: bytes, error: InspectedError | None = None, cut: bool = False) -> None:
        whose = Cut.SERVER if cut or self._withheld else Cut.NOBODY
        self.ended()
        self._wires.refuse(why, say, error=error, cut=whose)

    def _lost(self, why: str, *, of_client: bytes = b"", of_server: bytes = b"") -> None:
        """Not SMTP any more."""
        if self._withheld:
            self._refuse(f"{why}, and a message is held", LEFT, cut=True)
            return
        self.ended()
        self._wires.opaque(why)
        of_client += self._commands.rest()
        of_server += self._replies.rest()
        if of_client:
            self._wires.to_server(of_client)
        if of_server:
            self._wires.to_client(of_server)

    def ended(self) -> None:
        """Nothing more comes; a message under way has broken off."""
        self._over = True
        self._give_up()


_COMMANDS: Final[Mapping[bytes, Callable[[SmtpWatcher, bytes, bytes, bytes], None]]] = MappingProxyType(
    {
        b"EHLO": SmtpWatcher._afresh,
        b"HELO": SmtpWatcher._afresh,
        b"LHLO": SmtpWatcher._afresh,
        b"RSET": SmtpWatcher._afresh,
        b"STARTTLS": SmtpWatcher._start_tls,
        b"AUTH": SmtpWatcher._auth,
        b"MAIL": SmtpWatcher._path,
        b"RCPT": SmtpWatcher._path,
        b"DATA": SmtpWatcher._data,
    }
)
"""Commands that mean more to a watcher than that a reply is due; and BDAT, which TLS has to be asked about first."""

_REPLIES: Final[Mapping[bytes, Callable[[SmtpWatcher, _Asked, bytes], bool]]] = MappingProxyType(
    {
        b"EHLO": SmtpWatcher._greeted,
        b"HELO": SmtpWatcher._greeted,
        b"LHLO": SmtpWatcher._greeted,
        b"AUTH": SmtpWatcher._authenticated,
        b"MAIL": SmtpWatcher._from,
        b"RCPT": SmtpWatcher._to,
        b"RSET": SmtpWatcher._cleared,
        b"XCLIENT": SmtpWatcher._cleared,
        b"DATA": SmtpWatcher._content_wanted,
        b"BDAT": SmtpWatcher._chunk_taken,
        b"end": SmtpWatcher._ended,
    }
)
"""Replies that change what a watcher knows."""

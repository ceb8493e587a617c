"""
Watches IMAP (RFC 9051, 3501) with literals (RFC 7888), IDLE, APPEND of several messages, and CATENATE.

Both directions pass as they come: a line when it is whole, the content of a literal at once. A message that is stored
(a literal of APPEND) or fetched (BODY[...], RFC822, BINARY[...]) is a part; what was asked for as a piece only
(C{<0.1000>}) is a part that is never whole. Behind a synchronising literal, AUTHENTICATE and IDLE the client must wait
for the server's C{+}; what it says before that is held, for only then it is known what it is.

Where a gate decides about a message, the answer to FETCH waits before its literal, with everything behind it, until the
gate lets something through; then the literal has the size of what passes. What is refused before that is a notice
instead: the answer to FETCH stays one. Of APPEND the server hears nothing before that, and what is refused is answered
with NO. What is refused later is cut.

COMPRESS (RFC 4978) would hide the rest of the conversation, so it is answered with NO here.
"""

from __future__ import annotations

import re
from collections import OrderedDict, deque
from enum import Enum
from typing import Final

from sslintercept.dialogue.gate import Gate
from sslintercept.dialogue.lines import Lines, LineTooLong
from sslintercept.dialogue.passage import Passage
from sslintercept.dialogue.watcher import MAX_REFUSED, Cut, Part, Terms, Wires
from sslintercept.dialogue.words import refusal
from sslintercept.errors import InspectedError
from sslintercept.mail.login import Login, shown
from sslintercept.mail.notice import notice

MAX_LINE: Final = 64 * 1024
"""Bytes of a line of the client; RFC 7162 4 recommends 8000."""
MAX_ANSWER: Final = 1024 * 1024
"""Bytes of a line of the server: the answer to SEARCH is one line."""
MAX_LITERAL: Final = 4 * 1024**3
MAX_KEPT: Final = 1024
"""Bytes of a literal that may be a name."""
MAX_WORDS: Final = 3
"""Words of a command that are kept: tag, name, and who or where; never a password."""
TOO_LONG: Final = b"(long)"
"""What stands for a word that is not kept."""
MAX_OUTSTANDING: Final = 1000
"""Commands that wait for their answers."""
MAX_AHEAD: Final = 64 * 1024
"""Bytes of a client that goes on where it must wait."""
MAX_PIECES: Final = 1000
"""Literals of one command or answer."""
MAX_NAME: Final = 200
"""Characters of a mailbox in the name of a part."""

GO_ON: Final = b"+ Go on\r\n"
ENDS: Final = b"* BYE This session ends here\r\n"
BYE_TLS: Final = b"* BYE TLS is required here\r\n"
LONG: Final = b"* BYE The line is too long\r\n"
OVERRUN: Final = b"* BYE Too many commands\r\n"
NOT_YET: Final = b"* BYE Wait for the continuation\r\n"
MUST_TLS: Final = b" NO [PRIVACYREQUIRED] Use STARTTLS first\r\n"
NO_COMPRESS: Final = b" NO [CANNOT] Compression is not allowed here\r\n"

_BEFORE_TLS: Final = frozenset((b"CAPABILITY", b"STARTTLS", b"NOOP", b"LOGOUT", b"ID"))
_LITERAL: Final = re.compile(rb"~?\{([0-9]{1,10})(\+?)\}\r?\n\Z")
_STRING: Final = rb'"((?:[^"\\\r\n]|\\.)*+)"'
_WORD: Final = re.compile(_STRING + rb'|([^\s"]+)')
# A name of a field may have brackets, but names of fields stand in sections that are no content. So what is looked for
# ends at the next bracket, and no byte is looked at for each of the openings before it.
_SECTION: Final = rb"(?:BODY\[([^][]*+)\](<[0-9]+>)?|(RFC822|RFC822\.TEXT)|BINARY\[([^][]*+)\](<[0-9]+>)?)[ ]"
_FETCHED: Final = re.compile(_SECTION + rb"~?\{[0-9]+\}\r?\n\Z", re.IGNORECASE)
_QUOTED: Final = re.compile(_SECTION + _STRING, re.IGNORECASE)
_HEADERS: Final = re.compile(rb"(?:[0-9.]*\.)?(?:HEADER|MIME)", re.IGNORECASE)
"""Sections that are no content."""
_UID: Final = re.compile(rb"[( ]UID ([0-9]+)", re.IGNORECASE)
_FETCH: Final = re.compile(rb"\* ([0-9]+) FETCH[ (]", re.IGNORECASE)
_ESCAPED: Final = re.compile(rb"\\(.)")


class _Stage(Enum):
    COMMAND = "the client says commands"
    WAIT = "it waits for the server's plus"
    LITERAL = "it says a literal"
    RESPONSE = "it says one line of SASL"
    IDLE = "it says DONE some time"
    HELD = "its literal is complete, and has not reached the server"


class _Command:
    """A command of the client, from its first line to the answer with its tag."""

    __slots__ = ("answered", "dropped", "login", "own", "pieces", "sent", "words")

    def __init__(self) -> None:
        self.answered = False
        """the server did not wait for the rest of it, which still comes if a literal was announced without waiting"""
        self.words: list[bytes] = []
        self.own = b""
        """our answer, where the server is not asked"""
        self.login: Login | None = None
        self.pieces = 0
        self.sent = False
        """the server has heard something of it"""
        self.dropped = False
        """what still comes goes nowhere: the server has refused it, and does not wait for the rest"""

    @property
    def tag(self) -> bytes:
        return self.words[0]

    @property
    def name(self) -> bytes:
        return self.words[1].upper() if len(self.words) > 1 else b""

    @property
    def about(self) -> str:
        """The mailbox or the user."""
        return shown(self.words[2])[:MAX_NAME] if len(self.words) > 2 else ""


class ImapWatcher:
    """One conversation (L{sslintercept.dialogue.watcher.Watcher})."""

    protocol = "imap"

    def __init__(self, wires: Wires, terms: Terms) -> None:
        self._wires = wires
        self._gate = Gate(wires)
        self._clear, self._must = terms.clear, terms.must
        self._over = False
        self._greeted = terms.upgraded
        self._mailbox = ""
        self._user: str | None = None

        self._stage = _Stage.COMMAND
        self._lines = Lines(MAX_LINE)
        self._command: _Command | None = None
        """that the client has begun"""
        self._asked: OrderedDict[bytes, _Command] = OrderedDict()
        """those that wait for the answer with their tag"""
        self._after = _Stage.COMMAND
        """what the server's plus leads to"""
        self._left = 0
        """bytes of the literal still to come"""
        self._kept: bytearray | None = None
        """of a literal that may be a name"""
        self._stored: Passage | None = None
        self._announces = b""
        """the line before the literal that a gate holds, if the server has not got it"""
        self._asks = False
        """and whether the server has to say its plus first"""
        self._due: bytearray | None = None
        """what passes when it has"""

        self._answers = Lines(MAX_ANSWER)
        self._answer = b""
        """the first line of an answer of several, without its end"""
        self._pieces = 0
        self._coming = 0
        """bytes of the server's literal still to come"""
        self._fetched: Passage | None = None
        self._whole = True
        self._section = b""
        self._opening = b""
        """the line before the literal that a gate holds, if the client has not got it"""
        self._waits = False
        """the literal is complete, and a gate has it"""
        self._rest = b""
        """of a line in which a content stood between quotes"""
        self._replies: deque[bytes] = deque()
        """ours, which must not stand within an answer of the server"""
        self._listed = False
        """the server has said what it can do since it was asked"""
        self._refused = 0
        """commands in a row that were answered here"""

    # what comes from the client

    def from_client(self, data: bytes) -> None:
        """Bytes of the client."""
        if self._over:
            return
        if self._gate.asked:
            self._over = True
            self._gate.trespassed()
            return
        self._advance(data)

    def _advance(self, data: bytes) -> None:
        """Go on with what the client said, and with what of it was held."""
        if self._stage is _Stage.LITERAL and data and not len(self._lines):
            # Most of a large literal need not be put by.
            piece, data = data[: self._left], data[self._left :]
            self._read_literal(piece)
        self._lines.feed(data)
        while not self._over:
            if self._stage is _Stage.LITERAL:
                piece = self._lines.take(self._left)
                if not piece and self._left:
                    return
                self._read_literal(piece)
                continue
            if self._stage is _Stage.HELD:
                return
            if self._stage is _Stage.WAIT:
                if len(self._lines) > MAX_AHEAD:
                    self._refuse("the client does not wait for the server", NOT_YET)
                return
            try:
                line = self._lines.next()
            except LineTooLong:
                self._refuse(f"a line of more than {MAX_LINE} bytes", LONG)
                return
            if line is None:
                return
            self._read_line(line)

    def client_ended(self, clean: bool = True) -> bool:
        """See L{sslintercept.dialogue.watcher.Watcher}."""
        if self._over or not clean:
            return True
        if self._stage is _Stage.HELD:
            return False
        if self._stage is not _Stage.WAIT and (line := self._lines.rest()):
            self._read_line(line)
        return self._over or not len(self._lines)

    def _read_line(self, line: bytes) -> None:
        command = self._command
        if b"\0" in line:
            self._lost("the client does not speak IMAP", of_client=line)
        elif self._stage is _Stage.RESPONSE:
            login = command.login if command is not None else None
            if login is not None:
                login.response(line.rstrip(b"\r\n"))
            self._stage, self._after = _Stage.WAIT, _Stage.RESPONSE
            self._wires.to_server(line)
        elif self._stage is _Stage.IDLE:
            self._stage, self._command = _Stage.COMMAND, None
            self._wires.to_server(line)
        elif command is None:
            self._begin(line)
        else:
            self._piece(command, line)

    def _begin(self, line: bytes) -> None:
        """The first line of a command."""
        if len(self._asked) >= MAX_OUTSTANDING:
            self._refuse(f"more than {MAX_OUTSTANDING} commands outstanding", OVERRUN)
            return
        self._command = command = _Command()
        self._note(command, line)
        if not command.words:
            self._command = None
            self._wires.to_server(line)
            return
        name = command.name
        if name == b"STARTTLS" and self._clear:
            self._command = None
            self._asked[command.tag] = command
            self._gate.ask(line, self._lines.rest())
            self._over = not self._gate.asked
            return
        if self._must and name not in _BEFORE_TLS:
            command.own = command.tag[:MAX_KEPT] + MUST_TLS
        elif name == b"COMPRESS":
            command.own = command.tag[:MAX_KEPT] + NO_COMPRESS
        else:
            self._asked[command.tag] = command
            self._refused = 0
            self._listed = self._listed and name != b"CAPABILITY"
        self._piece(command, line, noted=True)

    def _note(self, command: _Command, line: bytes) -> None:
        """Keep the first words."""
        for match in _WORD.finditer(_LITERAL.sub(b"", line)):
            if len(command.words) >= MAX_WORDS:
                return
            word = match[1]
            command.words.append(_ESCAPED.sub(rb"\1", word) if word is not None else match[2])

    def _piece(self, command: _Command, line: bytes, noted: bool = False) -> None:
        """A line of a command, up to a literal or to its end."""
        if not noted:
            self._note(command, line)
        literal = _LITERAL.search(line)
        if literal is None:
            self._command_said(command, line)
            return
        command.pieces += 1
        self._left = int(literal[1])
        if self._left > MAX_LITERAL or command.pieces > MAX_PIECES:
            self._refuse("a literal that is too large, or too many of them", LONG)
            return
        waits = not literal[2]
        if command.dropped and waits:
            self._command, self._stage = None, _Stage.COMMAND
            return
        if command.own and waits:
            # Our NO stands for the plus, and the client does not say the literal.
            self._answered_by_us(command)
            return
        self._kept = self._stored = None
        if len(command.words) < MAX_WORDS:
            if self._left <= MAX_KEPT:
                self._kept = bytearray()
            else:
                command.words.append(TOO_LONG)  # or the word behind it would take its place, and be a password
        elif command.name == b"APPEND" and not (command.own or command.answered or command.dropped):
            part = Part("imap", "message", command.about, True, self._user)
            self._stored = Passage(
                self._wires, part, passes=self._store, replaces=self._replace_stored, ends=self._stored_ends
            )
        self._stage = _Stage.WAIT if waits else _Stage.LITERAL
        self._after = _Stage.LITERAL
        if self._stored is not None and self._stored.gated:
            self._announces, self._asks = line, waits
            if waits:
                self._stage = _Stage.LITERAL
                self._replies.append(GO_ON)
                self._flush()
        elif not command.own and not command.dropped:
            self._to_server(command, line)

    def _read_literal(self, piece: bytes) -> None:
        """The next bytes of a literal, or none if it is empty."""
        command = self._command
        assert command is not None
        self._left -= len(piece)
        if self._kept is not None:
            self._kept += piece
        stored = self._stored
        if stored is not None:
            stored.write(piece)
        if not self._left:
            self._stage = _Stage.COMMAND
            if self._kept is not None and len(command.words) < MAX_WORDS:
                command.words.append(bytes(self._kept))
            self._kept = None
            if stored is not None:
                stored.finish(True)
                if (stored.waits or self._due is not None) and not self._over:
                    self._stage = _Stage.HELD
                else:
                    self._stored = None
        if stored is not None and stored.gated:
            return
        if piece and not command.own and not command.dropped and not self._over:
            self._wires.to_server(piece)

    def _to_server(self, command: _Command, line: bytes) -> None:
        command.sent = True
        self._wires.to_server(line)

    # a message that is stored through a gate

    def _store(self, data: bytes) -> None:
        self._announce(self._announces)
        if self._due is not None:
            self._due += data
        else:
            self._wires.to_server(data)

    def _replace_stored(self, data: bytes) -> None:
        if self._announces:
            self._announces = _sized(self._announces, len(data))
        self._store(data)

    def _announce(self, line: bytes) -> None:
        """Tell the server, which may have to agree."""
        command = self._command
        if not line or command is None:
            return
        self._announces = b""
        self._to_server(command, line)
        if self._asks:
            self._due = bytearray()
            self._wires.hold(True)

    def _agreed(self, due: bytearray) -> None:
        """The server waits for the literal."""
        self._settle_due()
        if due:
            self._wires.to_server(bytes(due))
        if self._stored is None or self._stored.over:
            self._resume()

    def _settle_due(self) -> None:
        if self._due is not None:
            self._due = None
            self._wires.let_go(True)

    def _stored_ends(self, error: InspectedError | None) -> None:
        """The gate has ended."""
        command = self._command
        assert command is not None
        if error is None:
            self._announce(self._announces)
        else:
            said = command.tag[:MAX_KEPT] + b" " + refusal("imap", error.category, error.event)
            if command.sent:
                within = bool(self._answer or self._coming)
                self._refuse(error.what, b"" if within else said + ENDS, error)
                return
            self._announces = b""
            self._asked.pop(command.tag, None)
            command.own = said
        if self._due is None:
            self._resume()

    def _resume(self) -> None:
        """Go on with what the client has said meanwhile, if that waited."""
        if self._stage is _Stage.HELD and not self._over:
            self._stored, self._stage = None, _Stage.COMMAND
            self._advance(b"")

    def _command_said(self, command: _Command, line: bytes) -> None:
        """The last line of a command."""
        if command.dropped:
            self._command = None
            return
        if command.own:
            self._answered_by_us(command)
            return
        name = command.name
        self._command = None
        if command.answered:
            pass
        elif name == b"AUTHENTICATE":
            self._command = command
            words = line.split()
            command.login = Login(words[2] if len(words) > 2 else b"")
            if len(words) > 3:
                command.login.response(words[3])
            self._stage, self._after = _Stage.WAIT, _Stage.RESPONSE
        elif name == b"IDLE":
            self._command = command
            self._stage, self._after = _Stage.WAIT, _Stage.IDLE
        self._wires.to_server(line)

    def _answered_by_us(self, command: _Command) -> None:
        self._command, self._stage = None, _Stage.COMMAND
        self._refused += 1
        if self._refused > MAX_REFUSED or len(self._replies) >= MAX_REFUSED:
            self._refuse(f"more than {MAX_REFUSED} refused commands in a row", OVERRUN)
            return
        self._replies.append(command.own)
        self._flush()

    # what comes from the server

    def from_server(self, data: bytes) -> None:
        """Bytes of the server."""
        if self._over:
            return
        if self._coming and not len(self._answers):
            piece, data = data[: self._coming], data[self._coming :]
            self._read_content(piece)
        self._answers.feed(data)
        self._hear()

    def _hear(self) -> None:
        """Go on with what the server said."""
        while not self._over and not self._waits:
            if self._coming:
                piece = self._answers.take(self._coming)
                if not piece:
                    return
                self._read_content(piece)
                continue
            if self._rest:
                line, self._rest = self._rest, b""
                self._read_answer(line)
                continue
            try:
                answer = self._answers.next()
            except LineTooLong:
                self._lost(f"an answer with a line of more than {MAX_ANSWER} bytes")
                return
            if answer is None:
                return
            self._read_answer(answer)

    def server_ended(self, clean: bool = True) -> bool:
        """See L{sslintercept.dialogue.watcher.Watcher}."""
        if self._waits:
            return False
        if clean and not self._over and (line := self._answers.rest()):
            self._read_answer(line)
            self._hear()
        if not self._over and self._withheld and self._stored is not None and not self._answer and not self._coming:
            self._refuse("the server has left, and a message is held", ENDS)
        return self._over or not self._waits

    def _read_answer(self, line: bytes) -> None:
        """A line of an answer, up to a literal or to its end."""
        first = not self._answer
        if first and not self._is_answer(line):
            self._lost("what the server says is no answer in IMAP", of_server=line)
            return
        fetched = b"FETCH" in self._answer.upper() or (first and _FETCH.match(line))
        if fetched and self._fetch_quoted(line):
            return
        literal = _LITERAL.search(line)
        if literal is not None:
            self._pieces += 1
            if int(literal[1]) > MAX_LITERAL or self._pieces > MAX_PIECES:
                self._refuse("a literal that is too large, or too many of them", b"")
                return
            self._answer = (self._answer + line)[:MAX_KEPT]
            self._fetch(line)
            if not self._over:
                self._coming = int(literal[1])
                if self._fetched is not None and self._fetched.gated:
                    self._opening = line
                else:
                    self._wires.to_client(line)
                if not self._coming:
                    self._read_content(b"")
            return
        start, self._answer, self._pieces = self._answer or line, b"", 0
        self._answer_said(start, line)

    @staticmethod
    def _is_answer(line: bytes) -> bool:
        return line.startswith((b"* ", b"+ ")) or line.strip() == b"+" or len(line.split(None, 2)) > 1

    def _fetch(self, line: bytes) -> None:
        """A literal follows; is it the content of a message?"""
        found = _FETCHED.search(line)
        if found is not None:
            self._fetched = self._show(found)

    def _show(self, found: re.Match[bytes]) -> Passage | None:
        section = next((group for group in (found[1], found[4]) if group is not None), b"")
        self._section = section or (b"TEXT" if found[3] and found[3].upper() == b"RFC822.TEXT" else b"")
        if _HEADERS.match(section):
            return None
        self._whole = found[2] is None and found[5] is None
        sequence = _FETCH.match(self._answer)
        uid = _UID.search(self._answer)
        number = f"UID {uid[1].decode()}" if uid else sequence[1].decode() if sequence else "?"
        part = Part("imap", "message", f"{self._mailbox};{number};{shown(section)[:MAX_NAME]}", False, self._user)
        return Passage(
            self._wires, part, passes=self._fetch_passes, replaces=self._replace_fetched, ends=self._fetched_ends
        )

    def _fetch_quoted(self, line: bytes) -> bool:
        """
        Short contents may stand between quotes.

        @return: whether one goes through a gate: it becomes a literal, and the rest of the line is read behind that.
        """
        before, self._answer = self._answer, (self._answer + line)[:MAX_KEPT]
        for found in _QUOTED.finditer(line):
            passage = self._show(found)
            if passage is None:
                continue
            content = _ESCAPED.sub(rb"\1", found[6])
            if passage.gated:
                self._opening = line[: found.start(6) - 1] + b"{%d}\r\n" % len(content)
                self._rest = line[found.end(6) + 1 :]
                self._fetched = passage
                self._read_gated(passage, content)
                return True
            passage.write(content)
            passage.finish(self._whole)
        self._answer = before
        return False

    def _read_content(self, piece: bytes) -> None:
        """The next bytes of the server's literal."""
        self._coming -= len(piece)
        fetched = self._fetched
        if fetched is not None and fetched.gated:
            self._read_gated(fetched, piece)
            return
        if fetched is not None:
            fetched.write(piece)
            if not self._coming:
                self._fetched = None
                fetched.finish(self._whole)
        if piece and not self._over:
            self._wires.to_client(piece)

    # a message that is fetched through a gate

    def _read_gated(self, fetched: Passage, piece: bytes) -> None:
        fetched.write(piece)
        if not self._coming and not self._over:
            fetched.finish(self._whole)
            self._waits = fetched.waits and not self._over
            if not self._waits:
                self._fetched = None

    def _fetch_passes(self, data: bytes) -> None:
        self._open(None)
        self._wires.to_client(data)

    def _replace_fetched(self, data: bytes) -> None:
        self._open(len(data))
        self._wires.to_client(data)

    def _open(self, size: int | None) -> None:
        """Begin the literal, of C{size} bytes or as many as the server said."""
        opening, self._opening = self._opening, b""
        if opening:
            self._wires.to_client(opening if size is None else _sized(opening, size))

    def _fetched_ends(self, error: InspectedError | None) -> None:
        """The gate has ended."""
        if error is None:
            self._open(None)
        elif self._opening:
            text = notice(self._section, error.category, error.event)
            if not self._whole:
                text = text[: _size(self._opening)]
            self._replace_fetched(text)
        else:
            self._refuse(error.what, b"", error)
        if self._waits:
            self._waits, self._fetched = False, None
            self._hear()
            self._flush()

    def _answer_said(self, start: bytes, line: bytes) -> None:
        """The last line of an answer that began with C{start}."""
        words = start.split(None, 2)
        tag, status = words[0], words[1].upper() if len(words) > 1 else b""
        if tag == b"+" and self._due is not None:
            self._agreed(self._due)
        elif tag == b"+":
            self._wires.to_client(line)
            self._plus()
        elif tag == b"*":
            self._untagged(status, start, line)
            if not self._over:
                self._wires.to_client(line)
        else:
            self._tagged(tag, status, line)
        self._flush()

    def _plus(self) -> None:
        """The client may go on."""
        if self._stage is _Stage.WAIT:
            self._stage = self._after
            self._advance(b"")

    def _untagged(self, status: bytes, start: bytes, line: bytes) -> None:
        if not self._greeted:
            self._greeted = True
            if status not in (b"OK", b"PREAUTH", b"BYE"):
                self._lost("the server does not greet in IMAP", of_server=line)
                return
            if status == b"PREAUTH" and self._must:
                self._refuse("the server is logged in to already, so TLS cannot begin any more", BYE_TLS)
                return
            if status == b"PREAUTH" and self._clear:
                self._over = not self._wires.offered(False)
                self._logged_in(None)
                return
        self._listed = self._listed or status == b"CAPABILITY"
        self._look_for_offer(start)

    def _look_for_offer(self, line: bytes) -> None:
        """What the server can do, in an answer of its own or in brackets behind OK."""
        if not self._clear:
            return
        upper = line.upper()
        at = upper.find(b"CAPABILITY ")
        if at in (2, upper.find(b"[") + 1) and at > 0:
            names = upper[at:].partition(b"]")[0].split()
            self._over = not self._wires.offered(b"STARTTLS" in names) or self._over

    def _tagged(self, tag: bytes, status: bytes, line: bytes) -> None:
        command = self._asked.pop(tag, None)
        if command is None or status not in (b"OK", b"NO", b"BAD"):
            if command is None and self._greeted and status in (b"OK", b"NO", b"BAD"):
                self._wires.to_client(line)  # to a tag that was used twice
                return
            self._lost("what the server says is no answer in IMAP", of_server=line)
            return
        good = status == b"OK"
        name = command.name
        if name == b"STARTTLS" and self._gate.asked:
            self._over = not self._gate.answered(line, self._answers.rest() if good else b"", good)
            return
        if good and name == b"LOGIN":
            self._logged_in(command.about or None)
        elif good and name == b"AUTHENTICATE":
            self._logged_in(command.login.user if command.login is not None else None)
        elif name == b"CAPABILITY" and self._clear and not (good and self._listed):
            self._over = not self._wires.offered(False)
        elif name in (b"SELECT", b"EXAMINE"):
            self._mailbox = command.about if good else ""
        if good:
            self._look_for_offer(line)
        if self._over:
            return
        self._wires.to_client(line)
        if self._command is command:
            if self._due is not None:
                # It does not want the literal, which the client is saying to us.
                command.dropped = True
                self._settle_due()
            stored = self._stored
            if stored is not None and (command.dropped or not stored.gated):
                self._stored = None
                stored.abort()
            if command.dropped:
                self._resume()
                return
            if self._stage in (_Stage.LITERAL, _Stage.COMMAND, _Stage.HELD):
                command.answered = True
            else:
                # It was refused while it waited for the plus, or its login or its waiting is over.
                self._command, self._stage = None, _Stage.COMMAND
                self._advance(b"")

    def _logged_in(self, user: str | None) -> None:
        self._user = user
        self._wires.logged_in(user)

    def _flush(self) -> None:
        """Say what we have to answer, unless the server is in the middle of an answer, or has not greeted."""
        while self._replies and self._greeted and not (self._over or self._answer or self._coming or self._waits):
            self._wires.to_client(self._replies.popleft())

    # the end

    @property
    def _withheld(self) -> bool:
        """One side lacks something of a message."""
        return any(one is not None and one.gated for one in (self._stored, self._fetched))

    def _refuse(self, why: str, say: bytes, error: InspectedError | None = None) -> None:
        cut = Cut.NOBODY
        if self._withheld or error is not None:
            cut = Cut.SERVER if say else Cut.BOTH
        self.ended()
        self._wires.refuse(why, say, error=error, cut=cut)

    def _lost(self, why: str, *, of_client: bytes = b"", of_server: bytes = b"") -> None:
        """Not IMAP any more."""
        if self._withheld:
            self._refuse(f"{why}, and a message is held", b"")
            return
        self.ended()
        self._wires.opaque(why)
        self._wires.to_server(of_client + self._lines.rest())
        self._wires.to_client(of_server + self._answers.rest())

    def ended(self) -> None:
        """Nothing more comes; messages under way have broken off."""
        self._over = True
        for passage in (self._stored, self._fetched):
            if passage is not None:
                passage.abort()
        self._stored = self._fetched = None


def _size(line: bytes) -> int:
    """That of the literal behind a line."""
    found = _LITERAL.search(line)
    return int(found[1]) if found is not None else 0


def _sized(line: bytes, size: int) -> bytes:
    """The same line before a literal of another size."""
    found = _LITERAL.search(line)
    return line if found is None else b"%b%d%b" % (line[: found.start(1)], size, line[found.end(1) :])

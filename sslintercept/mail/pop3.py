"""
Watches POP3 (RFC 1939, 2449, 2595, 5034, 6856).

Both directions pass as they come: lines when they are whole, messages at once. A queue of what was asked tells which
command an answer belongs to, and so whether lines follow it and what they are. What TOP gives is a message too, but
only its beginning, so as a part it is never whole.

Where a gate decides about a message its answer waits, with everything behind it, until something of it may pass; until
then it can still become C{-ERR}. Later only cutting the connection says that it is not whole.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from sslintercept.dialogue.gate import Gate
from sslintercept.dialogue.lines import Lines, LineTooLong
from sslintercept.dialogue.passage import Passage
from sslintercept.dialogue.watcher import MAX_REFUSED, Cut, Part, Terms, Wires
from sslintercept.dialogue.words import refusal
from sslintercept.errors import InspectedError
from sslintercept.mail.dots import Stuffed
from sslintercept.mail.login import Login, shown

MAX_COMMAND: Final = 2048
"""Bytes of a command, its end included; RFC 2449 4 says 255."""
MAX_AUTH: Final = 12288
"""Bytes of an AUTH command or of a response in it (RFC 5034 4)."""
MAX_ANSWER: Final = 4096
"""Bytes of the first line of an answer; RFC 2449 4 says 512."""
MAX_OUTSTANDING: Final = 1000
"""Commands that wait for their answers."""
MAX_CAPABILITIES: Final = 8192
"""Bytes of an answer to CAPA that are looked at."""
MAX_NAME: Final = 40
"""Characters of what names a message."""

MUST_TLS: Final = b"-ERR [SYS/PERM] Use STLS first\r\n"
LONG_LINE: Final = b"-ERR Line too long\r\n"
OVERRUN: Final = b"-ERR Too many commands\r\n"

_BEFORE_TLS: Final = frozenset((b"CAPA", b"STLS", b"QUIT", b"NOOP"))
_LISTS: Final = frozenset((b"LIST", b"UIDL", b"AUTH", b"LANG"))
"""Several lines answer these where they have no argument (RFC 1939, RFC 6856 3 for LANG)."""
_ALWAYS_LONG: Final = frozenset((b"RETR", b"TOP", b"CAPA"))


class Dotted:
    """
    Takes the dot-stuffing off an answer of several lines (RFC 1939 3).

    Only CRLF ends a line here: the client that reads it is the one that asked, so there is nobody to smuggle to.

    @ivar done: the line of one dot has come.
    """

    __slots__ = ("_held", "_skip", "done")

    def __init__(self) -> None:
        self._held = b"\r\n"  # that of the line before
        self._skip = 2
        self.done = False

    def feed(self, data: bytes) -> tuple[bytes, int]:
        """Give the content in C{data}, and how many bytes of it belong to the answer: all of them until C{done}."""
        before, buffer = len(self._held), self._held + data
        pieces, at, taken = [], 0, len(data)
        while True:
            dot = buffer.find(b"\r\n.", at)
            if dot < 0:
                end = len(buffer) - min(len(buffer) - at, 2 if buffer.endswith(b"\r\n") else buffer.endswith(b"\r"))
                pieces.append(buffer[at:end])
                self._held = buffer[end:]
                break
            behind = buffer[dot + 3 : dot + 5]
            if behind == b"\r\n":
                pieces.append(buffer[at : dot + 2])
                self.done, taken = True, dot + 5 - before
                break
            if behind in (b"", b"\r"):
                pieces.append(buffer[at:dot])
                self._held = buffer[dot:]
                break
            pieces.append(buffer[at : dot + 2])
            at = dot + 3
        content = b"".join(pieces)
        skip = min(self._skip, len(content))
        self._skip -= skip
        return content[skip:], taken


class _Asked:
    """A command that waits for its answer; C{own}: the answer, where it is ours."""

    __slots__ = ("argument", "long", "own", "verb")

    def __init__(self, verb: bytes, argument: bytes = b"", own: bytes = b"") -> None:
        self.verb = verb
        self.argument = argument
        self.own = own
        self.long = verb in _ALWAYS_LONG or (verb in _LISTS and not argument)


class Pop3Watcher:
    """One conversation (L{sslintercept.dialogue.watcher.Watcher})."""

    protocol = "pop3"

    def __init__(self, wires: Wires, terms: Terms) -> None:
        self._wires = wires
        self._gate = Gate(wires)
        self._clear, self._must = terms.clear, terms.must
        self._over = False
        self._commands = Lines(MAX_AUTH)
        self._answers = Lines(MAX_ANSWER)
        self._queue: deque[_Asked] = deque(() if terms.upgraded else (_Asked(b"greeting"),))
        self._refused = 0
        """commands in a row that were answered here"""
        self._login: Login | None = None
        """of an AUTH whose outcome is open: the client's lines are responses"""
        self._name: str | None = None
        """said in USER"""
        self._user: str | None = None
        self._dotted: Dotted | None = None
        """the answer that is coming in"""
        self._message: Passage | None = None
        self._whole = False
        """the part is the whole message"""
        self._opening = b""
        """the first line of an answer that a gate holds"""
        self._stuffed = Stuffed(False)
        """content on its way from a gate to the client"""
        self._waits = False
        """the answer is complete, and a gate has it"""
        self._capabilities: bytes | None = None

    # what comes from the client

    def from_client(self, data: bytes) -> None:
        """Bytes of the client."""
        if self._over:
            return
        if self._gate.asked:
            self._over = True
            self._gate.trespassed()
            return
        self._commands.feed(data)
        try:
            while not self._over and (line := self._commands.next()) is not None:
                self._read_command(line)
        except LineTooLong:
            self._refuse(f"a command of more than {MAX_AUTH} bytes", LONG_LINE)

    def _read_command(self, line: bytes) -> None:
        if b"\0" in line:
            self._lost("the client does not speak POP3", of_client=line)
            return
        if self._login is not None:
            self._login.response(line.rstrip(b"\r\n"))
            self._wires.to_server(line)
            return
        words = line.split(None, 1)
        verb = words[0].upper() if words else b""
        argument = words[1].rstrip(b"\r\n") if len(words) == 2 else b""
        if len(line) > MAX_COMMAND and verb != b"AUTH":
            self._refuse(f"a command of more than {MAX_COMMAND} bytes", LONG_LINE)
        elif len(self._queue) >= MAX_OUTSTANDING:
            self._refuse(f"more than {MAX_OUTSTANDING} commands outstanding", OVERRUN)
        elif self._must and verb not in _BEFORE_TLS:
            self._answer(verb, MUST_TLS)
        elif verb == b"STLS" and self._clear:
            self._queue.append(_Asked(verb))
            self._gate.ask(line, self._commands.rest())
            self._over = not self._gate.asked
        else:
            if verb == b"AUTH" and argument:
                mechanism, _, initial = argument.partition(b" ")
                self._login = Login(mechanism)
                self._login.response(initial.strip())
            elif verb == b"USER":
                self._name = shown(argument)
            elif verb == b"APOP":
                self._name = shown(argument.partition(b" ")[0])
            self._refused = 0
            self._queue.append(_Asked(verb, b"" if verb == b"PASS" else argument))
            self._wires.to_server(line)

    def _answer(self, verb: bytes, answer: bytes) -> None:
        """Answer ourselves, when everything asked before has been answered."""
        self._refused += 1
        if self._refused > MAX_REFUSED:
            self._refuse(f"more than {MAX_REFUSED} refused commands in a row", OVERRUN)
            return
        self._queue.append(_Asked(verb, own=answer))
        self._flush()

    def client_ended(self, clean: bool = True) -> bool:
        """See L{sslintercept.dialogue.watcher.Watcher}."""
        if clean and not self._over and (line := self._commands.rest()):
            self._read_command(line)
        return True

    # what comes from the server

    def from_server(self, data: bytes) -> None:
        """Bytes of the server."""
        self._answers.feed(data)
        self._hear()

    def _hear(self) -> None:
        """Go on with what the server said."""
        while not self._over and not self._waits:
            if self._dotted is not None:
                piece = self._answers.take()
                if not piece:
                    return
                self._read_lines(self._dotted, piece)
                continue
            try:
                line = self._answers.next()
            except LineTooLong:
                self._refuse(f"an answer with a line of more than {MAX_ANSWER} bytes", b"")
                return
            if line is None:
                return
            self._read_answer(line)

    def server_ended(self, clean: bool = True) -> bool:
        """See L{sslintercept.dialogue.watcher.Watcher}."""
        if self._waits:
            return False
        if clean and not self._over and (line := self._answers.rest()):
            self._read_answer(line)
        return True

    def _read_answer(self, line: bytes) -> None:
        """The first line of an answer, which is the only one of most."""
        good = line.startswith(b"+OK")
        if not self._queue or not (good or line.startswith((b"-ERR", b"+ ")) or line.strip() == b"+"):
            self._lost("what the server says is no answer in POP3", of_server=line)
            return
        asked = self._queue[0]
        if asked.verb == b"STLS" and self._gate.asked:
            self._queue.popleft()
            self._over = not self._gate.answered(line, self._answers.rest() if good else b"", good)
            self._flush()
            return
        if not good and not line.startswith(b"-ERR"):
            # A challenge; the answer to AUTH is still to come.
            self._wires.to_client(line)
            return
        self._queue.popleft()
        if asked.verb == b"AUTH" and self._login is not None:
            login, self._login = self._login, None
            if good:
                self._logged_in(login.user)
        elif good and asked.verb in (b"PASS", b"APOP"):
            self._logged_in(self._name)
        elif not good and asked.verb == b"CAPA" and self._clear and not self._wires.offered(False):
            self._over = True
        if good and asked.long:
            self._begin(asked)
        if self._withheld:
            self._opening = line
        elif not self._over:
            self._wires.to_client(line)
        if self._dotted is None:
            self._flush()

    def _logged_in(self, user: str | None) -> None:
        self._user = user
        self._wires.logged_in(user)

    def _begin(self, asked: _Asked) -> None:
        """Lines follow."""
        self._dotted = Dotted()
        if asked.verb in (b"RETR", b"TOP"):
            name = shown(asked.argument)[:MAX_NAME]
            name = name.partition(" ")[0] + " top" if asked.verb == b"TOP" else name
            part = Part("pop3", "message", name, False, self._user)
            self._stuffed = Stuffed(False)
            self._message = Passage(
                self._wires, part, passes=self._passes, replaces=self._passes, ends=self._message_ends
            )
            self._whole = asked.verb == b"RETR"
        elif asked.verb == b"CAPA":
            self._capabilities = b""

    def _read_lines(self, dotted: Dotted, data: bytes) -> None:
        """Take what of C{data} belongs to the answer."""
        content, taken = dotted.feed(data)
        self._answers.give_back(len(data) - taken)
        message = self._message
        if message is not None:
            message.write(content)
        if self._capabilities is not None:
            self._capabilities = (self._capabilities + content)[:MAX_CAPABILITIES]
        if dotted.done:
            self._dotted = None
            if message is not None:
                message.finish(self._whole)
                self._waits = message.waits
                self._message = message if self._waits else None
            capabilities, self._capabilities = self._capabilities, None
            if capabilities is not None and self._clear:
                offered = b"STLS" in (line.strip().upper() for line in capabilities.split(b"\n"))
                self._over = not self._wires.offered(offered) or self._over
        if not self._over and (message is None or not message.gated):
            self._wires.to_client(data[:taken])
        if dotted.done:
            self._flush()

    def _passes(self, data: bytes) -> None:
        """A gate lets this through."""
        opening, self._opening = self._opening, b""
        self._wires.to_client(opening + self._stuffed.feed(data))

    def _message_ends(self, error: InspectedError | None) -> None:
        """A gate has ended."""
        opening, self._opening = self._opening, b""
        if error is None:
            self._wires.to_client(opening + self._stuffed.end())
        elif opening:
            self._wires.to_client(refusal("pop3", error.category, error.event))
        else:
            self._refuse(error.what, b"", error)
        if self._waits:
            self._waits, self._message = False, None
            self._flush()
            self._hear()

    @property
    def _withheld(self) -> bool:
        """The client lacks something of a message."""
        return self._message is not None and self._message.gated

    def _flush(self) -> None:
        """Say what we have to answer, as far as its turn has come."""
        while not (self._over or self._waits or self._dotted) and self._queue and self._queue[0].own:
            self._wires.to_client(self._queue.popleft().own)

    # the end

    def _refuse(self, why: str, say: bytes, error: InspectedError | None = None) -> None:
        cut = Cut.BOTH if self._withheld or error is not None else Cut.NOBODY
        self.ended()
        self._wires.refuse(why, say, error=error, cut=cut)

    def _lost(self, why: str, *, of_client: bytes = b"", of_server: bytes = b"") -> None:
        """Not POP3 any more."""
        if self._withheld:
            self._refuse(f"{why}, and a message is held", b"")
            return
        self.ended()
        self._wires.opaque(why)
        self._wires.to_server(of_client + self._commands.rest())
        self._wires.to_client(of_server + self._answers.rest())

    def ended(self) -> None:
        """Nothing more comes; a message under way has broken off."""
        self._over = True
        message, self._message = self._message, None
        if message is not None:
            message.abort()

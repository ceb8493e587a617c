"""
Watches the control connection of FTP (RFC 959, 2228, 2428, 4217).

It passes as it comes, line by line, but for the addresses of data connections: they are written anew, so that nobody
can read them in another way, and L{Channels} may put ours in their place. What the next data connection carries, and
whether in TLS, is told to the channel when the command for it is the server's next, so that a file becomes a part; that
is whole when its data connection ended well and the server said so here.

Where a gate decides about a file, the server's last word about the transfer waits for the gate, and everything behind
it; what was refused is said to have failed, whatever the server thinks.

MODE B, C and Z would hide what passes, so they are answered with 504. CCC (back to the clear) would make the
conversation weaker than its ends agreed on, and blind us; it is refused. So are the addresses of RFC 1639, which nobody
uses.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Final, Protocol

from sslintercept.dialogue.gate import Gate
from sslintercept.dialogue.lines import Lines, LineTooLong
from sslintercept.dialogue.watcher import MAX_REFUSED, Part, Terms, Wires
from sslintercept.dialogue.words import refusal
from sslintercept.errors import InspectedError
from sslintercept.facts import Address
from sslintercept.ftp.address import read_eprt, read_epsv, read_six, write_eprt, write_six

MAX_LINE: Final = 4096
"""Bytes of a command or of one line of a reply, its end included."""
MAX_LAST_WORD: Final = 64 * 1024
"""Bytes of the reply that ends a transfer, all its lines together."""
MAX_OUTSTANDING: Final = 1000
"""Commands that wait for their replies."""
MAX_NAME: Final = 1024
"""Characters of a path or a user's name."""

MUST_TLS: Final = b"534 Policy requires TLS, use AUTH TLS first\r\n"
NO_CCC: Final = b"534 The control connection stays protected here\r\n"
NO_MODE: Final = b"504 Only MODE S is served here\r\n"
LONG_LINE: Final = b"500 Line too long\r\n"
BARE_END: Final = b"500 A line ends in CRLF\r\n"
OVERRUN: Final = b"421 Too many commands\r\n"
BOUNCE: Final = b"500 Illegal PORT command\r\n"
NOT_SERVED: Final = b"502 Command not served here, use EPSV or EPRT\r\n"
NO_CHANNEL: Final = b"425 No data connection can be made\r\n"
MUST_PROTECT: Final = b"521 Policy requires PROT P\r\n"
"""RFC 4217 7"""

_BEFORE_TLS: Final = frozenset((b"AUTH", b"FEAT", b"QUIT", b"NOOP", b"HOST", b"CLNT", b"OPTS", b"SYST", b"PBSZ"))
_FILES: Final = {b"RETR": False, b"STOR": True, b"STOU": True, b"APPE": True}
"""Commands that carry a file, and whether upwards."""
_TRANSFERS: Final = frozenset((*_FILES, b"LIST", b"NLST", b"MLSD"))
_LONG: Final = frozenset((b"LPRT", b"LPSV"))
"""Addresses of any family (RFC 1639), obsolete since RFC 2428."""
_ADDRESSES: Final = {b"PASV": b"227", b"EPSV": b"229"}
"""Commands whose reply says where the data connection goes, and the code of that."""
_CODES: Final = frozenset((b"227", b"228", b"229"))
_OF_TRANSFER: Final = re.compile(rb"1..|226|250|4..|55.")
"""Codes by which a transfer that has begun goes on or ends."""
_ENDS: Final = (b" ", b"\r", b"\n", b"")
"""What stands behind the code in the last line of a reply; nothing, where the server has left within it."""
_TELNET: Final = re.compile(rb"\xff(?:[\xfb-\xfe].|[\xf0-\xfa]|(\xff))", re.DOTALL)
"""Commands of Telnet, which may stand anywhere (RFC 959 4.1.3, RFC 854); a doubled IAC is a byte of text."""


class Channel(Protocol):
    """One data connection to come."""

    @property
    def refused(self) -> InspectedError | None:
        """Why the file does not pass."""

    def carries(self, part: Part | None, protected: bool, piece: bool = False) -> None:
        """
        The command for it is the server's next: what it carries (C{None} for a listing), and whether in TLS.

        @param piece: the file is not all of it: it goes on where another transfer has ended.
        """

    def open(self, decided: Callable[[], object]) -> bool:
        """
        Whether it is not known yet if the file may pass, so that nothing is said of how its transfer went.

        @param decided: called once when that may have changed.
        """

    def over(self, good: bool) -> None:
        """The server has said how the transfer went; or there will be none."""


class Channels(Protocol):
    """Who makes data connections pass."""

    def passive(self, address: Address | None, port: int) -> tuple[Channel, Address | None] | None:
        """
        The client will connect to where the server says.

        @param address: from the reply to PASV; C{None} for EPSV, which names the C{port} only.
        @return: the channel, and what stands in the reply instead if the client cannot or must not go there itself;
            C{None} if the server sends the client somewhere else, or there is no room.
        """

    def active(self, address: Address) -> tuple[Channel, Address | None] | None:
        """The server will connect to where the client says; likewise."""

    def close(self) -> None:
        """The conversation is over: nobody comes any more."""


class _Asked:
    """
    A command that waits for its reply.

    @ivar own: the reply, where it is ours.
    @ivar channel: its data connection; of PORT and EPRT the one that a good reply makes the next.
    @ivar begun: the server has begun with it (1xx).
    @ivar next: everything before it has been answered.
    """

    __slots__ = ("argument", "begun", "channel", "next", "own", "verb")

    def __init__(self, verb: bytes, argument: bytes = b"", own: bytes = b"") -> None:
        self.verb = verb
        self.argument = argument
        self.own = own
        self.channel: Channel | None = None
        self.begun = self.next = False


class FtpWatcher:
    """One conversation (L{sslintercept.dialogue.watcher.Watcher})."""

    protocol = "ftp"

    def __init__(self, wires: Wires, terms: Terms, channels: Channels) -> None:
        self._wires = wires
        self._channels = channels
        self._gate = Gate(wires)
        self._clear, self._must = terms.clear, terms.must
        self._private = terms.required
        """data connections may not be in the clear either"""
        self._over = False
        self._commands = Lines(MAX_LINE)
        self._replies = Lines(MAX_LINE)
        self._queue: deque[_Asked] = deque(() if terms.upgraded else (_Asked(b"greeting"),))
        self._code = b""
        """of the reply whose last line has not come"""
        self._refused = 0
        """commands in a row that were answered here"""
        self._features = self._offer = False
        self._name = ""
        self._user: str | None = None
        self._protected = False
        """PROT P is in force: data connections begin with TLS"""
        self._changing = 0
        """commands without a reply that may change that"""
        self._next: Channel | None = None
        """that the next transfer goes by"""
        self._restarts = False
        """which does not begin at the beginning"""
        self._last_word = b""
        """lines of the reply that ends a transfer; they pass when it is whole"""
        self._waiting: Callable[[], None] | None = None
        """what is to be done with it, and waits for a gate"""

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
            self._refuse(f"a command of more than {MAX_LINE} bytes", LONG_LINE)

    def client_ended(self, clean: bool = True) -> bool:
        """See L{sslintercept.dialogue.watcher.Watcher}."""
        if clean and not self._over and (line := self._commands.rest()):
            self._read_command(line)
        return True

    def _read_command(self, line: bytes) -> None:
        text = _TELNET.sub(rb"\1", line) if b"\xff" in line else line
        text = text.removesuffix(b"\n").removesuffix(b"\r")
        words = text.split(None, 1)
        verb = words[0].upper() if words else b""
        argument = words[1] if len(words) == 2 else b""
        if b"\0" in line:
            self._lost("the client does not speak FTP", of_client=line)
        elif b"\r" in text:
            self._refuse("a command with a bare CR", BARE_END)
        elif len(self._queue) >= MAX_OUTSTANDING:
            self._refuse(f"more than {MAX_OUTSTANDING} commands outstanding", OVERRUN)
        elif self._must and verb not in _BEFORE_TLS:
            self._answer(MUST_TLS)
        elif verb == b"AUTH" and self._clear and argument.strip().upper() in (b"TLS", b"TLS-C", b"SSL", b"TLS-P"):
            self._queue.append(_Asked(verb))
            self._gate.ask(line, self._commands.rest())
            self._over = not self._gate.asked
        elif verb == b"CCC" and not self._clear:
            self._answer(NO_CCC)
        elif verb == b"MODE" and argument.strip().upper() != b"S":
            self._answer(NO_MODE)
        elif verb in _LONG:
            self._answer(NOT_SERVED)
        elif verb in (b"PORT", b"EPRT"):
            self._active(verb, argument)
        elif self._private and verb in _TRANSFERS and not (self._protected and not self._changing):
            self._answer(MUST_PROTECT)
        else:
            if verb == b"USER":
                self._name = _shown(argument)
            elif verb in (b"PROT", b"REIN"):
                self._changing += 1
            self._ask(line, _Asked(verb, argument if verb in _TRANSFERS or verb in (b"PROT", b"REST") else b""))

    def _ask(self, line: bytes, asked: _Asked) -> None:
        self._refused = 0
        self._queue.append(asked)
        if len(self._queue) == 1:
            self._turn(asked)
        self._wires.to_server(line)

    def _answer(self, reply: bytes) -> None:
        """Reply ourselves, when everything asked before has been answered."""
        self._refused += 1
        if self._refused > MAX_REFUSED:
            self._refuse(f"more than {MAX_REFUSED} refused commands in a row", OVERRUN)
            return
        self._queue.append(_Asked(b"", own=reply))
        self._flush()

    def _active(self, verb: bytes, argument: bytes) -> None:
        address = read_six(argument) if verb == b"PORT" else read_eprt(argument)
        found = self._channels.active(address) if address is not None else None
        if found is None or address is None:
            self._answer(BOUNCE)
            return
        asked = _Asked(verb)
        asked.channel, ours = found
        where = ours or address
        short = verb == b"PORT" and ":" not in where.host
        self._ask((b"PORT %b\r\n" if short else b"EPRT %b\r\n") % (write_six if short else write_eprt)(where), asked)

    def _turn(self, asked: _Asked) -> None:
        """Everything before C{asked} has been answered: what it will do is certain."""
        if asked.verb in _TRANSFERS and not asked.next:
            asked.next = True
            piece, self._restarts = self._restarts or asked.verb == b"APPE", False
            asked.channel, self._next = self._next, None
            if asked.channel is not None:
                upload = _FILES.get(asked.verb)
                part = None if upload is None else Part("ftp", "file", _shown(asked.argument), upload, self._user)
                asked.channel.carries(part, self._protected, piece)

    def _goes_next(self, channel: Channel) -> None:
        """The next transfer goes by C{channel}, and by no other."""
        before, self._next = self._next, channel
        if before is not None:
            before.over(False)

    # what comes from the server

    def from_server(self, data: bytes) -> None:
        """Bytes of the server."""
        if self._over:
            return
        self._replies.feed(data)
        self._hear()

    def _hear(self) -> None:
        """Go on with what the server said."""
        try:
            while not self._over and self._waiting is None and (line := self._replies.next()) is not None:
                self._read_line(line)
        except LineTooLong:
            self._refuse(f"a reply with a line of more than {MAX_LINE} bytes", b"421 The reply is too long\r\n")

    def server_ended(self, clean: bool = True) -> bool:
        """See L{sslintercept.dialogue.watcher.Watcher}."""
        if self._waiting is not None:
            return False
        if clean and not self._over and (line := self._replies.rest()):
            self._read_line(line)
        return self._waiting is None

    def _read_line(self, line: bytes) -> None:
        """One line; a reply of several ends with the code that it began with (RFC 959 4.2)."""
        code, mark = line[:3], line[3:4]
        alone = not self._code
        if alone:
            if not (len(code) == 3 and code.isdigit()) or mark not in (*_ENDS, b"-"):
                self._lost("what the server says is no reply in FTP", of_server=line)
                return
            last = mark != b"-"
            asked = self._whose(code)
            self._features = asked is not None and asked.verb == b"FEAT"
            self._offer = False
        else:
            last = code == self._code and mark in _ENDS
            if self._features and line.strip().upper().startswith((b"AUTH TLS", b"AUTH SSL")):
                self._offer = True
        if not last:
            self._code = self._code or code
            if self._ends_transfer(self._code) is not None:
                self._last_word += line
                if len(self._last_word) > MAX_LAST_WORD:
                    self._refuse(f"a reply of more than {MAX_LAST_WORD} bytes", b"421 The reply is too long\r\n")
            elif self._code not in _CODES:
                # An address is one line, or nobody knows which of them a client believes.
                self._wires.to_client(line)
            return
        self._code = b""
        asked = self._ends_transfer(code)
        if asked is None:
            self._replied(code, line, alone)
            return
        line, self._last_word = self._last_word + line, b""
        self._transferred(asked, code, line, alone)

    def _ends_transfer(self, code: bytes) -> _Asked | None:
        """The transfer of a file that a reply with C{code} is the last word of, if it is."""
        asked = self._whose(code)
        ends = asked is not None and asked.begun and asked.channel is not None and code[:1] != b"1"
        return asked if ends and asked is not None and asked.verb in _FILES else None

    def _transferred(self, asked: _Asked, code: bytes, line: bytes, alone: bool) -> None:
        """How a transfer went, unless that is open still."""
        channel = asked.channel
        assert channel is not None

        def decided() -> None:
            if self._waiting is not None:
                self._waiting = None
                self._wires.let_go(False)
                self._transferred(asked, code, line, alone)
                if self._waiting is None:
                    self._hear()
                self._wires.go_on()

        if channel.open(decided):
            self._waiting = decided
            self._wires.hold(False)
        elif channel.refused is not None:
            error = channel.refused
            self._replied(b"550", refusal("ftp", error.category, error.event), alone)
        else:
            self._replied(code, line, alone)

    def _replied(self, code: bytes, line: bytes, alone: bool) -> None:
        """The last line of a reply, which may be the only one (C{alone})."""
        asked = self._whose(code)
        if asked is None:
            if code == b"421":
                self._wires.to_client(line)
            else:
                self._lost("the server replies to what nobody asked", of_server=line)
            return
        if code[:1] == b"1":
            # A further reply follows.
            asked.begun = True
            self._wires.to_client(line)
            return
        if code in _CODES and asked.verb not in _ADDRESSES:
            self._lost("the server gives an address that nobody asked for", of_server=line)
            return
        first = asked is self._queue[0]
        self._queue.remove(asked)
        if asked.verb == b"AUTH" and self._gate.asked:
            agreed = code == b"234"
            self._over = not self._gate.answered(line, self._replies.rest() if agreed else b"", agreed)
        else:
            self._note(asked, code)
            if self._over:
                return
            self._wires.to_client(self._address(asked, code, line, alone) if code in _CODES else line)
        if first:
            self._flush()

    def _whose(self, code: bytes) -> _Asked | None:
        """
        The command that a reply with C{code} belongs to: the first one, but for what is asked during a transfer.

        Servers answer STAT while a file passes (RFC 959 4.1.3), with codes by which no transfer ends.
        """
        if not self._queue:
            return None
        first = self._queue[0]
        if not first.begun or first.verb not in _TRANSFERS or _OF_TRANSFER.fullmatch(code):
            return first
        return next((asked for asked in islice(self._queue, 1, None) if not asked.own), first)

    def _note(self, asked: _Asked, code: bytes) -> None:
        """What a reply means."""
        good = code[:1] == b"2"
        if asked.verb in (b"USER", b"PASS", b"ACCT") and code in (b"230", b"232"):
            self._user = self._name or None
            self._wires.logged_in(self._user)
        elif asked.verb == b"PROT":
            self._changing -= 1
            if good:
                self._protected = asked.argument.strip().upper() == b"P"
        elif asked.verb == b"REIN":
            self._changing -= 1
            if good:
                self._user, self._protected = None, False
        elif asked.verb == b"REST":
            self._restarts = code == b"350" and asked.argument.strip() != b"0"
        elif asked.verb == b"FEAT" and self._clear:
            self._over = not self._wires.offered(good and self._offer)
        if asked.channel is None:
            return
        if good and asked.verb in (b"PORT", b"EPRT"):
            self._goes_next(asked.channel)
        elif not good and not asked.begun and asked.verb in _TRANSFERS and self._next is None:
            self._next = asked.channel  # it has not been used
        else:
            # Whatever is said of a transfer that was to be broken off, nobody knows whether it is whole.
            asked.channel.over(good and not any(other.verb == b"ABOR" for other in self._queue))

    def _address(self, asked: _Asked, code: bytes, line: bytes, alone: bool) -> bytes:
        """A reply with an address as the client gets it: written anew, and perhaps another one."""
        address = read_six(line[4:]) if code == b"227" else None
        port = address.port if address is not None else read_epsv(line) if code == b"229" else None
        if not alone or port is None or code != _ADDRESSES[asked.verb]:
            return NO_CHANNEL
        found = self._channels.passive(address, port)
        if found is None:
            return NO_CHANNEL
        channel, ours = found
        where = ours or address
        if where is not None and address is not None and ":" in where.host:
            channel.over(False)
            return NO_CHANNEL  # the reply to PASV has no room for an address of IPv6
        self._goes_next(channel)
        if where is not None and address is not None:
            return b"227 Entering Passive Mode (%b).\r\n" % write_six(where)
        return b"229 Entering Extended Passive Mode (|||%d|)\r\n" % (where.port if where is not None else port)

    def _flush(self) -> None:
        """Say what we have to answer, as far as its turn has come."""
        while not self._over and self._queue and self._queue[0].own:
            self._wires.to_client(self._queue.popleft().own)
        if self._queue:
            self._turn(self._queue[0])

    # the end

    def _refuse(self, why: str, say: bytes) -> None:
        self.ended()
        self._wires.refuse(why, say)

    def _lost(self, why: str, *, of_client: bytes = b"", of_server: bytes = b"") -> None:
        """Not FTP any more."""
        self.ended()
        self._wires.opaque(why)
        self._wires.to_server(of_client + self._commands.rest())
        self._wires.to_client(of_server + self._replies.rest())

    def ended(self) -> None:
        """Nothing more comes; transfers under way are not said to be whole."""
        self._over = True
        self._waiting = None
        for channel in (self._next, *(asked.channel for asked in self._queue)):
            if channel is not None:
                channel.over(False)
        self._next = None
        self._queue.clear()
        self._channels.close()


def _shown(raw: bytes) -> str:
    text = raw.decode("utf-8", "replace")[:MAX_NAME]
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)

"""
Watches the control connection of FTP (RFC 959, 2228, 2428, 4217).

It passes as it comes, line by line, but for the addresses of data connections, which L{Channels} may replace by ours.
What the next data connection carries is told to the channel, so that a file becomes a part; a part is whole when its
data connection ended well and the server said so here.

CCC (back to the clear) would make the conversation weaker than its ends agreed on, and blind us; it is refused.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Protocol

from sslintercept.dialogue.gate import Gate
from sslintercept.dialogue.lines import Lines, LineTooLong
from sslintercept.dialogue.watcher import MAX_REFUSED, Part, Terms, Wires
from sslintercept.facts import Address
from sslintercept.ftp.address import read_eprt, read_epsv, read_six, write_eprt, write_six

MAX_LINE: Final = 4096
"""Bytes of a command or of one line of a reply, its end included."""
MAX_OUTSTANDING: Final = 1000
"""Commands that wait for their replies."""
MAX_NAME: Final = 1024
"""Characters of a path or a user's name."""

MUST_TLS: Final = b"534 Policy requires TLS, use AUTH TLS first\r\n"
NO_CCC: Final = b"534 The control connection stays protected here\r\n"
LONG_LINE: Final = b"500 Line too long\r\n"
OVERRUN: Final = b"421 Too many commands\r\n"
BOUNCE: Final = b"500 Illegal PORT command\r\n"
NO_CHANNEL: Final = b"425 No data connection can be made\r\n"
MUST_PROTECT: Final = b"521 Policy requires PROT P\r\n"
"""RFC 4217 7"""

_BEFORE_TLS: Final = frozenset((b"AUTH", b"FEAT", b"QUIT", b"NOOP", b"HOST", b"CLNT", b"OPTS", b"SYST", b"PBSZ"))
_FILES: Final = {b"RETR": False, b"STOR": True, b"STOU": True, b"APPE": True}
"""Commands that carry a file, and whether upwards."""
_LISTINGS: Final = frozenset((b"LIST", b"NLST", b"MLSD"))


class Channel(Protocol):
    """One data connection to come."""

    def carries(self, part: Part | None, protected: bool) -> None:
        """The command for it was given: what it carries (C{None} for a listing)."""

    def over(self, good: bool) -> None:
        """The server has said how the transfer went."""


class Channels(Protocol):
    """Who makes data connections pass."""

    def passive(self, address: Address | None, port: int, protected: bool) -> tuple[Channel, Address | None] | None:
        """
        The client will connect to where the server says.

        @param address: from the reply to PASV; C{None} for EPSV, which names the C{port} only.
        @return: the channel, and what stands in the reply instead if the client cannot or must not go there itself;
            C{None} if the server sends the client somewhere else, or there is no room.
        """

    def active(self, address: Address, protected: bool) -> tuple[Channel, Address | None] | None:
        """The server will connect to where the client says; likewise."""

    def close(self) -> None:
        """The conversation is over: nobody comes any more."""


class _Asked:
    """A command that waits for its reply; C{own}: the reply, where it is ours."""

    __slots__ = ("argument", "channel", "own", "verb")

    def __init__(self, verb: bytes, argument: bytes = b"", own: bytes = b"") -> None:
        self.verb = verb
        self.argument = argument
        self.own = own
        self.channel: Channel | None = None


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
        self._next: Channel | None = None
        """that the next transfer goes by"""

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

    def _read_command(self, line: bytes) -> None:
        words = line.split(None, 1)
        # ABOR may come behind a Telnet interrupt (RFC 959 4.1.3).
        verb = words[0].lstrip(b"\xff\xf4\xf2").upper() if words else b""
        argument = words[1].rstrip(b"\r\n") if len(words) == 2 else b""
        if b"\0" in line:
            self._lost("the client does not speak FTP", of_client=line)
        elif len(self._queue) >= MAX_OUTSTANDING:
            self._refuse(f"more than {MAX_OUTSTANDING} commands outstanding", OVERRUN)
        elif self._must and verb not in _BEFORE_TLS:
            self._answer(MUST_TLS)
        elif verb == b"AUTH" and self._clear and argument.upper() in (b"TLS", b"TLS-C", b"SSL", b"TLS-P"):
            self._queue.append(_Asked(verb))
            self._gate.ask(line, self._commands.rest())
            self._over = not self._gate.asked
        elif verb == b"CCC" and not self._clear:
            self._answer(NO_CCC)
        elif verb in (b"PORT", b"EPRT"):
            self._active(line, verb, argument)
        elif self._private and not self._protected and (verb in _FILES or verb in _LISTINGS):
            self._answer(MUST_PROTECT)
        else:
            asked = _Asked(verb, b"" if verb in (b"PASS", b"ACCT") else argument)
            if verb == b"USER":
                self._name = _shown(argument)
            elif verb in _FILES or verb in _LISTINGS:
                asked.channel = self._transfer(verb, argument)
            self._ask(line, asked)

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

    def _active(self, line: bytes, verb: bytes, argument: bytes) -> None:
        address = read_six(argument) if verb == b"PORT" else read_eprt(argument)
        found = self._channels.active(address, self._protected) if address is not None else None
        if found is None:
            self._answer(BOUNCE)
            return
        self._next, ours = found
        if ours is not None:
            written = write_six(ours) if verb == b"PORT" and ":" not in ours.host else write_eprt(ours)
            line = (b"PORT " if verb == b"PORT" and ":" not in ours.host else b"EPRT ") + written + b"\r\n"
        self._ask(line, _Asked(verb))

    def _transfer(self, verb: bytes, argument: bytes) -> Channel | None:
        channel, self._next = self._next, None
        if channel is not None:
            upload = _FILES.get(verb)
            part = None if upload is None else Part("ftp", "file", _shown(argument), upload, self._user)
            channel.carries(part, self._protected)
        return channel

    def client_ended(self) -> bool:
        """See L{sslintercept.dialogue.watcher.Watcher}."""
        if not self._over and (line := self._commands.rest()):
            self._read_command(line)
        return True

    # what comes from the server

    def from_server(self, data: bytes) -> None:
        """Bytes of the server."""
        if self._over:
            return
        self._replies.feed(data)
        try:
            while not self._over and (line := self._replies.next()) is not None:
                self._read_line(line)
        except LineTooLong:
            self._refuse(f"a reply with a line of more than {MAX_LINE} bytes", b"421 The reply is too long\r\n")

    def server_ended(self) -> None:
        """See L{sslintercept.dialogue.watcher.Watcher}."""
        if not self._over and (line := self._replies.rest()):
            self._read_line(line)

    def _read_line(self, line: bytes) -> None:
        """One line; a reply of several ends with the code that it began with (RFC 959 4.2)."""
        code, mark = line[:3], line[3:4]
        if self._code:
            last = code == self._code and mark == b" "
            if self._features and line.strip().upper().startswith((b"AUTH TLS", b"AUTH SSL")):
                self._offer = True
        else:
            if not code.isdigit() or mark not in (b" ", b"-", b"\r", b"\n"):
                self._lost("what the server says is no reply in FTP", of_server=line)
                return
            last = mark != b"-"
            self._features = bool(self._queue) and self._queue[0].verb == b"FEAT"
            self._offer = False
        if not last:
            self._code = self._code or code
            self._wires.to_client(line)
            return
        self._code = b""
        self._replied(code, line)

    def _replied(self, code: bytes, line: bytes) -> None:
        if not self._queue:
            if code == b"421":
                self._wires.to_client(line)
            else:
                self._lost("the server replies to what nobody asked", of_server=line)
            return
        asked = self._queue[0]
        if code[:1] == b"1":
            # A further reply follows.
            self._wires.to_client(line)
            return
        self._queue.popleft()
        if asked.verb == b"AUTH" and self._gate.asked:
            agreed = code == b"234"
            self._over = not self._gate.answered(line, self._replies.rest() if agreed else b"", agreed)
        else:
            self._note(asked, code)
            if self._over:
                return
            self._wires.to_client(self._shown(asked, code, line))
        self._flush()

    def _note(self, asked: _Asked, code: bytes) -> None:
        """What a reply means."""
        good = code[:1] == b"2"
        if asked.verb in (b"USER", b"PASS", b"ACCT") and code in (b"230", b"232"):
            self._user = self._name or None
            self._wires.logged_in(self._user)
        elif asked.verb == b"PROT" and good:
            self._protected = asked.argument.strip().upper() == b"P"
        elif asked.verb == b"REIN" and good:
            self._user, self._protected = None, False
        elif asked.verb == b"FEAT" and self._clear:
            self._over = not self._wires.offered(good and self._offer)
        elif asked.verb in (b"PORT", b"EPRT") and not good:
            self._next = None
        if asked.channel is not None:
            asked.channel.over(good)

    def _shown(self, asked: _Asked, code: bytes, line: bytes) -> bytes:
        """The reply as the client gets it: with another address, if the channels want it so."""
        if (asked.verb, code) not in ((b"PASV", b"227"), (b"EPSV", b"229")):
            return line
        address = read_six(line[4:]) if asked.verb == b"PASV" else None
        port = address.port if address is not None else read_epsv(line)
        if port is None:
            return line
        found = self._channels.passive(address, port, self._protected)
        if found is None:
            return NO_CHANNEL
        channel, ours = found
        if ours is not None and asked.verb == b"PASV" and ":" in ours.host:
            channel.over(False)
            return NO_CHANNEL  # it has no room for an address of IPv6
        self._next = channel
        if ours is None:
            return line
        if asked.verb == b"PASV":
            return b"227 Entering Passive Mode (%b).\r\n" % write_six(ours)
        return b"229 Entering Extended Passive Mode (|||%d|)\r\n" % ours.port

    def _flush(self) -> None:
        """Say what we have to answer, as far as its turn has come."""
        while not self._over and self._queue and self._queue[0].own:
            self._wires.to_client(self._queue.popleft().own)

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
        for asked in self._queue:
            if asked.channel is not None:
                asked.channel.over(False)
        self._queue.clear()
        self._channels.close()


def _shown(raw: bytes) -> str:
    text = raw.decode("utf-8", "replace")[:MAX_NAME]
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)

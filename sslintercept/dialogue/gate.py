"""
Between the command that asks for TLS and TLS itself nothing may be said in the clear.

Bytes behind the command, or behind the server's consent, would later look as if they had come inside TLS (RFC 3207 6
and the attacks known as STARTTLS command and response injection). So they end the conversation, whoever sent them.
"""

from __future__ import annotations

from sslintercept.dialogue.watcher import Wires


class Gate:
    """
    The way into TLS of one conversation.

    @ivar asked: the client has asked for TLS, and the server has not answered yet. While this is true whatever comes
        from the client goes to L{trespassed}.
    """

    __slots__ = ("_wires", "asked")

    def __init__(self, wires: Wires) -> None:
        self._wires = wires
        self.asked = False

    def ask(self, command: bytes, rest: bytes) -> None:
        """The client's C{command} was read whole, and C{rest} came behind it: hand it on if nothing did."""
        if rest:
            self.trespassed()
            return
        self.asked = True
        self._wires.to_server(command)

    def trespassed(self) -> None:
        """The client goes on in the clear after its command."""
        self._wires.refuse("the client went on in the clear behind its request for TLS (command injection)")

    def answered(self, reply: bytes, rest: bytes, agreed: bool) -> bool:
        """
        The server's C{reply} to the command was read whole, and C{rest} came behind it.

        Consent is an offer kept, and a refusal is none: a rule may forbid that it is missing where it was made before.
        Else a refusal is handed on, and C{rest} is the watcher's to go on with.

        @return: whether the conversation goes on in the clear.
        """
        self.asked = False
        if agreed and rest:
            self._wires.refuse("the server went on in the clear behind its consent to TLS (response injection)")
            return False
        if not self._wires.offered(agreed):
            return False
        self._wires.to_client(reply)
        if agreed:
            self._wires.upgrade()
        return not agreed

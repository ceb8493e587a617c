"""
The other end of a connection in tests: a bare socket, and any number of TLS layers on it, driven by hand.

Nothing of ours is in here, so that a mistake of our layers cannot answer itself: the layers are pyOpenSSL's over memory
BIOs, and the bytes of the socket are kept as they came.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from OpenSSL import SSL, crypto

from sslintercept.net.vconnection import NetVConnection
from sslintercept.testing.loop import Loop
from sslintercept.testing.pki import Pair

EPOCH = 1_790_000_000.0
"""the time of day in these tests, when a loop's clock stands at 0"""
PIECE = 64 * 1024
"""bytes read at once"""
VERSIONS = {"1.2": SSL.TLS1_2_VERSION, "1.3": SSL.TLS1_3_VERSION}


@dataclass
class Layer:
    """One TLS layer of a peer."""

    connection: SSL.Connection
    secure: bool = False
    """the handshake is done"""
    goodbye: bool = False
    """the other side's close_notify has come"""


class Peer:
    """
    A client or an origin.

    @param vc: our end of the socket.
    @ivar wire: everything that came from the socket, as it came; C{got}: what came out of the top layer.
    @ivar received: called when C{got} has grown.
    @ivar secured: called when a layer's handshake is done.
    @ivar ended: no more comes from the socket; C{fault}: why a TLS layer failed, in OpenSSL's words.
    @ivar reading: false makes a peer that stands still.
    @ivar plain_until: bytes up to this mark go past every layer into C{got}: the answer to a CONNECT whose ClientHello
        was sent along.
    """

    def __init__(self, loop: Loop, sock: socket.socket, vc: NetVConnection) -> None:
        self.loop = loop
        self.sock = sock
        self.vc = vc
        self.wire = bytearray()
        self.got = bytearray()
        self.layers: list[Layer] = []
        self.received: Callable[[Peer], object] = lambda peer: None
        self.secured: Callable[[Peer], object] = lambda peer: None
        self.ended = False
        self.fault = ""
        self.reading = True
        self.plain_until = b""
        self.used = 0
        """bytes of C{got} that a script has dealt with"""
        self._out = bytearray()
        self._finishing = False
        loop.others.append(self.turn)

    # what a test says

    def send(self, data: bytes) -> None:
        """Say C{data} in the top layer; it leaves in the next turns."""
        self._down(len(self.layers), data)

    def send_below(self, data: bytes) -> None:
        """Put bytes on the socket past every layer."""
        self._out += data

    def start_tls(
        self,
        name: str | None = None,
        *,
        alpn: Sequence[bytes] = (),
        trust: Sequence[x509.Certificate] | None = None,
        min_version: str = "1.2",
        max_version: str = "1.3",
        ciphers: bytes = b"",
        hello_only: bool = False,
    ) -> bytes:
        """
        Put a layer on in the role of the client.

        @param trust: the authorities that are trusted; C{None} for anybody.
        @param hello_only: do not send the ClientHello; it is returned, and the caller sends it as it likes.
        """
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_min_proto_version(VERSIONS[min_version])
        context.set_max_proto_version(VERSIONS[max_version])
        if ciphers:
            context.set_cipher_list(ciphers)
        if trust is not None:
            context.set_verify(SSL.VERIFY_PEER, lambda _connection, _certificate, _code, _depth, ok: bool(ok))
            store = context.get_cert_store()
            assert store is not None
            store.set_time(datetime.fromtimestamp(EPOCH, UTC))
            for certificate in trust:
                store.add_cert(crypto.X509.from_cryptography(certificate))
        if alpn:
            context.set_alpn_protos(list(alpn))
        connection = SSL.Connection(context, None)
        connection.set_connect_state()
        if name is not None:
            connection.set_tlsext_host_name(name.encode("ascii"))
        self.layers.append(Layer(connection))
        if not hello_only:
            self._shake(len(self.layers) - 1)
            return b""
        try:
            connection.do_handshake()
        except SSL.WantReadError:
            return connection.bio_read(PIECE)
        raise AssertionError("a handshake that needs nobody else")

    def serve_tls(
        self, pair: Pair, *, alpn: Sequence[bytes] = (), min_version: str = "1.2", max_version: str = "1.3"
    ) -> None:
        """Put a layer on in the role of the server, whose certificate is C{pair}."""
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_min_proto_version(VERSIONS[min_version])
        context.set_max_proto_version(VERSIONS[max_version])
        context.use_certificate(pair.certificate)
        context.use_privatekey(pair.key)
        for der in pair.chain[1:]:
            context.add_extra_chain_cert(x509.load_der_x509_certificate(der))
        if alpn:
            offers = list(alpn)

            def select(_connection: SSL.Connection, offered: list[bytes]) -> bytes:
                return next((one for one in offers if one in offered), offers[0])

            context.set_alpn_select_callback(select)
        connection = SSL.Connection(context, None)
        connection.set_accept_state()
        self.layers.append(Layer(connection))

    def say_goodbye(self) -> None:
        """close_notify in the top layer."""
        top = self.layers[-1].connection
        top.shutdown()
        self._flush(len(self.layers) - 1)

    def finish(self) -> None:
        """FIN behind everything said; what comes is still read."""
        self._finishing = True

    def close(self) -> None:
        """Close the socket now, after what the kernel takes of what was said."""
        self.turn()
        self.ended = True
        self.sock.close()

    def reset(self) -> None:
        """Break the connection: our end finds a reset."""
        self.turn()
        self.ended = True
        self.sock.close()
        self.vc.tcp.broke(OSError(errno.ECONNRESET, "reset by a test"))

    # what a test asks

    def take(self) -> bytes:
        """What came out of the top layer since the last time."""
        taken = bytes(self.got)
        self.got.clear()
        self.used = 0
        return taken

    @property
    def secure(self) -> bool:
        """Whether the top layer's handshake is done."""
        return bool(self.layers) and self.layers[-1].secure

    @property
    def clean(self) -> bool:
        """Whether the other side has said goodbye in every layer, and closed."""
        return self.ended and all(layer.goodbye for layer in self.layers)

    @property
    def was_cut(self) -> bool:
        """Whether our end was aborted: over TCP a reset."""
        return self.vc.dead and not self.vc.tcp.fin_sent

    @property
    def certificate(self) -> x509.Certificate:
        """What the other side of the top layer showed."""
        found = self.layers[-1].connection.get_peer_certificate(as_cryptography=True)
        assert found is not None
        return found

    @property
    def names(self) -> list[str]:
        """The names in that certificate."""
        alternative = self.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return [str(name.value) for name in alternative]

    @property
    def alpn(self) -> str:
        """The protocol agreed on in the top layer."""
        return self.layers[-1].connection.get_alpn_proto_negotiated().decode("latin-1")

    @property
    def version(self) -> str:
        """The version of TLS of the top layer."""
        return self.layers[-1].connection.get_protocol_version_name()

    # the bytes

    def turn(self) -> bool:
        """Read and write once; true if anything moved."""
        if self.sock.fileno() < 0:
            return False
        moved = self._write()
        if self.reading and not self.ended:
            moved = self._read() or moved
        return moved

    def _write(self) -> bool:
        before = len(self._out)
        try:
            while self._out:
                del self._out[: self.sock.send(self._out[:PIECE])]
        except BlockingIOError:
            pass
        except OSError:
            self._out.clear()
        if self._finishing and not self._out:
            self._finishing = False
            try:
                self.sock.shutdown(socket.SHUT_WR)
            except OSError:
                return True
            return True
        return len(self._out) != before

    def _read(self) -> bool:
        try:
            data = self.sock.recv(PIECE)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if data:
            self.wire += data
            if self.plain_until:
                self.got += data
                before, mark, data = bytes(self.got).partition(self.plain_until)
                if not mark:
                    return True
                self.got[:] = before + mark
                self.plain_until = b""
            self._up(0, data)
        else:
            self.ended = True
            self.received(self)
        return True

    def _up(self, level: int, data: bytes) -> None:
        if level == len(self.layers):
            if data:
                self.got += data
                self.received(self)
            return
        layer = self.layers[level]
        view = memoryview(data)
        while view and not self.fault:
            view = view[layer.connection.bio_write(bytes(view[:PIECE])) :]
            if not layer.secure and not self._shake(level):
                continue
            self._up(level + 1, self._decrypt(level))

    def _decrypt(self, level: int) -> bytes:
        layer = self.layers[level]
        pieces = []
        try:
            while True:
                pieces.append(layer.connection.recv(PIECE))
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            layer.goodbye = True
        except SSL.Error as error:
            self._failed(level, error)
        self._flush(level)
        return b"".join(pieces)

    def _shake(self, level: int) -> bool:
        layer = self.layers[level]
        try:
            layer.connection.do_handshake()
            layer.secure = True
        except SSL.WantReadError:
            pass
        except SSL.Error as error:
            self._failed(level, error)
        self._flush(level)
        if layer.secure:
            self.secured(self)
        return layer.secure

    def _failed(self, level: int, error: SSL.Error) -> None:
        found = error.args[0] if error.args and isinstance(error.args[0], list) else [("", "", repr(error))]
        self.fault = "; ".join(entry[-1] for entry in found)
        self._flush(level)
        self._finishing = True

    def _flush(self, level: int) -> None:
        connection = self.layers[level].connection
        try:
            while True:
                self._down(level, connection.bio_read(PIECE))
        except SSL.WantReadError:
            return

    def _down(self, level: int, data: bytes) -> None:
        if level == 0:
            self._out += data
            return
        connection = self.layers[level - 1].connection
        for at in range(0, len(data), 16384):
            connection.send(data[at : at + 16384])
            self._flush(level - 1)

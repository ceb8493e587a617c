"""
DTLS 1.2 over two memory BIOs, with public calls of pyOpenSSL only, and the contexts for both roles.

A memory BIO forgets where a datagram ended. So one datagram is fed at a time and everything is read before the next;
what the session says is cut at its records again and packed into datagrams of at most the MTU, except that each record
of the application is a datagram of its own. OpenSSL keeps the retransmission timer by the clock of the host; whoever
drives the engine asks for L{DtlsEngine.timeout} after each call.

There is no DTLS 1.3 in OpenSSL. DTLS 1.0 (SHA-1 in its signatures) is spoken only if asked for.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from cryptography.x509 import load_der_x509_certificate
from OpenSSL import SSL

from sslintercept.errors import TlsError
from sslintercept.facts import TlsLeg
from sslintercept.tls.context import CIPHERS, KeyLog
from sslintercept.tls.engine import ALERT_NUMBERS, ALERT_REASONS, Bytes, Credential, PublicEngine

VERSIONS: Final = {"1.0": 0xFEFF, "1.2": 0xFEFD}
HEADER: Final = 13
"""bytes of a record's header (RFC 6347 4.1)"""
LARGEST: Final = 16384
"""bytes of the application in one record, and so in one datagram"""
MTU: Final = 1400
"""bytes of a datagram: fits into an Ethernet frame, with room for most tunnels"""
OUTPUT: Final = 64 * 1024
"""bytes taken from a session in one go"""
KINDS: Final = frozenset({20, 21, 22, 23})
"""types of records: change_cipher_spec, alert, handshake, application_data"""


def well_formed(datagram: Bytes) -> bool:
    """Whether a datagram is whole records of DTLS and nothing else; what is in them may be anything."""
    at, size = 0, len(datagram)
    while at + HEADER <= size:
        if datagram[at] not in KINDS or datagram[at + 1] != 0xFE or datagram[at + 2] not in (0xFF, 0xFD):
            return False
        at += HEADER + (datagram[at + 11] << 8 | datagram[at + 12])
    return at == size > 0


def pack(stream: bytes, mtu: int) -> list[bytes]:
    """Cut a run of records into datagrams of at most C{mtu} bytes, between records only."""
    datagrams = []
    start = at = 0
    while at < len(stream):
        end = at + HEADER + (stream[at + 11] << 8 | stream[at + 12])
        if end - start > mtu and at > start:
            datagrams.append(stream[start:at])
            start = at
        at = end
    if stream:
        datagrams.append(stream[start:])
    return datagrams


class About(NamedTuple):
    """What the callbacks of a context need to know of a session."""

    alpn: tuple[bytes, ...]
    """protocols that may be agreed on"""
    cookie: bytes
    """what proves the client's address"""


class DtlsEngine:
    """
    One session.

    @ivar closed: nothing more will come: the peer's close_notify has arrived, or C{fault} says what has.
    @ivar fault: what was wrong behind the plaintext that L{decrypt} gave last.
    """

    __slots__ = ("_connection", "_mtu", "_public", "closed", "fault")

    def __init__(self, connection: SSL.Connection, mtu: int) -> None:
        self._connection = connection
        self._public = PublicEngine(connection)
        self._mtu = mtu
        self.closed = False
        self.fault: TlsError | None = None
        connection.set_ciphertext_mtu(mtu)

    def listen(self, hello: Bytes) -> bool:
        """
        As a server, take a hello; true if its cookie proves the address. Else L{flush} asks for it again.

        @raise TlsError: this is no hello that can be answered.
        """
        self._public.feed(hello)
        try:
            self._connection.DTLSv1_listen()
        except SSL.WantReadError:
            return False
        except SSL.Error as error:
            raise _error(error, "the hello was refused") from None
        return True

    def feed(self, datagram: Bytes) -> None:
        """One datagram of the handshake; call L{handshake} before the next."""
        self._public.feed(datagram)

    def handshake(self) -> bool:
        """Go on with the handshake; true when it is complete. @raise TlsError: it failed."""
        return self._public.handshake()

    def decrypt(self, datagram: Bytes) -> list[bytes]:
        """
        The plaintext of each record in a datagram; records that are wrong, late or doubled are left out.

        @raise TlsError: the peer sent an alert, and no plaintext came before.
        """
        plain: list[bytes] = []
        receive = self._connection.recv
        try:
            if datagram:
                self._connection.bio_write(bytes(datagram))
            while True:
                plain.append(receive(LARGEST))
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            self.closed = True
        except SSL.Error as error:
            self.closed, self.fault = True, _error(error, "a record was refused")
            if not plain:
                raise self.fault from None
        return plain

    def encrypt(self, data: Bytes) -> bytes:
        """C{data} (1 to L{LARGEST} bytes) as the one record of a datagram. @raise TlsError: it is refused."""
        try:
            self._connection.send(bytes(data))
            return self._connection.bio_read(OUTPUT)
        except SSL.Error as error:
            raise _error(error, "a write was refused") from None

    def flush(self) -> list[bytes]:
        """Datagrams that the session wants to send by itself: flights, alerts."""
        return pack(self._public.flush(), self._mtu)

    def shutdown(self) -> None:
        """Say close_notify; L{flush} gives the datagram."""
        self._public.shutdown()

    def timeout(self) -> float | None:
        """Seconds until L{timed_out} wants to be called; C{None} when nothing waits for an answer."""
        return self._connection.DTLSv1_get_timeout()

    def timed_out(self) -> None:
        """
        Say the last flight again, if it is time; L{flush} gives it.

        @raise TlsError: it was said often enough (RFC 6347 4.2.4).
        """
        try:
            self._connection.DTLSv1_handle_timeout()
        except SSL.Error as error:
            raise _error(error, "the peer does not answer") from None

    def leg(self, server_name: str, verified: str) -> TlsLeg:
        """What was agreed on."""
        return self._public.leg(server_name, verified)

    def peer_chain(self) -> list[bytes]:
        """The peer's certificates as DER, leaf first."""
        return self._public.peer_chain()


def _error(error: SSL.Error, what: str) -> TlsError:
    """The cause in words, and the alert if the peer sent one."""
    entries = error.args[0] if error.args and isinstance(error.args[0], list) else []
    text = entries[0][-1] if entries else ""
    alert = ALERT_NUMBERS.get(text)
    if alert is None:
        return TlsError(f"{what}: {text or 'the session is over'}", where="DTLS")
    alert -= ALERT_REASONS
    return TlsError(f"{what}: the peer sent alert {alert} ({text})", where="DTLS", alert=alert, sent_by_peer=True)


def _base(oldest: str, keylog: KeyLog | None) -> SSL.Context:
    context = SSL.Context(SSL.DTLS_METHOD)
    context.set_min_proto_version(VERSIONS[oldest])
    context.set_cipher_list(CIPHERS if oldest == "1.2" else CIPHERS.replace(b"!SHA1:", b"").replace(b"L=2", b"L=0"))
    # The MTU is ours to say: a memory BIO has none to ask for.
    context.set_options(SSL.OP_NO_QUERY_MTU | SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_TICKET)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    if keylog is not None:

        def write_line(_: SSL.Connection, line: bytes) -> None:
            keylog(line)

        context.set_keylog_callback(write_line)
    return context


class DtlsServerContext:
    """
    DTLS towards clients, who see forged leaves.

    @param oldest: C{1.2}, or C{1.0}.
    @param chain: certificates sent behind the leaf, as DER.
    """

    def __init__(
        self, *, oldest: str = "1.2", chain: Sequence[bytes] = (), keylog: KeyLog | None = None, mtu: int = MTU
    ) -> None:
        self._mtu = mtu
        self._context = context = _base(oldest, keylog)
        context.set_options(SSL.OP_CIPHER_SERVER_PREFERENCE)
        context.set_alpn_select_callback(self._select)
        context.set_cookie_generate_callback(lambda connection: connection.get_app_data().cookie)
        context.set_cookie_verify_callback(lambda connection, cookie: cookie == connection.get_app_data().cookie)
        for der in chain:
            context.add_extra_chain_cert(load_der_x509_certificate(der))

    @staticmethod
    def _select(connection: SSL.Connection, offered: list[bytes]) -> Any:
        # Any: the type of NO_OVERLAPPING_PROTOCOLS has no public name.
        for name in connection.get_app_data().alpn:
            if name in offered:
                return name
        return SSL.NO_OVERLAPPING_PROTOCOLS

    def engine(self, credential: Credential, alpn: tuple[bytes, ...], cookie: bytes) -> DtlsEngine:
        """A session that shows C{credential} to who brings C{cookie}, and agrees on the first of C{alpn} offered."""
        connection = SSL.Connection(self._context, None)
        connection.set_accept_state()
        connection.set_app_data(About(alpn, cookie))
        credential.use(connection)
        return DtlsEngine(connection, self._mtu)


class DtlsUpstreamContext:
    """
    DTLS towards origins, whose certificates others judge (L{sslintercept.tls.context.UpstreamContext} says why).

    @param oldest: C{1.2}, or C{1.0}.
    """

    def __init__(self, *, oldest: str = "1.2", keylog: KeyLog | None = None, mtu: int = MTU) -> None:
        self._mtu = mtu
        self._context = _base(oldest, keylog)
        self._context.set_verify(SSL.VERIFY_NONE)

    def engine(self, name: str, alpn: tuple[bytes, ...]) -> DtlsEngine:
        """A session with the origin C{name}."""
        connection = SSL.Connection(self._context, None)
        connection.set_connect_state()
        try:
            ipaddress.ip_address(name)
        except ValueError:
            connection.set_tlsext_host_name(name.encode("ascii"))
        if alpn:
            connection.set_alpn_protos(list(alpn))
        return DtlsEngine(connection, self._mtu)

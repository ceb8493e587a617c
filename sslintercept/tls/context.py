"""
What our TLS offers: towards clients, as a secure proxy, and towards origins.

A context is made once for a generation of settings and never changed afterwards; what differs from connection to
connection (certificate, ALPN, server name, lowest version) is set on the connection.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from cryptography.x509 import load_der_x509_certificate
from OpenSSL import SSL

from sslintercept.facts import ClientHello
from sslintercept.tls.engine import Credential, Engine, allow_whole_writes, make_engine, set_groups

VERSIONS = {"1.2": SSL.TLS1_2_VERSION, "1.3": SSL.TLS1_3_VERSION}
TLS_1_2, TLS_1_3 = 0x0303, 0x0304

CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:ECDHE+AES:!SHA1:!aDSS:!aNULL:!eNULL:!PSK:@SECLEVEL=2"
"""
TLS 1.2 with forward secrecy and no SHA-1, RC4, 3DES, DSS, NULL or anonymous suites (RFC 9325 4.2); 1.3 keeps OpenSSL's
own
"""

HYBRID_GROUP = 0x11EC
"""
X25519MLKEM768: offered upstream if the client itself offered it, so that nothing gets weaker and nothing is wasted
"""
CLASSIC_GROUPS = b"X25519:P-256:P-384:P-521"

KeyLog = Callable[[bytes], object]


class Resumable(NamedTuple):
    """A TLS session that a further connection with the same origin may go on with, and the context it belongs to."""

    context: SSL.Context
    session: SSL.Session

    @classmethod
    def of(cls, engine: Engine) -> Resumable | None:
        """That of a connection; C{None} while there is none."""
        session = engine.connection.get_session()
        return None if session is None else cls(engine.connection.get_context(), session)


def _base(min_version: str, keylog: KeyLog | None) -> SSL.Context:
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(VERSIONS[min_version])
    context.set_cipher_list(CIPHERS)
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    allow_whole_writes(context)
    if keylog is not None:

        def write_line(_: SSL.Connection, line: bytes) -> None:
            keylog(line)

        context.set_keylog_callback(write_line)
    return context


class ServerContext:
    """
    TLS towards whoever connects to us: forged leaves for clients, our own certificate as a secure proxy.

    @param chain: certificates sent behind the leaf, as DER.
    """

    def __init__(self, *, min_version: str, chain: Sequence[bytes] = (), keylog: KeyLog | None = None) -> None:
        self._context = context = _base(min_version, keylog)
        context.set_options(SSL.OP_CIPHER_SERVER_PREFERENCE)
        context.set_session_id(b"sslintercept")
        context.set_alpn_select_callback(self._select)
        for der in chain:
            context.add_extra_chain_cert(load_der_x509_certificate(der))

    @staticmethod
    def _select(connection: SSL.Connection, offered: list[bytes]) -> Any:
        # Any: the type of NO_OVERLAPPING_PROTOCOLS has no public name.
        for name in connection.get_app_data() or ():
            if name in offered:
                return name
        return SSL.NO_OVERLAPPING_PROTOCOLS

    def engine(self, credential: Credential, alpn: tuple[bytes, ...], level: int) -> Engine:
        """A session that shows C{credential} and agrees on the first of C{alpn} that the client offers, or on none."""
        connection = SSL.Connection(self._context, None)
        connection.set_accept_state()
        connection.set_app_data(alpn)
        credential.use(connection)
        return make_engine(connection, level)


class UpstreamContext:
    """
    TLS towards origins.

    OpenSSL does not judge the origin's certificate here: it has no trust store to judge with, and
    L{sslintercept.tls.verify} decides at the handshake's end, before a byte of the application leaves. OpenSSL does
    prove that the origin holds the certificate's key.
    """

    def __init__(self, *, min_version: str, keylog: KeyLog | None = None) -> None:
        self._hybrid = _base(min_version, keylog)
        self._classic = _base(min_version, keylog)
        for context in (self._hybrid, self._classic):
            context.set_verify(SSL.VERIFY_NONE)
        set_groups(self._classic, CLASSIC_GROUPS)

    def engine(
        self, name: str, alpn: tuple[bytes, ...], hello: ClientHello | None, level: int, resume: object = None
    ) -> Engine:
        """
        A session with the origin C{name}.

        @param hello: what the client offered; no version below its own lowest is offered upstream.
        @param resume: a L{Resumable} of this context, whatever the client offers; anything else is none.
        """
        hybrid = hello is None or HYBRID_GROUP in hello.groups
        context = self._hybrid if hybrid else self._classic
        if not isinstance(resume, Resumable) or resume.context not in (self._hybrid, self._classic):
            connection = SSL.Connection(context, None)
        else:
            # OpenSSL takes a session back in its own context only.
            connection = SSL.Connection(resume.context, None)
            connection.set_session(resume.session)
        connection.set_connect_state()
        try:
            ipaddress.ip_address(name)
        except ValueError:
            connection.set_tlsext_host_name(name.encode("ascii"))
        if alpn:
            connection.set_alpn_protos(list(alpn))
        if hello is not None and floor(hello) > TLS_1_2:
            connection.set_options(SSL.OP_NO_TLSv1_2)
        return make_engine(connection, level)


def floor(hello: ClientHello | None) -> int:
    """The lowest version that the client itself would accept, never under TLS 1.2."""
    return TLS_1_3 if hello is not None and hello.versions and min(hello.versions) >= TLS_1_3 else TLS_1_2

"""
One TLS session over two memory BIOs, driven by hand; the only module that touches private names of pyOpenSSL.

The public calls of pyOpenSSL cost three to five times the work they wrap (an exception for every "want read", a copy
for every record, a certificate encoded again for every connection). L{FastEngine} makes the same OpenSSL calls straight
through the library handle, into two buffers that the whole process shares. The names it needs are checked when the
module is loaded; if one is missing, L{PublicEngine} does the same work with public calls only. Both pass the same
tests.

What L{Engine.decrypt} and L{Engine.encrypt} return is a view of a shared buffer and is valid only until the next such
call of an engine on the same level of a chain.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from cryptography.x509 import load_der_x509_certificate
from OpenSSL import SSL, crypto

from sslintercept.errors import ClientTlsError, TlsError
from sslintercept.facts import Address, TlsLeg

STEP: Final = 32 * 1024
"""bytes given to a memory BIO at once: BIOs never shrink, so they are kept from growing"""
SIZE: Final = 512 * 1024
"""bytes of each shared buffer; more than one read event of the socket can bring or one write needs"""
RECORD: Final = 16384 + 256 + 5
"""the largest record on the wire (RFC 8446 5.2)"""

Bytes = bytes | memoryview

ALERT_REASONS: Final = 1000
"""OpenSSL reports a received alert N as reason 1000 + N"""


class Engine(Protocol):
    """What the ssl profile needs of a TLS session."""

    connection: SSL.Connection
    """pyOpenSSL's own view of it; not for bytes"""
    closed: bool
    """whether nothing more will come: the peer's close_notify has arrived, or C{fault} says what has"""
    fault: TlsError | None
    """what was wrong behind the plaintext that C{decrypt} gave last"""

    def feed(self, data: Bytes) -> None:
        """Ciphertext that came in; C{handshake} or C{decrypt} works on it. At most L{SIZE} bytes."""

    def handshake(self) -> bool:
        """Go on with the handshake; true when it is complete. @raise TlsError: it failed."""

    def decrypt(self, data: Bytes) -> memoryview:
        """
        All plaintext that C{data} completes; C{closed} and C{fault} tell of an end behind it.

        @raise TlsError: what came is not TLS, or the peer sent an alert, and no plaintext came before.
        """

    def encrypt(self, data: Bytes) -> memoryview:
        """C{data} (at most L{STEP} * 8 bytes) as records."""

    def flush(self) -> bytes:
        """Records that the session wants to send by itself: handshake, alerts, key updates."""

    @property
    def modern(self) -> bool:
        """Whether it is TLS 1.3 or later."""

    def shutdown(self) -> None:
        """Say close_notify; C{flush} gives the record."""

    def leg(self, server_name: str, verified: str) -> TlsLeg:
        """What was agreed on."""

    def peer_chain(self) -> list[bytes]:
        """The peer's certificates as DER, leaf first."""

    def trim(self) -> None:
        """Replace memory BIOs that have grown, unless something is in them."""


def _tls_error(errors: list[tuple[str, int]], what: str) -> TlsError:
    """The first error of OpenSSL's queue, which is the cause of the others, in words."""
    reason, code = errors[0] if errors else ("", 0)
    sent_by_peer = ALERT_REASONS <= code < ALERT_REASONS + 256
    text = f"{what}: {reason or 'the connection ended'}"
    if sent_by_peer:
        text = f"{what}: the peer sent alert {code - ALERT_REASONS} ({reason})"
    return TlsError(text, where="TLS", alert=code - ALERT_REASONS if sent_by_peer else None, sent_by_peer=sent_by_peer)


REJECTIONS: Final = {42: "bad_certificate", 43: "unsupported_certificate", 46: "certificate_unknown", 48: "unknown_ca"}
"""alerts by which a client refuses our certificate (RFC 8446 6.2)"""
NOT_TRUSTED: Final = "the client does not trust our CA; see README, Trusting the CA"


def of_client(error: TlsError, client: Address) -> ClientTlsError:
    """A fault of the layer with a client, with its side; and with what to do about the commonest one."""
    what, remedy = error.what, error.remedy
    if error.sent_by_peer and error.alert in REJECTIONS:
        what, remedy = f"it refused our certificate (alert {error.alert}, {REJECTIONS[error.alert]})", NOT_TRUSTED
    where = f"{error.where} with client {client}"
    return ClientTlsError(what, where=where, remedy=remedy, alert=error.alert, sent_by_peer=error.sent_by_peer)


def _leg(connection: SSL.Connection, server_name: str, verified: str, resumed: bool) -> TlsLeg:
    return TlsLeg(
        version=connection.get_protocol_version_name(),
        cipher=connection.get_cipher_name() or "",
        group=connection.get_group_name() or "",
        alpn=connection.get_alpn_proto_negotiated().decode("latin-1"),
        server_name=server_name,
        resumed=resumed,
        verified=verified,
    )


def _chain(connection: SSL.Connection) -> list[bytes]:
    # As they came: what OpenSSL reads and cryptography refuses is the verifier's business, not a defect.
    return [crypto.dump_certificate(crypto.FILETYPE_ASN1, c) for c in connection.get_peer_cert_chain() or ()]


class PublicEngine:
    """The engine with public calls of pyOpenSSL only."""

    __slots__ = ("closed", "connection", "fault")

    def __init__(self, connection: SSL.Connection) -> None:
        self.connection = connection
        self.closed = False
        self.fault: TlsError | None = None

    @staticmethod
    def _errors(error: SSL.Error) -> list[tuple[str, int]]:
        found = []
        for entry in error.args[0] if error.args and isinstance(error.args[0], list) else ():
            text = entry[-1]
            found.append((text, ALERT_NUMBERS.get(text, 0)))
        return found

    def feed(self, data: Bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self.connection.bio_write(bytes(view[:STEP])) :]

    def handshake(self) -> bool:
        try:
            self.connection.do_handshake()
        except SSL.WantReadError:
            return False
        except SSL.Error as error:
            raise _tls_error(self._errors(error), "the handshake failed") from None
        return True

    def decrypt(self, data: Bytes) -> memoryview:
        pieces = []
        self.feed(data)
        try:
            while True:
                pieces.append(self.connection.recv(STEP))
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            self.closed = True
        except SSL.Error as error:
            self.closed, self.fault = True, _tls_error(self._errors(error), "a record was refused")
            if not pieces:
                raise self.fault from None
        return memoryview(b"".join(pieces))

    def encrypt(self, data: Bytes) -> memoryview:
        pieces = []
        view = memoryview(data)
        while view:
            try:
                view = view[self.connection.send(bytes(view[:16384])) :]
            except SSL.Error as error:
                raise _tls_error(self._errors(error), "a write was refused") from None
            pieces.append(self.flush())
        return memoryview(b"".join(pieces))

    def flush(self) -> bytes:
        pieces = []
        try:
            while True:
                pieces.append(self.connection.bio_read(STEP))
        except SSL.WantReadError:
            return b"".join(pieces)

    @property
    def modern(self) -> bool:
        return self.connection.get_protocol_version() >= 0x0304

    def shutdown(self) -> None:
        try:
            self.connection.shutdown()
        except SSL.Error:
            return  # a session that failed has nothing left to say

    def leg(self, server_name: str, verified: str) -> TlsLeg:
        return _leg(self.connection, server_name, verified, resumed=False)

    def peer_chain(self) -> list[bytes]:
        return _chain(self.connection)

    def trim(self) -> None:
        """Public calls offer no way."""


ALERT_NUMBERS: Final = {
    f"{prefix} {text}": ALERT_REASONS + number
    for prefix in ("tls alert", "ssl/tls alert", "sslv3 alert", "tlsv1 alert", "tlsv13 alert", "tlsv1")
    for number, text in {
        10: "unexpected message",
        20: "bad record mac",
        21: "decryption failed",
        22: "record overflow",
        40: "handshake failure",
        42: "bad certificate",
        43: "unsupported certificate",
        44: "certificate revoked",
        45: "certificate expired",
        46: "certificate unknown",
        47: "illegal parameter",
        48: "unknown ca",
        49: "access denied",
        50: "decode error",
        51: "decrypt error",
        70: "protocol version",
        71: "insufficient security",
        80: "internal error",
        86: "inappropriate fallback",
        90: "user cancelled",
        100: "no renegotiation",
        109: "missing extension",
        110: "unsupported extension",
        112: "unrecognized name",
        116: "certificate required",
        120: "no application protocol",
    }.items()
}
"""What different versions of OpenSSL call the alerts of the peer (RFC 8446 6), for when only the text is at hand"""


_NEEDED = (
    "BIO_new",
    "BIO_read",
    "BIO_s_mem",
    "BIO_write",
    "ERR_clear_error",
    "ERR_get_error",
    "ERR_GET_REASON",
    "ERR_reason_error_string",
    "SSL_do_handshake",
    "SSL_get_error",
    "SSL_read",
    "SSL_session_reused",
    "SSL_set_bio",
    "SSL_shutdown",
    "SSL_use_certificate",
    "SSL_use_PrivateKey",
    "SSL_write",
    "SSL_ERROR_WANT_READ",
    "SSL_ERROR_ZERO_RETURN",
    "SSL_CTX_clear_mode",
    "SSL_MODE_ENABLE_PARTIAL_WRITE",
    "BIO_set_mem_eof_return",
    "BIO_get_mem_data",
    "SSL_want_read",
)

# Any: the handles of pyOpenSSL's C bindings are untyped.
_lib: Any = getattr(SSL, "_lib", None)
_ffi: Any = getattr(SSL, "_ffi", None)
FAST: Final[bool] = (
    _lib is not None
    and _ffi is not None
    and all(hasattr(_lib, name) for name in _NEEDED)
    and all(hasattr(SSL.Connection(SSL.Context(SSL.TLS_METHOD), None), n) for n in ("_ssl", "_into_ssl", "_from_ssl"))
)
"""Whether the private names are as this module knows them."""

if FAST:
    _from_buffer = _ffi.from_buffer
    _BIO_write, _BIO_read = _lib.BIO_write, _lib.BIO_read
    _SSL_read, _SSL_write = _lib.SSL_read, _lib.SSL_write
    _SSL_get_error, _ERR_clear_error = _lib.SSL_get_error, _lib.ERR_clear_error
    _SSL_want_read = _lib.SSL_want_read
    _WANT_READ, _ZERO_RETURN = _lib.SSL_ERROR_WANT_READ, _lib.SSL_ERROR_ZERO_RETURN


class _Shared:
    """
    The two buffers of one level of layers.

    All connections share them, but not all levels: while one layer's output is being read by the next, that next one
    writes its own.
    """

    __slots__ = ("cipher", "cipher_view", "plain", "plain_view")

    def __init__(self) -> None:
        self.plain = _ffi.new("char[]", SIZE)
        self.plain_view = memoryview(_ffi.buffer(self.plain))
        self.cipher = _ffi.new("char[]", SIZE)
        self.cipher_view = memoryview(_ffi.buffer(self.cipher))


_levels: list[_Shared] = []


def _shared(level: int) -> _Shared:
    while len(_levels) <= level:
        _levels.append(_Shared())
    return _levels[level]


def _queued_errors() -> list[tuple[str, int]]:
    """Empty OpenSSL's error queue, which is one for the whole thread; the newest entry last."""
    found: list[tuple[str, int]] = []
    while len(found) < 32:
        code = _lib.ERR_get_error()
        if not code:
            break
        text = _lib.ERR_reason_error_string(code)
        found.append((_ffi.string(text).decode("latin-1") if text != _ffi.NULL else "", _lib.ERR_GET_REASON(code)))
    _ERR_clear_error()
    return found


class FastEngine:
    """
    The engine with direct calls.

    A record of 1 KiB costs two C calls and one view each way. A read that brought exactly one whole record is known to
    leave nothing behind, so the second C{SSL_read}, which would only say "want read", is spared.
    """

    __slots__ = (
        "_cipher",
        "_cipher_view",
        "_header",
        "_in",
        "_left",
        "_out",
        "_plain",
        "_plain_view",
        "_ssl",
        "closed",
        "connection",
        "fault",
    )

    def __init__(self, connection: SSL.Connection, level: int) -> None:
        shared = _shared(level)
        self._plain, self._plain_view = shared.plain, shared.plain_view
        self._cipher, self._cipher_view = shared.cipher, shared.cipher_view
        raw: Any = connection  # Any: private attributes, see _NEEDED
        self.connection = connection
        self._ssl, self._in, self._out = raw._ssl, raw._into_ssl, raw._from_ssl
        self._left = 0
        """bytes still missing of the record that came in part; 0 at a border"""
        self._header = b""
        """the first bytes of a record whose header came in part"""
        self.closed = False
        self.fault: TlsError | None = None

    def _walk(self, data: Bytes) -> None:
        """Follow the borders of the records, so that a read of exactly one record can be told."""
        if self._header:
            data = self._header + bytes(data)
            self._header = b""
        at, size = self._left, len(data)
        while at + 5 <= size:
            at += 5 + (data[at + 3] << 8 | data[at + 4])
        if at < size:
            self._header = bytes(data[at:])
            self._left = 0
        else:
            self._left = at - size

    def feed(self, data: Bytes) -> None:
        size = len(data)
        if size:
            self._walk(data)
            _BIO_write(self._in, data if type(data) is bytes else _from_buffer(data), size)

    def handshake(self) -> bool:
        result = _lib.SSL_do_handshake(self._ssl)
        if result == 1:
            return True
        if _SSL_get_error(self._ssl, result) == _WANT_READ:
            return False
        errors = _queued_errors()
        if _SSL_get_error(self._ssl, result) == _WANT_READ:
            return False  # what stood in the queue was left there by somebody else
        raise _tls_error(errors, "the handshake failed")

    def decrypt(self, data: Bytes) -> memoryview:
        size = len(data)
        if 5 < size < RECORD and size == 5 + (data[3] << 8 | data[4]) and not self._left and not self._header:
            _BIO_write(self._in, data if type(data) is bytes else _from_buffer(data), size)
            n = _SSL_read(self._ssl, self._plain, SIZE)
            if n <= 0:
                self._stopped(n, 0)
                n = 0
            return self._plain_view[:n]
        self._walk(data)
        view = memoryview(data)
        total = 0
        while True:
            if piece := view[:STEP]:
                _BIO_write(self._in, _from_buffer(piece), len(piece))
            while (n := _SSL_read(self._ssl, self._plain + total, SIZE - total)) > 0:
                total += n
            view = view[STEP:]
            if not view or not _SSL_want_read(self._ssl):
                break
        self._stopped(n, total)
        return self._plain_view[:total]

    def _stopped(self, result: int, total: int) -> None:
        """
        Find out why no more plaintext came.

        @raise TlsError: there was another reason than "no whole record yet", and no plaintext goes before it.
        """
        code = _SSL_get_error(self._ssl, result)
        if code == _WANT_READ:
            return
        if code == _ZERO_RETURN:
            self.closed = True
            return
        errors = _queued_errors()
        if _SSL_get_error(self._ssl, result) == _WANT_READ:
            return  # what stood in the queue was left there by somebody else
        self.closed, self.fault = True, _tls_error(errors, "a record was refused")
        if not total:
            raise self.fault

    def encrypt(self, data: Bytes) -> memoryview:
        size = len(data)
        n = _SSL_write(self._ssl, data if type(data) is bytes else _from_buffer(data), min(size, STEP))
        if n == size:
            return self._cipher_view[: max(_BIO_read(self._out, self._cipher, SIZE), 0)]
        view = memoryview(data)
        total = 0
        while True:
            if n <= 0:
                raise _tls_error(_queued_errors(), "a write was refused")
            total += max(_BIO_read(self._out, self._cipher + total, SIZE - total), 0)
            view = view[n:]
            if not view:
                return self._cipher_view[:total]
            n = _SSL_write(self._ssl, _from_buffer(view), min(len(view), STEP))

    def flush(self) -> bytes:
        n = _BIO_read(self._out, self._cipher, SIZE)
        if n <= 0:
            return b""
        first = bytes(self._cipher_view[:n])
        return first if n < SIZE else first + self.flush()

    @property
    def modern(self) -> bool:
        return self.connection.get_protocol_version() >= 0x0304

    def shutdown(self) -> None:
        _lib.SSL_shutdown(self._ssl)
        _ERR_clear_error()

    def leg(self, server_name: str, verified: str) -> TlsLeg:
        return _leg(self.connection, server_name, verified, bool(_lib.SSL_session_reused(self._ssl)))

    def peer_chain(self) -> list[bytes]:
        return _chain(self.connection)

    def trim(self) -> None:
        start = _ffi.new("char **")
        if _lib.BIO_get_mem_data(self._in, start) or _lib.BIO_get_mem_data(self._out, start):
            return
        raw: Any = self.connection  # Any: private attributes, see _NEEDED
        incoming, outgoing = _lib.BIO_new(_lib.BIO_s_mem()), _lib.BIO_new(_lib.BIO_s_mem())
        _lib.BIO_set_mem_eof_return(incoming, -1)
        _lib.BIO_set_mem_eof_return(outgoing, -1)
        _lib.SSL_set_bio(self._ssl, incoming, outgoing)  # frees the old pair
        self._in = raw._into_ssl = incoming
        self._out = raw._from_ssl = outgoing


def make_engine(connection: SSL.Connection, level: int) -> Engine:
    """The best engine that this installation allows; C{level} is the number of TLS layers below it."""
    return FastEngine(connection, level) if FAST else PublicEngine(connection)


def allow_whole_writes(context: SSL.Context) -> None:
    """Let one C{SSL_write} take all it is given; pyOpenSSL asks for one record at a time."""
    if FAST:
        raw: Any = context  # Any: private attributes, see _NEEDED
        _lib.SSL_CTX_clear_mode(raw._context, _lib.SSL_MODE_ENABLE_PARTIAL_WRITE)


def set_groups(context: SSL.Context, names: bytes) -> bool:
    """Offer these groups only; false, and nothing changed, where the library has no such call."""
    if not FAST or not hasattr(_lib, "SSL_CTX_set1_curves_list"):
        return False
    raw: Any = context  # Any: private attributes, see _NEEDED
    done = bool(_lib.SSL_CTX_set1_curves_list(raw._context, names) == 1)
    _ERR_clear_error()
    return done


class Credential:
    """
    A certificate and its key in the form that a connection takes without encoding them again.

    @ivar der: the certificate.
    """

    __slots__ = ("_cert", "der", "key")

    def __init__(self, der: bytes, key: crypto.PKey) -> None:
        self.der = der
        self.key = key
        self._cert: Any = None  # Any: an X509 handle

    def use(self, connection: SSL.Connection) -> None:
        """
        Show this certificate on C{connection}.

        @raise SSL.Error: the key is another one's.
        """
        if FAST:
            if self._cert is None:
                self._cert = crypto.X509.from_cryptography(load_der_x509_certificate(self.der))
            raw: Any = connection  # Any: private attributes, see _NEEDED
            cert: Any = self._cert
            key: Any = self.key
            ssl = raw._ssl
            if _lib.SSL_use_certificate(ssl, cert._x509) == 1 and _lib.SSL_use_PrivateKey(ssl, key._pkey) == 1:
                return
            _ERR_clear_error()
        connection.use_certificate(load_der_x509_certificate(self.der))
        connection.use_privatekey(self.key.to_cryptography_key())  # type: ignore[arg-type]  # never a public one

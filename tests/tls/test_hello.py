"""The ClientHello: real ones and made ones, whole and in pieces, and everything that must not pass for one."""

import hashlib
import re
import ssl
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL

from sslintercept.errors import HelloError
from sslintercept.facts import ClientHello, Side
from sslintercept.tls.hello import GREASE, MAX_HELLO, MAX_WIRE, HelloReader, ja4, read_hello

X25519_MLKEM768 = 0x11EC
RANDOM = bytes(range(32))


def vector(data: bytes, prefix: int = 2) -> bytes:
    return len(data).to_bytes(prefix, "big") + data


def numbers(*values: int) -> bytes:
    return struct.pack(f">{len(values)}H", *values)


def extension(kind: int, data: bytes = b"") -> bytes:
    return numbers(kind) + vector(data)


def named(*names: bytes, kind: int = 0) -> bytes:
    return extension(0, vector(b"".join(bytes([kind]) + vector(name) for name in names)))


def message(
    *extensions: bytes,
    version: int = 0x0303,
    session: bytes = b"",
    ciphers: bytes = b"\x13\x01",
    compressions: bytes = b"\x00",
    block: bytes | None = None,
) -> bytes:
    """A ClientHello; C{block} stands in place of the extensions and their length."""
    after = vector(b"".join(extensions)) if block is None else block
    body = numbers(version) + RANDOM + vector(session, 1) + vector(ciphers) + vector(compressions, 1) + after
    return b"\x01" + vector(body, 3)


def records(handshake: bytes, size: int = 2**14, version: bytes = b"\x03\x01") -> bytes:
    pieces = (handshake[at : at + size] for at in range(0, len(handshake), size))
    return b"".join(b"\x16" + version + vector(piece) for piece in pieces)


def read(*extensions: bytes) -> ClientHello:
    hello = read_hello(records(message(*extensions)))
    assert hello is not None
    return hello


def refused(wire: bytes) -> str:
    """What the error says; the error is the same for single bytes, and no hello comes before it."""
    with pytest.raises(HelloError) as whole:
        read_hello(wire)
    with pytest.raises(HelloError) as single:
        feed_single_bytes(wire)
    assert single.value.what == whole.value.what
    return whole.value.what


def feed_single_bytes(wire: bytes) -> None:
    reader = HelloReader()
    for byte in wire:
        assert reader.feed(bytes((byte,))) is None


def in_pieces(wire: bytes, size: int) -> Iterator[bytes]:
    return (wire[at : at + size] for at in range(0, len(wire), size))


def stdlib_hello(context: ssl.SSLContext, name: str | None) -> bytes:
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def pyopenssl_hello(context: SSL.Context, name: bytes | None = None, alpn: Sequence[bytes] = ()) -> bytes:
    client = SSL.Connection(context, None)
    client.set_connect_state()
    if name is not None:
        client.set_tlsext_host_name(name)
    if alpn:
        client.set_alpn_protos(list(alpn))
    with pytest.raises(SSL.WantReadError):
        client.do_handshake()
    return client.bio_read(2**16)


@pytest.fixture(scope="module")
def modern() -> bytes:
    """A hello with a post-quantum key."""
    wire = pyopenssl_hello(SSL.Context(SSL.TLS_CLIENT_METHOD), b"WWW.Example.COM", (b"h2", b"http/1.1"))
    assert len(wire) > 1500
    return wire


def test_the_hello_of_the_standard_library_says_what_was_configured() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2", "http/1.1"])
    wire = stdlib_hello(context, "www.example.com")
    hello = read_hello(wire)
    assert hello is not None
    assert hello.version == 0x0303
    assert hello.versions == (0x0304, 0x0303)
    assert hello.server_name == "www.example.com"
    assert hello.alpn == (b"h2", b"http/1.1")
    # Suites that need a shared secret or a password are listed, but offered only by who has one.
    named = [cipher for cipher in context.get_ciphers() if not {"PSK", "SRP"} & set(cipher["name"].split("-"))]
    offered = {int(cipher["id"]) & 0xFFFF for cipher in named}
    assert set(hello.ciphers) - {0x00FF} == offered
    assert set(hello.key_shares) < set(hello.groups)
    assert 0x0403 in hello.signature_algorithms
    assert {0, 10, 13, 16, 43, 51} < set(hello.extensions)
    assert (hello.resumes, hello.ech, hello.grease) == (False, False, False)
    assert hello.size == len(wire) - 5
    assert hello.ja4.startswith(f"t13d{len(hello.ciphers)}{len(hello.extensions)}h2_")


def test_a_hello_of_tls_1_2_offers_tls_1_2_alone() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    hello = read_hello(stdlib_hello(context, None))
    assert hello is not None
    assert hello.versions == (0x0303,)
    assert hello.server_name is None
    assert hello.alpn == ()
    assert hello.key_shares == ()
    assert hello.ja4.startswith("t12i")
    assert hello.ja4[8:10] == "00"


def test_a_hello_with_a_post_quantum_key_is_read(modern: bytes) -> None:
    hello = read_hello(modern)
    assert hello is not None
    assert hello.server_name == "www.example.com"
    assert hello.alpn == (b"h2", b"http/1.1")
    assert X25519_MLKEM768 in hello.key_shares
    assert hello.groups[0] == X25519_MLKEM768


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_that_has_a_session_resumes(tmp_path: Path, version: ssl.TLSVersion) -> None:
    certificate = tmp_path / "origin.pem"
    certificate.write_bytes(self_signed("example.com"))
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(certificate)
    context.maximum_version = version
    upwards, downwards = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(downwards, upwards, server_hostname="example.com")
    server = server_context.wrap_bio(upwards, downwards, server_side=True)
    for step in (client.do_handshake, server.do_handshake) * 2 + (lambda: client.read(1),):
        with suppress(ssl.SSLWantReadError):
            step()
    outgoing = ssl.MemoryBIO()
    again = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="example.com", session=client.session)
    with pytest.raises(ssl.SSLWantReadError):
        again.do_handshake()
    hello = read_hello(outgoing.read())
    assert hello is not None
    assert hello.resumes


def test_one_hello_is_the_same_at_every_cut(modern: bytes) -> None:
    whole = read_hello(modern)
    for cut in range(1, len(modern)):
        reader = HelloReader()
        assert reader.feed(modern[:cut]) is None
        assert reader.feed(memoryview(modern)[cut:]) == whole


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 64, 1000])
def test_a_hello_over_many_records_is_the_same(modern: bytes, size: int) -> None:
    whole = read_hello(modern)
    assert whole is not None
    wire = records(modern[5:], size)
    assert read_hello(wire) == whole
    reader = HelloReader()
    answers = [reader.feed(bytearray((byte,))) for byte in wire]
    assert answers == [None] * (len(wire) - 1) + [whole]


@given(st.lists(st.integers(1, 300), min_size=1), st.lists(st.integers(1, 300), min_size=1))
def test_neither_records_nor_segments_change_what_is_read(fragments: list[int], segments: list[int]) -> None:
    made = message(named(b"example.com"), extension(16, vector(vector(b"h2", 1))), extension(21, bytes(500)))
    wire, at = b"", 0
    while at < len(made):
        size = fragments[at % len(fragments)]
        wire += records(made[at : at + size])
        at += size
    reader, at, hello = HelloReader(), 0, None
    while at < len(wire):
        assert hello is None
        size = segments[at % len(segments)]
        hello = reader.feed(wire[at : at + size])
        at += size
    assert hello is not None
    assert hello == read_hello(records(made))


def test_a_hello_of_sixteen_kib_is_read_byte_by_byte() -> None:
    made = message(named(b"example.com"), extension(21, bytes(2**14)))
    reader = HelloReader()
    *before, hello = [reader.feed(bytes((byte,))) for byte in records(made, 1000)]
    assert not any(before)
    assert hello is not None
    assert hello.size == len(made) > 2**14


def test_single_bytes_cost_in_proportion() -> None:
    def cost(size: int) -> float:
        wire = records(message(extension(21, bytes(size))))
        best = 60.0
        for _ in range(5):
            reader, begun = HelloReader(), time.process_time()
            for byte in wire:
                reader.feed(bytes((byte,)))
            best = min(best, time.process_time() - begun)
        return best

    # Quadratic cost would make this 64.
    assert cost(32_000) < 24 * cost(4_000)


def test_the_largest_hello_is_read_and_one_byte_more_is_refused_at_its_header() -> None:
    room = MAX_HELLO - len(message(extension(21), extension(22)))
    largest = message(extension(21, bytes(40_000)), extension(22, bytes(room - 40_000)))
    hello = read_hello(records(largest))
    assert hello is not None
    assert hello.size == MAX_HELLO
    assert "65537 bytes; 65536 are allowed" in refused(records(b"\x01" + (MAX_HELLO - 3).to_bytes(3, "big")))


def test_records_that_are_mostly_headers_are_refused_in_time() -> None:
    made = message(extension(21, bytes(60_000)))
    assert f"more than {MAX_WIRE} bytes" in refused(records(made, 2))
    assert read_hello(records(made, 8)) is not None


def test_what_follows_the_record_is_not_looked_at(modern: bytes) -> None:
    reader = HelloReader()
    hello = reader.feed(modern + b"\xff" * 10)
    assert hello is not None
    assert reader.feed(b"\xff" * 10) is hello


def test_nothing_is_read_from_nothing() -> None:
    assert read_hello(b"") is None


def test_the_error_is_the_client_s_and_says_what_to_do() -> None:
    with pytest.raises(HelloError) as caught:
        read_hello(b"GET / HTTP/1.1\r\n")
    assert caught.value.side is Side.CLIENT
    assert str(caught.value) == (
        "client hello: a record of type 71 comes where a handshake must begin; the connection was not served"
    )


@pytest.mark.parametrize(
    ("wire", "what"),
    [
        pytest.param(b"\x80\x2e\x01\x03\x01", "SSLv2-style hello", id="SSLv2"),
        pytest.param(b"\x80\x2e\x02\x03\x01", "record of type 128", id="high bit, but no SSLv2 hello"),
        pytest.param(b"\x15\x03\x01\x00\x02", "record of type 21", id="an alert"),
        pytest.param(b"\x16\x02\x00\x00\x02", "version 2.0", id="SSLv2 in a record"),
        pytest.param(b"\x16\x03\x05\x00\x02", "version 3.5", id="a version to come"),
        pytest.param(b"\x16\x03\x01\x00\x00", "a record of 0 bytes", id="an empty record"),
        pytest.param(b"\x16\x03\x01\x40\x01", "a record of 16385 bytes", id="a record that is too long"),
        pytest.param(records(b"\x02\x00\x00\x26"), "handshake message of type 2", id="a ServerHello"),
        pytest.param(records(message() + b"\x00"), "more bytes follow", id="bytes behind it in its record"),
        pytest.param(records(message()[:20]) + records(message()[20:] + b"\x0b"), "more bytes", id="in a later record"),
        pytest.param(records(b"\x01\x00\x00\x00"), "ends before its session id", id="an empty hello"),
        pytest.param(records(b"\x01" + vector(b"\x03\x03" + RANDOM, 3)), "ends before its session id", id="no session"),
        pytest.param(records(message(version=0x0200)), "legacy_version is 0x0200", id="SSLv2 inside"),
        pytest.param(records(message(session=bytes(33))), "the session id has 33 bytes", id="a long session id"),
        pytest.param(
            records(b"\x01" + vector(b"\x03\x03" + RANDOM + b"\x20" + bytes(31), 3)), "cipher_suites", id="cut in it"
        ),
        pytest.param(records(message(ciphers=b"")), "cipher_suites is not", id="no cipher"),
        pytest.param(records(message(ciphers=b"\x13\x01\x13")), "cipher_suites is not", id="half a cipher"),
        pytest.param(
            records(b"\x01" + vector(b"\x03\x03" + RANDOM + b"\x00\x00\x04\x13\x01", 3)), "cipher_suites", id="few"
        ),
        pytest.param(records(message(compressions=b"", block=b"")), "compression_methods", id="no compression"),
        pytest.param(
            records(b"\x01" + vector(b"\x03\x03" + RANDOM + b"\x00\x00\x02\x13\x01", 3)),
            "compression",
            id="none at all",
        ),
        pytest.param(
            records(b"\x01" + vector(b"\x03\x03" + RANDOM + b"\x00\x00\x02\x13\x01\x02\x00", 3)),
            "compression_methods",
            id="half the compressions",
        ),
        pytest.param(records(message(block=b"\x00")), "length of its extensions", id="half a length"),
        pytest.param(records(message(block=b"\x00\x01")), "length of its extensions", id="extensions that are missing"),
        pytest.param(records(message(block=b"\x00\x00\x00")), "length of its extensions", id="bytes behind them"),
        pytest.param(records(message(b"\x00\x00\x00")), "an extension is cut short", id="half an extension"),
        pytest.param(records(message(b"\x00\x15\x00\x01")), "extension 21 is cut short", id="an extension too short"),
        pytest.param(records(message(extension(21), extension(21))), "extension 21 comes twice", id="twice"),
        pytest.param(records(message(extension(0))), "length of server_name", id="an empty server_name"),
        pytest.param(records(message(extension(0, b"\x00\x09\x00"))), "length of server_name", id="a wrong length"),
        pytest.param(records(message(named())), "0 host names", id="no name"),
        pytest.param(records(message(named(b"a", kind=1))), "0 host names", id="a name of another type"),
        pytest.param(records(message(named(b"a", b"b"))), "2 host names", id="two names"),
        pytest.param(
            records(message(extension(0, vector(b"\x00\x00")))), "server_name is cut", id="half a length of it"
        ),
        pytest.param(records(message(extension(0, vector(b"\x00\x00\x05a")))), "server_name is cut", id="half a name"),
        pytest.param(records(message(extension(16, vector(b"")))), "application_layer", id="no protocol"),
        pytest.param(records(message(extension(16, vector(b"\x00")))), "application_layer", id="an empty protocol"),
        pytest.param(records(message(extension(16, vector(b"\x03h2")))), "application_layer", id="half a protocol"),
        pytest.param(records(message(extension(16, b"\x00"))), "application_layer", id="ALPN without a length"),
        pytest.param(records(message(extension(43, b"\x00"))), "supported_versions", id="no version"),
        pytest.param(records(message(extension(43))), "supported_versions", id="nothing in supported_versions"),
        pytest.param(records(message(extension(10, vector(b"\x00")))), "supported_groups", id="half a group"),
        pytest.param(records(message(extension(13, b"\x00\x04\x04\x03"))), "signature_algorithms", id="a wrong count"),
        pytest.param(records(message(extension(51, vector(b"\x00\x1d\x00")))), "key_share is cut", id="half a share"),
        pytest.param(records(message(extension(51, vector(b"\x00\x1d\x00\x00")))), "a key in key", id="an empty key"),
        pytest.param(records(message(extension(51, vector(b"\x00\x1d\x00\x02a")))), "a key in key", id="half a key"),
        pytest.param(records(message(extension(51, b"\x00\x01"))), "length of key_share", id="key_share without keys"),
    ],
)
def test_what_is_no_clienthello_is_refused(wire: bytes, what: str) -> None:
    assert what in refused(wire)


@pytest.mark.parametrize(
    "name",
    [
        b"",
        b".",
        b"a\x00b",
        b"good.example\x00.evil.example",
        b"a b",
        b"a\r\nb",
        b"a\x7f",
        b"\xc3\xa9.example",
        b"a" * 254,
    ],
)
def test_a_host_name_that_could_be_read_in_two_ways_is_refused(name: bytes) -> None:
    what = refused(records(message(named(name))))
    assert "host name in server_name" in what
    assert "evil" not in what


@pytest.mark.parametrize(
    ("sent", "server_name"),
    [
        (b"example.com", "example.com"),
        (b"WWW.Example.COM.", "www.example.com"),
        (b"xn--bcher-kva.example", "xn--bcher-kva.example"),
        (b"192.0.2.1", "192.0.2.1"),
        (b"2001:DB8::1", "2001:db8::1"),
        (b"_srv.example", "_srv.example"),
        (b"a" * 253 + b".", "a" * 253),
    ],
)
def test_a_host_name_is_lower_case_without_a_dot_at_its_end(sent: bytes, server_name: str) -> None:
    assert read(named(sent)).server_name == server_name


def test_a_name_of_another_type_beside_the_host_name_is_passed_over() -> None:
    names = b"\x07" + vector(b"\x00\xff") + b"\x00" + vector(b"example.com")
    assert read(extension(0, vector(names))).server_name == "example.com"


def test_a_hello_may_end_before_its_extensions() -> None:
    hello = read_hello(records(message(version=0x0301, ciphers=b"\x00\x2f", block=b"")))
    assert hello is not None
    assert (hello.versions, hello.extensions, hello.server_name) == ((0x0301,), (), None)
    digest = hashlib.sha256(b"002f").hexdigest()[:12]
    assert hello.ja4 == f"t10i010000_{digest}_000000000000"


def test_legacy_version_alone_offers_no_more_than_tls_1_2() -> None:
    hello = read_hello(records(message(version=0x0304)))
    assert hello is not None
    assert (hello.version, hello.versions) == (0x0304, (0x0303,))


def test_a_ticket_that_is_not_empty_or_a_pre_shared_key_resumes() -> None:
    assert not read(extension(35)).resumes
    assert read(extension(35, b"ticket")).resumes
    assert read(extension(41, b"identities and binders")).resumes


def test_encrypted_client_hello_is_noticed() -> None:
    assert read(extension(0xFE0D, b"outer")).ech
    assert not read().ech


def test_a_client_may_send_no_key_and_ask_for_the_server_s_choice() -> None:
    assert read(extension(51, vector(b""))).key_shares == ()


def test_there_are_sixteen_values_of_grease() -> None:
    assert sorted(GREASE) == [int(f"{digit}a{digit}a", 16) for digit in "0123456789abcdef"]


def greasy(grease: bool) -> bytes:
    """A hello like a browser's, with GREASE or without."""
    odd = numbers(0xBABA) if grease else b""
    return message(
        *([extension(0x0A0A)] if grease else []),
        named(b"example.com"),
        extension(10, vector(odd + numbers(29, 23))),
        extension(13, vector(odd + numbers(0x0403, 0x0804))),
        extension(16, vector((vector(odd, 1) if grease else b"") + vector(b"h2", 1))),
        extension(43, vector(odd + numbers(0x0304, 0x0303), 1)),
        extension(51, vector((odd + vector(b"\x00") if grease else b"") + numbers(29) + vector(RANDOM))),
        *([extension(0xFAFA, b"\x00")] if grease else []),
        ciphers=odd + numbers(0x1301, 0xC02B),
    )


def test_grease_is_taken_out_of_every_list() -> None:
    hello = read_hello(records(greasy(True)))
    plain = read_hello(records(greasy(False)))
    assert hello is not None
    assert plain is not None
    assert (hello.grease, plain.grease) == (True, False)
    for field in ("ciphers", "extensions", "groups", "signature_algorithms", "alpn", "versions", "key_shares", "ja4"):
        assert getattr(hello, field) == getattr(plain, field), field
    assert hello.extensions == (0, 10, 13, 16, 43, 51)
    assert hello.alpn == (b"h2",)
    assert hello.key_shares == (29,)


def test_grease_in_alpn_alone_is_noticed() -> None:
    hello = read(extension(16, vector(vector(b"\x5a\x5a", 1) + vector(b"h2", 1))))
    assert (hello.grease, hello.alpn) == (True, (b"h2",))


def test_nothing_but_grease_is_no_version() -> None:
    hello = read(extension(43, vector(numbers(0x1A1A), 1)))
    assert hello.versions == ()
    assert hello.ja4.startswith("t00i0101")


def test_ja4_of_the_example_in_its_specification() -> None:
    assert (
        ja4(
            version=0x0304,
            ciphers=[int(code, 16) for code in CIPHERS.split(",")],
            extensions=[int(code, 16) for code in EXTENSIONS.split(",")],
            alpn=[b"h2", b"http/1.1"],
            signature_algorithms=[int(code, 16) for code in ALGORITHMS.split(",")],
        )
        == "t13d1516h2_8daaf6152771_e5627efa2ab1"
    )


CIPHERS = "1301,1302,1303,c02b,c02f,c02c,c030,cca9,cca8,c013,c014,009c,009d,002f,0035"
EXTENSIONS = "001b,0000,0033,0010,4469,0017,002d,000d,0005,0023,0012,002b,ff01,000b,000a,0015"
ALGORITHMS = "0403,0804,0401,0503,0805,0501,0806,0601"


def test_ja4_without_signature_algorithms_ends_without_an_underscore() -> None:
    extensions = [int(code, 16) for code in EXTENSIONS.split(",")]
    fingerprint = ja4(version=0x0304, ciphers=[], extensions=extensions, alpn=[], signature_algorithms=[])
    assert fingerprint == "t13d001600_000000000000_6d807ffa2a79"


def test_ja4_of_a_whole_hello_follows_the_steps_of_the_specification() -> None:
    hello = read_hello(records(greasy(True)))
    assert hello is not None
    ciphers = hashlib.sha256(b"1301,c02b").hexdigest()[:12]
    rest = hashlib.sha256(b"000a,000d,002b,0033_0403,0804").hexdigest()[:12]
    assert hello.ja4 == f"t13d0206h2_{ciphers}_{rest}"


@pytest.mark.parametrize(
    ("alpn", "ends"),
    [
        ([], "00"),
        ([b"http/1.1", b"h2"], "h1"),
        ([b"h"], "hh"),
        ([b"\xab"], "ab"),
        ([b"\xab\xcd"], "ad"),
        ([b"0\xab"], "3b"),
        ([b"01\xab\xcd"], "3d"),
        ([b"0\xab\xcd1"], "01"),
        ([b"-h"], "28"),
    ],
)
def test_ja4_shows_the_ends_of_the_first_protocol(alpn: list[bytes], ends: str) -> None:
    fingerprint = ja4(version=0x0303, ciphers=[1], extensions=[16], alpn=alpn, signature_algorithms=[])
    assert fingerprint.startswith(f"t12i0101{ends}_")


@pytest.mark.parametrize(
    ("version", "shown"),
    [(0x0304, "13"), (0x0303, "12"), (0x0302, "11"), (0x0301, "10"), (0x0300, "s3"), (0x0002, "s2"), (0x7F1C, "00")],
)
def test_ja4_shows_the_version(version: int, shown: str) -> None:
    assert ja4(version=version, ciphers=[], extensions=[], alpn=[], signature_algorithms=[])[1:3] == shown


@given(st.lists(st.binary(min_size=1, max_size=20), min_size=1))
def test_every_list_of_protocols_is_read_and_has_a_fingerprint(protocols: list[bytes]) -> None:
    hello = read(extension(16, vector(b"".join(vector(protocol, 1) for protocol in protocols))))
    odd = {numbers(value) for value in GREASE}
    assert hello.alpn == tuple(protocol for protocol in protocols if protocol not in odd)
    assert re.fullmatch("t12i0101[0-9A-Za-z]{2}_[0-9a-f]{12}_000000000000", hello.ja4)


def test_ja4_counts_to_99() -> None:
    many = range(1, 200)
    assert ja4(version=0x0304, ciphers=many, extensions=many, alpn=[], signature_algorithms=[])[4:8] == "9999"


@given(st.binary(max_size=200))
def test_random_bytes_end_in_a_helloerror_or_wait(wire: bytes) -> None:
    outcome(wire)


@given(st.binary(max_size=200))
def test_a_random_body_ends_in_a_helloerror_or_is_read(body: bytes) -> None:
    outcome(records(b"\x01" + vector(body, 3)))


@given(st.lists(st.tuples(st.sampled_from([0, 10, 13, 16, 35, 41, 43, 51, 0x0A0A]), st.binary(max_size=20))))
def test_random_extensions_end_in_a_helloerror_or_are_read(extensions: list[tuple[int, bytes]]) -> None:
    outcome(records(message(*(extension(kind, data) for kind, data in extensions))))


@given(st.data())
def test_a_hello_with_one_byte_changed_ends_in_a_helloerror_or_is_read(data: st.DataObject) -> None:
    wire = bytearray(records(greasy(True)))
    wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
    outcome(bytes(wire))


def outcome(wire: bytes) -> None:
    """Whole and in single bytes the outcome is the same, and it is a hello, an error or a wait."""
    outcomes: list[ClientHello | str | None] = []
    for size in (max(1, len(wire)), 1):
        reader, found = HelloReader(), None
        try:
            for piece in in_pieces(wire, size):
                found = reader.feed(piece)
            outcomes.append(found)
        except HelloError as error:
            outcomes.append(error.what)
    assert outcomes[0] == outcomes[1]


def self_signed(name: str) -> bytes:
    """A certificate for C{name} with its key, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return private + certificate.public_bytes(pem)

"""What our TLS offers, judged from the other side."""

from __future__ import annotations

import pytest
from OpenSSL import SSL

from sslintercept.errors import TlsError
from sslintercept.facts import ClientHello
from sslintercept.testing.pki import make_leaf
from sslintercept.tls.context import (
    CLASSIC_GROUPS,
    HYBRID_GROUP,
    TLS_1_2,
    TLS_1_3,
    ServerContext,
    UpstreamContext,
    floor,
)
from sslintercept.tls.engine import Engine, FastEngine
from sslintercept.tls.hello import HelloReader
from tests.support import authority, leaf
from tests.tls.test_engine import shake


def hello(groups: tuple[int, ...] = (29,), versions: tuple[int, ...] = (TLS_1_3, TLS_1_2)) -> ClientHello:
    """What a client of ours offered."""
    return ClientHello(
        version=TLS_1_2,
        versions=versions,
        ciphers=(0x1301,),
        extensions=(),
        server_name="origin.test",
        alpn=(),
        groups=groups,
        key_shares=groups,
        signature_algorithms=(),
        resumes=False,
        ech=False,
        grease=False,
        ja4="",
        size=0,
    )


def offered(engine: Engine) -> ClientHello:
    """What an engine of ours offers."""
    engine.handshake()
    found = HelloReader().feed(engine.flush())
    assert found is not None
    return found


def client(method: int = SSL.TLS_METHOD, ciphers: bytes | None = None, top: int = 0, options: int = 0) -> Engine:
    """A client that is not ours."""
    context = SSL.Context(method)
    if top:
        context.set_min_proto_version(SSL.TLS1_VERSION)
        context.set_max_proto_version(top)
    if ciphers is not None:
        context.set_cipher_list(ciphers)
    connection = SSL.Connection(context, None)
    connection.set_connect_state()
    return FastEngine(connection, 1)


def agree(context: ServerContext, other: Engine, alpn: tuple[bytes, ...] = ()) -> Engine:
    server = context.engine(leaf().credential(), alpn, 0)
    shake(server, other)
    return server


@pytest.mark.parametrize("lowest", ["1.2", "1.3"])
def test_no_version_below_the_lowest_is_agreed_on(lowest: str) -> None:
    context = ServerContext(min_version=lowest)
    assert agree(context, client()).leg("", "").version == "TLSv1.3"
    if lowest == "1.2":
        assert agree(context, client(top=SSL.TLS1_2_VERSION)).leg("", "").version == "TLSv1.2"
    for top in (SSL.TLS1_VERSION, SSL.TLS1_1_VERSION, *([SSL.TLS1_2_VERSION] if lowest == "1.3" else [])):
        with pytest.raises(TlsError):
            agree(context, client(top=top, ciphers=b"ALL:@SECLEVEL=0"))


@pytest.mark.parametrize(
    "weak", [b"AES128-SHA", b"AES256-GCM-SHA384", b"aNULL", b"eNULL", b"ECDHE-RSA-AES128-SHA", b"PSK"]
)
def test_suites_without_forward_secrecy_or_with_sha_1_are_refused(weak: bytes) -> None:
    context = ServerContext(min_version="1.2")
    try:
        other = client(top=SSL.TLS1_2_VERSION, ciphers=weak + b":@SECLEVEL=0")
    except SSL.Error:
        return  # this OpenSSL does not even have it
    with pytest.raises(TlsError):
        agree(context, other)


def test_the_suites_of_tls_1_2_are_ephemeral_and_authenticated() -> None:
    """RFC 9325 4.2: every suite offered upstream, by its registered number."""
    found = offered(UpstreamContext(min_version="1.2").engine("origin.test", (), None, 0))
    older = {number for number in found.ciphers if number not in (0x1301, 0x1302, 0x1303, 0x00FF)}
    assert older
    aead = {0xC02B, 0xC02C, 0xC02F, 0xC030, 0xCCA8, 0xCCA9, 0xCCAA, 0x009E, 0x009F}
    cbc_sha_2 = {0xC023, 0xC024, 0xC027, 0xC028}
    ccm = {0xC09E, 0xC09F, 0xC0A2, 0xC0A3, 0xC0AC, 0xC0AD, 0xC0AE, 0xC0AF}
    assert older <= aead | cbc_sha_2 | ccm


def test_the_first_protocol_of_ours_that_the_client_offers_is_chosen() -> None:
    context = ServerContext(min_version="1.2")
    for ours, theirs, expected in (
        ((b"http/1.1",), [b"h2", b"http/1.1"], "http/1.1"),
        ((b"imap", b"pop3"), [b"pop3", b"imap"], "imap"),
        ((b"http/1.1",), [b"h2"], ""),
        ((), [b"h2"], ""),
        ((b"http/1.1",), None, ""),
    ):
        connection = SSL.Connection(SSL.Context(SSL.TLS_METHOD), None)
        connection.set_connect_state()
        if theirs is not None:
            connection.set_alpn_protos(theirs)
        assert agree(context, FastEngine(connection, 1), ours).leg("", "").alpn == expected


@pytest.mark.parametrize(
    ("name", "expected"), [("origin.test", "origin.test"), ("192.0.2.1", None), ("2001:db8::1", None)]
)
def test_a_server_name_is_sent_for_names_only(name: str, expected: str | None) -> None:
    """RFC 6066 3: literal addresses are no host names."""
    assert offered(UpstreamContext(min_version="1.2").engine(name, (), None, 0)).server_name == expected


def test_the_protocols_wanted_are_offered_upstream() -> None:
    context = UpstreamContext(min_version="1.2")
    assert offered(context.engine("origin.test", (b"http/1.1",), None, 0)).alpn == (b"http/1.1",)
    assert offered(context.engine("origin.test", (), None, 0)).alpn == ()


def test_hybrid_key_exchange_is_offered_when_the_client_did() -> None:
    context = UpstreamContext(min_version="1.2")
    for said, expected in ((None, True), (hello((HYBRID_GROUP, 29)), True), (hello((29, 23)), False)):
        groups = offered(context.engine("origin.test", (), said, 0)).groups
        assert (HYBRID_GROUP in groups) is expected
        assert 29 in groups
    classic = offered(context.engine("origin.test", (), hello(), 0)).groups
    assert classic == (29, 23, 24, 25)
    assert len(CLASSIC_GROUPS.split(b":")) == len(classic)


def test_no_version_is_offered_that_the_client_itself_would_refuse() -> None:
    context = UpstreamContext(min_version="1.2")
    assert offered(context.engine("origin.test", (), hello(versions=(TLS_1_3,)), 0)).versions == (TLS_1_3,)
    assert set(offered(context.engine("origin.test", (), hello(), 0)).versions) == {TLS_1_3, TLS_1_2}
    assert set(offered(context.engine("origin.test", (), hello(versions=(0x0301,)), 0)).versions) == {TLS_1_3, TLS_1_2}
    assert offered(UpstreamContext(min_version="1.3").engine("x.test", (), None, 0)).versions == (TLS_1_3,)


def test_the_floor_is_the_client_s_own_and_never_under_tls_1_2() -> None:
    assert floor(None) == TLS_1_2
    assert floor(hello(versions=())) == TLS_1_2
    assert floor(hello(versions=(0x0301,))) == TLS_1_2
    assert floor(hello(versions=(TLS_1_3, TLS_1_2))) == TLS_1_2
    assert floor(hello(versions=(TLS_1_3,))) == TLS_1_3


def test_a_chain_is_sent_behind_the_leaf() -> None:
    context = ServerContext(min_version="1.2", chain=[authority().der])
    connection = SSL.Connection(SSL.Context(SSL.TLS_METHOD), None)
    connection.set_connect_state()
    other = FastEngine(connection, 1)
    agree(context, other)
    assert other.peer_chain() == [leaf().der, authority().der]


def test_each_connection_shows_its_own_certificate_from_one_context() -> None:
    context = ServerContext(min_version="1.2")
    for kind in ("ecdsa", "rsa"):
        pair = make_leaf(authority(), [f"{kind}.test"], key_kind=kind)
        server = context.engine(pair.credential(), (), 0)
        connection = SSL.Connection(SSL.Context(SSL.TLS_METHOD), None)
        connection.set_connect_state()
        other = FastEngine(connection, 1)
        shake(server, other)
        assert other.peer_chain() == [pair.der]


def test_secrets_go_to_the_key_log_when_it_is_asked_for() -> None:
    ours: list[bytes] = []
    theirs: list[bytes] = []
    server = ServerContext(min_version="1.2", keylog=ours.append).engine(leaf().credential(), (), 0)
    upstream = UpstreamContext(min_version="1.2", keylog=theirs.append).engine("origin.test", (), None, 1)
    shake(server, upstream)
    assert any(line.startswith(b"SERVER_TRAFFIC_SECRET_0 ") for line in ours)
    assert sorted(ours) == sorted(theirs)

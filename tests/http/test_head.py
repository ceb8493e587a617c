"""Heads of HTTP/1: what is read, what is refused, and what is written for the next hop (RFC 9110, RFC 9112)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslintercept.errors import InterceptError, MessageError, ResponseError
from sslintercept.facts import CHUNKED, HOP_BY_HOP, UNTIL_CLOSE, Address, RequestHead, ResponseHead, Side
from sslintercept.http.fields import MAX_FIELDS, body_length
from sslintercept.http.head import (
    MAX_METHOD,
    MAX_TARGET,
    find_end,
    loops,
    read_request,
    read_response,
    skip_empty_lines,
    write_request,
    write_response,
)
from sslintercept.tunnel.chunk import NOT_IN_TRAILERS

ORIGIN = Address("example.com", 443)
PROXY = None
HOST = b"Host: example.com"


def request(
    line: bytes = b"GET / HTTP/1.1",
    *fields: bytes,
    host: bytes | None = HOST,
    authority: Address | None = ORIGIN,
    scheme: str = "",
) -> RequestHead:
    """Read a request, through a tunnel of TLS to the origin unless *authority* is C{None}, or *scheme* says http."""
    lines = [line, *([host] if host is not None else []), *fields, b"", b""]
    return read_request(b"\r\n".join(lines), scheme or ("http" if authority is None else "https"), authority)


def response(line: bytes = b"HTTP/1.1 200 OK", *fields: bytes, method: bytes = b"GET") -> ResponseHead:
    return read_response(b"\r\n".join([line, *fields, b"", b""]), method)


def written(head: ResponseHead, *, method: bytes = b"GET", version: int = 11, close: bool = False) -> list[bytes]:
    """Write for a client of *version* as a session would, and give the lines."""
    chunked = head.length in (CHUNKED, UNTIL_CLOSE) and version == 11
    return write_response(
        head, version=version, via=b"gw", close=close, chunked=chunked, announce_keep_alive=not close, method=method
    ).split(b"\r\n")


# -- where a head ends ---------------------------------------------------------------------------------------------


def test_the_end_is_just_past_the_empty_line() -> None:
    data = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nbody\r\n\r\n"
    assert find_end(data) == data.index(b"body")
    assert find_end(bytearray(data), 10) == data.index(b"body")
    for cut in range(data.index(b"body")):
        assert find_end(data[:cut]) == -1


@pytest.mark.parametrize(
    ("data", "skipped"),
    [(b"GET", 0), (b"\r\nGET", 2), (b"\r\n\r\nGET", 4), (b"\r\n\r\n\r\nGET", 4), (b"\r", 0), (b"\n", 0), (b"", 0)],
)
def test_at_most_two_empty_lines_before_a_request_are_skipped(data: bytes, skipped: int) -> None:
    assert skip_empty_lines(data) == skip_empty_lines(bytearray(data)) == skipped


# -- requests that are read ----------------------------------------------------------------------------------------


def test_a_request_in_a_tunnel_is_read() -> None:
    raw = b"GET /a?b HTTP/1.1\r\nAccept: x\r\nHost: example.com\r\nCookie:  a=b \r\nE:\r\n\r\n"
    head = read_request(raw, "https", ORIGIN)
    assert (head.method, head.scheme, head.authority, head.target) == (b"GET", "https", ORIGIN, b"/a?b")
    assert head.fields == [(b"Host", b"example.com"), (b"Accept", b"x"), (b"Cookie", b"a=b"), (b"E", b"")]
    assert (head.version, head.length, head.close, head.raw) == (11, 0, False, raw)
    assert (head.expect_continue, head.upgrade, head.te_trailers, head.max_forwards) == (False, None, False, None)


@pytest.mark.parametrize(
    ("line", "scheme", "authority", "target"),
    [
        pytest.param(b"GET http://a.b/c?d HTTP/1.1", "http", Address("a.b", 80), b"/c?d", id="absolute (3.2.2)"),
        pytest.param(b"GET HTTP://A.B:81 HTTP/1.1", "http", Address("a.b", 81), b"/", id="no path (9110 4.2.3)"),
        pytest.param(b"GET http://a.b?d HTTP/1.1", "http", Address("a.b", 80), b"/?d", id="only a query (9110 4.2.3)"),
        pytest.param(b"GET https://a.b/ HTTP/1.1", "https", Address("a.b", 443), b"/", id="https (9110 4.2.2)"),
        pytest.param(b"GET http://[::1]:8/ HTTP/1.1", "http", Address("::1", 8), b"/", id="IPv6 (9110 4.2)"),
        pytest.param(b"GET http://[0:0::1]/ HTTP/1.1", "http", Address("::1", 80), b"/", id="IPv6 canonical"),
        pytest.param(b"GET http://a.b.:/ HTTP/1.1", "http", Address("a.b", 80), b"/", id="root dot, empty port"),
        pytest.param(b"OPTIONS http://a.b HTTP/1.1", "http", Address("a.b", 80), b"*", id="OPTIONS (3.2.4)"),
        pytest.param(b"OPTIONS http://a.b/ HTTP/1.1", "http", Address("a.b", 80), b"/", id="OPTIONS of / (3.2.4)"),
        pytest.param(b"CONNECT a.b:443 HTTP/1.1", "", Address("a.b", 443), b"a.b:443", id="CONNECT (3.2.3)"),
        pytest.param(b"CONNECT [::1]:1 HTTP/1.1", "", Address("::1", 1), b"[::1]:1", id="CONNECT IPv6 (3.2.3)"),
        pytest.param(b"CONNECT a:65535 HTTP/1.1", "", Address("a", 65535), b"a:65535", id="CONNECT last port (3.2.3)"),
    ],
)
def test_a_proxy_reads_absolute_form_and_connect(line: bytes, scheme: str, authority: Address, target: bytes) -> None:
    head = request(line, host=b"Host: x", authority=PROXY)
    assert (head.scheme, head.authority, head.target) == (scheme, authority, target)


def test_a_tunnel_carries_connect_absolute_form_and_the_asterisk() -> None:
    assert request(b"CONNECT a:1 HTTP/1.1").authority == Address("a", 1)
    assert request(b"GET https://other/ HTTP/1.1").authority == Address("other", 443)
    assert request(b"OPTIONS * HTTP/1.1").target == b"*"


@pytest.mark.parametrize(
    ("host", "authority"),
    [
        (b"Host: EXAMPLE.com", ORIGIN),
        (b"host:example.com:8443 ", Address("example.com", 8443)),
        (b"Host: [2001:DB8::0:1]", Address("2001:db8::1", 443)),
        (b"Host: 192.0.2.1:1", Address("192.0.2.1", 1)),
        (b"Host: a_b~c.-", Address("a_b~c.-", 443)),
    ],
)
def test_host_says_whom_a_request_in_a_tunnel_is_for(host: bytes, authority: Address) -> None:
    assert request(host=host).authority == authority


def test_the_target_wins_over_host() -> None:
    """RFC 9112 3.2.2."""
    head = request(b"GET http://a.b:81/ HTTP/1.1", b"A: b", host=b"Host: evil", authority=PROXY)
    assert head.fields == [(b"Host", b"a.b:81"), (b"A", b"b")]


def test_a_host_that_agrees_with_the_target_stays_as_it_was_sent() -> None:
    head = request(b"GET http://a.b/ HTTP/1.1", host=b"Host: A.b:80", authority=PROXY)
    assert head.fields == [(b"Host", b"A.b:80")]


@pytest.mark.parametrize(
    ("line", "authority", "host"),
    [
        (b"GET / HTTP/1.0", ORIGIN, b"example.com"),
        (b"GET / HTTP/1.0", Address("::1", 443), b"[::1]"),
        (b"GET / HTTP/1.0", Address("::1", 8443), b"[::1]:8443"),
        (b"GET http://a.b/ HTTP/1.0", PROXY, b"a.b"),
        (b"CONNECT a.b:443 HTTP/1.0", PROXY, b"a.b:443"),
    ],
)
def test_http_1_0_may_leave_out_host_and_the_origin_gets_one(
    line: bytes, authority: Address | None, host: bytes
) -> None:
    assert request(line, host=None, authority=authority).fields == [(b"Host", host)]


@pytest.mark.parametrize(
    "method", [b"PROPFIND", b"QUERY", b"get", b"M-SEARCH", b"X!#$%&'*+-.^_`|~9", b"x" * MAX_METHOD]
)
def test_a_method_of_any_name_passes(method: bytes) -> None:
    head = request(method + b" / HTTP/1.1", b"Content-Length: 3")
    assert (head.method, head.length) == (method, 3)


@pytest.mark.parametrize(
    "target", [b"/%00", b"//a", b'/a|b"<>\\^`{}', b"/?a?b", b"/a:b@c", b"/" + b"a" * (MAX_TARGET - 1)]
)
def test_a_target_of_visible_bytes_passes_as_it_is(target: bytes) -> None:
    assert request(b"GET " + target + b" HTTP/1.1").target == target


@pytest.mark.parametrize(
    ("field", "length"),
    [
        (b"Content-Length: 0", 0),
        (b"content-length:5 ", 5),
        (b"Content-Length: 0005", 5),
        (b"Content-Length: 4611686018427387904", 2**62),
        (b"Transfer-Encoding: chunked", CHUNKED),
        (b"Transfer-Encoding:CHUNKED ", CHUNKED),
    ],
)
def test_the_length_of_a_body_is_read(field: bytes, length: int) -> None:
    assert request(b"POST / HTTP/1.1", field).length == length
    assert response(b"HTTP/1.1 200 OK", field).length == length


# -- requests that are refused -------------------------------------------------------------------------------------

REFUSED_LINES = [
    pytest.param(b"", 400, id="empty (3)"),
    pytest.param(b"GET /", 400, id="HTTP/0.9 (3)"),
    pytest.param(b"GET  / HTTP/1.1", 400, id="two spaces (3)"),
    pytest.param(b"GET\t/\tHTTP/1.1", 400, id="tabs (3)"),
    pytest.param(b" GET / HTTP/1.1", 400, id="a space before (2.2)"),
    pytest.param(b"GET / HTTP/1.1 ", 400, id="a space after (3)"),
    pytest.param(b"GET /a b HTTP/1.1", 400, id="a space in the target (3.2)"),
    pytest.param(b"GET / HTTP/1.1\r", 400, id="a bare CR after (2.2)"),
    pytest.param(b"GET /\r HTTP/1.1", 400, id="a bare CR in the target (2.2)"),
    pytest.param(b"GET / HTTP/1.1\nA: b", 400, id="a bare LF after (2.2)"),
    pytest.param(b"G(T / HTTP/1.1", 400, id="a method that is no token (9110 9.1)"),
    pytest.param(b" / HTTP/1.1", 400, id="no method (9110 9.1)"),
    pytest.param(b"PRI / HTTP/1.1", 400, id="PRI (9113 11.6)"),
    pytest.param(b"PRI * HTTP/2.0", 505, id="the preface (9113 3.4)"),
    pytest.param(b"x" * (MAX_METHOD + 1) + b" / HTTP/1.1", 501, id="a long method (3)"),
    pytest.param(b"GET /" + b"a" * MAX_TARGET + b" HTTP/1.1", 414, id="a long target (3)"),
    pytest.param(b"GET / HTTP/2.0", 505, id="HTTP/2.0 (2.3)"),
    pytest.param(b"GET / HTTP/1.2", 505, id="HTTP/1.2 (2.3)"),
    pytest.param(b"GET / HTTP/0.9", 505, id="HTTP/0.9 spelled out (2.3)"),
    pytest.param(b"GET / http/1.1", 400, id="lower case (2.3)"),
    pytest.param(b"GET / HTTP/1.10", 400, id="two digits (2.3)"),
    pytest.param(b"GET / HTTP/1", 400, id="no minor version (2.3)"),
    pytest.param(b"GET /#a HTTP/1.1", 400, id="a fragment (3.2)"),
    pytest.param(b"GET /\xc3\xa4 HTTP/1.1", 400, id="high bytes (3.2)"),
    pytest.param(b"GET /\x00 HTTP/1.1", 400, id="NUL (3.2)"),
    pytest.param(b"GET /\x7f HTTP/1.1", 400, id="DEL (3.2)"),
    pytest.param(b"GET a HTTP/1.1", 400, id="no form at all (3.2)"),
    pytest.param(b"GET * HTTP/1.1", 400, id="the asterisk without OPTIONS (3.2.4)"),
    pytest.param(b"OPTIONS *a HTTP/1.1", 400, id="more than the asterisk (3.2.4)"),
    pytest.param(b"GET a.b:443 HTTP/1.1", 400, id="authority form without CONNECT (3.2.3)"),
    pytest.param(b"GET ftp://a/ HTTP/1.1", 501, id="another scheme (9110 4.2)"),
    pytest.param(b"GET http://u:p@a/ HTTP/1.1", 400, id="user information (9110 4.2.4)"),
    pytest.param(b"GET http:///a HTTP/1.1", 400, id="an empty host (9110 4.2.1)"),
    pytest.param(b"GET http://a:0/ HTTP/1.1", 400, id="port 0"),
    pytest.param(b"GET http://a:65536/ HTTP/1.1", 400, id="port 65536"),
    pytest.param(b"GET http://a%2fb/ HTTP/1.1", 400, id="percent-encoding in the host"),
    pytest.param(b"GET http://[::1/ HTTP/1.1", 400, id="half a bracket"),
    pytest.param(b"GET http://[:::]/ HTTP/1.1", 400, id="no IPv6 address"),
    pytest.param(b"GET http://[fe80::1%25eth0]/ HTTP/1.1", 400, id="a zone (6874)"),
    pytest.param(b"CONNECT a HTTP/1.1", 400, id="CONNECT without port (3.2.3)"),
    pytest.param(b"CONNECT a: HTTP/1.1", 400, id="CONNECT with an empty port (3.2.3)"),
    pytest.param(b"CONNECT a:0 HTTP/1.1", 400, id="CONNECT port 0 (3.2.3)"),
    pytest.param(b"CONNECT a:65536 HTTP/1.1", 400, id="CONNECT port 65536 (3.2.3)"),
    pytest.param(b"CONNECT a:+44 HTTP/1.1", 400, id="CONNECT with a signed port (3.2.3)"),
    pytest.param(b"CONNECT :443 HTTP/1.1", 400, id="CONNECT without host (3.2.3)"),
    pytest.param(b"CONNECT u@a:443 HTTP/1.1", 400, id="CONNECT with user information (3.2.3)"),
    pytest.param(b"CONNECT ::1:443 HTTP/1.1", 400, id="CONNECT IPv6 without brackets (3.2.3)"),
    pytest.param(b"CONNECT http://a:443/ HTTP/1.1", 400, id="CONNECT in absolute form (3.2.3)"),
    pytest.param(b"CONNECT /a HTTP/1.1", 400, id="CONNECT in origin form (3.2.3)"),
]

REFUSED_FIELDS = [
    pytest.param([b"A: b\nC: d"], 400, id="a bare LF (2.2)"),
    pytest.param([b"A: b\rC: d"], 400, id="a bare CR (2.2)"),
    pytest.param([b"A: b\r"], 400, id="CR before CRLF (2.2)"),
    pytest.param([b"A: b\n"], 400, id="LF before CRLF (2.2)"),
    pytest.param([b"A: b", b" c"], 400, id="a folded line (5.2)"),
    pytest.param([b"A:", b"\tc"], 400, id="a folded empty value (5.2)"),
    pytest.param([b"A : b"], 400, id="a space before the colon (5.1)"),
    pytest.param([b"A\t: b"], 400, id="a tab before the colon (5.1)"),
    pytest.param([b" A: b"], 400, id="a space before the name (5.1)"),
    pytest.param([b": b"], 400, id="no name (5.1)"),
    pytest.param([b"A"], 400, id="no colon (5)"),
    pytest.param([b"A(: b"], 400, id="a name that is no token (9110 5.1)"),
    pytest.param([b"\xc4: b"], 400, id="a high byte in a name (9110 5.1)"),
    pytest.param([b"A\0: b"], 400, id="NUL in a name (9110 5.1)"),
    pytest.param([b"", b"A: b"], 400, id="an empty line inside (2.1)"),
    pytest.param([b"Content-Length: 5", b"Content-Length: 6"], 400, id="two lengths (6.3)"),
    pytest.param([b"Content-Length: 5", b"Content-Length: 5"], 400, id="the same length twice (6.3)"),
    pytest.param([b"Content-Length: 5, 5"], 400, id="a list of lengths (6.3)"),
    pytest.param([b"Content-Length: +5"], 400, id="a signed length (9110 8.6)"),
    pytest.param([b"Content-Length: -5"], 400, id="a negative length (9110 8.6)"),
    pytest.param([b"Content-Length: 0x5"], 400, id="a hexadecimal length (9110 8.6)"),
    pytest.param([b"Content-Length: 5 5"], 400, id="a length with a space (9110 8.6)"),
    pytest.param([b"Content-Length:"], 400, id="an empty length (9110 8.6)"),
    pytest.param([b"Content-Length: 4611686018427387905"], 413, id="2**62 + 1 (9110 8.6)"),
    pytest.param([b"Content-Length: 18446744073709551617"], 400, id="2**64 + 1 (9110 8.6)"),
    pytest.param([b"Content-Length: 00000000000000000005"], 413, id="20 digits (9110 8.6)"),
    pytest.param([b"Content-Length: 5", b"Transfer-Encoding: chunked"], 400, id="CL and TE (6.3)"),
    pytest.param([b"Transfer-Encoding: chunked", b"Content-Length: 5"], 400, id="TE and CL (6.3)"),
    pytest.param([b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"], 400, id="chunked twice (6.1)"),
    pytest.param([b"Transfer-Encoding: chunked, chunked"], 400, id="chunked twice in a list (6.1)"),
    pytest.param([b"Transfer-Encoding: gzip, chunked"], 501, id="gzip before chunked (6.1)"),
    pytest.param([b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked"], 501, id="the same in two fields (6.1)"),
    pytest.param([b"Transfer-Encoding: chunked, gzip"], 400, id="chunked not last (6.1)"),
    pytest.param([b"Transfer-Encoding: gzip"], 400, id="not chunked (6.1)"),
    pytest.param([b"Transfer-Encoding: identity"], 400, id="identity (6.1)"),
    pytest.param([b"Transfer-Encoding: xchunked"], 400, id="almost chunked (6.1)"),
    pytest.param([b'Transfer-Encoding: "chunked"'], 400, id="quoted (6.1)"),
    pytest.param([b"Transfer-Encoding: \x0bchunked"], 400, id="a vertical tab (6.1)"),
    pytest.param([b"Transfer-Encoding:"], 400, id="an empty coding (6.1)"),
]


@pytest.mark.parametrize(
    "found",
    [
        {b"content-length": [b"5"], b"transfer-encoding": [b"chunked"]},
        {b"content-length": [b"5", b"5"]},
        {b"content-length": [b"+5"]},
        {b"transfer-encoding": [b"chunked", b"chunked"]},
        {b"transfer-encoding": [b"chunked, gzip"]},
    ],
)
def test_an_uncertain_length_is_refused_even_where_llhttp_did_not_look(found: dict[bytes, list[bytes]]) -> None:
    with pytest.raises(MessageError):
        body_length(found, 11, where="test", status=502)


@pytest.mark.parametrize(("line", "status"), REFUSED_LINES)
@pytest.mark.parametrize("authority", [PROXY, Address("example.com", 80)])
def test_a_request_line_that_is_not_plain_is_refused(line: bytes, status: int, authority: Address | None) -> None:
    with pytest.raises(MessageError) as caught:
        read_request(line + b"\r\nHost: example.com\r\n\r\n", "http", authority)
    assert caught.value.status == status


@pytest.mark.parametrize(("fields", "status"), REFUSED_FIELDS)
def test_fields_that_two_readers_may_read_differently_are_refused(fields: list[bytes], status: int) -> None:
    with pytest.raises(MessageError) as caught:
        request(b"POST / HTTP/1.1", *fields)
    assert caught.value.status == status
    with pytest.raises(MessageError) as caught:
        response(b"HTTP/1.1 200 OK", *fields)
    assert caught.value.status == 502


@pytest.mark.parametrize("byte", [*range(9), *range(10, 32), 127])
def test_no_control_but_the_tab_is_in_a_value(byte: int) -> None:
    for value in (b"a%cb" % byte, b"%cb" % byte, b"a%c" % byte):
        with pytest.raises(MessageError):
            request(b"GET / HTTP/1.1", b"A: " + value)
        with pytest.raises(MessageError):
            response(b"HTTP/1.1 200 OK", b"A: " + value)
        with pytest.raises(MessageError):
            response(b"HTTP/1.1 200 " + value)


@pytest.mark.parametrize("byte", [9, *range(32, 127), *range(128, 256)])
def test_every_other_byte_in_a_value_is_kept(byte: int) -> None:
    assert request(b"GET / HTTP/1.1", b"A: a%cb" % byte).fields[1] == (b"A", b"a%cb" % byte)
    assert response(b"HTTP/1.1 200 OK", b"A: a%cb" % byte).fields == [(b"A", b"a%cb" % byte)]


@pytest.mark.parametrize(
    "host",
    [
        pytest.param([], id="none"),
        pytest.param([b"Host: a", b"Host: a"], id="twice"),
        pytest.param([b"Host: a", b"hOST: b"], id="two"),
        *(
            pytest.param([b"Host: " + value], id=repr(value))
            for value in (
                b"", b"a b", b"a,b", b"a, a", b"u@a", b"a/b", b"a?b", b"a:b", b"a:0", b"a:65536", b"a:000080", b":80",
                b"http://a", b"[::1", b"[::1]a", b"[1.2.3.4]", b"::1", b".", b".a", b"\xc3\xa4", b"a%41", b"a\tb",
                b"a\\b", b"a" * 256,
            )
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("line", [b"GET / HTTP/1.1", b"GET https://example.com/ HTTP/1.1", b"CONNECT a:443 HTTP/1.1"])
def test_exactly_one_well_formed_host_is_required(host: list[bytes], line: bytes) -> None:
    """RFC 9112 3.2."""
    with pytest.raises(MessageError) as caught:
        request(line, *host, host=None)
    assert caught.value.status == 400


@pytest.mark.parametrize("line", [b"GET / HTTP/1.1", b"GET / HTTP/1.0", b"OPTIONS * HTTP/1.1"])
def test_origin_form_to_a_proxy_is_refused_with_the_reason(line: bytes) -> None:
    with pytest.raises(MessageError, match="this port is a proxy's") as caught:
        request(line, authority=PROXY)
    assert caught.value.status == 400


def test_another_scheme_than_the_tunnel_has_is_refused() -> None:
    with pytest.raises(MessageError, match="not the connection's"):
        request(b"GET https://example.com/ HTTP/1.1", scheme="http", authority=Address("example.com", 80))


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    ("line", "written"),
    [
        (b"GET http://far.test/a?b HTTP/1.1", b"GET http://far.test/a?b HTTP/1.1"),
        (b"GET http://far.test:81 HTTP/1.1", b"GET http://far.test:81/ HTTP/1.1"),
        (b"OPTIONS http://far.test HTTP/1.1", b"OPTIONS http://far.test HTTP/1.1"),
    ],
)
def test_a_proxy_behind_a_tunnel_is_asked_by_a_whole_url(scheme: str, line: bytes, written: bytes) -> None:
    head = request(line, b"Proxy-Authorization: Basic eDp5", scheme=scheme, authority=Address("proxy.test", 3128))
    assert (head.beyond, head.scheme, head.authority.host) == (True, "http", "far.test")
    lines = write_request(head, b"us").split(b"\r\n")
    assert lines[0] == written
    assert b"Proxy-Authorization: Basic eDp5" in lines
    assert lines.count(b"Host: far.test") + lines.count(b"Host: far.test:81") == 1


def test_what_the_tunnel_itself_leads_to_gets_a_path() -> None:
    head = request(
        b"GET http://near.test/a HTTP/1.1",
        b"Proxy-Authorization: Basic eDp5",
        scheme="http",
        authority=Address("near.test", 80),
    )
    raw = write_request(head, None)
    assert not head.beyond
    assert raw.startswith(b"GET /a HTTP/1.1\r\n")
    assert b"Proxy-Authorization" not in raw


@pytest.mark.parametrize(
    ("line", "field"),
    [
        (b"CONNECT a:1 HTTP/1.1", b"Content-Length: 1"),
        (b"CONNECT a:1 HTTP/1.1", b"Transfer-Encoding: chunked"),
        (b"TRACE / HTTP/1.1", b"Content-Length: 1"),
        (b"POST / HTTP/1.0", b"Transfer-Encoding: chunked"),
    ],
)
def test_a_body_where_none_may_be_is_refused(line: bytes, field: bytes) -> None:
    with pytest.raises(MessageError) as caught:
        request(line, field)
    assert caught.value.status == 400


def test_connect_with_an_empty_body_passes_as_old_clients_send_it() -> None:
    assert request(b"CONNECT a:1 HTTP/1.1", b"Content-Length: 0").length == 0


def test_two_hundred_fields_pass_and_one_more_does_not() -> None:
    assert len(request(b"GET / HTTP/1.1", *[b"A: b"] * (MAX_FIELDS - 1)).fields) == MAX_FIELDS
    with pytest.raises(MessageError) as caught:
        request(b"GET / HTTP/1.1", *[b"A: b"] * MAX_FIELDS)
    assert caught.value.status == 431
    with pytest.raises(MessageError) as caught:
        response(b"HTTP/1.1 200 OK", *[b"A: b"] * (MAX_FIELDS + 1))
    assert caught.value.status == 502


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"\r\n", b"abc", b"\r\n\r\n", b"\r\nGET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a",
        b"GET / HTTP/1.1\r\nHost: a\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r\nx",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n\r\n",
    ],
)  # fmt: skip
def test_what_does_not_end_with_its_only_empty_line_is_no_head(raw: bytes) -> None:
    with pytest.raises(MessageError):
        read_request(raw, "http", ORIGIN)


def test_no_error_repeats_what_the_client_sent() -> None:
    for lines in ((b"GET /secret#secret HTTP/1.1",), (b"GET / HTTP/1.1", b"Authorization: secret\0")):
        with pytest.raises(MessageError) as caught:
            request(*lines)
        assert "secret" not in str(caught.value)


# -- the next hop --------------------------------------------------------------------------------------------------


def test_hop_by_hop_fields_and_those_that_connection_names_are_not_forwarded() -> None:
    """RFC 9110 7.6.1."""
    gone = [
        b"Keep-Alive: 1",
        b"Proxy-Connection: a",
        b"Proxy-Authorization: b",
        b"TE: gzip",
        b"Upgrade: a",
        b"X-Mine: b",
    ]
    head = request(b"GET / HTTP/1.1", b"Connection: X-Mine, keep-alive", *gone, b"Trailer: T", b"connection: x-other,")
    assert head.fields == [(b"Host", b"example.com"), (b"Trailer", b"T")]
    assert (head.close, head.upgrade, head.te_trailers) == (False, None, False)


@pytest.mark.parametrize("name", [b"Host", b"Authorization", b"Cookie", b"X-Forwarded-For", b"Cache-Control", b"Via"])
def test_connection_cannot_take_away_a_field_that_is_for_the_origin(name: bytes) -> None:
    head = request(b"GET / HTTP/1.1", name + b": kept", b"Connection: " + name, host=HOST if name != b"Host" else None)
    assert (name, b"kept") in head.fields


def test_connection_cannot_take_away_the_framing() -> None:
    assert request(b"POST / HTTP/1.1", b"Content-Length: 5", b"Connection: content-length").length == 5
    assert (
        request(b"POST / HTTP/1.1", b"Transfer-Encoding: chunked", b"Connection: transfer-encoding").length == CHUNKED
    )


@pytest.mark.parametrize(
    ("line", "fields", "authority", "close"),
    [
        (b"GET / HTTP/1.1", [], ORIGIN, False),
        (b"GET / HTTP/1.1", [b"Connection: close"], ORIGIN, True),
        (b"GET / HTTP/1.1", [b"Connection: Keep-Alive, CLOSE"], ORIGIN, True),
        (b"GET / HTTP/1.0", [], ORIGIN, True),
        (b"GET / HTTP/1.0", [b"Connection: keep-alive"], ORIGIN, False),
        (b"GET / HTTP/1.0", [b"Connection: keep-alive, close"], ORIGIN, True),
        (b"GET / HTTP/1.0", [b"Keep-Alive: 5"], ORIGIN, True),
        (b"GET http://a/ HTTP/1.0", [b"Connection: keep-alive"], PROXY, True),
        (b"GET http://a/ HTTP/1.0", [b"Proxy-Connection: keep-alive"], PROXY, True),
        (b"GET http://a/ HTTP/1.1", [b"Connection: keep-alive"], PROXY, False),
    ],
)
def test_whether_the_client_keeps_its_connection(
    line: bytes, fields: list[bytes], authority: Address | None, close: bool
) -> None:
    """RFC 9112 9.3."""
    assert request(line, *fields, authority=authority).close is close


@pytest.mark.parametrize(
    ("line", "fields", "upgrade"),
    [
        (b"GET / HTTP/1.1", [b"Connection: Upgrade", b"Upgrade: websocket"], b"websocket"),
        (b"GET / HTTP/1.1", [b"Connection: keep-alive, UPGRADE", b"Upgrade: a/1, b", b"upgrade: c"], b"a/1, b, c"),
        (b"GET / HTTP/1.1", [b"Upgrade: websocket"], None),
        (b"GET / HTTP/1.1", [b"Connection: upgrade"], None),
        (b"GET / HTTP/1.0", [b"Connection: Upgrade", b"Upgrade: websocket"], None),
        (b"GET / HTTP/1.1", [b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: H2c", b"HTTP2-Settings: a"], None),
        (b"GET / HTTP/1.1", [b"Connection: Upgrade", b"Upgrade: h2c, websocket"], b"websocket"),
    ],
)
def test_an_upgrade_counts_only_if_connection_names_it(line: bytes, fields: list[bytes], upgrade: bytes | None) -> None:
    """RFC 9110 7.8, RFC 9113 3.1."""
    head = request(line, *fields)
    assert (head.upgrade, head.fields) == (upgrade, [(b"Host", b"example.com")])


def test_te_trailers_is_remembered_and_written_anew() -> None:
    head = request(b"GET / HTTP/1.1", b"TE: gzip;q=0.5, Trailers", b"Connection: TE")
    assert head.te_trailers
    assert write_request(head, None).endswith(b"\r\nTE: trailers\r\nConnection: TE\r\n\r\n")
    head.upgrade = b"a"
    assert write_request(head, None).endswith(b"\r\nTE: trailers\r\nConnection: Upgrade, TE\r\nUpgrade: a\r\n\r\n")


def test_an_expectation_passes_with_a_body_and_only_in_http_1_1() -> None:
    """RFC 9110 10.1.1."""
    expect = b"Expect: 100-Continue"
    head = request(b"PUT / HTTP/1.1", b"Content-Length: 5", expect)
    assert head.expect_continue
    assert b"\r\nExpect: 100-continue\r\n" in write_request(head, None)
    for line, length in ((b"PUT / HTTP/1.0", b"Content-Length: 5"), (b"PUT / HTTP/1.1", b"Content-Length: 0")):
        head = request(line, length, expect)
        assert not head.expect_continue
        assert b"Expect" not in write_request(head, None)


@pytest.mark.parametrize("expect", [b"100-continue, 100-continue", b"200-ok", b"", b"100-continue;a"])
def test_another_expectation_cannot_be_met(expect: bytes) -> None:
    with pytest.raises(MessageError) as caught:
        request(b"PUT / HTTP/1.1", b"Content-Length: 5", b"Expect: " + expect)
    assert caught.value.status == 417


@pytest.mark.parametrize("method", [b"TRACE", b"OPTIONS"])
def test_max_forwards_counts_down_for_trace_and_options(method: bytes) -> None:
    """RFC 9110 7.6.2."""
    head = request(method + b" / HTTP/1.1", b"A: b", b"Max-Forwards: 010")
    assert (head.max_forwards, head.fields) == (10, [(b"Host", b"example.com"), (b"A", b"b")])
    assert b"\r\nMax-Forwards: 9\r\n" in write_request(head, None)
    assert request(method + b" / HTTP/1.1").max_forwards is None


def test_max_forwards_of_another_method_is_only_a_field() -> None:
    head = request(b"GET / HTTP/1.1", b"Max-Forwards: x")
    assert (head.max_forwards, head.fields[1]) == (None, (b"Max-Forwards", b"x"))


@pytest.mark.parametrize("fields", [[b"x"], [b""], [b"-1"], [b"1234567890"], [b"1", b"1"]])
def test_a_malformed_max_forwards_is_refused(fields: list[bytes]) -> None:
    with pytest.raises(MessageError):
        request(b"OPTIONS * HTTP/1.1", *(b"Max-Forwards: " + value for value in fields))


def test_a_request_that_may_go_no_further_is_not_written() -> None:
    with pytest.raises(InterceptError):
        write_request(request(b"OPTIONS * HTTP/1.1", b"Max-Forwards: 0"), None)


@pytest.mark.parametrize(
    ("line", "field", "framing"),
    [
        (b"GET / HTTP/1.1", b"Content-Length: 0", []),
        (b"GET / HTTP/1.1", b"Content-Length: 3", [b"Content-Length: 3"]),
        (b"POST / HTTP/1.1", b"A: b", [b"Content-Length: 0"]),
        (b"PUT / HTTP/1.1", b"Content-Length: 0", [b"Content-Length: 0"]),
        (b"PROPFIND / HTTP/1.1", b"A: b", [b"Content-Length: 0"]),
        (b"DELETE / HTTP/1.1", b"A: b", []),
        (b"POST / HTTP/1.1", b"transfer-encoding: Chunked", [b"Transfer-Encoding: chunked"]),
    ],
)
def test_a_body_is_framed_once(line: bytes, field: bytes, framing: list[bytes]) -> None:
    lines = write_request(request(line, field), None).split(b"\r\n")
    assert [line for line in lines if line.startswith((b"Content-Length", b"Transfer-Encoding"))] == framing


def test_a_written_request_has_its_order_and_its_spelling() -> None:
    head = request(b"GET /a HTTP/1.0", b"ACCEPT:x", b"x-b: c")
    assert write_request(head, b"gw") == (
        b"GET /a HTTP/1.1\r\nHost: example.com\r\nACCEPT:x\r\nx-b: c\r\nVia: 1.0 gw\r\n\r\n"
    )
    assert head.fields == [(b"Host", b"example.com"), (b"ACCEPT", b"x"), (b"x-b", b"c")]
    # Whoever has the list may have changed it: the lines are made from it.
    assert b"\r\nACCEPT: x\r\n" in write_request(head, b"gw")


def test_a_request_without_host_gets_the_authority() -> None:
    head = request()
    head.fields, head.version = [(b"a", b"b")], 20
    assert write_request(head, b"gw") == b"GET / HTTP/1.1\r\nHost: example.com\r\na: b\r\nVia: 2 gw\r\n\r\n"
    head.authority = Address("::1", 8443)
    assert write_request(head, None) == b"GET / HTTP/1.1\r\nHost: [::1]:8443\r\na: b\r\n\r\n"


def test_via_is_one_field_with_what_came_first() -> None:
    """RFC 9110 7.6.3."""
    head = request(b"GET / HTTP/1.1", b"Via: 1.0 a", b"B: c", b"via: 1.1 d (x, y)")
    assert b"\r\nB: c\r\nVia: 1.0 a, 1.1 d (x, y), 1.1 gw\r\n\r\n" in write_request(head, b"gw")
    assert b"\r\nB: c\r\nVia: 1.0 a, 1.1 d (x, y)\r\n\r\n" in write_request(head, None)
    answer = response(b"HTTP/1.0 200 OK", b"Content-Length: 1", b"Via: 1.1 a")
    assert b"Via: 1.1 a, 1.0 gw" in written(answer)


def test_via_is_the_last_field_for_whoever_asks_for_the_fields() -> None:
    head = request(b"GET / HTTP/1.1", b"via: 1.0 a", b"B: c", b"VIA:1.1 d ")
    copied = write_request(head, b"gw")
    assert head.fields == [(b"Host", b"example.com"), (b"B", b"c"), (b"Via", b"1.0 a, 1.1 d")]
    assert loops(head, b"d")
    assert write_request(head, b"gw") == copied
    answer = response(b"HTTP/1.1 200 OK", CL, b"via: 1.0 a", b"B: c")
    assert answer.fields == [(b"B", b"c"), (b"Via", b"1.0 a")]
    assert b"Via: 1.0 a, 1.1 gw" in written(answer)


def test_a_pseudonym_that_would_become_another_field_is_not_written() -> None:
    for fields in ([], [b"Via: 1.1 a"]):
        with pytest.raises(InterceptError):
            write_request(request(b"GET / HTTP/1.1", *fields), b"gw\r\nA: b")


@pytest.mark.parametrize("name", sorted(HOP_BY_HOP | {b"content-length", b"expect", b"host", b"via"}))
def test_a_name_that_is_almost_one_of_ours_is_only_a_field(name: bytes) -> None:
    for other in (name[:-1], name + b"x", b"x" + name, name[:-1] + b"_"):
        if other in HOP_BY_HOP:
            continue
        head = request(b"GET / HTTP/1.1", other + b": " + name + b": a")
        assert b"\r\n%b: %b: a\r\n" % (other, name) in write_request(head, b"gw")
        assert head.fields == [(b"Host", b"example.com"), (other, name + b": a")]


@pytest.mark.parametrize(
    ("via", "looped"),
    [
        ([b"1.1 gw"], True),
        ([b"1.1 a, HTTP/1.1 GW (x)"], True),
        ([b"1.1 a", b"2 gw"], True),
        ([b"1.1 (\\), 1.1 z) gw"], True),
        ([b"1.1 agw, 1.1 gw:80, gw"], False),
        ([b"1.1 a (1.1 gw, 1.1 gw)"], False),
        ([b", ,"], False),
        ([], False),
    ],
)
def test_a_request_that_came_through_us_is_known_by_via(via: list[bytes], looped: bool) -> None:
    assert loops(request(b"GET / HTTP/1.1", *(b"via: " + value for value in via)), b"gw") is looped


@pytest.mark.parametrize(
    "field",
    [
        (b"A", b"b\r\nC: d"), (b"A", b"b\n"), (b"A", b"b\r"), (b"A", b"\0"), (b"A\r\nB", b"c"), (b"A:", b"b"),
        (b"A ", b"b"), (b"", b"b"), (b"\xc4", b"b"), (b"Host", b"b"),
    ],
)  # fmt: skip
def test_a_field_that_would_become_another_is_not_written(field: tuple[bytes, bytes]) -> None:
    head = request()
    head.fields.append(field)
    with pytest.raises(InterceptError):
        write_request(head, None)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("method", b"GET /x"), ("method", b"GET\r\n"), ("method", b"G\0T"), ("target", b"/\r"),
        ("target", b"/ HTTP/1.1\r\nA:"), ("target", b"/a b"),
        ("upgrade", b"a\r\nb"), ("length", UNTIL_CLOSE),
    ],
)  # fmt: skip
def test_a_request_that_would_be_misread_is_not_written(name: str, value: object) -> None:
    head = request()
    setattr(head, name, value)
    with pytest.raises(InterceptError):
        write_request(head, None)


def test_framing_and_hop_by_hop_fields_of_a_plugin_are_not_written() -> None:
    extra = [(b"content-length", b"9"), (b"Transfer-Encoding", b"chunked"), (b"CONNECTION", b"a"), (b"Expect", b"b")]
    head = request()
    head.fields += extra
    assert write_request(head, None) == b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"
    answer = response(b"HTTP/1.1 200 OK", b"Content-Length: 5")
    answer.fields += extra[:3]
    assert written(answer) == [b"HTTP/1.1 200 OK", b"Via: 1.1 gw", b"Content-Length: 5", b"", b""]


# -- responses -----------------------------------------------------------------------------------------------------


def test_a_response_is_read() -> None:
    raw = b"HTTP/1.1 404 Not  Found\xe4\r\nServer: x\r\nContent-Length: 5\r\nKeep-Alive: 5\r\nX: y\r\n"
    raw += b"Connection: X\r\n\r\n"
    head = read_response(raw, b"GET")
    assert (head.status, head.reason, head.version, head.raw) == (404, b"Not  Found\xe4", 11, raw)
    assert (head.fields, head.length, head.close, head.upgrade) == ([(b"Server", b"x")], 5, False, None)


@pytest.mark.parametrize("line", [b"HTTP/1.1 200", b"HTTP/1.1 200 "])
def test_the_reason_may_be_empty_or_missing(line: bytes) -> None:
    head = response(line, b"Content-Length: 0")
    assert head.reason == b""
    assert written(head)[0] == b"HTTP/1.1 200 "


@pytest.mark.parametrize(
    "line",
    [
        b"", b"HTTP/1.1", b"HTTP/1.1 ", b"HTTP/1.1 20", b"HTTP/1.1 2000 OK", b"HTTP/1.1  200 OK", b"HTTP/1.1 2x0 OK",
        b"HTTP/1.1 +20 OK", b"HTTP/1.1 099 OK", b"HTTP/1.1 600 OK", b"HTTP/2.0 200 OK", b"HTTP/2 200",
        b"HTTP/1.2 200 OK", b"http/1.1 200 OK", b"ICY 200 OK", b" HTTP/1.1 200 OK", b"HTTP/1.1\t200 OK",
        b"HTTP/1.1 200\tOK", b"HTTP/1.1 200 OK\nA: b", b"HTTP/1.1 200 OK\r", b"HTTP/1.1 200 O\0K",
        b"HTTP/1.1 101 Switching",
    ],
)  # fmt: skip
def test_a_status_line_that_is_not_plain_is_refused(line: bytes) -> None:
    """RFC 9112 4; 101 without Upgrade: RFC 9110 15.2.2."""
    with pytest.raises(MessageError) as caught:
        response(line)
    assert caught.value.status == 502


@pytest.mark.parametrize(
    "lines",
    [
        [b"nonsense"], [b"HTTP/1.1 200 OK", b"A : b"], [b"HTTP/1.1 200 OK", b"Content-Length: 4611686018427387905"],
        [b"HTTP/1.1 200 OK", *[b"A: b"] * (MAX_FIELDS + 1)], [b"HTTP/1.1 200 OK", b"", b""],
        [b"HTTP/1.0 200 OK", b"Transfer-Encoding: chunked"], [b"HTTP/1.1 101 Switching"],
    ],
)  # fmt: skip
def test_a_bad_response_is_the_origins_doing_and_a_bad_request_the_clients(lines: list[bytes]) -> None:
    with pytest.raises(ResponseError) as caught:
        response(*lines)
    assert (caught.value.side, caught.value.status, caught.value.kind) == (Side.UPSTREAM, 502, "http_message")
    with pytest.raises(MessageError) as refused:
        request(b"GET / HTTP/1.2" if lines[0] == b"nonsense" else b"POST / HTTP/1.1", b"A : b", *lines[1:])
    assert refused.value.side is Side.CLIENT


def test_transfer_encoding_in_http_1_0_is_refused() -> None:
    """RFC 9112 6.1."""
    with pytest.raises(MessageError):
        response(b"HTTP/1.0 200 OK", b"Transfer-Encoding: chunked")


CL, TE = b"Content-Length: 5", b"Transfer-Encoding: chunked"


@pytest.mark.parametrize(
    ("method", "line", "fields", "length", "close"),
    [
        pytest.param(b"HEAD", b"HTTP/1.1 200 OK", [CL], 0, False, id="HEAD (rule 1)"),
        pytest.param(b"HEAD", b"HTTP/1.1 200 OK", [TE], 0, False, id="HEAD, chunked (rule 1)"),
        pytest.param(b"HEAD", b"HTTP/1.1 200 OK", [], 0, False, id="HEAD without length (rule 1)"),
        pytest.param(b"GET", b"HTTP/1.1 100 Continue", [], 0, False, id="100 (rule 1)"),
        pytest.param(b"GET", b"HTTP/1.1 103 Early Hints", [], 0, False, id="103 (rule 1)"),
        pytest.param(b"GET", b"HTTP/1.1 204 No Content", [], 0, False, id="204 (rule 1)"),
        pytest.param(b"GET", b"HTTP/1.1 204 No Content", [CL], 0, True, id="204 with a body announced (rule 1)"),
        pytest.param(b"GET", b"HTTP/1.1 204 No Content", [TE], 0, True, id="204 with chunks announced (rule 1)"),
        pytest.param(b"GET", b"HTTP/1.1 204 No Content", [b"Content-Length: 0"], 0, False, id="204, length 0 (rule 1)"),
        pytest.param(b"GET", b"HTTP/1.1 304 Not Modified", [CL], 0, False, id="304 (rule 1)"),
        pytest.param(b"CONNECT", b"HTTP/1.1 200 OK", [], 0, False, id="CONNECT (rule 2)"),
        pytest.param(b"CONNECT", b"HTTP/1.1 407 No", [CL], 5, False, id="CONNECT refused (rule 6)"),
        pytest.param(b"GET", b"HTTP/1.1 200 OK", [TE], CHUNKED, False, id="chunked (rule 4)"),
        pytest.param(b"GET", b"HTTP/1.1 200 OK", [CL], 5, False, id="Content-Length (rule 6)"),
        pytest.param(b"GET", b"HTTP/1.1 200 OK", [CL, b"Connection: close"], 5, True, id="close (9.3)"),
        pytest.param(b"GET", b"HTTP/1.1 200 OK", [], UNTIL_CLOSE, True, id="until the end (rule 8)"),
        pytest.param(b"GET", b"HTTP/1.1 200 OK", [b"Connection: keep-alive"], UNTIL_CLOSE, True, id="as well (rule 8)"),
        pytest.param(b"GET", b"HTTP/1.0 200 OK", [CL], 5, True, id="HTTP/1.0 (9.3)"),
        pytest.param(b"GET", b"HTTP/1.0 200 OK", [CL, b"Connection: Keep-Alive"], 5, False, id="1.0 keep-alive (9.3)"),
        pytest.param(b"GET", b"HTTP/1.0 200 OK", [], UNTIL_CLOSE, True, id="HTTP/1.0 until the end (rule 8)"),
    ],
)
def test_where_a_response_ends(method: bytes, line: bytes, fields: list[bytes], length: int, close: bool) -> None:
    """RFC 9112 6.3."""
    head = response(line, *fields, method=method)
    assert (head.length, head.close) == (length, close)


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"CONNECT"])
@pytest.mark.parametrize("line", [b"HTTP/1.1 200 OK", b"HTTP/1.1 204 No", b"HTTP/1.1 304 No"])
def test_two_kinds_of_length_are_refused_even_where_no_body_is(method: bytes, line: bytes) -> None:
    with pytest.raises(MessageError):
        response(line, CL, TE, method=method)


def test_a_switch_of_protocols_names_the_new_one() -> None:
    head = response(b"HTTP/1.1 101 Switching", b"Connection: Upgrade", b"Upgrade: websocket", b"A: b")
    assert (head.upgrade, head.length, head.close, head.fields) == (b"websocket", 0, False, [(b"A", b"b")])
    assert written(head)[2:] == [b"Via: 1.1 gw", b"Connection: Upgrade", b"Upgrade: websocket", b"", b""]


@pytest.mark.parametrize("fields", [[b"Upgrade: a"], [b"Connection: upgrade"], [b"Connection: a", b"Upgrade: a"]])
def test_a_switch_that_connection_does_not_name_is_refused(fields: list[bytes]) -> None:
    with pytest.raises(MessageError):
        response(b"HTTP/1.1 101 Switching", *fields)


def test_an_upgrade_is_not_forwarded_with_another_status() -> None:
    head = response(b"HTTP/1.1 426 Upgrade Required", CL, b"Connection: Upgrade", b"Upgrade: a")
    assert head.upgrade is None
    assert written(head) == [b"HTTP/1.1 426 Upgrade Required", b"Via: 1.1 gw", CL, b"", b""]


@pytest.mark.parametrize(
    ("method", "line", "fields", "version", "framing"),
    [
        (b"GET", b"HTTP/1.1 200 OK", [CL], 11, [CL]),
        (b"GET", b"HTTP/1.1 200 OK", [b"Content-Length: 0"], 11, [b"Content-Length: 0"]),
        (b"GET", b"HTTP/1.1 200 OK", [CL], 10, [CL, b"Connection: keep-alive"]),
        (b"GET", b"HTTP/1.1 200 OK", [TE], 11, [TE]),
        (b"GET", b"HTTP/1.1 200 OK", [], 11, [TE]),
        (b"GET", b"HTTP/1.1 200 OK", [TE], 10, [b"Connection: close"]),
        (b"GET", b"HTTP/1.1 200 OK", [], 10, [b"Connection: close"]),
        (b"HEAD", b"HTTP/1.1 200 OK", [CL], 11, [CL]),
        (b"HEAD", b"HTTP/1.1 200 OK", [], 11, []),
        (b"HEAD", b"HTTP/1.1 200 OK", [TE], 11, []),
        (b"GET", b"HTTP/1.1 304 No", [CL], 11, [CL]),
        (b"GET", b"HTTP/1.1 304 No", [], 11, []),
        (b"GET", b"HTTP/1.1 204 No", [CL], 11, []),
        (b"GET", b"HTTP/1.1 103 Hints", [], 11, []),
        (b"CONNECT", b"HTTP/1.1 200 OK", [], 11, []),
        (b"CONNECT", b"HTTP/1.1 502 No", [CL], 11, [CL]),
    ],
)
def test_a_response_is_framed_for_its_client(
    method: bytes, line: bytes, fields: list[bytes], version: int, framing: list[bytes]
) -> None:
    head = response(line, *fields, method=method)
    lines = written(head, method=method, version=version)
    assert lines[0] == line
    assert sorted(lines[1:-2]) == sorted([*framing, b"Via: 1.1 gw"])


def test_close_is_announced_with_the_last_response_and_not_before() -> None:
    assert b"Connection: close" in written(response(b"HTTP/1.1 200 OK", CL), close=True)
    assert b"Connection: close" in written(response(b"HTTP/1.1 200 OK", CL), close=True, version=10)
    assert b"Connection: close" not in written(response(b"HTTP/1.1 100 Continue"), close=True)


def test_a_body_that_only_the_end_ends_always_announces_the_end() -> None:
    head = response(b"HTTP/1.1 200 OK")
    for version in (10, 11):
        lines = write_response(head, version=version, via=None, close=False, chunked=False, announce_keep_alive=True)
        assert lines == b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("reason", b"a\r\nb: c"), ("reason", b"OK\r\nServer: x"), ("reason", b"a\rb"), ("reason", b"a\0b"),
        ("fields", [(b"a", b"b\r\n\r\n")]),
    ],
)  # fmt: skip
def test_a_response_that_would_be_split_is_not_written(name: str, value: object) -> None:
    head = response(b"HTTP/1.1 200 OK", b"Server: x", CL)
    setattr(head, name, value)
    with pytest.raises(InterceptError):
        written(head)


@pytest.mark.parametrize("length", [b"Content-Length: 5", b"Transfer-Encoding: chunked"])
@pytest.mark.parametrize("close", [True, False])
def test_who_asks_for_the_fields_does_not_change_what_is_written(length: bytes, close: bool) -> None:
    head = request(b"POST / HTTP/1.1", b"A: b", length)
    copied = write_request(head, b"gw")
    assert head.fields[1] == (b"A", b"b")
    assert write_request(head, b"gw") == copied
    answer = response(b"HTTP/1.1 200 OK", b"A: b", length)
    lines = written(answer, close=close)
    assert answer.fields == [(b"A", b"b")]
    assert written(answer, close=close) == lines


def test_a_body_until_the_end_is_announced_as_such_by_either_way_to_write() -> None:
    head = response(b"HTTP/1.1 200 OK", b"A: b")
    for _ in range(2):
        raw = write_response(head, version=11, via=None, close=False, chunked=False, announce_keep_alive=False)
        assert raw == b"HTTP/1.1 200 OK\r\nA: b\r\nConnection: close\r\n\r\n"
        assert head.fields == [(b"A", b"b")]


# -- there and back ------------------------------------------------------------------------------------------------


def test_no_hop_by_hop_field_is_a_trailer_either() -> None:
    assert HOP_BY_HOP <= NOT_IN_TRAILERS


TOKENS = st.from_regex(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,10}", fullmatch=True)
VALUES = st.from_regex(
    rb"(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]{0,9}[\x21-\x7e\x80-\xff])?)?", fullmatch=True
)
SPECIAL = st.sampled_from(
    [
        b"Connection: close", b"Connection: X-A, keep-alive", b"connection: upgrade, te, host", b"X-A: b",
        b"Via: 1.1 a", b"Keep-Alive: 5", b"Proxy-Connection: x", b"Proxy-Authorization: y", b"TE: trailers",
        b"Upgrade: websocket", b"Trailer: a", b"Content-Length: 5", b"Transfer-Encoding: chunked",
        b"Expect: 100-continue", b"Cookie: c=d",
    ]
)  # fmt: skip
FIELDS = st.lists(st.one_of(st.builds(lambda name, value: name + b": " + value, TOKENS, VALUES), SPECIAL), max_size=8)


def names_of(head: bytes) -> list[bytes]:
    return [line.partition(b":")[0].lower() for line in head.split(b"\r\n")[1:-2]]


def hop_of(head: bytes) -> set[bytes]:
    """The hop-by-hop names of a written head that are not its own framing, upgrade or TE."""
    own = {b"transfer-encoding", b"upgrade", b"connection", b"te"}
    return set(names_of(head)) & (HOP_BY_HOP - own)


@given(
    method=st.one_of(TOKENS, st.sampled_from([b"GET", b"POST", b"HEAD", b"DELETE"])),
    path=st.from_regex(rb"/[!-\"$-~]{0,12}", fullmatch=True),
    version=st.sampled_from([b"HTTP/1.0", b"HTTP/1.1"]),
    fields=FIELDS,
)
def test_what_is_written_of_a_request_reads_the_same(
    method: bytes, path: bytes, version: bytes, fields: list[bytes]
) -> None:
    try:
        head = request(b"%b %b %b" % (method, path, version), *fields)
    except MessageError:
        return
    once = write_request(head, b"gw")
    assert once.count(b"\r\n\r\n") == 1
    assert names_of(once).count(b"host") == 1
    assert sum(names_of(once).count(name) for name in (b"content-length", b"transfer-encoding")) <= 1
    assert names_of(once).count(b"via") == 1
    assert not hop_of(once)
    again = read_request(once, "https", ORIGIN)
    for name in (
        "method",
        "target",
        "authority",
        "length",
        "upgrade",
        "te_trailers",
        "expect_continue",
        "max_forwards",
    ):
        assert getattr(again, name) == getattr(head, name)
    assert write_request(again, None) == once


@given(
    method=st.sampled_from([b"GET", b"HEAD", b"CONNECT"]),
    status=st.sampled_from([100, 101, 103, 200, 204, 206, 304, 404, 500]),
    fields=FIELDS,
    version=st.sampled_from([10, 11]),
)
def test_what_is_written_of_a_response_reads_the_same(
    method: bytes, status: int, fields: list[bytes], version: int
) -> None:
    try:
        head = response(b"HTTP/1.1 %d Reason" % status, *(f for f in fields if f[:6] != b"Expect"), method=method)
    except MessageError:
        return
    once = b"\r\n".join(written(head, method=method, version=version))
    assert not hop_of(once) - {b"connection"}
    assert sum(names_of(once).count(name) for name in (b"content-length", b"transfer-encoding")) <= 1
    again = read_response(once, method)
    assert (again.status, again.reason, again.upgrade) == (head.status, head.reason, head.upgrade)
    if head.length >= 0:
        assert again.length == head.length
    else:
        assert again.length == (CHUNKED if version == 11 else UNTIL_CLOSE)


@given(
    st.lists(
        st.sampled_from([b"GET", b" ", b"/", b"HTTP/1.1", b"\r\n", b"\r", b"\n", b"Host:", b"a", b":", b"\t", b"\0"]),
        max_size=20,
    )
)
def test_no_bytes_get_anything_but_a_head_or_a_refusal(parts: list[bytes]) -> None:
    raw = b"".join(parts)
    for data in (raw, b"GET / HTTP/1.1\r\nHost: a\r\n" + raw + b"\r\n\r\n"):
        try:
            head = read_request(data, "http", ORIGIN)
        except MessageError:
            continue
        assert data.count(b"\r\n\r\n") == 1
        assert data.count(b"\n") == data.count(b"\r\n") == data.count(b"\r")
        assert head.fields[0][0].lower() == b"host"

"""The combination of signature and port, and the reasons it gives."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslintercept.facts import Verdict
from sslintercept.probe.port import PORTS
from sslintercept.probe.signature import SIGNATURES, Signature, literal
from sslintercept.probe.verdict import judge, judge_greeting

TLS = b"\x16\x03\x01\x02\x00\x01"
SSLV2 = b"\x80\x2e\x01\x03\x01"
GET = b"GET / HTTP/1.1\r\n"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SOCKS4 = b"\x04\x01\x00\x50\xc0\x00\x02\x01\x00"
SOCKS5 = b"\x05\x01\x00"
NOISE = b"\xff\xfe\xfd"


def told(verdict: Verdict | None) -> tuple[str, str | None, bool]:
    assert verdict is not None
    assert verdict.reason
    return verdict.protocol, verdict.hint, verdict.mismatch


@pytest.mark.parametrize(
    ("head", "port", "expected"),
    [
        (TLS, 443, ("tls", "https", False)),
        (TLS, 993, ("tls", "imaps", False)),
        (TLS, 25, ("tls", "smtp", True)),
        (TLS, 80, ("tls", "http", True)),
        (TLS, 1234, ("tls", None, False)),
        (TLS, None, ("tls", None, False)),
        (SSLV2, 443, ("sslv2", "https", False)),
        (GET, 80, ("http/1", "http", False)),
        (GET, 443, ("http/1", "https", True)),
        (GET, 25, ("http/1", "smtp", True)),
        (GET, None, ("http/1", None, False)),
        (PREFACE, 8080, ("http/2", "http", False)),
        (PREFACE, 443, ("http/2", "https", True)),
        (SOCKS4, 1080, ("socks4", "socks", False)),
        (SOCKS5, 1080, ("socks5", "socks", False)),
        (SOCKS5, 443, ("socks5", "https", True)),
        (b"SSH-2.0-x\r\n", 22, ("ssh", "ssh", False)),
        (b"SSH-2.0-x\r\n", 443, ("ssh", "https", True)),
    ],
)
def test_a_signature_wins_and_a_port_that_disagrees_is_a_mismatch(
    head: bytes, port: int | None, expected: tuple[str, str | None, bool]
) -> None:
    assert told(judge(head, port)) == expected


@pytest.mark.parametrize(
    ("head", "port", "expected"),
    [
        (GET, 443, ("http/1", "http", False)),
        (PREFACE, 443, ("http/2", "http", False)),
        (TLS, 443, ("tls", "http", True)),
        (GET, 993, ("http/1", "imap", True)),
        (NOISE, 993, ("imap", "imap", False)),
        (NOISE, 443, ("unknown", "http", True)),
        (GET, 25, ("http/1", None, False)),
        (NOISE, 25, ("unknown", None, False)),
        (NOISE, None, ("unknown", None, False)),
    ],
)
def test_inside_of_tls_the_port_speaks_of_what_tls_carries(
    head: bytes, port: int | None, expected: tuple[str, str | None, bool]
) -> None:
    assert told(judge(head, port, secure=True)) == expected


@pytest.mark.parametrize("port", [None, 25, 80, 443, 1234])
@pytest.mark.parametrize("head", [b"", b"G", TLS[:5], PREFACE[:23], SOCKS5[:2], SOCKS4[:8]])
def test_what_may_still_become_something_is_waited_for(head: bytes, port: int | None) -> None:
    assert judge(head, port) is None


@pytest.mark.parametrize("head", [b"", b"E", b"EHLO mail.example\r\n"])
def test_where_the_server_greets_the_port_decides_when_the_client_does_not(head: bytes) -> None:
    assert told(judge(head, 25, silent=True)) == ("smtp", "smtp", False)


def test_a_command_that_no_signature_knows_is_of_the_protocol_whose_server_greets() -> None:
    assert told(judge(b"EHLO mail.example\r\n", 587)) == ("smtp", "smtp", False)
    assert told(judge(b"a1 LOGIN", 143)) == ("imap", "imap", False)


@pytest.mark.parametrize("port", [443, 465, 993])
def test_plain_noise_on_a_port_of_implicit_tls_is_unknown_and_a_mismatch(port: int) -> None:
    protocol, _, mismatch = told(judge(NOISE, port))
    assert (protocol, mismatch) == ("unknown", True)


@pytest.mark.parametrize(("head", "port"), [(b"", None), (b"G", None), (TLS[:5], 443), (b"", 993), (b"", 80)])
def test_time_that_ran_out_is_unknown_and_no_mismatch(head: bytes, port: int | None) -> None:
    protocol, _, mismatch = told(judge(head, port, silent=True))
    assert (protocol, mismatch) == ("unknown", False)


def test_a_full_buffer_decides() -> None:
    slow = Signature("slow", literal(b"x" * 8192), "no document")
    head = b"x" * 4096
    assert judge(head, None, signatures=(slow,)) is None
    assert told(judge(head, None, full=True, signatures=(slow,))) == ("unknown", None, False)
    assert told(judge(head, 25, full=True, signatures=(slow,))) == ("smtp", "smtp", False)


def test_a_port_whose_protocol_has_no_signature_is_not_contradicted() -> None:
    assert told(judge(NOISE, 6667)) == ("unknown", "irc", False)
    assert told(judge(NOISE, 80)) == ("unknown", "http", True)
    assert told(judge(NOISE, 80, signatures=())) == ("unknown", "http", False)


@pytest.mark.parametrize(
    "head", [b"CAP LS 302\r\n", b"nick joe\r\n", b"STARTTLS\r\n", b"QUIT\n", b"User joe 0 * :x\r\n"]
)
def test_words_of_irc_are_its_own_on_its_port_only(head: bytes) -> None:
    assert told(judge(head, 6667)) == ("irc", "irc", False)
    assert told(judge(head, 6697, secure=True)) == ("irc", "irc", False)
    for port in (21, 110, 80, 1234, None):
        verdict = judge(head, port)
        assert verdict is None or verdict.protocol != "irc"
    for end in range(len(head.split()[0])):
        assert judge(head[:end], 6667) is None


@pytest.mark.parametrize("head", [b"CAPS x\r\n", b"CAPX\r\n", b"NICKNAME x\r\n", b"x", b"NI:", b"GET / HTTP/1.1\r\n"])
def test_other_words_on_the_port_of_irc_are_none_of_irc(head: bytes) -> None:
    verdict = judge(head, 6667)
    assert verdict is not None
    assert verdict.protocol != "irc"


@pytest.mark.parametrize(
    ("head", "port", "silent", "secure", "reason"),
    [
        (TLS, 443, False, False, "the first bytes are those of tls (RFC 8446 5.1), and port 443 is for https"),
        (TLS, 25, False, False, "the first bytes are those of tls (RFC 8446 5.1), although port 25 is for smtp"),
        (TLS, None, False, False, "the first bytes are those of tls (RFC 8446 5.1)"),
        (b"", 25, True, False, "the client said nothing; on port 25 the server of smtp speaks first"),
        (
            b"G",
            None,
            True,
            False,
            "the first bytes (length 1) decide nothing, and no more came in time, and no port is known",
        ),
        (b"", 1234, True, False, "the client said nothing, and port 1234 tells nothing"),
        (
            NOISE,
            25,
            False,
            True,
            "the first bytes (length 3) match no signature, and inside of TLS port 25 tells nothing",
        ),
        (NOISE, 443, False, False, "the first bytes (length 3) match no signature, although port 443 is for https"),
        (
            GET,
            443,
            False,
            True,
            "the first bytes are those of http/1 (RFC 9112 3), and inside of TLS port 443 is for http",
        ),
    ],
)
def test_every_verdict_says_why(head: bytes, port: int | None, silent: bool, secure: bool, reason: str) -> None:
    verdict = judge(head, port, silent=silent, secure=secure)
    assert verdict is not None
    assert verdict.reason == reason


def test_a_reason_repeats_nothing_of_what_the_client_sent() -> None:
    verdict = judge(b"\xffhunter2", 443)
    assert verdict is not None
    assert "hunter2" not in verdict.reason


@given(
    st.one_of(
        st.binary(max_size=300),
        st.builds(
            bytes.__add__,
            st.sampled_from([TLS, SSLV2, GET, PREFACE, SOCKS4, SOCKS5, b"SSH-", b"<?xml", b"EHLO ", b"OPTIONS "]),
            st.binary(max_size=40),
        ),
    ),
    st.sampled_from([None, *PORTS]),
    st.booleans(),
    st.lists(st.integers(0, 300)),
)
def test_the_verdict_does_not_depend_on_how_the_stream_was_cut(
    stream: bytes, port: int | None, secure: bool, cuts: list[int]
) -> None:
    whole = judge(stream, port, secure=secure)
    ends = sorted({min(cut, len(stream)) for cut in cuts} | {len(stream)})
    verdicts = (judge(stream[:end], port, secure=secure) for end in ends)
    first = next((verdict for verdict in verdicts if verdict is not None), None)
    # The reason tells how many bytes were seen; everything else is the same.
    assert (first and first._replace(reason="")) == (whole and whole._replace(reason=""))
    assert judge(stream, port, silent=True, secure=secure) is not None
    assert judge(stream, port, full=True, secure=secure) is not None


@pytest.mark.parametrize(
    ("greeting", "port", "expected"),
    [
        (b"220 ready\r\n", 21, ("ftp", "ftp", False)),
        (b"220 ready\r\n", 587, ("smtp", "smtp", False)),
        (b"220-ready\r\n", None, ("smtp", None, False)),
        (b"+OK ready\r\n", 110, ("pop3", "pop3", False)),
        (b"SSH-2.0-x\r\n", 25, ("ssh", "smtp", True)),
        (b"* OK", 993, ("imap", "imaps", True)),
    ],
)
def test_a_greeting_names_the_protocol_with_the_help_of_the_port(
    greeting: bytes, port: int | None, expected: tuple[str, str | None, bool]
) -> None:
    found = judge_greeting(greeting, b"", port)
    assert found is not None
    assert told(found) == expected


@pytest.mark.parametrize(
    ("head", "expected"),
    [(b"EHLO x\r\n", "smtp"), (b"user me\r\n", "ftp"), (b"FEAT\r\n", "ftp"), (b"QUIT\r\n", "smtp")],
)
def test_where_greetings_are_alike_the_first_word_of_the_client_decides(head: bytes, expected: str) -> None:
    found = judge_greeting(b"220 ready\r\n", head, 2121)
    assert found is not None
    assert found.protocol == expected


@pytest.mark.parametrize("greeting", [b"HTTP/1.1 200 OK\r\n", b"22", b"\0"])
def test_what_is_no_greeting_says_nothing(greeting: bytes) -> None:
    assert judge_greeting(greeting, b"EHLO x\r\n", 25) is None


def test_a_greeting_inside_of_implicit_tls_is_of_what_the_port_carries() -> None:
    assert told(judge_greeting(b"220 ready\r\n", b"", 990, secure=True)) == ("ftp", "ftp", False)


def test_signatures_of_an_extension_are_used() -> None:
    mine = Signature("mine", literal(b"HELLO MINE"), "my own protocol")
    assert told(judge(b"HELLO MINE", 1234, signatures=(mine, *SIGNATURES))) == ("mine", None, False)

"""Openings and greetings: told apart, from their last telling byte on and not before, however they are cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslintercept.probe.signature import (
    GREETINGS,
    METHODS,
    SIGNATURES,
    Answer,
    Signature,
    either,
    judge_all,
    literal,
    request,
    shape,
)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SIP_TOO = {b"NOTIFY", b"OPTIONS", b"SUBSCRIBE", b"UPDATE"}

OPENINGS = [  # the opening up to the byte that decides, and its name
    pytest.param(b"\x16\x03\x00\x00\x55\x01", "tls", id="SSLv3"),
    pytest.param(b"\x16\x03\x01\x02\x00\x01", "tls", id="TLS 1.0, and the first record of TLS 1.3"),
    pytest.param(b"\x16\x03\x03\x02\x00\x01", "tls", id="TLS 1.2"),
    pytest.param(b"\x16\x03\x04\x40\x00\x01", "tls", id="a record of 2^14 bytes"),
    pytest.param(b"\x16\x03\x01\x48\x00\x01", "tls", id="the longest record"),
    pytest.param(b"\x16\x03\x01\x00\x01\x01", "tls", id="the shortest record"),
    pytest.param(b"\x80\x2e\x01\x00\x02", "sslv2", id="SSLv2"),
    pytest.param(b"\x80\x09\x01\x03\x00", "sslv2", id="SSLv3 in the hello of SSLv2"),
    pytest.param(b"\x81\x03\x01\x03\x03", "sslv2", id="TLS 1.2 in the hello of SSLv2"),
    pytest.param(b"\x05\x01\x00", "socks5", id="SOCKS 5 without authentication"),
    pytest.param(b"\x05\xff" + bytes(range(255)), "socks5", id="SOCKS 5 with all methods"),
    pytest.param(b"\x04\x01\x00\x50\xc0\x00\x02\x01\x00", "socks4", id="SOCKS 4 CONNECT"),
    pytest.param(b"\x04\x02\x00\x50\xc0\x00\x02\x01joe\x00", "socks4", id="SOCKS 4 BIND with a user"),
    pytest.param(b"\x04\x01\x00\x50\xc0\x00\x02\x01" + b"u" * 255 + b"\x00", "socks4", id="SOCKS 4, longest user"),
    pytest.param(b"\x04\x01\x01\xbb\x00\x00\x00\x01\x00", "socks4", id="SOCKS 4a"),
    pytest.param(PREFACE, "http/2", id="HTTP/2 with prior knowledge"),
    pytest.param(b"OPTIONS *", "http/1", id="OPTIONS, which RTSP and SIP have too"),
    pytest.param(b"OPTIONS rtsp://", "rtsp", id="RTSP OPTIONS"),
    pytest.param(b"DESCRIBE RTSP://", "rtsp", id="RTSP DESCRIBE"),
    pytest.param(b"OPTIONS sip:", "sip", id="SIP OPTIONS"),
    pytest.param(b"REGISTER sips:", "sip", id="SIP REGISTER"),
    pytest.param(b"FROBNICATE /", "http/1", id="an unknown method and a path"),
    pytest.param(b"X-MY_2ND-VERB http://", "http/1", id="an unknown method and an absolute URI"),
    pytest.param(b"ABCDEFGHIJKLMNOPQRSTUVWX HTTPS://", "http/1", id="the longest unknown method"),
    pytest.param(b"PRI /", "http/1", id="PRI that is no preface"),
    pytest.param(b"PROXY ", "proxy-v1", id="PROXY protocol 1"),
    pytest.param(b"\r\n\r\n\x00\r\nQUIT\n", "proxy-v2", id="PROXY protocol 2"),
    pytest.param(b"SSH-", "ssh", id="SSH"),
    pytest.param(b"\x03\x00\x00\x2b\x26\xe0", "rdp", id="RDP"),
    pytest.param(b"\x13BitTorrent protocol", "bittorrent", id="BitTorrent"),
    pytest.param(b"<stream", "xmpp", id="XMPP"),
    pytest.param(b"<?xml version='1.0'?>\r\n <stream", "xmpp", id="XMPP with a declaration"),
    pytest.param(b"<?xml version='1.0'?><p", "xml", id="another kind of XML"),
    pytest.param(b"<?xml" + b" " * 251, "xml", id="XML whose declaration never ends"),
    pytest.param(b"<?xml?>" + b" " * 244 + b"<stre", "xml", id="XML whose first tag comes too late"),
    pytest.param(b"\x10\x16\x00\x04MQTT", "mqtt", id="MQTT"),
    pytest.param(b"\x10\xff\xff\xff\x01\x00\x06MQIsdp", "mqtt", id="MQTT 3.1, longest length"),
    pytest.param(b"\x30\x0c\x02\x01\x01\x60", "ldap", id="LDAP bind"),
    pytest.param(b"\x30\x84\x00\x00\x00\x2a\x02\x01\x01\x63", "ldap", id="LDAP search, length in five bytes"),
    pytest.param(b"\x00\x00\x00\x08\x04\xd2\x16\x2f", "postgresql", id="PostgreSQL SSLRequest"),
    pytest.param(b"\x00\x00\x00\x10\x04\xd2\x16\x2e", "postgresql", id="PostgreSQL CancelRequest"),
    pytest.param(b"\x00\x00\x01\x0c\x04\xd2\x16\x2e", "postgresql", id="PostgreSQL CancelRequest with a long key"),
    pytest.param(b"\x00\x00\x00\x54\x00\x03\x00\x00", "postgresql", id="PostgreSQL StartupMessage"),
    pytest.param(b"\x00\x00\x00\xd4\xfeSMB", "smb", id="SMB 2"),
    pytest.param(b"\x00\x0e\x38abcdefgh\x00\x00\x00\x00\x00", "openvpn", id="OpenVPN"),
    pytest.param(b"\x00\x1d\xab\xcd\x01\x00\x00\x01", "dns", id="DNS"),
    *(pytest.param(method + b" ", "http/1", id=method.decode()) for method in sorted(METHODS - SIP_TOO)),
]

STRANGERS = [  # what nobody opens with, up to the byte that shows it
    pytest.param(b"\x15", id="a TLS alert"),
    pytest.param(b"\x16\x02", id="a TLS record of a wrong major version"),
    pytest.param(b"\x16\x03\x05", id="a TLS record of a wrong minor version"),
    pytest.param(b"\x16\x03\x01\x49", id="a TLS record that is far too long"),
    pytest.param(b"\x16\x03\x01\x48\x01", id="a TLS record that is too long by one"),
    pytest.param(b"\x16\x03\x01\x00\x00", id="an empty TLS record"),
    pytest.param(b"\x16\x03\x01\x02\x00\x02", id="a TLS record with another message"),
    pytest.param(b"\x80\x08", id="an SSLv2 hello that is too short"),
    pytest.param(b"\x80\x2e\x02", id="another message of SSLv2"),
    pytest.param(b"\x80\x2e\x01\x02", id="an SSLv2 hello of version 2.x"),
    pytest.param(b"\x80\x2e\x01\x00\x03", id="an SSLv2 hello of version 0.3"),
    pytest.param(b"\x80\x2e\x01\x03\x05", id="an SSLv2 hello of version 3.5"),
    pytest.param(b"\x05\x00", id="SOCKS 5 without methods"),
    pytest.param(b"\x04\x03", id="a command that SOCKS 4 does not have"),
    pytest.param(b"\x04\x01\x00\x50\xc0\x00\x02\x01" + b"u" * 256, id="a user id without an end"),
    pytest.param(b"g", id="a method in lower case"),
    pytest.param(b"GET\r", id="a method without a space"),
    pytest.param(b"GETS \r", id="no known method and no target"),
    pytest.param(b"PRI * HTTP/1", id="no known method and an asterisk"),
    pytest.param(b"EHLO m", id="SMTP"),
    pytest.param(b"EHLO http.", id="SMTP from a host named http"),
    pytest.param(b"ABCDEFGHIJKLMNOPQRSTUVWXY", id="a method of 25 bytes"),
    pytest.param(b"\x03\x00\x00\x2b\x26\xd0", id="TPKT without a connection request"),
    pytest.param(b"\x10\xff\xff\xff\xff", id="MQTT whose length does not end"),
    pytest.param(b"\x10\x16\x00\x05", id="MQTT of another name"),
    pytest.param(b"\x30\x85", id="BER with a length of six bytes"),
    pytest.param(b"\x00\x1d\xab\xcd\x01\x00\x00\x02", id="DNS with two questions"),
    pytest.param(b"\x7f", id="no opening at all"),
]

SHARED = [b"220 ", b"220-"]
GREETED = [
    *(pytest.param(text, "smtp", id=repr(text)) for text in SHARED),
    pytest.param(b"+OK", "pop3", id="POP3"),
    pytest.param(b"* OK", "imap", id="IMAP"),
    pytest.param(b"* PREAUTH", "imap", id="IMAP, known already"),
    pytest.param(b"* BYE", "imap", id="IMAP, refused"),
    pytest.param(b"200 ", "nntp", id="NNTP"),
    pytest.param(b'"IMPLEMENTATION"', "sieve", id="ManageSieve"),
    pytest.param(b"SSH-", "ssh", id="SSH"),
    pytest.param(b"RFB ", "vnc", id="VNC"),
    pytest.param(b"\x4a\x00\x00\x00\x0a", "mysql", id="MySQL"),
    pytest.param(b"\xff\xfd", "telnet", id="telnet"),
]

streams = st.one_of(
    st.binary(max_size=300),
    st.builds(bytes.__add__, st.sampled_from([each.values[0] for each in OPENINGS]), st.binary(max_size=300)),
    st.builds(
        lambda opening, end, tail: opening[:end] + tail,
        st.sampled_from([each.values[0] for each in OPENINGS]),
        st.integers(0, 24),
        st.binary(max_size=300),
    ),
)


def named(head: bytes, signatures: tuple[Signature, ...] = SIGNATURES) -> tuple[Answer, str | None]:
    answer, signature = judge_all(head, signatures)
    return answer, signature.name if signature is not None else None


@pytest.mark.parametrize(("opening", "name"), OPENINGS)
def test_an_opening_is_recognised_from_its_last_telling_byte_and_not_before(opening: bytes, name: str) -> None:
    assert {judge_all(opening[:end])[0] for end in range(len(opening))} == {Answer.MORE}
    assert named(opening) == (Answer.MATCH, name)
    assert named(opening + b"\x00\xff" * 2048) == (Answer.MATCH, name)


@pytest.mark.parametrize("stranger", STRANGERS)
def test_a_stranger_is_refused_by_all_at_its_first_wrong_byte(stranger: bytes) -> None:
    assert {judge_all(stranger[:end])[0] for end in range(len(stranger))} == {Answer.MORE}
    assert named(stranger) == (Answer.NO, None)
    assert named(stranger + b"GET / HTTP/1.1\r\n") == (Answer.NO, None)


@pytest.mark.parametrize("method", sorted(SIP_TOO))
def test_a_method_that_sip_shares_is_http_as_soon_as_the_target_says_so(method: bytes) -> None:
    assert judge_all(method + b" ")[0] is Answer.MORE
    assert named(method + b" /") == (Answer.MATCH, "http/1")


@pytest.mark.parametrize("end", range(len(PREFACE) + 1))
def test_the_preface_of_http_2_is_never_taken_for_another_protocol(end: int) -> None:
    assert named(PREFACE[:end])[0] is (Answer.MATCH if end == len(PREFACE) else Answer.MORE)
    if end > 1:
        assert named(PREFACE[:end])[1] == "http/2"


def test_one_byte_of_a_request_is_no_reason_to_decide() -> None:
    assert named(b"G")[0] is Answer.MORE
    assert named(b"GET ") == (Answer.MATCH, "http/1")


@pytest.mark.parametrize(("greeting", "name"), GREETED)
def test_a_greeting_is_recognised_from_its_last_telling_byte_and_not_before(greeting: bytes, name: str) -> None:
    assert {judge_all(greeting[:end], GREETINGS)[0] for end in range(len(greeting))} == {Answer.MORE}
    assert named(greeting, GREETINGS) == (Answer.MATCH, name)


@given(streams)
def test_whoever_said_no_or_match_says_so_whatever_follows(stream: bytes) -> None:
    for signature in (*SIGNATURES, *GREETINGS):
        before = Answer.MORE
        for end in range(len(stream) + 1):
            answer = signature.judge(stream[:end])
            assert before in (Answer.MORE, answer), f"{signature.name} changed its mind at byte {end}"
            before = answer


@given(st.sampled_from([each.values[0] for each in OPENINGS]), st.binary(min_size=264, max_size=300))
def test_264_bytes_are_enough_for_everybody(opening: bytes, rest: bytes) -> None:
    for signature in SIGNATURES:
        assert signature.judge(opening + rest) is not Answer.MORE
        assert signature.judge(opening[:9] + rest.replace(b"\x00", b" ")) is not Answer.MORE


def test_lines_in_front_of_the_table_are_judged_first() -> None:
    mine = Signature("mine", literal(b"GET /mine"), "my own protocol")
    table = (mine, *SIGNATURES)
    assert named(b"GET /min", table) == (Answer.MORE, "mine")
    assert named(b"GET /mine", table) == (Answer.MATCH, "mine")
    assert named(b"GET /mint", table) == (Answer.MATCH, "http/1")


def test_an_empty_table_says_no() -> None:
    assert judge_all(b"GET ", ()) == (Answer.NO, None)


def test_a_shape_lists_the_values_of_each_position() -> None:
    judge = shape([1], range(2, 4))
    assert [judge(head) for head in (b"", b"\x01", b"\x01\x03", b"\x01\x03\x09")] == [
        Answer.MORE,
        Answer.MORE,
        Answer.MATCH,
        Answer.MATCH,
    ]
    assert [judge(head) for head in (b"\x02", b"\x01\x04")] == [Answer.NO, Answer.NO]


def test_alternatives_wait_for_the_last_that_may_still_match() -> None:
    judge = either(literal(b"ab"), literal(b"acd", b"x"))
    assert [judge(head) for head in (b"a", b"ab", b"ac", b"x", b"ad")] == [
        Answer.MORE,
        Answer.MATCH,
        Answer.MORE,
        Answer.MATCH,
        Answer.NO,
    ]


def test_a_request_without_targets_takes_any() -> None:
    judge = request([b"DO", b"DONE"])
    assert [judge(head) for head in (b"DO", b"DO ", b"DON", b"DON ", b"DONE x", b"DONER")] == [
        Answer.MORE,
        Answer.MATCH,
        Answer.MORE,
        Answer.NO,
        Answer.MATCH,
        Answer.NO,
    ]

"""Messages out of a stream: the same however it is cut, bounded, and nothing that is no message passes for one."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslintercept.dialogue.framing import (
    BerMessages,
    Broken,
    LiteralLines,
    MysqlPackets,
    SingleBytes,
    Splitter,
    Stanzas,
    StartupPackets,
)

Make = Callable[[], Splitter]

STREAM = b"<stream:stream xmlns='jabber:client' to=\"a>b'c\" version='1.0'>"

GOOD = [  # who splits, the messages, and what is left
    pytest.param(BerMessages, [b"\x30\x05\x02\x01\x01\x42\x00"], b"\x30", id="LDAP"),
    pytest.param(
        BerMessages, [b"\x30\x00", b"\x30\x81\x03abc", b"\x30\x00"], b"\x30\x84\x00", id="LDAP, one byte more"
    ),
    pytest.param(BerMessages, [b"\x30\x84\x00\x00\x00\x03abc", b"\x30\x82\x00\x80" + b"x" * 128], b"", id="LDAP, four"),
    pytest.param(
        StartupPackets,
        [b"\x00\x00\x00\x08\x04\xd2\x16\x2f", b"\x00\x00\x00\x09\x00\x03\x00\x00\x00"],
        b"\x00",
        id="PostgreSQL",
    ),
    pytest.param(SingleBytes, [b"N", b"S"], b"", id="PostgreSQL's answers"),
    pytest.param(
        MysqlPackets,
        [b"\x01\x00\x00\x00x", b"\x00\x00\x00\x01", b"\x00\x01\x00\x02" + b"y" * 256],
        b"\x01\x00\x00\x03",
        id="MySQL",
    ),
    pytest.param(LiteralLines, [b'"STARTTLS"\r\n', b"OK\r\n", b"\r\n", b"bare\n"], b"half", id="ManageSieve"),
    pytest.param(
        LiteralLines,
        [
            b'PUT "a" {7+}\r\nx\r\n{5+}\r\n',
            b'A {3}\r\n\r\n{ {0+}\r\n {2+}\r\nab "c"\r\n',
            b"B {99 \r\n",
            b'C "{1+}"\r\n',
        ],
        b"D {3+}\r\nab",
        id="ManageSieve with literals",
    ),
    pytest.param(LiteralLines, [b"A {2+}\r\n{5+}\r\n"], b"", id="ManageSieve, content that looks half a literal"),
    pytest.param(
        Stanzas,
        [
            b"<?xml version='1.0'?>",
            b"\n",
            STREAM,
            b"<a/>",
            b" ",
            b"<b c='/>' d=\"'\"><b>t]]></b><x/>\n<y></y></b>",
            b"</stream:stream >",
            b"\n",
        ],
        b"",
        id="XMPP",
    ),
    pytest.param(
        Stanzas,
        [STREAM, b"<a><![CDATA[<b></a>]] ]>]]]></a>", b"<\xc3\xa4/>", b"<_:x >&lt;</_:x>"],
        b"<z><![CD",
        id="XMPP, CDATA",
    ),
    pytest.param(Stanzas, [STREAM, b"<a\n\tb='c'\n/>"], b"<z y='>/", id="XMPP, white space in a tag"),
]

BAD = [  # who splits, what passes, and what is broken at its last byte and not earlier
    pytest.param(BerMessages, b"\x30\x00", b"\x16", id="no sequence"),
    pytest.param(BerMessages, b"", b"\x30\x80", id="an indefinite length"),
    pytest.param(BerMessages, b"", b"\x30\x85", id="a length of five bytes"),
    pytest.param(BerMessages, b"", b"\x30\x84\x00\x10\x00\x00", id="a long message of LDAP"),
    pytest.param(StartupPackets, b"", b"\x00\x00\x00\x07", id="a short start of PostgreSQL"),
    pytest.param(StartupPackets, b"", b"\x16\x03\x01\x02", id="TLS"),
    pytest.param(StartupPackets, b"", b"\x00\x00\x27\x11", id="a long start of PostgreSQL"),
    pytest.param(MysqlPackets, b"", b"\xff\xff\xff\x00", id="a long packet of MySQL"),
    pytest.param(LiteralLines, b"", b"a" * 65536, id="a long line"),
    pytest.param(LiteralLines, b"OK\r\n", b"a {65536+}\r\n", id="a long literal"),
    pytest.param(LiteralLines, b"", b"a {9999999999}\r\n", id="a very long literal"),
    pytest.param(Stanzas, b"", b"x", id="no XML"),
    pytest.param(Stanzas, b"", b"</", id="an end without a beginning"),
    pytest.param(Stanzas, b"", b"<a/>", id="a stream that begins and ends in one tag"),
    pytest.param(Stanzas, b"", b"<!", id="a document type"),
    pytest.param(Stanzas, b"", b"<?xsl?>", id="another processing instruction"),
    pytest.param(Stanzas, b"", b"< ", id="a tag without a name"),
    pytest.param(Stanzas, b"", b"<" + b"a" * 65535, id="a long tag"),
    pytest.param(Stanzas, STREAM, b"x", id="text between elements"),
    pytest.param(Stanzas, STREAM, b"<!", id="a comment between elements"),
    pytest.param(Stanzas, STREAM, b"<?", id="a declaration inside of a stream"),
    pytest.param(Stanzas, STREAM, b"<a><!-", id="a comment"),
    pytest.param(Stanzas, STREAM, b"<a><![CDATX", id="nearly CDATA"),
    pytest.param(Stanzas, STREAM, b"<a><?", id="a processing instruction in an element"),
    pytest.param(Stanzas, STREAM, b"<a b='<", id="a < in quotes"),
    pytest.param(Stanzas, STREAM, b"<a <", id="a < in a tag"),
    pytest.param(Stanzas, STREAM, b"<a></a/>", id="an end that is a beginning"),
    pytest.param(Stanzas, STREAM, b"<a>" + b"x" * 65533, id="a long element"),
    pytest.param(Stanzas, STREAM + b"</stream:stream>", b"<", id="something behind the stream"),
]


def taken(splitter: Splitter) -> list[bytes]:
    """Every whole message that is there."""
    found = []
    while (message := splitter.next()) is not None:
        found.append(message)
    return found


@pytest.mark.parametrize(("make", "messages", "left"), GOOD)
def test_messages_are_the_same_in_pieces_of_every_size(make: Make, messages: list[bytes], left: bytes) -> None:
    text = b"".join(messages) + left
    for size in (*range(1, 20), len(text)):
        splitter, found = make(), []
        for at in range(0, len(text), size):
            splitter.feed(text[at : at + size])
            found += taken(splitter)
        assert found == messages
        assert len(splitter) == len(left)
        assert splitter.rest() == left
        assert len(splitter) == 0


@pytest.mark.parametrize(("make", "messages", "left"), GOOD)
def test_messages_are_the_same_at_every_cut(make: Make, messages: list[bytes], left: bytes) -> None:
    text = b"".join(messages) + left
    for cut in range(len(text)):
        splitter = make()
        splitter.feed(text[:cut])
        found = taken(splitter)
        splitter.feed(text[cut:])
        assert found + taken(splitter) == messages


@pytest.mark.parametrize(("make", "messages", "left"), GOOD)
def test_what_was_not_asked_for_is_part_of_the_rest(make: Make, messages: list[bytes], left: bytes) -> None:
    text = b"".join(messages) + left
    splitter = make()
    splitter.feed(text)
    assert splitter.next() == messages[0]
    assert len(splitter) == len(text) - len(messages[0])
    assert splitter.rest() == text[len(messages[0]) :]


@pytest.mark.parametrize(("make", "good", "bad"), BAD)
def test_what_is_broken_is_broken_at_its_last_byte(make: Make, good: bytes, bad: bytes) -> None:
    splitter = make()
    splitter.feed(good + bad[:-1])
    assert b"".join(taken(splitter)) == good
    splitter.feed(bad[-1:])
    with pytest.raises(Broken):
        splitter.next()
    assert splitter.rest() == bad


@pytest.mark.parametrize(("make", "good", "bad"), BAD)
def test_what_is_broken_is_broken_when_it_comes_at_once(make: Make, good: bytes, bad: bytes) -> None:
    splitter = make()
    splitter.feed(good + bad)
    with pytest.raises(Broken):
        taken(splitter)
    assert splitter.rest() == bad


def test_white_space_between_elements_has_no_limit() -> None:
    splitter = Stanzas()
    splitter.feed(STREAM + b" " * 100_000)
    assert b"".join(taken(splitter)) == STREAM + b" " * 100_000


def test_a_long_element_in_single_bytes_takes_linear_time() -> None:
    splitter = Stanzas()
    splitter.feed(STREAM)
    text = b"<a b='" + b"x" * 20_000 + b"'>" + b"y" * 20_000 + b"<![CDATA[" + b"z" * 20_000
    for byte in text:
        splitter.feed(bytes((byte,)))
        assert splitter.next() in (None, STREAM)
    assert splitter.rest() == text


@given(
    st.sampled_from([BerMessages, StartupPackets, SingleBytes, MysqlPackets, LiteralLines, Stanzas]),
    st.lists(
        st.binary(max_size=8)
        | st.sampled_from(
            [STREAM, b"<a>", b"</a>", b"<![CDATA[", b"]]>", b"'", b"{3+}\r\n", b"\x30\x03abc", b"\x00\x00\x00\x09"]
        ),
        max_size=30,
    ),
)
def test_no_bytes_are_lost_and_cuts_change_nothing(make: Make, pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    results = []
    for parts in ([whole], pieces, [bytes((byte,)) for byte in whole]):
        splitter, found, broken = make(), [], False
        for part in parts:
            splitter.feed(part)
            try:
                while not broken and (message := splitter.next()) is not None:
                    found.append(message)
            except Broken:
                broken = True
        assert b"".join(found) + splitter.rest() == whole
        results.append((b"".join(found) if make is Stanzas else found, broken))
    assert results[0] == results[1] == results[2]

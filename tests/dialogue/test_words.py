"""What clients of mail and FTP are told of an inspection."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as some

from sslintercept.dialogue.words import MOST_LINE, refusal

PROTOCOLS = ("smtp", "lmtp", "pop3", "imap", "ftp")


@pytest.mark.parametrize(
    ("protocol", "category", "line"),
    [
        ("smtp", "malware", b"554 5.7.1 Malware found (event e-17)\r\n"),
        ("lmtp", "leak", b"554 5.7.1 Confidential content must not leave this network (event e-17)\r\n"),
        ("smtp", "failure", b"451 4.7.1 It could not be inspected, try again later (event e-17)\r\n"),
        ("pop3", "phishing", b"-ERR [SYS/PERM] Phishing found (event e-17)\r\n"),
        ("pop3", "failure", b"-ERR [SYS/TEMP] It could not be inspected, try again later (event e-17)\r\n"),
        ("imap", "malware", b"NO [CONTACTADMIN] Malware found (event e-17)\r\n"),
        ("imap", "failure", b"NO [UNAVAILABLE] It could not be inspected, try again later (event e-17)\r\n"),
        ("ftp", "site", b"550 Blocked by the policy of this network (event e-17)\r\n"),
        ("ftp", "failure", b"451 It could not be inspected, try again later (event e-17)\r\n"),
    ],
)
def test_a_refusal_is_a_reply_of_its_protocol(protocol: str, category: str, line: bytes) -> None:
    assert refusal(protocol, category, "e-17") == line


def test_a_word_of_a_plugin_is_named() -> None:
    assert refusal("smtp", "watermark", "7") == b"554 5.7.1 Blocked (watermark) (event 7)\r\n"
    assert refusal("smtp", "", "") == b"554 5.7.1 Blocked (policy)\r\n"


def test_nothing_ends_the_line_early() -> None:
    line = refusal("smtp", "x\r\n250 Ok", "1\r\nRSET\r\n")
    assert line == b"554 5.7.1 Blocked (x??250?Ok) (event 1??RSET??)\r\n"


@given(some.sampled_from(PROTOCOLS), some.text(max_size=300), some.text(max_size=300))
def test_whatever_the_words_are_it_is_one_short_line_of_ascii(protocol: str, category: str, event: str) -> None:
    assert re.fullmatch(rb"[\x20-\x7e]+\r\n", line := refusal(protocol, category, event))
    assert len(line) <= MOST_LINE


def test_a_protocol_that_has_no_such_reply_is_refused() -> None:
    with pytest.raises(KeyError):
        refusal("ssh", "malware", "1")

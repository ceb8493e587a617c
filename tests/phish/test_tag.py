from __future__ import annotations

from email import message_from_bytes, policy
from email.header import decode_header, make_header

import pytest

from sslintercept.phish.tag import FIELD, marks, tagged

PREFIX = "[SUSPICIOUS]"
MARK = [marks(75, ["sender-alike", "login-away"])]


def subject(message: bytes) -> str:
    return str(make_header(decode_header(message_from_bytes(message)["Subject"]))).replace("\r\n", "").replace("\n", "")


VARIANTS = [
    (b"Subject: hello\r\nFrom: a@b.example\r\n\r\nbody\r\n", "[SUSPICIOUS] hello"),
    (b"From: a@b.example\r\nsubject:hello\r\n\r\nbody\r\n", "[SUSPICIOUS] hello"),
    (b"From: a@b.example\nSubject: hello\n\nbody\n", "[SUSPICIOUS] hello"),
    (b"Subject: =?utf-8?b?w7xiZXI=?= uns\r\n\r\nbody", "[SUSPICIOUS] über uns"),
    (b"Subject: =?utf-8?q?=C3=BCber?=\r\n =?utf-8?q?_uns?=\r\n\r\nbody", "[SUSPICIOUS] über uns"),
    (b"Subject:\r\n hello\r\n there\r\n\r\nbody", "[SUSPICIOUS] hello there"),
    (b"Subject: hello\r\n\tthere\r\n\r\nbody", "[SUSPICIOUS] hello\tthere"),
    (b"Subject: [SUSPICIOUS] hello\r\n\r\nbody", "[SUSPICIOUS] hello"),
    (b"Subject: [SUSPICIOUS]\r\n\r\nbody", "[SUSPICIOUS]"),
    (b"Subject:\r\n\r\nbody", "[SUSPICIOUS]"),
    (b"Subject: [SUSPICIOUS]hello\r\n\r\nbody", "[SUSPICIOUS] [SUSPICIOUS]hello"),
    (b"From: a@b.example\r\n\r\nSubject: no field\r\n", "[SUSPICIOUS]"),
    (b"Subject: " + b"word " * 30 + b"end\r\n\r\nbody", "[SUSPICIOUS] " + "word " * 30 + "end"),
    (b"Subject: last line", "[SUSPICIOUS] last line"),
]


@pytest.mark.parametrize(("message", "expected"), VARIANTS)
def test_the_subject_has_the_prefix_once_and_the_rest_stays(message: bytes, expected: str) -> None:
    made = tagged(message, PREFIX, MARK)
    assert subject(made) == expected
    assert message_from_bytes(made)[FIELD] == "score=75; reasons=sender-alike, login-away"
    assert (
        made.partition(b"\r\n\r\n" if b"\r\n\r\n" in message else b"\n\n")[2]
        == (message.partition(b"\r\n\r\n" if b"\r\n\r\n" in message else b"\n\n")[2])
    )
    assert subject(tagged(made, PREFIX, MARK)) == expected
    assert len(message_from_bytes(tagged(made, PREFIX, MARK)).get_all(FIELD, [])) == 1


@pytest.mark.parametrize(("message", "expected"), VARIANTS)
def test_lines_end_as_they_did(message: bytes, expected: str) -> None:
    made = tagged(message, PREFIX, MARK)
    if b"\r\n" in message or b"\n" not in message:
        assert made.count(b"\n") == made.count(b"\r\n")
    else:
        assert b"\r" not in made


def test_8_bit_fields_stay_what_they_are() -> None:
    made = tagged("Subject: über\r\nFrom: Ä <a@b.example>\r\n\r\nü".encode(), PREFIX, MARK)
    assert "\r\nSubject: [SUSPICIOUS] über\r\nFrom: Ä <a@b.example>\r\n\r\nü".encode() in made


def test_a_prefix_outside_ascii_is_an_encoded_word() -> None:
    made = tagged(b"Subject: =?utf-8?b?w7xiZXI=?=\r\n\r\nx", "[VERDÄCHTIG]", MARK)
    assert made.isascii()
    assert subject(made) == "[VERDÄCHTIG] über"
    assert tagged(made, "[VERDÄCHTIG]", MARK).count(b"Subject: =?utf-8?b?W1ZFUkTDhENIVElHXSA=?= ") == 1


def test_without_a_prefix_the_subject_stays_alone() -> None:
    assert tagged(b"Subject: x\r\n\r\ny", "", MARK).endswith(b"\r\nSubject: x\r\n\r\ny")
    assert b"Subject" not in tagged(b"From: x@y.example\r\n\r\ny", "", MARK)


@pytest.mark.parametrize(
    "forged",
    [
        b"X-Sslintercept-Phishing: score=0\r\n",
        b"x-SSLINTERCEPT-phishing : score=0\r\n",
        b"X-Sslintercept-Other:\r\n score=0\r\n\tand more\r\n",
        b"Comment: a\rX-Sslintercept-Phishing: score=0\r\n",
        b"no field at all\r\nX-Sslintercept-Phishing: score=0\r\n",
        b"A: b\nX-Sslintercept-Phishing: score=0\n",
    ],
)
def test_fields_that_are_ours_and_came_with_it_go(forged: bytes) -> None:
    made = tagged(
        b"From: a@b.example\r\n" + forged + b"Subject: x\r\n\r\nX-Sslintercept-Phishing: body\r\n", PREFIX, MARK
    )
    head, _, body = made.partition(b"\r\n\r\n")
    assert b"score=0" not in head
    assert b"and more" not in head
    assert b"[SUSPICIOUS] x" in head
    assert body == b"X-Sslintercept-Phishing: body\r\n"


@pytest.mark.parametrize("body", [b"", b"just text\r\n", b"\r\nbody\r\n", b"\nbody\n", b"a line\nanother\n"])
def test_a_body_without_a_head_gets_one(body: bytes) -> None:
    made = tagged(body, PREFIX, MARK)
    message = message_from_bytes(made)
    assert message[FIELD].startswith("score=75")
    assert message["Subject"] == PREFIX
    assert message.get_payload() == body.decode().removeprefix("\r\n").removeprefix("\n")


def test_a_blank_in_front_of_the_colon_hides_no_subject() -> None:
    assert tagged(b"Subject : x\n\n", PREFIX, []) == b"Subject : [SUSPICIOUS] x\n\n"


def test_every_subject_is_marked_for_readers_differ_in_which_one_they_show() -> None:
    assert tagged(b"Subject: a\r\nSubject: b\r\n\r\n", PREFIX, []) == (
        b"Subject: [SUSPICIOUS] a\r\nSubject: [SUSPICIOUS] b\r\n\r\n"
    )


def test_a_value_cannot_bring_a_field_of_its_own() -> None:
    made = tagged(b"Subject: x\r\n\r\n", "a\r\nBcc: b", [(FIELD, "a\r\nBcc: evil@example.com\x00ü")])
    message = message_from_bytes(made, policy=policy.default)
    assert message["Bcc"] is None
    assert str(message["Subject"]) == "a??Bcc: b x"


def test_a_long_field_is_folded_and_no_line_is_too_long() -> None:
    made = tagged(b"Subject: x\r\n\r\n", "", [marks(100, [f"reason-number-{number}" for number in range(40)])])
    assert max(map(len, made.split(b"\r\n"))) <= 78
    assert " ".join(message_from_bytes(made)[FIELD].split()).count("reason-number") == 40


def test_marking_at_every_cut_of_a_message_breaks_nothing() -> None:
    message = VARIANTS[4][0]
    for cut in range(len(message) + 1):
        made = tagged(message[:cut], PREFIX, MARK)
        assert message_from_bytes(made)[FIELD].startswith("score=75")
        assert made.count(b"[SUSPICIOUS]") == 1

"""Mails and forms: parts, headers, charsets, and those that lie."""

from __future__ import annotations

import base64
import time
from email.message import EmailMessage

import pytest

from sslintercept.unpack import mail
from tests.unpack.make import EICAR, zipped
from tests.unpack.tools import Found


def opened(source: bytes, **limits: int) -> Found:
    return Found(source.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"), limits, media_type="message/rfc822")


def test_a_mail_as_programs_write_it_comes_apart() -> None:
    message = EmailMessage()
    message["From"] = "Jürgen <a@example.org>"
    message["Subject"] = "Grüße an " + "x" * 100
    message.set_content("Plain: ä and €\n")
    message.add_alternative("<p>Rich: <b>b</b>&auml;</p>", subtype="html")
    message.add_attachment(zipped({"eicar.com": EICAR}), maintype="application", subtype="zip", filename="ü.zip")
    inner = EmailMessage()
    inner["Subject"] = "Inside"
    inner.set_content("Deep")
    message.add_attachment(inner)
    found = Found(bytes(message), media_type="message/rfc822")
    headers = found.items[0]
    assert headers.meta["kind"] == "headers"
    assert "From: Jürgen <a@example.org>" in headers.content.decode()
    assert "Subject: Grüße an " + "x" * 100 in headers.content.decode().replace("\n ", " ")
    assert "Plain: ä and €" in found.texts()
    assert "Rich: bä" in found.texts()
    assert found.contents()["ü.zip > eicar.com"] == EICAR
    assert b"Subject: Inside" in found.contents()["message/rfc822 > headers"]
    assert "Deep" in found.texts()
    assert not found.notes


def test_ends_of_lines_may_be_of_any_kind() -> None:
    source = b"Subject: x\n\nbody"
    for end in (b"\n", b"\r\n", b"\r"):
        found = Found(source.replace(b"\n", end), media_type="message/rfc822")
        assert found.texts() == "body"
        assert found.items[0].content == b"Subject: x\n"


def test_ten_thousand_parts_are_read_in_time_and_more_are_counted() -> None:
    part = b"--q\nContent-Disposition: attachment; filename=a.txt\n\nx\n"
    begun = time.process_time()
    found = opened(b"Content-Type: multipart/mixed; boundary=q\n\n" + part * 10_000 + b"--q--\n")
    assert found.end["members"] == 10_000
    assert found.notes == {"entries"}
    assert time.process_time() - begun < 15
    assert opened(b"Content-Type: multipart/mixed; boundary=q\n\n" + part * 9_000 + b"--q--\n").end["members"] == 9001


def test_parts_inside_each_other_end_at_the_limit() -> None:
    source = b"".join(b"Content-Type: multipart/mixed; boundary=q%d\n\n--q%d\n" % (n, n) for n in range(50))
    found = opened(source + b"\nleaf")
    assert "depth" in found.notes
    assert b"leaf" in found.items[-1].content


def test_mails_inside_each_other_end_at_the_limit() -> None:
    found = opened(b"Content-Type: message/rfc822\n\n" * 50 + b"\nleaf")
    assert "depth" in found.notes
    assert b"leaf" in found.items[-1].content


@pytest.mark.parametrize(
    ("charset", "body", "text"),
    [
        ("utf-16", b"plain ASCII all along", "plain ASCII all along"),
        ("utf-32-be", b"plain", "plain"),
        ("us-ascii", "Grüße".encode(), "Grüße"),
        ("us-ascii", "Grüße".encode("cp1252"), "Grüße"),
        ("utf-8", "Grüße".encode("cp1252"), "Gr\ufffd\ufffde"),
        ("nonsense", b"plain", "plain"),
        ("cp037", b"plain", "plain"),
        ("rot13", b"plain", "plain"),
        ("hex", b"6162", "6162"),
        ("iso-8859-1", b"\xff\xfe" + "wide".encode("utf-16-le"), "wide"),
        ("iso-8859-1", "wide text".encode("utf-16-be"), "wide text"),
        ("x" * 5000, b"plain", "plain"),
    ],
)
def test_charsets_that_lie_are_noted_and_seen_through(charset: str, body: bytes, text: str) -> None:
    found = Found(
        b"Content-Type: text/plain; charset=" + charset.encode() + b"\r\n\r\n" + body, media_type="message/rfc822"
    )
    assert found.contents()["text/plain"].decode().replace("\ufffd", "?") == text.replace("\ufffd", "?")
    assert "charset" in found.notes or len(charset) > 1000


@pytest.mark.parametrize(
    ("charset", "body", "text"),
    [
        ("utf-7", b"+AOQ-", "ä"),
        ("utf-16", "Привет, мир".encode("utf-16"), "Привет, мир"),
        ("utf-16le", "Grüße".encode("utf-16-le"), "Grüße"),
        ("koi8-r", "Привет".encode("koi8-r"), "Привет"),
        ("iso-2022-jp", "日本".encode("iso-2022-jp"), "日本"),
        ("gb18030", "中文".encode("gb18030"), "中文"),
        ('"UTF-8"', "ä".encode(), "ä"),
    ],
)
def test_charsets_that_are_true_have_no_note(charset: str, body: bytes, text: str) -> None:
    found = Found(
        b"Content-Type: text/plain; charset=" + charset.encode() + b"\r\n\r\n" + body, media_type="message/rfc822"
    )
    assert found.contents()["text/plain"].decode() == text
    assert not found.notes


class TestTransferEncodings:
    def part(self, how: str, body: bytes) -> Found:
        return opened(b"Content-Type: application/x-y\nContent-Transfer-Encoding: " + how.encode() + b"\n\n" + body)

    @pytest.mark.parametrize(
        ("how", "body", "content", "notes"),
        [
            ("base64", base64.encodebytes(EICAR), EICAR, set()),
            ("BASE64", b"!" + base64.b64encode(EICAR)[:50] + b"\n*\n" + base64.b64encode(EICAR)[50:], EICAR, set()),
            ("base64", base64.b64encode(b"a") + base64.b64encode(b"hidden"), b"ahidden", {"lies"}),
            ("base64", base64.b64encode(b"abcd")[:5], b"abc", {"truncated"}),
            ("quoted-printable", b"=41=4", b"A=4", set()),
            ("quoted-printable", b"a=\nb", b"ab", set()),
            ("8bit", b"\xff", b"\xff", set()),
            ("x-own", b"abc", b"abc", {"rubbish"}),
            ("uuencode", b"begin 644 a\n#86)C\n`\nend\n", b"abc", set()),
        ],
    )
    def test_content_is_decoded(self, how: str, body: bytes, content: bytes, notes: set[str]) -> None:
        found = self.part(how, body)
        assert found.contents()["application/x-y"].rstrip(b"\r\n") == content
        assert found.notes == notes


class TestBoundaries:
    def test_one_that_does_not_occur_is_guessed(self) -> None:
        found = opened(b"Content-Type: multipart/mixed; boundary=other\n\n--q\n\nbody\n--q--\n")
        assert found.contents()["text/plain"] == b"body"
        assert found.notes == {"lies"}

    def test_one_that_was_not_told_is_guessed(self) -> None:
        assert opened(b"Content-Type: multipart/mixed\n\n--q\n\nbody\n--q--\n").contents()["text/plain"] == b"body"

    def test_one_that_never_comes_leaves_everything_as_text(self) -> None:
        found = opened(b"Content-Type: multipart/mixed; boundary=q\n\nbody")
        assert found.texts() == "body"
        assert found.notes == {"truncated"}

    def test_what_stands_around_the_parts_comes_out(self) -> None:
        found = opened(b"Content-Type: multipart/mixed; boundary=q\n\nbefore\n--q\n\nbody\n--q--\nbehind\n")
        assert [item.content.strip() for item in found.items[1:]] == [b"before", b"body", b"behind"]

    def test_one_that_begins_as_another_is_not_it(self) -> None:
        found = opened(b"Content-Type: multipart/mixed; boundary=q\n\n--q\n\n--qq\nbody\n--q--\n")
        assert found.contents()["text/plain"] == b"--qq\r\nbody"

    def test_parts_without_anything_are_parts(self) -> None:
        found = opened(b"Content-Type: multipart/mixed; boundary=q\n\n--q\n--q\n\n--q--\n")
        assert [item.content for item in found.items[1:]] == [b"", b""]

    def test_the_last_one_may_be_missing(self) -> None:
        found = opened(b"Content-Type: multipart/mixed; boundary=q\n\n--q\n\nbody")
        assert found.contents()["text/plain"] == b"body"
        assert found.notes == {"truncated"}


class TestHeads:
    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ("=?utf-8?B?w6Q=?= =?utf-8?B?w7Y=?=", "äö"),
            ("=?iso-8859-1?Q?a_=E4?= plain", "a ä plain"),
            ("=?utf-8*de?Q?=C3=A4?=", "ä"),
            ("=?nonsense?Q?abc?=", "abc"),
            ("=?utf-8?B?w6Q", "=?utf-8?B?w6Q"),
            ("=?utf-16?Q?abc?=", "abc"),
        ],
    )
    def test_encoded_words_are_decoded(self, value: str, expected: str) -> None:
        assert mail.words(value) == expected

    @pytest.mark.parametrize(
        ("field", "name"),
        [
            ('attachment; filename="a b.txt"', "a b.txt"),
            ("attachment; filename*=utf-8''%C3%A4.txt", "ä.txt"),
            ("attachment; filename*0=long-; filename*1=name.txt", "long-name.txt"),
            ('attachment; filename="=?utf-8?B?w6Q=?=.txt"', "ä.txt"),
            ("attachment;\n filename=folded.txt", "folded.txt"),
            ("attachment; filename*=nonsense''%C3%A4", "ä"),
        ],
    )
    def test_names_of_files_are_read(self, field: str, name: str) -> None:
        found = opened(b"Content-Disposition: " + field.encode() + b"\n\nx")
        assert found.items[1].meta["name"] == name
        assert found.items[1].meta["kind"] == "attachment"

    @pytest.mark.parametrize(
        "head",
        [
            b"Content-Type: multipart/mixed" + b'; a="' * 50_000,
            b"Content-Type: " + b";" * 200_000,
            b"Content-Disposition: attachment; filename*" + b"0*=x; filename*" * 50_000,
            b"Subject: " + b"=?" * 200_000,
            b"Subject: " + b"=?utf-8?b?" * 50_000,
            b"X" * 400_000,
            b"X: y\n" * 100_000,
            b"Subject: x\n" + b" \n\ty" * 100_000,
            bytes(range(256)) * 100,
        ],
    )
    def test_heads_that_nobody_sends_honestly_are_read_in_time(self, head: bytes) -> None:
        begun = time.process_time()
        opened(head + b"\n\nbody")
        assert time.process_time() - begun < 3


class TestForms:
    def test_fields_and_files_come_with_their_names(self) -> None:
        source = (
            b'--b\r\nContent-Disposition: form-data; name="text"\r\n\r\nvalue\r\n--b\r\n'
            b'Content-Disposition: form-data; name="file"; filename="e.zip"\r\nContent-Type: application/zip\r\n\r\n'
            + zipped({"eicar.com": EICAR})
            + b"\r\n--b--\r\n"
        )
        for boundary in ("b", "", "lie"):
            found = Found(source, media_type="multipart/form-data", boundary=boundary)
            assert found.contents()["text"] == b"value"
            assert found.contents()["e.zip > eicar.com"] == EICAR
            assert [item.meta["kind"] for item in found.items] == ["field", "field", "member"]
            assert found.notes == ({"lies"} if boundary == "lie" else set())

    def test_it_is_the_same_at_every_cut_as_far_as_it_goes(self) -> None:
        source = b'--b\r\nContent-Disposition: form-data; name="t"\r\n\r\nvalue\r\n--b--\r\n'
        for cut in range(len(source)):
            found = Found(source[:cut], media_type="multipart/form-data")
            content = found.contents().get("t")
            assert content is None or b"value\r\n--b".startswith(content[:5])
            assert found.notes == {"truncated"} or cut >= len(source) - 2

    def test_urlencoded_fields_are_decoded(self) -> None:
        found = Found(b"a=1&b+c=%34111+x&&d&=e&%FF=%", media_type="application/x-www-form-urlencoded")
        assert [(item.meta["name"], item.content) for item in found.items] == [
            ("a", b"1"),
            ("b c", b"4111 x"),
            ("d", b""),
            ("field", b"e"),
            ("\ufffd", b"%"),
        ]

    def test_many_fields_are_counted(self) -> None:
        found = Found(b"a=1&" * 50_000, media_type="application/x-www-form-urlencoded")
        assert found.end["members"] == 10_000
        assert found.notes == {"entries"}
        assert not Found(b"&" * 1_000_000, media_type="application/x-www-form-urlencoded").items

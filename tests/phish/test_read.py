from __future__ import annotations

import json
import zipfile
from io import BytesIO
from typing import TypeVar

import pytest

from sslintercept.phish import read as reading
from sslintercept.phish.attachment import SIGNS as ODD
from sslintercept.phish.attachment import signs
from sslintercept.phish.observed import (
    KINDS,
    MOST_TEXT,
    Attachment,
    End,
    Form,
    Head,
    Link,
    Observation,
    Page,
    Script,
    Text,
    all_parsed,
    parsed,
    plain,
)
from sslintercept.phish.page import SIGNS, TooDeep, script_signs
from sslintercept.phish.place import NOWHERE, Place, place
from tests.phish.build import mail, seen

T = TypeVar("T", bound=Observation)


def only(kind: type[T], found: list[Observation]) -> list[T]:
    return [each for each in found if isinstance(each, kind)]


def page(html: str, url: str = "https://site.example/dir/") -> list[Observation]:
    return seen(html.encode(), kind="page", url=url)


def archive(*names: str, encrypted: bool = False) -> bytes:
    made = BytesIO()
    with zipfile.ZipFile(made, "w") as file:
        for name in names:
            file.writestr(name, b"x")
    content = bytearray(made.getvalue())
    if encrypted:
        content[content.find(b"PK\x01\x02") + 8] |= 1
    return bytes(content)


# heads


def test_the_head_of_a_mail_is_told() -> None:
    content = mail(
        sender='"=?utf-8?q?P=C3=A4yPal?= Service" <info@evil.example>',
        subject="=?utf-8?b?w7xiZXI=?=",
        Reply_To="Other <other@else.example>",
        Return_Path="<bounce@evil.example>",
        Sender="boss@evil.example",
        Authentication_Results="mx.example; spf=pass",
        List_Id="<list.example>",
        DKIM_Signature="v=1; a=rsa-sha256; d=evil.example; s=key1; h=from; bh=x; b=y",
    )
    (head,) = only(Head, seen(content))
    assert head.sender == "info@evil.example"
    assert head.senders == 1
    assert (head.reply, head.path, head.other) == ("other@else.example", "bounce@evil.example", "boss@evil.example")
    assert head.subject == "über"
    assert head.results == ("mx.example; spf=pass",)
    assert head.signers == ("key1 evil.example",)
    assert head.listed


@pytest.mark.parametrize(
    ("field", "display", "address", "count"),
    [
        (b"Alice <a@b.example>", "Alice", "a@b.example", 1),
        (b"a@b.example", "", "a@b.example", 1),
        (b"a@b.example (Alice)", "Alice", "a@b.example", 1),
        (b"=?utf-8?b?UGF5UGFs?= <a@b.example>", "PayPal", "a@b.example", 1),
        (b"=?nonsense?b?UGF5UGFs?= <a@b.example>", "=?nonsense?b?UGF5UGFs?=", "a@b.example", 1),
        (b'"x@paypal.com" <a@b.example>', "x@paypal.com", "a@b.example", 1),
        (b"a@b.example, c@d.example", "", "a@b.example", 2),
        (b"", "", "", 0),
        (b"\xc3\xa4 <a@b.example>", None, "a@b.example", 1),
    ],
)
def test_a_sender_is_read_as_people_would(field: bytes, display: str | None, address: str, count: int) -> None:
    (head,) = only(Head, seen(b"From: " + field + b"\r\n\r\nx"))
    assert (head.sender, head.senders) == (address, count)
    assert display is None or head.display == display


# links


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://www.example.com/a?b=c#d", Place("https", "www.example.com", 0, "/a?b=c", False)),
        ("HTTP://EXAMPLE.com:8080", Place("http", "example.com", 8080, "/", False)),
        ("https://paypal.com@evil.example/", Place("https", "evil.example", 0, "/", True)),
        ("https:\\\\evil.example\\x", Place("https", "evil.example", 0, "/x", False)),
        ("ht\ntps://evil.exa\tmple/", Place("https", "evil.example", 0, "/", False)),
        ("https://b\u00fccher.example/", Place("https", "xn--bcher-kva.example", 0, "/", False)),
        ("http://[2001:db8::1]/", Place("http", "2001:db8::1", 0, "/", False)),
        ("http://192.0.2.1/", Place("http", "192.0.2.1", 0, "/", False)),
        ("https:/evil.example/x", Place("https", "evil.example", 0, "/x", False)),
        ("https:evil.example/x", Place("https", "evil.example", 0, "/x", False)),
        ("https:////evil.example/x", Place("https", "evil.example", 0, "/x", False)),
        ("//evil.example/x", Place("", "evil.example", 0, "/x", False)),
        ("https://ev%69l.example/", Place("https", "evil.example", 0, "/", False)),
        ("http://[bad/", NOWHERE),
        ("http://a:99999/", NOWHERE),
        ("mailto:a@b.example", Place("mailto", "", 0, "a@b.example", False)),
        ("#top", Place("", "", 0, "/", False)),
    ],
)
def test_a_url_leads_where_a_browser_goes(url: str, expected: Place) -> None:
    assert place(url) == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("x?u=http://evil.example/", "https://base.example/dir/x?u=http://evil.example/"),
        ("/x", "https://base.example/x"),
        ("//evil.example/x", "https://evil.example/x"),
        ("http:evil.example", "http://evil.example/"),
        ("https://evil.example/x", "https://evil.example/x"),
    ],
)
def test_a_url_starts_from_the_pages_own(url: str, expected: str) -> None:
    found = place(url, "https://base.example/dir/")
    assert f"{found.scheme}://{found.host}{found.target}" == expected


def test_links_of_a_page_are_told_with_what_is_shown() -> None:
    found = page(
        '<base href="https://base.example/"><a href="x">one</a><map><area href="//two.example/y" alt="two"></map>'
        "<a href='https://three.example'>th<b>r</b>ee <img src='https://pic.example/p.png'></a>"
        "<iframe src='https://frame.example/'></iframe><meta http-equiv='Refresh' content='0; url=https://away.example/'>"
        "<a href='javascript:x()'>no</a><a href='mailto:a@b.example'>no</a><a href='data:text/html,x'>data</a>"
    )
    links = {(each.kind, each.host, each.shown) for each in only(Link, found)}
    assert links == {
        ("link", "base.example", "one"),
        ("link", "two.example", "two"),
        ("link", "three.example", "three"),
        ("frame", "frame.example", ""),
        ("refresh", "away.example", ""),
        ("image", "pic.example", ""),
        ("data", "", "data"),
    }
    assert isinstance(found[-1], End)


def test_urls_in_plain_text_are_told_without_what_follows_them() -> None:
    found = seen(mail("See https://one.example/a?b=c, or (http://two.example/x)."))
    assert [(each.kind, each.host, each.target) for each in only(Link, found)] == [
        ("text", "one.example", "/a?b=c"),
        ("text", "two.example", "/x"),
    ]


def test_of_many_links_to_the_same_host_some_are_told() -> None:
    found = page("".join(f"<a href='https://x.example/{number}'>x</a>" for number in range(500)))
    assert len(only(Link, found)) == reading.MOST_SAME


# forms and scripts


def test_forms_are_told_with_what_they_ask_for() -> None:
    found = page(
        "<form action='https://evil.example/take'><input type=Password name=pw><input name=card_number></form>"
        "<form><input name=q></form><form action='mailto:a@b.example'><textarea name=passphrase></textarea></form>"
    )
    assert only(Form, found) == [
        Form("https", "evil.example", True, ("card_number",), False, "page"),
        Form("", "", False, (), False, "page"),
        Form("", "", False, ("passphrase",), True, "page"),
    ]


def test_a_password_outside_of_any_form_is_a_form_too() -> None:
    assert only(Form, page("<div><input type=password></div>")) == [Form("", "", True, (), False, "page")]


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("var b = new Blob([atob(d)]); a.href = URL.createObjectURL(b); a.download = 'x.zip'", "blob download decode"),
        ("navigator.msSaveOrOpenBlob(b, 'x')", "save"),
        ("var d = '" + "QUJD" * 300 + "'", "large"),
        ("var d = [" + "0x4d, " * 300 + "0x5a]", "large"),
        ("var d = [" + "77,90," * 300 + "0]", "large"),
        ("eval(atob('YWxlcnQoMSk='))", "decode hidden"),
        ("document.write(unescape('%3c'))", "hidden"),
        ("console.log('hello')", ""),
        ("var price = [1, 2, 3]; fetch('/x')", ""),
    ],
)
def test_signs_of_smuggling_are_found_in_scripts(script: str, expected: str) -> None:
    assert set(script_signs([script])) == set(expected.split())
    assert set(SIGNS) >= set(expected.split())
    assert {sign for each in only(Script, page(f"<script>{script}</script>")) for sign in each.signs} == set(
        expected.split()
    )


def test_a_download_of_a_data_url_is_a_sign() -> None:
    found = page(f"<a download='x.exe' href='data:application/x-msdownload;base64,{'A' * 2000}'>get</a>")
    assert only(Script, found) == [Script(("download", "large"), "page")]


def test_the_title_and_the_text_are_told_without_scripts() -> None:
    found = page("<title>Sign  in</title><body>Hello<script>no()</script><style>no</style> <p>you</body>")
    assert only(Page, found) == [Page("Sign in", 0, "page")]
    (text,) = only(Text, found)
    assert text.sample.split() == ["Hello", "you"]


@pytest.mark.parametrize("codec", ["utf-16", "utf-8-sig", "utf-8"])
def test_a_page_says_by_its_first_bytes_how_it_is_written(codec: str) -> None:
    html = "<title>\u00fcber</title>"
    found = seen(html.encode(codec), kind="page", charset="latin-1" if codec != "utf-8" else "utf-8")
    assert only(Page, found)[0].title == "\u00fcber"


def test_a_charset_that_nobody_knows_is_read_as_utf_8() -> None:
    assert only(Page, seen("<title>ü".encode(), kind="page", charset="rot-14"))[0].title == "ü"


# attachments

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
ATTACHED = [
    ("report.pdf", "application/pdf", b"%PDF-1.7", "pdf", ""),
    ("photo.jpg", "image/jpeg", b"\xff\xd8\xff", "jpg", ""),
    ("notes.tar.gz", "application/gzip", b"\x1f\x8b", "gz", ""),
    ("a.b.docx", "application/octet-stream", archive("[Content_Types].xml", "word/document.xml"), "zip", ""),
    ("invoice.pdf.exe", "application/octet-stream", b"MZ", "program", "double-extension program"),
    ("invoice.pdf .exe", "application/octet-stream", b"MZ", "program", "double-extension program"),
    ("invoice.PDF.zip", "application/zip", archive("a.txt"), "zip", "double-extension"),
    ("ann\u202efdp.exe", "application/octet-stream", b"MZ", "program", "bidi program"),
    ("invoice.pdf" + " " * 40 + ".exe", "application/x", b"MZ", "program", "padding double-extension program"),
    ("x.pdf", "application/pdf", b"MZ\x90", "program", "program other-type"),
    ("x.jpg", "image/jpeg", b"<html>", "html", "html other-type"),
    ("run.js", "text/javascript", b"x", "", "script"),
    ("link.lnk", "application/octet-stream", b"L\0\0\0\x01\x14\x02\0", "shortcut", "shortcut"),
    ("disk.iso", "application/octet-stream", b"\0" * 0x8001 + b"CD001", "disk-image", "disk-image"),
    ("x.docm", "application/x", archive("[Content_Types].xml", "word/vbaProject.bin"), "zip", "macro"),
    ("x.docx", "application/x", archive("[Content_Types].xml", "word/vbaProject.bin"), "zip", "macro"),
    ("x.doc", "application/msword", OLE + "_VBA_PROJECT".encode("utf-16-le"), "ole", "macro"),
    ("x.xlsx", "application/x", OLE + "EncryptedPackage".encode("utf-16-le"), "ole", "encrypted"),
    ("x.zip", "application/zip", archive("invoice.js"), "zip", "contains-program"),
    ("x.zip", "application/zip", archive("a.zip"), "zip", "contains-archive"),
    ("x.zip", "application/zip", archive("a.txt", encrypted=True), "zip", "encrypted"),
    ("x.zip", "application/zip", b"PK\x03\x04 broken", "zip", ""),
    ("x.zip", "application/zip", b"PK\x05\x06" + b"\xff" * 18, "zip", ""),
    ("page.htm", "text/html", b"<!doctype html><p>x", "html", "html"),
    ("x", "text/html", b"plain", "", "html"),
    ("x.svg", "image/svg+xml", b"<svg onload=x()>", "html", "html"),
    ("", "application/octet-stream", b"", "", ""),
]


@pytest.mark.parametrize(("name", "declared", "content", "kind", "expected"), ATTACHED)
def test_what_is_odd_about_an_attachment_is_told(
    name: str, declared: str, content: bytes, kind: str, expected: str
) -> None:
    found, odd = signs(name, declared, content)
    assert (found, set(odd)) == (kind, set(expected.split()))
    assert set(odd) <= set(ODD)


def test_attachments_are_found_by_name_in_any_of_its_codings() -> None:
    content = (
        b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Type: text/plain\r\n\r\n"
        b"Archive password: 1234\r\n--x\r\nContent-Type: application/octet-stream\r\n"
        b"Content-Disposition: attachment; filename*=utf-8''inv%E2%80%AEfdp.exe\r\n\r\nMZ\r\n--x\r\n"
        b'Content-Type: application/zip; name="=?utf-8?b?eC5wZGYuZXhl?="\r\n\r\nMZ\r\n--x--\r\n'
    )
    found = seen(content)
    assert [each.name for each in only(Attachment, found)] == ["inv\u202efdp.exe", "x.pdf.exe"]
    assert any(each.password for each in only(Text, found))


def test_a_page_that_is_attached_is_read_as_one() -> None:
    found = seen(
        mail(attachments=[("pay.html", "text/html", b"<form action='//e.example'><input type=password></form>")])
    )
    assert only(Attachment, found)[0].signs == ("html",)
    assert only(Form, found) == [Form("", "e.example", True, (), False, "pay.html")]


@pytest.mark.parametrize(
    "words", ["password: abc1", "Das Passwort lautet: geheim", "mot de passe : xyz9", "пароль: 1234"]
)
def test_a_password_in_the_text_is_seen(words: str) -> None:
    assert any(each.password for each in only(Text, seen(mail(f"The archive. {words}"))))


@pytest.mark.parametrize("words", ["Please change your password soon.", "I forgot my password", "pass: the salt"])
def test_talk_of_passwords_is_none(words: str) -> None:
    assert not any(each.password for each in only(Text, seen(mail(words))))


# what crosses


def test_what_is_observed_is_the_same_on_the_other_side() -> None:
    for kind in KINDS.values():
        assert parsed(plain(kind())) == kind()
    assert parsed(plain(Head(senders=2, results=("a", "b"), listed=True))) == Head(
        senders=2, results=("a", "b"), listed=True
    )


@pytest.mark.parametrize("codec", ["latin-1", "utf-8", "utf-16-le"])
def test_bytes_that_are_no_text_can_be_written_down(codec: str) -> None:
    name = "übergröße 😀.pdf".encode(codec, "replace")
    content = (
        b"From: "
        + name
        + b" <a@"
        + name
        + b">\r\nSubject: "
        + name
        + b"\r\nDKIM-Signature: s="
        + name
        + b"; d="
        + name
        + b'\r\nContent-Type: application/pdf; name="'
        + name
        + b'"\r\n\r\n'
        + name
    )
    for item in reading.read({"kind": "mail"}, content):
        assert json.dumps(item.meta, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    "meta",
    [
        {},
        {"what": "nothing"},
        {"what": ["head"]},
        {"what": "end"},
        {"what": "end", "cut": "x"},
        {"what": "end", "cut": [1]},
        {"what": "end", "cut": ["x"] * 65},
        {"what": "end", "cut": ["x" * 1025]},
        {"what": "text", "sample": "x" * (MOST_TEXT + 1), "password": False},
        {"what": "text", "sample": "x", "password": 1},
        {"what": "page", "title": "x", "images": True, "part": ""},
        {"what": "page", "title": None, "images": 1, "part": ""},
    ],
)
def test_what_a_worker_must_not_say_is_not_taken(meta: dict[str, object]) -> None:
    assert parsed(meta) is None


def test_no_more_is_taken_than_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sslintercept.phish.observed.MOST_OBSERVED", 3)
    assert len(all_parsed([plain(End())] * 10)) == 3


# hostile


def test_a_mail_cut_anywhere_is_read_to_its_end() -> None:
    content = mail(
        "x https://a.example/ y",
        "<a href='https://b.example'>z</a>",
        attachments=[("a.zip", "application/zip", archive("b.js"))],
    )
    for cut in range(0, len(content), 7):
        assert isinstance(seen(content[:cut])[-1], End)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 100,
        b"From: " + b"<" * 10_000 + b"\r\n\r\n",
        b"From: " + b"(" * 5_000 + b"\r\n\r\n",
        b'Content-Type: multipart/mixed; boundary=""\r\n\r\n--\r\n',
        b'Content-Type: text/plain; charset="x\0y"\r\n\r\n\xff',
        b"Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n!!!",
        b"Content-Type: message/rfc822\r\n\r\n" * 50,
        b"Subject: =?utf-8?b?" + b"=" * 5000 + b"\r\n\r\n",
        b"Subject: =?utf-8?q?" + b"\xff" * 50 + b"?=\r\n\r\n",
        b"Content-Disposition: attachment; filename*=x'y'%ff\r\n\r\nz",
        b"Content-Disposition: attachment; filename*0*=a; filename*2=b\r\n\r\nz",
    ],
)
def test_a_mail_that_is_none_is_read_to_its_end(content: bytes) -> None:
    assert isinstance(seen(content)[-1], End)


def test_a_mail_that_is_nested_too_deep_is_told_as_unreadable() -> None:
    content = b"From: a@b.example\r\n" + b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (depth, depth) for depth in range(1200)
    )
    found = seen(content)
    assert isinstance(found[-1], End)
    assert found[-1].cut


def test_what_is_told_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MOST_OBSERVED", 50)
    found = page("".join(f"<a href='https://x{number}.example/'>x</a>" for number in range(500)))
    assert len(found) == 50
    assert found[-1] == End(("too much to tell",))
    monkeypatch.setattr(reading, "MOST_OBSERVED", 5000)
    monkeypatch.setattr(reading, "MOST_TOTAL", 5000)
    assert page("".join(f"<a href='https://x{number}.example/'>x</a>" for number in range(500)))[-1] == End(
        ("too much to tell",)
    )


def test_elements_in_elements_without_end_are_read_as_deep_as_the_parser_bears() -> None:
    assert isinstance(page("<div>" * 4000 + "<a href='https://deep.example/'>x</a>")[-1], End)
    with pytest.raises(TooDeep):
        page("<div>" * 400_000)
    with pytest.raises(TooDeep):
        seen(b"Content-Type: text/html\r\n\r\n" + b"<b>" * 5001)


def test_a_long_page_whose_elements_end_or_need_no_end_is_read() -> None:
    rows = "<tr><td><p>x<br><img src=x><li>y<b>z</b>" * 6000
    assert isinstance(page(f"<table>{rows}</table>")[-1], End)


@pytest.mark.parametrize(
    "html", ["<" * 100_000, "<a href='" + "x" * 1_000_000, "<script>" + "0," * 500_000, "&" * 200_000]
)
def test_a_page_that_is_none_is_read_in_time(html: str) -> None:
    assert isinstance(page(html)[-1], End)

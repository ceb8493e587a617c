from __future__ import annotations

import pytest

from sslintercept.phish.dmarc import Auth
from sslintercept.phish.judge import LIKENESS, MOST_SHOWN, WEIGHTS, Score, judge
from sslintercept.phish.lookalike import Brands, How
from sslintercept.phish.observed import Attachment, End, Form, Head, Link, Observation, Page, Script, Text
from sslintercept.phish.spf import Result

BRANDS = Brands(["paypal.com", "example-bank.com"], ["paypal.me"])
KNOWN = {"friend.example", "login.intranet.example"}
LISTED = {"bad.example": "list x: domain bad.example"}


def judged(
    *seen: Observation, auth: Auth | None = None, host: str = "", scheme: str = "https", end: bool = True
) -> Score:
    def lookup(scheme: str, host: str, port: int, target: str) -> str | None:
        return LISTED.get(host)

    found = (*seen, End()) if end else seen
    return judge(found, BRANDS, lambda host: host in KNOWN, lookup, auth, host=host, scheme=scheme)


def names(score: Score) -> set[str]:
    return {reason.name for reason in score.reasons}


def head(sender: str = "a@friend.example", display: str = "Alice", **more: object) -> Head:
    return Head(sender=sender, display=display, senders=1, **more)  # type: ignore[arg-type]  # fields by name


def link(host: str, shown: str = "") -> Link:
    return Link("link", "https", host, 0, "/", False, shown, "body")


EVIL = "a@evil.example"
MAILS = [
    # what is innocent
    ((head(),), ""),
    ((head("service@paypal.com", "PayPal"), link("www.paypal.com", "https://www.paypal.com/x")), ""),
    ((head("news@shop.example", "Shop", listed=True), link("click.shop.example", "www.shop.example")), ""),
    ((head("news@shop.example", "Shop"), link("shop.example", "report.pdf")), ""),
    ((head("news@shop.example", "Shop"), Link("image", host="pixel.example")), ""),
    ((head("a@list.example", "Bob", reply="list@lists.example", listed=True),), ""),
    ((head("a@shop.example", "Shop", reply="a@support.shop.example"),), ""),
    ((head(), Attachment("report.pdf", "application/pdf", "pdf")), ""),
    ((head(), Text("Please act now.")), ""),
    ((head("a@paypal.me", "PayPal"),), ""),
    ((head("a@paypal-garden.com", "x"), link("www.paypal-garden.com")), "sender-alike"),
    ((head("a@x.example", "Shop"), link("192.168.1.1")), ""),
    ((head("a@x.example", "Shop"), Script(("decode",), "body")), ""),
    # senders
    ((head("a@paypa1.com", "Service"),), "sender-alike"),
    ((head(EVIL, "PayPal"),), "display-brand"),
    ((head(EVIL, "Example Bank"),), "display-brand"),
    ((head(EVIL, "service@paypal.com"),), "display-address"),
    ((head(EVIL, "<service@other.example>"),), "display-address"),
    ((head("a@x.example", "Bob", reply="b@y.example"),), "reply-elsewhere"),
    ((head("a@x.example", "Bob", reply="b@paypa1.com"),), "reply-elsewhere sender-alike"),
    ((Head(sender="a@x.example", senders=2),), "several-senders"),
    ((head("a@bad.example", "x"),), "listed-sender"),
    ((head("a@xn--b-7sbf.example", "x"),), "mixed-script"),
    # links
    ((head(), link("bad.example")), "listed"),
    ((head(), Link("image", host="bad.example")), "listed"),
    ((head(EVIL, "x"), link("paypal.com.evil2.example")), "link-alike"),
    ((head("a@x.example", ""), link("evil.example", "https://www.paypal.com/")), "brand-mismatch"),
    ((head("a@x.example", ""), link("evil.example", "www.other.example")), "link-mismatch"),
    ((head("a@x.example", ""), link("evil.example", "other.com")), "link-mismatch"),
    ((head(), Link("link", "https", "evil.example", 0, "/", True)), "link-login"),
    ((head(), link("8.8.8.8")), "link-address"),
    ((head(), Link("data")), "link-data"),
    ((head(), Link("refresh", "https", "evil.example")), "refresh"),
    # forms, scripts, attachments, text
    ((head(), Form(password=True, part="x.html")), "mail-password"),
    ((head(), Form("https", "evil.example")), "mail-form"),
    ((head(), Form(mail=True)), "mail-form form-mail"),
    ((head(), Form()), ""),
    ((head(), Script(("blob", "download", "large"), "x.html")), "smuggling-mail"),
    ((head(), Script(("save",))), "smuggling-mail"),
    ((head(), Script(("large", "decode"))), "smuggling-mail"),
    ((head(), Script(("hidden",))), "hidden-script"),
    ((head(), Attachment("x.pdf.exe", signs=("double-extension", "program"))), "double-extension program"),
    ((head(), Attachment("x.zip", signs=("encrypted",))), "encrypted"),
    ((head(), Text("p", True), Attachment("x.zip", signs=("encrypted",))), "encrypted-told"),
    ((head(), Attachment("x", signs=("made-up",))), ""),
    ((head(), Text("Act now, final notice!")), "lure"),
]


@pytest.mark.parametrize(("seen", "reasons"), MAILS)
def test_a_mail_has_these_reasons(seen: tuple[Observation, ...], reasons: str) -> None:
    assert names(judged(*seen)) == set(reasons.split())


LOGIN = Form("", "", True, (), False, "page")
PAGES = [
    (("shop.example",), (Page("Shop"), link("other.example")), ""),
    (("shop.example",), (Page("PayPal accepted here"), Link("image", host="www.paypal.com")), ""),
    (("www.paypal.com",), (Page("PayPal"), LOGIN), ""),
    (("friend.example",), (Page("PayPal"), LOGIN), ""),
    (("192.168.1.1", "http"), (LOGIN,), ""),
    (("router", "http"), (LOGIN,), ""),
    (("shop.example",), (LOGIN,), "login-unknown"),
    (("shop.example", "http"), (LOGIN,), "login-unknown login-clear"),
    (("shop.example",), (Form("http", "shop.example", True),), "login-unknown login-clear"),
    (("8.8.8.8",), (LOGIN,), "login-unknown login-address"),
    (("shop.example",), (Form("https", "collect.example", True),), "login-unknown login-away"),
    (("shop.example",), (Form("https", "friend.example", True),), "login-unknown"),
    (("shop.example",), (Page("PayPal: Log in"), LOGIN), "login-unknown brand-page"),
    (("shop.example",), (LOGIN, Link("image", host="www.paypal.com")), "login-unknown brand-images"),
    (("paypa1.com",), (Page("x"),), "host-alike"),
    (("shop.example",), (Form(password=True, mail=True),), "login-unknown form-mail"),
    (("shop.example",), (Script(("blob", "download", "decode", "large")),), "smuggling"),
    (("shop.example",), (Script(("blob", "download")),), ""),
    (("shop.example",), (link("bad.example"),), "listed"),
    (("shop.example",), (link("paypa1.com"), Link("refresh", "https", "x.example")), ""),
]


@pytest.mark.parametrize(("where", "seen", "reasons"), PAGES)
def test_a_page_has_these_reasons(where: tuple[str, ...], seen: tuple[Observation, ...], reasons: str) -> None:
    host, scheme = where if len(where) == 2 else (where[0], "https")
    assert names(judged(*seen, host=host, scheme=scheme)) == set(reasons.split())


AUTHS = [
    (Auth("evil.example", dmarc=Result.FAIL, policy="reject"), "dmarc-reject"),
    (Auth("evil.example", dmarc=Result.FAIL, policy="quarantine"), "dmarc-quarantine"),
    (Auth("evil.example", dmarc=Result.FAIL, policy="none"), "dmarc-fail"),
    (Auth("evil.example", spf=Result.FAIL), "spf-fail"),
    (Auth("evil.example", dkim=Result.FAIL), "signature-broken"),
    (Auth("evil.example", dkim=Result.PASS, aligned_dkim=True, spf=Result.FAIL), ""),
    (Auth("evil.example", dmarc=Result.PASS, spf=Result.PASS, aligned_spf=True), ""),
    (Auth("evil.example"), ""),
    (Auth("evil.example", dmarc=Result.TEMPERROR), ""),
    (Auth("paypal.com"), "brand-unproven"),
    (Auth("paypal.com", dmarc=Result.FAIL, policy="reject"), "brand-unproven dmarc-reject"),
    (Auth("paypal.com", dmarc=Result.TEMPERROR), ""),
    (Auth("paypal.com", dmarc=Result.PASS), "authentic"),
    (Auth("friend.example", dmarc=Result.PASS), "authentic"),
]


@pytest.mark.parametrize(("auth", "reasons"), AUTHS)
def test_where_a_mail_is_from_gives_these_reasons(auth: Auth, reasons: str) -> None:
    assert names(judged(head(f"a@{auth.domain}", ""), auth=auth)) == set(reasons.split())


def test_every_reason_is_given_by_some_mail_or_page() -> None:
    given = " ".join(
        [reasons for _, reasons in MAILS] + [reasons for _, _, reasons in PAGES] + [reasons for _, reasons in AUTHS]
    ).split()
    signs = {"bidi", "padding", "script", "shortcut", "disk-image", "macro", "contains-program", "contains-archive"}
    assert set(WEIGHTS) - set(given) - signs == {"other-type", "html", "unreadable"}
    for sign in (*signs, "other-type", "html"):
        assert names(judged(head(), Attachment("x", signs=(sign,)))) == {sign}


def test_what_was_not_read_to_its_end_has_a_reason() -> None:
    assert names(judged(head(), end=False)) == {"unreadable"}
    assert names(judged()) == set()
    assert names(judged(Page("x"), host="shop.example", end=False)) == {"unreadable"}
    assert names(judge([End(("too much",))], BRANDS, KNOWN.__contains__, lambda *_: None, host="a.example")) == {
        "unreadable"
    }
    assert names(judge([head(), End(("depth",))], BRANDS, KNOWN.__contains__, lambda *_: None)) == {"unreadable"}


def test_a_reason_counts_once_with_the_weightiest_thing_that_gave_it() -> None:
    score = judged(head("a@x.example", ""), link("mypaypalstory.com"), link("paypa1.com"), link("paypal.net"))
    (reason,) = score.reasons
    assert reason.weight == LIKENESS[How.ALIKE][0] == score.total
    assert reason.text == "paypa1 looks like paypal.com"
    assert reason.where == "body"


def test_the_score_is_the_sum_within_0_and_100_the_weightiest_reason_first() -> None:
    score = judged(head(EVIL, "PayPal", reply="b@y.example"), link("bad.example"), link("evil.example", "paypal.com"))
    assert score.total == 100
    weights = [reason.weight for reason in score.reasons]
    assert weights == sorted(weights, reverse=True)
    assert judged(head("a@paypal.com", ""), auth=Auth("paypal.com", dmarc=Result.PASS)).total == 0


def test_what_a_mail_says_is_short_and_printable_in_reasons() -> None:
    score = judged(head(EVIL, "PayPal \x1b[31m" + "x" * 1000))
    (reason,) = score.reasons
    assert "\x1b" not in reason.text
    assert len(reason.text) < 2 * MOST_SHOWN + 60


def test_a_mail_that_leads_to_very_many_hosts_is_one_that_hides_something() -> None:
    links = [link(f"host{number}.example", f"www.host{number}.example") for number in range(250)]
    score = judged(head(), *links, link("paypa1.com"), link("bad.example"))
    assert names(score) == {"unreadable", "listed"}


def test_weights_and_likenesses_are_all_there() -> None:
    assert set(LIKENESS) == set(How)
    assert all(-100 < weight <= 100 and text for weight, text in WEIGHTS.values())

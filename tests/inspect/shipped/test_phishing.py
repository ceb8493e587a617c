from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import Clock

from sslintercept.dns.answer import Answer
from sslintercept.dns.message import NXDOMAIN
from sslintercept.errors import ConfigError, EngineError
from sslintercept.facts import Address, Facts
from sslintercept.inspect.inspector import Look
from sslintercept.inspect.part import Part
from sslintercept.inspect.shipped import phishing
from sslintercept.inspect.shipped.phishing import PhishingInspector, PhishingOptions
from sslintercept.inspect.verdict import PHISHING, Act, Verdict
from sslintercept.sites.compile import compiled
from sslintercept.sites.listing import ListSettings
from sslintercept.sites.look import SiteList, Sites
from sslintercept.transform.message import Direction
from tests.phish.build import BROKEN, Workers, mail
from tests.phish.signing import record, signed


class Resolver:
    """A resolver that knows some texts."""

    def __init__(self, texts: dict[str, str]) -> None:
        self.texts = texts
        self.asked: list[str] = []

    def query(self, name: str, rtype: int, deadline: float) -> Deferred[Answer]:
        self.asked.append(name)
        text = self.texts.get(name.removesuffix("."), "").encode() if rtype == 16 else b""
        pieces = [text[at : at + 255] for at in range(0, len(text), 255)]
        rdata = (b"".join(bytes((len(piece),)) + piece for piece in pieces),) if text else ()
        return succeed(Answer(0 if text else NXDOMAIN, name, (), rdata, 60, not text, "memory", 0.0))


@dataclass
class Engines:
    workers: Any = field(default_factory=Workers)
    sites: Sites = field(default_factory=Sites)
    dns: Any = None
    handler: Clock = field(default_factory=Clock)


OPTIONS = PhishingOptions(brands=("paypal.com",))
CLIENT = "8.8.8.8"


def part(carrier: str = "smtp", kind: str = "message", client: str = CLIENT, **more: Any) -> Part:
    facts = Facts("1", Address(client, 50000), "mx")
    direction = Direction.REQUEST if carrier in ("smtp", "lmtp") else Direction.RESPONSE
    return Part(carrier, kind, direction, facts, **more)


def a_page(url: str = "https://shop.example/", **more: Any) -> Part:
    return part(
        "http", "body", **{"url": url, "host": "shop.example", "media_type": "text/html", "status": 200, **more}
    )


def look(one: Part, options: PhishingOptions = OPTIONS, engines: Engines | None = None) -> Look | None:
    return PhishingInspector(options, engines or Engines()).look(one)


def verdict(
    one: Part, content: bytes, options: PhishingOptions = OPTIONS, engines: Engines | None = None, piece: int = 1000
) -> Verdict | None:
    made = look(one, options, engines)
    assert made is not None
    told: list[Verdict | None] = []
    made.told, made.failed = told.append, lambda error: pytest.fail(str(error))
    for at in range(0, len(content), piece):
        made.write(content[at : at + piece])
    made.finish()
    (found,) = told
    return found


PHISH = mail("See https://paypal.com.evil.example/login", sender="PayPal <service@evil.example>", subject="Hello")


@pytest.mark.parametrize("carrier", ["smtp", "lmtp", "pop3", "imap"])
@pytest.mark.parametrize("piece", [1, 10_000])
def test_a_mail_that_is_phishing_has_a_verdict_with_reasons(carrier: str, piece: int) -> None:
    found = verdict(part(carrier), PHISH, piece=piece)
    assert found is not None
    assert (found.act, found.kind, found.name, found.engine) == (Act.BLOCK, PHISHING, "link-alike", "phishing")
    assert found.score == 100
    assert [(each.what, each.score, each.where) for each in found.evidence] == [
        ("link-alike", 65, "body"),
        ("display-brand", 40, "head"),
    ]
    assert found.reason == "score 100: paypal.com.evil.example begins with the whole of paypal.com"


def test_a_mail_that_is_none_has_no_verdict() -> None:
    assert verdict(part(), mail()) is None


@pytest.mark.parametrize(
    ("tag", "quarantine", "refuse", "act"),
    [
        (40, 70, 90, Act.BLOCK),
        (40, 70, 0, Act.QUARANTINE),
        (40, 0, 0, Act.TAG),
        (0, 0, 0, None),
        (100, 0, 0, Act.TAG),
    ],
)
def test_thresholds_say_what_becomes_of_it(tag: int, quarantine: int, refuse: int, act: Act | None) -> None:
    found = verdict(part(), PHISH, replace(OPTIONS, tag=tag, quarantine=quarantine, refuse=refuse))
    assert (found.act if found is not None else None) is act


def test_below_a_threshold_is_below() -> None:
    inspector = PhishingInspector(OPTIONS, Engines())
    assert [inspector.act(score) for score in (0, 39, 40, 69, 70, 89, 90, 100)] == [
        *(None, None, Act.TAG, Act.TAG, Act.QUARANTINE, Act.QUARANTINE, Act.BLOCK, Act.BLOCK)
    ]


LOGIN = b"<title>PayPal</title><form action='https://collect.example/'><input type=password></form>"


def test_a_page_with_a_brands_login_elsewhere_has_a_verdict() -> None:
    found = verdict(a_page(), LOGIN)
    assert found is not None
    assert {each.what for each in found.evidence} == {"brand-page", "login-unknown", "login-away"}
    assert verdict(a_page("https://www.paypal.com/"), LOGIN) is None


@pytest.mark.parametrize(
    "one",
    [
        a_page(status=404),
        a_page(media_type="application/json"),
        a_page(media_type="image/png"),
        replace(a_page(), kind="member"),
        replace(a_page(), direction=Direction.REQUEST),
        part("smtp", "attachment"),
        part("http", "message"),
        part("ftp", "file"),
    ],
)
def test_what_is_no_mail_and_no_page_is_not_looked_at(one: Part) -> None:
    assert look(one) is None


def test_a_page_without_a_type_is_one_by_its_first_bytes() -> None:
    assert look(a_page(media_type="", sniffed="text/html")) is not None
    assert look(a_page(media_type="text/plain", sniffed="text/plain")) is None


def test_pages_of_hosts_where_logins_are_normal_are_not_looked_at(tmp_path: Path) -> None:
    known = replace(OPTIONS, known=("*.shop.example", "bank.example", "category:banking"))
    (tmp_path / "x.txt").write_text("listed.example\n")
    lists = Sites((SiteList("x", compiled(ListSettings("x", tmp_path / "x.txt", category="Banking"))),))
    engines = Engines(sites=lists)
    for host, looked in (("www.shop.example", False), ("bank.example", False), ("a.listed.example", False)):
        assert (look(a_page(f"https://{host}/"), known, engines) is not None) is looked
    assert look(a_page("https://shop.example/"), known, engines) is not None


@pytest.mark.parametrize(("bad", "found"), [(("phishing",), True), (("*",), True), (("malware",), False)])
def test_links_to_what_lists_call_bad_are_reasons(tmp_path: Path, bad: tuple[str, ...], found: bool) -> None:
    (tmp_path / "x.txt").write_text("evil.example\n")
    lists = Sites((SiteList("x", compiled(ListSettings("x", tmp_path / "x.txt", category="Phishing"))),))
    content = mail("https://www.evil.example/x?y")
    made = verdict(part(), content, replace(OPTIONS, bad=bad), Engines(sites=lists))
    assert (made is not None) is found
    if made is not None:
        assert made.name == "listed"
        assert str(tmp_path) not in made.reason


# where mails are from

NEWS = signed(mail(sender="PayPal <news@paypal.com>"), "paypal.com")
TEXTS = {
    "paypal.com": "v=spf1 ip4:8.8.8.0/24 -all",
    "_dmarc.paypal.com": "v=DMARC1; p=reject",
    "key1._domainkey.paypal.com": record(),
}


def test_a_mail_that_its_domain_authenticated_passes_and_a_forged_one_does_not() -> None:
    engines = Engines(dns=Resolver(TEXTS))
    assert verdict(part(sender="x@paypal.com"), NEWS, engines=engines) is None
    forged = verdict(part(sender="x@paypal.com", client="9.9.9.9"), mail(sender="a@paypal.com"), engines=engines)
    assert forged is not None
    assert {each.what for each in forged.evidence} == {"dmarc-reject", "brand-unproven"}


@pytest.mark.parametrize(
    "one",
    [
        part("pop3"),
        part("lmtp"),
        part(user="alice"),
        part(client="192.168.1.5"),
        part(client="127.0.0.1"),
        part(client="::1"),
    ],
)
def test_nobody_is_asked_about_mails_of_those_inside_or_by_other_ways(one: Part) -> None:
    resolver = Resolver(TEXTS)
    verdict(one, NEWS, engines=Engines(dns=resolver))
    assert resolver.asked == []


def test_nobody_is_asked_if_that_is_off_or_the_client_has_logged_in() -> None:
    resolver = Resolver(TEXTS)
    verdict(part(), NEWS, replace(OPTIONS, check_sender=False), Engines(dns=resolver))
    one = part()
    one.facts.login = "alice"
    verdict(one, NEWS, engines=Engines(dns=resolver))
    assert resolver.asked == []


def test_what_a_trusted_server_says_is_believed_and_nobody_is_asked() -> None:
    resolver = Resolver(TEXTS)
    trusted = replace(OPTIONS, trusted_authserv=("mx.example.org",))
    content = mail(
        sender="a@paypal.com", Authentication_Results="mx.example.org; dmarc=fail (p=REJECT) header.from=paypal.com"
    )
    found = verdict(part(), content, trusted, Engines(dns=resolver))
    assert found is not None
    assert {each.what for each in found.evidence} == {"dmarc-reject", "brand-unproven"}
    assert resolver.asked == []
    assert verdict(part("imap"), content) is None


# limits and failures


def test_of_what_is_too_long_the_beginning_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phishing, "MOST_MAIL", len(PHISH) + 10)
    resolver = Resolver(TEXTS)
    found = verdict(part(), PHISH + b"x" * 1000, engines=Engines(dns=resolver))
    assert found is not None
    assert found.score == 100
    assert resolver.asked == []


def test_a_worker_that_dies_is_a_failure_of_the_look() -> None:
    made = look(part(), engines=Engines(Workers(BROKEN)))
    assert made is not None
    failed: list[Exception] = []
    made.told, made.failed = lambda told: pytest.fail("it told"), failed.append
    made.write(PHISH)
    made.finish()
    assert failed == [BROKEN]


def test_a_look_that_is_let_go_cancels_what_it_asked_and_says_nothing() -> None:
    cancelled: list[Deferred[Any]] = []

    class Slow:
        def run(self, task: str, meta: dict[str, Any], content: bytes) -> Deferred[Any]:
            return Deferred(cancelled.append)

    made = look(part(), engines=Engines(Slow()))
    assert made is not None
    made.told = lambda told: pytest.fail("it told")
    made.failed = lambda error: pytest.fail("it failed")
    made.write(PHISH)
    made.finish()
    made.abort()
    assert len(cancelled) == 1
    made = look(part(), engines=Engines(Slow()))
    assert made is not None
    made.abort()


def test_what_a_worker_says_that_is_none_is_not_taken() -> None:
    class Liar:
        def run(self, task: str, meta: dict[str, Any], content: bytes) -> Deferred[Any]:
            return succeed([type("Item", (), {"meta": {"what": "head", "sender": 7}})])

    found = verdict(part(), PHISH, replace(OPTIONS, tag=1), Engines(Liar()))
    assert found is not None
    assert found.name == "unreadable"


def test_an_error_of_our_own_is_a_failure_and_is_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **more: Any) -> None:
        raise RuntimeError("ours")

    monkeypatch.setattr(phishing, "judge", broken)
    made = look(part())
    assert made is not None
    failed: list[Exception] = []
    made.told, made.failed = lambda told: pytest.fail("it told"), failed.append
    made.finish()
    assert isinstance(failed[0], EngineError)
    assert isinstance(made, phishing.PhishingLook)
    assert made._asked is not None
    errors: list[Any] = []
    made._asked.addErrback(errors.append)
    assert isinstance(errors[0].value, RuntimeError)
    assert not isinstance(errors[0].value, CancelledError)


# options and marks


@pytest.mark.parametrize("options", [{"brands": ("com",)}, {"brands": ("192.0.2.1",)}])
def test_a_brand_that_is_none_is_refused_with_the_reason(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="correct brands"):
        PhishingInspector(PhishingOptions(**options), Engines())


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("brands", "PayPal.com, example-bank.com", ("paypal.com", "example-bank.com")),
        ("known", "*.example.com, category:banking, 10.0.0.0/8", ("*.example.com", "category:banking", "10.0.0.0/8")),
        ("tag", "off", 0),
        ("tag", "55", 55),
        ("check_sender", "off", False),
        ("subject", "[SPAM?]", "[SPAM?]"),
    ],
)
def test_options_are_read(key: str, text: str, value: object) -> None:
    unit = PhishingOptions.__dataclass_fields__[key].metadata["key"].unit
    assert unit(text) == value


@pytest.mark.parametrize(
    ("key", "text"), [("known", "category:"), ("known", "a b"), ("tag", "101"), ("brands", "a b"), ("subject", "a\nb")]
)
def test_options_that_mean_nothing_are_refused(key: str, text: str) -> None:
    unit = PhishingOptions.__dataclass_fields__[key].metadata["key"].unit
    with pytest.raises(ValueError, match="allowed"):
        unit(text)


def test_a_verdict_brings_the_marks_of_the_mail_it_is_about() -> None:
    options = replace(OPTIONS, refuse=0, quarantine=0)
    found = verdict(part(), PHISH, options)
    assert found is not None
    assert found.marks == (("X-Sslintercept-Phishing", "score=100; reasons=link-alike, display-brand"),)
    assert found.subject == options.subject

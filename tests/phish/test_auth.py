"""SPF, DKIM and DMARC together: name servers in memory, and BIND as it is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from sslintercept.dns.answer import Answer
from sslintercept.dns.message import A
from sslintercept.dns.processor import DnsProcessor
from sslintercept.dns.server import NameServers, Rules, ServerGroup
from sslintercept.errors import ResolveError
from sslintercept.facts import Address
from sslintercept.phish.auth import authenticate
from sslintercept.phish.dmarc import Auth
from sslintercept.phish.names import MOST_ASKED, MailNames, texts_of
from sslintercept.phish.observed import Head
from sslintercept.phish.signed import LONGEST_BLANK, key_name, verify
from sslintercept.phish.spf import Names, Result
from sslintercept.testing.loop import RealLoop
from tests.engines import outcome
from tests.phish.build import BROKEN, Workers, Zone, mail, seen
from tests.phish.signing import record, signed
from tests.process.tools import server_port

CLIENT = "198.51.100.7"
DOMAIN = "example.com"
GOOD = {
    "txt example.com": ["v=spf1 ip4:198.51.100.0/24 -all"],
    "txt _dmarc.example.com": ["v=DMARC1; p=reject"],
    "txt key1._domainkey.example.com": [record()],
}


def asked(
    content: bytes,
    zone: Names,
    client: str = CLIENT,
    sender: str = "bounce@example.com",
    workers: Workers | None = None,
) -> Auth | None:
    head = next(each for each in seen(content) if isinstance(each, Head))
    work = authenticate(head, content, client, sender, "", zone, workers or Workers())
    return outcome(Deferred.fromCoroutine(work))  # type: ignore[no-any-return]


def letter(sender: str = "Bank <news@example.com>", **more: Any) -> bytes:
    return mail(sender=sender, **more)


def test_a_mail_from_where_it_says_with_a_good_signature_passes() -> None:
    auth = asked(signed(letter(), DOMAIN), Zone(GOOD))
    assert auth == Auth(DOMAIN, Result.PASS, DOMAIN, True, Result.PASS, True, Result.PASS, "reject")


def test_a_mail_from_elsewhere_without_a_signature_fails() -> None:
    auth = asked(letter(), Zone(GOOD), client="203.0.113.9")
    assert auth == Auth(DOMAIN, Result.FAIL, DOMAIN, True, Result.NONE, False, Result.FAIL, "reject")


def test_a_forwarded_mail_passes_by_its_signature() -> None:
    auth = asked(signed(letter(), DOMAIN), Zone(GOOD), client="203.0.113.9", sender="x@forwarder.example")
    assert auth is not None
    assert (auth.spf, auth.aligned_spf, auth.aligned_dkim, auth.dmarc) == (Result.NONE, False, True, Result.PASS)


def test_a_mail_that_was_changed_has_a_broken_signature() -> None:
    content = signed(letter(text="Pay 10."), DOMAIN).replace(b"Pay 10.", b"Pay 99.")
    auth = asked(content, Zone(GOOD), client="203.0.113.9")
    assert auth is not None
    assert (auth.dkim, auth.dmarc) == (Result.FAIL, Result.FAIL)


def test_a_second_from_breaks_a_signature_and_names_nobody() -> None:
    content = b"From: evil@evil.example\r\n" + signed(letter(), DOMAIN)
    assert asked(content, Zone(GOOD)) is None


def test_a_good_signature_of_somebody_else_proves_nothing() -> None:
    zone = Zone({**GOOD, "txt key1._domainkey.evil.example": [record()]})
    auth = asked(signed(letter(), "evil.example"), zone, client="203.0.113.9", sender="a@evil.example")
    assert auth is not None
    assert (auth.dkim, auth.aligned_dkim, auth.dmarc) == (Result.PASS, False, Result.FAIL)


def test_of_several_signatures_one_is_enough() -> None:
    zone = Zone({**GOOD, "txt key1._domainkey.esp.example": [record()]})
    content = signed(signed(letter(), DOMAIN), "esp.example")
    auth = asked(content, zone, client="203.0.113.9", sender="a@esp.example")
    assert auth is not None
    assert (auth.aligned_dkim, auth.dmarc) == (True, Result.PASS)


def test_a_key_that_is_missing_is_no_proof_and_one_that_nobody_can_tell_is_no_blame() -> None:
    missing = {key: value for key, value in GOOD.items() if "_domainkey" not in key}
    auth = asked(signed(letter(), DOMAIN), Zone(missing), client="203.0.113.9")
    assert auth is not None
    assert (auth.dkim, auth.dmarc) == (Result.NONE, Result.FAIL)
    silent = {**GOOD, "txt key1._domainkey.example.com": None}
    auth = asked(signed(letter(), DOMAIN), Zone(silent), client="203.0.113.9")
    assert auth is not None
    assert (auth.dkim, auth.dmarc) == (Result.TEMPERROR, Result.TEMPERROR)


def test_a_worker_that_dies_over_a_signature_is_no_blame() -> None:
    auth = asked(signed(letter(), DOMAIN), Zone(GOOD), client="203.0.113.9", workers=Workers(BROKEN))
    assert auth is not None
    assert (auth.dkim, auth.dmarc) == (Result.TEMPERROR, Result.TEMPERROR)


def test_a_policy_that_nobody_can_tell_is_an_error_for_now() -> None:
    auth = asked(letter(), Zone({**GOOD, "txt _dmarc.example.com": None}))
    assert auth is not None
    assert auth.dmarc is Result.TEMPERROR


def test_the_organizations_policy_is_for_what_lies_below() -> None:
    zone = Zone({"txt _dmarc.example.com": ["v=DMARC1; p=reject; sp=quarantine"]})
    auth = asked(letter("a@news.example.com"), zone, client="203.0.113.9", sender="")
    assert auth is not None
    assert (auth.dmarc, auth.policy) == (Result.FAIL, "quarantine")
    assert zone.asked[-2:] == ["txt _dmarc.news.example.com", "txt _dmarc.example.com"]


@pytest.mark.parametrize("sender", ["nobody", "a@b.example, c@d.example", "a@"])
def test_a_mail_that_is_from_nobody_or_several_is_not_checked(sender: str) -> None:
    assert asked(b"From: " + sender.encode() + b"\r\n\r\nx", Zone()) is None


def test_without_a_client_to_ask_about_only_signatures_count() -> None:
    auth = asked(letter(), Zone(GOOD), client="")
    assert auth is not None
    assert (auth.spf, auth.dmarc) == (Result.NONE, Result.NONE)


# signatures


def results(content: bytes, keys: dict[str, str | None]) -> list[tuple[str, str]]:
    return [(item.meta["signer"], item.meta["result"]) for item in verify({"keys": keys}, content)]


NAME = "key1._domainkey.example.com"


def test_a_signature_of_a_part_of_the_body_is_neutral() -> None:
    content = signed(letter(), DOMAIN, length=True) + b"Something more.\r\n"
    assert results(content, {NAME: record()}) == [("key1 example.com", "neutral")]


def test_a_signature_that_we_cannot_check_is_neutral() -> None:
    text = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
    assert results(signed(letter(), DOMAIN), {NAME: text}) == [("key1 example.com", "neutral")]


def test_a_key_that_is_too_short_is_none() -> None:
    assert results(signed(letter(), DOMAIN, bits=1024), {NAME: record(1024)}) == [("key1 example.com", "pass")]
    assert results(signed(letter(), DOMAIN), {NAME: "v=DKIM1; p="}) in (
        [("key1 example.com", "fail")],
        [("key1 example.com", "permerror")],
    )


@pytest.mark.parametrize("text", ["", "p=!!!", "v=DKIM9; p=AAAA", "k=odd; p=AAAA", "nonsense", "p=" + "A" * 9000])
def test_a_key_that_is_none_proves_nothing(text: str) -> None:
    assert all(result != "pass" for _, result in results(signed(letter(), DOMAIN), {NAME: text}))


def test_a_mail_with_a_signature_that_is_changed_anywhere_never_passes_wrongly() -> None:
    content = signed(letter(), DOMAIN)
    head = content.find(b"\r\nFrom:")
    for at in range(0, head, 3):
        changed = bytearray(content)
        changed[at] ^= 1
        for _, result in results(bytes(changed), {NAME: record()}):
            # Blanks may be others, and a form feed is one to the library; that is what relaxed means.
            assert result != "pass" or bytes(changed[at : at + 1]).isspace()


@pytest.mark.parametrize(
    "field",
    [
        b"",
        b"v=1",
        b"v=1; a=rsa-sha256; d=example.com; s=key1; h=from; bh=; b=",
        b"v=1; a=rsa-sha256; d=example.com; s=key1; h=FROM; bh=AAAA; b=AAAA; c=odd/odd",
        b"v=1; v=1",
        b"=;=;=",
        b"v=1; a=rsa-sha256; d=\xff; s=\xff; h=from; bh=AAAA; b=AAAA",
        b"v=1; a=rsa-sha256; d=example.com; s=key1; h=from; bh=AAAA; b=AAAA; l=99999999999999999999; x=1; t=2",
    ],
)
def test_a_signature_that_is_none_does_no_harm(field: bytes) -> None:
    content = b"DKIM-Signature: " + field + b"\r\nFrom: a@example.com\r\n\r\nx\r\n"
    assert all(result != "pass" for _, result in results(content, {NAME: record()}))


def test_a_mail_that_would_take_the_library_too_long_is_not_checked() -> None:
    content = signed(letter(text="x"), DOMAIN) + b" " * LONGEST_BLANK + b"x"
    assert results(content, {NAME: record()}) == []


@pytest.mark.parametrize(
    ("signer", "name"),
    [
        ("key1 example.com", NAME),
        ("KEY1 Example.COM.", NAME),
        ("a.b example.com", "a.b._domainkey.example.com"),
        (" example.com", None),
        ("key1 ", None),
        ("key1", None),
        ("a/b example.com", None),
        ("key1 exa mple.com", None),
        ("key1 example..com", None),
        ("k" * 250 + " example.com", None),
    ],
)
def test_where_a_key_is(signer: str, name: str | None) -> None:
    assert key_name(signer) == name


# name servers


@pytest.mark.parametrize(
    ("rdata", "text"),
    [(b"\x03abc", b"abc"), (b"\x02ab\x01c", b"abc"), (b"", b""), (b"\0", b""), (b"\x09abc", b"abc")],
)
def test_the_strings_of_a_text_are_put_together(rdata: bytes, text: bytes) -> None:
    assert texts_of(rdata) == text


@pytest.fixture
def real_loop() -> Iterator[RealLoop]:
    made = RealLoop()
    yield made
    made.close()


RECORDS = """$TTL 60
@ SOA ns root 1 60 60 60 30
@ NS ns
ns A 127.0.0.1
@ TXT "v=spf1 mx " "a:out.example.com include:_spf.example.com -all"
@ MX 10 mx
mx A 198.51.100.1
out AAAA 2001:db8::7
_spf TXT "v=spf1 ip4:198.51.100.7 ?all"
_dmarc TXT "v=DMARC1; p=quarantine; adkim=s"
"""


@pytest.fixture
def resolver(real_loop: RealLoop, tmp_path: Path) -> Iterator[DnsProcessor]:
    """BIND with a zone of a mail domain, and our resolver that asks it."""
    address = Address("127.0.0.1", server_port())
    text = record()
    halves = f'key1._domainkey TXT "{text[:200]}" "{text[200:]}"\n'
    (tmp_path / "zone").write_text(RECORDS + halves)
    (tmp_path / "conf").write_text(
        f'options {{ directory "{tmp_path}"; listen-on port {address.port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};'
        " recursion no; dnssec-validation no; pid-file none; session-keyfile none; };\ncontrols { };\n"
        'zone "example.com" { type primary; file "zone"; };\n'
    )
    where = shutil.which("named", path=os.environ.get("PATH", "") + ":/usr/sbin")
    assert where is not None, "BIND is not installed"
    with open(tmp_path / "log", "wb") as log:
        process = subprocess.Popen([where, "-g", "-c", str(tmp_path / "conf"), "-n", "1"], stdout=log, stderr=log)
    rules = Rules(number=2, soon=0.2, every=0.2, now=0.4)
    processor = DnsProcessor(real_loop.handler, real_loop, NameServers(ServerGroup([address], rules=rules)))
    processor.start()
    for _ in range(200):
        probe: Deferred[Any] = processor.query("ns.example.com.", A, real_loop.seconds() + 1)
        real_loop.wait_for(probe)
        if isinstance(outcome(probe), Answer):
            break
        assert process.poll() is None, "BIND has ended"
        time.sleep(0.05)
    yield processor
    processor.stop()
    process.kill()
    process.wait()


def test_a_mail_is_checked_with_what_bind_says(real_loop: RealLoop, resolver: DnsProcessor) -> None:
    content = signed(letter(), DOMAIN)
    head = next(each for each in seen(content) if isinstance(each, Head))
    for client, spf in (
        ("198.51.100.1", Result.PASS),
        ("198.51.100.7", Result.PASS),
        ("2001:db8::7", Result.PASS),
        ("203.0.113.1", Result.FAIL),
    ):
        names = MailNames(resolver, real_loop.seconds, 20.0)
        work: Deferred[Any] = Deferred.fromCoroutine(
            authenticate(head, content, client, "x@example.com", "", names, Workers())
        )
        real_loop.wait_for(work)
        assert outcome(work) == Auth(DOMAIN, spf, DOMAIN, True, Result.PASS, True, Result.PASS, "quarantine")


def test_a_mail_may_ask_so_much_and_no_more() -> None:
    class Nobody:
        def query(self, name: str, rtype: int, deadline: float) -> Any:
            raise AssertionError("nobody is asked")

    names = MailNames(Nobody(), lambda: 0.0, 1.0)
    names._left = 0
    assert isinstance(outcome(Deferred.fromCoroutine(names.txt("example.com"))), ResolveError)
    assert MOST_ASKED == 64

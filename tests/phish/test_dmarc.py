from __future__ import annotations

import pytest

from sslintercept.phish.dmarc import Auth, Policy, Signed, aligned, decide, domain_of, from_results, parse, places
from sslintercept.phish.spf import Result


@pytest.mark.parametrize(
    ("texts", "policy"),
    [
        (["v=DMARC1; p=reject"], Policy("reject", "reject")),
        (["v=DMARC1;p=quarantine; sp=none ; aspf=s; adkim=S"], Policy("quarantine", "none", True, True)),
        (["v=DMARC1; p=none; rua=mailto:a@b.example"], Policy("none", "none")),
        (["v=DMARC1; p=odd"], Policy("none", "none")),
        (["v=DMARC1"], Policy("none", "none")),
        (["v=DMARC1; p=reject; t=y"], Policy("none", "none")),
        (["other", "v=DMARC1; p=reject; sp=odd"], Policy("reject", "reject")),
        (["v=DMARC1; p=reject", "v=DMARC1; p=none"], None),
        (["v=DMARC12; p=reject"], None),
        (["p=reject; v=DMARC1"], None),
        (["v=DMARC1; p=reject" + " " * 5000], None),
        ([], None),
    ],
)
def test_a_record_is_read(texts: list[str], policy: Policy | None) -> None:
    assert parse(text.encode() for text in texts) == policy


def test_a_record_is_looked_for_at_the_domain_and_at_its_organization() -> None:
    assert places("a.b.example.co.uk") == ("_dmarc.a.b.example.co.uk", "_dmarc.example.co.uk")
    assert places("example.com") == ("_dmarc.example.com",)


@pytest.mark.parametrize(
    ("one", "other", "strict", "same"),
    [
        ("example.com", "example.com", True, True),
        ("mail.example.com", "example.com", False, True),
        ("mail.example.com", "example.com", True, False),
        ("a.co.uk", "b.co.uk", False, False),
        ("evil-example.com", "example.com", False, False),
        ("", "", False, False),
    ],
)
def test_domains_of_one_organization_are_aligned(one: str, other: str, strict: bool, same: bool) -> None:
    assert aligned(one, other, strict) is same


REJECT = Policy("reject", "quarantine")
GOOD, BAD, SILENT = (Signed("mail.example.com", each) for each in (Result.PASS, Result.FAIL, Result.TEMPERROR))
OTHER = Signed("other.example", Result.PASS)


@pytest.mark.parametrize(
    ("policy", "spf", "spf_domain", "signatures", "expected"),
    [
        (REJECT, Result.PASS, "example.com", [], Result.PASS),
        (REJECT, Result.PASS, "bounce.example.com", [BAD], Result.PASS),
        (REJECT, Result.PASS, "other.example", [], Result.FAIL),
        (REJECT, Result.FAIL, "example.com", [GOOD], Result.PASS),
        (REJECT, Result.SOFTFAIL, "example.com", [OTHER], Result.FAIL),
        (REJECT, Result.NONE, "", [BAD, OTHER, GOOD], Result.PASS),
        (REJECT, Result.NONE, "", [], Result.FAIL),
        (REJECT, Result.TEMPERROR, "example.com", [], Result.TEMPERROR),
        (REJECT, Result.FAIL, "example.com", [SILENT], Result.TEMPERROR),
        (Policy("reject", "none", True, True), Result.PASS, "bounce.example.com", [GOOD], Result.FAIL),
        (None, Result.FAIL, "example.com", [BAD], Result.NONE),
    ],
)
def test_one_aligned_proof_is_enough(
    policy: Policy | None, spf: Result, spf_domain: str, signatures: list[Signed], expected: Result
) -> None:
    assert decide("example.com", policy, True, spf, spf_domain, signatures).dmarc is expected


def test_the_policy_for_what_lies_below_is_the_one_for_what_lies_below() -> None:
    assert decide("example.com", REJECT, True, Result.FAIL, "", []).policy == "reject"
    assert decide("a.example.com", REJECT, False, Result.FAIL, "", []).policy == "quarantine"
    assert decide("example.com", None, True, Result.FAIL, "", []).policy == ""


def test_without_spf_a_mail_that_is_not_signed_is_neither_good_nor_bad() -> None:
    assert decide("example.com", REJECT, True, Result.NONE, "", [], spf_known=False).dmarc is Result.NONE
    assert decide("example.com", REJECT, True, Result.NONE, "", [GOOD], spf_known=False).dmarc is Result.PASS


@pytest.mark.parametrize(
    ("address", "domain"),
    [
        ("a@example.com", "example.com"),
        ("a@EXAMPLE.com.", "example.com"),
        ("a@b@c.example", "c.example"),
        ("nobody", ""),
        ("a@b\u00fccher.example", "xn--bcher-kva.example"),
        ("a@not a host", ""),
        ("", ""),
    ],
)
def test_the_domain_of_an_address_is_behind_its_last_at(address: str, domain: str) -> None:
    assert domain_of(address) == domain


FIELD = (
    "MX.example.org 1; dkim=pass (2048 bit; unprotected) header.d=mail.example.com header.i=@mail.example.com; "
    "spf=fail (no) smtp.mailfrom=bounce@example.com; dmarc=pass (p=REJECT sp=NONE dis=NONE) header.from=example.com"
)


def test_what_a_trusted_server_found_is_believed() -> None:
    auth = from_results("example.com", ["evil.example; dmarc=pass", FIELD], ["mx.example.org"])
    assert auth == Auth(
        "example.com",
        spf=Result.FAIL,
        spf_domain="example.com",
        aligned_spf=True,
        dkim=Result.PASS,
        aligned_dkim=True,
        dmarc=Result.PASS,
        policy="reject",
        source="mx.example.org",
    )


@pytest.mark.parametrize(
    "field",
    [
        "other.example; dmarc=pass",
        "mx.example.org.evil.example; dmarc=pass",
        "(mx.example.org) evil.example; dmarc=pass",
        "; dmarc=pass",
        "",
    ],
)
def test_what_others_found_is_not(field: str) -> None:
    assert from_results("example.com", [field], ["mx.example.org"]) is None


def test_of_several_fields_the_newest_of_a_trusted_server_counts() -> None:
    fields = ["mx.example.org; dmarc=fail header.from=a.example", "mx.example.org; dmarc=pass header.from=a.example"]
    auth = from_results("a.example", fields, ["mx.example.org"])
    assert auth is not None
    assert auth.dmarc is Result.FAIL


@pytest.mark.parametrize("field", ["mx.example.org; none", "mx.example.org; spf=odd; dkim=; x", "mx.example.org"])
def test_what_says_nothing_proves_nothing(field: str) -> None:
    auth = from_results("a.example", [field], ["mx.example.org"])
    assert auth is not None
    assert auth.dmarc is Result.NONE
    assert not auth.aligned_spf
    assert not auth.aligned_dkim

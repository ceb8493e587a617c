"""Tokens and cookies of users' consents, and what cannot be passed off as one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from sslintercept.facts import Address, Facts, RequestHead
from sslintercept.http.consent import (
    LINK,
    MOST_TARGET,
    MOST_TOKENS,
    PATH,
    Consents,
    Signer,
    cookie_name,
    domain_of,
    is_ours,
    read_link,
    take,
)
from sslintercept.http.head import read_request, write_request

KEY = b"k" * 32
NOW = 1_700_000_000.5
HOUR = 3600.0


def head(target: str = "/a?b=%20c", host: str = "www.site.test", scheme: str = "http", fields: str = "") -> RequestHead:
    raw = f"GET {target} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n".encode()
    return read_request(raw, scheme, Address(host.partition(":")[0], 443 if scheme == "https" else 80))


def facts(client: str = "192.0.2.7", user: str | None = None) -> Facts:
    made = Facts("c1", Address(client, 40000), "proxy")
    made.user = user
    return made


def consents(rule: str = "r", seconds: float = HOUR, key: bytes = KEY) -> Consents:
    return Consents(key, {rule: seconds, "other": HOUR})


def tokens(cookies: list[str]) -> list[str]:
    return [cookie.partition("=")[2].partition(";")[0] for cookie in cookies]


# tokens


def test_a_token_holds_until_it_ends() -> None:
    signer = Signer(KEY)
    token = signer.token(NOW + HOUR, "a", "b")
    assert signer.holds(token, NOW, HOUR, "a", "b")
    assert signer.holds(token, NOW + HOUR - 1, HOUR, "a", "b")
    assert not signer.holds(token, NOW + HOUR, HOUR, "a", "b")


def test_a_token_that_lasts_longer_than_the_rule_now_says_holds_no_more() -> None:
    signer = Signer(KEY)
    assert not signer.holds(signer.token(NOW + HOUR, "a"), NOW, 60.0, "a")


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "1700003600.",
        "1700003600." + "A" * 43,
        "-1." + "A" * 43,
        "9" * 13 + "." + "A" * 43,
        "1700003600\n." + "A" * 43,
        "١٧٠٠٠٠٣٦٠٠." + "A" * 43,
    ],
)
def test_what_is_no_token_of_ours_holds_nothing(token: str) -> None:
    assert not Signer(KEY).holds(token, NOW, HOUR, "a")


def test_a_token_of_another_key_or_time_holds_nothing() -> None:
    token = Signer(KEY).token(NOW + HOUR, "a")
    assert not Signer(b"K" * 32).holds(token, NOW, HOUR, "a")
    until, _, code = token.partition(".")
    assert not Signer(KEY).holds(f"{int(until) + 1}.{code}", NOW, 2 * HOUR, "a")


@given(some.lists(some.text(max_size=5), max_size=4), some.lists(some.text(max_size=5), max_size=4))
def test_a_token_is_for_its_parts_and_no_others(made_for: list[str], used_for: list[str]) -> None:
    signer = Signer(KEY)
    assert signer.holds(signer.token(NOW + 9, *made_for), NOW, HOUR, *used_for) is (made_for == used_for)


# consents


def test_a_consent_holds_for_its_client_rule_and_host() -> None:
    made = tokens(consents().cookies(facts(), "r", head(), NOW))
    assert consents().given(facts(), "r", "www.site.test", made, NOW)
    for who, rule, host in (
        (facts("192.0.2.8"), "r", "www.site.test"),
        (facts(user="ada"), "r", "www.site.test"),
        (facts(), "other", "www.site.test"),
        (facts(), "unknown", "www.site.test"),
        (facts(), "r", "www.else.test"),
    ):
        assert not consents().given(who, rule, host, made, NOW)
    assert not consents().given(facts(), "r", "www.site.test", made, NOW + HOUR)
    assert not consents(key=b"K" * 32).given(facts(), "r", "www.site.test", made, NOW)


def test_a_consent_of_a_user_is_not_bound_to_an_address() -> None:
    made = tokens(consents().cookies(facts(user="ada"), "r", head(), NOW))
    assert consents().given(facts("192.0.2.8", user="ada"), "r", "www.site.test", made, NOW)
    assert not consents().given(facts(), "r", "www.site.test", made, NOW)


def test_a_user_with_an_address_for_a_name_is_not_that_address() -> None:
    made = tokens(consents().cookies(facts(user="192.0.2.7"), "r", head(), NOW))
    assert not consents().given(facts(), "r", "www.site.test", made, NOW)


def test_the_cookie_for_the_domain_serves_the_other_hosts_of_a_site() -> None:
    of_host, of_domain = tokens(consents().cookies(facts(), "r", head(), NOW))
    for host in ("site.test", "static.site.test", "www.site.test"):
        assert consents().given(facts(), "r", host, [of_domain], NOW)
    assert not consents().given(facts(), "r", "static.site.test", [of_host], NOW)
    assert not consents().given(facts(), "r", "site.test", [of_host], NOW)


def test_only_some_tokens_of_a_request_are_looked_at() -> None:
    made = tokens(consents().cookies(facts(), "r", head(), NOW))
    assert consents().given(facts(), "r", "www.site.test", ["x"] * (MOST_TOKENS - 1) + made, NOW)
    assert not consents().given(facts(), "r", "www.site.test", ["x"] * MOST_TOKENS + made, NOW)


def test_cookies_over_tls_have_names_that_only_tls_can_set() -> None:
    name = cookie_name("r")
    of_host, of_domain = consents().cookies(facts(), "r", head(scheme="https"), NOW)
    assert of_host.startswith(f"__Host-{name}=")
    assert of_domain.startswith(f"__Secure-{name}=")
    assert of_host.partition("; ")[2] == "Path=/; Max-Age=3600; HttpOnly; SameSite=Lax; Secure"
    assert of_domain.endswith("; HttpOnly; SameSite=Lax; Secure; Domain=site.test")


def test_cookies_in_the_clear_are_plain_and_an_address_has_no_domain() -> None:
    of_host, of_domain = consents().cookies(facts(), "r", head(), NOW)
    assert of_host.startswith(f"{cookie_name('r')}=")
    assert "Secure" not in of_host + of_domain
    assert len(consents().cookies(facts(), "r", head(host="192.0.2.1"), NOW)) == 1


@pytest.mark.parametrize(
    ("host", "domain"),
    [
        ("site.test", "site.test"),
        ("a.b.site.test", "site.test"),
        ("www.site.co.uk", "site.co.uk"),
        ("co.uk", None),
        ("www.site.de", "site.de"),
        ("localhost", None),
        ("192.0.2.1", None),
        ("2001:db8::1", None),
        ("a..test", None),
    ],
)
def test_the_domain_that_a_host_is_registered_under(host: str, domain: str | None) -> None:
    assert domain_of(host) == domain


# links


def followed(target: str, who: Facts | None = None, now: float = NOW, **other: str) -> bytes | None:
    link = consents().follow(who or facts(), head(target, **other), now)
    return link.target if link is not None else None


def test_a_link_leads_back_to_where_it_was_given() -> None:
    link = consents().link(facts(), "r", head(), NOW)
    assert link.startswith(PATH.decode() + "?rule=r&token=")
    assert followed(link) == b"/a?b=%20c"


def test_a_link_is_of_no_use_to_others_elsewhere_or_later() -> None:
    link = consents().link(facts(), "r", head(), NOW)
    assert followed(link, facts("192.0.2.8")) is None
    assert followed(link, facts(user="ada")) is None
    assert followed(link, host="site.test") is None
    assert followed(link, host="www.site.test:8080") is None
    assert followed(link, scheme="https") is None
    assert followed(link, now=NOW + LINK) is None
    assert followed(link, now=NOW + LINK - 1) is not None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("rule=r", "rule=other"),
        ("rule=r", "rule=none"),
        ("to=%2Fa", "to=%2Fb"),
        ("&to=", "&to=%2F"),
        ("token=1", "token=2"),
    ],
)
def test_a_link_that_was_changed_leads_nowhere(old: str, new: str) -> None:
    link = consents().link(facts(), "r", head(), NOW)
    assert old in link
    assert followed(link.replace(old, new)) is None


def test_a_consent_is_no_link_and_a_link_no_consent() -> None:
    link = consents().link(facts(), "r", head("/"), NOW)
    token = link.partition("token=")[2].partition("&")[0]
    assert not consents(seconds=HOUR).given(facts(), "r", "www.site.test", [token], NOW)
    (consent, _) = tokens(consents().cookies(facts(), "r", head("/"), NOW))
    assert followed(link.replace(token, consent)) is None


@pytest.mark.parametrize("target", ["/" + "x" * MOST_TARGET, "/?" + "%" * MOST_TARGET])
def test_from_a_very_long_address_a_user_comes_to_the_first_page(target: str) -> None:
    assert followed(consents().link(facts(), "r", head(target), NOW)) == b"/"


def test_a_link_holds_every_byte_that_a_target_may_have() -> None:
    target = "/" + "".join(chr(byte) for byte in range(0x21, 0x7F) if chr(byte) != "#")
    assert followed(consents().link(facts(), "r", head(target), NOW)) == target.encode()


@pytest.mark.parametrize(
    ("target", "ours"),
    [
        (b"/.sslintercept/continue", True),
        (b"/.sslintercept/continue?x", True),
        (b"/.sslintercept/continue/x", True),
        (b"/.sslintercept/continued", False),
        (b"/x/.sslintercept/continue", False),
        (b"/", False),
    ],
)
def test_whatever_is_asked_of_the_path_is_for_us(target: bytes, ours: bool) -> None:
    assert is_ours(target) is ours
    assert read_link(target) is None


# cookies on their way


@pytest.mark.parametrize(
    ("fields", "left", "found"),
    [
        ("", None, []),
        ("Cookie: a=b; c=d\r\n", b"a=b; c=d", []),
        ("Cookie: sslintercept-0123abcd=t\r\n", None, ["t"]),
        ("Cookie: a=b; __Host-sslintercept-0123abcd=t; c=d\r\n", b"a=b; c=d", ["t"]),
        ("cookie: __Secure-sslintercept-0123abcd=1;sslintercept-0123abcd=2;; a=b\r\n", b"a=b", ["1", "2"]),
        (
            "Cookie: sslintercept-other=x; a=sslintercept-0123abcd\r\n",
            b"sslintercept-other=x; a=sslintercept-0123abcd",
            [],
        ),
        ("X: sslintercept-0123abcd=x\r\nCookie: a=b\r\n", b"a=b", []),
        ("Cookie: sslintercept-0123abcd\r\n", None, [""]),
    ],
)
def test_our_cookies_are_taken_out_and_the_others_stay(fields: str, left: bytes | None, found: list[str]) -> None:
    request = head(fields=fields)
    assert take(request) == found
    written = write_request(request, None)
    cookies = [line.partition(b": ")[2] for line in written.split(b"\r\n") if line.lower().startswith(b"cookie:")]
    assert cookies == ([] if left is None else [left])


def test_a_request_without_our_cookies_is_not_taken_apart() -> None:
    request = head(fields="Cookie: a=b\r\n")
    assert take(request) == []
    assert request.block is not None

"""Conditions: their syntax, their three answers, and every fact they look at."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslintercept.facts import UNKNOWN, Address, ClientHello, Facts, Verdict
from sslintercept.rule import match
from sslintercept.rule.match import CONDITIONS, parse

JA4 = "t13d1516h2_8daaf6152771_e5627efa2ab1"


def hello(ja4: str = JA4) -> ClientHello:
    return ClientHello(
        version=0x0303,
        versions=(0x0304,),
        ciphers=(0x1301,),
        extensions=(),
        server_name=None,
        alpn=(),
        groups=(),
        key_shares=(),
        signature_algorithms=(),
        resumes=False,
        ech=False,
        grease=False,
        ja4=ja4,
        size=100,
    )


def to(host: str, port: int = 443) -> Facts:
    facts = Facts("c1", Address("192.0.2.7", 40000), "proxy")
    facts.destination = Address(host, port)
    return facts


def named(sni: str | None, host: str = "www.example.com") -> Facts:
    facts = to(host)
    facts.server_name = sni
    return facts


@pytest.mark.parametrize("text", ["", "  ", "\n\t"])
def test_no_text_matches_everything(text: str) -> None:
    nobody = Facts("c1", Address("192.0.2.7", 1), "proxy")
    assert parse(text).judge(nobody) is True
    assert parse(text).words(nobody) == "it matches everything"


@pytest.mark.parametrize(
    ("text", "host", "answer"),
    [
        ("host:example.com", "example.com", True),
        ("host:example.com", "www.example.com", False),
        ("host:example.com", "EXAMPLE.com.", True),
        ("host:Example.COM.", "example.com", True),
        ("HOST:example.com", "example.com", True),
        ("host:*.example.com", "www.example.com", True),
        ("host:*.example.com", "a.b.c.example.com", True),
        ("host:*.example.com", "example.com", False),
        ("host:*.example.com", "badexample.com", False),
        ("host:.example.com", "example.com", True),
        ("host:.example.com", "a.b.example.com", True),
        ("host:.example.com", "badexample.com", False),
        ("host:.com", "example.com", True),
        ("host:a.example,b.example", "b.example", True),
        ("host:_dmarc.a_b.example", "_dmarc.a_b.example", True),
        ("host:bücher.example", "xn--bcher-kva.example", True),
        ("host:xn--bcher-kva.example", "BÜCHER.example.", True),
        ("host:*.bücher.example", "www.xn--bcher-kva.example", True),
        ("host:bücher。example", "bücher.example", True),
        ("host:*", "anything.example", True),
        ("host:*", "2001:db8::1", True),
        ("host:*", "x" * 300, True),
        ("host:192.0.2.1", "192.0.2.1", True),
        ("host:192.0.2.1", "192.0.2.2", False),
        ("host:192.0.2.0/24", "192.0.2.200", True),
        ("host:192.0.2.0/24", "192.0.3.1", False),
        ("host:0.0.0.0/0", "198.51.100.1", True),
        ("host:0.0.0.0/0", "2001:db8::1", False),
        ("host:::/0", "192.0.2.1", False),
        ("host:2001:db8::/32", "2001:db8::7", True),
        ("host:[2001:db8::7]", "2001:DB8:0::7", True),
        ("host:[2001:db8::]/32", "[2001:db8::7]", True),
        ("host:fe80::/10", "fe80::1%eth0", True),
        ("host:192.0.2.0/24", "::ffff:192.0.2.1", True),
        ("host:::ffff:192.0.2.0/120", "192.0.2.1", True),
        ("host:::ffff:192.0.2.9", "192.0.2.9", True),
        ("host:192.0.2.0/24", "192.0.2.1.example", False),
        ("host:192.0.2.0/24", "300.0.2.1", False),
        ("host:192.0.2.0/24", "192.0.2.1.", False),
        ("host:example.com", "a\ud800.example", False),
        ("host:example.com", "", False),
        ("host:example.com", "x" * 300, False),
        ("!host:example.com", "example.com", False),
        ("!host:example.com", "example.org", True),
        ("!host:a.example,b.example", "b.example", False),
        ("port:443", "a.example", True),
        ("port:80,443", "a.example", True),
        ("port:80", "a.example", False),
        ("port:400-443", "a.example", True),
        ("port:443-500", "a.example", True),
        ("port:444-500", "a.example", False),
        ("port:443-443", "a.example", True),
        ("port:1-65535", "a.example", True),
        ("host:a.example port:443", "a.example", True),
        ("host:a.example port:80", "a.example", False),
        ("host:a.example\n  port:443", "a.example", True),
        ("host:b.example,\n  a.example ,c.example port:443", "a.example", True),
    ],
)
def test_a_destination_is_judged(text: str, host: str, answer: bool) -> None:
    assert parse(text).judge(to(host)) is answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("client:192.0.2.0/24", True),
        ("client:192.0.2.7", True),
        ("client:198.51.100.0/24,192.0.2.0/24", True),
        ("client:198.51.100.0/24", False),
        ("!client:198.51.100.0/24", True),
        ("listener:proxy", True),
        ("listener:PROXY", True),
        ("listener:socks,proxy", True),
        ("listener:socks", False),
        ("protocol:tls", True),
        ("protocol:HTTP/1,TLS", True),
        ("protocol:ssh", False),
        (f"ja4:{JA4}", True),
        (f"ja4:{JA4.upper()}", True),
        ("ja4:t13d1516h2_8daaf6152771_000000000000", False),
    ],
)
def test_the_client_is_judged(text: str, answer: bool) -> None:
    facts = to("a.example")
    facts.protocol, facts.client_hello = "tls", hello()
    assert parse(text).judge(facts) is answer


def test_a_client_that_is_no_address_lies_in_no_network() -> None:
    facts = Facts("c1", Address("local", 0), "proxy")
    assert parse("client:0.0.0.0/0,::/0").judge(facts) is False


@pytest.mark.parametrize(
    ("text", "sni", "answer"),
    [
        ("sni:*.example.com", "www.example.com", True),
        ("sni:*.example.com", "www.example.org", False),
        ("sni:*", None, False),
        ("!sni:*", None, True),
        ("!sni:*", "www.example.com", False),
        ("sni_mismatch:yes", "www.example.org", True),
        ("sni_mismatch:yes", "WWW.example.com", False),
        ("sni_mismatch:yes", None, False),
        ("sni_mismatch:NO", "www.example.com", True),
        ("sni_mismatch:no", None, True),
        ("!sni_mismatch:yes", "www.example.com", True),
        ("sni_mismatch:yes", "x" * 300, True),
        ("sni_mismatch:yes", "a\ud800.example", True),
    ],
)
def test_the_server_name_is_judged(text: str, sni: str | None, answer: bool) -> None:
    assert parse(text).judge(named(sni)) is answer


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1"])
def test_a_destination_that_is_an_address_names_no_host_the_server_name_could_differ_from(host: str) -> None:
    facts = to(host)
    assert facts.server_name is UNKNOWN
    assert parse("sni_mismatch:no").judge(facts) is True
    facts.server_name = "www.example.com"
    assert parse("sni_mismatch:yes").judge(facts) is False


def test_without_a_destination_the_server_name_differs_from_nothing() -> None:
    facts = named("www.example.com")
    facts.destination = None
    assert parse("sni_mismatch:no").judge(facts) is True


def test_the_mismatch_of_names_waits_for_both() -> None:
    waits = parse("sni_mismatch:yes")
    facts = to("www.example.com")
    assert waits.judge(facts) is None
    facts.destination, facts.server_name = UNKNOWN, "www.example.com"
    assert waits.judge(facts) is None
    facts.destination = Address("other.example", 443)
    assert waits.judge(facts) is True


@pytest.mark.parametrize(
    "text",
    ["host:a.example", "port:443", "sni:a.example", "protocol:tls", f"ja4:{JA4}", "!sni:a.example"],
)
def test_a_condition_whose_fact_is_unknown_waits_unless_none_will_come(text: str) -> None:
    facts = Facts("c1", Address("192.0.2.7", 1), "proxy")
    assert parse(text).judge(facts) is None
    assert parse(text).judge(facts, final=True) is text.startswith("!")


@pytest.mark.parametrize("text", ["host:a.example", "port:443", "sni:a.example", f"ja4:{JA4}"])
def test_a_condition_whose_fact_is_absent_does_not_hold(text: str) -> None:
    facts = Facts("c1", Address("192.0.2.7", 1), "proxy")
    facts.destination = facts.server_name = facts.client_hello = None
    assert parse(text).judge(facts) is False
    assert parse("!" + text).judge(facts) is True
    assert parse(text).words(facts) == f"{text.partition(':')[0]} is absent"


@pytest.mark.parametrize("text", ["sni:a.example port:80", "port:80 sni:a.example"])
def test_one_no_is_enough_whatever_is_unknown(text: str) -> None:
    facts = to("a.example")
    assert facts.server_name is UNKNOWN
    assert parse(text).judge(facts) is False


def test_a_yes_beside_an_unknown_fact_waits() -> None:
    assert parse("port:443 sni:a.example").judge(to("a.example")) is None
    assert parse("sni:a.example port:443").judge(to("a.example")) is None


def test_the_facts_a_match_waits_for_are_named() -> None:
    assert parse("").needs == frozenset()
    assert parse("client:192.0.2.0/24 listener:proxy").needs == frozenset()
    assert parse("host:a.example !port:80").needs == {"destination"}
    assert parse(f"sni_mismatch:yes protocol:tls ja4:{JA4}").needs == {
        "destination",
        "server_name",
        "protocol",
        "client_hello",
    }
    every = frozenset().union(*(kind.needs for kind in CONDITIONS.values()))
    assert every <= set(Facts.__slots__)


@pytest.mark.parametrize(
    ("text", "host", "words"),
    [
        ("host:*.example.com,b.example", "www.example.com", "host www.example.com matches *.example.com"),
        ("host:.example.com", "example.com", "host example.com matches .example.com"),
        ("host:Example.com", "example.com", "host example.com matches Example.com"),
        ("host:192.0.2.0/24", "192.0.2.9", "host 192.0.2.9 matches 192.0.2.0/24"),
        ("host:a.example port:400-500", "a.example", "host a.example matches a.example, port 443 matches 400-500"),
        ("host:a.example port:80", "a.example", "port 443 does not match 80"),
        ("!port:443", "a.example", "port 443 matches 443"),
        ("!port:80", "a.example", "port 443 does not match 80"),
        ("host:a.example sni:b.example", "a.example", "sni is not yet known"),
        ("host:a,b,c,d,e,f", "z", "host z matches none of a, b, c, d and 2 more"),
        ("host:a,b,c,d", "z", "host z matches none of a, b, c, d"),
        ("!client:10.0.0.0/8", "a", "client 192.0.2.7 does not match 10.0.0.0/8"),
        ("host:a", "\x1b[2J", "host '\\x1b[2J' does not match a"),
    ],
)
def test_an_answer_comes_with_its_reason(text: str, host: str, words: str) -> None:
    assert parse(text).words(to(host)) == words


@pytest.mark.parametrize("text", ["mismatch:yes", "!mismatch:yes", "mismatch:no", "sni_mismatch:yes"])
def test_what_is_yes_or_no_is_told_as_such(text: str) -> None:
    facts = to("a")
    facts.protocol, facts.server_name = "tls", "a"
    assert parse(text).words(facts) == f"{text.removeprefix('!').partition(':')[0]} is no"


def test_a_reason_does_not_grow_with_what_the_network_sends() -> None:
    assert len(parse("host:a").words(to("x" * 10_000))) < 300


def test_a_reason_says_that_an_unknown_fact_counted_as_absent() -> None:
    assert parse("!sni:a.example").words(to("a.example"), final=True) == "sni is absent"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("example.com", "'example.com' is not a condition; write name:value, with one of host, port, sni"),
        ("hots:a.example", "unknown condition 'hots', did you mean host? Allowed: host, port, sni"),
        ("!snii:a.example", "unknown condition 'snii', did you mean sni?"),
        (":a.example", "unknown condition ''"),
        ("host:", "host has an empty value; write host:value"),
        ("host:a,,b", "host has an empty value"),
        ("host:a,", "host has an empty value"),
        ("host:www.*.com", "'www.*.com' is not a host; allowed are names"),
        ("host:*example.com", "is not a host"),
        ("host:*.", "is not a host"),
        ("host:.", "is not a host"),
        ("host:..a", "is not a host"),
        ("host:a..b", "is not a host"),
        ("host:-a.example", "is not a host"),
        ("host:http://a.example", "is not a host"),
        ("host:a.example:443", "is not a host"),
        ("host:a, sni:b", "'sni:b' is not a host"),
        ("host:10.0.0", "is not a host"),
        ("host:300.1.1.1", "is not a host"),
        ("host:" + "a" * 64, "is not a host"),
        ("host:" + "a." * 126 + "ab", "is not a host"),
        ("host:ü_ü.example", "is not a name"),
        ("host:10.0.0.1/8", "'10.0.0.1/8' has bits set behind its prefix; 10.0.0.0/8 is the network"),
        ("host:10.0.0.0/33", "is not a host"),
        ("host:10.0.0.0/255.0.0.0x", "is not a host"),
        ("client:a.example", "client: 'a.example' is neither an IP address nor a network"),
        ("client:192.0.2.1/24", "192.0.2.0/24 is the network"),
        ("port:http", "port: 'http' is not a port"),
        ("port:0", "is not a port"),
        ("port:65536", "is not a port"),
        ("port:-80", "is not a port"),
        ("port:80-", "is not a port"),
        ("port:٤٤٣", "is not a port"),
        ("port:" + "9" * 5000, "is not a port"),
        ("port:90-80", "the range '90-80' ends before it begins"),
        ("sni_mismatch:maybe", "sni_mismatch: 'maybe' is neither yes nor no"),
        ("ja4:abc", "ja4: 'abc' is not a JA4 fingerprint"),
        ("port:80 " * 65, "65 conditions are too many; 64 are allowed"),
    ],
)
def test_a_mistake_is_named_with_what_is_allowed(text: str, message: str) -> None:
    with pytest.raises(ValueError) as error:
        parse(text)
    assert message in str(error.value)


def test_a_list_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(match, "MAX_VALUES", 3)
    assert parse("host:a,b,c").judge(to("c")) is True
    with pytest.raises(ValueError, match="host has 4 values; 3 are allowed"):
        parse("host:a,b,c,d")


def test_a_list_of_thousands_looks_a_name_up_once_a_label() -> None:
    table = match.Hosts([f"*.h{number}.example" for number in range(10_000)])
    asked: list[str] = []

    class Counting(dict[str, str]):
        def get(self, key: str, default: str | None = None) -> str | None:  # type: ignore[override]  # one overload
            asked.append(key)
            return super().get(key, default)

    table.below = Counting(table.below)
    assert table.find("a.b.h9999.example") == "*.h9999.example"
    assert asked == ["b.h9999.example", "h9999.example"]


LABELS = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=8).map(lambda text: "a" + text)
NAMES = st.lists(LABELS, min_size=1, max_size=5).map(".".join)


@given(NAMES, NAMES)
def test_every_name_below_a_domain_and_no_other_matches_its_wildcard(name: str, domain: str) -> None:
    assert parse(f"host:*.{domain}").judge(to(f"{name}.{domain}")) is True
    assert parse(f"host:*.{domain}").judge(to(name)) is name.endswith(f".{domain}")
    assert parse(f"host:.{domain}").judge(to(name)) is f".{name}".endswith(f".{domain}")


@given(st.ip_addresses(), st.integers(0, 128), st.ip_addresses())
def test_a_network_holds_what_the_standard_library_says_it_holds(base: object, length: int, other: object) -> None:
    from ipaddress import ip_address, ip_network

    width = ip_address(str(base)).max_prefixlen
    network = ip_network(f"{base}/{min(length, width)}", strict=False)
    mapped = [
        address.version == 6 and int(address) >> 32 == 0xFFFF
        for address in (network.network_address, ip_address(str(other)), network.broadcast_address)
    ]
    # An IPv4 address in IPv6's clothes counts as IPv4.
    if not any(mapped):
        assert parse(f"host:{network}").judge(to(str(other))) is (ip_address(str(other)) in network)
        assert parse(f"host:{network}").judge(to(str(network.broadcast_address))) is True


@given(st.text(max_size=60))
def test_any_text_is_a_match_or_a_mistake_in_words(text: str) -> None:
    try:
        answer: bool | None = parse(text).judge(to("a.example"), final=True)
    except ValueError as error:
        answer = True if str(error) else None
    assert answer in (True, False)


@given(st.text(max_size=300))
def test_any_host_from_the_network_gets_an_answer(host: str) -> None:
    rule = parse("host:*.example.com,192.0.2.0/24 sni_mismatch:no")
    facts = named(host, host=host)
    assert rule.judge(facts) in (True, False)
    assert rule.words(facts).isprintable()


@pytest.mark.parametrize(
    ("text", "user", "answer"),
    [
        ("user:alice", "Alice", True),
        ("user:alice,bob", "carol", False),
        ("user:alice", None, False),
        ("user:*", "carol", True),
        ("!user:*", None, True),
    ],
)
def test_a_user_is_known_once_logged_in_and_absent_before(text: str, user: str | None, answer: bool) -> None:
    facts = to("example.com")
    facts.user = user
    assert parse(text).judge(facts) is answer


@pytest.mark.parametrize(
    ("text", "depth", "answer"), [("depth:0", 0, True), ("depth:2-99", 1, False), ("depth:2-99", 3, True)]
)
def test_layers_are_counted(text: str, depth: int, answer: bool) -> None:
    facts = to("example.com")
    facts.depth = depth
    assert parse(text).judge(facts) is answer


@pytest.mark.parametrize("text", ["depth:100", "depth:-1", "depth:two", "depth:3-2"])
def test_what_is_no_number_of_layers_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="depth"):
        parse(text)


@pytest.mark.parametrize(("mismatch", "answer"), [(None, None), (False, False), (True, True)])
def test_a_verdict_may_go_against_the_port(mismatch: bool | None, answer: bool | None) -> None:
    facts = to("example.com", 25)
    if mismatch is not None:
        facts.protocol = "tls"
        facts.verdicts.append(Verdict("tls", "its first bytes", mismatch=mismatch))
    assert parse("mismatch:yes").judge(facts) is answer

"""Mail through the gateway: real servers, real clients, in the clear, with STARTTLS, and in TLS from the first byte."""

from __future__ import annotations

import imaplib
import os
import poplib
import smtplib
from pathlib import Path

import pytest

from tests.process.conftest import ProxyMaker
from tests.process.mailservers import PASSWORD, USER, Dovecot, Postfix
from tests.process.origins import body
from tests.process.running import curl
from tests.process.servers import NAME
from tests.process.tools import PATIENCE, run, server_port, tool, wait_for

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="Postfix and Dovecot are started by root only")

ORDER = ("smtp", "smtps", "imap", "imaps", "pop3", "pop3s")


class Doors:
    """A gateway with a door for each protocol."""

    def __init__(self, make: ProxyMaker, postfix: Postfix, dovecot: Dovecot, more: str = "") -> None:
        targets = (postfix.port, postfix.secure, dovecot.port, dovecot.imaps, dovecot.pop3, dovecot.pop3s)
        self._ports = {name: server_port() for name in ORDER}
        self.proxy = make(
            more
            + "".join(
                f"[listen:{name}]\nendpoint = tcp:{self._ports[name]}:interface=127.0.0.1\ntarget = {NAME}:{target}\n"
                for name, target in zip(ORDER, targets, strict=True)
            )
        )
        self.context = self.proxy.context()

    def port(self, name: str) -> int:
        """Of the door for a protocol."""
        return self._ports[name]


@pytest.fixture(scope="module")
def doors(module_proxy: ProxyMaker, postfix: Postfix, dovecot: Dovecot) -> Doors:
    """One with the usual settings."""
    return Doors(module_proxy, postfix, dovecot)


MODES = ["plain", "starttls", "tls"]


def send(doors: Doors, mode: str, subject: str, content: bytes = b"hello\r\n..dots\r\n") -> None:
    """Hand a mail in."""
    port = doors.port("smtps" if mode == "tls" else "smtp")
    client: smtplib.SMTP
    if mode == "tls":
        client = smtplib.SMTP_SSL(NAME_AT, port, context=doors.context, timeout=PATIENCE)
    else:
        client = smtplib.SMTP(NAME_AT, port, timeout=PATIENCE)
    with client:
        if mode == "starttls":
            client.starttls(context=doors.context)
        client.sendmail("x@y.test", [f"{USER}@mail.test"], b"Subject: %b\r\n\r\n%b" % (subject.encode(), content))


NAME_AT = "127.0.0.1"


def imap(doors: Doors, mode: str) -> imaplib.IMAP4:
    """Logged in to the mailbox."""
    if mode == "tls":
        client: imaplib.IMAP4 = imaplib.IMAP4_SSL(
            NAME_AT, doors.port("imaps"), ssl_context=doors.context, timeout=PATIENCE
        )
    else:
        client = imaplib.IMAP4(NAME_AT, doors.port("imap"), timeout=PATIENCE)
        if mode == "starttls":
            client.starttls(doors.context)
    try:
        client.login(USER, PASSWORD)
        assert client.select("INBOX")[0] == "OK"
    except BaseException:
        client.shutdown()
        raise
    return client


def arrived(doors: Doors, subject: str) -> bytes:
    """A mail as IMAP gives it out, once it is there."""
    found: list[bytes] = []
    client = imap(doors, "tls")

    def there() -> bool:
        client.noop()
        numbers = client.search(None, "SUBJECT", f'"{subject}"')[1][0].split()
        if numbers:
            answer = client.fetch(numbers[-1].decode(), "(BODY.PEEK[])")[1][0]
            assert isinstance(answer, tuple)
            found.append(answer[1])
        return bool(numbers)

    wait_for("the mail", there)
    client.logout()
    return found[0]


STACKS = {"plain": "tcp/{0}", "starttls": "tcp/{0}/tls1.3/{0}", "tls": "tcp/tls1.3/{0}"}


def seen(doors: Doors, mode: str, protocol: str, listener: str) -> None:
    """The log names every layer, and no password."""
    stack = STACKS[mode].format(protocol)
    line = doors.proxy.logged(lambda line: line["stack"] == stack and line["listener"] == listener)
    assert line["upstream_tls"] is None or line["upstream_tls"]["verified"] == "ok"
    assert PASSWORD not in doors.proxy.said() + str(doors.proxy.log())


@pytest.mark.parametrize("mode", MODES)
def test_a_mail_is_handed_in_and_arrives_as_it_was(doors: Doors, mode: str) -> None:
    send(doors, mode, f"sent in {mode}")
    assert arrived(doors, f"sent in {mode}").endswith(b"hello\r\n..dots\r\n")
    seen(doors, mode, "smtp", "smtps" if mode == "tls" else "smtp")


def test_chunks_that_are_pipelined_arrive_as_one_mail(doors: Doors) -> None:
    """BDAT with dots and bytes above 0x7f, addresses in UTF-8, and everything in one piece (RFC 3030, 2920, 6531)."""
    first, last = b"Subject: in chunks\r\n\r\n.\r\nhello ", "wörld\r\n".encode()
    with smtplib.SMTP(NAME_AT, doors.port("smtp"), timeout=PATIENCE) as client:
        client.starttls(context=doors.context)
        client.ehlo()
        assert {"chunking", "pipelining", "8bitmime", "smtputf8"} <= set(client.esmtp_features)
        assert client.sock is not None
        client.sock.sendall(
            "MAIL FROM:<jürgen@y.test> BODY=8BITMIME SMTPUTF8\r\n".encode()
            + f"RCPT TO:<{USER}@mail.test>\r\n".encode()
            + b"BDAT %d\r\n%bBDAT %d LAST\r\n%b" % (len(first), first, len(last), last)
        )
        assert [client.getreply()[0] for _ in range(4)] == [250] * 4
    assert arrived(doors, "in chunks").endswith(b"\r\n\r\n" + first.partition(b"\r\n\r\n")[2] + last)


def test_ten_megabytes_of_mail_pass(doors: Doors) -> None:
    text = body(5_000_000).hex().encode()
    lines = b"\r\n".join(text[at : at + 76] for at in range(0, len(text), 76)) + b"\r\n"
    send(doors, "starttls", "large", lines)
    assert arrived(doors, "large").endswith(lines)


@pytest.mark.parametrize("mode", MODES)
def test_imap_fetches_appends_and_waits(doors: Doors, mode: str) -> None:
    client = imap(doors, mode)
    message = f"Subject: appended in {mode}\r\n\r\nby hand\r\n".encode()
    assert client.append("INBOX", "", "", message)[0] == "OK"
    assert arrived(doors, f"appended in {mode}") == message
    client.logout()
    seen(doors, mode, "imap", "imaps" if mode == "tls" else "imap")
    assert doors.proxy.logged(lambda line: line["login"] == USER)


def test_imap_tells_who_waits_what_has_come(doors: Doors) -> None:
    waiting = imap(doors, "starttls")
    waiting.send(b"X IDLE\r\n")
    assert waiting.readline().startswith(b"+ ")
    other = imap(doors, "plain")
    assert other.append("INBOX", "", "", b"Subject: news\r\n\r\nhello\r\n")[0] == "OK"
    other.logout()
    while not waiting.readline().endswith(b" EXISTS\r\n"):
        pass
    waiting.send(b"DONE\r\n")
    while not waiting.readline().startswith(b"X OK"):
        pass
    waiting.logout()


WAYS = {
    "http": "tcp/http1/http-connect",
    "https": "tcp/tls1.3/http1/http-connect",
    "socks4a": "tcp/socks4",
    "socks5h": "tcp/socks5",
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", WAYS)
def test_curl_hands_in_and_fetches_mail_by_every_door(
    doors: Doors, postfix: Postfix, dovecot: Dovecot, tmp_path: Path, way: str, mode: str
) -> None:
    proxy = doors.proxy
    subject = f"curl {way} {mode}"
    mail = tmp_path / "mail"
    mail.write_bytes(b"Subject: %b\r\n\r\n.dots\r\n" % subject.encode())
    s = "s" if mode == "tls" else ""
    through: list[str | Path] = ["--proxy", f"{way}://{proxy.ports[0]}", "--proxytunnel"]
    through += ["--proxy-cacert", proxy.ca, "--cacert", proxy.ca]
    through += ["--ssl-reqd"] if mode == "starttls" else []
    got = curl(
        proxy.folder,
        *(*through, "--mail-from", "x@y.test", "--mail-rcpt", f"{USER}@mail.test", "-T", mail),
        f"smtp{s}://{NAME}:{postfix.secure if s else postfix.port}",
    )
    assert got.code == 0, got.said
    assert arrived(doors, subject).endswith(b"\r\n.dots\r\n")
    as_user = ("--user", f"{USER}:{PASSWORD}")
    for url in (
        f"imap{s}://{NAME}:{dovecot.imaps if s else dovecot.port}/INBOX",
        f"pop3{s}://{NAME}:{dovecot.pop3s if s else dovecot.pop3}/",
    ):
        got = curl(proxy.folder, *through, *as_user, url)
        assert got.code == 0, got.said
        assert got.body
    stacks = {STACKS[mode].format(protocol).replace("tcp", WAYS[way], 1) for protocol in ("smtp", "imap", "pop3")}
    wait_for("a line for each", lambda: stacks <= {line["stack"] for line in proxy.log() if line["error"] is None}, 10)


@pytest.mark.parametrize("protocol", ["smtp", "imap", "pop3"])
@pytest.mark.parametrize("way", ["door", "connect"])
def test_openssl_begins_tls_with_our_leaf(
    doors: Doors, postfix: Postfix, dovecot: Dovecot, tmp_path: Path, protocol: str, way: str
) -> None:
    port = {"smtp": postfix.port, "imap": dovecot.port, "pop3": dovecot.pop3}[protocol]
    where = ["-connect", f"127.0.0.1:{doors.port(protocol)}"]
    if way == "connect":
        where = ["-connect", f"{NAME}:{port}", "-proxy", doors.proxy.ports[0]]
    done = run(
        tool("openssl"),
        *("s_client", "-starttls", protocol, "-CAfile", doors.proxy.ca, "-servername", NAME, "-verify_hostname", NAME),
        *("-verify_return_error", "-crlf", "-ign_eof", *where),
        folder=tmp_path,
        given=b"a LOGOUT\n" if protocol == "imap" else b"quit\n",
    )
    assert "Verify return code: 0 (ok)" in done.stdout, done.stdout + done.stderr
    last = {"smtp": "221 2.0.0 Bye", "imap": "a OK Logout completed", "pop3": "+OK Logging out"}[protocol]
    assert last in done.stdout


@pytest.mark.parametrize("mode", MODES)
def test_pop3_retrieves(doors: Doors, mode: str) -> None:
    send(doors, "plain", f"for pop in {mode}")
    arrived(doors, f"for pop in {mode}")
    client: poplib.POP3
    if mode == "tls":
        client = poplib.POP3_SSL(NAME_AT, doors.port("pop3s"), context=doors.context, timeout=PATIENCE)
    else:
        client = poplib.POP3(NAME_AT, doors.port("pop3"), timeout=PATIENCE)
        if mode == "starttls":
            client.stls(doors.context)
    client.user(USER)
    client.pass_(PASSWORD)
    number = client.stat()[0]
    assert any(f"for pop in {mode}".encode() in b"\n".join(client.retr(n)[1]) for n in range(1, number + 1))
    client.quit()
    seen(doors, mode, "pop3", "pop3s" if mode == "tls" else "pop3")


@pytest.mark.parametrize("options", [["--tls"], ["--tlsc"], []], ids=["starttls", "tls", "plain"])
def test_swaks_hands_in(doors: Doors, tmp_path: Path, options: list[str]) -> None:
    door = "smtps" if options == ["--tlsc"] else "smtp"
    verify = ["--tls-verify", "--tls-ca-path", str(doors.proxy.ca)] if options else []
    done = run(
        tool("swaks"),
        *("--server", "127.0.0.1", "--port", str(doors.port(door)), "--to", f"{USER}@mail.test", "--from", "x@y.test"),
        *("--header", f"Subject: swaks {door}{len(options)}", *options, *verify),
        folder=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    arrived(doors, f"swaks {door}{len(options)}")


@pytest.mark.parametrize("starttls", ["on", "off"])
def test_msmtp_hands_in_and_trusts_our_leaf(doors: Doors, tmp_path: Path, starttls: str) -> None:
    done = run(
        tool("msmtp"),
        *("--host", NAME_AT, "--port", str(doors.port("smtp" if starttls == "on" else "smtps")), "--from", "x@y.test"),
        *("--tls=on", f"--tls-starttls={starttls}", f"--tls-trust-file={doors.proxy.ca}", f"{USER}@mail.test"),
        folder=tmp_path,
        given=f"Subject: msmtp {starttls}\n\nhello\n".encode(),
    )
    assert done.returncode == 0, done.stderr
    arrived(doors, f"msmtp {starttls}")


def test_fetchmail_fetches_with_starttls(doors: Doors, tmp_path: Path) -> None:
    send(doors, "plain", "for fetchmail")
    arrived(doors, "for fetchmail")
    control = tmp_path / "fetchmailrc"
    control.write_text(
        f'poll 127.0.0.1 service {doors.port("imap")} protocol IMAP user "{USER}" password "{PASSWORD}" '
        f'sslproto "TLS1.2+" sslcertck sslcommonname "{NAME}" sslcertfile "{doors.proxy.ca}" keep fetchall '
        f'mda "cat >> {tmp_path}/got"\n'
    )
    control.chmod(0o600)
    done = run(
        tool("fetchmail"),
        *("-f", control, "--nodetach", "--nosyslog", "-v", "--pidfile", tmp_path / "pid", "-i", tmp_path / "ids"),
        folder=tmp_path,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "for fetchmail" in (tmp_path / "got").read_text(errors="replace")


def test_where_tls_is_required_a_password_in_the_clear_does_not_pass(
    proxy: ProxyMaker, postfix: Postfix, dovecot: Dovecot
) -> None:
    rule = "[rule:tls]\nmatch = protocol:smtp,imap,pop3\naction = intercept\nstarttls = require\n"
    strict = Doors(proxy, postfix, dovecot, rule)
    with pytest.raises(imaplib.IMAP4.error, match="STARTTLS first"):
        imap(strict, "plain")
    with pytest.raises(smtplib.SMTPException, match="Must issue a STARTTLS"):
        send(strict, "plain", "never")
    client = poplib.POP3(NAME_AT, strict.port("pop3"), timeout=PATIENCE)
    with pytest.raises(poplib.error_proto, match="Use STLS first"):
        client.user(USER)
    client.close()
    imap(strict, "starttls").logout()
    send(strict, "starttls", "strictly")
    assert arrived(strict, "strictly")


def test_sieve_begins_tls(proxy: ProxyMaker, dovecot: Dovecot, tmp_path: Path) -> None:
    gateway = proxy(f"[listen:proxy]\nendpoint = tcp:0:interface=127.0.0.1\ntarget = {NAME}:{dovecot.sieve}\n")
    done = run(
        tool("gnutls-cli"),
        *("--starttls-proto=sieve", f"--x509cafile={gateway.ca}", "--verify-hostname", NAME, "--sni-hostname", NAME),
        *("-p", str(gateway.address[1]), NAME_AT),
        folder=tmp_path,
        given=b"LOGOUT\r\n",
    )
    assert "is trusted" in done.stdout, done.stdout + done.stderr
    assert gateway.logged(lambda line: line["stack"] == "tcp/sieve/tls1.3/sieve")

"""Mails and files that a plugin holds, changes or refuses, between real clients and real servers."""

from __future__ import annotations

import ftplib
import imaplib
import io
import os
import poplib
import shutil
import smtplib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process import gating
from tests.process.conftest import ProxyMaker
from tests.process.mailservers import PASSWORD, USER, Dovecot, Postfix
from tests.process.origins import Certificates
from tests.process.running import Proxy, curl, settings
from tests.process.servers import NAME, Vsftpd
from tests.process.test_ftp import Door
from tests.process.test_mail import NAME_AT, Doors, arrived, imap, send
from tests.process.tools import PATIENCE, run, tool, wait_for

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="these servers are started by root only")

BAD, TAGGED = gating.REFUSED, gating.REPLACED
LARGE = 400_000
NO = "Malware found (event e-1)"


@pytest.fixture(scope="module")
def gated(certificates: Certificates, hosts: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyMaker]:
    """Makes proxies that have the plugin."""
    site = tmp_path_factory.mktemp("site")
    home = site / "sslintercept" / "plugins"
    home.mkdir(parents=True)
    shutil.copy(gating.__file__, home)
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    made: list[Proxy] = []

    def make(text: str = "") -> Proxy:
        folder = tmp_path_factory.mktemp("proxy")
        made.append(Proxy(folder, settings(text, certificates.trust, hosts), {"PYTHONPATH": path}))
        return made[-1]

    try:
        yield make
        for each in made:
            each.stop()
    finally:
        for each in made:
            each.kill()


@pytest.fixture(scope="module")
def doors(gated: ProxyMaker, postfix: Postfix, dovecot: Dovecot) -> Doors:
    """One for every protocol of mail, with the plugin."""
    return Doors(gated, postfix, dovecot)


@pytest.fixture(scope="module")
def straight(module_proxy: ProxyMaker, postfix: Postfix, dovecot: Dovecot) -> Doors:
    """The same without it."""
    return Doors(module_proxy, postfix, dovecot)


@pytest.fixture(scope="module")
def vsftpd(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Vsftpd]:
    """A vsftpd with files of both kinds."""
    server = Vsftpd(tmp_path_factory.mktemp("vsftpd"), certificates)
    server.root.chmod(0o755)
    (server.root / "good").write_bytes(b"good" * LARGE)
    (server.root / "bad").write_bytes(BAD)
    (server.root / "large").write_bytes(b"x" * LARGE + BAD)
    (server.root / "empty").write_bytes(b"")
    server.root.chmod(0o555)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def door(gated: ProxyMaker, vsftpd: Vsftpd) -> Door:
    """One for FTP, with the plugin."""
    return Door(gated, vsftpd)


def refused(proxy: Proxy, listener: str) -> None:
    """The log says so."""
    proxy.logged(lambda line: line["error"] == "inspected" and line["listener"] == listener)


# handing in


@pytest.mark.parametrize("mode", ["plain", "starttls", "tls"])
def test_a_refused_mail_is_refused_to_its_client_and_never_in_a_queue(
    doors: Doors, postfix: Postfix, mode: str, straight: Doors
) -> None:
    with pytest.raises(smtplib.SMTPDataError) as error:
        send(doors, mode, f"bad in {mode}", BAD + b"\r\n")
    assert error.value.smtp_code == 554
    assert NO.encode() in error.value.smtp_error
    send(doors, mode, f"good in {mode}")
    assert arrived(straight, f"good in {mode}").endswith(b"hello\r\n..dots\r\n")
    client = imap(straight, "tls")
    assert client.search(None, "SUBJECT", f'"bad in {mode}"')[1] == [b""]
    client.logout()
    queue = run(tool("postqueue"), "-c", postfix.conf, "-j", folder=postfix.folder)
    assert queue.stdout == ""
    log = (postfix.folder / "mail.log").read_text()
    assert "lost connection after DATA" in log
    refused(doors.proxy, "smtps" if mode == "tls" else "smtp")


def test_a_large_mail_flows_and_is_still_not_delivered_when_it_is_refused_late(
    doors: Doors, straight: Doors, postfix: Postfix
) -> None:
    lines = (b"x" * 70 + b"\r\n") * 20_000
    send(doors, "tls", "large and good", lines)
    with pytest.raises(smtplib.SMTPDataError, match=r"Malware found"):
        send(doors, "tls", "large and bad", lines + BAD + b"\r\n")
    assert arrived(straight, "large and good").endswith(lines)
    client = imap(straight, "tls")
    assert client.search(None, "SUBJECT", '"large and bad"')[1] == [b""]
    client.logout()
    assert run(tool("postqueue"), "-c", postfix.conf, "-j", folder=postfix.folder).stdout == ""


def test_a_refused_mail_in_chunks_leaves_the_conversation_to_the_next(doors: Doors, straight: Doors) -> None:
    with smtplib.SMTP(NAME_AT, doors.port("smtp"), timeout=PATIENCE) as client:
        client.ehlo()
        assert client.sock is not None
        for subject, content, code in (("bad chunks", BAD, 554), ("good chunks", b"good\r\n", 250)):
            text = f"Subject: {subject}\r\n\r\n".encode()
            client.sock.sendall(
                b"MAIL FROM:<x@y.test>\r\n"
                + f"RCPT TO:<{USER}@mail.test>\r\n".encode()
                + b"BDAT %d\r\n%bBDAT %d LAST\r\n%b" % (len(text), text, len(content), content)
            )
            assert [client.getreply()[0] for _ in range(4)] == [250, 250, 250, code]
    assert arrived(straight, "good chunks").endswith(b"good\r\n")


def test_a_mail_is_tagged_on_its_way(doors: Doors, straight: Doors) -> None:
    send(doors, "starttls", "tagged", TAGGED + b"\r\n")
    assert b"Subject: [suspicious] tagged\r\n" in arrived(straight, "[suspicious] tagged")


@pytest.mark.parametrize("program", ["curl", "swaks", "msmtp"])
def test_clients_say_why_a_mail_was_refused(doors: Doors, tmp_path: Path, program: str) -> None:
    port = str(doors.port("smtp"))
    mail = b"Subject: x\r\n\r\n%b\r\n" % BAD
    (tmp_path / "mail").write_bytes(mail)
    options: list[str | Path]
    if program == "curl":
        options = ["-v", "-T", "mail", "--mail-from", "x@y.test", "--mail-rcpt", f"{USER}@mail.test"]
        options.append(f"smtp://{NAME_AT}:{port}")
    elif program == "swaks":
        options = ["--server", NAME_AT, "--port", port, "--to", f"{USER}@mail.test", "--from", "x@y.test"]
        options += ["--data", "@mail"]
    else:
        options = ["--host", NAME_AT, "--port", port, "--from", "x@y.test", f"{USER}@mail.test"]
    done = run(tool(program), *options, folder=tmp_path, given=mail)
    assert done.returncode != 0
    assert NO in done.stdout + done.stderr


# fetching


@pytest.fixture(scope="module")
def numbers(straight: Doors) -> dict[str, str]:
    """The numbers of three mails by their subjects."""
    for subject, content in (("fetch good", b"fine"), ("fetch bad", BAD), ("fetch tag", TAGGED)):
        send(straight, "plain", subject, content + b"\r\n")
    found: dict[str, str] = {}
    for subject in ("fetch good", "fetch bad", "fetch tag"):
        arrived(straight, subject)
        client = imap(straight, "plain")
        found[subject] = client.search(None, "SUBJECT", f'"{subject}"')[1][0].split()[-1].decode()
        client.logout()
    return found


@pytest.mark.parametrize("mode", ["plain", "starttls", "tls"])
@pytest.mark.parametrize("what", ["(BODY.PEEK[])", "(RFC822)", "(UID FLAGS BODY.PEEK[] RFC822.SIZE)"])
def test_imaplib_gets_what_takes_the_place_of_a_mail(
    doors: Doors, numbers: dict[str, str], mode: str, what: str
) -> None:
    client = imap(doors, mode)

    def fetched(subject: str) -> bytes:
        status, answer = client.fetch(numbers[subject], what)
        assert status == "OK"
        assert isinstance(answer[0], tuple)
        return answer[0][1]

    assert fetched("fetch good").endswith(b"fine\r\n")
    notice = fetched("fetch bad")
    assert BAD not in notice
    assert f"Subject: Withheld: {NO}\r\n".encode() in notice
    assert b"Subject: [suspicious] fetch tag\r\n" in fetched("fetch tag")
    assert client.noop()[0] == "OK"
    client.logout()


def test_many_mails_of_one_fetch_are_decided_about_one_by_one(doors: Doors, numbers: dict[str, str]) -> None:
    client = imap(doors, "plain")
    status, answer = client.fetch(",".join(numbers.values()), "(BODY.PEEK[TEXT])")
    assert status == "OK"
    texts = [one[1] for one in answer if isinstance(one, tuple)]
    assert len(texts) == 3
    assert [NO.encode() in text for text in texts].count(True) == 1
    client.logout()


def test_imaplib_is_told_that_a_mail_is_not_stored(doors: Doors, straight: Doors) -> None:
    client = imap(doors, "starttls")
    status, answer = client.append("INBOX", "", "", b"Subject: stored bad\r\n\r\n%b\r\n" % BAD)
    assert (status, NO in str(answer)) == ("NO", True)
    assert client.append("INBOX", "", "", b"Subject: stored good\r\n\r\nfine\r\n")[0] == "OK"
    assert client.append("INBOX", "", "", b"Subject: stored tag\r\n\r\n%b\r\n" % TAGGED)[0] == "OK"
    client.logout()
    assert arrived(straight, "stored good")
    assert b"[suspicious]" in arrived(straight, "stored tag")
    other = imap(straight, "plain")
    assert other.search(None, "SUBJECT", '"stored bad"')[1] == [b""]
    other.logout()


@pytest.mark.parametrize("literal", ["", "+"])
def test_a_large_mail_is_stored_while_it_is_looked_at(doors: Doors, straight: Doors, literal: str) -> None:
    subject = f"stored large {len(literal)}"
    mail = f"Subject: {subject}\r\n\r\n".encode() + (b"y" * 70 + b"\r\n") * 5000
    client = imap(doors, "plain")
    client.send(f"A APPEND INBOX {{{len(mail)}{literal}}}\r\n".encode())
    if not literal:
        assert client.readline().startswith(b"+")
    client.send(mail + b"\r\n")
    while not (line := client.readline()).startswith(b"A "):
        assert line
    assert line.startswith(b"A OK")
    client.logout()
    assert arrived(straight, subject) == mail


def test_poplib_gets_an_error_for_a_mail_and_the_next_one(doors: Doors, numbers: dict[str, str]) -> None:
    client = poplib.POP3(NAME_AT, doors.port("pop3"), timeout=PATIENCE)
    client.user(USER)
    client.pass_(PASSWORD)
    outcomes = []
    for subject in ("fetch bad", "fetch tag", "fetch good"):
        try:
            outcomes.append(b"\n".join(client.retr(int(numbers[subject]))[1]))
        except poplib.error_proto as error:
            outcomes.append(str(error).encode())
    client.quit()
    assert NO.encode() in outcomes[0]
    assert b"Subject: [suspicious] fetch tag" in outcomes[1]
    assert outcomes[2].endswith(b"fine")


def test_fetchmail_fetches_what_it_may(doors: Doors, numbers: dict[str, str], tmp_path: Path) -> None:
    control = tmp_path / "fetchmailrc"
    control.write_text(
        f'poll {NAME_AT} service {doors.port("imap")} protocol IMAP user "{USER}" password "{PASSWORD}" '
        f'sslproto "" keep fetchall mda "cat >> {tmp_path}/got"\n'
    )
    control.chmod(0o600)
    done = run(
        tool("fetchmail"),
        *("-f", control, "--nodetach", "--nosyslog", "-v", "--pidfile", tmp_path / "pid", "-i", tmp_path / "ids"),
        folder=tmp_path,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    got = (tmp_path / "got").read_bytes()
    assert BAD not in got
    assert NO.encode() in got
    assert TAGGED in got  # it asks for the text apart from the head


def test_curl_fetches_the_notice(doors: Doors, numbers: dict[str, str]) -> None:
    got = curl(
        doors.proxy.folder,
        *("--user", f"{USER}:{PASSWORD}"),
        f"imap://{NAME_AT}:{doors.port('imap')}/INBOX;MAILINDEX={numbers['fetch bad']}",
    )
    assert got.code == 0, got.said
    assert NO in got.text


# files


@pytest.fixture(params=["plain", "tls"])
def client(request: pytest.FixtureRequest, door: Door) -> Iterator[ftplib.FTP]:
    """Somebody who is logged in."""
    made: ftplib.FTP
    if request.param == "tls":
        made = ftplib.FTP_TLS(context=door.proxy.context(), timeout=PATIENCE)
    else:
        made = ftplib.FTP(timeout=PATIENCE)
    with made:
        made.connect(NAME_AT, door.port)
        made.login("anonymous", "me@test")
        if isinstance(made, ftplib.FTP_TLS):
            made.prot_p()
        yield made


def fetched(client: ftplib.FTP, name: str) -> tuple[bytes, str]:
    """What comes of a file, and what is said of it in the end."""
    got = bytearray()
    try:
        said = client.retrbinary(f"RETR {name}", got.extend)
    except ftplib.error_perm as error:
        said = str(error)
    except OSError:
        # The data connection was cut while it was read.
        with pytest.raises(ftplib.error_perm) as refusal:
            client.voidresp()
        said = str(refusal.value)
    return bytes(got), said


@pytest.mark.parametrize("passive", [True, False], ids=["passive", "active"])
def test_a_refused_file_does_not_come_down_and_the_next_one_does(client: ftplib.FTP, passive: bool) -> None:
    client.set_pasv(passive)
    for _ in range(3):
        assert fetched(client, "bad") == (b"", f"550 {NO}")
    assert fetched(client, "good")[0] == b"good" * LARGE
    assert fetched(client, "empty")[0] == b""
    got, said = fetched(client, "large")
    assert said == f"550 {NO}"
    assert BAD not in got
    assert fetched(client, "good")[1].startswith("226")


@pytest.mark.parametrize("passive", [True, False], ids=["passive", "active"])
def test_a_refused_file_does_not_go_up_and_the_next_one_does(client: ftplib.FTP, vsftpd: Vsftpd, passive: bool) -> None:
    client.set_pasv(passive)
    name = f"up/{type(client).__name__}-{passive}"
    with pytest.raises(ftplib.error_perm, match=r"550 Malware found"):
        client.storbinary(f"STOR {name}-bad", io.BytesIO(BAD))
    assert client.storbinary(f"STOR {name}-good", io.BytesIO(b"good" * LARGE)).startswith("226")
    with pytest.raises(ftplib.error_perm, match=r"550 Malware found"):
        client.storbinary(f"STOR {name}-large", io.BytesIO(b"x" * LARGE + BAD))
    assert client.storbinary(f"STOR {name}-empty", io.BytesIO()).startswith("226")
    assert (vsftpd.root / f"{name}-good").read_bytes() == b"good" * LARGE
    assert (vsftpd.root / f"{name}-empty").read_bytes() == b""
    for bad in ("bad", "large"):
        left = vsftpd.root / f"{name}-{bad}"
        assert not left.exists() or BAD not in left.read_bytes()


@pytest.mark.parametrize("way", ["door", "http", "socks5h"])
@pytest.mark.parametrize("tls", [[], ["--ssl-reqd"]], ids=["plain", "tls"])
def test_curl_does_not_get_or_bring_a_refused_file(
    door: Door, vsftpd: Vsftpd, tmp_path: Path, way: str, tls: list[str]
) -> None:
    proxy = door.proxy
    options: list[str | Path] = ["--cacert", proxy.ca, "--ftp-skip-pasv-ip", "-v", *tls]
    port = door.port if way == "door" else vsftpd.port
    if way == "door":
        options += ["--resolve", f"{NAME}:{port}:{NAME_AT}"]
    else:
        options += ["--proxy", f"{way}://{proxy.ports[0]}", "--proxytunnel"]
    (tmp_path / "bad").write_bytes(BAD)
    down = curl(proxy.folder, *options, f"ftp://{NAME}:{port}/bad")
    name = f"curl-{way}-{len(tls)}"
    up = curl(proxy.folder, *options, "-T", tmp_path / "bad", f"ftp://{NAME}:{port}/up/{name}")
    for got in (down, up):
        assert got.code != 0
    assert BAD not in down.body
    assert NO in up.said
    left = vsftpd.root / "up" / name
    assert not left.exists() or left.read_bytes() == b""
    good = curl(proxy.folder, *options, f"ftp://{NAME}:{port}/good")
    assert (good.code, good.body) == (0, b"good" * LARGE)


def test_lftp_does_not_get_or_bring_a_refused_file(door: Door, vsftpd: Vsftpd, tmp_path: Path) -> None:
    (tmp_path / "mine").write_bytes(BAD)
    script = (
        "set net:timeout 20; set net:max-retries 1; set ftp:ssl-allow false; set cmd:fail-exit false; "
        f"open -u anonymous,me@test ftp://{NAME_AT}:{door.port}; get bad; put -O up mine; get good; bye"
    )
    done = run(tool("lftp"), "--norc", "-c", script, folder=tmp_path, timeout=60)
    assert NO in done.stderr
    assert not (tmp_path / "bad").exists() or (tmp_path / "bad").read_bytes() == b""
    assert (tmp_path / "good").read_bytes() == b"good" * LARGE
    left = vsftpd.root / "up" / "mine"
    assert not left.exists() or left.read_bytes() == b""


def test_a_file_that_goes_on_where_another_ended_is_looked_at_too(client: ftplib.FTP) -> None:
    got = bytearray()
    client.retrbinary("RETR good", got.extend, rest=len(b"good") * LARGE - 2)
    assert got == b"od"
    assert client.sendcmd("NOOP").startswith("200")


def test_the_log_names_what_was_refused(door: Door, client: ftplib.FTP) -> None:
    fetched(client, "bad")
    wait_for(
        "the line",
        lambda: any(line["error"] == "inspected" and "ftp-data" in line["stack"] for line in door.proxy.log()),
    )


def test_imap_pieces_are_looked_at_one_by_one(doors: Doors, numbers: dict[str, str]) -> None:
    client: imaplib.IMAP4 = imap(doors, "plain")
    status, answer = client.fetch(numbers["fetch bad"], "(BODY.PEEK[]<0.2000>)")
    assert status == "OK"
    assert isinstance(answer[0], tuple)
    assert BAD not in answer[0][1]
    client.logout()

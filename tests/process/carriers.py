"""
What carries content through a gateway in both directions: servers that give and take it, clients that say what came.

Each way is a function: it brings content through, and tells what arrived on the other side, and what the client was
told.
"""

from __future__ import annotations

import contextlib
import ftplib
import imaplib
import io
import itertools
import json
import poplib
import re
import shutil
import smtplib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, Final, NamedTuple

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.sync.server import ServerConnection, serve

from sslintercept.command import main
from tests.process.mailservers import PASSWORD, USER, Dovecot, Postfix
from tests.process.origins import BODY_NAME, BodyOrigin, Handler
from tests.process.running import Proxy
from tests.process.servers import NAME, Vsftpd
from tests.process.tools import PATIENCE, server_port, wait_for

HOST: Final = "127.0.0.1"
SENDER: Final = "anna@sender.test"
BOX: Final = f"{USER}@mail.test"
_TRACE: Final = re.compile(rb"\A(?:(?:Return-Path|X-Original-To|Delivered-To|Received):.*\n(?:[ \t].*\n)*)+")
"""what Postfix writes in front of a mail"""
_serial = itertools.count(1)


class ShelfHandler(Handler):
    """Gives what lies at a path, and keeps what is sent there."""

    server: Shelf

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if (found := self.server.kept.get(self.path)) is not None:
            self.answer(*found)
        else:
            super().do_GET()

    def do_POST(self) -> None:
        self.server.taken[self.path] = b"".join(self.pieces())
        self.answer(b"taken")

    do_PUT = do_POST


class Shelf(BodyOrigin):
    """
    An origin whose content a test lays down.

    @ivar kept: content and type of each path; C{taken}: what was sent to one; C{asked}: the paths that were asked for.
    """

    handler = ShelfHandler

    def __init__(self, files: tuple[Path, Path] | None) -> None:
        self.kept: dict[str, tuple[bytes, str]] = {}
        self.taken: dict[str, bytes] = {}
        self.asked: list[str] = []
        super().__init__(files)

    def lay(self, content: bytes, kind: str = "application/octet-stream", name: str = "") -> str:
        """Lay content down; where."""
        path = f"/{next(_serial)}/{name}"
        self.kept[path] = content, kind
        return self.url(path)

    def place(self) -> str:
        """A URL where nothing is yet."""
        return self.url(f"/{next(_serial)}")

    def at(self, url: str) -> bytes | None:
        """What has been sent to a URL."""
        return self.taken.get("/" + url.partition("://")[2].partition("/")[2])


class Echo:
    """
    A WebSocket server that says everything again.

    @ivar heard: the messages so far.
    """

    def __init__(self) -> None:
        self.heard: list[bytes | str] = []
        self._server = serve(self._talk, HOST, 0, max_size=None)
        self.port: int = self._server.socket.getsockname()[1]
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def _talk(self, connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            for message in connection:
                self.heard.append(message)
                connection.send(message)

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()


class Mailboxes:
    """The folders that Postfix delivers to and Dovecot reads (maildir)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, content: bytes) -> str:
        """A mailbox of its own with one mail; who owns it."""
        user = f"user{next(_serial)}"
        for path in (self.folder / user, *(self.folder / user / name for name in ("new", "cur", "tmp"))):
            path.mkdir()
            shutil.chown(path, "nobody")
        self.add(user, content)
        return user

    def add(self, user: str, content: bytes) -> None:
        """One more mail."""
        mail = self.folder / user / "new" / f"{next(_serial)}.a.b"
        mail.write_bytes(content)
        shutil.chown(mail, "nobody")

    def delivered(self, mark: bytes) -> bytes | None:
        """A mail that Postfix has delivered, from its head on."""
        for path in (self.folder / USER / "new").glob("*"):
            content = path.read_bytes()
            if mark in content:
                return content
        return None


class Told:
    """The events of one gateway, as its command lists them; each has to be expected by somebody."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self.seen: set[str] = set()

    def all(self) -> list[dict[str, Any]]:  # Any: JSON
        """What the command lists."""
        out = io.StringIO()
        with redirect_stdout(out):
            status = main(["events", "--json", "--limit", "10000", "--config", str(self._proxy.ini)])
        assert status == 0
        return [json.loads(line) for line in out.getvalue().splitlines()]

    def new(self) -> list[dict[str, Any]]:  # Any: JSON
        """Those that nobody has expected."""
        return [event for event in self.all() if event["id"] not in self.seen]

    def one(self) -> dict[str, Any]:  # Any: JSON
        """The only new one, once it is there."""
        return self.several(1)[0]

    def several(self, count: int) -> list[dict[str, Any]]:  # Any: JSON
        """So many new ones, once they are there, and no more."""
        found: list[dict[str, Any]] = []

        def there() -> bool:
            found[:] = self.new()
            return len(found) >= count

        wait_for(f"{count} events", there, 10)
        self.seen.update(event["id"] for event in found)
        assert len(found) == count, found
        return found

    def none(self) -> None:
        """Nobody has told anything that was not expected."""
        assert self.new() == []


class World:
    """
    A gateway with a door for each protocol, and the servers behind it.

    @ivar told: its events.
    @ivar inspection: the sections of its ini file that are not of every gateway.

    @param make: starts one; C{whole}: makes an ini file of what it is to have beside the usual.
    """

    def __init__(
        self, make: Callable[[str], Proxy], whole: Callable[[str], str], servers: Servers, inspection: str
    ) -> None:
        self.servers = servers
        self._whole = whole
        self._generation = 1
        self.doors = {name: server_port() for name in ("ftp", "smtp", "imap", "pop3")}
        targets = {"ftp": servers.vsftpd.port, "smtp": servers.postfix.port}
        targets |= {"imap": servers.dovecot.port, "pop3": servers.dovecot.pop3}
        self._doors = "".join(
            f"[listen:{name}]\nendpoint = tcp:{port}:interface={HOST}\ntarget = {NAME}:{targets[name]}\n"
            for name, port in self.doors.items()
        )
        self.inspection = inspection
        self.gateway = make(self._doors + inspection)
        self.told = Told(self.gateway)

    @property
    def state(self) -> Path:
        return self.gateway.folder / "state"

    @contextmanager
    def under(self, inspection: str) -> Iterator[None]:
        """Other sections are in force, by SIGHUP; afterwards those from before."""
        before = self.inspection
        self.reload(inspection)
        try:
            yield
            self.told.none()
        finally:
            self.reload(before)

    def reload(self, inspection: str) -> None:
        """Other sections are in force from now on."""
        self.inspection = inspection
        self._generation += 1
        self.gateway.reload(self._whole(self._doors + inspection))
        said = f"generation {self._generation} of the settings is in force"
        wait_for(said, lambda: said in self.gateway.said())

    # the ways

    @contextmanager
    def ftp(self) -> Iterator[ftplib.FTP]:
        """Logged in at the FTP server."""
        with ftplib.FTP(timeout=PATIENCE) as client:
            client.connect(HOST, self.doors["ftp"])
            client.login("anonymous", "me@test")
            yield client

    @contextmanager
    def imap(self, user: str) -> Iterator[imaplib.IMAP4]:
        """Logged in to a mailbox."""
        client = imaplib.IMAP4(HOST, self.doors["imap"], timeout=PATIENCE)
        try:
            client.login(user, PASSWORD)
            assert client.select("INBOX")[0] == "OK"
            yield client
        finally:
            client.logout()

    def smtp(self) -> smtplib.SMTP:
        return smtplib.SMTP(HOST, self.doors["smtp"], timeout=PATIENCE)


class Servers(NamedTuple):
    """Everything behind a gateway."""

    plain: Shelf
    secure: Shelf
    echo: Echo
    vsftpd: Vsftpd
    postfix: Postfix
    dovecot: Dovecot
    mailboxes: Mailboxes


class Came(NamedTuple):
    """
    What came of it.

    @ivar arrived: on the other side; C{None} if nothing whole did. C{said}: to the client.
    """

    arrived: bytes | None
    said: str = ""


def fetched(world: World, url: str, *options: str) -> Came:
    """By curl."""
    answer = world.gateway.curl(url, *options)
    said = f"{answer.code} {answer.head}\n{answer.text}"
    return Came(answer.body if answer.code == 0 and answer.status == 200 else None, said)


def http_down(world: World, content: bytes) -> Came:
    """GET in the clear."""
    return fetched(world, world.servers.plain.lay(content))


def https_down(world: World, content: bytes) -> Came:
    """GET in TLS that the gateway opens."""
    return fetched(world, world.servers.secure.lay(content))


def http_put(world: World, content: bytes) -> Came:
    """PUT, as curl -T does it."""
    shelf = world.servers.secure
    url = shelf.place()
    file = world.gateway.folder / "upload"
    file.write_bytes(content)
    came = fetched(world, url, "-T", str(file), "-H", "Content-Type: application/octet-stream")
    return Came(shelf.at(url) if came.arrived == b"taken" else None, came.said)


def http_form(world: World, content: bytes) -> Came:
    """A file in a form, as curl -F does it."""
    shelf = world.servers.secure
    url = shelf.place()
    file = world.gateway.folder / "upload"
    file.write_bytes(content)
    came = fetched(world, url, "-F", "title=a file", "-F", f"file=@{file}")
    if came.arrived != b"taken":
        return Came(None, came.said)
    sent = shelf.at(url)
    assert sent is not None
    return Came(sent.partition(b'name="file"')[2].partition(b"\r\n\r\n")[2].rpartition(b"\r\n--")[0], came.said)


def websocket(world: World, content: bytes) -> Came:
    """A message to a server that says it again."""
    url = f"ws://{BODY_NAME}:{world.servers.echo.port}/"
    heard = world.servers.echo.heard
    before = len(heard)
    with connect(url, proxy=f"http://{world.gateway.ports[0]}", max_size=None) as connection:
        connection.send(content)
        again: str | bytes | None
        try:
            again = connection.recv(timeout=PATIENCE)
        except ConnectionClosed as error:
            again, end = None, error.rcvd
    if again is None:
        assert end is not None
        assert len(heard) == before
        return Came(None, f"{end.code} {end.reason}")
    assert isinstance(again, bytes)
    return Came(again)


def ftp_down(world: World, content: bytes) -> Came:
    """RETR."""
    root = world.servers.vsftpd.root
    name = f"file{next(_serial)}"
    root.chmod(0o755)
    (root / name).write_bytes(content)
    root.chmod(0o555)
    with world.ftp() as client:
        client.voidcmd("TYPE I")
        got = bytearray()
        with client.transfercmd(f"RETR {name}") as data, contextlib.suppress(ConnectionResetError):
            while piece := data.recv(65536):
                got += piece
        try:
            client.voidresp()
        except ftplib.Error as error:
            return Came(None, str(error))
    return Came(bytes(got))


def ftp_up(world: World, content: bytes) -> Came:
    """STOR."""
    name = f"up/file{next(_serial)}"
    try:
        with world.ftp() as client:
            client.voidcmd("TYPE I")
            with client.transfercmd(f"STOR {name}") as data, contextlib.suppress(ConnectionError):
                data.sendall(content)
            client.voidresp()
    except ftplib.Error as error:
        return Came(None, str(error))
    return Came((world.servers.vsftpd.root / name).read_bytes())


def smtp(world: World, mail: bytes) -> Came:
    """DATA."""
    mark = f"X-Mark: {next(_serial)}.".encode()
    try:
        with world.smtp() as client:
            client.sendmail(SENDER, [BOX], mark + b"\r\n" + mail)
    except smtplib.SMTPResponseException as error:
        return Came(None, f"{error.smtp_code} {error.smtp_error!r}")
    found: list[bytes | None] = [None]

    def there() -> bool:
        found[0] = world.servers.mailboxes.delivered(mark)
        return found[0] is not None

    wait_for("the mail", there)
    assert found[0] is not None
    return Came(_TRACE.sub(b"", found[0]).replace(mark + b"\n", b"").replace(b"\n", b"\r\n"))


def imap_fetch(world: World, mail: bytes) -> Came:
    """FETCH."""
    with world.imap(world.servers.mailboxes.put(mail)) as client:
        status, answer = client.fetch("1", "(BODY.PEEK[])")
    if status != "OK" or not isinstance(answer[0], tuple):
        return Came(None, f"{status} {answer!r}")
    return Came(answer[0][1])


def imap_append(world: World, mail: bytes) -> Came:
    """APPEND."""
    boxes = world.servers.mailboxes
    user = boxes.put(b"Subject: first\r\n\r\n")
    with world.imap(user) as client:
        before = set((boxes.folder / user / "cur").iterdir())
        status, said = client.append("INBOX", "", "", mail)
        client.noop()
        made = set((boxes.folder / user / "cur").iterdir()) - before
        if status != "OK":
            assert not made
            return Came(None, f"{status} {said[0]!r}")
    return Came(made.pop().read_bytes().replace(b"\n", b"\r\n"))


def pop3_retr(world: World, mail: bytes) -> Came:
    """RETR."""
    client = poplib.POP3(HOST, world.doors["pop3"], timeout=PATIENCE)
    try:
        client.user(world.servers.mailboxes.put(mail))
        client.pass_(PASSWORD)
        lines = client.retr(1)[1]
        client.quit()
    except poplib.error_proto as error:
        return Came(None, error.args[0].decode())
    finally:
        client.close()
    return Came(b"\r\n".join(lines) + b"\r\n")


Way = Callable[[World, bytes], Came]
_PAGE: Final = r"(?s)0 .*HTTP/1\.1 {status} .*Sslintercept-Event: {id}\r"
FILES: Final[dict[Way, str]] = {
    http_down: _PAGE,
    https_down: _PAGE,
    http_put: _PAGE,
    http_form: _PAGE,
    websocket: r"1008 {kind}, event {id}",
    ftp_down: r"{file} .* \(event {id}\)",
    ftp_up: r"{file} .* \(event {id}\)",
}
"""ways of files, and what a client is told of one that does not pass"""
MAILS: Final[dict[Way, str]] = {
    smtp: r"{mail} .* \(event {id}\)",
    imap_append: r"NO b'\[{imap}\] .* \(event {id}\)'",
    pop3_retr: r"-ERR \[{pop3}\] .* \(event {id}\)",
}
"""ways of mails; what IMAP does not give out is a notice in the place of the mail"""
FINAL: Final = {
    "status": "403",
    "file": "550",
    "mail": r"554 b'5\.7\.1",
    "imap": "CONTACTADMIN",
    "pop3": "SYS/PERM",
}
PASSING: Final = {
    "status": "503",
    "file": "451",
    "mail": r"451 b'4\.7\.1",
    "imap": "UNAVAILABLE",
    "pop3": "SYS/TEMP",
}
"""the same where an inspector could not say"""


def refused(way: Way, came: Came, event: dict[str, Any], page: bool = True) -> None:  # Any: JSON
    """
    Nothing arrived, and the client was told so, with the event's id.

    @param page: in HTTP by a page of ours.
    """
    assert event["act"] in ("block", "quarantine")
    words = PASSING if event["kind"] == "failure" else FINAL
    if way is imap_fetch:
        assert came.arrived is not None
        assert b"Subject: Withheld: " in came.arrived
        assert f"(event {event['id']})".encode() in came.arrived
        return
    assert came.arrived is None
    pattern = {**FILES, **MAILS}[way].format(id=re.escape(event["id"]), kind=event["kind"], **words)
    assert re.match(pattern, came.said), (pattern, came.said)
    if FILES.get(way) is _PAGE:
        assert (came.said.count(event["id"]) == 2) is page


def way_name(way: object) -> str | None:
    """Of a parameter."""
    name: str | None = getattr(way, "__name__", None)
    return name

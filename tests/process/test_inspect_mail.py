"""Phishing in mails and on pages: marked, or kept back, as real clients see it; what is innocent is as it was."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from email import message_from_bytes, policy

import pytest

from tests.inspect.material import innocent_mail, mail, phishing_mail
from tests.process.carriers import (
    Servers,
    Way,
    World,
    fetched,
    imap_append,
    imap_fetch,
    pop3_retr,
    refused,
    smtp,
    way_name,
)
from tests.process.conftest import ProxyMaker
from tests.process.tools import ours, run

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="Postfix, Dovecot and vsftpd are started by root only")

INI = """
[inspect:phishing]
use = phishing
brands = paypal.com
tag = 40
quarantine = 70
refuse = off
"""
SUBJECT = "Your invoice"
ALIKE = mail(
    "Hello,\r\n\r\nyour invoice: https://www.paypa1.com/invoice\r\n",
    subject=SUBJECT,
    html='<html><body><p>Hello,</p><p>your <a href="https://www.paypa1.com/invoice">invoice</a></p></body></html>',
)
"""a link to a host that looks like a brand's"""
WORSE = phishing_mail().replace(b"https://www.secure-bank.example/login", b"https://www.paypal.com/login")
"""a link that shows a brand and leads elsewhere, and a form that wants a password"""
PAGE = b"""<!DOCTYPE html><html><head><title>PayPal: log in</title></head><body><h1>PayPal</h1>
<p>Verify your account</p><form method="post" action="/x"><input name="user"><input type="password" name="p"></form>
</body></html>"""

ways = pytest.mark.parametrize("way", [imap_fetch, pop3_retr, smtp, imap_append], ids=way_name)


@pytest.fixture(scope="module")
def world(module_proxy: ProxyMaker, ini: Callable[[str], str], servers: Servers) -> Iterator[World]:
    """A gateway that looks for phishing."""
    made = World(module_proxy, ini, servers, INI)
    yield made
    made.told.none()


@ways
def test_a_mail_with_a_link_that_looks_like_a_brands_is_marked(world: World, way: Way) -> None:
    came = way(world, ALIKE)
    event = world.told.one()
    assert (event["kind"], event["act"], event["inspector"]) == ("phishing", "tag", "phishing")
    assert came.arrived is not None
    message = message_from_bytes(came.arrived, policy=policy.default)
    assert message["Subject"] == f"[SUSPICIOUS] {SUBJECT}"
    assert message["X-Sslintercept-Phishing"].startswith(f"score={event['score']}; reasons=")
    head, _, rest = came.arrived.partition(b"\r\n\r\n")
    assert rest == ALIKE.partition(b"\r\n\r\n")[2]
    assert b"paypa1.com" not in head


@ways
def test_an_innocent_mail_arrives_as_it_was(world: World, way: Way) -> None:
    forged = innocent_mail().replace(b"MIME-Version", b"X-Mailer: none\r\nMIME-Version")
    for content in (innocent_mail(), forged):
        assert way(world, content).arrived == content
    world.told.none()


@ways
def test_what_is_worse_does_not_arrive_and_a_copy_is_kept(world: World, way: Way) -> None:
    came = way(world, WORSE)
    event = world.told.one()
    refused(way, came, event)
    assert (event["kind"], event["act"], event["quarantine"]) == ("phishing", "quarantine", event["id"])
    folder, to = world.gateway.folder, world.gateway.folder / f"copy-{event['id']}"
    command = [ours("sslintercept"), "events", "quarantine", event["id"], "--to", str(to), "--config", "proxy.ini"]
    done = run(*command, folder=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert to.read_bytes().endswith(WORSE)


def test_of_several_mails_in_one_answer_only_the_bad_one_is_changed(world: World) -> None:
    boxes = world.servers.mailboxes
    user = boxes.put(innocent_mail())
    with world.imap(user) as client:
        for _ in range(2):
            assert client.append("INBOX", "", "", innocent_mail())[0] == "OK"
    boxes.add(user, ALIKE)
    with world.imap(user) as client:
        answers = client.fetch("1:4", "(UID BODY.PEEK[])")[1]
    literals = [answer[1] for answer in answers if isinstance(answer, tuple)]
    assert len(literals) == 4
    assert sorted(literal == innocent_mail() for literal in literals) == [False, True, True, True]
    assert sum(b"[SUSPICIOUS]" in literal for literal in literals) == 1
    assert world.told.one()["act"] == "tag"


def test_a_page_that_wants_a_password_in_the_name_of_a_brand_is_marked_or_kept_back(world: World) -> None:
    shelf = world.servers.secure
    came = fetched(world, shelf.lay(PAGE, "text/html"))
    event = world.told.one()
    assert (event["kind"], event["carrier"], event["url"].startswith("https://body.test:")) == (
        "phishing",
        "http",
        True,
    )
    if event["act"] == "tag":
        assert came.arrived == PAGE
        assert "X-Sslintercept-Inspection: phishing; " in came.said
    else:
        assert came.arrived is None
    assert fetched(world, shelf.lay(b"<!DOCTYPE html><p>hello</p>", "text/html")).arrived is not None
    world.told.none()

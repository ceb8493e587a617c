"""Postfix and Dovecot, each in a folder of its own; what is sent to the one can be fetched from the other."""

from __future__ import annotations

import os
import pwd
import shutil
from pathlib import Path
from typing import Final

from tests.process.origins import Certificates
from tests.process.servers import NAME, Server
from tests.process.tools import is_listening, run, server_port, tool, wait_for

USER: Final = "alice"
PASSWORD: Final = "wonderland"
MAIN: Final = """
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
maillog_file = {folder}/mail.log
maillog_file_prefixes = {folder}
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = {name}
mydestination =
mynetworks = 127.0.0.0/8
alias_maps =
alias_database =
virtual_mailbox_domains = mail.test
virtual_mailbox_base = {folder}/mail
virtual_mailbox_maps = static:{user}/
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
smtputf8_enable = yes
smtpd_tls_security_level = may
smtpd_tls_cert_file = {chain}
smtpd_tls_key_file = {key}
message_size_limit = 20000000
mailbox_size_limit = 0
virtual_mailbox_limit = 0
"""
MASTER: Final = """
{plain} inet n - n - - smtpd
{secure} inet n - n - - smtpd -o smtpd_tls_wrappermode=yes
postlog unix-dgram n - n - 1 postlogd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
tlsmgr unix - - n 1000? 1 tlsmgr
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
"""
DOVECOT: Final = """
base_dir = {folder}/base
state_dir = {folder}/state
log_path = {folder}/dovecot.log
listen = 127.0.0.1
protocols = imap pop3 sieve
ssl = yes
ssl_cert = <{chain}
ssl_key = <{key}
disable_plaintext_auth = no
auth_mechanisms = plain login
first_valid_uid = 1
mail_location = maildir:{folder}/mail/%u
passdb {{
  driver = static
  args = password={password}
}}
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={folder}/mail/%u
}}
service imap-login {{
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = {imaps}
  }}
}}
service pop3-login {{
  inet_listener pop3 {{
    port = {pop3}
  }}
  inet_listener pop3s {{
    port = {pop3s}
  }}
}}
service managesieve-login {{
  inet_listener sieve {{
    port = {sieve}
  }}
}}
"""


class Postfix(Server):
    """
    Takes mail for C{alice@mail.test}.

    @ivar port: with STARTTLS; C{secure}: TLS from the first byte.
    @ivar mail: the folder of mailboxes (maildir).
    """

    def __init__(self, folder: Path, certificates: Certificates, mail: Path) -> None:
        nobody = pwd.getpwnam("nobody")
        chain, key = certificates.files[NAME]
        port, self.secure = server_port(), server_port()
        self.conf = folder / "conf"
        for name in ("conf", "queue", "data"):
            (folder / name).mkdir()
        (folder / "mail").symlink_to(mail)
        reachable(folder)
        shutil.chown(folder / "data", "postfix")
        values = {"folder": folder, "name": NAME, "user": USER, "uid": nobody.pw_uid, "gid": nobody.pw_gid}
        (self.conf / "main.cf").write_text(MAIN.format(**values, chain=chain, key=key))
        (self.conf / "master.cf").write_text(MASTER.format(plain=port, secure=self.secure))
        super().__init__(folder, [tool("postfix"), "-c", self.conf, "start-fg"], port)

    def stop(self) -> None:
        """End it and everything it started."""
        run(tool("postfix"), "-c", self.conf, "stop", folder=self.folder)
        super().stop()


class Dovecot(Server):
    """
    Gives out what is in the mailboxes.

    @ivar port: of IMAP; C{imaps}, C{pop3}, C{pop3s}, C{sieve}: the others.
    """

    def __init__(self, folder: Path, certificates: Certificates, mail: Path) -> None:
        nobody = pwd.getpwnam("nobody")
        chain, key = certificates.files[NAME]
        port, self.imaps, self.pop3, self.pop3s, self.sieve = (server_port() for _ in range(5))
        (folder / "mail").symlink_to(mail)
        reachable(folder)
        text = DOVECOT.format(
            folder=folder,
            chain=chain,
            key=key,
            password=PASSWORD,
            uid=nobody.pw_uid,
            gid=nobody.pw_gid,
            imap=port,
            imaps=self.imaps,
            pop3=self.pop3,
            pop3s=self.pop3s,
            sieve=self.sieve,
        )
        (folder / "dovecot.conf").write_text(text)
        super().__init__(folder, [tool("dovecot"), "-F", "-c", folder / "dovecot.conf"], port)
        wait_for("Dovecot's other ports", lambda: is_listening(self.pop3s) and is_listening(self.sieve))


def reachable(folder: Path) -> None:
    """Let the users that servers run as pass through the folders above."""
    for above in (folder, *folder.parents):
        if above.stat().st_uid == os.geteuid() and above.parent != above and not above.stat().st_mode & 0o001:
            above.chmod(above.stat().st_mode | 0o011)

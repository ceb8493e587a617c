"""Servers of protocols that begin in the clear: a directory and a database, started in folders of their own."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.process.origins import Certificates
from tests.process.tools import ENVIRONMENT, is_listening, run, server_port, tool, wait_for
from tests.signedzone import ORIGIN, sign

NAME: Final = "good.test"
"""the name in every server's certificate"""


class Server:
    """
    A program that listens.

    @ivar port: where it listens on C{host}.
    """

    def __init__(
        self,
        folder: Path,
        command: Sequence[str | Path],
        port: int,
        user: str | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self.folder = folder
        self.port = port
        self.output = folder / "output.txt"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [str(part) for part in command],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=ENVIRONMENT,
                user=user,
                group=pwd.getpwnam(user).pw_gid if user is not None else None,
                extra_groups=[] if user is not None else None,
            )
        try:
            wait_for(f"{command[0]} listening", lambda: self.process.poll() is not None or is_listening(port, host))
            assert self.process.poll() is None, self.said()
        except BaseException:
            self.stop()
            raise

    def said(self) -> str:
        """Everything on its screen."""
        return self.output.read_text(errors="replace")

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def owned(folder: Path, user: str) -> str | None:
    """Give a folder, with everything in it and the way to it, to somebody whom a server wants to run as."""
    if os.geteuid() != 0:
        return None
    for path in (folder, *folder.rglob("*")):
        shutil.chown(path, user)
    for above in folder.parents:
        if above.stat().st_uid == 0 and above != Path("/") and above.is_relative_to("/tmp") and above != Path("/tmp"):
            above.chmod(above.stat().st_mode | 0o011)
    return user


class Slapd(Server):
    """OpenLDAP with one entry, and a password for it; StartTLS and LDAPS (C{secure})."""

    def __init__(self, folder: Path, certificates: Certificates) -> None:
        (folder / "data").mkdir()
        chain, key = certificates.files[NAME]
        (folder / "slapd.conf").write_text(
            "include /etc/ldap/schema/core.schema\n"
            "modulepath /usr/lib/ldap\nmoduleload back_mdb\n"
            f"pidfile {folder}/pid\nTLSCertificateFile {chain}\nTLSCertificateKeyFile {key}\n"
            f'database mdb\nsuffix "dc=test"\nrootdn "cn=root,dc=test"\nrootpw secret\ndirectory {folder}/data\n'
        )
        (folder / "entries.ldif").write_text("dn: dc=test\nobjectClass: dcObject\nobjectClass: organization\no: us\n")
        conf = folder / "slapd.conf"
        done = run(tool("slapadd"), "-f", conf, "-l", folder / "entries.ldif", folder=folder)
        assert done.returncode == 0, done.stderr
        port, self.secure = server_port(), server_port()
        urls = f"ldap://127.0.0.1:{port} ldaps://127.0.0.1:{self.secure}"
        super().__init__(folder, [tool("slapd"), "-d", "0", "-f", conf, "-h", urls], port)


class Postgres(Server):
    """PostgreSQL with TLS; everybody is trusted."""

    def __init__(self, folder: Path, certificates: Certificates) -> None:
        programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1]
        chain, key = certificates.files[NAME]
        home = folder / "home"
        home.mkdir()
        user = owned(folder, "postgres")
        made = subprocess.run(
            [programs / "initdb", "-D", home / "data", "-A", "trust", "-U", "me", "-N"],
            capture_output=True,
            user=user,
            cwd=folder,
        )
        assert made.returncode == 0, made.stderr
        for file, name in ((chain, "server.crt"), (key, "server.key")):
            target = home / "data" / name
            target.write_bytes(file.read_bytes())
            target.chmod(0o600)
            if user is not None:
                shutil.chown(target, user)
        port = server_port()
        options = ["-D", str(home / "data"), "-p", str(port), "-h", "127.0.0.1", "-k", str(folder), "-c", "ssl=on"]
        super().__init__(folder, [str(programs / "postgres"), *options], port, user)


VSFTPD: Final = """
background=NO
listen=YES
listen_address=127.0.0.1
listen_port={port}
anonymous_enable=YES
local_enable=NO
write_enable=YES
anon_upload_enable=YES
anon_root={folder}/root
anon_umask=022
no_anon_password=NO
ftp_username=daemon
secure_chroot_dir={folder}/empty
seccomp_sandbox=NO
isolate=NO
isolate_network=NO
pasv_promiscuous=YES
port_promiscuous=YES
connect_from_port_20=NO
xferlog_enable=NO
ssl_enable=YES
allow_anon_ssl=YES
force_local_data_ssl=NO
force_local_logins_ssl=NO
require_ssl_reuse=YES
ssl_ciphers=HIGH
rsa_cert_file={chain}
rsa_private_key_file={key}
"""


class Vsftpd(Server):
    """vsftpd, which wants to see the control connection's TLS session again on every data connection."""

    def __init__(self, folder: Path, certificates: Certificates, *, implicit: bool = False) -> None:
        chain, key = certificates.files[NAME]
        root = folder / "root"
        for path in (folder / "empty", root, root / "up"):
            path.mkdir()
        root.chmod(0o555)
        (root / "up").chmod(0o777)
        self.root = root
        port = server_port()
        conf = folder / "vsftpd.conf"
        text = VSFTPD.format(folder=folder, port=port, chain=chain, key=key).lstrip()
        conf.write_text(text + ("implicit_ssl=YES\n" if implicit else ""))
        for above in folder.parents:
            if above.stat().st_uid == os.geteuid() and above.parent != above and not above.stat().st_mode & 0o001:
                above.chmod(above.stat().st_mode | 0o011)
        folder.chmod(0o755)
        super().__init__(folder, [tool("vsftpd"), conf], port)


class Dnsmasq(Server):
    """
    dnsmasq, which knows a few names.

    @param known: C{NAME=ADDRESS}, any number of them.
    """

    def __init__(self, folder: Path, *known: str, host: str = "127.0.0.1", port: int = 0) -> None:
        port = port or server_port()
        records = [f"--host-record={name},{address}" for name, _, address in (one.partition("=") for one in known)]
        command = [
            *(tool("dnsmasq"), "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts"),
            *("--user=root", f"--port={port}", f"--listen-address={host}", "--bind-interfaces", "--local-ttl=60"),
            "--local=/real.test/",
            *(f"--pid-file={folder / 'pid'}", "--log-facility=-", *records),
        ]
        super().__init__(folder, command, port, host=host)


UNBOUND: Final = """
server:
  interface: 127.0.0.1@{port}
  port: {port}
  tls-port: {port}
  tls-service-key: {key}
  tls-service-pem: {chain}
  do-daemonize: no
  chroot: ''
  username: ''
  pidfile: ''
  use-syslog: no
  directory: {folder}
  module-config: iterator
  num-threads: 1
  local-zone: real.test static
{records}
remote-control:
  control-enable: no
"""


class Unbound(Server):
    """
    Unbound, which speaks TLS only.

    @param known: records as local-data takes them.
    """

    def __init__(self, folder: Path, certificates: Certificates, *known: str) -> None:
        chain, key = certificates.files[NAME]
        port = server_port()
        records = "\n".join(f'  local-data: "{record}"' for record in known)
        conf = folder / "unbound.conf"
        conf.write_text(UNBOUND.format(port=port, key=key, chain=chain, folder=folder, records=records))
        super().__init__(folder, [tool("unbound"), "-d", "-c", conf], port)


NAMED: Final = """
options {{
    directory "{folder}";
    listen-on port {port} {{ 127.0.0.1; }};
    listen-on-v6 {{ none; }};
    recursion no;
    pid-file none;
    session-keyfile none;
}};
controls {{ }};
zone "{origin}" {{ type primary; file "signed"; }};
"""


class Named(Server):
    """
    BIND, with a signed zone.

    @ivar anchors: the file that says which keys to trust.
    """

    def __init__(self, folder: Path) -> None:
        port = server_port()
        self.anchors = folder / "anchors"
        self.anchors.write_text(sign(folder))
        conf = folder / "named.conf"
        conf.write_text(NAMED.format(folder=folder, port=port, origin=ORIGIN))
        super().__init__(folder, [tool("named"), "-g", "-n", "1", "-c", conf], port)

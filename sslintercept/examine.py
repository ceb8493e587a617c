"""
What a start would refuse, and what it would warn of, all at once: nothing is made, and no port is opened.

Every start and every reload looks at the same first, and C{check-config} prints it. What is loaded is loaded here too,
by its own loader; what would be made is looked at as far as that tells whether it can be.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, NamedTuple

from twisted.internet.defer import Deferred

from sslintercept.config.endpoint import parse
from sslintercept.config.schema import SYSTEM, ListenSettings, LogSettings, Settings, SitesSettings
from sslintercept.errors import ConfigError
from sslintercept.event import quarantine, store
from sslintercept.gateway import CONSENT_KEY, own_certificate, parent_of
from sslintercept.http import room
from sslintercept.http.template import Pages
from sslintercept.inspect.engines import Engines
from sslintercept.load import entry, inspecting
from sslintercept.net.connector import Connector
from sslintercept.rule.decide import Rules
from sslintercept.sites.look import Sites
from sslintercept.socks.users import Users
from sslintercept.tls.authority import Authority, is_there, load_key, shared_secret
from sslintercept.tls.verify import load_roots

LEAF_KEY: Final = "leaf.key"
"""in state_dir: the key of forged leaves"""
SECRETS: Final = "[sslintercept] state_dir"
"""where the secrets are that processes share"""

Check = Callable[[], Iterable[str]]
"""looks at one thing: gives warnings, or raises L{ConfigError}"""


class ConfigErrors(ConfigError):
    """Several mistakes; as text, one line each."""

    def __init__(self, mistakes: Iterable[ConfigError]) -> None:
        self.mistakes = tuple(mistakes)
        first = self.mistakes[0]
        super().__init__(first.what, where=first.where, remedy=first.remedy)

    def __str__(self) -> str:
        return "\n".join(map(str, self.mistakes))


class Examined(NamedTuple):
    """What was found."""

    mistakes: list[ConfigError]
    warnings: list[str]

    def refuse(self) -> None:
        """@raise ConfigErrors: there are mistakes."""
        if self.mistakes:
            raise ConfigErrors(self.mistakes)


def examine(settings: Settings, running: Settings | None = None) -> Examined:
    """
    Look at everything that the settings name.

    @param running: those that are in force, at a reload: what is opened once, perhaps with more rights than we have
        now, is not looked at again.
    """
    found = Examined([], list(settings.warnings))
    for check in checks(settings, running):
        try:
            found.warnings.extend(check())
        except ConfigError as error:
            found.mistakes.append(error)
    return found


def checks(settings: Settings, running: Settings | None) -> Iterator[Check]:
    """One for each thing, so that one mistake hides no other."""
    if running is None or (running.ca, running.state_dir) != (settings.ca, settings.state_dir):
        yield lambda: authority(settings)
    yield lambda: roots(settings)
    yield lambda: none(own_certificate(settings))
    if (users := settings.socks.users) is not None:
        yield lambda: Users.load(users, never)[1]
    for parent in settings.parents:
        yield lambda parent=parent: none(parent_of(parent))  # type: ignore[misc]  # a loop variable kept
    yield lambda: none(Rules(settings.rules))
    yield lambda: none(Pages(settings.pages))
    if running is None and any(rule.action == "warn" for rule in settings.rules):
        yield lambda: secret(settings, CONSENT_KEY)
    for one in settings.sites:
        yield lambda one=one: listed(one)  # type: ignore[misc]  # likewise
    for change in settings.changes:
        yield lambda change=change: none(entry(change))  # type: ignore[misc]  # likewise
    for inspector in settings.inspectors:
        yield lambda inspector=inspector: none(inspecting(inspector, idle_engines()))  # type: ignore[misc]  # likewise
    if settings.inspectors and settings.inspection.waiting_page:
        yield lambda: folder(settings.state_dir / room.FOLDER, "[inspection] waiting_page")
        yield lambda: spread_out(settings)
    if running is None or running.log != settings.log:
        yield from written(settings.log)
    if running is None or (running.events, running.upstream_tls) != (settings.events, settings.upstream_tls):
        yield from told(settings)
    dns = settings.dns
    yield lambda: readable(dns.hosts, "[dns] hosts", "no name is known from it")
    if SYSTEM in (dns.servers, dns.search):
        yield lambda: readable(dns.resolv_conf, "[dns] resolv_conf", "a name server on this machine is asked")
    for listener in settings.listeners:
        yield lambda listener=listener: who_may_come(settings, listener)  # type: ignore[misc]  # likewise


def written(log: LogSettings) -> Iterator[Check]:
    """The files and folders of the log."""
    if log.access != "-":
        yield lambda: appendable(Path(log.access), "[log] access")
    if (keylog := log.keylog) is not None:
        yield lambda: appendable(keylog, "[log] keylog", follow=False)
    if (sequence := log.sequence) is not None:
        yield lambda: folder(sequence, "[log] sequence")


def told(settings: Settings) -> Iterator[Check]:
    """Where events go."""
    events, state = settings.events, settings.state_dir
    if (file := events.file) is not None and file != "-":
        yield lambda: appendable(Path(file), "[events] file")
    # Whether the folder they are in can be made and written is the CA's question.
    kept, copies = state / store.NAME, state / quarantine.FOLDER
    if events.store and os.path.exists(kept):
        yield lambda: appendable(kept, "[events] store")
    if events.quarantine_size and os.path.exists(copies):
        yield lambda: folder(copies, "[events] quarantine_size")
    if (own := events.syslog_trust) is not None:
        yield lambda: load_roots(own, None, "[events] syslog_trust")[1]


def idle_engines() -> Engines:
    """What inspectors are made with that look at nothing: there is no loop, and whoever is made uses none."""
    nothing: Any = None  # Any: it stands for a loop, a resolver, processes and TLS
    return Engines(nothing, Sites(), nothing, Connector(nothing, nothing, timeout=0.0), nothing)


def none(_checked: object) -> tuple[()]:
    """No warnings."""
    return ()


def never(_call: Callable[[], bool]) -> Deferred[bool]:
    """Nobody logs in here."""
    return Deferred()


# what is loaded, or made


def authority(settings: Settings) -> Iterable[str]:
    """@raise ConfigError: the CA or the key of its leaves cannot be used, or not be made."""
    ca, state = settings.ca, settings.state_dir
    folder(state, "[sslintercept] state_dir", write=False)
    found = Authority.load(ca.certificate, ca.key, datetime.now(UTC))
    if found is None:
        for path, where in ((ca.certificate, "[ca] certificate"), (ca.key, "[ca] key")):
            folder(path.parent, where)
    kept, where = state / LEAF_KEY, "leaf key"
    if is_there(kept, where):
        load_key(kept, where)
    else:
        folder(state, "[sslintercept] state_dir")
    return () if found is None else found.warnings


def secret_path(settings: Settings, name: str) -> Path:
    """Where a secret is kept that processes share."""
    return settings.state_dir / f"{name}.secret"


def secret(settings: Settings, name: str) -> Iterable[str]:
    """@raise ConfigError: one is there that cannot be used; whether one can be made is looked at for the CA."""
    path = secret_path(settings, name)
    if is_there(path, SECRETS):
        shared_secret(path, SECRETS)
    return ()


def roots(settings: Settings) -> Iterable[str]:
    """@raise ConfigError: there are none."""
    upstream = settings.upstream_tls
    return load_roots(upstream.trust, upstream.extra_trust)[1]


# files and folders that are written


def folder(path: Path, where: str, write: bool = True) -> Iterable[str]:
    """@raise ConfigError: it is no folder and cannot become one, or cannot be written into."""
    for at in (path, *path.parents):
        try:
            mode = at.stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise cannot("look at", at, error.strerror, where) from None
        what = "use" if at == path else "make"
        if not stat.S_ISDIR(mode):
            raise cannot(what, path, f"{at} is no folder", where)
        if (write or at != path) and not os.access(at, os.W_OK | os.X_OK):
            raise cannot("write into" if at == path else "make", path, "Permission denied", where)
        break
    return ()


def appendable(path: Path, where: str, follow: bool = True) -> Iterable[str]:
    """@raise ConfigError: the file cannot be opened, nor made where it should be."""
    try:
        mode = os.stat(path, follow_symlinks=follow).st_mode
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise cannot("make", path, "its folder is not there", where) from None
        return folder(path.parent, where)
    except OSError as error:
        raise cannot("look at", path, error.strerror, where) from None
    if stat.S_ISDIR(mode) or stat.S_ISLNK(mode):
        raise cannot("append to", path, "a folder" if stat.S_ISDIR(mode) else "a symbolic link", where)
    if not os.access(path, os.W_OK):
        raise cannot("append to", path, "Permission denied", where)
    return ()


def cannot(what: str, path: Path, why: str | None, where: str) -> ConfigError:
    return ConfigError(f"cannot {what} {path} ({why})", where=where, remedy="name another one, or make it writable")


def readable(path: Path, where: str, otherwise: str) -> Iterable[str]:
    """A warning for a file that may be missing, but was probably meant to be there."""
    try:
        with open(path, "rb"):
            return ()
    except OSError as error:
        return (f"{where}: cannot read {path} ({error.strerror}); {otherwise}",)


def listed(sites: SitesSettings) -> Iterable[str]:
    """@raise ConfigError: the list cannot be read; whether it makes sense is found out by reading it."""
    if not os.access(sites.path, os.R_OK):
        where = f"[sites:{sites.name}] path"
        raise ConfigError(f"cannot read {sites.path}", where=where, remedy="name a file, or a folder of categories")
    return ()


# who may come in


def spread_out(settings: Settings) -> Iterator[str]:
    """Warnings about clients whose connections come to several workers: one alone knows what somebody waits for."""
    if settings.workers < 2:
        return
    again = "whoever waits behind [inspection] waiting_page may be told that nothing waits"
    if settings.spread == "connections":
        yield f"[sslintercept] spread = connections: {again}, since each connection may come to another worker"
        return
    for listener in settings.listeners:
        if listener.proxy_protocol:
            yield f"[listen:{listener.name}] proxy_protocol: {again}, since workers cannot tell its clients apart"


def who_may_come(settings: Settings, listener: ListenSettings) -> Iterator[str]:
    """Warnings about a proxy that asks fewer people for a password than whoever set it up may think."""
    at = parse(listener.endpoint)
    if listener.target is not None or at.transport == "UDP":
        return
    where = f"[listen:{listener.name}]"
    unasked = [word for word in listener.accept if word in ("http", "tls")]
    if settings.socks.users is None:
        unasked = list(listener.accept)
    elif unasked:
        yield (
            f"{where}: [socks] users is for SOCKS alone: who comes by {' or '.join(unasked)} is asked for no password; "
            "take that out of accept, or keep others away"
        )
    if unasked and not only_here(at.host):
        yield (
            f"{where} is an open proxy: whoever reaches {listener.endpoint} may use it without a password; listen on "
            "127.0.0.1, or let a firewall, or a rule with !client:..., keep others away"
        )


def only_here(host: str) -> bool:
    """Whether an interface can be reached from this machine alone; what systemd has opened may be anywhere."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

"""C{sslintercept}: looks at settings, the CA and the plugins without starting the proxy."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from getpass import getpass
from pathlib import Path
from typing import Any, NoReturn

from twisted.plugin import IPlugin, getPlugins
from zope.interface import providedBy
from zope.interface.interface import InterfaceClass

import sslintercept.plugins
from sslintercept import __version__, interfaces
from sslintercept.config.reader import find
from sslintercept.config.schema import Settings
from sslintercept.control import ask
from sslintercept.errors import ConfigError, InterceptError
from sslintercept.event import report
from sslintercept.event.query import Query
from sslintercept.examine import examine
from sslintercept.explain import explain as explanation
from sslintercept.explain import listener_of, question
from sslintercept.interfaces import ITransformPlugin
from sslintercept.load import load
from sslintercept.lookup import resolve
from sslintercept.offline import operate_alone
from sslintercept.register import DELIMITERS, list_detectors, register_documents, register_table, scan
from sslintercept.socks.users import make_line
from sslintercept.supervise import make_state_dir
from sslintercept.tls.authority import Authority, is_there
from sslintercept.transform.plugin import TransformPlugin

PLUGIN_KINDS: tuple[Any, ...] = tuple(  # Any: to mypy-zope an interface is a type, and here it is a value
    kind for kind in vars(interfaces).values() if isinstance(kind, InterfaceClass) and IPlugin in kind.__bases__
)


class _Parser(argparse.ArgumentParser):
    """Says that it was called wrongly with exit status 1, as 2 tells of a finding."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(1, f"{self.prog}: error: {message}\n")


def settings_of(options: argparse.Namespace) -> Settings:
    """@raise ConfigError: the file has mistakes."""
    return load(find(options.config).absolute())


def authority_of(settings: Settings) -> tuple[Authority, bool]:
    """@raise ConfigError: the CA cannot be used."""
    make_state_dir(settings.state_dir)
    ca = settings.ca
    now = datetime.now(UTC)
    return Authority.load_or_make(ca.certificate, ca.key, key_type=ca.key_type, name=ca.name, now=now)


def existing_authority(settings: Settings) -> Authority:
    """@raise ConfigError: there is no CA yet, or it cannot be used."""
    certificate, where = settings.ca.certificate, "[ca] certificate"
    if not is_there(certificate, where) and not is_there(settings.ca.key, "[ca] key"):
        raise ConfigError(f"{certificate} does not exist", where=where, remedy="run sslintercept ca init")
    return authority_of(settings)[0]


def check_config(options: argparse.Namespace) -> int:
    """Read a file and look at what it names as the proxy would."""
    settings = load(Path(options.file).absolute())
    found = examine(settings)
    for warning in found.warnings:
        print(f"warning: {warning}")
    found.refuse()
    has = f"{len(settings.listeners)} listener(s), {len(settings.rules)} rule(s)"
    if settings.changes:
        has += f", {len(settings.changes)} transform(s)"
    print(f"{options.file}: no mistakes; {has}")
    return 0


def ca_init(options: argparse.Namespace) -> int:
    """Make the CA, unless there is one."""
    settings = settings_of(options)
    authority, made = authority_of(settings)
    print(f"{'made' if made else 'kept'} {settings.ca.certificate}")
    print(authority.describe())
    return 0


def ca_show(options: argparse.Namespace) -> int:
    """Describe the CA."""
    print(existing_authority(settings_of(options)).describe())
    return 0


def ca_export(options: argparse.Namespace) -> int:
    """Hand out the CA's certificate, never its key."""
    data = existing_authority(settings_of(options)).export(options.format)
    if options.output is None:
        sys.stdout.buffer.write(data)
    else:
        try:
            Path(options.output).write_bytes(data)
        except OSError as error:
            raise ConfigError(
                f"cannot write {options.output} ({error.strerror})", where="--output", remedy="name another file"
            ) from None
        print(f"wrote {options.output}")
    return 0


def plugins(_options: argparse.Namespace) -> int:
    """List every plugin that is found."""
    found = [(kind.__name__, plugin) for kind in PLUGIN_KINDS for plugin in getPlugins(kind, sslintercept.plugins)]
    for kind, plugin in found:
        made = plugin.factory if isinstance(plugin, TransformPlugin) else plugin
        named = made if hasattr(made, "__qualname__") else type(made)
        where = getattr(sys.modules.get(named.__module__), "__file__", None) or named.__module__
        offers = ", ".join(sorted(i.__name__ for i in providedBy(plugin)))
        used = f"  use = {plugin.name}" if kind == ITransformPlugin.__name__ else ""
        print(f"{named.__qualname__}  {kind}  ({offers}){used}  from {where}")
    if not found:
        print(f"no plugins; the interfaces are {', '.join(kind.__name__ for kind in PLUGIN_KINDS)}")
    return 0


def socks_user(options: argparse.Namespace) -> int:
    """Print the line of a user for the file that [socks] users names."""
    if sys.stdin.isatty():
        password = getpass(f"password of {options.name}: ")
        again = getpass("once more: ")
    else:
        password = again = sys.stdin.readline().removesuffix("\n")
    where = "socks-user"
    if password != again:
        raise ConfigError("the two passwords differ", where=where, remedy="try again")
    try:
        print(make_line(options.name, password))
    except ValueError as error:
        raise ConfigError(str(error), where=where, remedy="give another one") from None
    return 0


def explain(options: argparse.Namespace) -> int:
    """Say what a request would meet, without making it."""
    settings = settings_of(options)
    asked = question(options.url, options.client, options.sni)
    for line in explanation(settings, asked, listener_of(settings, options.listener)):
        print(line)
    return 0


def cache(options: argparse.Namespace) -> int:
    """Ask the processes that run about their cache; where none does, the spans are opened here."""
    settings = settings_of(options)
    if settings.cache.path is None:
        raise ConfigError("there is no cache", where="[cache] path", remedy="name a folder, a file or a device")
    argument = getattr(options, "argument", None) or ""
    answered = False
    for process, line in ask(settings.state_dir, f"cache {options.operation} {argument}"):
        answered = True
        print(f"{process.removeprefix('control-')}: {line}" if settings.workers > 1 else line)
    return 0 if answered else operate_alone(settings, options.operation, argument)


def events(options: argparse.Namespace) -> int:
    """List what inspectors found."""
    now = time.time()
    query = Query(
        since=None if options.since is None else report.moment(options.since, "--since", now),
        until=None if options.until is None else report.moment(options.until, "--until", now),
        id=options.id,
        kind=tuple(options.kind),
        act=tuple(options.act),
        inspector=tuple(options.inspector),
        client=options.client,
        host=options.host,
        limit=report.limit(options.limit),
    )
    return report.say(report.listed(settings_of(options).state_dir, query, options.json))


def events_show(options: argparse.Namespace) -> int:
    """Say all about one event."""
    return report.say(report.shown(settings_of(options).state_dir, options.id_of_event))


def events_quarantine(options: argparse.Namespace) -> int:
    """Get a copy out of the quarantine."""
    return report.say([report.restored(settings_of(options).state_dir, options.id_of_copy, Path(options.to))])


def resolve_name(options: argparse.Namespace) -> int:
    """Ask for a name as the proxy would."""
    return resolve(settings_of(options), options.name)


def leak_table(options: argparse.Namespace) -> int:
    """Register columns of a CSV file."""
    return register_table(
        Path(options.csv),
        options.columns,
        Path(options.output),
        Path(options.key),
        encoding=options.encoding,
        delimiter=options.delimiter,
    )


def leak_documents(options: argparse.Namespace) -> int:
    """Register documents."""
    return register_documents([Path(file) for file in options.files], Path(options.output), Path(options.key))


def leak_scan(options: argparse.Namespace) -> int:
    """Try on files what is looked for."""
    return scan(
        [Path(file) for file in options.files],
        detectors=options.detectors,
        dictionaries=options.dictionaries,
        patterns=options.patterns,
        registered=options.registered,
        least=options.least,
    )


def leak_detectors(_options: argparse.Namespace) -> int:
    """List the detectors that ship."""
    return list_detectors()


def add_leak(actions: Any) -> None:  # Any: the type that argparse gives is private
    """What C{leak} can do."""

    def action(name: str, run: object, text: str) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = actions.add_parser(name, help=text, description=text)
        made.set_defaults(run=run)
        return made

    def named(what: str) -> Callable[[str], tuple[str, Path]]:
        return lambda file: (what, Path(file))

    table = action("table", leak_table, "register columns of a table, to find its rows in what leaves")
    table.add_argument("csv", metavar="CSV", help="a file with a head")
    table.add_argument("--columns", required=True, metavar="A,B,C", help="names of the columns to register")
    table.add_argument("--encoding", default="utf-8-sig", help="of CSV (default: UTF-8)")
    table.add_argument("--delimiter", default=",", choices=DELIMITERS, help="between cells (default: a comma)")
    documents = action("documents", leak_documents, "register texts of documents, to find parts of them")
    documents.add_argument("files", metavar="FILE", nargs="+")
    for made in (table, documents):
        made.add_argument("--output", "-o", required=True, metavar="FILE", help="where to put what is registered")
        made.add_argument("--key", required=True, metavar="FILE", help="the key's file, which is made if it is missing")
    text = "look into files and what is in them, and print what is found, masked; exit status 2 if there is something"
    tried = action("scan", leak_scan, text)
    tried.add_argument("files", metavar="FILE", nargs="+")
    tried.add_argument(
        "--detectors", metavar="NAMES", action="append", default=[],
        help="of detectors or groups, with commas (default: all, if nothing else is named)",
    )  # fmt: skip
    for option, dest, text in (
        ("--dictionary", "dictionaries", "a file of [[dictionary]]"),
        ("--patterns", "patterns", "a file of [[pattern]]"),
    ):
        tried.add_argument(option, dest=dest, metavar="FILE", type=Path, action="append", default=[], help=text)
    for what, text in (
        ("exact", "a registered table"),
        ("fingerprints", "registered documents"),
        ("key", "of all that is registered; or of several keys each of what is named in front of it"),
    ):
        tried.add_argument(
            f"--{what}", dest="registered", metavar="FILE", action="append", default=[], help=text,
            type=named(what),
        )  # fmt: skip
    tried.add_argument("--least", metavar="N", type=int, default=2, help="columns of a row to be found (default: 2)")
    action("detectors", leak_detectors, "list the detectors that ship")


def parser() -> argparse.ArgumentParser:
    """Every command and its options."""
    top = _Parser(prog="sslintercept", description="looks after the sslintercept proxy")
    top.add_argument("--version", action="version", version=f"sslintercept {__version__}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: object, text: str, **more: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text, **more)  # type: ignore[arg-type]  # keywords
        made.set_defaults(run=run)
        return made

    def configured(made: argparse.ArgumentParser) -> argparse.ArgumentParser:
        made.add_argument("--config", "-c", metavar="FILE", help="the ini file (default: as for twistd sslintercept)")
        return made

    command("check-config", check_config, "print every mistake in an ini file").add_argument("file", metavar="FILE")
    ca = command("ca", None, "make, describe or hand out the CA")
    actions = ca.add_subparsers(required=True, metavar="ACTION")
    for name, run, text in (
        ("init", ca_init, "make the CA unless there is one"),
        ("show", ca_show, "describe the CA"),
        ("export", ca_export, "hand out the CA's certificate"),
    ):
        action = configured(actions.add_parser(name, help=text, description=text))
        action.set_defaults(run=run)
        if name == "export":
            action.add_argument("--format", choices=("pem", "der"), default="pem")
            action.add_argument("--output", "-o", metavar="FILE", help="default: standard output")
    asked = configured(command("resolve", resolve_name, "say how a name would be answered, and from where"))
    asked.add_argument("name", metavar="NAME")
    kept = command("cache", None, "look after what is kept of responses")
    operations = kept.add_subparsers(required=True, metavar="OPERATION")
    for word, text, what_it_takes in (
        ("stat", "say what it holds, and what it has done", ""),
        ("ls", "list what is kept; PATTERN may have wildcards", "[PATTERN]"),
        ("purge", "remove a URL, or all that are like a pattern with wildcards", "URL"),
        ("verify", "read everything; what is damaged is removed", ""),
    ):
        operation = configured(operations.add_parser(word, help=text, description=text))
        operation.set_defaults(run=cache, operation=word)
        if what_it_takes:
            operation.add_argument(
                "argument", metavar=what_it_takes.strip("[]"), nargs="?" if what_it_takes.startswith("[") else None
            )
    found = configured(command("events", events, "list what inspectors found, or show one, or get a copy of it back"))
    found.add_argument("--since", metavar="TIME", help="1h (ago), or 2026-01-31T12:00 (UTC)")
    found.add_argument("--until", metavar="TIME", help="likewise")
    for name, text in (("kind", "malware, site, leak ..."), ("act", "block, report ..."), ("inspector", "a section")):
        found.add_argument(f"--{name}", action="append", default=[], metavar="WORD", help=f"{text}; may be repeated")
    found.add_argument("--client", metavar="ADDRESS", help="the client's address")
    found.add_argument("--host", metavar="NAME", help="the other end; .example.com for all below it too")
    found.add_argument("--id", metavar="ID", help="the id on a page that blocks")
    found.add_argument("--limit", default="100", metavar="NUMBER", help="the newest so many (default: 100)")
    found.add_argument("--json", action="store_true", help="a line of JSON an event")
    asks = found.add_subparsers(metavar="ACTION")
    for word, run, text, target in (
        ("show", events_show, "say all about one event", "id_of_event"),
        ("quarantine", events_quarantine, "get a copy out of the quarantine", "id_of_copy"),
    ):
        action = asks.add_parser(word, help=text, description=text)
        action.add_argument("--config", "-c", metavar="FILE", default=argparse.SUPPRESS, help="the ini file")
        action.add_argument(target, metavar="ID")
        action.set_defaults(run=run)
        if word == "quarantine":
            action.add_argument("--to", required=True, metavar="FILE", help="a file that is not there yet")
    leak = command("leak", None, "register what must not leave, and try what is looked for")
    add_leak(leak.add_subparsers(required=True, metavar="ACTION"))
    command("plugins", plugins, "list every plugin that is found")
    user = command("socks-user", socks_user, "print a user's line for the file of [socks] users")
    user.add_argument("name", metavar="NAME")
    what = configured(command("explain", explain, "say what a request for URL would meet, and why"))
    what.add_argument("url", metavar="URL")
    what.add_argument("--client", default="127.0.0.1", metavar="ADDRESS", help="the client's address")
    what.add_argument("--sni", metavar="NAME", help="the server name in the hello (default: the URL's host)")
    what.add_argument("--listener", metavar="NAME", help="the listener (default: the first without a target)")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; a mistake is one line and exit status 1."""
    options = parser().parse_args(arguments)
    try:
        status: int = options.run(options)
    except InterceptError as error:
        print(error, file=sys.stderr)
        return 1
    return status

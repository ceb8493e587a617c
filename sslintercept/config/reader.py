"""
From the ini file to L{Settings}, or to every mistake in it at once, each with its line, its key and what is allowed.

Only the ini file is read. Whether the files and endpoints it names can be used is found out by whoever uses them.
"""

from __future__ import annotations

import difflib
import os
import re
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from sslintercept.config import lines, schema
from sslintercept.config.endpoint import parse
from sslintercept.config.key import Key, Section
from sslintercept.config.lines import Entry
from sslintercept.config.schema import (
    InspectSettings,
    ListenSettings,
    ParentSettings,
    RuleSettings,
    Settings,
    SitesSettings,
    SplitDnsSettings,
    TransformSettings,
)
from sslintercept.config.units import NotAllowed, shown
from sslintercept.errors import ConfigError

PLACES = (Path("etc/sslintercept.ini"), Path("/etc/sslintercept/sslintercept.ini"))
"""where the ini file is looked for when none is named"""
MOST_BYTES: Final = 1 << 20
"""of an ini file"""
MOST_MISTAKES: Final = 200
"""listed; beyond them the file is not what it should be at all"""

NEAR: Final = 0.6
"""how alike a word and a known one must be for a guess (difflib)"""

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_SECTIONS: Final = {section.name: section for section in schema.SECTIONS}

Values = dict[str, Any]  # Any: the schema gives each field its own type


class Checks(NamedTuple):
    """What only those know who stand above the settings."""

    match: Callable[[str], None]
    """raises C{ValueError} for the text of a rule's or a parent's match that cannot be used"""
    messages: Callable[[str], None]
    """the same for a transform's"""
    options: Callable[[str], type[Any]]  # Any: each transform has its own dataclass
    """the keys of what a transform uses; raises C{ValueError} if there is no such thing"""
    parts: Callable[[str], None]
    """as C{match}, for an inspector's"""
    inspector_options: Callable[[str], type[Any]]  # Any: each inspector has its own dataclass
    """as C{options}, for an inspector"""


class Mistake(NamedTuple):
    """One thing that is wrong with an ini file."""

    file: str
    line: int
    """0: the file as a whole"""
    section: str
    key: str
    value: str
    what: str
    allowed: str = ""

    def __str__(self) -> str:
        """C{etc/x.ini:12: [http] header_timeout = 10parsecs: not a duration; allowed: ...}"""
        place = f"{self.file}:{self.line}" if self.line else self.file
        section = f"[{shown(self.section)}]" if self.section else ""
        setting = f"{self.key} = {shown(self.value)}" if self.value else self.key
        subject = " ".join(part for part in (section, setting) if part)
        what = f"{self.what}; allowed: {self.allowed}" if self.allowed else self.what
        return ": ".join(part for part in (place, subject, what) if part)


class ConfigMistakes(ConfigError):
    """
    An ini file with mistakes; as text, one line each.

    @ivar mistakes: all of them in the order of lines, at least one.
    """

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = tuple(mistakes)
        first = self.mistakes[0]
        super().__init__(first.what, where=first.file, remedy="correct the ini file")

    def __str__(self) -> str:
        return "\n".join(map(str, self.mistakes))


def find(given: str | None) -> Path:
    """
    The ini file that was named, or the first that is there, whether it can be read or not.

    @raise ConfigError: none is.
    """
    if given:
        return Path(given)
    for place in PLACES:
        try:
            place.stat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            pass  # whoever reads it says what is wrong
        return place
    raise ConfigError(
        f"neither {PLACES[0].absolute()} nor {PLACES[1]} is there",
        where="settings",
        remedy="name an ini file with --config FILE; an empty one is a good one",
    )


def read(path: Path, checks: Checks | None = None, generation: int = 1) -> Settings:
    """
    Read an ini file.

    @param checks: without them matches are not looked into, and no transform has keys of its own.
    @raise ConfigMistakes: the file cannot be read, or there are mistakes in it.
    """
    sections, faults = lines.parse(_load(path))
    reading = _Reading(path, checks)
    for fault in faults:
        reading.mistake(fault.line, fault.section, fault.key, "", fault.what)
    for section in sections:
        reading.take(section)
    reading.cross_check()
    if reading.mistakes:
        raise ConfigMistakes(sorted(reading.mistakes, key=lambda mistake: mistake.line))
    return reading.settings(generation)


def _load(path: Path) -> bytes:
    def refuse(what: str) -> ConfigMistakes:
        return ConfigMistakes([Mistake(str(path), 0, "", "", "", what)])

    try:
        # Looked at first, because opening a FIFO would wait for somebody to write to it.
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode):
            what = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
            raise refuse(f"{what}; name an ini file")
        with open(path, "rb") as file:
            data = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise refuse("there is no such file; name one that exists") from None
    except (OSError, ValueError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise refuse(f"cannot be read ({why}); make it readable for the user the proxy runs as") from None
    if len(data) > MOST_BYTES:
        raise refuse("larger than 1 MiB; name an ini file")
    return data


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that I{word} was probably meant to be."""
    return next(iter(difflib.get_close_matches(word.lower(), list(known), 1, NEAR)), None)


class _Reading:
    """Takes in sections one by one, and keeps going after mistakes."""

    def __init__(self, path: Path, checks: Checks | None) -> None:
        self.mistakes: list[Mistake] = []
        self._path = path
        self._folder = Path(os.path.abspath(path)).parent
        self._checks = checks
        self._single: dict[str, Values] = {}
        self._listeners: list[ListenSettings] = []
        self._rules: list[RuleSettings] = []
        self._parents: list[ParentSettings] = []
        self._split_dns: list[SplitDnsSettings] = []
        self._sites: list[SitesSettings] = []
        self._transforms: list[TransformSettings] = []
        self._inspectors: list[InspectSettings] = []
        self._lines: dict[tuple[str, str], int] = {}
        """where a key of a section stands, for mistakes that show later"""
        self._warnings: list[str] = []
        nothing = lines.Section("", 0)
        for section in schema.SECTIONS:
            if not section.named:
                self._single[section.name] = self._values(section, nothing)

    def mistake(self, line: int, section: str, key: str, value: str, what: str, allowed: str = "") -> None:
        """
        Note a mistake.

        @raise ConfigMistakes: there are too many.
        """
        if len(self.mistakes) == MOST_MISTAKES:
            last = Mistake(
                str(self._path), 0, "", "", "", f"more than {MOST_MISTAKES} mistakes; the rest is not listed"
            )
            raise ConfigMistakes([*sorted(self.mistakes, key=lambda mistake: mistake.line), last])
        self.mistakes.append(Mistake(str(self._path), line, section, key, value, what, allowed))

    def take(self, found: lines.Section) -> None:
        """Read a section of the file."""
        kind, colon, name = found.name.partition(":")
        section = _SECTIONS.get(kind)
        if section is None:
            near = nearest(kind, _SECTIONS)
            headings = ", ".join(one.heading for one in schema.SECTIONS)
            hint = f"the nearest is {_SECTIONS[near].heading}" if near else f"there are {headings}"
            self.mistake(found.line, found.name, "", "", f"unknown section; {hint}")
        elif section.named and not _NAME.fullmatch(name):
            allowed = "at most 64 letters, digits, dots, hyphens and underscores"
            self.mistake(found.line, found.name, "", "", f"needs a name; write {section.heading}", allowed)
        elif colon and not section.named:
            self.mistake(found.line, found.name, "", "", f"takes no name; write {section.heading}")
        elif section is schema.TRANSFORM:
            options = None if self._checks is None else self._checks.options
            if (values := self._used(section, found, options)) is not None:
                self._transforms.append(TransformSettings(name=name, line=found.line, **values))
        elif section is schema.INSPECT:
            options = None if self._checks is None else self._checks.inspector_options
            if (values := self._used(section, found, options)) is not None:
                self._inspectors.append(InspectSettings(name=name, line=found.line, **values))
        else:
            values = self._values(section, found)
            if not section.named:
                self._single[kind] = values
            elif len(values) == len(section.keys):
                if section is schema.RULE:
                    self._rules.append(RuleSettings(name=name, line=found.line, **values))
                elif section is schema.PARENT:
                    self._parents.append(ParentSettings(name=name, line=found.line, **values))
                elif section is schema.SPLIT_DNS:
                    self._split_dns.append(SplitDnsSettings(name=name, line=found.line, **values))
                elif section is schema.SITES:
                    self._sites.append(SitesSettings(name=name, line=found.line, **values))
                else:
                    self._listeners.append(ListenSettings(name=name, line=found.line, **values))

    def _used(
        self,
        section: Section,
        found: lines.Section,
        options_of: Callable[[str], type[Any]] | None,  # Any: as there
    ) -> Values | None:
        """Read what all sections of this kind have, then what this one's factory wants to know."""
        own = Section(section.name, _NoKeys, section.doc, section.example)
        use, unknown = found.entries.get("use"), ""
        if use is not None and options_of is not None:
            try:
                own = own._replace(settings=options_of(use.value))
            except ValueError as error:
                unknown = str(error)
        usual = {key.name for key in section.keys}
        if unknown and use is not None:
            # What its keys would be nobody knows.
            self.mistake(use.line, found.name, "use", use.value, unknown)
            return None
        common, rest = lines.Section(found.name, found.line), lines.Section(found.name, found.line)
        for key, entry in found.entries.items():
            (common if key in usual else rest).entries[key] = entry
        values = self._values(section, common)
        before = len(self.mistakes)
        options = self._values(own, rest)
        if len(self.mistakes) > before or len(values) < len(section.keys):
            return None
        try:
            return {**values, "options": own.settings(**options)}
        except ValueError as error:
            self.mistake(found.line, found.name, "", "", str(error))
            return None

    def _values(self, section: Section, found: lines.Section) -> Values:
        """What the keys of a section stand for; a key with a mistake is left out."""
        known = {key.name: key for key in section.keys}
        for name, entry in found.entries.items():
            self._lines[found.name, name] = entry.line
            if name not in known:
                self.mistake(entry.line, found.name, name, "", _unknown(name, section))
        values: Values = {}
        for key in known.values():
            if key.name in found.entries:
                self._value(values, key, found.name, found.entries[key.name])
            elif key.required:
                self.mistake(found.line, found.name, key.name, "", "missing", key.allowed)
            else:
                values[key.name] = None if key.default is None else key.unit(key.default, self._folder)
        return values

    def _value(self, values: Values, key: Key, section: str, entry: Entry) -> None:
        text = entry.value
        if not text and key.default != "":
            self.mistake(entry.line, section, key.name, "", "empty; give it a value or remove the key", key.allowed)
            return
        try:
            value = key.unit(text, self._folder)
            if self._checks is not None and key.name == "match":
                checks = self._checks
                own = {schema.TRANSFORM.name: checks.messages, schema.INSPECT.name: checks.parts}
                own.get(section.partition(":")[0], checks.match)(str(value))
        except NotAllowed as error:
            self.mistake(entry.line, section, key.name, text, error.what, error.allowed)
        except ValueError as error:
            self.mistake(entry.line, section, key.name, text, str(error))
        else:
            values[key.name] = value

    def cross_check(self) -> None:
        """What no key can know alone."""
        tunnel = self._single["tunnel"]
        if "low_water" in tunnel and "high_water" in tunnel and tunnel["low_water"] > tunnel["high_water"]:
            line = self._line("tunnel", "low_water", "high_water")
            self.mistake(line, "tunnel", "low_water", "", "above high_water", "at most high_water")
        given = [key for key in ("certificate", "key") if ("proxy-tls", key) in self._lines]
        if len(given) == 1:
            missing = "key" if "certificate" in given else "certificate"
            what = f"missing, while {given[0]} is given; give both or none"
            self.mistake(self._line("proxy-tls", *given), "proxy-tls", missing, "", what)
        for number, listener in enumerate(self._listeners):
            self._check_endpoint(listener, self._listeners[:number])
            self._check_listener(listener)
        for rule in self._rules:
            self._check_rule(rule)
        for parent in self._parents:
            self._check_parent(parent)
        self._check_split_dns()
        servers = self._single["dns"].get("servers", schema.SYSTEM)
        if servers != schema.SYSTEM and len(servers) > schema.MOST_SERVERS:
            self._single["dns"]["servers"] = servers[: schema.MOST_SERVERS]
            place = f"{self._path}:{self._line('dns', 'servers')}"
            self._warnings.append(
                f"{place}: [dns] servers: {len(servers)} addresses, only the first {schema.MOST_SERVERS} are used"
            )

    def _check_endpoint(self, listener: ListenSettings, before: Iterable[ListenSettings]) -> None:
        at = parse(listener.endpoint)
        for other in before:
            if listener.endpoint == other.endpoint or at.collides(parse(other.endpoint)):
                section = f"listen:{listener.name}"
                what = f"the same port as [listen:{other.name}] in line {other.line}; give each its own"
                self.mistake(self._line(section, "endpoint"), section, "endpoint", listener.endpoint, what)
                return

    def _check_listener(self, listener: ListenSettings) -> None:
        section = f"listen:{listener.name}"
        datagrams = parse(listener.endpoint).transport == "UDP"
        if listener.transparent and listener.target != "original":
            line = self._line(section, "transparent")
            self.mistake(line, section, "transparent", "", "needs target = original")
        questions = listener.accept == ("dns",)
        if datagrams and listener.target in (None, "sni") and not questions:
            line = self._line(section, "endpoint")
            what = "datagrams name no destination; give target = original or an address, or accept = dns"
            self.mistake(line, section, "endpoint", listener.endpoint, what)
        if "dns" in listener.accept and listener.target is not None:
            line = self._line(section, "accept")
            self.mistake(line, section, "accept", "dns", "not with a target: there the destination's server answers")
        if datagrams and listener.target == "original" and not listener.transparent:
            line = self._line(section, "target")
            self.mistake(line, section, "target", "original", "needs transparent = on for datagrams (TPROXY)")
        if datagrams and listener.proxy_protocol:
            line = self._line(section, "proxy_protocol")
            self.mistake(line, section, "proxy_protocol", "", "not for datagrams")
        if datagrams and (section, "accept") in self._lines and not questions:
            line = self._line(section, "accept")
            self.mistake(line, section, "accept", "", "not for datagrams, whose protocols are told apart by rules")

    def _check_rule(self, rule: RuleSettings) -> None:
        if rule.starttls == "allow":
            return
        section = f"rule:{rule.name}"
        line = self._line(section, "starttls")
        if not self._single["mail"].get("sessions", True):
            what = "nobody would see whether TLS begins; remove it, or set [mail] sessions = on"
            self.mistake(line, section, "starttls", rule.starttls, what)
        if rule.action == "tunnel":
            what = "nobody looks into what is tunnelled; remove it, or write action = intercept"
            self.mistake(line, section, "starttls", rule.starttls, what)

    def _check_split_dns(self) -> None:
        domains: dict[str, SplitDnsSettings] = {}
        for split in self._split_dns:
            section = f"dns-for:{split.name}"
            for domain in split.domains:
                other = domains.setdefault(domain, split)
                if other is not split:
                    what = f"also in [dns-for:{other.name}] in line {other.line}"
                    self.mistake(self._line(section, "domains"), section, "domains", domain, what)
            if len(domains) > schema.MOST_SPLIT:
                what = f"more than {schema.MOST_SPLIT} domains in all"
                self.mistake(self._line(section, "domains"), section, "domains", "", what)
                return

    def _check_parent(self, parent: ParentSettings) -> None:
        section = f"parent:{parent.name}"
        if parent.proxy != "direct" and parent.address is None:
            self.mistake(parent.line, section, "address", "", "missing; say where the parent listens")
        if parent.proxy == "direct":
            for key in ("address", "user", "password_file"):
                if (section, key) in self._lines:
                    what = "beside proxy = direct, which goes by no parent; remove one of them"
                    self.mistake(self._line(section, key), section, key, "", what)
        if (parent.user is None) != (parent.password_file is None):
            given = "user" if parent.user is not None else "password_file"
            missing = "password_file" if given == "user" else "user"
            what = f"missing, while {given} is given; give both or none"
            self.mistake(self._line(section, given), section, missing, "", what)

    def _line(self, section: str, *keys: str) -> int:
        return next(self._lines[section, key] for key in keys if (section, key) in self._lines)

    def settings(self, generation: int) -> Settings:
        """What was read; there must be no mistakes."""
        ca, state = self._single["ca"], self._single[schema.PROCESS.name]["state_dir"]
        for key, name in (("certificate", "ca.pem"), ("key", "ca.key")):
            ca[key] = ca[key] or state / name
        parts: Values = {
            section.attribute: section.settings(**self._single[section.name])
            for section in schema.SECTIONS
            if not section.named and section is not schema.PROCESS
        }
        return Settings(
            path=Path(os.path.abspath(self._path)),
            generation=generation,
            listeners=tuple(self._listeners) or (schema.DEFAULT_LISTENER,),
            rules=tuple(self._rules),
            parents=tuple(self._parents),
            split_dns=tuple(self._split_dns),
            sites=tuple(self._sites),
            changes=tuple(self._transforms),
            inspectors=tuple(self._inspectors),
            warnings=tuple(self._warnings),
            **self._single[schema.PROCESS.name],
            **parts,
        )


@dataclass(frozen=True)
class _NoKeys:
    """What has no keys of its own."""


def _unknown(name: str, section: Section) -> str:
    known = section.keys
    if usual := next((one for one in (schema.TRANSFORM, schema.INSPECT) if one.name == section.name), None):
        # Those of what it uses stand beside those that all of its kind have.
        known = (*usual.keys, *known)
    elif not known:
        return "not part of this version; remove the key"
    elif home := next((other for other in schema.SECTIONS if name in (key.name for key in other.keys)), None):
        return f"unknown key; it belongs in {home.heading}"
    keys = [key.name for key in known]
    near = nearest(name, keys)
    return "unknown key; " + (f"the nearest is {near}" if near else f"there are {', '.join(keys)}")

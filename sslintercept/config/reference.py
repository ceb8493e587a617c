"""
The reference of the ini file, written from the schema: C{etc/sslintercept.ini} and C{docs/configuration.md}.

C{python -m sslintercept.config.reference} writes both anew.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sslintercept.config.key import Key, Section
from sslintercept.config.schema import DEFAULT_LISTENER, LISTEN, SECTIONS

ROOT: Final = Path(__file__).resolve().parents[2]
INI: Final = Path("etc/sslintercept.ini")
PAGE: Final = Path("docs/configuration.md")

INI_HEAD: Final = """\
# Every key of sslintercept with its default. "#" explains; what stands behind ";" is unset, or an example.
# A key that is left out has its default. Durations take ms, s, m, h, d; sizes take B, KiB, MiB, GiB.
# Relative paths start from this file's folder. To check a file: sslintercept check-config FILE
"""

PAGE_HEAD: Final = """\
# The ini file

This page is written from the schema the program reads with (`make docs`).
[`etc/sslintercept.ini`](../etc/sslintercept.ini) shows the same keys as a file to start from. Every key has a default
that is safe and works: an empty file is a good one.

```console
$ sslintercept check-config /etc/x.ini
/etc/x.ini:12: [http] tls_timeout = 10parsecs: not a duration; allowed: a number with ms, s, m, h or d, from 1ms to 30d
```

Every mistake is listed, each in one line: the file and line, the section, the key and its value, what is wrong, what
is allowed. A section or key that is not known, or stands there twice, is a mistake. Then what the settings name is
looked at: the CA, certificates and their keys, trust, users, passwords, files and folders that are written. With a
mistake the program does not start; on a reload (SIGHUP) it goes on with the settings it has. A reload reads the whole
file anew; connections that are open keep the settings they began with.

`check-config` finds whatever a start would refuse, short of opening the ports, and makes nothing. What is no mistake
but probably not meant is a warning, there and once at the start: a proxy that everybody can reach and that asks
nobody for a password, users of SOCKS beside an open HTTP, names' files that are not there, rights that are too wide.

## How it is written

- UTF-8, at most 1 MiB. `[section]`, then `key = value` lines. Upper and lower case differ in names.
- A line that begins with `;` or `#` is a comment, and so is the rest of a line after white space and `;` or `#`.
- A line indented deeper than its key continues the value, until a blank line. Lists may so span lines.
- **Durations** are a number and `ms`, `s`, `m`, `h` or `d`: `300ms`, `1.5h`. **Sizes** are a whole number and `B`,
  `KiB`, `MiB` or `GiB`. **Switches** are `on`, `yes`, `true` or `off`, `no`, `false`.
- **Paths** that are relative start from the ini file's folder, not from the working directory. `..` takes away the name
  in front of it, wherever that leads.
- **Lists** have commas. **Hosts** are names or addresses; IPv6 stands in brackets before a port: `[2001:db8::1]:53`.

`NAME` in a section is yours to choose: letters, digits, dots, hyphens and underscores. It stands in logs and in rules.
"""

NOTES: Final = {
    "listen": f"""\
Without any such section there is one: `[listen:proxy]` with `endpoint = {DEFAULT_LISTENER.endpoint}` and the
defaults below. No two may have the same endpoint.""",
    "dns": "More than 32 name servers are no mistake: the first 32 are used, and a warning says so.",
    "log": """\
**`keylog` is dangerous**: with this file, whoever recorded the traffic can read all of it. Use it to find a fault, then
unset it and delete the file.""",
    "transform": "What the transforms that ship have as keys is in [shipped-stages.md](shipped-stages.md).",
    "inspect": "What the inspectors that ship have as keys is in [inspection.md](inspection.md).",
    "rule": "What `match` may hold, and how rules wait for what is not yet known, is in [rules.md](rules.md).",
}
"""what the page says of a section beyond its keys"""


def ini() -> str:
    """The reference file: every key once, with its default, or commented out."""
    return "\n".join([INI_HEAD, *(_ini_section(section) for section in SECTIONS)])


def _ini_section(section: Section) -> str:
    # Of the named ones only a listener belongs into every file; other examples must not take effect.
    off = "; " if section.named and section is not LISTEN else ""
    heading = f"[{section.name}:{section.example}]" if section.named else f"[{section.name}]"
    lines = [f"# {section.doc}", off + heading]
    for key in section.keys:
        unset = not key.default and not (section is LISTEN and key.required)
        value = key.example if unset or key.required else key.default
        if not value:
            lines.append(f"# {key.name}: {key.doc}")  # reserved: no value would do
            continue
        brief = f" ({key.unit.brief})" if key.unit.brief else ""
        lines += [f"# {key.doc}{brief}", f"{'; ' if unset else off}{key.name} = {value}"]
    return "\n".join(lines) + "\n"


def markdown() -> str:
    """The page: how the file is written, then a table for each section."""
    return "\n".join([PAGE_HEAD, *map(_page_section, SECTIONS)])


def _page_section(section: Section) -> str:
    doc = section.doc[0].upper() + section.doc[1:] + "."
    parts = [f"## `{section.heading}`\n", doc + "\n"]
    if section.name in NOTES:
        parts.append(NOTES[section.name] + "\n")
    if section.keys:
        rows = [f"| `{key.name}` | {_default(key)} | {_cell(key.allowed)} | {_cell(key.doc)} |" for key in section.keys]
        parts.append("\n".join(["| key | default | allowed | meaning |", "| --- | --- | --- | --- |", *rows, ""]))
    return "\n".join(parts)


def _default(key: Key) -> str:
    if key.required:
        return "required"
    return f"`{key.default}`" if key.default else "empty" if key.default == "" else "unset"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*").replace("`", "\\`")


def main(root: Path = ROOT) -> None:
    """Write both files below the project's folder."""
    for path, content in ((INI, ini()), (PAGE, markdown())):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()

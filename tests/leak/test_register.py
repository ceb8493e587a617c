"""C{sslintercept leak}: what is registered is found again, masked, and every mistake is one line and exit status 1."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sslintercept import command, register
from sslintercept.leak.digest import read_secret
from sslintercept.leak.table import GROUPS, TABLE
from tests.process.tools import ours, run

CSV = "name,account,town\nAnna Berg,12 345 678,Ulm\nJean-Luc Tour,87-654-321,\n"
PLAN = " ".join(f"word{number}" for number in range(200))
CARD = "card: 4111 1111 1111 1111"
DICTIONARY = '[[dictionary]]\nname = "deal"\nleast = 2\nterms = { falcon = 1, price = 1 }\n'
PATTERN = "[[pattern]]\nname = 'project'\npattern = 'PRJ-[0-9]{6}'\n"

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, text in (
        ("c.csv", CSV),
        ("plan.txt", PLAN),
        ("note.txt", "too short"),
        ("d.toml", DICTIONARY),
        ("p.toml", PATTERN),
        ("clean.txt", "nothing of interest"),
        ("card.txt", CARD),
    ):
        (tmp_path / name).write_text(text)
    return tmp_path


def leak(*words: str) -> int:
    return command.main(["leak", *words])


def table(*more: str, columns: str = "name,account", output: str = "customers.leak", key: str = "key") -> int:
    return leak("table", "c.csv", "--columns", columns, "--output", output, "--key", key, *more)


def documents(*names: str, output: str = "plans.leak", key: str = "key") -> int:
    return leak("documents", *names, "--output", output, "--key", key)


def refused(capsys: Captured, what: str) -> None:
    err = capsys.readouterr().err
    assert what in err
    assert err.count("\n") == 1
    assert "Traceback" not in err


def test_a_table_is_registered_with_a_new_key_for_their_owner_only(folder: Path, capsys: Captured) -> None:
    assert table(columns="name, account, town") == 0
    assert capsys.readouterr().out.splitlines() == [
        "made the key key (32 bytes)",
        "customers.leak: columns name, account, town; 2 rows, 5 cells",
        "left out: 1 cells that tell too little or are too long, 0 different ones that more than 64 rows have",
    ]
    for name in ("customers.leak", "key"):
        assert (folder / name).stat().st_mode & 0o777 == 0o600
    assert b"anna" not in (folder / "customers.leak").read_bytes().lower()
    key = read_secret(folder / "key")
    assert table(output="other.leak") == 0
    assert capsys.readouterr().out.splitlines() == [
        "used the key key (32 bytes)",
        "other.leak: columns name, account; 2 rows, 4 cells",
    ]
    assert read_secret(folder / "key") == key


def test_cells_that_many_rows_have_are_told(folder: Path, capsys: Captured) -> None:
    rows = "".join(f"person{number},{number + 10_000},Ulm\n" for number in range(65))
    (folder / "c.csv").write_text("name,account,town\n" + rows)
    assert table(columns="name,town") == 0
    assert "left out: 0 cells that tell too little or are too long, 1 different ones" in capsys.readouterr().out


def test_a_table_in_another_encoding_with_semicolons_is_found(folder: Path, capsys: Captured) -> None:
    (folder / "c.csv").write_bytes("name;account\nJürgen Groß;12345678\n".encode("cp1252"))
    assert table("--encoding", "cp1252", "--delimiter", ";") == 0
    (folder / "x.txt").write_text("12.345.678 JÜRGEN GROSS")
    assert leak("scan", "x.txt", "--exact", "customers.leak", "--key", "key") == 2
    assert "x.txt: byte 0: customers, score 100: row 1: name, account\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changed", "more", "what"),
    [
        ({"columns": "name,street"}, (), "c.csv has no column street; it has name, account, town"),
        ({"columns": "name,name"}, (), "a column is there twice"),
        ({"columns": ""}, (), "0 columns"),
        ({"output": "none/x"}, (), "cannot write none/x (No such file or directory)"),
        ({"output": "c.csv"}, (), "c.csv: one file is named twice; name another one"),
        ({"key": "./c.csv"}, (), "c.csv: one file is named twice; name another one"),
        ({"key": "customers.leak"}, (), "customers.leak: one file is named twice; name another one"),
        ({"key": "note.txt"}, (), "others may read note.txt; chmod 600 note.txt"),
        ({}, ("--encoding", "klingon"), "--encoding: no encoding klingon"),
        ({}, ("--encoding", "hex"), "--encoding: no encoding hex"),
        ({}, ("--encoding", "utf-16"), "c.csv: UTF-16 stream does not start with BOM"),
        ({"columns": "town"}, (), ""),
    ],
)
def test_a_table_that_cannot_be_registered_is_one_line(
    folder: Path, capsys: Captured, changed: dict[str, str], more: tuple[str, ...], what: str
) -> None:
    (folder / "note.txt").chmod(0o644)
    if not what:
        (folder / "c.csv").write_text("town\nA\n")
        what = "c.csv: nothing of it can be found; name columns that tell rows apart"
    before = (folder / "c.csv").read_bytes()
    assert table(*more, **changed) == 1
    refused(capsys, what)
    assert (folder / "c.csv").read_bytes() == before


def test_a_head_of_several_lines_is_told_in_one(folder: Path, capsys: Captured) -> None:
    (folder / "c.csv").write_text('"a\nb\x1b[31m",c\n')
    assert table() == 1
    refused(capsys, "it has a b [31m, c")
    assert table(columns='"a\nb\x1b[31m"') == 1
    assert "\x1b" not in capsys.readouterr().out


def test_documents_are_registered_and_those_too_short_are_named(folder: Path, capsys: Captured) -> None:
    assert documents("plan.txt", "note.txt") == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "made the key key (32 bytes)"
    assert out[1].startswith("plans.leak: 2 documents, ")
    assert out[2:] == ["too short to be found: note.txt"]
    (folder / "mail.txt").write_text(f"look at this: {PLAN[300:1200]} bye")
    assert leak("scan", "mail.txt", "--fingerprints", "plans.leak", "--key", "key") == 2
    assert " fingerprints of plan.txt\n" in capsys.readouterr().out


def test_documents_that_are_called_the_same_are_told_apart_by_their_folders(folder: Path, capsys: Captured) -> None:
    (folder / "old").mkdir()
    (folder / "old" / "plan.txt").write_text(" ".join(reversed(PLAN.split())))
    assert documents("plan.txt", "old/plan.txt", "old/../note.txt") == 0
    capsys.readouterr()
    assert leak("scan", "old/plan.txt", "--fingerprints", "plans.leak", "--key", "key") == 2
    assert " fingerprints of old/plan.txt\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("names", "changed", "what"),
    [
        (("none.txt",), {}, "none.txt: cannot be read (No such file or directory); check the path"),
        ((".",), {}, ".: not a regular file; name a file"),
        (("fifo",), {}, "fifo: not a regular file; name a file"),
        (("binary",), {}, "binary: no plain text: it has bytes of zero; save its text as UTF-8"),
        (("plan.txt", "./plan.txt"), {}, "plan.txt: one file is named twice"),
        (("plan.txt",), {"output": "plan.txt"}, "plan.txt: one file is named twice"),
        (("a\x01", "a\x02"), {}, "2 documents are called a?; rename some"),
        (("plan.txt",), {"key": "plan.txt"}, "plan.txt: one file is named twice"),
        (("note.txt",), {}, "plans.leak: none of them can be found; register longer documents"),
        (("plan.txt",), {"output": "none/x"}, "cannot write none/x (No such file or directory)"),
    ],
)
def test_documents_that_cannot_be_registered_are_one_line(
    folder: Path, capsys: Captured, names: tuple[str, ...], changed: dict[str, str], what: str
) -> None:
    os.mkfifo(folder / "fifo")
    (folder / "binary").write_bytes(PLAN.encode("utf-16"))
    for name in ("a\x01", "a\x02"):
        (folder / name).write_text(PLAN)
    assert documents(*names, **changed) == 1
    refused(capsys, what)
    assert (folder / "plan.txt").read_text() == PLAN


def test_a_document_that_is_too_large_is_refused(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(register, "MOST_DOCUMENT", len(PLAN))
    assert documents("plan.txt") == 0
    capsys.readouterr()
    monkeypatch.setattr(register, "MOST_DOCUMENT", len(PLAN) - 1)
    assert documents("plan.txt") == 1
    refused(capsys, f"plan.txt: more than {len(PLAN) - 1} bytes; cut it into parts")


def test_all_that_ships_is_looked_for_if_nothing_else_is_named(capsys: Captured) -> None:
    assert leak("scan", "card.txt", "clean.txt") == 2
    assert capsys.readouterr().out.splitlines() == [
        "card.txt: byte 6: card, score 90: 4111 11** **** 1111",
        "clean.txt: nothing found",
    ]
    assert leak("scan", "card.txt", "--detectors", "person, credential", "--detectors", "iban") == 0
    assert capsys.readouterr().out == "card.txt: nothing found\n"


def test_only_what_is_named_is_looked_for(folder: Path, capsys: Captured) -> None:
    (folder / "all.txt").write_text(f"{CARD}, the price of Falcon, PRJ-123456")
    assert leak("scan", "all.txt", "--dictionary", "d.toml") == 2
    assert capsys.readouterr().out == "all.txt: byte 40: deal, score 100: price, falcon\n"
    assert leak("scan", "all.txt", "--patterns", "p.toml") == 2
    assert capsys.readouterr().out == "all.txt: byte 48: project, score 100: PR*-******\n"
    assert leak("scan", "all.txt", "--dictionary", "d.toml", "--patterns", "p.toml", "--detectors", "card") == 2
    assert [line.split()[3] for line in capsys.readouterr().out.splitlines()] == ["card,", "deal,", "project,"]


def test_more_findings_than_are_told_are_counted(folder: Path, capsys: Captured) -> None:
    (folder / "p.txt").write_text("".join(f"PRJ-{number:06}\n" for number in range(50)))
    assert leak("scan", "p.txt", "--patterns", "p.toml") == 2
    lines = capsys.readouterr().out.splitlines()
    assert lines[20:] == ["p.txt: 50 of project in all, 20 told"]


def test_one_key_serves_all_tables_and_of_several_each_those_in_front_of_it(folder: Path, capsys: Captured) -> None:
    assert table() == table(output="same.leak") == documents("plan.txt", key="other") == 0
    (folder / "x.txt").write_text(f"{PLAN}. 12.345.678 Anna Berg")
    capsys.readouterr()
    both = ("--exact", "customers.leak", "--exact", "same.leak")
    for words in ((*both, "--key", "key"), ("--key", "key", *both)):
        assert leak("scan", "x.txt", *words) == 2
        assert capsys.readouterr().out.count("row 1: name, account") == 2
    assert leak("scan", "x.txt", "--fingerprints", "plans.leak", "--key", "other", *both, "--key", "key") == 2
    out = capsys.readouterr().out
    assert (out.count("row 1: name, account"), out.count("fingerprints of plan.txt")) == (2, 1)
    assert leak("scan", "x.txt", "--fingerprints", "plans.leak", *both, "--key", "key") == 1
    refused(capsys, "fingerprints plans: the hashes were made with another key; give the key they were made with")


def test_how_many_columns_of_a_row_are_a_finding_can_be_said(folder: Path, capsys: Captured) -> None:
    assert table() == 0
    (folder / "x.txt").write_text("Anna Berg")
    words = ("scan", "x.txt", "--exact", "customers.leak", "--key", "key")
    assert leak(*words) == 0
    assert leak(*words, "--least", "1") == 2
    assert "row 1: name\n" in capsys.readouterr().out


def test_a_file_that_is_no_plain_text_is_told(folder: Path, capsys: Captured) -> None:
    (folder / "x.doc").write_bytes(CARD.encode("utf-16-le") * 20_000)
    assert leak("scan", "x.doc", "--detectors", "payment") == 0
    out, err = capsys.readouterr()
    assert out == "x.doc: nothing found\n"
    assert err == "x.doc: no plain text, so what is packed or coded in it is not seen\n"


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("none.txt",), "none.txt: cannot be read (No such file or directory); check the path"),
        ((".",), ".: cannot be read (Is a directory); check the path"),
        (("clean.txt", "--detectors", "cards"), "no detector cards; use some of payment"),
        (("clean.txt", "--dictionary", "p.toml"), "p.toml: unknown key 'pattern'; use some of dictionary"),
        (("clean.txt", "--dictionary", "d.toml", "--dictionary", "d.toml"), "two are called deal"),
        (("clean.txt", "--exact", "c.csv"), "c.csv has no key; name its key behind it"),
        (("clean.txt", "--key", "c.csv"), "c.csv is the key of nothing; name it behind its tables"),
        (("clean.txt", "--exact", "a", "--key", "c.csv", "--key", "d"), "d is the key of nothing"),
        (("clean.txt", "--exact", "a", "--key", "none"), "cannot read none (No such file or directory)"),
    ],
)
def test_a_scan_that_cannot_be_done_is_one_line(capsys: Captured, words: tuple[str, ...], what: str) -> None:
    assert leak("scan", *words) == 1
    refused(capsys, what)


def test_a_key_that_others_can_read_is_refused(folder: Path, capsys: Captured) -> None:
    assert table() == 0
    capsys.readouterr()
    for name in ("key", "customers.leak"):
        (folder / name).chmod(0o640)
        assert leak("scan", "clean.txt", "--exact", "customers.leak", "--key", "key") == 1
        refused(capsys, f"others may read {name}; chmod 600 {name}")
        (folder / name).chmod(0o600)
    (folder / "key").chmod(0o640)
    assert table() == 1
    refused(capsys, "others may read key; chmod 600 key")


@pytest.mark.parametrize("words", [("scan",), ("scan", "x", "--nonsense"), ("table", "x"), ()])
def test_a_wrong_call_has_not_the_exit_status_of_a_finding(capsys: Captured, words: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as caught:
        leak(*words)
    assert caught.value.code == 1
    assert "usage: " in capsys.readouterr().err


def test_what_ships_is_listed_with_titles_and_sources(capsys: Captured) -> None:
    assert leak("detectors") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "  iban  bank account (IBAN)  (ISO 13616-1, SWIFT IBAN Registry)" in lines
    assert len(lines) == len(GROUPS) + len(TABLE)


def test_a_process_tells_by_its_exit_status(folder: Path) -> None:
    program = ours("sslintercept")
    made = run(
        program, "leak", "table", "c.csv", "--columns", "name,account", "-o", "t.leak", "--key", "k", folder=folder
    )
    assert (made.returncode, made.stderr) == (0, "")
    (folder / "x.txt").write_text("Anna Berg, 12345678")
    for name, status, out in (
        ("x.txt", 2, "x.txt: byte 0: t, score 100: row 1: name, account\n"),
        ("clean.txt", 0, "clean.txt: nothing found\n"),
        ("none.txt", 1, ""),
    ):
        done = run(program, "leak", "scan", name, "--exact", "t.leak", "--key", "k", folder=folder)
        assert (done.returncode, done.stdout) == (status, out)
        assert done.stderr.count("\n") == (status == 1)

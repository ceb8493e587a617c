"""C{sslintercept leak}: what is registered is found again, masked, and every mistake is one line and exit status 1."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sslintercept import command, contents, register
from sslintercept.leak.digest import read_secret
from sslintercept.leak.table import GROUPS, TABLE
from tests.inspect.material import DOCUMENTS, docx, mail, pdf, tarred, xlsx, zipped
from tests.process.tools import ours, run
from tests.unpack.make import compound

CSV = "name,account,town\nAnna Berg,12 345 678,Ulm\nJean-Luc Tour,87-654-321,\n"
PLAN = " ".join(f"word{number}" for number in range(200))
HALVES = (PLAN[: len(PLAN) // 2], PLAN[len(PLAN) // 2 :])
CARD = "card: 4111 1111 1111 1111"
LOCKED = pdf("x").replace(
    b"/Root 1 0 R",
    b"/Root 1 0 R /Encrypt << /Filter /Standard /V 1 /R 2 /P -4 /O <%b> /U <%b> >> /ID [<41> <41>]"
    % (b"41" * 32, b"42" * 32),
)
"""a PDF that wants a password"""
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
        (("zeros",), {}, "zeros: no plain text: it has bytes of zero; save its text as UTF-8"),
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
    (folder / "zeros").write_bytes(PLAN.encode() + b"\0")
    for name in ("a\x01", "a\x02"):
        (folder / name).write_text(PLAN)
    assert documents(*names, **changed) == 1
    refused(capsys, what)
    assert (folder / "plan.txt").read_text() == PLAN


def test_a_document_that_is_too_large_is_refused(
    folder: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(register, "MOST_DOCUMENT", len(PLAN))
    assert documents("plan.txt") == 0
    capsys.readouterr()
    monkeypatch.setattr(register, "MOST_DOCUMENT", len(PLAN) - 1)
    assert documents("plan.txt") == 1
    refused(capsys, f"plan.txt: more than {len(PLAN) - 1} bytes; cut it into parts")
    (folder / "plan.docx").write_bytes(docx(PLAN))
    assert documents("plan.docx") == 1
    refused(capsys, f"plan.docx: more than {len(PLAN) - 1} bytes; cut it into parts")
    monkeypatch.setattr(contents, "MOST_OPENED", 500)
    assert documents("plan.docx") == 1
    refused(capsys, "plan.docx: nothing of it can be read (more than 500 bytes)")


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


# what is in files


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_the_text_of_a_document_is_registered_and_found_in_another_kind(
    folder: Path, capsys: Captured, kind: str
) -> None:
    (folder / f"plan.{kind}").write_bytes(DOCUMENTS[kind](PLAN.replace(" word1", "\nword1")))
    assert documents(f"plan.{kind}") == 0
    assert "too short" not in capsys.readouterr().out
    for name, text in (("part.txt", PLAN[300:1200].encode()), ("part.docx", docx(PLAN[300:1200]))):
        (folder / name).write_bytes(text)
        assert leak("scan", name, "--fingerprints", "plans.leak", "--key", "key") == 2
        assert f" fingerprints of plan.{kind}\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("plan.zip", zipped({"a.docx": docx(HALVES[0]), "b/b.pdf": pdf(HALVES[1].replace(" ", "\n", 40))})),
        ("plan.tgz", tarred({"a.xlsx": xlsx(HALVES[0]), "b.html": f"<p>{HALVES[1]}</p>".encode()})),
        ("plan.eml", mail(HALVES[0], attachments=[("b.docx", "application/octet-stream", docx(HALVES[1]))])),
    ],
)
def test_all_texts_of_an_archive_or_a_mail_are_registered(
    folder: Path, capsys: Captured, name: str, content: bytes
) -> None:
    (folder / name).write_bytes(content)
    assert documents(name) == 0
    for half in HALVES:
        (folder / "half.txt").write_text(half)
        assert leak("scan", "half.txt", "--fingerprints", "plans.leak", "--key", "key") == 2
        assert f" fingerprints of {name}\n" in capsys.readouterr().out


def test_a_page_is_registered_as_what_is_read_in_it_and_not_as_it_is(folder: Path, capsys: Captured) -> None:
    marked = "".join(f"<i class=c{number}>{word}</i>\n" for number, word in enumerate(PLAN.split()))
    (folder / "page.html").write_text(f"<html><body>{marked}</body></html>")
    assert documents("plan.txt") == 0
    plain = capsys.readouterr().out.split(", ")[-1]
    for name, content in (
        ("page.html", f"<html><body>{marked}</body></html>".encode()),
        ("page.zip", zipped({"page.html": f"<html><body>{marked}</body></html>".encode()})),
    ):
        (folder / name).write_bytes(content)
        assert documents(name) == 0
        assert capsys.readouterr().out.split(", ")[-1] == plain


@pytest.mark.parametrize("coding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_text_of_wide_characters_is_registered_and_found(folder: Path, capsys: Captured, coding: str) -> None:
    (folder / "wide").write_bytes(PLAN.encode(coding))
    assert documents("wide") == 0
    assert leak("scan", "plan.txt", "--fingerprints", "plans.leak", "--key", "key") == 2
    capsys.readouterr()
    (folder / "x").write_bytes(CARD.encode(coding))
    assert leak("scan", "x", "--detectors", "card") == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("x > text: byte 6: card, score 90: 4111 11** **** 1111\n", "")


def test_text_of_wide_characters_without_zeros_is_told_by_its_mark(folder: Path, capsys: Captured) -> None:
    (folder / "x").write_bytes((chr(0x4E2D) * 300).encode("utf-16") + CARD.encode("utf-16-le"))
    assert leak("scan", "x", "--detectors", "card") == 2
    assert capsys.readouterr().out == "x > text: byte 906: card, score 90: 4111 11** **** 1111\n"


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.pdf", LOCKED, "encrypted"),
        ("a.doc", compound("WordDocument", "EncryptedPackage"), "encrypted"),
        ("a.docx", b"PK\x03\x04rubbish", "rubbish, truncated"),
        ("a.docx", docx(PLAN)[:300], "truncated"),
        ("a.pdf", b"%PDF-1.4 rubbish %%EOF", "rubbish"),
        ("a.7z", b"7z\xbc\xaf\x27\x1crubbish", "unopened"),
        ("a.png", b"\x89PNG\r\n\x1a\n\0\0\0", "no text"),
        ("a.bin", bytes(range(256)), "no text"),
        ("a.pdf", pdf(""), "no text"),
        ("a.zip", zipped({"a.png": b"\x89PNG\r\n\x1a\n\0\0\0"}), "no text"),
    ],
)
def test_what_nobody_can_read_is_not_registered_and_no_scan_calls_it_clean(
    folder: Path, capsys: Captured, name: str, content: bytes, reason: str
) -> None:
    (folder / name).write_bytes(content)
    assert documents("plan.txt", name) == 1
    refused(capsys, f"{name}: nothing of it can be read ({reason}); save its text as UTF-8")
    assert not (folder / "plans.leak").exists()
    assert leak("scan", name, "clean.txt", "--detectors", "card") == 1
    out, err = capsys.readouterr()
    assert f"{name}: nothing found\n" not in out
    assert out.endswith("clean.txt: nothing found\n")
    assert [line.rpartition(": ")[2] for line in err.splitlines()] == [
        f"not all is read ({one})" for one in reason.split(", ")
    ]
    assert err.startswith(name)


def test_what_is_found_counts_more_than_what_cannot_be_read(folder: Path, capsys: Captured) -> None:
    (folder / "a.pdf").write_bytes(LOCKED)
    assert leak("scan", "a.pdf", "card.txt", "--detectors", "card") == 2
    assert capsys.readouterr().err == "a.pdf: not all is read (encrypted)\n"


def test_what_cannot_be_read_beside_what_can_is_named(folder: Path, capsys: Captured) -> None:
    (folder / "a.zip").write_bytes(zipped({"b.pdf": LOCKED, "plan.docx": docx(f"{CARD} {PLAN}")}))
    assert documents("a.zip") == 0
    out, err = capsys.readouterr()
    assert "too short" not in out
    assert err == "a.zip > b.pdf: not all is read (encrypted)\n"
    assert leak("scan", "a.zip", "--detectors", "card") == 2
    out, err = capsys.readouterr()
    assert out == "a.zip > plan.docx > word/document.xml: byte 6: card, score 90: 4111 11** **** 1111\n"
    assert err == "a.zip > b.pdf: not all is read (encrypted)\n"


def test_findings_have_the_place_of_the_piece(folder: Path, capsys: Captured) -> None:
    inner = zipped({"b.xlsx": xlsx(CARD), "c\x1b.txt": CARD.encode()})
    (folder / "a.eml").write_bytes(mail("no", attachments=[("a.zip", "application/zip", inner)]))
    assert leak("scan", "a.eml", "--detectors", "card") == 2
    out, err = capsys.readouterr()
    found = "byte 6: card, score 90: 4111 11** **** 1111"
    assert out.splitlines() == [
        f"a.eml > a.zip > b.xlsx > xl/worksheets/sheet1.xml: {found}",
        f"a.eml > a.zip > b.xlsx > xl/sharedStrings.xml: {found}",
        f"a.eml > a.zip > c\ufffd.txt: {found}",
    ]
    assert err == ""


def test_a_page_is_scanned_as_it_is_and_as_what_is_read_in_it(folder: Path, capsys: Captured) -> None:
    (folder / "a.html").write_text(f"<html><!-- {CARD} --><p>card: 4111 1111 <b>1111</b> 1111</html>")
    assert leak("scan", "a.html", "--detectors", "card") == 2
    assert [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()] == ["a.html", "a.html > text"]
    (folder / "a.json").write_text('{"card": "4111 1111 1111\\u00201111"}')
    assert leak("scan", "a.json", "--detectors", "card") == 2
    assert [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()] == ["a.json", "a.json > json"]


def test_a_file_that_is_not_what_its_name_says_is_read_as_it_is(folder: Path, capsys: Captured) -> None:
    (folder / "a.xml").write_text(f"<a>{CARD}</b>" + "<" * 50)
    assert leak("scan", "a.xml", "--detectors", "card") == 2
    out, err = capsys.readouterr()
    assert "a.xml: byte 9: card" in out
    assert err == ""
    assert documents("a.xml") == 1
    refused(capsys, "plans.leak: none of them can be found")


def test_a_bomb_is_stopped_and_told(folder: Path, capsys: Captured) -> None:
    (folder / "a.zip").write_bytes(zipped({"zeros.txt": b"0 " * 10_000_000}))
    assert leak("scan", "a.zip", "--detectors", "card") == 1
    out, err = capsys.readouterr()
    assert out == "a.zip: nothing found in what is read\n"
    assert err.startswith("a.zip > zeros.txt: not all is read (")


def test_a_worker_that_fails_is_told_and_nothing_is_called_clean(
    folder: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "TASK", "sslintercept.testing.tasks:crash")
    (folder / "a.docx").write_bytes(docx(PLAN))
    assert leak("scan", "a.docx", "clean.txt", "--detectors", "card") == 1
    out, err = capsys.readouterr()
    assert out == "clean.txt: nothing found\n"
    assert err == "a.docx: not all is read (its process ended)\n"
    assert documents("a.docx") == 1
    refused(capsys, "a.docx: nothing of it can be read (its process ended)")


def test_plain_text_needs_no_process(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    assert documents("plan.txt", "note.txt") == 0
    assert leak("scan", "card.txt", "--detectors", "card") == 2


def test_a_large_text_is_read_in_chunks(folder: Path, capsys: Captured) -> None:
    (folder / "x.txt").write_text("word " * 40_000 + CARD + " word" * 10_000)
    assert leak("scan", "x.txt", "--detectors", "card") == 2
    assert "x.txt: byte 200006: card" in capsys.readouterr().out
    (folder / "x.json").write_text('["' + "word " * 40_000 + CARD + '"]')
    assert leak("scan", "x.json", "--detectors", "card") == 2
    assert "x.json > json: byte 200006: card" in capsys.readouterr().out


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

"""Exact data: rows are found where their cells meet, however cells are written, and the file tells nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from sslintercept.errors import ConfigError
from sslintercept.leak import exact
from sslintercept.leak.digest import read_secret
from sslintercept.leak.exact import MOST_COLUMNS, MOST_SHARING, ExactData, normal, register, register_csv
from sslintercept.leak.scan import Finding, Policy, Scan

KEY = bytes(range(32))
COLUMNS = ("name", "account", "mail", "street")
ROWS = (
    ("Anna Berg", "12 345 678", "anna.berg@example.test", "Größe Straße 5"),
    ("Jean-Luc de la Tour", "87-654-321", "jl@tour.test", "Rue de la Paix 12"),
    ("Anna Schmidt", "55500001", "as@example.test", "Allee 1"),
)
PACKED = register(KEY, COLUMNS, ROWS).packed


def found(*chunks: bytes | str, least: int = 2, within: int = 256) -> list[Finding]:
    scan = Scan(Policy([ExactData("customers", KEY, PACKED, least=least, within=within)]))
    return [finding for chunk in chunks for finding in scan.feed(chunk)] + scan.finish()


@pytest.mark.parametrize(
    ("text", "evidence"),
    [
        ("Anna Berg has 12345678", "row 1: name, account"),
        ("12.345.678;ANNA  BERG", "row 1: name, account"),
        ("<b>anna</b>, anna berg: ANNA.BERG@example.test!", "row 1: name, mail"),
        ("GRÖSSE STRASSE 5\nAnna Berg", "row 1: name, street"),
        ("dear jean-luc de la tour (87654321)", "row 2: name, account"),
        ("account 55500001, Allee 1", "row 3: account, street"),
    ],
)
def test_cells_of_a_row_that_meet_are_found(text: str, evidence: str) -> None:
    assert [finding.evidence for finding in found(text)] == [evidence]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("Anna Berg", id="one cell"),
        pytest.param("Anna Berg, Anna Berg", id="the same cell twice"),
        pytest.param("Anna Berg 55500001", id="cells of two rows"),
        pytest.param("Anna, Berg; 12345679", id="another number"),
        pytest.param("Anna Berg" + "." * 300 + " 12345678", id="cells far apart"),
        pytest.param("Anna\n\n\n\n\nBerg 12345678", id="words far apart"),
        pytest.param("Anna von Berg 12345678", id="a word between"),
    ],
)
def test_what_is_no_row_is_not_found(text: str) -> None:
    assert found(text) == []


def test_a_row_is_told_once_with_its_place() -> None:
    text = "x Anna Berg, 12345678. Anna Berg 12345678"
    (finding,) = found(text)
    assert text[finding.offset :][: finding.length] == "Anna Berg, 12345678"


def test_more_columns_may_be_asked_for() -> None:
    assert found("Anna Berg 12345678", least=3) == []
    assert len(found("Anna Berg 12345678 anna.berg@example.test", least=3)) == 1


def test_cuts_change_nothing() -> None:
    raw = "… Große Größe Straße 5, Anna Berg, 12 345 678; Jean-Luc de la Tour 87 654 321".encode()
    whole = found(raw)
    assert [finding.evidence for finding in whole] == ["row 1: name, street", "row 2: name, account"]
    for cut in range(len(raw)):
        assert found(raw[:cut], raw[cut:]) == whole
    for before in range(7000, 9000, 37):
        assert [finding.evidence for finding in found(b"." * before + b"\n" + raw + b"\n" * 9000)] == [
            finding.evidence for finding in whole
        ]


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("  Anna  BERG ", (b"anna", b"berg")),
        ("+49 (170) 12-34", (b"#491701234",)),
        ("1234", ()),
        ("ab", ()),
        ("", ()),
        ("a b c d e f g", ()),
        ("A12 345", (b"a12", b"345")),
    ],
)
def test_cells_are_made_normal(cell: str, words: tuple[bytes, ...]) -> None:
    assert normal(cell) == words


def test_what_too_many_rows_share_is_left_out() -> None:
    rows = [(f"person{number}", "Springfield") for number in range(MOST_SHARING + 1)]
    made = register(KEY, ("name", "town"), rows)
    assert (made.rows, made.cells, made.shared) == (len(rows), len(rows), 1)
    data = ExactData("x", KEY, made.packed)
    assert data.places(b"springfield") == ()
    assert data.places(b"person7") == (7 * MOST_COLUMNS,)


def test_a_csv_file_is_registered_and_nothing_of_it_can_be_read(tmp_path: Path) -> None:
    source, table, key = tmp_path / "customers.csv", tmp_path / "customers.leak", tmp_path / "key"
    source.write_text('id,name,account\n1,"Berg, Anna",12345678\n2,Short\n', "utf-8-sig")
    made = register_csv(source, ["account", "name"], table, key)
    assert (made.rows, made.cells, made.empty) == (2, 3, 1)
    assert {path.stat().st_mode & 0o777 for path in (table, key)} == {0o600}
    raw = table.read_bytes()
    assert b"erg" not in raw
    assert b"12345678" not in raw
    scan = Scan(Policy([ExactData("x", read_secret(key), read_secret(table))]))
    assert [each.evidence for each in scan.feed("Berg, Anna: 12345678") + scan.finish()] == ["row 1: account, name"]


def test_a_key_that_is_there_is_used_again(tmp_path: Path) -> None:
    source, table, key = tmp_path / "a.csv", tmp_path / "a.leak", tmp_path / "key"
    source.write_text("name\nAnna Berg\n")
    first = register_csv(source, ["name"], table, key).packed
    assert register_csv(source, ["name"], table, key).packed == first


def test_a_column_that_is_not_there_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "a.csv"
    source.write_text("name,account\n")
    with pytest.raises(ConfigError, match="no column street; it has name, account"):
        register_csv(source, ["street"], tmp_path / "t", tmp_path / "k")


def test_cells_may_have_something_else_between_them(tmp_path: Path) -> None:
    source = tmp_path / "a.csv"
    source.write_text("name;account\nBerg, Anna;12345678\n")
    made = register_csv(source, ["name", "account"], tmp_path / "t", tmp_path / "k", delimiter=";")
    assert (made.columns, made.rows, made.cells) == (("name", "account"), 1, 2)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="check the file"):
        register_csv(tmp_path / "none.csv", ["a"], tmp_path / "t", tmp_path / "k")


@pytest.mark.parametrize(
    ("columns", "rows", "what"),
    [
        ((), [], "0 columns"),
        (("a",) * 33, [], "33 columns"),
        (("a", "a"), [], "twice"),
        (("a", "b"), [("x",)], "row 1 has 1 cells"),
    ],
)
def test_a_table_out_of_bounds_is_refused(columns: tuple[str, ...], rows: list[tuple[str, ...]], what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        register(KEY, columns, rows)


@pytest.mark.parametrize(
    "packed", [b"", PACKED[:20], b"\2\0\0\0[]" + PACKED[4 + int.from_bytes(PACKED[:4], "little") :]]
)
def test_bytes_that_are_no_registered_table_are_refused(packed: bytes) -> None:
    with pytest.raises(ConfigError, match="exact data x"):
        ExactData("x", KEY, packed)


def test_more_columns_than_are_registered_cannot_be_asked_for() -> None:
    packed = register(KEY, ("name",), [("Anna Berg",)]).packed
    with pytest.raises(ConfigError, match="2 columns of a row are asked for, and 1 are registered"):
        ExactData("x", KEY, packed)
    assert ExactData("x", KEY, packed, least=1).columns[:2] == ["name", "column 2"]


def test_only_the_rows_seen_lately_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [(f"person{number}", f"{number + 10_000}") for number in range(40)]
    packed = register(KEY, ("name", "number"), rows).packed
    scan = Scan(Policy([ExactData("x", KEY, packed, within=2048)]))
    monkeypatch.setattr(exact, "MOST_OPEN", 10)
    names = " ".join(name for name, _ in rows)
    findings = scan.feed(f"{names} 10000 10039") + scan.finish()
    assert [finding.evidence for finding in findings] == ["row 40: name, number"]


def test_what_words_are_is_remembered_for_so_many_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "MEMORY", 3)
    data = ExactData("customers", KEY, PACKED)
    scan = Scan(Policy([data]))
    findings = scan.feed("one two three four Anna Berg five six seven 12345678") + scan.finish()
    assert [finding.evidence for finding in findings] == ["row 1: name, account"]
    assert len(data._known) <= 3


def test_a_table_with_too_many_rows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "MOST_ROWS", 2)
    with pytest.raises(ConfigError, match="more than 2 rows"):
        register(KEY, ("name",), [("anna",)] * 3)


@pytest.mark.parametrize(("least", "within"), [(0, 256), (33, 256), (2, 0), (2, 5000)])
def test_limits_out_of_bounds_are_refused(least: int, within: int) -> None:
    with pytest.raises(ConfigError, match=f"{least} columns within {within}"):
        ExactData("x", KEY, PACKED, least=least, within=within)

"""Files of an administrator: what is written is looked for, and a mistake is told with its place and a remedy."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sslintercept.errors import ConfigError
from sslintercept.leak import exact, files, fingerprint
from sslintercept.leak.dictionary import Dictionaries, Dictionary, Pair
from sslintercept.leak.digest import write_secret
from sslintercept.leak.files import check_names, read_dictionary, read_exact, read_fingerprints, read_patterns
from sslintercept.leak.pattern import Patterns
from sslintercept.leak.scan import Finding, Policy, Scan
from sslintercept.leak.view import Looking

DICTIONARIES = """
[[dictionary]]
name = "deal"
least = 3
score = 80
[dictionary.terms]
merger = 2
"due diligence" = 1
[[dictionary.pairs]]
first = ["falcon", "eagle"]
second = ["price"]
within = 50
weight = 2

[[dictionary]]
name = "Marks"
terms = { "streng vertraulich" = 1, "社外秘" = 1 }
"""
PATTERNS = """
[[pattern]]
name = "project"
pattern = 'PRJ-[0-9]{6}'
title = "number of a project"
score = 90
near = ["Project", "Größe"]
[[pattern]]
name = "badge"
pattern = "B[0-9]{7}"
"""
KEY = bytes(range(32))
TEXT = " ".join(f"word{number}" for number in range(200))


def written(folder: Path, text: str, name: str = "x.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def found(looking: Looking, text: str) -> list[Finding]:
    scan = Scan(Policy([looking]))
    return scan.feed(text) + scan.finish()


def secret(folder: Path, name: str, data: bytes) -> Path:
    write_secret(folder / name, data)
    return folder / name


def test_dictionaries_are_what_is_written(tmp_path: Path) -> None:
    assert read_dictionary(written(tmp_path, DICTIONARIES)) == [
        Dictionary(
            "deal",
            {"merger": 2, "due diligence": 1},
            (Pair(("falcon", "eagle"), ("price",), 50, 2),),
            least=3,
            score=80,
        ),
        Dictionary("Marks", {"streng vertraulich": 1, "社外秘": 1}),
    ]


def test_a_dictionary_of_a_file_finds(tmp_path: Path) -> None:
    looking = Dictionaries(read_dictionary(written(tmp_path, DICTIONARIES)))
    assert [each.detector for each in found(looking, "MERGER after due diligence; Streng vertraulich")] == [
        "deal",
        "Marks",
    ]
    assert found(looking, "merger, vertraulich") == []


def test_patterns_are_what_is_written(tmp_path: Path) -> None:
    project, badge = read_patterns(written(tmp_path, PATTERNS))
    assert (project.name, project.title, project.near_score, project.score) == (
        "project",
        "number of a project",
        90,
        36,
    )
    assert project.near == ("project", "grösse")
    assert (badge.title, badge.score, badge.near) == ("badge", 100, ())


def test_a_pattern_of_a_file_finds(tmp_path: Path) -> None:
    looking = Patterns(read_patterns(written(tmp_path, PATTERNS)))
    text = "project: PRJ-123456" + "." * 200 + "GRÖSSE PRJ-234567" + "." * 200 + "PRJ-345678 B1234567"
    assert [(each.detector, each.score) for each in found(looking, text)] == [
        ("project", 90),
        ("project", 90),
        ("badge", 100),
    ]


TERM = '[[dictionary]]\nname = "deal"\n[dictionary.terms]\n'
PAIR = '[[dictionary]]\nname = "deal"\n[[dictionary.pairs]]\n'
REPEATED = "a b\\nc"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "x.toml: there is no dictionary in it; write [[dictionary]]"),
        ("= 1", "x.toml: no TOML ("),
        ("a = " + "9" * 5000, "x.toml: no TOML ("),
        ("a = " + "[" * 5000, "x.toml: too deeply nested; write it flat"),
        ("a = 1", "x.toml: unknown key 'a'; use some of dictionary"),
        ('[[pattern]]\nname = "x"', "x.toml: unknown key 'pattern'; use some of dictionary"),
        ("[dictionary]\nname = 'x'", "x.toml: dictionary is no list of tables; write up to "),
        ("dictionary = [1]", "x.toml, dictionary 1: not a table; write it in double brackets"),
        ("[[dictionary]]\nleast = 1", "x.toml, dictionary 1: there is no name; write name"),
        ('[[dictionary]]\nname = "a b"', "x.toml, dictionary 1: 'a b' is no name; write name"),
        ("[[dictionary]]\nname = 7", "x.toml, dictionary 1: name is no text of one line; write up to "),
        (f'[[dictionary]]\nname = "{REPEATED}"', "x.toml, dictionary 1: name is no text of one line; write up to "),
        (TERM + "a = 1\n" + TERM.replace("deal", "DEAL") + "a = 1", "x.toml: two are called DEAL; give one of them "),
        (TERM.replace("deal", "card") + "a = 1", "x.toml: card is the name of what ships; give it another one"),
        (TERM.replace("deal", "payment") + "a = 1", "x.toml: payment is the name of what ships; give it another one"),
        (
            '[[dictionary]]\nname = "deal"\nleest = 2\nterms = {a = 1}',
            "x.toml, dictionary 1 (deal): unknown key 'leest'; use some of name, least, score, terms, pairs",
        ),
        (TERM, "x.toml, dictionary 1 (deal): there are no terms and no pairs; write [dictionary.terms]"),
        (
            '[[dictionary]]\nname = "deal"\nleast = 3\nterms = {a = 1, b = 1}',
            "all its terms and pairs weigh 2 together, so they never reach least = 3; lower least",
        ),
        ('[[dictionary]]\nname = "deal"\nleast = 0', "(deal): least is no whole number of 1 to 1000000; write one"),
        ('[[dictionary]]\nname = "deal"\nleast = true', "(deal): least is no whole number of 1 to 1000000; write one"),
        ('[[dictionary]]\nname = "deal"\nscore = 101', "(deal): score is no whole number of 1 to 100; write one"),
        ('[[dictionary]]\nname = "deal"\nscore = "9"', "(deal): score is no whole number of 1 to 100; write one"),
        ('[[dictionary]]\nname = "deal"\nterms = ["a"]', "(deal): terms is no table; write [dictionary.terms]"),
        (TERM + "a.b = 1", "(deal): the weight of 'a' is no whole number of 1 to 1000000; write one"),
        (TERM + "a = -1", "(deal): the weight of 'a' is no whole number of 1 to 1000000; write one"),
        (TERM + f'"{REPEATED}" = 1', "(deal): the term 'a b\\nc' is empty, too long or more than one line; write"),
        (TERM + f'"{"a" * 257}" = 1', "is empty, too long or more than one line; write up to 256"),
        (PAIR, "(deal), pairs 1: a side has no terms; write first"),
        (PAIR + 'first = "a"', "(deal), pairs 1: first is no list of texts; write up to 20000 "),
        (PAIR + 'first = [""]', "(deal), pairs 1: first is no list of texts; write up to 20000 "),
        (PAIR + 'first = ["a"]\nsecond = [1]', "(deal), pairs 1: second is no list of texts; write up to 20000 "),
        (PAIR + "within = 3000", "(deal), pairs 1: within is no whole number of 0 to 2048; write one"),
        (PAIR + "far = 1", "(deal), pairs 1: unknown key 'far'; use some of first, second, within, weight"),
    ],
)
def test_a_mistake_in_a_dictionary_is_told_with_its_place(tmp_path: Path, text: str, what: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_dictionary(written(tmp_path, text))
    told = str(caught.value)
    assert what in told
    assert told.startswith(str(tmp_path / "x.toml"))
    assert "\n" not in told


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "x.toml: there is no pattern in it; write [[pattern]]"),
        ("pattern = ''", "(p): a match may have 0 to 0 bytes; let it have 1 to 512"),
        ("pattern = '[0-9]+'", "(p): a match may have 1 to "),
        ("pattern = '(a'", "(p): no pattern (missing )"),
        ("pattern = 'a{99999999999}'", "(p): no pattern (the repetition number is too large)"),
        ("pattern = '[[a]'", "(p): no pattern (Possible nested set"),
        ("pattern = '(?u)a'", "(p): no pattern ("),
        ("pattern = '" + "(" * 1500 + "a" + ")" * 1500 + "'", "(p): no pattern ("),
        ("pattern = '(a{1,30}){1,10}'", "(p): there are more than 20000 ways to try the pattern at one place; bound"),
        ("pattern = 'ä?'", "(p): the pattern has characters that are not ASCII; find such words with a dictionary"),
        ("pattern = 7", "(p): pattern is no text of one line; write up to 4096 "),
        ("pattern = 'a'\nnear = ['a', '']", "(p): near is no list of texts; write up to 100 "),
        ("pattern = 'a'\nnear = ['\u200b']", "(p): near is no list of texts; write up to 100 "),
        ("pattern = 'a'\nnear = [' ']", "(p): a word of near is empty; write words"),
        ("pattern = 'a'\nscore = 0", "(p): score is no whole number of 1 to 100; write one"),
        ("pattern = 'a'\nwhole = 'b'", "(p): unknown key 'whole'; use some of name, pattern, title, score, near"),
    ],
)
def test_a_mistake_in_a_pattern_is_told_with_its_place(tmp_path: Path, text: str, what: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_patterns(written(tmp_path, f"[[pattern]]\nname = 'p'\n{text}" if text else ""))
    told = str(caught.value)
    assert what in told
    assert told.startswith(str(tmp_path / "x.toml"))
    assert "\n" not in told


def test_a_file_that_is_missing_too_large_no_file_or_no_text_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"none: cannot be read .No such file"):
        read_dictionary(tmp_path / "none")
    for path in (tmp_path, tmp_path / "fifo"):
        if path != tmp_path:
            os.mkfifo(path)
        with pytest.raises(ConfigError, match="not a regular file"):
            read_patterns(path)
    (tmp_path / "latin").write_bytes(b"# gr\xf6\xdfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_dictionary(tmp_path / "latin")
    path = written(tmp_path, DICTIONARIES)
    monkeypatch.setattr(files, "MOST_BYTES", path.stat().st_size)
    assert len(read_dictionary(path)) == 2
    monkeypatch.setattr(files, "MOST_BYTES", path.stat().st_size - 1)
    with pytest.raises(ConfigError, match=r"more than [0-9]+ bytes; cut it"):
        read_dictionary(path)


def test_names_of_one_policy_differ_from_each_other_and_from_what_ships() -> None:
    check_names(["deal", "project", "customers"])
    with pytest.raises(ConfigError, match=r"\[leak\] exact: two are called Deal; give one of them another name"):
        check_names(["deal", "Deal"], where="[leak] exact")
    for name in ("iban", "IBAN", "credential"):
        with pytest.raises(ConfigError, match=f"{name} is the name of what ships"):
            check_names([name])


def test_a_registered_table_is_called_as_its_file_and_takes_its_limits(tmp_path: Path) -> None:
    packed = exact.register(KEY, ("name", "account"), [("Anna Berg", "12345678")]).packed
    table, key = secret(tmp_path, "customers.leak", packed), secret(tmp_path, "key", KEY)
    (finding,) = found(read_exact(table, key), "Anna Berg 12345678")
    assert (finding.detector, finding.evidence) == ("customers", "row 1: name, account")
    assert found(read_exact(table, key, within=20), "Anna Berg" + " ." * 20 + "12345678") == []
    assert [each.score for each in found(read_exact(table, key, least=1, score=60), "Anna Berg")] == [60]
    with pytest.raises(ConfigError, match="3 columns of a row are asked for, and 2 are registered"):
        read_exact(table, key, least=3)


def test_registered_documents_are_called_as_their_file_and_take_their_limits(tmp_path: Path) -> None:
    packed = fingerprint.register(KEY, {"plan.txt": [TEXT.encode()]}).packed
    table, key = secret(tmp_path, "plans.leak", packed), secret(tmp_path, "key", KEY)
    (finding,) = found(read_fingerprints(table, key), TEXT)
    assert finding.detector == "plans"
    part = TEXT[: len(TEXT) // 2]
    assert len(found(read_fingerprints(table, key, share=0.4), part)) == 1
    assert found(read_fingerprints(table, key, share=0.9, count=10_000), part) == []
    assert len(found(read_fingerprints(table, key, share=0.9, count=5, score=70), part)) == 1
    for share, count in ((0.0, 40), (1.1, 40), (0.2, 0)):
        with pytest.raises(ConfigError, match="fingerprints plans: a share of"):
            read_fingerprints(table, key, share=share, count=count)


def test_what_is_registered_belongs_to_its_key_and_is_of_its_kind(tmp_path: Path) -> None:
    rows = secret(tmp_path, "rows", exact.register(KEY, ("name",), [("Anna Berg",)]).packed)
    plans = secret(tmp_path, "plans", fingerprint.register(KEY, {"plan.txt": [TEXT.encode()]}).packed)
    key, other = secret(tmp_path, "key", KEY), secret(tmp_path, "other", bytes(32))
    for read, table in ((read_exact, rows), (read_fingerprints, plans)):
        with pytest.raises(ConfigError, match="made with another key"):
            read(table, other)
    with pytest.raises(ConfigError, match="the head of the table is broken"):
        read_exact(plans, key)
    with pytest.raises(ConfigError, match="the list of documents is broken"):
        read_fingerprints(rows, key)


def test_a_name_of_a_file_that_is_no_name_is_refused(tmp_path: Path) -> None:
    for read in (read_exact, read_fingerprints):
        with pytest.raises(ConfigError, match=r"the file's name 'our\\ncustomers' is no name; rename it"):
            read(tmp_path / "our\ncustomers.leak", tmp_path / "key")


def test_a_key_or_table_that_others_can_read_is_refused(tmp_path: Path) -> None:
    table = secret(tmp_path, "table", exact.register(KEY, ("name",), [("Anna Berg",)]).packed)
    key = secret(tmp_path, "key", KEY)
    for path in (table, key):
        path.chmod(0o604)
        with pytest.raises(ConfigError, match=f"others may read {path}; chmod 600"):
            read_exact(table, key, least=1)
        path.chmod(0o600)
    assert read_exact(table, key, least=1).name == "table"

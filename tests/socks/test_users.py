"""Users: what is in the file, what is wrong with it, and who may come in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred, execute
from twisted.python.failure import Failure

from sslintercept.errors import ConfigError, InterceptError, LimitError
from sslintercept.socks import users as module
from sslintercept.socks.users import MAX_OF_A_HOST, MAX_WAITING, Cost, Secret, Users, make_line

CHEAP = Cost(16, 1, 1)
HERE = "127.0.0.1"
ALICE = make_line("alice", "secret", CHEAP)


def at_once(call: Callable[[], bool]) -> Deferred[bool]:
    return execute(call)


def written(folder: Path, *lines: str | bytes, mode: int = 0o600) -> Path:
    path = folder / "users"
    path.write_bytes(b"".join((line if isinstance(line, bytes) else line.encode()) + b"\n" for line in lines))
    path.chmod(mode)
    return path


def loaded(folder: Path, *lines: str) -> Users:
    return Users.load(written(folder, *lines), at_once)[0]


def answer(deferred: Deferred[bool]) -> bool:
    found: list[bool | Failure] = []
    deferred.addBoth(found.append)
    assert isinstance(found[0], bool)
    return found[0]


def test_the_right_password_and_no_other_opens(tmp_path: Path) -> None:
    users = loaded(tmp_path, "# ours", "", ALICE, make_line("Bücher", "geheim ü", CHEAP))
    assert answer(users.verify(b"alice", b"secret", HERE))
    assert answer(users.verify("Bücher".encode(), "geheim ü".encode(), HERE))
    for name, password in [
        (b"alice", b"Secret"),
        (b"alice", b""),
        (b"Alice", b"secret"),
        (b"bob", b"secret"),
        (b"", b""),
        (b"\xff", b"secret"),
    ]:
        assert not answer(users.verify(name, password, HERE))


def test_a_line_has_a_dear_hash_and_no_password_in_it() -> None:
    name, kind, n, r, p, salt, secret = make_line("alice", "secret").split(":")
    assert (name, kind, n, r, p) == ("alice", "scrypt", "16384", "8", "1")
    assert "secret" not in salt + secret
    assert make_line("alice", "secret") != make_line("alice", "secret")


def test_an_unknown_name_costs_what_a_known_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    users = loaded(tmp_path, ALICE)
    asked: list[tuple[Cost, int, int]] = []
    hashed = module._hashed

    def noting(password: bytes, salt: bytes, cost: Cost, length: int) -> bytes:
        asked.append((cost, len(salt), length))
        return hashed(password, salt, cost, length)

    monkeypatch.setattr(module, "_hashed", noting)
    answer(users.verify(b"alice", b"wrong", HERE))
    answer(users.verify(b"nobody", b"wrong", HERE))
    assert asked[0] == asked[1]


def test_a_hash_that_fits_opens_for_no_name_that_nobody_has(tmp_path: Path) -> None:
    users = Users.load(written(tmp_path, ALICE), lambda call: execute(lambda: True))[0]
    assert answer(users.verify(b"alice", b"x", HERE))
    assert not answer(users.verify(b"nobody", b"x", HERE))


def test_nothing_is_hashed_where_the_caller_runs(tmp_path: Path) -> None:
    calls: list[Callable[[], bool]] = []
    threads: list[Deferred[bool]] = []

    def later(call: Callable[[], bool]) -> Deferred[bool]:
        calls.append(call)
        threads.append(Deferred())
        return threads[-1]

    users = Users.load(written(tmp_path, ALICE), later)[0]
    found: list[object] = []
    users.verify(b"alice", b"secret", HERE).addBoth(found.append)
    assert not found
    threads[0].callback(calls[0]())
    assert found == [True]


def test_logins_that_wait_are_counted_and_who_leaves_still_counts(tmp_path: Path) -> None:
    threads: list[Deferred[bool]] = []

    def never(call: Callable[[], bool]) -> Deferred[bool]:
        threads.append(Deferred())
        return threads[-1]

    users = Users.load(written(tmp_path, ALICE), never)[0]
    for number in range(MAX_WAITING):
        gone = users.verify(b"alice", b"secret", f"192.0.2.{number}")
        gone.addErrback(lambda failure: None)
        gone.cancel()
    with pytest.raises(InterceptError, match="too many logins"):
        users.verify(b"alice", b"secret", HERE)
    threads[0].callback(True)
    users.verify(b"alice", b"secret", HERE)


def test_one_client_cannot_keep_the_others_from_logging_in(tmp_path: Path) -> None:
    threads: list[Deferred[bool]] = []

    def never(call: Callable[[], bool]) -> Deferred[bool]:
        threads.append(Deferred())
        return threads[-1]

    users = Users.load(written(tmp_path, ALICE), never)[0]
    for number in range(MAX_OF_A_HOST):
        users.verify(b"alice", b"guess", f"2001:db8::{number}")
    with pytest.raises(LimitError, match="of this client"):
        users.verify(b"alice", b"guess", "2001:db8::ffff")
    users.verify(b"alice", b"secret", HERE)
    threads[0].callback(False)
    users.verify(b"alice", b"guess", "2001:db8::ffff")


def test_a_thread_that_fails_opens_nothing(tmp_path: Path) -> None:
    def failing(call: Callable[[], bool]) -> Deferred[bool]:
        broken: Deferred[bool] = Deferred()
        broken.errback(MemoryError())
        return broken

    found: list[object] = []
    Users.load(written(tmp_path, ALICE), failing)[0].verify(b"alice", b"secret", HERE).addBoth(found.append)
    assert isinstance(found[0], Failure)
    assert found[0].check(MemoryError)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("alice:secret", "not a user's line"),
        ("alice:md5:16:1:1:AAAA:AAAA", "not a user's line"),
        (b"\xff:scrypt:16:1:1:AAAA:AAAA", "not UTF-8"),
        (ALICE.replace("alice", ""), "a name has"),
        (ALICE.replace("alice", "a b"), "a name has"),
        (ALICE.replace("alice", "a\x01b"), "a name has"),
        (ALICE.replace("alice", "a" * 256), "a name has"),
        (ALICE.replace(":16:", ":x:"), "not numbers"),
        (ALICE.replace(":16:", ":1234567890:"), "not numbers"),
        (ALICE.replace(":16:", ":17:"), "power of 2"),
        (ALICE.replace(":16:", ":1:"), "power of 2"),
        (ALICE.replace(":16:", ":65536:"), "that r allows"),
        (ALICE.replace(":16:1:", ":16:0:"), "N is"),
        (ALICE.replace(":16:1:", ":65536:16:"), "needs more"),
        (ALICE.replace(":16:1:1:", ":16:1:17:"), "rounds"),
        (ALICE.replace(":16:1:1:", ":16:1:0:"), "rounds"),
        ("alice:scrypt:16:1:1:AAAA:" + "A" * 44, "the salt"),
        ("alice:scrypt:16:1:1:" + "A" * 24 + ":AAAA", "the hash"),
        ("alice:scrypt:16:1:1:" + "A" * 24 + ":A!", "the hash"),
        (ALICE, "twice"),
    ],
)
def test_a_mistake_is_told_with_its_line_and_nothing_of_its_text(tmp_path: Path, line: str | bytes, what: str) -> None:
    path = written(tmp_path, ALICE, "", line)
    with pytest.raises(ConfigError) as wrong:
        Users.load(path, at_once)
    text = str(wrong.value)
    assert f"{path}:3: " in text
    assert what in text
    assert ALICE.rpartition(":")[2] not in text


def test_a_file_that_cannot_serve_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"none: cannot be read \(No such file"):
        Users.load(tmp_path / "none", at_once)
    with pytest.raises(ConfigError, match="nobody is in it"):
        loaded(tmp_path, "# empty")
    monkeypatch.setattr(module, "MAX_USERS", 1)
    with pytest.raises(ConfigError, match="users:2: more than 1 users"):
        loaded(tmp_path, ALICE, make_line("bob", "b", CHEAP))
    monkeypatch.setattr(module, "MAX_FILE", 10)
    with pytest.raises(ConfigError, match="more than 10 bytes"):
        loaded(tmp_path, ALICE)


def test_a_file_that_others_can_read_is_warned_of(tmp_path: Path) -> None:
    assert Users.load(written(tmp_path, ALICE, mode=0o640), at_once)[1] == []
    (warning,) = Users.load(written(tmp_path, ALICE, mode=0o644), at_once)[1]
    assert "every user of this machine" in warning


def test_different_costs_are_warned_of(tmp_path: Path) -> None:
    (warning,) = Users.load(written(tmp_path, ALICE, make_line("bob", "b", Cost(32, 1, 1))), at_once)[1]
    assert "N, r and p differ" in warning


@pytest.mark.parametrize(
    ("name", "password", "cost"),
    [
        ("", "x", CHEAP),
        ("a:b", "x", CHEAP),
        ("#a", "x", CHEAP),
        ("a", "", CHEAP),
        ("a", "x" * 256, CHEAP),
        ("a", "x", Cost(3, 1, 1)),
    ],
)
def test_a_line_that_could_not_be_read_is_not_made(name: str, password: str, cost: Cost) -> None:
    with pytest.raises(ValueError):
        make_line(name, password, cost)


def test_a_secret_tells_nothing_in_text() -> None:
    assert repr(Secret(CHEAP, b"salt", b"hash")) == "Secret(...)"

"""One process without a reactor: jobs that end well, and jobs that end their process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sslintercept.errors import EngineError
from sslintercept.worker.alone import Alone
from sslintercept.worker.pool import MOST_CONTENT, Item, Limits
from sslintercept.worker.wire import LENGTHS, pack

QUICK = Limits(memory=256 * 2**20, seconds=1.0, answer=4 * 2**20, jobs=3)


def run(alone: Alone, task: str, content: bytes = b"") -> list[Item]:
    return alone.run(f"sslintercept.testing.tasks:{task}", {"asked": 1}, content)


def pid(alone: Alone) -> object:
    return run(alone, "echo")[0].meta["pid"]


def test_content_comes_back_and_the_next_job_finds_the_same_process() -> None:
    content = os.urandom(3_000_000)
    with Alone() as alone:
        [item] = run(alone, "echo", content)
        assert item.content == content
        assert item.meta["asked"] == 1
        assert item.meta["environment"] == ["LANG", "PYTHONDONTWRITEBYTECODE", "PYTHONPATH"]
        assert pid(alone) == item.meta["pid"]
    assert not Path(f"/proc/{item.meta['pid']}").exists()


def test_a_process_is_replaced_after_so_many_jobs() -> None:
    with Alone(QUICK) as alone:
        pids = [pid(alone) for _ in range(4)]
    assert pids[0] == pids[1] == pids[2] != pids[3]


@pytest.mark.parametrize(
    ("task", "content", "fault", "says"),
    [
        ("crash", b"", "lost", "its process ended"),
        ("leave", b"", "lost", "its process ended"),
        ("halt", b"", "hangs", "did not end in time"),
        ("spin", b"", "hangs", "did not end in time"),
        ("eat", b"", "too_big", "memory"),
        ("flood", b"", "too_big", "4194304"),
        ("fail", b"secret", "refused", "RuntimeError at tasks.py"),
        ("none", b"", "refused", "AttributeError"),
        ("babble", b"HTTP/1.1 200 OK\r\n\r\n", "rubbish", "no answer"),
        ("babble", pack({"what": 1}), "rubbish", "neither item nor end"),
        ("babble", pack({"item": {}}, 5 * 2**20), "rubbish", "a frame of"),
        ("babble", pack({"failed": "x\ny", "fault": "mine"}), "rubbish", "x?y"),
        ("babble", LENGTHS.pack(20, 0), "hangs", "did not end in time"),
    ],
)
def test_a_job_that_goes_wrong_is_an_error_and_the_next_one_goes_well(
    task: str, content: bytes, fault: str, says: str
) -> None:
    with Alone(QUICK, where="here") as alone:
        with pytest.raises(EngineError) as caught:
            run(alone, task, content)
        assert caught.value.fault == fault
        assert str(caught.value).startswith("here: ")
        assert says in str(caught.value)
        assert "secret" not in str(caught.value)
        assert run(alone, "echo", b"fine")[0].content == b"fine"


def test_more_items_than_an_answer_may_have_are_refused_whoever_counts() -> None:
    with Alone(Limits(answer=3000, seconds=5.0)) as alone, pytest.raises(EngineError) as caught:
        run(alone, "babble", pack({"item": {}}) * 3)
    assert caught.value.fault == "rubbish"
    assert "more than 3000 bytes" in str(caught.value)


def test_content_that_is_too_large_starts_nothing() -> None:
    class Large(bytes):
        def __len__(self) -> int:
            return MOST_CONTENT + 1

    with Alone() as alone, pytest.raises(EngineError) as caught:
        run(alone, "echo", Large())
    assert caught.value.fault == "too_big"


def test_a_process_that_cannot_be_started_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    with Alone() as alone, pytest.raises(EngineError) as caught:
        run(alone, "echo")
    assert caught.value.fault == "unreachable"
    assert "No such file or directory" in str(caught.value)


def test_a_process_that_does_not_begin_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    with Alone() as alone, pytest.raises(EngineError) as caught:
        run(alone, "echo")
    assert caught.value.fault == "lost"

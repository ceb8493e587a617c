"""A pool with real processes: jobs that end well, and jobs that end their process."""

from __future__ import annotations

import os
import re
import signal
from dataclasses import replace
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred

from sslintercept.errors import EngineError
from sslintercept.testing.loop import RealLoop
from sslintercept.worker.pool import Item, Kept, Limits, Workers
from sslintercept.worker.wire import LENGTHS, MOST_KEPT, MOST_META, pack
from tests.standstill import stand_still
from tests.worker.tools import Pools, came, fault

TASKS = "sslintercept.testing.tasks:"
QUICK = Limits(memory=256 * 2**20, seconds=0.5, answer=4 * 2**20)


def run(pool: Workers, task: str, content: Any = b"", **named: Any) -> Deferred[list[Item]]:
    return pool.run(TASKS + task, {"asked": 1}, content, **named)


def pid(loop: RealLoop, pool: Workers) -> int:
    """Of the process that takes the next job."""
    number = came(loop, run(pool, "echo"))[0].meta["pid"]
    assert isinstance(number, int)
    return number


def test_there_is_no_process_before_the_first_job_and_one_for_all_that_follow(loop: RealLoop, pools: Pools) -> None:
    pool = pools(2)
    assert pool.processes == 0
    assert pid(loop, pool) == pid(loop, pool) == pid(loop, pool)
    assert pool.processes == 1


def test_content_comes_back_as_it_was_in_one_piece_and_in_many(loop: RealLoop, pools: Pools) -> None:
    pool, content = pools(), os.urandom(3_000_000)
    [item] = came(loop, run(pool, "echo", content))
    assert item.content == content
    assert item.meta["asked"] == 1
    pieces = [content[at : at + 70_001] for at in range(0, len(content), 70_001)]
    assert came(loop, run(pool, "echo", pieces))[0].content == content
    assert came(loop, run(pool, "echo", []))[0].content == b""


def test_several_jobs_run_at_the_same_time(loop: RealLoop, pools: Pools) -> None:
    pool = pools(2)
    ended: list[str] = []
    slow = run(pool, "sleep", b"0.8").addCallback(lambda _: ended.append("slow"))
    fast = run(pool, "sleep", b"0.0").addCallback(lambda _: ended.append("fast"))
    came(loop, fast)
    came(loop, slow)
    assert ended == ["fast", "slow"]
    assert pool.processes == 2


def test_a_process_has_no_environment_of_ours(loop: RealLoop, pools: Pools, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")
    [item] = came(loop, run(pools(), "echo"))
    assert item.meta["environment"] == ["LANG", "PYTHONDONTWRITEBYTECODE", "PYTHONPATH"]


@pytest.mark.parametrize(
    ("task", "content", "expected", "says"),
    [
        ("crash", b"", "lost", "SIGSEGV"),
        ("leave", b"", "lost", "ended with 3"),
        ("gone", b"", "lost", "ended with 0"),
        ("halt", b"", "hangs", "did not end in 0.5 s"),
        ("spin", b"", "hangs", "did not end in 0.5 s"),
        ("eat", b"", "too_big", "memory"),
        ("flood", b"", "too_big", "4194304"),
        ("fail", b"secret", "refused", "RuntimeError at tasks.py"),
        ("babble", b"HTTP/1.1 200 OK\r\n\r\n", "rubbish", "no answer"),
        ("babble", LENGTHS.pack(4, 0) + b"null", "rubbish", "no object"),
        ("babble", pack({"item": 3}), "rubbish", "neither"),
        ("babble", pack({"item": {}}, 2**40), "rubbish", "frame"),
        ("babble", pack({"ready": "again"}), "rubbish", "neither"),
        ("babble", pack({"end": True}) + b"more", "rubbish", "no end|an end"),
        ("babble", pack({"failed": "\x1b[2Jx" * 100, "fault": "of its own"}), "rubbish", r"^worker: \?\[2Jx"),
        ("flood_past", bytes(65536), "rubbish", "no JSON"),
        ("flood_past", pack({"item": {}}) * 1000, "rubbish", "more than 4194304"),
        ("flood_past", pack({"item": {"a": "x" * 60_000}}), "rubbish", "more than 4194304"),
        ("nothing", b"", "refused", "AttributeError"),
    ],
)
def test_a_job_that_goes_wrong_fails_and_the_next_one_works(
    loop: RealLoop, pools: Pools, task: str, content: bytes, expected: str, says: str
) -> None:
    # What is to hang may do so soon; what is not has time, on a machine that does other things, too.
    pool = pools(1, QUICK if expected == "hangs" else replace(QUICK, seconds=20.0))
    first = pid(loop, pool)
    job, following = run(pool, task, content), run(pool, "echo", b"next")
    error = came(loop, job)
    assert isinstance(error, EngineError)
    assert error.fault == expected
    assert re.search(says, str(error)), error
    assert "secret" not in str(error)
    assert came(loop, following)[0].content == b"next"
    assert pid(loop, pool) != first
    assert pool.processes == 1


def test_a_process_that_was_stopped_from_outside_is_killed(loop: RealLoop, pools: Pools) -> None:
    pool = pools(1, QUICK)
    stand_still(pid(loop, pool))
    assert fault(loop, run(pool, "echo", bytes(2_000_000))) == "hangs"
    assert came(loop, run(pool, "echo", b"next"))[0].content == b"next"


def test_a_process_that_died_while_it_slept_is_replaced(loop: RealLoop, pools: Pools) -> None:
    pool = pools()
    first = pid(loop, pool)
    os.kill(first, signal.SIGKILL)
    loop.until(lambda: pool.processes == 0)
    assert pid(loop, pool) != first


def test_a_process_is_replaced_after_its_number_of_jobs(loop: RealLoop, pools: Pools) -> None:
    pool = pools(1, Limits(jobs=2))
    pids = [pid(loop, pool) for _ in range(6)]
    assert pids[0] == pids[1] != pids[2] == pids[3] != pids[4] == pids[5]


def test_what_is_kept_is_sent_to_each_process_once(loop: RealLoop, pools: Pools) -> None:
    pool = pools()
    kept = [Kept(str(number), f"content {number}".encode()) for number in range(MOST_KEPT + 2)]
    for one in [*kept, *kept, kept[-1], kept[-2]]:
        assert came(loop, run(pool, "echo", kept=one))[0].meta["kept"] == one.content.decode()
    # The process believes what it was sent first: had it been sent again, it would know the new bytes.
    assert came(loop, run(pool, "echo", kept=Kept(kept[-1].key, b"new")))[0].meta["kept"] != "new"
    assert came(loop, run(pool, "echo"))[0].meta["kept"] == ""


def test_who_waits_is_bounded_in_number_bytes_and_time(loop: RealLoop, pools: Pools) -> None:
    pool = pools(1, waiting=2, waiting_bytes=100, patience=0.3)
    pid(loop, pool)
    running = run(pool, "sleep", b"1.0")
    waiting = run(pool, "echo", bytes(60))
    assert fault(loop, run(pool, "echo", bytes(60))) == "busy"
    also = run(pool, "echo", bytes(40))
    assert fault(loop, run(pool, "echo")) == "busy"
    assert fault(loop, waiting) == "busy"
    assert fault(loop, also) == "busy"
    assert len(came(loop, running)) == 1
    assert came(loop, run(pool, "echo", bytes(101)))[0].content == bytes(101)


def test_content_above_the_limit_is_not_sent_anywhere(loop: RealLoop, pools: Pools) -> None:
    pool = pools(1, most=10)
    assert fault(loop, run(pool, "echo", bytes(11))) == "too_big"
    assert pool.processes == 0


def test_a_meta_above_the_limit_is_not_sent_and_does_no_harm(loop: RealLoop, pools: Pools) -> None:
    pool = pools()
    assert fault(loop, pool.run(TASKS + "echo", {"a": "x" * MOST_META}, b"")) == "too_big"
    assert came(loop, run(pool, "echo", b"next"))[0].content == b"next"


def test_whoever_gives_up_ends_a_job_that_runs_and_one_that_waits(loop: RealLoop, pools: Pools) -> None:
    pool = pools()
    pid(loop, pool)
    running, waiting = run(pool, "sleep", b"60"), run(pool, "sleep", b"60")
    waiting.cancel()
    assert isinstance(came(loop, waiting), CancelledError)
    running.cancel()
    assert fault(loop, running) == "dropped"
    assert came(loop, run(pool, "echo", b"next"))[0].content == b"next"


def test_closing_ends_processes_and_fails_jobs(loop: RealLoop, pools: Pools) -> None:
    pool = pools()
    running, waiting = run(pool, "sleep", b"60"), run(pool, "echo")
    came(loop, pool.close())
    assert fault(loop, running) == fault(loop, waiting) == "stopped"
    assert pool.processes == 0
    assert fault(loop, run(pool, "echo")) == "stopped"


def test_a_process_that_cannot_be_started_gives_its_place_back(
    loop: RealLoop, pools: Pools, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = pools()
    with monkeypatch.context() as patched:
        patched.setattr("sys.executable", "/nowhere")
        assert fault(loop, run(pool, "echo")) == "unreachable"
    assert came(loop, run(pool, "echo", b"next"))[0].content == b"next"


def test_a_process_that_says_nothing_at_its_start_is_killed(
    loop: RealLoop, pools: Pools, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = pools()
    monkeypatch.setattr("sslintercept.worker.process.START", 0.2)
    monkeypatch.setattr("sslintercept.worker.process.command", lambda limits: (["/bin/sleep", "60"], {}))
    assert fault(loop, run(pool, "echo")) == "hangs"


@pytest.mark.parametrize("name", ["os:system", "sslintercept.worker.child:__import__", "sslintercept.worker.child"])
def test_no_other_function_can_be_asked_for(pools: Pools, name: str) -> None:
    with pytest.raises(ValueError, match="no task"):
        pools().run(name, {}, b"")

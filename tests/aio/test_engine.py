"""The choice, and what it says when it cannot be had."""

from __future__ import annotations

import errno
import os
import threading

import pytest
from twisted.logger import LogEvent

from sslintercept.aio import engine as module
from sslintercept.aio.engine import choose
from sslintercept.aio.request import DiskEngine
from sslintercept.errors import ConfigError
from sslintercept.testing.loop import Loop

from .support import Disk


def chosen(loop: Loop, setting: str) -> str:
    engine: DiskEngine = choose(setting, loop.handler)
    end = engine.stop()
    loop.pump()
    assert end.called
    return engine.name


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize(("setting", "name"), [("auto", "native"), ("native", "native"), ("threads", "threads")])
def test_the_engine_is_the_one_of_the_setting(loop: Loop, said: list[LogEvent], setting: str, name: str) -> None:
    assert chosen(loop, setting) == name
    assert said == []


@pytest.mark.parametrize("setting", ["auto", "native"])
def test_threads_take_the_place_of_what_the_kernel_refuses(
    loop: Loop, said: list[LogEvent], setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*args: object, **kwargs: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(module, "NativeEngine", refused)
    assert chosen(loop, setting) == "threads"
    (event,) = said
    assert event["why"] == "Operation not permitted"


@pytest.mark.parametrize(
    ("setting", "why"), [("uring", r"uring is not in this version \(see docs/aio.md\)"), ("dma", "no disk engine dma")]
)
def test_an_engine_that_there_is_not_is_refused_with_what_there_is(loop: Loop, setting: str, why: str) -> None:
    with pytest.raises(ConfigError, match=f"{why}; write auto, native or threads"):
        choose(setting, loop.handler)


def test_the_number_of_threads_is_handed_on(loop: Loop, tmp_path_factory: pytest.TempPathFactory) -> None:
    before = threading.active_count()
    engine = choose("threads", loop.handler, threads=3)
    path = tmp_path_factory.mktemp("files") / "file"
    engine.open(path, os.O_RDWR | os.O_CREAT)
    assert threading.active_count() == before + 3
    end = engine.stop()
    Disk(loop, engine, path).until(lambda: bool(end.called))  # type: ignore[arg-type]  # it waits, no more

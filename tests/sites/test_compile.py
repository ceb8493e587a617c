"""Lists read in a process of their own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from sslintercept.sites import compile as module
from sslintercept.sites.compile import Compilation, compiled, packed, unpacked
from sslintercept.sites.listing import ListError, ListSettings
from sslintercept.sites.look import SiteList, Sites
from tests.sites.build import settings


def test_another_process_makes_the_same_image(tmp_path: Path) -> None:
    wanted = settings(tmp_path, "bücher.example\n192.0.2.0/24\na b\nexample.com/x\n")
    before = set(os.listdir("/proc/self/fd"))
    image = Compilation(wanted).run()
    assert image.report == compiled(wanted).report
    found = Sites((SiteList("bad", image),)).host("www.bücher.example")
    assert found is not None
    assert found.line == 1
    del image, found
    assert set(os.listdir("/proc/self/fd")) <= before


def test_the_reason_for_refusing_a_list_comes_back(tmp_path: Path) -> None:
    with pytest.raises(ListError, match=r"list bad: cannot read .*none \(No such file.*\); make it readable"):
        Compilation(ListSettings("bad", tmp_path / "none")).run()


def test_a_process_that_takes_too_long_or_dies_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = settings(tmp_path, "example.com\n")
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    with pytest.raises(ListError, match="not read within 0 s"):
        Compilation(wanted).run()
    monkeypatch.undo()
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ListError, match="the process that read it ended"):
        Compilation(wanted).run()
    monkeypatch.setattr(sys, "executable", "/none")
    with pytest.raises(ListError, match="could not be read in a process of its own"):
        Compilation(wanted).run()


def test_a_cancelled_one_ends(tmp_path: Path) -> None:
    making = Compilation(settings(tmp_path, "example.com\n"))
    making.cancel()
    with pytest.raises(ListError, match="stopped"):
        making.run()


def test_one_that_is_under_way_ends_when_it_is_cancelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    making = Compilation(settings(tmp_path, "example.com\n"))

    def pack(wanted: ListSettings) -> bytes:
        making.cancel()
        return packed(wanted)

    monkeypatch.setattr(module, "packed", pack)  # it is called when the process runs and waits for its settings
    with pytest.raises(ListError, match="stopped"):
        making.run()


def test_a_file_that_shrinks_is_no_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "pread", lambda descriptor, size, offset: bytes(size - 1))
    with pytest.raises(ListError, match="half an image"):
        Compilation(settings(tmp_path, "example.com\n")).run()


def test_settings_come_through_whole(tmp_path: Path) -> None:
    wanted = ListSettings("ü", tmp_path / "ü\udcff", "plain", "c", ("a", "b"), True)
    assert unpacked(packed(wanted)) == wanted

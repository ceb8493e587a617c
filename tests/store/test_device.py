"""Real block devices, where the tests may make some: taken if they are empty, left alone if anything is on them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sslintercept.store.medium import Part

from .conftest import ShelfMaker
from .support import MEBIBYTE, SMALL, Shelf, key


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Path]:
    """An empty device of 32 MiB."""
    if os.getuid() != 0 or shutil.which("losetup") is None:
        pytest.skip("only root can make a block device, with losetup")
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(2 * SMALL)
    made = subprocess.run(["losetup", "--show", "-f", str(image)], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"no block device can be made here: {made.stderr.strip()}")
    path = Path(made.stdout.strip())
    yield path
    subprocess.run(["losetup", "-d", str(path)], check=True)


def on(shelf: Shelf, *parts: Part) -> Shelf:
    shelf.parts = list(parts)
    shelf.start()
    return shelf


def test_a_device_is_a_span(make: ShelfMaker, kind: str, device: Path) -> None:
    mode = device.stat().st_mode
    shelf = on(make(kind), Part(device, 0, SMALL), Part(device, SMALL, SMALL))
    assert shelf.store.stat.spans == 2
    for number in range(200):
        shelf.put(number, 50_000)
    shelf.restart()
    assert len(shelf.held(range(200), 50_000)) == 200
    assert device.stat().st_mode == mode
    shelf.end()


def test_a_device_that_is_too_short_is_refused(make: ShelfMaker, said: list[str], device: Path) -> None:
    shelf = on(make(), Part(device, 0, 2 * SMALL + MEBIBYTE))
    assert shelf.store.stat.spans == 0
    assert any(f"it ends at {2 * SMALL} bytes; make the slice smaller" in line for line in said)


def test_a_file_system_is_left_alone(make: ShelfMaker, said: list[str], device: Path, tmp_path: Path) -> None:
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("there is no mkfs.ext4")
    subprocess.run(["mkfs.ext4", "-q", str(device)], check=True)
    before = device.read_bytes()
    shelf = on(make(), Part(device, 0, 2 * SMALL))
    assert any("something else is on it; clear it" in line for line in said)
    assert shelf.get(key(1)) is None
    assert device.read_bytes() == before


def test_a_mounted_device_is_left_alone(make: ShelfMaker, said: list[str], device: Path, tmp_path: Path) -> None:
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("there is no mkfs.ext4")
    subprocess.run(["mkfs.ext4", "-q", str(device)], check=True)
    folder = tmp_path / "mounted"
    folder.mkdir()
    mounted = subprocess.run(["mount", str(device), str(folder)], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"it cannot be mounted here: {mounted.stderr.strip()}")
    shelf = make()
    try:
        shelf.parts = [Part(device, 0, SMALL)]
        shelf.begin()
        over = shelf.store.start()
        for _ in range(10):
            shelf.loop.advance(0.1)
        shelf.wait(over)
        assert any("it is mounted, or part of another device" in line for line in said)
    finally:
        subprocess.run(["umount", str(folder)], check=True)

"""
Where the spans of a process are: what C{[cache] path} and C{size} mean.

A folder gets one file for each process; a file, or a device, is shared by all of them in equal slices.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Final

from sslintercept.config.schema import CacheSettings
from sslintercept.errors import ConfigError
from sslintercept.store.store import Part

PAGE: Final = 4096
WHERE: Final = "[cache] path"
BROKEN: Final = frozenset((errno.EIO, errno.ENODEV, errno.ENXIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ESTALE))
"""errors that are a disk's, not those of who wrote the settings"""


def parts_of(settings: CacheSettings, worker: int, workers: int) -> list[Part]:
    """
    The spans of process number *worker* of *workers*; folders that are not there are made, with mode 0700.

    @raise ConfigError: a folder cannot be made, or what is there is neither folder, file nor device.
    """
    return [_part(path, settings.size, worker, workers) for path in settings.path or ()]


def _part(path: Path, size: int, worker: int, workers: int) -> Part:
    try:
        if not path.exists():
            path.mkdir(mode=0o700, parents=True)
        kind = path.stat().st_mode
        if stat.S_ISDIR(kind):
            return Part(path / f"cache-{worker}.span", 0, size // PAGE * PAGE)
        if stat.S_ISBLK(kind):
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                size = os.lseek(fd, 0, os.SEEK_END)
            finally:
                os.close(fd)
        elif not stat.S_ISREG(kind):
            raise ConfigError(f"{path} is neither folder, file nor device", where=WHERE, remedy="name another one")
    except OSError as error:
        if error.errno in BROKEN:
            # That costs the cache and not the proxy: whoever opens it meets the same, and says so.
            return Part(path / f"cache-{worker}.span", 0, size // PAGE * PAGE)
        raise ConfigError(f"cannot use {path} ({error.strerror})", where=WHERE, remedy="name another one") from None
    slice_ = size // workers // PAGE * PAGE
    return Part(path, worker * slice_, slice_)

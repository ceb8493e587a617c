"""
What a span lies on: a slice of a file or a device; opened, locked, checked for what else may be on it, and divided.

Nothing that is not ours is ever written over: a slice is taken if it carries our header, or if its edges are empty.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from secrets import randbits
from typing import Final, NamedTuple, Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from sslintercept.aio.request import DiskEngine, Request, read_into, write
from sslintercept.aio.threads import attached
from sslintercept.errors import ConfigError, LimitError, StoppedError
from sslintercept.store.layout import (
    EDGE,
    LARGEST,
    MAGIC_SPAN,
    PAGE,
    SMALLEST,
    SpanHeader,
    divided,
    span_header,
)

PIECE: Final = 8 * 2**20
"""bytes that are reserved at once: some file systems write zeros for it meanwhile"""
AGAIN: Final = 0.05
"""seconds until a disk engine is asked again that had no room"""
TRIES: Final = 5
"""looks whether a device is free, since those who look are in each other's way"""
_LOCK: Final = struct.Struct("hhqqixxxx")
"""struct flock of 64-bit Linux: type, whence, start, length, process"""


class Part(NamedTuple):
    """A slice of a file or device that is to be a span, in bytes; both numbers are multiples of a page."""

    path: Path
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.path} ({self.size >> 20} MiB at {self.offset})"


class Timers(Protocol):
    """What is needed of the reactor's loop (L{sslintercept.net.handler.NetHandler})."""

    def later(self, delay: float, call: Callable[[], object]) -> IDelayedCall: ...
    def seconds(self) -> float: ...


class Medium:
    """
    An open slice. Offsets count from its beginning.

    @ivar fd: the engine's descriptor.
    @ivar anew: whether a new span was made of it.
    """

    log = Logger()

    def __init__(self, part: Part, engine: DiskEngine, timers: Timers) -> None:
        self.part, self._engine, self._timers = part, engine, timers
        self.fd = -1
        self.anew = False
        self._closed: Deferred[None] = succeed(None)

    async def open(self, average: int) -> SpanHeader:
        """
        Open the slice, or make it.

        @param average: bytes of a document, which sizes the directory of a new span.
        @raise ConfigError: it cannot be used; nothing is left open.
        """
        try:
            await self._unused()
            self._open()
            self._lock()
            self._measure()
            return await self._header(average)
        except OSError as error:
            self.close()
            raise self._refusal(error) from error
        except ConfigError:
            self.close()
            raise

    def close(self) -> Deferred[None]:
        """Give descriptor and lock back; fires when that is done. Twice is once."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            # An engine that was stopped before us does not know the descriptor any more.
            with suppress(ValueError):
                self._closed = self._engine.close(fd)
        return attached(self._closed)

    async def read_into(self, offset: int, memory: memoryview) -> int:
        """
        Fill memory from the slice.

        @return: bytes that there were; fewer if the file ends early.
        @raise OSError: the disk failed, or the engine is being stopped.
        """
        return (await self._carry(lambda done: read_into(self.fd, self.part.offset + offset, memory, done))).result

    async def write(self, offset: int, memory: memoryview | bytes) -> None:
        """
        Write memory to the slice.

        @raise OSError: the disk failed, or the engine is being stopped.
        """
        await self._carry(lambda done: write(self.fd, self.part.offset + offset, memory, done))

    async def _carry(self, make: Callable[[Callable[[Request], object]], Request]) -> Request:
        """Have a request carried out; ask again while the engine has no room."""
        while self.fd >= 0:
            over: Deferred[Request] = Deferred()
            try:
                self._engine.submit(make(over.callback))
            except LimitError:
                await self.pause(AGAIN)
            except StoppedError as error:
                raise OSError(errno.ECANCELED, error.what) from None
            else:
                request = await over
                if request.error is not None:
                    raise request.error
                return request
        raise OSError(errno.ECANCELED, "it was closed")

    def pause(self, seconds: float) -> Deferred[None]:
        """Let others have their turn."""
        over: Deferred[None] = Deferred()
        self._timers.later(seconds, lambda: over.callback(None))
        return over

    def _open(self) -> None:
        path, flags = self.part.path, os.O_RDWR
        if not path.exists():
            if path.is_relative_to("/dev"):
                raise self._error("there is no such device", "name one that exists")
            flags |= os.O_CREAT
        elif not (path.is_file() or path.is_block_device()):
            raise self._error("it is neither a file nor a block device", "name one that is")
        try:
            self.fd = self._engine.open(path, flags, 0o600)
        except LimitError as error:
            raise self._error(error.what, error.remedy) from None
        status = os.fstat(self.fd)
        if stat.S_ISREG(status.st_mode) and status.st_mode & 0o077:
            os.fchmod(self.fd, 0o600)
            self.log.warn("{path}: others had access to this cache file; its mode is 0600 now", path=str(path))

    async def _unused(self) -> None:
        """Refuse a device that is mounted, or part of something else (open(2): O_EXCL without O_CREAT)."""
        for left in reversed(range(TRIES)):
            if not self.part.path.is_block_device():
                return
            try:
                os.close(os.open(self.part.path, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
                if not left:
                    raise self._error("it is mounted, or part of another device", "name one that is free") from None
                await self.pause(AGAIN)  # another worker may be looking just now
            else:
                return

    def _measure(self) -> None:
        """A file grows, a device does not."""
        end = os.lseek(self.fd, 0, os.SEEK_END)
        if not stat.S_ISREG(os.fstat(self.fd).st_mode) and end < self.part.offset + self.part.size:
            raise self._error(f"it ends at {end} bytes", "make the slice smaller")

    def _lock(self) -> None:
        """Have the slice alone, against other descriptors of this process, too (fcntl(2): open file description)."""
        wanted = _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, self.part.offset, self.part.size, 0)
        try:
            fcntl.fcntl(self.fd, fcntl.F_OFD_SETLK, wanted)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            raise self._error("another process or another span has it", "stop that, or name another file") from None

    async def _header(self, average: int) -> SpanHeader:
        """The header, or its copy at the end; else the slice is made a span, if nothing is on it."""
        size = self.part.size
        with memoryview(bytearray(EDGE)) as front, memoryview(bytearray(EDGE)) as back:
            got = await self.read_into(0, front)
            front[got:] = bytes(EDGE - got)
            got = await self.read_into(size - EDGE, back)
            back[got:] = bytes(EDGE - got)
            ours = bytes(front[:8]) == MAGIC_SPAN
            wanted = divided(size, average, randbits(64))
            for place, page in ((0, front[:PAGE]), (size - PAGE, back[EDGE - PAGE :])):
                header = span_header(page) if ours else None
                if header is not None and header._replace(generation=wanted.generation) == wanted:
                    if place:
                        self.log.warn("{part}: its header is damaged; the copy at its end is used", part=str(self.part))
                    if front[:PAGE] != header.packed() or back[EDGE - PAGE :] != header.packed():
                        await self._format(header)
                    return header
            if not ours and (any(front) or any(back)):
                raise self._error("something else is on it", f"clear it, for example with wipefs -a {self.part.path}")
        await self._reserve()
        await self._format(wanted)
        self.anew = True
        return wanted

    async def _format(self, header: SpanHeader) -> None:
        """Write the header at both ends; documents and snapshots that may be on it are of another generation."""
        await self.write(0, header.packed())
        await self.write(self.part.size - PAGE, header.packed())

    async def _reserve(self) -> None:
        """Have the space, so that no write fails for want of it."""
        if not stat.S_ISREG(os.fstat(self.fd).st_mode):
            return
        for offset in range(self.part.offset, self.part.offset + self.part.size, PIECE):
            os.posix_fallocate(self.fd, offset, min(PIECE, self.part.offset + self.part.size - offset))
            await self.pause(0)

    def _refusal(self, error: OSError) -> ConfigError:
        remedies = {
            errno.ENOSPC: "free space, or make it smaller",
            errno.EDQUOT: "raise the quota, or make it smaller",
            errno.EFBIG: "raise the limit of file sizes, or make it smaller",
            errno.EACCES: "make it readable and writable for this user, and nobody else",
            errno.ENOENT: "make its folder",
        }
        what = error.strerror or str(error)
        return self._error(what, remedies.get(error.errno or 0, "look at the disk"))

    def _error(self, what: str, remedy: str) -> ConfigError:
        return ConfigError(what, where=f"cache span {self.part}", remedy=remedy)


def check(part: Part) -> None:
    """
    Look at what can be seen without opening it.

    @raise ConfigError: it can be no span.
    """
    where = f"cache span {part}"
    if part.offset % PAGE or part.size % PAGE or part.offset < 0:
        raise ConfigError("it does not begin and end at a page", where=where, remedy=f"use multiples of {PAGE} bytes")
    if not SMALLEST <= part.size <= LARGEST:
        raise ConfigError("its size cannot be used", where=where, remedy=f"give it {SMALLEST} to {LARGEST} bytes")

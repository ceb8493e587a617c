"""
Disks that are as slow as a test wants: real ones for whoever reads, since the kernel itself waits for them.

L{HeldDisk} is a FUSE file system of one file, served by a thread of the test (linux/fuse.h). Whoever reads or writes
waits in the kernel until L{HeldDisk.let}. L{LimitedDisk} is a block device of a limited rate. Both need root.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import struct
import subprocess
import threading
import time
from pathlib import Path
from typing import Final

PAGE: Final = 4096
PATIENCE: Final = 20.0
"""seconds after which a request that nobody let go fails: whoever waits for it on the loop's thread is found out"""
LARGEST: Final = 2**17
HEADER, REPLY = struct.Struct("=IIQQIIII"), struct.Struct("=IiQ")
LOOKUP, FORGET, GETATTR, OPEN, READ, WRITE, RELEASE, INIT, INTERRUPT, DESTROY, BATCH_FORGET = (
    *(1, 2, 3, 14, 15, 16, 18, 26, 36, 38, 42),
)
TRANSFER: Final = struct.Struct("=QQIIQII")
"""handle, offset, bytes, flags, lock owner, flags of the descriptor, nothing"""
ASYNC_READ, ASYNC_DIRECT = 1, 1 << 15
NO_FLUSH: Final = 1 << 5
"""a process that is killed closes the file when nobody serves it any more, and must not wait"""
MNT_DETACH: Final = 2


class HeldDisk:
    """
    A mounted folder with one file, C{file}.

    @param refuses: errno for transfers of descriptors with O_DIRECT, which may be opened nevertheless.
    @ivar begun: offsets of transfers that have arrived.
    @ivar held: whether transfers wait.
    @raise OSError: nothing can be mounted here.
    """

    def __init__(self, folder: Path, content: bytes, refuses: int = 0) -> None:
        self.folder, self.path, self._content, self._refuses = folder, folder / "file", bytearray(content), refuses
        self.begun: list[int] = []
        self.held = self._closing = False
        self._waiting: list[tuple[float, int, int, bytes]] = []
        self._lock = threading.Lock()
        self._fuse = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        options = f"fd={self._fuse},rootmode=40000,user_id={os.geteuid()},group_id={os.getegid()}"
        libc = ctypes.CDLL(None, use_errno=True)
        self._umount = libc.umount2
        if libc.mount(b"held", os.fsencode(folder), b"fuse", 0, options.encode()):
            os.close(self._fuse)
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), "mount")
        self._thread = threading.Thread(target=self._serve, name="held disk")
        self._thread.start()

    def let(self) -> None:
        """Let go what waits; nothing is held any more."""
        self.held = False
        self._answer_waiting(float("inf"))

    def close(self) -> None:
        """Unmount; its files are to be closed before."""
        self.let()
        self._umount(os.fsencode(self.folder), MNT_DETACH)
        self._closing = True
        self._thread.join()
        os.close(self._fuse)

    def _serve(self) -> None:
        poll = select.poll()
        poll.register(self._fuse, select.POLLIN)
        while not self._closing:
            if poll.poll(50):
                try:
                    self._answer(os.read(self._fuse, LARGEST + PAGE))
                except OSError as error:
                    if error.errno == errno.ENODEV:
                        return  # it is unmounted
                    if error.errno != errno.ENOENT:  # else the request was interrupted
                        raise
            self._answer_waiting(time.monotonic() - PATIENCE, -errno.EIO)

    def _answer_waiting(self, before: float, error: int = 0) -> None:
        with self._lock:
            due = [one for one in self._waiting if one[0] <= before]
            self._waiting = [one for one in self._waiting if one[0] > before]
        for _, unique, kind, body in due:
            self._reply(unique, *((error, b"") if error else self._transfer(kind, body)))

    def _answer(self, message: bytes) -> None:
        _, kind, unique, node, *_ = HEADER.unpack_from(message)
        body = message[HEADER.size :]
        if kind in (READ, WRITE):
            self.begun.append(TRANSFER.unpack_from(body)[1])
            with self._lock:
                if self.held:
                    self._waiting.append((time.monotonic(), unique, kind, body))
                    return
            self._reply(unique, *self._transfer(kind, body))
        elif kind == INIT:
            flags = ASYNC_READ | ASYNC_DIRECT
            sizes = (LARGEST, flags, 64, 48, LARGEST, 1)
            self._reply(unique, 0, struct.pack("=IIIIHHII32x", 7, 31, *sizes))
        elif kind == LOOKUP:
            known = body.rstrip(b"\0") == b"file"
            entry = struct.pack("=QQQQII", 2, 0, 3600, 3600, 0, 0) + self._attributes(2)
            self._reply(unique, *((0, entry) if known else (-errno.ENOENT, b"")))
        elif kind == GETATTR:
            self._reply(unique, 0, struct.pack("=QII", 3600, 0, 0) + self._attributes(node))
        elif kind == OPEN:
            self._reply(unique, 0, struct.pack("=QIi", 0, NO_FLUSH, 0))
        elif kind in (RELEASE, DESTROY):
            self._reply(unique, 0)
        elif kind not in (FORGET, BATCH_FORGET, INTERRUPT):
            self._reply(unique, -errno.ENOSYS)

    def _attributes(self, node: int) -> bytes:
        size, mode = (len(self._content), 0o100600) if node == 2 else (0, 0o40700)
        return struct.pack("=6Q10I", node, size, 0, 0, 0, 0, 0, 0, 0, mode, 1, os.geteuid(), os.getegid(), 0, PAGE, 0)

    def _transfer(self, kind: int, body: bytes) -> tuple[int, bytes]:
        _, offset, size, _, _, flags, _ = TRANSFER.unpack_from(body)
        if self._refuses and flags & os.O_DIRECT:
            return -self._refuses, b""
        if kind == READ:
            return 0, bytes(self._content[offset : offset + size])
        self._content[offset : offset + size] = body[TRANSFER.size :]
        return 0, struct.pack("=II", size, 0)

    def _reply(self, unique: int, error: int, body: bytes = b"") -> None:
        try:
            os.write(self._fuse, REPLY.pack(REPLY.size + len(body), error, unique) + body)
        except OSError as failed:
            if failed.errno not in (errno.ENOENT, errno.ENODEV):  # whoever asked is gone
                raise


LIMITS: Final = Path("/sys/fs/cgroup/blkio")


class LimitedDisk:
    """
    An ext4 file system on a loop device whose transfers the kernel delays (blkio.throttle of cgroup v1).

    @param image: a file for what it holds.
    @raise OSError: there is no such limit here.
    @raise subprocess.CalledProcessError: there is no such device here.
    """

    def __init__(self, folder: Path, image: Path, size: int = 32 * 2**20) -> None:
        self._files = [LIMITS / f"blkio.throttle.{way}_iops_device" for way in ("read", "write")]
        for file in self._files:
            file.stat()
        with image.open("wb") as made:
            made.truncate(size)
        _run("mkfs.ext4", "-qF", "-E", "lazy_itable_init=0,lazy_journal_init=0", image)
        self.folder, self._device = folder, _run("losetup", "--find", "--show", image)
        try:
            _run("mount", self._device, folder)
        except subprocess.CalledProcessError:
            _run("losetup", "--detach", self._device)
            raise
        number = os.stat(self._device).st_rdev
        self._number = f"{os.major(number)}:{os.minor(number)}"

    def limit(self, rate: int) -> None:
        """Transfers in a second, each way; 0 for any number. What waits already goes on by the new rate."""
        for file in self._files:
            file.write_text(f"{self._number} {rate}")

    def close(self) -> None:
        """Unmount."""
        self.limit(0)
        _run("umount", self.folder)
        _run("losetup", "--detach", self._device)


def _run(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

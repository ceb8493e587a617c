"""
What a process gives up before it reads what attackers sent.

Limits of the kernel (setrlimit(2)); no files but Python's own to read, none to write, no TCP (Landlock, Linux 5.13);
no new sockets and processes, no other process in reach (seccomp(2)). What the kernel does not know is left out, and
L{confine} says so: limits remain in any case.

The tables are of Linux's include/uapi: landlock.h, seccomp.h, audit.h, and asm/unistd.h of x86-64 and arm64.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import signal
import struct
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

MOST_FILES: Final = 32
"""descriptors: the line to us, what imports open for a moment, and what libraries keep"""
OOM_SCORE: Final = "1000"
"""proc_pid_oom_score_adj(5): when memory runs out, a worker goes first"""

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38
_LANDLOCK_CREATE_RULESET, _LANDLOCK_ADD_RULE, _LANDLOCK_RESTRICT_SELF = 444, 445, 446
_LANDLOCK_VERSION = 1
_LANDLOCK_PATH_BENEATH = 1
_READ: Final = 1 << 2 | 1 << 3
"""LANDLOCK_ACCESS_FS_READ_FILE and _READ_DIR"""
_FS: Final = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
"""what of files can be forbidden from a version of Landlock on"""
_TCP, _SCOPES = 3, 3
"""bind and connect, since version 4; abstract unix sockets and signals, since version 6"""

_SECCOMP_SET_MODE_FILTER = 1
_SECCOMP_FILTER_FLAG_TSYNC = 1
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_LD, _JEQ, _JGE, _JSET, _RET = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16
"""offsets in struct seccomp_data; arguments have 8 bytes each, the lower half first on both machines"""
_CLONE_THREAD = 0x10000
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_EPERM, _ENOSYS = 1, 38

_MACHINES: Final = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""the column of the table below, and AUDIT_ARCH of the machine"""
_SECCOMP: Final = (317, 277)
_CLONE, _CLONE3, _OPEN, _OPENAT, _OPENAT2 = (56, 220), (435, 435), (2, None), (257, 56), (437, 437)
_FORBIDDEN: Final = (
    # others to speak to
    *((41, 198), (53, 199), (42, 203), (49, 200), (50, 201)),  # socket, socketpair, connect, bind, listen
    # other programs and processes
    *((59, 221), (322, 281), (57, None), (58, None)),  # execve, execveat, fork, vfork
    *((62, 129), (200, 130), (129, 138), (297, 240)),  # kill, tkill, rt_sigqueueinfo, rt_tgsigqueueinfo
    *((434, 434), (424, 424), (438, 438)),  # pidfd_open, pidfd_send_signal, pidfd_getfd
    *((101, 117), (310, 270), (311, 271), (312, 272)),  # ptrace, process_vm_readv, process_vm_writev, kcmp
    # the system
    *((165, 40), (166, 39), (155, 41), (161, 51), (272, 97), (308, 268)),  # mount, umount2, pivot_root, chroot, ...
    *((428, 428), (429, 429), (430, 430), (431, 431), (432, 432), (442, 442)),  # open_tree, move_mount, fsopen, ...
    *((303, 264), (304, 265)),  # name_to_handle_at, open_by_handle_at
    *((321, 280), (298, 241), (323, 282), (425, 425)),  # bpf, perf_event_open, userfaultfd, io_uring_setup
    *((248, 217), (249, 218), (250, 219)),  # add_key, request_key, keyctl
    *((175, 105), (313, 273), (246, 104), (320, 294)),  # init_module, finit_module, kexec_load, kexec_file_load
    # files, where there is no Landlock, and what Landlock does not know
    *((85, None), (87, None), (263, 35), (84, None)),  # creat, unlink, unlinkat, rmdir
    *((82, None), (264, 38), (316, 276)),  # rename, renameat, renameat2
    *((83, None), (258, 34), (133, None), (259, 33)),  # mkdir, mkdirat, mknod, mknodat
    *((86, None), (265, 37), (88, None), (266, 36), (76, 45)),  # link, linkat, symlink, symlinkat, truncate
    *((90, None), (91, 52), (268, 53), (452, 452)),  # chmod, fchmod, fchmodat, fchmodat2
    *((92, None), (93, 55), (94, None), (260, 54)),  # chown, fchown, lchown, fchownat
    *((132, None), (235, None), (261, None), (280, 88)),  # utime, utimes, futimesat, utimensat
    *((188, 5), (189, 6), (190, 7), (197, 14), (198, 15), (199, 16)),  # setxattr, removexattr, and their kin
)
"""system calls that fail with EPERM, by their numbers on x86-64 and arm64"""


def confine(memory: int, seconds: int) -> str:
    """
    Give up everything that reading bytes does not need.

    @param memory: bytes of address space; C{seconds}: of CPU, in all.

    @return: what holds, for the log: C{limits, landlock 7, seccomp}.

    @raise OSError: the limits cannot be set.
    """
    with suppress(OSError):  # no /proc
        Path("/proc/self/oom_score_adj").write_text(OOM_SCORE)
    for limit, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_NOFILE, MOST_FILES),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(limit)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(limit, (most, most))
    libc = ctypes.CDLL(None, use_errno=True)
    for option, value in ((_PR_SET_PDEATHSIG, signal.SIGKILL), (_PR_SET_DUMPABLE, 0), (_PR_SET_NO_NEW_PRIVS, 1)):
        if libc.prctl(option, ctypes.c_ulong(value), *[ctypes.c_ulong(0)] * 3):
            raise OSError(ctypes.get_errno(), f"prctl {option}")
    done = ["limits"]
    if version := _landlock(libc):
        done.append(f"landlock {version}")
    if _seccomp(libc):
        done.append("seccomp")
    return ", ".join(done)


def limit_cpu(seconds: float) -> None:
    """From now on C{seconds} of CPU, then SIGXCPU."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    soft = int(usage.ru_utime + usage.ru_stime + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def readable() -> set[Path]:
    """Python's own files, its libraries', and the system's shared libraries: what imports need, and no secrets."""
    paths = sysconfig.get_paths()
    found = {Path(paths[name]) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    found |= {Path(path) for path in sys.path if path.endswith(("site-packages", "dist-packages", "lib-dynload"))}
    found |= {Path(path) for path in ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/dev/urandom")}
    found |= {Path(__file__).parent.parent, Path("/etc/ld.so.cache")}
    return {path for path in found if path.exists()}


def _landlock(libc: ctypes.CDLL) -> int:
    """Files and TCP; its version if it holds, else 0."""
    version = libc.syscall(_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint(_LANDLOCK_VERSION))
    if version < 1:
        return 0
    access = next(bits for since, bits in reversed(_FS.items()) if version >= since)
    attributes = struct.pack("=Q", access)
    if version >= 4:
        attributes += struct.pack("=Q", _TCP)
    if version >= 6:
        attributes += struct.pack("=Q", _SCOPES)
    ruleset = libc.syscall(_LANDLOCK_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint(0))
    if ruleset < 0:
        return 0
    try:
        for path in readable():
            parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
            try:
                allowed = _READ if path.is_dir() else _READ & ~(1 << 3)
                rule = struct.pack("=Qi", allowed, parent)
                libc.syscall(_LANDLOCK_ADD_RULE, ruleset, _LANDLOCK_PATH_BENEATH, rule, ctypes.c_uint(0))
            finally:
                os.close(parent)
        return version if libc.syscall(_LANDLOCK_RESTRICT_SELF, ruleset, ctypes.c_uint(0)) == 0 else 0
    finally:
        os.close(ruleset)


def _instructions(column: int, arch: int) -> Iterator[tuple[int, int, int, int]]:
    """The filter, as code, jump if true, jump if false, and value (Linux, Documentation/networking/filter)."""
    refuse = (_RET, 0, 0, _ERRNO | _EPERM)
    missing = (_RET, 0, 0, _ERRNO | _ENOSYS)
    yield (_LD, 0, 0, _ARCH)
    yield (_JEQ, 1, 0, arch)
    yield refuse
    yield (_LD, 0, 0, _NUMBER)
    yield (_JGE, 0, 1, 0x40000000)  # the numbers of x32 on x86-64
    yield refuse
    for numbers in _FORBIDDEN:
        if (number := numbers[column]) is not None:
            yield (_JEQ, 0, 1, number)
            yield refuse
    for numbers in (_CLONE3, _OPENAT2):  # their arguments are out of sight; libraries fall back to the older calls
        yield (_JEQ, 0, 1, numbers[column])
        yield missing
    yield (_JEQ, 0, 4, _CLONE[column])  # threads may be made, processes not
    yield (_LD, 0, 0, _ARGUMENTS)
    yield (_JSET, 1, 0, _CLONE_THREAD)
    yield refuse
    yield (_RET, 0, 0, _ALLOW)
    for numbers, argument in ((_OPEN, 1), (_OPENAT, 2)):
        if (number := numbers[column]) is not None:
            yield (_JEQ, 0, 4, number)
            yield (_LD, 0, 0, _ARGUMENTS + 8 * argument)
            yield (_JSET, 0, 1, _WRITING)
            yield refuse
            yield (_RET, 0, 0, _ALLOW)
    yield (_RET, 0, 0, _ALLOW)


def _seccomp(libc: ctypes.CDLL) -> bool:
    """System calls; whether it holds."""
    machine = _MACHINES.get(platform.machine())
    if machine is None or sys.maxsize < 2**32:
        return False
    program = b"".join(struct.pack("=HBBI", *each) for each in _instructions(*machine))
    code = ctypes.create_string_buffer(program, len(program))
    filter_ = struct.pack("@HP", len(program) // 8, ctypes.addressof(code))
    done = libc.syscall(
        _SECCOMP[machine[0]],
        ctypes.c_uint(_SECCOMP_SET_MODE_FILTER),
        ctypes.c_uint(_SECCOMP_FILTER_FLAG_TSYNC),
        filter_,
    )
    return bool(done == 0)

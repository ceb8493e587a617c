"""
The whole pages that a request is seen through, since O_DIRECT moves nothing less.

A read is widened to the pages it touches, and what is wanted of them is shown; a write stays as it is, and one of a
part of a page cannot be direct.
"""

from __future__ import annotations

import os

from sslintercept.aio.buffer import PAGE
from sslintercept.aio.request import Request


def window(part: Request) -> tuple[int, int]:
    """Where a part is in the file for the kernel: a read in whole pages, a write as it is."""
    if part.writes:
        return part.offset, part.length
    start = part.offset - part.offset % PAGE
    return start, -(-(part.offset + part.length) // PAGE) * PAGE - start


def is_part_of_page(part: Request) -> bool:
    """Whether O_DIRECT cannot write it."""
    return part.writes and (part.offset % PAGE != 0 or part.length % PAGE != 0)


def show(head: Request, part: Request) -> None:
    """Put what was moved where the caller looks for it; a cancelled read leaves the caller's memory alone."""
    skip = part.offset - window(part)[0]
    part.result = min(max(part.moved - skip, 0), part.length)
    if part.writes or part.buffer is None or head.cancelled:
        return
    seen = part.buffer.view[skip : skip + part.result]
    if part.memory is None:
        part.data = seen
    else:
        part.memory[: part.result] = seen
        seen.release()


def at_end(fd: int, offset: int) -> bool:
    """Whether a short read that stopped here has reached the end; in the middle of a page nothing else stops it."""
    if offset % PAGE == 0:
        return False
    try:
        return offset >= os.fstat(fd).st_size
    except OSError:
        return True

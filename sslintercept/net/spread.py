"""
Which of several sockets on one port takes a client's connections: always the same one.

Workers share their ports (SO_REUSEPORT). By itself the kernel spreads connections by both addresses and ports, so that
two connections of a client meet two processes. What one knows of a client the other does not: which data connection of
FTP is expected, which TLS sessions can be resumed. A small program in the kernel (SO_ATTACH_REUSEPORT_CBPF) looks at
the client's address alone. Where it names a socket that is not there, since a worker is missing, the kernel spreads as
before.

The program sees the packet behind its TCP header; what lies before is read at offsets from the network header.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from typing import Final

from twisted.logger import Logger

SO_ATTACH_REUSEPORT_CBPF: Final = 51
"""asm-generic/socket.h; the socket module does not have it"""

_log = Logger()

# linux/bpf_common.h and filter.h: a class, and what it does, in one number.
_LOAD_WORD, _LOAD_HALF, _TO_X, _XOR_X = 0x20, 0x28, 0x07, 0xAC
_JUMP, _JUMP_EQUAL, _MULTIPLY, _SHIFT_RIGHT, _MODULO, _RETURN = 0x05, 0x15, 0x24, 0x74, 0x94, 0x16
_PROTOCOL: Final = 0xFFFFF000
"""SKF_AD_OFF + SKF_AD_PROTOCOL"""
_NETWORK: Final = 0xFFF00000
"""SKF_NET_OFF"""
_IPV6: Final = 0x86DD
_GOLDEN: Final = 0x9E3779B1
"""2^32 divided by the golden ratio: addresses that are neighbours come far apart (Knuth)"""


def program(sockets: int) -> tuple[tuple[int, int, int, int], ...]:
    """The program that chooses among so many sockets: operation, jump if true, jump if false, operand."""
    return (
        (_LOAD_HALF, 0, 0, _PROTOCOL),
        (_JUMP_EQUAL, 2, 0, _IPV6),
        (_LOAD_WORD, 0, 0, _NETWORK + 12),  # the source of IPv4
        (_JUMP, 0, 0, 10),
        (_LOAD_WORD, 0, 0, _NETWORK + 8),  # the four words of the source of IPv6
        (_TO_X, 0, 0, 0),
        (_LOAD_WORD, 0, 0, _NETWORK + 12),
        (_XOR_X, 0, 0, 0),
        (_TO_X, 0, 0, 0),
        (_LOAD_WORD, 0, 0, _NETWORK + 16),
        (_XOR_X, 0, 0, 0),
        (_TO_X, 0, 0, 0),
        (_LOAD_WORD, 0, 0, _NETWORK + 20),
        (_XOR_X, 0, 0, 0),
        (_MULTIPLY, 0, 0, _GOLDEN),
        (_SHIFT_RIGHT, 0, 0, 16),
        (_MODULO, 0, 0, sockets),
        (_RETURN, 0, 0, 0),
    )


def by_client(sock: socket.socket, sockets: int) -> bool:
    """
    Let the client's address decide which of C{sockets} on this port takes a connection.

    It holds for all of them, whichever is told; a kernel that does not know it spreads as before, and a line says so.

    @param sock: bound, with SO_REUSEPORT.
    @return: whether it holds.
    """
    code = b"".join(struct.pack("=HBBI", *line) for line in program(sockets))
    held = ctypes.create_string_buffer(code, len(code))
    lines = struct.pack("HL", len(code) // 8, ctypes.addressof(held))
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, lines)
    except OSError as error:
        _log.warn("clients are not kept with one worker each ({why})", why=error.strerror)
        return False
    return True

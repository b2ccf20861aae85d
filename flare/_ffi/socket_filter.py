"""A filter on a socket: what the kernel lets through to it (SO_ATTACH_FILTER, Linux)."""

from __future__ import annotations

import ctypes
import socket
import struct
import sys
from typing import Final

__all__ = ["drop_syns"]

_SO_ATTACH_FILTER: Final = 26
_INSTRUCTION: Final = struct.Struct("HBBI")
# It sees the packet from the TCP header on, whose flags are at 13.
_DROP_SYNS: Final = b"".join(
    _INSTRUCTION.pack(*instruction)
    for instruction in (
        (0x30, 0, 0, 13),  # load a byte
        (0x54, 0, 0, 0x12),  # keep SYN and ACK
        (0x15, 0, 1, 0x02),  # is it SYN alone?
        (0x06, 0, 0, 0),  # drop
        (0x06, 0, 0, 0xFFFF_FFFF),  # let through whole
    )
)


def drop_syns(sock: socket.socket) -> bool:
    """Have the kernel drop what would begin a connection with *sock*; whether it does.

    A listening TCP socket begins no handshake from then on, and refuses none either; those that
    have begun can be completed. It lasts as long as the socket, whoever else has a descriptor of
    it. False off Linux, and where the kernel will not.
    """
    if sys.platform != "linux":
        return False
    code = ctypes.create_string_buffer(_DROP_SYNS, len(_DROP_SYNS))
    program = struct.pack("HP", len(_DROP_SYNS) // _INSTRUCTION.size, ctypes.addressof(code))
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
    except OSError:
        return False
    return True

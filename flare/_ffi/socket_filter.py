"""A filter on a socket: what the kernel lets through to it (SO_ATTACH_FILTER, Linux)."""

from __future__ import annotations

import ctypes
import socket
import struct
import sys
from typing import Final

__all__ = ["drop_all"]

_SO_ATTACH_FILTER: Final = 26
_RETURN_NOTHING: Final = struct.pack("HBBI", 0x06, 0, 0, 0)  # BPF_RET | BPF_K, keep 0 bytes


def drop_all(sock: socket.socket) -> bool:
    """Have the kernel drop every packet for *sock* before it is looked at; whether it does.

    A listening socket completes no connection from then on, and refuses none either. It lasts
    as long as the socket, whoever else has a descriptor of it. False off Linux, and where the
    kernel will not.
    """
    if sys.platform != "linux":
        return False
    code = ctypes.create_string_buffer(_RETURN_NOTHING, len(_RETURN_NOTHING))
    program = struct.pack("HP", 1, ctypes.addressof(code))
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
    except OSError:
        return False
    return True

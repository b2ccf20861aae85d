"""What the kernel tells of connections it has yet to complete (NETLINK_SOCK_DIAG, Linux)."""

from __future__ import annotations

import socket
import struct
import sys
from typing import Final

__all__ = ["has_half_open"]

_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_REQUEST_DUMP: Final = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_TCP_SYN_RECV: Final = 3
_HEADER: Final = struct.Struct("=IHHII")  # length, type, flags, sequence number, port
_QUERY: Final = struct.Struct("=BBBxI")  # family, protocol, extensions, states; then the socket's
_PORTS: Final = struct.Struct("!HH")  # ports, and no addresses
_TIMEOUT_SECONDS: Final = 0.1


def has_half_open(family: int, port: int) -> bool:
    """Whether a handshake with a listener of *family* at the TCP port *port* of this machine has
    begun and is not complete. No where the system does not tell."""
    if not sys.platform.startswith("linux"):
        return False
    query = _QUERY.pack(family, socket.IPPROTO_TCP, 0, 1 << _TCP_SYN_RECV)
    query += _PORTS.pack(port, 0) + bytes(36) + b"\xff" * 8  # of any interface, with any cookie
    header = _HEADER.pack(_HEADER.size + len(query), _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 1, 0)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as sock:
            sock.settimeout(_TIMEOUT_SECONDS)
            sock.send(header + query)
            answer = sock.recv(65536)
    except OSError:
        return False
    # The first message is a socket, the end, or an error.
    kind: int = _HEADER.unpack_from(answer)[1]
    return kind == _SOCK_DIAG_BY_FAMILY

"""Clients in the middle of a handshake."""

from __future__ import annotations

import socket
import struct

import pytest

from flare._ffi import socket_filter

DROP_ALL = struct.pack("HBBI", 0x06, 0, 0, 0)
SO_DETACH_FILTER = 27


def begin_to_connect(client: socket.socket, address: tuple[str, int]) -> None:
    """Have *client* ask for a connection, deaf to the answer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket_filter, "_DROP_SYNS", DROP_ALL)
        assert socket_filter.drop_syns(client)
    client.setblocking(False)
    client.connect_ex(address)


def hear_again(client: socket.socket) -> None:
    """Let *client* hear what is said again, a second after the first time."""
    client.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)

"""Listening sockets for workers: one each, or one for all of them."""

from __future__ import annotations

import socket
import sys

from flare.errors import map_oserror
from flare.net import IpAddr, RawSocket, SocketAddr

__all__ = ["bind_reuseport", "bind_shared", "bind_workers"]

DEFAULT_BACKLOG = 1024
_ANY_V6 = IpAddr.parse("::")


def bind_shared(addr: SocketAddr, backlog: int = DEFAULT_BACKLOG) -> RawSocket:
    """A listening TCP socket that does not block, for all workers; each watches it by
    ``Reactor.register_exclusive``. Raises ``AddressInUse``, ``NetworkError``."""
    return _bind(addr, backlog, before=False, after=False)


def bind_reuseport(addr: SocketAddr, backlog: int = DEFAULT_BACKLOG) -> RawSocket:
    """A listening TCP socket that does not block, for one worker: others at the same address, of
    the same user and all bound like this, share its port, and the system spreads connections over
    them. Port 0 is another port for each. Raises ``AddressInUse``, ``NetworkError``."""
    return _bind(addr, backlog, before=True, after=True)


def bind_workers(
    addr: SocketAddr, count: int, separate: bool, backlog: int = DEFAULT_BACKLOG
) -> list[RawSocket]:
    """The listening sockets of *count* workers at one port: one each where they are to be
    *separate*, else one for all. A port that somebody else has is found busy. All or none."""
    separate = separate and count > 1 and sys.platform == "linux"
    # Bound without the option, or it would join a server that has the port; given it before
    # `listen`, so that the others may join.
    listeners = [_bind(addr, backlog, before=False, after=separate)]
    try:
        while separate and len(listeners) < count:
            listeners.append(bind_reuseport(listeners[0].local_addr(), backlog))
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def _bind(addr: SocketAddr, backlog: int, *, before: bool, after: bool) -> RawSocket:
    raw = RawSocket(socket.AF_INET6 if addr.ip.is_v6() else socket.AF_INET, socket.SOCK_STREAM)
    try:
        raw.set_reuse_addr(True)
        if before:
            raw.set_reuse_port(True)
        if addr.ip == _ANY_V6:
            raw.set_v6only(False)
        try:
            raw.sock.bind(addr.to_sockaddr())
            if after and not before:
                raw.set_reuse_port(True)
            raw.sock.listen(backlog)
        except OSError as error:
            raise map_oserror(error, f"bind {addr}", addr) from error
        raw.set_nonblocking(True)
    except BaseException:
        raw.close()
        raise
    return raw

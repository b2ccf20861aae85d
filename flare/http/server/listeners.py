"""The listening sockets of a server: how they come to be, and which of them a worker has.

On Linux each worker has a TCP socket of its own at each address (SO_REUSEPORT), and the kernel
spreads connections over them. With ``FLARE_REUSEPORT_WORKERS=0``, elsewhere, for Unix sockets, and
for sockets that were bound by somebody else, all share one, of which one idle worker is woken for
each connection (EPOLLEXCLUSIVE).

The server owns them all for as long as it lives. What waits in the queue of a socket is reset when
its last descriptor closes; so a worker that is replaced, or dies, leaves its queue behind, and its
successor takes it over.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from flare._ffi.sock_diag import has_half_open
from flare._ffi.socket_filter import drop_syns
from flare.errors import ConnectionRefused, NetworkError, ValidationError, map_oserror
from flare.net import SocketAddr
from flare.tcp import TcpListener
from flare.uds import UnixListener, UnixStream

if TYPE_CHECKING:
    from flare.http.server.tls import ServerTls

__all__ = [
    "LOST",
    "SHORTAGES",
    "Listener",
    "Place",
    "WorkerListeners",
    "adopt_fds",
    "bind_all",
    "bind_unix",
    "inherited_fds",
    "is_being_joined",
    "name_of",
    "refuse_newcomers",
]

Listener = TcpListener | UnixListener

SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""Errors of ``accept`` that another one would have too, for now."""

LOST = frozenset(
    getattr(errno, name)
    for name in (
        "ECONNABORTED ECONNRESET EPROTO ENOPROTOOPT EOPNOTSUPP ENETDOWN ENETUNREACH ENONET "
        "EHOSTDOWN EHOSTUNREACH EPERM"
    ).split()
    if hasattr(errno, name)
)
"""Those of the connection that was first in the queue, or of its way: accept(2) hands them on."""

_FIRST_FD = 3  # of those that a service manager passes on; sd_listen_fds(3)
_PROBE_MS = 250


class Place(NamedTuple):
    """Where a worker listens. *shared*: other workers listen at the same socket."""

    listener: Listener
    shared: bool


class WorkerListeners:
    """What each of *count* workers listens at.

    *firsts* are bound, and bound without SO_REUSEPORT: with it a port that another server of the
    same user has would not be found busy. They get the option now, since Linux asks all sockets
    of a port for it, not when they were bound, but when another is. *own* tells whether this
    server bound them itself; only then are there others beside them.

    *tls* is what connections begin with.

    Raises ``NetworkError`` where a socket cannot be bound; then those bound here are closed.
    """

    def __init__(
        self,
        firsts: Sequence[Listener],
        count: int,
        *,
        backlog: int,
        own: bool,
        tls: ServerTls | None = None,
    ) -> None:
        self.own = own
        self.tls = tls
        self._count = count
        # For each address one socket, or one for each worker.
        self._rows: list[list[Listener]] = [[first] for first in firsts]
        if count == 1 or not (own and _may_be_separate()):
            return
        try:
            for row in self._rows:
                first = row[0]
                if isinstance(first, TcpListener):
                    _allow_others(first)
                    while len(row) < count:
                        row.append(
                            TcpListener.bind_with_options(
                                first.local_addr(), backlog, reuse_port=True
                            )
                        )
        except NetworkError:
            for row in self._rows:
                for listener in row[1:]:
                    listener.close()
            raise

    def of_worker(self, number: int) -> list[Place]:
        """What worker *number*, counted from 0, listens at."""
        return [
            Place(row[0], self._count > 1) if len(row) == 1 else Place(row[number], False)
            for row in self._rows
        ]

    def close_all_but(self, number: int) -> None:
        """Close, in a forked worker, what belongs to the others."""
        mine = [place.listener for place in self.of_worker(number)]
        for row in self._rows:
            for listener in row:
                if listener not in mine:
                    listener.close()

    def close(self) -> None:
        """Close this process's descriptors of them all; idempotent. A process that was forked
        meanwhile has its own."""
        for row in self._rows:
            for listener in row:
                listener.close()


def _may_be_separate() -> bool:
    # Elsewhere the option does not balance: the last one bound gets everything.
    return sys.platform == "linux" and os.environ.get("FLARE_REUSEPORT_WORKERS") != "0"


def _allow_others(listener: TcpListener) -> None:
    """Let sockets bound from now on share the port of *listener*."""
    try:
        with socket.socket(fileno=os.dup(listener.fileno())) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except OSError as error:
        raise map_oserror(error, "listen", listener.local_addr()) from error


def refuse_newcomers(sock: socket.socket) -> None:
    """Let nobody begin to connect to *sock* any more; who waits in its queue, or is about to, can
    still be accepted. It lasts, for all who have a descriptor of it. Without this, one that comes
    between the last ``accept`` and the close would be told it is served, and then be reset."""
    if sock.family != socket.AF_UNIX:
        drop_syns(sock)
        return
    try:
        sock.shutdown(socket.SHUT_RD)
    except OSError:  # not where the system has no such thing for listeners
        pass


def is_being_joined(sock: socket.socket) -> bool:
    """Whether somebody has begun to connect to the port of *sock* and may take it for done, but
    is not in the queue yet: the last packet of the handshake is on its way."""
    return sock.family != socket.AF_UNIX and has_half_open(sock.family, sock.getsockname()[1])


def name_of(listener: Listener) -> str:
    """Where it listens, as logs and ``repr`` have it."""
    if isinstance(listener, UnixListener):
        return f"unix:{listener.local_path()}"
    return str(listener.local_addr())


def bind_all(
    addrs: Iterable[SocketAddr | str | os.PathLike[str]], backlog: int, mode: int | None = None
) -> list[Listener]:
    """Listen at all of *addrs*, of which paths are Unix sockets, with the permissions *mode*; or
    at none: where one fails, the others are closed."""
    listeners: list[Listener] = []
    try:
        for addr in addrs:
            if isinstance(addr, SocketAddr):
                listeners.append(TcpListener.bind_with_options(addr, backlog))
            else:
                listeners.append(bind_unix(addr, backlog, mode))
        if not listeners:
            raise ValidationError("addrs", "at least one address is needed")
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def bind_unix(path: str | os.PathLike[str], backlog: int, mode: int | None = None) -> UnixListener:
    """Listen at *path*. A socket there that nobody listens at is left over from a process that
    was killed, and replaced; any other file raises ``AddressInUse``."""
    return UnixListener.bind_with_options(
        path, backlog, unlink_existing=_is_left_over(path), mode=mode
    )


def _is_left_over(path: str | os.PathLike[str]) -> bool:
    """Whether nobody answers at *path*. Where that cannot be told, somebody does."""
    try:
        UnixStream.connect(path, _PROBE_MS).close()
    except ConnectionRefused:
        return True
    except NetworkError:
        pass
    return False


def adopt_fds(fds: Iterable[int]) -> list[Listener]:
    """Own the listening stream sockets *fds*. Raises ``ValidationError`` for one that is
    something else or comes twice, and ``NetworkError`` for one that is not open; then all stay
    the caller's."""
    wanted = list(fds)
    if not wanted or min(wanted) < 0:
        raise ValidationError("fds", f"expected descriptors, got {wanted}")
    if len(set(wanted)) < len(wanted):
        raise ValidationError("fds", f"one comes twice in {wanted}")
    kinds = [_kind_of(fd) for fd in wanted]
    listeners: list[Listener] = []
    for fd, kind in zip(wanted, kinds, strict=True):
        listeners.append(kind.from_fd(fd))
        os.set_inheritable(fd, False)
    return listeners


def _kind_of(fd: int) -> type[TcpListener] | type[UnixListener]:
    try:
        sock = socket.socket(fileno=fd)
    except OSError as error:
        raise map_oserror(error, f"descriptor {fd}") from error
    try:
        family, kind = sock.family, sock.type
        listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    finally:
        sock.detach()
    if kind != socket.SOCK_STREAM or not listens:
        raise ValidationError("fds", f"{fd} is no stream socket that listens")
    if family == socket.AF_UNIX:
        return UnixListener
    if family in (socket.AF_INET, socket.AF_INET6):
        return TcpListener
    raise ValidationError("fds", f"{fd} is neither a TCP nor a Unix socket")


def inherited_fds() -> list[int]:
    """The descriptors that a service manager has opened for this process: ``LISTEN_FDS`` of them,
    from 3 on, where ``LISTEN_PID`` is this process; else none. See sd_listen_fds(3).

    Takes the variables out of the environment, so that no child takes itself for meant. Raises
    ``ValidationError`` where they make no sense.
    """
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    count = os.environ.get("LISTEN_FDS", "")
    for name in ("LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        os.environ.pop(name, None)
    if not (count.isascii() and count.isdigit() and len(count) <= 6):
        raise ValidationError("LISTEN_FDS", f"must be a number, got {count!r}")
    return list(range(_FIRST_FD, _FIRST_FD + int(count)))

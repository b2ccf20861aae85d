"""The listening sockets of a server with several workers.

On Linux each worker has a socket of its own at the same address (SO_REUSEPORT), and the kernel
spreads connections over them. With ``FLARE_REUSEPORT_WORKERS=0``, elsewhere, and for sockets that
were bound by somebody else, all share one, of which one idle worker is woken for each connection
(EPOLLEXCLUSIVE).

The server owns them all for as long as it lives. What waits in the queue of a socket is reset when
its last descriptor closes; so a worker that is replaced, or dies, leaves its queue behind, and its
successor takes it over.
"""

from __future__ import annotations

import os
import socket
import sys

from flare.errors import NetworkError, map_oserror
from flare.tcp import TcpListener

__all__ = ["WorkerListeners"]


class WorkerListeners:
    """What each of *count* workers listens at.

    *first* is bound, and bound without SO_REUSEPORT: with it a port that another server of the
    same user has would not be found busy. It gets the option now, since Linux asks all sockets of
    a port for it, not when they were bound, but when another is. *own* tells whether this server
    bound *first* itself; only then are there others beside it.

    Raises ``NetworkError`` where a socket cannot be bound; then those bound here are closed.
    """

    def __init__(self, first: TcpListener, count: int, *, backlog: int, own: bool) -> None:
        self._all = [first]
        self.own = own
        self.shared = count > 1 and not (own and _may_be_separate())
        """Whether all workers listen at one socket."""
        if self.shared or count == 1:
            return
        try:
            _allow_others(first)
            for _ in range(count - 1):
                self._all.append(
                    TcpListener.bind_with_options(first.local_addr(), backlog, reuse_port=True)
                )
        except NetworkError:
            for listener in self._all[1:]:
                listener.close()
            raise

    def of_worker(self, number: int) -> TcpListener:
        """What worker *number*, counted from 0, listens at."""
        return self._all[0 if self.shared else number]

    def close_all_but(self, number: int) -> None:
        """Close, in a forked worker, what belongs to the others."""
        mine = self.of_worker(number)
        for listener in self._all:
            if listener is not mine:
                listener.close()

    def close(self) -> None:
        """Close this process's descriptors of them all; idempotent. A process that was forked
        meanwhile has its own."""
        for listener in self._all:
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

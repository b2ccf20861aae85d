"""Which reactor a server runs on: the system's usual one, or io_uring.

Asked for by ``ServerConfig.use_bufring`` or ``FLARE_BUFRING_HANDLER=1``; not used where
``FLARE_DISABLE_IO_URING`` is set, whoever asks.
"""

from __future__ import annotations

import os
import socket
import warnings
from dataclasses import replace
from typing import cast

from flare.http.server.config import ServerConfig
from flare.runtime.reactor import Reactor

__all__ = ["new_listener", "new_reactor", "settle"]

_NO = frozenset({"", "0", "false", "FALSE", "no"})


def settle(config: ServerConfig) -> ServerConfig:
    """*config* with ``use_bufring`` decided, for this server from now on.

    Where it is asked for and cannot be had there is one ``RuntimeWarning``.
    """
    wanted = config.use_bufring
    if wanted is None:
        wanted = os.environ.get("FLARE_BUFRING_HANDLER") == "1"
    if wanted and os.environ.get("FLARE_DISABLE_IO_URING", "") not in _NO:
        wanted = False
    if wanted:
        from flare.runtime.uring import is_bufring_available

        wanted = is_bufring_available()
        if not wanted:
            warnings.warn(
                "io_uring with provided buffers (Linux 6.0) cannot be had here; serving without it",
                RuntimeWarning,
                stacklevel=2,
            )
    return replace(config, use_bufring=wanted)


def new_reactor(config: ServerConfig) -> Reactor:
    """The reactor for one worker. ``NetworkError`` where the system has none to give."""
    if config.use_bufring:
        from flare.runtime.uring import UringReactor

        return UringReactor(write_timeout_ms=config.write_timeout_ms)
    return Reactor()


def new_listener(
    reactor: Reactor, sock: socket.socket, config: ServerConfig, *, shared: bool
) -> socket.socket:
    """What the worker accepts from: *sock*, or what stands for it with *reactor*."""
    if not config.use_bufring:
        return sock
    from flare.runtime.uring import UringReactor

    assert isinstance(reactor, UringReactor)
    # Accepting ahead would take what another worker is free for, or more than may be open.
    listener = reactor.listener(sock, lazy=shared or config.max_connections > 0)
    return cast("socket.socket", listener)

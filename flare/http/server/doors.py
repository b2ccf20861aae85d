"""Where a worker's connections come in: its listeners, from the first look to their end in a drain.

Whoever the kernel has completed a connection with, or is about to, was told it is served: a drain
accepts them all before it closes.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from flare.errors import map_oserror
from flare.http.server.backend import new_listener
from flare.http.server.listeners import (
    LOST,
    SHORTAGES,
    Place,
    is_being_joined,
    refuse_newcomers,
)
from flare.http.server.logs import error_log
from flare.runtime.reactor import INTEREST_READ

if TYPE_CHECKING:
    from flare.http.server.worker import Worker

__all__ = ["DOORS_TOKEN", "Doors"]

DOORS_TOKEN: Final = 0
"""The timer's; never a connection's, nor a listener's."""

_ACCEPTS = 64  # connections taken for one readiness of a listener
_PAUSE_MS = 100  # what a shortage of descriptors pauses accepting for
_HANDSHAKE_MS = 1500  # what one that has begun gets at a drain: a lost packet is sent again in 1 s
_LOOK_MS = 10


class _Listener(socket.socket):
    """Accepts without finding out each time what kind of socket it is."""

    def __init__(self, fileno: int) -> None:
        super().__init__(fileno=fileno)
        self._kind = int(self.family), int(self.type), self.proto

    def accept(self) -> tuple[socket.socket, Any]:
        number, address = self._accept()  # type: ignore[attr-defined]
        return socket.socket(*self._kind, fileno=number), address


class Doors:
    """The listeners of *worker*, whose leader alone uses them. *own*: nobody will listen there
    after this server."""

    def __init__(self, worker: Worker, *, own: bool) -> None:
        self._worker = worker
        self._own = own
        self._shared: set[int] = set()  # the tokens of those where others listen, too
        self._open = False
        self._draining = False
        self._handshakes_end = 0
        self._closed: Callable[[], None] | None = None
        self.listeners: dict[int, socket.socket] = {}
        """By token; none once closed."""

    def add(self, places: Iterable[Place]) -> None:
        """Listen at *places*, by descriptors of its own."""
        worker = self._worker
        for listener, shared in places:
            # The listener may be closed before the worker is.
            try:
                sock = _Listener(os.dup(listener.fileno()))
            except OSError as error:
                raise map_oserror(error, "listen") from error
            sock.setblocking(False)
            token = worker.new_token()
            self.listeners[token] = new_listener(worker.reactor, sock, worker.config, shared=shared)
            if shared:
                self._shared.add(token)

    def open(self) -> None:
        """Accept; not at a drain any more. Idempotent."""
        if self._open or self._draining:
            return
        self._open = True
        reactor = self._worker.reactor
        for token, sock in self.listeners.items():
            if token in self._shared:
                reactor.register_exclusive(sock, token, INTEREST_READ)
            else:
                reactor.register(sock, token, INTEREST_READ)

    def _shut(self) -> None:
        if self._open:
            self._open = False
            for sock in self.listeners.values():
                self._worker.reactor.unregister(sock)

    def accept(self, token: int) -> bool:
        """Take the connections that wait, a turn's worth; never more than may be open.

        Whether more may be waiting.
        """
        if not self._open:  # shut by the one before in the same batch
            return False
        sock, worker = self.listeners[token], self._worker
        for _ in range(_ACCEPTS):
            if not worker.has_room:
                self._shut()
                return False
            try:
                accepted, address = sock.accept()
            except (BlockingIOError, InterruptedError):
                return False
            except OSError as error:
                if error.errno in LOST:
                    continue
                if error.errno not in SHORTAGES:
                    raise map_oserror(error, "accept") from error
                # What waits would be reported over and over: look away for a while.
                error_log.error("cannot accept for now: %s", error)
                self._shut()
                self._come_back_in(_PAUSE_MS)
                return False
            worker.adopt(accepted, address)
        return True

    def _come_back_in(self, delay_ms: int) -> None:
        worker = self._worker
        worker.wheel.schedule(worker.now_ms - worker.wheel.now_ms() + delay_ms, DOORS_TOKEN)

    def on_timer(self) -> None:
        """Go on with what was put off."""
        if self._draining:
            self._close_in_time()
        else:
            self.open()

    # -- the end ------------------------------------------------------------------------

    def empty(self, *, leaving: bool) -> None:
        """Take all who wait, and let nobody else come. A successor, where the worker is only
        *leaving*, takes them, but not those that were accepted ahead."""
        if not self._open:
            return
        for token, sock in list(self.listeners.items()):
            ahead = self._worker.reactor.stop_accepting(sock)
            if leaving and not ahead:
                continue
            if self._own and not leaving:
                refuse_newcomers(sock)
                self._handshakes_end = self._worker.now_ms + _HANDSHAKE_MS
            while self.accept(token):
                pass

    def drain(self, closed: Callable[[], None]) -> None:
        """Close, once nobody is in the middle of a handshake; *closed* is called then."""
        self._draining = True
        self._closed = closed
        self._close_in_time()

    def _close_in_time(self) -> None:
        if self._open and self._handshakes_end:
            listeners = self.listeners
            awaited = self._worker.now_ms < self._handshakes_end and any(
                map(is_being_joined, listeners.values())
            )
            for token in list(listeners):
                while self.accept(token):
                    pass
            if awaited:
                self._come_back_in(_LOOK_MS)
                return
        self.close()

    def close(self) -> None:
        """Close at once. Idempotent."""
        self._draining = True
        try:
            self._shut()
        finally:
            for sock in self.listeners.values():
                sock.close()
            self.listeners.clear()
            closed, self._closed = self._closed, None
            if closed is not None:
                closed()

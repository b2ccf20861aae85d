"""Connections kept for the next request, and the bound on how many there are.

Every connection of a client has a *slot*, from before it is dialled until it is closed; idle ones
hold theirs. What to do is decided under one lock, and all that can wait (dialling, closing, looking
whether a connection is still alive) happens outside it.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from queue import SimpleQueue
from time import monotonic

from flare.errors import NetworkError, ValidationError
from flare.http.client.connection import H1Connection
from flare.http.client.route import Route
from flare.http.client.timeouts import Clock

__all__ = ["ConnectionPool", "Dial"]

# How often a waiting call looks for connections whose download was collected unclosed. Nothing can
# wake it for those: a collector may run at any place, this lock's holders included.
_ORPHAN_LOOK_SECONDS = 0.25

Dial = Callable[[Route, str, Clock], H1Connection]


class ConnectionPool:
    """Lends connections, the most recently used first. Safe from any thread.

    Idle ones are kept: *max_idle_per_host* for an origin (0: none), *max_idle_total* in all (0: no
    such cap), each for *idle_timeout_ms* (0: for ever). At most *max_connections* are open (0: no
    cap); past that, an idle one of another origin makes room, and otherwise ``acquire`` waits. A
    forked child begins with an empty pool; the parent's connections stay the parent's.
    """

    def __init__(
        self,
        dial: Dial,
        *,
        max_idle_per_host: int,
        max_idle_total: int,
        idle_timeout_ms: int,
        max_connections: int,
    ) -> None:
        self._dial = dial
        self.configure(max_idle_per_host, max_idle_total, idle_timeout_ms)
        self._max_connections = _checked("max_connections", max_connections)
        self._closed = False
        self._generation = 0
        # Connections of calls that were dropped without an end; see discard_later.
        self._orphans: SimpleQueue[H1Connection] = SimpleQueue()
        self._begin()
        _pools.add(self)

    def configure(self, max_idle_per_host: int, max_idle_total: int, idle_timeout_ms: int) -> None:
        """Change what is kept; holds for connections given back from now on."""
        self._max_idle_per_host = _checked("max_idle_per_host", max_idle_per_host)
        self._max_idle_total = _checked("max_idle_total", max_idle_total)
        self._idle_seconds = _checked("idle_timeout_ms", idle_timeout_ms) / 1000

    def _begin(self) -> None:
        self._freed = threading.Condition(threading.Lock())  # guards all below
        self._idle: dict[Route, list[H1Connection]] = {}
        self._idle_count = 0
        self._active = 0
        self._waiting = 0
        self._next_sweep = 0.0

    def acquire(
        self, route: Route, peer: str, clock: Clock, *, fresh: bool = False
    ) -> H1Connection:
        """A connection on *route*, kept or new (*fresh*: new in any case), to be given back by
        ``release`` or ``discard``.

        Blocks while all connections are in use, and while dialling. Raises ``CallTimeout`` with
        phase ``"pool"``, whatever dialling raises, and ``NetworkError`` after ``close``.
        """
        while True:
            doomed: list[H1Connection] = []
            try:
                connection = self._take(route, peer, clock, fresh, doomed)
            finally:
                for each in doomed:
                    each.close()
            if connection is None:
                return self._dialled(route, peer, clock)
            try:
                stale = connection.is_stale()
            except BaseException:
                self.discard(connection)
                raise
            if not stale:
                return connection
            self.discard(connection)

    def _take(
        self, route: Route, peer: str, clock: Clock, fresh: bool, doomed: list[H1Connection]
    ) -> H1Connection | None:
        """A kept connection, or ``None`` for a slot to dial in; what to close goes to *doomed*."""
        wait_until: float | None = None
        with self._freed:
            while True:
                if self._closed:
                    raise NetworkError("this HttpClient is closed")
                if not self._orphans.empty():
                    self._collect_orphans()
                moment = monotonic()
                if self._idle_count and moment >= self._next_sweep:
                    self._sweep(moment, doomed)
                stack = None if fresh else self._idle.get(route)
                if stack:
                    connection = stack.pop()
                    if not stack:
                        del self._idle[route]
                    self._idle_count -= 1
                    if not self._expired(connection, moment):
                        self._active += 1
                        return connection
                    doomed.append(connection)
                    continue
                cap = self._max_connections
                if not cap or self._active + self._idle_count < cap:
                    self._active += 1
                    return None
                if self._idle_count:
                    doomed.append(self._pop_oldest())
                    self._active += 1
                    return None
                if wait_until is None:
                    limit = clock.limits.pool
                    want = clock.wait_ms(limit, "waiting for a connection", peer)
                    wait_until = moment + want / 1000 if want else float("inf")
                elif moment >= wait_until:
                    doing = f"waiting for one of {cap} connections"
                    raise clock.wait_error("pool", limit, want, peer, doing)
                self._wait(min(wait_until - moment, _ORPHAN_LOOK_SECONDS))

    def _wait(self, seconds: float) -> None:
        """Wait until something may have become free; the lock is held."""
        self._waiting += 1
        try:
            self._freed.wait(seconds)
        except BaseException:
            self._freed.notify()  # the wake-up that was for us is for another one now
            raise
        finally:
            self._waiting -= 1

    def _dialled(self, route: Route, peer: str, clock: Clock) -> H1Connection:
        generation = self._generation
        try:
            connection = self._dial(route, peer, clock)
        except BaseException:
            self._free_slot(generation)
            raise
        connection.generation = generation
        return connection

    def release(self, route: Route, connection: H1Connection) -> None:
        """Give a connection back after an exchange: kept where it is fit and there is room."""
        if not connection.reusable:
            self.discard(connection)
            return
        doomed = None
        with self._freed:
            if connection.generation != self._generation:
                doomed = connection
            else:
                self._active -= 1
                if self._closed or not self._max_idle_per_host:
                    doomed = connection
                else:
                    connection.idle_since = monotonic()
                    stack = self._idle.setdefault(route, [])
                    if len(stack) >= self._max_idle_per_host:
                        doomed = stack.pop(0)
                        self._idle_count -= 1
                    elif self._max_idle_total and self._idle_count >= self._max_idle_total:
                        doomed = self._pop_oldest()
                        stack = self._idle.setdefault(route, stack)
                    stack.append(connection)
                    self._idle_count += 1
                if self._waiting:
                    self._freed.notify()
        if doomed is not None:
            doomed.close()

    def discard(self, connection: H1Connection) -> None:
        """Close a connection and free its slot."""
        try:
            connection.close()
        finally:
            self._free_slot(connection.generation)

    def discard_later(self, connection: H1Connection) -> None:
        """``discard`` for a finaliser, which may not take a lock."""
        connection.close()
        self._orphans.put(connection)

    def _free_slot(self, generation: int) -> None:
        with self._freed:
            if generation == self._generation:
                self._active -= 1
                if self._waiting:
                    self._freed.notify()

    def _collect_orphans(self) -> None:
        """Free the slots of orphans; the lock is held."""
        while not self._orphans.empty():
            if self._orphans.get().generation == self._generation:
                self._active -= 1

    def _expired(self, connection: H1Connection, moment: float) -> bool:
        return bool(self._idle_seconds) and moment - connection.idle_since > self._idle_seconds

    def _sweep(self, moment: float, doomed: list[H1Connection]) -> None:
        """Take out what is too old, of every origin, now and then; the lock is held."""
        self._next_sweep = moment + max(1.0, self._idle_seconds / 4)
        for route, stack in list(self._idle.items()):
            kept = [each for each in stack if not self._expired(each, moment)]
            if len(kept) < len(stack):
                doomed += [each for each in stack if each not in kept]
                self._idle_count -= len(stack) - len(kept)
                if kept:
                    self._idle[route] = kept
                else:
                    del self._idle[route]

    def _pop_oldest(self) -> H1Connection:
        """Take out the connection that was idle longest; the lock is held, there is one."""
        route = min(
            (route for route, stack in self._idle.items() if stack),
            key=lambda route: self._idle[route][0].idle_since,
        )
        stack = self._idle[route]
        connection = stack.pop(0)
        if not stack:
            del self._idle[route]
        self._idle_count -= 1
        return connection

    def close(self) -> None:
        """Close idle connections and refuse new calls; calls under way may finish. Idempotent."""
        with self._freed:
            self._closed = True
            doomed = [each for stack in self._idle.values() for each in stack]
            self._idle.clear()
            self._idle_count = 0
            self._freed.notify_all()
        for each in doomed:
            each.close()

    def idle_count(self) -> int:
        """How many idle connections are kept."""
        return self._idle_count

    def counts(self) -> tuple[int, int, int]:
        """How many connections are in use and idle, and how many calls wait for one."""
        with self._freed:
            self._collect_orphans()
            return self._active, self._idle_count, self._waiting

    def _forget_in_child(self) -> None:
        """After a fork, in the child: closing a descriptor leaves the parent's connection alone,
        and the lock may have been held by a thread that is not here."""
        inherited = [each for stack in self._idle.values() for each in stack]
        self._generation += 1
        self._orphans = SimpleQueue()
        self._begin()
        for each in inherited:
            each.forget()

    def __repr__(self) -> str:
        active, idle, waiting = self.counts()
        state = " closed" if self._closed else ""
        return f"<ConnectionPool active={active} idle={idle} waiting={waiting}{state}>"


def _checked(name: str, count: int) -> int:
    if count < 0:
        raise ValidationError(name, f"must be >= 0, got {count}")
    return count


_pools: weakref.WeakSet[ConnectionPool] = weakref.WeakSet()


def _forget_all_in_child() -> None:
    for pool in list(_pools):
        pool._forget_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all_in_child)

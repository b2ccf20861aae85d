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
from queue import Empty, SimpleQueue
from time import monotonic

from flare.errors import NetworkError, ValidationError
from flare.http.client.exchange import Connection, Exchange
from flare.http.client.route import Route
from flare.http.client.timeouts import Clock

__all__ = ["ConnectionPool", "Dial"]

# How often a waiting call looks for connections whose download was collected unclosed. Nothing can
# wake it for those: a collector may run at any place, this lock's holders included.
_ORPHAN_LOOK_SECONDS = 0.25

_MAX_PLAIN_ROUTES = 512


Dial = Callable[[Route, str, Clock], Connection]


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
        # Connections of calls that were dropped without an end; see release_later.
        self._orphans: SimpleQueue[tuple[Route, Connection, Exchange]] = SimpleQueue()
        self._begin()
        _pools.add(self)

    def configure(self, max_idle_per_host: int, max_idle_total: int, idle_timeout_ms: int) -> None:
        """Change what is kept; holds for connections given back from now on."""
        self._max_idle_per_host = _checked("max_idle_per_host", max_idle_per_host)
        self._max_idle_total = _checked("max_idle_total", max_idle_total)
        self._idle_seconds = _checked("idle_timeout_ms", idle_timeout_ms) / 1000

    def _begin(self) -> None:
        self._freed = threading.Condition(threading.Lock())  # guards all below
        self._idle: dict[Route, list[Connection]] = {}
        self._idle_count = 0
        # Of routes that may be HTTP/2: the connections lent, those somebody dials or looks at
        # while others wait for the outcome, and those that turned out to be HTTP/1.1.
        self._shared: dict[Route, list[Connection]] = {}
        self._opening: set[Route] = set()
        self._plain: set[Route] = set()
        self._active = 0
        self._waiting = 0
        self._next_sweep = 0.0

    def acquire(self, route: Route, peer: str, clock: Clock, *, fresh: bool = False) -> Connection:
        """A connection on *route* for one exchange, kept, shared or new, to be given back by
        ``release``. *fresh*: not one that was kept.

        Blocks while all connections are in use, and while dialling. Raises ``CallTimeout`` with
        phase ``"pool"``, whatever dialling raises, and ``NetworkError`` after ``close``.
        """
        while True:
            doomed: list[Connection] = []
            try:
                connection = self._take(route, peer, clock, fresh, doomed)
            finally:
                for each in doomed:
                    each.close()
            if connection is None:
                return self._dialled(route, peer, clock)
            if connection.shared and connection.leases:
                return connection
            try:
                stale = connection.is_stale(clock)
            except BaseException:
                self._opened(route)
                self.discard(connection)
                raise
            if not stale:
                if connection.shared:
                    self._share(route, connection)
                return connection
            self._opened(route)
            self.discard(connection)

    def _take(
        self, route: Route, peer: str, clock: Clock, fresh: bool, doomed: list[Connection]
    ) -> Connection | None:
        """A kept connection, or ``None`` for a slot to dial in; what to close goes to *doomed*."""
        wait_until: float | None = None
        if not self._orphans.empty():
            self._end_orphans()
        with self._freed:
            while True:
                if self._closed:
                    raise NetworkError("this HttpClient is closed")
                moment = monotonic()
                if self._idle_count and moment >= self._next_sweep:
                    self._sweep(moment, doomed)
                full = False
                if route.multiplexed:
                    lent = self._shared.get(route, ())
                    for connection in lent:
                        if connection.leases < connection.capacity:
                            connection.leases += 1
                            return connection
                    full = route in self._opening or any(each.capacity for each in lent)
                if not full:
                    stack = None if fresh else self._idle.get(route)
                    if stack:
                        connection = stack.pop()
                        if not stack:
                            del self._idle[route]
                        self._idle_count -= 1
                        if not self._expired(connection, moment):
                            self._active += 1
                            if connection.shared:
                                self._opening.add(route)
                            return connection
                        doomed.append(connection)
                        continue
                    cap = self._max_connections
                    room = not cap or self._active + self._idle_count < cap
                    if room or self._idle_count:
                        if not room:
                            doomed.append(self._pop_oldest())
                        self._active += 1
                        if route.multiplexed and route not in self._plain:
                            self._opening.add(route)
                        return None
                if wait_until is None:
                    limit = clock.limits.pool
                    want = clock.wait_ms(limit, "waiting for a connection", peer)
                    wait_until = moment + want / 1000 if want else float("inf")
                elif moment >= wait_until:
                    raise clock.wait_error("pool", limit, want, peer, "waiting for a connection")
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
        if not self._orphans.empty():
            self._freed.release()
            try:
                self._end_orphans()
            finally:
                self._freed.acquire()

    def _dialled(self, route: Route, peer: str, clock: Clock) -> Connection:
        generation = self._generation
        try:
            connection = self._dial(route, peer, clock)
        except BaseException:
            # Who waited for the outcome tries for himself: one at a time, each could wait in vain.
            self._opened(route, plain=route.multiplexed)
            self._free_slot(generation)
            raise
        connection.generation = generation
        if connection.shared:
            self._share(route, connection)
        elif route.multiplexed:
            self._opened(route, plain=True)
        return connection

    def _share(self, route: Route, connection: Connection) -> None:
        """Let others use a connection beside the one who has it."""
        with self._freed:
            connection.leases = 1
            if connection.generation == self._generation:
                self._shared.setdefault(route, []).append(connection)
            self._plain.discard(route)
            self._open_for_all(route)

    def _opened(self, route: Route, *, plain: bool = False) -> None:
        """Nobody is opening *route* any more; *plain*: it does not lead to what can be shared."""
        if not route.multiplexed:
            return
        with self._freed:
            if plain:
                if len(self._plain) >= _MAX_PLAIN_ROUTES:
                    self._plain.clear()
                self._plain.add(route)
            self._open_for_all(route)

    def _open_for_all(self, route: Route) -> None:
        """Nobody is opening *route* any more; the lock is held."""
        self._opening.discard(route)
        if self._waiting:
            self._freed.notify_all()

    def replace(self, route: Route, old: Connection, new: Connection) -> None:
        """*new* takes over the slot of *old*, which is lent and never given back."""
        new.generation = old.generation
        self._share(route, new)

    def release(self, route: Route, connection: Connection) -> None:
        """Give a connection back after an exchange: kept where it is fit and there is room."""
        doomed: Connection | None = None
        with self._freed:
            if connection.generation != self._generation:
                doomed = connection
            elif connection.shared and connection.leases > 1:
                connection.leases -= 1
                if self._waiting:
                    self._freed.notify_all()
            else:
                if connection.shared:
                    self._unshare(route, connection)
                self._active -= 1
                if connection.reusable and not self._closed and self._max_idle_per_host:
                    doomed = self._keep(route, connection)
                else:
                    doomed = connection
                if self._waiting:
                    self._freed.notify()
        if doomed is not None:
            doomed.close()

    def _unshare(self, route: Route, connection: Connection) -> None:
        """The last exchange on a shared connection is over; the lock is held."""
        connection.leases = 0
        lent = self._shared[route]
        lent.remove(connection)
        if not lent:
            del self._shared[route]

    def _keep(self, route: Route, connection: Connection) -> Connection | None:
        """Put a connection among the idle ones; what has to go for it. The lock is held."""
        doomed = None
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
        return doomed

    def discard(self, connection: Connection) -> None:
        """Close a connection that nobody else has, and free its slot."""
        try:
            connection.close()
        finally:
            self._free_slot(connection.generation)

    def release_later(self, route: Route, connection: Connection, exchange: Exchange) -> None:
        """Give up an exchange, and its connection, for a finaliser, which may not take a lock."""
        if not connection.shared:
            exchange.cancel()
        self._orphans.put((route, connection, exchange))

    def _free_slot(self, generation: int) -> None:
        with self._freed:
            if generation == self._generation:
                self._active -= 1
                if self._waiting:
                    self._freed.notify()

    def _end_orphans(self) -> None:
        """Give back what finalisers could not; the lock is not held."""
        while not self._orphans.empty():
            try:
                route, connection, exchange = self._orphans.get_nowait()
            except Empty:
                return
            exchange.cancel()
            self.release(route, connection)

    def _expired(self, connection: Connection, moment: float) -> bool:
        return bool(self._idle_seconds) and moment - connection.idle_since > self._idle_seconds

    def _sweep(self, moment: float, doomed: list[Connection]) -> None:
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

    def _pop_oldest(self) -> Connection:
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
        self._end_orphans()
        with self._freed:
            return self._active, self._idle_count, self._waiting

    def _forget_in_child(self) -> None:
        """After a fork, in the child: closing a descriptor leaves the parent's connection alone,
        and the lock may have been held by a thread that is not here."""
        inherited = [each for stack in self._idle.values() for each in stack]
        inherited += [each for lent in self._shared.values() for each in lent]
        self._generation += 1
        self._orphans = SimpleQueue()
        self._begin()
        for each in inherited:
            each.forget()
        if (forget := getattr(self._dial, "forget_in_child", None)) is not None:
            forget()

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

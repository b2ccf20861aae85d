"""One worker of a server: a reactor, a timer wheel, its connections, and the loop that runs them.

One thread at a time leads: it alone touches reactor, wheel, connections, wires and sockets. Which
thread that is changes when a handler on the loop takes too long (``dispatch.py``). Workers share
nothing; several of one server only listen at the same sockets.
"""

from __future__ import annotations

import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from flare._ffi.malloc import keep_freed, trim
from flare.http.forwarded import UNIX_PEER, ProxyPeer
from flare.http.handler import may_stream_body
from flare.http.request import Request
from flare.http.response import Response
from flare.http.server.backend import new_reactor
from flare.http.server.config import ServerConfig
from flare.http.server.connection import Connection
from flare.http.server.dispatch import Dispatch
from flare.http.server.doors import DOORS_TOKEN, Doors
from flare.http.server.h1 import H1Wire
from flare.http.server.h1_shared import H1Shared
from flare.http.server.h2_connection import H2Connection
from flare.http.server.h2_intake import H2Intake
from flare.http.server.h2_lane import make_h2_lane
from flare.http.server.h2_stream import H2Stream
from flare.http.server.intake import Intake
from flare.http.server.kinds import Static
from flare.http.server.lane import make_lane, make_static_lane
from flare.http.server.lease import Lease, Overtaken, Task
from flare.http.server.listeners import Place
from flare.http.server.logs import error_log
from flare.http.server.preface_wire import PrefaceWire
from flare.http.server.proxy_wire import ProxyWire
from flare.http.server.socket_connection import NEVER_MS, SocketConnection
from flare.http.server.stages import SecureStages, Stages
from flare.http.server.static_wire import StaticAnswers, StaticWire
from flare.http.server.stats import Counts, Tally
from flare.http.server.threads import Outcome, Threads
from flare.http.server.watch import Sample, cpu_ns, own_cpu_clock, watchdog
from flare.http.server.wire import Exchange, Wire
from flare.net import SocketAddr
from flare.runtime.reactor import INTEREST_READ
from flare.runtime.report import ShutdownReport
from flare.runtime.timer_wheel import TimerWheel

if TYPE_CHECKING:
    from flare.http.server.tls import ServerTls
    from flare.tls import TlsInfo

__all__ = ["Worker"]

_BATCH = 256
_KEPT_BYTES = 2 * 1024 * 1024


class Worker:
    """Serves *handler*, by calling its *function*, at *places*, whose listeners stay their owner's.

    *own*: nobody will listen there after this server.

    State that must outlive a change of leader is kept here and never in a leader's locals: the
    stages of a batch, further turns, results to take. Each item is taken out before it is worked
    on, so that the next leader goes on with the one behind it.
    """

    def __init__(
        self,
        places: list[Place],
        handler: object,
        function: Callable[[Request], Response],
        config: ServerConfig,
        on_end: Callable[[], None],
        *,
        name: str = "flare-worker",
        own: bool = False,
        tls: ServerTls | None = None,
    ) -> None:
        self.config = config
        self.clock_ns = time.monotonic_ns
        self.now_ms = self.clock_ns() // 1_000_000
        self.tally = Tally()
        self.reactor = new_reactor(config)
        self.wheel = TimerWheel(self.now_ms)
        self.ready: deque[SocketConnection] = deque()
        self._static = StaticAnswers(handler.response) if isinstance(handler, Static) else None
        self.lease = Lease()
        self.threads = Threads(name, self._lead, self.deliver)
        self.dispatch = Dispatch(self, handler, function)
        self.failure: BaseException | None = None
        self._on_end = on_end
        self._leader_clock: int | None = None
        self._overtaken: tuple[Task, bool] | None = None
        self.waiting = True
        self._done: deque[Outcome] = deque()
        self._fired: deque[int] = deque()
        self._to_visit: deque[SocketConnection] = deque()
        self._forwarding = config.forwarding()
        self._tls = tls
        self.h1 = H1Shared(
            config,
            self.dispatch.plan,
            stream_limit=self.dispatch.stream_limit if may_stream_body(handler) else None,
        )
        self.stream_limit = self.h1.stream_limit
        self.h2_config = config.http2_config()
        if self.stream_limit is not None:
            # The limit is the route's; it is looked at where the route is.
            self.h2_config = replace(self.h2_config, max_body_size=None)
        self.asked: deque[Intake | H2Intake] = deque()
        """Those whose readers want more, or a first byte; appended to from any thread."""
        self._date_due_ms = 0
        self._trim_due = False
        self.connections: dict[int, SocketConnection] = {}
        self._doors = Doors(self, own=own)
        self._last_token = 0
        self._commands: deque[Callable[[], None]] = deque()
        # Reentrant: a signal handler may drain while the same thread does.
        self._posting = threading.RLock()  # guards _commands against the end of the loop
        self._running = True
        self.ended = False
        self._drain: Future[ShutdownReport] | None = None
        self._drain_deadline = NEVER_MS
        self._to_drain = 0
        self.draining = False
        self.leaving = False
        """Draining, while a successor serves on: nobody is to notice."""
        self.on_turn: Callable[[], None] | None = None
        """Called once a turn of the loop."""
        self.handler_ms = config.handler_timeout_ms or NEVER_MS
        self.idle_ms = config.idle_timeout_ms or NEVER_MS
        self.idle_deadline = self.now_ms + self.idle_ms
        self.access_log = config.access_log
        self.takes_lane = config.keep_alive and not (
            config.access_log or config.max_keepalive_requests
        )
        self.spare = Exchange.spare()
        """For the lane: the task of a request that the leader answers itself."""
        self.h2_spare = H2Stream(0)
        self.h2_lane = make_h2_lane(self)
        self.stages = Stages(self) if tls is None else SecureStages(self)
        self.lane = (
            make_lane(self) if self._static is None else make_static_lane(self, self._static)
        )
        try:
            self._doors.add(places)
            self._doors.open()
        except BaseException:
            self._end()
            raise

    # -- from any thread ----------------------------------------------------------------

    def stop(self) -> None:
        """End ``run`` and cut every connection off. Safe in a signal handler too."""
        self._running = False
        self.reactor.wakeup()

    def drain(
        self, timeout_ms: int, stopped_accepting: Callable[[], None], *, leave: bool = False
    ) -> Future[ShutdownReport]:
        """Stop accepting, let what is begun finish for *timeout_ms*, then end ``run``.

        With *leave* a successor listens at the same sockets and takes what waits there.
        """
        report: Future[ShutdownReport] = Future()

        def begin() -> None:
            self.leaving = leave and not self.draining
            self._begin_drain(timeout_ms, stopped_accepting, report)

        if not self._post(begin):
            stopped_accepting()
            report.set_result(ShutdownReport())
        return report

    def _post(self, command: Callable[[], None]) -> bool:
        """Have *command* called by the loop; whether there is a loop to call it."""
        with self._posting:
            if self.ended:
                return False
            self._commands.append(command)
        self.reactor.wakeup()
        return True

    @property
    def requests(self) -> int:
        """How many requests there have been."""
        requests = self.dispatch.requests
        return requests if self._static is None else requests + self._static.served

    def counts(self) -> Counts:
        """What it has done so far."""
        dispatch, tally = self.dispatch, self.tally
        return Counts(
            connections=len(self.connections),
            in_flight=dispatch.away + len(self.lease),
            pool_depth=dispatch.waiting,
            accepted=tally.accepted,
            requests=self.requests,
            takeovers=dispatch.takeovers,
            bytes_in=tally.bytes_in,
            bytes_out=tally.bytes_out,
        )

    def abandon(self) -> None:
        """Free what a worker holds that will never ``run``."""
        self._end()

    # -- the loop -----------------------------------------------------------------------

    def start(self) -> None:
        """Start the threads and serve, until ``stop`` or the end of a drain. ``on_end`` is called
        then, and ``failure`` is what the loop could not go on after, if that was it."""
        keep_freed(_KEPT_BYTES)
        try:
            watchdog().watch(self)
            self.threads.start()
        except RuntimeError:
            self.abandon()
            raise

    def _lead(self) -> None:
        """Lead the worker, from wherever the leader before had got to."""
        self._leader_clock = own_cpu_clock()
        try:
            self._loop()
        except Overtaken:
            raise
        except BaseException as error:
            self.failure = error
        self._end()

    def _loop(self) -> None:
        # All that one turn costs, whatever it brings, is paid by each request of a small batch.
        self.waiting = False
        self.read_clock()
        self._take_over()
        poll, watch, stages = self.reactor._poll_raw, watchdog(), self.stages
        fired, soonest = self._fired, self.wheel.next_fire_ms
        while self._running:
            stages.run()
            if self._has_more():
                self._run_rest()
            due = soonest()
            if fired or (due is not None and due <= self.now_ms):
                self._run_timers()
                due = soonest()
            self.spare.forget()
            self.h2_spare.forget()
            if self.on_turn is not None:
                self.on_turn()
            if self._drain is not None and self._is_drained():
                return
            self.waiting = True
            stages.begin(poll(self._timeout_ms(due), _BATCH))
            self.waiting = False
            self.now_ms = now = self.clock_ns() // 1_000_000
            self.idle_deadline = now + self.idle_ms
            if now >= self._date_due_ms:
                self._each_second()
            if watch.parked:
                watch.unpark()

    def _is_drained(self) -> bool:
        if self.now_ms >= self._drain_deadline:
            return True
        return not (self.connections or self._doors.listeners or self.reactor.unsent)

    def _take_over(self) -> None:
        """Note what the leader before is still at. Not in ``_loop``, whose frame would hold it."""
        overtaken, self._overtaken = self._overtaken, None
        if overtaken is not None:
            task, computing = overtaken
            if task is self.spare:
                self.renew_spare()
            elif task is self.h2_spare:
                self.renew_h2_spare()
            self.dispatch.overtaken(task, computing)
            self._guard(task.connection, task.connection.await_task, task)

    def on_event(self, token: int, flags: int) -> None:
        """An event that the lane is not for."""
        connection = self.connections.get(token)
        if connection is not None:
            self._guard(connection, connection.on_event, flags)
        elif token in self._doors.listeners:
            self._doors.accept(token)

    def _has_more(self) -> object:
        """Whether anything waits besides events and timers."""
        return self._done or self.ready or self.asked or self.dispatch.closings or self._to_visit

    def _run_rest(self) -> None:
        """What waits besides events and timers: results from other threads, further turns."""
        done = self._done
        while done:
            self._take_outcome(done.popleft())
        for _ in range(len(self.asked)):  # a handler that reads fast asks again meanwhile
            intake = self.asked.popleft()
            self._guard(intake.connection, intake.on_wanted)
        if self.dispatch.closings:
            self.dispatch.run_closings()
        while self._to_visit:
            connection = self._to_visit.popleft()
            self._guard(connection, connection.drain)
        for _ in range(len(self.ready)):
            connection = self.ready.popleft()
            self._guard(connection, connection.resume)

    def _take_outcome(self, outcome: Outcome) -> None:
        self.dispatch.came_back(outcome)
        task, failure = outcome.task, outcome.failure
        if failure is not None:
            if not isinstance(failure, Exception):
                raise failure
            task.connection.fail(failure)
            return
        self._guard(task.connection, task.connection.on_result, task, outcome.result)

    @staticmethod
    def _guard(connection: SocketConnection, step: Callable[..., None], *arguments: Any) -> None:
        """Whatever goes wrong with one connection, the others go on."""
        try:
            step(*arguments)
        except Exception as error:
            connection.fail(error)

    # -- from other threads of the worker -----------------------------------------------

    def deliver(self, outcome: Outcome) -> None:
        """Hand in what became of a call off the loop."""
        self._done.append(outcome)
        if self.ended:
            self._drop_outcomes()
        else:
            self.reactor.wakeup()

    def sample(self) -> Sample:
        """What the leader is at, for the watchdog."""
        return Sample(self.lease.serial, cpu_ns(self._leader_clock), time.monotonic_ns())

    def overtake(self, serial: int, computing: bool = False) -> bool:
        """Take the lease of *serial* from its leader and make another thread lead."""
        task = self.lease.seize(serial)
        if task is None:
            return False
        self._overtaken = (task, computing)
        self.threads.promote()
        return True

    def renew_spare(self) -> None:
        """What was the spare task is somebody's now."""
        self.spare = Exchange.spare()

    def renew_h2_spare(self) -> None:
        """The same for HTTP/2."""
        self.h2_spare = H2Stream(0)

    def read_clock(self) -> None:
        """Look at the clock; everything else goes by ``now_ms``."""
        self.now_ms = now = self.clock_ns() // 1_000_000
        self.idle_deadline = now + self.idle_ms

    def _timeout_ms(self, due: int | None) -> int:
        """How long to wait for events where the next timer is *due*."""
        if self._commands or self._has_more():
            return 0
        if self._drain is not None:
            due = self._drain_deadline if due is None else min(due, self._drain_deadline)
        if due is None:
            return -1
        left = due - self.clock_ns() // 1_000_000
        return left + 1 if left >= 0 else 0

    def _run_timers(self) -> None:
        fired = self._fired
        fired.extend(self.wheel.advance(self.now_ms))
        while fired:
            token = fired.popleft()
            connection = self.connections.get(token)
            if connection is not None:
                self._guard(connection, connection.on_timer)
            elif token == DOORS_TOKEN:
                self._doors.on_timer()

    def _each_second(self) -> None:
        self.h1.refresh_date()
        self._date_due_ms = self.now_ms + 1000 - int(time.time() * 1000) % 1000
        if self.stages.had_large():
            self._trim_due = True
        elif self._trim_due:
            # What many long requests took is in pieces between what still lives.
            self._trim_due = False
            trim()

    def run_commands(self) -> None:
        """Do what other threads have posted."""
        while self._commands:
            self._commands.popleft()()

    # -- accepting ----------------------------------------------------------------------

    @property
    def has_room(self) -> bool:
        """Whether there may be one more connection."""
        limit = self.config.max_connections
        return not limit or len(self.connections) < limit

    def adopt(self, sock: socket.socket, address: Any) -> None:
        """Serve a connection that was accepted."""
        is_unix = not isinstance(address, tuple)
        peer = UNIX_PEER if is_unix else SocketAddr.from_sockaddr(address)
        if self._forwarding is not None:
            peer = self._forwarding.peer_of(peer, unix=is_unix)
        try:
            sock.setblocking(False)
            if not is_unix:
                # A listener would hand it on, but not to those that came before it was told.
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            wire = self._first_wire(peer)
            connection = Connection(self, sock, self.new_token(), wire, peer)
            self.reactor.register(sock, connection.token, INTEREST_READ)
        except OSError as error:  # gone already, or no memory for it
            error_log.info("%s: dropped at once: %s", peer, error)
            sock.close()
            return
        self.tally.accepted += 1
        self.connections[connection.token] = connection
        connection.begin()
        if self._drain is not None:
            self._to_drain += 1
            connection.announce_end()
            self._to_visit.append(connection)

    def _first_wire(self, peer: SocketAddr) -> Wire:
        forwarding = self._forwarding
        if forwarding is not None and self.config.proxy_protocol and isinstance(peer, ProxyPeer):
            deadline = self.now_ms + (self.config.header_timeout_ms or self.idle_ms)
            return ProxyWire(peer, deadline, forwarding.peer_of, self._wire_of)
        return self._wire_of(peer)

    def _wire_of(self, peer: SocketAddr) -> Wire:
        """What the bytes of *peer* itself begin with."""
        if self._tls is not None:
            return self._tls.new_wire(peer, self.now_ms)
        return PrefaceWire() if self.config.http2 else self._h1_wire(peer)

    def _h1_wire(self, peer: SocketAddr, tls_info: TlsInfo | None = None) -> Wire:
        if self._static is not None:
            return StaticWire(self.h1, peer, self._static)
        return H1Wire(self.h1, peer, tls_info)

    def switch(self, connection: Connection) -> None:
        """*connection*, between two requests, goes on with what its wire has found."""
        switch, peer = connection.wire.switch, connection.peer
        assert switch is not None
        if not switch.h2:
            wire = self._h1_wire(peer, connection.tls_info)
            if self.draining:
                wire.drain()
            connection.restart(wire, switch.data)
            return
        successor = H2Connection(self, connection.sock, connection.token, peer, connection.tls_info)
        successor.succeed(connection)
        self.connections[connection.token] = successor
        self._guard(successor, successor.begin, switch)

    def new_token(self) -> int:
        """A name for an event source."""
        # Never a descriptor, and never one used before: an event of a connection that is gone
        # must not reach the one that has its number now.
        self._last_token += 1
        return self._last_token

    def forget(self, connection: SocketConnection) -> None:
        """*connection* has closed."""
        del self.connections[connection.token]
        if self.config.max_connections and self._running and self.has_room:
            self._doors.open()

    # -- the end ------------------------------------------------------------------------

    def _begin_drain(
        self, timeout_ms: int, stopped_accepting: Callable[[], None], report: Future[ShutdownReport]
    ) -> None:
        if self._drain is not None:
            self._drain.add_done_callback(lambda done: report.set_result(done.result()))
            stopped_accepting()
            return
        self._doors.empty(leaving=self.leaving)
        self._drain = report
        self.draining = True
        self._drain_deadline = self.now_ms + timeout_ms
        self._to_drain = len(self.connections)
        # Visited from the loop, one by one: a handler called in between may lose the lease.
        for connection in self.connections.values():
            connection.announce_end()
            self._to_visit.append(connection)
        self._doors.drain(stopped_accepting)

    def _end(self) -> None:
        self._running = False
        self.see_off(self.stages.send)
        self.see_off(self._doors.close)
        left = len(self.connections)
        for connection in list(self.connections.values()):
            self.see_off(self._guard, connection, connection.cut_off)
        watchdog().forget(self)
        self.dispatch.close()
        with self._posting:
            self.ended = True
        # A drain that came too late to begin ends here, with nothing left to wait for.
        self.see_off(self.run_commands)
        if self._drain is not None:
            cut = min(left, self._to_drain)
            self._drain.set_result(
                ShutdownReport(
                    drained=self._to_drain - cut, timed_out=cut, in_flight_at_deadline=cut
                )
            )
        self._drop_outcomes()
        self.dispatch.run_closings()
        self.reactor.close()
        self._on_end()

    def _drop_outcomes(self) -> None:
        """Free what results hold that come when nobody leads any more."""
        while True:
            try:
                outcome = self._done.popleft()
            except IndexError:
                return
            self.dispatch.came_back(outcome)
            if outcome.failure is not None and not isinstance(outcome.failure, Exception):
                self.failure = self.failure or outcome.failure
            connection = outcome.task.connection
            arguments = outcome.task, outcome.result
            self.see_off(self._guard, connection, connection.on_result, *arguments)

    def see_off(self, step: Callable[..., None], *arguments: Any) -> None:
        """A step of the end, which nothing may keep from coming."""
        try:
            step(*arguments)
        except BaseException as error:
            self.failure = self.failure or error

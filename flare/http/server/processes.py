"""Worker processes, seen from their parent: forked, watched over, replaced, drained.

The parent serves nothing itself. Each worker has a *seat*: a number, listening sockets, and the
process that sits there. While one is replaced two share the seat: the successor starts, and only
when it serves is the other told to leave, which it does by answering what it has accepted and
touching the sockets no more. Their queues pass from one to the other, so nobody is
refused. A process that dies is replaced at once, or after a while where it had only just started;
one that keeps dying ends the server.
"""

from __future__ import annotations

import gc
import math
import os
import signal
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from flare._ffi.affinity import usable_cpus
from flare.errors import NetworkError, map_oserror
from flare.http.handler import HandlerLike
from flare.http.server.bell import Bell
from flare.http.server.channel import Channel, channel
from flare.http.server.child import WorkerProcess, run_to_the_end
from flare.http.server.config import ServerConfig
from flare.http.server.crew import reload_logged, total
from flare.http.server.listeners import WorkerListeners
from flare.http.server.logs import error_log
from flare.http.server.scoreboard import CLEAN, Line, Scoreboard
from flare.http.server.seats import Process, Seat
from flare.http.server.stats import ServerStats
from flare.runtime.cpus import cpu_quota
from flare.runtime.report import ShutdownReport

__all__ = ["ProcessCrew", "WorkerStartError"]

_YOUNG_SECONDS = 5.0
_MAX_DEATHS = 5  # in a row, each of a process that young
_LOOK_AGAIN_SECONDS = 0.01  # where nothing tells that a process has ended
_GRACE_SECONDS = 1.5  # beyond its budget, for a worker that leaves
_START_GRACE_SECONDS = 0.5  # for one that has not begun to serve


class WorkerStartError(NetworkError):
    """A worker process could not start. ``kind`` and ``reason`` are the name of the exception
    that came out of the application there, and its text; without one ``kind`` is empty, and
    ``reason`` tells how the process ended."""

    def __init__(self, number: int, kind: str, reason: str) -> None:
        super().__init__(f"worker {number} could not start: {kind and kind + ': '}{reason}")
        self.number = number
        self.kind = kind
        self.reason = reason

    def _arguments(self) -> tuple[Any, ...]:
        return self.number, self.kind, self.reason


class ProcessCrew:
    """*count* worker processes. *enter* is called in each with its ``WorkerProcess``, *close* in
    the parent where one asks for the end of the server. Only the thread inside ``serve`` forks,
    reaps and hears; what is in ``Reachable`` may come from others."""

    grace_seconds = _GRACE_SECONDS

    def __init__(
        self,
        listeners: WorkerListeners,
        load: Callable[[], HandlerLike],
        config: ServerConfig,
        count: int,
        pin_cores: bool,
        bell: Bell,
        enter: Callable[[WorkerProcess], None],
        close: Callable[[], None],
    ) -> None:
        self._listeners = listeners
        self._load = load
        self._config = config
        self._bell = bell
        self._enter = enter
        self._close = close
        self._cpus = _cpus_to_pin() if pin_cores and count > 1 else []
        self._board = Scoreboard(2 * count)
        lines = self._board.lines
        self._seats = [Seat(n, lines[2 * n : 2 * n + 2]) for n in range(count)]
        self._final = ServerStats()
        self._generation = 0
        self._draining = False
        self._stopping = False
        self._renew_tls = False
        self._ended_with: list[ShutdownReport] = []
        self._reports: list[Future[ShutdownReport]] = []
        self._asked_to_drain: deque[int] = deque()
        # Reentrant: a signal handler may drain while the same thread does.
        self._posting = threading.RLock()  # guards these, and the bell, against the end
        self._over = False
        self._thread = threading.get_ident()
        self.failure: BaseException | None = None

    @property
    def ended(self) -> bool:
        """Whether there is nothing left to supervise."""
        return self.failure is not None or (self._draining and not any(self._all()))

    def _all(self) -> list[Process]:
        return [process for seat in self._seats for process in seat.processes()]

    # -- from any thread --------------------------------------------------------------------

    def stop(self) -> None:
        """See ``Reachable``. What must be done is done by ``end``."""
        self._stopping = True

    def drain(self, timeout_ms: int) -> list[Future[ShutdownReport]]:
        """See ``Reachable``: one report, the sum of all."""
        report: Future[ShutdownReport] = Future()
        with self._posting:
            if self._over:
                report.set_result(ShutdownReport())
                return [report]
            self._reports.append(report)
            self._asked_to_drain.append(timeout_ms)
            self._bell.ring()
        return [report]

    def renew_tls(self) -> None:
        """See ``Reachable``. Those forked from now on have them by nature."""
        with self._posting:
            if not self._over:
                self._renew_tls = True
                self._bell.ring()

    def see_out(self, give_up_at: float) -> None:
        """See ``Reachable``. A signal handler calls it, so it may find ``tend`` half done: it only
        does what can be done twice."""
        if threading.get_ident() != self._thread:
            return
        self._begin_asked_drains()
        while not all(process.has_ended() for process in self._all()):
            if time.monotonic() >= give_up_at:
                return
            time.sleep(_LOOK_AGAIN_SECONDS)
        self._deliver(total([*self._ended_with, *(p.report() for p in self._all())]))

    def stats(self) -> ServerStats:
        """See ``Reachable``."""
        try:
            return self._board.stats()
        except ValueError:  # closed: all has ended
            return self._final

    def is_inside(self, ident: int) -> bool:
        """No handler runs in this process."""
        return False

    def replace_all(self) -> None:
        """See ``Crew``. Called again meanwhile, it begins anew."""
        if self._listeners.tls is not None:
            self._listeners.tls.share_keys()
        self._generation += 1

    # -- supervision --------------------------------------------------------------------------

    def start(self) -> None:
        """Fork all of them. Raises ``NetworkError`` where the system cannot."""
        if self._listeners.tls is not None:
            self._listeners.tls.share_keys()
        for seat in self._seats:
            seat.sitting = self._fork(seat)

    def tend(self) -> float | None:
        """See ``Crew``."""
        self._begin_asked_drains()
        for seat in self._seats:
            for process in list(seat.processes()):
                self._hear(seat, process)
                if process.has_ended():
                    self._hear(seat, process)  # its last words
                    self._see_off(seat, process)
                    self._board.settle(process.line)
        if self._renew_tls:
            self._renew_tls = False
            for process in self._all():
                process.talk.say("renew tls")
        if not self._draining and not self._stopping and self.failure is None:
            self._fill_seats()
        return self._next_look()

    def _hear(self, seat: Seat, process: Process) -> None:
        was_open = not process.talk.ended
        for name, value in process.talk.hear():
            if name == "ready":
                self._take_seat(seat, process)
            elif name == "leaving":
                seat.asks = seat.asks or process is seat.sitting
            elif name == "failed":
                process.failure = value
            elif name == "close":
                self._close()
            elif name == "renew tls":
                self._renew_tls = reload_logged(self._listeners.tls) or self._renew_tls
        if was_open and process.talk.ended:
            self._bell.unwatch(process.talk.fileno())

    def _take_seat(self, seat: Seat, process: Process) -> None:
        """*process* serves. The one before it may leave."""
        process.ready = True
        process.kill_at = math.inf
        seat.was_served = True
        if process is not seat.coming or self._draining:
            return
        seat.coming, before, seat.sitting = None, seat.sitting, process
        seat.asks = False
        if before is not None:
            budget_ms = self._config.shutdown_timeout_ms
            before.talk.say("leave", budget_ms)
            before.kill_at = time.monotonic() + budget_ms / 1000 + _GRACE_SECONDS
            seat.leaving = before

    def _see_off(self, seat: Seat, process: Process) -> None:
        """*process* has ended."""
        if not process.talk.ended:
            self._bell.unwatch(process.talk.fileno())
        if process.pidfd >= 0:
            self._bell.unwatch(process.pidfd)
        process.close()
        was_sitting, was_coming = process is seat.sitting, process is seat.coming
        if was_sitting:
            seat.sitting = None
        elif was_coming:
            seat.coming = None
        else:
            seat.leaving = None
        if self._draining or self._stopping:
            self._ended_with.append(process.report())
        elif self.failure is not None or self._ends_the_server(process):
            return
        elif was_sitting:
            self._on_death(seat, process)
        elif was_coming:
            self._on_failed_start(seat, process)
        elif process.line.state != CLEAN and not process.killed:
            error_log.error(
                "worker %d (process %d) died while it left: %s",
                seat.number,
                process.pid,
                process.how_it_ended(),
            )

    def _ends_the_server(self, process: Process) -> bool:
        """``SystemExit`` and ``KeyboardInterrupt`` of a handler come out of ``serve``."""
        failure = process.failure
        if failure is None or not process.ready:
            return False
        if failure["type"] == "SystemExit":
            self.failure = SystemExit(failure["code"])
        elif failure["type"] == "KeyboardInterrupt":
            self.failure = KeyboardInterrupt()
        return self.failure is not None

    def _on_death(self, seat: Seat, process: Process) -> None:
        if not seat.was_served:
            failure = process.failure or {"type": "", "text": process.how_it_ended()}
            self.failure = WorkerStartError(seat.number, failure["type"], failure["text"])
            return
        seat.asks = False
        pause = 0.0
        if process.ready and time.monotonic() - process.born >= _YOUNG_SECONDS:
            seat.deaths = 0
        else:
            pause = seat.pause_after_death()
        if seat.deaths >= _MAX_DEATHS:
            self.failure = NetworkError(
                f"worker {seat.number} died {seat.deaths} times in a row, each time within"
                f" {_YOUNG_SECONDS:.0f} s of its start; the last time: {process.how_it_ended()}"
            )
            return
        error_log.error(
            "worker %d (process %d) died: %s; replaced %s",
            seat.number,
            process.pid,
            process.how_it_ended(),
            f"in {pause:.1f} s" if pause else "at once",
        )
        # A successor may be about to come anyway.
        seat.sitting, seat.coming = seat.coming, None

    def _on_failed_start(self, seat: Seat, process: Process) -> None:
        """A successor did not come. The one that sits goes on."""
        pause = seat.pause_after_death()
        if seat.sitting is None or seat.sitting.generation == process.generation:
            then = f"tried again in {pause:.1f} s"
        else:
            then = "the reload is given up"
            for other in self._seats:
                if other.sitting is not None:
                    other.sitting.generation = self._generation
        error_log.error(
            "a new worker %d (process %d) did not start: %s; %s",
            seat.number,
            process.pid,
            process.how_it_ended(),
            then,
        )

    def _fill_seats(self) -> None:
        """Fork what is missing, and successors: all that were asked for by their predecessors,
        and one at a time of those that a reload wants."""
        now = time.monotonic()
        reloading = any(seat.coming is not None for seat in self._seats)
        for seat in self._seats:
            sitting = seat.sitting
            if now < seat.due:
                continue
            if sitting is None:
                seat.sitting = self._try_fork(seat)
            elif sitting.ready and seat.coming is None and seat.leaving is None:
                stale = sitting.generation != self._generation
                if seat.asks or (stale and not reloading):
                    seat.coming = self._try_fork(seat)
                    reloading = reloading or stale

    def _next_look(self) -> float | None:
        now = time.monotonic()
        moments = [seat.due for seat in self._seats if seat.due > now]
        for process in self._all():
            if now >= process.kill_at:
                error_log.error("worker process %d does not end, killed", process.pid)
                process.kill()
            moments.append(process.kill_at)
            if process.talk.ended:
                moments.append(now + _LOOK_AGAIN_SECONDS)
        first = min(moments, default=math.inf)
        return None if first == math.inf else first

    # -- forking --------------------------------------------------------------------------------

    def _try_fork(self, seat: Seat) -> Process | None:
        try:
            return self._fork(seat)
        except NetworkError as error:
            error_log.error("worker %d: %s", seat.number, error)
            seat.due = time.monotonic() + 1.0
            return None

    def _fork(self, seat: Seat) -> Process:
        ours, theirs = channel()
        line = seat.free_line()
        line.clear()
        parent = os.getpid()
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()  # or both processes would write what waits in it
            except Exception:
                pass
        gc.collect()
        was_frozen = gc.get_freeze_count()
        gc.freeze()  # a collection in the child would write to, and so copy, every page
        # No signal may find the child with its parent's reactions.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            with warnings.catch_warnings():
                # Who asked for processes beside other threads was warned by the documentation.
                warnings.simplefilter("ignore", DeprecationWarning)
                pid = os.fork()
            if pid == 0:
                ours.close()
                self._live(seat, parent, theirs, line, mask)
        except OSError as error:
            ours.close()
            raise map_oserror(error, "fork") from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            theirs.close()
            if not was_frozen:
                gc.unfreeze()
        process = Process(pid, ours, line, self._generation)
        self._bell.watch(ours.fileno())
        if process.pidfd >= 0:
            self._bell.watch(process.pidfd)
        if self._draining:  # by a signal handler, just now
            process.kill()
        return process

    def _live(
        self, seat: Seat, parent: int, talk: Channel, line: Line, mask: set[signal.Signals | int]
    ) -> None:
        """All that happens in the child; never returns."""
        try:
            self._let_go_of_siblings(seat)
            cpu = self._cpus[seat.number % len(self._cpus)] if self._cpus else None
            worker = WorkerProcess(
                seat.number,
                self._listeners,
                self._load,
                self._config,
                parent,
                talk,
                self._board,
                line,
                cpu,
            )
            self._enter(worker)
            worker.take_signals()
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        run_to_the_end(worker)

    def _let_go_of_siblings(self, seat: Seat) -> None:
        """Close, in the child, what is the parent's and the other workers'."""
        self._bell.close()
        for process in self._all():
            process.close()
        self._listeners.close_all_but(seat.number)

    # -- the end ----------------------------------------------------------------------------------

    def _begin_asked_drains(self) -> None:
        while self._asked_to_drain:
            timeout_ms = self._asked_to_drain.popleft()
            if self._draining:
                continue
            self._draining = True
            # First: then a worker that stops accepting holds the last descriptor of its queue,
            # and empties that before it closes it.
            self._listeners.close()
            for process in self._all():
                self._tell_to_end(process, "drain", timeout_ms)

    def _tell_to_end(self, process: Process, how: str, timeout_ms: int | None = None) -> None:
        process.talk.say(how, timeout_ms)
        if not process.ready:
            # It hears that before it accepts, so nothing is lost when it is killed until then.
            process.kill_at = time.monotonic() + _START_GRACE_SECONDS

    def _deliver(self, report: ShutdownReport) -> None:
        with self._posting:
            waiting, self._reports = self._reports, []
        for future in waiting:
            if not future.done():
                future.set_result(report)

    def end(self, late_seconds: float) -> None:
        """See ``Crew``. Kills what has not ended by then."""
        self._stopping = True
        for process in self._all():
            self._tell_to_end(process, "stop")
        give_up_at = time.monotonic() + late_seconds + _GRACE_SECONDS
        while True:
            self.tend()
            left = self._all()
            if not left:
                break
            if time.monotonic() >= give_up_at:
                for process in left:
                    process.kill_at = 0.0
                give_up_at = math.inf
            self._bell.wait(_LOOK_AGAIN_SECONDS)
        self._listeners.close()
        with self._posting:
            self._over = True
        self._deliver(total(self._ended_with))
        self._final = self._board.stats()
        self._board.close()


def _cpus_to_pin() -> list[int]:
    """The CPUs to keep workers on; none where a quota allows less than these CPUs could do, since
    a worker that must wait for its own CPU then only loses."""
    cpus = usable_cpus()
    quota = cpu_quota()
    return [] if quota is not None and quota < len(cpus) else cpus

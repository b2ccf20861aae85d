"""A worker process, from the fork to its end.

Its main thread only waits for what the parent says and for signals, as the one inside ``serve``
does in a server of one process. The parent alone decides when a worker ends: what SIGTERM, a full
count of requests, or ``close`` out of a handler do here is to ask it. A worker whose parent is
gone drains, and ends.
"""

from __future__ import annotations

import logging
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from types import FrameType
from typing import NoReturn

from flare._ffi.affinity import pin_to_cpu
from flare._ffi.process import set_parent_death_signal
from flare.errors import ValidationError
from flare.http.handler import HandlerLike, as_handler_function
from flare.http.server.bell import Bell
from flare.http.server.channel import Channel, shortened
from flare.http.server.config import ServerConfig
from flare.http.server.crew import await_threads, end_of_worker, reload_logged
from flare.http.server.listeners import WorkerListeners
from flare.http.server.logs import error_log
from flare.http.server.scoreboard import CLEAN, DRAINING, SERVING, Line, Scoreboard
from flare.http.server.stats import ServerStats
from flare.http.server.worker import Worker
from flare.runtime.report import ShutdownReport

__all__ = ["WorkerProcess", "run_to_the_end"]

LATE_SECONDS = 1.0
"""What a worker waits for handlers that have not returned when their time is up."""


class WorkerProcess:
    """The worker of this process, number *number* of its server. *parent* is the id the process
    had that forked this one; *cpu* is where to stay, if anywhere.

    The copy of the server in this process has it for its crew: so ``close`` in a handler reaches
    the original.
    """

    grace_seconds = 0.0

    def __init__(
        self,
        number: int,
        listeners: WorkerListeners,
        load: Callable[[], HandlerLike],
        config: ServerConfig,
        parent: int,
        channel: Channel,
        board: Scoreboard,
        line: Line,
        cpu: int | None,
    ) -> None:
        self._number = number
        self._listeners = listeners
        self._load = load
        self._config = config
        self._parent = parent
        self._channel = channel
        self._board = board
        self._line = line
        self._cpu = cpu
        self._bell = Bell()
        self._worker: Worker | None = None
        self._report: Future[ShutdownReport] | None = None
        self._give_up_at: float | None = None
        self._asked_to_end = False  # by SIGTERM
        self._full = False  # has had its count of requests
        self._told = False
        self._orphaned = False
        self._limit = config.max_requests and (
            config.max_requests + random.randint(0, config.max_requests_jitter)
        )

    # -- for the copy of the server in this process ---------------------------------------

    def stop(self) -> None:
        """Ask the parent to end the whole server."""
        self._channel.say("close")

    def drain(self, timeout_ms: int) -> list[Future[ShutdownReport]]:
        """A worker cannot wait for its own end: raises ``ValidationError``."""
        raise ValidationError("drain", "called in a worker process; close() ends the server")

    def see_out(self, give_up_at: float) -> None:
        """There is nothing to see out: ``drain`` raises."""

    def stats(self) -> ServerStats:
        """Those of the whole server."""
        return self._board.stats()

    def renew_tls(self) -> None:
        """Have the parent do it, for all."""
        self._channel.say("renew tls")

    def is_inside(self, ident: int) -> bool:
        """Whether the thread *ident* calls handlers."""
        return self._worker is not None and ident in self._worker.threads.idents

    # -- its life ---------------------------------------------------------------------------

    def take_signals(self) -> None:
        """React to signals as a worker does, not as its parent did. They are blocked until now.

        A terminal sends SIGINT and SIGHUP to the whole group: the parent decides about those.
        """
        signal.set_wakeup_fd(self._bell.write_fd, warn_on_full_buffer=False)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._on_sigterm)

    def _on_sigterm(self, _number: int, _frame: FrameType | None) -> None:
        self._asked_to_end = True

    def run(self) -> int:
        """Serve until the parent says otherwise, or is gone. The exit code."""
        if not self._is_tied_to_parent():
            return 0
        if self._cpu is not None:
            pin_to_cpu(self._cpu)
        try:
            worker = self._make_worker()
            self._begin(worker)
        except BaseException as error:
            self._tell_failure(error)
            return 1
        while not worker.ended and not self._is_late():
            self._listen_to_parent(worker)
            self._ask_to_end(worker)
            self._bell.wait(self._seconds_left())
        return self._end(worker)

    def _is_tied_to_parent(self) -> bool:
        """See to it that this process ends when its parent does; false where that is so."""
        try:
            return set_parent_death_signal(signal.SIGTERM, self._parent)
        except OSError:  # not on this system; the end of the channel tells it as well
            return os.getppid() == self._parent

    def _make_worker(self) -> Worker:
        handler = self._load()
        function = as_handler_function(handler)
        if self._config.on_worker_start is not None:
            self._config.on_worker_start()
        worker = self._worker = Worker(
            self._listeners.of_worker(self._number),
            handler,
            function,
            self._config,
            self._bell.ring,
            name=f"flare-worker-{self._number}",
            own=self._listeners.own,
            tls=self._listeners.tls,
        )
        self._listeners.close()  # the worker has descriptors of its own
        worker.tally.errors = self._line.errors
        worker.on_turn = lambda: self._on_turn(worker)
        return worker

    def _begin(self, worker: Worker) -> None:
        """Accept, unless it was told to end in the meantime. Then it never has: the parent may
        kill what does not hear, and loses nothing."""
        self._bell.watch(self._channel.fileno())
        self._listen_to_parent(worker)
        if self._give_up_at is not None:
            worker.abandon()
            return
        worker.start()
        self._line.state = SERVING
        self._channel.say("ready")

    def _on_turn(self, worker: Worker) -> None:
        self._line.publish(worker.counts())
        if self._limit and worker.requests >= self._limit and not self._full:
            self._full = True
            self._bell.ring()

    def _listen_to_parent(self, worker: Worker) -> None:
        for name, value in self._channel.hear():
            if name == "stop":
                worker.stop()
                self._give_up_at = time.monotonic() + LATE_SECONDS
            elif name == "renew tls":
                reload_logged(self._listeners.tls)
            elif self._report is None:
                self._drain(worker, value, leave=name == "leave")
        if self._channel.ended and not self._orphaned:
            self._bell.unwatch(self._channel.fileno())
            self._become_orphan(worker)

    def _become_orphan(self, worker: Worker) -> None:
        """The parent is gone, so nobody accepts here any more once this worker does not."""
        self._orphaned = True
        if self._report is None:
            self._drain(worker, self._config.shutdown_timeout_ms, leave=False)

    def _drain(self, worker: Worker, timeout_ms: int, *, leave: bool) -> None:
        self._line.state = DRAINING
        self._report = worker.drain(timeout_ms, lambda: None, leave=leave)
        self._give_up_at = time.monotonic() + timeout_ms / 1000 + LATE_SECONDS

    def _ask_to_end(self, worker: Worker) -> None:
        if (self._asked_to_end or self._full) and not self._told:
            self._told = True
            self._channel.say("leaving")
            if os.getppid() != self._parent:
                self._become_orphan(worker)

    def _seconds_left(self) -> float | None:
        if self._give_up_at is None:
            return None
        return max(0.0, self._give_up_at - time.monotonic())

    def _is_late(self) -> bool:
        return self._give_up_at is not None and time.monotonic() >= self._give_up_at

    def _end(self, worker: Worker) -> int:
        """Say what became of it. The exit code."""
        if self._report is not None:
            try:
                self._line.report = self._report.result(LATE_SECONDS if worker.ended else 0)
            except TimeoutError:  # inside a handler that takes no end
                live = max(1, self._line.live)
                self._line.report = ShutdownReport(timed_out=live, in_flight_at_deadline=live)
        if worker.failure is not None:
            self._tell_failure(worker.failure)
            return 1
        await_threads([worker], time.monotonic() + LATE_SECONDS)
        end_of_worker(self._config)
        self._line.state = CLEAN
        return 0

    def _tell_failure(self, error: BaseException) -> None:
        if error_log.isEnabledFor(logging.DEBUG):
            error_log.debug("traceback of the failure of worker %d", self._number, exc_info=error)
        try:
            text = str(error)
        except Exception:
            text = "(it has no text)"
        code = error.code if isinstance(error, SystemExit) else None
        self._channel.say(
            "failed",
            {
                "type": type(error).__name__,
                "text": shortened(text),
                "code": code if isinstance(code, int | str) else None,
            },
        )


def run_to_the_end(process: WorkerProcess) -> NoReturn:
    """The rest of this process's life. Never returns into the parent's frames, whatever comes."""
    code = 1
    try:
        code = process.run()
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except Exception:  # they are gone, or closed
            pass
        finally:
            os._exit(code)

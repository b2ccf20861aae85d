"""The workers of one server as a whole: what ``HttpServer`` starts, drains and ends.

There are two kinds. A ``ThreadCrew`` has its workers in this process; with one worker, or an
interpreter without the global lock, that is all there is to it. A ``ProcessCrew``
(``processes.py``) has each in a process of its own.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Literal, Protocol

from flare.errors import NetworkError, ValidationError
from flare.http.handler import HandlerLike, as_handler_function
from flare.http.server.config import ServerConfig
from flare.http.server.listeners import WorkerListeners
from flare.http.server.logs import error_log
from flare.http.server.stats import ServerStats
from flare.http.server.worker import Worker
from flare.runtime.cpus import MAX_WORKERS
from flare.runtime.report import ShutdownReport

if TYPE_CHECKING:
    from flare.http.server.tls import ServerTls

__all__ = [
    "Crew",
    "Reachable",
    "ThreadCrew",
    "WorkerKind",
    "await_threads",
    "choose_kind",
    "end_of_worker",
    "reload_logged",
    "total",
]

WorkerKind = Literal["auto", "thread", "process"]


class Reachable(Protocol):
    """What may be asked of the workers from any thread, and in a signal handler."""

    grace_seconds: float
    """What a drain may take beyond its budget."""

    def stop(self) -> None:
        """Have every worker cut off its connections and end. Does not wait."""

    def drain(self, timeout_ms: int) -> list[Future[ShutdownReport]]:
        """Have every worker finish what it has begun."""

    def see_out(self, give_up_at: float) -> None:
        """Wait for the end of a drain on the thread that would else supervise it."""

    def stats(self) -> ServerStats:
        """The sums over all workers."""

    def renew_tls(self) -> None:
        """Have every worker use the certificates that ``ServerTls`` has read again."""

    def is_inside(self, ident: int) -> bool:
        """Whether the thread *ident* belongs to a worker."""


class Crew(Reachable, Protocol):
    """What the thread inside ``serve`` does with the workers."""

    @property
    def failure(self) -> BaseException | None:
        """What ``serve`` has to raise."""

    @property
    def ended(self) -> bool:
        """Whether there is nothing left to supervise: a failure, or all workers have ended."""

    def start(self) -> None:
        """Start every worker, or raise."""

    def tend(self) -> float | None:
        """Look after the workers, without waiting. The moment (monotonic seconds) it wants to do
        so again; ``None``: when the bell rings."""

    def replace_all(self) -> None:
        """Replace the workers one by one, without refusing a connection."""

    def end(self, late_seconds: float) -> None:
        """Stop and wait for what is left, *late_seconds* at most. Idempotent."""


def choose_kind(num_workers: int, asked: str) -> Literal["thread", "process"]:
    """Which workers to have: *asked*, unless that is ``"auto"``; then what the environment
    variable ``FLARE_WORKER_KIND`` says, and failing that, processes where threads would share one
    interpreter lock.

    One worker stays in this process unless *asked* says otherwise. Where a fork would be unsound,
    because other threads are alive or this is not the main thread, they are threads, and one log
    line says why. Raises ``ValidationError``.
    """
    if num_workers > MAX_WORKERS:
        raise ValidationError("num_workers", f"at most {MAX_WORKERS}, got {num_workers}")
    kind = _checked("worker_kind", asked)
    if kind == "auto" and num_workers < 2:
        return "thread"
    if kind == "auto":
        kind = _checked("FLARE_WORKER_KIND", os.environ.get("FLARE_WORKER_KIND") or "auto")
    if kind == "process" and not hasattr(os, "fork"):
        raise ValidationError("worker_kind", "this system has no fork; it must be 'thread'")
    if kind != "auto":
        return kind
    has_lock: Callable[[], bool] = getattr(sys, "_is_gil_enabled", lambda: True)
    if not has_lock() or not hasattr(os, "fork"):
        return "thread"
    obstacle = _what_forbids_a_fork()
    if obstacle:
        error_log.warning(
            "the %d workers are threads and share one interpreter lock: %s", num_workers, obstacle
        )
        return "thread"
    return "process"


def _checked(name: str, kind: str) -> WorkerKind:
    if kind not in ("auto", "thread", "process"):
        raise ValidationError(name, f"must be 'auto', 'thread' or 'process', got {kind!r}")
    return kind  # type: ignore[return-value]


def _what_forbids_a_fork() -> str:
    if threading.current_thread() is not threading.main_thread():
        return "serve() was not called on the main thread"
    others = [thread.name for thread in threading.enumerate()][1:]
    if others:
        return f"other threads are alive ({', '.join(others[:5])})"
    try:
        native = len(os.listdir("/proc/self/task")) - 1
    except OSError:
        return ""
    return f"{native} threads that are not Python's are alive" if native > 0 else ""


class ThreadCrew:
    """Workers in this process. Each but the first has its own copy of the handler, where that
    has a ``copy`` method.

    *ring* is called when one has ended, *close_listeners* when none needs the listeners any more.
    """

    grace_seconds = 0.0

    def __init__(
        self,
        listeners: WorkerListeners,
        handler: HandlerLike,
        config: ServerConfig,
        count: int,
        ring: Callable[[], None],
        close_listeners: Callable[[], None],
    ) -> None:
        self._config = config
        self._close_listeners = close_listeners
        self._started: list[Worker] = []
        self.workers: list[Worker] = []
        self._hooked = 0
        try:
            for number in range(count):
                mine = handler
                if number and hasattr(handler, "copy"):
                    mine = handler.copy()
                self.workers.append(
                    Worker(
                        listeners.of_worker(number),
                        mine,
                        as_handler_function(mine),
                        config,
                        ring,
                        name=f"flare-worker-{number}",
                        own=listeners.own,
                        tls=listeners.tls,
                    )
                )
        except BaseException:
            for worker in self.workers:
                worker.abandon()
            raise

    @property
    def failure(self) -> BaseException | None:
        """What the first of them failed with that did."""
        return next((w.failure for w in self.workers if w.failure is not None), None)

    @property
    def ended(self) -> bool:
        """Whether one has failed, or all have ended."""
        return self.failure is not None or all(worker.ended for worker in self.workers)

    def start(self) -> None:
        """Call the hook for each, then start them."""
        for _ in self.workers:
            if self._config.on_worker_start is not None:
                self._config.on_worker_start()
            self._hooked += 1
        for worker in self.workers:
            worker.start()
            self._started.append(worker)

    def tend(self) -> None:
        """They look after themselves."""

    def replace_all(self) -> None:
        """Threads of one process cannot be given new code; nothing happens."""

    def stop(self) -> None:
        """See ``Reachable``."""
        for worker in self.workers:
            worker.stop()

    def drain(self, timeout_ms: int) -> list[Future[ShutdownReport]]:
        """See ``Reachable``. The listeners close once no worker needs their queues."""
        still_accepting = list(self.workers)

        def stopped_accepting() -> None:
            still_accepting.pop()
            if not still_accepting:
                self._close_listeners()

        return [worker.drain(timeout_ms, stopped_accepting) for worker in self.workers]

    def see_out(self, give_up_at: float) -> None:
        """The workers' own threads end the drain, whoever waits."""

    def stats(self) -> ServerStats:
        """See ``Reachable``."""
        return ServerStats.of(
            [worker.counts() for worker in self.workers],
            [worker.tally.errors for worker in self.workers],
        )

    def renew_tls(self) -> None:
        """They share the one that was told so."""

    def is_inside(self, ident: int) -> bool:
        """See ``Reachable``."""
        return any(ident in worker.threads.idents for worker in self.workers)

    def end(self, late_seconds: float) -> None:
        """See ``Crew``."""
        self.stop()
        for worker in self._started:
            if isinstance(worker.failure, Exception):
                error_log.error(
                    "a worker failed: %s: %s", type(worker.failure).__name__, worker.failure
                )
        for worker in self.workers:
            if worker not in self._started and not worker.ended:  # no thread was to be had
                worker.abandon()
        await_threads(self._started, time.monotonic() + late_seconds)
        for _ in range(self._hooked):
            end_of_worker(self._config)
        self._hooked = 0


def total(reports: list[ShutdownReport]) -> ShutdownReport:
    """All of them in one."""
    return ShutdownReport(
        drained=sum(report.drained for report in reports),
        timed_out=sum(report.timed_out for report in reports),
        in_flight_at_deadline=sum(report.in_flight_at_deadline for report in reports),
        crashed=sum(report.crashed for report in reports),
    )


def await_threads(workers: list[Worker], deadline: float) -> None:
    """See the threads off until *deadline*; those still inside a handler are left, and told of."""
    for worker in workers:
        for thread in worker.threads.join(deadline):
            error_log.error(
                "%s is still inside a handler, left behind: %s", thread.name, _stack(thread)
            )


def reload_logged(tls: ServerTls | None) -> bool:
    """Have *tls* read its files again, where there is any; whether it could. One line if not."""
    if tls is None:
        return False
    try:
        tls.reload()
    except NetworkError as error:
        error_log.error("the certificates stay as they were: %s", error.message)
        return False
    error_log.info("the certificates were read again")
    return True


def end_of_worker(config: ServerConfig) -> None:
    """Call the hook for the end of a worker."""
    if config.on_worker_stop is None:
        return
    try:
        config.on_worker_stop()
    except Exception as error:
        error_log.error("on_worker_stop raised %s: %s", type(error).__name__, error)


def _stack(thread: threading.Thread) -> str:
    """Where *thread* is now, innermost first, in one line."""
    frame = sys._current_frames().get(thread.ident or 0)
    frames = traceback.extract_stack(frame) if frame is not None else []
    return " < ".join(f"{f.filename}:{f.lineno} in {f.name}" for f in reversed(frames[-4:]))

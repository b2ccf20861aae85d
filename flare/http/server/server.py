"""``HttpServer``: what listens, who serves, and how it ends.

The thread that calls ``serve`` only waits and supervises; each worker runs its loop on a thread
of its own, so a handler never runs on the caller's thread and a signal never lands inside one.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from types import FrameType, TracebackType
from typing import Any, Self

from flare.errors import NetworkError, ValidationError, map_oserror
from flare.http.handler import HandlerLike, as_handler_function
from flare.http.request import Request
from flare.http.response import Response
from flare.http.server.config import ServerConfig
from flare.http.server.logs import error_log
from flare.http.server.worker import Worker
from flare.net import SocketAddr
from flare.runtime.report import ShutdownReport
from flare.tcp import TcpListener

__all__ = ["HttpServer"]

_BACKLOG = 1024
_MAX_WORKERS = 256
# What a drain waits beyond its budget for a worker that is inside a handler.
_LATE_SECONDS = 1.0


class HttpServer:
    """An HTTP/1.1 server for plain blocking handlers.

    ``bind`` one, then ``serve`` a handler; ``serve`` blocks until ``close`` or ``drain`` from
    another thread, or a signal. ``close``, ``drain`` and the ``local_addr`` methods are safe from
    any thread. A server serves once.

        with HttpServer.bind(SocketAddr.localhost(8080)) as server:
            server.serve(lambda request: ok("hello"))
    """

    def __init__(self, listener: TcpListener, config: ServerConfig | None = None) -> None:
        """Own *listener*, which listens already."""
        self._listeners = [listener]
        self.config = config or ServerConfig()
        # Guards what follows. Reentrant: a signal handler may close what its thread is starting.
        self._lock = threading.RLock()
        self._workers: list[Worker] = []
        self._closed = False
        self._serving = False
        self._drained = False
        self._bell: _Bell | None = None  # while serve() waits
        self._signals: list[int] = []

    @classmethod
    def bind(cls, addr: SocketAddr, config: ServerConfig | None = None) -> Self:
        """Listen at *addr*; port 0 lets the system pick one. The system queues up to 1024
        connections until ``serve``. Raises ``AddressInUse`` or ``NetworkError``."""
        return cls.bind_many([addr], config)

    @classmethod
    def bind_many(cls, addrs: Iterable[SocketAddr], config: ServerConfig | None = None) -> Self:
        """Listen at every one of *addrs*, or at none: where one fails, the others are closed."""
        listeners: list[TcpListener] = []
        try:
            for addr in addrs:
                listeners.append(TcpListener.bind_with_options(addr, backlog=_BACKLOG))
            if not listeners:
                raise ValidationError("addrs", "at least one address is needed")
            server = cls(listeners[0], config)
        except BaseException:
            for listener in listeners:
                listener.close()
            raise
        server._listeners = listeners
        return server

    def local_addr(self) -> SocketAddr:
        """Where it listens, with the real port; of several addresses the first."""
        return self._listeners[0].local_addr()

    def local_addrs(self) -> list[SocketAddr]:
        """Every address it listens at, in the order they were bound."""
        return [listener.local_addr() for listener in self._listeners]

    def serve(self, handler: HandlerLike, num_workers: int = 1) -> None:
        """Serve *handler* until ``close`` or ``drain`` from another thread, or a signal.

        Blocks. *num_workers* threads each run a loop of their own, 0 and less meaning 1; they may
        call the handler at the same time. On the main thread SIGTERM drains for
        ``shutdown_timeout_ms`` and returns; SIGINT drains and raises ``KeyboardInterrupt``; a
        second one cuts the drain short. Elsewhere signals are left alone.

        Raises ``ValidationError`` for a bad configuration, more than 256 workers, or several
        workers on a ``bind_many`` server; ``TypeError`` for what is no handler; ``NetworkError``
        after ``close``, and where listening fails. What a handler raises never ends it, but for
        ``SystemExit`` and ``KeyboardInterrupt``, which come out here.
        """
        self.config.validate()
        if num_workers > _MAX_WORKERS:
            raise ValidationError("num_workers", f"at most {_MAX_WORKERS}, got {num_workers}")
        if num_workers > 1 and len(self._listeners) > 1:
            raise ValidationError("num_workers", "a server of several addresses has one worker")
        function = as_handler_function(handler)
        with self._lock:
            if self._closed or self._drained:
                raise NetworkError("the server is closed")
            if self._serving:
                raise ValidationError("serve", "the server is serving already")
            self._serving = True
            bell = _Bell()
            try:
                self._workers = self._make_workers(handler, function, max(1, num_workers))
            except BaseException:
                bell.close()
                raise
            self._bell = bell
        restore = self._take_signals(bell)
        started: list[Worker] = []
        try:
            for worker in self._workers:
                worker.start()
                started.append(worker)
            self._supervise(bell)
        finally:
            restore()
            with self._lock:
                self._bell = None
                bell.close()
            self.close()
            for worker in self._workers[len(started) :]:
                if not worker.ended:  # the system had no thread to give
                    worker.abandon()
            self._await_threads(started)
        self._raise_what_ended_it()

    def _make_workers(
        self, handler: object, function: Callable[[Request], Response], count: int
    ) -> list[Worker]:
        workers: list[Worker] = []
        try:
            for number in range(count):
                workers.append(
                    Worker(
                        self._listeners,
                        handler,
                        function,
                        self.config,
                        self._ring,
                        name=f"flare-worker-{number}",
                        shared=count > 1,
                    )
                )
        except BaseException as error:
            for worker in workers:
                worker.abandon()
            if isinstance(error, OSError) and self._closed:  # by a signal handler, just now
                raise NetworkError("the server is closed") from error
            raise
        return workers

    def _await_threads(self, workers: list[Worker]) -> None:
        """See the threads off; those still inside a handler are left, and told of."""
        deadline = time.monotonic() + _LATE_SECONDS
        for worker in workers:
            for thread in worker.threads.join(deadline):
                error_log.error(
                    "%s is still inside a handler, left behind: %s", thread.name, _stack(thread)
                )

    def _supervise(self, bell: _Bell) -> None:
        """Wait until the server is to end, and see it out."""
        give_up_at: float | None = None
        while True:
            left = _seconds_until(give_up_at)
            if left == 0:
                return
            bell.wait(left)
            if self._closed or any(worker.failure for worker in self._workers):
                return
            if all(worker.ended for worker in self._workers):
                return
            if self._signals and give_up_at is None:
                budget_ms = self.config.shutdown_timeout_ms
                if budget_ms <= 0:
                    return
                give_up_at = time.monotonic() + budget_ms / 1000 + _LATE_SECONDS
                self._begin_drain(budget_ms)

    def _raise_what_ended_it(self) -> None:
        for worker in self._workers:
            failure = worker.failure
            if failure is not None:
                if isinstance(failure, Exception):
                    error_log.error("a worker failed: %s: %s", type(failure).__name__, failure)
                raise failure
        if signal.SIGINT in self._signals:
            raise KeyboardInterrupt

    def _ring(self) -> None:
        """Have ``serve`` look at the state again."""
        with self._lock:
            if self._bell is not None:
                self._bell.ring()

    def _take_signals(self, bell: _Bell) -> Callable[[], None]:
        """Catch SIGINT and SIGTERM, on the main thread only. What it returns puts back the
        handlers found."""
        if threading.current_thread() is not threading.main_thread():
            return lambda: None

        def on_signal(number: int, _frame: FrameType | None) -> None:
            self._signals.append(number)  # first: another signal may come in between
            if len(self._signals) > 1:
                self.close()
            self._ring()

        before: dict[int, Any] = {}
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, on_signal)
        woken_before = signal.set_wakeup_fd(bell.write_fd, warn_on_full_buffer=False)

        def restore() -> None:
            signal.set_wakeup_fd(woken_before)
            for number, found in before.items():
                signal.signal(number, signal.SIG_DFL if found is None else found)

        return restore

    def close(self) -> None:
        """Stop at once: cut off every connection and make ``serve`` return.

        Idempotent; any thread, any signal handler, any time. Does not wait for ``serve``.
        """
        with self._lock:
            self._closed = True
            for worker in self._workers:
                worker.stop()
            self._close_listeners()
        self._ring()

    def drain(self, timeout_ms: int) -> ShutdownReport:
        """Stop accepting, let requests in progress finish, then close everything.

        New connections are refused at once, and a connection waiting between requests is closed
        at once. One in the middle of a request may finish it; the response carries
        ``Connection: close``. What is still running after *timeout_ms* is cut off and counted in
        ``timed_out``; 0 or less means ``close``.

        Blocks until nothing is left or the time is up, whichever is first. Call it from any
        thread but a handler's, where it raises ``ValidationError``: it would wait for itself.
        Before ``serve`` there is nothing to drain: the report is all zeros, and a later
        ``serve`` raises.
        """
        me = threading.get_ident()
        if any(me in worker.threads.idents for worker in self._workers):
            raise ValidationError("drain", "called from inside a handler")
        if timeout_ms <= 0:
            self.close()
            return ShutdownReport()
        give_up_at = time.monotonic() + timeout_ms / 1000 + _LATE_SECONDS
        reports = [_result(report, give_up_at) for report in self._begin_drain(timeout_ms)]
        self.close()
        return ShutdownReport(
            drained=sum(report.drained for report in reports),
            timed_out=sum(report.timed_out for report in reports),
            in_flight_at_deadline=sum(report.in_flight_at_deadline for report in reports),
            crashed=sum(report.crashed for report in reports),
        )

    def _begin_drain(self, timeout_ms: int) -> list[Future[ShutdownReport]]:
        with self._lock:
            self._drained = True
            workers = list(self._workers)
        # The listeners close once no worker needs what waits in their queues.
        still_accepting = list(workers)

        def stopped_accepting() -> None:
            still_accepting.pop()
            if not still_accepting:
                self._close_listeners()

        if not workers:
            self._close_listeners()
        return [worker.drain(timeout_ms, stopped_accepting) for worker in workers]

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "serving" if self._serving else "bound"
        return f"<HttpServer {', '.join(map(str, self.local_addrs()))} {state}>"


class _Bell:
    """What ``serve`` waits for: any thread may ring it, and every signal does.

    A lock would not do. A signal that comes just before the wait, or that the kernel hands to
    another thread, would leave the wait as it is, and its handler would run only after it. The
    descriptor given to ``signal.set_wakeup_fd`` is written to in either case.
    """

    def __init__(self) -> None:
        try:
            self._read_fd, self.write_fd = os.pipe()
        except OSError as error:
            raise map_oserror(error, "pipe") from error
        os.set_blocking(self._read_fd, False)
        os.set_blocking(self.write_fd, False)
        self._poll = select.poll()
        self._poll.register(self._read_fd, select.POLLIN)

    def ring(self) -> None:
        try:
            os.write(self.write_fd, b"\0")
        except BlockingIOError:
            pass  # it is full of rings

    def wait(self, seconds: float | None) -> None:
        """Wait for a ring, *seconds* at most, and forget all rings so far."""
        if self._poll.poll(None if seconds is None else seconds * 1000):
            os.read(self._read_fd, 4096)

    def close(self) -> None:
        os.close(self._read_fd)
        os.close(self.write_fd)


def _stack(thread: threading.Thread) -> str:
    """Where *thread* is now, innermost first, in one line."""
    frame = sys._current_frames().get(thread.ident or 0)
    frames = traceback.extract_stack(frame) if frame is not None else []
    return " < ".join(f"{f.filename}:{f.lineno} in {f.name}" for f in reversed(frames[-4:]))


def _seconds_until(moment: float | None) -> float | None:
    return None if moment is None else max(0.0, moment - time.monotonic())


def _result(report: Future[ShutdownReport], give_up_at: float) -> ShutdownReport:
    try:
        return report.result(_seconds_until(give_up_at))
    except TimeoutError:
        # Inside a handler that takes no end; the worker goes with the process.
        return ShutdownReport(timed_out=1, in_flight_at_deadline=1)

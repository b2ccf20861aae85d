"""``HttpServer``: what listens, who serves, and how it ends.

The thread that calls ``serve`` only waits and supervises; each worker runs its loop on a thread
of its own, or in a process of its own, so a handler never runs on the caller's thread and a signal
never lands inside one.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Self

from flare.errors import NetworkError, ValidationError
from flare.http.handler import CancelHandler, HandlerLike, ViewHandler, as_handler_function
from flare.http.server.backend import settle
from flare.http.server.bell import Bell
from flare.http.server.child import WorkerProcess
from flare.http.server.config import ServerConfig
from flare.http.server.crew import (
    Crew,
    Reachable,
    ThreadCrew,
    WorkerKind,
    choose_kind,
    reload_logged,
    total,
)
from flare.http.server.kinds import Cancellable, Static, Viewing
from flare.http.server.listeners import (
    Listener,
    WorkerListeners,
    adopt_fds,
    bind_all,
    inherited_fds,
    name_of,
)
from flare.http.server.logs import error_log
from flare.http.server.processes import ProcessCrew
from flare.http.server.signals import take_signals
from flare.http.server.stats import ServerStats
from flare.http.static_response import StaticResponse
from flare.http2 import Http2Config
from flare.net import SocketAddr
from flare.runtime.report import ShutdownReport
from flare.tcp import TcpListener
from flare.uds import UnixListener

if TYPE_CHECKING:
    from flare.http.server.tls import ServerTls
    from flare.tls import TlsAcceptor, TlsServerConfig

__all__ = ["HttpServer"]

# What a drain waits beyond its budget for a worker that is inside a handler.
_LATE_SECONDS = 1.0
_NOTHING_TO_RELOAD = (
    "SIGHUP: nothing to reload; new code is taken by worker processes alone"
    " (flare serve --worker-kind process)"
)


class HttpServer:
    """A server of HTTP/1.1 and HTTP/2 for plain blocking handlers.

    ``bind`` one, then ``serve`` a handler; ``serve`` blocks until ``close`` or ``drain`` from
    another thread, or a signal. ``close``, ``drain`` and the ``local_addr`` methods are safe from
    any thread. A server serves once.

        with HttpServer.bind(SocketAddr.localhost(8080)) as server:
            server.serve(lambda request: ok("hello"))
    """

    def __init__(
        self,
        listeners: Listener | Iterable[Listener],
        config: ServerConfig | None = None,
        *,
        tls: TlsServerConfig | TlsAcceptor | None = None,
    ) -> None:
        """Own one or more *listeners*, which listen already. Several workers share them: sockets
        beside them would be in the way of whoever bound them. *tls*: see ``bind``."""
        self.config = _checked(config)
        self._tls = _server_tls(tls, self.config)
        self._listeners: list[Listener] = (
            [listeners] if isinstance(listeners, TcpListener | UnixListener) else list(listeners)
        )
        if not self._listeners:
            raise ValidationError("listeners", "at least one is needed")
        # Guards what follows. Reentrant: a signal handler may close what its thread is starting.
        self._lock = threading.RLock()
        self._crew: Reachable | None = None
        self._closed = False
        self._serving = False
        self._drained = False
        self._bell: Bell | None = None  # while serve() waits
        self._signals: list[int] = []
        self._reload_asked = False
        self._bound_here = False
        self._of_workers: WorkerListeners | None = None

    @classmethod
    def bind(
        cls,
        addr: SocketAddr,
        config: ServerConfig | None = None,
        *,
        tls: TlsServerConfig | TlsAcceptor | None = None,
        h2_config: Http2Config | None = None,
    ) -> Self:
        """Listen at *addr*; port 0 lets the system pick one. The system queues connections, up
        to ``config.backlog``, until ``serve``. Raises ``AddressInUse`` or ``NetworkError``.

        With *tls* every connection is encrypted, and the server speaks HTTPS alone. Its files are
        loaded here, and ``TlsServerError`` says which of them cannot be used. Where it names no
        ``alpn``, the server offers what it speaks; for other protocols there is a
        ``ValidationError``. For a *config* that is none there is a ``TypeError``.

        *h2_config* stands above ``config.h2_config``.
        """
        if h2_config is not None:
            config = replace(_checked(config), h2_config=h2_config)
        return cls.bind_many([addr], config, tls=tls)

    @classmethod
    def bind_unix(
        cls,
        path: str | os.PathLike[str],
        config: ServerConfig | None = None,
        *,
        mode: int | None = None,
        tls: TlsServerConfig | TlsAcceptor | None = None,
    ) -> Self:
        """Listen on a Unix socket at *path*, with the permission bits *mode*, such as ``0o660``,
        or else those that the umask leaves. *tls*: see ``bind``.

        A socket file that a process left behind is replaced; where somebody listens, and where
        another file is, it raises ``AddressInUse``. ``close`` removes the file, in this process
        alone. The ``peer`` of a request is ``0.0.0.0:0`` here: such peers have no address.
        """
        return cls._bound([os.fspath(path)], config, mode, tls)

    @classmethod
    def bind_many(
        cls,
        addrs: Iterable[SocketAddr | os.PathLike[str]],
        config: ServerConfig | None = None,
        *,
        mode: int | None = None,
        tls: TlsServerConfig | TlsAcceptor | None = None,
    ) -> Self:
        """Listen at every one of *addrs*, or at none: where one fails, the others are closed.

        A ``pathlib.Path`` is a Unix socket, of *mode*, as in ``bind_unix``. *tls*, for all of
        them: see ``bind``.
        """
        addrs = list(addrs)
        for addr in addrs:
            if not isinstance(addr, SocketAddr | os.PathLike):
                raise ValidationError("addrs", f"expected a SocketAddr or a Path, got {addr!r}")
        return cls._bound(addrs, config, mode, tls)

    @classmethod
    def _bound(
        cls,
        addrs: Iterable[SocketAddr | str | os.PathLike[str]],
        config: ServerConfig | None,
        mode: int | None,
        tls: TlsServerConfig | TlsAcceptor | None,
    ) -> Self:
        config = _checked(config)
        ready = _server_tls(tls, config)  # before anything is bound
        server = cls(bind_all(addrs, config.backlog, mode), config)
        server._tls = ready
        server._bound_here = True
        return server

    @classmethod
    def from_fds(
        cls,
        fds: Iterable[int] | None = None,
        config: ServerConfig | None = None,
        *,
        tls: TlsServerConfig | TlsAcceptor | None = None,
    ) -> Self:
        """Own the listening TCP and Unix sockets *fds*, opened by somebody else; without *fds*
        those that a service manager has passed on (``LISTEN_FDS``, as in sd_listen_fds(3)).
        *tls*: see ``bind``.

        ``close`` closes them, and removes no file. Raises ``ValidationError`` for a descriptor
        that is something else, and where there is none, ``NetworkError`` for one that is not
        open; then all stay the caller's.
        """
        config = _checked(config)
        if fds is None:
            fds = inherited_fds()
            if not fds:
                raise ValidationError("LISTEN_FDS", "no socket was passed to this process")
        ready = _server_tls(tls, config)
        server = cls(adopt_fds(fds), config)
        server._tls = ready
        return server

    def local_addr(self) -> SocketAddr:
        """Where it listens, with the real port; of several addresses the first. Raises
        ``ValidationError`` where it listens on Unix sockets alone."""
        addrs = self.local_addrs()
        if not addrs:
            raise ValidationError("local_addr", "the server listens on Unix sockets alone")
        return addrs[0]

    def local_addrs(self) -> list[SocketAddr]:
        """Every TCP address it listens at, in the order they were bound."""
        return [one.local_addr() for one in self._listeners if isinstance(one, TcpListener)]

    def local_paths(self) -> list[str]:
        """The path of every Unix socket it listens on, in the order they were bound."""
        return [one.local_path() for one in self._listeners if isinstance(one, UnixListener)]

    @property
    def scheme(self) -> str:
        """``"https"`` where it has TLS, else ``"http"``."""
        return "http" if self._tls is None else "https"

    def stats(self) -> ServerStats:
        """What it has done so far, summed over all workers, replaced ones included; after the
        end, what it did in all.

        Any thread, any process of the server, a handler too. Costs no request anything; worker
        processes publish their numbers once in each turn of their loop.
        """
        crew = self._crew
        return ServerStats() if crew is None else crew.stats()

    def serve(
        self,
        handler: HandlerLike,
        num_workers: int = 1,
        pin_cores: bool = True,
        *,
        worker_kind: WorkerKind = "auto",
    ) -> None:
        """Serve *handler* until ``close`` or ``drain`` from another thread, or a signal.

        Blocks. *num_workers* loops run at once, 0 and less meaning 1. One stays in this process.
        Several are forked processes, each with its own copy of the handler (``"process"``), or
        threads that may call the one handler at the same time (``"thread"``). ``"auto"`` has
        processes where threads would share one interpreter lock, unless other threads are alive
        or this is not the main thread; the environment variable ``FLARE_WORKER_KIND`` overrides
        it. ``"process"`` beside other threads is at the caller's risk: a lock that another thread
        holds at the fork is never released in the child. *pin_cores* keeps each process on a CPU
        of its own, where the system and a CPU quota allow it.

        A worker process that dies is replaced, and serving goes on; one that keeps dying ends
        it. On the main thread SIGTERM drains for ``shutdown_timeout_ms`` and returns; SIGINT
        drains and raises ``KeyboardInterrupt``; a second one cuts the drain short. SIGHUP, where
        workers are processes, replaces them one by one without refusing a connection; where the
        server has certificates, it reads them again (``reload_tls``); where it has neither, there
        is a line in the log, and a handler that the program has set for it is left alone. The
        SIGHUP of a terminal that was closed drains and returns. On other threads signals are left
        alone.

        Raises ``ValidationError`` for a bad configuration or more than 256 workers;
        ``TypeError`` for what is no handler; ``NetworkError``
        after ``close``, where listening or forking fails, where a worker process does not start,
        and where one dies five times in a row within five seconds of its start. What a handler
        raises never ends it, but for ``SystemExit`` and ``KeyboardInterrupt``, which come out
        here.
        """
        as_handler_function(handler)
        self.serve_factory(lambda: handler, num_workers, pin_cores, worker_kind=worker_kind)

    def serve_static(self, resp: StaticResponse) -> None:
        """Answer every request, whatever its method and path, with *resp*, as ``serve`` would.

        Requests are framed with all the guards and limits of ``serve``, and their bodies are
        discarded, but nothing else of them is looked at: no request object, no handler, no
        ``Date``, no access log.
        """
        self.serve(Static(resp))

    def serve_static_multicore(
        self, resp: StaticResponse, num_workers: int, pin_cores: bool = True
    ) -> None:
        """``serve_static`` by *num_workers* workers; see ``serve``."""
        self.serve(Static(resp), num_workers, pin_cores)

    def serve_comptime(self, handler: HandlerLike, config: ServerConfig | None = None) -> None:
        """``serve`` by one worker under *config*, which becomes the server's and is checked
        before anything is served: also that a body may be as large as a head."""
        config = _checked(config)
        config.validate(strict=True)
        self.config = config
        self.serve(handler)

    def serve_cancellable(self, handler: CancelHandler) -> None:
        """``serve`` a handler whose ``serve(req, cancel)`` is told when its answer is no longer
        wanted: the peer has left (``PEER_CLOSED``), its time is over (``TIMEOUT``), the server
        drains or ends (``SHUTDOWN``).

        The token flips while the handler runs off the loop's thread, which under ``"auto"`` it
        does after a few milliseconds; under ``dispatch="inline"`` it never flips.
        """
        self.serve(Cancellable(handler))

    def serve_view(self, handler: ViewHandler) -> None:
        """``serve`` a handler whose ``serve_view(req, cancel)`` gets a ``RequestView``: the request
        as it was received, with no copy made of its body or fields until one is asked for.

        The view is released when ``serve_view`` returns; what outlives the call, a streamed
        response among it, takes ``req.into_owned()`` first. The token is that of
        ``serve_cancellable``. Framing, limits and guards are those of ``serve``.
        ``WithViewCancel`` makes one of any other handler. Raises ``TypeError`` for what has no
        ``serve_view``.
        """
        self.serve(Viewing(handler))

    def serve_factory(
        self,
        make_handler: Callable[[], HandlerLike],
        num_workers: int = 1,
        pin_cores: bool = True,
        *,
        worker_kind: WorkerKind = "auto",
    ) -> None:
        """``serve`` what *make_handler* returns. It is called once in each worker process, also
        in those that come later: one that imports an application takes new code at a SIGHUP.

        Where workers are not processes it is called once, here. What it raises comes out here
        then; out of a worker process it comes as ``NetworkError``, at the start, and is logged
        later, when the workers there are go on.
        """
        self.config.validate()
        kind = choose_kind(num_workers, worker_kind)
        count = max(1, num_workers)
        handler = make_handler() if kind == "thread" else None
        with self._lock:
            if self._closed or self._drained:
                raise NetworkError("the server is closed")
            if self._serving:
                raise ValidationError("serve", "the server is serving already")
            self._serving = True
            bell = Bell()
            try:
                crew = self._make_crew(handler, make_handler, count, pin_cores, bell)
            except BaseException:
                bell.close()
                raise
            self._bell = bell
            self._crew = crew
        reloads = kind == "process" or self._tls is not None
        restore = take_signals(bell, self._on_end_signal, self._on_hangup, reloads=reloads)
        try:
            crew.start()
            self._supervise(crew, bell, reloads)
        finally:
            self.close()
            try:
                crew.end(_LATE_SECONDS)
            finally:
                restore()
                with self._lock:
                    self._bell = None
                    bell.close()
        self._raise_what_ended_it(crew)

    def _make_crew(
        self,
        handler: HandlerLike | None,
        make_handler: Callable[[], HandlerLike],
        count: int,
        pin_cores: bool,
        bell: Bell,
    ) -> Crew:
        config = settle(self.config)
        try:
            listeners = self._of_workers = WorkerListeners(
                self._listeners,
                count,
                backlog=self.config.backlog,
                own=self._bound_here,
                tls=self._tls,
            )
            if handler is not None:
                return ThreadCrew(
                    listeners, handler, config, count, self._ring, self._close_listeners
                )
            return ProcessCrew(
                listeners,
                make_handler,
                config,
                count,
                pin_cores,
                bell,
                self._enter_worker,
                self.close,
            )
        except OSError as error:
            if self._of_workers is not None:
                self._of_workers.close()
            if self._closed:  # by a signal handler, just now
                raise NetworkError("the server is closed") from error
            raise

    def _enter_worker(self, worker: WorkerProcess) -> None:
        """This is a worker process now: whatever is asked of the server here goes to *worker*."""
        self._lock = threading.RLock()  # the one there was may be another thread's for ever
        self._bell = None
        self._crew = worker
        self._signals = []

    def _supervise(self, crew: Crew, bell: Bell, reloads: bool) -> None:
        """Wait until the server is to end, and see it out. Whether it *reloads* anything decides
        what a SIGHUP does."""
        give_up_at: float | None = None
        while True:
            due = crew.tend()
            if self._closed or crew.ended or _seconds_until(give_up_at) == 0:
                return
            if self._signals and give_up_at is None:
                budget_ms = self.config.shutdown_timeout_ms
                if budget_ms <= 0:
                    return
                give_up_at = time.monotonic() + budget_ms / 1000 + _LATE_SECONDS
                self._begin_drain(budget_ms)
            elif self._reload_asked:
                self._reload_asked = False
                if not reloads:
                    error_log.warning(_NOTHING_TO_RELOAD)
                if reload_logged(self._tls):
                    crew.renew_tls()
                crew.replace_all()
            else:
                moments = [moment for moment in (due, give_up_at) if moment is not None]
                bell.wait(_seconds_until(min(moments, default=None)))

    def _raise_what_ended_it(self, crew: Crew) -> None:
        failure = crew.failure
        if failure is not None:
            raise failure
        if signal.SIGINT in self._signals:
            raise KeyboardInterrupt

    def _ring(self) -> None:
        """Have ``serve`` look at the state again."""
        with self._lock:
            if self._bell is not None:
                self._bell.ring()

    def _on_end_signal(self, number: int) -> None:
        self._signals.append(number)  # first: another signal may come in between
        if len(self._signals) > 1:
            self.close()
        self._ring()

    def _on_hangup(self, terminal_is_gone: bool) -> None:
        if not terminal_is_gone:
            self._reload_asked = True
        elif not self._signals:  # several may come of it: none of them cuts a drain short
            self._signals.append(signal.SIGHUP)
        self._ring()

    def reload_tls(self) -> None:
        """Read the certificates again; connections from now on get them, those there are go on.

        Any thread, while it serves or not; in a worker process it has all of them do so, and
        SIGHUP does the same. Where a file cannot be used this raises ``TlsServerError``, and
        nothing has changed. ``ValidationError`` where the server has no TLS.
        """
        if self._tls is None:
            raise ValidationError("tls", "the server has none")
        self._tls.reload()
        crew = self._crew
        if crew is not None:
            crew.renew_tls()

    def advertised_alpn_protocols(self) -> list[str]:
        """The protocols offered to TLS clients, what it likes best first; empty without TLS."""
        return [] if self._tls is None else self._tls.protocols

    def close(self) -> None:
        """Stop at once: cut off every connection and make ``serve`` return.

        Idempotent; any thread, any signal handler, any time. Does not wait for ``serve``.
        """
        with self._lock:
            self._closed = True
            if self._crew is not None:
                self._crew.stop()
            self._close_listeners()
        self._ring()

    def drain(self, timeout_ms: int) -> ShutdownReport:
        """Stop accepting, let requests in progress finish, then close everything.

        New connections are refused at once, and a connection waiting between requests is closed
        at once. One in the middle of a request may finish it; the response carries
        ``Connection: close``. What is still running after *timeout_ms* is cut off and counted in
        ``timed_out``; 0 or less means ``close``.

        Blocks until nothing is left or the time is up, whichever is first. Call it from any
        thread but a handler's, and not in a worker process, where it raises ``ValidationError``:
        it would wait for itself.
        Before ``serve`` there is nothing to drain: the report is all zeros, and a later
        ``serve`` raises.
        """
        crew = self._crew
        if crew is not None and crew.is_inside(threading.get_ident()):
            raise ValidationError("drain", "called from inside a handler")
        if timeout_ms <= 0:
            self.close()
            return ShutdownReport()
        give_up_at = time.monotonic() + timeout_ms / 1000 + _LATE_SECONDS
        waiting = self._begin_drain(timeout_ms)
        if crew is not None:
            give_up_at += crew.grace_seconds
            crew.see_out(give_up_at)
        reports = [_result(report, give_up_at) for report in waiting]
        self.close()
        return total(reports)

    def _begin_drain(self, timeout_ms: int) -> list[Future[ShutdownReport]]:
        with self._lock:
            self._drained = True
            crew = self._crew
            if crew is None:
                self._close_listeners()
                return []
        return crew.drain(timeout_ms)

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            listener.close()
        if self._of_workers is not None:
            self._of_workers.close()

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
        return f"<HttpServer {', '.join(map(name_of, self._listeners))} {state}>"


def _checked(config: object) -> ServerConfig:
    """*config*, or all the defaults. Raises ``TypeError`` for anything else."""
    if config is None:
        return ServerConfig()
    if not isinstance(config, ServerConfig):
        name = type(config).__name__
        hint = f"; write tls={name}(...)" if name in ("TlsServerConfig", "TlsAcceptor") else ""
        raise TypeError(f"config must be a ServerConfig, not a {name}{hint}")
    return config


def _server_tls(
    tls: TlsServerConfig | TlsAcceptor | None, config: ServerConfig
) -> ServerTls | None:
    """*tls* as the workers use it."""
    if tls is None:
        return None
    from flare.http.server.tls import ServerTls  # with `ssl`: not for servers without

    return ServerTls(tls, config)


def _seconds_until(moment: float | None) -> float | None:
    return None if moment is None else max(0.0, moment - time.monotonic())


def _result(report: Future[ShutdownReport], give_up_at: float) -> ShutdownReport:
    try:
        return report.result(_seconds_until(give_up_at))
    except TimeoutError:
        # Inside a handler that takes no end; the worker goes with the process.
        return ShutdownReport(timed_out=1, in_flight_at_deadline=1)

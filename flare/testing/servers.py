"""Servers for the length of a test: in a thread, in a new process, in a forked one.

``running_server`` is the cheapest. ``spawn_server`` is the one for a server in a process of its
own: it is safe whatever threads the test process has. ``fork_server`` forks the test process as
it stands, and a fork takes along every lock that another thread holds at that moment: use it from
programs that have no other thread. Where there are some, Python 3.12 and newer warn.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn

from flare._ffi import process
from flare.errors import NetworkError, ValidationError
from flare.http.handler import HandlerLike, as_handler_function
from flare.http.server import HttpServer, ServerConfig
from flare.net import SocketAddr

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

__all__ = [
    "ServerProcessError",
    "fork_server",
    "forked_server",
    "kill_forked_server",
    "running_server",
    "spawn_server",
]

Factory = Callable[[], tuple[HttpServer, HandlerLike]]

_STOP_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.005


class ServerProcessError(RuntimeError):
    """A server's process failed; the text is its traceback, or its exit code."""


@contextmanager
def running_server(
    handler: HandlerLike,
    server: HttpServer | SocketAddr | None = None,
    *,
    config: ServerConfig | None = None,
) -> Iterator[HttpServer]:
    """Serve *handler* in a thread; the ``with`` block gets the ``HttpServer``.

    *server* is one that is bound, or where to bind one, with *config*; ``None`` is any free port
    on the loopback. At the end of the block the server is closed and its thread waited for. What
    ``serve`` raised, before or then, is raised there.
    """
    if not isinstance(server, HttpServer):
        server = HttpServer.bind(server or SocketAddr.localhost(0), config)
    elif config is not None:
        raise ValidationError("config", "the server has its own already")
    bound = server
    failures: list[BaseException] = []
    closing = threading.Event()

    def serve() -> None:
        try:
            bound.serve(handler)
        except BaseException as error:
            # Where the block was over before serve() began, it finds the server closed.
            if not (closing.is_set() and type(error) is NetworkError):
                failures.append(error)

    thread = threading.Thread(target=serve, name="flare-running-server", daemon=True)
    thread.start()
    try:
        yield bound
    finally:
        closing.set()
        bound.close()
        thread.join(_STOP_SECONDS)
        if thread.is_alive():
            failures.append(TimeoutError(f"serve() did not end in {_STOP_SECONDS:g} s"))
        if failures:
            raise failures[0]


def fork_server(srv: HttpServer, handler: HandlerLike, startup_us: int = 150_000) -> int:
    """Serve *handler* in a forked process, and return its id.

    The server moves there: here its listeners are closed, so ask it for its address before or
    after, but not for more. Waits until the child can be connected to, *startup_us* microseconds
    at most. End it with ``kill_forked_server``. In the child no Python signal handler is left;
    what ``serve`` raises is printed to stderr, and its exit code is 1.

    Raises ``OSError`` where the system cannot fork, ``ServerProcessError`` where the child ends
    at once, and ``TypeError`` for what is no handler.
    """
    as_handler_function(handler)
    srv.config.validate()
    addr = srv.local_addr()
    # A signal must find the child with the system's reactions, not with those of its parent.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = process.fork()
        if pid == 0:
            _serve_forked(srv, handler, mask)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    srv.close()
    try:
        _wait_until_connected(pid, addr, time.monotonic() + startup_us / 1e6)
    except BaseException:
        kill_forked_server(pid)
        raise
    return pid


def _serve_forked(
    srv: HttpServer, handler: HandlerLike, mask: Iterable[signal.Signals | int]
) -> NoReturn:
    """The whole life of the child; never returns."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in signal.valid_signals():
            if callable(signal.getsignal(number)):
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        srv.serve(handler)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        # Not sys.exit: what the parent had set up to run at its own exit is not the child's.
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)


def _wait_until_connected(pid: int, addr: SocketAddr, deadline: float) -> None:
    host = str(addr.ip)
    target = ({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), addr.port)
    while True:
        code = process.waitpid(pid, block=False)
        if code is not None:
            raise ServerProcessError(f"the forked server ended at once, exit code {code}")
        left = deadline - time.monotonic()
        if left <= 0:
            return
        try:
            socket.create_connection(target, timeout=left).close()
            return
        except OSError:
            time.sleep(min(_POLL_SECONDS, left))


def kill_forked_server(pid: int) -> None:
    """Kill the process *pid* and wait for its end; nothing happens where it is gone already.

    An id of 0 or less, which the system reads as many processes, raises ``ValueError``.
    """
    try:
        process.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    try:
        process.waitpid(pid)
    except ChildProcessError:
        pass


@contextmanager
def forked_server(
    srv: HttpServer, handler: HandlerLike, startup_us: int = 150_000
) -> Iterator[SocketAddr]:
    """``fork_server`` for the length of a ``with`` block, which gets the server's address."""
    pid = fork_server(srv, handler, startup_us)
    try:
        yield srv.local_addr()
    finally:
        kill_forked_server(pid)


@contextmanager
def spawn_server(
    factory: Factory,
    *,
    method: Literal["spawn", "forkserver"] = "spawn",
    startup_ms: int = 30_000,
) -> Iterator[SocketAddr]:
    """Run a server in a new process for the length of a ``with`` block, which gets its address.

    *factory* is called there, and returns a bound ``HttpServer`` and what it shall serve. It must
    be importable: a function at the top of a module, which the new process imports. At the end of
    the block the server is closed and the process waited for. ``multiprocessing``, which starts
    the process by *method*, keeps small helper processes of its own until the interpreter exits.

    Raises ``ValidationError`` for a factory that cannot be imported, and ``ServerProcessError``
    where the factory or ``serve`` raises, where the process dies, and where it does not answer in
    *startup_ms*.
    """
    import multiprocessing

    try:
        pickle.dumps(factory)
    except Exception:
        raise ValidationError("factory", "must be a function at the top of a module") from None
    context: Any = multiprocessing.get_context(method)
    ours, theirs = context.Pipe()
    child = context.Process(target=_serve_spawned, args=(factory, theirs), daemon=True)
    with ours:
        try:
            child.start()
        finally:
            theirs.close()
        try:
            yield _answer(child, ours, startup_ms / 1000)
            try:
                ours.send("stop")
            except OSError:
                pass  # it ended before; its last words say why
            _answer(child, ours, _STOP_SECONDS)
        finally:
            ours.close()
            child.join(_STOP_SECONDS)
            if child.is_alive():
                child.kill()
                child.join()
            child.close()


def _answer(child: BaseProcess, pipe: Connection[Any, Any], seconds: float) -> Any:
    """What the child says next."""
    if not pipe.poll(seconds):
        raise ServerProcessError(f"the spawned server did not answer in {seconds:g} s")
    try:
        value, failure = pipe.recv()
    except (EOFError, ConnectionResetError):
        child.join(_STOP_SECONDS)
        code = child.exitcode
        raise ServerProcessError(f"the spawned server ended, exit code {code}") from None
    if failure is not None:
        raise ServerProcessError(failure)
    return value


def _serve_spawned(factory: Factory, pipe: Connection[Any, Any]) -> None:
    """What the spawned process runs."""
    closing = threading.Event()
    failure = None
    try:
        server, handler = factory()
        with server:
            threading.Thread(
                target=_close_when_told, args=(server, pipe, closing), daemon=True
            ).start()
            pipe.send((server.local_addr(), None))
            server.serve(handler)
    except BaseException as error:
        if not (closing.is_set() and type(error) is NetworkError):
            failure = traceback.format_exc()
    try:
        pipe.send((None, failure))
    except OSError:
        pass  # the test is gone, and with it all interest


def _close_when_told(
    server: HttpServer, pipe: Connection[Any, Any], closing: threading.Event
) -> None:
    try:
        pipe.recv()
    except (EOFError, OSError):
        pass  # the test process ended
    closing.set()
    server.close()

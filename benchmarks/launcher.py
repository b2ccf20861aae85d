"""Starts a peer on its core, waits until it answers, and ends what it has started: nothing else.

Every wait has an end. Servers listen on the loopback address, at a port that was free a moment
ago; where somebody was faster, another is tried.
"""

from __future__ import annotations

import http.client
import os
import signal
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.peers import Deployment, Peer, Place
from benchmarks.processes import cpu_seconds, pinned, process_tree, resident_bytes

__all__ = ["LaunchError", "NotAvailable", "Server", "running"]

_ROOT = Path(__file__).resolve().parent.parent
_EX_UNAVAILABLE = 69
_START_SECONDS = 20.0
_STOP_SECONDS = 5.0
_TRIES = 3


class LaunchError(Exception):
    """A server did not come up; the message has the end of what it said."""


class NotAvailable(Exception):
    """The server has not got what the workload is about."""


@dataclass(frozen=True)
class Server:
    """A server that answers on 127.0.0.1, and the processes it consists of."""

    peer: Peer
    port: int
    pid: int
    tls: bool = False

    @property
    def url(self) -> str:
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}"

    def connection(self, timeout: float) -> http.client.HTTPConnection:
        """A connection to it, to be closed by whoever asked."""
        return connection_to(self.port, timeout, tls=self.tls)

    def cpu_seconds(self) -> float:
        return sum(cpu_seconds(pid) for pid in process_tree(self.pid))

    def resident_bytes(self) -> int:
        return sum(resident_bytes(pid) for pid in process_tree(self.pid))


@contextmanager
def running(
    peer: Peer,
    deployment: Deployment,
    python: Path,
    cores: Set[int],
    *,
    probe: Callable[[int], None] | None = None,
) -> Iterator[Server]:
    """*peer* serving on *cores* for as long as the body runs. *probe* asks the server at a port,
    in another way than HTTP/1.1, and raises ``OSError`` until it answers.

    Raises ``NotAvailable`` where the program ends saying so, ``LaunchError`` where it ends or is
    silent for 20 seconds, on three ports.
    """
    with tempfile.TemporaryDirectory(prefix="flare-benchmark-") as name:
        directory = Path(name)
        for last in (False,) * (_TRIES - 1) + (True,):
            place = Place(python, _free_port(), directory)
            process = _start(peer.command(place, deployment), directory, cores)
            try:
                try:
                    _wait_until_it_answers(
                        process,
                        place.port,
                        directory / "output",
                        probe or partial(_ask, tls=deployment.tls),
                    )
                except LaunchError:
                    if last:
                        raise
                    continue
                yield Server(peer, place.port, process.pid, deployment.tls)
                return
            finally:
                _stop(process)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _start(command: list[str], directory: Path, cores: Set[int]) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(_ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    with (directory / "output").open("wb") as output, pinned(cores):
        # A session of its own: the group is ended as a whole, workers of the peer included.
        return subprocess.Popen(
            command,
            cwd=_ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def connection_to(port: int, timeout: float, *, tls: bool) -> http.client.HTTPConnection:
    """A connection to the server at *port*, whose certificate, with *tls*, is of its own making."""
    if not tls:
        return http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return http.client.HTTPSConnection("127.0.0.1", port, timeout=timeout, context=context)


def _ask(port: int, *, tls: bool) -> None:
    connection = connection_to(port, 1, tls=tls)
    try:
        connection.request("GET", "/")
        connection.getresponse().read()
    finally:
        connection.close()


def _wait_until_it_answers(
    process: subprocess.Popen[bytes], port: int, output: Path, probe: Callable[[int], None]
) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        status = _exit_status(process.pid)
        if status is not None:
            said = _tail(output)
            if status == _EX_UNAVAILABLE:
                raise NotAvailable(said)
            raise LaunchError(f"ended with status {status}: {said}")
        try:
            probe(port)
        except (OSError, http.client.HTTPException):
            time.sleep(0.02)
        else:
            return
    raise LaunchError(f"did not answer within {_START_SECONDS:.0f} s: {_tail(output)}")


def _tail(output: Path) -> str:
    return output.read_text("utf-8", "replace")[-1000:].strip() or "it said nothing"


def _exit_status(pid: int) -> int | None:
    """How *pid* ended, or None. It stays a zombie, so that its group's number stays ours."""
    result = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
    return None if result is None else result.si_status


def _stop(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM to the group of *process*, SIGKILL to what is left of it after five seconds."""
    try:
        os.killpg(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + _STOP_SECONDS
        while _exit_status(process.pid) is None and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

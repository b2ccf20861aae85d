"""What is measured of clients, and what flare must reach.

A measurement is short, and the clients take turns at it many times: each in a process of its own,
warm, alone on its core while the others wait for their next order.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
from collections.abc import Iterator, Sequence, Set
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from benchmarks.apps.common import PLAINTEXT
from benchmarks.client_peers import CLIENTS, ClientPeer
from benchmarks.goals import Goal
from benchmarks.launcher import running
from benchmarks.peers import PEERS, Deployment, Peer, Place
from benchmarks.processes import Cores, pinned
from benchmarks.results import Metric

__all__ = [
    "CLIENT_GOALS",
    "CLIENT_WORKLOADS",
    "ClientBench",
    "ClientProcess",
    "ClientWorkload",
    "WorkerError",
    "client_workers",
]

_ROOT = Path(__file__).resolve().parent.parent
_ALL = tuple(CLIENTS)
_LARGE_BYTES = 100_000_000
_LARGE_PATH = f"/blob/{_LARGE_BYTES}"
_ORDER_SECONDS = 120
_CALIBRATION = 50
_ROUND_SECONDS = 0.2
_MEMORY_CALLS = 1000
_THREADS = 16


class WorkerError(Exception):
    """A client did not carry out an order; the message says why."""


@dataclass(frozen=True)
class ClientBench:
    """What measurements have in common: the interpreter, the cores (a client has that called
    "server", its server that called "load"), and a directory for files."""

    python: Path
    cores: Cores
    directory: Path


class ClientProcess:
    """A ``client_worker`` of *peer*, of the server at *url*, run by *python* on *cores*."""

    def __init__(self, peer: ClientPeer, url: str, python: Path, cores: Set[int]) -> None:
        self.peer = peer
        command = [str(python), "-m", "benchmarks.client_worker", peer.name, url]
        with pinned(cores):
            self._process = subprocess.Popen(
                command,
                cwd=_ROOT,
                env=_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )

    def ask(self, do: str, **arguments: Any) -> dict[str, float]:
        """Give an order and wait for its figures, two minutes at most. Raises ``WorkerError``."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise WorkerError(f"{self.peer.name} has ended: {error}") from error
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(_ORDER_SECONDS):
                raise WorkerError(f"{self.peer.name} said nothing for {_ORDER_SECONDS} s")
        reply = json.loads(self._process.stdout.readline() or b'{"error": "it has ended"}')
        if "error" in reply:
            raise WorkerError(f"{self.peer.name}: {reply['error']}")
        figures: dict[str, float] = reply
        return figures

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


def _environment() -> dict[str, str]:
    # No proxy, whatever the user has set: everything is on this machine.
    kept = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    return {**kept, "PYTHONPATH": str(_ROOT), "PYTHONDONTWRITEBYTECODE": "1"}


@contextmanager
def client_workers(
    peers: Sequence[ClientPeer], sink: bool, bench: ClientBench
) -> Iterator[dict[str, ClientProcess]]:
    """A worker for each of *peers*, all of one server: nginx, or with *sink* one that swallows
    uploads."""
    server = _SINK if sink else _NGINX
    with (
        running(server, Deployment(), bench.python, bench.cores.load) as serving,
        ExitStack() as stack,
    ):
        workers: dict[str, ClientProcess] = {}
        for peer in peers:
            workers[peer.name] = ClientProcess(peer, serving.url, bench.python, bench.cores.server)
            stack.callback(workers[peer.name].stop)
        yield workers


def _nginx_command(place: Place, deployment: Deployment) -> list[str]:
    command = PEERS["nginx"].command(place, deployment)
    with (place.directory / "blob" / str(_LARGE_BYTES)).open("wb") as large:
        large.truncate(_LARGE_BYTES)
    return command


def _sink_command(place: Place, deployment: Deployment) -> list[str]:
    return [str(place.python), "-m", "benchmarks.client_sink", "--port", str(place.port)]


_NGINX = Peer("nginx", "nginx", (), _nginx_command)
_SINK = Peer("sink", "sink", (), _sink_command)


class ClientWorkload(Protocol):
    """A row of ``CLIENT_WORKLOADS``. The first of *metrics* is what clients are compared by;
    *share* is how many of the rounds it has, *sink* whether it uploads."""

    name: str
    title: str
    peers: tuple[str, ...]
    metrics: tuple[Metric, ...]
    share: float
    sink: bool

    def warm_up(self, worker: ClientProcess, bench: ClientBench) -> None: ...
    def measure(self, worker: ClientProcess, bench: ClientBench) -> dict[str, float]: ...


RATE = Metric("rate", "requests/s", "/s")
PER_CPU = Metric("per_cpu", "per CPU second", "")
SPEED = Metric("speed", "MB/s", "MB/s")
SPEED_PER_CPU = Metric("per_cpu", "MB per CPU second", "MB")


@dataclass
class SmallGet:
    """One thread that asks for 13 bytes, again and again, over one connection."""

    name: str = "get"
    title: str = "small GET over a kept connection"
    peers: tuple[str, ...] = _ALL
    metrics: tuple[Metric, ...] = (RATE, PER_CPU)
    share: float = 1.0
    sink: bool = False
    counts: dict[str, int] = field(default_factory=dict)

    def warm_up(self, worker: ClientProcess, bench: ClientBench) -> None:
        """Two calibrations: how many requests make a round."""
        for _ in range(2):
            figures = self._ask(worker, _CALIBRATION)
            count = int(_CALIBRATION * _ROUND_SECONDS / max(figures["wall"], 1e-6))
            self.counts[worker.peer.name] = max(_CALIBRATION, count)

    def measure(self, worker: ClientProcess, bench: ClientBench) -> dict[str, float]:
        count = self.counts[worker.peer.name]
        figures = self._ask(worker, count)
        return {"rate": count / figures["wall"], "per_cpu": count / max(figures["cpu"], 1e-6)}

    def _ask(self, worker: ClientProcess, count: int) -> dict[str, float]:
        return worker.ask("get", path="/", answer=PLAINTEXT.decode(), count=count)


@dataclass
class Transfer:
    """100 MB into a file or from one."""

    name: str
    title: str
    sink: bool
    peers: tuple[str, ...] = _ALL
    metrics: tuple[Metric, ...] = (SPEED, SPEED_PER_CPU)
    share: float = 0.5

    def warm_up(self, worker: ClientProcess, bench: ClientBench) -> None:
        self.measure(worker, bench)

    def measure(self, worker: ClientProcess, bench: ClientBench) -> dict[str, float]:
        file = bench.directory / "large"
        if self.sink:
            if not file.exists():
                with file.open("wb") as large:
                    large.truncate(_LARGE_BYTES)
            figures = worker.ask("send", path="/upload", source=str(file))
        else:
            target = bench.directory / f"saved-by-{worker.peer.name}"
            figures = worker.ask("save", path=_LARGE_PATH, target=str(target), size=_LARGE_BYTES)
        megabytes = _LARGE_BYTES / 1e6
        return {
            "speed": megabytes / figures["wall"],
            "per_cpu": megabytes / max(figures["cpu"], 1e-6),
        }


@dataclass
class Threads:
    """16 threads that share a client, against 16 threads with one each."""

    name: str = "threads"
    title: str = "16 threads sharing a client, against 16 clients"
    peers: tuple[str, ...] = ("flare", "urllib3", "httpx", "requests")
    metrics: tuple[Metric, ...] = (
        Metric("share", "of 16 clients", "x"),
        Metric("rate", "requests/s shared", "/s"),
    )
    share: float = 0.5
    sink: bool = False
    count: int = 60

    def warm_up(self, worker: ClientProcess, bench: ClientBench) -> None:
        self.measure(worker, bench)

    def measure(self, worker: ClientProcess, bench: ClientBench) -> dict[str, float]:
        seconds = {True: 0.0, False: 0.0}
        for shared in (True, False, False, True):  # so that neither has the better time
            figures = worker.ask(
                "threads",
                path="/",
                answer=PLAINTEXT.decode(),
                count=self.count,
                threads=_THREADS,
                shared=shared,
            )
            seconds[shared] += figures["wall"]
        rate = 2 * self.count * _THREADS / seconds[True]
        return {"share": seconds[False] / seconds[True], "rate": rate}


@dataclass
class Import:
    """What a program waits for before its first line about HTTP, in a process of its own."""

    name: str = "import"
    title: str = "import"
    peers: tuple[str, ...] = _ALL
    metrics: tuple[Metric, ...] = (Metric("ms", "import", "ms", more_is_better=False),)
    share: float = 0.5
    sink: bool = False

    def warm_up(self, worker: ClientProcess, bench: ClientBench) -> None:
        self.measure(worker, bench)

    def measure(self, worker: ClientProcess, bench: ClientBench) -> dict[str, float]:
        script = (
            "import time; began = time.perf_counter()\n"
            f"{worker.peer.imports}\n"
            "print(time.perf_counter() - began)"
        )
        # The warm-up leaves flare's bytecode where an installation would have put it.
        environment = {**_environment(), "PYTHONDONTWRITEBYTECODE": ""}
        with pinned(bench.cores.server):
            done = subprocess.run(
                [str(bench.python), "-c", script],
                cwd=bench.directory,
                env=environment,
                capture_output=True,
                text=True,
                timeout=_ORDER_SECONDS,
            )
        if done.returncode:
            raise WorkerError(f"{worker.peer.name}: {done.stderr[-500:].strip()}")
        return {"ms": float(done.stdout) * 1e3}


@dataclass
class Memory:
    """By how much a process grows in a thousand calls, after a thousand to settle."""

    name: str = "memory"
    title: str = "growth in 1,000 calls"
    peers: tuple[str, ...] = _ALL
    metrics: tuple[Metric, ...] = (Metric("grown", "grown by", "KB", more_is_better=False),)
    share: float = 0.2
    sink: bool = False

    def warm_up(self, worker: ClientProcess, bench: ClientBench) -> None:
        self.measure(worker, bench)

    def measure(self, worker: ClientProcess, bench: ClientBench) -> dict[str, float]:
        figures = worker.ask("memory", path="/", count=_MEMORY_CALLS)
        return {"grown": figures["grown"] / 1024}


_TABLE: tuple[ClientWorkload, ...] = (
    SmallGet(),
    Transfer("download", "download 100 MB into a file", sink=False),
    Transfer("upload", "upload 100 MB from a file", sink=True),
    Threads(),
    Import(),
    Memory(),
)

CLIENT_WORKLOADS: dict[str, ClientWorkload] = {workload.name: workload for workload in _TABLE}


def _faster(peer: str, factor: float, metric: str = "rate") -> Goal:
    by = "" if metric == "rate" else ", by CPU time"
    return Goal("get", f"get: of {peer}{by}", metric, factor, peer=peer)


CLIENT_GOALS: tuple[Goal, ...] = (
    _faster("http.client", 1.0),
    _faster("pycurl", 1 / 1.3),
    _faster("urllib3", 2.0),
    _faster("urllib3", 3.0, "per_cpu"),
    _faster("httpx", 2.0),
    _faster("httpx", 3.0, "per_cpu"),
    _faster("requests", 5.0),
    Goal("download", "download: of http.client", "speed", 1.0, peer="http.client"),
    Goal("upload", "upload: of http.client", "speed", 1.0, peer="http.client"),
    Goal("threads", "16 threads with one client, of 16", "share", 1.0),
    Goal("import", "import: time of requests", "ms", 0.5, peer="requests", floor=False),
    # Some pages come and go with the allocator; a leak of 100 bytes a call would show.
    Goal("memory", "growth in 1,000 calls", "grown", 64, "KB", floor=False),
)

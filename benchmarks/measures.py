"""The ways to measure a server: requests a second, a ladder of connections, a route beside a
busy neighbour, idle connections, worker processes.

Each starts a fresh server, makes sure that it answers correctly, warms it up, and returns figures
by name. ``LoadError`` means that they would not count, ``NotAvailable`` that there is no such
thing.
"""

from __future__ import annotations

import http.client
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from benchmarks.apps.common import PLAINTEXT
from benchmarks.idle import idle_connections
from benchmarks.launcher import Server, running
from benchmarks.load import Load, LoadError, LoadResult, background_load, run_load
from benchmarks.peers import Deployment, Peer
from benchmarks.processes import Cores, pinned
from benchmarks.results import Metric

__all__ = [
    "RATE",
    "Ask",
    "Bench",
    "Beside",
    "Connections",
    "Idle",
    "Throughput",
    "Workers",
    "Workload",
]

_WARM_UP_SECONDS = 1
_ANSWER_SECONDS = 20
_SETTLE_SECONDS = 2  # a server may look round for a second after its last request
_SPARE_DESCRIPTORS = 500
_PROBES = 256
_ORDINARY = Deployment()

RATE = Metric("rate", "requests/s", "/s")
_P99 = Metric("p99_ms", "p99", "ms", more_is_better=False)
_PER_CPU = Metric("per_cpu", "per CPU second", "")
_BUSY = Metric("busy", "core busy", "%")


@dataclass(frozen=True)
class Bench:
    """What measurements have in common: the interpreter, the cores, the time for one, a directory
    for scripts, the descriptors a process may have, and how many connections to leave idle."""

    python: Path
    cores: Cores
    seconds: int
    scripts: Path
    descriptors: int
    idle: int


@dataclass(frozen=True)
class Ask:
    """A request, and the body that is the only right answer. *upload* bytes are sent with it."""

    path: str = "/"
    answer: bytes = field(default=PLAINTEXT, repr=False)
    upload: int = 0
    headers: tuple[tuple[str, str], ...] = ()

    def load(self, server: Server, connections: int, bench: Bench) -> Load:
        script = None
        if self.upload:
            script = bench.scripts / f"upload-{self.upload}.lua"
            script.write_text(
                f'wrk.method = "POST"\nwrk.body = string.rep("x", {self.upload})\n', "ascii"
            )
        return Load(server.url + self.path, connections, self.headers, script)

    def check(self, server: Server) -> None:
        """Ask once; raise ``LoadError`` for anything but 200 and the right bytes."""
        connection = server.connection(_ANSWER_SECONDS)
        try:
            method = "POST" if self.upload else "GET"
            connection.request(method, self.path, b"x" * self.upload or None, dict(self.headers))
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise LoadError(f"{self.path} was not answered: {error!r}") from error
        finally:
            connection.close()
        if response.status != 200 or body != self.answer:
            raise LoadError(
                f"{self.path} was answered with {response.status} and {len(body)} bytes"
                f" {body[:40]!r}, expected 200 and {len(self.answer)} bytes"
            )


class Workload(Protocol):
    """A row of the table in ``workloads``. The first of *metrics* is what peers are compared by."""

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def peers(self) -> tuple[str, ...]: ...
    @property
    def metrics(self) -> tuple[Metric, ...]: ...
    def seconds(self, bench: Bench) -> int:
        """About how long one measurement takes."""
        ...

    def measure(self, bench: Bench, peer: Peer) -> dict[str, float]: ...


def _measured(load: Load, ask: Ask, bench: Bench) -> LoadResult:
    result = run_load(load, bench.seconds, bench.cores.load)
    result.check(len(ask.answer))
    return result


def _warm_up(server: Server, load: Load, ask: Ask, bench: Bench) -> None:
    """Have *load* run for a second, then ask once more: an answer to that shows that what the
    load has left behind, unanswered when its time was up, is done with."""
    run_load(load, _WARM_UP_SECONDS, bench.cores.load).check(len(ask.answer))
    ask.check(server)


def _at_least_ms(result: LoadResult) -> float:
    """The 99th percentile; where nobody was answered, the time everybody waited in vain."""
    return result.seconds * 1e3 if result.p99_ms is None else result.p99_ms


@dataclass(frozen=True)
class Throughput:
    """Requests a second of one kind by connections that ask again once answered."""

    name: str
    title: str
    ask: Ask
    peers: tuple[str, ...]
    connections: int = 64
    deployment: Deployment = _ORDINARY
    metrics: tuple[Metric, ...] = (RATE, _PER_CPU, _BUSY, _P99)

    def seconds(self, bench: Bench) -> int:
        return _WARM_UP_SECONDS + bench.seconds + 1

    def measure(self, bench: Bench, peer: Peer) -> dict[str, float]:
        with running(peer, self.deployment, bench.python, bench.cores.server) as server:
            self.ask.check(server)
            load = self.ask.load(server, self.connections, bench)
            _warm_up(server, load, self.ask, bench)
            before = server.cpu_seconds()
            result = _measured(load, self.ask, bench)
            used = server.cpu_seconds() - before
        return {
            "rate": result.rate,
            "per_cpu": result.requests / used if used else 0.0,
            "busy": 100 * used / result.seconds,
            "p99_ms": _at_least_ms(result),
        }


@dataclass(frozen=True)
class Connections:
    """The same server with more and more connections, and what is left of its speed."""

    name: str
    title: str
    peers: tuple[str, ...]
    ask: Ask = Ask()
    metrics: tuple[Metric, ...] = (
        Metric("rate_1024", "1024 connections", "/s"),
        Metric("rate_256", "256", "/s"),
        Metric("rate_64", "64", "/s"),
        Metric("kept", "1024 of 64", "x"),
    )

    def seconds(self, bench: Bench) -> int:
        return 3 * (_WARM_UP_SECONDS + bench.seconds) + 1

    def measure(self, bench: Bench, peer: Peer) -> dict[str, float]:
        rates: dict[int, float] = {}
        with running(peer, _ORDINARY, bench.python, bench.cores.server) as server:
            self.ask.check(server)
            for connections in (64, 256, 1024):
                load = self.ask.load(server, connections, bench)
                _warm_up(server, load, self.ask, bench)
                rates[connections] = _measured(load, self.ask, bench).rate
        figures = {f"rate_{connections}": rate for connections, rate in rates.items()}
        return {**figures, "kept": rates[1024] / rates[64] if rates[64] else 0.0}


@dataclass(frozen=True)
class Beside:
    """A fast route alone, then the same while other clients keep a slow one busy."""

    name: str
    title: str
    slow: Ask
    peers: tuple[str, ...]
    fast: Ask = Ask()
    connections: int = 64
    slow_connections: int = 32
    metrics: tuple[Metric, ...] = (
        Metric("rate", "fast route beside", "/s"),
        Metric("alone", "fast route alone", "/s"),
        Metric("share", "beside of alone", "x"),
        Metric("p99_ms", "p99 beside", "ms", more_is_better=False),
        Metric("slow_rate", "slow route", "/s"),
    )

    def seconds(self, bench: Bench) -> int:
        return _WARM_UP_SECONDS + 2 * bench.seconds + 3

    def measure(self, bench: Bench, peer: Peer) -> dict[str, float]:
        deployment = Deployment(blocking=True)
        with running(peer, deployment, bench.python, bench.cores.server) as server:
            self.fast.check(server)
            self.slow.check(server)
            fast = self.fast.load(server, self.connections, bench)
            slow = self.slow.load(server, self.slow_connections, bench)
            _warm_up(server, fast, self.fast, bench)
            alone = _measured(fast, self.fast, bench)
            around = bench.seconds + _WARM_UP_SECONDS + 1
            with background_load(slow, around, bench.cores.load) as slow_results:
                time.sleep(_WARM_UP_SECONDS)
                beside = _measured(fast, self.fast, bench)
            slow_results[0].check(len(self.slow.answer))
        return {
            "rate": beside.rate,
            "alone": alone.rate,
            "share": beside.rate / alone.rate if alone.rate else 0.0,
            "p99_ms": _at_least_ms(beside),
            "slow_rate": slow_results[0].rate,
        }


@dataclass(frozen=True)
class Idle:
    """Keep-alive connections that say nothing: memory for each, and processor time for all."""

    name: str
    title: str
    peers: tuple[str, ...]
    ask: Ask = Ask()
    metrics: tuple[Metric, ...] = (
        Metric("bytes", "memory a connection", "B", more_is_better=False),
        Metric("cpu", "of a core", "%", more_is_better=False),
        Metric("connections", "connections", ""),
    )

    def seconds(self, bench: Bench) -> int:
        return bench.seconds + 4

    def measure(self, bench: Bench, peer: Peer) -> dict[str, float]:
        count = min(bench.idle, bench.descriptors - _SPARE_DESCRIPTORS)
        with running(peer, _ORDINARY, bench.python, bench.cores.server) as server:
            self.ask.check(server)
            time.sleep(_SETTLE_SECONDS)
            before = server.resident_bytes()
            with (
                pinned(bench.cores.load),
                idle_connections(server.port, count, self.ask.answer),
            ):
                time.sleep(_SETTLE_SECONDS)
                memory = server.resident_bytes() - before
                used = server.cpu_seconds()
                began = time.monotonic()
                time.sleep(bench.seconds)
                elapsed = time.monotonic() - began
                used = server.cpu_seconds() - used
        return {"bytes": memory / count, "cpu": 100 * used / elapsed, "connections": count}


@dataclass(frozen=True)
class Workers:
    """Two worker processes against one: work done for the processor time, and how it is shared.

    By processor time, so that it holds on a machine whose second core makes the load.
    """

    name: str
    title: str
    peers: tuple[str, ...] = ("flare",)
    ask: Ask = Ask("/counted")
    connections: int = 64
    metrics: tuple[Metric, ...] = (
        Metric("efficiency", "requests per CPU second, two of one", "x"),
        Metric("busier", "requests of the busier worker", "%", more_is_better=False),
        Metric("rate_two", "two workers", "/s"),
        Metric("rate_one", "one worker", "/s"),
    )

    def seconds(self, bench: Bench) -> int:
        return 2 * (_WARM_UP_SECONDS + bench.seconds + 1)

    def measure(self, bench: Bench, peer: Peer) -> dict[str, float]:
        # Two first: where there is no such thing, that is known at once.
        two, per_cpu_two, shares = self._one_server(bench, peer, 2)
        one, per_cpu_one, _ = self._one_server(bench, peer, 1)
        return {
            "efficiency": per_cpu_two / per_cpu_one if per_cpu_one else 0.0,
            "busier": 100 * max(shares),
            "rate_two": two.rate,
            "rate_one": one.rate,
        }

    def _one_server(
        self, bench: Bench, peer: Peer, workers: int
    ) -> tuple[LoadResult, float, list[float]]:
        deployment = Deployment(workers=workers)
        with running(peer, deployment, bench.python, bench.cores.workers) as server:
            self.ask.check(server)
            load = self.ask.load(server, self.connections, bench)
            _warm_up(server, load, self.ask, bench)
            counted, used = _counts(server, workers), server.cpu_seconds()
            result = _measured(load, self.ask, bench)
            used = server.cpu_seconds() - used
            after = _counts(server, workers)
        taken = [after[pid] - counted.get(pid, 0) for pid in after]
        total = sum(taken) or 1
        return result, result.requests / used if used else 0.0, [part / total for part in taken]


def _counts(server: Server, workers: int) -> dict[str, int]:
    """How many requests each worker has answered; connections are made until all have told."""
    found: dict[str, int] = {}
    for _ in range(_PROBES):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=_ANSWER_SECONDS)
        try:
            connection.request("GET", "/served", headers={"Connection": "close"})
            pid, count = connection.getresponse().read().split()
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise LoadError(f"/served was not answered: {error!r}") from error
        finally:
            connection.close()
        found[pid.decode()] = int(count)
        if len(found) == workers:
            return found
    raise LoadError(f"only {len(found)} of {workers} workers took a connection")

"""What is measured of HTTP/2, who takes part, and what flare must reach.

Servers speak it without TLS, by prior knowledge, asked by h2load. Decoders of HPACK get the heads
of ``tests/http2/heads.json``, each once in a run, with a fresh table for each connection. Clients
are shared by 40 threads, and ask nginx, which has the core that makes the load of servers.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.apps.common import KEEP_ALIVE_SECONDS, PLAINTEXT
from benchmarks.client_peers import H2_CLIENTS
from benchmarks.client_workloads import ClientProcess, WorkerError
from benchmarks.goals import Goal
from benchmarks.launcher import Server, running
from benchmarks.load import LoadError
from benchmarks.measures import RATE, Ask, Bench, Workload
from benchmarks.peers import PEERS, Deployment, Peer, Place
from benchmarks.processes import pinned
from benchmarks.results import Metric
from flare.http import HttpClient

__all__ = ["H2_GOALS", "H2_PEERS", "H2_WORKLOADS", "H2LoadResult", "parse_h2load"]

_ROOT = Path(__file__).resolve().parent.parent
_H2 = Deployment(http2=True)
_WARM_UP_SECONDS = 1
_GRACE_SECONDS = 20
_TRIES = 20  # for a request of a client's: a lost connection fails all that are on it
_PER_CPU = Metric("per_cpu", "per CPU second", "")
_BUSY = Metric("busy", "core busy", "%")
_MEAN = Metric("mean_ms", "mean", "ms", more_is_better=False)
_FAILED = Metric("failed", "failed", "", more_is_better=False)
_HEADS = Metric("rate", "heads/s", "/s")
_STRINGS = Metric("rate", "strings/s", "/s")

_FINISHED = re.compile(r"^finished in ([\d.]+)(us|ms|s|m|h), ([\d.]+) req/s", re.M)
_REQUESTS = re.compile(
    r"^requests: \d+ total, \d+ started, (\d+) done, \d+ succeeded, (\d+) failed, (\d+) errored",
    re.M,
)
_CODES = re.compile(r"^status codes: (\d+) 2xx", re.M)
_DATA = re.compile(r"\((\d+)\) data$", re.M)
_TIME = re.compile(r"^time for request:\s+\S+\s+\S+\s+([\d.]+)(us|ms|s)", re.M)
_TIMES_MS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 60e3, "h": 3600e3}


def _hypercorn(place: Place, deployment: Deployment) -> list[str]:
    options = (
        f"-m hypercorn --bind 127.0.0.1:{place.port} --log-level error"
        f" --keep-alive {KEEP_ALIVE_SECONDS} benchmarks.apps.asgi:app"
    )
    return [str(place.python), *options.split()]


def _no_server(place: Place, deployment: Deployment) -> list[str]:
    raise LoadError("neither a codec nor a client is a server")


H2_PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        PEERS["flare"],
        PEERS["granian"],
        Peer("hypercorn", "hypercorn (h2)", ("hypercorn", "h2"), _hypercorn),
        PEERS["nginx"],
        Peer("hpack", "hpack (PyPI)", ("hpack",), _no_server),
        Peer("httpx", "httpx[http2]", ("httpx", "httpcore", "h2"), _no_server),
    )
}


@dataclass(frozen=True)
class H2LoadResult:
    """What h2load reports."""

    seconds: float
    rate: float
    requests: int
    failed: int
    succeeded: int
    body_bytes: int
    mean_ms: float

    def check(self, body_bytes: int) -> None:
        """Raise ``LoadError`` for errors, and for fewer bytes than that many whole bodies have."""
        # At the end of its time h2load has seen heads whose bodies it does not wait for.
        if self.failed or self.succeeded < self.requests or not self.requests:
            raise LoadError(f"{self.succeeded} of {self.requests} requests were answered with 2xx")
        if self.body_bytes < self.requests * body_bytes:
            raise LoadError(f"{self.body_bytes} bytes for {self.requests} bodies of {body_bytes}")


def parse_h2load(text: str) -> H2LoadResult:
    """The figures in h2load's report. Raises ``LoadError`` where it is none."""
    finished, requests = _FINISHED.search(text), _REQUESTS.search(text)
    codes, data, time = _CODES.search(text), _DATA.search(text), _TIME.search(text)
    if not (finished and requests and codes and data and time):
        raise LoadError(f"expected the report of h2load, got {text[-300:].strip()!r}")
    return H2LoadResult(
        seconds=float(finished[1]) * _TIMES_MS[finished[2]] / 1e3,
        rate=float(finished[3]),
        requests=int(requests[1]),
        failed=int(requests[2]) + int(requests[3]),
        succeeded=int(codes[1]),
        body_bytes=int(data[1]),
        mean_ms=float(time[1]) * _TIMES_MS[time[2]],
    )


def _ask(port: int) -> None:
    """Ask once in HTTP/2; raise ``OSError`` for anything but the right answer."""
    try:
        with HttpClient(f"http://127.0.0.1:{port}", prefer_h2c=True, timeout_ms=5000) as client:
            response = client.get("/")
    except Exception as error:
        raise OSError(str(error)) from error
    if (response.status, response.body, response.version) != (200, PLAINTEXT, "HTTP/2"):
        raise OSError(f"answered with {response.status} in {response.version}")


@dataclass(frozen=True)
class H2Throughput:
    """Requests a second by connections with so many streams at a time."""

    name: str
    title: str
    peers: tuple[str, ...]
    connections: int = 16
    streams: int = 16
    ask: Ask = field(default_factory=Ask)
    metrics: tuple[Metric, ...] = (RATE, _PER_CPU, _BUSY, _MEAN)

    def seconds(self, bench: Bench) -> int:
        return _WARM_UP_SECONDS + bench.seconds + 1

    def measure(self, bench: Bench, peer: Peer) -> dict[str, float]:
        with running(peer, _H2, bench.python, bench.cores.server, probe=_ask) as server:
            self._load(server, _WARM_UP_SECONDS, bench)
            before = server.cpu_seconds()
            result = self._load(server, bench.seconds, bench)
            used = server.cpu_seconds() - before
        return {
            "rate": result.rate,
            "per_cpu": result.requests / used if used else 0.0,
            "busy": 100 * used / result.seconds,
            "mean_ms": result.mean_ms,
        }

    def _load(self, server: Server, seconds: int, bench: Bench) -> H2LoadResult:
        command = ["h2load", "-t", "1", "-c", str(self.connections), "-m", str(self.streams)]
        command += ["-D", str(seconds), server.url + self.ask.path]
        with pinned(bench.cores.load):
            try:
                done = subprocess.run(
                    command, capture_output=True, text=True, timeout=seconds + _GRACE_SECONDS
                )
            except subprocess.TimeoutExpired:
                raise LoadError("h2load did not end in time") from None
        result = parse_h2load(done.stdout)
        result.check(len(self.ask.answer))
        return result


@dataclass(frozen=True)
class Decoding:
    """Heads, or strings in the Huffman code, decoded in a second of processor time."""

    name: str
    title: str
    kind: str
    metrics: tuple[Metric, ...]
    peers: tuple[str, ...] = ("flare", "hpack")

    def seconds(self, bench: Bench) -> int:
        return bench.seconds

    def measure(self, bench: Bench, peer: Peer) -> dict[str, float]:
        command = [str(bench.python), "-m", "benchmarks.apps.hpack_app", self.kind, peer.name]
        with pinned(bench.cores.server):
            done = subprocess.run(
                [*command, str(bench.seconds)],
                cwd=_ROOT,
                capture_output=True,
                text=True,
                timeout=bench.seconds + _GRACE_SECONDS,
            )
        if done.returncode:
            raise LoadError(done.stderr[-300:].strip())
        return {"rate": float(done.stdout)}


@dataclass(frozen=True)
class SharedClient:
    """One client that so many threads ask of, each again and again, over one connection. What
    fails is asked again, which takes its time, and counted."""

    name: str
    title: str
    peers: tuple[str, ...] = ("flare", "httpx")
    threads: int = 40
    count: int = 50
    metrics: tuple[Metric, ...] = (RATE, _PER_CPU, _BUSY, _FAILED)

    def seconds(self, bench: Bench) -> int:
        return _WARM_UP_SECONDS + bench.seconds + 1

    def measure(self, bench: Bench, peer: Peer) -> dict[str, float]:
        client = H2_CLIENTS[f"{peer.name}-h2"]
        with running(PEERS["nginx"], _H2, bench.python, bench.cores.load, probe=_ask) as server:
            worker = ClientProcess(client, server.url, bench.python, bench.cores.server)
            try:
                self._ask(worker)
                wall = cpu = failed = 0.0
                asked = 0
                while wall < bench.seconds:
                    figures = self._ask(worker)
                    wall += figures["wall"]
                    cpu += figures["cpu"]
                    failed += figures["failed"]
                    asked += self.threads * self.count
            except WorkerError as error:
                raise LoadError(str(error)) from None
            finally:
                worker.stop()
        return {
            "rate": asked / wall,
            "per_cpu": asked / max(cpu, 1e-6),
            "busy": 100 * cpu / wall,
            "failed": failed,
        }

    def _ask(self, worker: ClientProcess) -> dict[str, float]:
        return worker.ask(
            "threads",
            path="/",
            answer=PLAINTEXT.decode(),
            count=self.count,
            threads=self.threads,
            shared=True,
            tries=_TRIES,
        )


_TABLE: tuple[Workload, ...] = (
    H2Throughput(
        "h2",
        "plaintext over h2c, 16 connections of 16 streams",
        ("flare", "granian", "hypercorn", "nginx"),
    ),
    Decoding("hpack", "HPACK: decoding of request and response heads", "heads", (_HEADS,)),
    Decoding("huffman", "HPACK: decoding of the strings in them", "strings", (_STRINGS,)),
    SharedClient("h2-client", "40 threads of 50 requests each with one h2c client"),
)

H2_WORKLOADS: dict[str, Workload] = {workload.name: workload for workload in _TABLE}

H2_GOALS: tuple[Goal, ...] = (
    Goal("h2", "h2: of hypercorn", "rate", 8.0, peer="hypercorn"),
    Goal("h2", "h2: of granian", "rate", 0.8, peer="granian"),
    Goal("h2", "h2: of nginx", "rate", 0.4, peer="nginx"),
    Goal("hpack", "hpack: of the PyPI hpack", "rate", 2.0, peer="hpack"),
    Goal("huffman", "huffman: of the PyPI hpack", "rate", 3.0, peer="hpack"),
    Goal("h2-client", "h2-client: of httpx[http2]", "rate", 3.0, peer="httpx"),
    Goal("h2-client", "h2-client: requests that failed", "failed", 0, "", floor=False),
)

"""Runs wrk, and makes numbers of what it prints."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import pinned

__all__ = ["Load", "LoadError", "LoadResult", "background_load", "parse_wrk", "run_load"]

# Above any wait for an answer: how slow a server is, the figures tell, not an error.
_ANSWER_SECONDS = 60
_GRACE_SECONDS = 20

_TIMES_MS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 60e3, "h": 3600e3}
_SIZES = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}

_TOTAL = re.compile(r"^\s*(\d+) requests in ([\d.]+)(us|ms|s|m|h), ([\d.]+)([KMGT]?)B read", re.M)
_RATE = re.compile(r"^Requests/sec:\s+([\d.]+)", re.M)
_PERCENTILE = re.compile(r"^\s+(50|75|90|99)(?:\.0+)?%\s+([\d.]+)(us|ms|s|m|h)\s*$", re.M)
_SOCKET_ERRORS = re.compile(
    r"^\s*Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", re.M
)
_BAD_STATUS = re.compile(r"^\s*Non-2xx or 3xx responses: (\d+)", re.M)


class LoadError(Exception):
    """A measurement that does not count, and why."""


@dataclass(frozen=True)
class Load:
    """What wrk is to ask, and by how many connections at once."""

    url: str
    connections: int
    headers: tuple[tuple[str, str], ...] = ()
    script: Path | None = None

    def command(self, seconds: int) -> list[str]:
        command = ["wrk", "--latency", "-t", "1", "-c", str(self.connections)]
        command += ["-d", f"{seconds}s", "--timeout", f"{_ANSWER_SECONDS}s"]
        for name, value in self.headers:
            command += ["-H", f"{name}: {value}"]
        if self.script is not None:
            command += ["-s", str(self.script)]
        return [*command, self.url]


@dataclass(frozen=True)
class LoadResult:
    """What wrk reports. Percentiles are None where nothing was answered."""

    requests: int
    seconds: float
    read_bytes: float
    rate: float
    p50_ms: float | None
    p99_ms: float | None
    socket_errors: int
    bad_statuses: int

    def check(self, body_bytes: int) -> None:
        """Raise ``LoadError`` for errors, and for fewer bytes than that many whole bodies have."""
        if self.socket_errors or self.bad_statuses:
            raise LoadError(
                f"{self.socket_errors} socket errors and {self.bad_statuses} bad statuses"
                f" in {self.requests} requests"
            )
        # wrk rounds to three digits or more.
        if self.read_bytes < 0.99 * self.requests * body_bytes:
            raise LoadError(
                f"{self.read_bytes:.0f} bytes for {self.requests} bodies of {body_bytes}"
            )


def parse_wrk(text: str) -> LoadResult:
    """The figures in wrk's report. Raises ``LoadError`` where it is none."""
    total, rate = _TOTAL.search(text), _RATE.search(text)
    if total is None or rate is None:
        raise LoadError(f"expected the report of wrk, got {text[-300:].strip()!r}")
    requests = int(total[1])
    percentiles = {
        int(found[1]): float(found[2]) * _TIMES_MS[found[3]]
        for found in _PERCENTILE.finditer(text)
        if requests
    }
    errors, statuses = _SOCKET_ERRORS.search(text), _BAD_STATUS.search(text)
    return LoadResult(
        requests=requests,
        seconds=float(total[2]) * _TIMES_MS[total[3]] / 1e3,
        read_bytes=float(total[4]) * _SIZES[total[5]],
        rate=float(rate[1]),
        p50_ms=percentiles.get(50),
        p99_ms=percentiles.get(99),
        socket_errors=sum(map(int, errors.groups())) if errors else 0,
        bad_statuses=int(statuses[1]) if statuses else 0,
    )


def run_load(load: Load, seconds: int, cores: Set[int]) -> LoadResult:
    """Have wrk ask for *seconds* on *cores*. Blocks; at most 20 seconds longer than that."""
    process = _start(load, seconds, cores)
    return _result(process, seconds)


@contextmanager
def background_load(load: Load, seconds: int, cores: Set[int]) -> Iterator[list[LoadResult]]:
    """wrk asking while the body runs, for *seconds*. Its result is in the list afterwards."""
    process = _start(load, seconds, cores)
    results: list[LoadResult] = []
    try:
        yield results
        results.append(_result(process, seconds))
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def _start(load: Load, seconds: int, cores: Set[int]) -> subprocess.Popen[str]:
    with pinned(cores):
        return subprocess.Popen(
            load.command(seconds),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


def _result(process: subprocess.Popen[str], seconds: int) -> LoadResult:
    try:
        output, _ = process.communicate(timeout=seconds + _GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        raise LoadError(f"wrk did not end {_GRACE_SECONDS} s after its time") from None
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    if process.returncode:
        raise LoadError(f"wrk ended with status {process.returncode}: {output[-300:].strip()}")
    return parse_wrk(output)

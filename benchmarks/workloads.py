"""What is measured: the table of workloads, in the order of running and telling."""

from __future__ import annotations

from benchmarks.apps.common import BLOB_SIZES, PLAINTEXT, blob, user_json
from benchmarks.measures import Ask, Beside, Connections, Idle, Throughput, Workers, Workload
from benchmarks.peers import PEERS, PYTHON_PEERS, Deployment

__all__ = ["WORKLOADS"]

_ALL = tuple(PEERS)
_KIB = 1024
_MIB = 1024 * 1024
_SMALL, _LARGE = BLOB_SIZES


def _upload(size: int, name: str, title: str, connections: int = 64) -> Throughput:
    ask = Ask("/upload", b"%d" % size, upload=size)
    return Throughput(name, title, ask, PYTHON_PEERS, connections)


_TABLE: tuple[Workload, ...] = (
    Throughput("plaintext", "plaintext by a handler", Ask(), _ALL),
    Throughput(
        "static",
        "one precomputed answer (serve_static, nginx return)",
        Ask(answer=PLAINTEXT),
        ("flare", "nginx"),
        deployment=Deployment(static=True),
    ),
    Throughput(
        "json",
        "JSON of path and query parameters",
        Ask("/users/42?tag=blue&verbose=true", user_json(42, "blue", True)),
        PYTHON_PEERS,
    ),
    _upload(_KIB, "post-1k", "POST 1 KB"),
    _upload(64 * _KIB, "post-64k", "POST 64 KB"),
    _upload(_MIB, "post-1m", "POST 1 MB, 16 connections", connections=16),
    Throughput("download-64k", "download 64 KB", Ask(f"/blob/{_SMALL}", blob(_SMALL)), _ALL),
    Throughput(
        "download-16m",
        "download 16 MB, 8 connections",
        Ask(f"/blob/{_LARGE}", blob(_LARGE)),
        _ALL,
        connections=8,
    ),
    Throughput(
        "connection-per-request",
        "a connection for each request",
        Ask(headers=(("Connection", "close"),)),
        _ALL,
    ),
    Connections("connections", "plaintext by 64, 256 and 1024 connections", _ALL),
    Throughput(
        "sleep",
        "64 clients of a handler that sleeps 100 ms (ideal: 640/s)",
        Ask("/sleep", b"slept"),
        PYTHON_PEERS,
        deployment=Deployment(blocking=True),
    ),
    Beside(
        "beside-sleep",
        "plaintext beside 32 clients of a handler that sleeps 100 ms",
        Ask("/sleep", b"slept"),
        PYTHON_PEERS,
    ),
    Beside(
        "beside-compute",
        "plaintext beside 32 clients of a handler that computes 20 ms",
        Ask("/compute", b"computed"),
        PYTHON_PEERS,
    ),
    Idle("idle", "10,000 idle keep-alive connections", _ALL),
    Workers("workers", "two worker processes against one"),
)

WORKLOADS: dict[str, Workload] = {workload.name: workload for workload in _TABLE}

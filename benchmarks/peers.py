"""Who is measured, and how each is started: one process that handles requests, no access log,
connections kept alive for longer than any measurement, no limit on connections in the way.

Where a workload's handlers block, those that have handler threads get 64, elsewhere 4, with which
each comes within some per cent of its best.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.apps.common import BLOB_SIZES, HANDLER_THREADS, KEEP_ALIVE_SECONDS, PLAINTEXT, blob
from flare.cli.tls import self_signed

__all__ = ["PEERS", "PYTHON_PEERS", "Deployment", "Peer", "Place"]

_MAX_CONNECTIONS = 12_000
_FEW_THREADS = 4
_APPS = Path(__file__).parent / "apps"


@dataclass(frozen=True)
class Deployment:
    """What a workload asks of a server: 64 handler threads, a fixed answer, worker processes, TLS
    with a certificate of its own (ECDSA P-256), with or without sessions to resume, HTTP/2 without
    TLS, which some of the peers can be started with."""

    blocking: bool = False
    static: bool = False
    workers: int = 1
    tls: bool = False
    resumption: bool = True
    http2: bool = False


@dataclass(frozen=True)
class Place:
    """Where a server runs: the interpreter of the benchmarks, a port, a directory of its own."""

    python: Path
    port: int
    directory: Path


@dataclass(frozen=True)
class Peer:
    """A server under test. *packages* are those whose versions are told."""

    name: str
    title: str
    packages: tuple[str, ...]
    command: Callable[[Place, Deployment], list[str]]


def _flare(place: Place, deployment: Deployment) -> list[str]:
    command = [str(place.python), "-m", "benchmarks.apps.flare_app", "--port", str(place.port)]
    if deployment.static:
        command.append("--static")
    if deployment.workers > 1:
        command += ["--workers", str(deployment.workers)]
    if deployment.tls:
        cert, key = self_signed(place.directory)
        command += ["--tls-cert", str(cert), "--tls-key", str(key)]
        if not deployment.resumption:
            command.append("--no-tickets")
    return command


def _granian(place: Place, deployment: Deployment) -> list[str]:
    threads = HANDLER_THREADS if deployment.blocking else _FEW_THREADS
    version = 2 if deployment.http2 else 1
    options = (
        f"-m granian --interface wsgi --http {version} --no-ws --blocking-threads {threads}"
        f" --backpressure {_MAX_CONNECTIONS} --log-level error --port {place.port}"
    )
    command = [str(place.python), *options.split()]
    if deployment.tls:
        cert, key = self_signed(place.directory)
        command += ["--ssl-certificate", str(cert), "--ssl-keyfile", str(key)]
    return [*command, "benchmarks.apps.wsgi:app"]


def _uvicorn(http: str, loop: str) -> Callable[[Place, Deployment], list[str]]:
    def command(place: Place, deployment: Deployment) -> list[str]:
        options = (
            f"-m uvicorn --http {http} --loop {loop} --port {place.port} --lifespan off"
            f" --ws none --no-access-log --log-level error"
            f" --timeout-keep-alive {KEEP_ALIVE_SECONDS}"
        )
        return [str(place.python), *options.split(), "benchmarks.apps.asgi:app"]

    return command


def _gunicorn(place: Place, deployment: Deployment) -> list[str]:
    threads = HANDLER_THREADS if deployment.blocking else _FEW_THREADS
    options = (
        f"-m gunicorn --worker-class gthread --threads {threads}"
        f" --worker-connections {_MAX_CONNECTIONS} --keep-alive {KEEP_ALIVE_SECONDS}"
        f" --no-control-socket --log-level error --bind 127.0.0.1:{place.port}"
    )
    return [str(place.python), *options.split(), "benchmarks.apps.wsgi:app"]


def _waitress(place: Place, deployment: Deployment) -> list[str]:
    threads = HANDLER_THREADS if deployment.blocking else _FEW_THREADS
    options = (
        f"-m waitress --listen=127.0.0.1:{place.port} --threads={threads}"
        f" --connection-limit={_MAX_CONNECTIONS} --asyncore-use-poll --no-log-socket-errors"
    )
    return [str(place.python), *options.split(), "benchmarks.apps.wsgi:app"]


def _cheroot(place: Place, deployment: Deployment) -> list[str]:
    threads = HANDLER_THREADS if deployment.blocking else _FEW_THREADS
    options = (
        f"-m benchmarks.apps.cheroot_app --port {place.port} --threads {threads}"
        f" --connections {_MAX_CONNECTIONS}"
    )
    return [str(place.python), *options.split()]


def _nginx(place: Place, deployment: Deployment) -> list[str]:
    values = {
        "directory": str(place.directory),
        "connections": str(_MAX_CONNECTIONS),
        "keep_alive": str(KEEP_ALIVE_SECONDS),
        "port": str(place.port) + (" http2" if deployment.http2 else ""),
        "plaintext": PLAINTEXT.decode(),
        "ssl": "",
        "certificate": "",
    }
    if deployment.tls:
        cert, key = self_signed(place.directory)
        values["ssl"] = " ssl"
        values["certificate"] = (
            f"ssl_certificate {cert}; ssl_certificate_key {key}; ssl_protocols TLSv1.2 TLSv1.3;"
        )
        if not deployment.resumption:
            values["certificate"] += " ssl_session_tickets off; ssl_session_cache off;"
    template = (_APPS / "nginx.conf").read_text("utf-8")
    path = place.directory / "nginx.conf"
    path.write_text(re.sub(r"\{\{(\w+)\}\}", lambda found: values[found[1]], template), "utf-8")
    blobs = place.directory / "blob"
    blobs.mkdir(exist_ok=True)
    for size in BLOB_SIZES:
        (blobs / str(size)).write_bytes(blob(size))
    options = ["-p", str(place.directory), "-c", str(path)]
    return ["nginx", *options, "-e", str(place.directory / "error.log")]


PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer("flare", "flare", ("flare",), _flare),
        Peer("granian", "granian (WSGI)", ("granian",), _granian),
        Peer(
            "uvicorn",
            "uvicorn, uvloop, httptools",
            ("uvicorn", "uvloop", "httptools"),
            _uvicorn("httptools", "uvloop"),
        ),
        Peer(
            "uvicorn-h11", "uvicorn, asyncio, h11", ("uvicorn", "h11"), _uvicorn("h11", "asyncio")
        ),
        Peer("gunicorn", "gunicorn gthread", ("gunicorn",), _gunicorn),
        Peer("waitress", "waitress", ("waitress",), _waitress),
        Peer("cheroot", "cheroot", ("cheroot",), _cheroot),
        Peer("nginx", "nginx", (), _nginx),
    )
}
"""In the order of measuring and telling; flare is what the others are compared with."""

PYTHON_PEERS = tuple(name for name in PEERS if name != "nginx")

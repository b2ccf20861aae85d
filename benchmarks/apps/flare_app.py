"""The application on flare, as a program: ``python -m benchmarks.apps.flare_app --port N``.

Ends with status 69 and one line where this flare has not got what was asked for.
"""

from __future__ import annotations

import argparse
import inspect
import os
import sys
import time
from typing import Any, NoReturn

import flare.http
from benchmarks.apps.common import (
    KEEP_ALIVE_SECONDS,
    PLAINTEXT,
    SLEEP_SECONDS,
    blob,
    compute,
    user_json,
)
from flare import HttpServer, Request, Response, Router, ServerConfig, SocketAddr, ok
from flare.tls import TlsServerConfig

EX_UNAVAILABLE = 69

_served = 0


def plaintext(request: Request) -> Response:
    return ok(PLAINTEXT)


def counted(request: Request) -> Response:
    """Plaintext, counted by process: which worker took how much. One thread a process counts."""
    global _served
    _served += 1
    return ok(PLAINTEXT)


def served(request: Request) -> Response:
    return ok(f"{os.getpid()} {_served}")


def user(request: Request) -> Response:
    body = user_json(
        int(request.param("id")),
        request.query_param("tag"),
        request.query_param("verbose") == "true",
    )
    return Response(200, body=body, headers={"Content-Type": "application/json"})


def upload(request: Request) -> Response:
    return ok(str(len(request.body)))


def download(request: Request) -> Response:
    body = blob(int(request.param("size")))
    return Response(200, body=body, headers={"Content-Type": "application/octet-stream"})


def sleep(request: Request) -> Response:
    time.sleep(SLEEP_SECONDS)
    return ok("slept")


def busy(request: Request) -> Response:
    compute()
    return ok("computed")


def make_router() -> Router:
    router = Router()
    router.get("/", plaintext)
    router.get("/counted", counted)
    router.get("/served", served)
    router.get("/users/:id", user)
    router.post("/upload", upload)
    router.get("/blob/:size", download)
    router.get("/sleep", sleep)
    router.get("/compute", busy)
    return router


def unavailable(what: str) -> NoReturn:
    print(f"this flare has no {what}", file=sys.stderr)
    raise SystemExit(EX_UNAVAILABLE)


def serve_static(server: HttpServer) -> None:
    precompute = getattr(flare.http, "precompute_response", None)
    serve = getattr(server, "serve_static", None)
    if precompute is None or serve is None:
        unavailable("serve_static")
    serve(precompute(status=200, content_type="text/plain; charset=utf-8", body=PLAINTEXT))


def serve_workers(server: HttpServer, workers: int) -> None:
    if workers == 1:
        server.serve(make_router())
        return
    if "worker_kind" not in inspect.signature(server.serve).parameters:
        unavailable("process workers")
    options: dict[str, Any] = {"worker_kind": "process"}
    server.serve(make_router(), workers, **options)


def main() -> None:
    parser = argparse.ArgumentParser(prog="flare_app")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--static", action="store_true", help="serve_static instead of a Router")
    parser.add_argument("--workers", type=int, default=1, help="more than 1 are processes")
    parser.add_argument("--tls-cert", default="")
    parser.add_argument("--tls-key", default="")
    parser.add_argument("--no-tickets", action="store_true", help="each handshake is a full one")
    arguments = parser.parse_args()
    config = ServerConfig(idle_timeout_ms=KEEP_ALIVE_SECONDS * 1000)
    options: dict[str, Any] = {}
    if arguments.tls_cert:
        if "tls" not in inspect.signature(HttpServer.bind).parameters:
            unavailable("TLS")
        options["tls"] = TlsServerConfig(
            arguments.tls_cert, arguments.tls_key, enable_session_tickets=not arguments.no_tickets
        )
    with HttpServer.bind(SocketAddr.localhost(arguments.port), config, **options) as server:
        if arguments.static:
            serve_static(server)
        else:
            serve_workers(server, arguments.workers)


if __name__ == "__main__":
    main()

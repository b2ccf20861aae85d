"""``flare demo``: a small application that is served, fetched from, and left running."""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from flare._version import __version__
from flare.cli import CommandError
from flare.cli.listen import bind, url_of
from flare.cli.tls import self_signed
from flare.http.client import HttpClient
from flare.http.request import Request
from flare.http.response import Response, StreamingResponse, ok_json_value
from flare.http.router import Router
from flare.http.server import HttpServer
from flare.tls import TlsServerConfig

__all__ = ["application", "run"]

_DRAIN_MS = 5000
_HTTP_PORT, _HTTPS_PORT = 8080, 8443


def application() -> Router:
    """The demo's routes: a page, JSON with a path parameter, an echo, a streamed response."""
    router = Router()
    router.get("/", welcome)
    router.get("/hello/:name", hello)
    router.post("/echo", echo)
    router.get("/stream", stream)
    return router


def welcome(request: Request) -> Response:
    """The page a browser sees."""
    page = Path(__file__).with_name("welcome.html").read_text("utf-8")
    page = page.replace("{{version}}", __version__)
    return Response(200, body=page, headers={"Content-Type": "text/html; charset=utf-8"})


def hello(request: Request) -> Response:
    """JSON, with what the path says and how the request came."""
    return ok_json_value(
        {
            "hello": request.param("name"),
            "version": request.version,
            "scheme": request.scheme,
            "agent": request.headers.get("user-agent"),
        }
    )


def echo(request: Request) -> Response:
    """What was sent, in the type it was sent in."""
    kind = request.headers.get("content-type") or "application/octet-stream"
    return Response(200, body=request.body, headers={"Content-Type": kind})


def stream(request: Request) -> StreamingResponse[object]:  # type: ignore[type-var]
    """A hundred lines, made one by one while they are sent."""
    return StreamingResponse(200, _lines(), headers={"Content-Type": "text/plain; charset=utf-8"})


def _lines() -> Iterator[bytes]:
    for number in range(1, 101):
        yield b"line %d of 100\n" % number


class _Fetched(NamedTuple):
    method: str
    path: str
    status: int
    size: int
    elapsed_ms: float
    shown: str


def run(arguments: argparse.Namespace) -> int:
    """Serve, fetch every route, print the table; then serve until Ctrl-C, or stop at once."""
    failures: list[str] = []
    with ExitStack() as stack:
        server = stack.enter_context(HttpServer(bind(arguments.host, arguments.port)))
        base = url_of(server.local_addr())
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="flare-")))
        secure = None if arguments.no_https else _bind_https(arguments, folder)
        servers = [server] if secure is None else [server, stack.enter_context(secure)]

        def drain() -> None:
            for one in servers:
                one.drain(_DRAIN_MS)

        def serve_https(secure: HttpServer) -> None:
            try:
                secure.serve(application())
            except Exception as error:
                failures.append(str(error))

        def tour() -> None:
            try:
                _tour(base, secure, folder)
            except Exception as error:  # of any kind: nobody else would end the server
                failures.append(str(error))
            if arguments.once or failures:
                drain()
            else:
                urls = " and ".join(url_of(one.local_addr(), one.scheme) for one in servers)
                print(f"Serving on {urls} until Ctrl-C.", flush=True)

        threads = [threading.Thread(target=tour, name="flare-demo")]
        if secure is not None:
            threads.append(
                threading.Thread(target=serve_https, args=(secure,), name="flare-demo-https")
            )
        for thread in threads:
            thread.start()
        try:
            server.serve(application())
        except KeyboardInterrupt:
            print("Drained and done.", flush=True)
        finally:
            drain()
            for thread in threads:
                thread.join()
    for failure in failures:
        print(f"flare: the demo could not fetch from itself: {failure}", file=sys.stderr)
    return 1 if failures else 0


def _bind_https(arguments: argparse.Namespace, folder: Path) -> HttpServer | None:
    """The server for HTTPS, with a certificate made in *folder*; ``None`` where none can be."""
    try:
        cert, key = self_signed(folder, [arguments.host])
    except CommandError as error:
        print(f"HTTPS is left out: {error}", flush=True)
        return None
    tls = TlsServerConfig(cert, key)
    port = arguments.https_port
    if port is not None:
        return HttpServer(bind(arguments.host, port), tls=tls)
    try:
        listener = bind(arguments.host, _HTTPS_PORT if arguments.port == _HTTP_PORT else 0)
    except CommandError:
        listener = bind(arguments.host, 0)
    return HttpServer(listener, tls=tls)


def _tour(base: str, secure: HttpServer | None, folder: Path) -> None:
    """Fetch every route and print the table; first the former, so that all do serve by then."""
    url = "" if secure is None else url_of(secure.local_addr(), secure.scheme)
    rows, encrypted = _fetch_all(base), []
    if secure is not None:
        with HttpClient(url, verify=str(folder / "cert.pem")) as client:
            encrypted.append(_fetch(client, "GET", "/hello/world"))
    print(f"flare {__version__} serves {base} and fetched from itself:\n")
    _print_rows(rows)
    if encrypted:
        print(f"\n... and from {url}, whose certificate it made and trusts:\n")
        _print_rows(encrypted)
    print(flush=True)


def _fetch_all(base: str) -> list[_Fetched]:
    with HttpClient(base) as client:
        return [
            _fetch(client, "GET", "/"),
            _fetch(client, "GET", "/hello/world"),
            _fetch(client, "POST", "/echo", {"say": "it again"}),
            _fetch_stream(client, "/stream"),
            _fetch(client, "GET", "/no/such/page"),
        ]


def _fetch(
    client: HttpClient, method: str, path: str, body: dict[str, str] | None = None
) -> _Fetched:
    began = time.perf_counter()
    response = client.request(method, path, body)
    elapsed = (time.perf_counter() - began) * 1000
    kind = response.headers.get("content-type").partition(";")[0]
    shown = kind if kind == "text/html" else _one_line(response)
    return _Fetched(method, path, response.status, len(response.body), elapsed, shown)


def _one_line(response: Response) -> str:
    if response.headers.get("content-type").startswith("application/json"):
        return json.dumps(response.json())
    return " ".join(response.text().split())


def _fetch_stream(client: HttpClient, path: str) -> _Fetched:
    began = time.perf_counter()
    with client.get(path, stream=True) as response:
        size = sum(map(len, response.iter_bytes()))
        status = response.status
    elapsed = (time.perf_counter() - began) * 1000
    return _Fetched("GET", path, status, size, elapsed, "100 lines, streamed")


def _print_rows(rows: list[_Fetched]) -> None:
    print(f"  {'method':6}  {'path':14}  {'status':>6}  {'bytes':>5}  {'ms':>6}  answer")
    for row in rows:
        shown = row.shown if len(row.shown) <= 48 else row.shown[:45] + "..."
        print(
            f"  {row.method:6}  {row.path:14}  {row.status:>6}  {row.size:>5}"
            f"  {row.elapsed_ms:>6.1f}  {shown}"
        )

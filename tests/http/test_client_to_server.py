"""The client and the server of one house: every wire that both speak."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from flare.errors import NetworkError
from flare.http import HttpClient, HttpServer, Request, Response, StreamingResponse
from flare.net import SocketAddr
from flare.testing import running_server
from flare.tls import TlsServerConfig

sys.path.append(str(Path(__file__).parents[1] / "tls"))
from tls_peers import Pki

WIRES = {
    "h1": ("http", {}, "HTTP/1.1"),
    "h2c": ("http", {"prefer_h2c": True}, "HTTP/2"),
    "upgrade": ("http", {"h2c_upgrade": True}, "HTTP/2"),
    "tls": ("https", {}, "HTTP/2"),
}


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


def handle(request: Request) -> Response:
    if request.path == "/stream":
        return StreamingResponse(200, (b"x" * 10_000 for _ in range(100)))
    if request.path == "/none":
        return StreamingResponse(200, broken())
    return Response(200, body=request.path.encode() + request.body)


def broken() -> Iterator[Any]:
    """Chunks, one of which is none; the end is not where it seems to be."""
    yield b"first"
    yield None
    yield b"last"


@contextmanager
def serving(scheme: str, pki: Pki) -> Iterator[str]:
    tls = TlsServerConfig(pki.server) if scheme == "https" else None
    with running_server(handle, HttpServer.bind(SocketAddr.localhost(0), tls=tls)) as server:
        yield f"{scheme}://localhost:{server.local_addr().port}"


@pytest.mark.parametrize("wire", WIRES)
def test_calls(pki, wire):
    scheme, settings, version = WIRES[wire]
    with serving(scheme, pki) as base, HttpClient(base, verify=pki.bundle, **settings) as client:
        got = client.get("/first")
        assert (got.status, got.version, got.body) == (200, version, b"/first")
        body = os.urandom(500_000)
        assert client.post("/echo", body).body == b"/echo" + body
        with client.get_streaming("/stream") as download:
            assert sum(map(len, download)) == 1_000_000
        with client.get_streaming("/stream") as download:
            download.read_chunk(10)
        assert client.get("/after").body == b"/after"


@pytest.mark.parametrize("wire", WIRES)
def test_a_none_among_the_chunks_is_no_end_of_a_body(pki, wire):
    scheme, settings, _ = WIRES[wire]
    with serving(scheme, pki) as base, HttpClient(base, verify=pki.bundle, **settings) as client:
        client.get("/")
        with pytest.raises(NetworkError):
            client.get("/none")
        with pytest.raises(TypeError, match="not None"):
            client.post("/echo", broken())
        assert client.get("/after").body == b"/after"


@pytest.mark.parametrize("wire", WIRES)
def test_forty_threads(pki, wire):
    scheme, settings, version = WIRES[wire]
    failures: list[BaseException] = []
    with (
        serving(scheme, pki) as base,
        HttpClient(base, verify=pki.bundle, timeout_ms=60_000, **settings) as client,
    ):
        client.get("/")  # so that all find the connection there

        def work(number: int) -> None:
            try:
                for turn in range(50):
                    got = client.get(f"/{number}/{turn}")
                    assert (got.text(), got.version) == (f"/{number}/{turn}", version)
            except BaseException as exc:
                failures.append(exc)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        if version == "HTTP/2":
            assert client._pool.counts() == (0, 1, 0)


def test_https_over_a_unix_socket(pki, tmp_path):
    path = tmp_path / "socket"
    server = HttpServer.bind_unix(path, tls=TlsServerConfig(pki.server))
    with running_server(handle, server):
        settings = {"transport": f"unix:{path}", "verify": pki.bundle}
        with HttpClient("https://localhost", **settings) as client:
            got = client.get("/first")
            assert (got.version, got.body) == ("HTTP/2", b"/first")
            body = os.urandom(300_000)
            assert client.post("/echo", body).body == b"/echo" + body
            with pytest.raises(OSError, match="localhost2"):
                client.get("https://localhost2/")

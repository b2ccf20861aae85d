"""The client's HTTP/2 against servers that people run: nghttpd, nginx over TLS, hypercorn."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from test_client_nginx import wait_for
from test_client_nginx_tls import BIG, Nginx

from flare.http.client import HttpClient

sys.path.append(str(Path(__file__).parents[1] / "tls"))
from tls_peers import Pki

APP = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    body, more = b"", True
    while more:
        event = await receive()
        body += event.get("body", b"")
        more = event.get("more_body", False)
    head = {"type": "http.response.start", "status": 200, "headers": [
        (b"x-version", scope["http_version"].encode()), (b"x-method", scope["method"].encode())]}
    await send(head)
    for start in range(0, len(body), 50_000):
        part = body[start:start + 50_000]
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": scope["path"].encode()})
"""


@pytest.fixture(scope="module")
def pki(tmp_path_factory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def running(*command: str, port: int, cwd: Path) -> subprocess.Popen[bytes]:
    server = subprocess.Popen(
        command, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait_for(port, server)
    return server


def stop(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(30)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait(10)


def many(client: HttpClient, threads: int, times: int, path: str, body: bytes) -> None:
    """So many threads ask so often, all at once."""
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(times):
                got = client.get(path)
                assert (got.version, got.body) == ("HTTP/2", body)
        except BaseException as exc:
            failures.append(exc)

    started = [threading.Thread(target=work) for _ in range(threads)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join(60)
    assert not failures


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("www")
    (folder / "small").write_bytes(b"small file\n")
    (folder / "big").write_bytes(bytes(BIG))
    return folder


@pytest.fixture(scope="module", params=["http", "https"])
def nghttpd(need, request, files, pki) -> Iterator[str]:
    program, port = need("nghttpd"), free_port()
    options = ["-d", str(files), "-a", "127.0.0.1", "--echo-upload", "--trailer", "x-end: yes"]
    if request.param == "http":
        command = [program, "--no-tls", *options, str(port)]
    else:
        command = [program, *options, str(port), str(pki.server), str(pki.server)]
    server = running(*command, port=port, cwd=files)
    try:
        yield f"{request.param}://localhost:{port}"
    finally:
        stop(server)


def test_nghttpd(nghttpd, pki):
    with HttpClient(nghttpd, verify=pki.bundle, prefer_h2c=True) as client:
        for _ in range(20):
            got = client.get("/small")
            assert (got.status, got.version, got.body) == (200, "HTTP/2", b"small file\n")
        assert got.trailers.get("x-end") == "yes"
        assert client.head("/big").headers["content-length"] == str(BIG)
        assert client.get("/absent").status == 404
        with client.get_streaming("/big") as download:
            assert sum(map(len, download)) == BIG
        data = os.urandom(3_000_000)
        assert client.post("/echo", data).body == data
        assert client.post("/echo", (data[i : i + 70_000] for i in range(0, 3_000_000, 70_000))).ok
        with client.get_streaming("/big") as download:
            download.read_chunk()
        assert client.get("/small").ok
        assert client.idle_count() == 1


def test_nghttpd_with_forty_threads(nghttpd, pki):
    with HttpClient(nghttpd, verify=pki.bundle, prefer_h2c=True, timeout_ms=60_000) as client:
        many(client, 40, 50, "/small", b"small file\n")
        assert client._pool.counts() == (0, 1, 0)


@pytest.fixture
def nginx(need, tmp_path_factory, pki) -> Iterator[Callable[..., Nginx]]:
    started: list[Nginx] = []

    def start(**settings: int) -> Nginx:
        folder = tmp_path_factory.mktemp("nginx")
        started.append(Nginx(need("nginx"), folder, pki, h2=True, **settings))
        return started[-1]

    yield start
    for each in started:
        each.stop()


def test_nginx(nginx, pki):
    site = nginx()
    with HttpClient(site.base, verify=pki.bundle) as client:
        assert client.get("/small.txt").version == "HTTP/2"
        assert client.get("/old").body == b"small file\n"
        assert client.get("/who").text().split(";")[-1] == "HTTP/2.0"
        with client.get_streaming("/big.bin") as download:
            assert sum(map(len, download)) == BIG
        data = os.urandom(3_000_000)
        assert client.put("/put/a", data).status in (201, 204)
        stored = (site.folder / "put" / "a").read_bytes()
        assert hashlib.sha256(stored).digest() == hashlib.sha256(data).digest()
        assert client.put("/tiny/x", bytes(2_000_000)).status == 413
        assert client.get("/small.txt").ok


def test_nginx_with_forty_threads(nginx, pki):
    with HttpClient(nginx(requests=100_000).base, verify=pki.bundle, timeout_ms=60_000) as client:
        many(client, 40, 50, "/small.txt", b"small file\n")
        assert client._pool.counts() == (0, 1, 0)


def test_nginx_that_says_goodbye_all_the_time(nginx, pki):
    """Every 25 requests a GOAWAY comes, in the middle of the others."""
    with HttpClient(nginx(requests=25).base, verify=pki.bundle, timeout_ms=60_000) as client:
        many(client, 10, 50, "/small.txt", b"small file\n")


@pytest.fixture
def hypercorn(need, tmp_path_factory, pki) -> Iterator[Callable[..., str]]:
    need("hypercorn")
    folder = tmp_path_factory.mktemp("hypercorn")
    (folder / "flare_echo.py").write_text(APP)
    servers: list[subprocess.Popen[bytes]] = []

    def start(*options: str) -> int:
        port = free_port()
        command = [sys.executable, "-m", "hypercorn", "flare_echo:app", *options]
        servers.append(running(*command, "-b", f"127.0.0.1:{port}", port=port, cwd=folder))
        return port

    yield start
    for each in servers:
        stop(each)


@pytest.mark.parametrize("how", ["tls", "prefer_h2c", "h2c_upgrade"])
def test_hypercorn(hypercorn, pki, how):
    if how == "tls":
        port = hypercorn("--certfile", str(pki.server), "--keyfile", str(pki.server))
        client = HttpClient(f"https://localhost:{port}", verify=pki.bundle)
    else:
        client = HttpClient(f"http://localhost:{hypercorn()}", **{how: True})
    with client:
        got = client.get("/a")
        assert (got.version, got.headers["x-version"], got.body) == ("HTTP/2", "2", b"/a")
        data = os.urandom(1_000_000)
        got = client.post("/b", data)
        assert (got.version, got.body) == ("HTTP/2", data + b"/b")
        many(client, 8, 20, "/c", b"/c")
        assert client.idle_count() == 1

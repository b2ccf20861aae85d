"""Files as responses where they cannot go as they are: over TLS, in HTTP/2, or both."""

from __future__ import annotations

import hashlib
import logging
import os
import tracemalloc
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from dispatching import until, worker_of
from h2_peer import H2Peer
from serving import Peer, Running, Start
from tls_serving import Pki, secure, tls_server

from flare.errors import NetworkError
from flare.http import FileBody, HttpClient, Request, Router, StreamingResponse, ok
from flare.http.server import ServerConfig
from flare.http2 import H2_PREFACE, Http2Error, build_settings, build_window_update
from flare.tls import TlsConfig

WIRES = ["https, HTTP/1.1", "https, h2", "h2c"]
SIZE = 64 << 20
TAIL = b"the end of it"


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 MiB, nearly all of them a hole."""
    path = tmp_path_factory.mktemp("files") / "large"
    with path.open("wb") as file:
        file.truncate(SIZE - len(TAIL))
        file.seek(0, os.SEEK_END)
        file.write(TAIL)
    return path


class Site:
    """A server of *path* over a wire, and clients of it."""

    def __init__(self, wire: str, pki: Pki, start: Start, stack: ExitStack) -> None:
        self.wire = wire
        self.pki = pki
        self.secure = wire.startswith("https")
        self.alpn = ["h2"] if "h2" in wire else ["http/1.1"]
        self.made: list[FileBody] = []
        self._start = start
        self._stack = stack

    def serve(self, path: Path, config: ServerConfig | None = None) -> Running:
        router = Router()

        def answer(request: Request) -> StreamingResponse:
            body = FileBody(path)
            self.made.append(body)
            return StreamingResponse(200, body)

        def part(request: Request) -> StreamingResponse:
            first, last = map(int, request.headers["range"].removeprefix("bytes=").split("-"))
            body = FileBody(path, first, last - first + 1)
            self.made.append(body)
            size = path.stat().st_size
            headers = {"Content-Range": f"bytes {first}-{last}/{size}"}
            return StreamingResponse(206, body, headers=headers)

        def cut(request: Request) -> StreamingResponse:
            response = answer(request)
            os.truncate(path, 1000)
            return response

        router.get("/", answer)
        router.get("/part", part)
        router.get("/cut", cut)
        router.get("/other", lambda request: ok("other"))
        if self.secure:
            server = tls_server(self.pki, config, alpn=["h2", "http/1.1"])
            self.running = self._start(router, server=server)
        else:
            self.running = self._start(router, config)
        return self.running

    def client(self) -> HttpClient:
        _, port = self.running.address
        scheme = "https" if self.secure else "http"
        tls = TlsConfig(ca_bundle=self.pki.bundle, alpn=self.alpn)
        return self._stack.enter_context(
            HttpClient(f"{scheme}://localhost:{port}", prefer_h2c=not self.secure, tls=tls)
        )

    def silent(self) -> Peer:
        """A client that asks, and takes nothing of the answer but what its socket holds."""
        peer: Peer
        if "h2" in self.wire:
            peer = H2Peer(self.running.address, stingy=True, start=False, receive_buffer=4096)
        else:
            peer = Peer(self.running.address, receive_buffer=4096)
        self._stack.callback(peer.close)
        if self.secure:
            context = self.pki.context()
            context.set_alpn_protocols(self.alpn)
            secure(peer, context)
        if isinstance(peer, H2Peer):
            wide = build_settings({4: 2**31 - 1}) + build_window_update(0, 2**31 - 1 - 65535)
            peer.send(H2_PREFACE + wide)
            peer.ask("/")
        else:
            peer.get("/")
        return peer

    def all_closed(self) -> bool:
        return bool(self.made) and all(body.file.closed for body in self.made)


@pytest.fixture(params=WIRES)
def site(request: pytest.FixtureRequest, pki: Pki, start: Start) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(request.param, pki, start, stack)


def test_a_large_file_arrives_whole(site: Site, large: Path) -> None:
    site.serve(large)
    client = site.client()
    expected = hashlib.sha256()
    with large.open("rb") as file:
        while chunk := file.read(1 << 20):
            expected.update(chunk)
    got = hashlib.sha256()
    with client.get("/", stream=True) as response:
        assert response.headers["content-length"] == str(SIZE)
        assert response.version == ("HTTP/2" if "h2" in site.wire else "HTTP/1.1")
        for chunk in response.iter_bytes():
            got.update(chunk)
    assert got.digest() == expected.digest()
    assert client.get("/other").body == b"other"
    until(site.all_closed)


def test_a_part_and_a_head_of_it(site: Site, large: Path) -> None:
    site.serve(large)
    client = site.client()
    first, last = SIZE - 70_000, SIZE - 1
    part = client.get("/part", headers={"Range": f"bytes={first}-{last}"})
    assert (part.status, len(part.body), part.body[-len(TAIL) :]) == (206, 70_000, TAIL)
    assert part.headers["content-range"] == f"bytes {first}-{last}/{SIZE}"
    head = client.head("/")
    assert (head.status, head.headers["content-length"], head.body) == (200, str(SIZE), b"")
    assert client.get("/other").body == b"other"
    until(site.all_closed)


def test_a_client_that_does_not_read_holds_little_and_is_dropped(site: Site, large: Path) -> None:
    """What is read of the file is bounded, whatever the windows allow."""
    running = site.serve(large, ServerConfig(write_timeout_ms=300))
    site.client().get("/other")  # what is imported for the first time does not count
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        site.silent()
        until(site.all_closed)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < 6 << 20
    assert site.made[0].offset < SIZE // 2
    assert site.client().get("/other").body == b"other"
    until(lambda: len(worker_of(running).connections) <= 2)


def test_a_slow_reader_that_goes_on_gets_it_all(site: Site, large: Path) -> None:
    site.serve(large, ServerConfig(write_timeout_ms=10_000))
    part = f"bytes=0-{(2 << 20) - 1}"
    size = 0
    with site.client().get("/part", headers={"Range": part}, stream=True) as response:
        for number, chunk in enumerate(response.iter_bytes(100_000)):
            size += len(chunk)
            if number % 4 == 0:
                assert site.client().get("/other").body == b"other"  # meanwhile
    assert size == 2 << 20


def test_a_file_that_gets_shorter_cuts_the_response_off(
    site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "flare.error")
    path = tmp_path / "shrinking"
    path.write_bytes(bytes(3_000_000))
    site.serve(path)
    client = site.client()
    with pytest.raises(NetworkError) as caught:
        client.get("/cut")
    if "h2" in site.wire:  # the stream's end, not the connection's
        assert isinstance(caught.value, Http2Error)
    assert client.get("/other").body == b"other"
    until(site.all_closed)
    assert "less than its Content-Length" in caplog.text


@pytest.mark.parametrize("site", ["https, HTTP/1.1", "https, h2"], indirect=True)
def test_a_client_that_leaves_closes_the_file(site: Site, large: Path) -> None:
    running = site.serve(large)
    peer = site.silent()
    until(lambda: site.made)
    peer.close()
    until(site.all_closed)
    until(lambda: not worker_of(running).connections)

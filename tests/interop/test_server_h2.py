"""curl, nghttp, h2load, httpx and the h2 package as clients of the server, in HTTP/2 over TCP."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flare.http import Request, ok
from flare.http.server import stream_response

Serve = Callable[..., str]
Need = Callable[[str], Any]


def application(request: Request) -> Any:
    match request.path:
        case "/big":
            return ok(b"x" * 1_000_000)
        case "/stream":
            return stream_response(b"%d\n" % number for number in range(1000))
        case "/size":
            return ok(str(len(request.body)))
        case "/trailers":
            response = stream_response(iter([b"body"]))
            response.trailers.set("x-sum", "1")
            return response
    return ok(f"{request.method} {request.version} {request.url}")


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, timeout=40, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode("latin-1")


class TestCurl:
    @pytest.fixture
    def curl(self, need: Need) -> Callable[..., str]:
        program = need("curl")
        if " HTTP2" not in run(program, "--version"):
            pytest.skip("this curl has no HTTP/2")
        return lambda *arguments: run(
            program, "-sS", "--noproxy", "*", "--max-time", "20", *arguments
        )

    @pytest.mark.parametrize("how", ["--http2-prior-knowledge", "--http2"])
    def test_requests(self, curl: Any, serve: Serve, tmp_path: Path, how: str) -> None:
        url = serve(application)
        upload = tmp_path / "upload"
        upload.write_bytes(b"u" * 3_000_000)
        first = "HTTP/1.1" if how == "--http2" else "HTTP/2"
        assert curl(how, url + "/a?b=c") == f"GET {first} /a?b=c"
        assert curl(how, "-w", "%{http_version}", "-o", "/dev/null", url) == "2"
        assert len(curl(how, url + "/big")) == 1_000_000
        assert curl(how, url + "/stream").splitlines() == [str(number) for number in range(1000)]
        assert curl(how, "--data-binary", f"@{upload}", url + "/size") == "3000000"
        assert "content-length: 1000000" in curl(how, "-I", url + "/big")

    def test_trailers(self, curl: Any, serve: Serve) -> None:
        output = curl("--http2-prior-knowledge", "-i", serve(application) + "/trailers")
        assert output.endswith("body") or output.rstrip().endswith("x-sum: 1")


def test_nghttp(need: Need, serve: Serve) -> None:
    program, url = need("nghttp"), serve(application)
    output = run(program, "-nv", "-m", "20", url + "/big")
    assert output.count(":status: 200") == 20
    assert "RST_STREAM" not in output
    output = run(program, "-v", "-u", url + "/upgraded")
    assert "HTTP Upgrade success" in output
    assert "GET HTTP/1.1 /upgraded" in output


@pytest.mark.parametrize("path", ["/", "/big", "/stream"])
def test_h2load(need: Need, serve: Serve, path: str) -> None:
    program = need("h2load")
    output = run(program, "-n", "64", "-c", "4", "-m", "16", serve(application) + path)
    assert "64 succeeded, 0 failed, 0 errored, 0 timeout" in output, output
    assert "status codes: 64 2xx" in output


def test_httpx(serve: Serve, need: Need) -> None:
    httpx = need("httpx")
    with httpx.Client(http1=False, http2=True, trust_env=False) as client:
        url = serve(application)
        for _ in range(5):
            response = client.get(url + "/a")
            assert (response.http_version, response.text) == ("HTTP/2", "GET HTTP/2 /a")
        assert client.post(url + "/size", content=b"x" * 500_000).text == "500000"
        assert len(client.get(url + "/big").content) == 1_000_000


def test_the_h2_package_finds_no_fault(serve: Serve, need: Need) -> None:
    """It checks what it is sent, frame by frame."""
    need("h2")
    import h2.config
    import h2.connection
    import h2.events

    host, _, port = serve(application).removeprefix("http://").rpartition(":")
    client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    client.initiate_connection()
    bodies: dict[int, bytes] = {}
    ended: set[int] = set()
    with socket.create_connection((host, int(port)), timeout=20) as sock:
        paths = ["/a", "/big", "/stream", "/trailers", "/a", "/a"] * 3
        for path in paths:
            sid = client.get_next_available_stream_id()
            bodies[sid] = b""
            fields = [(":method", "GET"), (":path", path), (":scheme", "http")]
            client.send_headers(sid, [*fields, (":authority", "h")], end_stream=True)
        while len(ended) < len(paths):
            sock.sendall(client.data_to_send())
            data = sock.recv(65536)
            assert data
            for event in client.receive_data(data):
                if isinstance(event, h2.events.DataReceived):
                    bodies[event.stream_id] += event.data
                    client.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, h2.events.StreamEnded):
                    ended.add(event.stream_id)
    sizes = {"/a": 13, "/big": 1_000_000, "/stream": 3890, "/trailers": 4}
    assert [len(body) for body in bodies.values()] == [sizes[path] for path in paths]

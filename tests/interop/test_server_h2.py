"""curl, nghttp, h2load, httpx, nginx and the h2 package as clients of the server, in HTTP/2: over
TCP, and over TLS those that ``test_server_tls.py`` has not got."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from test_server_proxies import begin, free_port

sys.path.append(str(Path(__file__).parents[1] / "http" / "server"))
from serving import Running

from flare.cli.tls import self_signed
from flare.http import HttpClient, HttpServer, Request, ok
from flare.http.server import stream_response
from flare.net import SocketAddr
from flare.tls import TlsServerConfig

Serve = Callable[..., str]
Need = Callable[[str], Any]


class Site(NamedTuple):
    url: str
    cert: Path | None


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
        url = serve(application) + "/trailers"
        head, _, rest = curl("--http2-prior-knowledge", "-i", url).partition("\r\n\r\n")
        assert head.startswith("HTTP/2 200")
        assert rest == "bodyx-sum: 1\r\n"


@pytest.fixture(params=["http", "https"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    """A server over TCP, and one over TLS with a certificate of its own."""
    with ExitStack() as stack:
        cert = None
        server = None
        if request.param == "https":
            cert, key = self_signed(tmp_path)
            server = HttpServer.bind(SocketAddr.localhost(0), tls=TlsServerConfig(cert, key))
        running = Running(application, server=server)
        stack.callback(running.stop)
        yield Site(f"{request.param}://localhost:{running.address[1]}", cert)


def test_nghttp(need: Need, site: Site) -> None:
    program = need("nghttp")
    output = run(program, "-nv", "-m", "20", site.url + "/big")
    assert output.count(":status: 200") == 20
    assert "RST_STREAM" not in output
    if not site.cert:
        output = run(program, "-v", "-u", site.url + "/upgraded")
        assert "HTTP Upgrade success" in output
        assert "GET HTTP/1.1 /upgraded" in output


def test_nghttp_sends(need: Need, site: Site, tmp_path: Path) -> None:
    program = need("nghttp")
    upload = tmp_path / "upload"
    upload.write_bytes(b"u" * 1_000_000)
    send = [program, "-v", "-d", str(upload)]
    for options in (["-b", "200"], ["--expect-continue"], ["--trailer", "x-sum: 1"]):
        output = run(*send, *options, site.url + "/size")
        assert output.count(":status: 200") == 1, options
        assert "1000000" in output
        assert (":status: 100" in output) == (options == ["--expect-continue"])
    assert "x-sum: 1" in run(program, "-v", site.url + "/trailers")


@pytest.mark.parametrize("path", ["/", "/big", "/stream"])
def test_h2load(need: Need, site: Site, path: str) -> None:
    program = need("h2load")
    output = run(program, "-n", "64", "-c", "4", "-m", "16", site.url + path)
    assert "64 succeeded, 0 failed, 0 errored, 0 timeout" in output, output
    assert "status codes: 64 2xx" in output
    if site.cert:
        assert "Application protocol: h2" in output


def test_httpx(need: Need, site: Site) -> None:
    httpx = need("httpx")
    trust = ssl.create_default_context(cafile=site.cert) if site.cert else True
    with httpx.Client(
        http1=site.cert is not None, http2=True, trust_env=False, verify=trust
    ) as client:
        for _ in range(5):
            response = client.get(site.url + "/a")
            assert (response.http_version, response.text) == ("HTTP/2", "GET HTTP/2 /a")
        assert client.post(site.url + "/size", content=b"x" * 500_000).text == "500000"
        assert len(client.get(site.url + "/big").content) == 1_000_000


NGINX = """
daemon off; master_process off; worker_processes 1; pid {dir}/nginx.pid;
error_log {dir}/error.log; {user}
events {{ worker_connections 128; }}
http {{
  access_log off; client_max_body_size 20m;
  client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi;
  uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
  upstream app {{ server {app}; keepalive 4; }}
  server {{
    listen 127.0.0.1:{port} http2;
    location / {{ grpc_pass {scheme}://app; }}
  }}
}}
"""


def test_nginx_passes_on_in_http2(need: Need, site: Site, tmp_path: Path) -> None:
    """``grpc_pass`` is its one way to speak HTTP/2 to a server, and takes any request."""
    program, port = need("nginx"), free_port()
    conf = tmp_path / "nginx.conf"
    conf.write_text(
        NGINX.format(
            dir=tmp_path,
            port=port,
            user="user root;" if os.geteuid() == 0 else "",
            app="127.0.0.1:" + site.url.rpartition(":")[2],
            scheme="grpcs" if site.cert else "grpc",
        )
    )
    with ExitStack() as stack:
        begin(stack, [program, "-p", str(tmp_path), "-c", str(conf)], port)
        base = f"http://127.0.0.1:{port}"
        client = stack.enter_context(HttpClient(base, prefer_h2c=True))
        for _ in range(5):
            assert client.get("/a").text() == "GET HTTP/2 /a"
        assert client.post("/size", b"x" * 3_000_000).text() == "3000000"
        assert len(client.get("/big").body) == 1_000_000
        assert client.get("/stream").body.count(b"\n") == 1000
        answer = client.get("/trailers")
        assert (answer.body, answer.trailers.get("x-sum")) == (b"body", "1")


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

"""nginx and HAProxy in front of the server: Unix sockets, who the client is, PROXY headers."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "http" / "server"))
from serving import Running

from flare.cli.tls import self_signed
from flare.http import Request, Response, ok
from flare.http.client import HttpClient, TcpTransport
from flare.http.errors import HttpProtocolError
from flare.http.server import HttpServer, ServerConfig
from flare.net import SocketAddr
from flare.tcp import TcpStream
from flare.tls import TlsConfig, TlsServerConfig

PATIENCE = 30.0
Answer = dict[str, Any]


def show(request: Request) -> Response:
    """What the server knows of a request."""
    return ok(
        json.dumps(
            {
                "peer": str(request.peer),
                "client": str(request.client.ip),
                "scheme": request.scheme,
                "host": request.host,
                "size": len(request.body),
            }
        )
    )


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def begin(stack: ExitStack, command: list[str], *ports: int) -> None:
    """Start a proxy, wait until it listens at each of *ports*, and end it with *stack*."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def end() -> None:
        process.terminate()
        process.wait(PATIENCE)

    stack.callback(end)
    deadline = time.monotonic() + PATIENCE
    for port in ports:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                assert process.poll() is None, f"{command[0]} ended"
                assert time.monotonic() < deadline
                time.sleep(0.01)


def started(stack: ExitStack, config: ServerConfig, folder: Path, handler: Any = show) -> Running:
    """A server on a port and on a Unix socket, ended with *stack*."""
    server = HttpServer.bind_many([SocketAddr.localhost(0), folder / "s"], config, mode=0o666)
    running = Running(handler, server=server)
    stack.callback(running.stop)
    return running


NGINX = """
daemon off; master_process off; worker_processes 1; pid {dir}/nginx.pid;
error_log {dir}/error.log; {user}
events {{ worker_connections 128; }}
http {{
  access_log off;
  client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi;
  uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi; client_max_body_size 20m;
  upstream app {{ server unix:{dir}/s; keepalive 4; }}
  server {{
    listen 127.0.0.1:{port}; server_name shop.example;
    location / {{
      proxy_pass http://app; proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto https;
    }}
  }}
}}
"""


@pytest.fixture
def nginx(need: Callable[[str], Any], tmp_path: Path) -> Iterator[tuple[ExitStack, int, Path]]:
    """An nginx in front of the Unix socket ``s`` in a folder: what ends with it, and its port."""
    program = need("nginx")
    port = free_port()
    user = "user root;" if os.geteuid() == 0 else ""
    conf = tmp_path / "nginx.conf"
    conf.write_text(NGINX.format(dir=tmp_path, port=port, user=user))
    with ExitStack() as stack:
        begin(stack, [program, "-p", str(tmp_path), "-c", str(conf)], port)
        yield stack, port, tmp_path


@pytest.mark.peer("nginx")
def test_nginx_over_a_unix_socket(nginx: tuple[ExitStack, int, Path]) -> None:
    stack, port, folder = nginx
    config = ServerConfig(trusted_proxies=["unix"], max_body_size=16 << 20)
    running = started(stack, config, folder)
    with HttpClient(f"http://127.0.0.1:{port}") as client:
        for _ in range(50):
            found: Answer = client.get("/").json()
        assert found["peer"] == "0.0.0.0:0"
        assert (found["client"], found["scheme"]) == ("127.0.0.1", "https")
        assert client.post("/", b"x" * 8_000_000).json()["size"] == 8_000_000
        assert running.server.drain(int(PATIENCE * 1000)).timed_out == 0
        assert client.get("/").status == 502


@pytest.mark.peer("nginx")
def test_a_client_of_nginx_cannot_forge_its_address(
    nginx: tuple[ExitStack, int, Path],
) -> None:
    stack, port, folder = nginx
    started(stack, ServerConfig(trusted_proxies=["unix"]), folder)
    forged = {
        "X-Forwarded-For": "203.0.113.7",
        "X-Forwarded-Proto": "http",
        "X-Forwarded-Host": "evil.example",
        "X_Forwarded_For": "203.0.113.7",
        "Forwarded": "for=203.0.113.7;host=evil.example",
    }
    with HttpClient(f"http://127.0.0.1:{port}") as client:
        found: Answer = client.get("/", headers=forged).json()
    assert (found["client"], found["scheme"]) == ("127.0.0.1", "https")
    assert found["host"] == "127.0.0.1"


STREAM = """
{module}
daemon off; master_process off; worker_processes 1; pid {dir}/stream.pid;
error_log {dir}/error.log; {user}
events {{ worker_connections 128; }}
stream {{
  server {{ listen 127.0.0.1:{ports[0]}; proxy_pass 127.0.0.1:{apps[0]}; proxy_protocol on; }}
  server {{ listen 127.0.0.1:{ports[1]}; proxy_pass 127.0.0.1:{apps[1]}; proxy_protocol on; }}
  server {{ listen 127.0.0.1:{ports[2]}; proxy_pass 127.0.0.1:{apps[0]}; }}
}}
"""


class Remembering:
    """A transport that knows the addresses of its own ends."""

    def __init__(self) -> None:
        self.ends: list[str] = []

    def connect(self, host: str, port: int, deadline: float | None) -> TcpStream:
        stream = TcpTransport().connect(host, port, deadline)
        assert isinstance(stream, TcpStream)
        self.ends.append(str(stream.local_addr()))
        return stream


@pytest.mark.peer("nginx")
@pytest.mark.parametrize("wire", ["HTTP/1.1", "h2c", "https, HTTP/1.1", "https, h2"])
def test_nginx_passes_connections_on_with_who_the_client_is(
    need: Callable[[str], Any], stream_module: str, tmp_path: Path, wire: str
) -> None:
    """Its module ``stream`` reads nothing: TLS begins behind the PROXY header."""
    config = ServerConfig(
        trusted_proxies=["127.0.0.1"], proxy_protocol=True, max_body_size=16 << 20
    )
    ports = [free_port() for _ in range(3)]
    cert, key = self_signed(tmp_path)
    secure = wire.startswith("https")
    with ExitStack() as stack:
        apps = []
        for tls in (None, TlsServerConfig(cert, key, alpn=["h2", "http/1.1"])):
            server = HttpServer.bind(SocketAddr.localhost(0), config, tls=tls)
            running = Running(show, server=server)
            stack.callback(running.stop)
            apps.append(running.addresses[0][1])
        user = "user root;" if os.geteuid() == 0 else ""
        conf = tmp_path / "stream.conf"
        conf.write_text(
            STREAM.format(module=stream_module, dir=tmp_path, user=user, ports=ports, apps=apps)
        )
        begin(stack, [need("nginx"), "-p", str(tmp_path), "-c", str(conf)], *ports)
        transport = Remembering()
        client = stack.enter_context(
            HttpClient(
                f"{'https' if secure else 'http'}://localhost:{ports[secure]}",
                transport=transport,
                prefer_h2c=wire == "h2c",
                tls=TlsConfig(ca_bundle=cert, alpn=["h2"] if wire == "https, h2" else ["http/1.1"]),
            )
        )
        for _ in range(3):
            response = client.get("/")
            assert response.json()["peer"] == transport.ends[0]
            assert response.json()["scheme"] == ("https" if secure else "http")
        assert response.version == ("HTTP/2" if "h2" in wire else "HTTP/1.1")
        assert client.post("/", b"x" * 4_000_000).json()["size"] == 4_000_000
        assert len(transport.ends) == 1
        # The header is required of those who are trusted.
        with (
            HttpClient(f"http://127.0.0.1:{ports[2]}") as other,
            pytest.raises(HttpProtocolError, match="ended before a head"),
        ):
            other.get("/")


HAPROXY = """
global
  maxconn 200
defaults
  timeout connect 20s
  timeout client 20s
  timeout server 20s
  timeout check 20s
listen v1
  mode tcp
  bind 127.0.0.1:{ports[0]}
  server s 127.0.0.1:{app} send-proxy
listen v2
  mode tcp
  bind 127.0.0.1:{ports[1]}
  server s 127.0.0.1:{app} send-proxy-v2
listen checksum
  mode tcp
  bind 127.0.0.1:{ports[2]}
  server s 127.0.0.1:{app} send-proxy-v2 proxy-v2-options crc32c,unique-id
listen unix
  mode tcp
  bind 127.0.0.1:{ports[3]}
  server s unix@{dir}/s send-proxy-v2 proxy-v2-options crc32c
listen checked
  mode http
  option httpchk GET /health
  bind 127.0.0.1:{ports[4]}
  option forwardfor
  server s 127.0.0.1:{app} send-proxy-v2 proxy-v2-options crc32c check inter 50ms fall 1000 rise 1
listen without
  mode http
  bind 127.0.0.1:{ports[5]}
  server s 127.0.0.1:{app}
"""
PROXIES = ("v1", "v2", "checksum", "unix")


@pytest.fixture
def haproxy(
    need: Callable[[str], Any], tmp_path: Path
) -> Iterator[Callable[[Running], dict[str, int]]]:
    """Start a HAProxy in front of a server: the ports of its ways to it."""
    program = need("haproxy")
    with ExitStack() as stack:

        def start(running: Running) -> dict[str, int]:
            ports = [free_port() for _ in range(6)]
            conf = tmp_path / "haproxy.cfg"
            _, app = running.addresses[0]
            conf.write_text(HAPROXY.format(dir=tmp_path, app=app, ports=ports))
            begin(stack, [program, "-q", "-db", "-f", str(conf)], *ports)
            return dict(zip((*PROXIES, "checked", "without"), ports, strict=True))

        yield start


@pytest.mark.peer("haproxy")
def test_haproxy_says_who_the_client_is(
    haproxy: Callable[[Running], dict[str, int]], tmp_path: Path
) -> None:
    seen: list[str] = []
    checked = threading.Event()

    def handler(request: Request) -> Response:
        if request.path == "/health":
            seen.append(str(request.peer))
            if len(seen) >= 3:
                checked.set()
        return show(request)

    config = ServerConfig(
        trusted_proxies=["127.0.0.1", "unix"], proxy_protocol=True, max_body_size=16 << 20
    )
    with ExitStack() as stack:
        ports = haproxy(started(stack, config, tmp_path, handler))
        for name in PROXIES:
            with socket.create_connection(("127.0.0.1", ports[name])) as sock:
                sock.settimeout(PATIENCE)
                host, port = sock.getsockname()
                sock.sendall(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
                answer = b"".join(iter(lambda sock=sock: sock.recv(65536), b""))
            found: Answer = json.loads(answer.partition(b"\r\n\r\n")[2])
            assert found["peer"] == f"{host}:{port}", name
            with HttpClient(f"http://127.0.0.1:{ports[name]}") as client:
                assert client.post("/", b"x" * 4_000_000).json()["size"] == 4_000_000
        # A check of its own comes with a header that names nobody.
        assert checked.wait(PATIENCE)
        assert all(peer.startswith("127.0.0.1:") for peer in seen)
        # A check that is late takes the server away until the next one.
        with HttpClient(f"http://127.0.0.1:{ports['checked']}") as client:
            headers = {"X-Forwarded-For": "203.0.113.7"}
            deadline = time.monotonic() + PATIENCE
            while (status := client.get("/", headers=headers).status) == 503:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            assert status == 200
        # The header is required of those who are trusted.
        with HttpClient(f"http://127.0.0.1:{ports['without']}") as client:
            assert client.get("/").status in (502, 503)


@pytest.mark.peer("haproxy")
def test_a_header_of_haproxy_is_refused_where_none_is_expected(
    haproxy: Callable[[Running], dict[str, int]], tmp_path: Path
) -> None:
    with ExitStack() as stack:
        ports = haproxy(started(stack, ServerConfig(), tmp_path))
        for name in PROXIES:
            with HttpClient(f"http://127.0.0.1:{ports[name]}") as client:
                assert client.get("/").status == 400, name
        with HttpClient(f"http://127.0.0.1:{ports['without']}") as client:
            assert client.get("/").status == 200

"""The server over TLS against curl, the openssl program, and nginx in front of it."""

from __future__ import annotations

import hashlib
import os
import re
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trustme", reason="trustme is not installed: install it to run this test")
sys.path.append(str(Path(__file__).parents[1] / "http" / "server"))
from serving import Running
from test_browser import FLAGS
from tls_serving import Pki, tls_server

from flare import Request, Response, ok
from flare.cli.demo import application
from flare.http.server import ServerConfig
from flare.tls import TLS_PROTOCOL_TLS13

Need = Callable[[str], Any]
Begin = Callable[..., str]
BIG = 20_000_000


def about(request: Request) -> Response:
    """What is known of the connection; or the digest of the body and as many bytes as asked."""
    if request.url.startswith("/bytes/"):
        digest = hashlib.sha256(request.body).hexdigest().encode()
        return ok(digest + bytes(int(request.url.removeprefix("/bytes/"))))
    info = request.tls_info
    assert info is not None
    return ok(
        f"{request.version};{request.scheme};{info.protocol};{info.sni_host}"
        f";{info.alpn_protocol};{info.client_cert_subject};{request.client.ip}\n"
    )


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def serve_tls(pki: Pki) -> Iterator[Begin]:
    """Start a server and return its URL."""
    with ExitStack() as stack:

        def begin(config: ServerConfig | None = None, **settings: Any) -> str:
            running = Running(about, server=tls_server(pki, config, **settings))
            stack.callback(running.stop)
            return f"https://localhost:{running.address[1]}"

        yield begin


def run(*command: str, say: bytes = b"") -> tuple[int, bytes]:
    done = subprocess.run(
        command,
        input=say,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout


# -- curl -----------------------------------------------------------------------------------


@pytest.fixture
def curl(need: Need, pki: Pki) -> Callable[..., tuple[int, bytes]]:
    program = need("curl")
    return lambda *options: run(program, "-sS", "--cacert", str(pki.bundle), *options)


@pytest.mark.parametrize(
    ("options", "version", "protocol"),
    [
        (["--http1.1", "--tlsv1.3"], "HTTP/1.1", "TLSv1.3"),
        (["--http1.1", "--tls-max", "1.2"], "HTTP/1.1", "TLSv1.2"),
        (["--http2", "--tlsv1.3"], "HTTP/2", "TLSv1.3"),
        (["--http2", "--tls-max", "1.2"], "HTTP/2", "TLSv1.2"),
    ],
    ids=str,
)
def test_curl_over_both_versions(
    curl: Any, serve_tls: Begin, options: list[str], version: str, protocol: str
) -> None:
    alpn = {"HTTP/1.1": "http/1.1", "HTTP/2": "h2"}[version]
    code, told = curl(*options, serve_tls() + "/")
    assert (code, told.decode()) == (
        0,
        f"{version};https;{protocol};localhost;{alpn};;127.0.0.1\n",
    )


@pytest.mark.parametrize("http", ["--http1.1", "--http2"])
def test_curl_sends_and_fetches_much(
    curl: Any, serve_tls: Begin, tmp_path: Path, http: str
) -> None:
    upload, download = tmp_path / "up", tmp_path / "down"
    upload.write_bytes(os.urandom(5_000_000))
    base = serve_tls()
    code, said = curl(
        http, "--data-binary", f"@{upload}", "-o", str(download), f"{base}/bytes/{BIG}"
    )
    assert code == 0, said
    data = download.read_bytes()
    assert data[:64].decode() == hashlib.sha256(upload.read_bytes()).hexdigest()
    assert data[64:] == bytes(BIG)


def test_curl_with_a_certificate_of_its_own(curl: Any, serve_tls: Begin, pki: Pki) -> None:
    base = serve_tls(require_client_cert=True, client_ca_bundle=pki.bundle)
    code, told = curl("--cert", str(pki.client), base + "/")
    assert code == 0
    assert b"CN=client" in told
    code, said = curl(base + "/")
    assert code != 0
    assert b"alert" in said or b"certificate" in said


def test_curl_with_a_version_that_is_too_old(curl: Any, serve_tls: Begin) -> None:
    code, said = curl("--tls-max", "1.2", serve_tls(min_protocol=TLS_PROTOCOL_TLS13) + "/")
    assert code == 35
    assert b"protocol version" in said


def test_curl_without_tls_is_told(curl: Any, serve_tls: Begin) -> None:
    url = serve_tls().replace("https:", "http:")
    code, told = curl("-w", "%{http_code}", url + "/")
    assert code == 0
    assert told.endswith(b"400")
    assert b"https://" in told


# -- openssl s_client -----------------------------------------------------------------------


class Client:
    """``openssl s_client``, typed into."""

    def __init__(self, program: str, base: str, pki: Pki, *options: str) -> None:
        address = base.removeprefix("https://")
        command = [program, "s_client", "-connect", address, "-CAfile", str(pki.bundle), *options]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self.printed = b""

    def type(self, text: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def until(self, pattern: bytes, seconds: float = 20) -> None:
        """Read until that was printed."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + seconds
        while not re.search(pattern, self.printed):
            left = deadline - time.monotonic()
            ready = left > 0 and select.select([self.process.stdout], [], [], left)[0]
            data = os.read(self.process.stdout.fileno(), 65536) if ready else b""
            assert data, (pattern, self.printed)
            self.printed += data

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def s_client(need: Need, pki: Pki) -> Iterator[Callable[..., Client]]:
    program = need("openssl")
    with ExitStack() as stack:

        def begin(base: str, *options: str) -> Client:
            client = Client(program, base, pki, *options)
            stack.callback(client.end)
            return client

        yield begin


REQUEST = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssl_resumes_a_session(
    s_client: Any, serve_tls: Begin, tmp_path: Path, version: str
) -> None:
    base, session = serve_tls(), str(tmp_path / "session")
    first = s_client(base, version, "-sess_out", session, "-servername", "localhost")
    first.type(REQUEST)
    first.until(rb"HTTP/1\.1 200 OK")
    first.until(rb"127\.0\.0\.1")
    assert b"New, TLS" in first.printed
    again = s_client(base, version, "-sess_in", session, "-servername", "localhost")
    again.type(REQUEST)
    again.until(rb"127\.0\.0\.1")
    assert b"Reused, TLS" in again.printed


def test_openssl_updates_its_keys_amid_the_stream(s_client: Any, serve_tls: Begin) -> None:
    """``k`` updates the client's keys, ``K`` asks for the server's to be updated, too."""
    client = s_client(serve_tls(), "-tls1_3")
    for number, command in enumerate([b"", b"k\n", b"K\n", b"K\n"], start=1):
        if command:
            client.type(command)
            client.until(b"KEYUPDATE\n")
            client.printed = client.printed.replace(b"KEYUPDATE\n", b"", 1)
        client.type(REQUEST)
        client.until(rb"(?s)(127\.0\.0\.1.*){%d}" % number)


def test_openssl_agrees_on_a_protocol(s_client: Any, serve_tls: Begin) -> None:
    client = s_client(serve_tls(), "-alpn", "spdy/1,http/1.1")
    client.until(rb"ALPN protocol: http/1\.1")
    client.until(rb"Verify return code: 0")


def test_openssl_closes_and_is_answered(s_client: Any, serve_tls: Begin) -> None:
    client = s_client(serve_tls())
    client.type(REQUEST)
    client.until(rb"127\.0\.0\.1")
    client.type(b"Q\n")
    assert client.process.wait(20) == 0


# -- nginx in front ---------------------------------------------------------------------------

CONF = """
daemon off; master_process off; worker_processes 1; pid {dir}/nginx.pid;
error_log {dir}/error.log; {user}
events {{ worker_connections 128; }}
http {{
  access_log off;
  client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi;
  uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi; client_max_body_size 200m;
  upstream app {{ server {upstream}; keepalive 4; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass https://app; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_ssl_verify on; proxy_ssl_trusted_certificate {ca};
      proxy_ssl_name localhost; proxy_ssl_server_name on;
      proxy_ssl_certificate {client}; proxy_ssl_certificate_key {client};
      proxy_ssl_session_reuse on; proxy_ssl_protocols {protocol};
    }}
  }}
}}
"""


@pytest.mark.parametrize("protocol", ["TLSv1.2", "TLSv1.3"])
def test_nginx_fetches_from_it(
    need: Need, curl: Any, serve_tls: Begin, pki: Pki, tmp_path: Path, protocol: str
) -> None:
    program = need("nginx")
    config = ServerConfig(trusted_proxies=["127.0.0.1"], forwarded_headers=["x-forwarded-for"])
    base = serve_tls(config, require_client_cert=True, client_ca_bundle=pki.bundle)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    conf = tmp_path / "nginx.conf"
    conf.write_text(
        CONF.format(
            dir=tmp_path,
            port=port,
            user="user root;" if os.geteuid() == 0 else "",
            upstream=base.removeprefix("https://").replace("localhost", "127.0.0.1"),
            ca=pki.bundle,
            client=pki.client,
            protocol=protocol,
        )
    )
    nginx = subprocess.Popen(
        [program, "-p", str(tmp_path), "-c", str(conf), "-e", str(tmp_path / "error.log")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                assert nginx.poll() is None, (tmp_path / "error.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.02)
        for _ in range(3):
            code, told = curl(f"http://127.0.0.1:{port}/")
            assert code == 0
            expected = (
                rf"HTTP/1\.1;https;{re.escape(protocol)};localhost;;[^;]*CN=client;127\.0\.0\.1\n"
            )
            assert re.fullmatch(expected, told.decode())
        code, told = curl("-o", str(tmp_path / "big"), f"http://127.0.0.1:{port}/bytes/{BIG}")
        assert code == 0
        assert (tmp_path / "big").stat().st_size == BIG + 64
    finally:
        nginx.terminate()
        nginx.wait(20)
    assert (tmp_path / "error.log").read_text() == ""


# -- Chromium -----------------------------------------------------------------------------------


@pytest.mark.timeout(120)
@pytest.mark.parametrize("http2", [True, False], ids=["h2", "http/1.1"])
def test_chromium_shows_the_demo_over_https(
    need: Need, pki: Pki, tmp_path: Path, http2: bool
) -> None:
    chromium = need("chromium")
    site = application()

    def tour(request: Request) -> Response:
        script = """
          const done = [performance.getEntriesByType("navigation")[0].nextHopProtocol];
          for (const [path, options] of [["/hello/you", {}], ["/echo", {method: "POST",
               body: "it again"}], ["/stream", {}]]) {
            const response = await fetch(path, options);
            done.push(path + "=" + response.status + ":" + (await response.text()).length);
          }
          document.title = done.join(" ");
        """
        page = f"<!doctype html><script type=module>{script}</script>"
        return Response(200, body=page, headers={"Content-Type": "text/html"})

    site.get("/tour", tour)
    running = Running(site, server=tls_server(pki, ServerConfig(http2=http2)))
    try:
        command = [chromium, *FLAGS, "--ignore-certificate-errors"]
        command += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=10000"]
        command += ["--dump-dom", f"https://localhost:{running.address[1]}/tour"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=True)
    finally:
        running.stop()
    title = re.search("<title>(.*?)</title>", done.stdout)
    assert title is not None
    assert title[1].split()[0] == ("h2" if http2 else "http/1.1")
    assert "/echo=200:8 /stream=200:1492" in title[1]

"""The client against nginx over TLS: trust, our own certificate, resumption, large bodies."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_client_nginx import wait_for

from flare.http.client import HttpClient

sys.path.append(str(Path(__file__).parents[1] / "tls"))
from tls_peers import Pki

BIG = 30_000_000
CONF = """
daemon off; master_process off; worker_processes 1; pid {dir}/nginx.pid;
error_log {dir}/error.log; {user}
events {{ worker_connections 128; }}
http {{
  access_log off; default_type application/octet-stream; sendfile on;
  client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi;
  uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi; client_max_body_size 200m;
  ssl_certificate {cert}; ssl_certificate_key {cert}; ssl_client_certificate {ca};
  ssl_session_cache shared:all:1m;
  server {{
    listen 127.0.0.1:{port} ssl{h2}; root {dir}/www; keepalive_requests {requests};
    ssl_verify_client optional; ssl_protocols {protocols};
    location /old {{ return 301 /small.txt; }}
    location /who {{ return 200 "$ssl_client_s_dn;$ssl_session_reused;$ssl_protocol;$ssl_server_name;$server_protocol"; }}
    location /put/ {{ alias {dir}/put/; dav_methods PUT DELETE; create_full_put_path on; }}
    location /tiny/ {{ client_max_body_size 1k; dav_methods PUT; alias {dir}/put/; }}
  }}
}}
"""  # noqa: E501


class Nginx:
    """A running nginx with TLS in a directory."""

    def __init__(
        self,
        program: str,
        folder: Path,
        pki: Pki,
        *,
        h2: bool = False,
        requests: int = 1000,
        protocols: str = "TLSv1.2 TLSv1.3",
    ) -> None:
        self.folder = folder
        for name in ("www", "put", "body"):
            (folder / name).mkdir()
        (folder / "www" / "small.txt").write_text("small file\n")
        with (folder / "www" / "big.bin").open("wb") as big:
            big.truncate(BIG)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        conf = folder / "nginx.conf"
        conf.write_text(
            CONF.format(
                dir=folder,
                port=port,
                user="user root;" if os.geteuid() == 0 else "",
                cert=pki.server,
                ca=pki.bundle,
                h2=" http2" if h2 else "",
                requests=requests,
                protocols=protocols,
            )
        )
        self.base = f"https://localhost:{port}"
        self._server = subprocess.Popen(
            [program, "-p", str(folder), "-c", str(conf)], stderr=subprocess.DEVNULL
        )
        wait_for(port, self._server)

    def stop(self) -> None:
        self._server.terminate()
        self._server.wait(30)


@pytest.fixture(scope="module")
def pki(tmp_path_factory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module", params=["TLSv1.2", "TLSv1.3"])
def site(need, tmp_path_factory, pki, request) -> Iterator[Nginx]:
    nginx = Nginx(need("nginx"), tmp_path_factory.mktemp("tls"), pki, protocols=request.param)
    try:
        yield nginx
    finally:
        nginx.stop()


@pytest.fixture
def client(site, pki) -> Iterator[HttpClient]:
    with HttpClient(site.base, verify=pki.bundle) as opened:
        yield opened


def test_files_over_one_connection(client):
    for _ in range(50):
        got = client.get("/small.txt")
        assert (got.status, got.body) == (200, b"small file\n")
    assert client.get("/old").body == b"small file\n"
    assert client.idle_count() == 1


def test_what_was_agreed(client):
    subject, _, protocol, name, _ = client.get("/who").text().split(";")
    info = client.get("/who").tls_info
    assert (subject, name) == ("", "localhost")
    assert info.protocol == protocol


def test_our_own_certificate(client, pki):
    assert "CN=client" in client.get("/who", cert=pki.client).text()


def test_sessions_are_resumed(client):
    reused = []
    for _ in range(3):
        reused.append(client.get("/who", headers={"Connection": "close"}).text().split(";")[1])
    assert reused == [".", "r", "r"]


def test_large_bodies(client, site):
    with client.get_streaming("/big.bin") as download:
        assert sum(map(len, download)) == BIG
    data = os.urandom(5_000_000)
    assert client.put("/put/a", data).status in (201, 204)
    pieces = (data[start : start + 100_000] for start in range(0, len(data), 100_000))
    assert client.put("/put/b", pieces).status in (201, 204)
    for name in "ab":
        stored = (site.folder / "put" / name).read_bytes()
        assert hashlib.sha256(stored).digest() == hashlib.sha256(data).digest()


def test_an_upload_refused_early(client):
    assert client.put("/tiny/x", bytes(2_000_000)).status == 413


def test_many_threads(client):
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(20):
                assert client.get("/small.txt").ok
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures

"""The client against nginx: files, keep-alive, chunked coding, redirects, 100 MB both ways."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flare.http.client import BasicAuth, HttpClient

BIG = 100_000_000
CONF = """
daemon off; master_process off; worker_processes 1; pid {dir}/nginx.pid;
error_log {dir}/error.log; {user}
events {{ worker_connections 128; }}
http {{
  access_log {dir}/access.log; default_type application/octet-stream; sendfile on;
  client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi;
  uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi; client_max_body_size 200m;
  server {{
    listen 127.0.0.1:{port}; root {dir}/www; keepalive_requests 1000;
    location /old {{ return 301 /small.txt; }}
    location /temporary {{ return 307 http://127.0.0.1:{port}/put/moved; }}
    location /elsewhere {{ return 302 http://localhost:{port}/whoami; }}
    location /loop {{ return 302 /loop; }}
    location /whoami {{ return 200 "auth=$http_authorization;host=$http_host"; }}
    location /chunked/ {{ alias {dir}/www/; gzip on; gzip_min_length 1; gzip_types *; ssi on;
                          ssi_types *; }}
    location /put/ {{ alias {dir}/put/; dav_methods PUT DELETE; create_full_put_path on; }}
    location /tiny/ {{ client_max_body_size 1k; dav_methods PUT; alias {dir}/put/; }}
    location /one/ {{ alias {dir}/www/; keepalive_timeout 0; }}
  }}
}}
"""


@pytest.fixture(scope="module")
def site(need, tmp_path_factory) -> Iterator[tuple[str, Path]]:
    """A running nginx: its URL and its directory."""
    program = need("nginx")
    directory = tmp_path_factory.mktemp("nginx")
    for name in ("www", "put", "body"):
        (directory / name).mkdir()
    (directory / "www" / "small.txt").write_text("small file\n")
    (directory / "www" / "page.html").write_text("<p>page</p>" * 1000)
    with (directory / "www" / "big.bin").open("wb") as big:
        big.truncate(BIG)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    user = "user root;" if os.geteuid() == 0 else ""
    conf = directory / "nginx.conf"
    conf.write_text(CONF.format(dir=directory, port=port, user=user))
    server = subprocess.Popen(
        [program, "-p", str(directory), "-c", str(conf)], stderr=subprocess.DEVNULL
    )
    try:
        wait_for(port, server)
        yield f"http://127.0.0.1:{port}", directory
    finally:
        server.terminate()
        server.wait(30)


def wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            assert server.poll() is None, "nginx ended"
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.fixture
def client(site) -> Iterator[HttpClient]:
    with HttpClient(site[0]) as opened:
        yield opened


def test_files_over_one_connection(client, site):
    for _ in range(200):
        got = client.get("/small.txt")
        assert (got.status, got.body) == (200, b"small file\n")
    assert client.head("/big.bin").headers["content-length"] == str(BIG)
    assert client.get("/absent").status == 404
    part = client.get("/small.txt", headers={"Range": "bytes=0-4"})
    assert (part.status, part.body) == (206, b"small")
    etag = client.get("/small.txt").headers["etag"]
    assert client.get("/small.txt", headers={"If-None-Match": etag}).status == 304
    assert client.idle_count() == 1


def test_chunked_responses(client):
    plain = client.get("/chunked/page.html")
    assert plain.headers["transfer-encoding"] == "chunked"
    assert plain.body == b"<p>page</p>" * 1000
    assert plain.headers["content-length"] == str(len(plain.body))  # nginx has packed it
    bare = client.get("/chunked/page.html", headers={"Accept-Encoding": "identity"})
    assert bare.body == plain.body
    assert "content-length" not in bare.headers
    assert client.idle_count() == 1


def test_a_download_into_a_file_goes_on_where_it_stopped(client, tmp_path, site):
    class Enough(Exception):
        pass

    def stop(done: int, total: int | None) -> None:
        assert total == BIG
        if done > BIG // 3:
            raise Enough

    path = tmp_path / "big.bin"
    with pytest.raises(Enough):
        client.download("/big.bin", path, progress=stop)
    assert not path.exists()
    assert client.download("/big.bin", path).status == 206
    assert path.stat().st_size == BIG
    assert [each.name for each in tmp_path.iterdir()] == ["big.bin"]


def test_a_server_that_closes_every_time(client):
    for _ in range(5):
        assert client.get("/one/small.txt").ok
    assert client.idle_count() == 0


def test_redirects(client, site):
    got = client.get("/old")
    assert (got.body, got.url, len(got.history)) == (b"small file\n", f"{site[0]}/small.txt", 1)
    assert client.put("/temporary", b"kept").status in (201, 204)
    assert (site[1] / "put" / "moved").read_bytes() == b"kept"
    with pytest.raises(OSError, match="10 redirects"):
        client.get("/loop")


def test_credentials_stay_at_their_origin(site):
    with HttpClient(site[0], BasicAuth("u", "p")) as client:
        assert client.get("/whoami").text().startswith("auth=Basic dTpw;")
        assert client.get("/elsewhere").text().startswith("auth=;host=localhost")


def test_uploads_of_every_kind(client, site):
    data = os.urandom(300_000)
    digest = hashlib.sha256(data).digest()
    path = site[1] / "put" / "up"
    path.unlink(missing_ok=True)
    file = site[1] / "source"
    file.write_bytes(data)
    with file.open("rb") as opened:
        for body in (data, opened, (data[i : i + 7000] for i in range(0, len(data), 7000))):
            assert client.put("/put/up", body).status in (201, 204)
            assert hashlib.sha256(path.read_bytes()).digest() == digest
    assert client.delete("/put/up").status == 204
    assert not path.exists()
    assert client.idle_count() == 1


def test_an_upload_that_is_too_large_gets_its_413(client):
    assert client.put("/tiny/x", bytes(20_000_000)).status == 413
    assert client.put("/tiny/x", iter([b"x" * 100_000] * 1000)).status == 413
    assert client.get("/small.txt").ok


def test_threads_share_one_client(client):
    wrong: list[object] = []

    def work() -> None:
        for _ in range(50):
            try:
                if client.get("/small.txt").body != b"small file\n":
                    wrong.append("body")
            except OSError as error:
                wrong.append(error)

    threads = [threading.Thread(target=work) for _ in range(16)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert wrong == []


PEAK = """
import resource, sys
from flare.http.client import HttpClient

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

base, size = sys.argv[1], int(sys.argv[2])
with HttpClient(base) as client:
    client.get("/small.txt")
    client.put("/put/warm", iter([b"x" * 65536] * 40))
    with client.get_streaming("/big.bin") as download:
        download.read_chunk(1)
        before = peak()
        got = 1 + sum(len(chunk) for chunk in download)
    assert got == size, got
    with open(sys.argv[3], "rb") as big:
        assert client.put("/put/big", big).status in (201, 204)
    assert client.put("/put/big", (bytes(65536) for _ in range(size // 65536))).ok
    assert client.idle_count() == 1
print(peak() - before)
"""


def test_100_mb_down_and_up_in_flat_memory(site, client):
    base, directory = site
    run = subprocess.run(
        [sys.executable, "-c", PEAK, base, str(BIG), str(directory / "www" / "big.bin")],
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert run.returncode == 0, run.stderr
    grown = int(run.stdout) * (1 if sys.platform != "darwin" else 1 / 1024)
    assert grown < 8 * 1024, f"grew by {grown} KiB"
    assert (directory / "put" / "big").stat().st_size == BIG // 65536 * 65536
    client.delete("/put/big")

"""The client through proxies that people run: tinyproxy and microsocks, to nginx behind them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_client_h2_servers import free_port, running, stop
from test_client_nginx_tls import BIG, Nginx

from flare.http.client import HttpClient
from flare.http.errors import ProxyError
from flare.testing import running_server

sys.path.append(str(Path(__file__).parents[1] / "tls"))
from tls_peers import Pki

TINYPROXY = """
Port {port}
Listen 127.0.0.1
Timeout 20
MaxClients 50
BasicAuth user secret
ViaProxyName "tiny"
"""


@pytest.fixture(scope="module")
def pki(tmp_path_factory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def origin(need, tmp_path_factory, pki) -> Iterator[str]:
    nginx = Nginx(need("nginx"), tmp_path_factory.mktemp("nginx"), pki, h2=True)
    try:
        yield nginx.base
    finally:
        nginx.stop()


@pytest.fixture(scope="module", params=["tinyproxy", "microsocks"])
def proxy(need, request, tmp_path_factory) -> Iterator[tuple[str, int]]:
    """A running proxy that wants a password: its scheme and port."""
    program, port = need(request.param), free_port()
    folder = tmp_path_factory.mktemp("proxy")
    if request.param == "tinyproxy":
        conf = folder / "tinyproxy.conf"
        conf.write_text(TINYPROXY.format(port=port))
        scheme, command = "http", [program, "-d", "-c", str(conf)]
    else:
        login = ["-u", "user", "-P", "secret"]
        scheme, command = "socks5h", [program, "-i", "127.0.0.1", "-p", str(port), *login]
    server = running(*command, port=port, cwd=folder)
    try:
        yield scheme, port
    finally:
        stop(server)


def url(proxy: tuple[str, int], login: str = "user:secret@") -> str:
    return f"{proxy[0]}://{login}127.0.0.1:{proxy[1]}"


def test_https_through_it(proxy, origin, pki):
    with HttpClient(origin, proxy=url(proxy), verify=pki.bundle) as client:
        got = client.get("/small.txt")
        assert (got.version, got.body) == ("HTTP/2", b"small file\n")
        with client.get_streaming("/big.bin") as download:
            assert sum(map(len, download)) == BIG
        assert client.put("/put/a", os.urandom(1_000_000)).status in (201, 204)
        assert client.idle_count() == 1


def test_http_through_it(proxy):
    def echo(request):
        from flare.http import ok_json_value

        return ok_json_value({"fields": [name.lower() for name, _ in request.headers.items()]})

    with running_server(echo) as server, HttpClient(proxy=url(proxy)) as client:
        for _ in range(3):
            fields = client.get(f"http://{server.local_addr()}/x").json()["fields"]
            assert "proxy-authorization" not in fields


def test_a_wrong_password(proxy, origin):
    with HttpClient(origin, proxy=url(proxy, "user:wrong@")) as client, pytest.raises(ProxyError):
        client.get("/small.txt")


def test_a_server_that_is_not_there(proxy):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with HttpClient(f"https://127.0.0.1:{port}", proxy=url(proxy)) as client:
        with pytest.raises(ProxyError) as caught:
            client.get("/")
        assert caught.value.status in (500, 502, 4, 5)


def test_many_threads_through_it(proxy, origin, pki):
    failures: list[BaseException] = []
    with HttpClient(origin, proxy=url(proxy), verify=pki.bundle) as client:

        def work() -> None:
            try:
                for _ in range(10):
                    assert client.get("/small.txt").ok
            except BaseException as exc:
                failures.append(exc)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert not failures


def test_the_command_line(proxy, origin, pki):
    environment = {**os.environ, "HTTPS_PROXY": url(proxy), "SSL_CERT_FILE": str(pki.bundle)}
    environment.pop("NO_PROXY", None)
    got = subprocess.run(
        [sys.executable, "-m", "flare", "get", f"{origin}/small.txt"],
        capture_output=True,
        env=environment,
        timeout=30,
    )
    assert (got.stdout, got.returncode) == (b"small file\n", 0), got.stderr

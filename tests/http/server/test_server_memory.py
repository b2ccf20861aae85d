"""A client can make the server hold only so much."""

from __future__ import annotations

import gc
import subprocess
import sys
import time
from collections import Counter
from typing import Any

import pytest
from dispatching import until
from serving import Address, Connect, Peer, Serve, Start
from tls_serving import Pki, secure, tls_server

from flare.http import HttpServer, Request, Response, ok
from flare.http.server import ServerConfig, stream_response
from flare.net import SocketAddr

# A server in a process of its own, which says at the end the most memory it had.
STREAMING = """
import resource
from flare.http import HttpServer
from flare.http.server import stream_response
from flare.net import SocketAddr

def body():
    for _ in range(1600):
        yield bytes(65536)

def most():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

def handler(request):
    if request.url == "/most":
        return stream_response([b"%d" % most()])
    return stream_response(body())

server = HttpServer.bind(SocketAddr.localhost(0))
print(server.local_addr().port, most(), flush=True)
server.serve(handler)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts in KiB on Linux")
def test_a_hundred_megabytes_pass_through_a_few(connect: Connect) -> None:
    program = subprocess.Popen([sys.executable, "-c", STREAMING], stdout=subprocess.PIPE, text=True)
    try:
        assert program.stdout is not None
        port, before = map(int, program.stdout.readline().split())
        peer = connect(("127.0.0.1", port), receive_buffer=65536)
        peer.get("/")
        seen = 0
        buffer = bytearray(1 << 18)
        while seen < 1600 * 65536:
            seen += peer.sock.recv_into(buffer)
        peer.close()
        peer = connect(("127.0.0.1", port))
        peer.get("/most")
        assert int(peer.read().body) - before < 16
    finally:
        program.kill()
        program.communicate()


def upload(peer: Peer, count: int) -> float:
    data = b"1\r\nx\r\n" * count
    began = time.process_time()
    peer.send(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
    peer.send(data)
    peer.send(b"0\r\n\r\n")
    assert peer.read().body == b"%d" % count
    return time.process_time() - began


def test_a_body_in_chunks_of_one_byte_takes_linear_time(serve: Serve, connect: Connect) -> None:
    def handler(request: Request) -> Response:
        return ok(b"%d" % len(request.body))

    peer = connect(serve(handler))
    upload(peer, 1000)
    small = min(upload(peer, 20_000) for _ in range(3))
    large = min(upload(peer, 80_000) for _ in range(3))
    assert large < 4 * small * 2.5  # quadratic would be 16 times


def test_many_small_fields_take_no_longer_than_few_large_ones(
    serve: Serve, connect: Connect
) -> None:
    peer = connect(serve(lambda request: ok(b"%d" % len(request.headers.get_all("x")))))
    for _ in range(20):
        peer.send(b"GET / HTTP/1.1\r\nHost: h\r\n" + b"X: y\r\n" * 99 + b"\r\n")
        assert peer.read().body == b"99"


def test_a_megabyte_head_is_refused_at_its_limit(serve: Serve, connect: Connect) -> None:
    peer = connect(serve(lambda _: ok()))
    peer.send(b"GET / HTTP/1.1\r\nHost: h\r\n" + b"X: " + b"y" * 20_000)
    assert peer.read().status == 431
    assert peer.rest() == b""


class Asked:
    """Connects anew for each time that it is called."""

    def __init__(self, *, reads: bool = True, head: bytes = b"", context: Any = None) -> None:
        self.reads = reads
        self.head = head
        self.context = context

    def __call__(self, address: Address, number: int) -> None:
        peer = Peer(address)
        try:
            if self.context is not None:
                secure(peer, self.context)
            if self.head:
                peer.send(self.head % number)
            if self.reads:
                peer.rest()
        finally:
            peer.close()


GET = b"GET /%d HTTP/1.1\r\nHost: h\r\nConnection: close\r\n"


@pytest.mark.parametrize(
    ("scene", "ask"),
    [
        ("plain", Asked(head=GET + b"\r\n")),
        ("plain", Asked(head=GET + b"Long: " + b"x" * 1200 + b"\r\n\r\n")),
        ("plain", Asked(head=GET.replace(b"GET /", b"GET /raise/") + b"\r\n")),
        ("plain", Asked(head=GET.replace(b"GET /", b"GET /stream/") + b"\r\n")),
        ("plain", Asked(head=b"%d\r\n\r\n")),
        ("plain", Asked(reads=False)),
        ("proxy", Asked(head=b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + GET + b"\r\n")),
        ("proxy", Asked(head=b"NONE %d\r\n")),
        ("proxy", Asked(reads=False)),
        ("tls", Asked(head=GET + b"\r\n")),
        ("tls", Asked(head=b"no TLS %d\r\n")),
        ("tls", Asked(reads=False)),
    ],
)
def test_nothing_is_left_to_the_garbage_collector(
    start: Start, pki: Pki, scene: str, ask: Asked
) -> None:
    def handler(request: Request) -> Any:
        if request.url.startswith("/raise"):
            raise ValueError
        return stream_response([b"a"]) if request.url.startswith("/stream") else ok("x")

    config = ServerConfig()
    if scene == "proxy":
        config = ServerConfig(trusted_proxies=["127.0.0.1"], proxy_protocol=True)
    elif scene == "tls" and ask.head.startswith(b"GET"):
        ask = Asked(head=ask.head, context=pki.context())
    server = (
        tls_server(pki, config)
        if scene == "tls"
        else HttpServer.bind(SocketAddr.localhost(0), config)
    )
    running = start(handler, server=server)
    ask(running.address, 0)
    asked = 20
    until(lambda: not server.stats().connections)
    gc.collect()
    gc.disable()
    try:
        for number in range(asked):
            ask(running.address, number)
        until(lambda: server.stats().accepted == asked + 1 and not server.stats().connections)
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        left = Counter(type(each).__name__ for each in gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert not {name: count for name, count in left.items() if count >= asked}

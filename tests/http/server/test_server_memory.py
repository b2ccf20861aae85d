"""A client can make the server hold only so much."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from serving import Connect, Peer, Serve

from flare.http import Request, Response, ok

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

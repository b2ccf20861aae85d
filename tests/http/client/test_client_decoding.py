"""Compressed responses: decoded as they are read, within bounds, and left alone where unwanted."""

from __future__ import annotations

import gzip
import subprocess
import sys
import textwrap
import threading
import zlib
from pathlib import Path

import brotli
import pytest
from scripted import ScriptedServer, Send, Wait, Whole, answers, response

from flare.errors import NetworkError, ValidationError
from flare.http.client import HttpClient
from flare.http.errors import HttpProtocolError

TEXT = ("one line\n" * 5000).encode()
GZIPPED = gzip.compress(TEXT, mtime=0)


def coded(data: bytes, coding: str, status: str = "200 OK", *fields: str) -> bytes:
    return response(data, status, f"Content-Encoding: {coding}", "Content-Type: text/x", *fields)


def chunked(data: bytes, coding: str) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nTransfer-Encoding: chunked\r\n\r\n"
    pieces = [data[i : i + 100] for i in range(0, len(data), 100)]
    body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return head.encode() + body + b"0\r\n\r\n"


@pytest.mark.parametrize(
    ("coding", "data"),
    [
        ("gzip", GZIPPED),
        ("x-gzip", GZIPPED),
        ("deflate", zlib.compress(TEXT)),
        ("br", brotli.compress(TEXT)),
        ("gzip, br", brotli.compress(GZIPPED)),
        ("identity, gzip", GZIPPED),
    ],
)
@pytest.mark.parametrize("frame", [coded, chunked])
def test_a_coded_body_is_decoded_and_its_fields_say_so(coding, data, frame):
    plain = response(b"plain")
    with (
        ScriptedServer([answers(frame(data, coding), plain)]) as server,
        HttpClient(server.base) as client,
    ):
        got = client.get("/")
        assert got.body == TEXT
        assert got.text().startswith("one line")
        assert "content-encoding" not in got.headers
        assert got.headers.get_all("content-length") == [str(len(TEXT))]
        assert client.get("/").body == b"plain"
        assert server.connections == 1


def test_it_is_asked_for_unless_the_caller_says_otherwise():
    ok = response(b"hello")
    with (
        ScriptedServer([answers(ok, ok, ok, ok)]) as server,
        HttpClient(server.base) as client,
    ):
        client.get("/")
        client.get("/", headers={"Accept-Encoding": "br"})
        client.get("/", headers={"Range": "bytes=0-4"})
        client.head("/")
        first, own, ranged, head = server.requests()
    assert b"Accept-Encoding: gzip, deflate, br" in first
    assert own.count(b"Accept-Encoding") == 1
    assert b"Accept-Encoding: br" in own
    assert b"Accept-Encoding" not in ranged
    assert b"Accept-Encoding" in head


@pytest.mark.parametrize(
    ("client", "headers"),
    [({"auto_decompress": False}, None), ({}, {"Accept-Encoding": " Identity"})],
)
def test_who_does_not_want_it_decoded_gets_it_as_it_came(client, headers):
    with (
        ScriptedServer([answers(coded(GZIPPED, "gzip"))]) as server,
        HttpClient(server.base, **client) as caller,
    ):
        got = caller.get("/", headers=headers)
        assert got.body == GZIPPED
        assert got.headers.get("content-encoding") == "gzip"
        asked = server.requests()[0]
    assert (b"Accept-Encoding: gzip" in asked) is False


@pytest.mark.parametrize(
    ("answer", "method", "body"),
    [
        (coded(b"snap", "snappy"), "GET", b"snap"),
        (coded(GZIPPED, "gzip, snappy"), "GET", GZIPPED),
        (coded(GZIPPED[:10], "gzip", "206 Partial Content"), "GET", GZIPPED[:10]),
        (coded(b"", "gzip"), "GET", b""),
        (coded(b"", "gzip").replace(b"Length: 0", b"Length: 99"), "HEAD", b""),
        (b"HTTP/1.1 204 No Content\r\nContent-Encoding: gzip\r\n\r\n", "GET", b""),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Encoding: gzip\r\n\r\n", "GET", b""),
    ],
)
def test_what_cannot_be_decoded_is_left_alone(answer, method, body):
    with (
        ScriptedServer([answers(answer, response(b"next"))]) as server,
        HttpClient(server.base) as client,
    ):
        got = client.request(method, "/")
        assert got.body == body
        if body or method == "HEAD":
            assert "content-encoding" in got.headers
        assert client.get("/").body == b"next"


@pytest.mark.parametrize("data", [GZIPPED[:-1], GZIPPED[:20], b"not gzip", b"\x1f"])
@pytest.mark.parametrize("stream", [False, True])
def test_corrupt_data_is_a_protocol_error_and_ends_the_connection(data, stream):
    with (
        ScriptedServer([answers(coded(data, "gzip"))]) as server,
        HttpClient(server.base) as client,
    ):
        with pytest.raises(HttpProtocolError, match=server.peer):
            client.get("/", stream=stream).read_all() if stream else client.get("/")
        assert "active=0 idle=0" in repr(client)


def test_too_many_codings_are_a_protocol_error():
    data = TEXT
    for _ in range(6):
        data = gzip.compress(data, mtime=0)
    with (
        ScriptedServer([answers(coded(data, ", ".join(["gzip"] * 6)))] * 2) as server,
        HttpClient(server.base) as client,
    ):
        for stream in (False, True):
            with pytest.raises(HttpProtocolError, match="over 5 content codings"):
                client.get("/", stream=stream)
        assert "active=0 idle=0" in repr(client)


@pytest.mark.parametrize("stream", [False, True])
def test_more_than_the_limit_is_an_error(stream):
    bomb = coded(gzip.compress(bytes(3_000_000)), "gzip")
    with (
        ScriptedServer([answers(bomb)] * 2) as server,
        HttpClient(server.base, max_decompressed_bytes=2_000_000) as client,
    ):
        with pytest.raises(NetworkError, match="max_decompressed_bytes, 2000000"):
            client.get("/").body if not stream else client.get("/", stream=True).read_all()
        assert "active=0 idle=0" in repr(client)
        client.with_max_decompressed_bytes(3_000_000)
        assert len(client.get("/").body) == 3_000_000


def test_the_default_limit_holds_and_zero_is_none():
    bomb = coded(gzip.compress(bytes(16 * 1024 * 1024 + 1)), "gzip")
    with ScriptedServer([answers(bomb)] * 2) as server:
        with HttpClient(server.base) as client, pytest.raises(NetworkError, match="decompressed"):
            client.get("/")
        with HttpClient(server.base, max_decompressed_bytes=0) as client:
            assert len(client.get("/").body) == 16 * 1024 * 1024 + 1


def test_a_limit_must_be_one():
    with pytest.raises(ValidationError):
        HttpClient(max_decompressed_bytes=-1)
    with HttpClient() as client, pytest.raises(ValidationError):
        client.with_max_decompressed_bytes(-1)


def test_a_download_is_decoded_as_it_is_read():
    with (
        ScriptedServer([answers(coded(GZIPPED, "gzip"), chunked(GZIPPED, "gzip"))]) as server,
        HttpClient(server.base) as client,
    ):
        with client.get_streaming("/") as got:
            assert got.read(8) == b"one line"
            assert got.read_chunk(1) == b"\n"
            assert "content-length" not in got.headers
            assert "content-encoding" not in got.headers
            assert got.read_all() == TEXT[9:]
        with client.get_streaming("/") as got:
            assert list(got.iter_lines()) == ["one line"] * 5000
        assert server.connections == 1


def test_a_slow_coded_body_is_given_as_it_comes():
    coder = zlib.compressobj(9, zlib.DEFLATED, 31)
    first = coder.compress(b"first\n") + coder.flush(zlib.Z_SYNC_FLUSH)
    second = coder.compress(b"second\n") + coder.flush()
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n"
    go_on = threading.Event()
    with (
        ScriptedServer([[Whole(), Send(head + first), Wait(go_on), Send(second)]]) as server,
        HttpClient(server.base, read_timeout_ms=5_000) as client,
        client.get_streaming("/") as got,
    ):
        assert got.read_chunk() == b"first\n"
        go_on.set()
        assert got.read_all() == b"second\n"


def test_a_redirect_is_drained_without_decoding():
    bomb = gzip.compress(bytes(30_000_000))
    moved = coded(bomb, "gzip", "302 Found", "Location: /there")
    with (
        ScriptedServer([answers(moved, response(b"there"))]) as server,
        HttpClient(server.base, max_decompressed_bytes=10) as client,
    ):
        got = client.get("/")
        assert got.body == b"there"
        assert got.history[0].body == bomb
        assert server.connections == 1


READ_A_BOMB = """
    import sys
    from flare.http import HttpClient

    def peak():
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))

    with HttpClient(sys.argv[1]) as client:
        with client.get_streaming("/") as small:
            assert small.read(64) == bytes(64)
        before = peak()
        with client.get_streaming("/") as bomb:
            assert bomb.read(64) == bytes(64)
        print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
@pytest.mark.parametrize("coding", ["gzip", "br"])
def test_64_bytes_of_a_gibibyte_cost_little_memory(coding):
    if coding == "gzip":
        small, bomb = gzip.compress(bytes(64)), gzip.compress(bytes(1 << 26)) * 16
    else:
        coder = brotli.Compressor(quality=1)
        bomb = b"".join(coder.process(bytes(1 << 26)) for _ in range(16)) + coder.finish()
        small = brotli.compress(bytes(64))
    program = textwrap.dedent(READ_A_BOMB)
    with ScriptedServer([answers(coded(small, coding)), answers(coded(bomb, coding))]) as server:
        done = subprocess.run(
            [sys.executable, "-c", program, server.base],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 6 * 1024  # of which brotli's window is 4

"""Streaming up: framing, sources that fail, and answers that come early."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
from pathlib import Path

import pytest
from scripted import (
    Body,
    Eof,
    Head,
    MemoryTransport,
    Reset,
    ScriptedServer,
    Send,
    Set,
    Wait,
    Whole,
    answers,
    response,
)

from flare.errors import BrokenPipe, ConnectionReset, NetworkError, ValidationError
from flare.http.client import CallTimeout, HttpClient

OK = response(b"hello")
TOO_LARGE = response(b"no", "413 Content Too Large", "Connection: close")


class Source:
    """A ChunkSource of *count* chunks."""

    def __init__(self, count: int, size: int = 1000) -> None:
        self.left = count
        self.size = size
        self.closed = False

    def next(self, cancel) -> bytes | None:
        self.left -= 1
        return b"c" * self.size if self.left >= 0 else None

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("body", "framing", "wire"),
    [
        (lambda: iter([b"ab", b"", b"c"]), b"Transfer-Encoding: chunked",
         b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"),
        (lambda: io.BytesIO(b"abc"), b"Content-Length: 3", b"abc"),
        (lambda: io.BytesIO(), b"Content-Length: 0", b""),
        (lambda: Source(1, 3), b"Transfer-Encoding: chunked", b"3\r\nccc\r\n0\r\n\r\n"),
        (lambda: iter([]), b"Transfer-Encoding: chunked", b"0\r\n\r\n"),
    ],
)  # fmt: skip
def test_what_is_streamed_and_how(body, framing, wire):
    with ScriptedServer([answers(OK, OK)]) as server, HttpClient(server.base) as client:
        assert client.post("/", body()).ok
        raw = bytes(server.seen[0])
        assert client.get("/").ok  # the connection is in step
        assert server.connections == 1
    assert framing in raw
    assert raw.partition(b"\r\n\r\n")[2] == wire
    assert b"Content-Type" not in raw


def test_send_chunked_says_what_it_sends():
    with ScriptedServer([answers(OK)]) as server, HttpClient(server.base) as client:
        source = Source(2, 2)
        client.send_chunked("PUT", "/x", source, "text/x", headers={"X-A": "1"})
        raw = bytes(server.seen[0])
        assert source.closed
    assert b"Content-Type: text/x" in raw
    assert raw.endswith(b"2\r\ncc\r\n2\r\ncc\r\n0\r\n\r\n")


@pytest.mark.parametrize("size", [0, 1, 64 * 1024, 64 * 1024 + 1, 300_000, 5_000_000])
@pytest.mark.parametrize("how", ["bytes", "file", "iterator"])
def test_bodies_of_every_size_arrive_whole(size, how):
    data = hashlib.shake_128(b"seed").digest(size)
    pieces = [data[i : i + 10_001] for i in range(0, size, 10_001)]
    body = {"bytes": data, "file": io.BytesIO(data), "iterator": iter(pieces)}[how]
    with ScriptedServer([answers(OK)]) as server, HttpClient(server.base) as client:
        assert client.put("/", body).body == b"hello"
        raw = bytes(server.seen[0])
        assert client.idle_count() == 1
    got = raw.partition(b"\r\n\r\n")[2]
    if how == "iterator":
        parts = got.split(b"\r\n", 1)
        decoded = b""
        while int(parts[0], 16):
            length = int(parts[0], 16)
            decoded += parts[1][:length]
            parts = parts[1][length + 2 :].split(b"\r\n", 1)
        got = decoded
    assert got == data


def test_a_source_that_raises_ends_the_connection_and_its_error_comes_out():
    def failing():
        yield b"first"
        raise KeyError("mine")

    with ScriptedServer([[Head(), Eof()]]) as server, HttpClient(server.base) as client:
        with pytest.raises(KeyError, match="mine"):
            client.post("/", failing())
        assert "active=0 idle=0" in repr(client)
        server.wait_played(0)
        assert not bytes(server.seen[0]).endswith(b"0\r\n\r\n")


def test_a_file_that_shrank_ends_the_connection():
    class Shrinking(io.BytesIO):
        def read(self, n=-1):
            return b""

    with ScriptedServer([[Head(), Eof()]]) as server, HttpClient(server.base) as client:
        with pytest.raises(ValidationError, match="short"):
            client.post("/", Shrinking(b"abc"))
        assert "active=0 idle=0" in repr(client)


@pytest.mark.parametrize("body", ["bytes", "source"])
@pytest.mark.parametrize("then", ["close", "stay", "reset"])
def test_an_early_answer_is_returned_and_ends_the_upload(body, then):
    done = threading.Event()
    end = {"close": [], "stay": [Wait(done)], "reset": [Wait(done), Reset()]}[then]
    early = response(b"no", "413 Content Too Large")
    source = Source(100_000)
    with (
        ScriptedServer([[Head(), Body(1000), Send(early), *end]]) as server,
        HttpClient(server.base) as client,
    ):
        got = client.post("/", bytes(50_000_000) if body == "bytes" else source)
        done.set()
        assert (got.status, got.body) == (413, b"no")
        assert client.idle_count() == 0
    if body == "source":
        assert source.left > 0
        assert source.closed


def test_interim_responses_do_not_stop_an_upload():
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n"
    go_on = threading.Event()

    def chunks():
        yield b"first"
        assert go_on.wait(5)
        for _ in range(50):
            yield b"x" * 100_000

    script = [Head(), Body(5), Send(interim), Set(go_on), Body(5_000_000), Send(OK)]
    with ScriptedServer([script]) as server, HttpClient(server.base) as client:
        assert client.post("/", chunks()).body == b"hello"


def test_an_answer_in_pieces_while_sending_is_awaited():
    more = threading.Event()

    def chunks():
        yield b"first"
        while True:
            yield b"x" * 100_000

    script = [
        Head(),
        Body(5),
        Send(TOO_LARGE[:20]),
        Body(3_000_000),
        Send(TOO_LARGE[20:]),
        Wait(more),
    ]
    with ScriptedServer([script]) as server, HttpClient(server.base) as client:
        assert client.post("/", chunks()).status == 413
        more.set()


def test_a_server_that_hangs_up_while_we_send_is_an_error():
    with ScriptedServer([[Head(), Body(10), Reset()]]) as server, HttpClient(server.base) as client:
        with pytest.raises((ConnectionReset, BrokenPipe, NetworkError), match=server.peer):
            client.post("/", bytes(50_000_000))
        assert "active=0 idle=0" in repr(client)


def test_streams_without_a_descriptor_work_too():
    def serve(stream):
        seen = b""
        while b"0\r\n\r\n" not in seen:
            seen += stream.read(65536)
        stream.write_all(OK)
        seen = stream.read(65536)
        stream.write_all(TOO_LARGE)

    transport = MemoryTransport(serve)
    with HttpClient("http://h", transport=transport) as client:
        assert client.post("/", iter([b"x" * 300_000])).body == b"hello"
        assert client.post("/", bytes(1_000_000)).status == 413
    transport.join()
    assert len(transport.dialled) == 1


def test_an_expired_deadline_is_noticed_between_chunks(ticking):
    ticking(2)

    def endless():
        while True:
            threading.Event().wait(0.01)
            yield b"x"

    with (
        ScriptedServer([[Whole()]]) as server,
        HttpClient(server.base) as client,
        pytest.raises(CallTimeout) as caught,
    ):
        client.post("/", endless(), timeout_ms=20_000)
    assert caught.value.phase == "total"


@pytest.mark.parametrize("buffering", [0, -1])
def test_a_plain_file_is_sent_from_where_it_stands(tmp_path, buffering):
    data = hashlib.shake_128(b"seed").digest(3_000_000)
    path = tmp_path / "file"
    path.write_bytes(data)
    with (
        ScriptedServer([answers(OK, OK)]) as server,
        HttpClient(server.base) as client,
        path.open("rb", buffering=buffering) as file,
    ):
        file.seek(10)
        assert client.put("/", file).ok
        assert file.tell() == len(data)
        file.seek(len(data) - 5)
        assert client.put("/", file).ok
        assert file.read() == b""
        raw = bytes(server.seen[0])
    assert data[10:] in raw
    assert raw.endswith(b"\r\n\r\n" + data[-5:])


def test_a_file_that_is_more_than_its_descriptor_is_read():
    with (
        tempfile.TemporaryFile() as raw_file,
        ScriptedServer([answers(OK)]) as server,
        HttpClient(server.base) as client,
    ):
        with gzip.open(raw_file, "wb") as packed:
            packed.write(b"unpacked" * 1000)
        raw_file.seek(0)
        with gzip.open(raw_file, "rb") as unpacked:
            client.put("/", unpacked, headers={"Transfer-Encoding": "chunked"})
        assert b"unpacked" * 1000 in bytes(server.seen[0])


def test_a_plain_file_that_shrinks_ends_the_connection(tmp_path):
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.truncate(50_000_000)
    cut = threading.Event()

    def shorten():
        assert cut.wait(5)
        os.truncate(path, 1_000_000)
        shortened.set()

    shortened = threading.Event()
    thread = threading.Thread(target=shorten)
    thread.start()
    script = [Head(), Set(cut), Wait(shortened), Eof()]
    with (
        ScriptedServer([script]) as server,
        HttpClient(server.base) as client,
        path.open("rb") as file,
    ):
        with pytest.raises(ValidationError, match="short"):
            client.put("/", file)
        assert "active=0 idle=0" in repr(client)
    thread.join()


def test_an_early_answer_ends_the_upload_of_a_plain_file(tmp_path):
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.truncate(500_000_000)
    with (
        ScriptedServer([[Head(), Body(1000), Send(TOO_LARGE), Eof()]]) as server,
        HttpClient(server.base) as client,
        path.open("rb") as file,
    ):
        assert client.put("/", file).status == 413
        assert file.tell() < 500_000_000


UPLOAD = """
    import sys
    from pathlib import Path
    from flare.http import HttpClient

    url, path, how = sys.argv[1:]
    with HttpClient(url, timeout_ms=60_000) as client, open(path, "rb") as file:
        if how == "file":
            answer = client.put("/", file)
        elif how == "read":  # not by the system alone
            answer = client.put("/", iter(lambda: file.read(65536), b""))
        else:
            answer = client.put("/", files={"f": Path(path)})
    with open("/proc/self/status") as status:
        peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    print(answer.status, peak)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
@pytest.mark.parametrize(("how", "size"), [("file", 1 << 30), ("read", 1 << 28), ("form", 1 << 28)])
def test_a_sparse_gibibyte_takes_no_memory(tmp_path, how, size):
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(size)
    taken = 0

    def swallow(listener: socket.socket) -> None:
        nonlocal taken
        connection, _ = listener.accept()
        buffer = bytearray(1 << 20)
        with connection:
            connection.settimeout(30)
            while taken < size:
                count = connection.recv_into(buffer)
                if not count:
                    return
                taken += count
            # The rest is a head, the size lines or the form around the file.
            connection.settimeout(0.3)
            try:
                while connection.recv_into(buffer):
                    pass
            except TimeoutError:
                pass
            connection.sendall(OK)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=swallow, args=(listener,))
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(UPLOAD), url, str(path), how],
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        thread.join(10)
    assert done.returncode == 0, done.stderr
    status, peak = done.stdout.split()
    assert status == "200"
    assert int(peak) < 64 * 1024

"""Files as responses: sent by the system where it can, read where it cannot."""

from __future__ import annotations

import errno
import gzip
import io
import logging
import os
import socket
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dispatching import reset, skip, until, worker_of
from serving import PATIENCE, Connect, Running, Start

from flare.http import FileBody, Request, Response, Router, StreamingResponse, ok
from flare.http.server import ServerConfig, stream_response

DATA = bytes(range(256)) * 40_000  # 10 MB


class Sent:
    """Counts what ``os.sendfile`` sends, and does what it is told to first."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls = 0
        self.bytes = 0
        self.largest = 0
        self.first: Callable[[], object] = lambda: None
        really = os.sendfile

        def sendfile(out: int, into: int, offset: int, count: int) -> int:
            self.calls += 1
            self.first()
            sent = really(out, into, offset, count)
            self.bytes += sent
            self.largest = max(self.largest, count)
            return sent

        monkeypatch.setattr(os, "sendfile", sendfile)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    return Sent(monkeypatch)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.write_bytes(DATA)
    return path


def is_kernels(running: Running) -> bool:
    """Whether the server's sockets are the kernel's own, and not io_uring's."""
    return not worker_of(running).config.use_bufring


class Files:
    """A handler that answers with what *make* makes, and remembers the bodies."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make
        self.made: list[FileBody] = []

    def __call__(self, request: Request) -> Any:
        if request.url == "/other":
            return ok("other")
        body = self.make()
        if not isinstance(body, FileBody):
            body = FileBody(body)
        self.made.append(body)
        return StreamingResponse(304 if request.url == "/304" else 200, body)

    def all_closed(self) -> bool:
        return all(body.file.closed for body in self.made)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda path: path, DATA),
        (lambda path: str(path), DATA),
        (lambda path: path.open("rb"), DATA),
        (lambda path: path.open("rb", buffering=0), DATA),
        (lambda path: FileBody(path, 1000), DATA[1000:]),
        (lambda path: FileBody(path, 1000, 77), DATA[1000:1077]),
        (lambda path: FileBody(path, length=5), DATA[:5]),
        (lambda path: FileBody(path, len(DATA) - 3, 99), DATA[-3:]),
    ],
)
def test_a_file_is_sent_by_the_system(
    start: Start, connect: Connect, sent: Sent, path: Path, make: Any, expected: bytes
) -> None:
    files = Files(lambda: make(path))
    running = start(files)
    peer = connect(running.address)
    for _ in range(2):
        peer.get("/")
        reply = peer.read()
        assert reply.get("content-length") == str(len(expected))
        assert reply.body == expected
        peer.get("/other")
        assert peer.read().body == b"other"
    until(files.all_closed)
    if is_kernels(running):
        assert sent.bytes == 2 * len(expected)
        assert sent.largest <= 256 * 1024


def test_it_is_the_usual_response_in_everything_else(
    start: Start, connect: Connect, sent: Sent, path: Path
) -> None:
    files = Files(lambda: path)
    peer = connect(start(files).address)
    peer.send(b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert peer.read("HEAD").get("content-length") == str(len(DATA))
    peer.get("/304")
    assert peer.read().status == 304
    assert sent.calls == 0
    peer.send(b"GET / HTTP/1.0\r\nHost: h\r\n\r\n")
    assert peer.read().body == DATA
    assert peer.is_ended()
    until(files.all_closed)


def test_pipelined_answers_come_in_order(
    start: Start, connect: Connect, sent: Sent, path: Path
) -> None:
    peer = connect(start(Files(lambda: FileBody(path, 0, 300_000))).address)
    for _ in range(3):
        peer.get("/other")
        peer.get("/")
    for _ in range(3):
        assert peer.read().body == b"other"
        assert peer.read().body == DATA[:300_000]


def not_plain(path: Path) -> list[Any]:
    packed = gzip.compress(b"unpacked " * 100)
    gz = path.with_suffix(".gz")
    gz.write_bytes(packed)
    memory = io.BytesIO(b"unpacked " * 100)
    return [lambda: gzip.open(gz), lambda: memory]


@pytest.mark.parametrize("number", [0, 1])
def test_what_is_no_plain_file_is_read(
    start: Start, connect: Connect, sent: Sent, path: Path, number: int
) -> None:
    peer = connect(start(Files(not_plain(path)[number])).address)
    peer.get("/")
    assert peer.read().body == b"unpacked " * 100
    assert sent.calls == 0


def test_what_was_written_and_not_flushed_is_sent_too(start: Start, connect: Connect) -> None:
    def make() -> Any:
        file = tempfile.TemporaryFile()  # noqa: SIM115
        file.write(b"abc")
        file.seek(0)
        file.write(b"X")
        file.seek(0)
        return file

    peer = connect(start(Files(make)).address)
    peer.get("/")
    assert peer.read().body == b"Xbc"


def test_a_part_that_is_not_in_memory_is_read_by_dispatch(
    start: Start, connect: Connect, sent: Sent, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cold = {65536 * 2, 65536 * 7}

    def in_memory(fd: int, offset: int) -> bool:
        return not any(part <= offset < part + 65536 for part in cold)

    monkeypatch.setattr("flare.http.server.send_file._is_in_memory", in_memory)
    running = start(Files(lambda: FileBody(path, 0, 65536 * 10)), ServerConfig(dispatch="pool"))
    peer = connect(running.address)
    for _ in range(2):
        peer.get("/")
        assert peer.read().body == DATA[: 65536 * 10]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS])
def test_where_the_system_refuses_the_file_is_read(
    start: Start, connect: Connect, sent: Sent, path: Path, number: int
) -> None:
    def refuse() -> None:
        raise OSError(number, "not this way")

    sent.first = refuse
    peer = connect(start(Files(lambda: path)).address)
    peer.get("/")
    assert peer.read().body == DATA


def test_a_file_that_gets_shorter_cuts_the_connection_off(
    start: Start, connect: Connect, sent: Sent, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "flare.error")
    files = Files(lambda: path)

    def handler(request: Request) -> Any:
        result = files(request)
        os.truncate(path, 1000)
        return result

    peer = connect(start(handler).address)
    peer.get("/")
    head = peer._until(b"\r\n\r\n")
    assert b"Content-Length: %d" % len(DATA) in head
    assert peer.rest() == DATA[:1000]
    until(files.all_closed)
    assert "less than its Content-Length" in caplog.text


def test_what_a_file_grows_by_is_not_sent(start: Start, connect: Connect, path: Path) -> None:
    files = Files(lambda: path)

    def handler(request: Request) -> Any:
        result = files(request)
        with path.open("ab") as file:
            file.write(b"more")
        return result

    peer = connect(start(handler).address)
    peer.get("/")
    assert peer.read().body == DATA


def test_a_file_that_the_handler_closed_is_not_another_one(
    start: Start, connect: Connect, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def handler(request: Request) -> Any:
        with path.open("rb") as file:
            return stream_response(file)

    peer = connect(start(handler).address)
    peer.get("/")
    assert peer.rest().partition(b"\r\n\r\n")[2] == b""
    assert "closed file" in caplog.text


def test_a_client_that_does_not_read_is_dropped_and_the_file_closed(
    start: Start, connect: Connect, path: Path
) -> None:
    files = Files(lambda: path)
    running = start(files, ServerConfig(write_timeout_ms=100))
    peer = connect(running.address, receive_buffer=4096)
    peer.get("/")
    until(lambda: files.made and files.all_closed())
    until(lambda: not worker_of(running).connections)
    other = connect(running.address)
    other.get("/other")
    assert other.read().body == b"other"


def test_a_slow_reader_that_goes_on_gets_it_all(start: Start, connect: Connect, path: Path) -> None:
    running = start(Files(lambda: path), ServerConfig(write_timeout_ms=10_000))
    worker = worker_of(running)
    peer = connect(running.address, receive_buffer=65536)
    until(lambda: worker.connections)
    [connection] = worker.connections.values()
    connection.raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    peer.get("/")
    peer._until(b"\r\n\r\n")
    got = peer.buffer
    for _ in range(4):  # together longer than it
        skip(worker, 5_000)
        gone = worker.tally.bytes_out
        while worker.tally.bytes_out == gone:
            got += peer.sock.recv(20_000)
    assert worker.tally.bytes_out < len(DATA)
    while len(got) < len(DATA):
        got += peer.sock.recv(200_000)
    assert got == DATA


@pytest.mark.parametrize("leave", [lambda peer: peer.close(), reset])
def test_a_client_that_leaves_closes_the_file(
    start: Start, connect: Connect, path: Path, leave: Any
) -> None:
    files = Files(lambda: path)
    running = start(files)
    peer = connect(running.address, receive_buffer=4096)
    peer.get("/")
    peer._until(b"\r\n\r\n")
    leave(peer)
    until(lambda: not worker_of(running).connections)
    until(files.all_closed)


def test_a_drain_waits_for_it_and_an_end_closes_it(
    start: Start, connect: Connect, path: Path
) -> None:
    files = Files(lambda: path)
    running = start(files)
    peer = connect(running.address, receive_buffer=65536)
    peer.get("/")
    peer._until(b"\r\n\r\n")
    reports: list[Any] = []
    draining = threading.Thread(target=lambda: reports.append(running.server.drain(5000)))
    draining.start()
    until(lambda: worker_of(running).draining)
    assert peer._exactly(len(DATA)) == DATA
    assert peer.is_ended()
    draining.join(PATIENCE)
    assert (reports[0].drained, reports[0].timed_out) == (1, 0)
    assert files.all_closed()
    running = start(files)
    peer = connect(running.address, receive_buffer=4096)
    peer.get("/")
    peer._until(b"\r\n\r\n")
    running.stop()
    assert files.all_closed()


def test_others_have_their_turn_while_files_are_sent(
    start: Start, connect: Connect, path: Path
) -> None:
    running = start(Files(lambda: path))
    downloads = [connect(running.address) for _ in range(4)]
    for peer in downloads:
        peer.get("/")
        peer._until(b"\r\n\r\n")
    other = connect(running.address)
    other.get("/other")
    assert other.read().body == b"other"
    assert [peer._exactly(len(DATA)) == DATA for peer in downloads] == [True] * 4


def test_a_route_may_send_a_file_while_it_reads_its_request(
    start: Start, connect: Connect, path: Path
) -> None:
    router = Router()

    @router.post("/", stream_body=True)
    def handler(request: Request) -> Response:
        request.stream.read(1)
        return stream_response(FileBody(path, 0, 100))

    peer = connect(start(router).address)
    for _ in range(2):
        peer.post(b"12345")
        assert peer.read().body == DATA[:100]

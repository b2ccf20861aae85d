"""``IoVecBuf``, ``writev_buf`` and ``writev_buf_all`` over real descriptors."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from flare.errors import BrokenPipe, ConnectionReset, NetworkError, Timeout, ValidationError
from flare.runtime import IoVecBuf, writev_buf, writev_buf_all


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    a, b = socket.socketpair()
    with a, b:
        yield a, b


def filled(*parts: bytes) -> IoVecBuf:
    iov = IoVecBuf(len(parts))
    for i, part in enumerate(parts):
        iov.set(i, part)
    return iov


def drain(sock: socket.socket) -> bytes:
    sock.setblocking(False)
    parts = []
    while True:
        try:
            parts.append(sock.recv(1 << 20))
        except BlockingIOError:
            return b"".join(parts)
        if not parts[-1]:
            return b"".join(parts)


def test_cells_are_views_of_single_bytes():
    iov = IoVecBuf(4)
    iov.set(0, b"abc")
    iov.set(2, memoryview(struct.pack("=3I", 1, 2, 3)).cast("I"))
    iov.set(3, memoryview(b"a-b-c")[::2])
    assert [iov.cell_len(i) for i in range(4)] == [3, 0, 12, 3]
    assert (iov.total(), iov.count(), len(iov)) == (18, 4, 4)
    assert iov.cell_ptr(3) == b"abc"
    assert [len(cell) for cell in iov.base()] == [3, 0, 12, 3]
    assert iov.base() is iov.base()
    assert IoVecBuf.size_for(3) == 48
    assert repr(iov) == "IoVecBuf(4 cells, 18 bytes)"
    iov.clear()
    assert (iov.total(), iov.count()) == (0, 4)


def test_clear_lets_go_of_the_buffers():
    data = bytearray(b"abc")
    iov = filled(data)
    with pytest.raises(BufferError):
        data.append(1)
    iov.clear()
    data.append(1)


@pytest.mark.parametrize("i", [-1, 2])
def test_there_are_no_other_cells(i):
    iov = IoVecBuf(2)
    for call in (lambda: iov.set(i, b""), lambda: iov.cell_len(i), lambda: iov.cell_ptr(i)):
        with pytest.raises(IndexError):
            call()


@pytest.mark.parametrize("n", [0, -1])
def test_a_vector_has_at_least_one_cell(n):
    with pytest.raises(ValidationError):
        IoVecBuf(n)


def test_writev_buf_writes_cells_or_plain_buffers(pair):
    a, b = pair
    iov = filled(b"ab", b"", b"cd", b"ef")
    assert writev_buf(a.fileno(), iov) == 6
    assert writev_buf(a.fileno(), iov, 3) == 4
    assert writev_buf(a.fileno(), [b"xy", bytearray(b"z"), memoryview(b"123")[::2]]) == 5
    assert iov.total() == 6
    assert drain(b) == b"abcdefabcdxyz13"


@pytest.mark.parametrize("iov", [IoVecBuf(3), [], [b"", bytearray()]])
def test_nothing_to_write_is_no_system_call(iov):
    assert writev_buf(-1, iov) == 0
    assert writev_buf(-1, [b"x"], 0) == 0
    writev_buf_all(IoVecBuf(1), -1)


@pytest.mark.parametrize("count", [-1, 2])
def test_a_count_beyond_the_cells_is_refused(count):
    with pytest.raises(ValidationError):
        writev_buf(-1, [b"x"], count)


def test_a_thousand_and_more_cells_go_in_turns(pair):
    a, b = pair
    parts = [bytes([i % 251]) for i in range(2500)]
    assert writev_buf(a.fileno(), parts) == 1024
    assert drain(b) == b"".join(parts[:1024])
    iov = filled(*parts)
    writev_buf_all(iov, a.fileno())
    assert iov.total() == 0
    assert drain(b) == b"".join(parts)


def test_a_full_socket_is_a_timeout_and_the_cells_keep_what_is_left(pair):
    a, b = pair
    a.setblocking(False)
    parts = [bytes([i]) * 40_000 for i in range(20)]
    iov = filled(*parts)
    got = b""
    times = 0
    while iov.total():
        left = iov.total()
        stopped = None
        try:
            writev_buf_all(iov, a.fileno())
        except Timeout as exc:
            stopped = exc
        if stopped is not None:
            assert str(stopped) == "Timeout: writev"
            assert stopped.errno == errno.EAGAIN
            assert stopped.sent == left - iov.total()
            times += 1
        got += drain(b)
        assert len(got) + iov.total() == 800_000
    assert times >= 1
    assert got == b"".join(parts)


def test_writev_buf_on_a_full_socket_is_a_timeout(pair):
    a, _ = pair
    a.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            a.send(b"x" * 100_000)
    with pytest.raises(Timeout):
        writev_buf(a.fileno(), [b"x"])


def test_a_blocking_socket_is_written_to_the_end(pair):
    a, b = pair
    got = bytearray()

    def read() -> None:
        while len(got) < 900_000:
            got.extend(b.recv(65536))

    thread = threading.Thread(target=read)
    thread.start()
    writev_buf_all(filled(*[bytes([i]) * 100_000 for i in range(9)]), a.fileno())
    thread.join(5)
    assert got == b"".join(bytes([i]) * 100_000 for i in range(9))


@pytest.mark.parametrize(
    ("total", "sent", "left"),
    [(0, b"", 8), (2, b"ab", 6), (3, b"abc", 5), (5, b"abcde", 3), (8, b"abcdefgh", 0)],
)
def test_a_smaller_total_stops_there(pair, total, sent, left):
    a, b = pair
    iov = filled(b"abc", b"", b"def", b"gh")
    writev_buf_all(iov, a.fileno(), total)
    assert drain(b) == sent
    assert iov.total() == left
    writev_buf_all(iov, a.fileno(), 99)
    assert drain(b) == b"abcdefgh"[total:]


def test_a_negative_total_is_refused():
    with pytest.raises(ValidationError):
        writev_buf_all(IoVecBuf(1), -1, -1)


def test_a_peer_that_is_gone_is_a_broken_pipe(pair):
    a, b = pair
    b.close()
    iov = filled(b"abc")
    with pytest.raises(BrokenPipe, match="writev"):
        writev_buf_all(iov, a.fileno())
    assert iov.total() == 3


def test_a_reset_is_a_connection_reset():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        a = socket.create_connection(listener.getsockname())
        b, _ = listener.accept()
        with a:
            b.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            b.close()
            assert select.select([a], [], [], 5)[0]
            with pytest.raises(ConnectionReset, match="writev"):
                writev_buf(a.fileno(), [b"abc"])


def test_other_failures_keep_their_errno():
    with pytest.raises(NetworkError) as caught:
        writev_buf(-1, [b"x"])
    assert caught.value.errno == errno.EBADF
    read_end, write_end = os.pipe()
    try:
        with pytest.raises(NetworkError):
            writev_buf(read_end, [b"x"])
    finally:
        os.close(read_end)
        os.close(write_end)

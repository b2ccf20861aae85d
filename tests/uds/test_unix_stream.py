from __future__ import annotations

import errno
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from asleep import signalled_when_asleep

from flare.io import BufReader, Readable
from flare.net import (
    BrokenPipe,
    ConnectionRefused,
    ConnectionReset,
    ConnectionTimeout,
    NetworkError,
    Timeout,
)
from flare.uds import UnixListener, UnixStream

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="a full backlog refuses elsewhere")


@pytest.fixture
def listener(path: Path) -> Iterator[UnixListener]:
    with UnixListener.bind(path) as listener:
        yield listener


@pytest.fixture
def full(path: Path) -> Iterator[UnixListener]:
    """A listener with no room left for another connection."""
    with (
        UnixListener.bind_with_options(path, backlog=0) as listener,
        UnixStream.connect(path),
    ):
        yield listener


@contextmanager
def alarm(handler: Callable[..., Any]) -> Iterator[None]:
    """Run *handler* a moment from now, as a signal handler."""
    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("kind", [str, Path])
def test_connect_takes_text_and_path_objects(listener: UnixListener, path: Path, kind: Any) -> None:
    with UnixStream.connect(kind(path)) as client, listener.accept() as server:
        client.write_all(b"ping")
        assert server.read_exact(4) == b"ping"
        server.write_all(b"pong")
        assert client.read_exact(4) == b"pong"
        assert client.peer_path() == str(path)
        assert server.peer_path() == ""
    assert client.peer_path() == str(path)


def test_a_path_that_is_not_utf8(folder: Path) -> None:
    path = os.fsdecode(os.fsencode(folder) + b"/\xff\xfe")
    with (
        UnixListener.bind(path) as listener,
        UnixStream.connect(path) as client,
        listener.accept(),
    ):
        assert client.peer_path() == listener.local_path() == listener.queried_local_path() == path


def test_nothing_at_the_path_is_a_refusal(path: Path) -> None:
    with pytest.raises(ConnectionRefused) as caught:
        UnixStream.connect(path)
    assert caught.value.addr == str(path)
    assert caught.value.errno == errno.ENOENT
    assert isinstance(caught.value, ConnectionRefusedError)
    assert str(caught.value) == f"ConnectionRefused: {path} (No such file or directory)"


def test_a_socket_nobody_listens_to_is_a_refusal(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with pytest.raises(ConnectionRefused) as caught:
        UnixStream.connect(path)
    assert caught.value.errno == errno.ECONNREFUSED
    assert str(caught.value) == f"ConnectionRefused: {path}"


def test_a_folder_on_the_way_that_is_a_file_is_named(path: Path) -> None:
    path.touch()
    with pytest.raises(NetworkError, match=r"connect .*/s/below") as caught:
        UnixStream.connect(path / "below")
    assert caught.value.errno == errno.ENOTDIR


@pytest.mark.parametrize("bad", ["", "\0abstract", "a\0b", "x" * 108, "\ud800"])
def test_a_path_no_socket_can_have_is_refused_before_any_call(bad: str) -> None:
    with pytest.raises(ValueError, match="path"):
        UnixStream.connect(bad)


def test_a_number_is_no_path() -> None:
    with pytest.raises(TypeError):
        UnixStream.connect(3)  # type: ignore[arg-type]


def test_a_negative_timeout_is_refused(listener: UnixListener) -> None:
    with pytest.raises(ValueError, match="timeout_ms"):
        UnixStream.connect(listener.local_path(), timeout_ms=-1)


@linux_only
def test_connect_gives_up_on_a_full_backlog(full: UnixListener) -> None:
    with pytest.raises(ConnectionTimeout) as caught:
        UnixStream.connect(full.local_path(), timeout_ms=20)
    assert caught.value.timeout_ms == 20
    assert caught.value.addr == full.local_path()
    assert caught.value.errno == errno.ETIMEDOUT


@linux_only
@pytest.mark.parametrize("timeout_ms", [0, 5000])
@pytest.mark.timeout(method="thread")  # SIGALRM is the test's own.
def test_a_signal_does_not_end_a_connect(full: UnixListener, timeout_ms: int) -> None:
    accepted: list[UnixStream] = []
    with (
        alarm(lambda *_: accepted.append(full.accept())),
        UnixStream.connect(full.local_path(), timeout_ms) as client,
        accepted[0],
        full.accept() as server,
    ):
        client.write_all(b"through")
        assert server.read_exact(7) == b"through"


@linux_only
@pytest.mark.timeout(method="thread")  # SIGALRM is the test's own.
def test_a_signal_does_not_make_a_connect_look_successful(full: UnixListener) -> None:
    rang: list[object] = []
    with alarm(lambda *_: rang.append(1)), pytest.raises(ConnectionTimeout):
        UnixStream.connect(full.local_path(), timeout_ms=60)
    assert rang


@linux_only
def test_a_signal_handler_that_raises_ends_a_connect(full: UnixListener) -> None:
    def stop(*_: object) -> None:
        raise KeyError("stop")

    before = signal.signal(signal.SIGUSR1, stop)
    try:
        with pytest.raises(KeyError), signalled_when_asleep(signal.SIGUSR1):
            UnixStream.connect(full.local_path())
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("timeout_ms", [0, 50])
def test_the_connect_timeout_is_not_kept(listener: UnixListener, timeout_ms: int) -> None:
    with UnixStream.connect(listener.local_path(), timeout_ms) as client:
        client.set_nonblocking(True)
        with pytest.raises(Timeout) as caught:
            client.write_all(bytes(1 << 24))
        assert caught.value.ms == 0
        packed = client._raw.sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, 16)
        assert not any(packed)


def test_a_pair_is_connected_and_has_no_paths() -> None:
    one, other = UnixStream.pair()
    with one, other:
        one.write_all(b"x")
        assert other.read() == b"x"
        assert one.peer_path() == other.peer_path() == ""
        assert repr(one) == f"<UnixStream fd={one.fileno()} unnamed -> unnamed peer>"


def test_a_default_timeout_of_the_process_does_not_matter(listener: UnixListener) -> None:
    socket.setdefaulttimeout(5)
    try:
        streams = [*UnixStream.pair(), UnixStream.connect(listener.local_path()), listener.accept()]
    finally:
        socket.setdefaulttimeout(None)
    for stream in streams:
        with stream:
            assert os.get_blocking(stream.fileno())
            assert stream._raw.recv_timeout_ms == 0


def test_shutdown_ends_both_directions() -> None:
    one, other = UnixStream.pair()
    with one, other:
        one.shutdown()
        assert one.read() == b""
        assert other.read() == b""
        with pytest.raises(BrokenPipe):
            one.write(b"x")
        with pytest.raises(BrokenPipe):
            other.write(b"x")
        assert not one.closed


def test_bytes_the_peer_left_unread_reset_the_connection(listener: UnixListener) -> None:
    with UnixStream.connect(listener.local_path()) as client:
        with listener.accept():
            client.write_all(b"never read")
        with pytest.raises(ConnectionReset) as caught:
            client.read()
    assert caught.value.addr == listener.local_path()


def test_errors_name_the_peer(listener: UnixListener) -> None:
    with UnixStream.connect(listener.local_path()) as client:
        listener.accept().close()
        with pytest.raises(BrokenPipe) as caught:
            client.write(b"x")
    assert str(caught.value) == f"BrokenPipe: {listener.local_path()}"


def test_repr_names_both_ends(listener: UnixListener, path: Path) -> None:
    with UnixStream.connect(path) as client, listener.accept() as server:
        assert repr(client) == f"<UnixStream fd={client.fileno()} unnamed -> {path}>"
        assert repr(server) == f"<UnixStream fd={server.fileno()} {path} -> unnamed peer>"
    assert repr(client) == "<UnixStream closed>"


def test_a_buffered_reader_reads_from_it() -> None:
    one, other = UnixStream.pair()
    with one, other:
        assert isinstance(one, Readable)
        other.write_all(b"first\r\nsecond\n")
        reader = BufReader(one)
        assert [reader.readline(), reader.readline()] == ["first", "second"]


def test_shutdown_after_close_is_refused() -> None:
    one, other = UnixStream.pair()
    with other:
        one.close()
        with pytest.raises(NetworkError) as caught:
            one.shutdown()
    assert caught.value.errno == errno.EBADF

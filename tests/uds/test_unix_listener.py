from __future__ import annotations

import errno
import os
import resource
import socket
import stat
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from flare.net import AddressInUse, NetworkError, Timeout
from flare.uds import UnixListener, UnixStream, accept_uds_fd
from flare.uds.path import MAX_PATH_BYTES

DEADLINE = 10.0


@pytest.fixture
def listener(path: Path) -> Iterator[UnixListener]:
    with UnixListener.bind(path) as listener:
        yield listener


def greet(path: Path, listener: UnixListener) -> None:
    """Prove that connections to *path* arrive at *listener*."""
    with UnixStream.connect(path) as client, listener.accept() as server:
        server.write_all(b"hello")
        assert client.read_exact(5) == b"hello"


def in_a_child(work: Callable[[], object]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the test runner may have threads
        pid = os.fork()
    if not pid:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_close_removes_the_file_and_local_path_stays(listener: UnixListener, path: Path) -> None:
    assert path.is_socket()
    assert listener.local_path() == listener.queried_local_path() == str(path)
    greet(path, listener)
    listener.close()
    assert not path.exists()
    assert listener.local_path() == str(path)
    assert repr(listener) == f"<UnixListener closed {path}>"


def test_a_stale_file_is_replaced(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with UnixListener.bind(path) as listener:
        greet(path, listener)


def test_a_live_path_is_taken_over_and_stays_with_its_new_owner(
    listener: UnixListener, path: Path
) -> None:
    with UnixStream.connect(path) as early, UnixListener.bind(path) as successor:
        greet(path, successor)
        with listener.accept() as server:  # what had connected is not lost
            server.write_all(b"still here")
            assert early.read_exact(10) == b"still here"
        listener.close()
        greet(path, successor)
    assert not path.exists()


def test_a_path_in_use_can_be_refused(listener: UnixListener, path: Path) -> None:
    with pytest.raises(AddressInUse) as caught:
        UnixListener.bind_with_options(path, unlink_existing=False)
    assert caught.value.addr == str(path)
    greet(path, listener)


@pytest.mark.parametrize("kind", ["file", "folder", "fifo", "link to a socket", "broken link"])
def test_anything_but_a_socket_is_left_alone(path: Path, folder: Path, kind: str) -> None:
    match kind:
        case "file":
            path.write_text("precious")
        case "folder":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case "link to a socket":
            with socket.socket(socket.AF_UNIX) as target:
                target.bind(str(folder / "target"))
            path.symlink_to(folder / "target")
        case _:
            path.symlink_to(folder / "nowhere")
    before = path.lstat()
    with pytest.raises(AddressInUse):
        UnixListener.bind(path)
    assert path.lstat() == before
    assert kind != "file" or path.read_text() == "precious"


def test_close_removes_only_the_file_it_made(listener: UnixListener, path: Path) -> None:
    path.unlink()
    path.write_text("somebody else's")
    listener.close()
    assert path.read_text() == "somebody else's"


def test_a_file_that_is_gone_already_is_no_error(listener: UnixListener, path: Path) -> None:
    path.unlink()
    listener.close()


def test_a_moved_folder_is_no_error(folder: Path) -> None:
    (folder / "a").mkdir()
    listener = UnixListener.bind(folder / "a" / "s")
    (folder / "a").rename(folder / "b")
    listener.close()


def test_a_relative_path_is_removed_from_another_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    with UnixListener.bind("s") as listener:
        assert listener.local_path() == "s"
        monkeypatch.chdir("/")
    assert not (folder / "s").exists()


def test_the_file_can_be_kept(path: Path) -> None:
    UnixListener.bind_with_options(path, cleanup_path=False).close()
    assert path.is_socket()


def test_a_forked_child_leaves_the_file_to_its_parent(listener: UnixListener, path: Path) -> None:
    in_a_child(listener.close)
    greet(path, listener)
    listener.close()
    assert not path.exists()


def test_a_child_removes_the_file_it_made_itself(path: Path) -> None:
    def work() -> None:
        with UnixListener.bind(path):
            assert path.is_socket()
        assert not path.exists()

    in_a_child(work)


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o777, 0])
def test_mode_sets_the_permissions_whatever_the_umask(path: Path, mode: int) -> None:
    with umask(0o027), UnixListener.bind_with_options(path, mode=mode):
        assert mode_of(path) == mode


def test_the_umask_decides_otherwise(path: Path) -> None:
    with umask(0o027), UnixListener.bind(path):
        assert mode_of(path) == 0o750


def test_the_mode_is_set_before_anyone_can_connect(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chmod, refused = os.chmod, []

    def look(*args: object) -> None:
        with pytest.raises(ConnectionRefusedError):
            UnixStream.connect(path)
        refused.append(args)
        chmod(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "chmod", look)
    UnixListener.bind_with_options(path, mode=0o600).close()
    assert refused


def test_a_failure_after_bind_leaves_no_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise PermissionError(errno.EPERM, "no")

    monkeypatch.setattr(os, "chmod", fail)
    with pytest.raises(NetworkError, match=r"bind .*/s") as caught:
        UnixListener.bind_with_options(path, mode=0o600)
    assert caught.value.errno == errno.EPERM
    assert not path.exists()


@pytest.mark.parametrize("options", [{"mode": -1}, {"mode": 0o1000}, {"backlog": -1}])
def test_options_out_of_range_are_refused(path: Path, options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        UnixListener.bind_with_options(path, **options)
    assert not path.exists()


def test_the_longest_path_there_can_be(folder: Path) -> None:
    room = MAX_PATH_BYTES - len(os.fsencode(folder)) - 1
    path = folder / ("x" * room)
    with UnixListener.bind(path) as listener:
        assert len(listener.local_path()) == MAX_PATH_BYTES
        assert listener.queried_local_path() == str(path)
        greet(path, listener)
    with pytest.raises(ValueError, match=f"at most {MAX_PATH_BYTES} bytes"):
        UnixListener.bind(str(path) + "x")


def test_length_is_counted_in_bytes(folder: Path) -> None:
    with pytest.raises(ValueError, match="at most"):
        UnixListener.bind(folder / ("é" * 50))


@pytest.mark.parametrize("bad", ["", "\0abstract", "a\0b"])
def test_a_path_no_socket_can_have_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="path"):
        UnixListener.bind(bad)


def test_a_missing_folder_is_named(folder: Path) -> None:
    with pytest.raises(NetworkError, match="missing/s") as caught:
        UnixListener.bind(folder / "missing" / "s")
    assert caught.value.errno == errno.ENOENT


def test_an_empty_non_blocking_listener_raises_plain_eagain(listener: UnixListener) -> None:
    listener.set_nonblocking(True)
    with pytest.raises(NetworkError) as caught:
        listener.accept()
    assert not isinstance(caught.value, Timeout)
    assert caught.value.errno == errno.EAGAIN
    with UnixStream.connect(listener.local_path()), listener.accept() as server:
        assert os.get_blocking(server.fileno())


def test_no_descriptor_left_is_an_error_and_the_connection_waits(
    listener: UnixListener, path: Path
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with UnixStream.connect(path) as client:
        lowest_free = os.dup(client.fileno())
        os.close(lowest_free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
        try:
            with pytest.raises(NetworkError) as caught:
                listener.accept()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert caught.value.errno == errno.EMFILE
        with listener.accept() as server:
            server.write_all(b"x")
            assert client.read() == b"x"


def test_close_wakes_threads_in_accept(listener: UnixListener, path: Path) -> None:
    with ThreadPoolExecutor() as threads:
        waiting = [threads.submit(listener.accept) for _ in range(3)]
        number = listener.fileno()
        listener.close()
        for future in waiting:
            error = future.exception(DEADLINE)
            assert isinstance(error, NetworkError)
            assert error.errno == errno.EBADF
    with pytest.raises(OSError):
        os.fstat(number)
    assert not path.exists()


def test_threads_that_close_at_once_remove_one_file(path: Path) -> None:
    for _ in range(20):
        listener = UnixListener.bind(path)
        start = threading.Barrier(3)

        def close(listener: UnixListener = listener, start: threading.Barrier = start) -> None:
            start.wait(DEADLINE)
            listener.close()

        with ThreadPoolExecutor() as threads:
            futures = [threads.submit(close) for _ in range(2)]
            start.wait(DEADLINE)
            for future in futures:
                future.result(DEADLINE)
        assert not path.exists()


def test_iteration_ends_when_the_listener_is_closed(listener: UnixListener, path: Path) -> None:
    def serve() -> int:
        served = 0
        for stream in listener:
            with stream:
                stream.write_all(b"hello")
            served += 1
        return served

    with ThreadPoolExecutor() as threads:
        serving = threads.submit(serve)
        for _ in range(3):
            with UnixStream.connect(path) as client:
                assert client.read_exact(5) == b"hello"
                assert client.read() == b""
        listener.close()
        # Taken, though perhaps not counted yet, before the close.
        assert serving.result(DEADLINE) == 3


def test_iteration_does_not_hide_other_errors(listener: UnixListener) -> None:
    listener.set_nonblocking(True)
    with pytest.raises(NetworkError) as caught:
        next(iter(listener))
    assert caught.value.errno == errno.EAGAIN


def test_accept_uds_fd_borrows(listener: UnixListener, path: Path) -> None:
    for _ in range(2):
        with (
            UnixStream.connect(path) as client,
            accept_uds_fd(listener.as_raw_fd()) as server,
        ):
            assert server.peer_path() == ""
            client.write_all(b"x")
            assert server.read() == b"x"
    assert os.get_blocking(listener.fileno())


def test_accept_uds_fd_of_a_bad_descriptor() -> None:
    with pytest.raises(NetworkError) as caught:
        accept_uds_fd(-1)
    assert caught.value.errno == errno.EBADF


def test_from_fd_takes_a_listening_socket_but_not_its_file(path: Path) -> None:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    sock.listen()
    with UnixListener.from_fd(sock.detach()) as listener:
        assert listener.local_path() == str(path)
        greet(path, listener)
    assert path.is_socket()


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
def test_from_fd_refuses_other_sockets_and_leaves_them_open(family: int) -> None:
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        with pytest.raises(ValueError, match="fd"):
            UnixListener.from_fd(sock.fileno())
        os.fstat(sock.fileno())


def test_close_is_idempotent_and_with_closes(listener: UnixListener) -> None:
    with listener as entered:
        assert entered is listener
    listener.close()
    assert listener.closed
    assert listener.fileno() == listener.as_raw_fd() == -1
    for operation in (
        listener.accept,
        listener.queried_local_path,
        lambda: listener.set_nonblocking(True),
    ):
        with pytest.raises(NetworkError) as caught:
            operation()
        assert caught.value.errno == errno.EBADF


def test_descriptors_are_not_inherited(listener: UnixListener, path: Path) -> None:
    with UnixStream.connect(path), listener.accept() as server:
        assert not os.get_inheritable(listener.fileno())
        assert not os.get_inheritable(server.fileno())


def test_a_leaked_listener_warns_closes_and_removes_its_file(path: Path) -> None:
    leaked = [UnixListener.bind(path)]
    number = leaked[0].fileno()
    with pytest.warns(ResourceWarning, match="unclosed <UnixListener"):
        leaked.clear()
    with pytest.raises(OSError):
        os.fstat(number)
    assert not path.exists()

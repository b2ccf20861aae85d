"""Serving on io_uring: who asks for it, what happens without it, and that it keeps nothing."""

from __future__ import annotations

import errno
import gc
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator

import pytest
from serving import PATIENCE, Connect, Start

from flare.http import Request, Response, ok
from flare.http.server import HttpServer, ServerConfig
from flare.http.server.backend import settle
from flare.net import SocketAddr
from flare.runtime import uring

needs_uring = pytest.mark.skipif(
    not uring.is_bufring_available(),
    reason="needs a Linux kernel with provided buffers for io_uring",
)


# Two workers say whether they have a ring.
PROCESSES = """
import os, signal, urllib.request
from flare.http import HttpServer, ok
from flare.net import SocketAddr

def handler(request):
    links = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
    return ok(str(any("io_uring" in os.readlink(link) for link in links if os.path.islink(link))))

server = HttpServer.bind(SocketAddr.localhost(0))
client = os.fork()
if not client:
    url = f"http://127.0.0.1:{server.local_addr().port}/"
    for _ in range(10):
        print(urllib.request.urlopen(url).read().decode(), flush=True)
    os.kill(os.getppid(), signal.SIGTERM)
    os._exit(0)
server.serve(handler, 2, worker_kind="process")
os.waitpid(client, 0)
"""


def hello(request: Request) -> Response:
    return ok(b"hello " + request.body)


@pytest.fixture(autouse=True)
def nobody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FLARE_BUFRING_HANDLER", "FLARE_DISABLE_IO_URING"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def no_rings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A kernel that makes none."""

    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSYS, "no io_uring")

    monkeypatch.setattr("flare._ffi.io_uring.setup", refuse)
    uring.is_bufring_available.cache_clear()
    yield
    uring.is_bufring_available.cache_clear()


@needs_uring
@pytest.mark.parametrize(
    ("asked", "handler", "disable", "used"),
    [
        (None, None, None, False),
        (None, "1", None, True),
        (None, "0", None, False),
        (None, "true", None, False),
        (True, None, None, True),
        (True, "0", None, True),
        (False, "1", None, False),
        (True, "1", "1", False),
        (True, None, "anything", False),
        (True, None, "0", True),
        (True, None, "false", True),
        (True, None, "FALSE", True),
        (True, None, "no", True),
        (True, None, "", True),
    ],
)
def test_who_decides(
    monkeypatch: pytest.MonkeyPatch,
    asked: bool | None,
    handler: str | None,
    disable: str | None,
    used: bool,
) -> None:
    for name, value in (("FLARE_BUFRING_HANDLER", handler), ("FLARE_DISABLE_IO_URING", disable)):
        if value is not None:
            monkeypatch.setenv(name, value)
    config = ServerConfig(use_bufring=asked)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert settle(config).use_bufring is used
    assert config.use_bufring is asked


@pytest.mark.usefixtures("no_rings")
def test_without_it_there_is_one_warning_and_the_server_serves(connect: Connect) -> None:
    server = HttpServer.bind(SocketAddr.localhost(0), ServerConfig(use_bufring=True))
    address = "127.0.0.1", server.local_addr().port
    thread = threading.Thread(target=server.serve, args=(hello,), kwargs={"num_workers": 2})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        thread.start()
        peer = connect(address)
        peer.post(b"you")
        assert peer.read().body == b"hello you"
        server.close()
        thread.join(PATIENCE)
    (warning,) = [found for found in caught if "io_uring" in str(found.message)]
    assert warning.category is RuntimeWarning


@needs_uring
def test_workers_that_are_processes_serve_by_it_too() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROCESSES],
        env=os.environ | {"FLARE_BUFRING_HANDLER": "1"},
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
    )
    assert done.stdout.split() == ["True"] * 10, done.stderr


@needs_uring
@pytest.mark.usefixtures("asleep")  # a takeover would start a thread
def test_ten_thousand_requests_leave_nothing(start: Start, connect: Connect) -> None:
    running = start(hello, ServerConfig(use_bufring=True))
    peer = connect(running.address)
    request = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nyou"

    def ask(count: int) -> None:
        for _ in range(count // 100):
            peer.send(request * 100)
            for _ in range(100):
                assert peer.read().body == b"hello you"

    def held() -> tuple[int, int, int]:
        gc.collect()
        threads = threading.active_count()
        return len(os.listdir("/proc/self/fd")), threads, len(gc.get_objects()) // 1000

    ask(500)
    before = held()
    ask(10_000)
    descriptors, threads, objects = held()
    assert (descriptors, threads) == before[:2]
    assert objects - before[2] <= 1

"""One client for many threads, after a fork, and what importing it costs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import warnings
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from scripted import Eof, MemoryTransport, ScriptedServer, Send, Whole, answers, response
from scripted_h2 import H2Peer, data, head

from flare.errors import NetworkError, Timeout
from flare.http.client import DigestAuth, HttpClient
from flare.http.proto.headers import HeaderMap


class Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        self._answer(self.path.encode())

    def do_POST(self):
        self._answer(self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


class EchoServer(ThreadingHTTPServer):
    daemon_threads = False
    request_queue_size = 128


@pytest.fixture
def echo():
    server = EchoServer(("127.0.0.1", 0), Echo)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("limits", [{}, {"max_connections": 4}, {"pool": False}])
def test_sixteen_threads_share_one_client(echo, limits):
    wrong: list[object] = []

    def work(client: HttpClient, number: int) -> None:
        for turn in range(50 if limits.get("pool", True) else 10):
            text = f"/{number}/{turn}"
            try:
                got = client.get(text).text() if turn % 2 else client.post("/", text).text()
                if got != text:
                    wrong.append((text, got))
            except OSError as error:
                wrong.append(error)

    with HttpClient(echo, timeout_ms=20_000, **limits) as client:
        threads = [threading.Thread(target=work, args=(client, number)) for number in range(16)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert wrong == []
        assert "active=0" in repr(client)
        assert client.idle_count() <= limits.get("max_connections", 8)


def test_the_standard_librarys_server_keeps_its_connection(echo):
    with HttpClient(echo) as client:
        for size in (0, 1, 70_000, 1_000_000):
            assert client.post("/x", b"y" * size).body == b"y" * size
        assert client.idle_count() == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_uses_connections_of_its_own():
    scripts = [answers(response(b"1"), response(b"3")), answers(response(b"2"))]
    with ScriptedServer(scripts) as server, HttpClient(server.base) as client:
        assert client.get("/parent").body == b"1"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # 3.12: fork with threads
            child = os.fork()
        if not child:
            code = 1
            try:
                fresh = client.idle_count() == 0
                code = 0 if fresh and client.get("/child").body == b"2" else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert client.get("/parent again").body == b"3"
        assert b"GET /child" in server.seen[1]
        assert server.connections == 2


def test_a_transport_of_memory_streams_needs_no_network():
    def serve(stream):
        for number in range(3):
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += stream.read(100)
            stream.write_all(response(b"%d" % number))

    transport = MemoryTransport(serve)
    with HttpClient("http://memory", transport=transport) as client:
        assert [client.get("/").body for _ in range(3)] == [b"0", b"1", b"2"]
    transport.join()
    assert [(host, port) for host, port, _ in transport.dialled] == [("memory", 80)]


class CountingStream:
    """Answers each write, and counts what it is asked to do."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def read(self, n: int) -> bytes:
        self.calls.append("read")
        return response(b"x")

    def write(self, data: bytes) -> int:
        self.calls.append("write")
        return len(data)

    def set_recv_timeout(self, ms: int) -> None:
        self.calls.append(f"recv timeout {ms}")

    def set_send_timeout(self, ms: int) -> None:
        self.calls.append(f"send timeout {ms}")

    def set_nonblocking(self, enabled: bool) -> None:
        self.calls.append("nonblocking")

    def fileno(self) -> int:
        return -1

    def close(self) -> None:
        self.calls.append("close")


def test_a_small_call_on_a_kept_connection_is_one_write_and_one_read(ticking):
    ticking(0)  # what a pause takes of a call's time would be set as a shorter timeout

    class Transport:
        def connect(self, host: str, port: int, deadline: float | None) -> CountingStream:
            return stream

    stream = CountingStream()
    with HttpClient("http://h", transport=Transport()) as client:
        for _ in range(3):
            client.get("/")
            client.post("/", b"small body")
        client.get("/", timeout=1)
    assert stream.calls == [
        "send timeout 30000", "write", "recv timeout 30000", "read", *["write", "read"] * 5,
        "send timeout 1000", "write", "recv timeout 1000", "read", "close",
    ]  # fmt: skip


def test_importing_it_is_cheap():
    code = (
        "import sys; import flare.http.client; "
        "print([name for name in ('ssl', 'http.client', 'email', 'urllib.parse', 'asyncio', "
        "'flare.dns', 'concurrent.futures', 'logging') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["auth", "verify", "params", "proxies", "timeout"])
def test_what_would_have_no_effect_cannot_be_set(name):
    with HttpClient() as client, pytest.raises(AttributeError):
        setattr(client, name, None)


def half_a_response(wire):
    wire.begin()
    while True:
        sid, _ = wire.request()
        wire.send(head(sid, [(":status", "200")], end=False), data(sid, b"half", end=False))


@pytest.mark.parametrize("wire", ["h1", "h2"])
def test_a_download_may_be_closed_while_another_thread_reads_it(wire):
    rounds = 20
    script = [Whole(), Send(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf"), Eof()]
    with (
        H2Peer(half_a_response) if wire == "h2" else ScriptedServer([script] * rounds) as server,
        HttpClient(server.base, prefer_h2c=wire == "h2", timeout_ms=10_000) as client,
    ):
        for _ in range(rounds):
            failures = []
            download = client.get_streaming("/")
            assert download.read(4) == b"half"
            about_to_read = threading.Event()

            def read(download=download, failures=failures, about_to_read=about_to_read):
                about_to_read.set()
                try:
                    download.read_chunk()
                except NetworkError as exc:
                    failures.append(exc)

            reader = threading.Thread(target=read)
            reader.start()
            about_to_read.wait(10)
            download.close()
            reader.join(10)
            assert len(failures) == 1
            assert not isinstance(failures[0], Timeout)
            assert "active=0" in repr(client)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize(
    "lock", ["flare.tls.client_context._kept_lock", "flare.http.client.digest._lock"]
)
def test_a_lock_held_during_a_fork_does_not_stop_the_child(lock):
    from flare.http.client.auth import Signing
    from flare.tls import TlsConfig, TlsVerify
    from flare.tls.client_context import client_context

    auth = DigestAuth("user", "password")
    module, _, name = lock.rpartition(".")
    with getattr(sys.modules[module], name), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of fork beside threads
        child = os.fork()
        if not child:
            signal.alarm(30)
            client_context(TlsConfig(verify=TlsVerify.NONE))
            auth.authorize(Signing("GET", "http://h:80", "/", b""), HeaderMap())
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0

"""SIGINT and SIGTERM, in a process of its own; and threads, where signals are left alone."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from serving import PATIENCE, Connect, Start

from flare.http import ok

PROGRAM = """
import signal, time
from flare.http import HttpServer, ServerConfig, ok
from flare.net import SocketAddr

def handler(request):
    if request.url == "/slow":
        print("inside", flush=True)
        time.sleep(60)
    return ok("hello")

def mine(number, frame):
    pass

signal.signal(signal.SIGTERM, mine)
before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
server = HttpServer.bind(SocketAddr.localhost(0), ServerConfig(shutdown_timeout_ms={budget}))
print(server.local_addr().port, flush=True)
try:
    server.serve(handler)
    print("returned", flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
assert before == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))
print("restored", flush=True)
"""


class Program:
    def __init__(self, budget_ms: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM.replace("{budget}", str(budget_ms))],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.address = ("127.0.0.1", int(self.line()))

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def rest(self) -> list[str]:
        output, _ = self.process.communicate(timeout=PATIENCE)
        return output.split("\n")[:-1]

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def program() -> Iterator[Callable[[int], Program]]:
    with ExitStack() as stack:

        def begin(budget_ms: int = 10_000) -> Program:
            made = Program(budget_ms)
            stack.callback(made.end)
            return made

        yield begin


Begin = Callable[..., Program]


@pytest.mark.parametrize(
    ("number", "says"), [(signal.SIGTERM, "returned"), (signal.SIGINT, "interrupted")]
)
def test_a_signal_drains_and_ends_serve(
    program: Begin, connect: Connect, number: int, says: str
) -> None:
    running = program()
    idle, half = connect(running.address), connect(running.address)
    half.send(b"GET / HTTP/1.1\r\n")
    idle.get("/")
    assert idle.read().status == 200
    running.process.send_signal(number)
    assert idle.is_ended()
    half.send(b"Host: h\r\n\r\n")
    reply = half.read()
    assert (reply.status, reply.get("connection")) == (200, "close")
    half.close()
    assert running.rest() == [says, "restored"]
    assert running.process.returncode == 0


@pytest.mark.parametrize("budget_ms", [0, 80])
def test_what_is_not_done_within_the_budget_is_cut_off(
    program: Begin, connect: Connect, budget_ms: int
) -> None:
    running = program(budget_ms)
    peer = connect(running.address)
    peer.get("/")
    peer.read()
    peer.send(b"GET / HT")
    running.process.send_signal(signal.SIGTERM)
    assert peer.is_ended()
    assert running.rest() == ["returned", "restored"]


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_cuts_the_drain_short(
    program: Begin, connect: Connect, second: int
) -> None:
    running = program(600_000)
    idle, half = connect(running.address), connect(running.address)
    half.send(b"GET / HT")
    idle.get("/")
    idle.read()
    running.process.send_signal(signal.SIGTERM)
    assert idle.is_ended()  # the drain has begun
    running.process.send_signal(second)
    assert half.is_ended()
    says = "interrupted" if second == signal.SIGINT else "returned"
    assert running.rest() == [says, "restored"]


def test_a_second_signal_does_not_wait_for_a_handler(program: Begin, connect: Connect) -> None:
    running = program(600_000)
    peer = connect(running.address)
    peer.get("/slow")
    assert running.line() == "inside"
    running.process.send_signal(signal.SIGTERM)
    running.process.send_signal(signal.SIGINT)
    running.process.send_signal(signal.SIGINT)
    assert running.rest() == ["interrupted", "restored"]


def test_a_hail_of_signals_is_survived(program: Begin, connect: Connect) -> None:
    running = program()
    peer = connect(running.address)
    peer.get("/")
    peer.read()
    for _ in range(200):
        running.process.send_signal(signal.SIGTERM)
    assert "returned" in running.rest()


def test_off_the_main_thread_signals_are_left_alone(start: Start, connect: Connect) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    running = start(lambda _: ok())
    peer = connect(running.address)
    peer.get("/")
    peer.read()
    assert before == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))

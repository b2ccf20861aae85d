"""SIGHUP to servers that have something to reload or nothing, and that of a closed terminal."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from programs import Begin
from serving import Connect

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/dev/tty, as Linux has it")


THREADS = [{"workers": 1}, {"workers": 2, "kind": "thread"}]
PROCESSES = [{"workers": 1, "kind": "process"}, {"workers": 2, "kind": "process"}]
NOTHING = r"log: SIGHUP: nothing to reload; .*--worker-kind process"


class Terminal:
    """A terminal that a program may have for its own, until it is closed."""

    def __init__(self) -> None:
        self.master, self.slave = os.openpty()
        self._closed = False

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            os.close(self.master)
            os.close(self.slave)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    made = Terminal()
    yield made
    made.close()


@pytest.mark.parametrize("workers", THREADS)
def test_where_there_is_nothing_to_reload_a_hangup_harms_nobody(
    program: Begin, connect: Connect, workers: dict[str, Any]
) -> None:
    running = program(slow=0.5, **workers)
    running.await_workers(workers["workers"])
    peer = connect(running.address)
    peer.get("/slow")
    running.until("^inside")
    for count in (1, 2):
        running.signal(signal.SIGHUP)
        running.until(NOTHING, count)
    assert peer.read().status == 200
    peer.get("/")
    reply = peer.read()
    assert (reply.status, reply.get("connection")) == (200, "keep-alive")
    running.signal(signal.SIGTERM)
    assert running.wait() == 0
    assert len([line for line in running.lines if line.startswith("log")]) == 2


def test_a_handler_of_the_program_for_hangups_stays(program: Begin, connect: Connect) -> None:
    running = program(workers=1, own_hangup=True)
    running.await_workers(1)
    peer = connect(running.address)
    peer.get("/")
    peer.read()
    running.signal(signal.SIGHUP)
    running.until("^my hangup")
    running.signal(signal.SIGTERM)
    assert running.wait() == 0
    assert not [line for line in running.lines if line.startswith("log")]


@pytest.mark.parametrize("workers", THREADS + PROCESSES)
def test_a_terminal_that_is_closed_drains(
    program: Begin, connect: Connect, terminal: Terminal, workers: dict[str, Any]
) -> None:
    running = program(terminal=terminal.slave, config={"shutdown_timeout_ms": 60_000}, **workers)
    running.await_workers(workers["workers"])
    half = connect(running.address)
    half.get("/")
    half.read()  # it serves, so it listens to signals
    half.send(b"GET / HTTP/1.1\r\n")
    idle = connect(running.address)
    idle.get("/")
    idle.read()
    terminal.close()
    assert idle.is_ended()
    half.send(b"Host: h\r\n\r\n")
    reply = half.read()
    assert (reply.status, reply.get("connection")) == (200, "close")
    assert running.wait() == 0
    assert running.lines[-1] == "returned"


@pytest.mark.parametrize("workers", [THREADS[0], PROCESSES[0]])
def test_a_hangup_is_none_of_the_terminals_while_that_is_there(
    program: Begin, connect: Connect, terminal: Terminal, workers: dict[str, Any]
) -> None:
    running = program(terminal=terminal.slave, **workers)
    running.await_workers(1)
    peer = connect(running.address)
    peer.get("/")
    peer.read()
    running.signal(signal.SIGHUP)
    if workers.get("kind") == "process":
        running.await_workers(2)
    else:
        running.until(NOTHING)
        peer.get("/")
        assert peer.read().status == 200
    running.signal(signal.SIGTERM)
    assert running.wait() == 0


@pytest.mark.parametrize("workers", [THREADS[0], PROCESSES[0]])
def test_who_ignores_hangups_outlives_its_terminal(
    program: Begin, connect: Connect, terminal: Terminal, workers: dict[str, Any]
) -> None:
    running = program(terminal=terminal.slave, nohup=True, **workers)
    running.await_workers(1)
    peer = connect(running.address)
    peer.get("/")
    peer.read()
    terminal.close()
    if workers.get("kind") == "process":
        running.await_workers(2)
    again = connect(running.address)
    again.get("/")
    reply = again.read()
    assert (reply.status, reply.get("connection")) == (200, "keep-alive")
    running.signal(signal.SIGTERM)
    assert running.wait() == 0

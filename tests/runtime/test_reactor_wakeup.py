"""Waking a ``Reactor``, signals, closing and forking, on each of the four interfaces."""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
import threading
import time
from typing import Any

import pytest

from flare.errors import NetworkError
from flare.runtime import (
    EVENT_READABLE,
    EVENT_WRITABLE,
    INTEREST_READ,
    INTEREST_WRITE,
    WAKEUP_TOKEN,
    Reactor,
)

# -- wake-up ------------------------------------------------------------------------------


def test_wakeups_before_the_poll_become_one_event(r):
    for _ in range(100):
        r.wakeup()
    (event,) = r.poll(5000)
    assert event.is_wakeup()
    assert event.token == WAKEUP_TOKEN
    assert r.poll(0) == []
    r.wakeup()
    assert len(r.poll(5000)) == 1


def test_wakeups_come_beside_other_events(r, pair):
    r.register(pair[0], 1, INTEREST_WRITE)
    r.wakeup()
    assert sorted(r.poll(5000)) == [(1, EVENT_WRITABLE), (WAKEUP_TOKEN, EVENT_READABLE)]


def test_a_wakeup_ends_a_poll_that_waits_for_ever(r):
    found: list[Any] = []
    entered = threading.Event()

    def wait() -> None:
        entered.set()
        found.extend(r.poll(-1))

    thread = threading.Thread(target=wait)
    thread.start()
    entered.wait(5)
    r.wakeup()
    thread.join(5)
    assert not thread.is_alive()
    assert found == [(WAKEUP_TOKEN, EVENT_READABLE)]


def test_no_wakeup_from_many_threads_is_lost(r):
    asked: list[int] = []

    def ask(number: int) -> None:
        for _ in range(50):
            asked.append(number)
            r.wakeup()

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    served = 0
    while served < 400:
        assert r.poll(5000), f"a wake-up was lost after {served}"
        served = len(asked)
    for thread in threads:
        thread.join()


def test_a_signal_handler_may_wake_the_poll(r):
    before = signal.signal(signal.SIGUSR1, lambda *_: r.wakeup())
    timer = threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGUSR1))
    try:
        timer.start()
        assert r.poll(5000) == [(WAKEUP_TOKEN, EVENT_READABLE)]
    finally:
        timer.join()
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.timeout(method="thread")  # SIGALRM is the test's own.
def test_a_signal_alone_does_not_end_the_wait(r):
    calls: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, _: calls.append(number))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.005)
        started = time.monotonic()
        assert r.poll(40) == []
        assert time.monotonic() - started >= 0.03
        assert calls == [signal.SIGALRM]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.timeout(method="thread")  # SIGALRM is the test's own.
def test_an_exception_out_of_a_signal_handler_leaves_the_reactor_usable(r, pair):
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    def poll_interrupted() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        r.poll(5000)

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            poll_interrupted()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    r.register(pair[0], 1, INTEREST_WRITE)
    assert r.poll(5000) == [(1, EVENT_WRITABLE)]


def test_the_pipe_serves_where_there_is_no_eventfd(poller, monkeypatch):
    monkeypatch.delattr(os, "eventfd", raising=False)
    with Reactor() as r:
        for _ in range(9000):  # more than a pipe holds
            r.wakeup()
        assert r.poll(5000) == [(WAKEUP_TOKEN, EVENT_READABLE)]
        for _ in range(2):
            assert r.poll(0) == []
            r.wakeup()
            assert r.poll(5000) == [(WAKEUP_TOKEN, EVENT_READABLE)]


# -- the end ------------------------------------------------------------------------------


def test_close_is_idempotent_and_everything_after_it_is_an_error(r, pair):
    r.register(pair[0], 1, INTEREST_READ)
    r.close()
    r.close()
    r.wakeup()
    for call in (
        lambda: r.poll(0),
        lambda: r._poll_raw(0),
        lambda: r.register(pair[0], 1, INTEREST_READ),
        lambda: r.register_exclusive(pair[0], 1, INTEREST_READ),
        lambda: r.arm_oneshot_hup(pair[0], 1),
        lambda: r.modify(pair[0], INTEREST_READ),
        lambda: r.unregister(pair[0]),
    ):
        with pytest.raises(NetworkError) as caught:
            call()
        assert caught.value.errno == errno.EBADF
    assert len(r) == 0
    assert pair[0] not in r
    assert repr(r) == "Reactor(closed)"
    assert pair[0].send(b"x") == 1  # what was watched stays open


def test_a_wakeup_racing_with_close_writes_to_nobody_else(poller):
    for _ in range(30):
        r = Reactor()
        stop = threading.Event()

        def wake(r: Reactor = r, stop: threading.Event = stop) -> None:
            while not stop.is_set():
                r.wakeup()

        thread = threading.Thread(target=wake)
        thread.start()
        r.close()
        a, b = socket.socketpair()
        with a, b:
            a.setblocking(False)
            b.setblocking(False)
            stop.set()
            thread.join()
            for s in (a, b):
                with pytest.raises(BlockingIOError):
                    s.recv(8)


def test_a_leaked_reactor_warns():
    with pytest.warns(ResourceWarning, match="unclosed Reactor"):
        Reactor()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_must_make_its_own(r, pair):
    a, b = pair
    r.register(a, 1, INTEREST_READ)
    b.send(b"x")
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            for call in (lambda: r.poll(0), lambda: r._poll_raw(0), lambda: r.unregister(a)):
                with pytest.raises(NetworkError, match="parent"):
                    call()
            r.wakeup()  # nothing, and in particular not the parent's wake-up
            r.close()
            with Reactor() as own:
                own.register(a, 2, INTEREST_READ)
                own.wakeup()
                assert len(own.poll(0)) == 2
            status = 0
        finally:
            sys.stderr.flush()
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert r.poll(5000) == [(1, EVENT_READABLE)]

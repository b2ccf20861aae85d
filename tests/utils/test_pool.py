from __future__ import annotations

import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from flare.errors import IoError
from flare.utils import pool

DEADLINE = 10.0


@contextmanager
def all_threads_busy() -> Iterator[threading.Event]:
    """Every thread of the pool waits until the event is set."""
    release = threading.Event()
    futures = [
        pool.submit(lambda: release.wait(DEADLINE), wait=DEADLINE)
        for _ in range(pool.MAX_POOL_SIZE)
    ]
    try:
        yield release
    finally:
        release.set()
        for future in futures:
            future.result(DEADLINE)


def test_work_runs_on_a_named_daemon_thread() -> None:
    thread = pool.submit(threading.current_thread).result(DEADLINE)
    assert thread.name.startswith("flare-blocking-")
    assert thread.daemon
    assert pool.submit(pool.in_pool_thread).result(DEADLINE)
    assert not pool.in_pool_thread()


def test_an_error_of_the_work_is_the_same_object() -> None:
    error = KeyError("mine")

    def work() -> None:
        raise error

    assert pool.submit(work).exception(DEADLINE) is error
    assert pool.submit(sys.exit).exception(DEADLINE) is not None
    assert pool.submit(int).result(DEADLINE) == 0


def test_a_full_pool_refuses() -> None:
    with all_threads_busy() as release:
        with pytest.raises(IoError, match="pool saturated") as caught:
            pool.submit(int)
        assert (caught.value.op, caught.value.code) == ("block_in_pool", 0)
        with pytest.raises(IoError):
            pool.submit(int, wait=0.01)
        release.set()
        assert pool.submit(int, wait=None).result(DEADLINE) == 0


def test_work_on_the_pool_can_use_the_pool() -> None:
    assert pool.submit(lambda: pool.submit(lambda: 5).result(DEADLINE)).result(DEADLINE) == 5


def test_threads_are_used_again() -> None:
    before = threading.active_count()
    for _ in range(100):
        pool.submit(int).result(DEADLINE)
    assert threading.active_count() <= before + 1


def test_an_idle_thread_keeps_nothing_alive() -> None:
    class Thing:
        pass

    thing = Thing()
    gone = threading.Event()
    weakref.finalize(thing, gone.set)
    pool.submit(lambda kept=thing: kept).result(DEADLINE)  # type: ignore[misc]
    del thing
    assert gone.wait(DEADLINE)


def test_cancelled_work_frees_its_place() -> None:
    for _ in range(300):
        future = pool.submit(int, wait=DEADLINE)
        if not future.cancel():
            assert future.result(DEADLINE) == 0
    with all_threads_busy():
        pass


def test_wait_unless_returns_when_done_or_cancelled() -> None:
    release = threading.Event()
    future = pool.submit(lambda: release.wait(DEADLINE))
    flags = iter([False, False, True])
    assert not pool.wait_unless(future, lambda: next(flags))
    release.set()
    assert pool.wait_unless(future, lambda: False)
    failed = pool.submit(lambda: 1 // 0)
    assert pool.wait_unless(failed, lambda: False)
    timed_out = pool.submit(lambda: (_ for _ in ()).throw(TimeoutError()))
    assert pool.wait_unless(timed_out, lambda: False)


def test_a_forked_child_starts_with_an_empty_pool() -> None:
    code = """
import os, threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)
from flare.utils import pool
release = threading.Event()
futures = [pool.submit(release.wait) for _ in range(pool.MAX_POOL_SIZE)]
def nested():
    pid = os.fork()
    if pid == 0:
        try:
            assert not pool.in_pool_thread()
            futures = [pool.submit(lambda: 6) for _ in range(pool.MAX_POOL_SIZE)]
            os._exit(futures[-1].result(10))
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
print(nested())
release.set()
[future.result() for future in futures]
print(pool.submit(nested).result(10))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.stdout == "6\n6\n", done.stderr

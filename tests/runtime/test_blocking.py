"""``block_in_pool``: results, exceptions, cancellation, saturation."""

from __future__ import annotations

import threading
import time

import pytest

from flare.errors import IoError
from flare.runtime import MAX_POOL_SIZE, block_in_pool
from flare.utils import pool


class Token:
    """A cancel token as the package expects it."""

    def __init__(self, reason: int = 0) -> None:
        self.flipped = reason

    def cancelled(self) -> bool:
        return self.flipped != 0

    def reason(self) -> int:
        return self.flipped


def until_idle() -> None:
    """Wait for work that an earlier test has not waited for."""
    while pool._pool._busy:
        time.sleep(0.001)


def test_work_runs_on_another_thread_and_its_result_comes_back():
    thread = block_in_pool(threading.current_thread, Token())
    assert thread is not threading.current_thread()
    assert thread.name.startswith("flare-blocking")


def test_the_works_own_exception_is_raised():
    error = KeyError("mine")

    def fail():
        raise error

    with pytest.raises(KeyError) as caught:
        block_in_pool(fail, Token())
    assert caught.value is error


@pytest.mark.parametrize(
    ("reason", "text"), [(1, "peer closed"), (2, "timeout"), (3, "shutdown"), (9, "unknown")]
)
def test_cancelled_before_it_does_not_run(reason, text):
    ran: list[int] = []
    with pytest.raises(IoError, match=text) as caught:
        block_in_pool(lambda: ran.append(1), Token(reason))
    assert caught.value.op == "block_in_pool"
    assert ran == []


def test_cancelled_meanwhile_the_caller_returns_and_the_work_runs_on():
    token, release, done = Token(), threading.Event(), threading.Event()

    def work():
        token.flipped = 2
        release.wait(5)
        done.set()

    with pytest.raises(IoError, match="timeout"):
        block_in_pool(work, token)
    assert not done.is_set()
    release.set()
    assert done.wait(5)


def test_cancelled_at_the_end_the_result_is_dropped():
    token = Token()

    def work():
        token.flipped = 1
        return 5

    with pytest.raises(IoError, match="peer closed"):
        block_in_pool(work, token)


def test_work_in_the_pool_runs_further_work_inline():
    def outer():
        return threading.current_thread(), block_in_pool(threading.current_thread, Token())

    first, second = block_in_pool(outer, Token())
    assert first is second


def test_a_full_pool_refuses():
    until_idle()
    release, results = threading.Event(), []
    running = threading.Semaphore(0)

    def occupy():
        running.release()
        release.wait(10)
        return 1

    callers = [
        threading.Thread(target=lambda: results.append(block_in_pool(occupy, Token())))
        for _ in range(MAX_POOL_SIZE)
    ]
    try:
        for caller in callers:
            caller.start()
        for _ in callers:
            assert running.acquire(timeout=5)
        with pytest.raises(IoError, match="saturated"):
            block_in_pool(int, Token())
    finally:
        release.set()
        for caller in callers:
            caller.join()
    assert results == [1] * MAX_POOL_SIZE
    assert block_in_pool(int, Token()) == 0

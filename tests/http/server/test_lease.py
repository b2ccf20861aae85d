"""Whoever takes the serial out of the lease has won, and nobody else has."""

from __future__ import annotations

import sys
import threading
from typing import Any

from flare.http.server.lease import Lease


class Piece:
    """Stands in for a task."""


def piece() -> Any:
    return Piece()


def test_a_call_that_nobody_seized_leaves_with_the_lease() -> None:
    lease = Lease()
    serial = lease.enter(piece())
    assert lease.leave(serial)
    assert lease.seize(serial) is None
    assert not lease.leave(serial)


def test_what_is_seized_is_the_task_and_only_once() -> None:
    lease, task = Lease(), piece()
    serial = lease.enter(task)
    assert lease.seize(serial) is task
    assert lease.seize(serial) is None
    assert not lease.leave(serial)


def test_no_serial_comes_twice_and_a_stale_one_seizes_nothing() -> None:
    lease = Lease()
    first = lease.enter(piece())
    assert lease.serial == first
    lease.leave(first)
    second = lease.enter(piece())
    assert second != first
    assert lease.seize(first) is None
    assert lease.leave(second)


def test_of_two_threads_exactly_one_wins() -> None:
    lease = Lease()
    rounds = 2000
    won = [0, 0]
    ready = threading.Barrier(2, timeout=10)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def seize() -> None:
        for _ in range(rounds):
            ready.wait()
            won[0] += lease.seize(lease.serial) is not None
            ready.wait()

    thread = threading.Thread(target=seize)
    try:
        thread.start()
        for _ in range(rounds):
            serial = lease.enter(piece())
            ready.wait()
            won[1] += lease.leave(serial)
            ready.wait()
        thread.join(10)
    finally:
        sys.setswitchinterval(before)
    assert sum(won) == rounds

"""Threads that wait under one lock, each for something of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from flare.http.client.sleepers import Sleepers

SECONDS = 20


class Dormitory:
    """Threads that sleep until what they wait for is there, and the order in which they rose."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.sleepers = Sleepers(self.lock)
        self.there: set[int] = set()
        self.risen: list[int] = []
        self.threads: list[threading.Thread] = []
        self.changed = threading.Condition()

    def put_to_bed(self, *numbers: int, patience: float = -1) -> None:
        """A thread for each, all of them asleep when this returns."""
        for number in numbers:
            before = len(self)
            thread = threading.Thread(target=self._sleep, args=(number, patience))
            self.threads.append(thread)
            thread.start()
            while len(self) == before and thread.is_alive():
                thread.join(0.001)

    def __len__(self) -> int:
        with self.lock:
            return len(self.sleepers)

    def _sleep(self, number: int, patience: float) -> None:
        with self.lock:
            self.sleepers.sleep(lambda: number in self.there, patience)
            self.risen.append(number)
        with self.changed:
            self.changed.notify_all()

    def until(self, condition: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, SECONDS)

    def end(self) -> None:
        while len(self):
            with self.lock:
                self.sleepers.wake_all()
        for thread in self.threads:
            thread.join(SECONDS)
            assert not thread.is_alive()


@pytest.fixture
def dormitory() -> Dormitory:
    return Dormitory()


def test_those_who_have_what_they_wait_for_are_woken_and_no_others(dormitory: Dormitory) -> None:
    dormitory.put_to_bed(*range(10))
    with dormitory.lock:
        dormitory.there |= {2, 5, 7}
        dormitory.sleepers.wake_ready()
    dormitory.until(lambda: len(dormitory.risen) == 3)
    assert sorted(dormitory.risen) == [2, 5, 7]
    assert len(dormitory) == 7
    dormitory.end()
    assert sorted(dormitory.risen) == list(range(10))


def test_they_are_woken_one_after_the_other(dormitory: Dormitory) -> None:
    dormitory.put_to_bed(*range(5))
    with dormitory.lock:
        dormitory.there |= set(range(5))
        dormitory.sleepers.wake_ready()
        assert dormitory.sleepers._rising == 1
    dormitory.until(lambda: len(dormitory.risen) == 5)
    dormitory.end()
    assert dormitory.risen == list(range(5))


def test_one_who_is_about_to_look_round_is_enough(dormitory: Dormitory) -> None:
    dormitory.put_to_bed(1, 2)
    with dormitory.lock:
        assert dormitory.sleepers.wake_one()
        assert dormitory.sleepers.wake_one()
    dormitory.until(lambda: bool(dormitory.risen))
    assert len(dormitory) == 1
    dormitory.end()
    with dormitory.lock:
        assert not dormitory.sleepers.wake_one()


def test_patience_ends(dormitory: Dormitory) -> None:
    with dormitory.lock:
        dormitory.sleepers.sleep(lambda: False, 0.01)
        assert not len(dormitory.sleepers)


def test_who_is_due_when_its_time_is_over_does_not_hold_up_the_others(
    dormitory: Dormitory,
) -> None:
    """The lock is held until the patience of one is over for certain."""
    dormitory.put_to_bed(1)
    dormitory.put_to_bed(2, patience=0.05)
    dormitory.put_to_bed(3)
    with dormitory.lock:
        dormitory.there |= {1, 2, 3}
        dormitory.sleepers.wake_ready()
        threading.Event().wait(0.1)
    dormitory.until(lambda: len(dormitory.risen) == 3)
    with dormitory.lock:
        assert not dormitory.sleepers._rising
        assert not len(dormitory.sleepers)
    dormitory.end()


def test_no_wake_up_is_lost(dormitory: Dormitory) -> None:
    """Tickets that are handed out one by one, while patience runs out now and then."""
    lock, sleepers = dormitory.lock, dormitory.sleepers
    tickets = 0
    used = 0

    def is_open() -> bool:
        return tickets > 0

    def use(count: int) -> None:
        nonlocal tickets, used
        for turn in range(count):
            with lock:
                while not tickets:
                    sleepers.sleep(is_open, 0.001 if turn % 7 == 0 else -1)
                tickets -= 1
                used += 1
                if tickets:
                    sleepers.wake_one()

    threads = [threading.Thread(target=use, args=(50,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(8 * 50):
        with lock:
            tickets += 1
            sleepers.wake_ready()
    for thread in threads:
        thread.join(SECONDS)
        assert not thread.is_alive()
    assert used == 8 * 50

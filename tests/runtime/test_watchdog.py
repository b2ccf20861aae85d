"""``DeadlineWatchdog``: who is flipped, who is not."""

from __future__ import annotations

import os
import threading
import time

import pytest

from flare.errors import ValidationError
from flare.runtime import DeadlineWatchdog


class Cell:
    def __init__(self) -> None:
        self.reasons: list[int] = []
        self.when = 0.0
        self._flipped = threading.Event()

    def flip(self, reason: int) -> None:
        self.when = time.monotonic()
        self.reasons.append(reason)
        self._flipped.set()

    def wait(self) -> bool:
        return self._flipped.wait(5)


@pytest.fixture
def dog():
    with DeadlineWatchdog() as made:
        yield made


class Clock:
    """Time that stands still until it is moved on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr("flare.runtime.watchdog.time", made)
    return made


def test_a_missed_deadline_flips_once_with_reason_timeout(dog):
    cell, later = Cell(), Cell()
    started = time.monotonic()
    dog.arm(0, 5, cell)
    assert cell.wait()
    assert cell.when - started >= 0.005
    dog.arm(1, 5, later)
    assert later.wait()
    assert cell.reasons == later.reasons == [2]
    assert repr(dog) == "DeadlineWatchdog(0 armed)"


def test_a_disarmed_slot_does_not_fire(clock, dog):
    quiet, loud = Cell(), Cell()
    dog.arm(3, 5, quiet)
    dog.arm(4, 10, loud)
    dog.disarm(3)
    dog.disarm(3)
    dog.disarm(200)
    clock.now += 1
    assert loud.wait()
    assert quiet.reasons == []


def test_a_sooner_deadline_overtakes_one_already_waited_for(dog):
    late, soon = Cell(), Cell()
    dog.arm(0, 60_000, late)
    dog.arm(1, 1, soon)
    assert soon.wait()
    assert late.reasons == []


def test_arming_again_replaces_the_deadline(clock, dog):
    first, second, marker = Cell(), Cell(), Cell()
    dog.arm(0, 60_000, first)
    dog.arm(0, 1, second)
    dog.arm(7, 2, first)
    dog.arm(7, 60_000, first)
    dog.arm(8, 8, marker)
    clock.now += 1
    assert second.wait()
    assert marker.wait()
    assert first.reasons == []


@pytest.mark.parametrize("budget", [0, -5])
def test_a_budget_of_nothing_fires_at_once(dog, budget):
    cell = Cell()
    dog.arm(255, budget, cell)
    assert cell.wait()


@pytest.mark.parametrize("slot", [-1, 256])
def test_there_are_256_slots(dog, slot):
    with pytest.raises(ValidationError, match="slot"):
        dog.arm(slot, 1, Cell())


def test_a_grain_below_one_is_refused():
    with pytest.raises(ValidationError, match="poll_ms"):
        DeadlineWatchdog(0)


def test_arming_and_disarming_does_not_pile_up(dog):
    cell = Cell()
    for _ in range(5000):
        dog.arm(1, 60_000, cell)
        dog.disarm(1)
    assert len(dog._heap) < 600


def test_stop_forgets_everything_and_ends_the_thread():
    dog = DeadlineWatchdog()
    dog.stop()
    cell = Cell()
    dog = DeadlineWatchdog()
    dog.arm(0, 60_000, cell)
    thread = dog._thread
    dog.stop()
    dog.stop()
    assert not thread.is_alive()
    assert cell.reasons == []
    with pytest.raises(RuntimeError, match="stopped"):
        dog.arm(0, 1, cell)


def test_no_thread_before_the_first_deadline(dog):
    assert dog._thread is None


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_starts_anew(dog):
    inherited = Cell()
    dog.arm(0, 60_000, inherited)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            own = Cell()
            dog.arm(1, 1, own)
            status = 0 if own.wait() and len(dog._armed) == 0 else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

"""The watchdog: who is told that a handler takes too long, and when it sleeps."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flare.http.server import watch
from flare.http.server.watch import Sample, Watchdog, computes, cpu_ns, own_cpu_clock, watchdog

PATIENCE = 20.0


class Leader:
    """Stands in for a worker: each look finds it at ``serial``."""

    def __init__(self, serial: int = 0) -> None:
        self.serial = serial
        self.moving = False
        self.waiting = True
        self.held = True
        self.cpu = 0
        self.looks = 0
        self.looked = threading.Event()
        self.overtaken: list[tuple[int, bool]] = []

    def sample(self) -> Sample:
        self.looks += 1
        self.looked.set()
        if self.moving:
            self.serial += 1
        self.cpu += 1_000_000
        return Sample(self.serial, self.cpu, self.looks * 1_000_000)

    def overtake(self, serial: int, computing: bool) -> bool:
        self.overtaken.append((serial, computing))
        held, self.held = self.held, False
        return held


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.fixture
def dog(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watchdog]:
    monkeypatch.setattr(watch, "_TICK_SECONDS", 0.001)
    dog = Watchdog()
    yield dog
    for worker in dog._watched:
        dog.forget(worker)


def test_a_serial_seen_twice_is_overtaken_and_said_to_compute(dog: Watchdog) -> None:
    leader = Leader(7)
    dog.watch(leader)
    until(lambda: leader.overtaken)
    assert leader.overtaken[0] == (7, True)
    assert leader.looks >= 2


def test_a_leader_that_moves_is_left_alone_and_keeps_the_dog_awake(
    dog: Watchdog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_IDLE_TICKS", 3)
    leader = Leader()
    leader.moving = True
    dog.watch(leader)
    until(lambda: leader.looks > 30)
    assert not leader.overtaken
    assert not dog.parked


def test_it_does_not_park_beside_a_leader_that_is_about_to_call_a_handler(
    dog: Watchdog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_IDLE_TICKS", 3)
    monkeypatch.setattr(watch, "_PARKED_SECONDS", PATIENCE * 2)
    leader = Leader(1)
    leader.held = leader.waiting = False
    dog.watch(leader)
    until(lambda: leader.looks > 30)
    leader.serial, leader.held = 2, True
    until(lambda: (2, True) in leader.overtaken)
    leader.waiting = True
    until(lambda: dog.parked)


def test_it_parks_when_nothing_moves_and_is_woken_at_once(
    dog: Watchdog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_IDLE_TICKS", 3)
    monkeypatch.setattr(watch, "_PARKED_SECONDS", PATIENCE * 2)
    leader = Leader()
    leader.held = False
    dog.watch(leader)
    until(lambda: dog.parked)
    leader.looked.clear()
    leader.serial += 1
    leader.overtaken.clear()
    leader.held = True
    dog.unpark()
    assert leader.looked.wait(PATIENCE)
    until(lambda: leader.overtaken)
    assert leader.overtaken[0][0] == 1


def test_no_wake_up_is_missed_however_it_falls(
    dog: Watchdog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_IDLE_TICKS", 1)
    monkeypatch.setattr(watch, "_PARKED_SECONDS", PATIENCE * 2)
    leader = Leader()
    dog.watch(leader)
    for _ in range(200):
        until(lambda: dog.parked)
        leader.held = True
        leader.overtaken.clear()
        leader.serial += 1
        dog.unpark()
        until(lambda: leader.overtaken)


def test_one_thread_watches_all_and_ends_with_the_last(dog: Watchdog) -> None:
    first, second = Leader(), Leader()
    dog.watch(first)
    thread = dog._thread
    dog.watch(second)
    assert dog._thread is thread
    until(lambda: first.looks and second.looks)
    dog.forget(first)
    until(lambda: second.looks > first.looks + 3)
    assert thread is not None
    assert thread.is_alive()
    dog.forget(second)
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_it_starts_again_for_the_next_worker(dog: Watchdog) -> None:
    for _ in range(20):
        leader = Leader()
        dog.watch(leader)
        assert leader.looked.wait(PATIENCE)
        dog.forget(leader)


def test_a_thread_that_cannot_be_started_is_tried_again(
    dog: Watchdog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_thread(_: Any) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        with pytest.raises(RuntimeError):
            dog.watch(Leader())
    leader = Leader()
    dog.watch(leader)
    assert leader.looked.wait(PATIENCE)
    assert dog._watched == (leader,)


def test_there_is_one_a_process() -> None:
    assert watchdog() is watchdog()


@pytest.mark.parametrize(
    ("spent", "passed", "verdict"), [(0, 100, False), (30, 100, False), (31, 100, True)]
)
def test_computing_is_a_share_of_the_time(spent: int, passed: int, verdict: bool) -> None:
    assert computes(spent, passed) is verdict


def test_the_clock_of_a_thread_may_be_read_after_its_end() -> None:
    clocks: list[int | None] = []

    def spin() -> None:
        clocks.append(own_cpu_clock())
        end = time.thread_time_ns() + 2_000_000
        while time.thread_time_ns() < end:
            pass
        assert cpu_ns(clocks[0]) >= 2_000_000

    thread = threading.Thread(target=spin)
    thread.start()
    thread.join()
    until(lambda: cpu_ns(clocks[0]) == 0)
    assert cpu_ns(None) == 0

"""Handing connections from worker to worker."""

from __future__ import annotations

import threading

import pytest

from flare.errors import ValidationError
from flare.runtime import HandoffPolicy, HandoffQueue, WorkerHandoffPool

ON = HandoffPolicy(enabled=True, capacity=3, steal_threshold=2)


def pool_with(loads: list[int], policy: HandoffPolicy = ON) -> WorkerHandoffPool:
    pool = WorkerHandoffPool(policy, len(loads))
    for worker, load in enumerate(loads):
        for fd in range(load):
            assert pool.try_handoff(worker, fd)
    return pool


def test_a_policy_is_off_by_default_and_compares():
    assert HandoffPolicy() == HandoffPolicy(False, 64, 4)
    assert HandoffPolicy(enabled=True) != HandoffPolicy()


@pytest.mark.parametrize("value", ["on", "1", "true"])
def test_the_environment_turns_hand_off_on(monkeypatch, value):
    monkeypatch.setenv("FLARE_SOAK_WORKERS", value)
    assert HandoffPolicy.from_env() == HandoffPolicy(True, 64, 1)
    assert HandoffPolicy.from_env(HandoffPolicy(capacity=9)) == HandoffPolicy(True, 9, 1)


@pytest.mark.parametrize("value", ["off", "0", "", "TRUE", "yes", None])
def test_any_other_value_leaves_the_default(monkeypatch, value):
    monkeypatch.delenv("FLARE_SOAK_WORKERS", raising=False)
    if value is not None:
        monkeypatch.setenv("FLARE_SOAK_WORKERS", value)
    assert HandoffPolicy.from_env() == HandoffPolicy()
    assert HandoffPolicy.from_env(ON) is ON


def test_a_queue_is_first_in_first_out_and_refuses_when_full():
    queue = HandoffQueue(2)
    assert [queue.push(fd) for fd in (5, 6, 7)] == [True, True, False]
    assert (queue.size(), len(queue), queue.capacity) == (2, 2, 2)
    assert queue.pop() == 5
    assert queue.push(8)
    assert queue.drain() == [6, 8]
    assert queue.pop() is None
    assert queue.drain() == []
    assert (queue.pushes, queue.pops, queue.refused) == (3, 3, 1)
    assert (bool(queue), repr(queue)) == (True, "HandoffQueue(0/2)")


def test_a_queue_without_capacity_refuses_everything():
    queue = HandoffQueue()
    assert not queue.push(1)
    assert (queue.size(), queue.refused) == (0, 1)


def test_no_descriptor_is_lost_or_doubled_between_threads():
    queue = HandoffQueue(50)
    accepted: list[list[int]] = [[] for _ in range(4)]

    def produce(worker: int) -> None:
        for n in range(2000):
            fd = worker * 2000 + n
            if queue.push(fd):
                accepted[worker].append(fd)

    threads = [threading.Thread(target=produce, args=(w,)) for w in range(4)]
    for thread in threads:
        thread.start()
    got: list[int] = []
    while any(thread.is_alive() for thread in threads):
        fd = queue.pop()
        if fd is not None:
            got.append(fd)
        got += queue.drain()
    got += queue.drain()
    for thread in threads:
        thread.join()
    assert sorted(got) == sorted(fd for part in accepted for fd in part)
    assert queue.pushes == queue.pops == len(got)
    assert queue.refused == 8000 - len(got)
    for worker in range(4):  # one producer's order is kept
        own = [fd for fd in got if fd // 2000 == worker]
        assert own == sorted(own)


@pytest.mark.parametrize(
    ("loads", "exclude", "idle"),
    [
        ([0, 0, 0], 0, 1),
        ([0, 2, 1], 0, 2),
        ([1, 1, 1], 1, 0),
        ([0], 0, -1),
        ([0, 3, 3], 0, -1),
        ([2, 3], 1, 0),
        ([1, 0], -1, 1),
    ],
)
def test_the_idle_worker_is_the_peer_with_the_shortest_queue(loads, exclude, idle):
    assert pool_with(loads).peek_idle_worker(exclude) == idle


@pytest.mark.parametrize(
    ("loads", "local_load", "target"),
    [
        ([0, 0], 1, -1),
        ([0, 0], 2, 1),
        ([0, 1], 2, -1),
        ([0, 1], 3, 1),
        ([0, 1, 0], 2, 2),
        ([0, 3], 100, -1),
        ([0], 100, -1),
    ],
)
def test_a_peer_is_chosen_from_the_threshold_on(loads, local_load, target):
    assert pool_with(loads).choose_handoff_target(0, local_load) == target


def test_handing_over_needs_a_worker_with_room():
    pool = pool_with([0, 0])
    assert [pool.try_handoff(1, fd) for fd in (4, 5, 6, 7)] == [True, True, True, False]
    assert not pool.try_handoff(2, 8)
    assert not pool.try_handoff(-1, 8)
    assert pool.drain_local(1) == [4, 5, 6]
    assert pool.drain_local(1) == pool.drain_local(-1) == pool.drain_local(2) == []
    assert (pool.size(), len(pool)) == (2, 2)
    assert repr(pool) == "WorkerHandoffPool([0, 0])"


def test_a_disabled_pool_does_nothing():
    pool = WorkerHandoffPool(HandoffPolicy(), 3)
    assert not pool.try_handoff(1, 5)
    assert pool.peek_idle_worker(0) == -1
    assert pool.choose_handoff_target(0, 100) == -1


@pytest.mark.parametrize(
    "call",
    [
        lambda: HandoffQueue(-1),
        lambda: WorkerHandoffPool(HandoffPolicy(capacity=-1), 2),
        lambda: WorkerHandoffPool(ON, 0),
    ],
)
def test_impossible_sizes_are_refused(call):
    with pytest.raises(ValidationError):
        call()

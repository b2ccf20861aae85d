"""A worker's threads, and the lane of those that compute."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flare.http.server.lease import Overtaken
from flare.http.server.threads import (
    ComputeLane,
    Outcome,
    Threads,
    compute_lane,
    has_interpreter_lock,
)

PATIENCE = 20.0


class Job:
    """Stands in for a task."""

    abandoned = False

    def __init__(self, work: Callable[[], object]) -> None:
        self.call = work


class Crew:
    """Threads whose outcomes and leaders are noted."""

    def __init__(self, lead: Callable[[], None] = lambda: None) -> None:
        self.outcomes: list[Outcome] = []
        self.come = threading.Semaphore(0)
        self.threads = Threads("crew", lead, self._deliver)

    def _deliver(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self.come.release()

    def submit(self, work: Callable[[], object], *, abandoned: bool = False) -> Job:
        job: Any = Job(work)
        job.abandoned = abandoned
        self.threads.submit(job)
        return job  # type: ignore[no-any-return]

    def outcome(self) -> Outcome:
        assert self.come.acquire(timeout=PATIENCE)
        return self.outcomes.pop(0)


@pytest.fixture
def crew() -> Iterator[Crew]:
    crew = Crew()
    crew.threads.add()
    yield crew
    crew.threads.end()
    assert crew.threads.join(time.monotonic() + PATIENCE) == []


def spin() -> None:
    end = time.thread_time_ns() + 4_000_000
    while time.thread_time_ns() < end:
        pass


def test_a_task_comes_back_with_its_result(crew: Crew) -> None:
    job = crew.submit(lambda: "done")
    outcome = crew.outcome()
    assert (outcome.task, outcome.result, outcome.failure) == (job, "done", None)
    assert outcome.share is None  # too short to tell


def test_what_a_task_raises_comes_back_too_and_the_thread_goes_on(crew: Crew) -> None:
    def leave() -> None:
        raise SystemExit(3)

    crew.submit(leave)
    assert isinstance(crew.outcome().failure, SystemExit)
    crew.submit(lambda: 1)
    assert crew.outcome().result == 1


def test_the_share_of_the_processor_is_measured(crew: Crew) -> None:
    crew.submit(lambda: time.sleep(0.1))  # so that one that is held up computes more still
    waited = crew.outcome().share
    crew.submit(spin)
    computed = crew.outcome().share
    assert waited is not None
    assert computed is not None
    assert waited < computed <= 1.1


def test_what_is_abandoned_is_not_called(crew: Crew) -> None:
    crew.submit(lambda: pytest.fail("called"), abandoned=True)
    assert crew.outcome().result is None


def test_a_task_after_the_end_comes_back_uncalled() -> None:
    crew = Crew()
    crew.threads.end()
    crew.submit(lambda: pytest.fail("called"))
    assert crew.outcome().result is None


def test_what_was_submitted_before_the_end_is_still_called() -> None:
    crew = Crew()
    gate = threading.Event()
    crew.threads.add()
    crew.submit(lambda: gate.wait(PATIENCE))
    crew.submit(lambda: "second")
    crew.threads.end()
    gate.set()
    assert crew.threads.join(time.monotonic() + PATIENCE) == []
    assert [outcome.result for outcome in crew.outcomes] == [True, "second"]


def test_a_leader_that_lost_its_lease_stands_by_again() -> None:
    led: list[int] = []

    def lead() -> None:
        led.append(threading.get_ident())
        raise Overtaken

    crew = Crew(lead)
    crew.threads.start()
    crew.threads.promote()
    crew.submit(lambda: "after")
    assert crew.outcome().result == "after"
    assert led == [led[0]] * 2
    crew.threads.end()
    crew.threads.join(time.monotonic() + PATIENCE)


def test_busy_threads_are_named_when_time_is_up() -> None:
    crew = Crew()
    gate, entered = threading.Event(), threading.Event()

    def stuck() -> None:
        entered.set()
        gate.wait(PATIENCE)

    crew.threads.add()
    crew.threads.add()
    crew.submit(stuck)
    assert entered.wait(PATIENCE)
    crew.threads.end()
    until(lambda: sum(thread.is_alive() for thread in crew.threads.all) == 1)
    [left] = crew.threads.join(time.monotonic())
    assert left.name.startswith("crew-")
    gate.set()
    assert crew.threads.join(time.monotonic() + PATIENCE) == []


def test_the_identity_of_a_thread_is_forgotten_with_it(crew: Crew) -> None:
    crew.submit(threading.get_ident)
    ident = crew.outcome().result
    assert ident in crew.threads.idents
    crew.threads.end()
    crew.threads.join(time.monotonic() + PATIENCE)
    assert not crew.threads.idents


def test_a_thread_that_stands_by_holds_no_task(crew: Crew) -> None:
    job = crew.submit(lambda: None)
    left = weakref.ref(job)
    del job
    crew.outcome()

    def gone() -> bool:
        gc.collect()
        return left() is None

    until(gone)


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.001)


# -- the lane -----------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1, 3])
def test_at_most_so_many_are_started_and_the_rest_in_order(width: int) -> None:
    lane = ComputeLane(width)
    started: list[int] = []
    for number in range(6):
        lane.enter(lambda number=number: started.append(number))
    assert started == list(range(width))
    for left in range(6):
        lane.leave()
        assert started == list(range(min(6, width + left + 1)))


def test_one_that_joins_is_waited_for() -> None:
    lane = ComputeLane(1)
    started: list[str] = []
    lane.join()
    lane.join()
    lane.enter(lambda: started.append("next"))
    lane.leave()
    assert not started
    lane.leave()
    assert started == ["next"]
    lane.leave()
    lane.enter(lambda: started.append("last"))
    assert started == ["next", "last"]


def test_thousands_that_leave_as_soon_as_they_start_do_not_pile_up() -> None:
    lane = ComputeLane(1)
    left: list[int] = []

    def start() -> None:
        left.append(1)
        lane.leave()

    lane.join()
    for _ in range(5000):
        lane.enter(start)
    lane.leave()
    assert len(left) == 5000
    lane.enter(start)
    assert len(left) == 5001


def test_many_threads_never_pass_the_width() -> None:
    lane = ComputeLane(2)
    lock = threading.Lock()
    inside, most, done = 0, 0, threading.Semaphore(0)

    def work() -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        time.sleep(0)
        with lock:
            inside -= 1
        lane.leave()
        done.release()

    def enter() -> None:
        for _ in range(50):
            turn = threading.Event()
            lane.enter(turn.set)
            assert turn.wait(PATIENCE)
            work()

    threads = [threading.Thread(target=enter) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert most <= 2
    assert inside == 0


@pytest.fixture
def interval() -> Iterator[None]:
    before = sys.getswitchinterval()
    yield
    sys.setswitchinterval(before)


@pytest.mark.skipif(not has_interpreter_lock(), reason="this Python has no interpreter lock")
@pytest.mark.usefixtures("interval")
class TestSwitchInterval:
    """How long a thread may keep the interpreter lock while another wants it."""

    def test_it_is_short_while_a_task_computes(self) -> None:
        sys.setswitchinterval(0.02)
        lane = ComputeLane(1)
        lane.join()
        assert sys.getswitchinterval() == pytest.approx(0.0005)
        lane.join()
        lane.enter(lambda: None)
        lane.leave()
        lane.leave()  # the third is started
        assert sys.getswitchinterval() == pytest.approx(0.0005)
        lane.leave()
        assert sys.getswitchinterval() == pytest.approx(0.02)

    def test_a_shorter_one_stays(self) -> None:
        sys.setswitchinterval(0.0001)
        lane = ComputeLane(1)
        lane.join()
        assert sys.getswitchinterval() == pytest.approx(0.0001)
        lane.leave()
        assert sys.getswitchinterval() == pytest.approx(0.0001)

    def test_what_somebody_sets_meanwhile_stays(self) -> None:
        sys.setswitchinterval(0.02)
        lane = ComputeLane(1)
        lane.join()
        sys.setswitchinterval(0.01)
        lane.leave()
        assert sys.getswitchinterval() == pytest.approx(0.01)

    def test_a_child_begins_with_the_usual_one(self) -> None:
        sys.setswitchinterval(0.02)
        lane = compute_lane()
        lane.join()
        try:
            child = os.fork()
            if not child:
                os._exit(0 if abs(sys.getswitchinterval() - 0.02) < 1e-6 else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        finally:
            lane.leave()


def test_all_workers_of_a_process_share_one_lane() -> None:
    assert compute_lane() is compute_lane()
    assert compute_lane().width >= 1

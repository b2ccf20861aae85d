"""``TimerWheel`` against its table, and against a model that keeps a plain list."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from flare.runtime import TimerWheel


@pytest.mark.parametrize("start", [0, 1, 510, 511, 512, 10**12])
@pytest.mark.parametrize("delay", [1, 2, 510, 511, 512, 513, 1023, 1024, 86_400_000])
def test_a_timer_fires_at_its_millisecond_and_not_before(start, delay):
    wheel = TimerWheel(start)
    wheel.schedule(delay, 7)
    assert wheel.next_fire_ms() == start + delay
    assert wheel.advance(start + delay - 1) == []
    assert wheel.advance(start + delay) == [7]
    assert wheel.advance(start + delay + 1) == []


@pytest.mark.parametrize("delay", [1, 511, 512, 30_000])
def test_a_late_advance_fires_what_is_overdue(delay):
    wheel = TimerWheel(5)
    wheel.schedule(delay, 7)
    assert wheel.advance(10**9) == [7]
    assert wheel.now_ms() == 10**9


@pytest.mark.parametrize("delay", [0, -1, -1000])
def test_a_delay_below_one_is_one(delay):
    wheel = TimerWheel(100)
    wheel.schedule(delay, 7)
    assert wheel.next_fire_ms() == 101
    assert wheel.advance(100) == []
    assert wheel.advance(101) == [7]


def test_delays_count_from_the_wheels_own_tick():
    wheel = TimerWheel()
    wheel.advance(1000)
    wheel.schedule(10, 1)
    assert wheel.next_fire_ms() == 1010


def test_ids_begin_at_one_and_are_never_used_again():
    wheel = TimerWheel()
    assert [wheel.schedule(5, 0) for _ in range(3)] == [1, 2, 3]
    wheel.advance(100)
    wheel.cancel(3)
    assert wheel.schedule(5, 0) == 4


def test_one_token_may_have_many_timers():
    wheel = TimerWheel()
    first = wheel.schedule(5, 9)
    wheel.schedule(5, 9)
    wheel.cancel(first)
    wheel.schedule(6, 9)
    assert wheel.advance(10) == [9, 9]


def test_they_fire_by_deadline_and_then_by_id():
    wheel = TimerWheel()
    wheel.schedule(700, 1)
    wheel.schedule(3, 2)
    wheel.advance(1)
    wheel.schedule(699, 3)
    wheel.schedule(2, 4)
    wheel.schedule(1, 5)
    assert wheel.advance(1000) == [5, 2, 4, 1, 3]


def test_cancel_is_true_once_and_only_for_what_is_pending():
    wheel = TimerWheel()
    kept, dropped = wheel.schedule(5, 1), wheel.schedule(5, 2)
    assert wheel.cancel(dropped)
    assert not wheel.cancel(dropped)
    assert wheel.advance(5) == [1]
    assert not wheel.cancel(kept)
    assert not wheel.cancel(0)
    assert not wheel.cancel(99)


def test_what_is_already_in_the_list_stays_there():
    wheel = TimerWheel()
    wheel.schedule(1, 5)
    fired = [1, 2]
    assert wheel.advance(1, fired) is fired
    assert fired == [1, 2, 5]
    assert wheel.advance(2) is not wheel.advance(2)


def test_time_going_backwards_is_ignored():
    wheel = TimerWheel(1000)
    wheel.schedule(10, 1)
    assert wheel.advance(500) == []
    assert wheel.now_ms() == 1000
    assert wheel.next_fire_ms() == 1010
    assert wheel.advance(1010) == [1]
    fired = [8]
    assert wheel.advance(0, fired) == [8]


def test_the_next_deadline_skips_what_was_cancelled():
    wheel = TimerWheel()
    assert wheel.next_fire_ms() is None
    soon = wheel.schedule(5, 1)
    late = wheel.schedule(600, 2)
    assert wheel.next_fire_ms() == 5
    wheel.cancel(soon)
    assert wheel.next_fire_ms() == 600
    wheel.cancel(late)
    assert wheel.next_fire_ms() is None


def test_the_count_leaves_the_cancelled_out():
    wheel = TimerWheel()
    ids = [wheel.schedule(n, n) for n in range(1, 5)]
    wheel.cancel(ids[2])
    assert (len(wheel), wheel.active_count(), bool(wheel)) == (3, 3, True)
    wheel.advance(2)
    assert len(wheel) == 1
    assert repr(wheel) == "TimerWheel(now_ms=2, 1 pending)"
    wheel.advance(4)
    assert (len(wheel), bool(wheel)) == (0, True)


def test_cancelling_and_arming_anew_does_not_pile_up():
    wheel = TimerWheel()
    lasting = [wheel.schedule(10**9, n) for n in range(100)]
    for turn in range(50_000):
        slot = turn % 100
        assert wheel.cancel(lasting[slot])
        lasting[slot] = wheel.schedule(10**9, slot)
    assert len(wheel) == 100
    assert len(wheel._heap) <= 300
    for timer in lasting:
        wheel.cancel(timer)
    assert len(wheel._heap) <= 100
    assert wheel.next_fire_ms() is None


class AgainstAModel(RuleBasedStateMachine):
    """The same calls on the wheel and on a dict of (due, token), compared after each."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.wheel = TimerWheel(0)
        self.pending: dict[int, tuple[int, int]] = {}
        self.last = 0

    @rule(delay=st.integers(-2, 1100), token=st.integers(0, 3))
    def schedule(self, delay: int, token: int) -> None:
        self.last += 1
        assert self.wheel.schedule(delay, token) == self.last
        self.pending[self.last] = (self.now + max(1, delay), token)

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        timer = data.draw(st.integers(0, self.last + 1))
        assert self.wheel.cancel(timer) == (self.pending.pop(timer, None) is not None)

    @rule(step=st.integers(-5, 1200))
    def advance(self, step: int) -> None:
        now = max(self.now, self.now + step)
        due = sorted((due, timer) for timer, (due, _) in self.pending.items() if due <= now)
        expected = [self.pending.pop(timer)[1] for _, timer in due]
        assert self.wheel.advance(self.now + step) == expected
        self.now = now

    @invariant()
    def agrees(self) -> None:
        assert self.wheel.now_ms() == self.now
        assert len(self.wheel) == len(self.pending)
        soonest = min((due for due, _ in self.pending.values()), default=None)
        assert self.wheel.next_fire_ms() == soonest


AgainstAModel.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
test_agrees_with_a_plain_list = AgainstAModel.TestCase

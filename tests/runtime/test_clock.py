"""The monotonic clock and the sleeps."""

from __future__ import annotations

import time

import pytest

from flare.runtime import libc_nanosleep_ms, libc_usleep, monotonic_now_ms


def test_the_clock_is_the_monotonic_one_in_milliseconds():
    before = time.monotonic_ns() // 1_000_000
    now = monotonic_now_ms()
    assert before <= now <= time.monotonic_ns() // 1_000_000
    assert isinstance(now, int)


@pytest.mark.parametrize(("sleep", "amount"), [(libc_usleep, 3000), (libc_nanosleep_ms, 3)])
def test_sleeps_last_and_return_zero(sleep, amount):
    before = time.monotonic()
    assert sleep(amount) == 0
    assert time.monotonic() - before >= 0.0029


@pytest.mark.parametrize("sleep", [libc_usleep, libc_nanosleep_ms])
@pytest.mark.parametrize("amount", [0, -5])
def test_nothing_to_sleep_returns_at_once(sleep, amount):
    assert sleep(amount) == 0

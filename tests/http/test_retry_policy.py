"""The retry policy as a value: which methods, how long a wait."""

from __future__ import annotations

import dataclasses
import math
import pickle

import pytest

from flare.errors import ValidationError
from flare.http.retry import RetryPolicy, retry_after_ms

NOW = 784111777.0  # Sun, 06 Nov 1994 08:49:37 GMT


def test_it_is_an_immutable_value():
    policy = RetryPolicy()
    assert policy == RetryPolicy(3, True, 0, 2, 2000)
    assert len({policy, RetryPolicy()}) == 1
    assert pickle.loads(pickle.dumps(policy)) == policy
    with pytest.raises(dataclasses.FrozenInstanceError):
        policy.max_attempts = 5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("method", "allowed"),
    [("GET", True), ("HEAD", True), ("PUT", True), ("DELETE", True), ("OPTIONS", True),
     ("TRACE", True), ("POST", False), ("PATCH", False), ("ODD", False)],
)  # fmt: skip
def test_only_idempotent_methods_unless_told(method, allowed):
    assert RetryPolicy().allows(method) is allowed
    assert RetryPolicy(retry_only_idempotent=False).allows(method)


def test_the_error_says_which_number_it_must_be():
    with pytest.raises(ValidationError, match=r"max_attempts.*must be an int, got 3.0"):
        RetryPolicy(max_attempts=3.0)
    with pytest.raises(ValidationError, match=r"max_backoff_ms.*must be a number, got '3'"):
        RetryPolicy(max_backoff_ms="3")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_attempts", "3"), ("max_attempts", 1.5), ("max_attempts", True),
        ("initial_backoff_ms", "100"), ("max_backoff_ms", None), ("initial_backoff_ms", math.nan),
        ("backoff_multiplier", 0), ("backoff_multiplier", -2), ("backoff_multiplier", "2"),
        ("connect", -1), ("read", "1"), ("status", 1.5), ("statuses", 503), ("statuses", "503"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(field, value):
    with pytest.raises(ValidationError) as caught:
        RetryPolicy(**{field: value})
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("attempt", "expected"), [(2, 100), (3, 200), (4, 400), (5, 450), (6, 450), (10**6, 450)]
)
def test_the_wait_grows_up_to_its_cap_and_is_random_below_it(attempt, expected):
    policy = RetryPolicy(initial_backoff_ms=100, max_backoff_ms=450)
    assert policy.max_backoff_ms_before(attempt) == expected
    waits = [policy.backoff_ms(attempt) for _ in range(200)]
    assert 0 <= min(waits) < expected / 4
    assert expected * 3 / 4 < max(waits) <= expected


def test_without_an_initial_backoff_there_is_no_wait():
    assert RetryPolicy().backoff_ms(5) == 0
    assert RetryPolicy(initial_backoff_ms=100, max_backoff_ms=0).max_backoff_ms_before(8) == 6400


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0", 0), ("3", 3000), ("31536000", 31_536_000_000), ("9" * 40, 999_999_999_999_000),
        ("Sun, 06 Nov 1994 08:49:47 GMT", 10_000), ("Sun, 06 Nov 1994 08:00:00 GMT", 0),
        ("", None), ("-1", None), ("1.5", None), ("soon", None), ("٣", None),
    ],
)  # fmt: skip
def test_retry_after_is_seconds_or_a_date(value, expected):
    assert retry_after_ms(value, NOW) == expected


@pytest.mark.parametrize(
    ("policy", "status", "value", "expected"),
    [
        (RetryPolicy(), 503, "1", 1000),
        (RetryPolicy(), 429, "31536000", 2000),  # cut to max_backoff_ms
        (RetryPolicy(max_backoff_ms=0), 429, "100", 100_000),
        (RetryPolicy(), 500, "1", 0),  # means nothing there
        (RetryPolicy(), 503, "soon", 0),
        (RetryPolicy(respect_retry_after=False), 503, "1", 0),
    ],
)
def test_the_servers_wish_takes_the_place_of_the_backoff(policy, status, value, expected):
    assert policy.wait_ms(2, status, value, NOW) == expected


@pytest.mark.parametrize("name", ["connect", "read", "status"])
def test_a_negative_count_is_refused(name):
    with pytest.raises(ValidationError):
        RetryPolicy(**{name: -1})


def test_the_statuses():
    assert {429, 500, 502, 503, 504} <= RetryPolicy().statuses
    assert not {200, 404, 408, 501, 505} & RetryPolicy().statuses
    assert RetryPolicy(statuses={418}).statuses == frozenset((418,))  # type: ignore[arg-type]

"""The ``Date`` header and the civil calendar."""

from __future__ import annotations

import calendar
import email.utils
import locale
import os
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flare.errors import ValidationError
from flare.runtime import DateCache
from flare.runtime.date_cache import CivilTime, civil_to_unix_seconds, unix_seconds_to_civil

VECTORS = [
    (784111777, b"Sun, 06 Nov 1994 08:49:37 GMT"),
    (0, b"Thu, 01 Jan 1970 00:00:00 GMT"),
    (-1, b"Wed, 31 Dec 1969 23:59:59 GMT"),
    (951782400, b"Tue, 29 Feb 2000 00:00:00 GMT"),
    (4107542400, b"Mon, 01 Mar 2100 00:00:00 GMT"),
    (253402300799, b"Fri, 31 Dec 9999 23:59:59 GMT"),
]


@pytest.mark.parametrize(("second", "text"), VECTORS)
def test_dates_are_rendered_as_http_writes_them(second, text):
    cache = DateCache(lambda: float(second))
    assert cache.current_bytes() == text
    assert cache.current_string() == text.decode()
    assert cache.header_line == b"Date: " + text + b"\r\n"
    assert cache.epoch_second() == second
    assert len(cache.current_bytes()) == 29


def test_the_date_changes_only_by_refresh_and_with_the_second():
    clock = [100.0]
    cache = DateCache(lambda: clock[0])
    kept = cache.current_bytes()
    clock[0] = 100.999
    cache.refresh()
    assert cache.current_bytes() is kept
    clock[0] = 101.0
    assert cache.current_bytes() is kept
    cache.refresh()
    assert cache.current_bytes() == b"Thu, 01 Jan 1970 00:01:41 GMT"
    assert cache.header_line == b"Date: Thu, 01 Jan 1970 00:01:41 GMT\r\n"
    assert kept == b"Thu, 01 Jan 1970 00:01:40 GMT"


def test_a_clock_set_back_is_followed():
    clock = [101.5]
    cache = DateCache(lambda: clock[0])
    clock[0] = 99.5
    cache.refresh()
    assert cache.epoch_second() == 99
    clock[0] = -0.5  # in the last second before the epoch, not in the first after it
    cache.refresh()
    assert cache.current_bytes() == b"Wed, 31 Dec 1969 23:59:59 GMT"


def test_the_system_clock_is_the_default():
    text = DateCache().current_string()
    assert abs(email.utils.parsedate_to_datetime(text).timestamp() - time.time()) < 60


def test_names_do_not_follow_the_locale():
    before = locale.setlocale(locale.LC_TIME)
    try:
        for name in ("de_DE.UTF-8", "fr_FR.UTF-8", "ja_JP.UTF-8", os.environ.get("LANG", "")):
            try:
                locale.setlocale(locale.LC_TIME, name)
            except locale.Error:
                continue
            assert DateCache(lambda: 784111777.0).current_bytes() == VECTORS[0][1]
    finally:
        locale.setlocale(locale.LC_TIME, before)


def test_the_strings_come_from_tables_not_from_strftime(monkeypatch):
    def refuse(*_):
        raise AssertionError("strftime follows the locale")

    monkeypatch.setattr("time.strftime", refuse)
    assert DateCache(lambda: 0.0).current_bytes() == VECTORS[1][1]


@given(st.integers(-62135596800, 253402300799))
@example(-62135596800)
@example(253402300799)
def test_the_calendar_agrees_with_the_standard_library(second):
    civil = unix_seconds_to_civil(second)
    assert calendar.timegm((*civil[:6], 0, 0, 0)) == second
    assert civil_to_unix_seconds(*civil[:6]) == second
    assert civil.day_of_week == (calendar.weekday(*civil[:3]) + 1) % 7


@given(st.integers(-(10**14), 10**14))
def test_the_calendar_goes_both_ways_in_any_year(second):
    assert civil_to_unix_seconds(*unix_seconds_to_civil(second)[:6]) == second


def test_the_last_second_before_the_epoch():
    assert unix_seconds_to_civil(-1) == CivilTime(1969, 12, 31, 23, 59, 59, 3)
    assert civil_to_unix_seconds(1969, 12, 31, 23, 59, 59) == -1


def test_a_leap_second_is_the_next_minutes_first():
    assert civil_to_unix_seconds(2016, 12, 31, 23, 59, 60) == civil_to_unix_seconds(
        2017, 1, 1, 0, 0, 0
    )


@pytest.mark.parametrize(
    ("moment", "field"),
    [
        ((2024, 0, 1, 0, 0, 0), "month"),
        ((2024, 13, 1, 0, 0, 0), "month"),
        ((2024, 1, 0, 0, 0, 0), "day"),
        ((2024, 4, 31, 0, 0, 0), "day"),
        ((2023, 2, 29, 0, 0, 0), "day"),
        ((2100, 2, 29, 0, 0, 0), "day"),
        ((2024, 1, 1, 24, 0, 0), "hour"),
        ((2024, 1, 1, 0, 60, 0), "minute"),
        ((2024, 1, 1, 0, 0, 61), "second"),
        ((2024, 1, 1, 0, 0, -1), "second"),
    ],
)
def test_what_no_calendar_shows_is_refused(moment, field):
    with pytest.raises(ValidationError) as caught:
        civil_to_unix_seconds(*moment)
    assert caught.value.field == field

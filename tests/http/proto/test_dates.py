"""Dates in HTTP fields, as lenient as cookies need."""

from __future__ import annotations

import calendar
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flare.http.proto.dates import parse_http_date

EXAMPLE = 784111777


@pytest.mark.parametrize(
    "text",
    [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "Sun, 6-NOV-1994 8:49:37",
        "1994 november 06 08:49:37 +0500",
        "06 Nov 94 08:49:37junk",
    ],
)
def test_every_form_is_read(text: str) -> None:
    assert parse_http_date(text) == EXAMPLE


@pytest.mark.parametrize(
    "text",
    [
        "", "never", "Sun, 06 Nov 1994", "06 Nov 08:49:37", "Nov 1994 08:49:37",
        "Sun, 00 Nov 1994 08:49:37 GMT", "Sun, 31 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1600 08:49:37 GMT", "Sun, 06 Nov 1994 24:49:37 GMT",
        "Sun, 06 Nov 1994 08:60:37 GMT", "Sun, 06 Nov 1994 08:49:61 GMT",
        "29 Feb 2023 00:00:00", "29 Feb 2100 00:00:00", "Sun, 06 Foo 1994 08:49:37 GMT",
        "٠٦ Nov 1994 08:49:37", "x" * 200 + "Sun, 06 Nov 1994 08:49:37 GMT",
    ],
)  # fmt: skip
def test_what_is_no_date_is_none(text: str) -> None:
    assert parse_http_date(text) is None


@pytest.mark.parametrize(
    ("digits", "year"), [("69", 2069), ("70", 1970), ("99", 1999), ("00", 2000)]
)
def test_years_of_two_digits(digits: str, year: int) -> None:
    expected = calendar.timegm((year, 3, 1, 0, 0, 0))
    assert parse_http_date(f"01 Mar {digits} 00:00:00") == expected


@given(st.integers(min_value=-(10**10), max_value=2 * 10**11))
def test_it_undoes_what_the_standard_library_writes(seconds: int) -> None:
    assert parse_http_date(formatdate(seconds, usegmt=True)) == seconds


@given(st.text(max_size=200))
def test_any_text_is_a_date_or_none(text: str) -> None:
    assert parse_http_date(text) is None or isinstance(parse_http_date(text), int)

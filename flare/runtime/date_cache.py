"""The ``Date`` header, rendered once a second (RFC 9110 sections 5.6.7 and 6.6.1).

Also the civil calendar both ways, proleptic Gregorian, for whoever reads or writes such dates.
Names of days and months come from tables here: ``strftime`` would follow the locale.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, NamedTuple

from flare.errors import ValidationError

__all__ = ["CivilTime", "DateCache", "civil_to_unix_seconds", "unix_seconds_to_civil"]

DAY_NAMES: Final = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")
MONTH_NAMES: Final = (  # from 1
    *("", "Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)

# The Gregorian calendar repeats every 400 years. Years begin in March here, so that the leap
# day is the last of its year; days are counted from 1 March of the year 0.
_DAYS_IN_400_YEARS = 146097
_EPOCH_DAY = 719468
_SECONDS_A_DAY = 86400


class CivilTime(NamedTuple):
    """A moment in UTC. ``day_of_week`` counts from 0, Sunday."""

    year: int
    month: int
    day: int
    hour: int
    minute: int
    second: int
    day_of_week: int


def _days_in_month(year: int, month: int) -> int:
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month in (4, 6, 9, 11) else 31


def civil_to_unix_seconds(y: int, m: int, d: int, hh: int, mm: int, ss: int) -> int:
    """Seconds since 1970 of a moment in UTC, negative before.

    A second of 60, a leap second, is the first of the next minute, as POSIX counts. Raises
    ``ValidationError`` for what no calendar or clock shows.
    """
    if not 1 <= m <= 12:
        raise ValidationError("month", f"must be in 1..12, got {m}")
    for name, value, low, high in (
        ("day", d, 1, _days_in_month(y, m)),
        ("hour", hh, 0, 23),
        ("minute", mm, 0, 59),
        ("second", ss, 0, 60),
    ):
        if not low <= value <= high:
            raise ValidationError(name, f"must be in {low}..{high}, got {value}")
    year = y - (m <= 2)
    month = (m + 9) % 12
    days = 365 * year + year // 4 - year // 100 + year // 400 + (153 * month + 2) // 5 + d - 1
    return (days - _EPOCH_DAY) * _SECONDS_A_DAY + hh * 3600 + mm * 60 + ss


def unix_seconds_to_civil(secs: int) -> CivilTime:
    """The moment in UTC *secs* seconds after 1970, or before it where negative."""
    days, rest = divmod(secs, _SECONDS_A_DAY)
    era, day = divmod(days + _EPOCH_DAY, _DAYS_IN_400_YEARS)
    # The year of the era, from its day: take out the leap days that passed before it.
    year = (day - day // 1460 + day // 36524 - day // (_DAYS_IN_400_YEARS - 1)) // 365
    day -= 365 * year + year // 4 - year // 100
    month = (5 * day + 2) // 153
    day -= (153 * month + 2) // 5
    return CivilTime(
        year=era * 400 + year + (month >= 10),
        month=month + 3 if month < 10 else month - 9,
        day=day + 1,
        hour=rest // 3600,
        minute=rest // 60 % 60,
        second=rest % 60,
        day_of_week=(days + 4) % 7,
    )


class DateCache:
    """The current date as HTTP writes it, kept until the second changes.

    ``refresh`` looks at the clock; everything else returns what it last rendered, so a loop
    that refreshes once a turn pays for one clock reading however many responses it sends. One
    cache a worker; not thread-safe.
    """

    __slots__ = ("_bytes", "_clock", "_second", "header_line")

    header_line: bytes
    """``b"Date: Sun, 06 Nov 1994 08:49:37 GMT\\r\\n"``, ready to be sent."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._render(int(clock() // 1))

    def refresh(self) -> None:
        """Render the date anew if the clock shows another second, later or earlier."""
        second = int(self._clock() // 1)
        if second != self._second:
            self._render(second)

    def current_bytes(self) -> bytes:
        """The date, 29 bytes."""
        return self._bytes

    def current_string(self) -> str:
        """The date as text."""
        return self._bytes.decode("ascii")

    def epoch_second(self) -> int:
        """The second the date was rendered for."""
        return self._second

    def _render(self, second: int) -> None:
        t = unix_seconds_to_civil(second)
        self._second = second
        self._bytes = (
            f"{DAY_NAMES[t.day_of_week]}, {t.day:02} {MONTH_NAMES[t.month]} {t.year:04} "
            f"{t.hour:02}:{t.minute:02}:{t.second:02} GMT"
        ).encode("ascii")
        self.header_line = b"Date: " + self._bytes + b"\r\n"

    def __repr__(self) -> str:
        return f"DateCache({self.current_string()!r})"

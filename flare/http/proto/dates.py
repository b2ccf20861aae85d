"""HTTP dates as peers write them, read as leniently as cookies need (RFC 6265 section 5.1.1).

The algorithm for cookies reads every form of RFC 9110 section 5.6.7 too, so there is one reader.
"""

from __future__ import annotations

import re

__all__ = ["parse_http_date"]

_split = re.compile(r"[\x09\x20-\x2f\x3b-\x40\x5b-\x60\x7b-\x7e]+").split
_match_time = re.compile(
    r"([0-9]{1,2}):([0-9]{1,2}):([0-9]{1,2})(?:[^0-9].*)?", re.DOTALL
).fullmatch
_match_day = re.compile(r"([0-9]{1,2})(?:[^0-9].*)?", re.DOTALL).fullmatch
_match_year = re.compile(r"([0-9]{2,4})(?:[^0-9].*)?", re.DOTALL).fullmatch
_MONTHS = {
    name: number
    for number, name in enumerate(
        "jan feb mar apr may jun jul aug sep oct nov dec".split(), start=1
    )
}
_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
# A real date has thirty characters; no reader of one may be made to work for more.
_MAX_CHARS = 128


def parse_http_date(text: str) -> int | None:
    """The seconds since 1970 (UTC) that *text* means, ``None`` where it is no date.

    Negative before 1970; nothing before 1601. Words in any order, as in ``Sun, 06 Nov 1994
    08:49:37 GMT``; a year of two digits is 1970 to 2069. The zone is not looked at: it is GMT.

    >>> parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT")
    784111777
    """
    if len(text) > _MAX_CHARS:
        return None
    time: tuple[int, int, int] | None = None
    day = month = year = -1
    for token in _split(text):
        if time is None and (found := _match_time(token)):
            time = int(found[1]), int(found[2]), int(found[3])
        elif day < 0 and (found := _match_day(token)):
            day = int(found[1])
        elif month < 0 and token[:3].lower() in _MONTHS:
            month = _MONTHS[token[:3].lower()]
        elif year < 0 and (found := _match_year(token)):
            year = int(found[1])
    if time is None or min(day, month, year) < 0:
        return None
    if year <= 99:
        year += 1900 if year >= 70 else 2000
    hour, minute, second = time
    # A leap second is read as the second after it.
    if year < 1601 or not 1 <= day <= _DAYS[month - 1] or hour > 23 or minute > 59 or second > 60:
        return None
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if month == 2 and day == 29 and not leap:
        return None
    return ((_days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second


def _days(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01 of a date of the Gregorian calendar."""
    # Years that begin in March have their leap day at the end.
    year -= month <= 2
    shifted = (month + 9) % 12
    within = (153 * shifted + 2) // 5 + day - 1
    return year * 365 + year // 4 - year // 100 + year // 400 + within - 719468

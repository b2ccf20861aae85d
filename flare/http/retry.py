"""When a failed exchange is tried again, and after how long: a value, and no I/O."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from flare.errors import ValidationError
from flare.http.proto.method import IDEMPOTENT_METHODS

__all__ = ["RETRY_STATUSES", "RetryPolicy", "retry_after_ms"]

RETRY_STATUSES = frozenset((429, *range(500, 1000))) - {501, 505}
"""What may be better next time: 429 and every 5xx but two that say "never"; a status past 599 is as
good as a 500 (RFC 9110 section 15)."""

# The statuses whose Retry-After says when to come again (RFC 9110 section 10.2.3, RFC 6585).
_WAITING_STATUSES = frozenset((413, 429, 503))


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Up to ``max_attempts`` in all, the first one included; 1 or less is one. Raises
    ``ValidationError`` for what is no number.

    Retried are failures to connect, failures behind that (a reset, a silence, an answer cut
    short), and the ``statuses``; ``connect``, ``read`` and ``status`` bound how often for each
    kind, ``None``: as often as ``max_attempts`` allows, 0: never. Only idempotent methods are,
    unless ``retry_only_idempotent`` is false: then a POST may take effect twice.

    Before attempt *n* comes a random wait of 0 to ``initial_backoff_ms`` times
    ``backoff_multiplier`` to the power of *n* - 2 ("full jitter"), at most ``max_backoff_ms``. With
    the default, 0, there is none. A ``Retry-After`` of the server takes its place, cut to
    ``max_backoff_ms`` too; ``respect_retry_after`` false ignores it. ``max_backoff_ms`` of 0 is no
    cap but the deadline of the call.
    """

    max_attempts: int = 3
    retry_only_idempotent: bool = True
    initial_backoff_ms: int = 0
    backoff_multiplier: int = 2
    max_backoff_ms: int = 2000
    connect: int | None = None
    read: int | None = None
    status: int | None = None
    statuses: frozenset[int] = field(default=RETRY_STATUSES, repr=False)
    respect_retry_after: bool = True

    def __post_init__(self) -> None:
        _check_number("max_attempts", self.max_attempts, int)
        for name in ("initial_backoff_ms", "backoff_multiplier", "max_backoff_ms"):
            _check_number(name, getattr(self, name), (int, float))
        if not self.backoff_multiplier > 0:
            raise ValidationError(
                "backoff_multiplier", f"must be > 0, got {self.backoff_multiplier}"
            )
        for name in ("connect", "read", "status"):
            count = getattr(self, name)
            if count is not None:
                _check_number(name, count, int)
                if count < 0:
                    raise ValidationError(name, f"must be >= 0 or None, got {count}")
        given: Any = self.statuses
        statuses = frozenset(given) if isinstance(given, Iterable) else frozenset((None,))
        if not all(isinstance(each, int) for each in statuses):
            raise ValidationError("statuses", f"must be a set of numbers, got {given!r}")
        object.__setattr__(self, "statuses", statuses)

    def allows(self, method: str) -> bool:
        """Whether a request of *method* may be sent again at all."""
        return not self.retry_only_idempotent or method in IDEMPOTENT_METHODS

    def backoff_ms(self, attempt: int) -> float:
        """A random wait before *attempt*, the second being 2."""
        top = self.max_backoff_ms_before(attempt)
        if top <= 0:
            return 0.0
        from random import uniform  # which takes longer to import than the whole client

        return uniform(0, top)

    def max_backoff_ms_before(self, attempt: int) -> float:
        """The longest ``backoff_ms`` before *attempt*."""
        if self.initial_backoff_ms <= 0:
            return 0.0
        # A float past its range is an OverflowError; that far the cap has long been reached.
        power = min(max(0, attempt - 2), 64)
        top = float(self.initial_backoff_ms) * float(self.backoff_multiplier) ** power
        return min(top, self.max_backoff_ms) if self.max_backoff_ms > 0 else top

    def wait_ms(self, attempt: int, status: int, retry_after: str, now: float) -> float:
        """The wait before *attempt* where the last one was answered with *status*.

        *retry_after* is the field's value, ``""`` for none; *now* is seconds since 1970.
        """
        if self.respect_retry_after and retry_after and status in _WAITING_STATUSES:
            asked = retry_after_ms(retry_after, now)
            if asked is not None:
                return min(asked, self.max_backoff_ms) if self.max_backoff_ms > 0 else asked
        return self.backoff_ms(attempt)


def _check_number(name: str, value: object, kind: type | tuple[type, ...]) -> None:
    if not isinstance(value, kind) or isinstance(value, bool) or value != value:
        what = "an int" if kind is int else "a number"
        raise ValidationError(name, f"must be {what}, got {value!r}")


def retry_after_ms(value: str, now: float) -> float | None:
    """What a ``Retry-After`` field means (RFC 9110 section 10.2.3): seconds, or a date; 0 for one
    that has passed, ``None`` where it is neither."""
    if value.isascii() and value.isdigit():
        return int(value[:12]) * 1000.0
    from flare.http.proto.dates import parse_http_date

    date = parse_http_date(value)
    return None if date is None else max(0.0, (date - now) * 1000)

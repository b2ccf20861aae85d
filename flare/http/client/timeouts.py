"""The time a call may take: its limits, its one deadline, and the errors that name what ran out.

``connect`` bounds look-up and dialling together, ``read`` the silence between two arrivals,
``write`` a write that makes no progress, ``pool`` the wait for a free connection; ``total`` is one
deadline for all of these. Milliseconds; 0 is no limit.
"""

from __future__ import annotations

import math
from time import monotonic
from typing import Any, NamedTuple

from flare.errors import ConnectionTimeout, Timeout, ValidationError
from flare.utils.limits import MAX_TIMEOUT_MS

__all__ = ["CallTimeout", "Clock", "ConnectTimeout", "Timeouts", "slack_ms"]


def slack_ms(ms: int) -> int:
    """By how much a wait of *ms* may miss its end: 50 ms or 2 %, whichever is more.

    A socket's own timeout is set by a system call. It is left as it is while it is that close to
    right, which makes it none for most requests of a kept connection.
    """
    return max(50, ms // 50)


class CallTimeout(Timeout):
    """A call took too long. ``phase`` says what ran out: ``"read"``, ``"write"``, ``"pool"`` or
    ``"total"``; ``ms`` is that limit, ``peer`` the ``host:port`` it was about."""

    def __init__(self, phase: str, ms: int, peer: str, doing: str = "") -> None:
        super().__init__(doing or phase, ms)
        self.phase = phase
        self.peer = peer

    def __str__(self) -> str:
        what = _TEXT[self.phase].format(doing=self.op)
        return f"Timeout ({self.phase}): {what} {self.peer} in {self.ms} ms"

    def _arguments(self) -> tuple[Any, ...]:
        return self.phase, self.ms, self.peer, self.op


_TEXT = {
    "read": "nothing came from",
    "write": "nothing could be sent to",
    "pool": "no connection became free for",
    "total": "not done ({doing}) with",
}


class ConnectTimeout(ConnectionTimeout):
    """No connection in time, the look-up of the name included. ``phase`` is ``"connect"``."""

    phase = "connect"

    def __init__(self, peer: str, timeout_ms: int) -> None:
        super().__init__(peer, timeout_ms=timeout_ms)
        self.peer = peer

    def __str__(self) -> str:
        return f"ConnectionTimeout (connect): no connection to {self.peer} in {self.timeout_ms} ms"

    def _arguments(self) -> tuple[Any, ...]:
        return self.peer, self.timeout_ms


class Timeouts(NamedTuple):
    """The limits of a call in milliseconds, 0 for none."""

    total: int
    connect: int
    read: int
    write: int
    pool: int

    @classmethod
    def of(
        cls,
        timeout_ms: int,
        connect_timeout_ms: int | None = None,
        read_timeout_ms: int | None = None,
        write_timeout_ms: int | None = None,
        pool_timeout_ms: int | None = None,
    ) -> Timeouts:
        """Limits that are *timeout_ms* where not given. Raises ``ValidationError``."""
        total = _checked("timeout_ms", timeout_ms)
        return cls(
            total,
            _checked("connect_timeout_ms", connect_timeout_ms, total),
            _checked("read_timeout_ms", read_timeout_ms, total),
            _checked("write_timeout_ms", write_timeout_ms, total),
            _checked("pool_timeout_ms", pool_timeout_ms, total),
        )

    def for_call(
        self, timeout: float | tuple[float | None, float | None] | None, timeout_ms: int | None
    ) -> Timeouts:
        """The limits of a call that asks for other ones.

        A number of seconds, or *timeout_ms*, replaces every limit. A pair of seconds replaces
        those of connect and read, ``None`` in it leaves one; the total is raised to their sum if
        it is less.
        """
        if timeout is None:
            return self if timeout_ms is None else Timeouts.of(timeout_ms)
        if timeout_ms is not None:
            raise ValidationError("timeout", "give timeout (seconds) or timeout_ms, not both")
        if not isinstance(timeout, tuple):
            return Timeouts.of(_to_ms(timeout))
        if len(timeout) != 2:
            raise ValidationError("timeout", "a tuple must be (connect, read), in seconds")
        connect = self.connect if timeout[0] is None else _to_ms(timeout[0])
        read = self.read if timeout[1] is None else _to_ms(timeout[1])
        total = max(self.total, connect + read) if self.total and connect and read else 0
        return Timeouts(total, connect, read, self.write, self.pool)


def _checked(name: str, ms: int | None, default: int = 0) -> int:
    if ms is None:
        return default
    if not isinstance(ms, int) or isinstance(ms, bool):
        raise ValidationError(name, f"must be whole milliseconds, got {ms!r}")
    if not 0 <= ms <= MAX_TIMEOUT_MS:
        raise ValidationError(name, f"must be 0 (no limit) to {MAX_TIMEOUT_MS}, got {ms}")
    return ms


def _to_ms(seconds: float) -> int:
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise ValidationError("timeout", f"must be seconds, or (connect, read), got {seconds!r}")
    if not 0 <= seconds <= MAX_TIMEOUT_MS / 1000:
        raise ValidationError("timeout", f"must be 0 (no limit) or more seconds, got {seconds!r}")
    return math.ceil(seconds * 1000)


class Clock:
    """The deadline of one call. For the thread that makes the call."""

    __slots__ = ("end", "limits", "started")

    def __init__(self, limits: Timeouts) -> None:
        self.limits = limits
        self.started = monotonic()
        self.end = self.started + limits.total / 1000 if limits.total else None

    def lift_total(self) -> None:
        """Let only the limits of single waits hold from here on."""
        self.end = None

    def wait_ms(self, limit: int, doing: str, peer: str) -> int:
        """How long the next wait may last: *limit* or what the deadline leaves, at least 1; 0 for
        ever. Raises ``CallTimeout`` where nothing is left."""
        if self.end is None:
            return limit
        left = int((self.end - monotonic()) * 1000)
        if left < 0:
            raise CallTimeout("total", self.limits.total, peer, doing)
        return limit if 0 < limit <= left else left + 1

    def wait_error(self, phase: str, limit: int, waited: int, peer: str, doing: str) -> CallTimeout:
        """The error of a wait for *waited* ms that was in vain: *phase* where that was about all
        of its own *limit*, else the deadline has cut it short."""
        if limit and limit - waited <= slack_ms(limit):
            return CallTimeout(phase, limit, peer, doing)
        return CallTimeout("total", self.limits.total, peer, doing)

    def elapsed_ms(self) -> float:
        """Milliseconds since the call began."""
        return (monotonic() - self.started) * 1000

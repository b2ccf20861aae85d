"""What a server says after it has been told to stop."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ShutdownReport"]


@dataclass(slots=True, frozen=True)
class ShutdownReport:
    """The connections of one worker at the end of a drain."""

    drained: int = 0
    """Closed in peace: they were idle, or finished what they were at."""
    timed_out: int = 0
    """Cut off, because they were still busy at the deadline."""
    in_flight_at_deadline: int = 0
    """Busy at the deadline."""
    crashed: int = 0
    """1 where the worker died of an error instead of draining."""

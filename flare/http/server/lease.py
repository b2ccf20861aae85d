"""The lease: whose the worker is while a handler runs on its own thread.

The thread that leads a worker enters the lease before it calls a handler and leaves it after.
Whoever finds the handler too slow seizes it instead and makes another thread the leader. Both
sides remove the same entry, so exactly one of them gets it, on any build of Python: that a
``dict.pop`` of one key succeeds once is all this relies on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from flare.http.server.dispatch import Fate
    from flare.http.server.socket_connection import SocketConnection

__all__ = ["IN_LANE", "JOINED_LANE", "NO_LANE", "Lease", "Overtaken", "Task"]

# Whether a task counts among those that compute, see ``ComputeLane``.
NO_LANE = 0
IN_LANE = 1  # it waits for its turn, or has it
JOINED_LANE = 2  # it was running already


class Task(Protocol):
    """A piece of user code to call: a handler with its request, or a body's next chunk."""

    connection: SocketConnection
    fate: Fate
    abandoned: bool
    """Set by the leader once nobody waits for the result any more."""
    lane: int
    """``NO_LANE``, ``IN_LANE`` or ``JOINED_LANE``."""

    def call(self) -> object:
        """Call it, on whichever thread; every ``Exception`` has become a result."""


class Overtaken(BaseException):
    """Unwinds a thread that has lost its lease. Nothing on the way may touch the worker.

    Not an ``Exception``: what guards one connection's errors must let it pass.
    """


class Lease:
    """At most one task at a time, under a serial that is never used twice."""

    __slots__ = ("held", "serial")

    def __init__(self) -> None:
        self.held: dict[int, Task] = {}
        """The task under its serial; the lanes enter and leave by it, to save the two calls."""
        self.serial = 0
        """The serial entered last; the leader writes it, anyone may read it."""

    def __len__(self) -> int:
        """How many tasks run under it: one, or none."""
        return len(self.held)

    def enter(self, task: Task) -> int:
        """The leader is about to call *task*. Returns the serial to leave with."""
        self.serial = serial = self.serial + 1
        self.held[serial] = task
        return serial

    def leave(self, serial: int) -> bool:
        """The call is over. False where the lease was seized: the caller leads no more."""
        return self.held.pop(serial, None) is not None

    def seize(self, serial: int) -> Task | None:
        """Take the lease away: the task that runs under it, or ``None`` where it is over."""
        return self.held.pop(serial, None)

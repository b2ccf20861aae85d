"""What a server has done so far, as plain numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableSequence, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

__all__ = ["ERROR_STATUSES", "Counts", "ServerStats", "Tally"]

ERROR_STATUSES: Final = range(400, 600)
"""The statuses that are counted one by one."""


class Tally:
    """What one worker counts as it goes. The leader writes it, anyone may read it."""

    __slots__ = ("accepted", "bytes_in", "bytes_out", "errors")

    def __init__(self) -> None:
        self.accepted = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.errors: MutableSequence[int] = [0] * len(ERROR_STATUSES)
        """A number for each of ``ERROR_STATUSES``."""

    def count_error(self, status: int) -> None:
        """One response of *status*, where that is an error."""
        if status in ERROR_STATUSES:
            self.errors[status - ERROR_STATUSES.start] += 1


class Counts(NamedTuple):
    """The numbers of one worker. The first three are of this moment, the others only grow."""

    connections: int = 0
    in_flight: int = 0
    pool_depth: int = 0
    accepted: int = 0
    requests: int = 0
    takeovers: int = 0
    bytes_in: int = 0
    bytes_out: int = 0

    def of_the_past(self) -> Counts:
        """What is left to count of a worker that is no more."""
        return Counts(0, 0, 0, *self[3:])

    def plus(self, other: Counts) -> Counts:
        """Both together."""
        return Counts(*(one + two for one, two in zip(self, other, strict=True)))


@dataclass(frozen=True, slots=True)
class ServerStats:
    """A snapshot of an ``HttpServer``: the sums over its workers, those that were replaced
    included. See ``HttpServer.stats``."""

    connections: int = 0
    """Connections open now."""
    accepted: int = 0
    """Connections accepted so far."""
    requests: int = 0
    """Requests that were complete, and given to the handler or answered by ``serve_static``."""
    in_flight: int = 0
    """Handlers that run now, and requests that wait for a thread to run theirs."""
    takeovers: int = 0
    """Calls of handlers that took too long for the loop, so that another thread took it over."""
    pool_depth: int = 0
    """Requests, of those in flight, that wait for a thread."""
    bytes_in: int = 0
    """Bytes received from clients."""
    bytes_out: int = 0
    """Bytes sent to clients, or rather to the kernel."""
    errors: Mapping[int, int] = field(default_factory=dict)
    """Responses with a status of 400 and above: the number of each status that came at all.
    Refused requests are among them, what ``serve_static`` serves is not."""

    @classmethod
    def of(cls, counts: Iterable[Counts], errors: Iterable[Sequence[int]]) -> ServerStats:
        """The sum of *counts*, and of *errors*, each a number for each of ``ERROR_STATUSES``."""
        total = Counts()
        for some in counts:
            total = total.plus(some)
        sums = [sum(numbers) for numbers in zip(*errors, strict=True)]
        return cls(
            **total._asdict(),
            errors={
                status: number
                for status, number in zip(ERROR_STATUSES, sums, strict=False)
                if number
            },
        )

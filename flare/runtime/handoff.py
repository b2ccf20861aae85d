"""Passing freshly accepted connections from a busy worker to an idle one.

For workers that are threads of one process, since between processes a descriptor's number means
nothing; with process workers the policy has no effect. Only new connections move. Whoever takes a
descriptor out of a queue owns it, and after a push the receiver's reactor needs a ``wakeup``, or
the connection waits for its next event.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from dataclasses import dataclass

from flare.errors import ValidationError

__all__ = ["HandoffPolicy", "HandoffQueue", "WorkerHandoffPool"]


@dataclass(slots=True, frozen=True)
class HandoffPolicy:
    """Whether connections move, how many may wait at a worker, what difference moves one."""

    enabled: bool = False
    capacity: int = 64
    steal_threshold: int = 4

    @classmethod
    def from_env(cls, default: HandoffPolicy | None = None) -> HandoffPolicy:
        """The policy ``FLARE_SOAK_WORKERS`` asks for: ``on``, ``1`` or ``true`` enable hand-off
        at a difference of 1; anything else is *default*."""
        chosen = cls() if default is None else default
        if os.environ.get("FLARE_SOAK_WORKERS") in ("on", "1", "true"):
            return cls(True, chosen.capacity, 1)
        return chosen


class HandoffQueue:
    """A bounded queue of descriptors, first in, first out. All methods are thread-safe.

    One with a capacity of 0 refuses everything. Nothing ever blocks.
    """

    __slots__ = ("_items", "_lock", "capacity", "pops", "pushes", "refused")

    def __init__(self, capacity: int = 0) -> None:
        if capacity < 0:
            raise ValidationError("capacity", f"must not be negative, got {capacity}")
        self.capacity = capacity
        self.pushes = 0
        self.pops = 0
        self.refused = 0
        self._items: deque[int] = deque()
        self._lock = threading.Lock()  # guards the queue and the three counters

    def push(self, fd: int) -> bool:
        """Add *fd*; false where the queue is full, and *fd* stays the caller's."""
        with self._lock:
            if len(self._items) >= self.capacity:
                self.refused += 1
                return False
            self._items.append(fd)
            self.pushes += 1
            return True

    def pop(self) -> int | None:
        """The oldest descriptor, now the caller's; ``None`` where there is none."""
        with self._lock:
            if not self._items:
                return None
            self.pops += 1
            return self._items.popleft()

    def drain(self) -> list[int]:
        """All descriptors, oldest first, now the caller's."""
        with self._lock:
            items = list(self._items)
            self._items.clear()
            self.pops += len(items)
            return items

    def size(self) -> int:
        """How many wait."""
        with self._lock:
            return len(self._items)

    __len__ = size

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"HandoffQueue({self.size()}/{self.capacity})"


class WorkerHandoffPool:
    """One queue for each of *num_workers* workers. All methods are thread-safe."""

    __slots__ = ("_policy", "_queues")

    def __init__(self, policy: HandoffPolicy, num_workers: int) -> None:
        if num_workers < 1:
            raise ValidationError("num_workers", f"must be above 0, got {num_workers}")
        self._policy = policy
        self._queues = [HandoffQueue(policy.capacity) for _ in range(num_workers)]

    def size(self) -> int:
        """How many workers there are."""
        return len(self._queues)

    def try_handoff(self, target: int, fd: int) -> bool:
        """Give *fd* to the worker *target*. False where hand-off is disabled, there is no such
        worker or its queue is full; *fd* then stays the caller's."""
        if not self._policy.enabled or not 0 <= target < len(self._queues):
            return False
        return self._queues[target].push(fd)

    def drain_local(self, worker_id: int) -> list[int]:
        """All descriptors waiting for that worker, now the caller's; none for no such worker."""
        if not 0 <= worker_id < len(self._queues):
            return []
        return self._queues[worker_id].drain()

    def peek_idle_worker(self, exclude: int) -> int:
        """The worker other than *exclude* with the shortest queue, the lowest among equals.

        -1 where hand-off is disabled, there is no other, or the others' queues are all full.
        """
        return self._idlest(exclude)[0]

    def choose_handoff_target(self, local_worker: int, local_load: int) -> int:
        """The worker to give a new connection to, for one with *local_load* of its own; or -1.

        A peer is chosen where its queue is shorter by the policy's ``steal_threshold`` or more.
        """
        peer, load = self._idlest(local_worker)
        return peer if peer >= 0 and local_load - load >= self._policy.steal_threshold else -1

    def _idlest(self, exclude: int) -> tuple[int, int]:
        best, shortest = -1, self._policy.capacity
        if self._policy.enabled:
            for worker, queue in enumerate(self._queues):
                size = queue.size()
                if worker != exclude and size < shortest:
                    best, shortest = worker, size
        return best, shortest

    def __len__(self) -> int:
        return len(self._queues)

    def __repr__(self) -> str:
        return f"WorkerHandoffPool({[queue.size() for queue in self._queues]})"

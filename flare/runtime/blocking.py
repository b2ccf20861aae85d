"""Running a blocking call on another thread, so that a cancelled handler need not wait for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from flare.errors import IoError
from flare.utils.pool import MAX_POOL_SIZE, in_pool_thread, submit, wait_unless

__all__ = ["MAX_POOL_SIZE", "block_in_pool"]

T = TypeVar("T")

_REASONS = {1: "peer closed", 2: "timeout", 3: "shutdown"}


class CancelLike(Protocol):
    """What is asked of a ``flare.http.Cancel`` here."""

    def cancelled(self) -> bool: ...
    def reason(self) -> Any: ...


def block_in_pool(work: Callable[[], T], cancel: CancelLike) -> T:
    """Run *work* on a thread of the pool and return its result, or raise what it raised.

    Waits until the work is done or *cancel* flips, and then raises ``IoError`` with the reason
    in its text (``peer closed``, ``timeout``, ``shutdown``), even where the work ended at the
    same moment. The work itself cannot be stopped: it runs on, and keeps its thread. Where
    *cancel* has flipped before, it does not begin.

    The pool has ``MAX_POOL_SIZE`` threads, shared with the look-up of host names; while all are
    busy this raises ``IoError`` at once. Called by work that runs in the pool, it runs inline.

    The calling thread waits meanwhile: this makes a handler cancellable, not concurrent.
    """
    _check(cancel)
    if in_pool_thread():
        result = work()
    else:
        future = submit(work)
        finished = wait_unless(future, cancel.cancelled)
        _check(cancel)
        # Where it flipped between the two and back again (a cell reset for the next request),
        # there is nobody left to return to either.
        if not finished:
            raise IoError("block_in_pool", 0, "cancelled")
        result = future.result()
    _check(cancel)
    return result


def _check(cancel: CancelLike) -> None:
    if cancel.cancelled():
        reason = _REASONS.get(int(cancel.reason()), "unknown reason")
        raise IoError("block_in_pool", 0, f"cancelled: {reason}")

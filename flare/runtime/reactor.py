"""The event loop's eye: which of many descriptors are ready, and who is calling for attention.

A ``Reactor`` watches descriptors for one thread. Each is known by a token the caller chooses;
use a number that is never used twice (a counter), not the descriptor, whose number the system
gives away again as soon as it is closed. Level-triggered on every system: epoll on Linux,
kqueue on macOS and the BSDs, poll elsewhere.
"""

from __future__ import annotations

import os
import warnings
from types import TracebackType
from typing import NamedTuple, Protocol, Self, overload

from flare.errors import NetworkError, map_oserror
from flare.runtime._pollers import (
    EVENT_ERROR,
    EVENT_HUP,
    EVENT_READABLE,
    EVENT_WRITABLE,
    INTEREST_READ,
    INTEREST_WRITE,
    WAKEUP_TOKEN,
    Poller,
    Waker,
    new_poller,
)

__all__ = [
    "EVENT_ERROR",
    "EVENT_HUP",
    "EVENT_READABLE",
    "EVENT_WRITABLE",
    "INTEREST_READ",
    "INTEREST_WRITE",
    "WAKEUP_TOKEN",
    "Event",
    "HasFileno",
    "Reactor",
    "ReactorError",
]

_EBADF = 9
_LONGEST_MS = 2**31 - 1  # epoll_wait's int: 24 days

# The process this module runs in, kept by a fork hook: asking the system at every poll would
# be a system call.
_process = os.getpid()


def _after_fork() -> None:
    global _process
    _process = os.getpid()


os.register_at_fork(after_in_child=_after_fork)


class HasFileno(Protocol):
    """A socket, a pipe, a stream of ours: anything with a descriptor."""

    def fileno(self) -> int: ...


class ReactorError(NetworkError, ValueError):
    """A call that cannot be meant: a reserved token, a descriptor the reactor does not know."""


class Event(NamedTuple):
    """One ready descriptor: its token, and the sum of the ``EVENT_*`` flags that hold."""

    token: int
    flags: int

    def is_readable(self) -> bool:
        """Something can be read, be it only the end of the stream. Read before you heed a hup."""
        return self.flags & EVENT_READABLE != 0

    def is_writable(self) -> bool:
        """A write would not block."""
        return self.flags & EVENT_WRITABLE != 0

    def is_error(self) -> bool:
        """The descriptor has failed; reading or writing tells how."""
        return self.flags & EVENT_ERROR != 0

    def is_hup(self) -> bool:
        """The peer stopped writing, or is gone. Data sent before may still be there to read."""
        return self.flags & EVENT_HUP != 0

    def is_wakeup(self) -> bool:
        """Not a descriptor: somebody called ``Reactor.wakeup``."""
        return self.token == WAKEUP_TOKEN


class Reactor:
    """Watches descriptors and reports those that are ready.

    One thread uses a reactor at a time; only ``wakeup`` may be called from others. A reactor
    belongs to the process that made it: in a forked child ``poll`` and the calls that change
    what is watched raise ``NetworkError``, since the kernel's set is still the parent's.

    Unregister a descriptor before closing it. ``close``, or leaving the ``with`` block, frees
    the reactor's own descriptors and none of those it watched.
    """

    def __init__(self) -> None:
        self._poller: Poller | None = None  # None once closed
        try:
            waker = Waker()
            self._poller = self._new_poller(waker)
        except OSError as exc:
            raise map_oserror(exc, "reactor") from exc
        self._waker: Waker | None = waker
        self._wake_fd = waker.fd
        self._owner = _process
        self._tokens = self._poller.tokens
        self._exclusive: set[int] = set()

    def _new_poller(self, waker: Waker) -> Poller:
        return new_poller(waker)

    # -- what is watched ----------------------------------------------------------------

    def register(self, fd: int | HasFileno, token: int, interest: int) -> None:
        """Watch *fd* for *interest*, ``INTEREST_READ | INTEREST_WRITE`` or one of them.

        Errors and hang-ups are reported without being asked for. Raises ``ReactorError`` for a
        descriptor already registered, a token that is not in 0..2**64-2 and an empty interest,
        ``NetworkError`` where the system refuses (a closed descriptor, a regular file).
        """
        self._register(fd, token, interest, exclusive=False)

    def register_exclusive(self, fd: int | HasFileno, token: int, interest: int) -> None:
        """Like ``register``, for a listener watched by several reactors: only one is woken.

        Where the system cannot (Linux before 4.5, kqueue), all are woken. Such a descriptor
        cannot be modified; unregister it and register it again.
        """
        number = self._register(fd, token, interest, exclusive=True)
        self._exclusive.add(number)

    def _register(self, fd: int | HasFileno, token: int, interest: int, *, exclusive: bool) -> int:
        poller = self._usable()
        self._check_interest(interest)
        number = self._new_fd(fd, token)
        try:
            poller.add(number, interest, exclusive)
        except OSError as exc:
            raise map_oserror(exc, "register") from exc
        self._tokens[number] = token
        return number

    def modify(self, fd: int | HasFileno, interest: int) -> None:
        """Watch *fd* for another *interest*; its token stays. Ends a one-shot watch too."""
        poller = self._usable()
        self._check_interest(interest)
        number = self._known_fd(fd)
        if number in self._exclusive:
            raise ReactorError(f"fd {number} is registered exclusively and cannot be modified")
        try:
            poller.change(number, interest)
        except OSError as exc:
            raise map_oserror(exc, "modify") from exc

    def unregister(self, fd: int | HasFileno) -> None:
        """Stop watching *fd*. No error where it has been closed already, by its number."""
        poller = self._usable()
        number = self._known_fd(fd)
        del self._tokens[number]
        self._exclusive.discard(number)
        try:
            poller.remove(number)
        except OSError as exc:
            raise map_oserror(exc, "unregister") from exc

    def arm_oneshot_hup(self, fd: int | HasFileno, token: int) -> None:
        """Watch *fd* for the peer's leaving alone, and report that once.

        For a connection whose request is being worked on elsewhere: unread data would be
        reported over and over, and so would a hang-up were it not for the one shot. *fd* may be
        registered or not; ``modify`` goes back to a usual interest.
        """
        poller = self._usable()
        number = self._number(fd)
        known = self.is_registered(number)
        if number in self._exclusive:
            raise ReactorError(f"fd {number} is registered exclusively and cannot be modified")
        if known:
            self._check_token(token)
        else:
            self._new_fd(number, token)
        try:
            poller.arm_oneshot_hup(number, known)
        except OSError as exc:
            raise map_oserror(exc, "arm") from exc
        self._tokens[number] = token

    def registered_count(self) -> int:
        """How many descriptors are watched."""
        return max(0, len(self._tokens) - 1)

    @property
    def unsent(self) -> int:
        """How many sockets were closed with something still to be sent; 0 where the system keeps
        that."""
        return 0

    def stop_accepting(self, listener: HasFileno) -> int:
        """Accept no more connections of *listener* ahead of its ``accept``. How many there are
        that it has not returned yet; 0 with a system that accepts none ahead."""
        return 0

    def is_registered(self, fd: int | HasFileno) -> bool:
        """Whether *fd* is watched."""
        number = self._number(fd)
        return number in self._tokens and number != self._wake_fd

    __len__ = registered_count

    def __bool__(self) -> bool:
        return True

    def __contains__(self, fd: int | HasFileno) -> bool:
        return self.is_registered(fd)

    # -- waiting ------------------------------------------------------------------------

    @overload
    def poll(self, timeout_ms: int, out: list[Event], max_events: int = 64) -> int: ...
    @overload
    def poll(self, timeout_ms: int = -1, *, max_events: int = 64) -> list[Event]: ...
    def poll(
        self, timeout_ms: int = -1, out: list[Event] | None = None, max_events: int = 64
    ) -> int | list[Event]:
        """Wait until something is ready, and return it.

        Blocks until a descriptor is ready, ``wakeup`` is called or *timeout_ms* have passed;
        0 looks and returns, less waits for ever. At most *max_events* come at once, the others
        with the next call; with 0 or less it returns nothing at once.

        With *out*, that list is emptied and filled, and the count returned. A wake-up is an
        event like others, with ``WAKEUP_TOKEN``; several calls may have become one. Signals do
        not end the wait, except by an exception out of their handler. Raises ``NetworkError``
        after ``close`` and in a forked child.
        """
        batch: list[tuple[int, int]] = []
        if max_events > 0:
            batch = self._poll_raw(min(timeout_ms, _LONGEST_MS), max_events)
        if out is None:
            return list(map(Event._make, batch))
        out[:] = map(Event._make, batch)
        return len(out)

    def _poll_raw(self, timeout_ms: int, max_events: int = 256) -> list[tuple[int, int]]:
        """``poll`` for the server's loop: plain ``(token, flags)`` pairs in a new list.

        *max_events* must be above 0 and *timeout_ms* below 2**31.
        """
        poller = self._poller
        if poller is None or self._owner != _process:
            poller = self._usable()
        try:
            return poller.wait(timeout_ms, max_events)
        except OSError as exc:
            raise map_oserror(exc, "poll") from exc
        except ValueError:  # closed by another thread meanwhile
            self._usable()
            raise

    def wakeup(self) -> None:
        """End the wait of ``poll``, now or the next one. Any thread, any signal handler, any time.

        Never raises and never blocks. After ``close``, and in a forked child, nothing happens.
        """
        # Held in a local: a close meanwhile leaves the descriptor open until this returns.
        waker = self._waker
        if waker is not None and self._owner == _process:
            waker.wake()

    # -- the end ------------------------------------------------------------------------

    def close(self) -> None:
        """Free the reactor. A ``poll`` in another thread ends. Idempotent."""
        poller = self._poller
        if poller is None:
            return
        self.wakeup()
        self._poller = self._waker = None
        poller.close()
        self._tokens = {}
        self._exclusive = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if self._poller is not None:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
            self.close()

    def __repr__(self) -> str:
        if self._poller is None:
            return "Reactor(closed)"
        return f"Reactor({self.registered_count()} registered)"

    # -- checks -------------------------------------------------------------------------

    def _usable(self) -> Poller:
        if self._poller is None:
            raise NetworkError("reactor is closed", _EBADF)
        if self._owner != _process:
            raise NetworkError("reactor belongs to the parent process; make one in the child")
        return self._poller

    @staticmethod
    def _check_interest(interest: int) -> None:
        if not 1 <= interest <= INTEREST_READ | INTEREST_WRITE:
            raise ReactorError(f"interest must be READ, WRITE or both, got {interest}")

    @staticmethod
    def _check_token(token: int) -> None:
        if not 0 <= token < WAKEUP_TOKEN:
            raise ReactorError(f"token must be in 0..2**64-2, got {token}")

    @staticmethod
    def _number(fd: int | HasFileno) -> int:
        return fd if isinstance(fd, int) else fd.fileno()

    def _new_fd(self, fd: int | HasFileno, token: int) -> int:
        self._check_token(token)
        number = self._number(fd)
        if number < 0:
            raise NetworkError("cannot register a closed descriptor", _EBADF)
        if number in self._tokens:
            raise ReactorError(f"fd {number} is already registered")
        return number

    def _known_fd(self, fd: int | HasFileno) -> int:
        number = self._number(fd)
        if number not in self._tokens or number == self._wake_fd:
            raise ReactorError(f"fd {number} is not registered")
        return number

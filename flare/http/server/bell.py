"""What a thread that only supervises waits for: rings, signals, and descriptors.

A lock would not do. A signal that comes just before the wait, or that the kernel hands to another
thread, would leave the wait as it is, and its handler would run only after it. The descriptor
given to ``signal.set_wakeup_fd`` is written to in either case.
"""

from __future__ import annotations

import os
import select

from flare.errors import map_oserror

__all__ = ["Bell"]

_LONGEST_MS = 2**31 - 1  # poll(2)'s int


class Bell:
    """Any thread, and any signal handler, may ``ring`` it; one thread waits."""

    def __init__(self) -> None:
        try:
            self._read_fd, self.write_fd = os.pipe()
        except OSError as error:
            raise map_oserror(error, "pipe") from error
        os.set_blocking(self._read_fd, False)
        os.set_blocking(self.write_fd, False)
        self._poll = select.poll()
        self.watch(self._read_fd)

    def ring(self) -> None:
        """End the wait, now or the next one. Never blocks."""
        try:
            os.write(self.write_fd, b"\0")
        except BlockingIOError:
            pass  # it is full of rings

    def watch(self, fd: int) -> None:
        """Have the wait end while *fd* is readable, too."""
        self._poll.register(fd, select.POLLIN)

    def unwatch(self, fd: int) -> None:
        """Undo ``watch``; before *fd* is closed."""
        self._poll.unregister(fd)

    def wait(self, seconds: float | None) -> None:
        """Wait for a ring or a descriptor, *seconds* at most, and forget all rings so far."""
        timeout = None if seconds is None else min(max(0.0, seconds) * 1000, _LONGEST_MS)
        for fd, _ in self._poll.poll(timeout):
            if fd == self._read_fd:
                os.read(fd, 1 << 20)  # all a pipe may hold

    def close(self) -> None:
        """Free its descriptors."""
        os.close(self._read_fd)
        os.close(self.write_fd)

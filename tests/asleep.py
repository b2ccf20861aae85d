"""Waiting until a thread waits, and interrupting it there."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DEADLINE = 10.0


def until_asleep(thread: threading.Thread) -> None:
    """Return when *thread* has been asleep in the kernel for some looks on end."""
    stat = Path(f"/proc/self/task/{thread.native_id}/stat")
    if not stat.parent.exists():
        time.sleep(0.1)
        return
    seen, deadline = 0, time.monotonic() + DEADLINE
    while seen < 5 and time.monotonic() < deadline and thread.is_alive():
        state = stat.read_text().rpartition(")")[2].split()[0]
        seen = seen + 1 if state == "S" else 0
        time.sleep(0.001)


@contextmanager
def signalled_when_asleep(signum: int) -> Iterator[None]:
    """Send the main thread, which runs the block, *signum* once it is asleep in it.

    What a handler raises then comes out of the call that waits, and of no other line.
    """
    main = threading.main_thread()

    def send() -> None:
        until_asleep(main)
        signal.pthread_kill(main.ident or 0, signum)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield
    finally:
        sender.join()

"""The signals that a server takes while it serves, and what a SIGHUP means.

Operators send it for new code and new certificates, a terminal when it is closed. Which of the two
it was shows in whether the terminal is still there.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from flare.http.server.bell import Bell

__all__ = ["take_signals"]


def take_signals(
    bell: Bell,
    on_end: Callable[[int], None],
    on_hangup: Callable[[bool], None],
    *,
    reloads: bool,
) -> Callable[[], None]:
    """Have SIGINT and SIGTERM call *on_end* with their number, and SIGHUP *on_hangup* with whether
    the terminal of this process has gone; each ends a wait for *bell*. On the main thread only.
    What it returns puts back the handlers found.

    Where the server has nothing it *reloads*, SIGHUP is taken only where it would kill the process.
    Whoever ignores it (nohup) outlives the terminal.
    """
    if threading.current_thread() is not threading.main_thread():
        return lambda: None
    hangup_before = signal.getsignal(signal.SIGHUP)
    had_terminal = hangup_before is not signal.SIG_IGN and _open_terminal() == 0

    def end(number: int, _frame: FrameType | None) -> None:
        on_end(number)

    def hang_up(_number: int, _frame: FrameType | None) -> None:
        on_hangup(had_terminal and _open_terminal() in (errno.ENXIO, errno.EIO))

    before: dict[int, Any] = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, end)
    if reloads or hangup_before is signal.SIG_DFL:
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, hang_up)
    woken_before = signal.set_wakeup_fd(bell.write_fd, warn_on_full_buffer=False)

    def restore() -> None:
        signal.set_wakeup_fd(woken_before)
        for number, found in before.items():
            signal.signal(number, signal.SIG_DFL if found is None else found)

    return restore


def _open_terminal() -> int:
    """0 where this process has a controlling terminal, else the error number of opening it."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        return error.errno or errno.EIO
    return 0

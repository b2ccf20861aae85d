"""Where worker processes sit: one ``Seat`` for each worker of a server, and its ``Process``es."""

from __future__ import annotations

import math
import os
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any

from flare.http.server.channel import Channel
from flare.http.server.logs import escape
from flare.http.server.scoreboard import CLEAN, Line
from flare.runtime.report import ShutdownReport

__all__ = ["Process", "Seat"]

_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 60.0


class Process:
    """One worker process."""

    def __init__(self, pid: int, talk: Channel, line: Line, generation: int) -> None:
        self.pid = pid
        self.talk = talk
        self.line = line
        self.generation = generation
        self.born = time.monotonic()
        self.ready = False
        self.killed = False
        self.kill_at = math.inf
        self.failure: dict[str, Any] | None = None
        self.code: int | None = None
        """Its exit code, or minus the signal's number; ``None`` while it lives."""
        self.pidfd = -1
        if sys.platform == "linux":
            try:
                self.pidfd = os.pidfd_open(pid)
            except OSError:  # an old kernel; the end of the channel tells it as well
                pass

    def has_ended(self) -> bool:
        """Whether it has; reaps it then. Safe in a signal handler that interrupts itself."""
        if self.code is None:
            try:
                found, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:  # somebody else has reaped it
                self.code = 0 if self.line.state == CLEAN else 1
            else:
                if found:
                    self.code = os.waitstatus_to_exitcode(status)
        return self.code is not None

    def kill(self) -> None:
        """End it the hard way."""
        self.kill_at = math.inf
        if not self.has_ended():
            self.killed = True
            os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Let go of what it was watched by."""
        self.talk.close()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1

    def report(self) -> ShutdownReport:
        """What became of its connections, once it has ended. One that had to be killed had those
        open that it published last."""
        report = self.line.report
        if self.line.state == CLEAN or not self.ready:
            return report
        if not self.killed:
            return ShutdownReport(crashed=1)
        cut = max(1, self.line.live)
        return ShutdownReport(timed_out=cut, in_flight_at_deadline=cut)

    def how_it_ended(self) -> str:
        """For a log line."""
        if self.failure is not None:
            return f"{self.failure['type']}: {escape(self.failure['text'])}"
        code = self.code or 0
        if code >= 0:
            return f"exit code {code}"
        try:
            return f"ended by {signal.Signals(-code).name}"
        except ValueError:
            return f"ended by signal {-code}"


class Seat:
    """The place of one worker: ``sitting`` serves (or starts, at the beginning and after a
    death), ``coming`` starts beside it, ``leaving`` finishes what it has."""

    def __init__(self, number: int, lines: list[Line]) -> None:
        self.number = number
        self.lines = lines
        self.sitting: Process | None = None
        self.coming: Process | None = None
        self.leaving: Process | None = None
        self.was_served = False
        self.asks = False  # the one that sits wants to be replaced
        self.deaths = 0
        self.due = 0.0

    def pause_after_death(self) -> float:
        """Count a process that died young, and put the next one off. For how long, in seconds."""
        self.deaths += 1
        pause = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2.0 ** min(self.deaths - 1, 20))
        self.due = time.monotonic() + pause
        return pause

    def processes(self) -> Iterator[Process]:
        """All that have not been seen off."""
        for process in (self.sitting, self.coming, self.leaving):
            if process is not None:
                yield process

    def free_line(self) -> Line:
        """A line of the scoreboard nobody writes."""
        taken = [process.line for process in self.processes()]
        return next(line for line in self.lines if line not in taken)

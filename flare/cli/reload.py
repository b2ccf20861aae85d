"""``flare serve --reload``: serve in a child, and start a new one when a file changes.

The sockets stay with this process, which hands them to each child in turn: while one child is gone
and the next one is not ready yet, connections wait instead of being refused. A child that cannot
start (a syntax error, say) has said why; the next change starts another.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from types import FrameType

from flare._ffi.process import set_parent_death_signal
from flare.cli import serve
from flare.cli.listen import bind_listeners
from flare.cli.output import say
from flare.cli.tls import certificates

__all__ = ["run", "snapshot"]

_LOOK_SECONDS = 0.25
_MAX_FILES = 10_000
_LEAVE_SECONDS = 5.0  # beyond what requests in progress get
_SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages", "build", "dist"})


def run(arguments: argparse.Namespace) -> int:
    """Serve and watch the ``.py`` files below the current folder, until a signal ends it."""
    backlog = serve.config_of(arguments).backlog
    serve.kind_of(arguments)
    with certificates(arguments):
        return _run(arguments, backlog)


def _run(arguments: argparse.Namespace, backlog: int) -> int:
    leave_seconds = arguments.graceful_timeout + _LEAVE_SECONDS
    with ExitStack() as stack:
        fds: list[int] = []
        for listener in bind_listeners(arguments, backlog):
            stack.callback(listener.close)
            fds.append(listener.fileno())
        parent = os.getpid()

        def die_with_parent() -> None:
            """In the child: be told to drain when this process is no more, however it went."""
            try:
                set_parent_death_signal(signal.SIGTERM, parent)
            except OSError:
                pass  # not Linux: then only an orderly end takes the child along

        command = [sys.executable, "-m", "flare", "serve", arguments.app]
        for fd in fds:
            command += ["--bind", f"fd://{fd}"]
        command += ["--workers", str(arguments.workers), "--worker-kind", arguments.worker_kind]
        command += ["--graceful-timeout", str(arguments.graceful_timeout)]
        command += ["--max-requests", str(arguments.max_requests)]
        command += ["--trusted-proxies", arguments.trusted_proxies]
        command += ["--forwarded-headers", arguments.forwarded_headers]
        if arguments.proxy_protocol:
            command.append("--proxy-protocol")
        for flag in ("tls_cert", "tls_key", "tls_key_password_file", "tls_client_ca"):
            if value := getattr(arguments, flag):
                command += ["--" + flag.replace("_", "-"), value]
        if arguments.access_log:
            command.append("--access-log")
        if arguments.log_level is not None:
            command += ["--log-level", arguments.log_level]
        stop = _Stop()
        with stop:
            while not stop.asked:
                before = snapshot(".")  # what changes while the child reads it is a change
                child = subprocess.Popen(command, pass_fds=fds, preexec_fn=die_with_parent)
                try:
                    changed = _wait_for_change(stop, before)
                finally:
                    _end(child, leave_seconds)
                if changed:
                    say(f"flare: {changed} changed, starting anew")
    return 0


class _Stop:
    """SIGINT and SIGTERM as a flag, while it is entered; SIGHUP, too, unless it is ignored (nohup),
    for the key of a certificate made now must not stay behind."""

    def __init__(self) -> None:
        self.asked = False

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True

    def __enter__(self) -> None:
        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            numbers.append(signal.SIGHUP)
        self._before = {number: signal.signal(number, self._ask) for number in numbers}

    def __exit__(self, *_error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def _wait_for_change(stop: _Stop, before: dict[str, tuple[int, int]]) -> str:
    """The file that has changed since *before*, or ``""`` where the end was asked for."""
    while not stop.asked:
        time.sleep(_LOOK_SECONDS)
        now = snapshot(".")
        if now != before:
            changed = {path for path, _ in now.items() ^ before.items()}
            return os.path.relpath(min(changed))
    return ""


def _end(child: subprocess.Popen[bytes], seconds: float) -> None:
    """Let the child drain; end it where it does not."""
    if child.poll() is None:
        child.terminate()
    try:
        child.wait(seconds)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def snapshot(folder: str) -> dict[str, tuple[int, int]]:
    """The ``.py`` files below *folder*, at most 10,000: path to (mtime in ns, size)."""
    found: dict[str, tuple[int, int]] = {}
    for entry in _python_files(folder):
        try:
            status = entry.stat()
        except OSError:  # gone between the listing and the look
            continue
        found[entry.path] = (status.st_mtime_ns, status.st_size)
        if len(found) >= _MAX_FILES:
            break
    return found


def _python_files(folder: str) -> Iterator[os.DirEntry[str]]:
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            if not entry.name.startswith(".") and entry.name not in _SKIPPED:
                yield from _python_files(entry.path)
        elif entry.name.endswith(".py"):
            yield entry

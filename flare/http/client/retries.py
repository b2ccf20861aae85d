"""The attempts of one call: which failures are worth another one, and the wait before it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from time import monotonic, time
from typing import TYPE_CHECKING, TypeVar

from flare.errors import (
    BrokenPipe,
    ConnectionRefused,
    ConnectionReset,
    ConnectionTimeout,
    NetworkError,
    Timeout,
    UnexpectedEof,
)
from flare.http.client.call import Call
from flare.http.client.events import active_log
from flare.http.client.timeouts import CallTimeout, Clock
from flare.http.errors import HttpProtocolError, masked_url
from flare.http.proto.heads import ResponseHead
from flare.http.retry import RetryPolicy

if TYPE_CHECKING:
    import threading

    from flare.http.client.sender import Reply

__all__ = ["Retries"]

T = TypeVar("T")

# What the network did behind the connect, besides what has an errno or a code of HTTP/2. A plain
# NetworkError is a limit of ours, or the end of the client; another attempt would find the same.
_LOST = (BrokenPipe, ConnectionReset, HttpProtocolError, UnexpectedEof)


class Retries:
    """The attempts of *call* under *clock*, which end when *closed* is set."""

    __slots__ = ("_attempt", "_call", "_clock", "_closed", "_left", "_policy")

    def __init__(
        self, policy: RetryPolicy, call: Call, clock: Clock, closed: threading.Event
    ) -> None:
        self._policy = policy
        self._call = call
        self._clock = clock
        self._closed = closed
        self._attempt = 1
        most = policy.max_attempts if policy.allows(call.method) else 1
        self._left = {
            kind: max(0, most - 1) if limit is None else min(limit, max(0, most - 1))
            for kind, limit in (
                ("connect", policy.connect),
                ("read", policy.read),
                ("status", policy.status),
            )
        }

    def run(self, send: Callable[[Call], Reply], finish: Callable[[Reply], T]) -> T:
        """What *finish* makes of the reply of the first attempt that needs no other.

        What the last attempt raised is raised. Raises ``NetworkError`` where the client is closed
        while this waits.
        """
        while True:
            attempt = self._call.copy()
            try:
                reply = send(attempt)
                try:
                    wait = self.wait_after_answer(reply.head)
                except BaseException:  # a body that cannot be set back
                    reply.abandon()
                    raise
                if wait is None:
                    return finish(reply)
                failure: object = reply.head.status
                self._call.state.answered(reply.drained())
            except NetworkError as exc:
                wait = self.wait_after_error(exc, connected=attempt.connected)
                if wait is None or self._closed.is_set():
                    raise
                failure = exc
            log = active_log()
            if log is not None:
                log.debug(
                    "%s %s: attempt %d in %.0f ms, after %s", self._call.method,
                    masked_url(self._call.target.text), self._attempt, wait * 1000, failure,
                )  # fmt: skip
            if wait and self._closed.wait(wait):
                raise NetworkError("this HttpClient is closed")

    def wait_after_error(self, error: NetworkError, *, connected: bool) -> float | None:
        """The seconds to wait before the next attempt after *error*; ``None``: there is none."""
        kind = _kind_of(error, connected=connected)
        return self._next(kind, self._policy.backoff_ms(self._attempt + 1)) if kind else None

    def wait_after_answer(self, head: ResponseHead) -> float | None:
        """The same after an answer; ``None``: it is the one to return."""
        if head.status not in self._policy.statuses:
            return None
        asked = head.fields.get("retry-after")
        wait_ms = self._policy.wait_ms(self._attempt + 1, head.status, asked, time())
        return self._next("status", wait_ms)

    def _next(self, kind: str, wait_ms: float) -> float | None:
        if self._attempt >= self._policy.max_attempts or self._left[kind] < 1:
            return None
        end = self._clock.end
        if end is not None and monotonic() + wait_ms / 1000 >= end:
            return None  # the call would run out of time before it could be sent
        if not self._call.content.rewind():
            return None
        self._left[kind] -= 1
        self._attempt += 1
        return wait_ms / 1000


def _kind_of(error: NetworkError, *, connected: bool) -> str:
    """``"connect"``, ``"read"``, or ``""`` for what another attempt would not mend."""
    if isinstance(error, CallTimeout):
        return "read" if error.phase in ("read", "write") else ""
    if isinstance(error, _LOST):
        return "read" if connected else "connect"
    if connected:
        return "read" if error.code else ""
    if isinstance(error, (ConnectionRefused, ConnectionTimeout, Timeout)):
        return "connect"
    # An unreachable network and a name that does not resolve have numbers. A failed handshake is
    # neither: a certificate will not be better next time.
    tls = sys.modules.get("flare.tls.errors")
    if tls is not None and isinstance(error, tls.TlsHandshakeError):
        return ""
    return "connect" if error.code else ""

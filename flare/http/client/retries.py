"""The attempts of one call: which failures are worth another one, and the wait before it."""

from __future__ import annotations

import sys
from time import monotonic, time

from flare.errors import (
    BrokenPipe,
    ConnectionRefused,
    ConnectionReset,
    ConnectionTimeout,
    NetworkError,
    Timeout,
    UnexpectedEof,
)
from flare.http.client.content import Content
from flare.http.client.timeouts import CallTimeout, Clock
from flare.http.errors import HttpProtocolError
from flare.http.proto.heads import ResponseHead
from flare.http.retry import RetryPolicy

__all__ = ["Retries"]

# What the network did behind the connect. A plain NetworkError there is a limit of ours, or the
# end of the client; another attempt would find the same.
_LOST = (BrokenPipe, ConnectionReset, HttpProtocolError, UnexpectedEof)


class Retries:
    """Counts the attempts of a call of *method* with *content*, under *clock*."""

    __slots__ = ("_attempt", "_clock", "_content", "_left", "_policy")

    def __init__(self, policy: RetryPolicy, method: str, content: Content, clock: Clock) -> None:
        self._policy = policy
        self._content = content
        self._clock = clock
        self._attempt = 1
        most = policy.max_attempts if policy.allows(method) else 1
        self._left = {
            kind: max(0, most - 1) if limit is None else min(limit, max(0, most - 1))
            for kind, limit in (
                ("connect", policy.connect),
                ("read", policy.read),
                ("status", policy.status),
            )
        }

    @property
    def attempt(self) -> int:
        """The number of the attempt that is under way or comes next, from 1."""
        return self._attempt

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
        if not self._content.rewind():
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
        return ""
    if isinstance(error, (ConnectionRefused, ConnectionTimeout, Timeout)):
        return "connect"
    # An unreachable network and a name that does not resolve have numbers. A failed handshake is
    # neither: a certificate will not be better next time.
    tls = sys.modules.get("flare.tls.errors")
    if tls is not None and isinstance(error, tls.TlsHandshakeError):
        return ""
    return "connect" if error.code else ""

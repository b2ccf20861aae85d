"""Sessions: what lets a client's next handshake with a server be a short one."""

from __future__ import annotations

import ssl
import time

from flare.tls.client_context import ClientContext

__all__ = ["TlsSession"]


class TlsSession:
    """A session to resume, from ``TlsStream.session()``; false where there is none.

    It belongs to the server name it was verified for and to the ``TlsConfig`` it was made with:
    used for another it is ignored, since a resumed handshake verifies no certificate. A server may
    refuse it. In TLS 1.3 use each only once, and take the newest after every exchange. It lives in
    this process only.
    """

    __slots__ = ("_made", "_name", "_session", "created_at", "lifetime_s")

    created_at: float
    """When the server issued it, in seconds since the epoch; 0.0 where there is none."""
    lifetime_s: int
    """How long it may be used, in seconds; 0 where there is none."""

    def __init__(
        self,
        session: ssl.SSLSession | None = None,
        made: ClientContext | None = None,
        name: str = "",
    ) -> None:
        """Use ``TlsStream.session()``; without arguments, an empty one."""
        self._session = session
        self._made = made
        self._name = name
        self.created_at = float(session.time) if session else 0.0
        self.lifetime_s = (session.ticket_lifetime_hint or session.timeout) if session else 0

    def __bool__(self) -> bool:
        """Whether there is anything to resume."""
        return self._session is not None

    def session_addr(self) -> int:
        """0 where there is none, else a number of no meaning."""
        return id(self._session) if self._session is not None else 0

    def usable(self, made: ClientContext, name: str) -> tuple[ClientContext, ssl.SSLSession] | None:
        """The context and session to connect to *name* with; ``None``: do a full handshake."""
        if self._session is None or self._made is None or self._name != name:
            return None
        if self._made.key != made.key or time.time() > self.created_at + self.lifetime_s:
            return None
        return self._made, self._session

    def __repr__(self) -> str:
        return f"<TlsSession of {self._name}>" if self else "<TlsSession empty>"

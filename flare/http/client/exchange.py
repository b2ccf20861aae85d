"""What a pool and a sender see of a connection, and of a request on it, whatever the wire."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from flare.http.client.outgoing import Outgoing
from flare.http.client.timeouts import Clock
from flare.http.proto.fields import FieldBlock
from flare.http.proto.heads import ResponseHead

if TYPE_CHECKING:
    from flare.tls import TlsInfo

__all__ = ["Connection", "Exchange"]


class Exchange(Protocol):
    """One request and its response.

    After a failure, ``sent`` and ``answered`` tell whether any of the request went out and any of
    the response came in, ``reused`` whether it was not the connection's first, ``refused`` that
    the server has not looked at it, and ``wants_h1`` that it asked for HTTP/1.1.
    """

    sent: bool
    answered: bool
    trailers: FieldBlock | None

    @property
    def refused(self) -> bool: ...
    @property
    def wants_h1(self) -> bool: ...
    @property
    def reused(self) -> bool: ...
    @property
    def tls(self) -> TlsInfo | None: ...

    def exchange(self, request: Outgoing, clock: Clock, /) -> ResponseHead:
        """Send *request* and wait for the final head of its response."""

    def head(self, clock: Clock, /) -> ResponseHead:
        """Wait for the final head alone; ``exchange`` has sent the request."""

    def read_body(self, n: int, clock: Clock, /) -> bytes:
        """The next bytes of the body, about *n* at most; ``b""`` at its end."""

    def read_counted_into(self, buffer: memoryview, clock: Clock, /) -> int:
        """``read_body`` into *buffer*: how many bytes came, 0 wherever ``read_body`` must say."""

    def finish(self) -> None:
        """The response was read."""

    def cancel(self) -> None:
        """Give up what is left of it. Idempotent."""


class Connection(Protocol):
    """What makes exchanges: one after the other, or where it is ``shared``, ``capacity`` at once.

    ``generation``, ``idle_since`` and ``leases`` are the pool's notes, ``used`` is how many
    exchanges there were. After a 101 that was
    asked for by the connection itself, ``upgraded`` is what has taken over.
    """

    generation: int
    idle_since: float
    leases: int
    used: int

    @property
    def shared(self) -> bool: ...
    @property
    def capacity(self) -> int: ...
    @property
    def reusable(self) -> bool: ...
    @property
    def upgraded(self) -> tuple[Connection, Exchange] | None: ...

    def begin(self) -> Exchange:
        """The next exchange."""

    def is_stale(self, clock: Clock, /) -> bool:
        """Whether one that was idle is of no more use."""

    def close(self) -> None:
        """Close it. Idempotent."""

    def forget(self) -> None:
        """Leave it to the process that this one forked from."""

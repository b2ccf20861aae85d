"""What everything that is read from has in common."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

__all__ = ["Readable"]


@runtime_checkable
class Readable(Protocol):
    """A stream of bytes: any object with a ``read`` like this one.

    Streams of ours, ``io.BytesIO``, files opened in binary mode and what ``socket.makefile``
    returns all fit. A stream may also have ``read_into(buffer) -> int``, or ``read1(n)`` where
    ``read`` would wait for all of *n*; readers here prefer these.
    """

    def read(self, n: int, /) -> bytes:
        """Up to *n* bytes, as soon as there are any; ``b""`` at the end of the stream."""
        ...

"""Who calls the handler.

The worker's loop hands each exchange to its ``Dispatch``. ``run`` may answer at once, by
returning what the handler returned, or later, by returning ``PENDING`` and giving the result to
the worker's ``done``. Whatever a handler raises has become a response by then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from flare.http.request import Request
from flare.http.response import Response
from flare.http.server.h1 import error_response
from flare.http.server.wire import Exchange

__all__ = ["PENDING", "Dispatch", "InlineDispatch"]


class _Pending:
    """The type of ``PENDING``."""


PENDING: Final = _Pending()


class Dispatch(Protocol):
    """Calls the handler for an exchange, on this thread or on another."""

    def run(self, exchange: Exchange) -> object:
        """The handler's result, or ``PENDING`` where it will come later."""

    def close(self) -> None:
        """Let go of threads and the like. No ``run`` comes after it."""


class InlineDispatch:
    """Calls the handler right there, on the loop's own thread. A slow one stalls the worker."""

    __slots__ = ("_handler",)

    def __init__(self, handler: Callable[[Request], Response]) -> None:
        self._handler = handler

    def run(self, exchange: Exchange) -> object:
        try:
            return self._handler(exchange.request)
        except Exception as error:
            return error_response(exchange.request, error)

    def close(self) -> None:
        """Nothing to let go of."""

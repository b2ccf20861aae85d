"""The server's two loggers: ``flare.access`` and ``flare.error``. One line a record, always.

Whatever a peer can choose is escaped, so that no request can forge or split a line, and nothing
that a terminal would obey gets through (attacks on logs have used both).
"""

from __future__ import annotations

import logging
import os
import re
import traceback
from collections.abc import Callable
from functools import cache, wraps
from types import TracebackType
from typing import TYPE_CHECKING, ParamSpec

from flare.errors import HttpStatusError, ValidationError

if TYPE_CHECKING:
    from flare.http.request import Request
    from flare.net import SocketAddr

__all__ = [
    "access_log",
    "error_log",
    "escape",
    "log_access",
    "log_connection_error",
    "log_handler_error",
    "log_late_handler",
]

access_log = logging.getLogger("flare.access")
error_log = logging.getLogger("flare.error")

_UNPRINTABLE = re.compile(r"[^\x20-\x7e]|\\")
_LONGEST = 2048


def escape(text: str) -> str:
    """*text* in printable ASCII, everything else as a backslash escape, cut at 2048 characters."""
    text = text[:_LONGEST]
    if text.isascii() and text.isprintable() and "\\" not in text:
        return text
    return _UNPRINTABLE.sub(
        lambda found: "\\\\" if found[0] == "\\" else ascii(found[0])[1:-1], text
    )


_P = ParamSpec("_P")


def _unfailing(log: Callable[_P, None]) -> Callable[_P, None]:
    """*log*, as one that never raises: a handler of the application's ``logging`` that does must
    not take a connection along, nor a worker. It shows on standard error, as with ``logging``."""

    @wraps(log)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            log(*args, **kwargs)
        except Exception:
            traceback.print_exc()

    return call


@_unfailing
def log_access(
    peer: str, method: str, target: str, version: str, status: int, sent: int, elapsed_ms: float
) -> None:
    """One line for one answered request: *sent* is the body in bytes."""
    access_log.info(
        '%s "%s %s %s" %d %d %.1fms',
        peer,
        escape(str(method)),
        escape(str(target)).replace('"', "%22"),
        version,
        status,
        sent,
        elapsed_ms,
    )


@_unfailing
def log_handler_error(request: Request, error: BaseException, *, answered: bool = True) -> None:
    """One line for an exception out of a handler; its traceback follows at level DEBUG.

    ERROR, but INFO where the handler means the client: a 4xx it chose, input it refused. Not so
    where no answer can tell the client any more (*answered* false): then a body is cut off.
    """
    request_id = request.headers.get("x-request-id")
    chosen = answered and (
        isinstance(error, ValidationError)
        or (
            isinstance(error, HttpStatusError)
            and isinstance(error.status, int)
            and 400 <= error.status < 500
        )
    )
    error_log.log(
        logging.INFO if chosen else logging.ERROR,
        "%s %s from %s%s: %s",
        escape(str(request.method)),
        escape(str(request.url)),
        request.peer,
        f" [{escape(request_id)}]" if request_id else "",
        _describe(error),
    )
    if error_log.isEnabledFor(logging.DEBUG):
        error_log.debug("traceback of the above", exc_info=error)


@_unfailing
def log_connection_error(peer: SocketAddr, error: BaseException) -> None:
    """One line for a connection given up because of an error that is nobody's but ours."""
    error_log.error("the connection of %s is given up: %s", peer, _describe(error))
    if error_log.isEnabledFor(logging.DEBUG):
        error_log.debug("traceback of the above", exc_info=error)


def _describe(error: BaseException) -> str:
    """The class of *error*, its text, and where it was raised, innermost first as in a traceback
    read from its end."""
    try:
        text = str(error)
    except Exception:
        text = "(it has no text)"
    where = _places(error.__traceback__)
    return f"{type(error).__name__}: {escape(text)}{escape(f' at {where}' if where else '')}"


def _places(trace: TracebackType | None) -> str:
    """The innermost place of *trace*, and, where that is none of the application's, the innermost
    one that is: who only reads of ``json/decoder.py`` does not know where to look."""
    places = [
        (frame.f_code.co_filename, f"{frame.f_code.co_filename}:{line} in {frame.f_code.co_name}")
        for frame, line in traceback.walk_tb(trace)
    ]
    if not places:
        return ""
    innermost = places[-1][1]
    own = [depth for depth, (name, _) in enumerate(reversed(places)) if not _is_library(name)]
    if not own or not own[0]:
        return innermost
    return f"{innermost} < {'... < ' if own[0] > 1 else ''}{places[-1 - own[0]][1]}"


def _is_library(filename: str) -> bool:
    """Whether *filename* belongs to Python's own library, or to this package."""
    if filename.startswith("<frozen "):
        return True
    for folder in _library_folders():
        if filename.startswith(folder):
            inside = filename[len(folder) :]
            return not inside.startswith(("site-packages" + os.sep, "dist-packages" + os.sep))
    return False


@cache
def _library_folders() -> frozenset[str]:
    import sysconfig  # an error is soon enough

    own = os.path.abspath(__file__)
    for _ in __name__.split("."):
        own = os.path.dirname(own)
    own = os.path.join(own, __name__.partition(".")[0])
    found = {own, os.path.dirname(os.__file__)}
    found |= {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
    return frozenset(os.path.join(folder, "") for folder in found)


@_unfailing
def log_late_handler(request: Request, elapsed_ms: int) -> None:
    """One line for a handler that returned after its deadline."""
    error_log.warning(
        "%s %s from %s: the handler took %d ms",
        escape(str(request.method)),
        escape(str(request.url)),
        request.peer,
        elapsed_ms,
    )

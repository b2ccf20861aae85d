"""What is answered where a handler has no answer: an exception, no thread, no time left."""

from __future__ import annotations

from flare.errors import http_reason_phrase, map_handler_error
from flare.http.request import Request
from flare.http.response import Response
from flare.http.server.logs import log_handler_error

__all__ = ["busy_response", "error_response", "late_response"]


def error_response(request: Request, error: Exception) -> Response:
    """What the peer gets for an exception out of a handler; the exception goes to the log."""
    log_handler_error(request, error)
    try:
        mapped = map_handler_error(error, request.expose_errors)
        # An interim status would leave the peer waiting for the final one.
        status = mapped.status if mapped.status >= 200 else 500
        text = mapped.reason.encode(errors="backslashreplace")
    except Exception:  # an exception whose own attributes are of no use
        status, text = 500, http_reason_phrase(500).encode()
    response = Response(status, "", text)
    response.headers.set("Content-Type", "text/plain; charset=utf-8")
    response.headers.set("X-Content-Type-Options", "nosniff")
    return response


def busy_response() -> Response:
    """Too many requests wait for a handler thread."""
    response = late_response()
    response.headers.set("Retry-After", "1")
    return response


def late_response() -> Response:
    """The handler did not return in time."""
    response = Response(503, body="Service Unavailable")
    response.headers.set("Content-Type", "text/plain")
    return response

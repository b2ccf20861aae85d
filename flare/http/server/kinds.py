"""What is served besides a plain handler, told apart by which method of ``HttpServer`` was called.

A handler with a ``Cancel`` has the same method name as one without, so no look at the object could
tell them apart.
"""

from __future__ import annotations

from flare.http.cancel import Cancel
from flare.http.handler import CancelHandler, ViewHandler, dispatch_key
from flare.http.proto.headers import HeaderMap
from flare.http.request import Request
from flare.http.request_view import RequestView
from flare.http.response import Response
from flare.http.static_response import StaticResponse

__all__ = ["Cancellable", "Static", "Viewing"]


class Cancellable:
    """A ``CancelHandler`` under ``serve_cancellable``: each call gets the token of its request."""

    def __init__(self, inner: CancelHandler) -> None:
        self.inner = inner
        self.flare_dispatch = getattr(inner, "flare_dispatch", None)
        if not callable(getattr(inner, "serve", None)):
            raise TypeError(
                f"a CancelHandler has serve(req, cancel), which {type(inner).__name__} has not"
            )

    def dispatch_key(self, req: Request) -> object:
        """The inner handler's."""
        return dispatch_key(self.inner, req)

    def serve(self, req: Request, cancel: Cancel = Cancel.never()) -> Response:  # noqa: B008
        """What the inner handler answers."""
        return self.inner.serve(req, cancel)

    __call__ = serve


class Viewing:
    """A ``ViewHandler`` under ``serve_view``: each call gets a view of its request, which ends with
    the call, and its token."""

    def __init__(self, inner: ViewHandler) -> None:
        self.inner = inner
        self.flare_dispatch = getattr(inner, "flare_dispatch", None)
        if not callable(getattr(inner, "serve_view", None)):
            raise TypeError(
                f"a ViewHandler has serve_view(req, cancel), which {type(inner).__name__} has not"
            )

    def _may_stream_body(self, seen: set[int]) -> bool:
        return False  # a view is of what was received

    def view_key(self, view: RequestView) -> object:
        """The inner handler's ``dispatch_key``."""
        find = getattr(self.inner, "dispatch_key", None)
        return self.inner if find is None else find(view)

    def serve(self, req: Request, cancel: Cancel = Cancel.never()) -> Response:  # noqa: B008
        """What the inner handler answers for *req*."""
        return self.serve_view(RequestView._of(req), cancel)

    def serve_view(self, view: RequestView, cancel: Cancel) -> Response:
        """What the inner handler answers; then *view* is released."""
        try:
            return self.inner.serve_view(view, cancel)
        finally:
            view.release()

    __call__ = serve


class Static:
    """A ``StaticResponse`` under ``serve_static``. Over HTTP/1.1 the wire answers by itself; this
    is for HTTP/2, where a head has another form."""

    def __init__(self, response: StaticResponse) -> None:
        self.response = response
        head = response.head_bytes(True)
        lines = head.decode("latin-1").split("\r\n")[1:-2]
        fields = [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
        self._headers = HeaderMap(fields)
        self._body = response.keepalive_bytes[len(head) :]

    def serve(self, req: Request) -> Response:
        """The same for everybody."""
        response = Response(self.response.status, body=self._body)
        response._headers = self._headers
        return response

    __call__ = serve

"""Calling a handler as a client would, with no socket, no thread and no parser in between."""

from __future__ import annotations

import inspect
import json as _json
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeVar

from flare.errors import ValidationError
from flare.http._respond import response_problem
from flare.http.body import drain_body
from flare.http.cancel import Cancel
from flare.http.handler import as_handler_function
from flare.http.proto.headers import HeaderMap
from flare.http.request import Request
from flare.http.response import Response, StreamingResponse

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from flare.http.client.target import Params

__all__ = ["TestClient"]

H = TypeVar("H")
_Headers = HeaderMap | Mapping[str, str] | Iterable[tuple[str, str]] | None
_Json = dict[str, Any] | list[Any] | float
_LEFT_OUT: Final[Any] = object()


class TestClient(Generic[H]):
    """Calls *handler*: a ``Handler``, a plain function, or a ``CancelHandler``, which gets
    ``Cancel.never()``.

    The request is built as given: no ``Host``, no ``Content-Length``, no cookies kept, no redirect
    followed, the query left in the path; its ``expose_errors`` is true. The response is the
    handler's own, with a streamed body read into ``body``.

    What the handler raises comes out of the call. With ``raise_errors=False`` it becomes the
    response that the server would send; what a streamed body raises comes out either way, since
    there the server has nothing left to send but the end of the connection. A context manager,
    for the looks of it.
    """

    __test__ = False  # not a test case, whatever pytest makes of the name

    def __init__(self, handler: H, *, raise_errors: bool = True) -> None:
        self.handler = handler
        self._raise_errors = raise_errors
        self._call: Callable[[Request], Any] = _with_cancel(as_handler_function(handler))

    def request(
        self,
        method: str,
        path: str,
        body: ReadableBuffer | str | Iterable[bytes] | _Json | None = b"",
        headers: _Headers = None,
        *,
        json: Any = _LEFT_OUT,
        data: Any = _LEFT_OUT,
        params: Params | None = None,
    ) -> Response:
        """Send a request with *body*, or with *json* as JSON, or with *data* as a form.

        *data* is a mapping or pairs; a value that is a list stands for several fields; bytes, text,
        a file and an iterator of bytes go out as they are. *json* and *data* set ``Content-Type``
        where *headers* has none. *body* may also be a dict, list, number or bool, which goes out as
        JSON, or a binary file or an iterable of bytes, which is read first: the handler has all of
        it in ``req.body`` and in ``req.stream``. *params*, text or pairs, are appended to the
        query.
        Raises ``ValidationError`` where more than one of the three is given, ``TypeError`` for a
        body that is none.
        """
        sent, content_type = _encode(body, json, data)
        if params is not None:
            # Imported here: nearly every test does without the client.
            from flare.http.client.target import with_query

            path = with_query(path, params)
        req = Request(method, path, sent, expose_errors=True, headers=headers)
        if content_type and not req.headers.contains("content-type"):
            req.headers.set("Content-Type", content_type)
        try:
            result = self._call(req)
            problem = response_problem(result)
            if problem is not None:
                raise problem
        except Exception as error:
            if self._raise_errors:
                raise
            # Imported here: a test of a bare handler has no need of the whole server.
            from flare.http.server.failures import error_response

            return error_response(req, error)
        return _buffered(result)

    def get(self, path: str, headers: _Headers = None, *, params: Params | None = None) -> Response:
        """``request("GET", ...)``."""
        return self.request("GET", path, b"", headers, params=params)

    def head(
        self, path: str, headers: _Headers = None, *, params: Params | None = None
    ) -> Response:
        """``request("HEAD", ...)``. The body, which a server would not send, is left in."""
        return self.request("HEAD", path, b"", headers, params=params)

    def options(
        self, path: str, headers: _Headers = None, *, params: Params | None = None
    ) -> Response:
        """``request("OPTIONS", ...)``."""
        return self.request("OPTIONS", path, b"", headers, params=params)

    def delete(
        self, path: str, headers: _Headers = None, *, params: Params | None = None
    ) -> Response:
        """``request("DELETE", ...)``."""
        return self.request("DELETE", path, b"", headers, params=params)

    def post(
        self,
        path: str,
        body: ReadableBuffer | str | Iterable[bytes] | _Json | None = b"",
        headers: _Headers = None,
        *,
        json: Any = _LEFT_OUT,
        data: Any = _LEFT_OUT,
        params: Params | None = None,
    ) -> Response:
        """``request("POST", ...)``."""
        return self.request("POST", path, body, headers, json=json, data=data, params=params)

    def put(
        self,
        path: str,
        body: ReadableBuffer | str | Iterable[bytes] | _Json | None = b"",
        headers: _Headers = None,
        *,
        json: Any = _LEFT_OUT,
        data: Any = _LEFT_OUT,
        params: Params | None = None,
    ) -> Response:
        """``request("PUT", ...)``."""
        return self.request("PUT", path, body, headers, json=json, data=data, params=params)

    def patch(
        self,
        path: str,
        body: ReadableBuffer | str | Iterable[bytes] | _Json | None = b"",
        headers: _Headers = None,
        *,
        json: Any = _LEFT_OUT,
        data: Any = _LEFT_OUT,
        params: Params | None = None,
    ) -> Response:
        """``request("PATCH", ...)``."""
        return self.request("PATCH", path, body, headers, json=json, data=data, params=params)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing to let go of."""

    def __repr__(self) -> str:
        return f"TestClient({self.handler!r})"


def _with_cancel(function: Callable[..., Any]) -> Callable[[Request], Any]:
    """*function*, given the token too where it cannot be called without one."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return function
    if _takes(signature, 1) or not _takes(signature, 2):
        return function
    return lambda req: function(req, Cancel.never())


def _takes(signature: inspect.Signature, count: int) -> bool:
    try:
        signature.bind(*(None,) * count)
    except TypeError:
        return False
    return True


def _encode(
    body: ReadableBuffer | str | Iterable[bytes] | _Json | None, json: Any, data: Any
) -> tuple[bytes, str]:
    """The bytes to send and their media type, ``""`` where nothing says which."""
    raw: Any = body
    if data is None:
        data = _LEFT_OUT
    is_json = _is_json(raw)
    if (is_json or bool(raw)) + (json is not _LEFT_OUT) + (data is not _LEFT_OUT) > 1:
        raise ValidationError("body", "give one of body, json and data")
    if is_json:
        json = raw
    if json is not _LEFT_OUT:
        text = _json.dumps(json, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode(), "application/json"
    if data is not _LEFT_OUT:
        if not (
            isinstance(data, (str, bytes, bytearray, memoryview, Iterator)) or hasattr(data, "read")
        ):
            # Imported here, as above.
            from flare.http.client.content import encode_pairs

            return encode_pairs(data).encode(), "application/x-www-form-urlencoded"
        raw = data
    if raw is None:
        return b"", ""
    if isinstance(raw, str):
        return raw.encode(), ""
    try:
        return bytes(memoryview(raw)), ""
    except TypeError:
        return drain_body(raw), ""


def _is_json(body: Any) -> bool:
    """Whether *body* stands for JSON, as with ``HttpClient``; a list of bytes is a stream."""
    if isinstance(body, list):
        return not any(isinstance(item, (bytes, bytearray, memoryview)) for item in body)
    return isinstance(body, (dict, int, float))


def _buffered(result: Response | StreamingResponse[Any]) -> Response:
    """*result* with its body read to the end."""
    if isinstance(result, Response):
        if result.body_stream is not None:
            body, result.body_stream = result.body_stream, None
            result.body = drain_body(body)
        return result
    response = Response(result.status, result.reason, drain_body(result.body), result.version)
    response.headers = result.headers
    for name, value in result.trailers.items():
        response.trailers.append(name, value)
    return response

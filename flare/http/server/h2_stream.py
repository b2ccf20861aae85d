"""One stream of an HTTP/2 connection on the server's side: its request, its response's fields.

What becomes of it is in ``h2_connection.py``; the protocol is in ``flare.http2``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flare.http._respond import COUNTED_BODY, UNTIL_CLOSE_BODY, has_no_content
from flare.http.proto.chunked import is_forbidden_trailer
from flare.http.proto.fields import FieldBlock
from flare.http.proto.headers import HeaderMap
from flare.http.request import Request
from flare.http.server.h1 import H1BodyWriter
from flare.http.server.lease import NO_LANE
from flare.http.server.socket_connection import NEVER_MS
from flare.http.server.wire import Exchange
from flare.http2 import HpackHeader
from flare.http2.messages import CONNECTION_FIELDS, outgoing_fields

if TYPE_CHECKING:
    from flare.http2.server import RequestFactory
    from flare.net import SocketAddr
    from flare.tls import TlsInfo

__all__ = ["Fields", "H2Body", "H2Stream", "request_factory", "response_fields", "trailer_fields"]

Fields = list[tuple[str, str] | HpackHeader]

_OWNED = CONNECTION_FIELDS | {"content-length", "date"}


class H2Stream(Exchange):
    """A request on its way to its response; ``deadline`` is the handler's, ``status`` what was
    answered."""

    __slots__ = ("deadline", "sid", "status")

    head: Any

    def __init__(self, sid: int, request: Request | None = None) -> None:
        self.sid = sid
        if request is not None:  # a spare has none yet
            self.request = request
        self.started_ns = 0
        self.cell = None
        self.abandoned = False
        self.lane = NO_LANE
        self.deadline = NEVER_MS
        self.status = 0


class H2Body(H1BodyWriter):
    """Makes a streamed body of ``stream``, piece by piece, as it is: frames have their own length.

    ``rest`` is made and has found no room yet; ``away`` tells that another thread makes the next
    piece; ``trailers`` follow the last.
    """

    __slots__ = ("away", "rest", "stream", "trailers")

    def __init__(
        self, stream: H2Stream, body: Any, length: int | None, trailers: HeaderMap
    ) -> None:
        framing = UNTIL_CLOSE_BODY if length is None else COUNTED_BODY
        super().__init__(stream.request, body, framing, length or 0, trailers)
        self.stream = stream
        self.trailers = trailers
        self.rest = b""
        self.away = False

    @property
    def is_whole(self) -> bool:
        """Whether all of the promised length has been made."""
        return self._framing == COUNTED_BODY and not self._left


def request_factory(
    peer: SocketAddr, expose_errors: bool, tls_info: TlsInfo | None = None
) -> RequestFactory:
    """Makes the requests of one connection."""

    def make(
        method: str,
        target: str,
        version: str,
        fields: FieldBlock,
        body: bytes,
        trailers: FieldBlock | None,
    ) -> Request:
        request = Request._from_wire(
            method, target, version, fields, body, peer, expose_errors, trailers
        )
        if tls_info is not None:
            request.tls_info = tls_info
        return request

    return make


def response_fields(response: Any, length: int | None, date: str, *, head_request: bool) -> Fields:
    """The head of a response of *length* bytes, ``None`` where that is not known, for the wire.

    The server owns ``content-length`` and ``date``; an empty answer to HEAD keeps its own length,
    which nobody else can know. Raises ``ValueError`` for what cannot be sent.
    """
    status: int = response.status
    fields: Fields = [(":status", str(status)), ("date", date)]
    fields += outgoing_fields(response.headers, _OWNED)
    if length is not None and not has_no_content(status):
        text = str(0 if status == 205 else length)
        if head_request and not length:
            own = response.headers.get("content-length")
            if own.isascii() and own.isdigit():
                text = str(int(own[:19]))
        fields.append(("content-length", text))
    return fields


def trailer_fields(trailers: HeaderMap | None) -> Fields:
    """What may stand behind a body."""
    if not trailers:
        return []
    return [field for field in outgoing_fields(trailers) if not is_forbidden_trailer(field[0])]

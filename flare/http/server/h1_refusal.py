"""What every HTTP/1.1 wire of a server does with a request it does not serve."""

from __future__ import annotations

from flare.errors import http_reason_phrase
from flare.http._respond import buffered_head
from flare.http.proto.decoder import RequestDecoder
from flare.http.proto.errors import HttpParseError
from flare.http.proto.heads import RequestHead
from flare.http.server.h1_shared import H1Shared
from flare.http.server.logs import error_log, escape
from flare.http.server.wire import DONE, HEAD, IDLE, Switch
from flare.net import SocketAddr

__all__ = ["CONTINUE", "RefusingWire"]

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_PLAIN = ("content-type", "Content-Type", "text/plain")


class RefusingWire:
    """The state that the HTTP/1.1 wires share, and the refusals: one line for the log, the status
    for the peer, and the end of the connection."""

    __slots__ = (
        "_decoder",
        "_head",
        "_last",
        "_peer",
        "_shared",
        "clean",
        "linger",
        "out",
        "out_bytes",
        "phase",
        "refused",
        "sent",
        "served",
        "status",
        "switch",
    )

    def __init__(self, shared: H1Shared, peer: SocketAddr) -> None:
        self._shared = shared
        self._peer = peer
        self._decoder = RequestDecoder(shared.limits)
        self._head: RequestHead | None = None
        self._last = not shared.config.keep_alive
        self.phase = IDLE
        # Not yet so at first: a blank line before the first request means something else.
        self.clean = False
        self.linger = False
        self.out: list[bytes | memoryview] = []
        self.out_bytes = 0
        self.status = 0
        self.sent = 0
        self.served = 0
        self.refused = 0
        self.switch: Switch | None = None

    def receive_eof(self) -> None:
        self._decoder.receive_eof()

    def drain(self) -> None:
        self._last = True

    def expire(self) -> None:
        what = "head" if self.phase == HEAD else "body"
        self._answer_and_end(408, f"the request's {what} took too long")

    def _refuse(self, error: HttpParseError) -> None:
        if error.variant == HttpParseError.TRUNCATED:
            self.phase = DONE
            return
        self._answer_and_end(error.status, str(error))

    def _answer_and_end(self, status: int, why: str) -> None:
        error_log.info("%d to %s: %s", status, self._peer, escape(why))
        text = f"{status} {http_reason_phrase(status)}".encode()
        head_request = self._decoder.refused_head or (
            self._head is not None and self._head.method == "HEAD"
        )
        head = buffered_head(
            status,
            "",
            [_PLAIN],
            len(text),
            head_request=head_request,
            keep_alive=False,
            date_line=self._shared.date_line,
        )
        self._write(head if head_request else head + text)
        self.status = self.refused = status
        self.sent = 0 if head_request else len(text)
        self.phase = DONE
        self.linger = True

    def _write(self, data: bytes) -> None:
        self.out.append(data)
        self.out_bytes += len(data)

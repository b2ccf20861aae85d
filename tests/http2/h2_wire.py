"""A peer made of single frames, for tests that say exactly what is on the wire."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from flare.http.proto.headers import HeaderMap
from flare.http2 import (
    H2_PREFACE,
    FrameType,
    HpackDecoder,
    HpackEncoder,
    Http2ClientConfig,
    Http2ClientConnection,
    Http2Config,
    Http2Connection,
    build_settings,
    parse_frame,
)
from flare.http2.frame import build_frame

END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY = 1, 1, 4, 8, 0x20
GET = [(":method", "GET"), (":scheme", "http"), (":authority", "a.example"), (":path", "/")]
POST = [(":method", "POST"), *GET[1:]]
OK = [(":status", "200")]

Sent = tuple[str, int, int, bytes]


@dataclass
class Reply:
    """What a handler answers with."""

    status: int = 200
    body: bytes = b""
    headers: Any = field(default_factory=HeaderMap)
    trailers: Any = None

    def __post_init__(self) -> None:
        self.headers = HeaderMap(self.headers)


def block(fields: list[tuple[str, str]]) -> bytes:
    """The fields in a block that leaves every table as it is."""
    return HpackEncoder(dynamic=False, allow_huffman=False).encode(fields)


def head(
    sid: int, fields: list[tuple[str, str]], end: bool = True, flags: int = END_HEADERS
) -> bytes:
    """A HEADERS frame with a whole block."""
    return build_frame(1, flags | end, sid, block(fields))


def data(sid: int, payload: bytes, end: bool = False, flags: int = 0) -> bytes:
    return build_frame(0, flags | end, sid, payload)


def frames_in(wire: bytes) -> list[Sent]:
    """Frames as (type, flags, stream, payload)."""
    found = []
    while wire:
        frame = parse_frame(wire)
        assert frame is not None, wire
        header = frame.header
        found.append((header.type.name, int(header.flags), header.stream_id, frame.payload))
        wire = wire[9 + header.length :]
    return found


def sent(conn: Any, *kinds: str) -> list[Sent]:
    """The frames that *conn* wants to send, or only those of some types."""
    return [frame for frame in frames_in(conn.drain()) if not kinds or frame[0] in kinds]


def started_server(config: Http2Config | None = None, settings: dict[int, int] | None = None):
    """A server whose peer has sent its preface and acknowledged everything."""
    server = Http2Connection(config)
    server.feed(H2_PREFACE + build_settings(settings or {}) + build_settings(ack=True))
    server.drain()
    return server


def started_client(config: Http2ClientConfig | None = None, settings: dict[int, int] | None = None):
    """A client whose server has sent its SETTINGS and acknowledged everything."""
    client = Http2ClientConnection(config)
    client.feed(build_settings(settings or {}) + build_settings(ack=True))
    client.drain()
    return client


def fields_of(conn_decoder: HpackDecoder, payload: bytes) -> list[tuple[str, str]]:
    return [(name, value) for name, value, _ in conn_decoder.decode(payload)]


def exchange(client: Http2ClientConnection, server: Http2Connection, now_ms: int = 0) -> None:
    """Carry bytes both ways until neither has any."""
    while client.wants_write or server.wants_write:
        if out := client.drain():
            server.feed(out, now_ms)
        if out := server.drain():
            client.feed(out, now_ms)


def request(client: Http2ClientConnection, method: str = "GET", **kwargs: Any) -> int:
    """Send a request; its stream."""
    sid = client.next_stream_id()
    client.send_request(sid, method, "http", "a.example", kwargs.pop("path", "/"), **kwargs)
    return sid


__all__ = [
    "ACK",
    "END_HEADERS",
    "END_STREAM",
    "GET",
    "OK",
    "PADDED",
    "POST",
    "PRIORITY",
    "FrameType",
    "Reply",
    "block",
    "build_frame",
    "data",
    "exchange",
    "fields_of",
    "frames_in",
    "head",
    "request",
    "sent",
    "started_client",
    "started_server",
]

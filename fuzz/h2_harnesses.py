"""Fuzz harnesses of HTTP/2: bytes in, requests, responses or ``Http2Error`` out.

Each takes hostile bytes and asserts what the codec promises: no other exception; the same events
and the same answers whatever the cut; nothing looked at after an error; no window, queue or table
past its bound. Frames are hard to hit by chance, so each input is also read as the payloads of
frames whose headers are made for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from flare.http.proto.huffman import HuffmanError, huffman_decode, huffman_encode
from flare.http2 import (
    H2_PREFACE,
    HpackDecoder,
    HpackEncoder,
    HpackError,
    Http2ClientConfig,
    Http2ClientConnection,
    Http2Config,
    Http2Connection,
    Http2Error,
    build_settings,
    parse_frame,
)
from flare.http2.frame import build_frame
from fuzz.registry import harness

_GET = [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/")]
_BLOCK = HpackEncoder(dynamic=False).encode(_GET)
_POST = HpackEncoder(dynamic=False).encode([(":method", "POST"), *_GET[1:], ("x", "y")])
_OK = HpackEncoder().encode([(":status", "200"), ("content-length", "3"), ("server", "x")])
_START = H2_PREFACE + build_settings() + build_settings(ack=True)
_SHOWN = 250


@dataclass
class _Reply:
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": "text/plain"})
    body: bytes = b"hello" * 1000
    trailers: dict[str, str] = field(default_factory=lambda: {"x-t": "1"})


def _check(error: Http2Error) -> None:
    text = str(error)
    assert text.isascii(), text
    assert text.isprintable(), text
    assert len(text) < _SHOWN, text
    assert error.stream_id == 0, text


def _cuts(data: bytes) -> list[list[bytes]]:
    step = 2 + sum(data[:16]) % 61
    return [
        [data],
        [data[i : i + 1] for i in range(len(data))],
        [data[i : i + step] for i in range(0, len(data), step)],
    ]


def _bounds(conn: Any) -> None:
    core = conn.connection
    assert core.active == sum(not stream.closed for stream in core.streams.values())
    assert core.outbox.queued_bytes == sum(s.outgoing_bytes for s in core.streams.values())
    assert core.outbox.send_window < 2**31
    decoder = core.hpack_decoder
    assert decoder.dynamic_size <= decoder.max_size <= decoder.limit
    for stream in core.streams.values():
        assert stream.send_window < 2**31
        assert stream.recv_window >= 0 or core.failure is not None


def _serve(pieces: list[bytes]) -> tuple[object, ...]:
    """What a server makes of *pieces*: its requests, its answers, its error."""
    config = Http2Config(max_header_list_size=2000, max_concurrent_streams=8, rst_burst=20)
    server = Http2Connection(config)
    failure = None
    try:
        for piece in pieces:
            server.feed(piece)
    except Http2Error as error:
        _check(error)
        failure = int(error.code)
    _bounds(server)
    requests = []
    for sid in server.take_completed_streams():
        request = server.take_request(sid)
        requests.append((sid, request.method, request.url, request.headers.items(), request.body))
        if failure is None:
            server.emit_response(sid, _Reply())
    opened = server.take_opened_streams()
    out = server.drain()
    _bounds(server)
    assert not server.drain()
    if failure is not None:
        again = None
        try:
            server.feed(build_frame(1, 5, 99, _BLOCK))
        except Http2Error as error:
            again = int(error.code)
        assert again == failure, "bytes were read after an error"
        assert not server.take_completed_streams()
    return requests, opened, out, failure


def _get_responses(pieces: list[bytes]) -> tuple[object, ...]:
    client = Http2ClientConnection(Http2ClientConfig(max_header_list_size=2000))
    for _ in range(2):
        client.send_request(client.next_stream_id(), "GET", "http", "a", "/")
    client.send_request(client.next_stream_id(), "HEAD", "http", "a", "/")
    client.drain()
    failure = None
    try:
        for piece in pieces:
            client.feed(piece)
    except Http2Error as error:
        _check(error)
        failure = int(error.code)
    _bounds(client)
    responses = []
    for sid in (1, 3, 5):
        if client.response_ready(sid):
            try:
                response = client.take_response(sid)
                responses.append((response.status, response.headers, response.body))
            except Http2Error as error:
                responses.append((int(error.code), error.stream_id == sid))
    return responses, client.drain(), failure


def _framed(data: bytes) -> bytes:
    """*data* as frames: each takes its type, flags, stream and size from four bytes of it."""
    wire = b""
    while len(data) >= 4:
        kind, flags, sid, size = data[0] % 12, data[1], data[2] % 8, data[3] % 40
        wire += build_frame(kind, flags, sid, data[4 : 4 + size])
        data = data[4 + size :]
    return wire


def _unframed(wire: bytes) -> bytes:
    """The seed that ``_framed`` makes *wire* of, where its frames are small enough."""
    data = b""
    while (frame := parse_frame(wire)) is not None:
        header = frame.header
        data += bytes((header.type, header.flags.bits, header.stream_id, len(frame.payload)))
        data += frame.payload
        wire = wire[9 + header.length :]
    return data


_ASK = build_frame(1, 5, 1, _BLOCK)
_REQUESTS = [
    _ASK + build_frame(1, 5, 3, _BLOCK),
    build_frame(1, 4, 1, _POST) + build_frame(0, 8, 1, b"\2abc\0\0") + build_frame(0, 1, 1, b"x"),
    build_frame(1, 1, 1, _BLOCK[:3])
    + build_frame(9, 0, 1, _BLOCK[3:5])
    + build_frame(9, 4, 1, _BLOCK[5:]),
    build_frame(1, 0x2C, 1, b"\1\0\0\0\3\x10" + _POST + b"\0") + build_frame(1, 5, 1, b"\0\1x\1y"),
    build_frame(1, 5, 1, _BLOCK)
    + build_frame(3, 0, 1, bytes(4))
    + build_frame(8, 0, 0, b"\0\0\1\0"),
    build_frame(6, 0, 0, bytes(8))
    + build_frame(4, 0, 0, b"\0\4\0\0\0\1")
    + build_frame(1, 5, 1, _BLOCK),
    build_frame(2, 0, 1, bytes(5)) + build_frame(7, 0, 0, bytes(8)) + build_frame(1, 5, 7, _BLOCK),
]
_RESPONSES = [
    build_frame(1, 4, 1, _OK) + build_frame(0, 1, 1, b"abc") + build_frame(1, 5, 5, b"\x88"),
    build_frame(1, 4, 1, b"\x08\x03103")
    + build_frame(1, 4, 1, b"\x88")
    + build_frame(1, 5, 1, b"\0\1x\1y"),
    build_frame(3, 0, 1, b"\0\0\0\7") + build_frame(7, 0, 0, b"\0\0\0\1\0\0\0\0"),
]


@harness(seeds=[_START + wire for wire in _REQUESTS] + [H2_PREFACE, b"GET / HTTP/1.1\r\n\r\n"])
def h2_server(data: bytes) -> None:
    """A client's bytes: the same requests, answers and error whatever the cut."""
    whole, *others = (_serve(pieces) for pieces in _cuts(data))
    for other in others:
        assert other == whole, f"{other} is not {whole}"


@harness(seeds=[_unframed(wire) for wire in _REQUESTS])
def h2_server_frames(data: bytes) -> None:
    """Sound frames, one after another, that may mean anything."""
    h2_server(_START + _framed(data))


@harness(seeds=[build_settings() + build_settings(ack=True) + wire for wire in _RESPONSES])
def h2_client(data: bytes) -> None:
    """A server's bytes: the same responses and error whatever the cut."""
    whole, *others = (_get_responses(pieces) for pieces in _cuts(data))
    for other in others:
        assert other == whole, f"{other} is not {whole}"


@harness(seeds=[_unframed(wire) for wire in _RESPONSES])
def h2_client_frames(data: bytes) -> None:
    """Sound frames from a server that may mean anything."""
    h2_client(build_settings() + _framed(data))


@harness(seeds=[_BLOCK, _POST, _OK, b"\x20\x3f\xe1\x1f\x82", b"\x40\x01a\x01b\xbe\x7e\x01c"])
def hpack_blocks(data: bytes) -> None:
    """Three blocks in a row; what is decoded and encoded again decodes to the same."""
    decoder = HpackDecoder(max_header_list_size=3000)
    third = len(data) // 3
    for block in (data[:third], data[third : 2 * third], data[2 * third :]):
        try:
            fields, too_large = decoder.decode_block(block)
        except HpackError as error:
            _check(error)
            return
        assert decoder.dynamic_size <= decoder.max_size <= decoder.limit
        assert decoder.dynamic_size == sum(len(n) + len(v) + 32 for n, v, _ in decoder.dynamic)
        assert sum(len(n) + len(v) + 32 for n, v, _ in fields) <= 3000
        if not too_large:
            again = HpackDecoder().decode(HpackEncoder().encode(fields))
            assert [field[:2] for field in again] == [field[:2] for field in fields]


@harness(seeds=[bytes.fromhex("f1e3c2e5f23a6ba0ab90f4ff"), b"\xff\xff\xff\xfc", b"\0\x1f"])
def huffman(data: bytes) -> None:
    """What decodes was the one way to encode it, and anything that is encoded decodes."""
    assert huffman_decode(huffman_encode(data)) == data
    try:
        text = huffman_decode(data)
    except HuffmanError:
        return
    assert huffman_encode(text) == data

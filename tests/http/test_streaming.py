from __future__ import annotations

import io

import pytest

from flare.errors import ValidationError
from flare.http.body import ChunkedBody, InlineBody
from flare.http.cancel import CancelCell, CancelReason
from flare.http.request import Request
from flare.http.response import Response, StreamingResponse, stream_response
from flare.http.streaming import RequestChunkSource, serialize_streaming_response


class Counted:
    """A body that promises *length* bytes and hands out *chunks*."""

    def __init__(self, length: int | None, *chunks: bytes) -> None:
        self.length = length
        self.chunks = list(chunks)
        self.closed = False

    def content_length(self) -> int | None:
        return self.length

    def next_chunk(self, cancel) -> bytes | None:
        return self.chunks.pop(0) if self.chunks else None

    def close(self) -> None:
        self.closed = True


def test_a_body_of_unknown_length_is_chunked():
    response = StreamingResponse(200, iter([b"hello ", b"", b"world, and ten"]))
    assert serialize_streaming_response(response) == (
        b"HTTP/1.1 200 OK\r\n"
        b"Transfer-Encoding: chunked\r\n"
        b"Connection: keep-alive\r\n\r\n"
        b"6\r\nhello \r\ne\r\nworld, and ten\r\n0\r\n\r\n"
    )


@pytest.mark.parametrize("body", [b"hello", InlineBody("hello"), io.BytesIO(b"hello")])
def test_a_body_of_known_length_is_counted(body):
    response = StreamingResponse(201, body, "Made", headers={"X-A": "b"})
    assert serialize_streaming_response(response, keep_alive=False) == (
        b"HTTP/1.1 201 Made\r\nX-A: b\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"
    )


def test_fields_that_frame_the_message_are_the_serializers_own():
    headers = {
        "CONTENT-LENGTH": "3",
        "transfer-Encoding": "gzip",
        "trailer": "X",
        "connection": "upgrade",
        "DATE": "x",
        "Content-Type": "text/plain",
    }
    data = serialize_streaming_response(StreamingResponse(200, iter([b"x"]), headers=headers))
    assert data.split(b"\r\n\r\n")[0] == (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
        b"Transfer-Encoding: chunked\r\nConnection: keep-alive"
    )


def test_connection_close_of_the_handler_is_heeded():
    response = StreamingResponse(200, iter([b"x"]), headers={"Connection": "close"})
    assert b"\r\nConnection: close\r\n" in serialize_streaming_response(response)


def test_trailers_follow_and_forbidden_ones_do_not():
    response = StreamingResponse(200, iter([b"x"]))
    response.trailers.append("X-Sum", "1")
    response.trailers.append("Content-Length", "9")
    data = serialize_streaming_response(response)
    assert b"\r\nTrailer: X-Sum\r\n" in data
    assert data.endswith(b"1\r\nx\r\n0\r\nX-Sum: 1\r\n\r\n")


def test_a_response_with_a_stream_is_taken_too():
    data = serialize_streaming_response(stream_response([b"x"], status=404))
    assert data.startswith(b"HTTP/1.1 404 Not Found\r\n")
    with pytest.raises(ValidationError, match="no streamed body"):
        serialize_streaming_response(Response(200))


@pytest.mark.parametrize("status", [204, 304])
def test_a_status_without_content_has_no_body(status):
    body = Counted(None, b"x")
    data = serialize_streaming_response(StreamingResponse(status, body))
    assert data.endswith(b"\r\n\r\n")
    assert b"Transfer-Encoding" not in data
    assert body.closed


def test_bytes_past_the_promised_length_are_left_out():
    body = Counted(4, b"abc", b"def", b"ghi")
    data = serialize_streaming_response(StreamingResponse(200, body))
    assert data.endswith(b"\r\n\r\nabcd")
    assert body.closed


def test_an_end_before_the_promised_length_is_an_error():
    body = Counted(4, b"abc")
    with pytest.raises(ValidationError, match="1 bytes before its 4"):
        serialize_streaming_response(StreamingResponse(200, body))
    assert body.closed


def test_a_promised_length_of_zero_pulls_nothing():
    body = Counted(0, b"never")
    assert serialize_streaming_response(StreamingResponse(200, body)).endswith(
        b"Content-Length: 0\r\nConnection: keep-alive\r\n\r\n"
    )
    assert body.chunks == [b"never"]


def test_what_the_source_raises_comes_out_and_the_source_is_closed():
    closed = []

    def source():
        try:
            yield b"x"
            raise LookupError("broken")
        finally:
            closed.append(True)

    with pytest.raises(LookupError):
        serialize_streaming_response(StreamingResponse(200, source()))
    assert closed == [True]


def test_a_flipped_token_ends_the_message_without_its_last_chunk():
    cell = CancelCell()
    closed = []

    class Source:
        def next(self, cancel):
            cell.flip(CancelReason.PEER_CLOSED)
            return b"x"

        def close(self):
            closed.append(True)

    response = StreamingResponse(200, ChunkedBody(Source()))
    data = serialize_streaming_response(response, cell.handle())
    assert data.endswith(b"\r\n\r\n1\r\nx\r\n")
    assert closed == [True]


class TestRequestChunkSource:
    def test_it_hands_out_slices(self):
        source = RequestChunkSource.of_with_chunk_size(Request.test_post("/", b"abcdefg"), 3)
        assert (source.total(), source.remaining()) == (7, 7)
        assert source.next() == b"abc"
        assert source.remaining() == 4
        assert [source.next(), source.next(), source.next(), source.next()] == [
            b"def",
            b"g",
            None,
            None,
        ]
        assert (source.total(), source.remaining()) == (7, 0)

    def test_slices_are_64_kib_by_default(self):
        source = RequestChunkSource.of(Request.test_post("/", bytes(65537)))
        assert [len(source.next()), len(source.next())] == [65536, 1]

    def test_an_empty_body_is_no_chunk(self):
        assert RequestChunkSource.of(Request.test_get("/")).next() is None

    @pytest.mark.parametrize("size", [0, -1])
    def test_a_slice_has_at_least_one_byte(self, size):
        with pytest.raises(ValidationError, match="chunk_size"):
            RequestChunkSource.of_with_chunk_size(Request.test_get("/"), size)

    def test_it_ends_when_cancelled(self):
        cell = CancelCell()
        source = RequestChunkSource.of(Request.test_post("/", b"abc"))
        cell.flip(CancelReason.TIMEOUT)
        assert source.next(cell.handle()) is None
        assert source.remaining() == 3

    def test_a_request_can_be_sent_back_as_it_came(self):
        source = RequestChunkSource.of_with_chunk_size(Request.test_post("/", b"abcde"), 2)
        data = serialize_streaming_response(stream_response(source))
        assert data.endswith(b"2\r\nab\r\n2\r\ncd\r\n1\r\ne\r\n0\r\n\r\n")

"""Bodies that are made piece by piece."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flare.http import Body, Cancel, CancelCell, CancelReason, ChunkedBody, InlineBody, drain_body
from flare.http.body import ChunkSource, FileBody, IterableBody, as_body
from flare.http.response import StreamingResponse
from flare.testing import TestClient

NEVER = Cancel.never()


class Source:
    def __init__(self, *chunks: bytes) -> None:
        self.chunks = list(chunks)
        self.closed = 0

    def next(self, cancel: Cancel) -> bytes | None:
        return self.chunks.pop(0) if self.chunks else None

    def close(self) -> None:
        self.closed += 1


def chunks(body: Body) -> list[bytes]:
    found = []
    while (chunk := body.next_chunk(NEVER)) is not None:
        found.append(chunk)
    return found


@pytest.mark.parametrize(
    ("data", "length", "parts"),
    [
        (b"abc", 3, [b"abc"]),
        ("\u00e9", 2, [b"\xc3\xa9"]),
        (b"", 0, []),
        (bytearray(b"x"), 1, [b"x"]),
    ],
)
def test_an_inline_body_is_one_chunk(data: Any, length: int, parts: list[bytes]) -> None:
    body = InlineBody(data)
    assert body.content_length() == length
    assert chunks(body) == parts
    assert body.content_length() == length
    assert body.next_chunk(NEVER) is None


def test_a_chunked_body_hands_on_its_source_and_closes_it() -> None:
    source = Source(b"a", b"", b"b")
    body = ChunkedBody(source)
    assert body.content_length() is None
    assert chunks(body) == [b"a", b"", b"b"]
    body.close()
    assert source.closed == 1


def test_an_iterable_body_closes_its_generator() -> None:
    ended = []

    def make() -> Iterator[bytes]:
        try:
            yield b"a"
            yield b"b"
        finally:
            ended.append(True)

    body = IterableBody(make())
    assert body.next_chunk(NEVER) == b"a"
    body.close()
    assert ended == [True]
    assert body.next_chunk(NEVER) is None


def test_a_file_body_is_the_rest_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 200_000)
    with path.open("rb") as file:
        file.seek(50_000)
        body = FileBody(file)
        assert body.content_length() == 150_000
        assert [len(chunk) for chunk in chunks(body)] == [65536, 65536, 18928]
        body.close()
        assert file.closed


def test_a_file_at_or_behind_its_end_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    for place in (3, 100):
        with path.open("rb") as file:
            file.seek(place)
            assert FileBody(file).content_length() == 0


def test_memory_files_have_a_length_and_pipes_have_none() -> None:
    memory = io.BytesIO(b"abcdef")
    memory.seek(2)
    body = FileBody(memory)
    assert body.content_length() == 4
    assert chunks(body) == [b"cdef"]
    reader, writer = os.pipe()
    os.write(writer, b"abc")
    os.close(writer)
    with open(reader, "rb", buffering=0) as pipe:
        assert FileBody(pipe).content_length() is None
        assert chunks(as_body(pipe)) == [b"abc"]


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        (b"abc", InlineBody),
        (bytearray(b"abc"), InlineBody),
        (memoryview(b"abc"), InlineBody),
        (Source(b"abc"), ChunkedBody),
        (io.BytesIO(b"abc"), FileBody),
        ([b"a", b"bc"], IterableBody),
        (iter([b"abc"]), IterableBody),
        ((part for part in [b"abc"]), IterableBody),
        (InlineBody(b"abc"), InlineBody),
    ],
)
def test_anything_that_gives_bytes_is_a_body(source: Any, kind: type[Any]) -> None:
    body = as_body(source)
    assert isinstance(body, kind)
    assert isinstance(body, Body)
    assert drain_body(body) == b"abc"


@pytest.mark.parametrize("source", ["text", 5, None, object()])
def test_anything_else_is_not(source: Any) -> None:
    with pytest.raises(TypeError, match="stream"):
        as_body(source)


def test_a_file_that_is_open_as_text_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    with open(tmp_path / "file") as file:
        for make in (as_body, FileBody):
            with pytest.raises(TypeError, match="binary"):
                make(file)


def test_protocols_are_told_apart() -> None:
    assert isinstance(Source(), ChunkSource)
    assert not isinstance(Source(), Body)
    assert isinstance(InlineBody(b""), Body)
    assert not isinstance(InlineBody(b""), ChunkSource)


def test_draining_stops_when_cancelled_and_closes() -> None:
    cell = CancelCell()

    class Cancelling(Source):
        def next(self, cancel: Cancel) -> bytes | None:
            if len(self.chunks) == 1:
                cell.flip(CancelReason.SHUTDOWN)
            return super().next(cancel)

    source = Cancelling(b"a", b"b", b"c")
    source.chunks.append(b"d")
    assert drain_body(source, cell.handle()) == b"abcd"
    assert source.closed == 1
    late = Source(b"a")
    assert drain_body(late, cell.handle()) == b""
    assert late.closed == 1


def test_draining_closes_a_source_that_fails() -> None:
    class Failing(Source):
        def next(self, cancel: Cancel) -> bytes | None:
            raise OSError("gone")

    source = Failing()
    with pytest.raises(OSError, match="gone"):
        drain_body(source)
    assert source.closed == 1


@pytest.mark.parametrize("chunk", [None, "text", 5])
def test_what_is_no_bytes_is_neither_a_chunk_nor_the_end(chunk: Any) -> None:
    with pytest.raises(TypeError, match=type(chunk).__name__.removesuffix("Type")):
        drain_body(iter([b"ab", chunk, b"c"]))
    with pytest.raises(TypeError):
        TestClient(lambda _: StreamingResponse(200, iter([b"ab", chunk]))).get("/")

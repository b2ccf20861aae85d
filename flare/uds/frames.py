"""Frames that carry many requests over one stream: their form, and sorting them by request.

A frame is, the high byte first, ``u32 length | u64 request_id | u8 kind`` and *length* bytes of
payload. Nothing here reads or writes: ``FrameDemux`` takes bytes as they come, and ``FrameMux``
(in ``flare.uds.mux``) puts a stream to it.
"""

from __future__ import annotations

import struct
from collections import deque
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from flare.errors import ValidationError
from flare.io import ByteReader, ByteWriter

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = [
    "HEADER_LEN",
    "MAX_FRAME_PAYLOAD",
    "MAX_HELD",
    "Frame",
    "FrameDemux",
    "FrameKind",
    "decode_frame",
    "encode_frame",
]

HEADER_LEN = 13
"""The size of what comes before the payload."""

MAX_FRAME_PAYLOAD = 64 * 1024 * 1024
"""The longest payload of one frame."""

MAX_HELD = 4 * MAX_FRAME_PAYLOAD
"""How many bytes of frames may wait in a ``FrameDemux``, where the caller does not say."""

_HEADER = struct.Struct(">IQB")
_FRAME_COST = 256  # what a waiting frame takes beside its payload, more or less
_MAX_CLOSED = 4096


class FrameKind(IntEnum):
    """What a frame says about its request."""

    OPEN = 0
    CHUNK = 1
    DONE = 2
    ERROR = 3
    CANCEL = 4


_KINDS = {int(kind): kind for kind in FrameKind}
_LAST = (FrameKind.DONE, FrameKind.ERROR)


@dataclass(slots=True)
class Frame:
    """One frame. A *kind* not in ``FrameKind`` is a plain int."""

    request_id: int
    kind: int
    payload: bytes


def encode_frame(w: ByteWriter, request_id: int, kind: int, payload: ReadableBuffer = b"") -> None:
    """Append a frame to *w*.

    A *payload* above ``MAX_FRAME_PAYLOAD``, a *request_id* that is no u64 or a *kind* that is no u8
    raises ``ValidationError``, and nothing is written.
    """
    size = memoryview(payload).nbytes
    _check_size(size, MAX_FRAME_PAYLOAD)
    for field, value, top in (("request_id", request_id, 2**64), ("kind", kind, 2**8)):
        if not 0 <= value < top:
            raise ValidationError(field, f"must be 0..{top - 1}, got {value}")
    w.write_bytes(_HEADER.pack(size, request_id, kind))
    w.write_bytes(payload)


def decode_frame(r: ByteReader) -> Frame:
    """Read one whole frame from *r*.

    Too few bytes raise the reader's ``EOFError``, a length above ``MAX_FRAME_PAYLOAD``
    ``ValidationError``. After either the reader is where it was.
    """
    start = r.position()
    try:
        size, request_id, kind = _HEADER.unpack(r.read_bytes(HEADER_LEN))
        _check_size(size, MAX_FRAME_PAYLOAD)
        return Frame(request_id, _KINDS.get(kind, kind), bytes(r.read_bytes(size)))
    except (EOFError, ValidationError):
        r.pos = start
        raise


class FrameDemux:
    """Cuts a byte stream into frames and keeps them, by request, until they are asked for.

    *max_payload* is the longest payload taken. *max_held* bounds what may wait to be polled, each
    frame counting its payload and 256 bytes. A stream that exceeds either is broken for good:
    ``feed`` raises ``ValidationError`` then and ever after, while what came before can be polled.

    Not for two threads at a time.
    """

    def __init__(self, max_payload: int = MAX_FRAME_PAYLOAD, max_held: int = MAX_HELD) -> None:
        self._max_payload = max_payload
        self._max_held = max_held
        self._partial = bytearray()
        self._inboxes: dict[int, deque[Frame]] = {}
        self._held = 0
        self._closed: dict[int, None] = {}  # as an ordered set
        self._broken: ValidationError | None = None

    def feed(self, data: ReadableBuffer) -> None:
        """Take the next bytes of the stream, cut anywhere."""
        if self._broken is not None:
            raise ValidationError(self._broken.field, self._broken.reason)
        partial = self._partial
        partial += memoryview(data).cast("B")
        try:
            end = self._cut(partial)
        except ValidationError as exc:
            self._broken = exc
            partial.clear()
            raise
        del partial[:end]

    def poll(self, request_id: int) -> Frame | None:
        """Take the oldest waiting frame of *request_id*; ``None`` where there is none."""
        inbox = self._inboxes.get(request_id)
        if inbox is None:
            return None
        frame = inbox.popleft()
        self._held -= _cost(frame)
        if not inbox:
            del self._inboxes[request_id]
        return frame

    def pending(self, request_id: int) -> int:
        """How many frames of *request_id* wait."""
        return len(self._inboxes.get(request_id, ()))

    def ready(self) -> list[int]:
        """The requests of which frames wait, the one that waits longest for its first poll first.

        This is how the side that is asked learns of new requests.
        """
        return list(self._inboxes)

    def drop(self, request_id: int) -> None:
        """Throw away the frames of *request_id* that wait."""
        for frame in self._inboxes.pop(request_id, ()):
            self._held -= _cost(frame)

    def close_request(self, request_id: int) -> None:
        """``drop``, and throw away those still to come, to the one that ends it (DONE or ERROR).

        Of requests that never end the latest 4096 are remembered.
        """
        self.drop(request_id)
        self._closed[request_id] = None
        if len(self._closed) > _MAX_CLOSED:
            del self._closed[next(iter(self._closed))]

    def _cut(self, data: bytearray) -> int:
        """Keep the whole frames at the start of *data*; returns where the first partial one is."""
        start = 0
        with memoryview(data) as view:
            while len(view) - start >= HEADER_LEN:
                size, request_id, kind = _HEADER.unpack_from(view, start)
                _check_size(size, self._max_payload)
                end = start + HEADER_LEN + size
                if end > len(view):
                    break
                self._keep(request_id, kind, bytes(view[start + HEADER_LEN : end]))
                start = end
        return start

    def _keep(self, request_id: int, kind: int, payload: bytes) -> None:
        if request_id in self._closed:
            if kind in _LAST:
                del self._closed[request_id]
            return
        frame = Frame(request_id, _KINDS.get(kind, kind), payload)
        self._held += _cost(frame)
        if self._held > self._max_held:
            self._held -= _cost(frame)
            raise ValidationError("frames", f"more than {self._max_held} bytes wait to be polled")
        self._inboxes.setdefault(request_id, deque()).append(frame)


def _cost(frame: Frame) -> int:
    return len(frame.payload) + _FRAME_COST


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise ValidationError("payload", f"must be at most {limit} bytes, got {size}")

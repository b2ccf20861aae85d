"""Many requests at once over one stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flare.errors import ValidationError
from flare.io import ByteWriter
from flare.net.stream import DuplexStream
from flare.uds.frames import Frame, FrameDemux, FrameKind, encode_frame

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["FrameMux"]


class FrameMux:
    """Sends frames over *stream*, which it owns, and sorts those that come. Use it with ``with``.

    What is sent is gathered until ``flush``. What comes is taken by ``pump`` and then polled by
    request. Only these two block, and only as the stream does; its errors come out as they are.

    One thread may send (``next_id`` to ``flush``) while another receives (``pump`` to ``ready``);
    ``cancel`` does both. ``close`` may be called from any thread.
    """

    def __init__(self, stream: DuplexStream, demux: FrameDemux | None = None) -> None:
        """*demux* is a ``FrameDemux`` with limits of its own; by default one with the usual."""
        self._stream = stream
        self._demux = FrameDemux() if demux is None else demux
        self._unsent = bytearray()
        self._writer = ByteWriter(self._unsent)
        self._last_id = 0

    def next_id(self) -> int:
        """A number for a new request: 1, 2, 3 and so on."""
        self._last_id += 1
        return self._last_id

    def open(self, request_id: int) -> None:
        """Begin a request."""
        encode_frame(self._writer, request_id, FrameKind.OPEN)

    def send_chunk(self, request_id: int, payload: ReadableBuffer) -> None:
        """Send a piece of a request, or of its answer.

        Above ``MAX_FRAME_PAYLOAD`` bytes it raises ``ValidationError``.
        """
        encode_frame(self._writer, request_id, FrameKind.CHUNK, payload)

    def done(self, request_id: int) -> None:
        """Say that this side has sent all of a request."""
        encode_frame(self._writer, request_id, FrameKind.DONE)

    def error(self, request_id: int, payload: ReadableBuffer = b"") -> None:
        """Say that a request failed, and how."""
        encode_frame(self._writer, request_id, FrameKind.ERROR, payload)

    def cancel(self, request_id: int) -> None:
        """Give a request up. What of its answer waits or is still to come is thrown away."""
        encode_frame(self._writer, request_id, FrameKind.CANCEL)
        self._demux.close_request(request_id)

    def flush(self) -> None:
        """Write all that was gathered.

        After a ``Timeout`` what was not written is still here, for the next ``flush``.
        """
        unsent = self._unsent
        while unsent:
            del unsent[: self._stream.write(unsent)]

    def pump(self, max_bytes: int = 65536) -> int:
        """Wait for bytes and sort the frames in them; returns how many came, 0 at the end.

        A frame that the end cuts in two is lost. ``ValidationError`` where the peer exceeds a limit
        of the ``FrameDemux``: nothing can be made of the stream any more.
        """
        if max_bytes < 1:
            raise ValidationError("max_bytes", f"must be > 0, got {max_bytes}")
        data = self._stream.read(max_bytes)
        if data:
            self._demux.feed(data)
        return len(data)

    def poll(self, request_id: int) -> Frame | None:
        """Take the oldest waiting frame of *request_id*; ``None`` where there is none."""
        return self._demux.poll(request_id)

    def pending(self, request_id: int) -> int:
        """How many frames of *request_id* wait."""
        return self._demux.pending(request_id)

    def ready(self) -> list[int]:
        """The requests of which frames wait; see ``FrameDemux.ready``."""
        return self._demux.ready()

    def close(self) -> None:
        """Close the stream; what was not flushed is lost. Idempotent."""
        self._stream.close()

    def __enter__(self) -> FrameMux:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<FrameMux of {self._stream!r}>"

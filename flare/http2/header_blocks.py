"""Header blocks put together from HEADERS and CONTINUATION, and decoded (RFC 9113 section 4.3).

A block is decoded once, when it is whole, and always: HPACK's table has to see it even where
nobody wants its stream. Heads that come again byte for byte are the cheap case on a busy
connection, so a bounded memo keeps what they meant, for as long as the table stands still, or for
good where they name nothing in it: then only what they enter is entered again. It belongs to the
connection and is never shared; blocks with a sensitive field do not enter it.
"""

from __future__ import annotations

from typing import Any, Final

from flare.http.proto.hpack_fields import HpackHeader
from flare.http2.errors import Http2Error, Http2ErrorCode
from flare.http2.floods import FloodGuard
from flare.http2.hpack import BLOCK_FACTOR, ENTRY_OVERHEAD, HpackDecoder, entered_alone
from flare.http2.messages import RequestHead, ResponseHead

__all__ = ["HeaderBlock", "HeaderBlocks", "HeaderList"]

_MEMO_HEADS: Final = 64
_MEMO_BLOCK_BYTES: Final = 512


class HeaderList:
    """A decoded block. ``too_large``: past a limit, and not kept. ``request`` is the head it is,
    once somebody has found that out, and ``note`` what a server keeps with it; ``response`` the
    head it is in answer to most methods.

    It means the same while the table is of ``generation``; -1 where it changed that itself.
    ``entries`` are those it enters, where that is all it has to do with the table.
    """

    __slots__ = (
        "entries",
        "fields",
        "generation",
        "note",
        "request",
        "response",
        "size",
        "too_large",
    )

    def __init__(self, fields: list[HpackHeader], too_large: bool, generation: int) -> None:
        self.fields = fields
        self.too_large = too_large
        self.generation = generation
        self.entries: list[HpackHeader] | None = None
        self.request: RequestHead | None = None
        self.response: ResponseHead | None = None
        self.note: Any = None
        self.size = sum([len(name) + len(value) + ENTRY_OVERHEAD for name, value, _ in fields])


class HeaderBlock:
    """A block whose end has not come yet. ``error`` is to be raised once it is decoded."""

    __slots__ = ("data", "end_stream", "error", "frames", "started_ms", "stream_id")

    def __init__(
        self, stream_id: int, end_stream: bool, error: Http2Error | None, started_ms: int
    ) -> None:
        self.stream_id = stream_id
        self.data = bytearray()
        self.end_stream = end_stream
        self.error = error
        self.frames = 0
        self.started_ms = started_ms


class HeaderBlocks:
    """Collects and decodes the blocks of one connection; ``open`` is the one begun, if any."""

    __slots__ = ("_decoder", "_floods", "_memo", "open")

    def __init__(self, decoder: HpackDecoder, floods: FloodGuard) -> None:
        self._decoder = decoder
        self._floods = floods
        self._memo: dict[bytes, HeaderList] = {}
        self.open: HeaderBlock | None = None

    def add(self, block: HeaderBlock, piece: bytes, last: bool) -> bool:
        """Add a frame's *piece* to *block*; whether it is whole. Raises ``Http2Error`` past a
        limit, before more is held."""
        block.frames += 1
        self._floods.block_frames(block.frames)
        cap = BLOCK_FACTOR * self._decoder.list_cap
        if len(block.data) + len(piece) > cap:
            raise Http2Error(
                Http2ErrorCode.ENHANCE_YOUR_CALM, debug=f"a header block of more than {cap} bytes"
            )
        if piece or last:
            self._floods.filled()
        else:
            self._floods.empty()
        block.data += piece
        self.open = None if last else block
        return last

    def known(self, data: bytes) -> HeaderList | None:
        """What a whole block says, where one of the same bytes said it just now."""
        known = self._memo.get(data)
        if known is not None and known.generation == self._decoder.generation:
            return known
        return None

    def decode(self, data: bytes) -> HeaderList:
        """What a whole block says. Raises ``HpackError``."""
        decoder = self._decoder
        known = self._memo.get(data)
        if known is not None:
            if known.generation == decoder.generation:
                return known
            entries = known.entries
            if entries is not None and decoder.repeat(entries):
                return known
        generation = decoder.generation
        headers = HeaderList(*decoder.decode_block(data), generation)
        if len(data) <= _MEMO_BLOCK_BYTES and not any(header[2] for header in headers.fields):
            if decoder.generation != generation:
                headers.generation = -1
            if known is not None and not headers.too_large:  # it will come a third time
                places = entered_alone(data)
                if places is not None:
                    headers.entries = [headers.fields[place] for place in places]
            if len(self._memo) >= _MEMO_HEADS:
                self._memo.clear()
            self._memo[data] = headers
        return headers

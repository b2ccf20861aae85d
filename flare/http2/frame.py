"""The frame codec of HTTP/2 (RFC 9113 sections 4 and 6): frames in and out of bytes, no more.

What a frame may be at which moment is the business of ``flare.http2.state``. The ``build_*``
functions return encoded frames.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from typing import Final

from flare.http.proto.ascii import BytesLike
from flare.http2.errors import Http2Error, Http2ErrorCode

__all__ = [
    "FRAME_HEADER_SIZE",
    "H2_DEFAULT_FRAME_SIZE",
    "H2_MAX_FRAME_SIZE",
    "H2_PREFACE",
    "MAX_STREAM_ID",
    "MAX_WINDOW",
    "Frame",
    "FrameFlags",
    "FrameHeader",
    "FrameType",
    "build_frame",
    "build_goaway",
    "build_ping",
    "build_rst",
    "build_settings",
    "build_window_update",
    "encode_frame",
    "parse_frame",
    "split_headers",
    "strip_padding",
]

H2_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
H2_DEFAULT_FRAME_SIZE: Final = 16_384
H2_MAX_FRAME_SIZE: Final = 2**24 - 1
FRAME_HEADER_SIZE: Final = 9
MAX_STREAM_ID: Final = 2**31 - 1
MAX_WINDOW: Final = 2**31 - 1

_header = struct.Struct(">HBBBI")  # the length's high 16 bits and low 8, type, flags, stream
_setting = struct.Struct(">HI")
_PING_SIZE = 8


class FrameType(IntEnum):
    """The ten types of RFC 9113. Any other number makes a member named ``UNKNOWN``."""

    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9

    @classmethod
    def _missing_(cls, value: object) -> FrameType | None:
        if not isinstance(value, int) or not 0 <= value <= 0xFF:
            return None
        unknown = int.__new__(cls, value)
        unknown._name_ = "UNKNOWN"
        unknown._value_ = value
        return unknown


class FrameFlags(IntFlag):
    """Flags of a frame; the same bit means different things on different types."""

    END_STREAM = 0x1
    ACK = 0x1
    END_HEADERS = 0x4
    PADDED = 0x8
    PRIORITY = 0x20

    def has(self, mask: int) -> bool:
        """Whether every bit of *mask* is set."""
        return int(self) & mask == mask

    @property
    def bits(self) -> int:
        """The flags as they stand in the frame."""
        return int(self)


@dataclass(slots=True)
class FrameHeader:
    """The nine octets in front of a payload; ``length`` is the payload's."""

    length: int = 0
    type: FrameType = FrameType.DATA
    flags: FrameFlags = field(default=FrameFlags(0))
    stream_id: int = 0


@dataclass(slots=True)
class Frame:
    """One frame, its payload as on the wire: padding and priority included."""

    header: FrameHeader
    payload: bytes = b""


# Plain integers: operators of a flag class are slow, and every response has a head.
_HEADERS: Final = int(FrameType.HEADERS)
_END_STREAM: Final = int(FrameFlags.END_STREAM)
_END_HEADERS: Final = int(FrameFlags.END_HEADERS)


def parse_frame(buf: BytesLike, max_frame_size: int = H2_MAX_FRAME_SIZE) -> Frame | None:
    """The frame at the start of *buf*, of ``9 + frame.header.length`` bytes; ``None`` for more.

    Raises ``Http2Error`` with FRAME_SIZE_ERROR for a payload of more than *max_frame_size*
    bytes, as soon as the nine octets that say so are there.
    """
    if len(buf) < FRAME_HEADER_SIZE:
        return None
    high, low, kind, flags, stream_id = _header.unpack_from(buf)
    length = high << 8 | low
    if length > max_frame_size:
        raise Http2Error(
            Http2ErrorCode.FRAME_SIZE_ERROR,
            debug=f"a frame of {length} bytes, where {max_frame_size} are allowed",
        )
    end = FRAME_HEADER_SIZE + length
    if len(buf) < end:
        return None
    header = FrameHeader(length, FrameType(kind), FrameFlags(flags), stream_id & MAX_STREAM_ID)
    return Frame(header, bytes(buf[FRAME_HEADER_SIZE:end]))


def encode_frame(f: Frame) -> bytes:
    """*f* in bytes, with the length that its payload has. ``ValueError`` past 2**24 - 1."""
    header = f.header
    return build_frame(header.type, header.flags, header.stream_id, f.payload)


def build_frame(kind: int, flags: int, stream_id: int, payload: BytesLike = b"") -> bytes:
    """A frame in bytes. ``ValueError`` for a payload or a stream id that no frame can have."""
    length = len(payload)
    if length > H2_MAX_FRAME_SIZE:
        raise ValueError(f"a frame has at most {H2_MAX_FRAME_SIZE} bytes, not {length}")
    if not 0 <= stream_id <= MAX_STREAM_ID:
        raise ValueError(f"a stream id is from 0 to 2**31 - 1, not {stream_id}")
    return _header.pack(length >> 8, length & 0xFF, kind, flags, stream_id) + payload


def build_settings(settings: Mapping[int, int] | None = None, *, ack: bool = False) -> bytes:
    """A SETTINGS frame with these values by id; ``ack=True`` makes the empty acknowledgement."""
    payload = b"".join([_setting.pack(*pair) for pair in (settings or {}).items()])
    return build_frame(FrameType.SETTINGS, FrameFlags.ACK if ack else 0, 0, payload)


def build_goaway(last_stream_id: int, code: int, debug: bytes = b"") -> bytes:
    """A GOAWAY frame; *debug* is for people."""
    payload = struct.pack(">II", last_stream_id, code) + debug
    return build_frame(FrameType.GOAWAY, 0, 0, payload)


def build_rst(stream_id: int, code: int) -> bytes:
    """A RST_STREAM frame."""
    return build_frame(FrameType.RST_STREAM, 0, stream_id, code.to_bytes(4, "big"))


def build_window_update(stream_id: int, increment: int) -> bytes:
    """A WINDOW_UPDATE frame. ``ValueError`` unless *increment* is from 1 to 2**31 - 1."""
    if not 1 <= increment <= MAX_WINDOW:
        raise ValueError(f"a window grows by 1 to 2**31 - 1 bytes, not {increment}")
    return build_frame(FrameType.WINDOW_UPDATE, 0, stream_id, increment.to_bytes(4, "big"))


def build_ping(data: bytes, ack: bool = False) -> bytes:
    """A PING frame with these eight bytes."""
    if len(data) != _PING_SIZE:
        raise ValueError(f"a PING has 8 bytes, not {len(data)}")
    return build_frame(FrameType.PING, FrameFlags.ACK if ack else 0, 0, data)


def split_headers(stream_id: int, block: bytes, max_frame: int, end_stream: bool) -> bytes:
    """HEADERS with *block*, and CONTINUATION for what is past *max_frame* bytes of it."""
    flags = _END_STREAM if end_stream else 0
    if len(block) <= max_frame:
        return build_frame(_HEADERS, flags | _END_HEADERS, stream_id, block)
    frames = [build_frame(_HEADERS, flags, stream_id, block[:max_frame])]
    for start in range(max_frame, len(block), max_frame):
        last = _END_HEADERS if start + max_frame >= len(block) else 0
        piece = block[start : start + max_frame]
        frames.append(build_frame(FrameType.CONTINUATION, last, stream_id, piece))
    return b"".join(frames)


def strip_padding(frame: Frame) -> bytes:
    """The payload without padding (of DATA, HEADERS and PUSH_PROMISE with the PADDED flag).

    Raises ``Http2Error`` with PROTOCOL_ERROR where the padding is as long as the payload, or
    longer, and FRAME_SIZE_ERROR where its length is missing.
    """
    if not frame.header.flags.has(FrameFlags.PADDED):
        return frame.payload
    return remove_padding(frame.payload)


def remove_padding(payload: bytes) -> bytes:
    """The payload of a frame that has the PADDED flag, without padding; see ``strip_padding``."""
    if not payload:
        raise Http2Error(
            Http2ErrorCode.FRAME_SIZE_ERROR, debug="a padded frame without its padding's length"
        )
    padding = payload[0]
    if padding >= len(payload):
        raise Http2Error(
            Http2ErrorCode.PROTOCOL_ERROR, debug="padding as long as the frame, or longer"
        )
    return payload[1 : len(payload) - padding]

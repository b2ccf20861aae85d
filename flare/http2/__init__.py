"""HTTP/2 without I/O: frames, HPACK, and connections as machines (RFC 9113, 7541, 8441).

``HttpServer`` and ``HttpClient`` speak it by themselves; this package is for who builds something
else on the wire. ``Http2Connection`` is a server's side, ``Http2ClientConnection`` a client's:
bytes in by ``feed``, bytes out by ``drain``. No socket, no clock, no thread.
"""

from flare.http.proto.h2c_upgrade import detect_h2c_upgrade
from flare.http2.client import Http2ClientConnection, Http2Response
from flare.http2.config import (
    Http2ClientConfig,
    Http2Config,
    SettingId,
    build_h2c_settings_payload,
)
from flare.http2.errors import H2Error, H2ErrorCode, HpackError, Http2Error, Http2ErrorCode
from flare.http2.frame import (
    H2_DEFAULT_FRAME_SIZE,
    H2_MAX_FRAME_SIZE,
    H2_PREFACE,
    Frame,
    FrameFlags,
    FrameHeader,
    FrameType,
    build_goaway,
    build_ping,
    build_rst,
    build_settings,
    build_window_update,
    encode_frame,
    parse_frame,
    split_headers,
    strip_padding,
)
from flare.http2.hpack import (
    STATIC_TABLE_LEN,
    HpackDecoder,
    HpackEncoder,
    HpackHeader,
    IntPair,
    StringPair,
    decode_integer,
    encode_integer,
)
from flare.http2.server import H2Connection, Http2Connection, Http2Request, is_h2_alpn
from flare.http2.state import Connection, Stream, StreamId, StreamSlab, StreamState

__all__ = [
    # Drivers
    "Http2Connection",
    "H2Connection",
    "Http2Request",
    "Http2ClientConnection",
    "Http2Response",
    # Configuration
    "Http2Config",
    "Http2ClientConfig",
    "SettingId",
    "build_h2c_settings_payload",
    # Choosing the wire
    "detect_h2c_upgrade",
    "is_h2_alpn",
    # Errors
    "Http2Error",
    "H2Error",
    "Http2ErrorCode",
    "H2ErrorCode",
    "HpackError",
    # The machine
    "Connection",
    "Stream",
    "StreamId",
    "StreamSlab",
    "StreamState",
    # Frames
    "H2_PREFACE",
    "H2_DEFAULT_FRAME_SIZE",
    "H2_MAX_FRAME_SIZE",
    "Frame",
    "FrameFlags",
    "FrameHeader",
    "FrameType",
    "parse_frame",
    "encode_frame",
    "build_goaway",
    "build_ping",
    "build_rst",
    "build_settings",
    "build_window_update",
    "split_headers",
    "strip_padding",
    # HPACK
    "HpackHeader",
    "HpackDecoder",
    "HpackEncoder",
    "STATIC_TABLE_LEN",
    "IntPair",
    "StringPair",
    "decode_integer",
    "encode_integer",
]

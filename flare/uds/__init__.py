"""Unix sockets: connections, listeners, and frames to carry many requests over one of them."""

from flare.uds.frames import (
    HEADER_LEN,
    MAX_FRAME_PAYLOAD,
    Frame,
    FrameDemux,
    FrameKind,
    decode_frame,
    encode_frame,
)
from flare.uds.listener import UnixListener, accept_uds_fd
from flare.uds.mux import FrameMux
from flare.uds.stream import UnixStream

__all__ = [
    "UnixListener",
    "accept_uds_fd",
    "UnixStream",
    "FrameMux",
    "FrameDemux",
    "Frame",
    "FrameKind",
    "HEADER_LEN",
    "MAX_FRAME_PAYLOAD",
    "decode_frame",
    "encode_frame",
]

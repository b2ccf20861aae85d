"""What bounds an HTTP/2 connection, and what its side says in SETTINGS (RFC 9113 section 6.5)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from flare.errors import ValidationError
from flare.http2.frame import H2_DEFAULT_FRAME_SIZE, H2_MAX_FRAME_SIZE, MAX_WINDOW

__all__ = [
    "DEFAULT_WINDOW",
    "Http2ClientConfig",
    "Http2Config",
    "SettingId",
    "build_h2c_settings_payload",
    "settings_pairs",
]

DEFAULT_WINDOW = 65_535
_MIB = 1024 * 1024


class SettingId(IntEnum):
    """The settings that are known here; others are ignored."""

    HEADER_TABLE_SIZE = 0x1
    ENABLE_PUSH = 0x2
    MAX_CONCURRENT_STREAMS = 0x3
    INITIAL_WINDOW_SIZE = 0x4
    MAX_FRAME_SIZE = 0x5
    MAX_HEADER_LIST_SIZE = 0x6
    ENABLE_CONNECT_PROTOCOL = 0x8


@dataclass(slots=True, kw_only=True)
class _CommonConfig:
    """What both sides have. Sizes in bytes, times in milliseconds; a time of 0 is no limit."""

    initial_window_size: int = DEFAULT_WINDOW
    """What a peer may send on one stream before we have consumed any of it."""
    max_frame_size: int = H2_DEFAULT_FRAME_SIZE
    """The largest payload taken in one frame."""
    max_header_list_size: int = 8192
    """One head, each field with 32 bytes on top; 0 announces no limit, and 1 MiB holds."""
    max_header_fields: int = 256
    """Fields in one head, each piece of a divided cookie counted; 0: no limit."""
    header_table_size: int = 4096
    """The table that the peer may make us keep."""
    enable_connect_protocol: bool = False
    """Whether extended CONNECT is taken (RFC 8441)."""
    allow_huffman_decode: bool = True
    allow_huffman_encode: bool = True
    connection_window_size: int = _MIB
    """What a peer may send on all streams together before we have consumed any of it."""
    settings_ack_timeout_ms: int = 10_000
    """For the peer to acknowledge our settings."""
    max_settings_entries: int = 32
    """Settings in one frame."""
    header_timeout_ms: int = 10_000
    """From the first frame of a head to its last."""
    write_timeout_ms: int = 30_000
    """For a body that waits because the peer's window is closed; see ``flare.http2.floods``."""
    max_queued_bytes: int = 4 * _MIB
    """Bodies that wait for the peer's window. Past it ``queue_stream_data`` takes no more, and a
    server hands out no more requests."""

    def validate(self) -> None:
        """Raise ``ValidationError`` naming the first field that makes no sense."""
        _check(self, "initial_window_size", 0, MAX_WINDOW)
        _check(self, "max_frame_size", H2_DEFAULT_FRAME_SIZE, H2_MAX_FRAME_SIZE)
        _check(self, "connection_window_size", DEFAULT_WINDOW, MAX_WINDOW)
        for name in ("max_settings_entries", "max_queued_bytes"):
            _check(self, name, 1)
        for name in (
            "max_header_list_size",
            "max_header_fields",
            "header_table_size",
            "settings_ack_timeout_ms",
            "header_timeout_ms",
            "write_timeout_ms",
        ):
            _check(self, name, 0, 2**32 - 1)


@dataclass(slots=True, kw_only=True)
class Http2Config(_CommonConfig):
    """The limits of a server's connection."""

    max_concurrent_streams: int = 100
    """Streams that are open, or whose handler still runs; one more is refused."""
    rst_burst: int = 500
    """Resets at once, by the peer or by us for a fault of its own, before it is sent away."""
    rst_per_second: int = 50
    """How fast that budget fills again."""
    max_body_size: int | None = 10 * _MIB
    """One request's body that is kept here (413); ``None``: no limit."""
    max_buffered_bytes: int = 16 * _MIB
    """Bodies of all streams that are kept here. Past it only the window of the stream that was
    opened first goes on opening, so that one after the other becomes whole."""

    def validate(self) -> None:
        """Raise ``ValidationError`` naming the first field that makes no sense."""
        _CommonConfig.validate(self)
        _check(self, "max_concurrent_streams", 0, 2**32 - 1)
        _check(self, "rst_burst", 0)
        _check(self, "max_buffered_bytes", 1)
        _check(self, "rst_per_second", 0)
        if self.max_body_size is not None:
            _check(self, "max_body_size", 0)


@dataclass(slots=True, kw_only=True)
class Http2ClientConfig(_CommonConfig):
    """The limits of a client's connection. How many streams there are is the server's choice."""

    max_body_size: int | None = 64 * _MIB
    """One response's body that is kept here (the stream is cancelled); ``None``: no limit. What
    is taken with ``drain_body`` as it comes has no limit."""

    def validate(self) -> None:
        """Raise ``ValidationError`` naming the first field that makes no sense."""
        _CommonConfig.validate(self)
        if self.max_body_size is not None:
            _check(self, "max_body_size", 0)


def _check(config: object, name: str, low: int, high: int | None = None) -> None:
    value = getattr(config, name)
    if not isinstance(value, int):
        raise ValidationError(name, f"must be an int, got {value!r}")
    if value < low or (high is not None and value > high):
        bounds = f">= {low}" if high is None else f"from {low} to {high}"
        raise ValidationError(name, f"must be {bounds}, got {value}")


def settings_pairs(config: Http2Config | Http2ClientConfig) -> dict[int, int]:
    """The settings that *config* announces: those that are not the protocol's defaults."""
    pairs: dict[int, int] = {}
    if config.header_table_size != 4096:
        pairs[SettingId.HEADER_TABLE_SIZE] = config.header_table_size
    if isinstance(config, Http2Config):
        pairs[SettingId.MAX_CONCURRENT_STREAMS] = config.max_concurrent_streams
    else:
        pairs[SettingId.ENABLE_PUSH] = 0
    if config.initial_window_size != DEFAULT_WINDOW:
        pairs[SettingId.INITIAL_WINDOW_SIZE] = config.initial_window_size
    if config.max_frame_size != H2_DEFAULT_FRAME_SIZE:
        pairs[SettingId.MAX_FRAME_SIZE] = config.max_frame_size
    if config.max_header_list_size:
        pairs[SettingId.MAX_HEADER_LIST_SIZE] = config.max_header_list_size
    if config.enable_connect_protocol:
        pairs[SettingId.ENABLE_CONNECT_PROTOCOL] = 1
    return pairs


def build_h2c_settings_payload(config: Http2ClientConfig) -> bytes:
    """The settings that the client announces, as ``HTTP2-Settings`` carries them in base64url."""
    return b"".join([struct.pack(">HI", *pair) for pair in settings_pairs(config).items()])

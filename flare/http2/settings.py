"""The settings of one side, and what a SETTINGS frame may say (RFC 9113 section 6.5).

Each side has a record of its own: what the peer announces bounds what we send, and what we
announce bounds what it sends.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from flare.http2.config import DEFAULT_WINDOW, SettingId
from flare.http2.errors import Http2Error, Http2ErrorCode
from flare.http2.frame import H2_DEFAULT_FRAME_SIZE, H2_MAX_FRAME_SIZE, MAX_WINDOW

__all__ = ["Settings", "are_valid_settings", "parse_settings"]

_setting = struct.Struct(">HI")


@dataclass(slots=True)
class Settings:
    """Values in force; the protocol's defaults to begin with. ``None`` is no limit."""

    header_table_size: int = 4096
    enable_push: int = 1
    max_concurrent_streams: int | None = None
    initial_window_size: int = DEFAULT_WINDOW
    max_frame_size: int = H2_DEFAULT_FRAME_SIZE
    max_header_list_size: int | None = None
    enable_connect_protocol: int = 0

    def apply(self, pairs: Iterable[tuple[int, int]]) -> None:
        """Take over *pairs*, which are valid; unknown ids are ignored."""
        for number, value in pairs:
            if (name := _FIELDS.get(number)) is not None:
                setattr(self, name, value)


_FIELDS: dict[int, str] = {setting.value: setting.name.lower() for setting in SettingId}


def parse_settings(
    payload: bytes, current: Settings, *, max_entries: int, from_server: bool
) -> list[tuple[int, int]]:
    """The ids and values in *payload*, in order; *current* is what held before.

    Raises ``Http2Error`` for the connection: FRAME_SIZE_ERROR for part of a setting,
    ENHANCE_YOUR_CALM for more than *max_entries*, FLOW_CONTROL_ERROR for a window that is none,
    PROTOCOL_ERROR for another value that cannot be.
    """
    if len(payload) % _setting.size:
        raise Http2Error(Http2ErrorCode.FRAME_SIZE_ERROR, debug="part of a setting")
    if len(payload) // _setting.size > max_entries:
        raise Http2Error(
            Http2ErrorCode.ENHANCE_YOUR_CALM, debug=f"more than {max_entries} settings in a frame"
        )
    pairs: list[tuple[int, int]] = []
    connect = current.enable_connect_protocol
    for number, value in _setting.iter_unpack(payload):
        match number:
            case SettingId.ENABLE_PUSH if value > (0 if from_server else 1):
                raise _bad("ENABLE_PUSH", value)
            case SettingId.INITIAL_WINDOW_SIZE if value > MAX_WINDOW:
                raise Http2Error(
                    Http2ErrorCode.FLOW_CONTROL_ERROR, debug=f"INITIAL_WINDOW_SIZE of {value}"
                )
            case SettingId.MAX_FRAME_SIZE if not (
                H2_DEFAULT_FRAME_SIZE <= value <= H2_MAX_FRAME_SIZE
            ):
                raise _bad("MAX_FRAME_SIZE", value)
            case SettingId.ENABLE_CONNECT_PROTOCOL:
                if value > 1 or value < connect:
                    raise _bad("ENABLE_CONNECT_PROTOCOL", value)
                connect = value
        pairs.append((number, value))
    return pairs


def are_valid_settings(payload: bytes, max_entries: int) -> bool:
    """Whether a client may announce *payload*, as in ``HTTP2-Settings``."""
    try:
        parse_settings(payload, Settings(), max_entries=max_entries, from_server=False)
    except Http2Error:
        return False
    return True


def _bad(name: str, value: int) -> Http2Error:
    return Http2Error(Http2ErrorCode.PROTOCOL_ERROR, debug=f"{name} cannot be {value} here")

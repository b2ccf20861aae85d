"""Frames in and out of bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flare.http2.config import Http2ClientConfig, Http2Config, settings_pairs
from flare.http2.errors import Http2Error, Http2ErrorCode
from flare.http2.frame import (
    H2_MAX_FRAME_SIZE,
    H2_PREFACE,
    Frame,
    FrameFlags,
    FrameHeader,
    FrameType,
    build_frame,
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

KNOWN = [
    (
        build_settings(settings_pairs(Http2Config())),
        "00000c0400000000000003000000640006 00002000",
        FrameType.SETTINGS,
    ),
    (
        build_settings(settings_pairs(Http2ClientConfig())),
        "00000c0400000000000002000000000006 00002000",
        FrameType.SETTINGS,
    ),
    (build_settings(ack=True), "000000040100000000", FrameType.SETTINGS),
    (build_ping(b"01234567"), "0000080600000000003031323334353637", FrameType.PING),
    (build_ping(b"01234567", ack=True), "0000080601000000003031323334353637", FrameType.PING),
    (build_window_update(0, 65535), "0000040800000000000000ffff", FrameType.WINDOW_UPDATE),
    (build_rst(1, Http2ErrorCode.CANCEL), "00000403000000000100000008", FrameType.RST_STREAM),
    (
        build_goaway(5, Http2ErrorCode.ENHANCE_YOUR_CALM),
        "000008070000000000000000050000000b",
        FrameType.GOAWAY,
    ),
    (build_goaway(0, 0, b"hi"), "00000a07000000000000000000000000006869", FrameType.GOAWAY),
]


@pytest.mark.parametrize(("built", "hexed", "kind"), KNOWN)
def test_builders_make_the_bytes_of_the_wire(built: bytes, hexed: str, kind: FrameType):
    assert built == bytes.fromhex(hexed)
    frame = parse_frame(built)
    assert frame is not None
    assert frame.header.type is kind
    assert frame.header.length == len(frame.payload) == len(built) - 9
    assert encode_frame(frame) == built


def test_the_preface_has_24_bytes():
    assert len(H2_PREFACE) == 24


def test_a_frame_is_read_from_the_front_once_it_is_whole():
    data = build_frame(0, 1, 7, b"hello")
    for cut in range(len(data)):
        assert parse_frame(data[:cut]) is None
    frame = parse_frame(bytearray(data + b"\0\0"))
    assert frame == Frame(FrameHeader(5, FrameType.DATA, FrameFlags.END_STREAM, 7), b"hello")
    assert type(frame.payload) is bytes


def test_the_reserved_bit_of_a_stream_id_is_ignored():
    frame = parse_frame(bytes.fromhex("000000 00 00 80000003"))
    assert frame is not None
    assert frame.header.stream_id == 3


def test_types_that_nobody_knows_survive():
    frame = parse_frame(bytes.fromhex("000001 fa ff 00000001 ab"))
    assert frame is not None
    assert frame.header.type.name == "UNKNOWN"
    assert frame.header.type == 0xFA
    assert frame.header.flags.bits == 0xFF
    assert encode_frame(frame) == bytes.fromhex("000001 fa ff 00000001 ab")
    with pytest.raises(ValueError):
        FrameType(256)


def test_flags_tell_their_bits():
    flags = FrameFlags.END_STREAM | FrameFlags.PADDED
    assert flags.has(FrameFlags.PADDED)
    assert not flags.has(FrameFlags.PADDED | FrameFlags.PRIORITY)
    assert flags.bits == 9
    assert FrameFlags(0).bits == 0
    assert FrameFlags.ACK == FrameFlags.END_STREAM


@pytest.mark.parametrize(("size", "limit"), [(16384, 16384), (16385, 16385), (0, 16384)])
def test_a_frame_of_the_largest_size_is_taken(size: int, limit: int):
    assert parse_frame(build_frame(0, 0, 1, bytes(size)), limit) is not None


def test_a_frame_one_byte_too_large_is_refused_by_its_first_nine():
    with pytest.raises(Http2Error) as caught:
        parse_frame(build_frame(0, 0, 1, bytes(16385))[:9], 16384)
    assert caught.value.code is Http2ErrorCode.FRAME_SIZE_ERROR
    assert caught.value.stream_id == 0


def test_what_no_frame_can_carry_is_not_encoded():
    huge = memoryview(bytes(H2_MAX_FRAME_SIZE + 1))
    with pytest.raises(ValueError, match="at most"):
        encode_frame(Frame(FrameHeader(), huge))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="stream id"):
        build_frame(0, 0, 2**31)
    with pytest.raises(ValueError, match="grows"):
        build_window_update(0, 0)
    with pytest.raises(ValueError, match="grows"):
        build_window_update(0, 2**31)
    with pytest.raises(ValueError, match="8 bytes"):
        build_ping(b"short")


@pytest.mark.parametrize(
    ("flags", "payload", "data"),
    [
        (0, b"\x05abc", b"\x05abc"),
        (8, b"\x00abc", b"abc"),
        (8, b"\x02abc", b"a"),
        (8, b"\x03abc", b""),
        (8, b"\x00", b""),
    ],
)
def test_padding_is_removed(flags: int, payload: bytes, data: bytes):
    frame = Frame(FrameHeader(0, FrameType.DATA, FrameFlags(flags), 1), payload)
    assert strip_padding(frame) == data


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"", Http2ErrorCode.FRAME_SIZE_ERROR),
        (b"\x01", Http2ErrorCode.PROTOCOL_ERROR),
        (b"\x04abc", Http2ErrorCode.PROTOCOL_ERROR),
    ],
)
def test_padding_as_long_as_the_frame_is_an_error(payload: bytes, code: Http2ErrorCode):
    frame = Frame(FrameHeader(0, FrameType.DATA, FrameFlags.PADDED, 1), payload)
    with pytest.raises(Http2Error) as caught:
        strip_padding(frame)
    assert caught.value.code is code


def frames_of(data: bytes) -> list[Frame]:
    found = []
    while data:
        frame = parse_frame(data)
        assert frame is not None
        found.append(frame)
        data = data[9 + frame.header.length :]
    return found


@pytest.mark.parametrize(
    ("size", "sizes"), [(0, [0]), (3, [3]), (4, [4]), (5, [4, 1]), (8, [4, 4]), (9, [4, 4, 1])]
)
@pytest.mark.parametrize("end_stream", [False, True])
def test_a_block_is_split_over_continuations(size: int, sizes: list[int], end_stream: bool):
    block = bytes(range(size))
    frames = frames_of(split_headers(3, block, 4, end_stream))
    assert [len(frame.payload) for frame in frames] == sizes
    assert b"".join(frame.payload for frame in frames) == block
    assert frames[0].header.type is FrameType.HEADERS
    assert all(frame.header.type is FrameType.CONTINUATION for frame in frames[1:])
    assert frames[0].header.flags.has(FrameFlags.END_STREAM) is end_stream
    ends = [frame.header.flags.has(FrameFlags.END_HEADERS) for frame in frames]
    assert ends == [False] * (len(frames) - 1) + [True]


@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 2**31 - 1), st.binary(max_size=100))
def test_every_frame_survives(kind: int, flags: int, stream_id: int, payload: bytes):
    header = FrameHeader(999, FrameType(kind), FrameFlags(flags), stream_id)
    data = encode_frame(Frame(header, payload))
    frame = parse_frame(data)
    assert frame is not None
    assert (frame.header.type, frame.header.flags, frame.header.stream_id, frame.payload) == (
        kind,
        flags,
        stream_id,
        payload,
    )
    assert frame.header.length == len(payload)

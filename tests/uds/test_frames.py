from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flare.errors import ValidationError
from flare.io import ByteReader, ByteWriter
from flare.uds import (
    HEADER_LEN,
    MAX_FRAME_PAYLOAD,
    Frame,
    FrameKind,
    decode_frame,
    encode_frame,
)

WIRE = [
    (Frame(1, FrameKind.CHUNK, b"hi"), "00000002 0000000000000001 01 6869"),
    (Frame(0, FrameKind.OPEN, b""), "00000000 0000000000000000 00"),
    (Frame(2**64 - 1, FrameKind.DONE, b""), "00000000 ffffffffffffffff 02"),
    (Frame(0x0102030405060708, FrameKind.ERROR, b"no"), "00000002 0102030405060708 03 6e6f"),
    (Frame(7, FrameKind.CANCEL, b"\0" * 3), "00000003 0000000000000007 04 000000"),
    (Frame(7, 255, b"x"), "00000001 0000000000000007 ff 78"),
]

frames = st.builds(Frame, st.integers(0, 2**64 - 1), st.integers(0, 255), st.binary(max_size=40))


def encoded(frame: Frame) -> bytes:
    writer = ByteWriter()
    encode_frame(writer, frame.request_id, frame.kind, frame.payload)
    return writer.take()


@pytest.mark.parametrize(("frame", "wire"), WIRE, ids=lambda value: str(value)[:30])
def test_the_form_of_a_frame(frame: Frame, wire: str) -> None:
    assert encoded(frame) == bytes.fromhex(wire)
    reader = ByteReader(bytes.fromhex(wire) + b"next")
    assert decode_frame(reader) == frame
    assert reader.remaining() == 4


@given(st.lists(frames))
def test_what_is_encoded_is_decoded(sent: list[Frame]) -> None:
    reader = ByteReader(b"".join(map(encoded, sent)))
    assert [decode_frame(reader) for _ in sent] == sent
    assert reader.remaining() == 0


def test_known_kinds_are_decoded_as_such_and_others_as_numbers() -> None:
    assert type(decode_frame(ByteReader(encoded(Frame(1, 3, b"")))).kind) is FrameKind
    assert type(decode_frame(ByteReader(encoded(Frame(1, 5, b"")))).kind) is int


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview])
def test_any_bytes_like_object_can_be_a_payload(make: type) -> None:
    writer = ByteWriter()
    encode_frame(writer, 1, FrameKind.CHUNK, make(b"abc"))
    assert decode_frame(ByteReader(writer.take())).payload == b"abc"


def test_a_short_frame_is_an_end_of_file_and_moves_nothing() -> None:
    wire = b"before" + encoded(Frame(1, FrameKind.CHUNK, b"hello"))
    for end in range(6, len(wire)):
        reader = ByteReader(wire[:end])
        reader.skip(6)
        with pytest.raises(EOFError):
            decode_frame(reader)
        assert reader.position() == 6


@pytest.mark.parametrize(
    ("request_id", "kind", "field"),
    [(-1, 0, "request_id"), (2**64, 0, "request_id"), (0, -1, "kind"), (0, 256, "kind")],
)
def test_numbers_that_do_not_fit_are_refused(request_id: int, kind: int, field: str) -> None:
    writer = ByteWriter()
    with pytest.raises(ValidationError) as caught:
        encode_frame(writer, request_id, kind, b"x")
    assert caught.value.field == field
    assert len(writer) == 0


def test_the_longest_payload_and_one_byte_more() -> None:
    payload = bytes(MAX_FRAME_PAYLOAD + 1)
    writer = ByteWriter()
    encode_frame(writer, 1, FrameKind.CHUNK, memoryview(payload)[1:])
    assert len(writer) == HEADER_LEN + MAX_FRAME_PAYLOAD
    with pytest.raises(ValidationError, match="payload"):
        encode_frame(writer, 1, FrameKind.CHUNK, payload)
    assert len(writer) == HEADER_LEN + MAX_FRAME_PAYLOAD


def test_a_length_above_the_limit_is_refused_without_its_payload() -> None:
    reader = ByteReader((MAX_FRAME_PAYLOAD + 1).to_bytes(4, "big") + bytes(9))
    with pytest.raises(ValidationError, match="payload"):
        decode_frame(reader)
    assert reader.position() == 0

"""``ByteReader`` and ``ByteWriter``."""

from __future__ import annotations

import pickle

import pytest

from flare.errors import IoError, ValidationError
from flare.io import ByteReader, ByteWriter, ReadPastEnd

NUMBERS = [
    ("u8", 0xFE, "fe"),
    ("u16_be", 0x0102, "0102"),
    ("u16_le", 0x0102, "0201"),
    ("u32_be", 0x01020304, "01020304"),
    ("u32_le", 0x01020304, "04030201"),
    ("u64_be", 0x0102030405060708, "0102030405060708"),
    ("u64_le", 0x0102030405060708, "0807060504030201"),
]


@pytest.mark.parametrize(("kind", "value", "wire"), NUMBERS)
def test_numbers_go_both_ways(kind, value, wire):
    writer = ByteWriter()
    getattr(writer, f"write_{kind}")(value)
    assert writer.bytes() == bytes.fromhex(wire)
    reader = ByteReader(writer.take())
    assert getattr(reader, f"read_{kind}")() == value
    assert reader.remaining() == 0


@pytest.mark.parametrize(("kind", "value", "wire"), NUMBERS)
def test_the_largest_fits_and_one_more_does_not(kind, value, wire):
    width = len(wire) * 4
    writer = ByteWriter()
    write = getattr(writer, f"write_{kind}")
    write(2**width - 1)
    assert getattr(ByteReader(writer.take()), f"read_{kind}")() == 2**width - 1
    for wrong in (2**width, -1):
        with pytest.raises(OverflowError):
            write(wrong)
    assert len(writer) == 0


@pytest.mark.parametrize(("kind", "value", "wire"), NUMBERS)
def test_a_short_buffer_is_an_error_and_the_cursor_stays(kind, value, wire):
    reader = ByteReader(b"\0" + bytes.fromhex(wire)[:-1])
    reader.skip(1)
    with pytest.raises(ReadPastEnd, match=r"past end \(pos=1, len=") as caught:
        getattr(reader, f"read_{kind}")()
    assert isinstance(caught.value, EOFError)
    assert isinstance(caught.value, IoError)
    assert (caught.value.op, caught.value.code, caught.value.errno) == ("read", 0, None)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    assert reader.pos == reader.position() == 1


def test_bytes_come_as_views_and_text_as_utf8():
    data = bytearray(b"abc\xc3\xa9\xf0\x9f\x8e\x89tail")
    reader = ByteReader(data)
    view = reader.read_bytes(3)
    data[0] = 0x41
    assert view == b"Abc"
    assert reader.read_utf8(6) == "é🎉"
    assert reader.read_bytes(0) == b""
    reader.skip(4)
    assert (reader.remaining(), reader.position()) == (0, 13)
    assert repr(reader) == "ByteReader(pos=13, len=13)"


@pytest.mark.parametrize("call", ["read_bytes", "read_utf8", "skip"])
@pytest.mark.parametrize("n", [-1, 4])
def test_counts_outside_the_buffer_are_refused(call, n):
    reader = ByteReader(b"abc")
    with pytest.raises(ReadPastEnd):
        getattr(reader, call)(n)
    assert reader.pos == 0


@pytest.mark.parametrize(
    "raw", [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc3"]
)
def test_bad_utf8_is_refused_and_the_cursor_stays(raw):
    reader = ByteReader(b"x" + raw)
    reader.skip(1)
    with pytest.raises(ValidationError, match="utf8"):
        reader.read_utf8(len(raw))
    assert reader.pos == 1


def test_a_writer_collects_and_hands_over():
    writer = ByteWriter()
    writer.write_bytes(memoryview(b"ab"))
    writer.write_bytes(bytearray(b"c"))
    writer.write_str("é")
    assert len(writer) == writer.len() == 5
    copy = writer.bytes()
    assert writer.take() == copy == b"abc\xc3\xa9"
    assert (writer.take(), bool(writer)) == (b"", True)


def test_a_writer_appends_to_the_buffer_it_is_given():
    buffer = bytearray(b"head")
    writer = ByteWriter(buffer)
    writer.write_u8(33)
    assert buffer == b"head!"
    assert writer.len() == 5


def test_wider_items_are_taken_byte_by_byte():
    assert ByteReader(memoryview(bytes(8)).cast("I")).remaining() == 8
    writer = ByteWriter()
    writer.write_bytes(memoryview(bytes(8)).cast("I"))
    assert len(writer) == 8

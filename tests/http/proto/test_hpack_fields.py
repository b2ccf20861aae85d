"""Prefix integers as HPACK and QPACK share them, and the field they both carry."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flare.http.proto.hpack_fields import (
    MAX_INTEGER,
    HpackHeader,
    IntPair,
    decode_prefix_integer,
    encode_prefix_integer,
)

# RFC 7541 appendix C.1, and edges.
INTEGERS = [
    (10, 5, "0a"),
    (1337, 5, "1f9a0a"),
    (42, 8, "2a"),
    (0, 1, "00"),
    (1, 1, "0100"),
    (30, 5, "1e"),
    (31, 5, "1f00"),
    (254, 8, "fe"),
    (255, 8, "ff00"),
    (MAX_INTEGER, 5, "1fe1ffffff07"),
    (MAX_INTEGER, 7, "7f81ffffff07"),
]


@pytest.mark.parametrize(("value", "bits", "hexed"), INTEGERS)
def test_integers_are_written_and_read(value: int, bits: int, hexed: str):
    out = bytearray()
    encode_prefix_integer(out, value, bits)
    assert out.hex() == hexed
    for buffer in (out, bytes(out), memoryview(out)):
        assert decode_prefix_integer(buffer, 0, bits) == IntPair(value, len(out))


def test_bits_above_the_prefix_are_kept_apart():
    out = bytearray(b"\xaa")
    encode_prefix_integer(out, 10, 5, 0xE0)
    assert out == b"\xaa\xea"
    assert decode_prefix_integer(out, 1, 5) == (10, 2)


@pytest.mark.parametrize(
    ("hexed", "why"),
    [
        ("", "missing"),
        ("1f", "short"),
        ("1fff", "short"),
        ("1fe2ffffff07", r"above 2\*\*31"),
        ("1f8080808080", "five"),
        ("1fffffffffff7f", "five"),
        ("1fffffffff7f", "above"),
    ],
)
def test_integers_cut_short_or_too_large_are_refused(hexed: str, why: str):
    with pytest.raises(ValueError, match=why):
        decode_prefix_integer(bytes.fromhex(hexed), 0, 5)


@pytest.mark.parametrize("bits", [0, 9, -1])
def test_a_prefix_has_one_to_eight_bits(bits: int):
    with pytest.raises(ValueError, match="1 to 8"):
        decode_prefix_integer(b"\0", 0, bits)
    with pytest.raises(ValueError, match="1 to 8"):
        encode_prefix_integer(bytearray(), 0, bits)


@pytest.mark.parametrize("value", [-1, MAX_INTEGER + 1])
def test_what_no_peer_would_read_is_not_written(value: int):
    with pytest.raises(ValueError, match="from 0"):
        encode_prefix_integer(bytearray(), value, 5)


@given(st.integers(0, MAX_INTEGER), st.integers(1, 8))
def test_every_integer_survives(value: int, bits: int):
    out = bytearray()
    encode_prefix_integer(out, value, bits)
    assert decode_prefix_integer(bytes(out), 0, bits) == (value, len(out))
    for cut in range(len(out)):
        with pytest.raises(ValueError):
            decode_prefix_integer(bytes(out[:cut]), 0, bits)


def test_a_header_has_defaults_and_cannot_be_changed():
    assert HpackHeader() == ("", "", False)
    header = HpackHeader("a", "b")
    name, value, sensitive = header
    assert (name, value, sensitive) == ("a", "b", False)
    with pytest.raises(AttributeError):
        header.value = "c"  # type: ignore[misc]

"""Huffman strings: the RFC's examples, every symbol, and the three ways to be wrong."""

from __future__ import annotations

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from linear_time import takes_linear_time

from flare.http.proto.huffman import (
    SIMD_HUFFMAN_THRESHOLD_BYTES,
    HuffmanError,
    huffman_decode,
    huffman_decode_dispatch,
    huffman_decode_simd,
    huffman_decoded_length,
    huffman_encode,
    huffman_encoded_length,
)

# RFC 7541 appendix C, and the shortest ones.
EXAMPLES = [
    (b"", ""),
    (b"a", "1f"),
    (b"302", "6402"),
    (b"307", "640eff"),
    (b"private", "aec3771a4b"),
    (b"no-cache", "a8eb10649cbf"),
    (b"custom-key", "25a849e95ba97d7f"),
    (b"custom-value", "25a849e95bb8e8b4bf"),
    (b"www.example.com", "f1e3c2e5f23a6ba0ab90f4ff"),
    (b"Mon, 21 Oct 2013 20:13:21 GMT", "d07abe941054d444a8200595040b8166e082a62d1bff"),
    (b"https://www.example.com", "9d29ad171863c78f0b97c8e9ae82ae43d3"),
    (b"gzip", "9bd9ab"),
    (
        b"foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
        "94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
    ),
]
WRONG = [
    ("ffffffff", HuffmanError.EOS_IN_INPUT),
    ("1ffffffffc", HuffmanError.EOS_IN_INPUT),
    ("ff", HuffmanError.PADDING_TOO_LONG),
    ("ffff", HuffmanError.PADDING_TOO_LONG),
    ("1fff", HuffmanError.PADDING_TOO_LONG),
    ("fffffffe", HuffmanError.EOS_IN_INPUT),
    ("00", HuffmanError.INVALID_PADDING),
    ("18", HuffmanError.INVALID_PADDING),
    ("a8eb10649cbe", HuffmanError.INVALID_PADDING),
]


@pytest.mark.parametrize(("text", "coded"), EXAMPLES)
def test_examples_encode_and_decode(text: bytes, coded: str):
    assert huffman_encode(text).hex() == coded
    assert huffman_decode(bytes.fromhex(coded)) == text
    assert huffman_encoded_length(text) == len(coded) // 2
    assert huffman_decoded_length(bytes.fromhex(coded)) >= len(text)


@pytest.mark.parametrize(("coded", "variant"), WRONG)
def test_what_is_no_huffman_string_is_refused_by_variant(coded: str, variant: int):
    output = bytearray(b"before")
    with pytest.raises(HuffmanError) as caught:
        huffman_decode(bytes.fromhex(coded), output)
    assert caught.value.variant == variant
    assert caught.value == HuffmanError(variant)
    assert output == b"before"


def test_every_byte_survives_beside_every_other():
    for first in range(256):
        text = bytes(byte for other in range(256) for byte in (first, other))
        assert huffman_decode(huffman_encode(text)) == text


def test_output_is_appended_to():
    output = bytearray(b"x: ")
    assert huffman_encode(b"a", output) == b"\x1f"
    assert output == b"x: \x1f"
    assert huffman_decode(memoryview(b"\x1f"), output) == b"a"
    assert output == b"x: \x1fa"


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_bytes_like_object_will_do(kind: type):
    assert huffman_encode(kind(b"no-cache")).hex() == "a8eb10649cbf"
    assert huffman_decode(kind(bytes.fromhex("a8eb10649cbf"))) == b"no-cache"
    assert huffman_encoded_length(kind(b"no-cache")) == 6
    assert huffman_decoded_length(kind(b"no-cache")) == 13


def test_the_other_names_decode_alike():
    long = b"www.example.com" * SIMD_HUFFMAN_THRESHOLD_BYTES
    coded = huffman_encode(long)
    assert huffman_decode_simd(coded) == long
    assert huffman_decode_dispatch(coded) == huffman_decode_dispatch(coded, None, True) == long
    with pytest.raises(HuffmanError):
        huffman_decode_dispatch(b"\x00")


def test_the_error_has_a_name_a_hash_and_copies():
    error = HuffmanError(HuffmanError.EOS_IN_INPUT)
    assert str(error) == "HuffmanError(EOS_IN_INPUT)"
    assert str(HuffmanError(9)) == "HuffmanError(UNKNOWN)"
    assert isinstance(error, ValueError)
    assert error != HuffmanError(2)
    assert error != "EOS_IN_INPUT"
    assert len({error, HuffmanError(1), HuffmanError(2)}) == 2
    assert pickle.loads(pickle.dumps(error)) == copy.copy(error) == error


@given(st.binary(max_size=300))
def test_what_is_encoded_decodes_to_itself(text: bytes):
    coded = huffman_encode(text)
    assert huffman_decode(coded) == text
    assert huffman_encoded_length(text) == len(coded)
    assert huffman_decoded_length(coded) >= len(text)


@given(st.binary(max_size=40))
def test_any_bytes_are_a_string_or_an_error(data: bytes):
    variant = 0
    text = b""
    try:
        text = huffman_decode(data)
    except HuffmanError as error:
        variant = error.variant
    assert variant in (1, 2, 3) or huffman_encode(text) == data


@given(st.binary(max_size=60))
def test_hpack_of_pypi_agrees(data: bytes):
    table = pytest.importorskip("hpack.huffman_table", reason="pip install hpack")
    exceptions = pytest.importorskip("hpack.exceptions")
    try:
        theirs = table.decode_huffman(data)
    except exceptions.HPACKDecodingError:
        with pytest.raises(HuffmanError):
            huffman_decode(data)
    else:
        assert huffman_decode(data) == theirs


def test_time_grows_with_length():
    assert takes_linear_time(lambda n: lambda text=b"\x00a~" * n: huffman_encode(text), 20_000)
    assert takes_linear_time(lambda n: lambda coded=b"\x1f" * n: huffman_decode(coded), 20_000)

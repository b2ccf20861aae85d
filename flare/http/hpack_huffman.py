"""The Huffman code of HPACK under its older name; it lives in ``flare.http.proto.huffman``."""

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

__all__ = [
    "SIMD_HUFFMAN_THRESHOLD_BYTES",
    "HuffmanError",
    "huffman_decode",
    "huffman_decode_dispatch",
    "huffman_decode_simd",
    "huffman_decoded_length",
    "huffman_encode",
    "huffman_encoded_length",
]

"""Content codings undone: in pieces of any size, in order, within bounds."""

from __future__ import annotations

import gzip
import io
import random
import zlib

import brotli
import pytest

from flare.http.decoding import (
    MAX_CODINGS,
    DecodingError,
    accepted_codings,
    decoded,
    parse_codings,
)

DATA = random.Random(1).randbytes(20_000) + bytes(300_000) + b"the end"


def bare_deflate(data: bytes) -> bytes:
    coder = zlib.compressobj(9, zlib.DEFLATED, -15)
    return coder.compress(data) + coder.flush()


def packed(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)  # parameters must not change from run to run


CODED = [
    ("gzip", packed(DATA)),
    ("x-gzip", packed(DATA)),
    ("gzip", zlib.compress(DATA)),
    ("gzip", packed(DATA[:9]) + packed(b"") + packed(DATA[9:])),
    ("deflate", zlib.compress(DATA)),
    ("deflate", bare_deflate(DATA)),
    ("br", brotli.compress(DATA)),
]


def source(data: bytes, piece: int = 1 << 20):
    file = io.BytesIO(data)
    return lambda n: file.read(min(n, piece))


def drain(read, n: int = 65536) -> bytes:
    parts = []
    while part := read(n):
        assert len(part) <= max(2 * n, 32768)
        parts.append(part)
    return b"".join(parts)


@pytest.mark.parametrize(("coding", "data"), CODED)
@pytest.mark.parametrize("piece", [1, 3, 4096, 1 << 20])
@pytest.mark.parametrize("n", [64, 65536])
def test_however_the_bytes_are_cut_they_decode_to_the_same(coding, data, piece, n):
    assert drain(decoded(source(data, piece), [coding], 0), n) == DATA


@pytest.mark.parametrize(("coding", "data"), CODED)
def test_data_cut_short_is_an_error_wherever_it_is_cut(coding, data):
    for size in (1, 2, 3, 10, len(data) // 2, len(data) - 1):
        with pytest.raises(DecodingError, match="no end"):
            drain(decoded(source(data[:size]), [coding], 0))


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br"])
def test_a_body_without_a_byte_is_empty(coding):
    assert drain(decoded(source(b""), [coding], 0)) == b""


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br"])
def test_corrupt_data_is_an_error(coding):
    for data in (b"\xffplain text, not coded at all", b"\x1f\x8bjunk and more of it"):
        with pytest.raises(DecodingError, match=coding.replace("br", "brotli")):
            drain(decoded(source(data), [coding], 0))


def test_a_damaged_checksum_is_an_error():
    data = bytearray(gzip.compress(DATA))
    data[-8] ^= 1
    with pytest.raises(DecodingError, match="gzip"):
        drain(decoded(source(bytes(data)), ["gzip"], 0))


@pytest.mark.parametrize(("coding", "data"), CODED[:-1])
@pytest.mark.parametrize("piece", [1, 1 << 20])
def test_what_comes_behind_the_end_is_dropped(coding, data, piece):
    for more in (b"\0" * 512, b"\x1fX", b"\x1f"):
        read = decoded(source(data + more, piece), [coding], 0)
        assert drain(read) == DATA
        assert read(10) == b""


@pytest.mark.parametrize("piece", [1, 1 << 20])
def test_brotli_has_nothing_behind_its_end(piece):
    with pytest.raises(DecodingError, match="brotli"):
        drain(decoded(source(brotli.compress(DATA) + b"\0", piece), ["br"], 0))


def test_codings_are_undone_from_the_last_to_the_first():
    data = brotli.compress(gzip.compress(zlib.compress(DATA)))
    assert drain(decoded(source(data, 100), ["deflate", "gzip", "br"], 0)) == DATA


@pytest.mark.parametrize(("coding", "data"), CODED)
def test_the_limit_is_on_decoded_bytes(coding, data):
    assert drain(decoded(source(data), [coding], len(DATA))) == DATA
    with pytest.raises(DecodingError) as caught:
        drain(decoded(source(data), [coding], len(DATA) - 1))
    assert caught.value.too_large


def test_each_of_several_codings_has_the_limit():
    # Empty stored blocks, much of them and of no effect.
    inner = bare_deflate(b"")[:0] + b"\x00\x00\x00\xff\xff" * 400_000 + b"\x03\x00"
    read = decoded(source(gzip.compress(inner)), ["deflate", "gzip"], 1_000_000)
    with pytest.raises(DecodingError) as caught:
        drain(read)
    assert caught.value.too_large


def test_empty_gzip_members_are_counted():
    few = gzip.compress(b"") * 20 + gzip.compress(b"x")
    assert drain(decoded(source(few * 20), ["gzip"], 0)) == b"x" * 20
    with pytest.raises(DecodingError, match="empty gzip members"):
        drain(decoded(source(gzip.compress(b"") * 2000), ["gzip"], 0))


def test_no_more_is_read_than_is_asked_for():
    taken = 0
    data = gzip.compress(bytes(50_000_000))

    def read(n: int) -> bytes:
        nonlocal taken
        taken += 1
        return data[(taken - 1) * 512 : taken * 512]

    assert decoded(read, ["gzip"], 0)(64) == bytes(64)
    assert taken == 1


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("gzip", ["gzip"]),
        (" GZip ", ["gzip"]),
        ("deflate, gzip,br", ["deflate", "gzip", "br"]),
        ("identity", []),
        ("identity, gzip,,", ["gzip"]),
        ("snappy", None),
        ("gzip, snappy", None),
        (",".join(["gzip"] * MAX_CODINGS), ["gzip"] * MAX_CODINGS),
    ],
)
def test_content_encoding_is_a_list(value, expected):
    assert parse_codings(value) == expected


@pytest.mark.parametrize("count", [MAX_CODINGS + 1, 100_000])
def test_more_codings_than_anybody_means_are_an_error(count):
    with pytest.raises(DecodingError, match="over 5"):
        parse_codings(",".join(["gzip"] * count))


def test_what_is_accepted_is_what_can_be_undone():
    codings = accepted_codings().split(", ")
    assert codings[:3] == ["gzip", "deflate", "br"]
    assert parse_codings(accepted_codings()) == codings


def test_zstd_where_the_platform_has_it():
    zstd = pytest.importorskip("compression.zstd", reason="Python 3.14 has it")
    data = zstd.compress(DATA[:1000]) + zstd.compress(DATA[1000:])
    assert "zstd" in accepted_codings()
    for piece in (1, 1 << 20):
        assert drain(decoded(source(data, piece), ["zstd"], 0)) == DATA
    with pytest.raises(DecodingError, match="no end"):
        drain(decoded(source(data[:-1]), ["zstd"], 0))


def test_zstd_is_left_alone_elsewhere():
    try:
        import compression.zstd  # noqa: F401
    except ImportError:
        assert "zstd" not in accepted_codings()
        assert parse_codings("zstd") is None

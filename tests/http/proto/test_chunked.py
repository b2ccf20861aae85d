"""The chunked coding, read and written."""

from __future__ import annotations

import tracemalloc

import pytest
from h1_events import byte_by_byte, cut_at
from hypothesis import given
from hypothesis import strategies as st
from linear_time import takes_linear_time

from flare.http.proto.chunked import (
    MAX_EXTENSION_BYTES,
    ChunkedDecoder,
    encode_chunk,
    encode_last_chunk,
    is_forbidden_trailer,
)
from flare.http.proto.errors import HttpParseError
from flare.http.proto.h1_leniency import STRICT, H1LeniencyConfig


def decode(pieces, **limits):
    decoder = ChunkedDecoder(**limits)
    body = b"".join(decoder.receive(piece) for piece in pieces)
    return body, decoder


def variant(data, **limits):
    """The one error that *data* gives however it is cut."""
    found = set()
    for pieces in ([data], byte_by_byte(data)):
        with pytest.raises(HttpParseError) as caught:
            decode(pieces, **limits)
        found.add(caught.value.variant_name())
    (name,) = found
    return name


@given(
    st.lists(st.binary(min_size=1, max_size=40), max_size=8),
    st.binary(max_size=20),
    st.lists(st.integers(0, 1000), max_size=12),
)
def test_what_is_encoded_is_decoded_whatever_the_cut(chunks, behind, places):
    data = b"".join(map(encode_chunk, chunks)) + encode_last_chunk([("X-A", "b"), ("TE", "x")])
    decoder = ChunkedDecoder()
    body = b""
    left = data + behind
    for piece in cut_at(data + behind, places):
        body += decoder.receive(piece)
        left = left[len(piece) :]
        if decoder.done:
            left = piece[len(piece) - decoder.unused :] + left
            break
        assert decoder.unused == 0
    assert decoder.done
    assert body == b"".join(chunks)
    assert decoder.trailers.items == (("x-a", "X-A", "b"),)
    assert left == behind


def outcome(pieces, **limits):
    try:
        body, decoder = decode(pieces, **limits)
    except HttpParseError as error:
        return error.variant_name()
    return body, decoder.done, decoder.trailers.items


@given(
    st.lists(
        st.sampled_from(
            [b"1\r\n", b"3\r\n", b"0\r\n", b"2;a\r\n", b"\r\n", b"\n", b"x", b"abc", b"\r"]
        ),
        max_size=16,
    ),
    st.none() | st.integers(0, 6),
)
def test_what_is_read_at_once_is_what_is_read_byte_by_byte(parts, bound):
    data = b"1\r\nx\r\n2\r\nyz\r\n" + b"".join(parts)
    assert outcome([data], max_body_size=bound) == outcome(byte_by_byte(data), max_body_size=bound)


def test_reading_may_begin_inside_the_data():
    decoder = ChunkedDecoder()
    assert decoder.receive(b"head3\r", 4) == b""
    assert decoder.receive(b"....\nab", 4) == b"ab"
    assert decoder.receive(b"..c\r\n0\r\n\r\nGET", 2) == b"c"
    assert (decoder.done, decoder.unused) == (True, 3)


def test_a_body_is_not_complete_before_its_last_byte():
    data = b"3\r\nabc\r\n0\r\nA: b\r\n\r\n"
    for end in range(len(data)):
        body, decoder = decode([data[:end]])
        assert not decoder.done
        assert body == b"abc"[: max(0, end - 3)]
    assert decode([data])[1].done


def test_extensions_are_bounded_over_the_whole_body():
    chunk = b"1;" + b"e" * 1023 + b"\r\na\r\n"
    most = MAX_EXTENSION_BYTES // 1024
    body, decoder = decode([chunk * most + b"0\r\n\r\n"])
    assert (len(body), decoder.done) == (most, True)
    assert variant(chunk * most + b"0;\r\n") == "BAD_CHUNK"
    assert variant(chunk * most + b"1;a\r\n") == "BAD_CHUNK"


def test_a_size_line_is_bounded():
    longest = b"1;" + b"e" * 4092 + b"\r\n"
    assert decode([longest + b"a\r\n0\r\n\r\n"])[0] == b"a"
    assert variant(b"1;" + b"e" * 4093 + b"\r\n") == "BAD_CHUNK"
    assert variant(b"1;" + b"e" * 4094) == "BAD_CHUNK"


def test_trailers_at_their_limits_and_past_them():
    line = b"A: " + b"b" * 15 + b"\r\n"
    trailers = b"0\r\n" + line * 5
    assert len(decode([trailers + b"\r\n"], max_trailer_size=100)[1].trailers) == 5
    assert variant(trailers + b"\r\n", max_trailer_size=99) == "FIELDS_TOO_LARGE"
    assert variant(trailers, max_trailer_size=98) == "FIELDS_TOO_LARGE"
    assert len(decode([trailers + b"\r\n"], max_fields=5)[1].trailers) == 5
    assert variant(trailers + b"\r\n", max_fields=4) == "FIELDS_TOO_LARGE"
    assert decode([b"0\r\n\r\n"], max_trailer_size=0)[1].done
    assert variant(b"0\r\n" + line + b"\r\n", max_trailer_size=0) == "FIELDS_TOO_LARGE"


@pytest.mark.parametrize("section", [b"A: b\rC", b"A: b\n", b"\n", b"\rA", b"A: b\r\n\rC"])
def test_a_bare_line_end_in_trailers_is_refused_before_they_are_complete(section):
    assert variant(b"0\r\n" + section) == "BAD_LINE_END"


def test_a_body_past_its_limit_is_refused_when_its_chunk_is_announced():
    good = b"6\r\nabcdef\r\n4\r\nghij\r\n0\r\n\r\n"
    assert decode([good], max_body_size=10)[0] == b"abcdefghij"
    for data in (
        b"6\r\nabcdef\r\n5\r\nghijk\r\n",
        b"6\r\nabcdef\r\n5\r\n",
        b"b\r\n",
        b"ffffffffffffffff\r\n",
    ):
        assert variant(data, max_body_size=10) == "BODY_TOO_LARGE"
    assert decode([b"0\r\n\r\n"], max_body_size=0)[1].done
    assert variant(b"1\r\n", max_body_size=0) == "BODY_TOO_LARGE"


EMPTY = H1LeniencyConfig(accept_empty_chunk_extensions=True)
ANY = H1LeniencyConfig(accept_invalid_chunk_extension_chars=True)


@pytest.mark.parametrize(
    ("extension", "strict", "empty", "any_characters"),
    [
        (b"", True, True, True),
        (b";a", True, True, True),
        (b";a=b", True, True, True),
        (b";a=b;c", True, True, True),
        (b'; a\t= "b\\"\\\\;c\xe9"; d', True, True, True),
        (b";", False, True, True),
        (b";;a=b;;c;", False, True, True),
        (b";a=", False, False, True),
        (b";a ;b", False, False, True),
        (b";\x00\xff", False, False, True),
        (b" ;a", False, False, False),
        (b"a b", False, False, False),
        (b";a\r", False, False, False),
        (b";a\n", False, False, False),
    ],
)
def test_extensions_strictly_and_leniently(extension, strict, empty, any_characters):
    data = b"1" + extension + b"\r\na\r\n0\r\n\r\n"
    for leniency, accepted in ((STRICT, strict), (EMPTY, empty), (ANY, any_characters)):
        if accepted:
            assert decode([data], leniency=leniency)[0] == b"a"
        else:
            assert variant(data, leniency=leniency) == "BAD_CHUNK"


@pytest.mark.parametrize(
    "name", ["content-length", "transfer-encoding", "host", "trailer", "te", "connection",
             "authorization", "cookie", "set-cookie", "content-type", "content-encoding",
             "if-match", "if-none-match", "x-forwarded-for", "expect", "range", "upgrade"],
)  # fmt: skip
def test_fields_that_rule_a_message_are_forbidden_as_trailers(name):
    assert is_forbidden_trailer(name)
    assert encode_last_chunk([(name.title(), "x"), ("Digest", "y")]) == b"0\r\nDigest: y\r\n\r\n"


def test_chunks_on_the_wire():
    assert encode_chunk(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"
    assert encode_chunk(memoryview(b"ab")) == encode_chunk(bytearray(b"ab")) == b"2\r\nab\r\n"
    assert encode_last_chunk() == b"0\r\n\r\n"
    assert encode_last_chunk([("A", "\xe9")]) == b"0\r\nA: \xe9\r\n\r\n"
    with pytest.raises(ValueError, match="end the body"):
        encode_chunk(b"")


@pytest.mark.parametrize(
    ("pieces", "size"),
    [
        (lambda n: [b"1\r\nx\r\n" * n], 5000),
        (lambda n: list(byte_by_byte(b"1\r\nx\r\n" * n)), 2000),
        (lambda n: list(byte_by_byte(b"0\r\n" + b"A: b\r\n" * n)), 2000),
        (lambda n: [b"0\r\n" + b"A: b\r\n" * n + b"\r\n"], 10000),
        (lambda n: list(byte_by_byte(b"%x\r\n" % n + b"x" * n)), 5000),
        (lambda n: [b"1;a\r\nx\r\n" * n], 3000),
    ],
    ids=["tiny-chunks", "tiny-chunks-by-bytes", "trailers-by-bytes", "trailers", "data-by-bytes",
         "extensions"],
)  # fmt: skip
def test_decoding_takes_linear_time(pieces, size):
    def prepare(n):
        given = pieces(n)

        def work():
            try:
                decode(given, max_trailer_size=1 << 24, max_fields=1 << 24)
            except HttpParseError:
                pass  # the bound on extensions

        return work

    assert takes_linear_time(prepare, size)


def test_one_byte_chunks_take_no_more_memory_than_their_piece():
    piece = b"1\r\nx\r\n" * 1000
    decoder = ChunkedDecoder()
    decoder.receive(piece)
    tracemalloc.start()
    try:
        for _ in range(20):
            assert len(decoder.receive(piece)) == 1000
        current, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert current < 4096
    assert peak < 32 * 1024

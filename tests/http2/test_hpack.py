"""HPACK: RFC 7541 appendix C in full, the tables of both sides, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flare.http2.errors import HpackError, Http2ErrorCode
from flare.http2.hpack import (
    HARD_LIST_CAP,
    STATIC_TABLE_LEN,
    HpackDecoder,
    HpackEncoder,
    HpackHeader,
    decode_integer,
    decode_string,
    encode_integer,
)

Pairs = list[tuple[str, str]]


def pairs(headers: list[HpackHeader]) -> Pairs:
    return [(name, value) for name, value, _ in headers]


def test_c1_integers():
    out = bytearray()
    encode_integer(out, 1337, 5)
    assert out.hex() == "1f9a0a"
    assert decode_integer(out, 0, 5) == (1337, 3)
    with pytest.raises(HpackError, match="short"):
        decode_integer(out[:2], 0, 5)


C2 = [
    (
        "400a637573746f6d2d6b65790d637573746f6d2d686561646572",
        ("custom-key", "custom-header", False),
        [("custom-key", "custom-header")],
        55,
    ),
    ("040c2f73616d706c652f70617468", (":path", "/sample/path", False), [], 0),
    ("100870617373776f726406736563726574", ("password", "secret", True), [], 0),
    ("82", (":method", "GET", False), [], 0),
]


@pytest.mark.parametrize(("hexed", "header", "table", "size"), C2)
def test_c2_single_fields(hexed: str, header: HpackHeader, table: Pairs, size: int):
    decoder = HpackDecoder()
    assert decoder.decode(bytes.fromhex(hexed)) == [header]
    assert pairs(decoder.dynamic) == table
    assert decoder.dynamic_size == size


_GET1 = [
    (":method", "GET"),
    (":scheme", "http"),
    (":path", "/"),
    (":authority", "www.example.com"),
]
_GET2 = [*_GET1, ("cache-control", "no-cache")]
_GET3 = [
    (":method", "GET"),
    (":scheme", "https"),
    (":path", "/index.html"),
    (":authority", "www.example.com"),
    ("custom-key", "custom-value"),
]
_REQUEST_TABLES = [
    (57, [(":authority", "www.example.com")]),
    (110, [("cache-control", "no-cache"), (":authority", "www.example.com")]),
    (
        164,
        [
            ("custom-key", "custom-value"),
            ("cache-control", "no-cache"),
            (":authority", "www.example.com"),
        ],
    ),
]
C3 = [
    "828684410f7777772e6578616d706c652e636f6d",
    "828684be58086e6f2d6361636865",
    "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
]
C4 = [
    "828684418cf1e3c2e5f23a6ba0ab90f4ff",
    "828684be5886a8eb10649cbf",
    "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
]
_DATE1 = ("date", "Mon, 21 Oct 2013 20:13:21 GMT")
_DATE2 = ("date", "Mon, 21 Oct 2013 20:13:22 GMT")
_LOCATION = ("location", "https://www.example.com")
_PRIVATE = ("cache-control", "private")
_COOKIE = ("set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1")
_RESPONSES = [
    [(":status", "302"), _PRIVATE, _DATE1, _LOCATION],
    [(":status", "307"), _PRIVATE, _DATE1, _LOCATION],
    [(":status", "200"), _PRIVATE, _DATE2, _LOCATION, ("content-encoding", "gzip"), _COOKIE],
]
_RESPONSE_TABLES = [
    (222, [_LOCATION, _DATE1, _PRIVATE, (":status", "302")]),
    (222, [(":status", "307"), _LOCATION, _DATE1, _PRIVATE]),
    (215, [_COOKIE, ("content-encoding", "gzip"), _DATE2]),
]
C5 = [
    "4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d54"
    "6e1768747470733a2f2f7777772e6578616d706c652e636f6d",
    "4803333037c1c0bf",
    "88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a6970"
    "7738666f6f3d4153444a4b48514b425a584f5157454f50495541585157454f49553b206d61782d6167653d333630"
    "303b2076657273696f6e3d31",
]
C6 = [
    "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b"
    "97c8e9ae82ae43d3",
    "4883640effc1c0bf",
    "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdf"
    "cd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
]


@pytest.mark.parametrize("blocks", [C3, C4], ids=["C.3", "C.4"])
def test_c3_c4_requests(blocks: list[str]):
    decoder = HpackDecoder()
    wanted = zip(blocks, [_GET1, _GET2, _GET3], _REQUEST_TABLES, strict=True)
    for hexed, fields, (size, table) in wanted:
        assert pairs(decoder.decode(bytes.fromhex(hexed))) == fields
        assert decoder.dynamic_size == size
        assert pairs(decoder.dynamic) == table


@pytest.mark.parametrize("blocks", [C5, C6], ids=["C.5", "C.6"])
def test_c5_c6_responses_with_eviction(blocks: list[str]):
    decoder = HpackDecoder(max_size=256)
    for hexed, fields, (size, table) in zip(blocks, _RESPONSES, _RESPONSE_TABLES, strict=True):
        assert pairs(decoder.decode(bytes.fromhex(hexed))) == fields
        assert decoder.dynamic_size == size
        assert pairs(decoder.dynamic) == table


@pytest.mark.parametrize(("huffman", "blocks"), [(False, C3), (True, C4)])
def test_our_encoder_writes_the_rfcs_requests(huffman: bool, blocks: list[str]):
    encoder = HpackEncoder(allow_huffman=huffman)
    assert [encoder.encode(fields).hex() for fields in (_GET1, _GET2, _GET3)] == blocks


def test_the_static_table_has_61_entries():
    decoder = HpackDecoder()
    assert STATIC_TABLE_LEN == 61
    assert decoder.decode(b"\xbd") == [("www-authenticate", "", False)]
    assert decoder.decode(b"\x81\x8f") == [
        (":authority", "", False),
        ("accept-charset", "", False),
    ]


BAD_BLOCKS = {
    "80": "index 0",
    "be": "no entry",  # the dynamic table is empty
    "ff00": "no entry",  # 127
    "ffffffffff0f": "above",
    "ff8080808080": "five",
    "40": "missing",
    "4001": "cut short",
    "400161": "cut short",
    "40016102": "cut short",
    "4001610262": "cut short",
    "7f80": "cut short",
    "7fff00": "no entry",
    "0f": "cut short",
    "0f80": "cut short",
    "0fff00": "no entry",
    "4082": "cut short",
    "0001618100": "INVALID_PADDING",
    "00016181ff": "PADDING_TOO_LONG",
    "000161847fffffff": "PADDING",
    "00016184ffffffff": "EOS_IN_INPUT",
    "0084ffffffff0161": "EOS_IN_INPUT",
    "8220": "not at the start",
    "202020": "more than 2",
    "3fe21f": "4097 bytes",
}


@pytest.mark.parametrize(("hexed", "why"), BAD_BLOCKS.items())
def test_a_broken_block_is_a_compression_error(hexed: str, why: str):
    with pytest.raises(HpackError, match=why) as caught:
        HpackDecoder().decode(bytes.fromhex(hexed))
    assert caught.value.code is Http2ErrorCode.COMPRESSION_ERROR
    assert caught.value.stream_id == 0


@pytest.mark.parametrize("length", [0, 1, 126, 127, 128, 254, 255, 300])
@pytest.mark.parametrize("huffman", [False, True])
def test_strings_of_every_length_class_survive(length: int, huffman: bool):
    fields = [("n" * (length or 1), "v" * length), ("z", "\xff\0" * length)]
    block = HpackEncoder(allow_huffman=huffman).encode(fields)
    assert pairs(HpackDecoder().decode(memoryview(block))) == fields


def test_text_is_latin_1_never_utf_8():
    block = b"\x00\x01a\x04\xc3\xa9\xff\x00"
    assert HpackDecoder().decode(block) == [("a", "\xc3\xa9\xff\x00", False)]
    with pytest.raises(ValueError, match=r"U\+00FF"):
        HpackEncoder().encode([("a", "\u20ac")])


def test_huffman_can_be_refused():
    decoder = HpackDecoder(allow_huffman=False)
    for block in (b"\x00\x01a\x81\x1f", b"\x00\x81\x1f\x01a"):
        with pytest.raises(HpackError, match="Huffman"):
            decoder.decode(block)
    assert decoder.decode(b"\x00\x01a\x01a") == [("a", "a", False)]
    with pytest.raises(HpackError, match="short"):
        decode_string(b"\x05abc", 0)


def test_an_entry_larger_than_the_table_empties_it():
    decoder = HpackDecoder(max_size=64)
    decoder.decode(b"\x40\x01a\x01b")
    assert decoder.dynamic_size == 34
    decoder.decode(b"\x40\x01a\x20" + b"b" * 32)
    assert decoder.dynamic == []
    assert decoder.dynamic_size == 0


def test_a_name_may_come_from_the_entry_it_drives_out():
    decoder = HpackDecoder(max_size=40)
    decoder.decode(b"\x40\x04name\x01a")
    assert decoder.decode(b"\x7e\x04bbbb") == [("name", "bbbb", False)]
    assert pairs(decoder.dynamic) == [("name", "bbbb")]


def test_a_table_that_shrank_may_grow_again_to_the_limit():
    decoder = HpackDecoder()
    decoder.decode(b"\x20")
    assert decoder.max_size == 0
    assert decoder.limit == 4096
    decoder.decode(b"\x3f\xe1\x1f")
    assert decoder.max_size == 4096
    decoder.decode(b"\x20\x3f\xe1\x1f\x82")  # the smallest, then the last


def test_a_lowered_limit_must_be_acknowledged_by_the_next_block():
    decoder = HpackDecoder()
    decoder.set_limit(100)
    with pytest.raises(HpackError, match="no size update"):
        decoder.decode(b"\x82")
    decoder.decode(b"\x3f\x45\x82")  # 100
    decoder.decode(b"\x82")
    with pytest.raises(HpackError, match="101 bytes"):
        decoder.decode(b"\x3f\x46")
    raised = HpackDecoder()
    raised.set_limit(5000)
    raised.decode(b"\x82")


@pytest.mark.parametrize(
    ("cap", "fields", "too_large"), [(96, 2, False), (95, 2, True), (0, 2, False)]
)
def test_the_list_is_counted_with_32_bytes_a_field(cap: int, fields: int, too_large: bool):
    decoder = HpackDecoder(max_header_list_size=cap)
    block = b"\x40\x08aaaaaaaa\x08bbbbbbbb" + b"\xbe" * (fields - 1)
    got, refused = decoder.decode_block(block)
    assert refused is too_large
    assert len(got) == (0 if too_large else fields)
    assert decoder.dynamic_size == 48  # the table is in step all the same
    if too_large:
        with pytest.raises(HpackError, match="header list"):
            decoder.decode(b"\xbe\xbe")
    assert decoder.decode(b"\xbe") == [("aaaaaaaa", "bbbbbbbb", False)]


@pytest.mark.parametrize(("count", "too_large"), [(5, False), (6, True)])
def test_the_number_of_fields_is_limited(count: int, too_large: bool):
    decoder = HpackDecoder(max_fields=5)
    assert decoder.decode_block(b"\x82" * count)[1] is too_large


def test_a_bomb_of_one_byte_references_holds_nothing():
    decoder = HpackDecoder()
    value = b"v" * 3900
    block = b"\x40\x01n" + b"\x7f\xbd\x1d" + value + b"\xbe" * 20_000
    fields, too_large = decoder.decode_block(block)
    assert too_large
    assert not fields
    assert HARD_LIST_CAP < 3933 * 20_000


def test_a_block_of_four_times_the_cap_is_read_and_one_byte_more_is_not():
    decoder = HpackDecoder(max_header_list_size=100)
    assert decoder.decode_block(b"\x82" * 400)[1]
    with pytest.raises(HpackError, match="more than 400 bytes"):
        decoder.decode_block(b"\x82" * 401)


# What the encoder puts where.


def kinds(encoder: HpackEncoder, *fields: tuple[str, str] | HpackHeader) -> list[str]:
    found = []
    for field in fields:
        first = encoder.encode([field])[0]
        found.append(
            "indexed"
            if first & 0x80
            else "added"
            if first & 0x40
            else "never"
            if first & 0x10
            else "plain"
        )
    return found


def test_a_pair_is_added_once_and_indexed_ever_after():
    encoder = HpackEncoder()
    field = ("x-a", "b")
    assert kinds(encoder, field, field, field) == ["added", "indexed", "indexed"]
    assert kinds(encoder, (":method", "GET")) == ["indexed"]


@pytest.mark.parametrize(
    "field",
    [
        ("authorization", "Basic dTpw"),
        ("proxy-authorization", "Basic dTpw"),
        ("set-cookie", "a=b"),
        ("cookie", "c" * 19),
        HpackHeader("x-token", "t", sensitive=True),
    ],
)
def test_secrets_are_never_indexed_by_anybody(field: tuple[str, str] | HpackHeader):
    encoder = HpackEncoder()
    assert kinds(encoder, field, field) == ["never", "never"]
    (decoded,) = HpackDecoder().decode(encoder.encode([field]))
    assert decoded.sensitive


def test_a_cookie_too_long_to_guess_is_indexed():
    assert kinds(HpackEncoder(), ("cookie", "c" * 20), ("cookie", "c" * 20)) == ["added", "indexed"]


@pytest.mark.parametrize("name", [":path", "content-length", "date", "etag", "last-modified"])
def test_what_hardly_comes_twice_is_not_added(name: str):
    assert kinds(HpackEncoder(), (name, "/x"), (name, "/x")) == ["plain", "plain"]


def test_without_a_dynamic_table_nothing_is_added():
    encoder = HpackEncoder(dynamic=False)
    assert kinds(encoder, ("x-a", "b"), ("x-a", "b"), (":method", "GET")) == [
        "plain",
        "plain",
        "indexed",
    ]
    assert encoder.dynamic_size == 0


def test_the_shorter_form_of_a_string_is_taken_and_raw_on_a_tie():
    assert HpackEncoder().encode([(":path", "a")]) == b"\x04\x01a"
    assert HpackEncoder().encode([(":path", "aaa")])[1] == 0x82
    assert HpackEncoder().encode([(":path", "\0")]) == b"\x04\x01\0"


@pytest.mark.parametrize(
    ("limits", "prefix"),
    [
        ([4096], ""),
        ([9999], ""),  # ours is enough
        ([0], "20"),
        ([100], "3f45"),
        ([0, 4096], "203fe11f"),
        ([100, 200], "3f453fa901"),
        ([200, 100], "3f45"),
        ([200, 100, 150], "3f453f77"),
    ],
)
def test_a_changed_limit_is_told_in_the_next_block(limits: list[int], prefix: str):
    encoder = HpackEncoder()
    encoder.encode([("x-a", "b")])
    for limit in limits:
        encoder.set_limit(limit)
    assert encoder.encode([(":method", "GET")]).hex() == prefix + "82"
    assert encoder.encode([(":method", "GET")]).hex() == "82"


def test_a_smaller_table_drives_out_what_has_no_room():
    encoder, decoder = HpackEncoder(), HpackDecoder()
    for letter in "abcdef":
        decoder.decode(encoder.encode([("x-" + letter, "1")]))
    encoder.set_limit(80)
    decoder.decode(encoder.encode([("x-f", "1"), ("x-a", "1")]))
    assert encoder.dynamic_size == decoder.dynamic_size == 72


def test_an_encoder_with_a_small_table_says_so_first():
    assert HpackEncoder(max_size=100).encode([(":method", "GET")]).hex() == "3f4582"


names = st.one_of(
    st.sampled_from([":method", ":path", "cookie", "date", "x-a", "user-agent", "authorization"]),
    st.text("abcdefgh-", min_size=1, max_size=10),
)
values = st.one_of(
    st.sampled_from(["GET", "/", "", "a", "text/html; charset=utf-8"]),
    st.text(st.characters(max_codepoint=255), max_size=60),
)
blocks = st.lists(st.lists(st.tuples(names, values), max_size=8), max_size=8)


@given(blocks, st.booleans(), st.lists(st.sampled_from([0, 60, 200, 4096]), max_size=8))
def test_what_is_encoded_decodes_to_itself(lists: list[Pairs], huffman: bool, limits: list[int]):
    encoder, decoder = HpackEncoder(huffman), HpackDecoder()
    for number, fields in enumerate(lists):
        if number < len(limits):
            encoder.set_limit(limits[number])
        assert pairs(decoder.decode(encoder.encode(fields))) == fields
        assert decoder.dynamic_size == encoder.dynamic_size <= encoder.max_size


@given(st.lists(st.binary(max_size=60), max_size=5))
def test_any_bytes_are_fields_or_an_error(datas: list[bytes]):
    decoder = HpackDecoder(max_header_list_size=2000)
    try:
        for data in datas:
            decoder.decode(data)
    except HpackError:
        pass
    assert decoder.dynamic_size == sum(
        len(name) + len(value) + 32 for name, value, _ in decoder.dynamic
    )
    assert decoder.dynamic_size <= decoder.max_size

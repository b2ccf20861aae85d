"""Header blocks that come again: what they meant is remembered, and the table is kept in step."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flare.http2 import HpackDecoder, HpackError
from flare.http2.floods import FloodGuard
from flare.http2.header_blocks import HeaderBlocks
from flare.http2.hpack import entered_alone

ENTERED = b"\x40\x01a\x01b"  # a: b, and into the table
NAMED = b"\x48\x03304"  # :status, by its name in the static table
PLAIN = b"\x00\x01c\x01d"
HUFFMAN = b"\x40\x84\x8c\x10\xa4\xff\x01e"
FIRST, SECOND = b"\xbe", b"\xbf"  # the newest entries of the dynamic table
BY_NAME = b"\x7e\x01f"  # the name of the newest entry, with another value
SMALL, LARGE = b"\x20\x3f\xe1\x1f", b"\x3f\xe1\x1f"  # size updates


def blocks_of(decoder: HpackDecoder) -> HeaderBlocks:
    return HeaderBlocks(decoder, FloodGuard(None))


pieces = st.sampled_from([ENTERED, NAMED, PLAIN, HUFFMAN, FIRST, SECOND, BY_NAME, b"\x88", b"\x84"])
block = st.builds(
    lambda update, fields: update + b"".join(fields),
    st.sampled_from([b"", b"", b"", SMALL, LARGE]),
    st.lists(pieces, max_size=4),
)


@given(st.lists(block, min_size=1, max_size=4), st.data())
def test_what_is_remembered_is_what_would_be_decoded(blocks: list[bytes], data: st.DataObject):
    """The same blocks again and again, in any order, with every kind of reference."""
    ours, plain = HpackDecoder(), HpackDecoder()
    memo = blocks_of(ours)
    for number in data.draw(st.lists(st.integers(0, len(blocks) - 1), max_size=30)):
        block = blocks[number]
        try:
            expected = plain.decode(block)
        except HpackError:
            with pytest.raises(HpackError):
                memo.decode(block)
            return
        assert memo.decode(block).fields == expected
        assert ours.dynamic == plain.dynamic
        assert ours.dynamic_size == plain.dynamic_size


@pytest.mark.parametrize(
    ("block", "places"),
    [
        (b"", []),
        (b"\x88", []),
        (ENTERED, [0]),
        (b"\x88" + NAMED + PLAIN + HUFFMAN, [1, 3]),
        (b"\x1f\x01\x01x", []),  # never indexed, by the static name 16
        (FIRST, None),
        (ENTERED + FIRST, None),
        (BY_NAME, None),
        (b"\x0f\x2f\x01x", None),  # not entered, by the name of the newest entry
        (SMALL + ENTERED, None),
    ],
)
def test_which_blocks_say_everything_by_themselves(block: bytes, places: list[int] | None):
    assert entered_alone(block) == places


def test_a_block_that_comes_a_third_time_is_not_decoded_again():
    decoder = HpackDecoder()
    memo = blocks_of(decoder)
    block = b"\x88" + ENTERED + HUFFMAN
    lists = [memo.decode(block) for _ in range(5)]
    assert lists[1] is lists[2] is lists[3] is lists[4]
    assert len(decoder.dynamic) == 10


def test_a_size_update_that_is_owed_is_still_owed():
    decoder = HpackDecoder()
    memo = blocks_of(decoder)
    for _ in range(3):
        memo.decode(ENTERED)
    decoder.set_limit(0)
    with pytest.raises(HpackError, match="size update"):
        memo.decode(ENTERED)


def test_what_is_too_large_is_so_each_time():
    decoder = HpackDecoder(max_header_list_size=50)
    memo = blocks_of(decoder)
    for _ in range(4):
        assert memo.decode(ENTERED + HUFFMAN).too_large
    assert len(decoder.dynamic) == 8


def test_a_secret_is_not_remembered():
    memo = blocks_of(HpackDecoder())
    block = b"\x10\x01a\x01b" + ENTERED
    assert memo.decode(block) is not memo.decode(block)
    assert not memo._memo

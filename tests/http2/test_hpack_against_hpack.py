"""Blocks mean the same to flare and to the hpack of PyPI, on realistic heads and on any."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flare.http2.errors import HpackError
from flare.http2.hpack import HpackDecoder, HpackEncoder

hpack = pytest.importorskip("hpack", reason="pip install hpack")

STORIES = json.loads((Path(__file__).parent / "heads.json").read_text())


@pytest.mark.parametrize("story", STORIES, ids=[story["name"] for story in STORIES])
def test_realistic_heads_pass_between_the_two(story: dict[str, list[list[list[str]]]]):
    our_encoder, our_decoder = HpackEncoder(), HpackDecoder(max_header_list_size=0)
    their_encoder, their_decoder = hpack.Encoder(), hpack.Decoder(max_header_list_size=1 << 20)
    for head in story["heads"]:
        fields = [(name, value) for name, value in head]
        theirs = their_decoder.decode(our_encoder.encode(fields), raw=True)
        assert [(name.decode(), value.decode()) for name, value in theirs] == fields
        ours = our_decoder.decode(their_encoder.encode(fields))
        assert [header[:2] for header in ours] == fields


@given(st.binary(max_size=80))
def test_both_refuse_or_both_read_any_bytes(data: bytes):
    try:
        theirs = hpack.Decoder(max_header_list_size=1 << 20).decode(data, raw=True)
    except hpack.HPACKError:
        theirs = None
    ours, why = None, ""
    try:
        ours = HpackDecoder().decode(data)
    except HpackError as error:
        why = str(error)
    if ours is None:
        # We are stricter about the length of integers and the number of size updates.
        assert theirs is None or "integer" in why or "size updates" in why
    else:
        assert theirs is not None
        assert [(name.encode("latin-1"), value.encode("latin-1")) for name, value, _ in ours] == [
            (bytes(name), bytes(value)) for name, value in theirs
        ]

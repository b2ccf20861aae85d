"""Challenges of 401 and 407 responses: several in one field, several fields, and rubbish."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flare.http.proto.challenge import Challenge, parse_challenges


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], []),
        ([""], []),
        (["Basic"], [Challenge("basic")]),
        (['Basic realm="a"'], [Challenge("basic", {"realm": "a"})]),
        (["Other, Basic realm=a"], [Challenge("other"), Challenge("basic", {"realm": "a"})]),
        (["Negotiate YWJj=="], [Challenge("negotiate", {}, "YWJj==")]),
        (
            ['Digest realm="a, \\"b\\"", nonce = "n", qop="auth,auth-int", Basic realm="c"'],
            [
                Challenge("digest", {"realm": 'a, "b"', "nonce": "n", "qop": "auth,auth-int"}),
                Challenge("basic", {"realm": "c"}),
            ],
        ),
        (
            ['Digest realm="a", nonce="1"', 'Digest realm="a", nonce="2"'],
            [Challenge("digest", {"realm": "a", "nonce": "1"}),
             Challenge("digest", {"realm": "a", "nonce": "2"})],
        ),
        ([", ,Basic realm=x,,"], [Challenge("basic", {"realm": "x"})]),
        (['Basic realm="a", REALM="b"'], [Challenge("basic", {"realm": "a"})]),
        (['Digest realm="never closed'], []),
        (['Basic realm="a", Digest realm="cut'], [Challenge("basic", {"realm": "a"})]),
        (["\x00"], []),
    ],
)  # fmt: skip
def test_challenges(values, expected):
    assert parse_challenges(values) == expected


@given(st.lists(st.text(max_size=100), max_size=4))
def test_any_text_gives_challenges(values):
    found = parse_challenges(values)
    assert len(found) <= 16
    assert all(each.scheme == each.scheme.lower() != "" for each in found)


@pytest.mark.parametrize("piece", ["a, ", 'a="', "a=b,", "a b ", "\\", '"', ",", "a=,"])
def test_long_rubbish_is_read_at_once(piece):
    started = time.process_time()
    parse_challenges([piece * 20_000])
    assert time.process_time() - started < 2

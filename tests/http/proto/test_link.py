"""The Link field (RFC 8288)."""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from linear_time import takes_linear_time

from flare.http.proto.link import Link, parse_link_header
from flare.http.response import Response


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", []),
        ("</a>", [Link("/a")]),
        ('</a>; rel="next"', [Link("/a", "next")]),
        ("</a>;rel=next;title=x", [Link("/a", "next", {"title": "x"})]),
        (
            '<http://e.com/a,b;c>; rel="prev  Start"; title="a \\"b\\", c", </n>; rel=next',
            [Link("http://e.com/a,b;c", "prev start", {"title": 'a "b", c'}), Link("/n", "next")],
        ),
        ("</a>; rel=first; rel=second; crossorigin", [Link("/a", "first", {"crossorigin": ""})]),
        ("rubbish, </a>; rel=next", [Link("/a", "next")]),
        ("</a>; rel=next trailing, </b>", [Link("/a", "next"), Link("/b")]),
        ("<unclosed", []),
        ("</a>; title*=UTF-8''x", [Link("/a", "", {"title*": "UTF-8''x"})]),
    ],
)
def test_links(value, expected):
    assert parse_link_header(value) == expected


def test_a_response_gives_them_by_relation_resolved():
    response = Response(headers=[("Link", '<?page=3>; rel="next"; title="t"'),
                                 ("Link", "</a>; rel=next, <//other/x>; rel='up'"),
                                 ("Link", "<http://[bad/>; rel=bad")])  # fmt: skip
    response.url = "http://e.com/items?page=2"
    assert response.links["next"] == {
        "url": "http://e.com/items?page=3", "rel": "next", "title": "t",
    }  # fmt: skip
    assert response.links["'up'"]["url"] == "http://other/x"
    assert response.links["bad"]["url"] == "http://[bad/"
    assert Response().links == {}


@given(st.text(max_size=200))
def test_any_text_gives_links(value):
    assert all(isinstance(link.target, str) for link in parse_link_header(value))


@pytest.mark.parametrize("piece", ["<", "</a>", "</a>;", ", ", ' ;a="', "\\", "</a>; rel=x, "])
def test_long_rubbish_is_read_at_once(piece):
    assert takes_linear_time(lambda n: partial(parse_link_header, piece * n), 5_000)

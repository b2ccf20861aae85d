"""RedirectPolicy.decide: the tables of RFC 9110 section 15.4."""

from __future__ import annotations

import pytest

from flare.errors import ValidationError
from flare.http.client.redirect import RedirectAction, RedirectMode, RedirectPolicy
from flare.http.proto.url import UrlParseError

HERE = "http://a.example/dir/page?q=1"
FOLLOW, STOP, REJECT = RedirectAction.FOLLOW, RedirectAction.STOP, RedirectAction.REJECT


def decide(status=302, location="/x", method="GET", hops=0, policy=None, here=HERE):
    return (policy or RedirectPolicy()).decide(here, method, status, location, hops)


@pytest.mark.parametrize(
    ("status", "methods"),
    [
        (301, "GET>GET HEAD>HEAD POST>GET PUT>PUT PATCH>PATCH DELETE>DELETE OPTIONS>OPTIONS"),
        (302, "GET>GET HEAD>HEAD POST>GET PUT>PUT PATCH>PATCH DELETE>DELETE OPTIONS>OPTIONS"),
        (303, "GET>GET HEAD>HEAD POST>GET PUT>GET PATCH>GET DELETE>GET OPTIONS>GET"),
        (307, "GET>GET HEAD>HEAD POST>POST PUT>PUT PATCH>PATCH DELETE>DELETE"),
        (308, "GET>GET HEAD>HEAD POST>POST PUT>PUT PATCH>PATCH DELETE>DELETE"),
    ],
)
def test_the_method_changes_only_where_it_must(status, methods):
    for pair in methods.split():
        before, after = pair.split(">")
        decision = decide(status, method=before)
        assert (decision.action, decision.next_method) == (FOLLOW, after)
        assert decision.next_body_dropped == (before != after)


@pytest.mark.parametrize("status", [200, 300, 304, 305, 306, 309, 399, 404])
def test_other_statuses_are_answers(status):
    assert decide(status).action is STOP


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("http://b.example/y", "http://b.example/y"),
        ("HTTP://B.EXAMPLE/y", "http://b.example/y"),
        ("//b.example:81/y", "http://b.example:81/y"),
        ("/y", "http://a.example/y"),
        ("y", "http://a.example/dir/y"),
        ("../y", "http://a.example/y"),
        ("?z=2", "http://a.example/dir/page?z=2"),
        ("#f", "http://a.example/dir/page?q=1#f"),
        ("/a b", "http://a.example/a%20b"),
        ("/\xc3\xa9", "http://a.example/%C3%A9"),  # UTF-8 that came as Latin-1
        ("/\xe9", "http://a.example/%E9"),  # Latin-1
    ],
)
def test_location_is_resolved(location, expected):
    assert decide(location=location).next_url == expected


def test_the_fragment_is_inherited_unless_replaced():
    here = "http://a.example/#top"
    assert decide(here=here, location="/x").next_url == "http://a.example/x#top"
    assert decide(here=here, location="/x#end").next_url == "http://a.example/x#end"


@pytest.mark.parametrize(
    "location",
    ["ftp://a.example/", "javascript:alert(1)", "file:///etc/passwd", "http://", "http://a\\@b/",
     "http://0x7f.1/", "/a\tb", "http://a:0/", "http://a%00.example/"],
)  # fmt: skip
def test_a_location_that_is_no_url_is_an_error(location):
    with pytest.raises(UrlParseError):
        decide(location=location)


def test_no_location_stops():
    assert decide(location="").action is STOP


@pytest.mark.parametrize(
    ("location", "same"),
    [
        ("/x", True),
        ("http://a.example:80/x", True),
        ("http://A.example/x", True),
        ("http://a.example:81/x", False),
        ("https://a.example/x", False),
        ("http://b.example/x", False),
        ("http://a.example.evil/x", False),
        ("http://sub.a.example/x", False),
    ],
)
def test_credentials_go_only_to_the_same_scheme_host_and_port(location, same):
    assert decide(location=location).forward_authorization is same
    strict = decide(location=location, policy=RedirectPolicy.same_origin_only())
    assert strict.action is (FOLLOW if same else REJECT)


@pytest.mark.parametrize(("hops", "action"), [(0, FOLLOW), (9, FOLLOW), (10, STOP), (11, STOP)])
def test_ten_hops_by_default(hops, action):
    assert decide(hops=hops).action is action


def test_deny_follows_nothing():
    assert decide(policy=RedirectPolicy.deny()).action is STOP


def test_policies_are_values_of_three_modes():
    assert RedirectPolicy.follow_all(3) == RedirectPolicy(3, RedirectMode.FOLLOW_ALL)
    assert RedirectPolicy.same_origin_only().mode == RedirectMode.SAME_ORIGIN_ONLY == 1
    assert RedirectPolicy.deny().mode == RedirectMode.DENY == 2
    assert (FOLLOW, STOP, REJECT) == (0, 1, 2)
    with pytest.raises(ValidationError):
        RedirectPolicy(-1)

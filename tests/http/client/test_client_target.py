"""Where a request goes: bases, queries, and that the host is the peer."""

from __future__ import annotations

import pytest

from flare.http.client.auth import BasicAuth
from flare.http.client.target import TargetResolver
from flare.http.proto.url import UrlParseError


@pytest.mark.parametrize(
    ("base", "url", "expected"),
    [
        ("http://h/api", "items", "http://h/api/items"),
        ("http://h/api", "/items", "http://h/api/items"),
        ("http://h/api/", "/items", "http://h/api/items"),
        ("http://h/api/", "items", "http://h/api/items"),
        ("http://h", "/items?x=1", "http://h/items?x=1"),
        ("http://h/api", "", "http://h/api"),
        ("http://h/api", "?x=1", "http://h/api?x=1"),
        ("http://h/api", "http://other/x", "http://other/x"),
        ("http://h/api", "HTTP://other/x", "http://other/x"),
        ("", "http://h", "http://h/"),
        ("", "http://h:80/a b?c d", "http://h/a%20b?c%20d"),
        ("", "http://h/%41%2f?%41", "http://h/%41%2f?%41"),
        ("", "http://h/é", "http://h/%C3%A9"),
        ("", "http://u:p@h/", "http://h/"),
    ],
)
def test_urls_are_resolved(base, url, expected):
    assert TargetResolver(base).resolve(url).text == expected


@pytest.mark.parametrize(
    ("base", "url"),
    [
        ("", "items"), ("", "/items"), ("", ""), ("", "//h/x"), ("http://h", "//evil/x"),
        ("", "ftp://h/"), ("", "file:///etc/passwd"), ("http://h", "ftp://h/"),
        ("", "http://a\\@b/"), ("", "http://a@b@c/"), ("", "http://h\t/"), ("", "http://h/\r\nX:"),
        ("", "http://0x7f.1/"), ("", "http://2130706433/"), ("", "http://0177.0.0.1/"),
        ("", "http://a%2eb/"), ("", "http://h:0/"), ("", "http://h:99999/"), ("", "http://h h/"),
        ("", "http:// h/"), ("", "http://[::1/"), ("", "http://h/\x00"),
    ],
)  # fmt: skip
def test_what_is_no_url_or_could_mean_two_hosts_is_refused(base, url):
    with pytest.raises(UrlParseError):
        TargetResolver(base).resolve(url)


@pytest.mark.parametrize("base", ["h", "/x", "ftp://h", "http://h?x", "http://h#f", "//h"])
def test_a_bad_base_is_refused_at_once(base):
    with pytest.raises(UrlParseError):
        TargetResolver(base)


@pytest.mark.parametrize(
    ("url", "params", "expected"),
    [
        ("/p", {"a": 1}, "/p?a=1"),
        ("/p?x=y", {"a": 1}, "/p?x=y&a=1"),
        ("/p?", {"a": 1}, "/p?a=1"),
        ("/p?x&", {"a": 1}, "/p?x&a=1"),
        ("/p#frag", {"a": "b c"}, "/p?a=b+c"),
        ("/p", {"a": None}, "/p"),
        ("/p", [("a", 1), ("a", 2)], "/p?a=1&a=2"),
        ("/p", "raw=%20", "/p?raw=%20"),
        ("/p", {"a": "\r\n"}, "/p?a=%0D%0A"),
    ],
)
def test_params_are_appended_to_the_query(url, params, expected):
    assert TargetResolver("http://h").resolve(url, params).line == expected


@pytest.mark.parametrize(
    ("url", "peer", "authority"),
    [
        ("http://h/", "h:80", "h"),
        ("http://h:8080/", "h:8080", "h:8080"),
        ("http://[::1]:8080/", "[::1]:8080", "[::1]:8080"),
        ("http://[::1]/", "[::1]:80", "[::1]"),
    ],
)
def test_peer_and_host_field(url, peer, authority):
    target = TargetResolver("").resolve(url)
    assert (target.peer, target.authority) == (peer, authority)


def test_user_name_and_password_become_credentials_and_are_not_remembered():
    resolver = TargetResolver("")
    target = resolver.resolve("http://us%40er:p%3Aw@h/")
    assert target.auth == BasicAuth("us@er", "p:w")
    assert "us" not in target.text + target.peer
    assert not resolver._memo


def test_the_memo_is_bounded():
    resolver = TargetResolver("http://h")
    for number in range(3000):
        resolver.resolve(f"/{number}")
    resolver.resolve("/" + "x" * 5000)
    assert len(resolver._memo) <= 512
    assert all(len(url) <= 512 for url in resolver._memo)


@pytest.mark.parametrize("url", [b"http://h/", None, ["http://h/"]])
def test_what_is_no_text(url):
    with pytest.raises(TypeError, match="url must be str"):
        TargetResolver("").resolve(url)
    with pytest.raises(TypeError, match="url must be str"):
        TargetResolver("").resolve(url, {"a": "b"})

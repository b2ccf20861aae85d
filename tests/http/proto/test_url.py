"""Url: the host is the peer, and references resolve as RFC 3986 says."""

from __future__ import annotations

import ipaddress
import re
import socket

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from flare.http.proto.url import Url, UrlParseError


def parts(url: Url) -> tuple[str, str, int, str, str, str]:
    return url.scheme, url.host, url.port, url.path, url.query, url.fragment


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://h", ("http", "h", 80, "/", "", "")),
        ("https://h", ("https", "h", 443, "/", "", "")),
        ("HTTPS://Example.COM/A", ("https", "example.com", 443, "/A", "", "")),
        ("http://h:8080/a/b?q=1&r#f", ("http", "h", 8080, "/a/b", "q=1&r", "f")),
        ("http://h?x=1", ("http", "h", 80, "/", "x=1", "")),
        ("http://h#f", ("http", "h", 80, "/", "", "f")),
        ("http://h/#a#b?c", ("http", "h", 80, "/", "", "a#b?c")),
        ("http://h/a?b?c/d", ("http", "h", 80, "/a", "b?c/d", "")),
        ("http://h/a/../b//c", ("http", "h", 80, "/a/../b//c", "", "")),
        ("http://h/a:b@c", ("http", "h", 80, "/a:b@c", "", "")),
        ("http://h:1/", ("http", "h", 1, "/", "", "")),
        ("http://h:65535/", ("http", "h", 65535, "/", "", "")),
        ("http://h:00080/", ("http", "h", 80, "/", "", "")),
        ("http://[::1]/", ("http", "::1", 80, "/", "", "")),
        ("http://[2001:DB8::1]:81?x", ("http", "2001:db8::1", 81, "/", "x", "")),
        ("http://[::ffff:1.2.3.4]", ("http", "::ffff:1.2.3.4", 80, "/", "", "")),
        ("http://127.0.0.1:9", ("http", "127.0.0.1", 9, "/", "", "")),
        ("http://a_b-c.example./", ("http", "a_b-c.example.", 80, "/", "", "")),
        ("http://1e100.net", ("http", "1e100.net", 80, "/", "", "")),
        ("http://1.2.3.4e", ("http", "1.2.3.4e", 80, "/", "", "")),
        ("http://0x.example", ("http", "0x.example", 80, "/", "", "")),
        ("http://bücher.example/ü?ö#ä", ("http", "xn--bcher-kva.example", 80, "/%C3%BC",
                                          "%C3%B6", "%C3%A4")),
        ("http://BÜCHER。example", ("http", "xn--bcher-kva.example", 80, "/", "", "")),
        ("http://h/%", ("http", "h", 80, "/%", "", "")),
        ("http://h/\\x", ("http", "h", 80, "/\\x", "", "")),
    ],
)  # fmt: skip
def test_an_absolute_url_is_read_into_its_parts(text, expected):
    assert parts(Url.parse(text)) == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "absolute"), ("h", "absolute"), ("/a", "absolute"), ("//h/a", "absolute"),
        ("http:/h", "absolute"), ("http:h", "absolute"), ("://h", "absolute"),
        ("localhost:80", "absolute"), ("1http://h", "absolute"),
        ("ftp://h", "http or https"), ("ws://h", "http or https"), ("file:///x", "http or https"),
        ("http://", "host is empty"), ("http:///p", "host is empty"), ("http://:80", "empty"),
        ("http://?q", "empty"), ("http://#f", "empty"), ("http://u@", "empty"),
        ("http://[::1", "not closed"), ("http://[", "not closed"),
        ("http://[]", "IPv6"), ("http://[::g]", "IPv6"), ("http://[1.2.3.4]", "IPv6"),
        ("http://[v1.x]", "IPv6"), ("http://[::1%25lo]", "zone"), ("http://[::1%lo]", "zone"),
        ("http://[::1]x:80", "follow"), ("http://[::1]80", "follow"),
        ("http://h:", "port"), ("http://h:/", "port"), ("http://h:x/", "port"),
        ("http://h:0/", "port"), ("http://h:65536/", "port"), ("http://h:000080", "port"),
        ("http://h:-1", "port"), ("http://h:+80", "port"), ("http://h:8_0", "port"),
        ("http://h:٣٣", "port"), ("http://h:1:2", "port"), ("http://::1/", "empty"),
        ("http://h :80", "offset"),
    ],
)  # fmt: skip
def test_what_is_no_url_is_refused_with_the_reason(text, why):
    with pytest.raises(UrlParseError, match=why) as caught:
        Url.parse(text)
    assert isinstance(caught.value, ValueError)
    assert str(caught.value) == f"UrlParseError: {caught.value.message}"


@pytest.mark.parametrize("bad", [*"\0\t\n\r\x0b\x1b\x1f \x7f\x80\x85\x9f"])
@pytest.mark.parametrize(
    "pattern", ["{}http://h/", "ht{}tp://h/", "http://h{}/", "http://{}h/", "http://u{}@h/",
                "http://h:8{}0/", "http://h/a{}b", "http://h/?a{}b", "http://h/#{}", "http://h/{}"],
)  # fmt: skip
def test_controls_and_spaces_are_refused_everywhere(bad, pattern):
    with pytest.raises(UrlParseError):
        Url.parse(pattern.format(bad))


@pytest.mark.parametrize(
    "host",
    [
        r"a\@b", r"a\b", r"good.example\.evil.example", "a@b@c", "good.example@@evil.example",
        "good.example%00.evil.example", "good.example%2fevil.example", "127.0.0.1%20", "%31",
        "a..b", ".a", ".", "..", "a,b", "a;b", "a!b", "a'b", "a(b)", "a*b", "a+b", "a=b", "a$b",
        "a&b", "a~b", 'a"b', "a<b", "a>b", "a^b", "a`b", "a{b}", "a|b", "a]b", "a[b",
        "\u2100.example", "a\uff0fb.example", "a\uff20b", "a\uff1a80", "a\u3000b", "\u00ad",
        "\ud800", "a" * 64, "a" * 64 + ".é", ".".join(["a" * 63] * 4), "é" * 300,
    ],
)  # fmt: skip
def test_a_host_that_two_parsers_could_read_differently_is_refused(host):
    with pytest.raises(UrlParseError):
        Url.parse(f"http://{host}/")


@pytest.mark.parametrize(
    "host",
    ["2130706433", "0x7f.1", "0x7f000001", "0X7F.0.0.1", "127.1", "127.0.1", "0177.0.0.1",
     "017700000001", "127.0.0.01", "00.0.0.0", "0", "0x", "127.0.0.1.", "256.1.1.1", "1.2.3.4.5",
     "1.2.3", "1.2.3.999", "a.0x7f", "a.1", "１２７.1", "127.0.0.0x1", "127。1"],
)  # fmt: skip
def test_an_ipv4_address_in_any_spelling_but_four_decimal_numbers_is_refused(host):
    with pytest.raises(UrlParseError, match="IPv4"):
        Url.parse(f"http://{host}/")


def test_wide_digits_become_the_address_we_connect_to():
    assert Url.parse("http://\uff11\uff12\uff17.0.0.1/").host == "127.0.0.1"


def test_userinfo_is_decoded_and_no_part_of_the_text():
    url = Url.parse("http://us%65r:p%40:s%C3%A9@h:81/x")
    assert (url.username, url.password) == ("user", "p@:sé")
    assert str(url) == "http://h:81/x"
    assert "p@" not in repr(url)
    bare = Url.parse("http://only@h/")
    assert (bare.username, bare.password) == ("only", "")
    assert Url.parse("http://@h/").username == ""


@pytest.mark.parametrize(
    "text",
    ["http://u:hunter2%@h/", "http://u:hunter2%zz@h/", "http://u:hunter2%ff@h/",
     "http://u:hunter2@x@h/", "http://u:hunter2\\@h/", "http://u:hunter2/@h/",
     "http://u:hunter2@h:x/", "http://u:hunter2@/", "http://u:hunter2@a b/",
     "ftp://u:hunter2@h/", "u:hunter2@h", "http://u:hunter2\ud800%20@h/"],
)  # fmt: skip
def test_no_error_shows_a_password(text):
    with pytest.raises(UrlParseError) as caught:
        Url.parse(text)
    assert "hunter2" not in str(caught.value) + repr(caught.value)


@pytest.mark.parametrize(
    ("text", "printed", "authority"),
    [
        ("HTTP://H:80", "http://h/", "h"),
        ("https://h:443/a", "https://h/a", "h"),
        ("https://h:80/a", "https://h:80/a", "h:80"),
        ("http://[::1]:80/?", "http://[::1]/", "[::1]"),
        ("http://u:p@[::1]:81/?x#y", "http://[::1]:81/?x#y", "[::1]:81"),
    ],
)  # fmt: skip
def test_printing_omits_the_default_port_and_puts_brackets_back(text, printed, authority):
    url = Url.parse(text)
    assert str(url) == printed
    assert url.authority() == authority


def test_the_request_target_is_path_and_query():
    url = Url.parse("https://h/a?b#c")
    assert url.request_target() == "/a?b"
    assert Url.parse("https://h#c").request_target() == "/"
    assert url.is_tls()
    assert not Url.parse("http://h").is_tls()


# RFC 3986 sections 5.4.1 and 5.4.2, in the order they stand there.
BASE = "http://a/b/c/d;p?q"
RESOLUTIONS = [
    ("g", "http://a/b/c/g"), ("./g", "http://a/b/c/g"), ("g/", "http://a/b/c/g/"),
    ("/g", "http://a/g"), ("//g", "http://g/"), ("?y", "http://a/b/c/d;p?y"),
    ("g?y", "http://a/b/c/g?y"), ("#s", "http://a/b/c/d;p?q#s"), ("g#s", "http://a/b/c/g#s"),
    ("g?y#s", "http://a/b/c/g?y#s"), (";x", "http://a/b/c/;x"), ("g;x", "http://a/b/c/g;x"),
    ("g;x?y#s", "http://a/b/c/g;x?y#s"), ("", "http://a/b/c/d;p?q"), (".", "http://a/b/c/"),
    ("./", "http://a/b/c/"), ("..", "http://a/b/"), ("../", "http://a/b/"),
    ("../g", "http://a/b/g"), ("../..", "http://a/"), ("../../", "http://a/"),
    ("../../g", "http://a/g"),
    ("../../../g", "http://a/g"), ("../../../../g", "http://a/g"), ("/./g", "http://a/g"),
    ("/../g", "http://a/g"), ("g.", "http://a/b/c/g."), (".g", "http://a/b/c/.g"),
    ("g..", "http://a/b/c/g.."), ("..g", "http://a/b/c/..g"), ("./../g", "http://a/b/g"),
    ("./g/.", "http://a/b/c/g/"), ("g/./h", "http://a/b/c/g/h"), ("g/../h", "http://a/b/c/h"),
    ("g;x=1/./y", "http://a/b/c/g;x=1/y"), ("g;x=1/../y", "http://a/b/c/y"),
    ("g?y/./x", "http://a/b/c/g?y/./x"), ("g?y/../x", "http://a/b/c/g?y/../x"),
    ("g#s/./x", "http://a/b/c/g#s/./x"), ("g#s/../x", "http://a/b/c/g#s/../x"),
]  # fmt: skip


@pytest.mark.parametrize(("ref", "expected"), RESOLUTIONS)
def test_references_resolve_as_in_the_examples_of_the_standard(ref, expected):
    assert str(Url.parse(BASE).join(ref)) == expected


@pytest.mark.parametrize(
    ("ref", "expected"),
    [
        ("https://h/a/./b/../c?d#e", "https://h/a/c?d#e"), ("HTTP://H:80", "http://h/"),
        ("//h:81/x", "http://h:81/x"), ("?", "http://a/b/c/d;p"), ("1:2", "http://a/b/c/1:2"),
        ("é?é#é", "http://a/b/c/%C3%A9?%C3%A9#%C3%A9"), (".//x", "http://a/b/c//x"),
        ("/.//x", "http://a//x"), ("..//..", "http://a/b/"), ("/a//..", "http://a/a/"),
        ("/%2e%2e/x", "http://a/%2e%2e/x"),
    ],
)  # fmt: skip
def test_other_references_resolve_by_the_same_rules(ref, expected):
    assert str(Url.parse(BASE).join(ref)) == expected


@pytest.mark.parametrize(
    ("ref", "why"),
    [("g:h", "http or https"), ("mailto:a@b", "http or https"), ("ftp://h/", "http or https"),
     ("javascript:alert(1)", "http or https"), ("http:g", "go on with //"), ("//", "empty"),
     ("///x", "empty"), ("a b", "offset"), ("a\r\nb", "offset"), ("//h:0/", "port"),
     ("/\ud800", "surrogate")],
)  # fmt: skip
def test_references_that_lead_nowhere_are_refused(ref, why):
    with pytest.raises(UrlParseError, match=why):
        Url.parse(BASE).join(ref)


def test_credentials_stay_with_their_authority():
    base = Url.parse("http://u:p@h/a/b")
    assert (base.join("c").username, base.join("c").password) == ("u", "p")
    assert (base.join("//h/c").username, base.join("http://h/").password) == ("", "")


def test_joining_to_a_url_made_by_hand_without_a_path_gives_an_absolute_path():
    assert Url("http", "h", 80, "").join("x").path == "/x"


def test_urls_are_compared_by_their_parts():
    assert Url.parse("HTTP://h:80") == Url("http", "h", 80, "/")
    assert Url.parse("http://h/a") != Url.parse("http://h/A")


def test_text_that_is_no_str_is_a_type_error():
    with pytest.raises(TypeError):
        Url.parse(b"http://h/")


labels = st.from_regex(r"[a-z][a-z0-9-]{0,10}", fullmatch=True)
hosts = (
    st.lists(labels, min_size=1, max_size=3).map(".".join)
    | st.ip_addresses(v=4).map(str)
    | st.ip_addresses(v=6).map(lambda ip: ip.compressed.partition("%")[0])
)
visible = st.characters(min_codepoint=0x21, max_codepoint=0x7E)
paths = st.text(visible.filter(lambda c: c not in "?#")).map("/".__add__)
urls = st.builds(
    Url, st.sampled_from(["http", "https"]), hosts, st.integers(1, 65535), paths,
    st.text(visible.filter(lambda c: c != "#")), st.text(visible),
)  # fmt: skip


@given(urls)
def test_printing_and_parsing_give_back_the_same_url(url):
    assert Url.parse(str(url)) == url
    assert Url.parse(BASE).join(str(url)).host == url.host


@given(st.text() | st.text("htps:/@\\[]%.?#0123456789abxXü ").map("http://".__add__))
@example("http://a\\@b")
def test_any_text_is_refused_or_means_the_same_when_printed(text):
    try:
        url = Url.parse(text)
    except UrlParseError:
        return
    assert re.fullmatch(r"[!-~]+", str(url))
    again = Url.parse(str(url))
    assert parts(again) == parts(url)
    assert re.fullmatch(r"[a-z0-9._-]+|[0-9a-f:.]+", url.host)


@given(st.text("0123456789.xXabcdefABCDEF", min_size=1, max_size=16))
def test_no_host_but_a_dotted_quad_is_read_as_an_ipv4_address_by_the_system(host):
    try:
        url = Url.parse(f"http://{host}/")
    except UrlParseError:
        return
    try:
        address = socket.inet_aton(url.host)
    except OSError:
        return
    assert str(ipaddress.IPv4Address(address)) == url.host


@given(urls, st.text(st.sampled_from("./ab?#:"), max_size=20))
def test_a_resolved_path_is_absolute_and_has_no_dot_segments(url, ref):
    assume("." not in url.path)
    try:
        result = url.join(ref)
    except UrlParseError:
        return
    assert result.path.startswith("/")
    assert not {".", ".."} & set(result.path.split("/"))
    assert Url.parse(str(result)) == result

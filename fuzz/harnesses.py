"""One harness for each parser: it may give a value or a documented exception, nothing else."""

from __future__ import annotations

from flare.errors import ValidationError
from flare.http.proto.cookie import (
    CookieJar,
    parse_cookie_header,
    parse_set_cookie_header,
)
from flare.http.proto.errors import HttpParseError
from flare.http.proto.header_view import parse_header_view
from flare.http.proto.headers import HeaderInjectionError, HeaderMap
from flare.http.proto.simd_parsers import simd_percent_decode
from flare.http.proto.url import Url, UrlParseError
from fuzz.registry import harness


def text_of(data: bytes) -> str:
    """The input as text: UTF-8 where it is that, so that characters past U+00FF are tried too."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


@harness(
    seeds=[
        b"http://user:p%40ss@example.com:8080/a/../b;c?d=e&f#g",
        b"https://[2001:db8::1]:443/?q",
        b"http://127.0.0.1:1/%41",
        b"http://0x7f.1/",
        "http://bücher.example/ü?ö#ä".encode(),
        b"http://a\\@b/",
        b"//h/../x?y#z",
        b"../../g;x=1/./y",
    ]
)
def url(data: bytes) -> None:
    """A URL prints as what it means, and so does what a reference resolves to."""
    text = text_of(data)
    for make in (Url.parse, Url.parse("http://a/b/c/d;p?q").join):
        try:
            found = make(text)
        except UrlParseError:
            continue
        printed = str(found)
        assert printed.isascii()
        assert printed.isprintable()
        again = Url.parse(printed)
        found.username = found.password = ""
        assert again == found
        assert 1 <= found.port <= 65535
        assert found.host
        assert not set(found.host) & set("/?#@\\%[] ")


@harness(
    seeds=[
        b"Host: example.com\r\nAccept: */*\r\naccept: text/html\r\n\r\nrest",
        b"A:1\nB: \t2 \t\n\n",
        b"Cookie: a=1; b=2\r\nX: \xe9\xff\r\n",
        b"A: 1\r\n folded\r\n",
        b"A : 1\r\nB\0: 2\r\n",
    ]
)
def header_view(data: bytes) -> None:
    """Every road reads the same fields, and written again they are still the same."""
    try:
        view = parse_header_view(data)
    except HttpParseError:
        return
    pairs = list(view)
    owned = view.into_owned()
    assert list(parse_header_view(memoryview(data))) == owned.items() == pairs
    assert HeaderMap(pairs).items() == pairs
    again = bytearray()
    owned.encode_to(again)
    assert list(parse_header_view(again)) == pairs


@harness(seeds=[b"Name\nvalue", b"X-A\n\xc3\xa9", b"a b\nc", b"A\nb\r\nEvil: 1"])
def header_map(data: bytes) -> None:
    """A field is refused or comes back from the wire as the only one."""
    name, _, value = text_of(data).partition("\n")
    headers = HeaderMap()
    try:
        headers.append(name, value)
    except HeaderInjectionError:
        return
    buf = bytearray()
    headers.encode_to(buf)
    assert list(parse_header_view(buf)) == [(name, value.strip(" \t"))]


@harness(seeds=[b"a=1; b=2", b' a = "x y" ;;b=c=d; e', b"=v; __Host-a=1; \xe9=\xff"])
def cookie_header(data: bytes) -> None:
    """Reading never raises; what can be written again is read as the same."""
    cookies = parse_cookie_header(text_of(data))
    jar = CookieJar(cookies)
    assert len(jar) <= len(cookies)
    try:
        written = jar.to_request_header()
    except (ValidationError, HeaderInjectionError):
        return
    assert CookieJar(parse_cookie_header(written)) == jar


@harness(
    seeds=[
        b"id=42; Path=/; Max-Age=3600; Secure; HttpOnly; SameSite=Lax",
        b"__Host-a=b; Secure; Path=/; Domain=.Example.com; Expires=Sun, 06 Nov 1994 08:49:37 GMT",
        b"a=1; max-age=-99999999999999999999; samesite=none; domain=; path=x",
        b'a="b c"; Unknown; =; ;',
    ]
)
def set_cookie(data: bytes) -> None:
    """What was read and can be written is read as the same cookie again."""
    try:
        cookie = parse_set_cookie_header(text_of(data))
    except HttpParseError:
        return
    assert cookie.name
    assert -1 <= cookie.max_age <= 10**12
    try:
        written = cookie.to_set_cookie_header()
    except (ValidationError, HeaderInjectionError):
        return
    cookie.domain = cookie.domain.removeprefix(".")  # reading drops one dot, and there were two
    assert parse_set_cookie_header(written) == cookie
    HeaderMap({"Set-Cookie": written})


@harness(seeds=[b"a+b%20c%2B%25", b"%", b"%4", b"%zz", b"%%41", b"%C3%A9"])
def percent_decode(data: bytes) -> None:
    """Decoding appends all of its result or, where it refuses, nothing."""
    output = bytearray(b"kept")
    try:
        decoded = simd_percent_decode(data, output)
    except HttpParseError:
        decoded = b""
    assert output == b"kept" + decoded
    encoded = b"".join(b"%%%02X" % byte for byte in decoded)
    assert simd_percent_decode(memoryview(encoded)) == decoded

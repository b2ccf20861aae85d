"""Fuzz harnesses of what a client reads in responses: cookies to keep, dates, challenges, links."""

from __future__ import annotations

import json
import os
import tempfile
import time

from flare.errors import ValidationError
from flare.http.client.auth import Signing
from flare.http.client.cookie_file import read_cookies, write_cookies
from flare.http.client.cookie_jar import ClientCookieJar
from flare.http.client.digest import DigestAuth
from flare.http.proto.challenge import parse_challenges
from flare.http.proto.cookie_rules import domain_matches
from flare.http.proto.dates import parse_http_date
from flare.http.proto.headers import HeaderMap
from flare.http.proto.link import links_by_relation, parse_link_header
from flare.http.proto.public_suffix import is_public_suffix
from flare.http.proto.url import Url
from flare.http.retry import RetryPolicy
from fuzz.harnesses import text_of
from fuzz.registry import harness

_HERE = Url.parse("https://www.example.co.uk/a/b")
_CLEAR = Url.parse("http://www.example.co.uk/a/b")


@harness(
    seeds=[
        b"a=1; Domain=example.co.uk; Path=/a; Secure; HttpOnly; SameSite=Lax\nb=2; Max-Age=60",
        b"__Host-a=1; Secure; Path=/\n__Secure-b=2; Secure\na=; Expires=Thu, 01 Jan 1970 00:00:00",
        b"a=1; Domain=co.uk\na=2; Domain=.www.example.co.uk\n=x\n;;;",
    ]
)
def kept_cookies(data: bytes) -> None:
    """What is kept belongs to the host, is no suffix's, comes back from its file as it was, and
    nothing set in clear is seen in place of what was set over TLS."""
    lines = data.decode("latin-1").split("\n")
    jar = ClientCookieJar()
    jar.store(_HERE, lines)
    secure = {(each.name, each.path): each.value for each in jar if each.secure}
    for cookie in jar:
        assert domain_matches("www.example.co.uk", cookie.domain)
        assert cookie.host_only or not is_public_suffix(cookie.domain)
        assert not cookie.name.lower().startswith("__host-") or cookie.host_only
    jar.header_for(_HERE).encode("latin-1")
    jar.store(_CLEAR, lines)
    for (name, path), value in secure.items():
        assert any(each.value == value for each in jar if (each.name, each.path) == (name, path))
    assert not any(each.secure for each in jar.matching(_CLEAR))
    number, path = tempfile.mkstemp()
    os.close(number)
    try:
        write_cookies(path, jar)
        assert read_cookies(path, time.time()) == list(jar)
    finally:
        os.unlink(path)


@harness(
    seeds=[
        json.dumps({"format": "flare cookies 1", "cookies": []}).encode(),
        b'{"format": "flare cookies 1", "cookies": [{"name": "a", "value": "1", "domain": "e.com",'
        b'"path": "/", "host_only": true, "secure": false, "http_only": false, "same_site": "",'
        b'"expires": null, "created": 0, "used": 0, "port": 0}]}',
    ]
)
def cookie_file(data: bytes) -> None:
    """A file is cookies that can be sent, or a ``ValidationError``."""
    number, path = tempfile.mkstemp()
    try:
        with open(number, "wb") as file:
            file.write(data)
        try:
            cookies = read_cookies(path, 0)
        except ValidationError:
            return
        for cookie in cookies:
            assert not set("\r\n\0;") & set(cookie.name + cookie.value)
    finally:
        os.unlink(path)


@harness(
    seeds=[
        b"Sun, 06 Nov 1994 08:49:37 GMT",
        b"Sunday, 06-Nov-94 08:49:37 GMT",
        b"Sun Nov  6 08:49:37 1994",
        b"120",
    ]
)
def http_date(data: bytes) -> None:
    """A date or ``None``, and a wait for it that is never longer than its cap."""
    text = text_of(data)
    seconds = parse_http_date(text)
    assert seconds is None or seconds >= -11_644_473_600
    assert 0 <= RetryPolicy(max_backoff_ms=500).wait_ms(2, 503, text, 0.0) <= 500


@harness(
    seeds=[
        b'Digest realm="a, \\"b\\"", nonce="n", qop="auth,auth-int", Basic realm="c"',
        b'Digest realm="r", nonce="n", algorithm=SHA-256-sess, userhash=true, opaque="o"',
        b"Negotiate YWJj==, NTLM",
    ]
)
def challenges(data: bytes) -> None:
    """Challenges have a scheme, and what answers one is a field."""
    text = text_of(data)
    for challenge in parse_challenges([text]):
        assert challenge.scheme
        assert all(name == name.lower() for name in challenge.params)
    auth = DigestAuth("user", "secret")
    request = Signing("GET", "http://e.com:80", "/", b"")
    if auth.challenged(request, [data.decode("latin-1")], again=False):
        headers = HeaderMap()
        auth.authorize(request, headers)
        assert headers["authorization"].startswith("Digest ")
        assert "secret" not in headers["authorization"]


@harness(seeds=[b'</a?b=c>; rel="next last"; title="x, y", <//h/p>; rel=up', b"</a>;;;,,<b>;x"])
def links(data: bytes) -> None:
    """Links have a target, and are found by each of their relations."""
    text = text_of(data)
    found = parse_link_header(text)
    by_relation = links_by_relation([text], "http://e.com/")
    for link in found:
        for relation in link.rel.split():
            assert by_relation[relation]["url"] is not None

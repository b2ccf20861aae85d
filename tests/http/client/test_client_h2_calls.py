"""What surrounds a call (cookies, redirects, challenges, retries, hooks) over HTTP/2."""

from __future__ import annotations

import re

from scripted_h2 import H2Peer, Wire, head

from flare.http import HttpClient, RetryPolicy
from flare.http.client import DigestAuth
from flare.http2 import Http2ErrorCode, build_rst


def client_of(peer: H2Peer, **settings) -> HttpClient:
    return HttpClient(peer.base, prefer_h2c=True, timeout_ms=10_000, **settings)


def test_cookies_redirects_and_hooks():
    seen: list[dict[str, str]] = []

    def script(wire: Wire) -> None:
        wire.begin()
        sid, fields = wire.request()
        seen.append(fields)
        wire.body(sid)
        moved = [(":status", "303"), ("location", "/in"), ("set-cookie", "sid=7")]
        wire.send(head(sid, moved, end=True))
        sid, fields = wire.request()
        seen.append(fields)
        wire.answer(sid, b"done")
        wire.rest()

    statuses: list[int] = []
    with (
        H2Peer(script) as peer,
        client_of(
            peer,
            on_request=lambda request: request.headers.set("X-Trace", request.method),
            on_response=lambda response: statuses.append(response.status),
        ) as client,
    ):
        got = client.post("/login", data={"user": "me"}, cookies={"a": "1"})
        assert (got.version, got.body) == ("HTTP/2", b"done")
        assert client.cookies["sid"] == "7"
    assert [fields[":path"] for fields in seen] == ["/login", "/in"]
    assert [fields["x-trace"] for fields in seen] == ["POST", "GET"]
    assert [fields["cookie"] for fields in seen] == ["a=1", "sid=7; a=1"]
    assert statuses == [303, 200]


def test_a_challenge_is_answered():
    answers: list[str] = []

    def script(wire: Wire) -> None:
        wire.begin()
        sid, _ = wire.request()
        challenge = 'Digest realm="r", nonce="n", qop="auth"'
        wire.send(head(sid, [(":status", "401"), ("www-authenticate", challenge)], end=True))
        sid, fields = wire.request()
        answers.append(fields["authorization"])
        wire.answer(sid, b"welcome")
        wire.rest()

    with H2Peer(script) as peer, client_of(peer) as client:
        got = client.get("/x?y=1", auth=DigestAuth("user", "pass"))
        assert got.body == b"welcome"
    assert re.search(r'uri="/x\?y=1"', answers[0])


def test_a_stream_that_was_reset_is_tried_again():
    def script(wire: Wire) -> None:
        wire.begin()
        sid, _ = wire.request()
        wire.send(build_rst(sid, Http2ErrorCode.INTERNAL_ERROR))
        sid, _ = wire.request()
        wire.answer(sid, b"", status="503")
        sid, _ = wire.request()
        wire.answer(sid, b"done")
        wire.rest()

    with H2Peer(script) as peer, client_of(peer, retry=RetryPolicy(3)) as client:
        assert client.get("/").body == b"done"
        assert peer.connections == 1

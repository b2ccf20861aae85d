"""flare talks to the h2 of PyPI, on either side of the wire."""

from __future__ import annotations

import pytest
from h2_wire import Reply, request
from hypothesis import given, settings
from hypothesis import strategies as st

from flare.http2 import Http2ClientConnection, Http2Config, Http2Connection

h2 = pytest.importorskip("h2", reason="pip install h2")
h2_config = pytest.importorskip("h2.config")
h2_connection = pytest.importorskip("h2.connection")
h2_events = pytest.importorskip("h2.events")
h2_exceptions = pytest.importorskip("h2.exceptions")

GET = [(":method", "GET"), (":scheme", "https"), (":authority", "a.example"), (":path", "/")]


def theirs(client_side: bool):
    conn = h2_connection.H2Connection(
        h2_config.H2Configuration(client_side=client_side, header_encoding="utf-8")
    )
    conn.initiate_connection()
    return conn


def carry(ours, their) -> list:
    """Bytes both ways until neither has any; the events on their side."""
    events = []
    while True:
        out = their.data_to_send()
        if out:
            ours.feed(out)
        back = ours.drain()
        if back:
            for event in their.receive_data(back):
                events.append(event)
                if isinstance(event, h2_events.DataReceived):
                    their.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        if not out and not back:
            return events


def body_of(events: list, sid: int) -> bytes:
    return b"".join(
        event.data
        for event in events
        if isinstance(event, h2_events.DataReceived) and event.stream_id == sid
    )


def send_all(ours, their, sid: int, body: bytes, end: bool = True) -> None:
    while body:
        size = min(their.local_flow_control_window(sid), their.max_outbound_frame_size, len(body))
        if size:
            their.send_data(sid, body[:size])
            body = body[size:]
        carry(ours, their)
    if end:
        their.end_stream(sid)
        carry(ours, their)


def test_their_client_gets_large_and_small_answers_at_once():
    client, server = theirs(True), Http2Connection()
    for sid in (1, 3):
        client.send_headers(sid, [*GET, ("x-long", "v" * 3000)], end_stream=True)
    carry(server, client)
    assert server.take_completed_streams() == [1, 3]
    assert server.take_request(1).headers["x-long"] == "v" * 3000
    server.emit_response(1, Reply(200, bytes(300_000), {"a": "b"}, {"x-t": "1"}))
    server.emit_response(3, Reply(404, b"no"))
    events = carry(server, client)
    assert body_of(events, 1) == bytes(300_000)
    assert body_of(events, 3) == b"no"
    heads = {
        e.stream_id: dict(e.headers) for e in events if isinstance(e, h2_events.ResponseReceived)
    }
    assert heads[1] == {":status": "200", "a": "b", "content-length": "300000"}
    assert heads[3][":status"] == "404"
    (trailers,) = [event for event in events if isinstance(event, h2_events.TrailersReceived)]
    assert dict(trailers.headers) == {"x-t": "1"}
    ends = {e.stream_id for e in events if isinstance(e, h2_events.StreamEnded)}
    assert ends == {1, 3}


def test_their_client_uploads_with_padding_and_trailers():
    client, server = theirs(True), Http2Connection(Http2Config(initial_window_size=20_000))
    client.send_headers(1, [(":method", "PUT"), *GET[1:]])
    carry(server, client)
    send_all(server, client, 1, bytes(200_000), end=False)
    client.send_data(1, b"padded", pad_length=100)
    client.send_headers(1, [("x-t", "1")], end_stream=True)
    carry(server, client)
    found = server.take_request(1)
    assert found.body == bytes(200_000) + b"padded"
    assert found.trailers["x-t"] == "1"


def test_our_client_and_their_server():
    client, server = Http2ClientConnection(), theirs(False)
    first = request(client, "POST", body=bytes(200_000), extra_headers={"x": "y"})
    second = request(client, path="/second")
    events = carry(client, server)
    asked = {e.stream_id: e.headers for e in events if isinstance(e, h2_events.RequestReceived)}
    assert asked[first] == [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "a.example"),
        (":path", "/"),
        ("x", "y"),
    ]
    assert body_of(events, first) == bytes(200_000)
    server.send_headers(second, [(":status", "103"), ("link", "</a>")])
    server.send_headers(second, [(":status", "200"), ("set-cookie", "a"), ("set-cookie", "b")])
    server.send_data(second, b"hello", pad_length=10)
    server.send_headers(second, [("x-t", "1")], end_stream=True)
    server.send_headers(first, [(":status", "200")])
    send_all(client, server, first, bytes(500_000))
    response = client.take_response(second)
    assert (response.status, response.body) == (200, b"hello")
    assert [header.value for header in response.headers] == ["a", "b"]
    assert response.trailers[0].name == "x-t"
    assert client.take_response(first).body == bytes(500_000)


def test_resets_pings_settings_and_the_end_are_understood():
    client, server = theirs(True), Http2Connection()
    client.send_headers(1, GET, end_stream=True)
    client.send_headers(3, GET, end_stream=True)
    client.ping(b"12345678")
    client.update_settings({4: 1000, 1: 0})
    carry(server, client)
    server.take_request(1)
    server.reset_stream(1)
    server.emit_response(3, Reply(200, bytes(5000)))
    events = carry(server, client)
    server.send_goaway()  # behind it h2 takes nothing more
    events += carry(server, client)
    assert body_of(events, 3) == bytes(5000)
    kinds = {type(event).__name__ for event in events}
    assert {"StreamReset", "ConnectionTerminated", "StreamEnded"} <= kinds
    assert server.can_close


fields = st.lists(
    st.tuples(
        st.text("abcdefgh-", min_size=1, max_size=10).map("x-{}".format),
        st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40),
    ),
    max_size=6,
)


@settings(max_examples=40)
@given(st.lists(st.tuples(fields, st.binary(max_size=30_000)), min_size=1, max_size=4))
def test_any_messages_pass_both_ways(messages: list[tuple[list[tuple[str, str]], bytes]]):
    client, server = theirs(True), Http2Connection()
    carry(server, client)
    for number, (extra, body) in enumerate(messages):
        sid = 2 * number + 1
        client.send_headers(sid, [*GET, *extra])
        send_all(server, client, sid, body)
    assert server.take_completed_streams() == [2 * n + 1 for n in range(len(messages))]
    for number, (extra, body) in enumerate(messages):
        found = server.take_request(2 * number + 1)
        assert found.body == body
        assert found.headers.items()[1:] == extra
        server.emit_response(2 * number + 1, Reply(200, body, extra))
    events = carry(server, client)
    for number, (extra, body) in enumerate(messages):
        assert body_of(events, 2 * number + 1) == body
        (answer,) = [
            event.headers
            for event in events
            if isinstance(event, h2_events.ResponseReceived) and event.stream_id == 2 * number + 1
        ]
        assert answer == [(":status", "200"), *extra, ("content-length", str(len(body)))]


TUNNEL = [
    (":method", "CONNECT"),
    (":protocol", "websocket"),
    (":scheme", "https"),
    (":authority", "a.example"),
    (":path", "/chat"),
]


def test_their_client_opens_a_tunnel():
    client, server = theirs(True), Http2Connection(Http2Config(enable_connect_protocol=True))
    carry(server, client)
    assert client.remote_settings.enable_connect_protocol == 1
    client.send_headers(1, TUNNEL)
    client.send_data(1, b"up")
    carry(server, client)
    assert server.take_extended_connect_streams() == [1]
    server.open_request(1)
    assert server.drain_stream_data(1) == b"up"
    server.accept_ws_over_h2(1)
    server.queue_stream_data(1, b"down")
    server.end_stream_response(1)
    assert body_of(carry(server, client), 1) == b"down"
    client.end_stream(1)
    carry(server, client)
    assert server.stream_ended(1)


def test_their_server_opens_a_tunnel():
    client, server = Http2ClientConnection(), theirs(False)
    server.update_settings({8: 1})
    carry(client, server)
    assert client.peer_supports_extended_connect()
    sid = client.next_stream_id()
    client.send_extended_connect(sid, "https", "a.example", "/chat", "websocket")
    client.send_data(sid, b"up", False)
    events = carry(client, server)
    (asked,) = [event for event in events if isinstance(event, h2_events.RequestReceived)]
    assert dict(asked.headers)[":protocol"] == "websocket"
    assert body_of(events, sid) == b"up"
    server.send_headers(sid, [(":status", "200")])
    server.send_data(sid, b"down", end_stream=True)
    carry(client, server)
    assert client.drain_body(sid) == b"down"
    assert client.stream_ended(sid)

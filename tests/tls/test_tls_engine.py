"""TLS without a socket: what goes in, what comes out, and when there is nothing."""

from __future__ import annotations

import random
import ssl
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tls_peers import Pki, engines, pass_on, shake

from flare.errors import BrokenPipe, NetworkError
from flare.tls import TlsEngine, TlsHandshakeError, TlsServerError, TlsTruncated
from flare.tls._hello import asked_name


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def pair(request: pytest.FixtureRequest, pki: Pki) -> tuple[TlsEngine, TlsEngine]:
    both = engines(pki.acceptor(alpn=["h2"]), pki.context(maximum_version=request.param))
    shake(*both)
    return both


def test_a_handshake_waits_for_the_peer(pki: Pki) -> None:
    client, server = engines(pki.acceptor(), pki.context())
    assert not server.handshake()
    assert server.output_size == 0
    assert not client.handshake()
    assert client.output_size > 100
    shake(client, server)
    assert client.established
    assert server.established
    assert client.handshake()
    assert client.version() == server.version() == "TLSv1.3"
    assert client.cipher() == server.cipher()
    assert server.sni_host() == "localhost"


def test_a_handshake_byte_by_byte(pki: Pki) -> None:
    client, server = engines(pki.acceptor(), pki.context())
    for _ in range(4):
        for one, other in ((client, server), (server, client)):
            one.handshake()
            data = one.pending_output()
            for at in range(len(data)):
                other.receive(data[at : at + 1])
                other.handshake()
    assert client.established
    assert server.established


def test_data_goes_across(pair: tuple[TlsEngine, TlsEngine]) -> None:
    client, server = pair
    assert client.read() is server.read() is None
    assert client.write(b"hello") == 5
    assert client.output_size > 5
    pass_on(client, server)
    assert client.output_size == 0
    assert server.pending() == 5
    assert server.read(2) == b"he"
    into = bytearray(10)
    assert server.read_into(into) == 3
    assert into[:3] == b"llo"
    assert server.read_into(into) is None
    assert server.pending() == 0


def test_pending_does_not_lose_what_it_looked_at(pair: tuple[TlsEngine, TlsEngine]) -> None:
    client, server = pair
    client.write(b"first")
    client.write(b"second")
    pass_on(client, server)
    assert server.pending() == server.pending() == 5
    assert server.read(3) == b"fir"
    assert server.pending() == 2
    assert server.read() == b"st"
    assert server.read() == b"second"


@pytest.mark.parametrize("seed", range(5))
def test_any_split_of_the_wire_gives_the_same_bytes(
    pair: tuple[TlsEngine, TlsEngine], seed: int
) -> None:
    client, server = pair
    choose = random.Random(seed)
    data = choose.randbytes(100_000)
    at = 0
    while at < len(data):
        size = choose.choice([1, 10, 1000, 20_000])
        client.write(memoryview(data)[at : at + size])
        at += size
    client.shutdown()
    wire, got = client.pending_output(), bytearray()
    while wire:
        size = choose.choice([1, 5, 500, 20_000])
        server.receive(wire[:size])
        wire = wire[size:]
        while piece := server.read(choose.choice([1, 100, 50_000])):
            got += piece
    assert got == data
    assert server.read() == b""


def test_writing_nothing_sends_nothing(pair: tuple[TlsEngine, TlsEngine]) -> None:
    assert pair[0].write(b"") == 0
    assert pair[0].output_size == 0


def test_the_end_is_said_once_and_ends_one_direction(pair: tuple[TlsEngine, TlsEngine]) -> None:
    client, server = pair
    client.write(b"last")
    client.shutdown()
    client.shutdown()
    pass_on(client, server)
    assert server.read() == b"last"
    assert server.read() == server.read() == b""
    assert server.read_into(bytearray(4)) == 0
    with pytest.raises(BrokenPipe):
        client.write(b"more")
    server.write(b"answer")
    server.shutdown()
    pass_on(client, server)
    assert client.read() == b"answer"
    assert client.read() == b""


def test_shutdown_keeps_what_has_come(pair: tuple[TlsEngine, TlsEngine]) -> None:
    client, server = pair
    for number in range(5):
        server.write(b"%d" % number * 1000)
    server.shutdown()
    pass_on(client, server)
    assert client.read(1) == b"0"
    client.shutdown()
    rest = b""
    while piece := client.read(700):
        rest += piece
    assert rest == b"".join(b"%d" % number * 1000 for number in range(5))[1:]
    assert client.read() == b""


def test_shutdown_keeps_an_error_for_the_reader(pair: tuple[TlsEngine, TlsEngine]) -> None:
    client, server = pair
    server.write(b"good")
    server.write(b"bad")
    wire = bytearray(server.pending_output())
    wire[-1] ^= 1
    client.receive(bytes(wire))
    client.shutdown()
    assert client.read() == b"good"
    with pytest.raises(NetworkError, match="BAD_RECORD_MAC"):
        client.read()


def test_shutdown_before_the_handshake_is_nothing(pki: Pki) -> None:
    client, _ = engines(pki.acceptor(), pki.context())
    client.shutdown()
    assert client.output_size == 0


def test_an_end_that_was_not_said_is_truncation(pair: tuple[TlsEngine, TlsEngine]) -> None:
    client, server = pair
    client.write(b"data")
    server.receive(client.pending_output())
    server.receive(b"")
    server.receive(b"ignored")
    assert server.read() == b"data"
    for _ in range(2):
        with pytest.raises(TlsTruncated):
            server.read()


def test_an_end_is_fine_where_nothing_more_was_wanted(pair: tuple[TlsEngine, TlsEngine]) -> None:
    client, server = pair
    client.write(b"data")
    server.receive(client.pending_output())
    server.end_input()
    assert server.read() == b"data"
    server.receive(b"")
    assert server.read() == b""


@pytest.mark.parametrize("seed", range(20))
def test_noise_in_a_handshake_is_the_documented_error(pki: Pki, seed: int) -> None:
    choose = random.Random(seed)
    client, server = engines(pki.acceptor(), pki.context())
    client.handshake()
    hello = bytearray(client.pending_output())
    for _ in range(3):
        hello[choose.randrange(len(hello))] = choose.randrange(256)
    server.receive(bytes(hello))
    with suppress(TlsServerError):
        server.handshake()
        server.receive(b"")
        server.handshake()
    server.pending_output()


@pytest.mark.parametrize("name", [b"lo\xc0alhost", b"\xff" * 9, "löcalhos".encode()])
@pytest.mark.parametrize("step", [1, 7, 1000])
def test_a_host_name_that_is_not_ascii_is_refused_quietly(pki: Pki, name: bytes, step: int) -> None:
    # ssl would print a traceback for each, which here would be a failure of the test.
    client, server = engines(pki.acceptor(), pki.context())
    client.handshake()
    hello = client.pending_output().replace(b"localhost", name)
    wire = b"".join(
        b"\x16\x03\x01" + len(part).to_bytes(2, "big") + part for part in (hello[5:20], hello[20:])
    )
    with pytest.raises(TlsServerError, match="not ASCII"):
        feed(server, wire, step)
    client.receive(server.pending_output())
    with pytest.raises(TlsHandshakeError, match="UNRECOGNIZED_NAME"):
        client.handshake()


def feed(engine: TlsEngine, wire: bytes, step: int) -> None:
    for at in range(0, len(wire), step):
        engine.receive(wire[at : at + step])
        engine.handshake()


def test_a_hello_longer_than_any_is_refused(pki: Pki) -> None:
    server = pki.acceptor().engine()
    with pytest.raises(TlsServerError, match="a ClientHello of more than 16384 bytes"):
        feed(server, b"\x16\x03\x01\x00\x04\x01\x00\xff\xff" + b"\x16\x03\x01\x00\x01a" * 4000, 600)


@given(st.binary(max_size=200))
def test_any_hello_has_a_name_or_none(data: bytes) -> None:
    for wire in (data, b"\x16\x03\x01" + len(data).to_bytes(2, "big") + data):
        found = asked_name(wire)
        assert found is None or found == b"" or found in wire


def test_the_name_in_a_hello(pki: Pki) -> None:
    client, _ = engines(pki.acceptor(), pki.context())
    client.handshake()
    hello = client.pending_output()
    assert asked_name(hello) == b"localhost"
    assert asked_name(hello[:5] + hello[5:] + b"more") == b"localhost"
    assert all(asked_name(hello[:size]) is None for size in range(len(hello)))
    assert asked_name(b"GET / HTTP/1.1\r\n") == b""
    cut = bytearray(hello[: len(hello) - 40])
    cut[3:5] = (len(cut) - 5).to_bytes(2, "big")
    cut[6:9] = (len(cut) - 9).to_bytes(3, "big")
    assert asked_name(bytes(cut)) in (b"", b"localhost")


def test_the_answer_to_plain_http_is_all_there_is_to_send(pki: Pki) -> None:
    server = pki.acceptor().engine()
    server.receive(b"GE")
    assert not server.handshake()
    server.receive(b"T / HTTP/1.1\r\nHost: a\r\n\r\n")
    with pytest.raises(TlsServerError, match="plain HTTP"):
        server.handshake()
    assert server.output_size > 50
    assert server.pending_output().startswith(b"HTTP/1.1 400 ")
    assert server.pending_output() == b""


def test_a_host_to_verify_is_needed(pki: Pki) -> None:
    with pytest.raises(ValueError, match="host name"):
        TlsEngine(pki.context())
    with pytest.raises(ValueError, match="null"):
        TlsEngine(pki.context(), host="a\0b")


def test_a_handshake_is_limited_after_the_hello_too(pki: Pki) -> None:
    # In TLS 1.2 a client's certificates are not encrypted: a message of 90,000 bytes, which OpenSSL
    # would wait for.
    acceptor = pki.acceptor(require_client_cert=True, client_ca_bundle=pki.bundle)
    client, server = engines(acceptor, pki.context(maximum_version=ssl.TLSVersion.TLSv1_2))
    client.handshake()
    feed(server, client.pending_output(), 100_000)
    message = b"\x0b" + (90_000).to_bytes(3, "big") + (89_997).to_bytes(3, "big") + bytes(89_997)
    wire = b"".join(
        b"\x16\x03\x03" + len(part).to_bytes(2, "big") + part
        for part in (message[at : at + 16_000] for at in range(0, 88_000, 16_000))
    )
    with pytest.raises(TlsServerError, match="a handshake of more than 65536 bytes"):
        feed(server, wire, 4096)

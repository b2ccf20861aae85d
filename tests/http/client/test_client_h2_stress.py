"""Threads that share an HTTP/2 connection and leave it in every way there is."""

from __future__ import annotations

import random
import socket
import ssl
import threading
from contextlib import suppress

import pytest
from scripted_h2 import H2Peer, Reply, handling

from flare.errors import NetworkError
from flare.http import HttpClient

THREADS = 16
TURNS = 25


def echo(request) -> Reply:
    return Reply(body=request.body * 3 or request.url.encode())


class Stop(Exception):
    """Raised by a body on its way."""


def breaking(choose: random.Random):
    yield bytes(choose.randrange(1, 100_000))
    raise Stop


def one_of_everything(client: HttpClient, choose: random.Random) -> None:
    """One call that ends well, or by its own doing."""
    match choose.randrange(8):
        case 0:  # a deadline that may or may not do
            try:
                client.post("/", bytes(20_000), timeout_ms=choose.choice([1, 3, 10]))
            except TimeoutError:
                pass
        case 1:  # a body that breaks off
            with pytest.raises(Stop):
                client.post("/", breaking(choose))
        case 2:  # a download that is left early
            with client.request("POST", "/", bytes(200_000), stream=True) as download:
                download.read_chunk(100)
        case 3:  # one that is read in pieces, slowly
            with client.request("POST", "/", bytes(50_000), stream=True) as download:
                assert sum(map(len, download)) == 150_000
        case 4:
            size = choose.randrange(300_000)
            pieces = (bytes(min(7_000, size - at)) for at in range(0, size, 7_000))
            body = client.post("/", pieces).body
            assert len(body) == (3 * size or 1)
        case _:
            path = f"/{choose.random()}"
            assert client.get(path).text() == path


@pytest.mark.parametrize("tls", [False, True], ids=["h2c", "tls"])
def test_whatever_threads_do_the_connection_serves_the_others(pki, tls):
    context = None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pki.server)
        context.set_alpn_protocols(["h2"])
    settings = {"verify": pki.bundle} if tls else {"prefer_h2c": True}
    failures: list[BaseException] = []

    # The resets are ours: a server that counts them would be right to hang up.
    script = handling(echo, rst_burst=100_000, max_body_size=None)
    with (
        H2Peer(script, tls=context) as peer,
        HttpClient(peer.base, timeout_ms=50_000, **settings) as client,
    ):
        assert client.get("/first").ok  # so that no short deadline goes to connecting

        def work(seed: int) -> None:
            choose = random.Random(seed)
            try:
                for _ in range(TURNS):
                    one_of_everything(client, choose)
            except BaseException as exc:
                failures.append(exc)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(50)
            assert not thread.is_alive(), client._pool
        assert not failures
        assert client._pool.counts() == (0, 1, 0)
        assert peer.connections == 1
        (connection,) = next(iter(client._pool._idle.values()))
        assert not connection._sleepers
        assert not connection.codec.connection.streams
        assert client.get("/last").ok


def test_threads_whose_connections_are_cut_off_all_the_time():
    cut = handling(echo)

    def cutting(wire) -> None:
        def cut_off() -> None:
            with suppress(OSError):
                wire.sock.shutdown(socket.SHUT_RDWR)

        # Each one lives a little longer, so that some serve on a machine of any speed.
        timer = threading.Timer(0.004 * len(peer.wires), cut_off)
        timer.start()
        try:
            cut(wire)
        finally:
            timer.join()

    served: list[int] = []
    failures: list[NetworkError] = []
    with H2Peer(cutting) as peer, HttpClient(peer.base, prefer_h2c=True) as client:

        def work() -> None:
            for _ in range(30):
                try:
                    served.append(client.post("/", bytes(1000)).status)
                except NetworkError as exc:
                    failures.append(exc)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(50)
            assert not thread.is_alive(), client._pool
        assert served
        assert not [exc for exc in failures if isinstance(exc, TimeoutError)]
        assert client._pool.counts()[::2] == (0, 0)

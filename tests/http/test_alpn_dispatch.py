"""Which HTTP a connection is to speak."""

from __future__ import annotations

import pytest

from flare.http import hpack_huffman
from flare.http.alpn_dispatch import (
    ALPN_HTTP_1_1,
    ALPN_HTTP_2,
    ALPN_HTTP_3,
    WireProtocol,
    dispatch_alpn,
    dispatch_h2c_upgrade,
    negotiate_alpn,
    wire_protocol_name,
)
from flare.http.proto import huffman


@pytest.mark.parametrize(
    ("alpn", "protocol"),
    [
        ("", WireProtocol.HTTP_1_1),
        ("http/1.1", WireProtocol.HTTP_1_1),
        ("h2", WireProtocol.HTTP_2),
        ("h3", WireProtocol.HTTP_3),
        ("H2", WireProtocol.UNKNOWN),
        ("h2c", WireProtocol.UNKNOWN),
        ("spdy/3", WireProtocol.UNKNOWN),
    ],
)
def test_what_tls_settled_on(alpn: str, protocol: WireProtocol) -> None:
    assert dispatch_alpn(alpn) is protocol


def test_an_upgrade() -> None:
    assert dispatch_h2c_upgrade(True) is WireProtocol.H2C
    assert dispatch_h2c_upgrade(False) is WireProtocol.HTTP_1_1


@pytest.mark.parametrize(
    ("client", "server", "chosen"),
    [
        ([ALPN_HTTP_1_1, ALPN_HTTP_2], [ALPN_HTTP_2, ALPN_HTTP_1_1], "h2"),
        ([ALPN_HTTP_2, ALPN_HTTP_1_1], [ALPN_HTTP_1_1, ALPN_HTTP_2], "http/1.1"),
        ([ALPN_HTTP_3], [ALPN_HTTP_2], ""),
        ([], [ALPN_HTTP_2], ""),
        ([ALPN_HTTP_2], [], ""),
    ],
)
def test_the_servers_order_counts(client: list[str], server: list[str], chosen: str) -> None:
    assert negotiate_alpn(client, server) == chosen


def test_names_and_numbers() -> None:
    names = [wire_protocol_name(protocol) for protocol in WireProtocol]
    assert names == ["unknown", "HTTP/1.1", "h2c", "HTTP/2", "HTTP/3"]
    assert [int(protocol) for protocol in WireProtocol] == [0, 1, 2, 3, 4]


def test_the_older_name_of_the_huffman_code() -> None:
    for name in hpack_huffman.__all__:
        assert getattr(hpack_huffman, name) is getattr(huffman, name)

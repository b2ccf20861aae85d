from __future__ import annotations

import copy
import ipaddress
import pickle
import socket
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flare.net import AddressParseError, IpAddr, SocketAddr

PREDICATES = (
    "is_loopback",
    "is_unspecified",
    "is_private",
    "is_multicast",
    "is_link_local",
    "is_global",
)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "0.0.0.0"),
        ("255.255.255.255", "255.255.255.255"),
        ("::", "::"),
        ("0:0:0:0:0:0:0:1", "::1"),
        ("2001:DB8::1", "2001:db8::1"),
        ("2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"),
        ("1:0:0:2:0:0:0:3", "1:0:0:2::3"),
        ("::ffff:1.2.3.4", "::ffff:1.2.3.4"),
        ("::ffff:102:304", "::ffff:1.2.3.4"),
        ("64:ff9b::1.2.3.4", "64:ff9b::102:304"),
    ],
)
def test_text_is_canonicalised(text: str, canonical: str) -> None:
    addr = IpAddr.parse(text)
    assert str(addr) == canonical
    assert repr(addr) == f"IpAddr({canonical!r})"
    assert addr == IpAddr(text) == IpAddr(canonical, ":" in canonical)
    assert hash(addr) == hash(IpAddr(canonical))
    assert addr.is_v6() == (not addr.is_v4()) == (":" in text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "1.2.3",
        "127.1",
        "2130706433",
        "1.2.3.4.5",
        "256.0.0.1",
        "-1.0.0.1",
        "01.2.3.4",
        "0xC0.0.0.1",
        " 1.2.3.4",
        "1.2.3.4 ",
        "not.an.ip.addr",
        "localhost",
        "127.0.0.1\n127.0.0.2",
        "127.0.0.1\r",
        "127.0.0.1\x00evil",
        "user@127.0.0.1",
        "١.2.3.4",
        "[::1]",
        "fe80::1%eth0",
        "::1%",
        ":::",
        "1::2::3",
        "12345::",
        "1:2:3:4:5:6:7",
        "1:2:3:4:5:6:7:8:9",
        "::1/128",
        "\ud800",
    ],
)
def test_other_text_is_no_address(text: str) -> None:
    with pytest.raises(AddressParseError) as caught:
        IpAddr.parse(text)
    assert caught.value.input == text
    assert isinstance(caught.value, ValueError)


def test_only_text_is_parsed() -> None:
    with pytest.raises(TypeError):
        IpAddr.parse(b"127.0.0.1")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        IpAddr(3232235777)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "true"),
    [
        ("8.8.8.8", {"is_global"}),
        ("127.0.0.1", {"is_loopback"}),
        ("127.255.0.1", {"is_loopback"}),
        ("128.0.0.1", {"is_global"}),
        ("0.0.0.0", {"is_unspecified"}),
        ("10.0.0.1", {"is_private"}),
        ("10.255.255.255", {"is_private"}),
        ("172.15.255.255", {"is_global"}),
        ("172.16.0.0", {"is_private"}),
        ("172.31.255.255", {"is_private"}),
        ("172.32.0.0", {"is_global"}),
        ("192.168.0.1", {"is_private"}),
        ("192.169.0.1", {"is_global"}),
        ("169.254.1.1", {"is_link_local"}),
        ("223.255.255.255", {"is_global"}),
        ("224.0.0.0", {"is_multicast"}),
        ("239.255.255.255", {"is_multicast"}),
        ("240.0.0.0", set()),
        ("255.255.255.255", set()),
        ("192.0.2.1", set()),
        ("::", {"is_unspecified"}),
        ("::1", {"is_loopback"}),
        ("::2", set()),
        ("2606:4700::1111", {"is_global"}),
        ("2001:db8::1", set()),
        ("fc00::1", {"is_private"}),
        ("fdff::1", {"is_private"}),
        ("fe00::1", set()),
        ("fe80::1", {"is_link_local"}),
        ("febf::1", {"is_link_local"}),
        ("fec0::1", set()),
        ("ff02::1", {"is_multicast"}),
        ("::ffff:127.0.0.1", {"is_loopback"}),
        ("::ffff:0.0.0.0", {"is_unspecified"}),
        ("::ffff:10.0.0.1", {"is_private"}),
        ("::ffff:8.8.8.8", {"is_global"}),
        ("::ffff:169.254.0.1", {"is_link_local"}),
        ("::ffff:224.0.0.1", {"is_multicast"}),
    ],
)
def test_what_an_address_is(text: str, true: set[str]) -> None:
    addr = IpAddr.parse(text)
    answers = {name for name in PREDICATES if getattr(addr, name)()}
    # ipaddress has its own opinion of what else is global, which moves with the registries.
    assert answers - {"is_global"} == true - {"is_global"}
    if true <= {"is_global"} and addr.is_v4():
        assert answers == ({"is_global"} if addr.to_ipaddress().is_global else set())


def test_unmap_gives_the_v4_form() -> None:
    assert IpAddr("::ffff:10.0.0.1").unmap() == IpAddr("10.0.0.1")
    assert IpAddr("::ffff:10.0.0.1").unmap().is_v4()
    for text in ("10.0.0.1", "::1", "::10.0.0.1"):
        assert IpAddr(text).unmap() == IpAddr(text)


def test_a_mapped_address_differs_from_the_v4_one() -> None:
    assert IpAddr("::ffff:10.0.0.1") != IpAddr("10.0.0.1")
    assert IpAddr("::ffff:10.0.0.1").is_v6()
    assert IpAddr("1.2.3.4") != "1.2.3.4"


def test_named_addresses() -> None:
    assert [
        str(make())
        for make in (
            IpAddr.localhost,
            IpAddr.localhost_v6,
            IpAddr.unspecified,
            IpAddr.unspecified_v6,
        )
    ] == ["127.0.0.1", "::1", "0.0.0.0", "::"]


def test_order_is_v4_first_then_by_number() -> None:
    ordered = [IpAddr(t) for t in ("9.0.0.0", "10.0.0.0", "192.0.0.1", "::", "::9", "::10", "ff::")]
    shuffled = [ordered[i] for i in (4, 0, 6, 2, 5, 1, 3)]
    assert sorted(shuffled) == ordered
    assert ordered[0] < ordered[1] <= ordered[1] < ordered[3]
    with pytest.raises(TypeError):
        assert ordered[0] < "9.0.0.0"


def test_addresses_are_immutable_values() -> None:
    addr = IpAddr("::1")
    for name in ("_text", "other"):
        with pytest.raises(AttributeError):
            setattr(addr, name, "x")
    with pytest.raises(AttributeError):
        del addr._text
    assert pickle.loads(pickle.dumps(addr)) == addr == copy.deepcopy(addr)


@pytest.mark.parametrize("text", ["1.2.3.4", "2001:db8::1", "::ffff:1.2.3.4"])
def test_ipaddress_values_go_in_and_come_out(text: str) -> None:
    value = ipaddress.ip_address(text)
    addr = IpAddr(value)
    assert str(addr) == text
    assert addr.packed == value.packed
    assert addr.to_ipaddress() == value


@given(st.ip_addresses())
def test_every_address_survives_text(value: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    addr = IpAddr.parse(str(value))
    assert addr.packed == value.packed
    assert addr.to_ipaddress() == value
    assert IpAddr.parse(str(addr)) == addr
    assert IpAddr.parse(value.exploded) == addr
    sockaddr = SocketAddr(addr, 80)
    assert SocketAddr.parse(str(sockaddr)) == sockaddr
    assert SocketAddr.from_sockaddr(sockaddr.to_sockaddr()) == sockaddr


@given(st.text(alphabet="0123456789abcdefABCDEF.:x%[]/ \n", max_size=40))
def test_parse_agrees_with_ipaddress(text: str) -> None:
    try:
        expected = ipaddress.ip_address(text).packed if "%" not in text else None
    except ValueError:
        expected = None
    try:
        assert IpAddr.parse(text).packed == expected
    except AddressParseError:
        assert expected is None


@given(st.text(max_size=50))
def test_any_text_is_a_value_or_an_address_parse_error(text: str) -> None:
    for parse in (IpAddr.parse, SocketAddr.parse):
        with suppress(AddressParseError):
            parse(text)


@pytest.mark.parametrize(
    ("text", "ip", "port"),
    [
        ("127.0.0.1:8080", "127.0.0.1", 8080),
        ("1.2.3.4:0", "1.2.3.4", 0),
        ("1.2.3.4:65535", "1.2.3.4", 65535),
        ("1.2.3.4:00080", "1.2.3.4", 80),
        ("[::1]:8080", "::1", 8080),
        ("[2001:DB8::1]:443", "2001:db8::1", 443),
        ("[::ffff:1.2.3.4]:1", "::ffff:1.2.3.4", 1),
    ],
)
def test_socket_addresses_are_read(text: str, ip: str, port: int) -> None:
    addr = SocketAddr.parse(text)
    assert addr == SocketAddr(ip, port) == SocketAddr(IpAddr(ip), port)
    assert SocketAddr.parse(str(addr)) == addr
    assert tuple(addr) == (IpAddr(ip), port)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        ":80",
        "192.168.1.1",
        "192.168.1.1:",
        "::1:8080",
        "::1",
        "localhost:80",
        "[::1]",
        "[::1]8080",
        "[::1]:",
        "[::1",
        "[]:80",
        "[1.2.3.4]:80",
        "[[::1]]:80",
        "[fe80::1%eth0]:80",
        "1.2.3.4:65536",
        "1.2.3.4:65616",
        "1.2.3.4:100000",
        "1.2.3.4:+80",
        "1.2.3.4:-1",
        "1.2.3.4: 80",
        "1.2.3.4:80 ",
        "1.2.3.4:80\n",
        "1.2.3.4:8_0",
        "1.2.3.4:0x50",
        "1.2.3.4:٨٠",
        "1.2.3.4:80\x00",
        "1.2.3.4\r:80",
    ],
)
def test_other_text_is_no_socket_address(text: str) -> None:
    with pytest.raises(AddressParseError) as caught:
        SocketAddr.parse(text)
    assert caught.value.input == text


@pytest.mark.parametrize("port", [-1, 65536, 10**30, True, False, "80", 80.0, None])
def test_bad_ports_are_refused(port: object) -> None:
    with pytest.raises(AddressParseError):
        SocketAddr(IpAddr.localhost(), port)  # type: ignore[arg-type]


def test_the_error_for_a_port_says_what_it_must_be() -> None:
    for port, reason in (("80", "the port must be an int, not str"), (65536, "must be 0..65535")):
        with pytest.raises(AddressParseError, match=reason) as caught:
            SocketAddr("127.0.0.1", port)  # type: ignore[arg-type]
        assert caught.value.input == f"127.0.0.1:{port}"
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_named_socket_addresses() -> None:
    assert [
        str(make(80))
        for make in (
            SocketAddr.localhost,
            SocketAddr.localhost_v6,
            SocketAddr.unspecified,
            SocketAddr.unspecified_v6,
        )
    ] == ["127.0.0.1:80", "[::1]:80", "0.0.0.0:80", "[::]:80"]


def test_socket_addresses_are_immutable_ordered_values() -> None:
    addr = SocketAddr("::1", 1)
    with pytest.raises(AttributeError):
        addr.port = 2  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(addr)) == addr == copy.copy(addr)
    assert len({addr, SocketAddr("0::1", 1)}) == 1
    assert SocketAddr("9.9.9.9", 9) < SocketAddr("10.0.0.0", 1) < SocketAddr("10.0.0.0", 2) < addr


def test_sockaddr_tuples() -> None:
    assert SocketAddr("1.2.3.4", 5).to_sockaddr() == ("1.2.3.4", 5)
    assert SocketAddr("::1", 5).to_sockaddr() == ("::1", 5, 0, 0)
    assert SocketAddr.from_sockaddr(("fe80::1%eth0", 5, 0, 2)) == SocketAddr("fe80::1", 5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        addr = SocketAddr.from_sockaddr(server.getsockname())
        assert str(addr) == f"127.0.0.1:{server.getsockname()[1]}"

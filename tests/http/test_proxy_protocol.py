from __future__ import annotations

import copy
import pickle

import pytest

from flare.http.proxy_protocol import (
    ProxyHeader,
    ProxyParseError,
    _crc32c,
    parse_proxy_protocol,
    parse_proxy_v1,
    parse_proxy_v2,
)
from flare.net import SocketAddr

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
NOWHERE = SocketAddr.unspecified(0)
V4 = b"\xc0\0\2\1" + b"\xc6\x33\x64\2" + b"\x1f\x90" + b"\0\x50"
V6 = bytes.fromhex("20010db8000000000000000000000001") + bytes(15) + b"\1" + b"\1\2\3\4"


def v2(command: int = 0x21, family: int = 0x11, block: bytes = V4) -> bytes:
    return SIGNATURE + bytes((command, family)) + len(block).to_bytes(2, "big") + block


def header(source: str, destination: str, consumed: int, tlvs=()) -> ProxyHeader:
    return ProxyHeader(
        SocketAddr.parse(source), SocketAddr.parse(destination), consumed, False, list(tlvs)
    )


def local(consumed: int, tlvs=()) -> ProxyHeader:
    return ProxyHeader(NOWHERE, NOWHERE, consumed, True, list(tlvs))


def error_of(parse, data: bytes) -> tuple[int, int]:
    with pytest.raises(ProxyParseError) as caught:
        parse(data)
    return caught.value.version, caught.value.position


LONG_UNKNOWN = b"PROXY UNKNOWN " + b"x" * (107 - 16) + b"\r\n"
VALID_V1 = {
    b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n": (
        "192.0.2.1:56324",
        "198.51.100.2:443",
    ),
    b"PROXY TCP4 255.255.255.255 0.0.0.0 65535 0\r\n": ("255.255.255.255:65535", "0.0.0.0:0"),
    b"PROXY TCP6 2001:db8::1 ::1 1 65535\r\n": ("[2001:db8::1]:1", "[::1]:65535"),
    b"PROXY TCP6 ::ffff:192.0.2.1 2001:DB8:0:0:0:0:0:2 1 2\r\n": (
        "[::ffff:192.0.2.1]:1",
        "[2001:db8::2]:2",
    ),
    b"PROXY TCP6 "
    + b" ".join([b"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"] * 2)
    + b" 65535" * 2
    + b"\r\n": ("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",) * 2,
}
LOCAL_V1 = [
    b"PROXY UNKNOWN\r\n",
    b"PROXY UNKNOWN \r\n",
    b"PROXY UNKNOWN  any\tthing TCP4\r\n",
    LONG_UNKNOWN,
]
TLVS = b"\1\0\2h2" + b"\4\0\0" + b"\5\0\4\xde\xad\xbe\xef"
READ_TLVS = [(1, b"h2"), (4, b""), (5, b"\xde\xad\xbe\xef")]
VALID_V2 = {
    v2(): header("192.0.2.1:8080", "198.51.100.2:80", 28),
    v2(family=0x10): header("192.0.2.1:8080", "198.51.100.2:80", 28),
    v2(family=0x21, block=V6): header("[2001:db8::1]:258", "[::1]:772", 52),
    v2(block=V4 + TLVS): header("192.0.2.1:8080", "198.51.100.2:80", 28 + len(TLVS), READ_TLVS),
    v2(block=V4 + b"\1\0\1x" + b"\2\xff\xffcut"): header(
        "192.0.2.1:8080", "198.51.100.2:80", 38, [(1, b"x")]
    ),
    v2(block=V4 + bytes(4096 - 12)): header(
        "192.0.2.1:8080", "198.51.100.2:80", 4112, [(0, b"")] * (4084 // 3)
    ),
    v2(family=0x00, block=b""): local(16),
    v2(family=0x00, block=TLVS): local(16 + len(TLVS), READ_TLVS),
    v2(family=0x31, block=bytes(216) + TLVS): local(232 + len(TLVS), READ_TLVS),
    v2(family=0x31, block=b"short"): local(21),
    v2(0x20, 0x00, b""): local(16),
    v2(0x20, 0x11, V4 + TLVS): local(28 + len(TLVS)),
    v2(0x20, 0x11, b""): local(16),
    v2(0x20, 0xFF, b"x"): local(17),
}
VALID = [
    *((data, header(*where, len(data))) for data, where in VALID_V1.items()),
    *((data, local(len(data))) for data in LOCAL_V1),
    *VALID_V2.items(),
]


def own_parser(data: bytes):
    return parse_proxy_v1 if data.startswith(b"P") else parse_proxy_v2


@pytest.mark.parametrize(("data", "expected"), VALID)
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_header_is_read_with_what_follows_left_alone(data, expected, kind):
    for parse in (parse_proxy_protocol, own_parser(data)):
        for behind in (b"", b"GET / HTTP/1.1\r\n", b"\x16\x03\x01", b"\r\n" * 5000):
            assert parse(kind(data + behind)) == expected


@pytest.mark.parametrize(("data", "expected"), VALID)
def test_every_beginning_of_a_header_asks_for_more(data, expected):
    for parse in (parse_proxy_protocol, own_parser(data)):
        assert all(parse(data[:size]) is None for size in range(len(data)))


def test_the_longest_line_has_107_bytes():
    assert len(LONG_UNKNOWN) == 107
    assert parse_proxy_v1(LONG_UNKNOWN) == local(107)
    longer = LONG_UNKNOWN.replace(b"\r\n", b"x\r\n")
    for size in range(107):
        assert parse_proxy_v1(longer[:size]) is None
    assert error_of(parse_proxy_v1, longer[:107])[0] == 1
    assert error_of(parse_proxy_v1, longer) == error_of(parse_proxy_protocol, longer)
    assert error_of(parse_proxy_v1, b"PROXY UNKNOWN " + b"x" * 1000) == (1, -1)


@pytest.mark.parametrize(
    ("line", "position"),
    [
        (b"PROXX", 4),
        (b"proxy TCP4 ", 0),
        (b"PROXY\tTCP4", 5),
        (b"PROXY\r\n", 5),
        (b"\r\nPROXY ", 0),
        (b"PROXY \r\n", 6),
        (b"PROXY  TCP4 1.1.1.1 2.2.2.2 1 2\r\n", 6),
        (b"PROXY TCP5 1.1.1.1 2.2.2.2 1 2\r\n", 6),
        (b"PROXY tcp4 1.1.1.1 2.2.2.2 1 2\r\n", 6),
        (b"PROXY UNKNOWNX\r\n", 6),
        (b"PROXY UDP4 1.1.1.1 2.2.2.2 1 2\r\n", 6),
        (b"PROXY TCP4\r\n", 11),
        (b"PROXY TCP4 \r\n", 11),
        (b"PROXY TCP4 1.1.1.1\r\n", 19),
        (b"PROXY TCP4 1.1.1.1  2.2.2.2 1 2\r\n", 19),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2\r\n", 27),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n", 29),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 1 \r\n", 29),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2 \r\n", 30),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2 3\r\n", 30),
        (b"PROXY TCP4 ::1 2.2.2.2 1 2\r\n", 11),
        (b"PROXY TCP4 1.1.1.1 ::1 1 2\r\n", 19),
        (b"PROXY TCP6 1.1.1.1 ::1 1 2\r\n", 11),
        (b"PROXY TCP6 [::1] ::1 1 2\r\n", 11),
        (b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n", 11),
        (b"PROXY TCP4 1.1.1 2.2.2.2 1 2\r\n", 11),
        (b"PROXY TCP4 1.1.1.256 2.2.2.2 1 2\r\n", 11),
        (b"PROXY TCP4 0x1.1.1.1 2.2.2.2 1 2\r\n", 11),
        (b"PROXY TCP4 localhost 2.2.2.2 1 2\r\n", 11),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 01 2\r\n", 27),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 00 2\r\n", 27),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 65536 2\r\n", 27),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 1 999999\r\n", 29),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 +1 2\r\n", 27),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 1_0 2\r\n", 27),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 -1 2\r\n", 27),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n", 30),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\rGET", 30),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\r\n", 30),
        (b"PROXY UNKNOWN a\0b", 15),
        (b"PROXY UNKNOWN a\x7fb", 15),
        (b"PROXY UNKNOWN a\x80", 15),
        (b"PROXY UNKNOWN \xd9\xa1\r\n", 14),
    ],
)
def test_a_bad_line_is_refused_where_it_is_bad(line, position):
    assert error_of(parse_proxy_v1, line) == (1, position)
    assert error_of(parse_proxy_v1, line + b"more") == (1, position)


@pytest.mark.parametrize(
    ("data", "position"),
    [
        (b"X", 0),
        (SIGNATURE[:5] + b"X", 5),
        (SIGNATURE[:11] + b"\r" + b"\x21\x11", 11),
        (SIGNATURE + b"\x11", 12),
        (SIGNATURE + b"\x31", 12),
        (SIGNATURE + b"\x01", 12),
        (SIGNATURE + b"\x22", 12),
        (SIGNATURE + b"\x2f\x11\0\0", 12),
        (SIGNATURE + b"\x21\x41", 13),
        (SIGNATURE + b"\x21\xf0", 13),
        (SIGNATURE + b"\x21\x12", 13),
        (SIGNATURE + b"\x21\x22", 13),
        (SIGNATURE + b"\x21\x32", 13),
        (SIGNATURE + b"\x21\x02", 13),
        (SIGNATURE + b"\x21\x13", 13),
        (SIGNATURE + b"\x21\x11\0\x0b", 14),
        (SIGNATURE + b"\x21\x11\0\0", 14),
        (SIGNATURE + b"\x21\x21\0\x23", 14),
        (SIGNATURE + b"\x21\x11\x10\x01", 14),
        (SIGNATURE + b"\x20\0\xff\xff", 14),
    ],
)
def test_a_bad_binary_header_is_refused_at_its_first_bad_byte(data, position):
    assert error_of(parse_proxy_v2, data) == (2, position)
    assert error_of(parse_proxy_v2, data + bytes(100)) == (2, position)
    if data.startswith(SIGNATURE):
        assert error_of(parse_proxy_protocol, data) == (2, position)


class TestDetection:
    @pytest.mark.parametrize(
        ("data", "position"),
        [
            (b"GET / HTTP/1.1\r\n", 0),
            (b"P ", 1),
            (b"PRI * HTTP/2.0\r\n", 2),
            (b"PROXYv2", 5),
            (b"\x16\x03\x01", 0),
            (b"\r\nG", 2),
            (SIGNATURE[:-1] + b"x", 11),
        ],
    )
    def test_what_begins_like_neither_is_refused_by_the_first_byte_that_tells(self, data, position):
        assert error_of(parse_proxy_protocol, data) == (0, position)
        assert parse_proxy_protocol(data[:position]) is None

    def test_a_version_is_not_taken_for_the_other(self):
        assert error_of(parse_proxy_v1, v2())[0] == 1
        assert error_of(parse_proxy_v2, LOCAL_V1[0])[0] == 2


class TestErrors:
    def test_the_text_says_version_place_and_fault(self):
        assert str(ProxyParseError(1, 3, "missing x")) == "ProxyParseError(v1, pos=3): missing x"
        assert str(ProxyParseError(0, -1, "neither")) == "ProxyParseError(v0): neither"
        assert isinstance(ProxyParseError(1, 3, ""), ValueError)

    def test_the_text_quotes_little_and_printable(self):
        with pytest.raises(ProxyParseError) as caught:
            parse_proxy_v1(b"PROXY \x1b[31m" + b"x" * 80 + b"\r\n")
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 100

    def test_it_can_be_copied_and_pickled(self):
        error = ProxyParseError(2, 12, "x")
        for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):
            assert (twin.version, twin.position, twin.what) == (2, 12, "x")
            assert str(twin) == str(error)


def test_a_header_is_a_value():
    one, two = parse_proxy_v2(v2(block=V4 + TLVS)), parse_proxy_v2(v2(block=V4 + TLVS))
    assert one == two
    assert hash(one) == hash(two)
    assert one != parse_proxy_v2(v2())
    with pytest.raises(AttributeError):
        one.consumed = 0


def test_the_checksum_is_the_one_of_the_standard() -> None:
    # RFC 3720 appendix B.4, and the check value of every catalogue.
    assert _crc32c(b"123456789") == 0xE3069283
    assert _crc32c(bytes(32)) == 0x8A9136AA
    assert _crc32c(bytes([0xFF]) * 32) == 0x62A8AB43


@pytest.mark.parametrize("family", [0x11, 0x21, 0x31, 0x00])
@pytest.mark.parametrize("before", [b"", b"\1\0\2h2"])
@pytest.mark.parametrize("behind", [b"", b"\4\0\3abc"])
def test_a_checksum_is_compared(family: int, before: bytes, behind: bytes) -> None:
    addresses = {0x11: V4, 0x21: V6, 0x31: bytes(216), 0x00: b""}[family]

    def with_sum(value: bytes) -> bytes:
        return v2(family=family, block=addresses + before + b"\3\0\4" + value + behind)

    right = _crc32c(with_sum(bytes(4))).to_bytes(4, "big")
    found = parse_proxy_v2(with_sum(right) + b"GET")
    assert found is not None
    assert (3, right) in found.tlvs
    at = 16 + len(addresses) + len(before) + 3
    assert error_of(parse_proxy_v2, with_sum(bytes(4))) == (2, at)
    short = v2(family=family, block=addresses + before + b"\3\0\2" + right[:2] + behind)
    assert error_of(parse_proxy_v2, short) == (2, at)


def test_what_is_to_be_discarded_needs_no_right_checksum() -> None:
    assert parse_proxy_v2(v2(0x20, 0, b"\3\0\4abcd")) == local(16 + 7)

"""Request and response heads: grammar, limits, and what is remembered of them."""

from __future__ import annotations

import itertools
import random

import pytest
from h1_memos import MEMOS, clear_memos, everything_remembered
from hypothesis import given
from hypothesis import strategies as st
from linear_time import takes_linear_time

from flare.http.proto.decoder import RequestDecoder
from flare.http.proto.errors import HttpParseError
from flare.http.proto.framing import CHUNKED, NO_BODY
from flare.http.proto.h1_leniency import STRICT, H1LeniencyConfig
from flare.http.proto.heads import (
    H1Limits,
    RequestHead,
    has_body,
    parse_h1_request_head,
    parse_h1_response_head,
    parse_request_head,
)

SECRET = "hunter2-very-hidden"
ANY_URI = H1LeniencyConfig(allow_oversized_request_uri=True)
ANY_SECTION = H1LeniencyConfig(allow_oversized_header_list=True)
MIB = 1024 * 1024


def request(data, **limits):
    return parse_h1_request_head(data, H1Limits(**limits))


def variant(data, **limits):
    with pytest.raises(HttpParseError) as caught:
        request(data, **limits)
    return caught.value.variant_name()


def get(target="/", *lines, method="GET", version="HTTP/1.1", host="Host: a"):
    head = "".join(f"{line}\r\n" for line in (f"{method} {target} {version}", host, *lines) if line)
    return head.encode("latin-1") + b"\r\n"


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_head_and_how_many_bytes_it_took(kind):
    head, used = request(kind(get("/x?y", "Content-Length: 3") + b"abc"))
    assert (head.method, head.target, head.version, head.minor) == ("GET", "/x?y", "HTTP/1.1", 1)
    assert used == len(get("/x?y", "Content-Length: 3"))
    assert has_body(head)
    assert not has_body(request(get())[0])
    assert repr(head) == "<RequestHead GET '/x' HTTP/1.1>"


def test_an_incomplete_head_is_waited_for():
    data = get("/", "A: b")
    assert [request(data[:end]) for end in range(len(data))] == [None] * len(data)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\n",
        b"GET / HTTP/1.1\rX",
        b"GET / HTTP/1.1\r\nHost: a\n",
        b"GET / HTTP/1.1\r\nHost: a\r\r",
        b"\nG",
    ],
)
def test_a_bare_line_end_is_refused_before_the_head_is_complete(data):
    assert variant(data) in ("BAD_LINE_END", "BAD_REQUEST_LINE")


@pytest.mark.parametrize("size", [1, 20, 200])
def test_a_target_at_its_limit_and_past_it(size):
    for method in ("GET", "M" * 30):
        fits = get("/" + "x" * (size - 1), method=method)
        assert request(fits, max_uri_length=size)[0].target == "/" + "x" * (size - 1)
        longer = get("/" + "x" * size, method=method)
        assert variant(longer, max_uri_length=size) == "URI_TOO_LONG"
        head, _ = request(longer, max_uri_length=size, h1_leniency=ANY_URI)
        assert head.target == "/" + "x" * size


def test_a_request_line_that_never_ends_is_not_waited_for():
    fits = b"M" * 54 + b" /" + b"x" * 49 + b" HTTP/1.1\r"
    assert request(fits, max_uri_length=50) is None
    assert request(fits + b"\nHost: a\r\n\r\n", max_uri_length=50)
    assert variant(b"M" + fits, max_uri_length=50) == "URI_TOO_LONG"
    assert variant(b"M" + fits + b"\nHost: a\r\n\r\n", max_uri_length=50) == "URI_TOO_LONG"
    for line in (b"GET /" + b"x" * 200, b"M" * 200, b"GET / " + b"x" * 200):
        assert variant(line, max_uri_length=50) == "URI_TOO_LONG"
        assert variant(line + b"\r\n\r\n", max_uri_length=50) == "URI_TOO_LONG"


def test_a_section_at_its_limit_and_past_it():
    section = b"Host: a\r\nA: b\r\n"
    data = b"GET / HTTP/1.1\r\n" + section + b"\r\n"
    for end in range(len(data)):
        assert request(data[:end], max_header_size=len(section)) is None
    assert request(data, max_header_size=len(section))
    assert variant(data, max_header_size=len(section) - 1) == "FIELDS_TOO_LARGE"
    # The CR of the empty line may be the byte past the limit; one more may not.
    assert request(data[:-1], max_header_size=len(section)) is None
    assert variant(data[:-2] + b"xy", max_header_size=len(section)) == "FIELDS_TOO_LARGE"


def test_where_sizes_are_not_bounded_a_head_still_is():
    for leniency, front in ((ANY_SECTION, get()[:-2] + b"A: "), (ANY_URI, b"GET /")):
        limits = {"h1_leniency": leniency, "max_header_size": 1 << 30}
        assert request(front + b"x" * (MIB - len(front)), **limits) is None
        assert variant(front + b"x" * MIB, **limits) == "FIELDS_TOO_LARGE"
    whole = get()[:-2] + b"A: "
    whole += b"x" * (MIB - len(whole) - 2) + b"\r\n\r\n"
    assert request(whole, h1_leniency=ANY_SECTION)[1] == MIB + 2
    assert request(whole[:-1], h1_leniency=ANY_SECTION) is None
    assert variant(whole.replace(b"A: ", b"A: y"), h1_leniency=ANY_SECTION) == "FIELDS_TOO_LARGE"


def test_a_hundred_fields_but_not_one_more():
    assert len(request(get("/", *["A: b"] * 99))[0].fields) == 100
    assert variant(get("/", *["A: b"] * 100)) == "FIELDS_TOO_LARGE"


@pytest.mark.parametrize("method", ["GET", "CONNECT", "POST"])
@pytest.mark.parametrize(
    "target", ["[::1]", "[", "]", ":", "a:]", "[]:1", "a]:1", "*", "::", "[::1]:", "@:1",
               "http://[::1", "http://]", "http://:", "http://a:", "http://a:999999", "%"],
)  # fmt: skip
def test_odd_targets_are_refused_and_never_break_the_parser(method, target):
    if target == "http://a:" and method != "CONNECT":
        assert request(get(target, method=method))[0].fields.hosts == ("a:",)
    else:
        assert variant(get(target, method=method)) == "BAD_TARGET"


def test_the_authority_of_an_absolute_target_becomes_the_host():
    head, _ = request(get("http://b.example:81/x", "A: b", "X: y"))
    assert head.target == "/x"
    assert head.fields.hosts == ("b.example:81",)
    assert head.fields.get("host") == "b.example:81"
    head, _ = request(get("http://b", host="", version="HTTP/1.0"))
    assert head.fields.hosts == ("b",)


@pytest.mark.parametrize(
    ("version", "connection", "keep"),
    [
        ("HTTP/1.1", "", True),
        ("HTTP/1.1", "close", False),
        ("HTTP/1.1", "keep-alive, Close", False),
        ("HTTP/1.1", "not-close", True),
        ("HTTP/1.0", "", False),
        ("HTTP/1.0", "keep-alive", True),
        ("HTTP/1.0", "close, keep-alive", False),
    ],
)
def test_who_keeps_the_connection(version, connection, keep):
    lines = [f"Connection: {connection}"] if connection else []
    assert request(get("/", *lines, version=version))[0].keep_alive is keep
    data = "\r\n".join([f"{version} 200 OK", *lines, "Content-Length: 0", "", ""]).encode()
    assert response(data)[0].keep_alive is keep


@pytest.mark.parametrize(
    ("version", "lines", "waits"),
    [
        ("HTTP/1.1", ["Expect: 100-continue", "Content-Length: 1"], True),
        ("HTTP/1.1", ["Expect: 100-CONTINUE", "Transfer-Encoding: chunked"], True),
        ("HTTP/1.1", ["Expect: 100-continue"], False),
        ("HTTP/1.1", ["Expect: 100-continue", "Content-Length: 0"], False),
        ("HTTP/1.1", ["Expect:", "Content-Length: 1"], False),
        ("HTTP/1.0", ["Expect: 100-continue", "Content-Length: 1"], False),
        ("HTTP/1.0", ["Expect: tea", "Content-Length: 1"], False),
    ],
)
def test_who_waits_for_a_100(version, lines, waits):
    assert request(get("/", *lines, version=version))[0].expect_continue is waits


def test_where_chunked_won_the_length_is_gone_and_so_is_the_connection():
    both = H1LeniencyConfig(allow_te_chunked_when_cl_present=True)
    data = get("/", "Content-Length: 5", "Transfer-Encoding: chunked", "Connection: keep-alive")
    head, _ = request(data, h1_leniency=both)
    assert head.framing.kind == CHUNKED
    assert head.fields.get("content-length") == ""
    assert head.keep_alive is False
    assert variant(data) == "BAD_TRANSFER_ENCODING"


LIMITS = {
    "default": {},
    "strict by value": {"h1_leniency": H1LeniencyConfig()},
    "short uri": {"max_uri_length": 12},
    "small section": {"max_header_size": 12},
    "few fields": {"max_fields": 2},
    "lf": {"h1_leniency": H1LeniencyConfig(allow_lf_only_line_endings=True)},
    "case": {"h1_leniency": H1LeniencyConfig(allow_mixed_case_method=True)},
    "ows": {"h1_leniency": H1LeniencyConfig(allow_ows_around_colon=True)},
    "fold": {"h1_leniency": H1LeniencyConfig(allow_obs_fold=True)},
    "any uri": {"h1_leniency": ANY_URI, "max_uri_length": 12},
    "any section": {"h1_leniency": ANY_SECTION, "max_header_size": 12},
    "lengths": {"h1_leniency": H1LeniencyConfig(allow_multiple_content_length=True)},
    "both": {"h1_leniency": H1LeniencyConfig(allow_te_chunked_when_cl_present=True)},
    "leading": {"h1_leniency": H1LeniencyConfig(allow_leading_whitespace_before_request_line=True)},
}
HEADS = [
    get(),
    get("/a-longer-target"),
    get("http://a.example/"),
    get("/", method="M" * 70),
    get("/", "A: b", "C: d"),
    get("/", "A : b"),
    get("/", "A: b", " c"),
    get().replace(b"\r\n", b"\n"),
    get(method="get"),
    b"\r\n" + get(),
    get("/", "Content-Length: 5", "Content-Length: 5"),
    get("/", "Content-Length: 5", "Transfer-Encoding: chunked"),
    get(host="", version="HTTP/1.0"),
    get(host=""),
    get("http://b/", host="", version="HTTP/1.0"),
]


def outcome(data, limits):
    decoder_limits = H1Limits(**limits)
    try:
        decoder = RequestDecoder(decoder_limits)
        decoder.receive(data)
        head = decoder.next_event()
    except HttpParseError as error:
        return error.variant_name()
    assert isinstance(head, RequestHead)
    return (head.method, head.target, head.minor, head.fields.items, head.framing, head.keep_alive)


def test_what_is_remembered_never_changes_an_answer_in_any_order():
    cases = list(itertools.product(HEADS, LIMITS.values()))
    fresh = []
    for data, limits in cases:
        clear_memos()
        fresh.append(outcome(data, limits))
    assert len(set(map(str, fresh))) > 15
    draw = random.Random(7)
    clear_memos()
    for _ in range(3):
        for i in draw.sample(range(len(cases)), len(cases)):
            assert outcome(*cases[i]) == fresh[i], cases[i]


def test_a_head_seen_before_is_shared():
    clear_memos()
    data = get("/shared", "A: b")
    assert request(data)[0] is request(data)[0]
    assert request(data)[0] is request(data, h1_leniency=H1LeniencyConfig.strict())[0]


@pytest.mark.parametrize(
    "line", ["Authorization: Basic {}", "Cookie: a={}", "X-Api-Key: {}", "Proxy-Authorization: {}",
             "Referer: http://a/?token={}", "X-Auth: {}", "Sec-WebSocket-Key: {}"],
)  # fmt: skip
def test_secrets_are_not_remembered(line):
    clear_memos()
    for limits in LIMITS.values():
        outcome(get("/", line.format(SECRET)), limits)
    request(get(f"/?password={SECRET}"))
    request(get(f"http://a/?password={SECRET}"))
    variant(get(f"http://u:{SECRET}@a/"))
    response(f"HTTP/1.1 200 OK\r\nSet-Cookie: a={SECRET}\r\nX-Token: {SECRET}\r\n\r\n".encode())
    assert SECRET not in everything_remembered()


def test_what_is_remembered_has_a_bound():
    clear_memos()
    for i in range(3000):
        request(get(f"/{i}"))
    request(get("/" + "x" * 3000))
    assert len(MEMOS["heads"]) <= 1024
    assert max(map(len, MEMOS["heads"])) <= 1024


def assert_fit_for_a_log(error):
    text = str(error)
    assert text.isascii()
    assert text.isprintable()
    assert len(text) < 250


@given(st.binary(max_size=200), st.sampled_from(list(LIMITS.values())))
def test_any_bytes_give_a_head_or_nothing_or_a_parse_error(data, limits):
    for read in (request, response):
        error = None
        try:
            found = read(data, **limits)
        except HttpParseError as caught:
            error = caught
        if error:
            assert_fit_for_a_log(error)
        else:
            assert found is None or 0 < found[1] <= len(data)


@pytest.mark.parametrize(
    "data",
    [
        b"GET /\x1b[2J\r HTTP/1.1\r\n\r\n",
        b"\x1b]0;x\x07 / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/\x1b1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: \xe9\xff\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\x1b[0m: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: \xff\xfe\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \xff'\"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nExpect: \xff\r\n\r\n",
        b"CONNECT '\"':x HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET x" + b"'" * 100 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
def test_the_text_of_an_error_may_go_into_a_log(data):
    with pytest.raises(HttpParseError) as caught:
        request(data)
    assert_fit_for_a_log(caught.value)


def response(data, method="GET", **limits):
    return parse_h1_response_head(data, method, H1Limits(**limits))


def test_a_response_head_and_how_many_bytes_it_took():
    data = b"HTTP/1.1 404 Not Here\r\nA: b\r\n\r\n"
    head, used = response(data + b"rest")
    assert (head.status, head.reason, head.version) == (404, "Not Here", "HTTP/1.1")
    assert used == len(data)
    assert repr(head) == "<ResponseHead 404 HTTP/1.1>"
    assert response(data, "HEAD")[0].framing.kind == NO_BODY


def test_a_response_that_outgrows_its_limits_is_not_waited_for():
    line = b"HTTP/1.1 200 " + b"x" * (8192 - 13)
    assert response(line + b"\r") is None
    assert response(line + b"\r\n\r\n")
    for data in (line + b"xx", line + b"x\r\n\r\n"):
        with pytest.raises(HttpParseError) as caught:
            response(data)
        assert caught.value.variant_name() == "BAD_STATUS_LINE"
    section = b"A: " + b"b" * 95 + b"\r\n"
    start = b"HTTP/1.1 200 OK\r\n"
    assert response(start + section + b"\r", max_header_size=100) is None
    assert response(start + section + b"\r\n", max_header_size=100)
    for data in (section + b"xx", section + b"A: b\r\n\r\n"):
        with pytest.raises(HttpParseError) as caught:
            response(start + data, max_header_size=100)
        assert caught.value.variant_name() == "FIELDS_TOO_LARGE"


def test_a_connection_that_ends_a_body_or_changes_hands_is_not_kept():
    assert response(b"HTTP/1.1 200 OK\r\n\r\n")[0].keep_alive is False
    assert response(b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n")[0].keep_alive is False
    assert response(b"HTTP/1.1 200 OK\r\n\r\n", "HEAD")[0].keep_alive is True
    assert response(b"HTTP/1.1 204 x\r\n\r\n")[0].keep_alive is True
    assert response(b"HTTP/1.1 101 x\r\n\r\n")[0].keep_alive is False


@pytest.mark.parametrize(
    "leniency", [STRICT, LIMITS["lf"]["h1_leniency"], LIMITS["fold"]["h1_leniency"]]
)
def test_a_head_is_read_in_linear_time(leniency):
    limits = H1Limits(max_header_size=1 << 30, h1_leniency=leniency)

    def prepare(size):
        head = get("/", *(f"N{i}: {i}" for i in range(size)))[:-2]
        return lambda: parse_request_head(head, limits, size + 1)

    assert takes_linear_time(prepare, 1500)

"""Field sections: what they become, what is refused, and what is remembered."""

from __future__ import annotations

import pytest
from h1_memos import MEMOS, clear_memos, everything_remembered
from hypothesis import given
from hypothesis import strategies as st
from linear_time import takes_linear_time

from flare.http.proto import fields
from flare.http.proto.errors import HttpParseError
from flare.http.proto.fields import is_secret_name, parse_field_block
from flare.http.proto.h1_leniency import STRICT, H1LeniencyConfig

LF = H1LeniencyConfig(allow_lf_only_line_endings=True)
FOLD = H1LeniencyConfig(allow_obs_fold=True)
OWS = H1LeniencyConfig(allow_ows_around_colon=True)
SECRET = "hunter2-very-hidden"


def parse(section, leniency=STRICT, max_fields=100):
    return parse_field_block(section, max_fields=max_fields, leniency=leniency)


def variant(section, leniency=STRICT, max_fields=100):
    with pytest.raises(HttpParseError) as caught:
        parse(section, leniency, max_fields)
    return caught.value.variant_name()


def test_fields_keep_their_order_and_spelling():
    block = parse(b"B: 1\r\na: 2\r\nB:3\r\n")
    assert block.items == (("b", "B", "1"), ("a", "a", "2"), ("b", "B", "3"))
    assert len(block) == 3
    assert block.get("b") == "1"
    assert block.get("c") == ""


def test_an_empty_section_has_no_fields():
    assert parse(b"").items == ()
    assert parse(b"", LF).items == ()


def test_the_facts_of_a_section():
    block = parse(
        b"Host: h\r\nContent-Length: 1\r\ncontent-length: 2\r\nContent-Type: x\r\n"
        b"Transfer-Encoding: gzip\r\nTRANSFER-ENCODING: chunked\r\nConnection: Close, ,\tX\r\n"
        b"connection: upgrade\r\nExpect: 100-Continue\r\nUpgrade: WebSocket\r\n"
    )
    assert block.hosts == ("h",)
    assert block.content_lengths == ("1", "2")
    assert block.content_types == 1
    assert block.transfer_encodings == ("gzip", "chunked")
    assert block.connection == {"close", "x", "upgrade"}
    assert (block.expect, block.upgrade) == ("100-continue", "websocket")


def test_replacing_the_host_leaves_the_rest():
    block = parse(b"A: b\r\nHost: x\r\n").replace_host("y:1")
    assert block.items == (("host", "Host", "y:1"), ("a", "A", "b"))
    assert block.hosts == ("y:1",)
    assert block.without("host").items == (("a", "A", "b"),)


def test_only_blanks_are_trimmed_from_values():
    for byte in (b"\x85", b"\xa0"):
        value = byte.decode("latin-1")
        assert parse(b"A: \t" + byte + b"x" + byte + b" \r\n").get("a") == f"{value}x{value}"


@pytest.mark.parametrize("byte", [b for b in range(0x21) if b not in (9, 32)] + [0x7F])
def test_no_control_character_enters_a_value(byte):
    expected = "BAD_LINE_END" if byte in (10, 13) else "BAD_FIELD_VALUE"
    assert variant(b"A: x%cy\r\n" % byte) == expected
    for leniency in (FOLD, OWS):
        assert variant(b"A: x%cy\r\n" % byte, leniency) == expected
    if byte != 10:
        assert variant(b"A: x%cy\n" % byte, LF) == expected


@pytest.mark.parametrize("byte", range(256))
def test_a_name_is_made_of_token_characters_only(byte):
    token = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    line = b"N%cme: x\r\n" % byte
    if byte in token:
        assert parse(line).items[0][1] == f"N{chr(byte)}me"
    elif chr(byte) == ":":
        assert parse(line).items == (("n", "N", "me: x"),)
    else:
        assert variant(line) == ("BAD_LINE_END" if byte in (10, 13) else "BAD_FIELD_LINE")


@pytest.mark.parametrize("leniency", [STRICT, H1LeniencyConfig(), LF, FOLD, OWS])
def test_as_many_fields_as_the_limit_but_not_one_more(leniency):
    assert len(parse(b"A: b\r\n" * 7, leniency, 7)) == 7
    assert variant(b"A: b\r\n" * 8, leniency, 7) == "FIELDS_TOO_LARGE"


def test_a_section_remembered_under_a_wide_limit_is_refused_under_a_narrow_one():
    section = b"A: b\r\nC: d\r\nE: f\r\n"
    for _ in range(2):
        assert len(parse(section, max_fields=3)) == 3
        assert variant(section, max_fields=2) == "FIELDS_TOO_LARGE"


@pytest.mark.parametrize(
    ("section", "leniency", "items"),
    [
        (b"A : b\r\n", OWS, [("a", "A", "b")]),
        (b"A: b\nC: d\r\n", LF, [("a", "A", "b"), ("c", "C", "d")]),
        (b"A: b\r\n c\r\n", FOLD, [("a", "A", "b c")]),
        (b"A:\r\n\tb\r\n", FOLD, [("a", "A", "b")]),
        (b"A: b  \r\n \r\n  c\r\nD: e\r\n", FOLD, [("a", "A", "b c"), ("d", "D", "e")]),
    ],
)
def test_a_lenient_reading_never_enters_a_strict_one(section, leniency, items):
    for _ in range(2):
        assert list(parse(section, leniency).items) == items
        assert variant(section) in ("BAD_FIELD_LINE", "BAD_LINE_END")
        assert variant(section, H1LeniencyConfig()) in ("BAD_FIELD_LINE", "BAD_LINE_END")


@given(st.binary(max_size=60).map(lambda data: data + b"\r\n"))
def test_what_is_remembered_never_changes_an_answer(section):
    def outcomes():
        for leniency in (LF, FOLD, OWS, STRICT):
            try:
                yield parse(section, leniency, 3).items
            except HttpParseError as error:
                yield error

    clear_memos()
    fresh = list(outcomes())
    assert list(outcomes()) == fresh
    clear_memos()
    assert parse_or_error(section) == fresh[-1]


def parse_or_error(section):
    try:
        return parse(section, STRICT, 3).items
    except HttpParseError as error:
        return error


@pytest.mark.parametrize(
    "name",
    ["Authorization", "Proxy-Authorization", "Cookie", "Set-Cookie", "X-Api-Key", "X-Auth-Token",
     "X-CSRF-Token", "X-Amz-Signature", "X-Client-Secret", "X-Session-Id", "Referer", "Location",
     "X-Goog-IAP-JWT-Assertion", "X-Amzn-Oidc-Data", "X-GitHub-OTP", "X-Pwd"],
)  # fmt: skip
def test_a_secret_is_never_remembered(name):
    clear_memos()
    assert is_secret_name(name.lower())
    line = f"{name}: {SECRET}\r\n".encode()
    for leniency in (STRICT, LF, FOLD, OWS):
        parse(b"A: b\r\n" + line + b"C: d\r\n", leniency)
    parse(f"{name}:\r\n {SECRET}\r\n".encode(), FOLD)
    for broken in (
        line + b"x\r\n",
        line[:-2] + b"\x00\r\n",
        f"{name}: x\r\n {SECRET}\r\n".encode(),
    ):
        with pytest.raises(HttpParseError) as caught:
            parse(broken)
        assert SECRET not in str(caught.value)
    assert SECRET not in everything_remembered()
    assert b"A: b" in fields._line_memo


def test_what_is_remembered_has_a_bound():
    clear_memos()
    for i in range(5000):
        parse(b"Name-%d: value\r\n" % i)
    parse(b"Long: " + b"x" * 5000 + b"\r\n")
    assert len(MEMOS["lines"]) <= 2048
    assert len(MEMOS["blocks"]) <= 512
    assert max(map(len, MEMOS["lines"])) <= 256
    assert max(map(len, MEMOS["blocks"])) <= 1024


@pytest.mark.parametrize(
    ("line", "leniency"),
    [(b"N%d: v\r\n", STRICT), (b"N%d: v\r\n", LF), (b"A: %d\r\n x\r\n", FOLD),
     (b" %d\r\n", FOLD), (b"%d  ", OWS)],
)  # fmt: skip
def test_a_section_is_read_in_linear_time(line, leniency):
    def prepare(size):
        section = b"A: b\r\n" + b"".join(line % i for i in range(size)) + b"\r\n"

        def work():
            try:
                parse(section, leniency, size * 2)
            except HttpParseError:
                pass

        return work

    assert takes_linear_time(prepare, 4000)

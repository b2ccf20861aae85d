"""The one place that decides how long a body is."""

from __future__ import annotations

import pytest

from flare.http.proto.errors import HttpParseError
from flare.http.proto.fields import parse_field_block
from flare.http.proto.framing import CHUNKED, LENGTH, NO_BODY, UNTIL_CLOSE, Framing, body_framing
from flare.http.proto.h1_leniency import STRICT, H1LeniencyConfig

MANY_CL = H1LeniencyConfig(allow_multiple_content_length=True)
TE_AND_CL = H1LeniencyConfig(allow_te_chunked_when_cl_present=True)
CL = "Content-Length: "
TE = "Transfer-Encoding: "


def framing(*lines, minor=1, method="POST", status=None, leniency=STRICT):
    section = "".join(line + "\r\n" for line in lines).encode("latin-1")
    block = parse_field_block(section, max_fields=100)
    return body_framing(block, minor=minor, method=method, status=status, leniency=leniency)


def refused(*lines, **how):
    with pytest.raises(HttpParseError) as caught:
        framing(*lines, **how)
    return caught.value.variant_name()


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], Framing(NO_BODY)),
        ([CL + "0"], Framing(NO_BODY)),
        ([CL + "000"], Framing(NO_BODY)),
        ([CL + "5"], Framing(LENGTH, 5)),
        ([CL + "0005"], Framing(LENGTH, 5)),
        ([CL + "9223372036854775807"], Framing(LENGTH, 2**63 - 1)),
        ([TE + "chunked"], Framing(CHUNKED)),
        ([TE + "CHUNKED"], Framing(CHUNKED)),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "CONNECT", "OPTIONS", "BREW"])
def test_a_request_is_framed_alike_whatever_its_method(lines, expected, method):
    assert framing(*lines, method=method) == expected


@pytest.mark.parametrize(
    ("method", "status", "bodiless"),
    [("HEAD", 200, True), ("HEAD", 404, True), ("GET", 100, True), ("GET", 101, True),
     ("GET", 199, True), ("GET", 204, True), ("GET", 304, True), ("CONNECT", 200, True),
     ("CONNECT", 299, True), ("CONNECT", 300, False), ("CONNECT", 407, False),
     ("GET", 200, False), ("GET", 205, False), ("GET", 303, False), ("POST", 500, False)],
)  # fmt: skip
def test_some_responses_have_no_body_whatever_they_say(method, status, bodiless):
    for lines, otherwise in (
        ([], Framing(UNTIL_CLOSE)),
        ([CL + "5"], Framing(LENGTH, 5)),
        ([CL + "0"], Framing(LENGTH, 0)),
        ([CL + "5", CL + "5"], Framing(LENGTH, 5)),
        ([CL + "5, 5"], Framing(LENGTH, 5)),
        ([TE + "chunked"], Framing(CHUNKED)),
    ):
        expected = Framing(NO_BODY) if bodiless else otherwise
        assert framing(*lines, method=method, status=status) == expected
    for lines in ([CL + "x"], [CL + "5", CL + "6"], [TE + "x"], [TE + "chunked", CL + "5"]):
        if bodiless:
            assert framing(*lines, method=method, status=status) == Framing(NO_BODY)
        else:
            assert refused(*lines, method=method, status=status).startswith("BAD_")


# fmt: off
BAD_LENGTHS = ["", "+1", "-1", "-48", "1_0", "0x10", "1Z", "1 0", "1.0", "1e1", "5,", ",5",
               "9223372036854775808", "1" * 20, "1" * 4000, "\xb2", "\xa05", "5\x85", '"5"']
# fmt: on


@pytest.mark.parametrize("value", BAD_LENGTHS, ids=lambda value: ascii(value)[:30])
@pytest.mark.parametrize(
    "how", [{}, {"leniency": MANY_CL}, {"status": 200}], ids=["strict", "lenient", "response"]
)
def test_a_length_is_one_run_of_ascii_digits(value, how):
    assert refused(CL + value, **how) == "BAD_CONTENT_LENGTH"


@pytest.mark.parametrize("lines", [[CL + "5", CL + "5"], [CL + "5, 5"], [CL + "5,5", CL + "5"]])
def test_equal_lengths_count_once_where_allowed(lines):
    assert refused(*lines) == "BAD_CONTENT_LENGTH"
    assert framing(*lines, leniency=MANY_CL) == Framing(LENGTH, 5)
    assert framing(*lines, status=200) == Framing(LENGTH, 5)


@pytest.mark.parametrize("lines", [[CL + "5", CL + "6"], [CL + "5, 6"], [CL + "5", CL + "05"]])
def test_differing_lengths_are_refused_always(lines):
    for how in ({}, {"leniency": MANY_CL}, {"status": 200}):
        assert refused(*lines, **how) == "BAD_CONTENT_LENGTH"


@pytest.mark.parametrize(
    ("values", "variant"),
    [
        (["gzip, chunked"], "UNSUPPORTED_TRANSFER_CODING"),
        (["gzip", "chunked"], "UNSUPPORTED_TRANSFER_CODING"),
        (["identity, chunked"], "UNSUPPORTED_TRANSFER_CODING"),
        *(
            ([value], "BAD_TRANSFER_ENCODING")
            for value in ("", "gzip", "identity", "chunked, identity", "chunked, chunked",
                          ",chunked", "chunked,", "\xa0chunked", "chunked\x85", "xchunked",
                          "chunked;a=b", '"chunked"', "chun\u00ebd", "chunked chunked")
        ),
        (["chunked", "chunked"], "BAD_TRANSFER_ENCODING"),
        (["chunked", "identity"], "BAD_TRANSFER_ENCODING"),
        (["chunked", ""], "BAD_TRANSFER_ENCODING"),
    ],
)  # fmt: skip
def test_chunked_stands_once_alone_and_last(values, variant):
    lines = [TE + value for value in values]
    for how in ({}, {"status": 200}, {"leniency": TE_AND_CL}):
        assert refused(*lines, **how) == variant


def test_transfer_encoding_does_not_exist_in_http_1_0():
    for how in ({}, {"status": 200}, {"leniency": TE_AND_CL}):
        assert refused(TE + "chunked", minor=0, **how) == "BAD_TRANSFER_ENCODING"
        assert refused(TE + "chunked", CL + "5", minor=0, **how) == "BAD_TRANSFER_ENCODING"


def test_two_framings_are_one_too_many():
    both = (TE + "chunked", CL + "5")
    assert refused(*both) == "BAD_TRANSFER_ENCODING"
    assert refused(*both, status=200) == "BAD_TRANSFER_ENCODING"
    assert refused(*both, status=200, leniency=TE_AND_CL) == "BAD_TRANSFER_ENCODING"
    assert framing(*both, leniency=TE_AND_CL) == Framing(CHUNKED, ambiguous=True)

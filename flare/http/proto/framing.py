"""How long a message body is: the one place that decides it (RFC 9112 section 6.3).

Requests and responses, server and client all ask ``body_framing``. Its rules are the defence
against request smuggling: where two readers could differ about a length, there is no length, only
an error. In the order of the RFC:

1. A response to HEAD, a 1xx, 204 or 304, and a 2xx to CONNECT have no body, whatever they say.
2. ``Transfer-Encoding`` must be ``chunked``, once, alone and last, in an HTTP/1.1 message without
   ``Content-Length``. Another coding before it is 501; everything else is 400.
3. ``Content-Length`` is one run of ASCII digits no larger than 2**63 - 1.
4. A request with neither has no body; a response with neither lasts until the connection ends.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from flare.http.proto.errors import HttpParseError
from flare.http.proto.fields import FieldBlock
from flare.http.proto.h1_leniency import STRICT, H1LeniencyConfig

__all__ = ["CHUNKED", "LENGTH", "NO_BODY", "UNTIL_CLOSE", "Framing", "body_framing"]

NO_BODY = 0
LENGTH = 1
CHUNKED = 2
UNTIL_CLOSE = 3

_DIGITS = re.compile(r"[0-9]{1,19}").fullmatch
_CODING = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_MAX_LENGTH = 2**63 - 1


class Framing(NamedTuple):
    """How a body ends. ``length`` is in bytes, 0 unless ``kind`` is LENGTH.

    ``ambiguous`` is true where leniency chose between two lengths: the connection must not be
    used again after this message.
    """

    kind: int
    length: int = 0
    ambiguous: bool = False


_NO_BODY = Framing(NO_BODY)
_CHUNKED = Framing(CHUNKED)
_UNTIL_CLOSE = Framing(UNTIL_CLOSE)


def body_framing(
    fields: FieldBlock,
    *,
    minor: int,
    method: str,
    status: int | None = None,
    leniency: H1LeniencyConfig = STRICT,
) -> Framing:
    """The framing of a request (*status* ``None``) or of a response to *method*.

    *minor* is the minor version, 0 or 1. Raises ``HttpParseError`` with BAD_TRANSFER_ENCODING,
    UNSUPPORTED_TRANSFER_CODING or BAD_CONTENT_LENGTH.
    """
    if status is not None and (
        method == "HEAD"
        or status in (204, 304)
        or 100 <= status < 200
        or (method == "CONNECT" and 200 <= status < 300)
    ):
        return _NO_BODY
    if fields.transfer_encodings:
        _check_transfer_encoding(fields.transfer_encodings, minor)
        if not fields.content_lengths:
            return _CHUNKED
        if status is None and leniency.allow_te_chunked_when_cl_present:
            return Framing(CHUNKED, ambiguous=True)
        raise HttpParseError(
            HttpParseError.BAD_TRANSFER_ENCODING, "both Transfer-Encoding and Content-Length"
        )
    if fields.content_lengths:
        length = _content_length(
            fields.content_lengths,
            allow_equal=status is not None or leniency.allow_multiple_content_length,
        )
        return Framing(LENGTH, length) if length or status is not None else _NO_BODY
    return _NO_BODY if status is None else _UNTIL_CLOSE


def _check_transfer_encoding(values: tuple[str, ...], minor: int) -> None:
    if minor == 0:
        raise HttpParseError(
            HttpParseError.BAD_TRANSFER_ENCODING, "Transfer-Encoding in an HTTP/1.0 message"
        )
    codings = [coding.strip(" \t").lower() for coding in ",".join(values).split(",")]
    for coding in codings:
        if not _CODING(coding):
            raise HttpParseError(
                HttpParseError.BAD_TRANSFER_ENCODING, f"bad transfer coding {coding[:20]!a}"
            )
    if codings[-1] != "chunked" or codings.count("chunked") > 1:
        raise HttpParseError(
            HttpParseError.BAD_TRANSFER_ENCODING, "chunked is not the last coding, or not once"
        )
    if len(codings) > 1:
        raise HttpParseError(
            HttpParseError.UNSUPPORTED_TRANSFER_CODING, f"transfer coding {codings[0][:20]!a}"
        )


def _content_length(values: tuple[str, ...], *, allow_equal: bool) -> int:
    if allow_equal:
        values = tuple({part.strip(" \t") for value in values for part in value.split(",")})
    if len(values) != 1:
        raise HttpParseError(HttpParseError.BAD_CONTENT_LENGTH, "more than one Content-Length")
    if not _DIGITS(values[0]):
        raise HttpParseError(
            HttpParseError.BAD_CONTENT_LENGTH,
            f"expected decimal digits, got {values[0][:20]!a}",
        )
    length = int(values[0])
    if length > _MAX_LENGTH:
        raise HttpParseError(HttpParseError.BAD_CONTENT_LENGTH, "longer than 2**63 - 1 bytes")
    return length

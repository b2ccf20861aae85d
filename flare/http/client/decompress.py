"""Which responses are decoded, and how far (RFC 9110 section 8.4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flare.errors import NetworkError, ValidationError
from flare.http.client.target import Target
from flare.http.decoding import DecodingError, decoded, parse_codings
from flare.http.errors import HttpProtocolError
from flare.http.proto.framing import NO_BODY
from flare.http.proto.headers import HeaderMap
from flare.http.proto.heads import ResponseHead

__all__ = ["MAX_DECOMPRESSED_BYTES", "checked_limit", "codings_to_undo", "decoding_reader",
           "wants_decoding"]  # fmt: skip

MAX_DECOMPRESSED_BYTES = 16 * 1024 * 1024
"""What a body may have decoded, in bytes, unless the client says otherwise."""

# A part of a coded representation is not coded data of its own.
_PARTIAL_CONTENT = 206


def checked_limit(max_bytes: int) -> int:
    """*max_bytes*, if it can be a limit."""
    if max_bytes < 0:
        raise ValidationError("max_decompressed_bytes", f"must be >= 0, got {max_bytes}")
    return max_bytes


def wants_decoding(headers: HeaderMap | None) -> bool:
    """Whether a caller who gives these *headers* wants the response decoded: not one who asked
    for it as it is."""
    if headers is None:
        return True
    return headers.get("accept-encoding").strip().lower() != "identity"


def codings_to_undo(head: ResponseHead, target: Target) -> Sequence[str]:
    """The codings of the body behind *head*; none where it is to be left as it is.

    Raises ``HttpProtocolError`` where there are too many.
    """
    if head.framing.kind == NO_BODY or head.status == _PARTIAL_CONTENT:
        return ()
    value = head.fields.get("content-encoding")
    if not value:
        return ()
    values = [item[2] for item in head.fields.items if item[0] == "content-encoding"]
    try:
        return parse_codings(", ".join(values)) or ()
    except DecodingError as error:
        raise HttpProtocolError(f"response from {target.peer}: {error}") from None


def decoding_reader(
    read: Callable[[int], bytes], codings: Sequence[str], limit: int, target: Target
) -> Callable[[int], bytes]:
    """A ``read(n)`` of the decoded body, about *n* bytes at most.

    It raises what *read* does, ``NetworkError`` past *limit* bytes (0: none), and
    ``HttpProtocolError`` for data that is not what it says.
    """
    inner = decoded(read, codings, limit)

    def read_decoded(n: int) -> bytes:
        try:
            return inner(n)
        except DecodingError as error:
            if error.too_large:
                raise NetworkError(
                    f"the decompressed response from {target.peer} exceeds "
                    f"max_decompressed_bytes, {limit}"
                ) from None
            raise HttpProtocolError(f"response from {target.peer}: {error}") from None

    return read_decoded

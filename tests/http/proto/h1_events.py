"""Feeding HTTP/1.1 decoders in pieces and writing down what comes out, for the tests beside it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from flare.http.proto.decoder import (
    RESPONSE_LENIENCY,
    EndOfMessage,
    RequestDecoder,
    ResponseDecoder,
)
from flare.http.proto.errors import HttpParseError
from flare.http.proto.fields import FieldBlock
from flare.http.proto.h1_leniency import H1LeniencyConfig
from flare.http.proto.heads import H1Limits, RequestHead, ResponseHead

Result = tuple[list[dict[str, Any]], HttpParseError | None]


def request_limits(flags: Iterable[str] = (), **limits: Any) -> H1Limits:
    if flags := tuple(flags):
        limits["h1_leniency"] = H1LeniencyConfig(**dict.fromkeys(flags, True))
    return H1Limits(**limits)


def response_limits(**limits: Any) -> H1Limits:
    return H1Limits(
        **{
            "max_header_size": 64 * 1024,
            "max_body_size": None,
            "max_fields": 256,
            "h1_leniency": RESPONSE_LENIENCY,
            **limits,
        }
    )


def pairs(block: FieldBlock) -> list[list[str]]:
    for lower, name, _ in block.items:
        assert lower == name.lower()
    return [[name, value] for _, name, value in block.items]


def byte_by_byte(data: bytes) -> Iterator[bytes]:
    return (data[i : i + 1] for i in range(len(data)))


def cut_at(data: bytes, places: Iterable[int]) -> list[bytes]:
    borders = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(borders) if b > a]


def _note_request(head: RequestHead) -> dict[str, Any]:
    return {
        "method": head.method,
        "target": head.target,
        "version": head.version,
        "fields": pairs(head.fields),
        "body": "",
        "trailers": [],
        "keep_alive": head.keep_alive,
        "expect_continue": head.expect_continue,
    }


def read_requests(
    pieces: Iterable[bytes], limits: H1Limits | None = None, *, eof: bool = False
) -> Result:
    """Every request in *pieces*, and the error that ended them. A message without its end keeps
    the key ``open``."""
    decoder = RequestDecoder(limits)
    found: list[dict[str, Any]] = []

    def drain() -> None:
        while (event := decoder.next_event()) is not None:
            if isinstance(event, RequestHead):
                assert not found or "open" not in found[-1]
                found.append({**_note_request(event), "open": True})
            else:
                _note_body(found[-1], event)

    return found, _run(decoder, pieces, drain, eof)


def read_responses(
    pieces: Iterable[bytes],
    methods: Iterable[str] = ("GET",),
    limits: H1Limits | None = None,
    *,
    eof: bool = False,
) -> Result:
    """The responses to requests with *methods*, as ``read_requests``."""
    decoder = ResponseDecoder(limits)
    waiting = iter(methods)
    found: list[dict[str, Any]] = []
    interim: list[int] = []
    decoder.expect(next(waiting))

    def drain() -> None:
        while (event := decoder.next_event()) is not None:
            if isinstance(event, ResponseHead):
                if event.status < 200 and event.status != 101:
                    interim.append(event.status)
                    continue
                found.append(
                    {
                        "status": event.status,
                        "reason": event.reason,
                        "version": event.version,
                        "fields": pairs(event.fields),
                        "body": "",
                        "trailers": [],
                        "keep_alive": event.keep_alive,
                        "interim": interim[:],
                        "open": True,
                    }
                )
                interim.clear()
                continue
            _note_body(found[-1], event)
            if isinstance(event, EndOfMessage) and (method := next(waiting, None)):
                decoder.expect(method)

    return found, _run(decoder, pieces, drain, eof)


def _note_body(message: dict[str, Any], event: bytes | EndOfMessage) -> None:
    assert message["open"]
    if isinstance(event, EndOfMessage):
        message["trailers"] = pairs(event.trailers)
        del message["open"]
    else:
        assert type(event) is bytes
        assert event
        message["body"] += event.decode("latin-1")


def _run(
    decoder: RequestDecoder | ResponseDecoder, pieces: Iterable[bytes], drain: Any, eof: bool
) -> HttpParseError | None:
    try:
        for piece in pieces:
            decoder.receive(piece)
            drain()
        if eof:
            decoder.receive_eof()
            drain()
    except HttpParseError as error:
        _stays_failed(decoder, error)
        return error
    return None


def _stays_failed(decoder: RequestDecoder | ResponseDecoder, error: HttpParseError) -> None:
    """After an error nothing is parsed, however good the bytes that follow are."""
    for more in (b"", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"HTTP/1.1 204 x\r\n\r\n"):
        decoder.receive(more)
        for _ in range(2):
            with pytest.raises(HttpParseError) as again:
                decoder.next_event()
            assert again.value == error
            assert (again.value.detail, again.value.status) == (error.detail, error.status)

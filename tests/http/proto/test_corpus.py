"""Every message of the corpus, whole and cut to pieces, alone and pipelined.

``corpus/{requests,responses}/{valid,invalid}/NAME.http`` holds raw bytes with the one defect or
oddity that NAME says. The ``.json`` beside it says what must come of them, under which limits and
leniency; ``eof`` that the peer then ends the connection, ``only_first`` that the bytes mean
something else behind another message.
"""

from __future__ import annotations

import json
import random
from functools import cache
from pathlib import Path

import pytest
from h1_events import (
    byte_by_byte,
    cut_at,
    read_requests,
    read_responses,
    request_limits,
    response_limits,
)

from flare.http.proto.h1_leniency import H1LeniencyConfig

CORPUS = Path(__file__).parent / "corpus"
GOOD_REQUEST = b"PUT /good HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok"
GOOD_RESPONSE = b"HTTP/1.1 202 Good\r\nContent-Length: 2\r\n\r\nok"
RANDOM_CUTS = 6


@cache
def twin_of(path):
    return json.loads(path.with_suffix(".json").read_text())


def corpus():
    return [
        pytest.param(path, id=f"{path.parts[-3]}-{path.parent.name}-{path.stem}")
        for path in sorted(CORPUS.rglob("*.http"))
    ]


def read(path, *, front=b"", behind=b"", cut=lambda data: [data]):
    """What the decoder makes of the file and its neighbours, and what its twin says."""
    twin = twin_of(path)
    data = front + path.read_bytes() + behind
    limits = twin.get("limits", {})
    eof = twin.get("eof", False)
    if path.parts[-3] == "requests":
        result = read_requests(
            cut(data), request_limits(twin.get("leniency", ()), **limits), eof=eof
        )
    else:
        methods = ["PUT"] * bool(front) + [twin["method"]] + ["PUT"] * bool(behind)
        result = read_responses(cut(data), methods, response_limits(**limits), eof=eof)
    return twin, result


def neighbour(path):
    return GOOD_REQUEST if path.parts[-3] == "requests" else GOOD_RESPONSE


def assert_as_expected(twin, result, *, front=0, behind=0):
    found, error = result
    if isinstance(twin["expected"], list):
        assert error is None
        assert all("open" not in message for message in found)
        assert found[front : len(found) - behind] == twin["expected"]
        good = found[:front] + found[len(found) - behind :]
    else:
        assert error is not None, "no error"
        assert (error.variant_name(), error.status) == (
            twin["expected"]["variant"],
            twin["expected"]["status"],
        )
        good = found[:front]
        # Whole messages before the defect, and at most the beginning of the bad one.
        assert all(message["body"] != "ok" for message in found[front:])
    assert [message["body"] for message in good] == ["ok"] * len(good)


def check_whole(path):
    assert_as_expected(*read(path))


def check_in_pieces(path):
    assert_as_expected(*read(path, cut=byte_by_byte))
    draw = random.Random(path.stem)
    for _ in range(RANDOM_CUTS):
        places = [draw.randrange(1 << 20) for _ in range(draw.randrange(1, 8))]
        assert_as_expected(*read(path, cut=lambda data, places=places: cut_at(data, places)))


def check_behind_a_good_one(path):
    for cut in (lambda data: [data], byte_by_byte):
        assert_as_expected(*read(path, front=neighbour(path), cut=cut), front=1)


def check_before_a_good_one(path):
    """Which is read after a valid one only."""
    valid = isinstance(twin_of(path)["expected"], list)
    for cut in (lambda data: [data], byte_by_byte):
        assert_as_expected(*read(path, behind=neighbour(path), cut=cut), behind=1 if valid else 0)


@pytest.mark.parametrize("path", corpus())
def test_a_message_is_as_its_twin_says(path):
    check_whole(path)
    check_in_pieces(path)
    if "only_first" not in twin_of(path):
        check_behind_a_good_one(path)
    if "eof" not in twin_of(path):
        check_before_a_good_one(path)


def test_every_file_has_its_twin():
    found = {path.relative_to(CORPUS) for path in CORPUS.rglob("*.*")}
    assert {p.with_suffix(".json") for p in found} <= found
    assert {p.with_suffix(".http") for p in found} <= found


def test_every_leniency_is_shown_accepting_what_strictness_refuses():
    refused = {path.read_bytes() for path in (CORPUS / "requests/invalid").glob("*.http")}
    accepting = {
        flag
        for path in (CORPUS / "requests/valid").glob("*.http")
        for flag in twin_of(path).get("leniency", ())
        if path.read_bytes() in refused
    }
    assert accepting == set(H1LeniencyConfig.__slots__)

"""Cells that the server flips and tokens that handlers look at."""

from __future__ import annotations

import pickle
import threading

import pytest

from flare.errors import NetworkError
from flare.http import Cancel, CancelCell, CancelReason
from flare.http.cancel import Cancelled


def test_the_reasons_are_the_documented_numbers() -> None:
    assert [int(reason) for reason in CancelReason] == [0, 1, 2, 3]
    assert CancelReason.NONE == 0
    assert [reason.name for reason in CancelReason] == [
        "NONE",
        "PEER_CLOSED",
        "TIMEOUT",
        "SHUTDOWN",
    ]


def test_a_flip_is_seen_through_every_handle() -> None:
    cell = CancelCell()
    early = cell.handle()
    assert not early.cancelled()
    assert early.reason() == CancelReason.NONE
    early.raise_if_cancelled()
    cell.flip(CancelReason.TIMEOUT)
    assert early is cell.handle()
    assert early.cancelled()
    assert early.reason() == CancelReason.TIMEOUT
    assert repr(early) == "<Cancel TIMEOUT>"


def test_the_first_reason_stays_until_reset() -> None:
    cell = CancelCell()
    cell.flip(1)
    cell.flip(2)
    assert cell.handle().reason() == CancelReason.PEER_CLOSED
    cell.reset()
    assert not cell.handle().cancelled()
    assert cell.handle().wait(0) is False
    cell.flip(2)
    assert cell.handle().reason() == CancelReason.TIMEOUT


def test_a_reason_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError):
        CancelCell().flip(9)


def test_never_is_never() -> None:
    never = Cancel.never()
    assert never is Cancel.never()
    assert not never.cancelled()
    assert never.reason() == 0
    assert never.wait() is False
    assert never.wait(0.001) is False
    assert not hasattr(never, "flip")


def test_raise_if_cancelled_names_the_reason() -> None:
    cell = CancelCell()
    cell.flip(CancelReason.SHUTDOWN)
    with pytest.raises(Cancelled, match="shutdown") as caught:
        cell.handle().raise_if_cancelled()
    assert isinstance(caught.value, NetworkError)
    assert pickle.loads(pickle.dumps(caught.value)).reason is CancelReason.SHUTDOWN


def test_waiting_ends_with_the_flip() -> None:
    cell = CancelCell()
    inside = threading.Event()
    found: list[bool] = []

    def wait() -> None:
        inside.set()
        found.append(cell.handle().wait(10))

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    inside.wait(5)
    cell.flip(1)
    for thread in threads:
        thread.join(5)
    assert found == [True] * 3
    assert cell.handle().wait() is True


def test_one_of_many_flips_wins() -> None:
    cell = CancelCell()
    threads = [threading.Thread(target=cell.flip, args=(1 + n % 3,)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cell.handle().reason() in (1, 2, 3)

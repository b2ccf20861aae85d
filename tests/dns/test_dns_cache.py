from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from flare.dns import DnsCache
from flare.dns import cache as cache_module
from flare.net import AddressParseError, DnsError, IpAddr


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Never:
    def cancelled(self) -> bool:
        return False

    def reason(self) -> int:
        return 0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(cache_module, "time", clock)
    return clock


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every look-up made; a name resolves to two addresses, ``bad...`` to none."""
    asked: list[str] = []

    def resolve(host: str, cancel: object = None) -> list[IpAddr]:
        asked.append(host)
        if host.startswith("bad"):
            raise DnsError(host, -2, "unknown")
        return [IpAddr("10.0.0.1"), IpAddr("::1")]

    monkeypatch.setattr(cache_module, "resolve", resolve)
    monkeypatch.setattr(cache_module, "resolve_async", resolve)
    return asked


def test_a_second_question_is_answered_from_memory(asked: list[str]) -> None:
    cache = DnsCache()
    assert cache.resolve("a.test") == cache.resolve("a.test")
    assert asked == ["a.test"]
    assert (cache.resolve_count(), cache.hit_count(), cache.size(), len(cache)) == (1, 1, 1, 1)
    assert "a.test" in cache
    assert "b.test" not in cache
    assert 5 not in cache


@pytest.mark.parametrize("same", ["A.Test", "a.test.", "A.TEST."])
def test_case_and_trailing_dot_do_not_matter(asked: list[str], same: str) -> None:
    cache = DnsCache()
    cache.resolve("a.test")
    cache.resolve(same)
    assert len(asked) == len(cache) == 1
    assert same in cache


def test_international_and_numeric_names_have_one_spelling(asked: list[str]) -> None:
    cache = DnsCache()
    cache.resolve("bücher.test")
    cache.resolve("xn--bcher-kva.test")
    cache.resolve("2001:DB8::1")
    cache.resolve("2001:db8:0::1")
    assert len(cache) == 2


def test_answers_are_fresh_lists(asked: list[str]) -> None:
    cache = DnsCache()
    cache.resolve("a.test").clear()
    cache.resolve("a.test").clear()
    assert len(cache.resolve("a.test")) == 2


def test_answers_go_out_of_date(asked: list[str], clock: Clock) -> None:
    cache = DnsCache(ttl_ms=500)
    cache.resolve("a.test")
    clock.now += 0.499
    cache.resolve("a.test")
    assert len(asked) == 1
    clock.now += 0.001
    assert "a.test" not in cache
    cache.resolve("a.test")
    assert len(asked) == 2


@pytest.mark.parametrize("ttl_ms", [0, -1])
def test_without_a_time_to_live_nothing_is_kept(asked: list[str], ttl_ms: int) -> None:
    cache = DnsCache(ttl_ms=ttl_ms)
    cache.resolve("a.test")
    cache.resolve("a.test")
    assert (cache.resolve_count(), cache.hit_count(), cache.size()) == (2, 0, 0)


def test_failures_are_not_kept(asked: list[str]) -> None:
    cache = DnsCache()
    for _ in range(2):
        with pytest.raises(DnsError):
            cache.resolve("bad.test")
    assert (cache.resolve_count(), cache.size()) == (2, 0)


def test_bad_names_are_not_looked_up(asked: list[str]) -> None:
    with pytest.raises(AddressParseError):
        DnsCache().resolve("a..b")
    assert not asked


def test_the_name_not_asked_for_the_longest_goes_first(asked: list[str]) -> None:
    cache = DnsCache(max_entries=2)
    for host in ("a.test", "b.test", "a.test", "c.test"):
        cache.resolve(host)
    assert [host in cache for host in ("a.test", "b.test", "c.test")] == [True, False, True]
    assert len(cache) == 2


def test_at_least_one_entry_must_fit() -> None:
    with pytest.raises(ValueError, match="max_entries"):
        DnsCache(max_entries=0)


def test_invalidate_and_clear_forget(asked: list[str]) -> None:
    cache = DnsCache()
    for host in ("a.test", "b.test", "c.test"):
        cache.resolve(host)
    cache.invalidate("A.test.")
    cache.invalidate("never.test")
    assert "a.test" not in cache
    assert len(cache) == 2
    cache.clear()
    assert len(cache) == 0
    assert cache.resolve_count() == 3


@pytest.mark.parametrize(
    "ask",
    [
        lambda cache: cache.resolve_async("a.test", Never()),
        lambda cache: cache.resolve_ordered("a.test"),
    ],
    ids=["resolve_async", "resolve_ordered"],
)
def test_the_other_questions_share_the_memory(
    asked: list[str], ask: Callable[[DnsCache], list[IpAddr]]
) -> None:
    cache = DnsCache()
    ask(cache)
    ask(cache)
    cache.resolve("a.test")
    assert len(asked) == 1


def test_resolve_ordered_puts_v6_first(asked: list[str]) -> None:
    cache = DnsCache()
    assert [str(addr) for addr in cache.resolve_ordered("a.test")] == ["::1", "10.0.0.1"]
    assert [str(addr) for addr in cache.resolve("a.test")] == ["10.0.0.1", "::1"]


def test_threads_can_share_it(asked: list[str]) -> None:
    cache = DnsCache(max_entries=5)
    start = threading.Barrier(8)

    def work(seed: int) -> None:
        start.wait(10)
        for i in range(200):
            assert len(cache.resolve(f"h{(seed + i) % 9}.test")) == 2
            if i % 50 == 0:
                cache.invalidate(f"h{i % 9}.test")

    with ThreadPoolExecutor(8) as threads:
        for future in [threads.submit(work, seed) for seed in range(8)]:
            future.result(30)
    assert cache.resolve_count() + cache.hit_count() == 1600
    assert cache.resolve_count() == len(asked)
    assert len(cache) <= 5

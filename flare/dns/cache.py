"""A cache of look-ups that threads can share."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict

from flare.dns.lookup import CancelToken, host_key, order_happy_eyeballs, resolve, resolve_async
from flare.errors import ValidationError
from flare.net import IpAddr

__all__ = ["DnsCache"]


class DnsCache:
    """Remembers what names resolved to, for *ttl_ms* and at most *max_entries* names.

    The system's resolver does not tell how long an answer holds, hence one time for all. With
    *ttl_ms* of 0 or less nothing is remembered. Failures are never remembered. When it is full the
    name not asked for the longest goes. Names are known in lower case and without a trailing dot.

    Safe to use from any thread; threads that miss the same name at once each look it up.
    """

    def __init__(self, ttl_ms: int = 30_000, max_entries: int = 1024) -> None:
        if max_entries < 1:
            raise ValidationError("max_entries", f"must be > 0, got {max_entries}")
        self._ttl = ttl_ms / 1000
        self._max_entries = max_entries
        self._lock = threading.Lock()  # guards everything below
        self._entries: OrderedDict[str, tuple[float, list[IpAddr]]] = OrderedDict()
        self._lookups = 0
        self._hits = 0

    def resolve(self, host: str) -> list[IpAddr]:
        """The addresses of *host* as a fresh list; blocks and raises as ``flare.dns.resolve``."""
        return self._resolve(host, None)

    def resolve_async(self, host: str, cancel: CancelToken) -> list[IpAddr]:
        """The same, a look-up being done as by ``flare.dns.resolve_async``."""
        return self._resolve(host, cancel)

    def resolve_ordered(self, host: str) -> list[IpAddr]:
        """The same as ``resolve``, in the order of ``order_happy_eyeballs``."""
        return order_happy_eyeballs(self.resolve(host))

    def invalidate(self, host: str) -> None:
        """Forget *host*."""
        with self._lock:
            self._entries.pop(host_key(host), None)

    def clear(self) -> None:
        """Forget every name; the counts go on."""
        with self._lock:
            self._entries.clear()

    def resolve_count(self) -> int:
        """How many look-ups were made."""
        with self._lock:
            return self._lookups

    def hit_count(self) -> int:
        """How many answers came from memory."""
        with self._lock:
            return self._hits

    def size(self) -> int:
        """How many names are held, those out of date and not yet asked for again included."""
        with self._lock:
            return len(self._entries)

    def __len__(self) -> int:
        return self.size()

    def __contains__(self, host: object) -> bool:
        """Whether asking for *host* now would be answered from memory."""
        if not isinstance(host, str):
            return False
        with self._lock:
            return self._fresh(host_key(host)) is not None

    def _resolve(self, host: str, cancel: CancelToken | None) -> list[IpAddr]:
        key = host_key(host)
        with self._lock:
            held = self._fresh(key)
            if held is not None:
                self._hits += 1
                self._entries.move_to_end(key)
                return list(held)
            self._lookups += 1
        addrs = resolve(host) if cancel is None else resolve_async(host, cancel)
        if self._ttl > 0:
            with self._lock:
                self._entries[key] = (time.monotonic() + self._ttl, list(addrs))
                self._entries.move_to_end(key)
                while len(self._entries) > self._max_entries:
                    self._entries.popitem(last=False)
        return addrs

    def _fresh(self, key: str) -> list[IpAddr] | None:
        """What is held for *key* and still in date; the lock is held."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        expires, addrs = entry
        if time.monotonic() >= expires:
            del self._entries[key]
            return None
        return addrs

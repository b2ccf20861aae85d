"""Host names to addresses, by the system's resolver, with a cache and with a way to give up."""

from flare.dns.cache import DnsCache
from flare.dns.lookup import (
    order_happy_eyeballs,
    resolve,
    resolve_async,
    resolve_v4,
    resolve_v6,
)

__all__ = [
    "resolve",
    "resolve_v4",
    "resolve_v6",
    "DnsCache",
    "resolve_async",
    "order_happy_eyeballs",
]

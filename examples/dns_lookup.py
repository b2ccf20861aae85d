"""Looking names up: python dns_lookup.py [HOST ...], by default localhost."""

import sys

from flare import AddressParseError, DnsError, resolve, resolve_v4, resolve_v6
from flare.dns import DnsCache, order_happy_eyeballs


def show(host: str) -> None:
    try:
        addresses = resolve(host)
    except (DnsError, AddressParseError) as exc:
        print(exc)
        return
    print(f"{host}: {', '.join(map(str, addresses))}")
    print("  to be tried in this order:", *order_happy_eyeballs(addresses))
    for family, lookup in (("IPv4", resolve_v4), ("IPv6", resolve_v6)):
        try:
            print(f"  {family} only:", *lookup(host))
        except DnsError as exc:
            print(f"  {family} only: {exc.reason}")


def main() -> None:
    hosts = sys.argv[1:] or ["localhost", "127.0.0.1", "not a..host"]
    for host in hosts:
        show(host)
    cache = DnsCache(ttl_ms=60_000)
    for _ in range(3):
        cache.resolve("localhost")
    print(f"cache: {cache.resolve_count()} looked up, {cache.hit_count()} found in it")


if __name__ == "__main__":
    main()

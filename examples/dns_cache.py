"""A cache in front of the system's resolver, and addresses in the order a client tries them."""

from flare import AddressParseError
from flare.dns import DnsCache, order_happy_eyeballs, resolve


def main() -> None:
    cache = DnsCache(ttl_ms=60_000, max_entries=100)
    for _ in range(3):
        addresses = cache.resolve("localhost")
    print("localhost is", ", ".join(map(str, addresses)))
    print(f"{cache.resolve_count()} look-up, {cache.hit_count()} answers from memory")

    numeric = resolve("127.0.0.1") + resolve("::1")
    print("in turn, IPv6 first:", ", ".join(map(str, order_happy_eyeballs(numeric))))

    try:
        cache.resolve("not a host")
    except AddressParseError as error:
        print(f"refused before any look-up: {error}")


if __name__ == "__main__":
    main()

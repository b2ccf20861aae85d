"""Look-ups, against a resolver that is a function of the test's own."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

from flare.dns import order_happy_eyeballs, resolve, resolve_async, resolve_v4, resolve_v6
from flare.errors import IoError
from flare.net import AddressParseError, DnsError, IpAddr, NetworkError
from flare.utils import pool

DEADLINE = 10.0
V4, V6 = socket.AF_INET, socket.AF_INET6


class Resolver:
    """Stands in for getaddrinfo: knows what it was asked, answers from ``answers`` or raises."""

    def __init__(self) -> None:
        self.asked: list[tuple[object, ...]] = []
        self.answers: list[str] = []
        self.error: Exception | None = None

    def __call__(self, host: bytes, port: object, family: int, kind: int) -> list[Any]:
        self.asked.append((host, port, family, kind))
        if self.error:
            raise self.error
        return [
            (V6, kind, 6, "", (ip, 0, 0, 0)) if ":" in ip else (V4, kind, 6, "", (ip, 0))
            for ip in self.answers
        ]


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    resolver = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    return resolver


class Token:
    """A cancel token that flips when told, or at the n-th question."""

    def __init__(self, reason: int = 1, flips_at: int | None = None) -> None:
        self._reason = reason
        self._left = flips_at

    def cancelled(self) -> bool:
        if self._left is None:
            return False
        self._left -= 1
        return self._left < 0

    def reason(self) -> int:
        return self._reason


def texts(addrs: list[IpAddr]) -> list[str]:
    return [str(addr) for addr in addrs]


@pytest.mark.parametrize("find", [resolve, resolve_v4])
def test_localhost_resolves(find: Callable[[str], list[IpAddr]]) -> None:
    assert all(addr.is_loopback() for addr in find("localhost"))


@pytest.mark.parametrize("text", ["127.0.0.1", "::1", "2001:DB8::1", "::ffff:1.2.3.4"])
def test_numeric_addresses_ask_nobody(resolver: Resolver, text: str) -> None:
    addr = IpAddr(text)
    assert resolve(text) == resolve_async(text, Token()) == [addr]
    right, wrong = (resolve_v6, resolve_v4) if addr.is_v6() else (resolve_v4, resolve_v6)
    assert right(text) == [addr]
    with pytest.raises(DnsError, match=r"no IPv[46] addresses returned") as caught:
        wrong(text)
    assert caught.value.code == 0
    assert not resolver.asked


def test_answers_keep_their_order_without_repetition(resolver: Resolver) -> None:
    resolver.answers = ["10.0.0.2", "2001:db8::1", "10.0.0.2", "10.0.0.1", "2001:db8::1"]
    assert texts(resolve("host.test")) == ["10.0.0.2", "2001:db8::1", "10.0.0.1"]
    assert resolver.asked == [(b"host.test", None, 0, socket.SOCK_STREAM)]


def test_zones_are_stripped(resolver: Resolver) -> None:
    resolver.answers = ["fe80::1%eth0", "fe80::1%eth1"]
    assert texts(resolve("host.test")) == ["fe80::1"]


def test_at_most_64_addresses_are_returned(resolver: Resolver) -> None:
    resolver.answers = [f"10.0.{i}.1" for i in range(65)]
    assert texts(resolve("host.test")) == resolver.answers[:64]


def test_each_family_is_asked_for_alone(resolver: Resolver) -> None:
    resolver.answers = ["10.0.0.1"]
    resolve_v4("host.test")
    resolve_v6("host.test")
    assert [asked[2] for asked in resolver.asked] == [V4, V6]


@pytest.mark.parametrize("error", [socket.EAI_NONAME, socket.EAI_NODATA, socket.EAI_ADDRFAMILY])
def test_no_address_of_a_family_is_one_error(resolver: Resolver, error: int) -> None:
    resolver.error = socket.gaierror(error, "no")
    for find, name in ((resolve_v4, "IPv4"), (resolve_v6, "IPv6")):
        with pytest.raises(DnsError) as caught:
            find("host.test")
        assert (caught.value.host, caught.value.code) == ("host.test", 0)
        assert caught.value.reason == f"no {name} addresses returned"


@pytest.mark.parametrize(
    "error",
    [
        socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
        socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"),
    ],
)
def test_failures_carry_the_code_and_the_text(resolver: Resolver, error: socket.gaierror) -> None:
    resolver.error = error
    with pytest.raises(DnsError) as caught:
        resolve("host.test")
    assert (caught.value.code, caught.value.errno) == (error.errno, error.errno)
    assert str(caught.value) == f"DnsError(host.test): {error.strerror}"
    assert isinstance(caught.value, socket.gaierror)
    assert caught.value.__cause__ is error


def test_other_system_errors_are_dns_errors_too(resolver: Resolver) -> None:
    resolver.error = OSError(24, "Too many open files")
    with pytest.raises(DnsError, match="Too many open files"):
        resolve("host.test")


def test_an_empty_answer_is_an_error(resolver: Resolver) -> None:
    with pytest.raises(DnsError, match="no addresses returned"):
        resolve("host.test")


@pytest.mark.parametrize(
    "host",
    [
        "",
        ".",
        "..",
        ".a",
        "a..b",
        "a..",
        "a\0b",
        "a\rb",
        "a\nb",
        "user@host",
        "a b",
        "a\tb",
        "[::1]",
        "host:80",
        "fe80::1%eth0",
        "a/b",
        "a\\b",
        "a?b",
        "a#b",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "1.2.3.4.5",
        "256.0.0.1",
        "127.0.0.1.",
        "host.0x",
        "x" * 64,
        "a." + "x" * 64 + ".b",
        "x." * 127 + "y",
        ("x" * 63 + ".") * 4,
        "x" * 100_000,
        "ü" * 100_000,
        "ü" * 63,
        "ü..b",
        "a／b",
        "a＠b",
        "℀.com",
        "１２７.0.0.1",
        "\ud800.com",
    ],
)
def test_names_that_cannot_be_are_refused_before_any_look_up(resolver: Resolver, host: str) -> None:
    for find in (resolve, resolve_v4, resolve_v6, lambda h: resolve_async(h, Token())):
        with pytest.raises(AddressParseError):
            find(host)
    assert not resolver.asked


@pytest.mark.parametrize(
    ("host", "asked"),
    [
        ("Host.Test", b"Host.Test"),
        ("host.test.", b"host.test."),
        ("_dmarc.a-b.test", b"_dmarc.a-b.test"),
        ("x" * 63, b"x" * 63),
        (".".join(["x" * 63] * 3 + ["y" * 61]), b".".join([b"x" * 63] * 3 + [b"y" * 61])),
        (".".join(["x" * 63] * 3 + ["y" * 61]) + ".", None),
        ("bücher.example", b"xn--bcher-kva.example"),
        ("BÜCHER.example.", b"xn--bcher-kva.example."),
        ("例え.テスト", b"xn--r8jz45g.xn--zckzah"),
        ("1.2.3.4.in-addr.arpa", b"1.2.3.4.in-addr.arpa"),
        ("4x", b"4x"),
    ],
)
def test_names_are_looked_up_in_ascii(resolver: Resolver, host: str, asked: bytes | None) -> None:
    resolver.answers = ["10.0.0.1"]
    resolve(host)
    assert resolver.asked[0][0] == (asked or host.encode())


def test_only_text_is_a_name() -> None:
    with pytest.raises(TypeError):
        resolve(b"localhost")  # type: ignore[arg-type]


def test_resolve_async_answers_from_a_pool_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads = []

    def getaddrinfo(host: bytes, port: object, family: int, kind: int) -> list[Any]:
        threads.append(threading.current_thread().name)
        return [(V4, kind, 6, "", ("10.0.0.1", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert texts(resolve_async("host.test", Token())) == ["10.0.0.1"]
    assert threads[0].startswith("flare-blocking")


def test_resolve_async_raises_what_resolve_raises(resolver: Resolver) -> None:
    resolver.error = socket.gaierror(socket.EAI_NONAME, "unknown")
    with pytest.raises(DnsError, match="unknown"):
        resolve_async("host.test", Token())


@pytest.mark.parametrize(
    ("reason", "text"), [(1, "peer closed"), (2, "timeout"), (3, "shutdown"), (0, "cancelled")]
)
def test_a_token_flipped_before_asks_nobody(resolver: Resolver, reason: int, text: str) -> None:
    with pytest.raises(NetworkError, match=rf"host\.test.*{text}"):
        resolve_async("host.test", Token(reason, flips_at=0))
    assert not resolver.asked


def test_a_flip_ends_the_wait_though_the_look_up_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    release, done = threading.Event(), threading.Event()

    def getaddrinfo(*args: object) -> list[Any]:
        release.wait(DEADLINE)
        done.set()
        return []

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with pytest.raises(NetworkError, match="timeout"):
        resolve_async("host.test", Token(2, flips_at=3))
    assert not done.is_set()
    release.set()
    assert done.wait(DEADLINE)


def test_a_flip_after_the_look_up_hides_the_result(resolver: Resolver) -> None:
    resolver.answers = ["10.0.0.1"]
    asked = threading.Event()

    class AfterLookUp(Token):
        def cancelled(self) -> bool:
            return bool(resolver.asked) and asked.is_set()

    token = AfterLookUp(3)
    asked.set()
    with pytest.raises(NetworkError, match="shutdown"):
        resolve_async("host.test", token)


def test_resolve_async_needs_a_free_pool_thread(resolver: Resolver) -> None:
    release = threading.Event()
    busy = [
        pool.submit(lambda: release.wait(DEADLINE), wait=DEADLINE)
        for _ in range(pool.MAX_POOL_SIZE)
    ]
    try:
        with pytest.raises(IoError, match="pool saturated"):
            resolve_async("host.test", Token())
        assert texts(resolve_async("::1", Token())) == ["::1"]
    finally:
        release.set()
        for future in busy:
            future.result(DEADLINE)


@pytest.mark.parametrize(
    ("addrs", "ordered"),
    [
        ("", ""),
        ("1.1.1.1", "1.1.1.1"),
        ("::1", "::1"),
        ("1.1.1.1 ::1", "::1 1.1.1.1"),
        ("1.1.1.1 2.2.2.2 ::1 ::2", "::1 1.1.1.1 ::2 2.2.2.2"),
        ("1.1.1.1 2.2.2.2 3.3.3.3 ::1", "::1 1.1.1.1 2.2.2.2 3.3.3.3"),
        ("::3 ::2 ::1 1.1.1.1", "::3 1.1.1.1 ::2 ::1"),
        ("2.2.2.2 1.1.1.1", "2.2.2.2 1.1.1.1"),
    ],
)
def test_families_take_turns_v6_first(addrs: str, ordered: str) -> None:
    given = [IpAddr(text) for text in addrs.split()]
    copy = list(given)
    assert texts(order_happy_eyeballs(given)) == ordered.split()
    assert given == copy

"""Which proxy stands before which server: what the caller said, and what the environment says."""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from flare.errors import ValidationError
from flare.http.client.target import Origin
from flare.http.proto.url import Url, UrlParseError

if TYPE_CHECKING:
    from ipaddress import IPv4Network, IPv6Network

__all__ = ["Proxies", "Proxy", "environment_of"]

_DEFAULT_PORTS = {"http": 80, "socks5": 1080, "socks5h": 1080}
_MAX_SOCKS_TEXT = 255  # RFC 1929 section 2


class Proxy(NamedTuple):
    """An HTTP or SOCKS5 proxy. ``socks5h`` looks names up itself, ``socks5`` gets addresses."""

    scheme: str
    host: str
    port: int
    username: str = ""
    password: str = ""

    @classmethod
    def parse(cls, text: str) -> Proxy:
        """The proxy at *text*: ``http://user:password@host:port``, ``socks5://…``, ``socks5h://…``
        or ``host:port`` alone. Raises ``ValidationError``, which does not repeat a password."""
        scheme, mark, rest = text.strip().partition("://")
        if not mark:
            scheme, rest = "http", scheme
        scheme = scheme.lower()
        if scheme not in _DEFAULT_PORTS:
            raise ValidationError(
                "proxy", f"unsupported: {scheme[:20]!a}, only http, socks5 and socks5h are"
            )
        try:
            url = Url.parse(f"http://{rest}")
        except UrlParseError as exc:
            raise ValidationError("proxy", f"not a host with a port: {exc.args[0]}") from None
        if url.path not in ("", "/") or url.query or url.fragment:
            raise ValidationError("proxy", f"{url.host} has a path behind it")
        port = url.port
        if port == 80 and not rest.rstrip("/").endswith(":80"):
            port = _DEFAULT_PORTS[scheme]
        proxy = cls(scheme, url.host, port, url.username, url.password)
        if scheme != "http":
            for each in proxy.credentials():
                if len(each) > _MAX_SOCKS_TEXT or (proxy.username and not each):
                    raise ValidationError(
                        "proxy", "SOCKS5 takes names and passwords of 1..255 bytes"
                    )
        elif ":" in url.username:
            raise ValidationError("proxy", "a user name may not have a colon (RFC 7617)")
        return proxy

    @property
    def name(self) -> str:
        """``host:port``, for messages."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def credentials(self) -> tuple[bytes, bytes]:
        """User name and password as bytes, empty where there are none."""
        return self.username.encode(), self.password.encode()

    def authorization(self) -> bytes:
        """The ``Proxy-Authorization`` line (RFC 9110 section 11.7.2), or nothing."""
        if not (self.username or self.password):
            return b""
        return b"Proxy-Authorization: Basic " + b64encode(b":".join(self.credentials())) + b"\r\n"

    def __repr__(self) -> str:
        return f"Proxy({self.scheme}://{self.name})"


class Proxies:
    """Finds the proxy for an origin.

    *explicit* is for every origin, ``""`` for none at all, ``None`` leaves it to *environment*
    (as it is now: later changes are not seen): ``HTTPS_PROXY`` or ``HTTP_PROXY`` by scheme, else
    ``ALL_PROXY``, each also in lower case. ``NO_PROXY`` excepts hosts from all of them.
    """

    __slots__ = ("_all", "_by_scheme", "_exceptions")

    def __init__(self, explicit: str | None, environment: Mapping[str, str]) -> None:
        self._exceptions = _Exceptions(_lookup(environment, "NO_PROXY"))
        self._by_scheme: dict[str, Proxy] = {}
        self._all: Proxy | None = None
        if explicit is not None:
            if not isinstance(explicit, str):
                raise TypeError(
                    "proxy must be one URL, such as 'http://proxy:3128', for all schemes, "
                    f"not {type(explicit).__name__}; HTTP_PROXY and HTTPS_PROXY tell them apart"
                )
            self._all = Proxy.parse(explicit) if explicit else None
            return
        for scheme in ("http", "https"):
            # A CGI program's HTTP_PROXY is its client's field "Proxy" (httpoxy, CVE-2016-5385).
            cgi = scheme == "http" and "REQUEST_METHOD" in environment
            text = _lookup(environment, f"{scheme}_proxy" if cgi else f"{scheme.upper()}_PROXY")
            if text:
                self._by_scheme[scheme] = Proxy.parse(text)
        if text := _lookup(environment, "ALL_PROXY"):
            self._all = Proxy.parse(text)

    def before(self, origin: Origin) -> Proxy | None:
        """The proxy to reach *origin* by, if any."""
        proxy = self._by_scheme.get(origin.scheme, self._all)
        if proxy is None or self._exceptions.cover(origin.host, origin.port):
            return None
        return proxy


def environment_of(trust_env: bool) -> Mapping[str, str]:
    """The environment to look at; with *trust_env* false an empty one."""
    return os.environ if trust_env else {}


def _lookup(environment: Mapping[str, str], name: str) -> str:
    return (environment.get(name) or environment.get(name.lower()) or "").strip()


class _Exceptions:
    """``NO_PROXY``: hosts, which stand for what is below them too, addresses and networks, each
    with a port or without; ``*`` is everything."""

    __slots__ = ("_all", "_hosts", "_networks")

    def __init__(self, text: str) -> None:
        self._all = text == "*"
        self._hosts: set[tuple[str, int | None]] = set()
        self._networks: list[tuple[IPv4Network | IPv6Network, int | None]] = []
        for entry in text.replace(" ", ",").split(","):
            if entry and not self._all:
                self._add(entry.lower())

    def _add(self, entry: str) -> None:
        from ipaddress import ip_network

        host, port = _split_port(entry)
        try:
            self._networks.append((ip_network(host, strict=False), port))
        except ValueError:
            self._hosts.add((host.removeprefix("*").strip("."), port))

    def cover(self, host: str, port: int) -> bool:
        """Whether *host* is among them."""
        if self._all:
            return True
        if not self._hosts and not self._networks:
            return False
        from ipaddress import ip_address

        name = host.lower().rstrip(".")
        try:
            address = ip_address(name.partition("%")[0])
        except ValueError:
            labels = name.split(".")
            suffixes = [".".join(labels[start:]) for start in range(len(labels))]
            return any((each, p) in self._hosts for each in suffixes for p in (port, None))
        return any(address in network and only in (None, port) for network, only in self._networks)


def _split_port(entry: str) -> tuple[str, int | None]:
    """``host:port``, ``[v6]:port``, ``[v6]`` or a bare host or network."""
    if entry.startswith("["):
        host, _, port = entry[1:].partition("]")
        port = port.removeprefix(":")
    elif entry.count(":") == 1:
        host, _, port = entry.partition(":")
    else:
        return entry, None
    return host, int(port) if port.isascii() and port.isdigit() else None

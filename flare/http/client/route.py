"""The way to a server: its origin, the proxy before it, and the TLS it is reached with.

A ``Route`` is the key of the pool: two calls share a connection only where all of it is equal, so
that no setting of one call (``verify=False``, another certificate, another proxy's password) is
in force for another.
"""

from __future__ import annotations

from typing import NamedTuple

from flare.http.client.proxy import Proxies, Proxy
from flare.http.client.target import Origin, Target
from flare.http.client.tls_settings import TlsSettings

__all__ = ["Route", "Routes"]

_MAX_ROUTES = 512


class Route(NamedTuple):
    """Where a connection leads, and how.

    ``tls`` is ``None`` for http. ``multiplexed`` says that it may turn out to be HTTP/2, which
    many calls share; over http that it is, or with ``upgrade``, that HTTP/1.1 may lead there.
    With ``forward`` the connection is to ``proxy``, which is itself asked for what is wanted, and
    serves every origin; otherwise ``proxy`` only leads to the server.
    """

    scheme: str
    host: str
    port: int
    tls: TlsSettings | None
    multiplexed: bool
    upgrade: bool = False
    proxy: Proxy | None = None
    forward: bool = False

    def without_h2(self) -> Route:
        """The same, for a server that wants HTTP/1.1 after all."""
        tls = None if self.tls is None else self.tls.without_h2()
        return self._replace(tls=tls, multiplexed=False, upgrade=False)


class Routes:
    """Finds the route to an origin, by a client's settings. Safe from any thread."""

    __slots__ = ("_h2c_upgrade", "_known", "_prefer_h2c", "_proxies", "tls")

    def __init__(
        self,
        tls: TlsSettings,
        proxies: Proxies,
        *,
        prefer_h2c: bool = False,
        h2c_upgrade: bool = False,
    ) -> None:
        self.tls = tls
        self._proxies = proxies
        self._prefer_h2c = prefer_h2c
        self._h2c_upgrade = h2c_upgrade and not prefer_h2c
        self._known: dict[Origin, Route] = {}

    def to(self, target: Target, tls: TlsSettings) -> Route:
        """The route to *target*, of this client alone, with *tls*, which matters for https."""
        if tls is not self.tls and target.origin.scheme == "https":
            return self._find(target.origin, tls)
        route = target.route
        if route is None:
            # The same one for all targets of an origin: the pool compares them.
            route = self._known.get(target.origin)
            if route is None:
                route = self._find(target.origin, tls)
                if len(self._known) >= _MAX_ROUTES:
                    self._known.clear()
                self._known[target.origin] = route
            target.route = route
        return route

    def _find(self, origin: Origin, tls: TlsSettings) -> Route:
        proxy = self._proxies.before(origin)
        if origin.scheme == "https":
            return Route(*origin, tls, tls.offers_h2, proxy=proxy)
        if self._prefer_h2c:
            return Route(*origin, None, True, proxy=proxy)
        if proxy is not None and proxy.scheme == "http":
            return Route("http", proxy.host, proxy.port, None, False, proxy=proxy, forward=True)
        return Route(*origin, None, self._h2c_upgrade, self._h2c_upgrade, proxy)

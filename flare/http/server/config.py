"""What bounds a server: sizes in bytes, times in milliseconds, counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from flare.errors import ValidationError
from flare.http.forwarded import Forwarding
from flare.http.proto.h1_leniency import H1LeniencyConfig
from flare.http.proto.heads import H1Limits
from flare.http2 import Http2Config

__all__ = ["ServerConfig"]

_MIB = 1024 * 1024
_LEAST = {
    "read_buffer_size": 1,
    "max_header_size": 1,
    "max_uri_length": 1,
    "max_body_size": 0,
    "max_keepalive_requests": 0,
    "max_connections": 0,
    "handler_queue": 0,
    "shutdown_timeout_ms": 0,
    "max_requests": 0,
    "max_requests_jitter": 0,
    "idle_timeout_ms": 0,
    "header_timeout_ms": 0,
    "write_timeout_ms": 0,
    "read_body_timeout_ms": 0,
    "handler_timeout_ms": 0,
    "request_timeout_ms": 0,
    "handler_threads": 1,
    "backlog": 1,
}


@dataclass(slots=True)
class ServerConfig:
    """The limits of an ``HttpServer``. Past one, a client gets the status in brackets.

    A time of 0 switches that deadline off; everything is finite by default.
    """

    read_buffer_size: int = 8192
    """Bytes asked of the system at once."""
    max_header_size: int = 8192
    """All field lines of one request together (431)."""
    max_body_size: int = 10 * _MIB
    """The body of one request, decoded from its transfer coding (413)."""
    max_uri_length: int = 8192
    """The request target (414)."""
    keep_alive: bool = True
    """False closes the connection after every response."""
    max_keepalive_requests: int = 0
    """The response of that number on a connection is its last; 0: no such limit."""
    idle_timeout_ms: int = 30_000
    """Silence before the first byte of a request, on a new connection and between requests."""
    header_timeout_ms: int = 10_000
    """From the first byte of a head to its last (408)."""
    write_timeout_ms: int = 5_000
    """A response that makes no progress because the client does not read."""
    shutdown_timeout_ms: int = 5_000
    """What requests in progress get at a SIGTERM or SIGINT before they are cut off."""
    expose_error_messages: bool = False
    """Show the text of a handler's exception to the client. For development."""
    read_body_timeout_ms: int = 30_000
    """From the end of a head to the last byte of its body (408)."""
    handler_timeout_ms: int = 30_000
    """One call of the handler (503, its late response dropped). With ``dispatch="inline"`` a
    late one is logged, no more."""
    request_timeout_ms: int = 60_000
    """From the first byte of a request to the last before its handler is called (408)."""
    dispatch: str = "auto"
    """Where handlers run: ``"inline"``, on the loop's thread; ``"pool"``, on a thread of their
    own; ``"auto"``, on the loop's until they prove slow."""
    handler_threads: int = 64
    """Handlers of a worker that may run off its loop at once."""
    handler_queue: int = 1024
    """Requests that may wait for such a thread; past it 503 with ``Retry-After``."""
    h1_leniency: H1LeniencyConfig = field(default_factory=H1LeniencyConfig.strict)
    """Which bent HTTP/1.1 is read all the same; none."""
    http2: bool = True
    """Speak HTTP/2 with clients that begin with its preface, or agree on it by ALPN."""
    h2c_upgrade: bool = True
    """Go on in HTTP/2 where a request over plain TCP asks for it (``Upgrade: h2c``). Never for one
    that came through a proxy, by ``trusted_proxies`` or by a ``Via``, ``Forwarded`` or
    ``X-Forwarded-*`` field: its later requests would pass the proxy unseen. Switch it off behind
    a proxy that adds none of these and passes ``Upgrade`` on."""
    h2_config: Http2Config | None = None
    """The limits of an HTTP/2 connection; ``None``: ``Http2Config``'s own, with those that are
    here as well, see ``http2_config``."""
    max_connections: int = 0
    """Open connections a worker; at that number the next ones wait in the kernel. 0: no limit."""
    access_log: bool = False
    """One line a request on the logger ``flare.access``, level INFO."""
    backlog: int = 1024
    """Connections that may wait in the kernel to be accepted, for each listening socket."""
    use_bufring: bool | None = None
    """Serve by io_uring, where the system has it (Linux 6.0). ``None``: where the environment
    variable ``FLARE_BUFRING_HANDLER`` is 1."""
    max_requests: int = 0
    """A worker process that has had so many requests is replaced by a new one, and refuses none
    meanwhile. 0: never. Workers that are threads go on."""
    max_requests_jitter: int = 0
    """Up to so many more, by chance, so that workers are not all replaced at once."""
    on_worker_start: Callable[[], Any] | None = None
    """Called once for each worker before it accepts: in its process, where it has one of its own,
    and on the thread that called ``serve`` where workers are threads. The place to open a
    database pool, which must not come through a fork. What it raises ends ``serve``."""
    on_worker_stop: Callable[[], Any] | None = None
    """The same at the end of each worker, when its handlers have returned. What it raises is
    logged. A worker that crashed, or had to be killed, does not call it."""

    trusted_proxies: Sequence[str] = ()
    """The proxies whose word about a client counts: addresses and networks such as
    ``"10.0.0.0/8"``, and ``"unix"`` for whoever connects to a Unix socket. It shows in
    ``Request.client``, ``scheme`` and ``host``."""
    forwarded_headers: Sequence[str] = ("x-forwarded-for", "x-forwarded-proto")
    """The header fields that each of these proxies sets, or removes, on every request: what it
    passes through as it came was written by the client. ``"forwarded"`` alone, or some of
    ``"x-forwarded-for"``, ``"-proto"``, ``"-host"`` and ``"-port"``."""
    proxy_protocol: bool = False
    """A connection from one of ``trusted_proxies`` begins with a PROXY header, of version 1 or 2,
    within ``header_timeout_ms``, or is closed. The address in it is ``Request.peer``."""

    def validate(self, *, strict: bool = False) -> None:
        """Raise ``ValidationError`` naming the first field that makes no sense.

        *strict* also asks that a body may be as large as a head, as ``serve_comptime`` does.
        """
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if not isinstance(value, int):
                raise ValidationError(name, f"must be an int, got {value!r}")
            if value < least:
                raise ValidationError(name, f"must be >= {least}, got {value}")
        if self.dispatch not in ("auto", "inline", "pool"):
            raise ValidationError(
                "dispatch", f"must be 'auto', 'inline' or 'pool', got {self.dispatch!r}"
            )
        for name, kind in (("h1_leniency", H1LeniencyConfig), ("h2_config", Http2Config | None)):
            value = getattr(self, name)
            if not isinstance(value, kind):
                what = "an H1LeniencyConfig" if name == "h1_leniency" else "an Http2Config or None"
                raise ValidationError(name, f"must be {what}, got {value!r}")
        for name in ("on_worker_start", "on_worker_stop"):
            value = getattr(self, name)
            if value is not None and not callable(value):
                raise ValidationError(name, f"must be callable or None, got {value!r}")
        self.http2_config().validate()
        forwarding = Forwarding(self.trusted_proxies, self.forwarded_headers)
        if self.proxy_protocol and not forwarding.trusted:
            raise ValidationError("proxy_protocol", "nobody is in trusted_proxies")
        if strict and self.max_body_size < self.max_header_size:
            raise ValidationError(
                "max_body_size",
                f"must be >= max_header_size ({self.max_header_size}), got {self.max_body_size}",
            )
        for name in ("handler_timeout_ms", "read_body_timeout_ms"):
            inner = getattr(self, name)
            if self.request_timeout_ms and inner and self.request_timeout_ms < inner:
                raise ValidationError(
                    "request_timeout_ms",
                    f"must be >= {name} ({inner}), got {self.request_timeout_ms}",
                )

    def forwarding(self) -> Forwarding | None:
        """Whose word about clients counts; ``None`` for nobody's."""
        forwarding = Forwarding(self.trusted_proxies, self.forwarded_headers)
        return forwarding if forwarding.trusted else None

    def h1_limits(self) -> H1Limits:
        """The part of it that the HTTP/1.1 codec enforces."""
        leniency = self.h1_leniency
        return H1Limits(
            max_header_size=self.max_header_size,
            max_uri_length=self.max_uri_length,
            max_body_size=self.max_body_size,
            h1_leniency=leniency if leniency.any_enabled() else H1Limits().h1_leniency,
        )

    def http2_config(self) -> Http2Config:
        """The limits of an HTTP/2 connection: ``h2_config``, or those that follow from the rest."""
        if self.h2_config is not None:
            return self.h2_config
        return Http2Config(
            # Each field counts 32 bytes more there (RFC 9113 section 6.5.2).
            max_header_list_size=self.max_header_size + self.max_uri_length,
            max_body_size=self.max_body_size,
            header_timeout_ms=self.header_timeout_ms,
            write_timeout_ms=self.write_timeout_ms,
        )

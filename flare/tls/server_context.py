"""The server's ``ssl.SSLContext``s: one that connections begin with, one for each certificate.

A connection begins with the *base* context. As soon as the client has said which host it wants, the
callback below gives it the context with that host's certificate. So certificates can be exchanged
under a base that stays, and with it the keys of the tickets it issued. A context is never altered
once it serves: connections of other threads are using it.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any

from flare.tls.engine import ServerObject
from flare.tls.errors import TlsServerError, load_cause
from flare.tls.policy import ChainError, FilePath, apply_policy, load_chain
from flare.tls.server_config import TlsServerConfig

__all__ = ["Certificates", "base_context"]


class Certificates:
    """A context for each certificate of *config*: immutable, replaced as a whole."""

    __slots__ = ("_by_name", "default")

    def __init__(self, config: TlsServerConfig) -> None:
        """Load every file; ``TlsServerError`` for one that cannot be used."""
        self.default = _build(config, config.cert_file, config.key_file)
        self._by_name = {
            name.lower(): _build(config, cert, key)
            for name, (cert, key) in config.sni_certs.items()
        }

    def for_host(self, host: str) -> ssl.SSLContext:
        """The context for *host*, in lower case: its own, its domain's, or the default."""
        found = self._by_name.get(host)
        if found is None:
            _, _, parent = host.partition(".")
            found = self._by_name.get(f"*.{parent}", self.default)
        return found


def base_context(config: TlsServerConfig, current: Callable[[], Certificates]) -> ssl.SSLContext:
    """A context for connections to begin with; *current* are the certificates of the moment.

    The context keeps *current* alive, so it must not refer to the context's owner.
    """
    context = _build(config, config.cert_file, config.key_file)
    context.sslobject_class = ServerObject

    def choose(connection: Any, name: str | None, _: ssl.SSLContext) -> None:
        # An exception here would end the handshake, and be printed to stderr for each client.
        host = (name or "").lower().removesuffix(".")
        connection.sni_host = host
        connection.context = current().for_host(host)

    context.sni_callback = choose
    return context


def _build(config: TlsServerConfig, cert: FilePath, key: FilePath) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    apply_policy(context, config.min_protocol, config.alpn)
    try:
        load_chain(context, cert, key, config.key_password)
    except ChainError as exc:
        raise TlsServerError(f"certificate load failed: {exc}", exc.errno or 0) from exc
    context.verify_mode = config.verify_mode()
    if context.verify_mode != ssl.CERT_NONE:
        try:
            context.load_verify_locations(config.client_ca_bundle)
        except (OSError, ValueError) as exc:
            raise _failed("client CA bundle", exc, config.client_ca_bundle) from exc
    if not config.enable_session_tickets:
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0  # TLS 1.3 has tickets of another kind, which that leaves on
    if config.keylog_file:
        try:
            context.keylog_filename = str(config.keylog_file)
        except (OSError, ValueError) as exc:
            raise _failed("key log file", exc, config.keylog_file) from exc
    return context


def _failed(what: str, exc: Exception, path: FilePath) -> TlsServerError:
    code = exc.errno or 0 if isinstance(exc, OSError) and not isinstance(exc, ssl.SSLError) else 0
    return TlsServerError(f"{what} load failed: {load_cause(exc, path)}", code)

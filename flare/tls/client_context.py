"""The client's ``ssl.SSLContext``s: built from a ``TlsConfig``, and kept.

Kept because loading the trusted certificates takes many milliseconds, and because a session can
only be resumed with the context it was made with.
"""

from __future__ import annotations

import os
import ssl
import threading
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

from flare.tls.config import TlsConfig, TlsVerify
from flare.tls.errors import CertificateUntrusted, TlsHandshakeError, load_cause
from flare.tls.policy import ChainError, FilePath, apply_policy, file_stamp, load_chain

__all__ = ["ClientContext", "client_context"]

# More different configurations than this in turn cost a rebuild each. A context with certifi's
# bundle takes about a megabyte.
_MAX_KEPT = 32


@dataclass(frozen=True, slots=True)
class ClientContext:
    """A context, and what it was made of: equal keys mean that sessions can go from one to it."""

    key: Hashable
    context: ssl.SSLContext


_kept: OrderedDict[Hashable, ClientContext] = OrderedDict()
_kept_lock = threading.Lock()  # guards _kept


def _renew_lock_in_child() -> None:
    """After a fork, in the child: the lock may have been held by a thread that is not here."""
    global _kept_lock
    _kept_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock_in_child)


def client_context(config: TlsConfig) -> ClientContext:
    """The context for *config*, a kept one where there is one.

    Raises ``TlsHandshakeError`` for files that cannot be used, ``CertificateUntrusted`` where
    there is nothing to trust, ``ValidationError`` for settings that cannot be meant.
    """
    config.check()
    key: Hashable
    if config.ssl_context is not None:
        return ClientContext(config.cache_key(), config.ssl_context)
    trust = _environment_trust() if _by_default(config) else ("", "")
    key = (config.cache_key(), trust, file_stamp(trust[0]))
    with _kept_lock:
        found = _kept.get(key)
        if found is not None:
            _kept.move_to_end(key)
            return found
    made = ClientContext(key, _build(config, trust))
    with _kept_lock:
        # Of two threads that built it at once both get the first one's, for their sessions' sake.
        made = _kept.setdefault(key, made)
        while len(_kept) > _MAX_KEPT:
            _kept.popitem(last=False)
    return made


def _by_default(config: TlsConfig) -> bool:
    return config.verify == TlsVerify.REQUIRED and not config.ca_bundle


def _environment_trust() -> tuple[str, str]:
    return os.environ.get("SSL_CERT_FILE", ""), os.environ.get("SSL_CERT_DIR", "")


def _build(config: TlsConfig, trust: tuple[str, str]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    apply_policy(context, config.min_protocol, config.alpn)
    context.hostname_checks_common_name = False  # RFC 9110 section 4.3.4
    if config.verify == TlsVerify.NONE:
        context.check_hostname = False  # before the mode: the other order is refused
        context.verify_mode = ssl.CERT_NONE
    else:
        _load_trust(context, config, trust)
    if config.cert_file:
        try:
            load_chain(context, config.cert_file, config.key_file, config.key_password)
        except ChainError as exc:
            raise TlsHandshakeError(f"mTLS cert/key load failed: {exc}") from exc
    if config.keylog_file:
        try:
            context.keylog_filename = str(config.keylog_file)
        except (OSError, ValueError) as exc:
            raise TlsHandshakeError(
                f"key log file cannot be opened: {load_cause(exc, config.keylog_file)}"
            ) from exc
    return context


def _load_trust(context: ssl.SSLContext, config: TlsConfig, trust: tuple[str, str]) -> None:
    if config.ca_bundle:
        if os.path.isdir(config.ca_bundle):
            _load_bundle(context, "", config.ca_bundle)
        else:
            _load_bundle(context, config.ca_bundle, "")
    elif any(trust):
        _load_bundle(context, *trust)
    elif config.system_trust:
        context.load_default_certs()
    else:
        try:
            import certifi
        except ImportError as exc:
            raise CertificateUntrusted(
                "there is nobody to trust: set ca_bundle=, or system_trust=True for the system's "
                "certificates, or install certifi"
            ) from exc
        _load_bundle(context, certifi.where(), "")


def _load_bundle(context: ssl.SSLContext, file: FilePath, directory: FilePath) -> None:
    try:
        context.load_verify_locations(file or None, directory or None)
    except (OSError, ValueError) as exc:
        raise TlsHandshakeError(
            f"CA bundle load failed: {load_cause(exc, file or directory)}"
        ) from exc

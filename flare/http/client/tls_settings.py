"""How a client does TLS: what its caller said, as one value that can be part of the pool's key.

``flare.tls``, and ``ssl`` with it, is loaded with the first https connection, not before.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

from flare.errors import ValidationError

if TYPE_CHECKING:
    from flare.tls import TlsConfig, TlsSession, TlsStream

__all__ = ["Cert", "SessionCache", "TlsSettings", "Verify"]

Verify = bool | str | os.PathLike[str]
Cert = str | os.PathLike[str] | tuple[str | os.PathLike[str], str | os.PathLike[str]]

H2 = "h2"
HTTP_1_1 = "http/1.1"
_OFFER: tuple[str, ...] = (H2, HTTP_1_1)
_MAX_DERIVED = 32
_MAX_SESSIONS = 256


class TlsSettings:
    """A ``TlsConfig`` with ``verify`` and ``cert`` on top of it. Immutable, compared by value.

    *verify*: ``True`` or ``False``, or a path to the certificates to trust; *cert*: our own
    certificate, with its key in the same file or as a pair; ``None``: as *config* says. A later
    change of *config* has no effect. Raises ``ValidationError``.
    """

    __slots__ = ("_changes", "_derived", "_given", "_hash", "_key", "_made", "_offer")

    def __init__(
        self,
        config: TlsConfig | None = None,
        verify: Verify | None = None,
        cert: Cert | None = None,
    ) -> None:
        self._changes: dict[str, Any] = {}
        if verify is not None:
            self._changes.update(_verify_fields(verify))
        if cert is not None:
            self._changes.update(_cert_fields(cert))
        self._given: TlsConfig | None = None
        self._offer = _OFFER
        if config is not None:
            self._given = _copy(config)
            self._offer = tuple(config.alpn) or _OFFER
        self._made: TlsConfig | None = None
        self._derived: dict[Hashable, TlsSettings] = {}
        self._set_key()

    def _set_key(self) -> None:
        given = None if self._given is None else _fields_of(self._given)
        self._key = (given, tuple(sorted(self._changes.items())), self._offer)
        self._hash = hash(self._key)

    def config(self) -> TlsConfig:
        """What to connect with. Raises ``ValidationError``."""
        if self._made is None:
            from flare.tls import TlsConfig

            given = TlsConfig() if self._given is None else self._given
            self._made = _copy(given, alpn=list(self._offer), **self._changes)
        return self._made

    def but(self, verify: Verify | None, cert: Cert | None) -> TlsSettings:
        """The same with another *verify*, *cert* or both. Raises ``ValidationError``."""
        if verify is None and cert is None:
            return self
        key = (verify if isinstance(verify, bool) else str(verify), type(verify), str(cert))
        known = self._derived.get(key)
        if known is None:
            known = TlsSettings(self._given, verify, cert)
            known._changes = {**self._changes, **known._changes}
            known._set_key()
            self._remember(key, known)
        return known

    def without_h2(self) -> TlsSettings:
        """The same, for a server that wants HTTP/1.1 after all."""
        known = self._derived.get(HTTP_1_1)
        if known is None:
            known = TlsSettings(self._given)
            known._changes = self._changes
            known._offer = (HTTP_1_1,)
            known._set_key()
            self._remember(HTTP_1_1, known)
        return known

    def _remember(self, key: Hashable, derived: TlsSettings) -> None:
        if len(self._derived) >= _MAX_DERIVED:
            self._derived.clear()
        self._derived[key] = derived

    @property
    def offers_h2(self) -> bool:
        """Whether the connection may turn out to be HTTP/2."""
        if self._given is not None and self._given.ssl_context is not None:
            return True  # what that offers cannot be asked
        return H2 in self._offer

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, TlsSettings) and self._key == other._key)

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"TlsSettings({self._offer})"  # the rest may hold a password


def _verify_fields(verify: Verify) -> dict[str, Any]:
    if verify is True:
        return {"verify": 1}
    if verify is False:
        return {"verify": 0, "ca_bundle": ""}
    if isinstance(verify, (str, os.PathLike)) and os.fspath(verify):
        return {"verify": 1, "ca_bundle": os.fspath(verify)}
    raise ValidationError("verify", f"must be True, False or a path, got {verify!r}")


def _cert_fields(cert: Cert) -> dict[str, Any]:
    pair = cert if isinstance(cert, tuple) else (cert, "")
    if len(pair) != 2 or not all(isinstance(each, (str, os.PathLike)) for each in pair):
        raise ValidationError("cert", "must be a path, or a pair of certificate and key")
    return {"cert_file": os.fspath(pair[0]), "key_file": os.fspath(pair[1])}


def _copy(config: TlsConfig, **changes: Any) -> TlsConfig:
    from dataclasses import replace  # loaded by flare.tls anyway, but only with it

    changes.setdefault("alpn", list(config.alpn))
    return replace(config, **changes)


def _fields_of(config: TlsConfig) -> Hashable:
    """Every field of *config*, as what can be compared and hashed."""
    values = (getattr(config, name) for name in type(config).__dataclass_fields__)
    return tuple(tuple(each) if isinstance(each, list) else each for each in values)


class SessionCache:
    """Sessions to resume, each for where it came from. Safe from any thread.

    Each is used once, as TLS 1.3 wants it (RFC 8446 appendix C.4).
    """

    __slots__ = ("_lock", "_sessions")

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards _sessions
        self._sessions: OrderedDict[Hashable, TlsSession] = OrderedDict()

    def take(self, key: Hashable) -> TlsSession | None:
        """The newest session kept for *key*, which is then forgotten."""
        with self._lock:
            return self._sessions.pop(key, None)

    def keep(self, key: Hashable, stream: TlsStream) -> None:
        """Keep the newest session of *stream*, if it has one."""
        session = stream.session()
        if not session:
            return
        with self._lock:
            self._sessions[key] = session
            self._sessions.move_to_end(key)
            if len(self._sessions) > _MAX_SESSIONS:
                self._sessions.popitem(last=False)

    def forget_in_child(self) -> None:
        """After a fork, in the child: the lock may have been held by a thread that is not here."""
        self._lock = threading.Lock()

"""Digest authentication (RFC 7616): the password is proved, and never sent.

MD5, SHA-256 and SHA-512-256, each as ``-sess`` too, and qop ``auth`` and ``auth-int``; of several
algorithms offered the strongest is taken.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import threading
from collections.abc import Callable, Iterable

from flare.errors import ValidationError
from flare.http.client.auth import ChallengedAuth, Signing
from flare.http.proto.challenge import Challenge, parse_challenges
from flare.http.proto.headers import HeaderMap

__all__ = ["DigestAuth"]

_Hash = Callable[[bytes], str]
_MAX_ORIGINS = 64
_MAX_PARAM_CHARS = 4096
_find_control = re.compile(r"[\x00-\x1f\x7f]").search


def _md5(data: bytes) -> str:
    # It may be all that a server knows; on systems that forbid MD5 it is no security measure here.
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _sha512_256(data: bytes) -> str:
    return hashlib.new("sha512_256", data).hexdigest()


# The strongest last.
_HASHES: dict[str, _Hash] = {"md5": _md5, "sha-512-256": _sha512_256, "sha-256": _sha256}
_STRENGTH = {name: strength for strength, name in enumerate(_HASHES)}
if "sha512_256" not in hashlib.algorithms_available:
    del _HASHES["sha-512-256"]


# Guards what every DigestAuth has learned; one for all, to be renewed after a fork.
_lock = threading.Lock()


def _renew_lock_in_child() -> None:
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock_in_child)


class DigestAuth(ChallengedAuth):
    """A user name and a password (RFC 7616), in UTF-8.

    The first request to an origin goes without, and once more with the answer to its challenge;
    what was learned holds for later requests to that origin, and for no other. A body that is
    streamed must be a file for that: what cannot be sent again leaves the 401 as the answer. Safe
    from any thread. A control character raises ``ValidationError``.
    """

    def __init__(self, username: str, password: str) -> None:
        for name, value in (("username", username), ("password", password)):
            if _find_control(value):
                raise ValidationError(name, "may not contain control characters")
        self._username = username
        self._password = password
        self._spaces: dict[str, _Space] = {}

    def authorize(self, request: Signing, headers: HeaderMap) -> None:
        """Set ``Authorization`` where the origin is known to want it."""
        with _lock:
            space = self._spaces.get(request.origin)
            if space is None:
                return
            space.count += 1
            count = space.count
        answer = space.answer(self._username, self._password, request, count)
        if answer:
            headers.set("Authorization", answer)

    def challenged(self, request: Signing, challenges: Iterable[str], *, again: bool) -> bool:
        """Learn from a 401; see ``ChallengedAuth``. After an answer only a stale nonce is worth
        another one: with another challenge the password is wrong."""
        spaces = [
            space
            for challenge in parse_challenges(challenges)
            if (space := _Space.of(challenge, request)) is not None
        ]
        if not spaces:
            return False
        space = max(spaces, key=lambda each: each.strength)
        if again and not space.stale:
            return False
        with _lock:
            if len(self._spaces) >= _MAX_ORIGINS:
                self._spaces.clear()
            self._spaces[request.origin] = space
        return True

    def __repr__(self) -> str:
        return "DigestAuth(username='***', password='***')"


class _Space:
    """A challenge that can be answered, and how often it was."""

    def __init__(self, challenge: Challenge, algorithm: str, qop: str) -> None:
        params = challenge.params
        name = algorithm.removesuffix("-sess")
        self.algorithm = params.get("algorithm", "")
        self.session = algorithm.endswith("-sess")
        self.hash = _HASHES[name]
        self.strength = _STRENGTH[name]
        self.qop = qop
        self.realm = params["realm"]
        self.nonce = params["nonce"]
        self.opaque = params.get("opaque")
        self.stale = params.get("stale", "").lower() == "true"
        self.userhash = params.get("userhash", "").lower() == "true"
        self.count = 0

    @classmethod
    def of(cls, challenge: Challenge, request: Signing) -> _Space | None:
        """*challenge*, or ``None`` where it cannot be answered for *request*."""
        params = challenge.params
        if challenge.scheme != "digest" or "realm" not in params or not params.get("nonce"):
            return None
        if any(len(text) > _MAX_PARAM_CHARS or _find_control(text) for text in params.values()):
            return None
        algorithm = params.get("algorithm", "MD5").lower()
        if algorithm.removesuffix("-sess") not in _HASHES:
            return None
        qop = ""
        if "qop" in params:  # without, RFC 2069
            offered = [each.strip(" \t").lower() for each in params["qop"].split(",")]
            if "auth" in offered:
                qop = "auth"
            elif "auth-int" in offered and request.body is not None:
                qop = "auth-int"
            else:
                return None
        return cls(challenge, algorithm, qop)

    def answer(self, username: str, password: str, request: Signing, count: int) -> str:
        """The value of ``Authorization`` (RFC 7616 section 3.4); ``""`` where *request* has a body
        that cannot be hashed and has to be."""
        digest = self.hash
        name = username.encode()
        realm = self.realm.encode("latin-1", "replace")
        nonce = self.nonce.encode("latin-1", "replace")
        cnonce = secrets.token_hex(16)
        secret = digest(name + b":" + realm + b":" + password.encode())
        if self.session:
            secret = digest(b"%b:%b:%b" % (secret.encode(), nonce, cnonce.encode()))
        action = f"{request.method}:{request.target}".encode("latin-1")
        if self.qop == "auth-int":
            if request.body is None:
                return ""
            action += b":" + digest(request.body).encode()
        proof = [secret.encode(), nonce]
        counter = f"{count:08x}"
        if self.qop:
            proof += [counter.encode(), cnonce.encode(), self.qop.encode()]
        proof.append(digest(action).encode())
        parts = [
            self._user(name),
            f"realm={_quoted(self.realm)}",
            f"nonce={_quoted(self.nonce)}",
            f"uri={_quoted(request.target)}",
            f'response="{digest(b":".join(proof))}"',
        ]
        if self.algorithm:
            parts.append(f"algorithm={self.algorithm}")
        if self.opaque is not None:
            parts.append(f"opaque={_quoted(self.opaque)}")
        if self.qop:
            parts += [f"qop={self.qop}", f"nc={counter}"]
        if self.qop or self.session:
            parts.append(f'cnonce="{cnonce}"')
        if self.userhash:
            parts.append("userhash=true")
        return "Digest " + ", ".join(parts)

    def _user(self, name: bytes) -> str:
        if self.userhash:
            realm = self.realm.encode("latin-1", "replace")
            return f'username="{self.hash(name + b":" + realm)}"'
        if name.isascii():
            return f"username={_quoted(name.decode())}"
        if not self.algorithm:  # RFC 2069 and 2617 know no other form
            return f"username={_quoted(name.decode('latin-1'))}"
        from urllib.parse import quote

        return f"username*=UTF-8''{quote(name, safe='')}"  # RFC 8187


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'

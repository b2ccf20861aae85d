"""The error of failed look-ups, here and not in ``flare.errors`` because its base is socket's."""

from __future__ import annotations

import socket
from typing import Any

from flare.errors import NetworkError

__all__ = ["DnsError"]


class DnsError(NetworkError, socket.gaierror):
    """A host name could not be resolved. ``code`` is the ``EAI_*`` number, or 0."""

    def __init__(self, host: str, code: int = 0, reason: str = "") -> None:
        super().__init__(reason, code)
        self.host = host
        self.reason = reason

    def __str__(self) -> str:
        return f"DnsError({self.host}): {self.reason}"

    def _arguments(self) -> tuple[Any, ...]:
        return self.host, self.code, self.reason

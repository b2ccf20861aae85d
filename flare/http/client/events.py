"""The event log: what a client did, at level DEBUG of the logger ``flare.http.client``.

One line for each request sent, response head, redirect and retry. User names and passwords are no
part of a URL here; of a query the values are masked whose names tell of secrets, and of headers
all that may carry one. What a peer can choose is escaped.

``logging`` is looked for, not imported: as long as nobody has imported it, nobody can be listening.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

from flare.http.proto.fields import FieldBlock, is_secret_name

if TYPE_CHECKING:
    from logging import Logger

__all__ = ["active_log", "masked_fields", "masked_url"]

_DEBUG = 10
_logger: Logger | None = None

# Patterns as text: they are compiled by the first who logs.
_PAIRS = r"([?&;])([^=&;#]*+)=([^&;#]*+)"
# In part of a name, or the whole of a short one.
_TELLING = (
    r"(?i:.*(?:auth|code|cred|csrf|hash|jwt|key|nonce|otp|passw|pwd|secret|session|sig|token|xsrf).*"
    r"|p|pass|pin|sid|state)"
)
_MAX_URL_CHARS = 2000


def active_log() -> Logger | None:
    """The logger if it is listening for what happens here, else ``None``."""
    global _logger
    if _logger is None:
        logging = sys.modules.get("logging")
        if logging is None or not hasattr(logging, "getLogger"):
            return None
        _logger = logging.getLogger("flare.http.client")
    return _logger if _logger.isEnabledFor(_DEBUG) else None


def masked_url(url: str) -> str:
    """*url*, which has no userinfo, as one printable line without the secrets in its query."""
    shown = url[:_MAX_URL_CHARS]
    if "?" in shown:
        shown = re.sub(_PAIRS, _mask_pair, shown)
    shown = ascii(shown)[1:-1]
    return shown if len(url) <= _MAX_URL_CHARS else shown + "..."


def _mask_pair(pair: re.Match[str]) -> str:
    mark, name, value = pair.groups()
    return f"{mark}{name}={'***' if value and re.fullmatch(_TELLING, name) else value}"


def masked_fields(fields: FieldBlock) -> str:
    """The fields of a message as one printable line, without what may be a secret."""
    return ", ".join(
        f"{name}: {'***' if is_secret_name(lower) else ascii(value)[1:-1]}"
        for lower, name, value in fields.items
    )

"""The event log: what a client did, at level DEBUG of the logger ``flare.http.client``.

One line for each request sent, response head, redirect and retry. User names and passwords are no
part of a URL here; of a query the values are masked whose names tell of secrets, and of headers
all that may carry one. What a peer can choose is escaped.

``logging`` is looked for, not imported: as long as nobody has imported it, nobody can be listening.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from flare.http.proto.fields import FieldBlock, is_secret_name

if TYPE_CHECKING:
    from logging import Logger

__all__ = ["active_log", "masked_fields"]

_DEBUG = 10
_logger: Logger | None = None


def active_log() -> Logger | None:
    """The logger if it is listening for what happens here, else ``None``."""
    global _logger
    if _logger is None:
        logging = sys.modules.get("logging")
        if logging is None or not hasattr(logging, "getLogger"):
            return None
        _logger = logging.getLogger("flare.http.client")
    return _logger if _logger.isEnabledFor(_DEBUG) else None


def masked_fields(fields: FieldBlock) -> str:
    """The fields of a message as one printable line, without what may be a secret."""
    return ", ".join(
        f"{name}: {'***' if is_secret_name(lower) else ascii(value)[1:-1]}"
        for lower, name, value in fields.items
    )

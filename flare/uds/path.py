"""The paths of Unix sockets: what fits into ``sun_path``."""

from __future__ import annotations

import os
import sys

from flare.errors import ValidationError

__all__ = ["MAX_PATH_BYTES", "encode_path", "path_text"]

MAX_PATH_BYTES = 103 if sys.platform == "darwin" else 107
"""The longest path there can be: ``sun_path`` has 104 or 108 bytes, with the NUL at the end."""


def encode_path(path: str | os.PathLike[str]) -> bytes:
    """*path* as the system takes it; ``ValidationError`` where it cannot be a socket's path.

    Names of Linux's abstract namespace, which begin with NUL, are refused like any NUL.
    """
    try:
        encoded = os.fsencode(path)
    except UnicodeEncodeError as exc:
        raise ValidationError("path", f"{path!r} cannot be encoded") from exc
    if not encoded:
        raise ValidationError("path", "must not be empty")
    if b"\0" in encoded:
        raise ValidationError("path", f"{path!r} holds a NUL")
    if len(encoded) > MAX_PATH_BYTES:
        raise ValidationError(
            "path", f"must be at most {MAX_PATH_BYTES} bytes, got {len(encoded)}: {path!r}"
        )
    return encoded


def path_text(name: str | bytes) -> str:
    """The path in a socket name from the system; ``""`` for a socket without one."""
    return os.fsdecode(name)

"""Limits that several layers share."""

from typing import Final

__all__ = ["MAX_TIMEOUT_MS"]

MAX_TIMEOUT_MS: Final = 2**31 - 1
"""The longest timeout there is, 24 days: what ``poll`` can count."""

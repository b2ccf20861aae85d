"""Letter case and text of the wire, where only ASCII letters have a case.

Field names, schemes and hosts are compared by ASCII case alone (RFC 9110 section 5.1, RFC 3986
section 6.2.2.1). ``str.lower`` is wrong for them: it maps KELVIN SIGN to ``k``, so two names that
differ for a peer would be one for us.
"""

from __future__ import annotations

from typing import TypeAlias

__all__ = ["ascii_eq_ignore_case", "ascii_lower", "ascii_unchecked_string"]

BytesLike: TypeAlias = bytes | bytearray | memoryview

_TO_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


def ascii_lower(s: str) -> str:
    """*s* with ``A`` to ``Z`` lower-cased and every other character left alone."""
    return s.lower() if s.isascii() else s.translate(_TO_LOWER)


def ascii_eq_ignore_case(s: str, lowercase_literal: str) -> bool:
    """Whether *s* is *lowercase_literal*, which must be lower-case already, in any ASCII case."""
    return len(s) == len(lowercase_literal) and ascii_lower(s) == lowercase_literal


def ascii_unchecked_string(span: BytesLike) -> str:
    """The bytes as text, one character each. Never fails; meant for bytes known to be ASCII."""
    return str(span, "latin-1")

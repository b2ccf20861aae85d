"""Authentication challenges: ``WWW-Authenticate`` and ``Proxy-Authenticate`` (RFC 9110 section 11).

A field holds a list of challenges, whose parameters are a list with the same commas, so both are
told apart while reading. Time is linear in the length of the field.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

__all__ = ["Challenge", "parse_challenges"]

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_QUOTED = r'"((?:[^"\\]|\\.)*+)"'
_match_param = re.compile(rf"({_TOKEN})[ \t]*+=[ \t]*+(?:({_TOKEN})|{_QUOTED})", re.DOTALL).match
_match_scheme = re.compile(rf"({_TOKEN})(?:[ \t]++|(?=,)|\Z)").match
_match_token68 = re.compile(r"[A-Za-z0-9\-._~+/]++=*+(?=[ \t]*+(?:,|\Z))").match
_skip_blanks = re.compile(r"[ \t,]*+").match
_unquote = re.compile(r"\\(.)", re.DOTALL).sub

# Servers offer two or three schemes.
MAX_CHALLENGES = 16


@dataclass(slots=True)
class Challenge:
    """One way to authenticate: ``scheme`` and the names of ``params`` are in lower case. Where
    there is a single value instead of parameters, it is ``token68``."""

    scheme: str
    params: dict[str, str] = field(default_factory=dict)
    token68: str = ""


def parse_challenges(values: Iterable[str]) -> list[Challenge]:
    """The challenges of all field *values*, in order, at most 16.

    Of one that is malformed, and of what stands behind it in the same value, nothing is taken.
    """
    found: list[Challenge] = []
    for value in values:
        at = 0
        current: Challenge | None = None
        while (at := _end(_skip_blanks(value, at))) < len(value):
            if current is not None and not current.token68:
                param = _match_param(value, at)
                if param is not None:
                    name, token, quoted = param.groups()
                    text = token if token is not None else _unquote(r"\1", quoted)
                    current.params.setdefault(name.lower(), text)
                    at = param.end()
                    continue
            scheme = _match_scheme(value, at)
            if scheme is None or len(found) >= MAX_CHALLENGES:
                if current is not None and current in found and scheme is None:
                    found.remove(current)
                break
            current = Challenge(scheme[1].lower())
            found.append(current)
            at = scheme.end()
            token68 = _match_token68(value, at)
            if token68 is not None and not _match_param(value, at):
                current.token68 = token68[0]
                at = token68.end()
    return found


def _end(found: re.Match[str] | None) -> int:
    assert found is not None, "the pattern matches anything"
    return found.end()

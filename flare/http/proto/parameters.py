"""Field values with parameters: ``text/plain; charset=utf-8`` (RFC 9110 section 5.6.6)."""

from __future__ import annotations

import re

__all__ = ["parse_parameters"]

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_match_kind = re.compile(rf"[ \t]*+({_TOKEN}(?:/{_TOKEN})?+)[ \t]*+").match
# A value without quotes may be more than a token: boundaries are sent with "=" and "/" in them.
_PARAMETER = rf';[ \t]*+(?:({_TOKEN})[ \t]*+=[ \t]*+(?:"(QUOTED)"|([^\x00-\x20\x7f";]++))[ \t]*+)?+'
_match_escaped = re.compile(_PARAMETER.replace("QUOTED", r'(?:[^"\\]|\\.)*+'), re.DOTALL).match
_match_literal = re.compile(_PARAMETER.replace("QUOTED", r'[^"]*+')).match
_unescape = re.compile(r'\\(["\\])').sub


def parse_parameters(value: str) -> tuple[str, dict[str, str]] | None:
    r"""What stands before the parameters of *value*, and these by lower-case name.

    ``None`` where it is malformed, or one name stands in it twice. In quotes ``\"`` and ``\\`` are
    unescaped, and any other backslash is one, as in the paths that old browsers send. Browsers of
    today escape no backslash, so a value may also end in one: what makes no sense otherwise is
    read as if there were no escapes.

    >>> parse_parameters('form-data; name="a \\"b\\""')
    ('form-data', {'name': 'a "b"'})
    """
    kind = _match_kind(value)
    if kind is None:
        return None
    parameters = _read(value, kind.end(), escapes=True)
    if parameters is None:
        parameters = _read(value, kind.end(), escapes=False)
    return None if parameters is None else (kind[1], parameters)


def _read(value: str, at: int, *, escapes: bool) -> dict[str, str] | None:
    match = _match_escaped if escapes else _match_literal
    found: dict[str, str] = {}
    while at < len(value):
        parameter = match(value, at)
        if parameter is None:
            return None
        at = parameter.end()
        name, quoted, bare = parameter.groups()
        if name is None:
            continue
        name = name.lower()
        if name in found:
            return None
        if quoted is None:
            found[name] = bare
        else:
            found[name] = _unescape(r"\1", quoted) if escapes else quoted
    return found

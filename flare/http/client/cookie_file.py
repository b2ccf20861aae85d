"""A cookie jar in a file: JSON, so that reading one runs no code, whoever wrote it."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, fields
from typing import Any

from flare.errors import ValidationError
from flare.http.client.cookie_jar import StoredCookie, check_stored
from flare.http.proto.cookie_rules import MAX_AGE_SECONDS

__all__ = ["read_cookies", "write_cookies"]

_FORMAT = "flare cookies 1"
# A full jar of the largest cookies has some 13 MB.
MAX_FILE_BYTES = 32 * 1024 * 1024

_KINDS: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "bool": (bool,),
    "int": (int,),
    "float": (int, float),
    "float | None": (int, float, type(None)),
}
_FIELDS = {each.name: _KINDS[str(each.type)] for each in fields(StoredCookie)}


def write_cookies(path: str | os.PathLike[str], cookies: Iterable[StoredCookie]) -> None:
    """Write *cookies*: to a new file for its owner alone, which then takes the place of *path*."""
    path = os.fspath(path)
    document = {"format": _FORMAT, "cookies": [asdict(each) for each in cookies]}
    data = json.dumps(document, indent=1).encode("ascii")
    # mkstemp makes it with mode 0600.
    number, temporary = tempfile.mkstemp(prefix=".cookies-", dir=os.path.dirname(path) or ".")
    try:
        with open(number, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def read_cookies(path: str | os.PathLike[str], now: float) -> list[StoredCookie]:
    """The cookies in a file that ``write_cookies`` made. Raises ``ValidationError`` for another."""
    with open(path, "rb") as file:
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise ValidationError("path", f"a cookie file has at most {MAX_FILE_BYTES} bytes")
    try:
        document = json.loads(data, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise ValidationError("path", "not a cookie file: not JSON") from None
    if not isinstance(document, dict) or document.get("format") != _FORMAT:
        raise ValidationError("path", f"not a cookie file: its format is not {_FORMAT!r}")
    cookies = document.get("cookies")
    if not isinstance(cookies, list):
        raise ValidationError("path", "not a cookie file: no list of cookies")
    return [_read_cookie(each, number, now) for number, each in enumerate(cookies)]


def _refuse_constant(name: str) -> float:
    raise ValueError(name)


def _read_cookie(entry: Any, number: int, now: float) -> StoredCookie:
    if not isinstance(entry, dict) or entry.keys() != _FIELDS.keys():
        raise ValidationError("path", f"cookie {number} does not have a cookie's fields")
    for name, kinds in _FIELDS.items():
        # A bool is an int, too.
        if not isinstance(entry[name], kinds) or isinstance(entry[name], bool) != (bool in kinds):
            raise ValidationError("path", f"the {name} of cookie {number} is of the wrong type")
    cookie = StoredCookie(**entry)
    try:
        check_stored(cookie)
    except ValidationError as exc:
        raise ValidationError("path", f"cookie {number}: {exc}") from None
    if cookie.expires is not None:
        cookie.expires = min(cookie.expires, now + MAX_AGE_SECONDS)
    return cookie

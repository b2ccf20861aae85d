"""Credentials from a ``.netrc`` file, for those who ask for them.

The host that is looked up is the one that is connected to, never a piece of the URL's text, and the
``default`` entry, which would send a password to whatever host comes, is not used. What is found
goes to the origin the caller named, and not along with a redirect.
"""

from __future__ import annotations

import os

from flare.errors import ValidationError
from flare.http.client.auth import BasicAuth

__all__ = ["NetrcCredentials"]


class NetrcCredentials:
    """The entries of a file, read once: *path*, or ``$NETRC``, or ``~/.netrc``.

    A missing file is an error only where *path* was given (``OSError``); a malformed one always is
    (``ValidationError``, which names file and line and quotes nothing). The file in the home
    directory must belong to the user and be closed to others if it has passwords, else that is
    a ``ValidationError`` too.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self._by_host: dict[str, BasicAuth] = {}
        given = path if path is not None else os.environ.get("NETRC")
        where = os.fspath(given) if given else os.path.expanduser("~/.netrc")
        try:
            if not given:
                _check_private(where)
            self._read(where)
        except FileNotFoundError:
            if path is not None:
                raise

    def _read(self, path: str) -> None:
        from netrc import NetrcParseError, netrc

        try:
            entries = netrc(path).hosts
        except NetrcParseError as exc:
            where = f"{exc.filename}, line {exc.lineno}"
            raise ValidationError("netrc", f"{where}: not the syntax of such a file") from None
        except UnicodeDecodeError:
            raise ValidationError("netrc", f"{path}: not UTF-8") from None
        for host, (login, account, password) in entries.items():
            user = login or account or ""
            if host != "default" and (user or password):
                self._by_host[host.lower()] = BasicAuth(user, password or "")

    def find(self, host: str) -> BasicAuth | None:
        """What the file has for *host*."""
        return self._by_host.get(host)

    def __repr__(self) -> str:
        return f"<NetrcCredentials {len(self._by_host)} hosts>"


def _check_private(path: str) -> None:
    """Refuse a file that others may read, or that belongs to somebody else (but root)."""
    if os.name != "posix":
        return
    status = os.stat(path)
    if status.st_uid not in (os.getuid(), 0):
        raise ValidationError("netrc", f"{path} belongs to another user")
    if status.st_mode & 0o077:
        raise ValidationError("netrc", f"{path} may be read by others: chmod 600 it")

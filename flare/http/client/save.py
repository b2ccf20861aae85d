"""Downloads into files, resumed where they stopped (RFC 9110 sections 13.1.5 and 14).

While a download is under way its bytes are in ``NAME.part`` and what they are a part of is in
``NAME.part-info``; when all is there the file is renamed, so that nothing half done ever has the
name. What is left of a download that failed is gone on with if the server can say that it still has
the same file: by a strong ``ETag``, or a ``Last-Modified`` that is older than the response.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections.abc import Callable
from typing import Final, Self

from flare.http.client.download import HttpDownload
from flare.http.errors import HttpProtocolError
from flare.http.proto.headers import HeaderMap

try:
    import fcntl
except ImportError:  # Windows: two downloads to one name are not told apart there
    fcntl = None  # type: ignore[assignment]

__all__ = ["Fetch", "Progress", "forget", "save"]

Progress = Callable[[int, int | None], object]
"""Called with how many bytes of the file are there, and of how many (``None``: unknown)."""

_BUFFER_BYTES = 1024 * 1024
_MAX_INFO_BYTES = 16 * 1024
_PARTIAL_CONTENT = 206
_RANGE_NOT_SATISFIABLE = 416

_content_range = re.compile(
    r"bytes (?:([0-9]{1,18})-([0-9]{1,18})|\*)/(?:([0-9]{1,18})|\*)"
).fullmatch

Fetch = Callable[[HeaderMap], HttpDownload]


def save(
    fetch: Fetch,
    url: str,
    path: str | os.PathLike[str],
    headers: HeaderMap,
    *,
    resume: bool,
    progress: Progress | None,
) -> HttpDownload:
    """Fetch *url* into *path*; *fetch* makes a request with the fields it is given.

    Returns the last response, its body read. Raises what *fetch*, its responses and the file
    system raise, ``HttpError`` for a status that is no 2xx, and ``BlockingIOError`` where another
    process or thread is at it.
    """
    target = os.fspath(path)
    if os.path.isdir(target):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), target)
    headers = headers.copy()
    headers.setdefault("Accept-Encoding", "identity")
    with _Partial(target, url, resume) as partial:
        partial.recall()
        response = _fetch_all(fetch, partial, headers, progress)
        partial.complete()
    return response


def _fetch_all(
    fetch: Fetch, partial: _Partial, headers: HeaderMap, progress: Progress | None
) -> HttpDownload:
    """Requests until the file is whole: one, as a rule."""
    while True:
        asked = headers.copy()
        offset = partial.size
        if offset:
            asked.set("Range", f"bytes={offset}-")
            asked.set("If-Range", partial.validator)
        with fetch(asked) as response:
            if offset and response.status in (_PARTIAL_CONTENT, _RANGE_NOT_SATISFIABLE):
                if not partial.fits(response):
                    partial.restart()
                    continue
                if response.status == _RANGE_NOT_SATISFIABLE:
                    return response  # the bytes there are all
            else:
                response.raise_for_status()
                if response.status == _PARTIAL_CONTENT:
                    raise HttpProtocolError("a part of the file came, which was not asked for")
                partial.begin(response)
            partial.receive(response, progress)
        if partial.total is None or partial.size == partial.total:
            return response
        if partial.size == offset or partial.size > partial.total:
            raise HttpProtocolError(f"{partial.size} bytes came of a file of {partial.total}")


# In a directory for all, a link that somebody laid there must not choose what is written over.
_OURS: Final = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)


class _Partial:
    """The file being filled, and the note beside it.

    ``size`` is what it has, ``validator`` says of which version, ``""`` where that cannot be said,
    ``total`` what it will have if that is known.
    """

    def __init__(self, target: str, url: str, resume: bool) -> None:
        self._target = target
        self._resume = resume
        self._path = f"{target}.part"
        self._info = f"{target}.part-info"
        # Not the URL itself, which may have a token in it.
        self._url = hashlib.sha256(url.encode()).hexdigest()
        self._fd = -1
        self._done = False
        self.size = 0
        self.total: int | None = None
        self.validator = ""

    def __enter__(self) -> Self:
        while True:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | _OURS, 0o666)
            try:
                if fcntl is not None:
                    fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # The one we opened may have been renamed before we had it to ourselves.
                if os.path.samestat(os.fstat(self._fd), os.stat(self._path)):
                    return self
            except FileNotFoundError:
                pass
            except BlockingIOError:
                os.close(self._fd)
                raise BlockingIOError(
                    errno.EAGAIN, "another download is writing it", self._path
                ) from None
            except BaseException:
                os.close(self._fd)
                raise
            os.close(self._fd)

    def __exit__(self, *exc_info: object) -> None:
        try:
            if not self._done and not (self._resume and self.size and self.validator):
                for path in (self._path, self._info):
                    _remove(path)
        finally:
            os.close(self._fd)

    def recall(self) -> None:
        """Take up what an earlier download has left, if it can be gone on with."""
        size = os.fstat(self._fd).st_size
        try:
            with open(self._info, "rb") as file:
                info = json.loads(file.read(_MAX_INFO_BYTES))
            known = info["url"] == self._url
            validator, total = info["validator"], info["total"]
        except (OSError, ValueError, KeyError, TypeError):
            known = False
        if (
            self._resume
            and known
            and size
            and isinstance(validator, str)
            and isinstance(total, int | None)
        ):
            self.size, self.validator, self.total = size, validator, total
        else:
            self.restart()

    def restart(self) -> None:
        """Forget what is there."""
        os.ftruncate(self._fd, 0)
        _remove(self._info)
        self.size, self.total, self.validator = 0, None, ""

    def begin(self, response: HttpDownload) -> None:
        """Make ready for the whole file, and note of which version."""
        self.restart()
        length = response.headers.get("content-length")
        self.total = int(length) if length.isdigit() else None
        # A range counts the bytes as they are sent, not as they were decoded.
        self.validator = _validator(response.headers) if response._plain else ""
        if self.validator:
            info = {"url": self._url, "validator": self.validator, "total": self.total}
            number = os.open(self._info, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _OURS, 0o666)
            with open(number, "w", encoding="ascii") as file:
                json.dump(info, file)

    def fits(self, response: HttpDownload) -> bool:
        """Whether a 206 goes on where we stopped, or a 416 says that there is nothing to add."""
        found = _content_range(response.headers.get("content-range"))
        tag = response.headers.get("etag")
        if found is None or (tag and self.validator.startswith('"') and tag != self.validator):
            return False
        total = int(found[3]) if found[3] else None
        if response.status == _RANGE_NOT_SATISFIABLE:
            return found[1] is None and total == self.size
        if found[1] is None or int(found[1]) != self.size or int(found[2]) < self.size:
            return False
        if total is not None and int(found[2]) >= total:
            return False
        if self.total is not None and total is not None and total != self.total:
            return False
        self.total = self.total if total is None else total
        return True

    def receive(self, response: HttpDownload, progress: Progress | None) -> None:
        """Add the body of *response*."""
        os.lseek(self._fd, self.size, os.SEEK_SET)
        with memoryview(bytearray(_BUFFER_BYTES)) as buffer:
            if progress is not None:
                progress(self.size, self.total)
            while count := response.read_into(buffer):
                written = 0
                while written < count:
                    written += os.write(self._fd, buffer[written:count])
                self.size += count
                if progress is not None:
                    progress(self.size, self.total)

    def complete(self) -> None:
        """Give the file its name."""
        os.replace(self._path, self._target)
        self._done = True
        _remove(self._info)


def forget(path: str | os.PathLike[str]) -> None:
    """Let the next download to *path* begin anew, whatever an earlier one has left."""
    _remove(f"{os.fspath(path)}.part-info")


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def _validator(headers: HeaderMap) -> str:
    """What ``If-Range`` may say of this response later: byte for byte the same, or nothing."""
    tag = headers.get("etag")
    if tag:
        return tag if tag.startswith('"') and tag.isascii() else ""
    modified = headers.get("last-modified")
    if not modified:
        return ""
    from email.utils import parsedate_to_datetime

    try:
        age = parsedate_to_datetime(headers.get("date")) - parsedate_to_datetime(modified)
    except (ValueError, TypeError):
        return ""
    # RFC 9110 section 8.8.2.2: within one second a file may have changed twice.
    return modified if age.total_seconds() >= 1 else ""

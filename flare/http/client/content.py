"""What a request carries: its body in one piece or streamed, its type, its framing.

The one place that decides ``Content-Type``, ``Content-Length`` and ``Transfer-Encoding`` of a
request (RFC 9110 section 8.6, RFC 9112 section 6).
"""

from __future__ import annotations

import io
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import IO, TYPE_CHECKING, Any, Final

from flare.errors import ValidationError
from flare.http.body import Body, FileBody, as_body, close_source
from flare.http.cancel import Cancel
from flare.http.proto.chunked import encode_chunk, encode_last_chunk
from flare.http.proto.headers import HeaderMap

if TYPE_CHECKING:
    from flare.http.client.multipart import FilesLike

__all__ = ["UNSET", "Content", "as_source", "awaits_continue", "encode_content", "encode_pairs"]

_SLICE_BYTES = 256 * 1024
# What goes out in the same write as the head. More than this gains nothing from it.
INLINE_BYTES = 64 * 1024

_JSON = "application/json"
_FORM = "application/x-www-form-urlencoded"
_NEVER = Cancel.never()
_PLAIN_FILES = (io.BufferedReader, io.FileIO)
_is_length = re.compile(r"[0-9]{1,19}").fullmatch


class _Unset:
    """The type of ``UNSET``, for arguments where ``None`` means something."""

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = _Unset()


def as_source(source: Any, field: str = "body") -> Body:
    """*source* as the ``Body`` it is. Raises ``ValidationError`` naming *field*."""
    try:
        return as_body(source)
    except TypeError as error:
        raise ValidationError(field, str(error)) from None


class Content:
    """The body of one request.

    ``data`` holds a body in one piece and ``source`` is ``None``; else ``source`` is streamed, of
    ``length`` bytes, or chunked where that is ``None``. ``content_type`` is what to send unless
    the caller said otherwise; ``""`` for nothing.
    """

    __slots__ = ("_file", "_start", "content_type", "data", "length", "source")

    def __init__(self, data: bytes = b"", content_type: str = "", *, source: Any = None) -> None:
        self.data = data
        self.content_type = content_type
        self.length: int | None = len(data)
        self.source = None
        self._file: IO[bytes] | None = None
        self._start = 0
        if source is not None:
            self.source = as_source(source)
            self.length = self.source.content_length()
            if isinstance(self.source, FileBody):
                self._remember(self.source.file)

    def _remember(self, file: IO[bytes]) -> None:
        """Note where a file stands, if it can be set back there."""
        try:
            if file.seekable():
                self._start = file.tell()
                self._file = file
        except (OSError, AttributeError):
            pass

    def __bool__(self) -> bool:
        return self.source is not None or bool(self.data)

    def rewind(self) -> bool:
        """Make the body ready to be sent again; false where a stream is used up."""
        if self.source is None:
            return True
        rewind: Callable[[], bool] | None = getattr(self.source, "rewind", None)
        if rewind is not None:
            return rewind()
        if self._file is None:
            return False
        self._file.seek(self._start)
        return True

    def close(self) -> None:
        """Close the source, unless it is a file that was open already: that is the caller's."""
        source = self.source
        if source is not None and (not isinstance(source, FileBody) or source.opened):
            close_source(source)

    def frame(self, method: str, headers: HeaderMap | None) -> tuple[str, str] | None:
        """The field that frames the body, and ``None`` where a request needs none.

        A ``Content-Length`` or ``Transfer-Encoding`` among the caller's *headers* is checked, and
        decides between the two for a stream. Raises ``ValidationError`` where it is not true.
        """
        if headers:
            self._frame_as_asked(headers)
            if not self and awaits_continue(headers):
                raise ValidationError("Expect", "100-continue is for a request with a body")
        if self.length is None:
            return "Transfer-Encoding", "chunked"
        if self.source is not None or self.data or method in ("POST", "PUT", "PATCH"):
            return "Content-Length", str(self.length)
        return None

    def _frame_as_asked(self, headers: HeaderMap) -> None:
        lengths = headers.get_all("content-length")
        codings = headers.get_all("transfer-encoding")
        if codings:
            if self.source is None:
                raise ValidationError("Transfer-Encoding", "the body is not streamed")
            if lengths or len(codings) > 1 or codings[0].lower() != "chunked":
                raise ValidationError("Transfer-Encoding", "can only be chunked, and alone")
            self.length = None
        elif lengths:
            if len(lengths) > 1 or not _is_length(lengths[0]):
                raise ValidationError("Content-Length", "must be one decimal number")
            announced = int(lengths[0])
            if self.length not in (None, announced):
                raise ValidationError(
                    "Content-Length", f"{announced} announced, but the body has {self.length} bytes"
                )
            self.length = announced

    def plain_file(self) -> IO[bytes] | None:
        """The file that is the body, byte for byte what its descriptor gives; else ``None``."""
        file = self._file
        if file is None or self.length is None or type(file) not in _PLAIN_FILES:
            return None
        return file if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else None

    def pieces(self) -> Iterator[bytes | memoryview]:
        """The body as it goes on the wire of HTTP/1.1, chunked coding included.

        A source with fewer bytes than its length raises ``ValidationError``; of more, the rest is
        left alone.
        """
        if self.source is None or self.length is not None:
            yield from self.payload()
        else:
            for chunk in self._chunks():
                yield encode_chunk(chunk)
            yield encode_last_chunk()

    def payload(self) -> Iterator[bytes | memoryview]:
        """The body itself, for a wire with frames of its own; raises as ``pieces`` does."""
        if self.source is None:
            view = memoryview(self.data)
            for start in range(0, len(view), _SLICE_BYTES):
                yield view[start : start + _SLICE_BYTES]
        elif self.length is None:
            yield from self._chunks()
        else:
            yield from self._counted(self.length)

    def _counted(self, left: int) -> Iterator[memoryview]:
        if not left:
            return
        for chunk in self._chunks():
            yield chunk[:left]
            left -= min(left, len(chunk))
            if not left:
                return
        raise ValidationError("body", f"ended {left} bytes short of its length, {self.length}")

    def _chunks(self) -> Iterator[memoryview]:
        """What the source gives, without the empty chunks."""
        source = self.source
        assert source is not None
        while True:
            if isinstance(source, FileBody):  # whose own chunks are smaller
                chunk = source.file.read(_SLICE_BYTES) or None
            else:
                chunk = source.next_chunk(_NEVER)
            if chunk is None:
                return
            try:
                view = memoryview(chunk).cast("B")
            except TypeError:
                raise ValidationError(
                    "body", f"a chunk must be bytes, not {type(chunk).__name__}"
                ) from None
            if view:
                yield view


def awaits_continue(headers: HeaderMap) -> bool:
    """Whether the body is to be held back until the server wants it (RFC 9110 section 10.1.1)."""
    return headers.get("expect").strip().lower() == "100-continue"


def encode_content(
    body: Any, json: Any = UNSET, data: Any = None, files: FilesLike | None = None
) -> Content:
    """The content that the arguments of a call mean; more than one of them is an error, but for
    *data* and *files*.

    *body*: ``None`` is none; text is JSON already, as UTF-8; bytes are sent as they are without a
    type; a dict, list, number or bool is encoded as JSON; anything else is streamed, a
    ``MultipartFormBuilder`` with its type. *json*: any value, ``None`` too. *data*: a mapping or
    pairs, form-encoded; text, bytes, a file or an iterator of bytes are sent as they are without a
    type. *files*: see ``encode_form``, as ``multipart/form-data`` together with *data*; empty, it
    is as if not given.
    """
    if files:
        if body is not None or json is not UNSET:
            null = "; json=None is the JSON null, not none" if json is None else ""
            raise ValidationError("files", f"goes with data only, not with body or json{null}")
        from flare.http.client.multipart import encode_form

        form = encode_form(data, files)
        return Content(content_type=form.content_type, source=form)
    if (body is not None) + (json is not UNSET) + (data is not None) > 1:
        null = "; json=None is the JSON null, not none" if json is None else ""
        raise ValidationError("body", f"give only one of body, json and data{null}")
    if json is not UNSET:
        return Content(_to_json(json), _JSON)
    if data is not None:
        if isinstance(data, (str, bytes, bytearray, memoryview)):
            return Content(data.encode() if isinstance(data, str) else bytes(data))
        if hasattr(data, "read") or isinstance(data, Iterator):
            return Content(source=data)
        return Content(encode_pairs(data).encode("ascii"), _FORM)
    if body is None:
        return Content()
    if isinstance(body, str):
        return Content(body.encode(), _JSON)
    if isinstance(body, (bytes, bytearray, memoryview)):
        return Content(bytes(body))
    if isinstance(body, (dict, list, int, float)):
        return Content(_to_json(body), _JSON)
    from flare.http.client.multipart import MultipartBody, MultipartFormBuilder

    if isinstance(body, MultipartFormBuilder):
        body = body.body()
    return Content(
        content_type=body.content_type if isinstance(body, MultipartBody) else "", source=body
    )


def _to_json(value: Any) -> bytes:
    import json

    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def encode_pairs(pairs: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> str:
    """Form-encoded *pairs*. A value that is a list or tuple stands for several, ``None`` for
    none; numbers go by ``str``, ``True`` as ``true``. Raises ``ValidationError`` for no pairs."""
    from urllib.parse import urlencode

    # FormData is no Mapping: a name may be there more than once.
    items: Any = pairs.items() if hasattr(pairs, "items") else pairs
    flat: list[tuple[str, str | bytes]] = []
    for pair in items:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise ValidationError("pairs", f"must be names and values, got {type(pair).__name__}")
        name, value = pair
        values = value if isinstance(value, (list, tuple)) else (value,)
        flat += [(name, _plain(each)) for each in values if each is not None]
    return urlencode(flat)


def _plain(value: Any) -> str | bytes:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, (str, bytes)) else str(value)

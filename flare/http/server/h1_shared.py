"""What the HTTP/1.1 wires of one worker have in common: limits, the date, and known requests."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from flare.http._respond import CLOSE, KEEP_ALIVE, content_length_line, known_start
from flare.http.proto.errors import HttpParseError
from flare.http.proto.framing import LENGTH, NO_BODY
from flare.http.proto.heads import RequestHead, parse_request_head
from flare.http.server.config import ServerConfig
from flare.runtime.date_cache import DateCache

if TYPE_CHECKING:
    from flare.http.request import Request
    from flare.http.response import Response
    from flare.http.server.dispatch import Fate

__all__ = ["JOINED_BYTES", "MEMO_READ_BYTES", "H1Shared", "Plan"]

JOINED_BYTES = 8 * 1024
"""Up to here one copy of a body, behind its head, is cheaper than a gathered write."""

MEMO_READ_BYTES = 1024
"""Longer reads are not in ``known``."""

_MEMO_READS = 1024
_MEMO_HEADS = 1024
_MEMO_HEAD_BYTES = 1024

# The only ``Content-Length`` of a head that is good; in a bad one it may be anything.
_COUNT = re.compile(rb"\r\ncontent-length:[ \t]*+([0-9]{1,19})[ \t]*+\r\n", re.IGNORECASE).search


class Plan(NamedTuple):
    """A head, and who answers it: see ``Dispatch.plan``."""

    head: RequestHead
    function: Callable[[Request], object]
    fate: Fate


class H1Shared:
    """What the HTTP/1.1 wires of one worker have in common, the date among it.

    ``known`` maps what one read gave, to a connection with nothing pending, to a ``Plan`` for it,
    where it was a whole request without a body and nothing else; ``bodied`` does that for what
    stands in front of a counted body. Nothing that may hold a secret, in a field or in a query,
    enters them. ``keep_alive_end`` is the end of the head of nearly every response, ``close_end``
    of a connection's last. ``heads`` holds heads of small responses that were sent within this
    second, by status, reason, length and fields; these are a string where they are a
    ``Content-Type`` of it alone.
    *make_plan* finds out who answers, and *stream_limit* how many bytes of body a handler
    takes that reads them while they arrive, ``None`` for any other handler; it is left out where
    there is no such handler.
    """

    __slots__ = (
        "_lenient",
        "_make_plan",
        "bodied",
        "close_end",
        "config",
        "date",
        "date_line",
        "date_value",
        "heads",
        "keep_alive_end",
        "known",
        "limits",
        "stream_limit",
    )

    date_line: bytes
    date_value: str
    keep_alive_end: bytes
    close_end: bytes

    def __init__(
        self,
        config: ServerConfig,
        make_plan: Callable[[RequestHead], Plan],
        date: DateCache | None = None,
        stream_limit: Callable[[Request], int | None] | None = None,
    ) -> None:
        self.config = config
        self._make_plan = make_plan
        self.limits = config.h1_limits()
        self._lenient = config.h1_leniency.any_enabled()
        self.stream_limit = stream_limit
        if stream_limit is not None:
            # Only its head tells how large a body may be.
            self.limits = self.limits.replace(max_body_size=None)
        self.date = date or DateCache()
        self.known: dict[bytes, Plan] = {}
        self.bodied: dict[bytes, Plan] = {}
        self.heads: dict[tuple[object, ...], bytes] = {}
        self.refresh_date()

    def refresh_date(self) -> None:
        """Look at the clock."""
        self.date.refresh()
        self.date_line = self.date.header_line
        self.date_value = self.date.current_string()
        self.keep_alive_end = self.date_line + KEEP_ALIVE
        self.close_end = self.date_line + CLOSE
        self.heads.clear()

    def plan(self, read: bytes) -> tuple[Plan, bytes] | None:
        """The plan for what one read gave, and the body in it; remembered unless it may hold a
        secret. ``None`` where it is not one whole request, or not a good one, or one whose body
        has to be looked at on its way, or asks for another protocol."""
        end = read.find(b"\r\n\r\n") + 4
        if end < 4:
            return None
        start, size = read[:end], len(read) - end
        if size:
            plan = self.bodied.get(start)
            if plan is not None:
                return (plan, read[end:]) if size == plan.head.framing.length else None
            if start in self.known or self.stream_limit is not None:
                return None  # another request is behind it, or it may be read as it arrives
            count = _COUNT(start)
            if count is None or int(count[1]) != size:
                return None  # a part, or more than one: only the decoder reads its head
        if read[0] <= 0x20 or self._lenient:
            return None
        try:
            head = parse_request_head(read[: end - 2], self.limits, self.limits.max_fields)
        except HttpParseError:
            return None  # the decoder will find it, and say so
        if not self._is_whole(head, size) or head.fields.upgrade:
            return None
        plan = self._make_plan(head)
        if not head.fields.secret and "?" not in head.target and end <= MEMO_READ_BYTES:
            memo = self.bodied if size else self.known
            if len(memo) >= _MEMO_READS:
                memo.clear()
            memo[start] = plan
        return plan, read[end:]

    def _is_whole(self, head: RequestHead, size: int) -> bool:
        """Whether *head* has a body of *size* bytes, which may be handed over as it is."""
        if head.framing.kind == NO_BODY:
            return not size
        limit = self.limits.max_body_size
        return (
            head.framing.kind == LENGTH
            and head.framing.length == size
            and not head.framing.ambiguous
            and not head.expect_continue
            and (limit is None or size <= limit)
        )

    def make_head(self, key: tuple[object, ...], response: Response) -> bytes | None:
        """The head of *response* as for ``heads``, remembered; ``None`` where it is not that
        simple, or holds a secret."""
        start = known_start(response)
        if start is None:
            return None
        head = start + content_length_line(len(response.body)) + self.keep_alive_end
        if len(head) <= _MEMO_HEAD_BYTES:
            if len(self.heads) >= _MEMO_HEADS:
                self.heads.clear()
            self.heads[key] = head
        return head

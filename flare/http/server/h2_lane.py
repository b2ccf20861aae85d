"""The short lane of HTTP/2: whole requests that were seen before, answered at once.

On a busy connection nearly every frame is a GET whose header block is the same as one before, and
nearly every answer is small, with a head that went out just now. For these no stream comes into
being: the request is known by its block, its handler is called, and two frames are appended to
what waits to be sent. Whatever is not so simple goes the ordinary road from where it is, with the
frames behind it. The rules are those of ``lane.py``: the lease is entered before the handler and
left after it, and the place in what was read is kept on the connection, for the next leader.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from flare.http.proto.fields import is_secret_name
from flare.http.request import Request
from flare.http.response import Response
from flare.http.server.dispatch import ASK
from flare.http.server.failures import error_response
from flare.http.server.h2_stream import response_fields
from flare.http.server.lease import Overtaken
from flare.http.server.threads import Outcome
from flare.http2.frame import MAX_STREAM_ID

if TYPE_CHECKING:
    from flare.http.server.h2_connection import H2Connection
    from flare.http.server.worker import Worker
    from flare.http2 import HpackEncoder

__all__ = ["Heads", "make_h2_lane"]

_frame_header = struct.Struct(">HBBBI")
_frame_start = struct.Struct(">HBBB")
_HEADERS: Final = 1
_WHOLE: Final = 0x05  # END_STREAM | END_HEADERS
_WHOLE_WITH_PRIORITY: Final = 0x25
_LONGEST_BODY: Final = 8 * 1024
_MAX_HEADS: Final = 256
_LONGEST_FIELDS: Final = 4 * 1024


class Heads:
    """Heads of responses as they go out on one connection, while date and table stand still.

    ``known`` maps status, length and fields, a string where they are a ``Content-Type`` of it
    alone, to what comes before and after the stream's id: the start of HEADERS; then its block and
    the start of DATA.
    """

    __slots__ = ("_date", "_encoder", "_generation", "known")

    def __init__(self, encoder: HpackEncoder) -> None:
        self._encoder = encoder
        self._date = ""
        self._generation = -1
        self.known: dict[tuple[object, ...], tuple[bytes, bytes]] = {}

    def refresh(self, date: str) -> None:
        """Forget what would be wrong by now."""
        if date is not self._date or self._generation != self._encoder.generation:
            self._date, self._generation = date, self._encoder.generation
            self.known.clear()

    def make(self, key: tuple[object, ...], response: Response) -> tuple[bytes, bytes] | None:
        """The head of *response*, which has to go out now; ``None`` where it is not that simple,
        or holds a secret."""
        status, items = response.status, response.headers._items
        # Errors are counted, on the longer road.
        if type(status) is not int or not 200 <= status < 400 or status in (204, 205, 304):
            return None
        if self._encoder.owes_update or any(
            lower == "connection" or is_secret_name(lower) for lower, _, _ in items
        ):
            return None
        if sum([len(name) + len(value) for name, _, value in items]) > _LONGEST_FIELDS:
            return None
        size = len(response.body)
        block = self._encoder.encode(
            response_fields(response, size, self._date, head_request=False)
        )
        length = len(block)
        end_stream = 0 if size else 1
        start = _frame_start.pack(length >> 8, length & 0xFF, _HEADERS, 0x04 | end_stream)
        rest = block + _frame_start.pack(size >> 8, size & 0xFF, 0, 0x01) if size else block
        if self._encoder.generation != self._generation:
            # It has put something into the table, which it must do once only.
            self.refresh(self._date)
            return start, rest
        if len(self.known) >= _MAX_HEADS:
            self.known.clear()
        self.known[key] = start, rest
        return start, rest


def _depends_on_itself(data: bytes, at: int, sid: int) -> bool:
    return int.from_bytes(data[at : at + 4], "big") & MAX_STREAM_ID == sid


def make_h2_lane(worker: Worker) -> Callable[[H2Connection, bytes], None]:
    """The lane of *worker*: called by its leader with what was read from a connection on which
    nothing is pending. What it leaves is behind ``connection.at``."""
    lease, dispatch, h1 = worker.lease, worker.dispatch, worker.h1
    held, leave = lease.held, lease.held.pop
    make_request, threads = Request._from_head, worker.threads
    expose_errors = worker.config.expose_error_messages
    unpack, header_size = _frame_header.unpack_from, _frame_header.size
    most_streams, depends_on_itself = worker.h2_config.max_concurrent_streams, _depends_on_itself

    def serve(connection: H2Connection, data: bytes) -> None:
        machine = connection.machine
        outbox, known_block, heads = machine.outbox, machine.blocks.known, connection.heads
        heads.refresh(h1.date_value)
        known_head, queue = heads.known.get, outbox.raw
        window = machine.peer.initial_window_size
        room = most_streams - machine.active - len(machine.lingering)
        exchange = worker.h2_spare
        exchange.connection = connection
        connection.read, connection.at = data, 0
        at, end, served, last = 0, len(data), 0, machine.last_opened
        while end - at >= header_size and served < room:
            high, low, kind, flags, sid = unpack(data, at)
            start = at + header_size
            after = start + (high << 8 | low)
            if kind != _HEADERS or after > end or not last < sid <= MAX_STREAM_ID or not sid & 1:
                break
            if flags == _WHOLE:
                block = data[start:after]
            elif flags == _WHOLE_WITH_PRIORITY and not depends_on_itself(data, start, sid):
                block = data[start + 5 : after]
            else:
                break
            known = known_block(block)
            if known is None or known.request is None:
                break
            head: Any = known.request
            plan = known.note
            if plan is None:
                plan = known.note = dispatch.plan(head)
            _, function, fate = plan
            request = make_request(head, b"", connection.peer, expose_errors)
            if connection.tls_info is not None:
                request._tls_info = connection.tls_info
            if fate is ASK:
                try:
                    function, fate = dispatch.find(request)
                except Exception:
                    break  # asked again over there, and answered for
            if not fate.quick or threads.free <= 0:
                break
            exchange.sid = sid
            exchange.request = request
            exchange.head = head
            exchange.fate = fate
            connection.at = after
            lease.serial = serial = lease.serial + 1
            held[serial] = exchange
            try:
                try:
                    result = function(request)
                except Exception as error:
                    result = error_response(request, error)
            except BaseException as failure:
                if leave(serial, None) is not None:
                    raise
                worker.deliver(Outcome(exchange, failure=failure))
                raise Overtaken from None
            if leave(serial, None) is None:
                # Somebody else leads by now, and reads the outcome.
                worker.deliver(Outcome(exchange, result))
                raise Overtaken
            found = None
            key: tuple[object, ...]
            try:
                if (
                    type(result) is Response
                    and result.body_stream is None
                    and type(result.body) is bytes
                    and type(result.reason) is str
                    and (size := len(result.body)) <= _LONGEST_BODY
                    and size <= window
                    and size <= outbox.send_window
                    and not getattr(result, "_trailers", None)
                ):
                    headers = result._headers
                    if headers is None:
                        key = (result.status, size, result._type)
                    else:
                        key = (result.status, size, *headers._items)
                    found = known_head(key)
                    if found is None:
                        found = heads.make(key, result)
            except Exception:
                pass  # a handler may have put anything in any attribute: say so over there
            if found is None:
                worker.renew_h2_spare()
                connection.answer_known(exchange, result)
                break
            name = data[start - 4 : start]
            if size:
                outbox.send_window -= size
                queue(b"".join((found[0], name, found[1], name, result.body)))
            else:
                queue(b"".join((found[0], name, found[1])))
            machine.last_opened = last = sid
            served += 1
            at = after
        if served:
            machine.floods.finished()
            machine.floods.filled()
            connection.count(served)

    return serve

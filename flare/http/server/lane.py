"""The short lane: one read that is one whole request, answered at once by a plain response.

That is nearly every request of a busy server, and all that can be saved on it is calls. So the
steps that ``connection.py``, ``h1.py`` and ``dispatch.py`` take one by one stand here in one
function, each with its shortcut; whatever is not as usual goes back to the ordinary road, where
it left it. The rules are the same: the lease is entered before the handler and left after it, and
what a thread that lost it has in hand goes to ``deliver`` and nowhere else.

A connection is let in (``Connection.plain``) when it waits between two requests and nothing is
pending on either side.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from flare.http.request import Request
from flare.http.response import Response
from flare.http.server.dispatch import ASK
from flare.http.server.failures import error_response
from flare.http.server.h1_shared import JOINED_BYTES, MEMO_READ_BYTES
from flare.http.server.lease import Overtaken
from flare.http.server.threads import Outcome

if TYPE_CHECKING:
    from flare.http.server.connection import Connection
    from flare.http.server.static_wire import StaticAnswers
    from flare.http.server.worker import Worker

__all__ = ["Lane", "make_lane", "make_static_lane"]

Lane: TypeAlias = "Callable[[Connection, bytes], bytes | None]"


def make_lane(worker: Worker) -> Lane:
    """The lane of *worker*: called by its leader for a plain ``Connection`` that is readable."""
    config, h1, lease, dispatch = worker.config, worker.h1, worker.lease, worker.dispatch
    expose_errors = config.expose_error_messages
    known, make_plan, find = h1.known.get, h1.plan, dispatch.find
    held, leave = lease.held, lease.held.pop
    threads, tally = worker.threads, worker.tally
    known_head, make_head = h1.heads.get, h1.make_head
    long, expect_large = config.read_buffer_size, worker.stages.expect_large
    send = worker.stages.send  # before more of the application may run
    new: Any = object.__new__

    def serve(connection: Connection, data: bytes) -> bytes | None:
        size, body = len(data), b""
        plan = known(data) if size <= MEMO_READ_BYTES else None  # the look-up reads all of it
        if plan is None:
            found = make_plan(data)
            if found is not None:
                plan, body = found
                if size >= long:
                    expect_large()
        if plan is None or threads.free <= 0:
            send()
            connection.on_data(data)
            return None
        head, function, fate = plan
        request: Request = new(Request)  # as Request._from_head, but for the call
        request.method = head.method
        request.url = head.target
        request.body = body
        request.version = head.version
        request.peer = connection.peer
        request.expose_errors = expose_errors
        request._fields = head.fields
        request._headers = None
        request._params = None
        if connection.tls_info is not None:
            request._tls_info = connection.tls_info
        if not fate.quick:
            if fate is ASK:
                try:
                    function, fate = find(request)
                except Exception:
                    pass  # asked again over there, and answered for
            if not fate.quick:
                send()
                connection.on_data(data)
                return None
        tally.bytes_in += size
        exchange = worker.spare
        exchange.connection = connection
        exchange.request = request
        exchange.head = head
        exchange.fate = fate
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
        start = None
        key: tuple[object, ...]
        try:
            if type(result) is Response and result.body_stream is None:
                answer = result.body
                if type(answer) is bytes:
                    headers = result._headers
                    if headers is None:
                        key = (result.status, result.reason, len(answer), result._type)
                    else:
                        key = (result.status, result.reason, len(answer), *headers._items)
                    start = known_head(key) or make_head(key, result)
        except Exception:
            pass  # a handler may have put anything in any attribute: say so over there
        if start is None:
            worker.renew_spare()
            send()
            connection.answer(exchange, result)
            return None
        if len(answer) <= JOINED_BYTES:
            return start + answer
        connection.owe(start, answer)
        return None

    return serve


def make_static_lane(worker: Worker, answers: StaticAnswers) -> Lane:
    """The same for ``serve_static``, where a read that is known is one look-up from its answer."""
    known, tally = answers.known.get, worker.tally
    repeated, most = answers.repeated, len(answers.repeated) - 1

    def serve(connection: Connection, data: bytes) -> bytes | None:
        count = known(data)
        if count is None or count > most:
            connection.on_data(data)
            return None
        tally.bytes_in += len(data)
        answers.served += count
        return repeated[count]

    return serve

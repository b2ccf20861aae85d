"""The streams of one HTTP/2 connection of a server: requests dispatched, answers queued.

Whole requests wait in a queue and are dispatched one by one under the lease; streamed bodies are
pulled a piece at a time. What a thread that lost its lease has in hand comes back by ``on_result``;
everything else that is left to do is here, for the next leader.
"""

from __future__ import annotations

import socket
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from flare.http._respond import has_no_content, response_problem, wants_close
from flare.http.cancel import CancelReason
from flare.http.request import Request
from flare.http.request_stream import BodyQueue, StreamedRequest
from flare.http.response import Response
from flare.http.server.dispatch import PENDING, REFUSED
from flare.http.server.failures import busy_response, error_response, late_response
from flare.http.server.h1 import _close_logged, _close_unsent, _length
from flare.http.server.h2_intake import H2Intake
from flare.http.server.h2_lane import Heads
from flare.http.server.h2_stream import (
    Fields,
    H2Body,
    H2Stream,
    request_factory,
    response_fields,
    trailer_fields,
)
from flare.http.server.logs import error_log, log_access, log_late_handler
from flare.http.server.socket_connection import NEVER_MS, SocketConnection
from flare.http.server.wire import ABORTED
from flare.http2 import Http2Connection, Http2ErrorCode
from flare.net import SocketAddr

if TYPE_CHECKING:
    from flare.http.server.lease import Task
    from flare.http.server.worker import Worker
    from flare.tls import TlsInfo
    from flare.tls.tls_socket import TlsSocket

__all__ = ["H2Streams"]

_REQUESTS_A_TURN = 64  # a connection with more gives the others a turn after so many
# With so many bytes encoded that the socket does not take, no request is begun, and none read.
_MAX_UNFLUSHED = 256 * 1024


class H2Streams(SocketConnection):
    """The part of ``H2Connection`` that knows of requests and responses."""

    __slots__ = (
        "_bodies",
        "_codec",
        "_idle_at",
        "_incoming",
        "_intakes",
        "_max_queued",
        "_opened",
        "_out",
        "_ready",
        "_round",
        "_running",
        "_served",
        "heads",
        "machine",
    )

    def __init__(
        self,
        worker: Worker,
        sock: socket.socket | TlsSocket,
        token: int,
        peer: SocketAddr,
        tls_info: TlsInfo | None,
    ) -> None:
        super().__init__(worker, sock, token, peer, tls_info)
        config = worker.h2_config
        self._use(
            Http2Connection(
                config,
                request_factory=self._factory(),
                says_continue=self._says_continue(),
            )
        )
        self._max_queued = config.max_queued_bytes
        self._out: list[bytes | memoryview] = []
        self._ready: deque[int] = deque()  # whole requests that wait for their turn
        self._incoming: dict[int, int] = {}  # requests whose body is to come, and their deadline
        self._opened: deque[int] = deque()  # requests whose head is here
        self._intakes: dict[int, H2Intake] = {}  # bodies that are read while they come
        self._running: dict[int, H2Stream] = {}  # handlers on other threads
        self._bodies: dict[int, H2Body] = {}  # streamed bodies that are not at their end
        self._round: deque[int] = deque()  # those of them that have not had their turn
        self._idle_at = 0
        self._served = 0

    def _use(self, codec: Http2Connection) -> None:
        self._codec = codec
        self.machine = codec.connection
        self.heads = Heads(codec.connection.hpack_encoder)

    def _factory(self) -> Any:
        expose_errors = self._worker.config.expose_error_messages
        return request_factory(self.peer, expose_errors, self.tls_info)

    def _says_continue(self) -> bool:
        """Whether who waits for leave to send a body gets it at once: no handler reads one by
        itself."""
        return self._worker.stream_limit is None

    def _want_turn(self) -> None:
        if not self._queued:
            self._queued = True
            self._worker.ready.append(self)

    # -- requests -----------------------------------------------------------------------------

    def _take_streams(self) -> None:
        """Take from the codec what has come about."""
        codec = self._codec
        for sid in codec.take_reset_streams():
            self._cut_short(sid)
        opened = self._opened
        opened.extend(codec.take_opened_streams())
        while opened:
            sid = opened.popleft()
            if self._worker.stream_limit is not None:
                if self._run_early(sid):
                    continue
                if self._waits_for_leave(sid):
                    self._codec.send_informational(sid, 100)
            self._incoming[sid] = self._body_deadline()
        self._ready.extend(codec.take_completed_streams())
        if self._incoming and self._worker.stream_limit is not None:
            self._check_sizes()
        for sid in codec.take_extended_connect_streams():
            self._refuse(sid, 501)

    def _run_early(self, sid: int) -> bool:
        """Have the handler called for a request whose body is to come, if it is one that reads
        it by itself; whether that is done, or the request refused."""
        worker = self._worker
        if not self._codec.stream_is_open(sid):
            return True
        head, config = self._codec.head_of(sid), worker.config
        queue = BodyQueue()
        request = StreamedRequest._streaming(
            cast(Any, head), queue, self.peer, config.expose_error_messages, config.max_body_size
        )
        if self.tls_info is not None:
            request.tls_info = self.tls_info
        assert worker.stream_limit is not None
        limit = worker.stream_limit(request)
        if head.content_length > (config.max_body_size if limit is None else limit):
            self._refuse(sid, 413)
            return True
        if limit is None:
            return False
        waits = self._waits_for_leave(sid)
        self._codec.hold_request(sid)
        stream = H2Stream(sid, request)
        intake = self._intakes[sid] = H2Intake(self, self._codec, stream, queue, limit, waits)
        intake.feed()
        self._dispatch(stream)
        return True

    def _waits_for_leave(self, sid: int) -> bool:
        """Whether the peer wants to be told to send the body (RFC 9110 section 10.1.1)."""
        return self._codec.head_of(sid).expect_continue and not self._codec.received_on(sid)

    def _check_sizes(self) -> None:
        """Where bodies may have any size for a handler that reads them, the others are bounded
        here."""
        limit = self._worker.config.max_body_size
        for sid in list(self._incoming):
            if self._codec.received_on(sid) > limit:
                del self._incoming[sid]
                self._refuse(sid, 413)

    def _body_deadline(self) -> int:
        config = self._worker.config
        budgets = [ms for ms in (config.read_body_timeout_ms, config.request_timeout_ms) if ms]
        return self._worker.now_ms + min(budgets) if budgets else NEVER_MS

    def _refuse(self, sid: int, status: int) -> None:
        """Answer without asking the handler."""
        error_log.info("%d to %s on stream %d", status, self.peer, sid)
        self._worker.tally.count_error(status)
        self._codec.emit_response(sid, Response(status), [("date", self._worker.h1.date_value)])

    def _run_ready(self) -> None:
        ready = self._ready
        for _ in range(_REQUESTS_A_TURN):
            if not ready or self._is_full():
                return
            self._run(ready.popleft())
        if ready:
            self._want_turn()

    def _is_full(self) -> bool:
        """Whether so much waits for the peer that nothing may be added."""
        return self._codec.queued_bytes >= self._max_queued or (
            self._writing and self._is_owed_much()
        )

    def _is_owed_much(self) -> bool:
        return self._codec.encoded_bytes > _MAX_UNFLUSHED

    def _run(self, sid: int) -> None:
        """Have the handler called for a whole request."""
        codec = self._codec
        self._incoming.pop(sid, None)
        if not codec.stream_is_open(sid):
            return  # it was reset meanwhile
        request = codec.take_request(sid)
        stream_limit = self._worker.stream_limit
        # Where there is none, the codec has seen to the size of bodies; see ``_check_sizes``.
        if stream_limit is not None and (size := len(request.body)):
            limit, most = stream_limit(request), self._worker.config.max_body_size
            if size > (most if limit is None else limit):
                self._refuse(sid, 413)
                return
            if size > most:  # and the handler that answers in the end may be another
                request = StreamedRequest._of_whole(request, most)
        self._dispatch(H2Stream(sid, request))

    def _dispatch(self, stream: H2Stream) -> None:
        worker = self._worker
        stream.connection = self
        self.count(1)
        if worker.access_log:
            stream.started_ns = worker.clock_ns()
        result = worker.dispatch.run(stream)
        if result is PENDING:
            self.await_task(stream)
        else:
            self._answer(stream, busy_response() if result is REFUSED else result)

    def await_task(self, task: Task) -> None:
        """*task* runs on another thread; everything else goes on."""
        if isinstance(task, H2Stream):
            intake = self._intakes.get(task.sid)
            if intake is None or not intake.open:
                self.time_handler(task)
            self._running[task.sid] = task
            if not self._codec.stream_is_open(task.sid):  # it came by the lane
                self._admit(task)
        else:
            assert isinstance(task, H2Body)
            task.away = True
        self._want_turn()

    def time_handler(self, stream: H2Stream) -> None:
        """The time of the handler of *stream* begins."""
        config = self._worker.config
        budgets = [ms for ms in (config.handler_timeout_ms, config.request_timeout_ms) if ms]
        stream.deadline = self._worker.now_ms + min(budgets) if budgets else NEVER_MS

    def _admit(self, stream: H2Stream) -> None:
        self.machine.admit_known(stream.sid, stream.head)
        self.count(1)

    def count(self, served: int) -> None:
        """So many requests were begun."""
        self._served += served
        self._idle_at = 0

    def answer_known(self, stream: H2Stream, result: object) -> None:
        """Take the result of a request of the lane's that is not for the lane."""
        self._admit(stream)
        self._answer(stream, result)

    def on_result(self, task: Task, result: object) -> None:
        """*task* is over. What there is to send goes with the turn that this asks for."""
        if isinstance(task, H2Stream):
            sid = task.sid
        else:
            assert isinstance(task, H2Body)
            sid = task.stream.sid
        if task.abandoned:
            self._worker.dispatch.close_later(partial(task.dispose, result), task.fate)
            if self.open:
                self._codec.release(sid)
                self._want_turn()
            return
        if isinstance(task, H2Stream):
            del self._running[sid]
            self._answer(task, result)
        else:
            task.away = False
            self._take_piece(task, result)
        self._want_turn()

    def _give_up_on(self, stream: H2Stream) -> None:
        """The handler's time is over: say so, and drop what it will return. Until it returns it
        counts as a stream, or a client could have any number of them running."""
        stream.cancel(CancelReason.TIMEOUT)
        stream.abandoned = True
        del self._running[stream.sid]
        self._end_intake(stream.sid, 408)
        log_late_handler(stream.request, self._worker.config.handler_timeout_ms)
        self._answer(stream, late_response())
        self._codec.retain(stream.sid)

    def _cut_short(self, sid: int) -> None:
        """The stream of a request that was taken is reset."""
        self._end_intake(sid)
        stream = self._running.pop(sid, None)
        if stream is not None:
            stream.abandoned = True
            stream.cancel(CancelReason.PEER_CLOSED)
            return
        body = self._bodies.pop(sid, None)
        if body is None or not self._let_go(body, CancelReason.PEER_CLOSED):
            self._codec.release(sid)

    def _let_go(self, body: H2Body, reason: int) -> bool:
        """Nobody wants the rest of *body*; whether another thread still makes a piece of it."""
        self._end_intake(body.stream.sid)
        self._log(body.stream, body.sent)
        if body.away:
            body.abandoned = True
            body.cancel(reason or CancelReason.SHUTDOWN)
        else:
            close = partial(body.close, reason)
            self._worker.dispatch.close_later(close, body.stream.fate)
        return body.away

    # -- responses ----------------------------------------------------------------------------

    def _answer(self, stream: H2Stream, result: Any) -> None:
        """Queue the response, or its head where its body is streamed."""
        request = stream.request
        try:
            problem = response_problem(result)
            if problem is None:
                if isinstance(result, Response) and result.body_stream is None:
                    self._answer_whole(stream, result)
                else:
                    self._begin_body(stream, result)
        except Exception as error:
            # A handler may have put anything in any attribute. Nothing is queued before all of
            # the head is made.
            problem = error
        if problem is not None:
            _close_unsent(result, request)
            self._answer_whole(stream, error_response(request, problem))
        if self._intakes and stream.sid not in self._bodies:
            self._end_intake(stream.sid)
        config = self._worker.config
        if not config.keep_alive or 0 < config.max_keepalive_requests <= self._served:
            self._codec.shutdown()

    def _end_intake(self, sid: int, status: int = 400) -> None:
        """The body of a request is not wanted any more."""
        intake = self._intakes.pop(sid, None)
        if intake is not None:
            intake.abort(status)

    def _answer_whole(self, stream: H2Stream, response: Response) -> None:
        body = response.body
        assert isinstance(body, bytes)
        head_request = stream.request.method == "HEAD"
        fields = response_fields(
            response, len(body), self._worker.h1.date_value, head_request=head_request
        )
        if head_request or has_no_content(response.status) or response.status == 205:
            body = b""
        trailers = trailer_fields(response.trailers)
        self._codec.send_response(stream.sid, fields, body, trailers)
        self._heed_close(response)
        self._note(stream, response.status)
        self._log(stream, len(body))

    def _note(self, stream: H2Stream, status: int) -> None:
        stream.status = status
        if status >= 400:
            self._worker.tally.count_error(status)

    def _heed_close(self, response: Any) -> None:
        items = response.headers._items
        if items and wants_close(items):
            self._codec.shutdown()

    def _begin_body(self, stream: H2Stream, result: Any) -> None:
        source = result.body_stream if isinstance(result, Response) else result.body
        length = _length(source)
        if result.status == 205:
            length = 0
        head_request = stream.request.method == "HEAD"
        fields: Fields = response_fields(
            result, length, self._worker.h1.date_value, head_request=head_request
        )
        self._note(stream, result.status)
        if (intake := self._intakes.get(stream.sid)) is not None:
            intake.say_continue()  # what makes the body may read it yet
        if head_request or has_no_content(result.status):
            self._codec.send_response(stream.sid, fields)
            _close_logged(source, stream.request)
            self._log(stream, 0)
        elif self._codec.begin_response(stream.sid, fields):
            body = H2Body(stream, source, length, result.trailers)
            body.connection = self
            self._bodies[stream.sid] = body
        else:
            _close_logged(source, stream.request)
        self._heed_close(result)

    def _pull(self) -> bool:
        """Make the next piece of every body whose last one is on its way; whether any moved on.

        One piece at a time is made ahead of the peer's window, so that a body that stands still
        is seen to do so.
        """
        codec, bodies, waiting = self._codec, self._bodies, self._round
        moved = False
        if not waiting:
            waiting.extend(bodies)
        while waiting:
            sid = waiting.popleft()
            body = bodies.get(sid)
            if body is None or body.away or codec.queued_on(sid):
                continue
            if codec.queued_bytes >= self._max_queued:
                continue
            if body.rest:
                self._queue(body)
            else:
                piece = self._worker.dispatch.pull(body, body.stream.fate)
                if piece is PENDING:
                    self.await_task(body)
                    continue
                self._take_piece(body, piece)
            moved = True
        return moved

    def _take_piece(self, body: H2Body, piece: object) -> None:
        sid = body.stream.sid
        if piece is ABORTED:
            del self._bodies[sid]
            self._end_intake(sid)
            self._codec.reset_stream(sid, Http2ErrorCode.INTERNAL_ERROR)
            self._log(body.stream, body.sent)
        elif piece is None:
            self._end_body(body)
        else:
            assert isinstance(piece, bytes)
            body.rest = piece
            self._queue(body)

    def _queue(self, body: H2Body) -> None:
        taken = self._codec.queue_stream_data(body.stream.sid, body.rest)
        body.rest = body.rest[taken:]
        if not body.rest and body.is_whole:
            self._worker.dispatch.close_later(body.close, body.stream.fate)
            self._end_body(body)

    def _end_body(self, body: H2Body) -> None:
        sid = body.stream.sid
        del self._bodies[sid]
        self._end_intake(sid)
        self._codec.end_stream_response(sid, trailer_fields(body.trailers))
        self._log(body.stream, body.sent)

    # -- all of them --------------------------------------------------------------------------

    def _cancel_all(self, reason: int) -> None:
        """Tell all that runs; it goes on, if it will, and its answers are sent."""
        for stream in self._running.values():
            stream.cancel(reason)
        for body in self._bodies.values():
            body.cancel(reason)

    def _abandon_all(self, reason: int) -> None:
        self._ready.clear()
        self._incoming.clear()
        for sid in list(self._intakes):
            self._end_intake(sid)
        for stream in self._running.values():
            stream.abandoned = True
            stream.cancel(reason or CancelReason.SHUTDOWN)
        self._running.clear()
        bodies = list(self._bodies.values())
        self._bodies.clear()
        for body in bodies:
            self._let_go(body, reason)

    def _log(self, stream: H2Stream, sent: int) -> None:
        if not self._worker.access_log:
            return
        request: Request = stream.request
        log_access(
            str(request.client),
            request.method,
            request.url,
            request.version,
            stream.status,
            sent,
            (self._worker.clock_ns() - stream.started_ns) / 1e6,
        )

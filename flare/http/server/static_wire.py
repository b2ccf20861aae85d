"""HTTP/1.1 on a connection whose every request gets the same bytes: ``serve_static``.

Requests are framed with all the guards of ``flare.http.proto`` and their bodies are discarded, so
that pipelined ones stay in step, but no ``Request`` is built and nothing is dispatched: the
answers go straight into ``out``. What clients send over and over is known again by its bytes, one
look into a dict for one ``recv``, however many requests it holds.
"""

from __future__ import annotations

from flare.http.proto.decoder import EndOfMessage
from flare.http.proto.errors import HttpParseError
from flare.http.proto.framing import NO_BODY
from flare.http.proto.heads import RequestHead
from flare.http.server.h1_refusal import CONTINUE, RefusingWire
from flare.http.server.h1_shared import H1Shared
from flare.http.server.wire import BODY, DONE, HEAD, IDLE, BodyWriter, Exchange
from flare.http.static_response import StaticResponse
from flare.net import SocketAddr

__all__ = ["StaticAnswers", "StaticWire"]

_MEMO_READS = 1024
_MEMO_READ_BYTES = 1024
# As many equal answers, at most this many bytes of them, are kept as one piece.
_JOINED = 16
_JOINED_BYTES = 64 * 1024


class StaticAnswers:
    """What the static wires of one worker share: the answers, and the reads they know.

    ``known`` maps what one read gave, to a connection with nothing pending, to the number of
    requests it holds, where each is whole, has no body, and gets the keep-alive answer. Nothing
    that may hold a secret, in a field or in a query, enters it. All its wires have the same
    configuration. ``served`` counts the requests of all.
    """

    __slots__ = ("closing", "head", "keeping", "known", "repeated", "response", "served")

    def __init__(self, response: StaticResponse) -> None:
        self.response = response
        self.served = 0
        self.known: dict[bytes, int] = {}
        keeping = response.keepalive_bytes
        self.keeping = keeping
        self.closing = response.close_bytes
        self.head = {keep: response.head_bytes(keep) for keep in (True, False)}
        joined = max(1, min(_JOINED, _JOINED_BYTES // len(keeping)))
        self.repeated = [keeping * count for count in range(joined + 1)]

    def remember(self, read: bytes, count: int) -> None:
        """Know *read* again."""
        if len(self.known) >= _MEMO_READS:
            self.known.clear()
        self.known[read] = count


class StaticWire(RefusingWire):
    """The HTTP/1.1 side of one connection under ``serve_static``; see ``Wire``. It is ``clean``
    only where the last request was answered as known ones are.

    ``next_exchange`` never has one: ``receive`` has answered already. ``served`` counts the
    requests answered, refused ones not among them.
    """

    __slots__ = ("_answers", "_known", "_limit", "_ordinary")

    def __init__(self, shared: H1Shared, peer: SocketAddr, answers: StaticAnswers) -> None:
        super().__init__(shared, peer)
        self._answers = answers
        self._known = answers.known
        self._limit = shared.config.max_keepalive_requests
        self._ordinary = False

    def receive(self, data: bytes) -> None:
        if self.clean:
            count = self._known.get(data)
            if count is not None:
                served = self.served + count
                if served < self._limit or not self._limit:
                    self.served = served
                    answers = self._answers
                    answers.served += count
                    answer = answers.keeping
                    if count == 1:
                        self.out.append(answer)
                        self.out_bytes += len(answer)
                    else:
                        self._repeat(count)
                    return
        self._receive_unknown(data)

    def _repeat(self, count: int) -> None:
        repeated = self._answers.repeated
        most = len(repeated) - 1
        while count:
            some = min(count, most)
            self._write(repeated[some])
            count -= some

    def _receive_unknown(self, data: bytes) -> None:
        if self.phase == DONE:
            return
        fresh = self.phase == IDLE and not self._decoder.buffered and data[:1] > b" "
        served = self.served
        self._decoder.receive(data)
        self._ordinary = True
        self._work()
        self.clean = (
            self.phase == IDLE
            and self._ordinary
            and self.served > served
            and not self._last
            and not self._decoder.buffered
        )
        if self.clean and fresh and len(data) <= _MEMO_READ_BYTES:
            self._answers.remember(data, self.served - served)

    def receive_eof(self) -> None:
        super().receive_eof()
        self._work()

    def _work(self) -> None:
        """Answer every request that is complete."""
        decoder = self._decoder
        try:
            while self.phase != DONE:
                head = self._head
                if head is None:
                    event = decoder.next_event()
                    if event is None:
                        # The blank line that old clients send behind a body begins no request.
                        self.phase = HEAD if decoder.buffered and decoder.in_message else IDLE
                        return
                    assert isinstance(event, RequestHead)
                    head = self._head = event
                    # A peer that has begun to send the body does not wait for leave (RFC 9110
                    # section 10.1.1).
                    if head.expect_continue and not decoder.buffered:
                        self._write(CONTINUE)
                if not self._discard_body():
                    self.phase = BODY
                    return
                self._head = None
                self._answer(head)
        except HttpParseError as error:
            self._refuse(error)

    def _discard_body(self) -> bool:
        """Whether the end of the message is here."""
        decoder = self._decoder
        while (event := decoder.next_event()) is not None:
            if isinstance(event, EndOfMessage):
                return True
        return False

    def _answer(self, head: RequestHead) -> None:
        answers = self._answers
        self.served = served = self.served + 1
        answers.served += 1
        keep_alive = head.keep_alive and not self._last and not 0 < self._limit <= served
        # A peer that counts on the next request may be sending it.
        self.linger = head.keep_alive
        self.status = answers.response.status
        if head.method == "HEAD":
            self.sent = 0
            self._ordinary = False
            self._write(answers.head[keep_alive])
        else:
            self.sent = answers.response.body_length
            if head.framing.kind != NO_BODY or head.fields.secret or "?" in head.target:
                self._ordinary = False
            self._write(answers.keeping if keep_alive else answers.closing)
        self.phase = IDLE if keep_alive else DONE

    def take(self, data: bytes) -> Exchange | None:
        self.receive(data)
        return None

    def next_exchange(self) -> Exchange | None:
        return None

    def respond(self, exchange: Exchange, result: object) -> BodyWriter | None:
        raise RuntimeError("a static wire has no exchanges to respond to")

    def body_sent(self) -> None:
        """No body is streamed."""

    def drain(self) -> None:
        super().drain()
        self.clean = False

"""From a call to its response: one ``send``, and the layers round it.

``Sender.send`` is one exchange on one connection, sent again only where a kept connection turned
out to be dead. ``Sender.follow`` is ``send`` with redirects. Whatever else wraps a call (cookies,
retries, decoding) wraps these.
"""

from __future__ import annotations

from collections.abc import Callable

from flare.errors import ConnectionTimeout, NetworkError, Timeout
from flare.http.client.call import Call
from flare.http.client.connection import READ_BYTES
from flare.http.client.content import awaits_continue
from flare.http.client.decompress import codings_to_undo, decoding_reader
from flare.http.client.events import active_log, masked_fields
from flare.http.client.exchange import Connection, Exchange
from flare.http.client.outgoing import Outgoing
from flare.http.client.pool import ConnectionPool
from flare.http.client.redirect import (
    REDIRECT_STATUSES,
    RedirectAction,
    RedirectMode,
    RedirectPolicy,
)
from flare.http.client.route import Route, Routes
from flare.http.client.timeouts import Clock
from flare.http.errors import CrossOriginRedirect, TooManyRedirects, masked_url
from flare.http.proto.fields import EMPTY_BLOCK
from flare.http.proto.framing import LENGTH, NO_BODY
from flare.http.proto.headers import HeaderMap
from flare.http.proto.heads import ResponseHead
from flare.http.proto.method import IDEMPOTENT_METHODS
from flare.http.response import Response

__all__ = ["Reply", "Sender"]

# The most that is read of the body of a redirect so that its connection can be kept.
MAX_REDIRECT_BODY = 64 * 1024

# How often an HTTP/2 server may refuse one request unseen.
MAX_REFUSALS = 3


class Reply:
    """A final response head, and the connection its body is still on.

    Ends in exactly one of ``finish`` (the body was read), ``abandon`` and ``abandon_later``.
    """

    __slots__ = ("_clock", "_connection", "_decode_limit", "_exchange", "_pool", "_route",
                 "_sent", "elapsed_ms", "head", "history", "target")  # fmt: skip

    def __init__(
        self,
        pool: ConnectionPool,
        route: Route,
        connection: Connection,
        exchange: Exchange,
        head: ResponseHead,
        call: Call,
        request: Outgoing,
        clock: Clock,
    ) -> None:
        self._pool = pool
        self._route = route
        self._connection = connection
        self._exchange = exchange
        self._clock = clock
        self._decode_limit = call.decode_limit
        self.head = head
        self.target = request.target
        self.elapsed_ms = clock.elapsed_ms()
        self.history: list[Response] = []
        self._sent = (
            request.method, request.target.text, head.version, request.fields, request.content.data,
        )  # fmt: skip

    def fill(self, response: Response) -> None:
        """Write all but the body into *response*."""
        head = self.head
        response.status = head.status
        response.reason = head.reason
        response._version = head.version
        response._headers = HeaderMap._from_items(list(head.fields.items))
        response._url = self.target.text
        response._request = self._sent
        response._history = self.history
        response._elapsed_ms = self.elapsed_ms
        response._tls_info = self._exchange.tls

    def has_no_body(self) -> bool:
        """Whether the head says that nothing follows it."""
        framing = self.head.framing
        return framing.kind == NO_BODY or (framing.kind == LENGTH and not framing.length)

    def lift_total(self) -> None:
        """Let the body take as long as it likes, each read within the read timeout."""
        self._clock.lift_total()

    def read_body(self, n: int) -> bytes:
        """The next bytes of the body; ``b""`` at its end."""
        return self._exchange.read_body(n, self._clock)

    def read_counted_into(self, buffer: memoryview) -> int:
        """The next bytes of the body as they came, in *buffer*; 0 where ``read_body`` must say."""
        return self._exchange.read_counted_into(buffer, self._clock)

    def decoded(self, response: Response) -> Callable[[int], bytes] | None:
        """What reads the body with its content codings undone, where this call wants that; the
        fields of *response* then tell of the body as it will be. ``None`` where it is plain.
        Abandons where it raises."""
        limit = self._decode_limit
        if limit is None:
            return None
        try:
            codings = codings_to_undo(self.head, self.target)
        except BaseException:
            self.abandon()
            raise
        if not codings:
            return None
        response.headers.remove("content-encoding")
        response.headers.remove("content-length")
        return decoding_reader(self.read_body, codings, limit, self.target)

    def trailers(self) -> HeaderMap | None:
        """The trailer fields, if there were any."""
        trailers = self._exchange.trailers or EMPTY_BLOCK
        return HeaderMap._from_items(list(trailers.items)) if trailers.items else None

    def buffered(self) -> Response:
        """The response with its whole body; finished."""
        response = Response()
        self.fill(response)
        exchange, clock = self._exchange, self._clock
        read = self.decoded(response)
        try:
            if read is not None:
                response.body = b"".join(iter(lambda: read(READ_BYTES), b""))
                response.headers.set("Content-Length", str(len(response.body)))
            elif body := exchange.read_body(READ_BYTES, clock):
                more = exchange.read_body(READ_BYTES, clock)
                if more:
                    parts = [body, more]
                    while part := exchange.read_body(READ_BYTES, clock):
                        parts.append(part)
                    body = b"".join(parts)
                response.body = body
        except BaseException:
            self.abandon()
            raise
        if exchange.trailers:
            response.trailers = HeaderMap._from_items(list(exchange.trailers.items))
        self.finish()
        return response

    def drained(self) -> Response:
        """The response of a redirect: its body where that is small, else none; finished."""
        response = Response()
        self.fill(response)
        framing = self.head.framing
        if framing.kind == LENGTH and framing.length > MAX_REDIRECT_BODY:
            self.abandon()
            return response
        parts: list[bytes] = []
        size = 0
        try:
            while part := self.read_body(MAX_REDIRECT_BODY):
                parts.append(part)
                size += len(part)
                if size > MAX_REDIRECT_BODY:
                    break
            else:
                response.body = b"".join(parts)
                self.finish()
                return response
        except (Timeout, ConnectionTimeout):
            self.abandon()
            raise
        except NetworkError:
            pass  # where it leads to is known; its body does not matter
        except BaseException:
            self.abandon()
            raise
        self.abandon()
        return response

    def finish(self) -> None:
        """The body was read: give the connection back."""
        self._exchange.finish()
        self._pool.release(self._route, self._connection)

    def abandon(self) -> None:
        """Give up what was not read: the connection, or on HTTP/2 the stream, is dropped."""
        self._exchange.cancel()
        self._pool.release(self._route, self._connection)

    def abandon_later(self) -> None:
        """``abandon`` for a finaliser."""
        self._pool.release_later(self._route, self._connection, self._exchange)


class Sender:
    """Sends calls over the connections of *pool*, by *routes*. Safe from any thread.

    A body that is held back until the server wants it is held back for *expect_ms* at most.
    """

    __slots__ = ("_expect_ms", "_pool", "_routes")

    def __init__(self, pool: ConnectionPool, routes: Routes, expect_ms: int) -> None:
        self._pool = pool
        self._routes = routes
        self._expect_ms = expect_ms

    def send(self, call: Call, clock: Clock) -> Reply:
        """Send *call* once and wait for the response head.

        Where a kept connection fails before any byte of the response, as one does that the server
        had just closed, the call goes out once more on a new one: if it is idempotent or nothing
        of it was sent, and its body is still there to be sent. Whatever it is, it is sent again
        where an HTTP/2 server says that it has not looked at it, or wants it by HTTP/1.1.
        """
        target = call.target
        route = self._routes.to(target, call.tls)
        request = self._outgoing(call, route)
        pool = self._pool
        refusals = 0
        fresh = False
        log = active_log()
        while True:
            call.connected = False
            connection = pool.acquire(route, target.peer, clock, fresh=fresh)
            call.connected = True
            if log is not None:
                log.debug(
                    "%s %s on a %s connection: %s", call.method, masked_url(target.text),
                    "kept" if connection.used else "new", masked_fields(request.fields),
                )  # fmt: skip
            exchange = connection.begin()
            try:
                answer = exchange.exchange(request, clock)
                if answer.status == 101 and connection.upgraded is not None:
                    old = connection
                    connection, exchange = connection.upgraded
                    pool.replace(route, old, connection)
                    answer = exchange.head(clock)
                reply = Reply(pool, route, connection, exchange, answer, call, request, clock)
            except BaseException as exc:
                exchange.cancel()
                pool.release(route, connection)
                if not _may_repeat(exc, exchange, call, refusals):
                    if log is not None:
                        log.debug("%s %s failed: %s", call.method, masked_url(target.text), exc)
                    raise
            else:
                if log is not None:
                    log.debug(
                        "%s %s answered %d in %.1f ms: %s", call.method, masked_url(target.text),
                        answer.status, reply.elapsed_ms, masked_fields(answer.fields),
                    )  # fmt: skip
                if answer.fields.secret:  # as fields with cookies are
                    call.state.keep(target, answer.fields)
                return reply
            refusals += exchange.refused or exchange.wants_h1
            if exchange.wants_h1:
                route = route.without_h2()
            fresh = not exchange.refused
            request = self._outgoing(call, route)  # with the credentials of this attempt

    def _outgoing(self, call: Call, route: Route) -> Outgoing:
        request = call.outgoing()
        if route.proxy is not None and not route.forward:
            request.hide_from_server()
        if call.headers is not None and call.content and awaits_continue(call.headers):
            request.expect_ms = self._expect_ms
        return request

    def follow(self, call: Call, clock: Clock, policy: RedirectPolicy) -> Reply:
        """``send``, and again for each redirect that *policy* follows and each challenge that the
        call's auth answers, under the one deadline.

        Raises ``TooManyRedirects``, ``CrossOriginRedirect``, and ``UrlParseError`` for a
        ``Location`` that is no URL to follow, besides what ``send`` raises.
        """
        reply = self.send(call, clock)
        status = reply.head.status
        if status not in REDIRECT_STATUSES and status != 401:
            return reply
        history: list[Response] = []
        hops = 0
        while True:
            try:
                if reply.head.status == 401:
                    if not call.challenged(reply.head):
                        break
                elif self._redirected(call, reply, policy, hops):
                    hops += 1
                else:
                    break
            except BaseException:
                reply.abandon()
                raise
            reply.history = list(history)
            earlier = reply.drained()
            history.append(earlier)
            call.state.answered(earlier)
            reply = self.send(call, clock)
        reply.history = history
        return reply

    def _redirected(self, call: Call, reply: Reply, policy: RedirectPolicy, hops: int) -> bool:
        """Whether *reply* is a redirect to follow; then *call* has become the next request."""
        status = reply.head.status
        if status not in REDIRECT_STATUSES or policy.mode == RedirectMode.DENY:
            return False
        location = reply.head.fields.get("location")
        if not location:
            return False
        decision = policy.decide(call.target.url, call.method, status, location, hops)
        if decision.action is RedirectAction.STOP:
            raise TooManyRedirects(call.target.text, hops)
        if decision.action is RedirectAction.REJECT:
            raise CrossOriginRedirect(
                status,
                f"redirect to another origin, {masked_url(decision.next_url)}",
                call.target.text,
            )
        call.redirect(decision)
        return True


def _may_repeat(exc: BaseException, exchange: Exchange, call: Call, refusals: int) -> bool:
    """Whether a call whose *exchange* ended with *exc* may be sent once more."""
    if exchange.answered or not isinstance(exc, NetworkError):
        return False
    if exchange.refused or exchange.wants_h1:
        if refusals >= MAX_REFUSALS:
            return False
    elif (
        not exchange.reused
        or isinstance(exc, TimeoutError)
        or (exchange.sent and call.method not in IDEMPOTENT_METHODS)
    ):
        return False
    return not exchange.sent or call.content.rewind()

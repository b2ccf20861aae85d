"""From a call to its response: one ``send``, and the layers round it.

``Sender.send`` is one exchange on one connection, sent again only where a kept connection turned
out to be dead. ``Sender.follow`` is ``send`` with redirects. Whatever else wraps a call (cookies,
retries, decoding) wraps these.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from flare.errors import ConnectionTimeout, NetworkError, Timeout
from flare.http.client.auth import Auth
from flare.http.client.connection import READ_BYTES, H1Connection
from flare.http.client.content import Content, awaits_continue
from flare.http.client.decompress import codings_to_undo, decoding_reader
from flare.http.client.fields import CONTENT_FIELDS, CREDENTIAL_FIELDS, DefaultFields
from flare.http.client.pool import ConnectionPool, Dial
from flare.http.client.redirect import (
    REDIRECT_STATUSES,
    RedirectAction,
    RedirectDecision,
    RedirectMode,
    RedirectPolicy,
)
from flare.http.client.target import Origin, Target
from flare.http.client.timeouts import Clock, ConnectTimeout
from flare.http.client.transport import Transport
from flare.http.errors import CrossOriginRedirect, TooManyRedirects
from flare.http.proto.fields import EMPTY_BLOCK, FieldBlock
from flare.http.proto.framing import LENGTH, NO_BODY
from flare.http.proto.headers import HeaderMap
from flare.http.proto.heads import H1Limits, ResponseHead
from flare.http.request import Request
from flare.http.response import Response
from flare.net import SocketAddr

__all__ = ["Call", "Reply", "Sender", "dial_with"]

# RFC 9110 section 9.2.2.
IDEMPOTENT = frozenset(("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"))
# The most that is read of the body of a redirect so that its connection can be kept.
MAX_REDIRECT_BODY = 64 * 1024

_NO_PEER = SocketAddr.localhost(0)


class Call:
    """What is to be sent, as it stands after the redirects so far.

    ``auth`` is asked anew for each attempt. ``defaults`` are the client's own fields.
    ``decode_limit`` is how many bytes a coded body may decode to, 0 for any number; ``None`` leaves
    it coded.
    """

    __slots__ = ("auth", "content", "decode_limit", "defaults", "headers", "method", "target")

    def __init__(
        self,
        method: str,
        target: Target,
        headers: HeaderMap | None,
        content: Content,
        auth: Auth | None,
        defaults: DefaultFields,
        decode_limit: int | None = None,
    ) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.content = content
        self.auth = auth
        self.defaults = defaults
        self.decode_limit = decode_limit

    def head(self) -> tuple[bytes, FieldBlock]:
        """The request head, and its fields."""
        content = self.content
        framing = content.frame(self.method, self.headers)
        section, fields = self.defaults.compose(
            self.target, self.headers, framing, content.content_type, self.auth
        )
        line = f"{self.method} {self.target.line} HTTP/1.1\r\n"
        return line.encode("ascii") + section, fields

    def redirect(self, decision: RedirectDecision) -> None:
        """Become the request that *decision* wants.

        Credentials are dropped for good where it leaves the origin: coming back does not restore
        them. Raises ``NetworkError`` where a streamed body would be needed a second time.
        """
        target = Target.parse(decision.next_url)
        if decision.next_body_dropped:
            self.content = Content()
        elif not self.content.rewind():
            raise NetworkError(
                f"redirected to {target.text}, but the streamed body cannot be sent again"
            )
        unwanted = CONTENT_FIELDS if decision.next_body_dropped else frozenset()
        if not decision.forward_authorization:
            unwanted |= CREDENTIAL_FIELDS | {"host"}
            self.auth = None
            self.defaults = self.defaults.without_credentials()
        if self.headers is not None:
            headers = self.headers.copy()
            for name in unwanted:
                headers.remove(name)
            self.headers = headers or None
        self.method = decision.next_method
        self.target = target


class Reply:
    """A final response head, and the connection its body is still on.

    Ends in exactly one of ``finish`` (the body was read), ``abandon`` and ``abandon_later``.
    """

    __slots__ = ("_clock", "_connection", "_decode_limit", "_pool", "elapsed_ms", "head", "history",
                 "request", "target")  # fmt: skip

    def __init__(
        self,
        pool: ConnectionPool,
        connection: H1Connection,
        head: ResponseHead,
        call: Call,
        fields: FieldBlock,
        clock: Clock,
    ) -> None:
        self._pool = pool
        self._connection = connection
        self._clock = clock
        self._decode_limit = call.decode_limit
        self.head = head
        self.target = call.target
        self.elapsed_ms = clock.elapsed_ms()
        self.history: list[Response] = []
        self.request = Request._from_wire(
            call.method, call.target.text, "HTTP/1.1", fields, call.content.data, _NO_PEER, False,
            None,
        )  # fmt: skip

    def fill(self, response: Response) -> None:
        """Write all but the body into *response*."""
        head = self.head
        response.status = head.status
        response.reason = head.reason
        response.version = head.version
        response.headers = HeaderMap._from_items(list(head.fields.items))
        response.url = self.target.text
        response.request = self.request
        response.history = self.history
        response.elapsed_ms = self.elapsed_ms

    def has_no_body(self) -> bool:
        """Whether the head says that nothing follows it."""
        framing = self.head.framing
        return framing.kind == NO_BODY or (framing.kind == LENGTH and not framing.length)

    def lift_total(self) -> None:
        """Let the body take as long as it likes, each read within the read timeout."""
        self._clock.lift_total()

    def read_body(self, n: int) -> bytes:
        """The next bytes of the body; ``b""`` at its end."""
        return self._connection.read_body(n, self._clock)

    def decoded(self, response: Response) -> Callable[[int], bytes]:
        """What reads the body, with its content codings undone where this call wants that; the
        fields of *response* then tell of the body as it will be. Abandons where it raises."""
        limit = self._decode_limit
        if limit is None:
            return self.read_body
        try:
            codings = codings_to_undo(self.head, self.target)
        except BaseException:
            self.abandon()
            raise
        if not codings:
            return self.read_body
        response.headers.remove("content-encoding")
        response.headers.remove("content-length")
        return decoding_reader(self.read_body, codings, limit, self.target)

    def trailers(self) -> HeaderMap | None:
        """The trailer fields, if there were any."""
        trailers = self._connection.trailers or EMPTY_BLOCK
        return HeaderMap._from_items(list(trailers.items)) if trailers.items else None

    def buffered(self) -> Response:
        """The response with its whole body; finished."""
        response = Response()
        self.fill(response)
        read = self.decoded(response)
        try:
            body = read(READ_BYTES)
            if body:
                more = read(READ_BYTES)
                if more:
                    parts = [body, more]
                    while part := read(READ_BYTES):
                        parts.append(part)
                    body = b"".join(parts)
        except BaseException:
            self.abandon()
            raise
        response.body = body
        if read != self.read_body:
            response.headers.set("Content-Length", str(len(body)))
        response._trailers = self.trailers()
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
        self._pool.release(self.target.origin, self._connection)

    def abandon(self) -> None:
        """Drop the connection."""
        self._pool.discard(self._connection)

    def abandon_later(self) -> None:
        """``abandon`` for a finaliser."""
        self._pool.discard_later(self._connection)


class Sender:
    """Sends calls over the connections of *pool*. Safe from any thread.

    A body that is held back until the server wants it is held back for *expect_ms* at most.
    """

    __slots__ = ("_expect_ms", "_pool")

    def __init__(self, pool: ConnectionPool, expect_ms: int) -> None:
        self._pool = pool
        self._expect_ms = expect_ms

    def send(self, call: Call, clock: Clock) -> Reply:
        """Send *call* once and wait for the response head.

        Where a kept connection fails before any byte of the response, as one does that the server
        had just closed, the call goes out once more on a new one: if it is idempotent or nothing
        of it was sent, and its body is still there to be sent.
        """
        head, fields = call.head()
        target, content = call.target, call.content
        upgrade = call.headers is not None and "upgrade" in call.headers
        expect_ms = 0
        if call.headers is not None and content and awaits_continue(call.headers):
            expect_ms = self._expect_ms
        pool = self._pool
        fresh = False
        while True:
            connection = pool.acquire(target.origin, target.peer, clock, fresh=fresh)
            try:
                answer = connection.exchange(
                    call.method, head, content, clock, upgrade=upgrade, expect_ms=expect_ms
                )
                return Reply(pool, connection, answer, call, fields, clock)
            except BaseException as exc:
                pool.discard(connection)
                if (
                    connection.used < 2
                    or connection.answered
                    or not isinstance(exc, NetworkError)
                    or isinstance(exc, TimeoutError)
                    or (connection.sent and call.method not in IDEMPOTENT)
                    or (connection.sent and not content.rewind())
                ):
                    raise
            fresh = True
            head, fields = call.head()  # the credentials of this attempt

    def follow(self, call: Call, clock: Clock, policy: RedirectPolicy) -> Reply:
        """``send``, and again for each redirect that *policy* follows, under the one deadline.

        Raises ``TooManyRedirects``, ``CrossOriginRedirect``, and ``UrlParseError`` for a
        ``Location`` that is no URL to follow, besides what ``send`` raises.
        """
        reply = self.send(call, clock)
        if reply.head.status not in REDIRECT_STATUSES or policy.mode == RedirectMode.DENY:
            return reply
        history: list[Response] = []
        while reply.head.status in REDIRECT_STATUSES:
            location = reply.head.fields.get("location")
            if not location:
                break
            try:
                decision = policy.decide(
                    call.target.url, call.method, reply.head.status, location, len(history)
                )
                if decision.action is RedirectAction.STOP:
                    raise TooManyRedirects(call.target.text, len(history))
                if decision.action is RedirectAction.REJECT:
                    raise CrossOriginRedirect(
                        reply.head.status,
                        f"redirect to another origin, {decision.next_url}",
                        call.target.text,
                    )
                call.redirect(decision)
            except BaseException:
                reply.abandon()
                raise
            reply.history = list(history)
            history.append(reply.drained())
            reply = self.send(call, clock)
        reply.history = history
        return reply


def dial_with(transport: Transport, limits: H1Limits) -> Dial:
    """How a pool dials: by *transport*, within the call's connect timeout and deadline.

    A ``ConnectionTimeout`` becomes a ``ConnectTimeout``, which names its phase.
    """

    def dial(origin: Origin, peer: str, clock: Clock) -> H1Connection:
        wait = clock.wait_ms(clock.limits.connect, "connecting", peer)
        deadline = monotonic() + wait / 1000 if wait else None
        try:
            stream = transport.connect(origin.host, origin.port, deadline)
        except ConnectionTimeout as exc:
            raise ConnectTimeout(peer, wait) from exc
        return H1Connection(stream, peer, limits)

    return dial

"""``HttpClient``: a blocking HTTP/1.1 client whose connections are kept and shared by threads."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self, Unpack, cast

from flare._version import __version__
from flare.errors import ValidationError
from flare.http.client.arguments import (
    as_auth,
    as_cookie_jar,
    as_transport,
    checked_cookies,
    checked_retry,
    read_netrc,
)
from flare.http.client.call import Call
from flare.http.client.connection import response_limits
from flare.http.client.content import UNSET, Content, as_source, encode_content
from flare.http.client.decompress import (
    MAX_DECOMPRESSED_BYTES,
    checked_limit,
    wants_decoding,
)
from flare.http.client.dial import Dialer
from flare.http.client.download import HttpDownload
from flare.http.client.fields import DefaultFields, check_method, join_absent, split_absent
from flare.http.client.pool import ConnectionPool
from flare.http.client.proxy import Proxies, environment_of
from flare.http.client.redirect import RedirectMode, RedirectPolicy
from flare.http.client.route import Routes
from flare.http.client.sender import Reply, Sender
from flare.http.client.state import ClientState, RequestHook, ResponseHook, as_hooks
from flare.http.client.target import Params, Target, TargetResolver
from flare.http.client.timeouts import Clock, Timeouts
from flare.http.client.tls_settings import Cert, TlsSettings, Verify
from flare.http.client.transport import TcpTransport, Transport
from flare.http.decoding import accepted_codings
from flare.http.proto.headers import HeaderMap
from flare.http.response import Response

if TYPE_CHECKING:
    from flare.http.client.auth import Auth, ChallengedAuth
    from flare.http.client.call_options import (
        AuthLike,
        BodyOptions,
        CallHeaders,
        CallOptions,
        HeadersLike,
        TimeoutLike,
    )
    from flare.http.client.cookie_jar import ClientCookieJar
    from flare.http.client.multipart import FilesLike
    from flare.http.client.save import Progress
    from flare.http.handler import HandlerLike
    from flare.http.request import Request
    from flare.http.retry import RetryPolicy
    from flare.tls import TlsConfig

__all__ = ["HttpClient"]

_NO_CONTENT = Content()
_DENY = RedirectPolicy.deny()


class HttpClient:
    """A blocking HTTP client with keep-alive. Use it with ``with``; share it between threads.

    ``HttpClient("https://host/base")`` resolves relative URLs against a base;
    ``HttpClient(BearerAuth("..."))`` gives credentials alone, ``HttpClient(base, auth)`` both.
    Credentials go to the base's origin only, and never along with a redirect to another one.

    Times are milliseconds, 0 is no limit. ``timeout_ms`` bounds a whole call, the body included
    unless it is streamed; ``connect_timeout_ms`` (look-up and connect), ``read_timeout_ms``
    (silence), ``write_timeout_ms`` (a stalled write) and ``pool_timeout_ms`` (the wait for a free
    connection) are each ``timeout_ms`` unless given. With ``Expect: 100-continue`` among its
    headers a request's body waits for the server's 100 (Continue), ``expect_timeout_ms`` at most.

    ``pool=False`` closes every connection after its response. Otherwise idle ones are kept,
    ``max_idle_per_host`` for an origin and ``max_idle_total`` in all (0: no cap in all), for
    ``idle_timeout_ms``. At most ``max_connections`` are open at a time (0: no cap).
    Over https the server proves who it is, as ``verify`` says: ``True``, ``False`` for nobody
    (which warns), or a path to the certificates to trust. ``cert`` is our own certificate: a file
    with its key in it, or a pair of files. ``tls``, a ``TlsConfig``, says that and the rest.

    Where an https server speaks HTTP/2 (ALPN), threads share one connection to it. Over http,
    ``prefer_h2c`` says that servers speak it, and ``h2c_upgrade`` asks each whether it does.

    ``proxy`` is an ``http://``, ``socks5://`` or ``socks5h://`` URL, ``""`` for none; without it
    the environment says (``HTTP_PROXY`` and its kin), unless ``trust_env`` is false.

    ``redirect_policy`` wins over ``max_redirects``. A body of more than ``max_response_bytes``
    raises ``NetworkError``. ``headers`` are sent with every request, ``transport`` makes the
    connections (see ``Transport``), or is a handler to be called in place of a server (see
    ``HandlerTransport``).

    ``cookies`` are kept and sent back unless it is false; a ``ClientCookieJar`` given is used, and
    a mapping gives the base URL's host some to begin with. ``retry`` says what is tried again, by
    default nothing. ``on_request`` is called with each ``Request`` before it goes out and may
    change its headers, ``on_response`` with each ``Response``; either may be several, and what one
    raises ends the call. ``netrc`` true looks up credentials in the user's file, or give a path;
    every other way to give some comes first.

    Compressed responses are asked for and decoded as they are read unless ``auto_decompress`` is
    false; a body that decodes to more than ``max_decompressed_bytes`` (0: no limit) raises
    ``NetworkError``.

    Every method is safe from any thread. After ``close`` calls raise ``NetworkError``. A forked
    child starts without the parent's connections.
    """

    # An attribute of a requests.Session that this has not, such as auth or verify, is an error to
    # set: it would have no effect.
    __slots__ = ("__weakref__", "_auth", "_closed", "_decode_limit", "_defaults",
                 "_foreign_defaults", "_headers", "_headers_seen", "_keep_alive", "_limits",
                 "_netrc", "_policy", "_pool", "_resolver", "_retry", "_sender", "_state", "_tls",
                 "_user_agent")  # fmt: skip

    def __init__(
        self,
        base_url: str | AuthLike | TlsConfig = "",
        auth: AuthLike | None = None,
        *,
        tls: TlsConfig | None = None,
        verify: Verify | None = None,
        cert: Cert | None = None,
        prefer_h2c: bool = False,
        h2c_upgrade: bool = False,
        proxy: str | None = None,
        trust_env: bool = True,
        max_redirects: int = 10,
        timeout_ms: int = 30_000,
        user_agent: str = f"flare/{__version__}",
        connect_timeout_ms: int | None = None,
        read_timeout_ms: int | None = None,
        write_timeout_ms: int | None = None,
        pool_timeout_ms: int | None = None,
        expect_timeout_ms: int = 1_000,
        pool: bool = True,
        max_idle_per_host: int = 8,
        max_idle_total: int = 64,
        idle_timeout_ms: int = 90_000,
        max_connections: int = 100,
        redirect_policy: RedirectPolicy | None = None,
        auto_decompress: bool = True,
        max_decompressed_bytes: int = MAX_DECOMPRESSED_BYTES,
        max_response_bytes: int | None = None,
        headers: HeadersLike | None = None,
        cookies: bool | ClientCookieJar | Mapping[str, str] = True,
        retry: RetryPolicy | None = None,
        netrc: bool | str | os.PathLike[str] = False,
        on_request: RequestHook | Iterable[RequestHook] | None = None,
        on_response: ResponseHook | Iterable[ResponseHook] | None = None,
        transport: Transport | HandlerLike | str | None = None,
    ) -> None:
        if not isinstance(base_url, str):
            if hasattr(base_url, "alpn"):  # a TlsConfig, whose class is loaded for https only
                if tls is not None:
                    raise TypeError("give one TlsConfig")
                tls, base_url = cast("TlsConfig", base_url), ""
            elif auth is not None:
                raise TypeError("give base_url first, then auth")
            else:
                auth, base_url = base_url, ""
        self._resolver = TargetResolver(base_url)
        self._auth = as_auth(auth)
        self._limits = Timeouts.of(
            timeout_ms, connect_timeout_ms, read_timeout_ms, write_timeout_ms, pool_timeout_ms
        )
        self._policy = redirect_policy or RedirectPolicy(max_redirects)
        if max_response_bytes is not None and max_response_bytes < 0:
            raise ValidationError("max_response_bytes", f"must be >= 0, got {max_response_bytes}")
        chosen = TcpTransport() if transport is None else as_transport(transport)
        self._retry = None if retry is None else checked_retry(retry)
        self._netrc = read_netrc(netrc)
        self._state = self._new_state(cookies, as_hooks(on_request), as_hooks(on_response))
        self._closed = threading.Event()
        self._user_agent = user_agent
        self._headers = HeaderMap(headers)
        self._keep_alive = pool
        self._decode_limit = checked_limit(max_decompressed_bytes) if auto_decompress else None
        self._set_defaults()
        self._tls = TlsSettings(tls, verify, cert)
        self._pool = ConnectionPool(
            Dialer(chosen, response_limits(max_response_bytes)),
            max_idle_per_host=max_idle_per_host if pool else 0,
            max_idle_total=max_idle_total,
            idle_timeout_ms=idle_timeout_ms,
            max_connections=max_connections,
        )
        if expect_timeout_ms < 1:
            raise ValidationError("expect_timeout_ms", f"must be > 0, got {expect_timeout_ms}")
        # A transport of the caller's own leads where it leads, whatever the environment says.
        proxies = Proxies(proxy, environment_of(trust_env and transport is None))
        routes = Routes(self._tls, proxies, prefer_h2c=prefer_h2c, h2c_upgrade=h2c_upgrade)
        self._sender = Sender(self._pool, routes, expect_timeout_ms)

    def _new_state(
        self,
        cookies: bool | ClientCookieJar | Mapping[str, str],
        on_request: tuple[RequestHook, ...],
        on_response: tuple[ResponseHook, ...],
    ) -> ClientState:
        base = self._resolver.base
        jar = as_cookie_jar(cookies)
        if jar is not None and base is not None and not jar.host:
            jar.host, jar.port = base.url.host, base.url.port
        state = ClientState(jar, cookies is not False, base, on_request, on_response)
        if isinstance(cookies, Mapping):
            state.jar().update(cookies)
        return state

    def _set_defaults(self) -> None:
        self._defaults = DefaultFields(
            self._user_agent,
            self._headers,
            keep_alive=self._keep_alive,
            accept_encoding="" if self._decode_limit is None else accepted_codings(),
        )
        self._foreign_defaults = self._defaults.without_credentials()
        self._headers_seen = self._headers._items.copy()

    @classmethod
    def default(cls) -> Self:
        """The same as ``HttpClient()``."""
        return cls()

    @property
    def base_url(self) -> str:
        """What relative URLs are resolved against, without user name and password."""
        base = self._resolver.base
        return base.text if base else ""

    @property
    def headers(self) -> HeaderMap:
        """The fields sent with every request besides the automatic ones, which they replace.
        Change them as you like, but not while another thread makes a call."""
        return self._headers

    @headers.setter
    def headers(self, headers: HeadersLike) -> None:
        self._headers = HeaderMap(headers)

    @property
    def cookies(self) -> ClientCookieJar:
        """The cookies kept so far; to be looked at and changed from any thread."""
        return self._state.jar()

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._closed.is_set()

    def request(
        self,
        method: str,
        url: str,
        body: Any = None,
        *,
        headers: CallHeaders | None = None,
        params: Params | None = None,
        json: Any = UNSET,
        data: Any = None,
        files: FilesLike | None = None,
        auth: AuthLike | None = None,
        cookies: Mapping[str, str] | None = None,
        timeout: TimeoutLike | None = None,
        timeout_ms: int | None = None,
        retry: RetryPolicy | None = None,
        stream: bool = False,
        follow_redirects: bool | None = None,
        verify: Verify | None = None,
        cert: Cert | None = None,
    ) -> Response:
        """Send a request and return the response, whatever its status.

        *body*: text is JSON already and sent as such, bytes go as they are without a
        ``Content-Type``, a dict, list, number or bool is encoded as JSON; a binary file, an
        iterator of bytes, a ``ChunkSource`` or a ``MultipartFormBuilder`` is streamed. Or one of
        *json* (any value, of which ``None`` is ``null``) and *data* (a mapping or pairs,
        form-encoded; text, bytes, a file or an iterator of bytes are sent as they are, without a
        type). *files*, unless empty, makes it ``multipart/form-data``, with the fields of *data*: a
        mapping or pairs of names and either a ``Path``, an open binary file, bytes, or a tuple of
        filename, one of these, and perhaps a type and more headers. *params* are appended to the
        query. ``None`` as a value of *headers* leaves out the client's field, or the automatic one:
        as ``Cookie`` the cookies kept, as ``Authorization`` all credentials but *auth*.

        *auth* replaces the client's. *cookies* go along to this origin, before those kept; a
        ``Cookie`` field among *headers* in place of those. *timeout* is seconds, or a pair for
        connect and read, *timeout_ms* milliseconds; ``None`` leaves the client's, 0 is no limit.
        *retry* replaces the client's policy; all attempts share the one deadline. *stream* returns
        an ``HttpDownload``, to be read and closed by the caller. *follow_redirects* false returns
        a redirect as it is, true follows even where the client's policy says not to. *verify* and
        *cert* replace the client's.

        Blocks until the body has arrived (with *stream*: the head), or the timeout ends it.
        Raises ``ValidationError``, ``UrlParseError`` or ``HeaderInjectionError`` before anything
        is sent; ``CallTimeout`` or ``ConnectTimeout``, whose ``phase`` says which limit ran out;
        ``DnsError``, ``ConnectionRefused``, ``ConnectionReset``, ``BrokenPipe``;
        ``TlsHandshakeError`` and, below it, ``CertificateExpired``,
        ``CertificateHostnameMismatch`` and ``CertificateUntrusted``;
        ``HttpProtocolError`` for an answer that is not HTTP or incomplete; ``TooManyRedirects``,
        ``CrossOriginRedirect``; ``NetworkError``, the base of these, for the rest.
        """
        content = _NO_CONTENT
        if body is not None or json is not UNSET or data is not None or files is not None:
            content = encode_content(body, json, data, files)
        return self._call(
            method, url, content, params, headers, auth, cookies, timeout, timeout_ms, retry,
            stream, follow_redirects, verify, cert,
        )  # fmt: skip

    def _call(
        self,
        method: str,
        url: str,
        content: Content,
        params: Params | None,
        given: CallHeaders | None,
        auth: AuthLike | None,
        cookies: Mapping[str, str] | None,
        timeout: TimeoutLike | None,
        timeout_ms: int | None,
        retry: RetryPolicy | None,
        stream: bool,
        follow_redirects: bool | None,
        verify: Verify | None,
        cert: Cert | None,
    ) -> Response:
        try:
            headers, absent = (None, frozenset()) if given is None else split_absent(given)
            if "content-type" in absent:
                content.content_type = ""
            method = check_method(method, content)
            target = self._resolver.resolve(url, params)
            limits = self._limits
            if timeout is not None or timeout_ms is not None:
                limits = limits.for_call(timeout, timeout_ms)
            if self._headers._items != self._headers_seen:
                self._set_defaults()
            at_home = self._is_home(target)
            call = Call(
                method,
                target,
                headers or None,
                content,
                self._auth_for(target, headers, absent, auth, at_home),
                (self._defaults if at_home else self._foreign_defaults).without(absent),
                self._state,
                checked_cookies(cookies, headers) if cookies else None,
                "cookie" not in absent,
                self._decode_limit if headers is None or wants_decoding(headers) else None,
                self._tls if verify is None and cert is None else self._tls.but(verify, cert),
            )
            policy = (
                self._policy if follow_redirects is None else self._policy_for(follow_redirects)
            )
            clock = Clock(limits)
            retry = self._retry if retry is None else retry
            if retry is None:
                reply = self._sender.follow(call, clock, policy)
                response = _streamed(reply) if stream else reply.buffered()
            else:
                from flare.http.client.retries import Retries

                retries = Retries(checked_retry(retry), call, clock, self._closed)
                response = retries.run(
                    lambda attempt: self._sender.follow(attempt, clock, policy),
                    _streamed if stream else Reply.buffered,
                )
            if self._state.on_response:
                self._show(response)
            return response
        finally:
            if content.source is not None:
                content.close()

    def _show(self, response: Response) -> None:
        try:
            self._state.answered(response)
        except BaseException:
            response.close()
            raise

    def _is_home(self, target: Target) -> bool:
        base = self._resolver.base
        return base is None or target.origin == base.origin

    def _auth_for(
        self,
        target: Target,
        headers: HeaderMap | None,
        absent: frozenset[str],
        auth: AuthLike | None,
        at_home: bool,
    ) -> Auth | ChallengedAuth | None:
        """The call's own credentials, or a field among *headers*, or none where it is *absent*, or
        the client's, or the URL's, or the user's file's."""
        if auth is not None:
            return as_auth(auth)
        if "authorization" in absent or (headers is not None and "authorization" in headers):
            return None
        if self._auth is not None and at_home:
            return self._auth
        base = self._resolver.base
        if target.auth is None and at_home and base is not None and base.auth is not None:
            return base.auth
        if target.auth is None and self._netrc is not None:
            return self._netrc.find(target.origin.host)
        return target.auth

    def _policy_for(self, follow_redirects: bool) -> RedirectPolicy:
        if not follow_redirects:
            return _DENY
        return RedirectPolicy() if self._policy.mode == RedirectMode.DENY else self._policy

    def get(self, url: str, **kwargs: Unpack[CallOptions]) -> Response:
        """GET *url*; the keywords are those of ``request``."""
        return self.request("GET", url, **kwargs)

    def head(self, url: str, **kwargs: Unpack[CallOptions]) -> Response:
        """HEAD *url*; the keywords are those of ``request``."""
        return self.request("HEAD", url, **kwargs)

    def options(self, url: str, **kwargs: Unpack[CallOptions]) -> Response:
        """OPTIONS *url*; the keywords are those of ``request``."""
        return self.request("OPTIONS", url, **kwargs)

    def delete(self, url: str, **kwargs: Unpack[CallOptions]) -> Response:
        """DELETE *url*; the keywords are those of ``request``."""
        return self.request("DELETE", url, **kwargs)

    def post(self, url: str, body: Any = None, **kwargs: Unpack[BodyOptions]) -> Response:
        """POST *body* to *url*; body and keywords are those of ``request``."""
        return self.request("POST", url, body, **kwargs)

    def put(self, url: str, body: Any = None, **kwargs: Unpack[BodyOptions]) -> Response:
        """PUT *body* at *url*; body and keywords are those of ``request``."""
        return self.request("PUT", url, body, **kwargs)

    def patch(self, url: str, body: Any = None, **kwargs: Unpack[BodyOptions]) -> Response:
        """PATCH *url* with *body*; body and keywords are those of ``request``."""
        return self.request("PATCH", url, body, **kwargs)

    def send(
        self,
        request: Request,
        *,
        auth: AuthLike | None = None,
        cookies: Mapping[str, str] | None = None,
        timeout: TimeoutLike | None = None,
        timeout_ms: int | None = None,
        retry: RetryPolicy | None = None,
        stream: bool = False,
        follow_redirects: bool | None = None,
        verify: Verify | None = None,
        cert: Cert | None = None,
    ) -> Response:
        """Send *request*, whose ``url`` is absolute or relative to the base; else as ``request``.

        Its headers and body go as they are. It is not changed.
        """
        return self._call(
            request.method, request.url, Content(bytes(request.body)), None, request.headers,
            auth, cookies, timeout, timeout_ms, retry, stream, follow_redirects, verify, cert,
        )  # fmt: skip

    def send_chunked(
        self,
        method: str,
        url: str,
        source: Any,
        content_type: str = "application/octet-stream",
        **kwargs: Unpack[CallOptions],
    ) -> Response:
        """Stream *source* by chunked transfer coding; the keywords are those of ``request``.

        *source* is an iterator of bytes, a ``ChunkSource`` or a binary file. What it raises is
        raised, and the connection dropped. Empty chunks are left out.
        """
        headers, absent = split_absent(kwargs.get("headers") or ())
        if "content-type" not in absent:
            headers.setdefault("Content-Type", content_type)
        headers.set("Transfer-Encoding", "chunked")
        kwargs["headers"] = join_absent(headers, absent)
        return self.request(method, url, as_source(source), **kwargs)

    def get_streaming(self, url: str, **kwargs: Unpack[CallOptions]) -> HttpDownload:
        """GET *url*, without its body: read that from the ``HttpDownload``, and close it.

        The keywords are those of ``request``.
        """
        kwargs["stream"] = True
        download = self.request("GET", url, **kwargs)
        assert isinstance(download, HttpDownload)
        return download

    def download(
        self,
        url: str,
        path: str | os.PathLike[str],
        *,
        resume: bool = True,
        progress: Progress | None = None,
        **kwargs: Unpack[CallOptions],
    ) -> HttpDownload:
        """GET *url* into the file *path*, which is there when it is whole and not before.

        The bytes are written to *path* with ``.part`` at its end, never more than 1 MiB in memory.
        With *resume* a download that failed leaves that file, and ``.part-info`` beside it, if the
        server can tell its versions apart; another call for the same URL then asks for the rest,
        and starts anew where the server has another version or no ranges. *progress* is called
        with the bytes that are there and the size of the file, ``None`` if that is unknown.

        Returns the response, whose body is read. Its status is a 2xx, or a 416 by which the server
        said that nothing was missing; another raises ``HttpError``, and *path* is left as it is.
        Raises what ``request`` does and ``OSError`` for the file, ``BlockingIOError`` among it
        where another download is writing the same one. The total of the timeout ends with the
        head. *kwargs* are those of ``request``; ``Range`` and ``If-Range`` are not for the caller.
        """
        from flare.http.client.save import save

        headers, absent = split_absent(kwargs.pop("headers", None) or ())
        if "range" in headers or "if-range" in headers:
            raise ValidationError("headers", "a download sets Range and If-Range by itself")

        def fetch(asked: HeaderMap) -> HttpDownload:
            kwargs["headers"] = join_absent(asked, absent)
            return self.get_streaming(url, **kwargs)

        whole_url = self._resolver.resolve(url, kwargs.get("params")).text
        return save(fetch, whole_url, path, headers, resume=resume, progress=progress)

    def with_pool(
        self, max_idle_per_host: int = 8, max_idle_total: int = 64, idle_timeout_ms: int = 90_000
    ) -> Self:
        """Keep connections with these limits, as the constructor's; returns the client."""
        self._pool.configure(max_idle_per_host, max_idle_total, idle_timeout_ms)
        self._keep_alive = True
        self._set_defaults()
        return self

    def with_cookies(self) -> Self:
        """Keep cookies from now on, also where the constructor was told not to; returns the
        client."""
        self._state.keeps_cookies = True
        return self

    def with_retry(self, policy: RetryPolicy | None = None) -> Self:
        """Try again by *policy*, or ``RetryPolicy()``, from now on; returns the client."""
        from flare.http.retry import RetryPolicy

        self._retry = RetryPolicy() if policy is None else checked_retry(policy)
        return self

    def cookie_header(self, url: str = "") -> str:
        """The ``Cookie`` field that a GET of *url* would get now, the base URL's without one."""
        target = self._resolver.resolve(url)
        return self._state.jar().header_for(target.url) if self._state.keeps_cookies else ""

    def with_max_decompressed_bytes(self, max_bytes: int) -> Self:
        """Decode at most so many bytes a body from now on, 0 for any number; returns the client."""
        limit = checked_limit(max_bytes)
        self._decode_limit = None if self._decode_limit is None else limit
        return self

    def with_redirect_policy(self, policy: RedirectPolicy) -> Self:
        """Follow redirects by *policy* from now on; returns the client."""
        self._policy = policy
        return self

    def idle_count(self) -> int:
        """How many idle connections are kept."""
        return self._pool.idle_count()

    def close(self) -> None:
        """Close the idle connections; calls under way, downloads too, may end, but for those that
        wait for another attempt. Idempotent."""
        self._closed.set()
        self._pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __del__(self) -> None:
        pool: Any = getattr(self, "_pool", None)
        if pool is not None and pool.idle_count():
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
            pool.close()

    def __repr__(self) -> str:
        active, idle, waiting = self._pool.counts()
        base = f" {self.base_url}" if self.base_url else ""
        return f"<HttpClient{base} active={active} idle={idle} waiting={waiting}>"


def _streamed(reply: Reply) -> HttpDownload:
    reply.lift_total()
    return HttpDownload(reply)

"""What every call of a client shares besides its connections: cookies, and hooks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from flare.http.proto.fields import FieldBlock, Item

if TYPE_CHECKING:
    from flare.http.client.cookie_jar import ClientCookieJar, StoredCookie
    from flare.http.client.target import Target
    from flare.http.request import Request
    from flare.http.response import Response

__all__ = ["ClientState", "RequestHook", "ResponseHook", "as_hooks"]

RequestHook = Callable[["Request"], object]
ResponseHook = Callable[["Response"], object]


class ClientState:
    """``kept`` is the jar, made with the first cookie or the first look at it: most clients never
    see one. ``base`` is where cookies belong that a program sets by name alone.
    """

    __slots__ = ("_base", "_made", "keeps_cookies", "kept", "on_request", "on_response")

    def __init__(
        self,
        jar: ClientCookieJar | None,
        keeps_cookies: bool,
        base: Target | None,
        on_request: tuple[RequestHook, ...],
        on_response: tuple[ResponseHook, ...],
    ) -> None:
        self.kept = jar
        self._base = base
        self._made: dict[str, ClientCookieJar] = {}
        self.keeps_cookies = keeps_cookies
        self.on_request = on_request
        self.on_response = on_response

    def jar(self) -> ClientCookieJar:
        """The jar."""
        if self.kept is None:
            from flare.http.client.cookie_jar import ClientCookieJar

            base = self._base
            host, port = (base.url.host, base.url.port) if base else ("", 0)
            # setdefault is one step: of two threads that get here both go on with the same jar.
            self.kept = self._made.setdefault("jar", ClientCookieJar(host=host, port=port))
        return self.kept

    def keep(self, target: Target, fields: FieldBlock) -> None:
        """Take the cookies of a response from *target*."""
        values = [value for lower, _, value in fields.items if lower == "set-cookie"]
        if values and self.keeps_cookies:
            self.jar().store(target.url, values)

    def cookies_for(
        self, target: Target, method: str, *, redirected: bool, cross_site: bool
    ) -> list[StoredCookie]:
        """The cookies to send to *target*."""
        if not self.kept or not self.keeps_cookies:
            return []
        return self.kept.matching(target.url, method, redirected=redirected, cross_site=cross_site)

    def asked(self, request: Request) -> tuple[Item, ...]:
        """The fields of *request* as the hooks leave them."""
        for hook in self.on_request:
            hook(request)
        return tuple(request.headers._items)

    def answered(self, response: Response) -> None:
        """Show *response* to the hooks."""
        for hook in self.on_response:
            hook(response)


def as_hooks(hooks: Any) -> tuple[Any, ...]:
    """*hooks*, one or several of them or ``None``, as a tuple. Raises ``TypeError``."""
    if hooks is None:
        return ()
    if callable(hooks):
        return (hooks,)
    if not isinstance(hooks, Iterable) or not all(map(callable, made := tuple(hooks))):
        raise TypeError("a hook must be callable")
    return made

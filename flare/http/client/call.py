"""What one call of a client sends, and how it changes on the way to its answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flare.errors import NetworkError
from flare.http.client.content import Content
from flare.http.client.fields import (
    CONTENT_FIELDS,
    DefaultFields,
    changed_section,
    is_credential,
)
from flare.http.client.outgoing import Outgoing
from flare.http.client.redirect import RedirectDecision, same_site
from flare.http.client.state import ClientState
from flare.http.client.target import Target
from flare.http.client.tls_settings import TlsSettings
from flare.http.errors import masked_url
from flare.http.proto.headers import HeaderMap
from flare.http.proto.heads import ResponseHead

if TYPE_CHECKING:
    from flare.http.client.auth import Auth, ChallengedAuth, Signing
    from flare.http.client.cookie_jar import StoredCookie

__all__ = ["Call"]

# One for the first answer, one for a nonce that was stale by then.
MAX_CHALLENGES = 2


class Call:
    """What is to be sent, as it stands after the redirects so far.

    ``auth`` is asked anew for each attempt. ``defaults`` are the client's own fields.
    ``decode_limit`` is how many bytes a coded body may decode to, 0 for any number; ``None`` leaves
    it coded, ``tls`` how to do TLS. ``cookies`` are the call's own, ``sends_kept`` says whether the
    client's go along, ``state`` is what it shares with others.

    ``abroad`` says that a redirect has led to another origin, ``cross_site`` to another site;
    ``challenges`` counts those of this origin, ``connected`` tells after a failure whether there
    was a connection.
    """

    __slots__ = ("abroad", "auth", "challenges", "connected", "content", "cookies", "cross_site",
                 "decode_limit", "defaults", "headers", "method", "sends_kept", "state", "target",
                 "tls")  # fmt: skip

    def __init__(
        self,
        method: str,
        target: Target,
        headers: HeaderMap | None,
        content: Content,
        auth: Auth | ChallengedAuth | None,
        defaults: DefaultFields,
        state: ClientState,
        cookies: dict[str, str] | None,
        sends_kept: bool,
        decode_limit: int | None,
        tls: TlsSettings,
    ) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.content = content
        self.auth = auth
        self.defaults = defaults
        self.state = state
        self.cookies = cookies
        self.sends_kept = sends_kept
        self.decode_limit = decode_limit
        self.tls = tls
        self.abroad = self.cross_site = self.connected = False
        self.challenges = 0

    def copy(self) -> Call:
        """The same call, to be sent from the beginning."""
        return Call(
            self.method, self.target, self.headers, self.content, self.auth, self.defaults,
            self.state, self.cookies, self.sends_kept, self.decode_limit, self.tls,
        )  # fmt: skip

    def outgoing(self) -> Outgoing:
        """The request as it is to be sent now."""
        content, state = self.content, self.state
        framing = content.frame(self.method, self.headers)
        section, fields = self.defaults.compose(
            self.target, self.headers, framing, content.content_type,
            None if self.auth is None else self._proof(self.auth),
            self._cookie_field() if self.cookies or state.kept is not None else "",
        )  # fmt: skip
        if state.on_request:
            from flare.http.request import Request
            from flare.net import SocketAddr

            request = Request._from_wire(
                self.method, self.target.text, "HTTP/1.1", fields, content.data,
                SocketAddr.localhost(0), False, None,
            )  # fmt: skip
            section, fields = changed_section(fields.items, state.asked(request))
        upgrade = self.headers is not None and "upgrade" in self.headers
        return Outgoing(self.method, self.target, section, fields, content, upgrade)

    def _proof(self, auth: Auth | ChallengedAuth) -> HeaderMap:
        from flare.http.client.auth import ChallengedAuth

        proof = HeaderMap()
        if isinstance(auth, ChallengedAuth):
            auth.authorize(self._signing(), proof)
        else:
            auth.apply(proof)
        return proof

    def _signing(self) -> Signing:
        from flare.http.client.auth import Signing

        target, content = self.target, self.content
        body = None if content.source is not None else content.data
        return Signing(self.method, f"{target.origin.scheme}://{target.peer}", target.line, body)

    def _cookie_field(self) -> str:
        own = self.cookies
        kept = self._kept_cookies() if self.sends_kept else []
        if not own:
            return "; ".join([f"{each.name}={each.value}" for each in kept]) if kept else ""
        pairs = [f"{each.name}={each.value}" for each in kept if each.name not in own]
        return "; ".join([*pairs, *(f"{name}={value}" for name, value in own.items())])

    def _kept_cookies(self) -> list[StoredCookie]:
        return self.state.cookies_for(
            self.target, self.method, redirected=self.abroad, cross_site=self.cross_site
        )

    def challenged(self, head: ResponseHead) -> bool:
        """Whether the 401 *head* can be answered by sending the request once more."""
        auth = self.auth
        if auth is None:
            return False
        from flare.http.client.auth import ChallengedAuth

        if not isinstance(auth, ChallengedAuth) or self.challenges >= MAX_CHALLENGES:
            return False
        asked = [value for lower, _, value in head.fields.items if lower == "www-authenticate"]
        again = auth.challenged(self._signing(), asked, again=self.challenges > 0)
        self.challenges += 1
        return again and self.content.rewind()

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
                f"redirected to {masked_url(target.text)}, "
                "but the streamed body cannot be sent again"
            )
        away = not decision.forward_authorization
        if away:
            self.auth = self.cookies = None
            self.defaults = self.defaults.without_credentials()
            self.abroad = True
            self.cross_site = self.cross_site or not same_site(self.target.url, target.url)
        if self.headers is not None:
            kept = [
                item
                for item in self.headers._items
                if not (decision.next_body_dropped and item[0] in CONTENT_FIELDS)
                and not (away and (item[0] == "host" or is_credential(item[0])))
            ]
            self.headers = HeaderMap._from_items(kept) if kept else None
        self.method = decision.next_method
        self.target = target
        self.challenges = 0

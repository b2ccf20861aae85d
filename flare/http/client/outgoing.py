"""One request as it is to be sent: what every wire needs to know of it."""

from __future__ import annotations

from flare.http.client.content import Content
from flare.http.client.fields import encode_section
from flare.http.client.target import Target
from flare.http.proto.fields import FieldBlock

__all__ = ["PROXY_FIELD", "Outgoing"]

PROXY_FIELD = "proxy-authorization"


class Outgoing:
    """A request, ready: ``section`` is ``fields`` as HTTP/1.1 has them, empty line included.

    ``upgrade`` says that the request asks for one, so that a 101 is an answer; ``expect_ms`` is for
    how long the body is held back until the server wants it.
    """

    __slots__ = ("content", "expect_ms", "fields", "method", "section", "target", "upgrade")

    def __init__(
        self,
        method: str,
        target: Target,
        section: bytes,
        fields: FieldBlock,
        content: Content,
        upgrade: bool = False,
    ) -> None:
        self.method = method
        self.target = target
        self.section = section
        self.fields = fields
        self.content = content
        self.upgrade = upgrade
        self.expect_ms = 0

    def hide_from_server(self) -> None:
        """Take out what is for a proxy alone: this goes through one, to the server."""
        if any(item[0] == PROXY_FIELD for item in self.fields.items):
            kept = tuple(item for item in self.fields.items if item[0] != PROXY_FIELD)
            self.section, self.fields = encode_section(kept)

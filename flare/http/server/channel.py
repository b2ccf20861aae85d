"""Messages between a worker process and its parent: a name and a value, a line of JSON each.

The end of the channel is a message too: it tells that the other side is gone, whatever ended it.
"""

from __future__ import annotations

import json
import socket
from typing import Any

from flare.errors import map_oserror

__all__ = ["Channel", "channel", "shortened"]

_LONGEST = 4096


class Channel:
    """One end. Neither ``say`` nor ``hear`` blocks."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._rest = b""
        self.ended = False
        """Whether the other side has closed its end."""

    def fileno(self) -> int:
        """The descriptor to watch: it is readable when there is something to hear."""
        return self._sock.fileno()

    def say(self, name: str, value: Any = None) -> None:
        """Send a message. To nobody where the other side is gone; it is dropped where the other
        side has not listened for hundreds of messages. Any thread, any signal handler."""
        try:
            self._sock.send(json.dumps([name, value]).encode() + b"\n")
        except OSError:
            pass

    def hear(self) -> list[tuple[str, Any]]:
        """The messages that have come."""
        heard = []
        while not self.ended:
            try:
                data = self._sock.recv(65536)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            self.ended = not data
            *lines, self._rest = (self._rest + data).split(b"\n")
            heard += [(name, value) for name, value in map(json.loads, lines)]
        return heard

    def close(self) -> None:
        """Let go of this end; idempotent."""
        self._sock.close()


def channel() -> tuple[Channel, Channel]:
    """A pair of ends, the parent's and the child's. Raises ``NetworkError``."""
    try:
        ours, theirs = socket.socketpair()
    except OSError as error:
        raise map_oserror(error, "socketpair") from error
    ours.setblocking(False)
    theirs.setblocking(False)
    return Channel(ours), Channel(theirs)


def shortened(text: str) -> str:
    """*text*, cut so that a message holds it."""
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"

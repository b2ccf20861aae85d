"""A client's end of one HTTP/2 connection, frame by frame, for the tests beside it."""

from __future__ import annotations

from dataclasses import dataclass, field

from serving import Address, Peer

from flare.http2 import (
    H2_PREFACE,
    HpackDecoder,
    HpackEncoder,
    build_rst,
    build_settings,
    build_window_update,
)
from flare.http2.frame import build_frame

END_STREAM, ACK, END_HEADERS = 1, 1, 4
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, _, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(
    10
)
INITIAL_WINDOW = 4
Field = tuple[str, str]


@dataclass
class Frame:
    kind: int
    flags: int
    sid: int
    payload: bytes


@dataclass
class Answer:
    """What came on one stream: ``ended`` by END_STREAM, or ``reset`` with a code."""

    fields: list[Field] = field(default_factory=list)
    interim: list[str] = field(default_factory=list)
    body: bytes = b""
    trailers: list[Field] = field(default_factory=list)
    ended: bool = False
    reset: int | None = None

    @property
    def status(self) -> int:
        return int(self.get(":status") or 0)

    def get(self, name: str) -> str | None:
        values = [value for key, value in self.fields if key == name]
        assert len(values) <= 1, f"{name} comes {len(values)} times"
        return values[0] if values else None


class H2Peer(Peer):
    """Has said the preface and its *settings*, and acknowledges the server's.

    It opens the windows again by what it has read, unless *stingy*.
    """

    def __init__(
        self,
        address: Address,
        settings: dict[int, int] | None = None,
        *,
        stingy: bool = False,
        start: bool = True,
        receive_buffer: int = 0,
    ) -> None:
        super().__init__(address, receive_buffer=receive_buffer)
        self.stingy = stingy
        self.decoder = HpackDecoder()
        self.encoder = HpackEncoder()
        self.streams: dict[int, Answer] = {}
        self.goaways: list[tuple[int, int]] = []
        self.pongs: list[bytes] = []
        self.settings: dict[int, int] = {}
        self.last = -1
        if start:
            self.send(H2_PREFACE + build_settings(settings or {}))

    # -- asking ---------------------------------------------------------------------------

    def open(
        self,
        target: str = "/",
        method: str = "GET",
        fields: list[Field] | None = None,
        *,
        end: bool = True,
        raw: list[Field] | None = None,
    ) -> bytes:
        """The next request's HEADERS; ``last`` is its stream."""
        self.last += 2
        self.streams[self.last] = Answer()
        head = raw or [
            (":method", method),
            (":scheme", "http"),
            (":authority", "h"),
            (":path", target),
            *(fields or []),
        ]
        return build_frame(HEADERS, END_HEADERS | end, self.last, self.encoder.encode(head))

    def ask(self, target: str = "/", method: str = "GET", **options: object) -> int:
        self.send(self.open(target, method, **options))  # type: ignore[arg-type]
        return self.last

    def body(self, sid: int, data: bytes, *, end: bool = True) -> None:
        """*data* in frames, as the windows allow: no more than they hold at first."""
        for start in range(0, len(data), 16384):
            last = end and start + 16384 >= len(data)
            self.send(build_frame(DATA, int(last), sid, data[start : start + 16384]))
        if end and not data:
            self.send(build_frame(DATA, END_STREAM, sid))

    def rst(self, sid: int, code: int = 8) -> None:
        self.send(build_rst(sid, code))

    def ping(self, data: bytes = b"12345678") -> None:
        self.send(build_frame(PING, 0, 0, data))

    def await_pong(self, data: bytes = b"12345678") -> None:
        """Whatever the server had to say before the PING has been said."""
        self.ping(data)
        while data not in self.pongs:
            self.take()
        self.pongs.remove(data)

    # -- listening ------------------------------------------------------------------------

    def frame(self) -> Frame:
        head = self._exactly(9)
        payload = self._exactly(int.from_bytes(head[:3], "big"))
        sid = int.from_bytes(head[5:], "big") & 0x7FFFFFFF
        return Frame(head[3], head[4], sid, payload)

    def take(self) -> Frame:
        """Take one frame in."""
        frame = self.frame()
        answer = self.streams.setdefault(frame.sid, Answer()) if frame.sid else Answer()
        if frame.kind == HEADERS:
            assert frame.flags & END_HEADERS
            self._take_fields(answer, frame)
        elif frame.kind == DATA:
            answer.body += frame.payload
            if frame.payload and not self.stingy:
                size = len(frame.payload)
                self._reply(build_window_update(0, size) + build_window_update(frame.sid, size))
        elif frame.kind == RST_STREAM:
            answer.reset = int.from_bytes(frame.payload, "big")
        elif frame.kind == SETTINGS and not frame.flags & ACK:
            for at in range(0, len(frame.payload), 6):
                number = int.from_bytes(frame.payload[at : at + 2], "big")
                self.settings[number] = int.from_bytes(frame.payload[at + 2 : at + 6], "big")
            self._reply(build_settings(ack=True))
        elif frame.kind == PING:
            if frame.flags & ACK:
                self.pongs.append(frame.payload)
            else:
                self._reply(build_frame(PING, ACK, 0, frame.payload))
        elif frame.kind == GOAWAY:
            code = int.from_bytes(frame.payload[4:8], "big")
            self.goaways.append((int.from_bytes(frame.payload[:4], "big"), code))
        if frame.kind in (HEADERS, DATA) and frame.flags & END_STREAM:
            answer.ended = True
        return frame

    def _reply(self, data: bytes) -> None:
        """Send *data*; where the server has closed meanwhile, what it said before is still to be
        read."""
        try:
            self.send(data)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def _take_fields(self, answer: Answer, frame: Frame) -> None:
        fields = [(name, value) for name, value, _ in self.decoder.decode(frame.payload)]
        if answer.fields:
            answer.trailers = fields
        elif fields[0][1].startswith("1"):
            answer.interim.append(fields[0][1])
        else:
            answer.fields = fields

    def read(self, sid: int | None = None) -> Answer:  # type: ignore[override]
        """The whole answer on a stream, the last one's if no other; or what there is at a reset."""
        answer = self.streams[self.last if sid is None else sid]
        while not answer.ended and answer.reset is None:
            self.take()
        return answer

    def fetch(self, target: str = "/", method: str = "GET", **options: object) -> Answer:
        return self.read(self.ask(target, method, **options))

    def read_to_end(self) -> None:
        """Take everything in until the server ends the connection."""
        try:
            while self.buffer or self._more():
                self.take()
        except (ConnectionResetError, BrokenPipeError):
            pass

    def await_goaway(self) -> tuple[int, int]:
        """The last stream and the code of a GOAWAY that ends the connection."""
        self.read_to_end()
        assert self.goaways, "the connection ended without a GOAWAY"
        return self.goaways[-1]

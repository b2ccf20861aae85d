"""The events of one poll, worked through in stages.

A plain connection that is readable asks for three things: receive, let the lane answer, send.
Done for one connection after the other, each of them finds the caches of the processor filled with
the code of the others: kernel, TLS and interpreter. So each is done for a whole group of
connections before the next one begins. That is worth a tenth of a small request's time, and over
TLS, where decrypting and encrypting are stages too, a third of it.

An answer waits for its group, so a group is no larger than can be answered in two milliseconds.
What else there is to do, connections that are not plain among it, comes behind the groups: it may
take longer. Only a call from another thread keeps its place among them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from operator import length_hint
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from flare.http.cancel import CancelReason
from flare.runtime.reactor import WAKEUP_TOKEN
from flare.tls.engine import RECORD_BYTES

if TYPE_CHECKING:
    from flare.http.server.connection import Connection
    from flare.http.server.worker import Worker

__all__ = ["SecureStages", "Stages"]

# A connection, what it is to get, and what that is on the wire.
_Answer: TypeAlias = "tuple[Connection, bytes, bytes]"

_MOST: Final = 64
_LONGEST_NS: Final = 2_000_000


class Stages:
    """The batches of *worker*, one after the other.

    Handlers run while a group is answered, and other connections' events may call some too. So
    what was received and what is to be sent are kept here, and each item is taken out before it is
    worked on: the leader that takes over goes on with the one behind it.
    """

    __slots__ = (
        "_answers",
        "_called",
        "_connections",
        "_events",
        "_later",
        "_read_bytes",
        "_reads",
        "_worker",
        "size",
    )

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._connections = worker.connections
        self._read_bytes = worker.config.read_buffer_size
        self._events: Iterator[tuple[int, int]] = iter(())
        self._reads: Iterator[tuple[Connection, bytes]] = iter(())
        self._answers: list[_Answer] = []
        self._later: deque[tuple[int, int]] = deque()
        self._called = False
        self.size = _MOST
        """How many connections make a group now."""

    def begin(self, events: Iterable[tuple[int, int]]) -> None:
        """Take the *events* of a poll. Those of the one before have all been worked on."""
        self._events = iter(events)

    def run(self) -> None:
        """Work through the batch, from wherever the leader before had got to."""
        worker, later = self._worker, self._later
        self.send()
        self._answer()
        events, clock_ns = self._events, worker.clock_ns
        while True:
            if self._called:
                self._called = False
                worker.run_commands()
            if not length_hint(events):
                break
            began = clock_ns()
            group = self._receive(islice(events, self.size))
            if group:
                self._reads = iter(self._decrypted(group))
                self._answer()
                self._measure(len(group), clock_ns() - began)
        while later:
            worker.on_event(*later.popleft())

    def _receive(self, events: Iterable[tuple[int, int]]) -> list[tuple[Connection, bytes]]:
        """The plain connections of *events* with what they sent. Stops where somebody calls."""
        connection_of, read_bytes = self._connections.get, self._read_bytes
        group: list[tuple[Connection, bytes]] = []
        for token, flags in events:
            connection: Any = connection_of(token)  # a Connection, where it is plain
            if connection is None or not connection.plain:
                if token == WAKEUP_TOKEN:
                    # What was received before is answered before, and the rest behind it.
                    self._called = True
                    break
                self._later.append((token, flags))
                continue
            try:
                group.append((connection, connection.raw.recv(read_bytes)))
            except (BlockingIOError, InterruptedError):
                continue
            except OSError:
                self._drop(connection)
            except Exception as error:
                connection.fail(error)
        return group

    def _decrypted(self, group: list[tuple[Connection, bytes]]) -> list[tuple[Connection, bytes]]:
        return group

    def _answer(self) -> None:
        """Answer what was received, and send the answers."""
        lane, answers = self._worker.lane, self._answers
        for connection, data in self._reads:
            try:
                answer = lane(connection, data)
            except Exception as error:
                connection.fail(error)
            else:
                if answer is not None:
                    answers.append((connection, answer, answer))
        self.send()

    def send(self) -> None:
        """Send the answers that are ready."""
        answers, worker = self._answers, self._worker
        if not answers:
            return
        self._answers = []
        idle_deadline, total = worker.idle_deadline, 0
        for connection, answer, data in self._encrypted(answers):
            try:
                try:
                    sent = connection.raw.send(data)
                except (BlockingIOError, InterruptedError):
                    sent = 0
                if sent == len(data):
                    total += len(answer)
                    connection.deadline = idle_deadline
                else:
                    self._sent(connection, answer, self._count(connection, answer, data, sent))
            except OSError:
                self._drop(connection)
            except Exception as error:
                connection.fail(error)
        worker.tally.bytes_out += total

    def _encrypted(self, answers: list[_Answer]) -> list[_Answer]:
        return answers

    def _count(self, connection: Connection, answer: bytes, data: bytes, sent: int) -> int:
        """How much of *answer* has gone with *sent* bytes of *data*."""
        return sent

    def _sent(self, connection: Connection, answer: bytes, sent: int) -> None:
        worker = self._worker
        worker.tally.bytes_out += sent
        if sent == len(answer):
            connection.deadline = worker.idle_deadline
        else:
            connection.owe(memoryview(answer)[sent:])

    @staticmethod
    def _drop(connection: Connection) -> None:
        try:
            connection.close(CancelReason.PEER_CLOSED)
        except Exception as error:
            connection.fail(error)

    def _measure(self, count: int, took_ns: int) -> None:
        """A group of *count* took that long until its answers were sent."""
        if took_ns > _LONGEST_NS:
            self.size = max(1, count * _LONGEST_NS // took_ns)
        elif count == self.size < _MOST:
            self.size = min(_MOST, 2 * count)


class SecureStages(Stages):
    """The same for a worker whose connections speak TLS."""

    __slots__ = ()

    def _decrypted(self, group: list[tuple[Connection, bytes]]) -> list[tuple[Connection, bytes]]:
        reads: list[tuple[Connection, bytes]] = []
        for connection, data in group:
            sock: Any = connection.sock  # a TlsSocket, where the connection is plain
            try:
                reads.append((connection, sock.decrypt(data)))
            except BlockingIOError:  # part of a record, or one that is for TLS alone
                pass
            except OSError:
                self._drop(connection)
            except Exception as error:
                connection.fail(error)
        return reads

    def _encrypted(self, answers: list[_Answer]) -> list[_Answer]:
        encrypted: list[_Answer] = []
        for connection, answer, _ in answers:
            sock: Any = connection.sock
            try:
                if len(answer) <= RECORD_BYTES:
                    encrypted.append((connection, answer, sock.encrypt(answer)))
                else:  # a group of them would take much memory
                    self._send_large(connection, answer)
            except OSError:
                self._drop(connection)
            except Exception as error:
                connection.fail(error)
        return encrypted

    def _send_large(self, connection: Connection, answer: bytes) -> None:
        try:
            sent = connection.sock.send(answer)
        except (BlockingIOError, InterruptedError):
            sent = 0
        self._sent(connection, answer, sent)

    def _count(self, connection: Connection, answer: bytes, data: bytes, sent: int) -> int:
        sock: Any = connection.sock
        try:
            return int(sock.sent(sent, data, len(answer)))
        except BlockingIOError:
            return 0

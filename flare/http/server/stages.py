"""The events of one poll, worked through in stages.

A plain connection that is readable asks for three things: receive, let the lane answer, send.
Done for one connection after the other, each of them finds the caches of the processor filled with
the code of the others: kernel, TLS and interpreter. So each is done for a whole group of
connections before the next one begins. That is worth a tenth of a small request's time, and over
TLS, where decrypting and encrypting are stages too, a third of it.

An answer waits for those that are made in the next two milliseconds, looked at every eight of
them, or until a handler loses the lease; and where the process dies it dies with it. Whatever may
run more of an application, as what is not for the lane does, comes behind sending. So do the
connections that are not plain, and only a call from another thread keeps its place.
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
from flare.tls.tls_socket import LEAST_RECV

if TYPE_CHECKING:
    from flare.http.server.connection import Connection
    from flare.http.server.worker import Worker

__all__ = ["SecureStages", "Stages"]

# A connection, what it is to get, and what that is on the wire.
_Answer: TypeAlias = "tuple[Connection, bytes, bytes]"

_MOST: Final = 64
_LOOK: Final = 8  # answers
_LONGEST_NS: Final = 2_000_000
# More would be memory that the C library maps and gives back for each read.
_LARGE_READ_BYTES: Final = 128 * 1024 - 64
_LARGE_GROUP_BYTES: Final = 512 * 1024
_LARGE_GROUPS: Final = 16  # in a row without a large request, until reads are short again


class Stages:
    """The batches of *worker*, one after the other.

    A handler may lose the lease, so what was received and what is to be sent are kept here and
    nowhere else, and each item is taken out before it is worked on: the leader that takes over goes
    on with the one behind it, and nothing lives on in the frames of the one before.
    """

    __slots__ = (
        "_answers",
        "_called",
        "_connections",
        "_due_ns",
        "_events",
        "_group",
        "_had_large",
        "_large",
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
        self._group: list[tuple[Connection, bytes]] = []
        self._reads: Iterator[tuple[Connection, bytes]] = iter(())  # through the group
        self._answers: list[_Answer] = []
        self._due_ns = 0
        self._later: deque[tuple[int, int]] = deque()
        self._called = False
        self._large = 0
        self._had_large = False
        self.size = _MOST
        """How many connections make a group now: fewer where it took long."""

    def begin(self, events: Iterable[tuple[int, int]]) -> None:
        """Take the *events* of a poll. Those of the one before have all been worked on."""
        self._events = iter(events)

    def expect_large(self) -> None:
        """A request came that was longer than one read. Those like it, head and body, are to come
        in one."""
        self._large = _LARGE_GROUPS
        self._had_large = True

    def had_large(self) -> bool:
        """Whether there was such a request since it was last asked."""
        had, self._had_large = self._had_large, False
        return had

    def run(self) -> None:
        """Work through the batch, from wherever the leader before had got to."""
        worker, later = self._worker, self._later
        if self._answers:
            self.send()
        if self._group:
            self._go_on()
        events, clock_ns = self._events, worker.clock_ns
        while True:
            if self._called:
                self._called = False
                worker.run_commands()
            if not length_hint(events):
                break
            began = clock_ns()
            self._due_ns = began + _LONGEST_NS
            if self._large:
                self._large -= 1
                self._receive_large(events)
            else:
                self._receive(islice(events, self.size), self._read_bytes)
            count = len(self._group)
            if count:
                self._decrypt()
                self._answer()
                self._measure(count, clock_ns() - began)
        while later:
            worker.on_event(*later.popleft())

    def _go_on(self) -> None:
        """Answer the rest of a group whose leader was overtaken."""
        rest = [*self._reads]
        # Emptied, since that one's frames still have an iterator through it.
        self._group.clear()
        self._group = rest
        self._answer()

    def _receive_large(self, events: Iterator[tuple[int, int]]) -> None:
        """The same as ``_receive`` with long reads, a group of bounded memory."""
        group, most = self._group, self.size
        while True:
            few = islice(events, min(_LOOK, most))
            most -= _LOOK
            self._receive(few, max(self._read_bytes, _LARGE_READ_BYTES))
            if most <= 0 or self._called or not length_hint(events):
                return
            if sum(len(data) for _, data in group) >= _LARGE_GROUP_BYTES:
                return

    def _receive(self, events: Iterable[tuple[int, int]], read_bytes: int) -> None:
        """Take what the plain connections of *events* sent, at most *read_bytes* of each. Stops
        where somebody calls."""
        connection_of, group = self._connections.get, self._group
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

    def _decrypt(self) -> None:
        """Make the requests of what was received."""

    def _answer(self) -> None:
        """Answer what was received, and send the answers."""
        worker, answers = self._worker, self._answers
        lane, clock_ns, due_ns = worker.lane, worker.clock_ns, self._due_ns
        self._reads = iter(self._group)
        while length_hint(self._reads):
            for connection, data in islice(self._reads, _LOOK):
                try:
                    answer = lane(connection, data)
                    if answer is not None:
                        answers.append((connection, answer, answer))
                except Exception as error:
                    connection.fail(error)
            if clock_ns() > due_ns:
                self.send()
                due_ns = clock_ns() + _LONGEST_NS
        self._group.clear()
        self.send()

    def send(self) -> None:
        """Send the answers that are ready."""
        if not self._answers:
            return
        worker, answers = self._worker, self._answers[:]
        self._answers.clear()
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
        elif 2 * count >= self.size:
            self.size = min(_MOST, 2 * self.size)


class SecureStages(Stages):
    """The same for a worker whose connections speak TLS."""

    __slots__ = ()

    def __init__(self, worker: Worker) -> None:
        super().__init__(worker)
        self._read_bytes = max(self._read_bytes, LEAST_RECV)

    def _decrypt(self) -> None:
        group = self._group
        decrypted: list[tuple[Connection, bytes]] = []
        for connection, data in group:
            sock: Any = connection.sock  # a TlsSocket, where the connection is plain
            try:
                decrypted.append((connection, sock.decrypt(data)))
            except BlockingIOError:  # part of a record, or one that is for TLS alone
                pass
            except OSError:
                self._drop(connection)
            except Exception as error:
                connection.fail(error)
        group[:] = decrypted

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

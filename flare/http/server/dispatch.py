"""Which thread calls the handler: adaptive dispatch.

A handler called right on the loop's thread costs nothing but the call; one that waits there
stalls every connection of the worker. On another thread nothing stalls, and every request pays
for two thread switches. So the leader calls it itself, under the lease. Where that takes more
than a few milliseconds the watchdog makes another thread the leader, and a handler that is caught
often goes to the other threads from then on, until a probe shows it has become short again.

The rules, each with a test in ``test_dispatch.py``, ``test_takeover.py`` or ``test_away.py``:

- Called on the loop only while another thread stands by; else it waits for a thread.
- At most ``handler_threads`` calls run off the loop, at most ``handler_queue`` more wait for
  one; past that the answer is 503.
- Exiled after two takeovers within a hundred calls; probed after a second, each failed probe
  doubling the wait to a minute at most.
- Exiled handlers that compute run one at a time, and take one thread however many wait.
- One that reads its body from ``req.stream`` never runs on the loop, and such calls take at most
  half of the threads.
- ``dispatch=`` of a route, or the decorator, stands above the server's configuration.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from flare.http.cancel import CancelCell
from flare.http.handler import dispatch_key, key_source
from flare.http.request_view import RequestView
from flare.http.response import Response
from flare.http.router import Router
from flare.http.server.failures import error_response
from flare.http.server.h1_shared import Plan
from flare.http.server.kinds import Cancellable, Viewing
from flare.http.server.lease import IN_LANE, JOINED_LANE, NO_LANE, Overtaken, Task
from flare.http.server.logs import error_log, log_late_handler
from flare.http.server.threads import Outcome, compute_lane
from flare.http.server.watch import COMPUTING_SHARE
from flare.http.server.wire import ABORTED, BodyWriter, Closing, Exchange

if TYPE_CHECKING:
    from flare.http.proto.heads import RequestHead
    from flare.http.request import Request
    from flare.http.server.worker import Worker

__all__ = ["ASK", "PENDING", "REFUSED", "Dispatch", "Fate"]


class _Marker:
    """The type of ``PENDING`` and ``REFUSED``."""


PENDING: Final = _Marker()
REFUSED: Final = _Marker()

_TAKEOVERS = 2
_WITHIN_CALLS = 100
_PROBE_MS = 1000
_LONGEST_PROBE_MS = 60_000
_MAX_FATES = 4096
# One that was found to compute, and has so little of the processor when it has its turn, waits.
_WAITING_SHARE = COMPUTING_SHARE / 2


class Fate:
    """What has been learned about one handler, or route: where its calls go.

    ``mode`` is ``"inline"``, ``"pool"`` or ``"auto"``; the rest is for ``"auto"``.
    """

    __slots__ = ("_calls", "_probe_at", "_probing", "_takeovers", "_wait", "computes", "exiled",
                 "key", "mode", "quick", "streams", "watched")  # fmt: skip

    def __init__(self, key: object, mode: str, streams: bool = False) -> None:
        self.key = key
        self.mode = mode = "pool" if streams else mode
        self.streams = streams
        """Whether it reads a body from the loop, which is never to wait for it then."""
        self.exiled = False
        self.computes = False
        self.watched = False
        """Whether a call must be noted: true from a takeover until it is forgotten."""
        self.quick = mode == "auto"
        """Whether the next call runs on the loop without any more questions."""
        self._calls = 0
        self._takeovers = 0
        self._probing = False
        self._probe_at = 0
        self._wait = _PROBE_MS

    def may_lead(self, now_ms: int) -> bool:
        """Whether the next call may run on the loop; notes that it does."""
        if self.exiled:
            if self._probing or now_ms < self._probe_at:
                return False
            self._probing = True
            return True
        self._calls += 1
        if self._calls > _WITHIN_CALLS:
            self.watched = False
            self.quick = True
        return True

    def overtaken(self, now_ms: int) -> None:
        """A call on the loop took too long."""
        self.quick = False
        if self.exiled:
            self._probing = False
            self._wait = min(self._wait * 2, _LONGEST_PROBE_MS)
            self._probe_at = now_ms + self._wait
            return
        if not self.watched:
            self.watched = True
            self._calls = self._takeovers = 0
        self._takeovers += 1
        if self._takeovers >= _TAKEOVERS:
            self.exiled = True
            self._wait = _PROBE_MS
            self._probe_at = now_ms + _PROBE_MS

    def was_short(self) -> None:
        """A probe came back in time."""
        if self._probing:
            self.exiled = self.watched = self._probing = self.computes = False
            self.quick = True
            self._wait = _PROBE_MS


ASK: Final = Fate(None, "ask")
_ROAD: Final = Fate(None, "road")


class Dispatch:
    """Calls the handler of one worker. Only the worker's leader uses it."""

    def __init__(self, worker: Worker, handler: Any, function: Callable[..., Response]) -> None:
        self._worker = worker
        self._handler = handler
        self._function = function
        self._router = handler if type(handler) is Router else None
        self._asked: Any = key_source(handler)
        self._keyed = hasattr(self._asked, "dispatch_key")
        self._takes_cancel = isinstance(handler, (Cancellable, Viewing))
        self._default = worker.config.dispatch
        self._threads = worker.config.handler_threads
        self._queue = worker.config.handler_queue
        self._fates: dict[int, Fate] = {}
        self._stream_fates: dict[int, Fate] = {}
        self._closing_fates: dict[int, Fate] = {}
        self.closings: deque[tuple[Closing, Fate]] = deque()
        # The lease counts what is called under it: here is what that misses, less what of it are
        # no requests.
        self._uncounted = 0
        self.takeovers = 0
        """How many calls took too long for the loop."""
        self.away = 0
        """Calls that are off the loop, waiting for a thread among them."""
        # Its client decides how long a call takes that reads from it. So these never get all of
        # the threads, unless there is but one.
        self._most_streaming = max(1, self._threads // 2)
        self._streaming = 0
        self._held: deque[Task] = deque()
        self._laned = 0  # those in the lane, waiting among them
        # Guards all these against threads that bring results after the end of the loop.
        self._counting = threading.Lock()

    def run(self, exchange: Exchange) -> object:
        """Call the handler for *exchange*: its result, or ``PENDING`` where it comes later as an
        ``Outcome``, or ``REFUSED`` where too many wait. Raises ``Overtaken``."""
        request = exchange.request
        try:
            if self._takes_cancel:
                exchange.function, fate = self._find_with_cancel(exchange)
            else:
                exchange.function, fate = self.find(request)
        except Exception as error:
            self._uncounted += 1
            return error_response(request, error)
        exchange.fate = fate
        return self._start(exchange, fate, is_request=True)

    def find(self, request: Request) -> tuple[Callable[..., Any], Fate]:
        """Who answers *request*. Raises what the handler's ``dispatch_key`` does."""
        key: object
        if self._router is not None:
            key, function = self._router.resolve(request)
        else:
            function = self._function
            key = self._asked.dispatch_key(request) if self._keyed else self._asked
        return function, self._fates.get(id(key)) or self._new_fate(self._fates, key)

    def plan(self, head: RequestHead) -> Plan:
        """Who answers requests with *head*: ``function`` and ``fate``. The fate is ``ASK`` where
        ``find`` must look at each of them, and never ``quick`` where the lane is not for them."""
        function = self._function
        if head.method == "HEAD" or not head.keep_alive or self._takes_cancel:
            return Plan(head, function, _ROAD)
        key: object = self._asked
        if self._router is not None:
            key = route = self._router.literal_route(head.method, head.target)
            if route is None:
                return Plan(head, function, ASK)
            function = route.function
        elif self._keyed:
            return Plan(head, function, ASK)
        return Plan(head, function, self._fates.get(id(key)) or self._new_fate(self._fates, key))

    def stream_limit(self, request: Request) -> int | None:
        """How many bytes of body *request* may have, where its handler reads them while they
        arrive; else ``None``."""
        router = self._router
        try:
            if router is not None:
                key = router.dispatch_key(request)
            else:
                key = dispatch_key(self._asked, request)
            if not getattr(key, "flare_stream_body", False):
                return None
            limit: int | None = getattr(key, "flare_max_body_size", None)
        except Exception:
            return None  # run() asks again, and answers for it
        return self._worker.config.max_body_size if limit is None else limit

    def _find_with_cancel(self, exchange: Exchange) -> tuple[Callable[..., Any], Fate]:
        """``find``, for a handler that takes a token, and maybe a view."""
        cell = exchange.cell = CancelCell()
        handler, request = self._handler, exchange.request
        if not isinstance(handler, Viewing):
            function, fate = self.find(request)
            return partial(function, cancel=cell.handle()), fate
        view = RequestView._of(request, getattr(exchange, "head", None))
        key = handler.view_key(view)
        fate = self._fates.get(id(key)) or self._new_fate(self._fates, key)
        return lambda request: handler.serve_view(view, cell.handle()), fate

    def pull(self, task: BodyWriter, owner: Fate) -> object:
        """Call *task*, a body's next chunk, of a response whose handler's fate is *owner*. As
        ``run``; a body is never refused."""
        fate = self._stream_fates.get(id(owner))
        if fate is None:
            fate = self._new_fate(self._stream_fates, owner)
            if owner.streams:
                fate.streams, fate.mode = True, "pool"
            else:
                fate.mode = "auto" if owner.mode == "pool" else owner.mode
        task.fate = fate
        return self._start(task, fate, is_request=False)

    def close_later(self, close: Callable[[], None], owner: Fate) -> None:
        """Have *close* called when the loop gets to it: it frees what a response held of a handler
        whose fate is *owner*, and raises nothing. At once where the worker has ended."""
        if self._worker.ended:
            close()
        else:
            self.closings.append((Closing(close), owner))

    def run_closings(self) -> None:
        """Call what ``close_later`` was given, as ``run`` does."""
        while self.closings:
            task, owner = self.closings.popleft()
            if self._worker.ended:
                self._worker.see_off(task.call)
                continue
            fate = self._closing_fates.get(id(owner))
            if fate is None:
                fate = self._new_fate(self._closing_fates, owner)
                fate.mode = "auto" if owner.mode == "pool" else owner.mode
            task.fate = fate
            self._start(task, fate, is_request=False)

    def _start(self, task: Task, fate: Fate, *, is_request: bool) -> object:
        worker = self._worker
        if fate.mode == "auto" and (
            self.busy < self._threads
            and self._someone_stands_by()
            and (not fate.watched or fate.may_lead(worker.now_ms))
        ):
            lease = worker.lease
            if not is_request:
                self._uncounted -= 1
            serial = lease.enter(task)
            try:
                result = task.call()
            except BaseException as failure:
                if lease.leave(serial):
                    raise
                worker.deliver(Outcome(task, failure=failure))
                raise Overtaken from None
            if not lease.leave(serial):
                # Somebody else leads by now, and reads the outcome.
                worker.deliver(Outcome(task, result))
                raise Overtaken
            if fate.exiled:
                fate.was_short()
            return result
        self._uncounted += is_request
        if fate.mode == "inline":
            return self._call_inline(task)
        if is_request and self.away >= self._threads + self._queue:
            return REFUSED
        if not self._someone_stands_by() and not self.away:
            if fate.streams:
                return REFUSED if is_request else ABORTED
            return self._call_inline(task)  # the system has no thread to give: better late
        self._send_away(task, fate)
        return PENDING

    def _call_inline(self, task: Task) -> object:
        worker = self._worker
        called = worker.now_ms
        result = task.call()
        worker.read_clock()
        if worker.now_ms - called > worker.handler_ms and isinstance(task, Exchange):
            log_late_handler(task.request, worker.now_ms - called)
        return result

    def _someone_stands_by(self) -> bool:
        """Whether there is a free thread besides the leader; starts one where there may be."""
        threads = self._worker.threads
        if threads.free > 0:
            return True
        if len(threads.all) - 1 >= self._threads:
            return False
        try:
            threads.add()
        except RuntimeError as error:
            error_log.error("cannot start a thread: %s", error)
            return False
        return True

    def _send_away(self, task: Task, fate: Fate) -> None:
        threads = self._worker.threads
        self.away += 1
        if fate.streams:
            if self._streaming >= self._most_streaming:
                self._held.append(task)
                return
            self._streaming += 1
        if fate.computes:
            lane = compute_lane()
            task.lane = IN_LANE
            self._laned += 1
            if self._laned <= lane.width:
                threads.free -= 1
            lane.enter(lambda: threads.submit(task))
        else:
            threads.free -= 1
            threads.submit(task)

    def overtaken(self, task: Task, computing: bool) -> None:
        """*task* runs on a thread that leads no more."""
        self.takeovers += 1
        self.away += 1
        self._worker.threads.free -= 1
        fate = task.fate
        fate.overtaken(self._worker.now_ms)
        fate.computes = computing
        if computing:
            task.lane = JOINED_LANE
            compute_lane().join()

    @property
    def busy(self) -> int:
        """The threads that the calls off the loop take; of the ``ComputeLane``'s, as many as it
        lets run. Safe from any thread."""
        threads = self._worker.threads
        return len(threads.all) - 1 - threads.free

    @property
    def requests(self) -> int:
        """How many there have been. Safe from any thread."""
        return self._worker.lease.serial + self._uncounted

    @property
    def waiting(self) -> int:
        """Calls that wait for a thread, or for their turn to compute. Safe from any thread."""
        in_lane = max(0, self._laned - compute_lane().width)
        return in_lane + max(0, self.busy - self._threads) + len(self._held)

    def came_back(self, outcome: Outcome) -> None:
        """A call off the loop is over. The leader's too, but safe from any thread once the worker
        has ended."""
        task, share = outcome.task, outcome.share
        laned, task.lane = task.lane, NO_LANE
        lane, threads = compute_lane(), self._worker.threads
        held = None
        with self._counting:
            self.away -= 1
            if task.fate.streams:
                if self._held:
                    held = self._held.popleft()
                    threads.free -= 1
                else:
                    self._streaming -= 1
            if laned != IN_LANE:
                threads.free += 1
            else:
                self._laned -= 1
                if self._laned < lane.width:
                    threads.free += 1
        if held is not None:
            threads.submit(held)
        if share is not None and not task.fate.streams:
            # Beside others that compute each has little: only one that had its turn is cleared.
            if share > COMPUTING_SHARE:
                task.fate.computes = True
            elif laned == IN_LANE and share < _WAITING_SHARE:
                task.fate.computes = False
        if laned != NO_LANE:
            lane.leave()

    def _new_fate(self, fates: dict[int, Fate], key: object) -> Fate:
        if len(fates) >= _MAX_FATES:
            fates.clear()
        mode = getattr(key, "flare_dispatch", None) or self._default
        # The fate holds its key, so that no other object gets the same id.
        streams = bool(getattr(key, "flare_stream_body", False))
        fate = fates[id(key)] = Fate(key, mode, streams)
        return fate

    def close(self) -> None:
        """Let every thread go once it is free."""
        self._worker.threads.end()

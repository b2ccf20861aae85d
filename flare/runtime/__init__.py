"""Parts of an event loop: reactor, timers, dates, buffers, hand-off, io_uring.

Each module is loaded when one of its names is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flare._lazy import lazy_exports

if TYPE_CHECKING:
    from flare.runtime.binding import bind_reuseport as bind_reuseport
    from flare.runtime.binding import bind_shared as bind_shared
    from flare.runtime.blocking import MAX_POOL_SIZE as MAX_POOL_SIZE
    from flare.runtime.blocking import block_in_pool as block_in_pool
    from flare.runtime.buffers import BufferHandle as BufferHandle
    from flare.runtime.buffers import BufferPool as BufferPool
    from flare.runtime.clock import libc_nanosleep_ms as libc_nanosleep_ms
    from flare.runtime.clock import libc_usleep as libc_usleep
    from flare.runtime.clock import monotonic_now_ms as monotonic_now_ms
    from flare.runtime.cpus import cpu_quota as cpu_quota
    from flare.runtime.cpus import default_worker_count as default_worker_count
    from flare.runtime.cpus import num_cpus as num_cpus
    from flare.runtime.date_cache import DateCache as DateCache
    from flare.runtime.handoff import HandoffPolicy as HandoffPolicy
    from flare.runtime.handoff import HandoffQueue as HandoffQueue
    from flare.runtime.handoff import WorkerHandoffPool as WorkerHandoffPool
    from flare.runtime.io_uring import SYS_IO_URING_ENTER as SYS_IO_URING_ENTER
    from flare.runtime.io_uring import SYS_IO_URING_REGISTER as SYS_IO_URING_REGISTER
    from flare.runtime.io_uring import SYS_IO_URING_SETUP as SYS_IO_URING_SETUP
    from flare.runtime.io_uring import IoUringParams as IoUringParams
    from flare.runtime.io_uring import IoUringRing as IoUringRing
    from flare.runtime.io_uring import io_uring_enter as io_uring_enter
    from flare.runtime.io_uring import io_uring_register as io_uring_register
    from flare.runtime.io_uring import io_uring_setup as io_uring_setup
    from flare.runtime.io_uring import is_io_uring_available as is_io_uring_available
    from flare.runtime.reactor import EVENT_ERROR as EVENT_ERROR
    from flare.runtime.reactor import EVENT_HUP as EVENT_HUP
    from flare.runtime.reactor import EVENT_READABLE as EVENT_READABLE
    from flare.runtime.reactor import EVENT_WRITABLE as EVENT_WRITABLE
    from flare.runtime.reactor import INTEREST_READ as INTEREST_READ
    from flare.runtime.reactor import INTEREST_WRITE as INTEREST_WRITE
    from flare.runtime.reactor import WAKEUP_TOKEN as WAKEUP_TOKEN
    from flare.runtime.reactor import Event as Event
    from flare.runtime.reactor import Reactor as Reactor
    from flare.runtime.reactor import ReactorError as ReactorError
    from flare.runtime.report import ShutdownReport as ShutdownReport
    from flare.runtime.scheduler import Frontend as Frontend
    from flare.runtime.scheduler import Scheduler as Scheduler
    from flare.runtime.timer_wheel import TimerWheel as TimerWheel
    from flare.runtime.vectored import IoVecBuf as IoVecBuf
    from flare.runtime.vectored import writev_buf as writev_buf
    from flare.runtime.vectored import writev_buf_all as writev_buf_all
    from flare.runtime.watchdog import DeadlineWatchdog as DeadlineWatchdog
    from flare.runtime.worker_state import StopFlag as StopFlag
    from flare.runtime.worker_state import WorkerStats as WorkerStats

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    globals(),
    {
        "flare.runtime.binding": "bind_reuseport bind_shared",
        "flare.runtime.blocking": "MAX_POOL_SIZE block_in_pool",
        "flare.runtime.buffers": "BufferHandle BufferPool",
        "flare.runtime.clock": "libc_nanosleep_ms libc_usleep monotonic_now_ms",
        "flare.runtime.cpus": "cpu_quota default_worker_count num_cpus",
        "flare.runtime.date_cache": "DateCache",
        "flare.runtime.handoff": "HandoffPolicy HandoffQueue WorkerHandoffPool",
        "flare.runtime.io_uring": (
            "SYS_IO_URING_ENTER SYS_IO_URING_REGISTER SYS_IO_URING_SETUP "
            "IoUringParams IoUringRing io_uring_enter io_uring_register "
            "io_uring_setup is_io_uring_available"
        ),
        "flare.runtime.reactor": (
            "EVENT_ERROR EVENT_HUP EVENT_READABLE EVENT_WRITABLE INTEREST_READ "
            "INTEREST_WRITE WAKEUP_TOKEN Event Reactor ReactorError"
        ),
        "flare.runtime.report": "ShutdownReport",
        "flare.runtime.scheduler": "Frontend Scheduler",
        "flare.runtime.timer_wheel": "TimerWheel",
        "flare.runtime.vectored": "IoVecBuf writev_buf writev_buf_all",
        "flare.runtime.watchdog": "DeadlineWatchdog",
        "flare.runtime.worker_state": "StopFlag WorkerStats",
    },
)

"""The process a client is measured in: ``python -m benchmarks.client_worker NAME URL``.

Reads an order a line from stdin, as JSON, and answers with a line of figures. So the clients can
take turns in rounds of a fraction of a second, each warm and alone on the core.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.client_peers import Client, make_client
from benchmarks.processes import resident_bytes

__all__ = ["main"]


class Worker:
    """Carries out orders with the client *name* of the server at *base*."""

    def __init__(self, name: str, base: str) -> None:
        self._name = name
        self._base = base
        self._client = make_client(name, base)

    def do(self, order: dict[str, Any]) -> dict[str, float]:
        """The figures of one order: ``{"do": "get", ...}`` with that method's arguments."""
        arguments = {key: value for key, value in order.items() if key != "do"}
        figures: dict[str, float] = getattr(self, f"do_{order['do']}")(**arguments)
        return figures

    def do_get(self, path: str, answer: str, count: int) -> dict[str, float]:
        """*count* requests one after the other; seconds for all, of the clock and of the core."""
        expected = answer.encode()
        get = self._client.get
        began, busy = time.perf_counter(), time.process_time()
        for _ in range(count):
            if get(path) != expected:
                raise AssertionError("a wrong body")
        return {
            "wall": time.perf_counter() - began,
            "cpu": time.process_time() - busy,
        }

    def do_save(self, path: str, target: str, size: int) -> dict[str, float]:
        """One download into the file *target*, which must have *size* bytes then."""
        file = Path(target)
        began, busy = time.perf_counter(), time.process_time()
        self._client.save(path, file)
        figures = {"wall": time.perf_counter() - began, "cpu": time.process_time() - busy}
        if file.stat().st_size != size:
            raise AssertionError(f"{file.stat().st_size} bytes were saved, expected {size}")
        file.unlink()
        return figures

    def do_send(self, path: str, source: str) -> dict[str, float]:
        """One upload of the file *source*."""
        began, busy = time.perf_counter(), time.process_time()
        self._client.send(path, Path(source))
        return {"wall": time.perf_counter() - began, "cpu": time.process_time() - busy}

    def do_threads(
        self, path: str, answer: str, count: int, threads: int, shared: bool, tries: int = 1
    ) -> dict[str, float]:
        """*count* requests by each of *threads* threads, with one client or one for each. Each
        request has so many *tries*; how many failed is told."""
        expected = answer.encode()
        clients = [
            self._client if shared else make_client(self._name, self._base) for _ in range(threads)
        ]
        wrong: list[Exception] = []
        failed: list[Exception] = []
        start = threading.Barrier(threads + 1)

        def get(client: Client) -> None:
            for left in reversed(range(tries)):
                try:
                    if client.get(path) != expected:
                        raise AssertionError("a wrong body")
                except Exception as error:
                    (failed if left else wrong).append(error)
                else:
                    return

        def ask(number: int) -> None:
            client = clients[number]
            get(client)  # connects
            start.wait()
            for _ in range(count):
                get(client)

        workers = [threading.Thread(target=ask, args=(number,)) for number in range(threads)]
        for each in workers:
            each.start()
        start.wait(30)
        failed.clear()
        began, busy = time.perf_counter(), time.process_time()
        for each in workers:
            each.join()
        figures = {"wall": time.perf_counter() - began, "cpu": time.process_time() - busy}
        if not shared:
            for client in clients:
                client.close()
        if wrong:
            raise AssertionError(f"{len(wrong)} requests failed") from wrong[0]
        return {**figures, "failed": float(len(failed))}

    def do_memory(self, path: str, count: int) -> dict[str, float]:
        """By how many bytes the process has grown after *count* requests."""
        gc.collect()
        before = resident_bytes(os.getpid())
        for _ in range(count):
            self._client.get(path)
        gc.collect()
        return {"grown": float(resident_bytes(os.getpid()) - before)}


def main() -> int:
    """Serve orders until stdin ends."""
    name, base = sys.argv[1:]
    worker = Worker(name, base)
    for line in sys.stdin:
        try:
            reply: dict[str, Any] = worker.do(json.loads(line))
        except Exception as error:
            cause = f" ({error.__cause__!r})" if error.__cause__ else ""
            reply = {"error": f"{type(error).__name__}: {error}{cause}"}
        print(json.dumps(reply), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

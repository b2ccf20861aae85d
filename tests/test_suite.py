"""What the tests ask of themselves."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from leaks import nothing_is_left_behind

TESTS = Path(__file__).parent


def test_modules_have_names_of_their_own() -> None:
    """Folders of tests are no packages: of two modules with one name the first imported wins."""
    names = Counter(path.name for path in TESTS.rglob("*.py") if path.name != "conftest.py")
    assert [name for name, count in names.items() if count > 1] == []


class TestNothingIsLeftBehind:
    def test_what_ends_soon_is_waited_for(self) -> None:
        with nothing_is_left_behind():
            thread = threading.Thread(target=time.sleep, args=(0.02,))
            thread.start()
        assert not thread.is_alive()

    def test_what_only_a_cycle_holds_is_collected(self) -> None:
        class Holder:
            def __init__(self) -> None:
                self.me = self
                self.descriptor = os.eventfd(0) if hasattr(os, "eventfd") else os.dup(0)

            def __del__(self) -> None:
                os.close(self.descriptor)

        with nothing_is_left_behind():
            Holder()

    def test_a_thread(self) -> None:
        over = threading.Event()
        thread = threading.Thread(target=over.wait, name="lingers")
        try:
            with pytest.raises(pytest.fail.Exception, match="lingers"):
                with nothing_is_left_behind(grace=0.05):
                    thread.start()
        finally:
            over.set()
            thread.join()

    @pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux's /proc")
    def test_a_socket_and_one_in_the_place_of_another(self) -> None:
        def replace() -> None:
            with nothing_is_left_behind(grace=0.05), socket.socket() as other:
                os.dup2(other.fileno(), sock.fileno())

        with socket.socket() as sock:
            with pytest.raises(pytest.fail.Exception, match=rf"fd {sock.fileno()} -> socket:"):
                replace()

    @pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux's /proc")
    @pytest.mark.parametrize("ended", [False, True])
    def test_a_child(self, ended: bool) -> None:
        code = "pass" if ended else "input()"
        children: list[subprocess.Popen[bytes]] = []

        def leave() -> None:
            with nothing_is_left_behind(grace=0.05):
                child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
                children.append(child)
                if ended:
                    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

        with pytest.raises(pytest.fail.Exception) as caught:
            leave()
        child = children.pop()
        child.communicate(b"\n", timeout=30)
        assert str(child.pid) in str(caught.value)

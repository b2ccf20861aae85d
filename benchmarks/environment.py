"""What a run needs and what it ran on: the programs, the virtual environment, the versions."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.peers import Peer
from benchmarks.processes import Cores

__all__ = [
    "SetupError",
    "client_versions",
    "describe",
    "make_environment",
    "require_programs",
    "versions",
]

_HERE = Path(__file__).resolve().parent
_ROOT = _HERE.parent
_ENVIRONMENT = _HERE / ".venv"
_PINS = _HERE / "peers.txt"
_STAMP = _ENVIRONMENT / "made-from"
_INSTALL_SECONDS = 600
_ASK_SECONDS = 20


class SetupError(Exception):
    """Something is missing; the message says what to do."""


def require_programs(peers: Sequence[str], *, load: str = "wrk") -> None:
    """Raise ``SetupError`` where the load generator *load*, if there is one, or nginx, if it is one
    of *peers*, is not installed."""
    if not sys.platform.startswith("linux"):
        raise SetupError("the benchmarks pin processes and read /proc: they need Linux")
    wanted = [*([load] if load else []), *(["nginx"] if "nginx" in peers else [])]
    missing = [program for program in wanted if shutil.which(program) is None]
    if missing:
        names = " and ".join(missing)
        raise SetupError(
            f"{names} not found: install with the system's package manager,"
            f" for example apt-get install {' '.join(missing)}"
        )


def make_environment() -> Path:
    """The interpreter of an environment with flare and the peers as pinned; made where it is not
    there yet, or is of other pins or another Python. Raises ``SetupError`` with pip's words."""
    made_from = f"{sys.version} {hashlib.sha256(_PINS.read_bytes()).hexdigest()}"
    python = _ENVIRONMENT / "bin" / "python"
    if _STAMP.exists() and _STAMP.read_text("utf-8") == made_from and python.exists():
        return python
    print(f"making {_ENVIRONMENT.relative_to(_ROOT)} from {_PINS.relative_to(_ROOT)}", flush=True)
    _call([sys.executable, "-m", "venv", "--clear", str(_ENVIRONMENT)])
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _call([*install, "-r", str(_PINS), "-e", str(_ROOT)])
    _STAMP.write_text(made_from, "utf-8")
    return python


def _call(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_SECONDS)
    except subprocess.TimeoutExpired:
        raise SetupError(f"not done after {_INSTALL_SECONDS} s: {' '.join(command)}") from None
    if done.returncode:
        raise SetupError(f"{' '.join(command)} failed:\n{done.stderr[-2000:].strip()}")


def versions(python: Path, peers: Sequence[Peer], load: str = "wrk") -> dict[str, str]:
    """The versions of *peers*, by package or program, and of the load generator *load*."""
    found = _package_versions(python, [name for peer in peers for name in peer.packages])
    if any(peer.name == "nginx" for peer in peers):
        found["nginx"] = _first_version(_ask(["nginx", "-v"]))
    found[load] = _first_version(_ask([load, "-v" if load == "wrk" else "--version"]))
    return found


def client_versions(python: Path, packages: Sequence[str]) -> dict[str, str]:
    """The versions of *packages*, and of nginx, which serves them."""
    return {
        **_package_versions(python, packages),
        "nginx": _first_version(_ask(["nginx", "-v"])),
    }


def _package_versions(python: Path, names: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    script = "import sys, importlib.metadata as m\nfor n in sys.argv[1:]: print(n, m.version(n))"
    for line in _ask([str(python), "-c", script, *names]).splitlines():
        name, _, version = line.partition(" ")
        found[name] = version
    return found


def describe(python: Path, cores: Cores) -> dict[str, str]:
    """The machine, the kernel, the interpreter and the commit, for the report."""
    commit = _ask(["git", "-C", str(_ROOT), "rev-parse", "--short=12", "HEAD"]).strip()
    if commit and _ask(["git", "-C", str(_ROOT), "status", "--porcelain", "--", "flare"]).strip():
        commit += " and changes"
    script = (
        "import sys, platform as p\n"
        "gil = getattr(sys, '_is_gil_enabled', lambda: True)()\n"
        "print(p.python_implementation(), p.python_version(), 'with' if gil else 'without', 'GIL')"
    )
    return {
        "machine": f"{_processor()}, {os.cpu_count()} cores",
        "kernel": f"{platform.system()} {platform.release()}",
        "python": _ask([str(python), "-c", script]).strip(),
        "commit": commit or "unknown",
        "cores": (
            f"server on {_numbers(cores.server)}, worker processes on {_numbers(cores.workers)},"
            f" load on {_numbers(cores.load)}"
        ),
        "load average": f"{os.getloadavg()[0]:.1f} before the start",
    }


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8", "replace")
    except OSError:
        text = ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.M)
    return found[1].strip() if found else platform.machine()


def _numbers(cores: Iterable[int]) -> str:
    return " and ".join(map(str, sorted(cores)))


def _first_version(text: str) -> str:
    found = re.search(r"\d+(?:\.\d+)+", text)
    return found[0] if found else "unknown"


def _ask(command: list[str]) -> str:
    """What *command* says, on either stream; nothing where it cannot be asked."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_ASK_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode in (0, 1) else ""

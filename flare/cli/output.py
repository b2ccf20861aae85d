"""What ``flare serve`` writes to standard output and standard error, where they take it or not."""

from __future__ import annotations

import logging
import sys
from typing import TextIO

from flare.cli import CommandError

__all__ = ["OutputError", "give_up_output", "log_to_stdout", "say", "set_log_level"]


class OutputError(CommandError):
    """Standard output does not take what the command has to say."""

    code = 1


def say(text: str) -> None:
    """Print a line on stdout, at once. Raises ``BrokenPipeError``, else ``OutputError``."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        give_up_output()
        raise OutputError(f"cannot write to standard output: {error.strerror}") from None


def give_up_output() -> None:
    """Have the interpreter not try again, at its end, to write what could not be written."""
    sys.stdout = None


def set_log_level(name: str) -> None:
    """Log from that level on; on stderr, unless the application configured logging."""
    level = logging.getLevelNamesMapping()[name.upper()]
    logging.getLogger("flare").setLevel(level)
    if logging.lastResort is not None:
        logging.lastResort.setLevel(level)


def log_to_stdout() -> None:
    """Give ``flare.access`` a handler of its own, unless the application configured logging."""
    logger = logging.getLogger("flare.access")
    logger.setLevel(logging.INFO)
    if not logger.hasHandlers():
        output = _Output(sys.stdout)
        output.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(output)


class _Output(logging.StreamHandler[TextIO]):
    """Lines on a stream that may come to take no more: then there are none, and serving goes on.

    The first failure is told once. After a full disk it tries again with each line; a pipe whose
    reader has left stays as it is.
    """

    _told = False
    _ended = False

    def emit(self, record: logging.LogRecord) -> None:
        if not self._ended:
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError | ValueError):  # ValueError: the stream is closed
            super().handleError(record)
            return
        self._ended = not isinstance(error, OSError) or isinstance(error, BrokenPipeError)
        if not self._told:
            self._told = True
            why = getattr(error, "strerror", None) or str(error)
            logging.getLogger("flare.error").warning("the access log cannot be written: %s", why)

"""``python -m flare``, and the ``flare`` command."""

from __future__ import annotations

import sys

from flare.cli import main

if __name__ == "__main__":
    sys.exit(main())

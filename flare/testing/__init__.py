"""Help for testing programs built on flare."""

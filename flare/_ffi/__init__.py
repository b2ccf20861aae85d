"""The only place with ctypes: one module per subject, errno turned into ``OSError``."""

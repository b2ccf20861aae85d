"""flare: HTTP, TCP, UDP, Unix sockets and DNS for plain blocking Python."""

from flare._version import __version__ as __version__

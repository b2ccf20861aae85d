"""For tests: handlers without sockets, servers in threads and processes, streams in memory."""

from typing import TYPE_CHECKING

from flare._lazy import lazy_exports

if TYPE_CHECKING:
    from flare.testing.client import TestClient as TestClient
    from flare.testing.memory import MemoryStream as MemoryStream
    from flare.testing.servers import ServerProcessError as ServerProcessError
    from flare.testing.servers import fork_server as fork_server
    from flare.testing.servers import forked_server as forked_server
    from flare.testing.servers import kill_forked_server as kill_forked_server
    from flare.testing.servers import running_server as running_server
    from flare.testing.servers import spawn_server as spawn_server

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    globals(),
    {
        "flare.testing.client": "TestClient",
        "flare.testing.memory": "MemoryStream",
        "flare.testing.servers": "ServerProcessError fork_server forked_server "
        "kill_forked_server running_server spawn_server",
    },
)

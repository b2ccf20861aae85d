"""TCP: connections and listeners."""

from flare.tcp.listener import TcpListener, accept_fd
from flare.tcp.stream import TcpStream

__all__ = ["TcpStream", "TcpListener", "accept_fd"]

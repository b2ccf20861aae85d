"""Addresses, the socket that everything stands on, and the errors a network makes."""

from flare.errors import (
    AddressInUse,
    AddressParseError,
    BrokenPipe,
    ConnectionRefused,
    ConnectionReset,
    ConnectionTimeout,
    NetworkError,
    Timeout,
)
from flare.net.address import IpAddr, SocketAddr
from flare.net.errors import DnsError
from flare.net.raw_socket import RawSocket

__all__ = [
    "IpAddr",
    "SocketAddr",
    "RawSocket",
    "NetworkError",
    "ConnectionRefused",
    "ConnectionTimeout",
    "ConnectionReset",
    "AddressInUse",
    "AddressParseError",
    "BrokenPipe",
    "DnsError",
    "Timeout",
]

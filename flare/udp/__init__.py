"""UDP: datagrams one by one, and many at a time."""

from flare.udp.batch import (
    BatchReceiver,
    UdpBatchUnsupported,
    send_batch,
    send_segmented,
    udp_batch_supported,
)
from flare.udp.socket import UDP_MAX_PAYLOAD, DatagramTooLarge, UdpSocket

__all__ = [
    "UdpSocket",
    "DatagramTooLarge",
    "UDP_MAX_PAYLOAD",
    "BatchReceiver",
    "UdpBatchUnsupported",
    "send_batch",
    "send_segmented",
    "udp_batch_supported",
]

"""What a program decides about a peer connection."""

from collections.abc import Callable
from dataclasses import dataclass, field

import aiortc


@dataclass
class RTCConfiguration(aiortc.RTCConfiguration):
    """aiortc's configuration with two fields more.

    ``iceServers=None`` means none: no public STUN server is asked unless one is named.
    """

    iceAddresses: list[str] | None = None
    """The addresses to offer as host candidates, for example ``["127.0.0.1"]``. ``None``: every address of this
    machine but the loopback ones, or the loopback one when there is no other."""
    keyLog: Callable[[str], None] | None = field(default=None, repr=False)
    """Given the secrets of each DTLS handshake, line by line, in NSS key log format without the newline. For
    debugging only: whoever reads them reads the call."""

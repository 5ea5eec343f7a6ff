"""What a program decides about a peer connection."""

from collections.abc import Callable
from dataclasses import dataclass, field

import aiortc

from mediapeer.dtls import ProtocolVersion


@dataclass
class RTCConfiguration(aiortc.RTCConfiguration):
    """aiortc's configuration with three fields more.

    ``iceServers=None`` means none: no public STUN server is asked unless one is named.
    """

    iceAddresses: list[str] | None = None
    """The addresses to offer as host candidates, for example ``["127.0.0.1"]``. ``None``: every address of this
    machine but the loopback ones, or the loopback one when there is no other."""
    keyLog: Callable[[str], None] | None = field(default=None, repr=False)
    """Given the secrets of each DTLS handshake, line by line, in NSS key log format without the newline. For
    debugging only: whoever reads them reads the call."""
    maximumDtlsVersion: ProtocolVersion = ProtocolVersion.DTLS_1_3
    """The newest DTLS version to speak. Pin it to 1.2 to see how a peer does with that; leave it for real calls."""

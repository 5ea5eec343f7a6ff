"""What a program decides about a peer connection."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import aiortc

from mediapeer.dtls import ProtocolVersion
from mediapeer.ice import IceOptions, IceServer, UdpMux
from mediapeer.peer.certificate import CertificateRotation


@dataclass
class RTCConfiguration(aiortc.RTCConfiguration):
    """aiortc's configuration with more fields.

    ``iceServers=None`` means none: no public STUN server is asked unless one is named.
    """

    certificates: "Sequence[aiortc.RTCCertificate] | CertificateRotation | None" = None
    """The certificate to show, one, or a :class:`CertificateRotation` that many connections share. ``None``: each
    connection makes one of its own, so that nobody can tell that two calls have one end."""
    iceAddresses: list[str] | None = None
    """The addresses to offer as host candidates, for example ``["127.0.0.1"]``. ``None``: every address of this
    machine but the loopback ones, or the loopback one when there is no other."""
    iceMux: UdpMux | None = field(default=None, repr=False)
    """Open sockets to share with other connections, in the place of ``iceAddresses`` and ``icePort``. Whoever opened
    them closes them."""
    icePort: int | range = 0
    """The UDP port. Connections with the same addresses and the same port, or range of ports, share one socket for
    each address. 0: each has any that is free, for itself."""
    iceLite: bool = False
    """Whether to be a lite agent (RFC 8445 §2.5), which answers checks and sends none. For a server whose addresses
    its peers can reach; it sets calls up sooner and costs less. A lite peer of ours is checked all the same."""
    icePublicAddresses: dict[str, str] = field(default_factory=dict)
    """What to offer in the place of an address of this machine behind a 1:1 NAT: ``{"10.0.0.5": "192.0.2.7"}``."""
    codecs: Sequence[str] | None = None
    """The codecs to negotiate, the best first, by their names in whatever case: ``["VP9", "VP8", "opus"]``. A peer
    usually sends the first that it can. Of a kind of which none is listed, audio or video, the usual ones stay;
    retransmissions go along, and with Opus redundant audio, right after it unless ``red`` is listed. ``None``: the
    usual ones, VP8 and Opus first in our offers, in the peer's order in our answers."""
    keyLog: Callable[[str], None] | None = field(default=None, repr=False)
    """Given the secrets of each DTLS handshake, line by line, in NSS key log format without the newline. For
    debugging only: whoever reads them reads the call."""
    maximumDtlsVersion: ProtocolVersion = ProtocolVersion.DTLS_1_3
    """The newest DTLS version to speak. Pin it to 1.2 to see how a peer does with that; leave it for real calls."""


class InvalidModificationError(Exception):
    """A configuration changes what cannot be changed (W3C webrtc §4.4.1.6)."""


def configured(configuration: aiortc.RTCConfiguration | None) -> RTCConfiguration:
    """A configuration of ours, from ours or from aiortc's."""
    if configuration is None:
        return RTCConfiguration()
    if isinstance(configuration, RTCConfiguration):
        return configuration
    return RTCConfiguration(
        iceServers=configuration.iceServers,
        iceTransportPolicy=configuration.iceTransportPolicy,
        bundlePolicy=configuration.bundlePolicy,
        alwaysNegotiateDataChannels=configuration.alwaysNegotiateDataChannels,
    )


def ice_servers(servers: Sequence[aiortc.RTCIceServer] | None) -> list[IceServer]:
    """The servers of a configuration, as ICE takes them.

    :raises ValueError: when a URL does not parse, or a TURN server has no user name or credential.
    """
    return [
        IceServer(
            urls=[server.urls] if isinstance(server.urls, str) else list(server.urls),
            username=server.username,
            credential=server.credential,
        )
        for server in servers or ()
    ]


def ice_options(configuration: RTCConfiguration) -> IceOptions:
    """What a configuration says of ICE.

    :raises ValueError: when an address, a port or a URL does not parse, or they contradict each other.
    """
    return IceOptions(
        addresses=configuration.iceAddresses,
        port=configuration.icePort,
        lite=configuration.iceLite,
        servers=ice_servers(configuration.iceServers),
        relay_only=configuration.iceTransportPolicy is aiortc.RTCIceTransportPolicy.RELAY,
        public_addresses=dict(configuration.icePublicAddresses),
        mux=configuration.iceMux,
    )


def check_modification(old: RTCConfiguration, new: RTCConfiguration) -> None:
    """See that a configuration changes no more than servers and policy.

    :raises InvalidModificationError: when it does; it says what.
    """
    for name in ("bundlePolicy", "certificates", "codecs", "iceAddresses", "iceMux", "icePort", "iceLite"):
        if getattr(old, name) != getattr(new, name):
            raise InvalidModificationError(f"{name} cannot be changed")

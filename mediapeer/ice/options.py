"""What a program decides about ICE, and the states it is told (RFC 8445, W3C webrtc §5.6)."""

import enum
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mediapeer.ice.addresses import check_addresses

if TYPE_CHECKING:
    from mediapeer.ice.mux import UdpMux

#: URLs of STUN and of TURN servers that are asked; more are left out. Each costs requests from every socket.
MAXIMUM_SERVERS = 8

# RFC 7064 §3.1, RFC 7065 §3.1; an IPv6 address stands in brackets.
_SERVER_URL = re.compile(
    r"(?P<scheme>stuns?|turns?):(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:(?P<port>[0-9]{1,5}))?"
    r"(\?transport=(?P<transport>[A-Za-z]+))?"
)


class IceState(enum.StrEnum):
    """RTCIceTransportState (W3C webrtc §5.6.2)."""

    NEW = "new"
    CHECKING = "checking"
    CONNECTED = "connected"
    COMPLETED = "completed"
    DISCONNECTED = "disconnected"
    FAILED = "failed"
    CLOSED = "closed"


class GatheringState(enum.StrEnum):
    """RTCIceGathererState (W3C webrtc §5.6.1)."""

    NEW = "new"
    GATHERING = "gathering"
    COMPLETE = "complete"


@dataclass(frozen=True, slots=True)
class ServerUrl:
    """A STUN or TURN server's address, as its URL has it (RFC 7064, RFC 7065)."""

    host: str
    port: int
    is_turn: bool
    transport: str
    "``udp`` or ``tcp``."
    tls: bool

    @classmethod
    def parse(cls, url: str) -> "ServerUrl":
        """Read ``stun:``, ``turn:`` and ``turns:`` URLs.

        :raises ValueError: when it is none of these, or asks for a transport that there is not.
        """
        match = _SERVER_URL.fullmatch(url)
        if match is None:
            raise ValueError(f"{url!r} is not the URL of a STUN or TURN server")
        scheme = match["scheme"]
        if scheme == "stuns" or (scheme == "stun" and match["transport"]):
            raise ValueError(f"{url!r}: STUN servers are asked over UDP only, as stun:host[:port]")
        tls = scheme == "turns"
        transport = (match["transport"] or ("tcp" if tls else "udp")).lower()
        if transport not in ("udp", "tcp") or (tls and transport == "udp"):
            raise ValueError(f"{url!r}: TURN is spoken over UDP, TCP and TLS over TCP")
        port = int(match["port"]) if match["port"] else (5349 if tls else 3478)
        if not 0 < port < 65536:
            raise ValueError(f"{url!r}: {port} is not a port")
        return cls(match["host"].strip("[]"), port, scheme.startswith("turn"), transport, tls)


@dataclass
class IceServer:
    """STUN and TURN servers with the same credential (RTCIceServer, W3C webrtc §4.2.2).

    :raises ValueError: when a URL does not parse, or a TURN server has no username or credential.
    """

    urls: list[str]
    username: str | None = None
    credential: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if any(address.is_turn for address in self.addresses()) and None in (self.username, self.credential):
            raise ValueError("a TURN server needs a username and a credential")

    def addresses(self) -> list[ServerUrl]:
        """The servers, in the order of their URLs."""
        return [ServerUrl.parse(url) for url in self.urls]


@dataclass
class IceOptions:
    """Where to listen, what to offer and whom to ask.

    :raises ValueError: when an address, a port or a combination of options makes no sense.
    """

    addresses: Sequence[str] | None = None
    """The addresses of host candidates. ``None``: every address of this machine but the loopback ones, or the
    loopback one when there is no other."""
    port: int | range = 0
    """The UDP port of host candidates. A number or a range is shared by all transports with the same addresses;
    0 gives each transport a free port of its own, unless :attr:`mux` is given."""
    lite: bool = False
    "Whether to answer checks only (RFC 8445 §2.5); for servers that the peer can reach at these addresses."
    servers: list[IceServer] = field(default_factory=list)
    relay_only: bool = False
    "Whether to use candidates on TURN servers only, so that the peer does not learn our addresses."
    public_addresses: dict[str, str] = field(default_factory=dict)
    """What others see of a local address behind a 1:1 NAT: local → public. Candidates carry the public one."""
    resolve_mdns: bool = True
    "Whether to ask the local network for ``.local`` names in the peer's candidates (RFC 6762)."
    mux: "UdpMux | None" = field(default=None, repr=False)
    """Open sockets to use instead of :attr:`addresses` and :attr:`port`. They stay open when the transport closes;
    whoever opened them closes them."""

    def __post_init__(self) -> None:
        if self.addresses is not None:
            self.addresses = check_addresses(self.addresses)
        ports = (
            (self.port, self.port) if isinstance(self.port, int) else (self.port.start, self.port.stop - 1)
        )
        if not 0 <= ports[0] <= ports[1] < 65536 or (isinstance(self.port, range) and ports[0] == 0):
            raise ValueError(f"{self.port} is not a UDP port or a range of them")
        try:
            self.public_addresses = {
                str(ipaddress.ip_address(local)): str(ipaddress.ip_address(public))
                for local, public in self.public_addresses.items()
            }
        except ValueError as error:
            raise ValueError(f"public_addresses: {error}") from None
        if self.lite and self.relay_only:
            raise ValueError("an ICE-lite agent has host candidates only, so it cannot be relay_only")

    def server_addresses(self) -> list[tuple[ServerUrl, IceServer]]:
        """The servers to ask, STUN servers before TURN servers, as many of each as :data:`MAXIMUM_SERVERS`."""
        servers = [(address, server) for server in self.servers for address in server.addresses()]
        stun = [entry for entry in servers if not entry[0].is_turn]
        turn = [entry for entry in servers if entry[0].is_turn]
        return ([] if self.relay_only else stun[:MAXIMUM_SERVERS]) + turn[:MAXIMUM_SERVERS]

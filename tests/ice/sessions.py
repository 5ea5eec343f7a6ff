"""What takes datagrams from a mux in tests and benchmarks."""

import asyncio
from typing import cast

from mediapeer.ice.candidate import Candidate, IceParameters, candidate_foundation, candidate_priority
from mediapeer.ice.lite import Claim, IceLiteAgent, Release, Respond
from mediapeer.ice.mux import UdpMux
from mediapeer.ice.sockets import Address, MuxSocket


class LiteSession:
    """A lite agent on a mux, without the timer that a transport gives it."""

    def __init__(self, mux: UdpMux) -> None:
        self.mux = mux
        self.received: list[bytes] = []
        self.agent = IceLiteAgent(IceParameters.random(lite=True))
        self.candidates: list[Candidate] = []
        for bound in mux.sockets:
            host, port = bound.address
            foundation = candidate_foundation("host", host)
            candidate = Candidate(foundation, 1, "udp", candidate_priority("host"), host, port, "host")
            self.agent.add_socket(bound, candidate)
            self.candidates.append(candidate)
        mux.register(self.agent.local_parameters.username_fragment, self)

    def datagram_received(self, data: bytes, socket: MuxSocket, source: Address) -> None:
        if data[0] > 3:
            self.received.append(data)
            return
        for output in self.agent.receive(data, socket, source, asyncio.get_running_loop().time()):
            if isinstance(output, Respond):
                cast(MuxSocket, output.socket).send(output.data, output.remote)
            elif isinstance(output, Claim):
                self.mux.claim(cast(MuxSocket, output.socket), output.remote, self)
            elif isinstance(output, Release):
                self.mux.release(self, cast(MuxSocket, output.socket), output.remote)

    def send(self, data: bytes) -> None:
        pair = self.agent.selected_pair
        assert pair is not None
        cast(MuxSocket, pair.socket).send(data, pair.address)

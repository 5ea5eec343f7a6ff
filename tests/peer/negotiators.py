"""Two ends of a negotiation in memory: no sockets, no loop, transports that only have credentials."""

import itertools
import pathlib
from collections.abc import Iterator, Sequence

from mediapeer.ice.candidate import IceParameters
from mediapeer.peer.codecs import CodecRegistry
from mediapeer.peer.negotiation import Negotiation
from mediapeer.peer.session import RemoteChanges
from mediapeer.peer.transceiver import SenderSource, Transceiver

FINGERPRINT = ":".join(["A0"] * 32)

#: What browsers offer, by name.
BROWSER_OFFERS = {
    path.stem: path.read_text()
    for path in sorted((pathlib.Path(__file__).parents[1] / "sdp" / "vectors").glob("*[mx]-*.sdp"))
}


class FakeTransport:
    """Our end of a transport, with credentials that tell in clear which end and which generation they are."""

    def __init__(self, name: str, *, lite: bool = False) -> None:
        self.name = name
        self.lite = lite
        self.generation = 0
        self.candidates: list[str] = []
        self.gathering_complete = False
        self.ice_options: Sequence[str] = ("trickle",)
        self.fingerprints = [("sha-256", FINGERPRINT)]
        self.restarts = 0
        self.undone = 0

    @property
    def ice_parameters(self) -> IceParameters:
        fragment = f"{self.name}{self.generation}"
        return IceParameters(fragment.rjust(4, "0"), fragment.rjust(22, "p"), self.lite)

    def restart_ice(self) -> None:
        self.restarts += 1
        self.generation += 1

    def undo_ice_restart(self) -> None:
        self.undone += 1
        self.generation -= 1


class Negotiator:
    """One end: a negotiation, and the little that a peer connection adds."""

    def __init__(self, name: str = "a", *, lite: bool = False, rtx: bool = True, **options: object) -> None:
        self.name = name
        self.registry = options.setdefault("codecs", CodecRegistry(rtx=rtx))
        self.transports: dict[str, FakeTransport] = {}
        self.lite = lite
        self._numbers: Iterator[int] = itertools.count(1)
        self.negotiation = Negotiation(
            transport_for=self.transport_for,
            new_transceiver=self.make_transceiver,
            session_id=1 << 61,
            **options,  # type: ignore[arg-type]
        )

    def transport_for(self, key: str) -> FakeTransport:
        if key not in self.transports:
            self.transports[key] = FakeTransport(f"{self.name}{len(self.transports)}", lite=self.lite)
        return self.transports[key]

    def make_transceiver(self, kind: str, direction: str = "sendrecv") -> Transceiver:
        transceiver = Transceiver(kind, direction=direction, codecs=self.registry)  # type: ignore[arg-type]
        number = next(self._numbers)
        transceiver.sender_source = SenderSource(
            ssrc=number * 1000 + ord(self.name[0]),
            rtx_ssrc=number * 1000 + 500 + ord(self.name[0]),
            cname=self.name,
            stream_ids=[f"stream-{self.name}"],
            track_id=f"track-{self.name}-{number}",
        )
        return transceiver

    def add(self, kind: str, direction: str = "sendrecv") -> Transceiver:
        """``addTransceiver``."""
        transceiver = self.make_transceiver(kind, direction)
        self.negotiation.add_transceiver(transceiver)
        return transceiver

    def add_track(self, kind: str) -> Transceiver:
        """``addTrack``: takes a transceiver that has never sent, or makes one (W3C webrtc §5.1)."""
        for transceiver in self.negotiation.transceivers:
            free = not transceiver.add_track_used and not transceiver.negotiated.has_sent
            if transceiver.kind == kind and free and not transceiver.stopping:
                receives = transceiver.direction in ("recvonly", "sendrecv")
                transceiver.direction = "sendrecv" if receives else "sendonly"
                transceiver.add_track_used = True
                return transceiver
        transceiver = self.add(kind)
        transceiver.add_track_used = True
        return transceiver

    def offer(self) -> str:
        """Make an offer the local description; its text."""
        self.negotiation.set_local("offer")
        return str(self.negotiation.pending_local)

    def answer(self, offer: str) -> str:
        """Answer an offer; the answer's text."""
        self.negotiation.set_remote("offer", offer)
        self.negotiation.set_local("answer")
        return str(self.negotiation.current_local)

    @property
    def snapshot(self) -> object:
        """All that can be seen of the negotiation, for comparing before and after."""
        negotiation = self.negotiation
        return (
            negotiation.signaling_state,
            [
                (id(item), item.negotiated, item.direction, item.stopping, item.stopped)
                for item in negotiation.transceivers
            ],
            negotiation.data_section,
            [
                None if item is None else str(item)
                for item in (
                    negotiation.current_local,
                    negotiation.current_remote,
                    negotiation.pending_local,
                    negotiation.pending_remote,
                )
            ],
            negotiation.transports(),
            negotiation.is_negotiation_needed(),
        )


def negotiate(offerer: Negotiator, answerer: Negotiator) -> RemoteChanges:
    """One round of offer and answer; what it changed for the offerer."""
    return offerer.negotiation.set_remote("answer", answerer.answer(offerer.offer()))

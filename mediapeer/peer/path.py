"""One path to the peer: an ICE transport with the DTLS transport over it, as the negotiation sees them."""

import asyncio
import logging
from collections.abc import Callable, Sequence

import aiortc
from aiortc.rtcdtlstransport import RTCDtlsFingerprint, RTCDtlsParameters
from cryptography.hazmat.primitives import hashes

from mediapeer.dtls import ProtocolVersion
from mediapeer.ice import Candidate, GatheringState, IceOptions, IceParameters, IceState, IceTransport
from mediapeer.peer.ice import RTCIceTransport
from mediapeer.peer.transports import TransportPlan
from mediapeer.transport import DtlsTransport

logger = logging.getLogger(__name__)


class Path:
    """Made when a description first needs it, without any traffic; used until no section needs it any more.

    :param options: what ICE is told.
    :param certificate: ours.
    """

    def __init__(
        self,
        options: IceOptions,
        certificate: aiortc.RTCCertificate,
        *,
        key_log: Callable[[str], None] | None,
        maximum_version: ProtocolVersion,
    ) -> None:
        self.ice = IceTransport(options, controlling=True)
        self.rtc_ice = RTCIceTransport(self.ice)
        self.dtls = DtlsTransport(
            self.rtc_ice, [certificate], key_log=key_log, maximum_version=maximum_version
        )
        self.on_change: Callable[[], None] | None = None
        "Told when any state of the path has changed."
        self.on_candidate: Callable[[Candidate | None], None] | None = None
        "Given each local candidate, and ``None`` at their end."
        self._certificate = certificate
        self._fingerprints: list[tuple[str, str]] | None = None
        self._told_candidates: frozenset[str] = frozenset()
        self._told_end = False
        self._starting: asyncio.Task[None] | None = None
        self._ice_usable = asyncio.Event()
        self._gathering: asyncio.Task[None] | None = None
        self.gathering_error: OSError | None = None
        "Why there are no host candidates, when none of the addresses can be used."
        self.ice.on_state = self._on_ice_state
        self.ice.on_gathering = self._on_gathering
        self.ice.on_candidate = self._on_candidate
        self.dtls.on("statechange", self._changed)

    # What the negotiation writes into descriptions

    @property
    def ice_parameters(self) -> IceParameters:
        """The credentials for the next description."""
        return self.ice.local_parameters

    @property
    def ice_options(self) -> Sequence[str]:
        """What ``a=ice-options`` says (RFC 8838 §3)."""
        return ("trickle",)

    @property
    def candidates(self) -> list[str]:
        """The local candidates so far, as values of ``a=candidate``."""
        return [candidate.to_sdp() for candidate in self.ice.local_candidates]

    @property
    def gathering_complete(self) -> bool:
        """Whether there will be no more of them."""
        return self.ice.gathering_state is GatheringState.COMPLETE

    @property
    def fingerprints(self) -> list[tuple[str, str]]:
        """Our certificate's by SHA-256, the hash that all must know (RFC 8122 §5), and by no other, as browsers do.

        Some endpoints keep one of several, and not always the one that they compare with; and the longer ones would
        be a third of an answer.
        """
        if self._fingerprints is None:
            digest = self._certificate._cert.fingerprint(hashes.SHA256())
            self._fingerprints = [("sha-256", digest.hex(":").upper())]
        return self._fingerprints

    def restart_ice(self) -> None:
        """Have new credentials for the next description. The old ones work until the peer's new ones come."""
        self.ice.restart()

    def undo_ice_restart(self) -> None:
        """Keep the old credentials after all."""
        self.ice.undo_restart()

    # What descriptions make it do

    def gather(self) -> "asyncio.Task[None]":
        """Gather candidates; the task ends when they are all there. Once for each set of credentials."""
        if self._gathering is None or (
            self._gathering.done() and self.ice.gathering_state is not GatheringState.COMPLETE
        ):
            self._gathering = asyncio.create_task(self._gather())
        return self._gathering

    def connect(self, plan: TransportPlan) -> None:
        """Do what the negotiation says: begin, take the peer's candidates, or go on with its new credentials.

        ICE begins now, DTLS when ICE has a path.
        """
        if plan.remote_ice is None or plan.dtls_role is None:
            return
        if self.ice.remote_parameters != plan.remote_ice:
            self._told_candidates, self._told_end = frozenset(), False
            if self.ice.remote_parameters is None:
                self.ice.controlling = plan.controlling
            self.ice.start(plan.remote_ice)
        # A new one may stand anywhere among them: each section has its own.
        for value in plan.remote_candidates:
            if value not in self._told_candidates:
                self.add_remote_candidate(value)
        self._told_candidates = frozenset(plan.remote_candidates)
        if plan.end_of_candidates and not self._told_end:
            self._told_end = True
            self.ice.add_remote_candidate(None)
        if self._starting is None:
            self.dtls._set_role(plan.dtls_role)
            fingerprints = [RTCDtlsFingerprint(name, value) for name, value in plan.remote_fingerprints]
            self._starting = asyncio.create_task(
                self._start_dtls(RTCDtlsParameters(fingerprints=fingerprints))
            )

    def add_remote_candidate(self, value: str) -> None:
        """Take one candidate; what does not parse is counted."""
        try:
            candidate = Candidate.from_sdp(value)
        except ValueError as error:
            self.ice.counters["malformed_candidates"] += 1
            logger.debug("a candidate was dropped: %s", error)
        else:
            self.ice.add_remote_candidate(candidate)

    async def close(self) -> None:
        """End DTLS with a word to the peer, and ICE; leaves no task, timer or socket."""
        await self.dtls.stop()
        await self.ice.close()
        for task in (self._starting, self._gathering):
            if task is not None and task is not asyncio.current_task():
                task.cancel()
                await asyncio.wait([task])

    # Inside

    async def _gather(self) -> None:
        try:
            await self.ice.gather()
        except OSError as error:
            # No address can be used. Descriptions go out without candidates, and the peer's checks find nothing.
            logger.warning("no candidates: %s", error)
            self.gathering_error = error

    async def _start_dtls(self, remote: RTCDtlsParameters) -> None:
        await self._ice_usable.wait()
        if self.dtls.state == "new":
            await self.dtls.start(remote)

    def _on_ice_state(self, state: IceState) -> None:
        if state in (IceState.CONNECTED, IceState.COMPLETED):
            self._ice_usable.set()
        self.rtc_ice.emit("statechange")
        self._changed()

    def _on_gathering(self, state: GatheringState) -> None:
        self.rtc_ice.iceGatherer.emit("statechange")
        if state is GatheringState.COMPLETE and self.on_candidate is not None:
            self.on_candidate(None)
        self._changed()

    def _on_candidate(self, candidate: Candidate) -> None:
        if self.on_candidate is not None:
            self.on_candidate(candidate)

    def _changed(self) -> None:
        if self.on_change is not None:
            self.on_change()

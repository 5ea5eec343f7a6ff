"""All that a negotiation may change, in one place, so that it can be put back."""

from dataclasses import dataclass, field, fields, replace

from mediapeer.peer.identifiers import ExtensionIds, PayloadTypes
from mediapeer.peer.signaling_state import SignalingState
from mediapeer.peer.transceiver import Negotiated, Transceiver
from mediapeer.peer.transports import TransportState
from mediapeer.sdp import SessionDescription

#: Digits of the longest mids of ours: a connection does not get to have so many sections.
MID_DIGITS = 4


@dataclass(frozen=True)
class DataSection:
    """The section for data channels (RFC 8841)."""

    mid: str
    mline_index: int
    remote_sctp_port: int | None = None
    "``None`` before the peer has said it; so is the next."
    max_message_size: int | None = None
    "The largest message that the peer takes, in bytes; 0 for any (RFC 8841 §6)."


@dataclass
class RemoteChanges:
    """What a description changed for the program."""

    created: list[Transceiver] = field(default_factory=list)
    "Transceivers that a remote offer made."
    added: list[Transceiver] = field(default_factory=list)
    "Those whose remote track has come, or come back: a ``track`` event for each (W3C webrtc §5.1.2)."
    removed: list[Transceiver] = field(default_factory=list)
    "Those whose remote track is taken away: it is muted, and leaves its streams."
    stopped: list[Transceiver] = field(default_factory=list)
    "Those that are over, and no longer among the transceivers."
    ended: list[str] = field(default_factory=list)
    "The mids that transceivers have lost, stopped or not: whatever was routed by them goes."
    streams: dict[Transceiver, tuple[str, ...]] = field(default_factory=dict)
    "The identifiers of the streams of each remote track whose streams changed."
    data_rejected: bool = False
    "Whether there will be no data channels any more on this section."


@dataclass
class Session:
    """Where a negotiation stands."""

    signaling_state: SignalingState = SignalingState.STABLE
    transceivers: list[Transceiver] = field(default_factory=list)
    data: DataSection | None = None
    transports: tuple[TransportState, ...] = ()
    payload_types: PayloadTypes = field(default_factory=PayloadTypes)
    extension_ids: ExtensionIds = field(default_factory=ExtensionIds)
    mids: set[str] = field(default_factory=set)
    "Those that were ever used and that we might give: a mid is never used again (RFC 9429 §5.2.2)."
    current_local: SessionDescription | None = None
    current_remote: SessionDescription | None = None
    pending_local: SessionDescription | None = None
    pending_remote: SessionDescription | None = None
    offered: bool = False
    "Whether the current local description is the offer of its pair."

    def note_mid(self, mid: str) -> None:
        """Never give that mid to a new section. Ours are small numbers; the peer can make up any number of others."""
        if mid.isdecimal() and len(mid) <= MID_DIGITS:
            self.mids.add(mid)

    def save(self) -> "Saved":
        """What stands now."""
        copy = replace(
            self,
            transceivers=list(self.transceivers),
            payload_types=self.payload_types.copy(),
            extension_ids=self.extension_ids.copy(),
            mids=set(self.mids),
        )
        states = {item: (item.negotiated, item.stopping, item.stopped) for item in self.transceivers}
        return Saved(copy, states)

    def restore(self, saved: "Saved") -> None:
        """Make it stand as it was then, as if nothing had happened."""
        self._take(saved)
        for transceiver, (negotiated, stopping, stopped) in saved.states.items():
            transceiver.negotiated = negotiated
            transceiver.restore_stopped(stopping, stopped)

    def _take(self, saved: "Saved") -> None:
        """Everything but what the transceivers themselves know. What was saved can be used again."""
        copy = saved.session.save().session
        for item in fields(self):
            setattr(self, item.name, getattr(copy, item.name))

    def roll_back(self, saved: "Saved", changes: RemoteChanges) -> None:
        """Undo what was negotiated since then, and nothing that the program did (RFC 9429 §4.1.10.2).

        Transceivers that the remote offer made go, unless the program has taken them by ``addTrack`` meanwhile.
        """
        present = self.transceivers
        self._take(saved)
        self.transceivers = []
        for transceiver in present:
            negotiated = saved.states[transceiver][0] if transceiver in saved.states else Negotiated()
            note_direction(transceiver, negotiated.fired_direction, changes)
            if transceiver.mid not in (None, negotiated.mid):
                changes.ended.append(transceiver.mid or "")
            transceiver.negotiated = negotiated
            made_by_peer = transceiver.added_by_remote_offer and transceiver not in saved.states
            if made_by_peer and not transceiver.add_track_used:
                transceiver.set_stopped()
                changes.stopped.append(transceiver)
            else:
                self.transceivers.append(transceiver)

    def transceiver(self, mid: str | None) -> Transceiver | None:
        """The transceiver whose section has that mid."""
        if mid is None:
            return None
        return next((item for item in self.transceivers if item.mid == mid), None)

    @property
    def local_description(self) -> SessionDescription | None:
        """The pending description, or else the current one."""
        return self.pending_local or self.current_local

    @property
    def remote_description(self) -> SessionDescription | None:
        """The pending description, or else the current one."""
        return self.pending_remote or self.current_remote

    def is_section_in_use(self, index: int) -> bool:
        """Whether neither current description rejects the section (and both have it)."""
        for description in (self.current_local, self.current_remote):
            if description is None or index >= len(description.media) or description.media[index].is_rejected:
                return False
        return True


@dataclass(frozen=True)
class Saved:
    """How a session stood once."""

    session: Session
    states: dict[Transceiver, tuple[Negotiated, bool, bool]]


def note_direction(transceiver: Transceiver, direction: str | None, changes: RemoteChanges) -> None:
    """Note whether the remote track comes or goes when that is the direction, seen from here (W3C webrtc §5.1.2)."""
    before = transceiver.negotiated.fired_direction in ("sendrecv", "recvonly")
    now = direction in ("sendrecv", "recvonly")
    if now and not before:
        changes.added.append(transceiver)
    elif before and not now:
        changes.removed.append(transceiver)
    transceiver.negotiated = replace(transceiver.negotiated, fired_direction=direction)

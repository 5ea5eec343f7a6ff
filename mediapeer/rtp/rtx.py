"""Retransmissions (RFC 4588): the packet that one carries, also where no ``a=ssrc`` says whose it is."""

from mediapeer.rtp.packet import RtpPacket
from mediapeer.rtp.router import RtpRouter, RtpSection
from mediapeer.rtp.statistics import InboundStream

#: Seconds for which a stream counts as one of those that a retransmission may repair.
RECENT = 5.0
_OSN_LENGTH = 2


class RtxError(ValueError):
    """A retransmission that carries no packet that can be used."""


def repaired_stream(
    stream: InboundStream, section: RtpSection, router: RtpRouter, now: float
) -> InboundStream | None:
    """The stream that a retransmission stream repairs, or ``None`` while that is not known.

    It is the one of its group FID, else the one with its repaired RID, else the only one that its section has.
    """
    if stream.repairs is not None:
        known = router.stream(stream.repairs)
        if known is not None and known.mid == stream.mid and not known.is_retransmission:
            return known
        stream.repairs = None
    original = _find(stream, section, router, now)
    if original is not None:
        stream.repairs = original.ssrc
        original.rtx_ssrc = stream.ssrc
    return original


def _find(stream: InboundStream, section: RtpSection, router: RtpRouter, now: float) -> InboundStream | None:
    if (ssrc := section.repaired.get(stream.ssrc)) is not None:
        signalled = router.stream(ssrc)
        return signalled if signalled is not None and signalled.mid == stream.mid else None
    originals = [s for s in router.streams_of(stream.mid) if not s.is_retransmission]
    if stream.repaired_rid is not None:
        originals = [s for s in originals if s.rid == stream.repaired_rid]
        return max(originals, key=lambda s: s.last_arrival or 0.0, default=None)
    recent = [s for s in originals if s.is_flowing(now, RECENT)]
    return recent[0] if len(recent) == 1 else None


def unwrap(packet: RtpPacket, section: RtpSection, original: InboundStream) -> None:
    """Turn a retransmission into the packet of ``original`` that it carries (RFC 4588 §4).

    :raises RtxError: when there is no room for a sequence number in it, or its payload type does not stand for one
        of the section that is no retransmission itself.
    """
    if len(packet.payload) < _OSN_LENGTH:
        raise RtxError("it has no original sequence number")
    apt = section.formats[packet.payload_type].apt
    repaired = section.formats.get(apt) if apt is not None else None
    if apt is None or repaired is None or repaired.apt is not None:
        raise RtxError("its payload type repairs none of the section")
    packet.payload_type = apt
    packet.sequence_number = int.from_bytes(packet.payload[:_OSN_LENGTH], "big")
    packet.payload = packet.payload[_OSN_LENGTH:]
    packet.ssrc = original.ssrc

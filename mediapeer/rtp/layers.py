"""Which of the several sources of a section is received: simulcast layers, sources that change."""

import enum
from collections.abc import Collection

from mediapeer.rtp.router import RtpSection
from mediapeer.rtp.statistics import InboundStream

#: A source that has been silent for so many seconds gives way to another.
SILENCE = 0.5
#: So long another source of video has to have sent in that silence: at few pictures a second all are silent for long,
#: and one of them is the first to speak again.
PATIENCE = 0.1


class Verdict(enum.Enum):
    """What a packet of a source that is not received means for the choice."""

    STAY = enum.auto()
    "The one that is received stays."
    WAIT = enum.auto()
    "The one that is received may have gone silent: if a keyframe begins here, this one takes over with it."
    BETTER = enum.auto()
    """This one is better, or may be: if it is, it takes over with its next keyframe, and it should be asked for
    one."""
    TAKE_OVER = enum.auto()
    "This one takes over at once: there is no other, or the other has gone silent."


class LayerChoice:
    """Chooses the best source that flows.

    The best is the one with the largest pictures. Where these are not known or the same, it is the one whose RID
    stands first: so it should be (RFC 8853 §5.1), but many pages name the smallest layer first. Without RIDs, one
    that signaling names is better than others.

    :param section: what was negotiated; may be replaced.
    """

    def __init__(self, section: RtpSection) -> None:
        self.section = section
        self._spoke: dict[int, float] = {}
        "By SSRC, when a source sent something first while the one that is received was silent."

    def rank(self, stream: InboundStream) -> int:
        """How good signaling says that a source is; 0 is best."""
        rids = self.section.rids
        if rids:
            return rids.index(stream.rid) if stream.rid in rids else len(rids)
        ssrcs = self.section.ssrcs
        return 1 if ssrcs and stream.ssrc not in ssrcs else 0

    def is_better(self, stream: InboundStream, other: InboundStream) -> bool:
        """Whether ``stream`` is better than ``other``, as far as is known."""
        area, other_area = self._area(stream), self._area(other)
        if area and other_area and area != other_area:
            return area > other_area
        return self.rank(stream) < self.rank(other)

    def _area(self, stream: InboundStream) -> int:
        """How large a layer's pictures are; 0 where that is not known."""
        return stream.picture_area or 0 if stream.rid in self.section.rids else 0

    def _order(self, stream: InboundStream) -> tuple[int, int]:
        """Sorts sources: those first of which a keyframe was seen, the largest ahead."""
        return -self._area(stream), self.rank(stream)

    def judge(
        self,
        stream: InboundStream,
        current: InboundStream | None,
        siblings: Collection[InboundStream],
        now: float,
    ) -> Verdict:
        """Judge a source that has just sent something.

        :param current: the one that is received.
        :param siblings: all of the section.
        """
        if current is None:
            self._spoke.clear()
            return Verdict.TAKE_OVER
        if not current.is_flowing(now, SILENCE) or current not in siblings:
            is_gone = current.ended or current not in siblings or self.section.kind != "video"
            order = self._order(stream)
            if any(
                self._order(other) < order
                for other in siblings
                if not other.is_retransmission and other.is_flowing(now, SILENCE)
            ):
                return Verdict.STAY
            if not is_gone and not self._has_waited(stream, current, now):
                return Verdict.WAIT
            self._spoke.clear()
            return Verdict.TAKE_OVER
        if not current.is_flowing(now, PATIENCE):
            self._has_waited(stream, current, now)
        may_be_better = stream.rid in self.section.rids and not self._area(stream) and self._area(current) > 0
        return Verdict.BETTER if may_be_better or self.is_better(stream, current) else Verdict.STAY

    def _has_waited(self, stream: InboundStream, current: InboundStream, now: float) -> bool:
        first = self._spoke.get(stream.ssrc)
        if first is None or first <= (current.last_arrival or 0.0):
            self._spoke[stream.ssrc] = first = now
        return now - first >= PATIENCE

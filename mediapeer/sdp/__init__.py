"""The Session Description Protocol: a parser that keeps what it does not know, and a serializer (RFC 8866).

Sans-IO, and no more than SDP: what a description means for a call is the negotiation's to say.
"""

from mediapeer.sdp.errors import SdpError
from mediapeer.sdp.lines import Attribute, Line, SdpLimits
from mediapeer.sdp.media import MediaDescription
from mediapeer.sdp.session import Origin, SessionDescription
from mediapeer.sdp.values import Codec, HeaderExtension, Rid, RidRef, Simulcast

__all__ = [
    "Attribute",
    "Codec",
    "HeaderExtension",
    "Line",
    "MediaDescription",
    "Origin",
    "Rid",
    "RidRef",
    "SdpError",
    "SdpLimits",
    "SessionDescription",
    "Simulcast",
]

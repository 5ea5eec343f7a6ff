"""Session descriptions to begin with, and how a text is changed: by lines, by words, by numbers."""

import asyncio
import random
import re

from mediapeer import (
    AudioStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCSessionDescription,
    VideoStreamTrack,
)
from tests.fuzz.surroundings import in_memory
from tests.signaling.support import AUDIO, DATA, OFFER, SESSION
from tests.transport.virtual import VirtualLoop

#: What browsers send beyond what we send ourselves.
VIDEO = """\
m=video 9 UDP/TLS/RTP/SAVPF 96 97 102 103
c=IN IP4 0.0.0.0
a=rtcp:9 IN IP4 0.0.0.0
a=candidate:1 1 udp 2122260223 192.0.2.9 50000 typ host generation 0 network-id 1
a=candidate:2 1 tcp 1518280447 192.0.2.9 9 typ host tcptype active
a=candidate:3 1 udp 1677729535 198.51.100.7 50001 typ srflx raddr 192.0.2.9 rport 50000
a=candidate:4 1 udp 2113937151 0b6c5e5e-9e2b-4b3b-9d0e-7f3a7d7c2a11.local 50002 typ host
a=end-of-candidates
a=ice-ufrag:Abcd
a=ice-pwd:0123456789abcdefghijkl
a=ice-options:trickle
FINGERPRINT
a=setup:actpass
a=mid:1
a=extmap-allow-mixed
a=extmap:3 http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time
a=extmap:4/recvonly urn:ietf:params:rtp-hdrext:sdes:mid
a=sendrecv
a=msid:stream video
a=rtcp-mux
a=rtcp-rsize
a=rtpmap:96 VP8/90000
a=rtcp-fb:96 goog-remb
a=rtcp-fb:96 nack pli
a=rtpmap:97 rtx/90000
a=fmtp:97 apt=96
a=rtpmap:102 H264/90000
a=rtcp-fb:* nack
a=fmtp:102 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42001f
a=rtpmap:103 rtx/90000
a=fmtp:103 apt=102
a=ssrc-group:FID 1001 1002
a=ssrc:1001 cname:someone
a=ssrc:1002 cname:someone
a=rid:h send pt=96
a=simulcast:send h
"""

_WORDS = (
    "", "0", "1", "-1", "65535", "65536", "4294967295", "4294967296", "18446744073709551616", "1e9", "9" * 400,
    "active", "passive", "actpass", "holdconn", "sendrecv", "sendonly", "recvonly", "inactive", "BUNDLE", "*",
    "sha-256", "sha-1", "md5", "typ", "host", "relay", "udp", "tcp", "IN", "IP4", "IP6", "::", "::1", "10.0.0.0",
    "255.255.255.255", "224.0.0.1", "fe80::1%eth0", "x.local", "audio", "video", "application",
    "UDP/TLS/RTP/SAVPF", "RTP/AVP", "UDP/DTLS/SCTP", "webrtc-datachannel", "opus/48000/2", "VP8/90000", "VP8/0",
    "H264/90000", "rtx/90000", "apt=96", "apt=97", "apt=", "profile-level-id=42001f", "profile-level-id=zz",
    "packetization-mode=1", "nack", "\u0660", "\u00b2", "\u2028", "\ud7ff", "\x00", "\x0b", "\x1c", "\x85", "{id}",
    "../", "%2e%2e%2f", "[]", "{}", '"', "null", "true", "1e400", "NaN", "\\ud800",
)  # fmt: skip
_LINES = (
    "a=group:BUNDLE 0 1", "a=group:LS 0", "a=ice-lite", "a=ice-options:ice2", "a=bundle-only", "a=rtcp-mux",
    "a=mid:0", "a=mid:1", "a=sendonly", "a=inactive", "a=setup:passive", "a=msid-semantic:WMS *", "a=identity:x",
    "a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level", "a=extmap:255 x", "a=rtpmap:0 PCMU/8000",
    "a=rtpmap:127 G722/8000", "a=fmtp:0 x", "a=ssrc:1 msid:a b", "a=ssrc-group:FID 1", "a=ssrc-group:SIM 1 2 3",
    "a=sctpmap:5000 webrtc-datachannel 256", "a=sctp-port:1", "a=max-message-size:0", "a=rtcp:1 IN IP6 ::1",
    "a=candidate:1 1 udp 1 198.51.100.1 1 typ relay raddr 198.51.100.2 rport 0", "a=crypto:1 x", "c=IN IP6 ::",
    "m=audio 9 UDP/TLS/RTP/SAVPF 0", "m=video 0 UDP/TLS/RTP/SAVPF 96", "a=ptime:20", "a=rtcp-mux-only", "b=AS:1",
    "m=application 9 UDP/DTLS/SCTP webrtc-datachannel", "a=", "a=:", "a", "=", "",
)  # fmt: skip
_WORD = re.compile(r"[^\s:=/;,]+")


def mutate_text(data: bytes, generator: random.Random) -> bytes:
    """One to four changes, of lines or of words."""
    newline = b"\r\n" if b"\r\n" in data else b"\n"
    lines = data.split(newline)
    for _ in range(generator.choice((1, 1, 2, 4))):
        place = generator.randrange(len(lines))
        match generator.randrange(8):
            case 0 if len(lines) > 1:
                lines.pop(place)
            case 1:
                lines.insert(place, generator.choice(lines))
            case 2:
                lines.insert(place, generator.choice(_LINES).encode())
            case 3 if len(lines) > 1:
                lines.insert(generator.randrange(len(lines) - 1), lines.pop(place))
            case 4:
                other = generator.choice(lines)
                middle = generator.randrange(len(lines[place]) + 1)
                lines[place] = lines[place][:middle] + other[generator.randrange(len(other) + 1) :]
            case _:
                lines[place] = _with_other_word(lines[place], generator)
    return newline.join(lines)


def _with_other_word(line: bytes, generator: random.Random) -> bytes:
    text = line.decode("utf-8", "surrogateescape")
    words = list(_WORD.finditer(text))
    word = generator.choice(_WORDS)
    if not words:
        return (text + word).encode("utf-8", "surrogateescape")
    match = generator.choice(words)
    if generator.random() < 0.2:
        word = generator.choice(words)[0]
    return (text[: match.start()] + word + text[match.end() :]).encode("utf-8", "surrogateescape")


def session_descriptions() -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Offers and answers by name: those of our own calls, and others by hand."""
    loop = VirtualLoop()
    with in_memory(), asyncio.Runner(loop_factory=lambda: loop) as runner:
        offer, answer = runner.run(_negotiated())
    fingerprint = next(line for line in OFFER.splitlines() if line.startswith("a=fingerprint"))
    video = VIDEO.replace("FINGERPRINT", fingerprint)
    session = SESSION.replace("0 1", "0 1 2")
    browsers = session + AUDIO + video + DATA.replace("a=mid:1", "a=mid:2")
    offers = {"small": OFFER, "browser": browsers, "own": offer}
    answers = {"own": answer, "browser": browsers.replace("actpass", "active")}
    return (
        {name: text.encode() for name, text in offers.items()},
        {name: text.encode() for name, text in answers.items()},
    )


async def _negotiated() -> tuple[str, str]:
    """What our own ends say; the answer is to an offer of the same sections as the server's."""
    offerer, answerer = (
        RTCPeerConnection(RTCConfiguration(iceAddresses=[address])) for address in ("192.0.2.2", "192.0.2.3")
    )
    try:
        offerer.addTransceiver("audio")
        offerer.addTransceiver("video")
        offerer.createDataChannel("chat")
        answerer.addTrack(AudioStreamTrack())
        answerer.addTrack(VideoStreamTrack())
        await offerer.setLocalDescription(await offerer.createOffer())
        offer = offerer.localDescription
        await answerer.setRemoteDescription(RTCSessionDescription(offer.sdp, offer.type))
        await answerer.setLocalDescription(await answerer.createAnswer())
        return offer.sdp, answerer.localDescription.sdp
    finally:
        await offerer.close()
        await answerer.close()

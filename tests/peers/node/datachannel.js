// An endpoint of node-datachannel: libdatachannel, with usrsctp and libjuice. Audio is whole RTP packets.
"use strict";
const { Audio, PeerConnection, RtcpReceivingSession } = require("node-datachannel");
const { say, serve, toField, fromField, pace } = require("./lines.js");

const OPUS = 111;
const SSRC = 0x6d656469;
const channels = new Map();
const payloads = [];
let peer;
let track;

function follow(channel) {
  const label = channel.getLabel();
  channels.set(label, channel);
  const opened = () => say("channel", { label, id: channel.getId() });
  channel.onMessage((data) => say("message", { label, ...toField(data) }));
  channel.onClosed(() => say("channel-closed", { label }));
  if (channel.isOpen()) opened();
  else channel.onOpen(opened);
}

function followTrack(one) {
  track = one;
  track.setMediaHandler(new RtcpReceivingSession());
  track.onMessage((packet) => {
    if ((packet[1] & 0x7f) >= 64 && (packet[1] & 0x7f) < 96) return; // RTCP (RFC 5761)
    const extension = packet[0] & 0x10 ? 4 + 4 * packet.readUInt16BE(14) : 0;
    payloads.push(packet.subarray(12 + extension).toString("base64"));
  });
}

function addAudio() {
  const audio = new Audio("audio", "SendRecv");
  audio.addOpusCodec(OPUS);
  audio.addSSRC(SSRC, "cname", "stream", "track");
  followTrack(peer.addTrack(audio));
}

function packet(index, payloadType, payload) {
  const header = Buffer.alloc(12);
  header[0] = 0x80;
  header[1] = payloadType | (index === 0 ? 0x80 : 0);
  header.writeUInt16BE(index & 0xffff, 2);
  header.writeUInt32BE((960 * index) >>> 0, 4);
  header.writeUInt32BE(SSRC, 8);
  return Buffer.concat([header, Buffer.from(payload, "base64")]);
}

serve({
  start({ audio, channels: wanted }) {
    peer = new PeerConnection("peer", {
      iceServers: [],
      bindAddress: "127.0.0.1",
      disableAutoNegotiation: true,
      forceMediaTransport: true, // or else there is no SRTP when the first offer has data alone
      maxMessageSize: 262144,
    });
    peer.onLocalDescription((sdp, type) => say("description", { type, sdp }));
    peer.onLocalCandidate((candidate, mid) => say("candidate", { candidate, mid }));
    peer.onStateChange((state) => say("state", { state }));
    peer.onDataChannel(follow);
    peer.onTrack(followTrack);
    for (const { label, ordered = true, ...options } of wanted) {
      follow(peer.createDataChannel(label, { unordered: !ordered, ...options }));
    }
    if (audio) addAudio();
  },
  "add-audio": addAudio,
  offer: () => peer.setLocalDescription("offer"),
  description({ type, sdp }) {
    peer.setRemoteDescription(sdp, type);
    if (type === "offer") peer.setLocalDescription("answer");
  },
  candidate: ({ candidate, mid }) => peer.addRemoteCandidate(candidate, mid),
  open({ label, ordered = true, ...options }) {
    follow(peer.createDataChannel(label, { unordered: !ordered, ...options }));
  },
  send({ label, ...message }) {
    const data = fromField(message);
    const channel = channels.get(label);
    if (typeof data === "string") channel.sendMessage(data);
    else channel.sendMessageBinary(data);
  },
  "close-channel": ({ label }) => channels.get(label).close(),
  play({ packets }) {
    // The offerer's number for Opus holds for both.
    const { sdp } = peer.remoteDescription();
    const payloadType = Number(/^a=rtpmap:(\d+) opus\//im.exec(sdp)[1]);
    pace(20, (index) => {
      if (track.isOpen()) track.sendMessageBinary(packet(index, payloadType, packets[index % packets.length]));
    });
  },
  heard: () => say("heard", { packets: payloads.length, payloads }),
  close() {
    peer.close();
    say("closed");
  },
});

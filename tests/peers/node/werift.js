// An endpoint of werift, all of it JavaScript. Audio is sent and counted as Opus packets.
"use strict";
const { MediaStreamTrack, RTCPeerConnection, RtpHeader, RtpPacket } = require("werift");
const { pace } = require("./lines.js");
const drive = require("./w3c.js");

const payloads = [];

drive({
  connect: ({ lite }) =>
    new RTCPeerConnection({
      iceServers: [],
      iceLite: lite,
      iceUseIpv6: false,
      iceInterfaceAddresses: { udp4: "127.0.0.1" },
      iceAdditionalHostAddresses: ["127.0.0.1"],
    }),
  makeTrack: (kind) => new MediaStreamTrack({ kind }),
  onTrack: (track) => track.onReceiveRtp.subscribe((packet) => payloads.push(packet.payload.toString("base64"))),
  play(track, { packets }) {
    pace(20, (index) => {
      // The sender puts in the payload type and the SSRC that were negotiated.
      const header = new RtpHeader({ sequenceNumber: index & 0xffff, timestamp: 960 * index, marker: index === 0 });
      track.writeRtp(new RtpPacket(header, Buffer.from(packets[index % packets.length], "base64")));
    });
  },
  heard: () => ({ packets: payloads.length, payloads }),
});

// An endpoint of @roamhq/wrtc: libwebrtc itself, in Node. Audio goes in and comes out as samples.
"use strict";
const { RTCPeerConnection, nonstandard } = require("@roamhq/wrtc");
const { pace } = require("./lines.js");
const drive = require("./w3c.js");

const RATE = 48000;
const LONGEST_SECONDS = 10;
const WIDTH = 320;
const HEIGHT = 240;
const sources = new Map();
const samples = [];
const sinks = [];
let picture;

/** A picture whose left half is red and whose right half is blue, in planes of Y, U and V. */
function redAndBlue() {
  const plane = (width, height, left, right) =>
    Buffer.concat(Array(height).fill(Buffer.concat([Buffer.alloc(width / 2, left), Buffer.alloc(width / 2, right)])));
  const planes = [
    plane(WIDTH, HEIGHT, 82, 41),
    plane(WIDTH / 2, HEIGHT / 2, 90, 240),
    plane(WIDTH / 2, HEIGHT / 2, 240, 110),
  ];
  return { width: WIDTH, height: HEIGHT, data: new Uint8ClampedArray(Buffer.concat(planes)) };
}

/** Y, U and V in the middle of each half of a picture. */
function colours({ width, height, data }) {
  const at = (start, stride, x, y) => data[start + stride * y + x];
  const [chroma, size] = [width / 2, (width * height) / 4];
  return [width / 4, (3 * width) / 4].map((x) => [
    at(0, width, x, height / 2),
    at(width * height, chroma, x / 2, height / 4),
    at(width * height + size, chroma, x / 2, height / 4),
  ]);
}

function playSound(source, frequency) {
  pace(10, (index) => {
    const start = (index * RATE) / 100;
    const wave = Int16Array.from({ length: RATE / 100 }, (_, n) =>
      Math.round(16000 * Math.sin((2 * Math.PI * frequency * (start + n)) / RATE)),
    );
    source.onData({ samples: wave, sampleRate: RATE });
  });
}

drive({
  connect: () => new RTCPeerConnection({ iceServers: [] }),
  makeTrack(kind) {
    const source = kind === "audio" ? new nonstandard.RTCAudioSource() : new nonstandard.RTCVideoSource();
    const track = source.createTrack();
    sources.set(track, source);
    return track;
  },
  onTrack(track) {
    const sink = track.kind === "audio" ? new nonstandard.RTCAudioSink(track) : new nonstandard.RTCVideoSink(track);
    sinks.push(sink);
    sink.onframe = ({ frame }) => (picture = frame);
    sink.ondata = ({ samples: some, sampleRate, channelCount }) => {
      // The first channel alone; ten milliseconds at a time.
      const first = some.filter((_, index) => index % channelCount === 0);
      if (sampleRate === RATE && samples.length < 100 * LONGEST_SECONDS) samples.push(first);
    };
  },
  play(track, { frequency }) {
    const source = sources.get(track);
    if (track.kind === "audio") playSound(source, frequency);
    else pace(33, () => source.onFrame(redAndBlue()));
  },
  async heard(peer) {
    const inbound = [...(await peer.getStats()).values()].find(({ type }) => type === "inbound-rtp");
    const all = Buffer.concat(samples.map((some) => Buffer.from(some.buffer, some.byteOffset, some.byteLength)));
    return {
      packets: inbound?.packetsReceived ?? 0,
      samples: all.toString("base64"),
      colours: picture && colours(picture),
    };
  },
});

// A call that is recorded on the other side. Leaves `recordedCall` in the page.

// The clip's pictures say their numbers in this many blocks, in the upper ninth.
const BLOCKS = 8;
const PICTURES = 60;
const RATE = 30;

// A time relative to the nearest beginning of the clip, in seconds.
const nearest = (seconds) => seconds - (PICTURES / RATE) * Math.round((seconds * RATE) / PICTURES);

class RecordedCall {
  constructor() {
    this.pc = new RTCPeerConnection();
    this.states = [];
    this.pc.addEventListener("connectionstatechange", () => this.states.push(this.pc.connectionState));
  }

  async offer({ width, height, bitsPerSecond, encodings }) {
    this.stream = await navigator.mediaDevices.getUserMedia({
      audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false },
      video: { width, height, frameRate: RATE },
    });
    for (const track of this.stream.getTracks()) {
      const { sender } = this.pc.addTransceiver(track, {
        streams: [this.stream],
        sendEncodings: track.kind === "video" ? encodings : [],
      });
      if (track.kind === "video") this.video = sender;
    }
    const parameters = this.video.getParameters();
    parameters.degradationPreference = "maintain-resolution";
    if (bitsPerSecond) for (const encoding of parameters.encodings) encoding.maxBitrate = bitsPerSecond;
    await this.video.setParameters(parameters);
    this.channel = this.pc.createDataChannel("chat");
    await this.pc.setLocalDescription();
    while (this.pc.iceGatheringState !== "complete") {
      await new Promise((resolve) =>
        this.pc.addEventListener("icegatheringstatechange", resolve, { once: true }),
      );
    }
    return this.pc.localDescription.sdp;
  }

  accept(sdp) {
    return this.pc.setRemoteDescription({ type: "answer", sdp });
  }

  // What the browser says it has sent.
  async statistics() {
    const all = [...(await this.pc.getStats()).values()];
    const found = {};
    for (const kind of ["audio", "video"]) {
      const sent = all.find((entry) => entry.type === "outbound-rtp" && entry.kind === kind) ?? {};
      const codec = all.find((entry) => entry.id === sent.codecId);
      found[kind] = { ...sent, mimeType: codec?.mimeType };
    }
    const layers = all.filter((entry) => entry.type === "outbound-rtp" && entry.rid);
    found.layers = Object.fromEntries(layers.map((entry) => [entry.rid, entry]));
    const pair = all.find((entry) => entry.type === "candidate-pair" && entry.nominated) ?? {};
    return { ...found, available: pair.availableOutgoingBitrate ?? null, at: performance.now() / 1000 };
  }

  say(text) {
    if (this.channel.readyState !== "open") return false;
    this.channel.send(text);
    return true;
  }

  // Make the picture this many times smaller than it is captured; while it is, the microphone is off.
  async change(scale) {
    for (const track of this.stream.getAudioTracks()) track.enabled = scale === 1;
    const parameters = this.video.getParameters();
    for (const encoding of parameters.encodings) encoding.scaleResolutionDownBy = scale;
    await this.video.setParameters(parameters);
  }

  // Send a layer of simulcast, or no longer.
  async activate(rid, active) {
    const parameters = this.video.getParameters();
    parameters.encodings.find((encoding) => encoding.rid === rid).active = active;
    await this.video.setParameters(parameters);
  }

  // How many pictures of a layer were sent.
  async sentOf(rid) {
    return (await this.statistics()).layers[rid]?.framesSent ?? 0;
  }

  // Let no more be captured, and tell what was sent once all of it is.
  async finish() {
    for (const track of this.stream.getTracks()) track.stop();
    await new Promise((resolve) => setTimeout(resolve, 500));
    return this.statistics();
  }

  close() {
    this.pc.close();
  }

  // By how many seconds each beep is later than its picture 0 as the devices give them, and when it is: the camera and
  // the microphone do not begin as one, and on a busy machine they fall behind. Both say when they captured what they
  // give, each by a clock of its own; what was delivered soonest says how these clocks lie to the page's.
  async sourceOffsets(seconds) {
    const end = performance.now() + 1000 * seconds;
    const [pictures, sound] = await Promise.all([this.pictures(end), this.beeps(end)]);
    return sound.beeps.map((beep) => {
      const heard = beep + sound.clock;
      const nearby = pictures.taken.map(({ begun }) => heard - (begun + pictures.clock)).map(nearest);
      const close = nearby.filter((_, index) => {
        return Math.abs(pictures.taken[index].at + pictures.clock - heard) < 0.5;
      });
      close.sort((a, b) => a - b);
      return {
        at: performance.timeOrigin / 1000 + heard,
        offset: close.length ? close[Math.floor(close.length / 2)] : null,
      };
    });
  }

  async pictures(end) {
    const reader = this.reader("video");
    const taken = [];
    let clock = Infinity;
    while (performance.now() < end) {
      const { value: frame, done } = await reader.read();
      if (done) break;
      const at = frame.timestamp / 1e6;
      clock = Math.min(clock, performance.now() / 1000 - at);
      const { codedWidth: width, codedHeight: height } = frame;
      const rect = { x: 0, y: Math.floor(height / 18) & ~1, width, height: 2 };
      const bytes = new Uint8Array(frame.allocationSize({ rect }));
      const [luma] = await frame.copyTo(bytes, { rect });
      frame.close();
      let number = 0;
      for (let bit = 0; bit < BLOCKS - 2; bit++) {
        const x = Math.floor(((bit + 1.5) * width) / BLOCKS);
        if (bytes[luma.offset + x] > 128) number |= 1 << bit;
      }
      taken.push({ at, begun: at - number / RATE });
    }
    await reader.cancel();
    return { taken, clock };
  }

  async beeps(end) {
    const reader = this.reader("audio");
    const beeps = [];
    let clock = Infinity;
    let loud = -Infinity;
    while (performance.now() < end) {
      const { value: data, done } = await reader.read();
      if (done) break;
      const at = data.timestamp / 1e6;
      // The microphone of a file gives ten milliseconds at once, and says of the first sample that it is now.
      clock = Math.min(clock, performance.now() / 1000 - at);
      const samples = new Float32Array(data.numberOfFrames);
      data.copyTo(samples, { planeIndex: 0, format: "f32-planar" });
      for (const [index, sample] of samples.entries()) {
        if (Math.abs(sample) < 0.06) continue;
        const heard = at + index / data.sampleRate;
        if (heard - loud > 0.25) beeps.push(heard);
        loud = heard;
      }
      data.close();
    }
    await reader.cancel();
    return { beeps: beeps.slice(1), clock };
  }

  reader(kind) {
    const track = this.stream.getTracks().find((each) => each.kind === kind).clone();
    return new MediaStreamTrackProcessor({ track }).readable.getReader();
  }
}

globalThis.recordedCall = new RecordedCall();

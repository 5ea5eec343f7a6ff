// A browser's end of perfect negotiation (W3C webrtc §10.7), step by step under the test's control. What it says to
// the other end waits here until it is fetched. Leaves `Peer` in the page; a scenario makes `peer` of it.

const SAMPLE_INTERVAL = 50;

class Peer {
  constructor({ polite = true, configuration = {} } = {}) {
    this.polite = polite;
    this.pc = new RTCPeerConnection(configuration);
    this.outbox = [];
    this.errors = [];
    this.states = [];
    this.messages = [];
    this.channels = [];
    this.early = [];
    this.collisions = 0;
    this.makingOffer = false;
    this.ignoreOffer = false;
    this.isSettingRemoteAnswerPending = false;
    this.pc.addEventListener("negotiationneeded", () => this.attempt(() => this.negotiate()));
    this.pc.addEventListener("icecandidate", ({ candidate }) =>
      this.send({ candidate: candidate && candidate.toJSON() }),
    );
    this.pc.addEventListener("track", ({ track }) => this.play(track));
    this.pc.addEventListener("datachannel", ({ channel }) => this.listen(channel));
    this.pc.addEventListener("connectionstatechange", () => {
      this.states.push(this.pc.connectionState);
      if (this.pc.connectionState === "connected") this.connectedAt ??= Date.now() / 1000;
    });
  }

  // Signalling

  send(message) {
    this.outbox.push(message);
    this.wake?.();
  }

  // What there is to say, as soon as there is something, or nothing after a while.
  async fetch(patience) {
    if (!this.outbox.length) {
      await new Promise((resolve) => {
        this.wake = resolve;
        setTimeout(resolve, patience);
      });
    }
    return this.outbox.splice(0);
  }

  async attempt(action) {
    try {
      await action();
    } catch (error) {
      this.errors.push(String(error));
    }
  }

  async negotiate() {
    try {
      this.makingOffer = true;
      await this.pc.setLocalDescription();
      this.send({ description: this.pc.localDescription.toJSON() });
    } finally {
      this.makingOffer = false;
    }
  }

  // Does not wait for the end of it, as a handler of a WebSocket's messages does not.
  receive({ description, candidate }) {
    if (description) this.attempt(() => this.take(description));
    else if (this.pc.remoteDescription) this.attempt(() => this.addCandidate(candidate));
    else this.early.push(candidate);
  }

  async take(description) {
    const isReady =
      !this.makingOffer && (this.pc.signalingState === "stable" || this.isSettingRemoteAnswerPending);
    const isCollision = description.type === "offer" && !isReady;
    if (isCollision) this.collisions += 1;
    this.ignoreOffer = !this.polite && isCollision;
    if (this.ignoreOffer) return;
    this.isSettingRemoteAnswerPending = description.type === "answer";
    try {
      await this.pc.setRemoteDescription(description);
    } finally {
      this.isSettingRemoteAnswerPending = false;
    }
    for (const candidate of this.early.splice(0)) this.attempt(() => this.addCandidate(candidate));
    if (description.type === "offer") {
      await this.pc.setLocalDescription();
      this.send({ description: this.pc.localDescription.toJSON() });
    }
  }

  async addCandidate(candidate) {
    try {
      await this.pc.addIceCandidate(candidate);
    } catch (error) {
      if (!this.ignoreOffer) throw error;
    }
  }

  // Media

  async capture(constraints) {
    this.stream = await navigator.mediaDevices.getUserMedia(constraints);
  }

  source(kind) {
    return this.stream.getTracks().find((track) => track.kind === kind).clone();
  }

  add(kind) {
    return this.pc.addTrack(this.source(kind), this.stream);
  }

  // Ends the last transceiver that sends `kind`: `how` is "remove" for its track, or "stop" for all of it.
  end(kind, how) {
    const transceiver = this.pc
      .getTransceivers()
      .findLast(({ sender }) => sender.track !== null && sender.track.kind === kind);
    transceiver.sender.track.stop();
    if (how === "stop") transceiver.stop();
    else this.pc.removeTrack(transceiver.sender);
  }

  change(verb, kind) {
    if (verb === "restart") this.pc.restartIce();
    else if (verb === "add") this.add(kind);
    else this.end(kind, verb);
  }

  // Only what is played is decoded.
  play(track) {
    const element = document.createElement(track.kind);
    element.autoplay = true;
    element.muted = true;
    element.srcObject = new MediaStream([track]);
    document.body.append(element);
  }

  publish(encodings) {
    this.pc.addTransceiver(this.source("video"), { direction: "sendonly", sendEncodings: encodings });
  }

  open(label) {
    const channel = this.pc.createDataChannel(label);
    channel.addEventListener("open", () => channel.send(`${label} from the page`));
    this.listen(channel);
  }

  listen(channel) {
    this.channels.push(channel);
    channel.addEventListener("message", ({ data }) => this.messages.push(data));
  }

  // Observation

  async entries(type) {
    return [...(await this.pc.getStats()).values()].filter((entry) => entry.type === type);
  }

  // Packets received and frames decoded, by MID.
  async inbound() {
    const found = {};
    for (const { mid, kind, packetsReceived = 0, framesDecoded = 0 } of await this.entries("inbound-rtp")) {
      if (packetsReceived) found[mid] = { kind, packetsReceived, framesDecoded };
    }
    return found;
  }

  // Looks again and again how many packets have come: see `gaps`.
  watch() {
    this.arrivals = {};
    this.samples = 0;
    this.watcher = setInterval(async () => {
      if (this.isSampling) return;
      this.isSampling = true;
      const inbound = await this.inbound();
      this.isSampling = false;
      this.samples += 1;
      const now = performance.now();
      for (const [mid, { kind, packetsReceived }] of Object.entries(inbound)) {
        const arrival = (this.arrivals[mid] ??= { kind, count: 0, last: now, gap: 0 });
        arrival.gap = Math.max(arrival.gap, now - arrival.last);
        if (packetsReceived === arrival.count) continue;
        arrival.count = packetsReceived;
        arrival.last = now;
      }
    }, SAMPLE_INTERVAL);
  }

  // The longest time without a packet since `watch`, in seconds, by kind, and how often it was looked.
  gaps() {
    clearInterval(this.watcher);
    const all = Object.values(this.arrivals);
    return [Object.fromEntries(all.map(({ kind, gap }) => [kind, gap / 1000])), this.samples];
  }

  async pair() {
    const [transport] = await this.entries("transport");
    return transport?.selectedCandidatePairId ?? null;
  }

  state() {
    const { pc } = this;
    return {
      signaling: pc.signalingState,
      connection: pc.connectionState,
      connectedAt: this.connectedAt ?? null,
      states: this.states,
      errors: this.errors,
      messages: this.messages,
      collisions: this.collisions,
      local: pc.localDescription?.sdp ?? "",
      remote: pc.remoteDescription?.sdp ?? "",
      transceivers: pc.getTransceivers().map((transceiver) => ({
        mid: transceiver.mid,
        direction: transceiver.direction,
        currentDirection: transceiver.currentDirection,
      })),
    };
  }

  close() {
    this.pc.close();
    this.stream?.getTracks().forEach((track) => track.stop());
  }
}

globalThis.Peer = Peer;

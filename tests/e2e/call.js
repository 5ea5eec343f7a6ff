// One call as a page makes it, step by step under the test's control. Leaves `testCall` in the page.

const withSetup = (sdp, setup) => sdp.replace(/a=setup:\w+/g, `a=setup:${setup}`);

// Another certificate's fingerprints: the first digit of each digest is not what it was.
const withWrongFingerprint = (sdp) =>
  sdp.replace(/(a=fingerprint:\S+ )(\w)/g, (_, start, digit) => start + (digit === "0" ? "1" : "0"));

async function api(method, path, body) {
  const response = await fetch(path, {
    method,
    headers: body ? { "Content-Type": "application/json" } : {},
    body: body ? JSON.stringify(body) : undefined,
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
  return text ? JSON.parse(text) : null;
}

class TestCall {
  constructor() {
    this.pc = new RTCPeerConnection();
    this.messages = [];
    this.states = [];
    this.pc.addEventListener("connectionstatechange", () => {
      this.states.push(this.pc.connectionState);
      if (this.pc.connectionState === "connected") this.connectedAt ??= Date.now();
    });
    this.pc.addEventListener("track", (event) => this.play(event.track));
  }

  // The call must be played for the browser to decode it.
  play(track) {
    const element = document.createElement(track.kind === "audio" ? "audio" : "video");
    element.autoplay = true;
    element.srcObject = new MediaStream([track]);
    document.body.append(element);
    if (track.kind === "audio") this.sound = element.srcObject;
  }

  async addMedia() {
    this.stream = await navigator.mediaDevices.getUserMedia({
      audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false },
      video: { width: 640, height: 480 },
    });
    for (const track of this.stream.getTracks()) await this.send(track);
  }

  // On a machine with much to do there shall be fewer pictures, not smaller ones.
  async send(track) {
    const sender = this.pc.addTrack(track, this.stream);
    const parameters = sender.getParameters();
    parameters.degradationPreference = "maintain-resolution";
    await sender.setParameters(parameters);
  }

  talkOn(channel) {
    this.channel = channel;
    channel.addEventListener("message", (event) => this.messages.push(event.data));
  }

  // The local description with all candidates in it.
  async gathered(description) {
    await this.pc.setLocalDescription(description);
    while (this.pc.iceGatheringState !== "complete") {
      await new Promise((resolve) =>
        this.pc.addEventListener("icegatheringstatechange", resolve, { once: true }),
      );
    }
    return this.pc.localDescription.sdp;
  }

  // What a peer says of its own part in DTLS decides about the other: so what we say is changed on its way.
  async offer({ dtlsClient, wrongFingerprint }) {
    await this.addMedia();
    this.talkOn(this.pc.createDataChannel("chat"));
    const offer = withSetup(
      await this.gathered(await this.pc.createOffer()),
      dtlsClient === "browser" ? "active" : "passive",
    );
    const answer = await api("POST", "/api/calls", { type: "offer", sdp: offer });
    this.id = answer.id;
    const sdp = wrongFingerprint ? withWrongFingerprint(answer.sdp) : answer.sdp;
    await this.pc.setRemoteDescription({ type: "answer", sdp });
    this.answeredAt = Date.now();
  }

  async answer({ dtlsClient, wrongFingerprint }) {
    this.pc.addEventListener("datachannel", (event) => this.talkOn(event.channel));
    const offer = await api("POST", "/api/calls/outgoing");
    this.id = offer.id;
    const sdp = withSetup(offer.sdp, dtlsClient === "browser" ? "passive" : "active");
    await this.pc.setRemoteDescription({ type: "offer", sdp });
    await this.addMedia();
    const answer = await this.gathered(await this.pc.createAnswer());
    const sent = wrongFingerprint ? withWrongFingerprint(answer) : answer;
    await api("PUT", `/api/calls/${this.id}/answer`, { type: "answer", sdp: sent });
    this.answeredAt = Date.now();
  }

  async statistics() {
    const all = [...(await this.pc.getStats()).values()];
    const inbound = (kind) => all.find((entry) => entry.type === "inbound-rtp" && entry.kind === kind) ?? {};
    const transport = all.find((entry) => entry.type === "transport") ?? {};
    const { dtlsState, tlsVersion, dtlsCipher, srtpCipher, dtlsRole } = transport;
    return {
      connectionState: this.pc.connectionState,
      states: this.states,
      transport: { dtlsState, tlsVersion, dtlsCipher, srtpCipher, dtlsRole },
      framesDecoded: inbound("video").framesDecoded ?? 0,
      frameWidth: inbound("video").frameWidth ?? 0,
      audioPackets: inbound("audio").packetsReceived ?? 0,
      messages: this.messages,
    };
  }

  // The frequency of the tone that comes back, in Hz; null in silence. A second is recorded and decoded: an
  // AudioContext would not run where there is no loudspeaker.
  async tone() {
    const recorder = new MediaRecorder(this.sound);
    const chunks = [];
    recorder.addEventListener("dataavailable", (event) => chunks.push(event.data));
    const stopped = new Promise((resolve) => recorder.addEventListener("stop", resolve));
    recorder.start();
    setTimeout(() => recorder.stop(), 1000);
    await stopped;
    const decoder = new OfflineAudioContext(1, 48000, 48000);
    const buffer = await decoder.decodeAudioData(await new Blob(chunks).arrayBuffer());
    const samples = buffer.getChannelData(0).slice(buffer.length / 4);
    if (samples.every((sample) => Math.abs(sample) < 0.01)) return null;
    let rises = 0;
    for (let n = 1; n < samples.length; n++) if (samples[n - 1] < 0 && samples[n] >= 0) rises++;
    return (rises * buffer.sampleRate) / samples.length;
  }

  say(message) {
    if (this.channel?.readyState !== "open") return false;
    this.channel.send(message);
    return true;
  }

  hangUp() {
    this.pc.close();
    for (const track of this.stream.getTracks()) track.stop();
  }
}

globalThis.testCall = new TestCall();
globalThis.api = api;

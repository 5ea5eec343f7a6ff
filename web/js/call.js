// One call: the peer connection, its signaling, its data channel.

import * as api from "./api.js";

/** ICE candidates are sent with the description, so they are waited for; not for ever, in milliseconds. */
const GATHERING_PATIENCE = 2000;

export class CallError extends Error {
  constructor(title, detail) {
    super(detail);
    this.title = title;
  }
}

/**
 * Events: `track` (detail: MediaStream), `state` (detail: connectionState), `channel` (open or not),
 * `message` (detail: text).
 */
export class Call extends EventTarget {
  #connection = new RTCPeerConnection({bundlePolicy: "max-bundle"});
  #channel = null;
  #remoteStream = new MediaStream();

  /** @param {MediaStream} stream what to send */
  constructor(stream) {
    super();
    this.id = null;
    this.ended = false;
    this.stream = stream;
    this.#connection.addEventListener("track", ({track}) => {
      this.#remoteStream.addTrack(track);
      this.#tell("track", this.#remoteStream);
    });
    this.#connection.addEventListener("connectionstatechange", () => {
      this.#tell("state", this.#connection.connectionState);
    });
    this.#connection.addEventListener("datachannel", ({channel}) => this.#use(channel));
  }

  get connection() {
    return this.#connection;
  }

  /** The browser offers, Python answers. */
  async offer() {
    for (const track of this.stream.getTracks()) this.#connection.addTrack(track, this.stream);
    this.#use(this.#connection.createDataChannel("chat"));
    await this.#connection.setLocalDescription();
    await this.#gathered();
    const {id, sdp} = await api.answerOffer(this.#connection.localDescription.sdp);
    if (this.#wasEnded(id)) return;
    await this.#connection.setRemoteDescription({type: "answer", sdp});
  }

  /** Python offers, the browser answers. */
  async answer() {
    const {id, sdp} = await api.requestOffer();
    if (this.#wasEnded(id)) return;
    await this.#connection.setRemoteDescription({type: "offer", sdp});
    for (const track of this.stream.getTracks()) this.#connection.addTrack(track, this.stream);
    await this.#connection.setLocalDescription();
    await this.#gathered();
    if (!this.ended) await api.sendAnswer(id, this.#connection.localDescription.sdp);
  }

  get canChat() {
    return this.#channel?.readyState === "open";
  }

  send(text) {
    if (!this.canChat) throw new CallError("The message was not sent", "The data channel is not open.");
    this.#channel.send(text);
  }

  /** Hang up, and let the server know unless it ended the call itself. */
  end({tellServer = true} = {}) {
    if (this.ended) return;
    this.ended = true;
    this.#connection.close();
    for (const track of this.stream.getTracks()) track.stop();
    if (tellServer && this.id) api.endCall(this.id).catch(() => {});
  }

  /** Note the call's id; true when the person hung up while the server was thinking. */
  #wasEnded(id) {
    this.id = id;
    if (this.ended) api.endCall(id).catch(() => {});
    return this.ended;
  }

  #use(channel) {
    this.#channel = channel;
    channel.addEventListener("open", () => this.#tell("channel", true));
    channel.addEventListener("close", () => this.#tell("channel", false));
    channel.addEventListener("message", ({data}) => {
      this.#tell("message", typeof data === "string" ? data : `${data.size ?? data.byteLength} bytes`);
    });
    if (channel.readyState === "open") this.#tell("channel", true);
  }

  #tell(type, detail) {
    if (!this.ended) this.dispatchEvent(new CustomEvent(type, {detail}));
  }

  #gathered() {
    return new Promise((resolve) => {
      const done = () => {
        if (this.#connection.iceGatheringState === "complete" || this.ended) resolve();
      };
      this.#connection.addEventListener("icegatheringstatechange", done);
      setTimeout(resolve, GATHERING_PATIENCE);
      done();
    });
  }
}

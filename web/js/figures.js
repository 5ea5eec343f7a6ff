// The line of live figures below the pictures.

import * as format from "./format.js";

/** Measures a connection from one call of `line` to the next. */
export class Figures {
  #connection;
  #before = null;

  constructor(connection) {
    this.#connection = connection;
  }

  /** @returns {Promise<string>} rates, loss, round trip and the returned picture's size */
  async line() {
    const now = {at: performance.now(), sent: 0, received: 0};
    const parts = [];
    let lost = 0;
    let picture = null;
    let roundTrip = null;
    for (const entry of (await this.#connection.getStats()).values()) {
      if (entry.type === "outbound-rtp") now.sent += entry.bytesSent ?? 0;
      if (entry.type === "inbound-rtp") {
        now.received += entry.bytesReceived ?? 0;
        lost += entry.packetsLost ?? 0;
        if (entry.kind === "video" && entry.frameWidth) picture = entry;
      }
      if (entry.type === "candidate-pair" && entry.nominated && entry.currentRoundTripTime !== undefined) {
        roundTrip = entry.currentRoundTripTime;
      }
    }
    const before = this.#before;
    this.#before = now;
    if (before) {
      const seconds = (now.at - before.at) / 1000;
      parts.push(`↑ ${format.rate(((now.sent - before.sent) * 8) / seconds)}`);
      parts.push(`↓ ${format.rate(((now.received - before.received) * 8) / seconds)}`);
    }
    if (picture) {
      const frames = picture.framesPerSecond ? `, ${Math.round(picture.framesPerSecond)} pictures/s` : "";
      parts.push(`${picture.frameWidth} × ${picture.frameHeight}${frames}`);
    }
    parts.push(`${lost} packets lost`);
    if (roundTrip !== null) parts.push(`round trip ${(roundTrip * 1000).toFixed(0)} ms`);
    return parts.join(" · ");
  }
}

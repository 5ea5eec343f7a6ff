// An endpoint of a library that has W3C's names.
"use strict";
const { say, serve, toField, fromField } = require("./lines.js");

/**
 * @param connect makes the RTCPeerConnection: `(fields of the command)`
 * @param makeTrack makes a track to send: `(kind)`
 * @param onTrack is given each track that is received
 * @param play begins to send on a track: `(track, fields of the command)`
 * @param heard tells what came on tracks: the fields of the event
 */
module.exports = function drive({ connect, makeTrack, onTrack, play, heard }) {
  let peer;
  const tracks = [];
  const channels = new Map();

  function follow(channel) {
    channels.set(channel.label, channel);
    channel.binaryType = "arraybuffer";
    const opened = () => say("channel", { label: channel.label, id: channel.id });
    channel.onmessage = ({ data }) => say("message", { label: channel.label, ...toField(data) });
    channel.onclose = () => say("channel-closed", { label: channel.label });
    if (channel.readyState === "open") opened();
    else channel.onopen = opened;
  }

  async function describe(description) {
    await peer.setLocalDescription(description);
    say("description", { type: description.type, sdp: description.sdp });
  }

  function addTrack(kind) {
    tracks.push(makeTrack(kind));
    peer.addTrack(tracks.at(-1));
  }

  serve({
    start({ audio, video, channels: wanted, ...options }) {
      peer = connect(options);
      peer.onicecandidate = ({ candidate }) => {
        if (candidate?.candidate) say("candidate", { candidate: candidate.candidate, mid: candidate.sdpMid });
      };
      peer.onconnectionstatechange = () => say("state", { state: peer.connectionState });
      peer.ondatachannel = ({ channel }) => follow(channel);
      peer.ontrack = (event) => onTrack(event.track);
      for (const { label, ...options } of wanted) follow(peer.createDataChannel(label, options));
      if (audio) addTrack("audio");
      if (video) addTrack("video");
    },
    "add-audio": () => addTrack("audio"),
    async offer({ iceRestart }) {
      await describe(await peer.createOffer({ iceRestart }));
    },
    async description({ type, sdp }) {
      await peer.setRemoteDescription({ type, sdp });
      if (type === "offer") await describe(await peer.createAnswer());
    },
    async candidate({ candidate, mid }) {
      await peer.addIceCandidate({ candidate, sdpMid: mid });
    },
    open({ label, ...options }) {
      follow(peer.createDataChannel(label, options));
    },
    send({ label, ...message }) {
      channels.get(label).send(fromField(message));
    },
    "close-channel"({ label }) {
      channels.get(label).close();
    },
    play: (fields) => tracks.forEach((track) => play(track, fields)),
    async heard() {
      say("heard", await heard(peer));
    },
    async close() {
      await peer.close();
      say("closed");
    },
  });
};

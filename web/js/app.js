// The page: buttons to calls, calls to what is shown.

import * as api from "./api.js";
import {Call, CallError} from "./call.js";
import {addMessage, enableChat, onChat} from "./chat.js";
import {openDevices} from "./devices.js";
import {Figures} from "./figures.js";
import * as format from "./format.js";
import {clearNotice, showDone, showError, showHint} from "./notice.js";
import {loadRecordings} from "./recordings.js";
import {clearSecurity, showSecurity} from "./security.js";

/** How often the server is asked how the call and the recording are, in milliseconds. */
const POLL_INTERVAL = 1000;
/** Questions the server may leave unanswered before the person is told. */
const POLL_PATIENCE = 3;

const $ = (selector) => document.querySelector(selector);
const status = $("#status");
const buttons = {
  call: $("#call"),
  hangup: $("#hangup"),
  microphone: $("#mute-microphone"),
  camera: $("#mute-camera"),
  record: $("#record"),
};

let call = null;
let poll = null;
let recordingSince = null;

function showStatus(state, text) {
  status.dataset.state = state;
  status.textContent = text;
}

async function startCall() {
  clearNotice();
  buttons.call.disabled = true;
  showStatus("busy", "Asking for camera and microphone");
  let devices;
  try {
    devices = await openDevices();
  } catch (error) {
    showStatus("idle", "Not in a call");
    buttons.call.disabled = false;
    showError(error);
    return;
  }
  if (devices.missing) showHint("Something is missing", devices.missing);
  const started = new Call(devices.stream);
  call = started;
  listen(started);
  showCall(started);
  try {
    await ($("#server-offers").checked ? started.answer() : started.offer());
    if (started.ended) return;
    poll = setTimeout(() => ask(started, new Figures(started.connection), 0), 0);
  } catch (error) {
    if (!started.ended) endCall(started, error);
  }
}

function listen(of) {
  of.addEventListener("track", ({detail: stream}) => {
    $("#remote-video").srcObject = stream;
    $("#remote-placeholder").hidden = stream.getVideoTracks().length > 0;
  });
  of.addEventListener("channel", ({detail: open}) => enableChat(open));
  of.addEventListener("message", ({detail: text}) => addMessage(text, "Python", false));
  of.addEventListener("state", ({detail: state}) => onState(of, state));
}

function onState(of, state) {
  if (state === "connected") {
    showStatus("connected", "In a call");
    buttons.record.disabled = of.stream.getTracks().length === 0;
  } else if (state === "disconnected") {
    showStatus("busy", "Connection interrupted, waiting");
  } else if (state === "failed") {
    explainFailure(of);
  }
}

/** The browser knows only that it failed; the server may know why. */
async function explainFailure(of) {
  let reason = "No network path to Python was found, or it went away. " +
    "Check that nothing blocks UDP between this browser and the server, then call again.";
  try {
    const {reason: told} = await api.getCall(of.id);
    reason = told ?? reason;
  } catch (error) {
    reason = error.status === 0 ? error.message : `${error.message} Press Call to try again.`;
  }
  endCall(of, new CallError("The call failed", reason));
}

function showCall(of) {
  showStatus("busy", "Calling");
  const [microphone] = of.stream.getAudioTracks();
  const [camera] = of.stream.getVideoTracks();
  $("#local-video").srcObject = of.stream;
  $("#local-placeholder").hidden = Boolean(camera);
  buttons.call.hidden = true;
  buttons.hangup.hidden = false;
  buttons.hangup.focus();
  buttons.microphone.disabled = !microphone;
  buttons.camera.disabled = !camera;
}

/** Back to how it was before the call. */
function endCall(of, error = null, options = {}) {
  if (of !== call) return;
  call = null;
  clearTimeout(poll);
  of.end(options);
  for (const selector of ["#local-video", "#remote-video"]) $(selector).srcObject = null;
  $("#local-placeholder").hidden = $("#remote-placeholder").hidden = false;
  buttons.call.hidden = buttons.call.disabled = false;
  buttons.hangup.hidden = true;
  buttons.call.focus();
  for (const name of ["microphone", "camera", "record"]) buttons[name].disabled = true;
  showMuted(buttons.microphone, false, "Mute microphone");
  showMuted(buttons.camera, false, "Turn camera off");
  const recorded = recordingSince !== null;
  showRecording(null);
  $("#figures").hidden = true;
  enableChat(false);
  clearSecurity();
  showStatus("idle", "Not in a call");
  if (error) showError(error);
  // The server closes the file of a call that ends; give it a moment.
  if (recorded) setTimeout(loadRecordings, 1000);
}

/** Ask the server how the call is, show it, and come back. */
async function ask(of, figures, failures) {
  if (of !== call) return;
  try {
    const state = await api.getCall(of.id);
    if (of !== call) return;
    failures = 0;
    showRecording(state.recording);
    await showSecurity(of.connection, state.security);
    const line = await figures.line();
    if (of !== call) return;
    $("#figures").textContent = line;
    $("#figures").hidden = of.connection.connectionState !== "connected";
  } catch (error) {
    if (of !== call) return;
    if (error.status === 410 || error.status === 404) {
      endCall(of, new CallError("The call has ended", error.message), {tellServer: false});
      return;
    }
    failures += 1;
    if (failures >= POLL_PATIENCE) {
      endCall(of, error, {tellServer: false});
      return;
    }
  }
  poll = setTimeout(() => ask(of, figures, failures), POLL_INTERVAL);
}

function showMuted(button, muted, label) {
  button.setAttribute("aria-pressed", String(muted));
  button.textContent = label;
}

function toggleMicrophone() {
  const [track] = call?.stream.getAudioTracks() ?? [];
  if (!track) return;
  track.enabled = !track.enabled;
  showMuted(buttons.microphone, !track.enabled, track.enabled ? "Mute microphone" : "Unmute microphone");
}

function toggleCamera() {
  const [track] = call?.stream.getVideoTracks() ?? [];
  if (!track) return;
  track.enabled = !track.enabled;
  showMuted(buttons.camera, !track.enabled, track.enabled ? "Turn camera off" : "Turn camera on");
}

/** @param {object | null} recording what the server says of the recording */
function showRecording(recording) {
  const running = recording?.state === "waiting" || recording?.state === "recording";
  if (recording?.state === "failed" && recordingSince !== null) {
    showError(new CallError("The recording ended", `${recording.error ?? ""} The call goes on.`.trim()));
  }
  // The clock runs on between two answers of the server, from the length that it told.
  recordingSince = running ? performance.now() - recording.duration * 1000 : null;
  buttons.record.setAttribute("aria-pressed", String(running));
  $("#record-label").textContent = running ? "Stop recording" : "Record";
  $("#record-meter").hidden = !running;
  if (running) {
    $("#record-clock").textContent = format.clock(recording.duration);
    $("#record-size").textContent = format.size(recording.size);
  }
}

async function toggleRecording() {
  const of = call;
  if (!of) return;
  const running = recordingSince !== null;
  buttons.record.disabled = true;
  try {
    if (running) {
      const saved = await api.stopRecording(of.id);
      recordingSince = null;
      showRecording(null);
      const extent = `${format.clock(saved.duration)}, ${format.size(saved.size)}`;
      showDone("Saved", `The recording (${extent}) is in the list below.`);
      await loadRecordings();
    } else {
      showRecording(await api.startRecording(of.id));
    }
  } catch (error) {
    showError(error);
  }
  if (of === call) buttons.record.disabled = false;
}

buttons.call.addEventListener("click", startCall);
buttons.hangup.addEventListener("click", () => call && endCall(call));
buttons.microphone.addEventListener("click", toggleMicrophone);
buttons.camera.addEventListener("click", toggleCamera);
buttons.record.addEventListener("click", toggleRecording);
onChat((text) => {
  try {
    call?.send(text);
    addMessage(text, "You", true);
  } catch (error) {
    showError(error);
  }
});
setInterval(() => {
  if (recordingSince !== null) {
    $("#record-clock").textContent = format.clock((performance.now() - recordingSince) / 1000);
  }
}, 200);
addEventListener("pagehide", () => call?.end());
loadRecordings();

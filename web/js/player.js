// Plays a recording, part after part when it has several.

import * as format from "./format.js";
import {showError} from "./notice.js";

const player = document.querySelector("#player");
const video = document.querySelector("#player-video");
const parts = document.querySelector("#player-parts");
const download = document.querySelector("#player-download");

let recording = null;
let segments = [];
let current = 0;

/** Show a recording and start it. */
export function play(chosen) {
  recording = chosen;
  segments = chosen.segments.filter((segment) => segment.url);
  parts.replaceChildren(...segments.map(partButton));
  parts.hidden = segments.length < 2;
  player.hidden = false;
  markPlaying();
  show(0);
  player.scrollIntoView({block: "nearest"});
  video.focus();
}

export function closePlayer() {
  recording = null;
  markPlaying();
  player.hidden = true;
  video.pause();
  video.removeAttribute("src");
  video.load();
}

/** Mark the recording that the player shows in the list. */
export function markPlaying() {
  for (const item of document.querySelectorAll("#recordings li")) {
    if (item.dataset.name === recording?.name) item.setAttribute("aria-current", "true");
    else item.removeAttribute("aria-current");
  }
}

/** Close the player if it shows this recording, which is about to go. */
export function closePlayerOf(name) {
  if (recording?.name === name) closePlayer();
}

function show(number) {
  current = number;
  const segment = segments[number];
  video.src = segment.url;
  video.poster = recording.thumbnail ?? "";
  download.href = segment.url;
  download.download = segment.file;
  const from = segments.length > 1 ? `, from ${format.clock(segment.start)}` : "";
  const name = document.querySelector("#player-name");
  name.textContent = `${format.moment(recording.created)}${from}`;
  name.title = segment.file;
  for (const [index, button] of [...parts.children].entries()) {
    button.setAttribute("aria-pressed", String(index === number));
  }
  video.play().catch(() => {});  // the controls are there to start it by hand
}

function partButton(segment, index) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = String(index + 1);
  button.setAttribute("aria-label", `Part ${index + 1}, from ${format.clock(segment.start)}`);
  button.addEventListener("click", () => show(index));
  return button;
}

document.querySelector("#player-close").addEventListener("click", closePlayer);
video.addEventListener("ended", () => {
  if (recording && current + 1 < segments.length) show(current + 1);
});
video.addEventListener("error", () => {
  if (!recording || !video.hasAttribute("src")) return;
  const codecs = format.codecs(recording.codecs) || "its codecs";
  showError({
    title: "The recording does not play",
    message: `It may have been deleted, or this browser lacks ${codecs}. Reload the list, or download the file; ` +
      `“mediapeer recordings export ${recording.name} --to mp4” makes one that plays everywhere.`,
  });
});

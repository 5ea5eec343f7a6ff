// The list of recordings, and the player.

import * as api from "./api.js";
import * as format from "./format.js";
import {showError} from "./notice.js";

const list = document.querySelector("#recordings");
const empty = document.querySelector("#recordings-empty");
const player = document.querySelector("#player");
const video = document.querySelector("#player-video");
const dialog = document.querySelector("#delete-dialog");

export async function loadRecordings() {
  try {
    const recordings = await api.listRecordings();
    list.replaceChildren(...recordings.map(entry));
    empty.hidden = recordings.length > 0;
  } catch (error) {
    showError(error);
  }
}

function entry(recording) {
  const facts = [
    recording.duration === null ? null : format.clock(recording.duration),
    format.size(recording.size),
    recording.tracks.length ? recording.tracks.join(" and ") : null,
  ];
  const item = document.createElement("li");
  item.dataset.name = recording.name;
  const text = document.createElement("div");
  const title = document.createElement("strong");
  title.textContent = format.moment(recording.created);
  const details = document.createElement("span");
  details.textContent = facts.filter(Boolean).join(" · ");
  text.append(title, details);
  const actions = document.createElement("div");
  actions.className = "actions";
  actions.append(playButton(recording), downloadLink(recording), deleteButton(recording));
  item.append(text, actions);
  return item;
}

function labelled(element, text, recording) {
  element.textContent = text;
  element.setAttribute("aria-label", `${text} the recording of ${format.moment(recording.created)}`);
  return element;
}

function playButton(recording) {
  const button = labelled(document.createElement("button"), "Play", recording);
  button.type = "button";
  button.addEventListener("click", () => {
    video.src = api.recordingUrl(recording.name);
    video.dataset.name = recording.name;
    document.querySelector("#player-name").textContent = recording.name;
    player.hidden = false;
    player.scrollIntoView({block: "nearest"});
    video.play().catch(() => {});  // the controls are there to start it by hand
    video.focus();
  });
  return button;
}

function downloadLink(recording) {
  const link = labelled(document.createElement("a"), "Download", recording);
  link.className = "button";
  link.href = api.recordingUrl(recording.name);
  link.download = recording.name;
  return link;
}

function deleteButton(recording) {
  const button = labelled(document.createElement("button"), "Delete", recording);
  button.type = "button";
  button.addEventListener("click", () => {
    document.querySelector("#delete-name").textContent = recording.name;
    dialog.returnValue = "keep";
    dialog.addEventListener("close", async () => {
      if (dialog.returnValue !== "delete") return;
      if (video.dataset.name === recording.name) closePlayer();
      try {
        await api.deleteRecording(recording.name);
      } catch (error) {
        if (error.status !== 404) showError(error);
      }
      await loadRecordings();
    }, {once: true});
    dialog.showModal();
  });
  return button;
}

function closePlayer() {
  player.hidden = true;
  video.pause();
  video.removeAttribute("src");
  delete video.dataset.name;
  video.load();
}

document.querySelector("#player-close").addEventListener("click", closePlayer);
document.querySelector("#recordings-reload").addEventListener("click", loadRecordings);
video.addEventListener("error", () => {
  if (video.hasAttribute("src")) {
    showError({
      title: "The recording does not play",
      message: "It may have been deleted, or this browser lacks VP8 or Opus. Reload the list, or download the file.",
    });
  }
});

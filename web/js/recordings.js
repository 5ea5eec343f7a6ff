// The list of recordings.

import * as api from "./api.js";
import * as format from "./format.js";
import {showDone, showError} from "./notice.js";
import {closePlayerOf, markPlaying, play} from "./player.js";

const list = document.querySelector("#recordings");
const empty = document.querySelector("#recordings-empty");
const dialog = document.querySelector("#delete-dialog");

/** How each state is called; a finished recording needs no word. */
const STATES = {recording: "recording", interrupted: "interrupted", failed: "failed"};

export async function loadRecordings() {
  try {
    const recordings = await api.listRecordings();
    list.replaceChildren(...recordings.map(entry));
    markPlaying();
    empty.hidden = recordings.length > 0;
  } catch (error) {
    showError(error);
  }
}

function entry(recording) {
  const item = document.createElement("li");
  item.dataset.name = recording.name;
  item.dataset.state = recording.state;
  item.append(thumbnail(recording), facts(recording), actions(recording));
  return item;
}

function thumbnail(recording) {
  if (!recording.thumbnail) {
    const blank = document.createElement("div");
    blank.className = "thumbnail";
    return blank;
  }
  const picture = document.createElement("img");
  picture.className = "thumbnail";
  picture.src = recording.thumbnail;
  picture.alt = "";
  picture.loading = "lazy";
  return picture;
}

function facts(recording) {
  const text = document.createElement("div");
  text.className = "facts";
  const title = document.createElement("strong");
  title.textContent = format.moment(recording.created);
  if (STATES[recording.state]) {
    const state = document.createElement("span");
    state.className = "state";
    state.dataset.state = recording.state;
    state.textContent = STATES[recording.state];
    title.append(state);
  }
  const parts = recording.segments.length;
  const details = document.createElement("span");
  details.className = "details";
  details.textContent = [
    recording.duration === null ? null : format.clock(recording.duration),
    format.size(recording.size),
    format.codecs(recording.codecs),
    parts > 1 ? `${parts} parts` : null,
    recording.state === "failed" ? recording.error : null,
  ].filter(Boolean).join(" · ");
  if (recording.error) details.title = recording.error;
  text.append(title, details);
  return text;
}

function actions(recording) {
  const group = document.createElement("div");
  group.className = "actions";
  if (recording.url) group.append(playButton(recording), downloadLink(recording));
  if (recording.state === "interrupted") group.append(repairButton(recording));
  if (recording.state !== "recording") group.append(deleteButton(recording));
  return group;
}

function labelled(element, text, recording) {
  element.textContent = text;
  element.setAttribute("aria-label", `${text} the recording of ${format.moment(recording.created)}`);
  return element;
}

function actionButton(text, recording, action) {
  const button = labelled(document.createElement("button"), text, recording);
  button.type = "button";
  button.addEventListener("click", () => action(button));
  return button;
}

function playButton(recording) {
  return actionButton("Play", recording, () => play(recording));
}

function downloadLink(recording) {
  const link = labelled(document.createElement("a"), "Download", recording);
  link.className = "button";
  const first = recording.segments.find((segment) => segment.url);
  link.href = first.url;
  link.download = first.file;
  // Of several parts, the player offers each.
  link.hidden = recording.segments.length > 1;
  return link;
}

function repairButton(recording) {
  return actionButton("Repair", recording, async (button) => {
    button.disabled = true;
    try {
      const repaired = await api.repairRecording(recording.name);
      showDone("Repaired", `${format.clock(repaired.duration)} can be played again.`);
    } catch (error) {
      showError(error);
    }
    await loadRecordings();
  });
}

function deleteButton(recording) {
  return actionButton("Delete", recording, () => {
    document.querySelector("#delete-name").textContent = [
      format.moment(recording.created),
      recording.duration === null ? null : format.clock(recording.duration),
    ].filter(Boolean).join(" · ");
    dialog.returnValue = "keep";
    dialog.addEventListener("close", async () => {
      if (dialog.returnValue !== "delete") return;
      closePlayerOf(recording.name);
      try {
        await api.deleteRecording(recording.name);
      } catch (error) {
        if (error.status !== 404) showError(error);
      }
      await loadRecordings();
    }, {once: true});
    dialog.showModal();
  });
}

document.querySelector("#recordings-reload").addEventListener("click", loadRecordings);

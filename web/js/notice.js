// The one place where the page says what went wrong and what to do, and what is done.

const notice = document.querySelector("#notice");
const title = document.querySelector("#notice-title");
const detail = document.querySelector("#notice-detail");

function show(kind, heading, text) {
  notice.dataset.kind = kind;
  title.textContent = heading;
  detail.textContent = text;
  notice.hidden = false;
}

/** @param {{title?: string, message: string}} error */
export function showError(error) {
  show("error", error.title ?? "Something went wrong", error.message);
}

export function showHint(heading, text) {
  show("hint", heading, text);
}

export function showDone(heading, text) {
  show("done", heading, text);
}

export function clearNotice() {
  notice.hidden = true;
}

document.querySelector("#notice-close").addEventListener("click", clearNotice);

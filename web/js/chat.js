// The chat's log and form.

const log = document.querySelector("#chat-log");
const form = document.querySelector("#chat-form");
const input = document.querySelector("#chat-input");
const button = document.querySelector("#chat-send");

/** Messages that are kept on the page. */
const KEPT = 200;

export function addMessage(text, who, own) {
  log.querySelector(".hint")?.remove();
  const message = document.createElement("p");
  message.className = own ? "message own" : "message";
  const author = document.createElement("small");
  author.textContent = who;
  message.append(author, text);
  log.append(message);
  while (log.children.length > KEPT) log.firstElementChild.remove();
  log.scrollTop = log.scrollHeight;
}

export function enableChat(enabled) {
  input.disabled = button.disabled = !enabled;
}

/** @param {(text: string) => void} send called with each message that the person sends */
export function onChat(send) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const text = input.value.trim();
    if (!text) return;
    send(text);
    input.value = "";
  });
}

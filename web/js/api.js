// The server's API. Every failure is an ApiError whose message can be shown to a person.

export class ApiError extends Error {
  /**
   * @param {string} title what went wrong, in a few words
   * @param {string} detail why, and what to do about it
   * @param {number} status the HTTP status, or 0 when the server did not answer
   */
  constructor(title, detail, status) {
    super(detail);
    this.title = title;
    this.status = status;
  }
}

async function request(method, path, body, options = {}) {
  const headers = body === undefined ? {} : {"Content-Type": "application/json"};
  let response;
  try {
    response = await fetch(path, {
      method, headers, body: body === undefined ? undefined : JSON.stringify(body), ...options,
    });
  } catch {
    throw new ApiError(
      "The server does not answer",
      "It may have been stopped. Start it again with “mediapeer serve”, then try once more.",
      0,
    );
  }
  if (response.ok) return response.status === 204 ? null : response.json();
  const problem = await response.json().catch(() => ({}));
  throw new ApiError(
    problem.title ?? "The server refused",
    problem.detail ?? `It answered with status ${response.status}.`,
    response.status,
  );
}

const call = (id) => `/api/calls/${encodeURIComponent(id)}`;

const recordingUrl = (name) => `/api/recordings/${encodeURIComponent(name)}`;

export const answerOffer = (sdp) => request("POST", "/api/calls", {type: "offer", sdp});
export const requestOffer = () => request("POST", "/api/calls/outgoing");
export const sendAnswer = (id, sdp) => request("PUT", `${call(id)}/answer`, {type: "answer", sdp});
export const getCall = (id) => request("GET", call(id));
/** Hang up. It reaches the server even when the page is being closed. */
export const endCall = (id) => request("DELETE", call(id), undefined, {keepalive: true});
export const startRecording = (id) => request("POST", `${call(id)}/recording`);
export const stopRecording = (id) => request("DELETE", `${call(id)}/recording`);
export const listRecordings = () => request("GET", "/api/recordings");
export const deleteRecording = (name) => request("DELETE", recordingUrl(name));
export const repairRecording = (name) => request("POST", `${recordingUrl(name)}/repair`);

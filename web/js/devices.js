// Camera and microphone, and in words what keeps a page from using them.

export class DeviceError extends Error {
  constructor(title, detail) {
    super(detail);
    this.title = title;
  }
}

const REASONS = {
  NotAllowedError: [
    "Camera and microphone were refused",
    "Allow them for this page: press the camera or lock symbol beside the address, then press Call again. " +
      "If the system asks as well, allow the browser there.",
  ],
  NotReadableError: [
    "Camera or microphone is in use",
    "Another program or tab holds it. Close that one, then press Call again.",
  ],
};
REASONS.SecurityError = REASONS.NotAllowedError;
REASONS.AbortError = REASONS.NotReadableError;

/**
 * What the person has: both, one, or nothing.
 *
 * @returns {Promise<{stream: MediaStream, missing: string | null}>} `missing` says what there is none of
 * @throws {DeviceError} when there is something, and it may not or cannot be used
 */
export async function openDevices() {
  if (!navigator.mediaDevices) {
    throw new DeviceError(
      "This address cannot use a camera",
      "Browsers give camera and microphone only to pages at http://localhost or behind HTTPS. " +
        "Open the page at http://127.0.0.1 or http://localhost on the server itself, or put HTTPS in front of it.",
    );
  }
  const wishes = [
    [{audio: true, video: true}, null],
    [{audio: true}, "No camera was found: the call has sound alone."],
    [{video: true}, "No microphone was found: the call has a picture alone."],
  ];
  for (const [wish, missing] of wishes) {
    try {
      return {stream: await navigator.mediaDevices.getUserMedia(wish), missing};
    } catch (error) {
      // Only what is not there may be done without; what is refused or broken is to be said.
      if (error.name === "NotFoundError" || error.name === "OverconstrainedError") continue;
      const [title, detail] = REASONS[error.name] ?? ["Camera and microphone cannot be used", error.message];
      throw new DeviceError(title, detail);
    }
  }
  return {
    stream: new MediaStream(),
    missing: "Neither camera nor microphone was found: you can chat, and nothing else. Connect one and call again.",
  };
}

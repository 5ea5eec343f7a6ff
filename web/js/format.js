// Numbers and times as people read them.

/** 75.3 → "1:15" */
export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const minutes = Math.floor(whole / 60);
  const rest = String(whole % 60).padStart(2, "0");
  if (minutes < 60) return `${minutes}:${rest}`;
  return `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${rest}`;
}

/** 1234567 → "1.2 MB" */
export function size(bytes) {
  if (bytes < 1e6) return `${Math.round(bytes / 1e3)} kB`;
  if (bytes < 1e9) return `${(bytes / 1e6).toFixed(1)} MB`;
  return `${(bytes / 1e9).toFixed(2)} GB`;
}

/** Bits per second → "1.25 Mbit/s" */
export function rate(bits) {
  return bits < 1e6 ? `${Math.round(bits / 1e3)} kbit/s` : `${(bits / 1e6).toFixed(2)} Mbit/s`;
}

const CODECS = {
  vp8: "VP8", vp9: "VP9", av1: "AV1", h264: "H.264", h265: "H.265",
  opus: "Opus", aac: "AAC", g722: "G.722", pcmu: "G.711", pcma: "G.711",
};

/** ["vp8", "opus"] → "VP8 and Opus" */
export function codecs(names) {
  return [...new Set(names.map((name) => CODECS[name] ?? name))].join(" and ");
}

const MOMENT = new Intl.DateTimeFormat(undefined, {dateStyle: "medium", timeStyle: "medium"});

/** An ISO 8601 time → local date and time */
export function moment(iso) {
  return MOMENT.format(new Date(iso));
}

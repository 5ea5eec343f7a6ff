// What was negotiated, as both ends tell it, compared.

const VERSIONS = {FEFD: "DTLS 1.2", FEFC: "DTLS 1.3"};

const list = document.querySelector("#security-list");
const verdict = document.querySelector("#security-verdict");

/** The SHA-256 of a certificate that the browser tells of, whatever hash it shows itself. */
async function digest(entry) {
  if (!entry?.base64Certificate || !crypto.subtle) return null;
  const der = Uint8Array.from(atob(entry.base64Certificate), (character) => character.charCodeAt(0));
  const bytes = new Uint8Array(await crypto.subtle.digest("SHA-256", der));
  const pairs = [...bytes].map((byte) => byte.toString(16).padStart(2, "0").toUpperCase());
  return `sha-256 ${pairs.join(":")}`;
}

/** What the browser says: from getStats(), and where that has no certificates, from the descriptions. */
async function browserSide(connection) {
  const entries = [...(await connection.getStats()).values()];
  const transport = entries.find((entry) => entry.type === "transport" && entry.dtlsState) ?? {};
  const fingerprint = async (id, description) =>
    (await digest(entries.find((entry) => entry.id === id))) ??
    description?.sdp.match(/^a=fingerprint:(sha-256 \S+)/im)?.[1] ?? null;
  return {
    dtlsState: transport.dtlsState,
    dtlsVersion: VERSIONS[transport.tlsVersion?.toUpperCase()] ?? transport.tlsVersion,
    cipherSuite: transport.dtlsCipher,
    srtpProfile: transport.srtpCipher,
    dtlsRole: transport.dtlsRole,
    localFingerprint: await fingerprint(transport.localCertificateId, connection.localDescription),
    remoteFingerprint: await fingerprint(transport.remoteCertificateId, connection.remoteDescription),
  };
}

/** One spelling: AES-CM has two names, that of RFC 4568 and that of RFC 5764. */
const normal = (value) => value?.toUpperCase().replace(/^SRTP_/, "").replace("AES128_CM", "AES_CM_128") ?? null;

/** Whether two sides say the same; a side that says nothing does not disagree. */
const agree = (ours, theirs) => !ours || !theirs || normal(ours) === normal(theirs);

function row(name, value, {wide = false} = {}) {
  const group = document.createElement("div");
  const term = document.createElement("dt");
  term.textContent = name;
  const description = document.createElement("dd");
  description.textContent = value ?? "not told";
  group.classList.toggle("wide", wide);
  group.append(term, description);
  list.append(group);
}

/**
 * Fill in the panel.
 *
 * @param {RTCPeerConnection} connection the browser's side
 * @param {object | null} python the `security` of GET /api/calls/{id}
 */
export async function showSecurity(connection, python) {
  const browser = await browserSide(connection);
  if (browser.dtlsState !== "connected" || python?.dtlsState !== "connected") return;
  const differences = [
    ["version", browser.dtlsVersion, python.dtlsVersion],
    ["cipher suite", browser.cipherSuite, python.cipherSuite],
    ["SRTP profile", browser.srtpProfile, python.srtpProfile],
    ["your certificate", browser.localFingerprint, python.remoteFingerprint],
    ["Python’s certificate", browser.remoteFingerprint, python.localFingerprint],
  ].filter(([, ours, theirs]) => !agree(ours, theirs));

  verdict.dataset.agree = String(differences.length === 0);
  verdict.textContent = differences.length
    ? differences.map(([name, ours, theirs]) => `Different ${name}: ${ours} here, ${theirs} in Python`).join(". ")
    : "✓ Encrypted, and both ends say the same";
  const repeated = python.retransmissions ? `, ${python.retransmissions} flights sent again` : "";
  list.replaceChildren();
  row("Version", python.dtlsVersion);
  row("Key exchange", python.group);
  row("Handshake", `${(python.handshakeDuration * 1000).toFixed(0)} ms${repeated}`);
  row("DTLS client", python.dtlsRole === "client" ? "Python" : "this browser");
  row("Cipher suite", python.cipherSuite, {wide: true});
  row("Media keys (SRTP)", python.srtpProfile, {wide: true});
  row("Your certificate", python.remoteFingerprint, {wide: true});
  row("Python’s certificate", python.localFingerprint, {wide: true});
  document.querySelector("#security").hidden = false;
  document.querySelector("#security-empty").hidden = true;
}

export function clearSecurity() {
  list.replaceChildren();
  document.querySelector("#security").hidden = true;
  document.querySelector("#security-empty").hidden = false;
}

// Commands come in and events go out as JSON, one object a line.
"use strict";
const readline = require("node:readline");

const say = (event, fields = {}) => process.stdout.write(JSON.stringify({ event, ...fields }) + "\n");

/** Carry out commands in their order, each when the one before has ended; exit with the input's end. */
function serve(commands) {
  let last = Promise.resolve();
  const carryOut = async ({ command, ...fields }) => {
    try {
      await commands[command](fields);
    } catch (error) {
      say("error", { command, message: String(error) });
    }
  };
  readline
    .createInterface({ input: process.stdin })
    .on("line", (line) => (last = last.then(() => carryOut(JSON.parse(line)))))
    .on("close", () => process.exit(0));
}

/** What a data channel takes or gave, as a field of a line: text, or bytes in base64. */
const toField = (data) =>
  typeof data === "string" ? { text: data } : { base64: Buffer.from(data).toString("base64") };
const fromField = ({ text, base64 }) => (base64 === undefined ? text : Buffer.from(base64, "base64"));

/** Call `send(index)` every so many milliseconds, as often as the clock says, until the process ends. */
function pace(milliseconds, send) {
  const start = performance.now();
  let index = 0;
  setInterval(() => {
    while (index * milliseconds <= performance.now() - start) send(index++);
  }, milliseconds);
}

module.exports = { say, serve, toField, fromField, pace };

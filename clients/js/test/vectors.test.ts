/** The vectors of `spec/vectors`, each as one test. A page next to them describes their format. */

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { FINAL } from "../src/close.js";
import { MesaError } from "../src/errors.js";
import { type Data, encodeFrame, encodeMessage, encodeRefusal } from "../src/frames.js";
import { createProtocol, type Output, type Protocol } from "../src/protocol.js";
import { readPositions } from "../src/tracking.js";

const VECTORS = new URL("../../../../spec/vectors/", import.meta.url);

/** Files about features that WebSockets of browsers lack: Pings, and pausing to read. */
const LEFT_OUT = ["client-keepalive.json"];

interface File {
  name: string;
  kind: string;
  cases: Data[];
}

const files: File[] = readdirSync(VECTORS)
  .filter((name) => name.endsWith(".json") && !LEFT_OUT.includes(name))
  .map((name) => {
    const { kind, ...rest } = JSON.parse(readFileSync(new URL(name, VECTORS), "utf8"));
    return { name, kind, cases: Object.values(rest).find(Array.isArray) as Data[] };
  });

function each(kind: string, check: (vector: Data) => void, isMine: (vector: Data) => boolean = () => true): void {
  const found = files.filter((file) => file.kind == kind);
  const cases = found.flatMap((file) => file.cases.filter(isMine).map((vector) => [file.name, vector]));
  assert.ok(cases.length, `no vectors of the kind ${kind}`);
  for (const [file, vector] of cases)
    test(`${file}: ${vector.name ?? JSON.stringify(vector).slice(0, 40)}`, () => check(vector));
}

/** Return the data of an input as a WebSocket delivers it: text, or bytes if it is no text. */
function payload(input: Data): string | Uint8Array {
  const bytes = content(input);
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return bytes;
  }
}

function content(input: Data): Buffer {
  if (typeof input == "string") return Buffer.from(input);
  if (Array.isArray(input)) return Buffer.concat(input.map(content));
  if ("hex" in input) return Buffer.from(input.hex, "hex");
  const [repeated, times] = input.repeat;
  return Buffer.from(content(repeated).toString("latin1").repeat(times), "latin1");
}

/** Return a value in the form of the vectors: without undefined members. */
const plain = (value: Data): Data => JSON.parse(JSON.stringify(value));

const message = ({ opcode, data, type, sequence }: Data): Data => ({ opcode, data, type, sequence: sequence ?? null });

function told(output: Output): Data {
  switch (output[0]) {
    case "message":
      return ["message", message(output[1])];
    case "lost":
    case "forked":
      return output.slice(0, 2);
    case "reset":
    case "moved":
      return [output[0]];
    case "asked":
    case "replied":
      return [output[0], output[1], message(output[2])];
    case "hello": {
      const { _heartbeatInterval = null, _reconnectInterval = null, _version } = output[1];
      return ["hello", { heartbeat_interval: _heartbeatInterval, reconnect_interval: _reconnectInterval, version: _version }];
    }
    case "authenticated":
      return output[2] == null ? output.slice(0, 2) : output;
    default:
      return output;
  }
}

/** Compare a HELLO without the members that this client does not use. */
function expected(output: Data): Data {
  if (output[0] != "hello") return output;
  const { authentication_timeout: _, rules: __, ...rest } = output[1];
  return ["hello", rest];
}

const sent = (frame: string | undefined): Data[] => (frame ? [["send", frame]] : []);

function play(protocol: Protocol, now: number, [action, ...args]: Data[]): Data[] {
  switch (action) {
    case "receive":
      return protocol._receive(payload(args[0]), now);
    case "poll":
      return protocol._poll(now);
    case "wake":
      return protocol._wake(now);
    case "authenticate":
      return sent(protocol._authenticate(args[0], args[1], readPositions(args[2])));
    case "acknowledge":
      return sent(protocol._acknowledge(args[0]));
    case "send":
      return sent(encodeMessage(args[0].type, args[0].data, args[0].opcode));
    case "request":
      if (!protocol._canAsk()) return [["unsupported"]];
      return sent(encodeMessage(args[0].type, args[0].data, args[0].opcode, { r: args[1] }));
    case "close":
      protocol._isClosed = true;
      return [];
  }
  throw new Error(`not an action: ${action}`);
}

each(
  "session",
  (scenario) => {
    const { keepalive = true } = scenario.settings;
    const protocol = createProtocol(keepalive ?? false, scenario.start ?? 0, readPositions(scenario.positions));
    for (const step of scenario.steps) {
      const outputs = play(protocol, step.at, step.do);
      assert.deepEqual(plain(outputs.map(told)), (step.expect ?? []).map(expected), JSON.stringify(step));
      const state = protocol._isClosed ? "closed" : protocol._tracking._isAccepted ? "authenticated" : "connected";
      if ("state" in step) assert.equal(state, step.state);
      if ("positions" in step) assert.deepEqual(plain(protocol._tracking._positions), step.positions);
      if ("deadline" in step) assert.equal(protocol._deadline() ?? null, step.deadline, JSON.stringify(step));
    }
  },
  (scenario) => scenario.side == "client",
);

each(
  "codec",
  ({ op, data, type, text }) => assert.equal(encodeMessage(type, data, op), text),
  (body) => !("sequence" in body || "broadcast" in body) && body.op != 7, // a client assigns no numbers
);

each("correlations", ({ message, request, answer, error, text }) => {
  const frame = error
    ? encodeRefusal(answer, error.code, error.message)
    : [1, 11].includes(message.op)
      ? encodeFrame(message.op, message.data, request ? { r: request } : { a: answer })
      : encodeMessage(message.type, message.data, message.op, request ? { r: request } : { a: answer });
  assert.equal(frame, text);
});

each("opcodes", ({ opcode, may_send: maySend }) => {
  const encode = () => encodeMessage("T", 1, opcode);
  if (maySend) encode();
  else assert.throws(encode, (error) => error instanceof MesaError && error.code == "invalid");
});

each("close-codes", ({ code, may_reconnect: mayReconnect }) => assert.equal(!FINAL.includes(code), mayReconnect));

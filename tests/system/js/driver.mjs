/**
 * node driver.mjs [WS]: JavaScript clients of tests, all in one process; WS is the address of the package `ws`.
 *
 * A line on stdin is JSON, `[id, client, code, values]`: the code runs as an async function of `mesa`, the client;
 * `note(kind, value)`; `state`, an object that lasts as long as the client; `values` and `RequestError`. A line on
 * stdout is `{id, result}` or `{id, error}` when it is done, or `{client, kind, value}` for what was noted. Where
 * `code` is null, `values` are `url`, `options` and `setup`: code that begins before the client connects.
 */
import { existsSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import process from "node:process";
import { createInterface } from "node:readline";
import { MesaClient, RequestError } from "../../../src/mesa_ws/browser/mesa.mjs";

const { WebSocket: ws } = process.argv[2] ? await import(process.argv[2]) : {};
const AsyncFunction = (async () => {}).constructor;
const clients = {};

const write = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
const described = (error) => error && { name: error.name, code: error.code, text: error.message ?? `${error}` };

function run({ mesa, note, state }, code, values) {
  const names = ["mesa", "note", "state", "values", "RequestError"];
  return new AsyncFunction(...names, code)(mesa, note, state, values, RequestError);
}

/** Return a function that returns one token after another, and finally always the last one. */
function inTurn(tokens, note) {
  let calls = 0;
  return async () => {
    const token = tokens[Math.min(calls++, tokens.length - 1)];
    note("token", token);
    return token;
  };
}

/** A store of positions in a file. */
const file = (path, note) => ({
  load: async () => (existsSync(path) ? JSON.parse(await readFile(path, "utf8")) : null),
  save: async (positions) => {
    await writeFile(path, JSON.stringify(positions));
    note("saved", positions);
  },
});

/** Return a WebSocket class that notes all frames. */
const watched = (socketClass, note) =>
  class extends socketClass {
    constructor(url) {
      super(url);
      this.addEventListener("message", ({ data }) => note("received", JSON.parse(data)));
    }

    send(text) {
      note("sent", JSON.parse(text));
      super.send(text);
    }
  };

function open(name, [url, { socket, watch, positions, token, ...options }, setup]) {
  const note = (kind, value = null) => write({ client: name, kind, value });
  const socketClass = socket == "global" || !ws ? globalThis.WebSocket : ws;
  const mesa = new MesaClient(url, {
    ...options,
    token: Array.isArray(token) ? inTurn(token, note) : token,
    positions: positions && file(positions, note),
    WebSocket: watch ? watched(socketClass, note) : socketClass,
  });
  clients[name] = { mesa, note, state: {} };
  mesa.onStateChange((state, detail) => note("state", { state, ...detail, error: described(detail.error) }));
  mesa.onLost((count) => note("lost", count));
  mesa.onForked((rollback) => note("forked", rollback));
  mesa.onReset(() => note("reset"));
  mesa.onError((error) => note("error", described(error)));
  void mesa.closed.then((reason) => note("closed", { ...reason, error: described(reason.error) }));
  void run(clients[name], setup, []);
}

async function obey([id, name, code, values]) {
  try {
    write({ id, result: (await (code === null ? open(name, values) : run(clients[name], code, values))) ?? null });
  } catch (error) {
    write({ id, error: described(error) });
  }
}

createInterface({ input: process.stdin })
  .on("line", (line) => void obey(JSON.parse(line)))
  .on("close", () => process.exit());

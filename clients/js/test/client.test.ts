/** Behaviour of a client when its application, its store or its server misbehaves; with a server in this process. */

import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { type Data, MesaClient, type Options, type Positions } from "./public-client.js";

const LIMIT = 2000;

/** A fake WebSocket whose peer is the test. */
class Visit {
  readyState = 0;
  onmessage: Data = null;
  onclose: Data = null;
  onerror: Data = null;
  frames: Data[] = [];

  constructor(readonly url: string) {
  }

  send(text: string): void {
    this.frames.push(JSON.parse(text));
  }

  close(code = 1005): void {
    this.readyState = 2;
    queueMicrotask(() => this.end(code));
  }

  end(code: number): void {
    this.readyState = 3;
    this.onclose?.({ code, reason: "" });
  }

  say(frame: Data): void {
    this.onmessage?.({ data: JSON.stringify(frame) });
  }

  /** Open the connection, and send HELLO. */
  greet(): this {
    this.readyState = 1;
    this.say({ op: 10, d: { v: 2 } });
    return this;
  }

  accept(s = 5, b = 3, status = "fresh"): this {
    const x = { e: "aa", s, status, lost: 0, b: { e: "bb", s: b, status, lost: 0 } };
    this.say({ op: 22, d: { id: "1" }, x });
    return this;
  }

  sent(op: number): Data[] {
    return this.frames.filter((frame) => frame.op == op);
  }
}

async function until<T>(found: () => T): Promise<NonNullable<T>> {
  for (const end = Date.now() + LIMIT; Date.now() < end; await new Promise((then) => setTimeout(then, 1))) {
    const value = found();
    if (value) return value;
  }
  throw new Error(`it did not happen within ${LIMIT} ms: ${found}`);
}

/** Make a client for a test: `visit(n)` is its n-th connection. */
function open(t: TestContext, options: Options = {}): { mesa: MesaClient; visit: (n: number) => Promise<Visit> } {
  const visits: Visit[] = [];
  class Socket extends Visit {
    constructor(url: string) {
      super(url);
      visits.push(this);
    }
  }
  const mesa = new MesaClient("ws://server/ws", { token: "t", reconnect: { maxPause: 0.002 }, WebSocket: Socket, ...options });
  t.after(() => mesa.close());
  return { mesa, visit: (n) => until(() => visits[n]) };
}

async function accepted(visit: Visit): Promise<Visit> {
  visit.greet();
  await until(() => visit.sent(2).length);
  return visit.accept();
}

const message = (s: number) => ({ op: 0, d: s, t: "N", s });

test("it resumes at its first position, also before it takes a message", async (t) => {
  const { mesa, visit } = open(t);
  const first = await accepted(await visit(0));
  first.say(message(6));
  first.end(1006);
  const second = (await visit(1)).greet();
  const [login] = await until(() => second.sent(2).length && second.sent(2));
  assert.deepEqual(login.x, { v: 2, resume: { e: "aa", s: 5, b: { e: "bb", s: 3 } } });
  second.accept(5, 3, "resumed");
  for (const s of [6, 7]) second.say(message(s));
  const given: number[] = [];
  mesa.on("N", (n) => given.push(n));
  await until(() => given.length == 2);
  assert.deepEqual(given, [6, 7]);
});

test("its first position is saved at once, as the page may be left before a message comes", async (t) => {
  const saved: Positions[] = [];
  const { visit } = open(t, { positions: { load: () => null, save: (positions) => void saved.push(positions) } });
  await accepted(await visit(0));
  assert.deepEqual(saved, [{ e: "aa", s: 5, b: { e: "bb", s: 3 } }]);
});

for (const how of ["throws", "rejects"])
  test(`an error handler that ${how} does not receive its own error, and messages go on`, async (t) => {
    t.mock.method(console, "error", () => {});
    const { mesa, visit } = open(t);
    let told = 0;
    mesa.onError(() => {
      told++;
      if (how == "throws") throw new Error("again");
      return Promise.reject(new Error("again"));
    });
    const given: number[] = [];
    mesa.on("N", async (n) => {
      given.push(n);
      throw new Error("first");
    });
    const first = await accepted(await visit(0));
    for (const s of [6, 7]) first.say(message(s));
    await until(() => given.length == 2);
    assert.equal(told, 2);
  });

test("an error without a handler is on the console", async (t) => {
  const log = t.mock.method(console, "error", () => {});
  const { mesa, visit } = open(t);
  mesa.on("N", () => {
    throw new Error("mine");
  });
  (await accepted(await visit(0))).say(message(6));
  assert.equal(log.mock.callCount(), 1);
  assert.match(String(log.mock.calls[0]!.arguments[1]), /mine/);
});

test("a closed client does not open again, whatever the server still says", async (t) => {
  let saved = () => {};
  const save = () => new Promise<void>((then) => (saved = then));
  const { mesa, visit } = open(t, { positions: { load: () => ({ e: "aa", s: 1 }), save } });
  const states: string[] = [];
  mesa.onStateChange((state) => states.push(state));
  const first = (await visit(0)).greet();
  await until(() => first.sent(2).length);
  const closing = mesa.close();
  first.accept();
  assert.equal(mesa.state, "closed");
  saved();
  await closing;
  assert.deepEqual(states, ["connecting", "closed"]);
});

test("closing releases the store of the positions, also where no handler takes messages", async (t) => {
  let isFree = false;
  const store = { load: () => null, save: () => {}, release: () => void (isFree = true) };
  const { mesa, visit } = open(t, { positions: store, token: "expired" });
  const first = (await visit(0)).greet();
  await until(() => first.sent(2).length);
  first.end(1008);
  assert.equal((await mesa.closed).error?.code, "refused");
  await until(() => isFree);
});

test("a message in hand when the client closes is saved once the loop is left", async (t) => {
  const saved: Positions[] = [];
  let isFree = false;
  const store = {
    load: () => null,
    save: (positions: Positions) => void saved.push(positions),
    release: () => void (isFree = true),
  };
  const { mesa, visit } = open(t, { positions: store });
  (await accepted(await visit(0))).say(message(6));
  for await (const _ of mesa) {
    await mesa.close();
    break;
  }
  await until(() => isFree);
  assert.equal(saved.at(-1)?.s, 6);
});

test("a failed attempt ends, also where the WebSocket class reports only an error", async (t) => {
  const { mesa, visit } = open(t);
  (await visit(0)).onerror({});
  await accepted(await visit(1));
  assert.equal(mesa.state, "open");
});

test("a failed attempt without a code counts as 1006", async (t) => {
  const { mesa, visit } = open(t, { reconnect: false });
  (await visit(0)).end(0);
  assert.equal((await mesa.closed).code, 1006);
});

test("failed attempts, of which a browser does not say why, follow pauses that grow by chance", async (t) => {
  const chance = [0.001, 0.001, 0.001, 0.001, 0.001, 0.0005];
  let asked = 0;
  t.mock.method(Math, "random", () => chance[asked++]);
  const { mesa, visit } = open(t, { reconnect: {} });
  const pauses: unknown[] = [];
  mesa.onStateChange((state, { after }) => state == "waiting" && pauses.push(after));
  for (const n of chance.keys()) (await visit(n)).end(1006);
  assert.deepEqual(pauses, [0.001, 0.002, 0.004, 0.005, 0.005, 0.0025]);
});

test("an infinite time is refused", async (t) => {
  const { mesa, visit } = open(t);
  const answer = mesa.request("ASK", null, { timeout: Infinity });
  const first = await accepted(await visit(0));
  const [asked] = await until(() => first.sent(0).length && first.sent(0));
  await new Promise((then) => setTimeout(then, 20));
  first.say({ op: 0, d: "late", x: { a: asked.x.r } });
  assert.equal(await answer, "late");
});

test("awaiting in a handler never prevents a reconnection", async (t) => {
  const { mesa, visit } = open(t);
  const answers: Data[] = [];
  mesa.on("N", async (n) => answers.push([n, await mesa.request("ASK", n)]));
  const first = await accepted(await visit(0));
  first.readyState = 3; // the connection is lost, but the client not yet notified
  for (const s of [6, 7]) first.say(message(s));
  first.end(1006);
  const second = (await visit(1)).greet();
  await until(() => second.sent(2).length);
  assert.equal(second.sent(2)[0].x.resume.s, 5);
  second.accept(5, 3, "resumed");
  for (const s of [6, 7, 8]) second.say(message(s));
  for (const n of [0, 1, 2]) {
    const asked = await until(() => second.sent(0)[n]);
    second.say({ op: 0, d: asked.d * 10, x: { a: asked.x.r } });
  }
  await until(() => answers.length == 3);
  assert.deepEqual(answers, [[6, 60], [7, 70], [8, 80]]);
});

test("a loop that another handler ends takes no message", async (t) => {
  const log = t.mock.method(console, "error", () => {});
  const { mesa, visit } = open(t);
  const loop = mesa[Symbol.asyncIterator]();
  const given: number[] = [];
  mesa.on("N", (n) => {
    given.push(n);
    void loop.return!();
  });
  const next = loop.next();
  const first = await accepted(await visit(0));
  for (const s of [6, 7]) first.say(message(s));
  assert.deepEqual(await next, { value: undefined, done: true });
  await until(() => given.length == 2);
  assert.equal(log.mock.callCount(), 0);
});

test("a token function is asked again three times in a row, and an accepted login starts that over", async (t) => {
  let made = 0;
  const { mesa, visit } = open(t, { token: async () => `${++made}` });
  let n = 0;
  for (const refusals of [3, 4]) {
    for (let each = 0; each < refusals; each++) {
      const refused = (await visit(n++)).greet();
      await until(() => refused.sent(2).length);
      refused.end(1008);
    }
    if (refusals == 3) (await accepted(await visit(n++))).end(1006);
  }
  assert.equal((await mesa.closed).error?.code, "refused");
  assert.equal(made, 8);
});

test("messages that the server does not store are dropped and reported where too many wait, stored ones are not", async (t) => {
  const { mesa, visit } = open(t);
  const first = await accepted(await visit(0));
  const fleeting = (d: number) => ({ op: 0, d, t: "N" });
  for (let n = 0; n < 10_000; n++) first.say(fleeting(n));
  for (const s of [6, 7]) first.say(message(s));
  for (let n = 0; n < 3; n++) first.say(fleeting(n));
  first.say({ op: 0, d: "all", t: "N", b: 4 });
  first.say(fleeting(3));
  const told: Data[] = [];
  mesa.onLost((count) => told.push(["lost", count]));
  mesa.on("N", (n) => told.push(n));
  await until(() => told.length > 10_000);
  // The first reported position after the login waits, too.
  assert.deepEqual(told.slice(9_999), [["lost", 1], 6, 7, ["lost", 3], "all", ["lost", 1]]);
  assert.equal(told[9_998], 9_998);
});

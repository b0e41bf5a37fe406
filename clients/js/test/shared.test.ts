/** What a tab with a shared client is promised, each promise by itself; `storm.test.ts` has them all at once. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { count, given, Shop } from "./tabs/shop.js";
import { type Page } from "./tabs/world.js";

async function threeTabs(shop = new Shop()): Promise<[Shop, Page, Page, Page]> {
  return [shop, await shop.opened(), await shop.opened(), await shop.opened()];
}

const dispatch = (shop: Shop, first: number, last: number) => count(first, last).forEach((n) => shop.server.dispatch(n));

test("all tabs share one connection and get every message", async () => {
  const [shop, ...tabs] = await threeTabs();
  dispatch(shop, 1, 5);
  shop.server.announce("a");
  shop.server.mention("n");
  await shop.world.run(100);
  assert.equal(shop.server.attempts, 1);
  for (const tab of tabs) {
    assert.deepEqual(given(tab), count(1, 5));
    assert.deepEqual(given(tab, "ALL"), ["a"]);
    assert.deepEqual(given(tab, "NOW"), ["n"]);
    assert.equal(tab.client.user.id, "u");
  }
});

test("another address or key is another connection", async () => {
  const shop = new Shop();
  await shop.opened();
  await shop.opened({ client: { key: "other" } });
  assert.equal(shop.server.connections.size, 2);
});

test("the server is acknowledged what all tabs have handled, not more", async () => {
  const shop = new Shop();
  await shop.opened();
  const slow = await shop.opened({ slowness: (n) => (n == 3 ? 20_000 : 0) });
  dispatch(shop, 1, 5);
  await shop.world.run(10_000);
  assert.equal(shop.server.acknowledged, 2);
  slow.kill();
  await shop.world.run(100);
  assert.equal(shop.server.acknowledged, 5);
});

test("a tab that reloads is waited for with acknowledgements of what it missed", async () => {
  const shop = new Shop();
  await shop.opened();
  const storage = new Map<string, string>();
  const before = await shop.opened({ isKept: true, storage });
  dispatch(shop, 1, 3);
  await shop.world.run(2500);
  before.close();
  dispatch(shop, 4, 6);
  await shop.world.run(50);
  const after = await shop.opened({ isKept: true, storage, slowness: (n) => (n == 4 ? 10_000 : 0) });
  await shop.world.run(5000);
  assert.equal(shop.server.acknowledged, 3);
  await shop.world.run(10_000);
  assert.equal(shop.server.acknowledged, 6);
  assert.deepEqual(given(after), [4, 5, 6]);
});

test("nothing is acknowledged in an epoch that a tab has not come to", async () => {
  const shop = new Shop();
  await shop.opened();
  const slow = await shop.opened({ slowness: (n) => (n == 6 ? 20_000 : 0) });
  dispatch(shop, 1, 6);
  await shop.world.run(5000);
  assert.equal(shop.server.acknowledged, 5);
  shop.server.empty();
  dispatch(shop, 11, 13);
  await shop.world.run(10_000);
  assert.equal(shop.server.acknowledged, 0);
  await shop.world.run(10_000);
  assert.equal(shop.server.acknowledged, 3);
  assert.deepEqual(given(slow), [...count(1, 6), 11, 12, 13]);
});

test("a tab that opens begins where the others are", async () => {
  const shop = new Shop();
  await shop.opened();
  dispatch(shop, 1, 3);
  await shop.world.run(2000);
  const late = await shop.opened();
  dispatch(shop, 4, 5);
  await shop.world.run(100);
  assert.deepEqual(given(late), [4, 5]);
});

for (const how of ["close", "kill", "freeze"] as const)
  test(`nothing is lost or doubled when the leader is gone by ${how}`, async () => {
    const [shop, leader, ...others] = await threeTabs();
    dispatch(shop, 1, 3);
    await shop.world.run(3);
    leader[how]();
    dispatch(shop, 4, 6);
    await shop.world.run(30_000);
    dispatch(shop, 7, 9);
    await shop.world.run(100);
    for (const tab of others) {
      assert.deepEqual(given(tab), count(1, 9));
      assert.equal(tab.client.state, "open");
    }
    assert.equal(shop.server.connections.size, how == "freeze" ? 2 : 1);
    if (how != "freeze") return;
    leader.thaw();
    await shop.world.run(1000);
    assert.deepEqual(given(leader), count(1, 9));
    assert.equal(shop.server.connections.size, 1);
  });

test("a tab that takes over connects at once", async () => {
  const [shop, leader, next] = await threeTabs();
  leader.kill();
  await shop.world.run(200);
  assert.equal(next.client.state, "open");
});

test("a tab that was frozen catches up when it wakes", async () => {
  const [shop, , tab] = await threeTabs();
  tab.freeze();
  dispatch(shop, 1, 500);
  for (const n of count(1, 5)) shop.server.mention(n);
  await shop.world.run(5000);
  tab.thaw();
  await shop.world.run(20_000);
  assert.deepEqual(given(tab), count(1, 500));
  assert.deepEqual(given(tab, "NOW"), count(1, 5));
  assert.deepEqual(given(tab, "reset"), []);
});

test("a frozen tab does not stall the others, and is told when they went on without it", async () => {
  const [shop, leader, tab] = await threeTabs();
  tab.freeze();
  for (let n = 1; n <= 10_000; n += 100) {
    dispatch(shop, n, n + 99);
    await shop.world.run(1000);
  }
  await shop.world.run(5000);
  assert.deepEqual(given(leader), count(1, 10_000));
  tab.thaw();
  await shop.world.run(20_000);
  const lost = given(tab, "lost").reduce((sum, each) => sum + each, 0);
  assert.ok(lost > 0);
  assert.deepEqual(given(tab), count(lost + 1, 10_000));
  dispatch(shop, 10_001, 10_003);
  await shop.world.run(1000);
  for (const each of [leader, tab]) {
    assert.deepEqual(given(each).slice(-3), count(10_001, 10_003));
    assert.equal(given(each, "reset").length, 0);
  }
});

test("a frozen tab does not keep back acknowledgements for ever", async () => {
  const [shop, , tab] = await threeTabs();
  tab.freeze();
  dispatch(shop, 1, 3);
  await shop.world.run(60_000);
  assert.equal(shop.server.acknowledged, 3);
  tab.thaw();
  await shop.world.run(20_000);
  assert.deepEqual(given(tab), count(1, 3));
});

test("a handler that is stuck does not stall the other tabs, and its own tab misses nothing", async () => {
  const shop = new Shop();
  const quick = await shop.opened();
  const stuck = await shop.opened({ slowness: (n) => (n == 1 ? 60_000 : 0) });
  for (let n = 1; n <= 6000; n += 100) {
    dispatch(shop, n, n + 99);
    await shop.world.run(500);
  }
  assert.deepEqual(given(quick), count(1, 6000));
  await shop.world.run(60_000);
  assert.deepEqual(given(stuck), count(1, 6000));
});

test("what waits for a handler that is stuck for long is bounded", async () => {
  const shop = new Shop();
  await shop.opened();
  const stuck = await shop.opened({ slowness: (n) => (n == 1 ? 600_000 : 0) });
  for (let n = 1; n <= 8000; n += 100) {
    dispatch(shop, n, n + 99);
    await shop.world.run(500);
  }
  const waiting = stuck.client._inbox._waiting.length;
  assert.ok(waiting > 3000 && waiting <= 4500, `${waiting} messages wait`);
});

test("a page in the cache of its browser gives the lead away, and catches up when it is shown", async () => {
  const [shop, leader, tab] = await threeTabs();
  leader.fire("pagehide", { persisted: true });
  leader.freeze();
  await shop.world.run(1000);
  dispatch(shop, 1, 3);
  await shop.world.run(1000);
  assert.deepEqual(given(tab), [1, 2, 3]);
  assert.equal(shop.server.connections.size, 1);
  leader.thaw();
  leader.fire("pageshow", { persisted: true });
  await shop.world.run(1000);
  assert.deepEqual(given(leader), [1, 2, 3]);
});

test("what a tab sends goes through the leader, in order, and resolves when it is written", async () => {
  const [shop, , tab] = await threeTabs();
  const sent = count(1, 5).map((n) => tab.client.send("UP", n));
  await shop.world.run(100);
  await Promise.all(sent);
  assert.deepEqual(shop.server.received, count(1, 5));
});

test("what the leader dies over is written by the next one", async () => {
  const [shop, leader, tab] = await threeTabs();
  leader.freeze();
  const sent = tab.client.send("UP", 1);
  await shop.world.run(1000);
  leader.kill();
  await shop.world.run(1000);
  await sent;
  assert.deepEqual(shop.server.received, [1]);
});

test("more messages than may wait are refused, and those of a client that ends", async () => {
  const shop = new Shop();
  const leader = await shop.opened();
  const tab = await shop.opened({ client: { queueSize: 2 } });
  leader.freeze();
  const sent = [1, 2].map((n) => tab.client.send("UP", n));
  await shop.world.run(10);
  await assert.rejects(tab.client.send("UP", 3), { code: "queue_full" });
  const closed = tab.client.close();
  const outcome = Promise.allSettled(sent);
  await shop.world.run(3000);
  await closed;
  for (const { status, reason } of (await outcome) as any[]) assert.deepEqual([status, reason.code], ["rejected", "closed"]);
});

test("a request is answered to the tab that asked", async () => {
  const [shop, ...tabs] = await threeTabs();
  const answers = tabs.map((tab, n) => tab.client.request("ECHO", n));
  await shop.world.run(100);
  assert.deepEqual(await Promise.all(answers), [0, 1, 2]);
});

test("a request that the leader dies over fails, and is not sent again", async () => {
  const [shop, leader, tab] = await threeTabs();
  const answer = assert.rejects(tab.client.request("ECHO", 1), { code: "closed" });
  leader.freeze();
  leader.kill();
  await shop.world.run(1000);
  await answer;
  assert.deepEqual(shop.server.requests, []);
});

test("what the server asks is answered by one tab that can", async () => {
  const [shop, , tab, other] = await threeTabs();
  for (const each of [tab, other])
    each.run(`page.client.onRequest("ASK", (data) => { page.log.push(["asked", data]); return data + 1 })`);
  for (const connection of shop.server.connections) {
    connection.write({ op: 0, d: 1, t: "ASK", x: { r: "a" } });
    connection.write({ op: 0, d: 1, t: "OTHER", x: { r: "b" } });
  }
  await shop.world.run(100);
  assert.deepEqual(shop.server.answers.map(({ d, x }) => [d, x.a, x.error?.code]), [[2, "a", undefined], [null, "b", "unanswered"]]);
  assert.equal(given(tab, "asked").length + given(other, "asked").length, 1);
});

test("every tab is told when the connection is lost, and comes back", async () => {
  const [shop, ...tabs] = await threeTabs();
  shop.server.cut();
  shop.server.isDown = true;
  await shop.world.run(100);
  for (const tab of tabs) assert.equal(tab.client.state, "connecting");
  dispatch(shop, 1, 3);
  await shop.world.run(5000);
  shop.server.isDown = false;
  await shop.world.run(6000);
  for (const tab of tabs) {
    assert.equal(tab.client.state, "open");
    assert.deepEqual(given(tab), [1, 2, 3]);
  }
  assert.ok(shop.server.attempts < 10, `${shop.server.attempts} attempts`);
});

test("a server that has gone silent is noticed by any tab", async () => {
  const [shop, , tab] = await threeTabs();
  shop.server.isSilent = true;
  tab.fire("online");
  await shop.world.run(5100);
  shop.server.isSilent = false;
  await shop.world.run(2000);
  assert.equal(shop.server.attempts, 2);
  assert.equal(tab.client.state, "open");
});

test("a refused token ends the clients of all tabs, with the reason", async () => {
  const [shop, ...tabs] = await threeTabs();
  shop.server.token = "another";
  shop.server.cut();
  await shop.world.run(60_000);
  for (const tab of tabs) {
    assert.equal(tab.client.state, "closed");
    assert.equal((await tab.client.closed).error.code, "refused");
  }
  assert.ok(shop.server.logins <= 3 + 3 * 3, `${shop.server.logins} logins`);
});

test("a fork is told once to each tab, and loses nothing", async () => {
  const [shop, ...tabs] = await threeTabs();
  dispatch(shop, 1, 3);
  await shop.world.run(2);
  shop.server.fork();
  dispatch(shop, 4, 6);
  await shop.world.run(5);
  tabs[0]!.kill();
  await shop.world.run(3000);
  for (const tab of tabs.slice(1)) {
    assert.deepEqual(given(tab), count(1, 6));
    assert.equal(given(tab, "forked").length, 1);
  }
});

for (const next of ["quick", "slow"])
  test(`a slow tab that has not handled the last of an epoch misses nothing when the leader dies and a ${next} one leads`, async () => {
    const shop = new Shop();
    const leader = await shop.opened();
    const slowness = (n: unknown) => (n == 2 ? 5000 : 0);
    const tabs = [await shop.opened(next == "slow" ? { slowness } : {}), await shop.opened(next == "quick" ? { slowness } : {})];
    dispatch(shop, 1, 3);
    shop.server.fork();
    dispatch(shop, 4, 6);
    await shop.world.run(1000);
    leader.kill();
    await shop.world.run(10_000);
    for (const tab of tabs) {
      assert.deepEqual(given(tab), count(1, 6));
      assert.deepEqual(given(tab, "reset"), []);
    }
    assert.equal(shop.server.attempts, 2, "it connects once, from where all of them can go on");
  });

test("a tab that reloads into another epoch misses nothing when the leader dies before it has handled that", async () => {
  const shop = new Shop();
  const storage = new Map<string, string>();
  const before = await shop.opened({ isKept: true, storage });
  dispatch(shop, 1, 3);
  await shop.world.run(100);
  before.close();
  shop.server.fork();
  dispatch(shop, 4, 6);
  const leader = await shop.opened({ isKept: true, storage: new Map(storage) });
  await shop.opened();
  const slow = await shop.opened({ isKept: true, storage, slowness: () => 1000 });
  leader.kill();
  await shop.world.run(20_000);
  assert.deepEqual(given(slow), count(4, 6));
  assert.deepEqual(given(slow, "reset"), []);
});

test("a server that has forgotten all positions tells each tab once, behind what it missed before", async () => {
  const [shop, ...tabs] = await threeTabs();
  const frozen = tabs[2]!;
  frozen.freeze();
  dispatch(shop, 1, 3);
  shop.server.announce("a");
  await shop.world.run(2000);
  shop.server.forget();
  await shop.world.run(5000);
  dispatch(shop, 4, 6);
  shop.server.announce("b");
  frozen.thaw();
  await shop.world.run(20_000);
  for (const tab of tabs) {
    const told = tab.log.filter(([kind]) => ["USER", "ALL", "reset"].includes(kind)).map(([, data]) => data ?? "reset");
    assert.deepEqual(told, [1, 2, 3, "a", "reset", 1, 2, 3, 4, 5, 6, "b"]);
  }
});

test("a tab that has handled nothing yet goes on where it logged in", async () => {
  const shop = new Shop();
  const first = await shop.opened();
  const mute = await shop.opened({ isMute: true });
  dispatch(shop, 1, 3);
  await shop.world.run(100);
  first.kill();
  await shop.world.run(1000);
  dispatch(shop, 4, 5);
  await shop.world.run(1000);
  mute.run(`client.on("USER", take("USER"))`);
  await shop.world.run(1000);
  assert.deepEqual(given(mute), count(1, 5));
});

test("a tab that reloads with its positions misses nothing", async () => {
  const shop = new Shop();
  await shop.opened();
  const storage = new Map<string, string>();
  const before = await shop.opened({ isKept: true, storage });
  dispatch(shop, 1, 3);
  await shop.world.run(100);
  before.close();
  dispatch(shop, 4, 6);
  await shop.world.run(1500);
  const after = await shop.opened({ isKept: true, storage });
  await shop.world.run(100);
  assert.deepEqual(given(after), [4, 5, 6]);
});

test("a leader that reloads behind the others goes on where it was, and they miss nothing", async () => {
  const shop = new Shop();
  shop.server.isKeeping = true;
  const storage = new Map<string, string>();
  const leader = await shop.opened({ isKept: true, storage, slowness: (n) => (n == 2 ? 10_000 : 0) });
  const other = await shop.opened({ isKept: true });
  dispatch(shop, 1, 3);
  shop.server.announce("a");
  await shop.world.run(2500);
  leader.close();
  await shop.world.run(500);
  const after = await shop.opened({ isKept: true, storage });
  dispatch(shop, 4, 5);
  await shop.world.run(5000);
  assert.deepEqual(given(after), count(2, 5));
  assert.deepEqual(given(other), count(1, 5));
  for (const tab of [after, other]) {
    assert.deepEqual(given(tab, "ALL"), ["a"]);
    assert.deepEqual([...given(tab, "reset"), ...given(tab, "lost")], []);
  }
  assert.equal(shop.server.connections.size, 1);
});

test("a tab that comes back from an epoch that the others have not seen goes on where it was, and they miss nothing", async () => {
  const shop = new Shop();
  shop.server.isKeeping = true;
  const storage = new Map<string, string>();
  const before = await shop.opened({ isKept: true, storage });
  dispatch(shop, 1, 3);
  shop.server.announce("a");
  await shop.world.run(2500);
  before.close();
  dispatch(shop, 4, 5);
  shop.server.fork();
  const others = [await shop.opened(), await shop.opened()];
  shop.server.announce("b");
  dispatch(shop, 6, 7);
  await shop.world.run(2500);
  const after = await shop.opened({ isKept: true, storage });
  dispatch(shop, 8, 9);
  await shop.world.run(5000);
  assert.deepEqual([given(after), given(after, "ALL"), given(after, "forked").length], [count(4, 9), ["b"], 1]);
  for (const [tab, first] of [[others[0]!, 4], [others[1]!, 6]] as const)
    assert.deepEqual([given(tab), given(tab, "ALL"), given(tab, "forked")], [count(first, 9), ["b"], []]);
  for (const tab of [after, ...others]) assert.deepEqual([...given(tab, "reset"), ...given(tab, "lost")], []);
});

test("a tab with a position that the server does not know is told so, and the others go on", async () => {
  const [shop, ...tabs] = await threeTabs();
  const storage = new Map([["mesa", JSON.stringify({ e: "unknown", s: 7 })]]);
  const late = await shop.opened({ isKept: true, storage });
  await shop.world.run(5000);
  dispatch(shop, 1, 3);
  await shop.world.run(100);
  assert.equal(given(late, "reset").length, 1);
  for (const tab of [late, ...tabs]) assert.deepEqual(given(tab), [1, 2, 3]);
  for (const tab of tabs) assert.deepEqual(given(tab, "reset"), []);
  assert.ok(shop.server.attempts <= 2, `${shop.server.attempts} connections`);
});

test("a server of wire 1 works, without positions", async () => {
  const shop = new Shop();
  shop.server.version = 1;
  shop.server.hello = { v: undefined };
  const tabs = [await shop.opened(), await shop.opened()];
  shop.server.mention("n");
  await shop.world.run(100);
  for (const tab of tabs) assert.deepEqual(given(tab, "NOW"), ["n"]);
  const sent = tabs[1]!.client.send("UP", 1);
  await shop.world.run(100);
  await sent;
  tabs[0]!.kill();
  await shop.world.run(1000);
  assert.equal(tabs[1]!.client.state, "open");
});

test("a client that closes leaves the others alone, and the last one closes the connection", async () => {
  const [shop, ...tabs] = await threeTabs();
  for (const [n, tab] of tabs.entries()) {
    const closed = tab.client.close();
    await shop.world.run(1000);
    await closed;
    assert.equal(shop.server.connections.size, n < 2 ? 1 : 0);
    for (const other of tabs.slice(n + 1)) assert.equal(other.client.state, "open");
  }
  assert.deepEqual([...shop.world.locks.values()].flat(), []);
});

test("without Web Locks or BroadcastChannel it is a plain client, and says so once", async () => {
  const shop = new Shop();
  const page = shop.open({}, { BroadcastChannel: undefined });
  page.run(`new Mesa.SharedClient("ws://server/ws")`);
  await shop.world.until(() => page.client.state == "open");
  shop.server.dispatch(1);
  await shop.world.run(100);
  assert.deepEqual(given(page), [1]);
  assert.equal(given(page, "warn").length, 1);
});

test("it always comes back", () => {
  assert.throws(() => new Shop().open({ client: { reconnect: false } }), { code: "invalid" });
});

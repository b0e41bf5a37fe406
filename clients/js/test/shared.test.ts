/** Promises to a tab with a shared client, one by one; `storm.test.ts` checks all of them at once. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { count, given, TabSite } from "./tabs/tab-site.js";
import { type Page } from "./tabs/fake-browser.js";

async function threeTabs(site = new TabSite()): Promise<[TabSite, Page, Page, Page]> {
  return [site, await site.opened(), await site.opened(), await site.opened()];
}

const dispatch = (site: TabSite, first: number, last: number) => count(first, last).forEach((n) => site.server.dispatch(n));

test("all tabs share one connection and get every message", async () => {
  const [site, ...tabs] = await threeTabs();
  dispatch(site, 1, 5);
  site.server.announce("a");
  site.server.mention("n");
  await site.browser.run(100);
  assert.equal(site.server.attempts, 1);
  for (const tab of tabs) {
    assert.deepEqual(given(tab), count(1, 5));
    assert.deepEqual(given(tab, "ALL"), ["a"]);
    assert.deepEqual(given(tab, "NOW"), ["n"]);
    assert.equal(tab.client.user.id, "u");
  }
});

test("another address or key is another connection", async () => {
  const site = new TabSite();
  await site.opened();
  await site.opened({ client: { key: "other" } });
  assert.equal(site.server.connections.size, 2);
});

test("exactly the messages that all tabs have handled are acknowledged", async () => {
  const site = new TabSite();
  await site.opened();
  const slow = await site.opened({ slowness: (n) => (n == 3 ? 20_000 : 0) });
  dispatch(site, 1, 5);
  await site.browser.run(10_000);
  assert.equal(site.server.acknowledged, 2);
  slow.kill();
  await site.browser.run(100);
  assert.equal(site.server.acknowledged, 5);
});

test("a tab that reloads is waited for with acknowledgements of what it missed", async () => {
  const site = new TabSite();
  await site.opened();
  const storage = new Map<string, string>();
  const before = await site.opened({ isKept: true, storage });
  dispatch(site, 1, 3);
  await site.browser.run(2500);
  before.close();
  dispatch(site, 4, 6);
  await site.browser.run(50);
  const after = await site.opened({ isKept: true, storage, slowness: (n) => (n == 4 ? 10_000 : 0) });
  await site.browser.run(5000);
  assert.equal(site.server.acknowledged, 3);
  await site.browser.run(10_000);
  assert.equal(site.server.acknowledged, 6);
  assert.deepEqual(given(after), [4, 5, 6]);
});

test("nothing is acknowledged in an epoch that a tab has not come to", async () => {
  const site = new TabSite();
  await site.opened();
  const slow = await site.opened({ slowness: (n) => (n == 6 ? 20_000 : 0) });
  dispatch(site, 1, 6);
  await site.browser.run(5000);
  assert.equal(site.server.acknowledged, 5);
  site.server.empty();
  dispatch(site, 11, 13);
  await site.browser.run(10_000);
  assert.equal(site.server.acknowledged, 0);
  await site.browser.run(10_000);
  assert.equal(site.server.acknowledged, 3);
  assert.deepEqual(given(slow), [...count(1, 6), 11, 12, 13]);
});

test("a tab that opens begins where the others are", async () => {
  const site = new TabSite();
  await site.opened();
  dispatch(site, 1, 3);
  await site.browser.run(2000);
  const late = await site.opened();
  dispatch(site, 4, 5);
  await site.browser.run(100);
  assert.deepEqual(given(late), [4, 5]);
});

for (const how of ["close", "kill", "freeze"] as const)
  test(`nothing is lost or doubled when the leader is gone by ${how}`, async () => {
    const [site, leader, ...others] = await threeTabs();
    dispatch(site, 1, 3);
    await site.browser.run(3);
    leader[how]();
    dispatch(site, 4, 6);
    await site.browser.run(30_000);
    dispatch(site, 7, 9);
    await site.browser.run(100);
    for (const tab of others) {
      assert.deepEqual(given(tab), count(1, 9));
      assert.equal(tab.client.state, "open");
    }
    assert.equal(site.server.connections.size, how == "freeze" ? 2 : 1);
    if (how != "freeze") return;
    leader.thaw();
    await site.browser.run(1000);
    assert.deepEqual(given(leader), count(1, 9));
    assert.equal(site.server.connections.size, 1);
  });

test("a tab that takes over connects at once", async () => {
  const [site, leader, next] = await threeTabs();
  leader.kill();
  await site.browser.run(200);
  assert.equal(next.client.state, "open");
});

test("a tab that was frozen catches up when it wakes", async () => {
  const [site, , tab] = await threeTabs();
  tab.freeze();
  dispatch(site, 1, 500);
  for (const n of count(1, 5)) site.server.mention(n);
  await site.browser.run(5000);
  tab.thaw();
  await site.browser.run(20_000);
  assert.deepEqual(given(tab), count(1, 500));
  assert.deepEqual(given(tab, "NOW"), count(1, 5));
  assert.deepEqual(given(tab, "reset"), []);
});

test("a frozen tab does not stall the others, and learns when they went on without it", async () => {
  const [site, leader, tab] = await threeTabs();
  tab.freeze();
  for (let n = 1; n <= 10_000; n += 100) {
    dispatch(site, n, n + 99);
    await site.browser.run(1000);
  }
  await site.browser.run(5000);
  assert.deepEqual(given(leader), count(1, 10_000));
  tab.thaw();
  await site.browser.run(20_000);
  const lost = given(tab, "lost").reduce((sum, each) => sum + each, 0);
  assert.ok(lost > 0);
  assert.deepEqual(given(tab), count(lost + 1, 10_000));
  dispatch(site, 10_001, 10_003);
  await site.browser.run(1000);
  for (const each of [leader, tab]) {
    assert.deepEqual(given(each).slice(-3), count(10_001, 10_003));
    assert.equal(given(each, "reset").length, 0);
  }
});

test("a frozen tab does not keep back acknowledgements for ever", async () => {
  const [site, , tab] = await threeTabs();
  tab.freeze();
  dispatch(site, 1, 3);
  await site.browser.run(60_000);
  assert.equal(site.server.acknowledged, 3);
  tab.thaw();
  await site.browser.run(20_000);
  assert.deepEqual(given(tab), count(1, 3));
});

test("a handler that is stuck does not stall the other tabs, and its own tab misses nothing", async () => {
  const site = new TabSite();
  const quick = await site.opened();
  const stuck = await site.opened({ slowness: (n) => (n == 1 ? 60_000 : 0) });
  for (let n = 1; n <= 6000; n += 100) {
    dispatch(site, n, n + 99);
    await site.browser.run(500);
  }
  assert.deepEqual(given(quick), count(1, 6000));
  await site.browser.run(60_000);
  assert.deepEqual(given(stuck), count(1, 6000));
});

test("the messages that wait for a stuck handler are bounded", async () => {
  const site = new TabSite();
  await site.opened();
  const stuck = await site.opened({ slowness: (n) => (n == 1 ? 600_000 : 0) });
  for (let n = 1; n <= 8000; n += 100) {
    dispatch(site, n, n + 99);
    await site.browser.run(500);
  }
  const waiting = stuck.client._inbox._waiting.length;
  assert.ok(waiting > 3000 && waiting <= 4500, `${waiting} messages wait`);
});

test("a page in the cache of its browser gives the lead away, and catches up when it is shown", async () => {
  const [site, leader, tab] = await threeTabs();
  leader.fire("pagehide", { persisted: true });
  leader.freeze();
  await site.browser.run(1000);
  dispatch(site, 1, 3);
  await site.browser.run(1000);
  assert.deepEqual(given(tab), [1, 2, 3]);
  assert.equal(site.server.connections.size, 1);
  leader.thaw();
  leader.fire("pageshow", { persisted: true });
  await site.browser.run(1000);
  assert.deepEqual(given(leader), [1, 2, 3]);
});

test("messages of a tab go through the leader, in order, and resolve when they are written", async () => {
  const [site, , tab] = await threeTabs();
  const sent = count(1, 5).map((n) => tab.client.send("UP", n));
  await site.browser.run(100);
  await Promise.all(sent);
  assert.deepEqual(site.server.received, count(1, 5));
});

test("messages that the leader did not write before its death are written by the next one", async () => {
  const [site, leader, tab] = await threeTabs();
  leader.freeze();
  const sent = tab.client.send("UP", 1);
  await site.browser.run(1000);
  leader.kill();
  await site.browser.run(1000);
  await sent;
  assert.deepEqual(site.server.received, [1]);
});

test("more messages than may wait are refused, and those of a client that ends", async () => {
  const site = new TabSite();
  const leader = await site.opened();
  const tab = await site.opened({ client: { queueSize: 2 } });
  leader.freeze();
  const sent = [1, 2].map((n) => tab.client.send("UP", n));
  await site.browser.run(10);
  await assert.rejects(tab.client.send("UP", 3), { code: "queue_full" });
  const closed = tab.client.close();
  const outcome = Promise.allSettled(sent);
  await site.browser.run(3000);
  await closed;
  for (const { status, reason } of (await outcome) as any[]) assert.deepEqual([status, reason.code], ["rejected", "closed"]);
});

test("a request is answered to the tab that asked", async () => {
  const [site, ...tabs] = await threeTabs();
  const answers = tabs.map((tab, n) => tab.client.request("ECHO", n));
  await site.browser.run(100);
  assert.deepEqual(await Promise.all(answers), [0, 1, 2]);
});

test("a request that the leader dies over fails, and is not sent again", async () => {
  const [site, leader, tab] = await threeTabs();
  const answer = assert.rejects(tab.client.request("ECHO", 1), { code: "closed" });
  leader.freeze();
  leader.kill();
  await site.browser.run(1000);
  await answer;
  assert.deepEqual(site.server.requests, []);
});

test("a request of the server is answered by one tab with a handler", async () => {
  const [site, , tab, other] = await threeTabs();
  for (const each of [tab, other])
    each.run(`page.client.onRequest("ASK", (data) => { page.log.push(["asked", data]); return data + 1 })`);
  for (const connection of site.server.connections) {
    connection.write({ op: 0, d: 1, t: "ASK", x: { r: "a" } });
    connection.write({ op: 0, d: 1, t: "OTHER", x: { r: "b" } });
  }
  await site.browser.run(100);
  assert.deepEqual(site.server.answers.map(({ d, x }) => [d, x.a, x.error?.code]), [[2, "a", undefined], [null, "b", "unanswered"]]);
  assert.equal(given(tab, "asked").length + given(other, "asked").length, 1);
});

test("every tab reports a lost connection, and comes back", async () => {
  const [site, ...tabs] = await threeTabs();
  site.server.cut();
  site.server.isDown = true;
  await site.browser.run(100);
  for (const tab of tabs) assert.equal(tab.client.state, "connecting");
  dispatch(site, 1, 3);
  await site.browser.run(5000);
  site.server.isDown = false;
  await site.browser.run(6000);
  for (const tab of tabs) {
    assert.equal(tab.client.state, "open");
    assert.deepEqual(given(tab), [1, 2, 3]);
  }
  assert.ok(site.server.attempts < 10, `${site.server.attempts} attempts`);
});

test("a server that has gone silent is noticed by any tab", async () => {
  const [site, , tab] = await threeTabs();
  site.server.isSilent = true;
  tab.fire("online");
  await site.browser.run(5100);
  site.server.isSilent = false;
  await site.browser.run(2000);
  assert.equal(site.server.attempts, 2);
  assert.equal(tab.client.state, "open");
});

test("a refused token ends the clients of all tabs, with the reason", async () => {
  const [site, ...tabs] = await threeTabs();
  site.server.token = "another";
  site.server.cut();
  await site.browser.run(60_000);
  for (const tab of tabs) {
    assert.equal(tab.client.state, "closed");
    assert.equal((await tab.client.closed).error.code, "refused");
  }
  assert.ok(site.server.logins <= 3 + 3 * 3, `${site.server.logins} logins`);
});

test("a fork is reported once to each tab, and loses nothing", async () => {
  const [site, ...tabs] = await threeTabs();
  dispatch(site, 1, 3);
  await site.browser.run(2);
  site.server.fork();
  dispatch(site, 4, 6);
  await site.browser.run(5);
  tabs[0]!.kill();
  await site.browser.run(3000);
  for (const tab of tabs.slice(1)) {
    assert.deepEqual(given(tab), count(1, 6));
    assert.equal(given(tab, "forked").length, 1);
  }
});

for (const next of ["quick", "slow"])
  test(`a slow tab that has not handled the last of an epoch misses nothing when the leader dies and a ${next} one leads`, async () => {
    const site = new TabSite();
    const leader = await site.opened();
    const slowness = (n: unknown) => (n == 2 ? 5000 : 0);
    const tabs = [await site.opened(next == "slow" ? { slowness } : {}), await site.opened(next == "quick" ? { slowness } : {})];
    dispatch(site, 1, 3);
    site.server.fork();
    dispatch(site, 4, 6);
    await site.browser.run(1000);
    leader.kill();
    await site.browser.run(10_000);
    for (const tab of tabs) {
      assert.deepEqual(given(tab), count(1, 6));
      assert.deepEqual(given(tab, "reset"), []);
    }
    assert.equal(site.server.attempts, 2, "it connects once, from where all of them can go on");
  });

test("a tab that reloads into another epoch misses nothing when the leader dies before it has handled that", async () => {
  const site = new TabSite();
  const storage = new Map<string, string>();
  const before = await site.opened({ isKept: true, storage });
  dispatch(site, 1, 3);
  await site.browser.run(100);
  before.close();
  site.server.fork();
  dispatch(site, 4, 6);
  const leader = await site.opened({ isKept: true, storage: new Map(storage) });
  await site.opened();
  const slow = await site.opened({ isKept: true, storage, slowness: () => 1000 });
  leader.kill();
  await site.browser.run(20_000);
  assert.deepEqual(given(slow), count(4, 6));
  assert.deepEqual(given(slow, "reset"), []);
});

test("a server that has forgotten all positions resets each tab once, after the messages that it missed before", async () => {
  const [site, ...tabs] = await threeTabs();
  const frozen = tabs[2]!;
  frozen.freeze();
  dispatch(site, 1, 3);
  site.server.announce("a");
  await site.browser.run(2000);
  site.server.forget();
  await site.browser.run(5000);
  dispatch(site, 4, 6);
  site.server.announce("b");
  frozen.thaw();
  await site.browser.run(20_000);
  for (const tab of tabs) {
    const told = tab.log.filter(([kind]) => ["USER", "ALL", "reset"].includes(kind)).map(([, data]) => data ?? "reset");
    assert.deepEqual(told, [1, 2, 3, "a", "reset", 1, 2, 3, 4, 5, 6, "b"]);
  }
});

test("a tab that has handled nothing yet goes on where it logged in", async () => {
  const site = new TabSite();
  const first = await site.opened();
  const mute = await site.opened({ isMute: true });
  dispatch(site, 1, 3);
  await site.browser.run(100);
  first.kill();
  await site.browser.run(1000);
  dispatch(site, 4, 5);
  await site.browser.run(1000);
  mute.run(`client.on("USER", take("USER"))`);
  await site.browser.run(1000);
  assert.deepEqual(given(mute), count(1, 5));
});

test("a tab that reloads with its positions misses nothing", async () => {
  const site = new TabSite();
  await site.opened();
  const storage = new Map<string, string>();
  const before = await site.opened({ isKept: true, storage });
  dispatch(site, 1, 3);
  await site.browser.run(100);
  before.close();
  dispatch(site, 4, 6);
  await site.browser.run(1500);
  const after = await site.opened({ isKept: true, storage });
  await site.browser.run(100);
  assert.deepEqual(given(after), [4, 5, 6]);
});

test("a leader that reloads behind the others goes on where it was, and they miss nothing", async () => {
  const site = new TabSite();
  site.server.isKeeping = true;
  const storage = new Map<string, string>();
  const leader = await site.opened({ isKept: true, storage, slowness: (n) => (n == 2 ? 10_000 : 0) });
  const other = await site.opened({ isKept: true });
  dispatch(site, 1, 3);
  site.server.announce("a");
  await site.browser.run(2500);
  leader.close();
  await site.browser.run(500);
  const after = await site.opened({ isKept: true, storage });
  dispatch(site, 4, 5);
  await site.browser.run(5000);
  assert.deepEqual(given(after), count(2, 5));
  assert.deepEqual(given(other), count(1, 5));
  for (const tab of [after, other]) {
    assert.deepEqual(given(tab, "ALL"), ["a"]);
    assert.deepEqual([...given(tab, "reset"), ...given(tab, "lost")], []);
  }
  assert.equal(site.server.connections.size, 1);
});

test("a tab that comes back from an epoch that the others have not seen goes on where it was, and they miss nothing", async () => {
  const site = new TabSite();
  site.server.isKeeping = true;
  const storage = new Map<string, string>();
  const before = await site.opened({ isKept: true, storage });
  dispatch(site, 1, 3);
  site.server.announce("a");
  await site.browser.run(2500);
  before.close();
  dispatch(site, 4, 5);
  site.server.fork();
  const others = [await site.opened(), await site.opened()];
  site.server.announce("b");
  dispatch(site, 6, 7);
  await site.browser.run(2500);
  const after = await site.opened({ isKept: true, storage });
  dispatch(site, 8, 9);
  await site.browser.run(5000);
  assert.deepEqual([given(after), given(after, "ALL"), given(after, "forked").length], [count(4, 9), ["b"], 1]);
  for (const [tab, first] of [[others[0]!, 4], [others[1]!, 6]] as const)
    assert.deepEqual([given(tab), given(tab, "ALL"), given(tab, "forked")], [count(first, 9), ["b"], []]);
  for (const tab of [after, ...others]) assert.deepEqual([...given(tab, "reset"), ...given(tab, "lost")], []);
});

test("a tab with a position that the server does not know gets a reset, and the others go on", async () => {
  const [site, ...tabs] = await threeTabs();
  const storage = new Map([["mesa", JSON.stringify({ e: "unknown", s: 7 })]]);
  const late = await site.opened({ isKept: true, storage });
  await site.browser.run(5000);
  dispatch(site, 1, 3);
  await site.browser.run(100);
  assert.equal(given(late, "reset").length, 1);
  for (const tab of [late, ...tabs]) assert.deepEqual(given(tab), [1, 2, 3]);
  for (const tab of tabs) assert.deepEqual(given(tab, "reset"), []);
  assert.ok(site.server.attempts <= 2, `${site.server.attempts} connections`);
});

test("a server of wire 1 works, without positions", async () => {
  const site = new TabSite();
  site.server.version = 1;
  site.server.hello = { v: undefined };
  const tabs = [await site.opened(), await site.opened()];
  site.server.mention("n");
  await site.browser.run(100);
  for (const tab of tabs) assert.deepEqual(given(tab, "NOW"), ["n"]);
  const sent = tabs[1]!.client.send("UP", 1);
  await site.browser.run(100);
  await sent;
  tabs[0]!.kill();
  await site.browser.run(1000);
  assert.equal(tabs[1]!.client.state, "open");
});

test("a client that closes leaves the others alone, and the last one closes the connection", async () => {
  const [site, ...tabs] = await threeTabs();
  for (const [n, tab] of tabs.entries()) {
    const closed = tab.client.close();
    await site.browser.run(1000);
    await closed;
    assert.equal(site.server.connections.size, n < 2 ? 1 : 0);
    for (const other of tabs.slice(n + 1)) assert.equal(other.client.state, "open");
  }
  assert.deepEqual([...site.browser.locks.values()].flat(), []);
});

test("without Web Locks or BroadcastChannel it is a plain client, and says so once", async () => {
  const site = new TabSite();
  const page = site.open({}, { BroadcastChannel: undefined });
  page.run(`new Mesa.SharedClient("ws://server/ws")`);
  await site.browser.until(() => page.client.state == "open");
  site.server.dispatch(1);
  await site.browser.run(100);
  assert.deepEqual(given(page), [1]);
  assert.equal(given(page, "warn").length, 1);
});

test("it always comes back", () => {
  assert.throws(() => new TabSite().open({ client: { reconnect: false } }), { code: "invalid" });
});

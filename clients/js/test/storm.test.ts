/**
 * Tabs that open, close, reload, die and freeze at random, under a server that goes and comes back; afterwards every
 * living tab has received every message once and in order, except for reported losses.
 *
 * `MESA_TABS=1000:2000` runs these seeds.
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import { given, TabSite } from "./tabs/tab-site.js";
import { type Page } from "./tabs/fake-browser.js";

const [FIRST = 1, LAST = 40] = (process.env.MESA_TABS ?? "").split(":").filter(Boolean).map(Number);

interface Tab {
  page: Page;
  wasFrozen: boolean;
  /** Numbers dispatched before the tab was first usable; undefined until then. */
  since: number[] | undefined;
  storage: Map<string, string> | undefined;
  /** Numbers that the previous page received, after a reload. */
  before: Record<string, number> | undefined;
  sent: number;
  written: number[];
}

class Storm {
  site: TabSite;
  tabs: Tab[] = [];
  gone: Tab[] = [];
  sends = 0;
  mentions = 0;
  forkedAt = 0;

  constructor(readonly seed: number) {
    this.site = new TabSite(seed);
    this.site.server.isKeeping = seed % 2 == 0;
    this.site.server.onAcknowledged = (number) => this.checkAcknowledged(number);
  }

  async run(steps: number): Promise<void> {
    const { browser, server } = this.site;
    this.open();
    for (let step = 0; step < steps; step++) {
      await this.step();
      await browser.run(browser.random() < 0.3 ? browser.random() * 5 : browser.random() * 400);
    }
    server.isDown = false;
    for (const { page } of this.tabs) page.thaw();
    if (!this.tabs.length) this.open();
    await browser.run(40_000);
    this.dispatch();
    await browser.run(40_000);
    this.check();
  }

  private async step(): Promise<void> {
    const { site, tabs } = this;
    const { server, browser } = site;
    const any = tabs[Math.floor(browser.random() * tabs.length)];
    const dice = browser.random();
    if (dice < 0.45 || !any) this.dispatch();
    else if (dice < 0.55) this.send(any);
    else if (dice < 0.66 && tabs.length < 5) this.open();
    else if (dice < 0.72) this.end(any, "close");
    else if (dice < 0.76) this.end(any, "kill");
    else if (dice < 0.81) await this.endLeader();
    else if (dice < 0.85) this.reload(any);
    else if (dice < 0.89 && !any.page.isFrozen) {
      any.wasFrozen = true;
      any.page.freeze();
    } else if (dice < 0.94) tabs.forEach(({ page }) => page.thaw());
    else if (dice < 0.96) server.cut(browser.random() < 0.5 ? 1006 : 1001);
    else if (dice < 0.98) {
      server.isDown = !server.isDown;
      server.cut();
    } else if (browser.now - this.forkedAt > 5000) {
      // Two forks, before a slow tab has handled the messages before the first, are reported as a reset.
      this.forkedAt = browser.now;
      server.fork();
    }
    if (!tabs.length) this.open();
  }

  private dispatch(): void {
    const { server, browser } = this.site;
    for (let n = Math.ceil(browser.random() * 5); n; n--) {
      const dice = browser.random();
      if (dice < 0.6) server.dispatch(server.end + 1);
      else if (dice < 0.8) server.announce(server.everybodyEnd + 1);
      else server.mention(++this.mentions);
    }
  }

  private open(storage?: Map<string, string>, before?: Record<string, number>): void {
    const { browser, server } = this.site;
    const isKept = browser.random() < 0.5;
    storage ??= isKept ? new Map() : undefined;
    const page = this.site.open({ ...(storage && { storage, isKept: true }), slowness: this.slowness() });
    const tab: Tab = { page, wasFrozen: false, since: undefined, storage, before, sent: 0, written: [] };
    page.client.onStateChange((state: string) => {
      if (state == "open") tab.since ??= [server.end, server.everybodyEnd];
    });
    this.tabs.push(tab);
  }

  /** Some tabs are slow; some are stuck for longer than the others wait with acknowledgements. */
  private slowness(): () => number {
    const { browser } = this.site;
    const dice = browser.random();
    if (dice < 0.3) return () => browser.random() * 300;
    let next = dice < 0.6 ? 0 : Infinity;
    return () => {
      if (browser.now < next) return 0;
      next = browser.now + 5000;
      return 2500;
    };
  }

  private send(tab: Tab): void {
    const number = ++this.sends;
    tab.sent++;
    tab.page.client.send("UP", number).then(
      () => tab.written.push(number),
      () => {},
    );
  }

  private end(tab: Tab, how: "close" | "kill"): void {
    this.tabs.splice(this.tabs.indexOf(tab), 1);
    this.gone.push(tab);
    tab.page[how]();
  }

  /** End the leader while tabs send and receive messages. */
  private async endLeader(): Promise<void> {
    const { browser, leader } = this.site;
    const tab = this.tabs.find(({ page }) => page == leader);
    if (!tab) return;
    this.dispatch();
    for (const each of [...this.tabs, ...this.tabs]) this.send(each);
    await browser.run(browser.random() * 10);
    this.end(tab, browser.random() < 0.5 ? "close" : "kill");
  }

  private reload(tab: Tab): void {
    if (tab.page.isFrozen) return;
    this.end(tab, "close");
    const last = (kind: string) => given(tab.page, kind).pop() ?? tab.before?.[kind] ?? -1;
    const before = { USER: last("USER"), ALL: last("ALL") };
    // A page that reloads in the middle of a handler has not handled the message; a number that no page received is a hole.
    this.open(tab.storage, tab.storage && tab.since && before);
  }

  check(): void {
    const { server } = this.site;
    assert.equal(server.connections.size, 1, "there is one connection");
    for (const tab of [...this.tabs, ...this.gone]) {
      const isAlive = tab.page.isAlive;
      this.checkNumbers(tab, "USER", 0, isAlive ? server.end : undefined);
      this.checkNumbers(tab, "ALL", 1, isAlive ? server.everybodyEnd : undefined);
      if (!tab.wasFrozen) {
        const mentions = given(tab.page, "NOW");
        mentions.slice(1).forEach((n, index) => assert.ok(n > mentions[index]!, `unstored ${n} after ${mentions[index]}`));
        if (!tab.before || server.isKeeping) assert.deepEqual([...given(tab.page, "reset"), ...given(tab.page, "lost")], [], "nothing is missing");
      }
      if (isAlive) {
        assert.equal(tab.page.client.state, "open");
        assert.equal(tab.written.length, tab.sent, "every message is written");
      }
      const isThere = (number: number) => server.received.includes(number);
      for (const number of tab.written) assert.ok(isThere(number) || server.dropped.includes(number), `${number} was written`);
      const first = tab.written.filter(isThere).map((number) => server.received.indexOf(number));
      first.slice(1).forEach((place, index) => assert.ok(place > first[index]!, "what is sent keeps its order"));
    }
  }

  /** Assert that all tabs but frozen ones have handled the acknowledged messages. */
  private checkAcknowledged(number: number): void {
    for (const { page, wasFrozen, since, before } of this.tabs) {
      const handled = given(page).pop() ?? (before ? undefined : since?.[0]);
      if (!wasFrozen && handled !== undefined) assert.ok(number <= handled, `${number} is acknowledged after ${handled}`);
    }
  }

  private checkNumbers({ page, since, before }: Tab, kind: "USER" | "ALL", index: number, last: number | undefined): void {
    let next: number | undefined = before && before[kind] >= 0 ? before[kind] + 1 : undefined;
    let isTold = false;
    for (const [each, number] of page.log) {
      if (each == "reset" || each == "lost") isTold = true;
      if (each != kind) continue;
      if (next === undefined) assert.ok(isTold || !since || number <= since[index]! + 1, `${kind} begins with ${number}, ${since}`);
      else if (!isTold) assert.equal(number, next, `${kind} ${number} where ${next} is due`);
      isTold = false;
      next = number + 1;
    }
    if (last !== undefined && (next !== undefined || last > since![index]!) && !isTold)
      assert.equal(next, last + 1, `${kind} ends early`);
  }
}

for (let seed = FIRST; seed <= LAST; seed++)
  test(`storm ${seed}`, async () => {
    const storm = new Storm(seed);
    await storm.run(120);
  });

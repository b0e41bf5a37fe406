/**
 * A fake browser with a clock of its own: tabs, locks, channels, sockets and timers that a test can stop, lose
 * and reorder as browsers do. Each tab runs the built script in a global object of its own.
 */

import { readFileSync } from "node:fs";
import { createContext, Script } from "node:vm";
import { type Server } from "./server.js";

const script = new Script(readFileSync(new URL("../tab.js", import.meta.url), "utf8"));

type Then = () => void;
interface Task {
  at: number;
  order: number;
  page: Page | undefined;
  then: Then;
}

/** Return a random number generator that yields the same numbers for the same seed. */
export function seeded(seed: number): () => number {
  let state = seed * 2654435761 + 1;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

/** Wait until promises have settled. */
const settle = () => new Promise<void>((then) => setImmediate(then));

export class FakeBrowser {
  now = 1_000_000;
  random: () => number;
  pages = new Set<Page>();
  locks = new Map<string, Lock[]>();
  private _tasks: Task[] = [];
  private _order = 0;

  constructor(seed = 1) {
    this.random = seeded(seed);
  }

  /** Call a function later, in a page or, without one, in the browser. */
  at(delay: number, then: Then, page?: Page): Task {
    const task = { at: this.now + delay, order: this._order++, page, then };
    let low = 0;
    let high = this._tasks.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this._tasks[middle]!.at <= task.at) low = middle + 1;
      else high = middle;
    }
    this._tasks.splice(low, 0, task);
    return task;
  }

  cancel(task: Task): void {
    task.then = () => {};
  }

  /** Let time pass. */
  async run(milliseconds: number): Promise<void> {
    const end = this.now + milliseconds;
    await settle();
    while (this._tasks.length && this._tasks[0]!.at <= end) {
      const task = this._tasks.shift()!;
      const { at, page } = task;
      this.now = Math.max(this.now, at);
      if (page && !page.isAlive) continue;
      if (page?.isFrozen) page.deferred.push(task);
      else {
        task.then();
        await settle();
      }
    }
    this.now = end;
  }

  /** Let time pass until a condition holds, or fail. */
  async until(condition: () => boolean, milliseconds = 60_000): Promise<void> {
    for (let passed = 0; !condition(); passed += 20) {
      if (passed > milliseconds) throw new Error(`it did not come true within ${milliseconds} ms: ${condition}`);
      await this.run(20);
    }
  }
}

interface Lock {
  name: string;
  page: Page;
  isHeld: boolean;
  grant: () => void;
  steal: () => void;
}

/** One page in a tab. `storage` outlives it where the tab reloads. */
export class Page {
  isAlive = true;
  isFrozen = false;
  deferred: Task[] = [];
  channels = new Set<Channel>();
  sockets = new Set<{ cut: Then }>();
  arrivals = new Map<Channel, number>();
  log: [string, any, any?][] = [];
  client: any;
  private _listeners: [string, (event: object) => void][] = [];

  constructor(
    readonly browser: FakeBrowser,
    readonly server: Server,
    readonly storage: Map<string, string> = new Map(),
    globals: object = {},
  ) {
    browser.pages.add(this);
    const page = this;
    const timers = new Map<number, Task>();
    let timer = 0;
    const time = { now: () => browser.now };
    const context = createContext({
      console: { warn: (...texts: string[]) => this.log.push(["warn", texts.join(" ")]), error: console.error },
      setTimeout: (then: Then, delay = 0) => (timers.set(++timer, browser.at(Math.max(delay, 1), then, this)), timer),
      clearTimeout: (id: number) => timers.has(id) && browser.cancel(timers.get(id)!),
      navigator: { locks: locksOf(page) },
      BroadcastChannel: class extends Channel {
        constructor(name: string) {
          super(page, name);
        }
      },
      WebSocket: class {
        constructor(url: string) {
          return server.connect(page, url);
        }
      },
      sessionStorage: {
        getItem: (key: string) => storage.get(key) ?? null,
        setItem: (key: string, value: string) => void storage.set(key, value),
      },
      AbortController,
      addEventListener: (name: string, then: (event: object) => void) => this._listeners.push([name, then]),
      removeEventListener: (name: string, then: unknown) =>
        (this._listeners = this._listeners.filter(([n, t]) => n != name || t != then)),
      document: { visibilityState: "hidden", addEventListener: () => {}, removeEventListener: () => {} },
      time,
      random: browser.random,
      page,
      ...globals,
    });
    new Script("Date.now = time.now; Math.random = random").runInContext(context);
    script.runInContext(context);
    this.client = undefined;
    this._run = (text) => new Script(text).runInContext(context);
  }

  private _run: (text: string) => any;

  /** Run a piece of script in the page; it sees `Mesa` and `page`. */
  run(text: string): any {
    return this._run(text);
  }

  /** Dispatch an event to the page. */
  fire(type: string, members: object = {}): void {
    for (const [name, then] of [...this._listeners]) if (name == type) then({ type, ...members });
  }

  /** Kill the process of the page; its last messages may be lost. */
  kill(): void {
    this.isAlive = false;
    this.browser.pages.delete(this);
    for (const channel of this.channels) channel.close();
    for (const socket of this.sockets) socket.cut();
    for (const [name, locks] of this.browser.locks) release(this.browser, name, locks, (lock) => lock.page == this);
  }

  /** Close or reload the page. */
  close(): void {
    this.fire("pagehide", { persisted: false });
    this.kill();
  }

  freeze(): void {
    this.isFrozen = true;
  }

  thaw(): void {
    this.isFrozen = false;
    for (const task of this.deferred.splice(0)) this.browser.at(0, () => task.then(), this);
  }
}

/** Channels lose messages to a frozen page at random, and the last messages of a dead page. */
class Channel {
  onmessage: ((event: { data: unknown }) => void) | null = null;
  isOpen = true;

  constructor(
    private _page: Page,
    private _name: string,
  ) {
    _page.channels.add(this);
  }

  postMessage(message: object): void {
    const { browser } = this._page;
    if (!this.isOpen) throw new Error("the channel is closed");
    const text = JSON.stringify(message);
    for (const page of browser.pages) {
      for (const other of page.channels) {
        if (other == this || other._name != this._name) continue;
        const at = Math.max(browser.now + browser.random() * 3, this._page.arrivals.get(other) ?? 0);
        this._page.arrivals.set(other, at);
        const isHeard = () => this._page.isAlive || browser.random() < 0.5;
        const isLost = page.isFrozen && browser.random() < 0.5;
        if (isLost) continue;
        browser.at(at - browser.now, () => {
          // The messages of a dead page may be lost from some message on.
          if (other.isDeafTo.has(this)) return;
          if (!isHeard()) other.isDeafTo.add(this);
          else if (other.isOpen) other.onmessage?.({ data: JSON.parse(text) });
        }, page);
      }
    }
  }

  isDeafTo = new Set<Channel>();

  close(): void {
    this.isOpen = false;
    this._page.channels.delete(this);
  }
}

function release(browser: FakeBrowser, name: string, locks: Lock[], isGone: (lock: Lock) => boolean): void {
  const left = locks.filter((lock) => !isGone(lock));
  browser.locks.set(name, left);
  const next = left[0];
  if (next && !next.isHeld) {
    next.isHeld = true;
    browser.at(browser.random() * 3, next.grant, next.page);
  }
}

function locksOf(page: Page): object {
  const { browser } = page;
  return {
    query: async () => ({
      held: [...browser.locks.values()].flat().filter((lock) => lock.isHeld).map(({ name }) => ({ name })),
    }),
    request: (name: string, options: any, then: (lock: object | null) => unknown) =>
      new Promise<void>((resolve, reject) => {
        const abort = () => Object.assign(new Error("aborted"), { name: "AbortError" });
        const locks = () => browser.locks.get(name) ?? [];
        if (options.signal?.aborted) return reject(abort());
        const lock: Lock = {
          name,
          page,
          isHeld: false,
          grant: async () => {
            try {
              await then({ name });
              resolve();
            } catch (error) {
              reject(error as Error);
            }
            release(browser, name, locks(), (each) => each == lock);
          },
          steal: () => browser.at(0, () => reject(abort()), page),
        };
        options.signal?.addEventListener("abort", () => {
          if (lock.isHeld) return;
          release(browser, name, locks(), (each) => each == lock);
          reject(abort());
        });
        if (options.steal) {
          for (const held of locks().filter(({ isHeld }) => isHeld)) held.steal();
          browser.locks.set(name, [lock, ...locks().filter(({ isHeld }) => !isHeld)]);
        } else browser.locks.set(name, [...locks(), lock]);
        release(browser, name, locks(), () => false);
      }),
  };
}

/** Store a client's positions longer than its page lives. */

import { type Data } from "./frames.js";
import { type Positions } from "./tracking.js";

export type { Position, Positions } from "./tracking.js";

/**
 * Keeps the positions of one client, up to which its application has handled messages. They are plain JSON.
 *
 * If a method throws, or rejects, the error goes to `onError`; the client continues, but acknowledges only
 * positions that were saved.
 */
export interface PositionStore {
  /** Return the positions that were saved last, or null. Called once, before the client connects. */
  load(): Positions | null | undefined | Promise<Positions | null | undefined>;
  /**
   * Replace the saved positions. They have to be safe when this returns, or resolves, because the client then
   * acknowledges them, and the server may forget the messages. Called once a second or every 64 messages, when
   * the page is hidden or left, and when the client closes.
   */
  save(positions: Positions): void | Promise<void>;
  /** Free the store for another client, because this one has ended. */
  release?(): void;
}

/**
 * Keep the positions in `sessionStorage`: they survive a reload, and each tab has its own.
 *
 * Without such a storage, as in Node or where a browser denies it, they are kept in memory.
 *
 * @param key - where in the storage; name the user in it if several log in with one browser.
 */
export const sessionPositions = (key = "mesa"): PositionStore => kept("sessionStorage", key);

/**
 * Keep the positions in `localStorage`: they survive a restart of the browser.
 *
 * Each open tab is a device of its own, and holds a slot of its own by Web Locks: the first one that is
 * free. Without Web Locks (pages that are not served by HTTPS or from localhost, and old browsers) this is
 * `sessionPositions(key)`, because two tabs with one slot would miss messages.
 *
 * @param key - where in the storage; name the user in it if several log in with one browser.
 */
export function localPositions(key: string): PositionStore {
  const locks = globalThis.navigator?.locks;
  if (!locks) return sessionPositions(key);
  const tab = kept("sessionStorage", `${key}:tab`);
  let store: PositionStore = kept("sessionStorage", key);
  let release: (() => void) | undefined;
  /** Hold the lock of a slot until `release`; return whether the slot was free. */
  const claim = (slot: string) =>
    new Promise<boolean>((resolve, reject) => {
      const hold = (lock: Lock | null) => {
        resolve(!!lock);
        return lock && new Promise<void>((end) => (release = end));
      };
      locks.request(slot, { ifAvailable: true }, hold).catch(reject);
    });
  return {
    async load() {
      // The slot that this tab had before a reload, or else the first one that is free.
      let slot = (await tab.load()) ?? 0;
      for (let next = 0; !(await claim(`${key}:${slot}`)); ) slot = next++;
      await tab.save(slot);
      store = kept("localStorage", `${key}:${slot}`);
      return store.load();
    },
    save: (positions) => store.save(positions),
    release: () => release?.(),
  };
}

/** Return an entry of a storage of the browser, or one in memory if there is no storage. */
function kept(name: "sessionStorage" | "localStorage", key: string): { load(): Data; save(value: Data): void } {
  let memory: Data;
  let storage: Data;
  try {
    storage = globalThis[name];
  } catch {
    // The browser denies it.
  }
  return storage
    ? {
        load: () => JSON.parse(storage.getItem(key)),
        save: (value) => storage.setItem(key, JSON.stringify(value)),
      }
    : {
        load: () => memory,
        save: (value) => {
          memory = value;
        },
      };
}

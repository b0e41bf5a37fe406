/** Keeping a client's positions beyond the life of its page. */

import { type Data } from "./frames.js";
import { type Positions } from "./tracking.js";

export type { Position, Positions } from "./tracking.js";

/**
 * Keeps the positions of one client: which messages its application has handled. They are plain JSON.
 *
 * A method that throws, or rejects, is reported to `onError`; the client then goes on, but acknowledges
 * nothing that was not saved.
 */
export interface PositionStore {
  /** Return what was saved last, null if nothing was. Called once, before the client connects. */
  load(): Positions | null | undefined | Promise<Positions | null | undefined>;
  /**
   * Replace the saved positions. They have to be safe when this returns, or resolves, because the client
   * acknowledges them to the server next, which may forget the messages then. Called once a second or every 64 messages, when
   * the page is hidden or left, and when the client closes.
   */
  save(positions: Positions): void | Promise<void>;
  /** The client has ended, and the place is free for another one. */
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
 * Each open tab is a device of its own, and holds a place of its own by Web Locks: the first one that is
 * free. Without Web Locks (pages that are not served by HTTPS or from localhost, and old browsers) this is
 * `sessionPositions(key)`, because two tabs with one place would miss messages.
 *
 * @param key - where in the storage; name the user in it if several log in with one browser.
 */
export function localPositions(key: string): PositionStore {
  const locks = globalThis.navigator?.locks;
  if (!locks) return sessionPositions(key);
  const tab = kept("sessionStorage", `${key}:tab`);
  let store: PositionStore = kept("sessionStorage", key);
  let release: (() => void) | undefined;
  /** Hold the lock of a place until `release`; whether it was free. */
  const claim = (place: string) =>
    new Promise<boolean>((resolve, reject) => {
      const hold = (lock: Lock | null) => {
        resolve(!!lock);
        return lock && new Promise<void>((end) => (release = end));
      };
      locks.request(place, { ifAvailable: true }, hold).catch(reject);
    });
  return {
    async load() {
      // The place that this tab had before a reload, or else the first one that is free.
      let place = (await tab.load()) ?? 0;
      for (let next = 0; !(await claim(`${key}:${place}`)); ) place = next++;
      await tab.save(place);
      store = kept("localStorage", `${key}:${place}`);
      return store.load();
    },
    save: (positions) => store.save(positions),
    release: () => release?.(),
  };
}

/** A place in a storage of the browser, or in memory where there is none. */
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

/** What a browser tells of its page, where there is one: nothing of this is assumed. */

import { type Data } from "./frames.js";

/**
 * Call `wake` when the page comes back to its user or the network to the page, `leave` when it may be gone.
 *
 * @returns what ends that.
 */
export function watchPage(wake: () => void, leave: () => void): () => void {
  const { document, addEventListener, removeEventListener }: Data = globalThis;
  const listeners = {
    online: wake,
    pageshow: wake,
    pagehide: leave,
    visibilitychange: () => (document.visibilityState == "hidden" ? leave() : wake()),
  };
  const each = (call?: typeof addEventListener) => Object.entries(listeners).forEach((listener) => call?.(...listener));
  each(addEventListener);
  return () => each(removeEventListener);
}

/** The address of a WebSocket: `http` counts as `ws`, and a page may name one relative to itself. */
export function socketAddress(url: string): string {
  const { location }: Data = globalThis;
  const isWhole = /^(ws|http)s?:/i.test(url);
  return (isWhole || !location ? url : new URL(url, location.href).href).replace(/^http/i, "ws");
}

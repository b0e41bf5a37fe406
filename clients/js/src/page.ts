/** The page of a browser, where there is one; every part of it is optional. */

import { type Data } from "./frames.js";

/**
 * Call `wake` when the page is visible or online again, `leave` when it may be about to end.
 *
 * @returns a function that stops watching.
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

/** Return the address of a WebSocket: `http` becomes `ws`, and a page may give one relative to itself. */
export function socketAddress(url: string): string {
  const { location }: Data = globalThis;
  const isWhole = /^(ws|http)s?:/i.test(url);
  return (isWhole || !location ? url : new URL(url, location.href).href).replace(/^http/i, "ws");
}

/** How far the application has come: handled, then saved, then acknowledged, in this order. */

import { later } from "./clock.js";
import { type PositionStore } from "./positions.js";
import { isKnown, NOWHERE, type Positions, readPositions } from "./tracking.js";

/** Seconds from the first message that was handled to the acknowledgement (section 17.6). */
const MAX_WAIT = 1;

/** Messages that are handled before an acknowledgement does not wait any longer. */
const MAX_MESSAGES = 64;

/** Keeps the positions of what was handled, over all connections of a client. */
export type Progress = ReturnType<typeof createProgress>;

/**
 * @param acknowledge - tells the server, if there is one now.
 * @param report - tells the application what its store threw.
 */
export function createProgress(
  store: PositionStore | undefined,
  acknowledge: (positions: Positions) => void,
  report: (error: unknown) => void,
) {
  let handled = NOWHERE;
  let settled = NOWHERE;
  let beginning = NOWHERE; // of the first connection that had one
  let count = 0;
  let stopTimer: (() => void) | undefined;
  let saving: Promise<void> | undefined;

  /** The application has handled everything up to `positions`. */
  function advance(positions: Positions): void {
    if (positions == handled || !isKnown(positions)) return; // what has no number does not move them
    // A connection that ends before another epoch is saved would be told of it again, as a reset perhaps.
    count += positions.e == handled.e && positions.b?.e == handled.b?.e ? 1 : MAX_MESSAGES;
    handled = positions;
    pace();
  }

  function pace(): void {
    if (count >= MAX_MESSAGES) push();
    else if (count) stopTimer ??= later(MAX_WAIT, push);
  }

  /** Save and acknowledge what is new, without waiting for the time to do so. */
  function push(): void {
    const positions = handled;
    stopTimer?.();
    stopTimer = undefined;
    if (saving || positions == settled) return;
    count = 0;
    const settle = () => {
      settled = positions;
      acknowledge(positions);
    };
    try {
      const saved = store?.save(positions);
      if (!saved) return settle();
      saving = saved.then(settle, report).then(() => {
        saving = undefined;
        pace();
      });
    } catch (error) {
      report(error);
    }
  }

  return {
    _advance: advance,
    _push: push,

    /** From where to go on: what was handled and, with a store, saved; or else the first place of all. */
    _resumable: (): Positions => ({ ...beginning, ...(store ? settled : handled) }),

    /** Begin where the store says; what cannot be read counts as nothing. */
    async _load(): Promise<Positions> {
      try {
        handled = settled = readPositions(await store?.load());
      } catch (error) {
        report(error);
      }
      return handled;
    },

    /**
     * The server has said where the client is: it goes on from there, where it had no position before.
     *
     * @param isAll - whether there is nothing to tell the application first.
     */
    _begin(positions: Positions, isAll: boolean): void {
      beginning = { ...positions, ...beginning };
      if (isAll && !isKnown(handled)) advance(positions);
    },

    /** Save and acknowledge what is new; there is something to wait for only if the store is slow. */
    async _flush(): Promise<void> {
      await saving;
      push();
      await saving;
    },
  };
}

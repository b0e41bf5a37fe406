/** Positions of handled messages: first handled, then saved, then acknowledged. */

import { later } from "./clock.js";
import { type PositionStore } from "./positions.js";
import { isKnown, NOWHERE, type Positions, readPositions } from "./tracking.js";

/** Seconds from the first handled message to the acknowledgement (section 17.6). */
const MAX_WAIT = 1;

/** Handled messages after which an acknowledgement is due at once. */
const MAX_MESSAGES = 64;

/** Tracks the positions of handled messages, over all connections of a client. */
export type Acknowledging = ReturnType<typeof createAcknowledging>;

/**
 * @param acknowledge - sends an acknowledgement, if there is a connection.
 * @param report - reports an error of the store to the application.
 */
export function createAcknowledging(
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

  /** Note that the application has handled everything up to `positions`. */
  function advance(positions: Positions): void {
    if (positions == handled || !isKnown(positions)) return; // a message without a number does not move them
    // Save a new epoch at once: if the connection ended before, the server would report the epoch again, perhaps as a reset.
    count += positions.e == handled.e && positions.b?.e == handled.b?.e ? 1 : MAX_MESSAGES;
    handled = positions;
    pace();
  }

  function pace(): void {
    if (count >= MAX_MESSAGES) push();
    else if (count) stopTimer ??= later(MAX_WAIT, push);
  }

  /** Save and acknowledge new positions now, before they are due. */
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

    /** Return the positions to continue from: handled and, with a store, saved; or else the first ones of all. */
    _resumable: (): Positions => ({ ...beginning, ...(store ? settled : handled) }),

    /** Load the positions from the store; unreadable ones count as none. */
    async _load(): Promise<Positions> {
      try {
        handled = settled = readPositions(await store?.load());
      } catch (error) {
        report(error);
      }
      return handled;
    },

    /**
     * Continue from the positions that the server named, where the client had none.
     *
     * @param isAll - whether there is nothing to report to the application first.
     */
    _begin(positions: Positions, isAll: boolean): void {
      beginning = { ...positions, ...beginning };
      if (isAll && !isKnown(handled)) advance(positions);
    },

    /** Save and acknowledge new positions; waits only for a slow store. */
    async _flush(): Promise<void> {
      await saving;
      push();
      await saving;
    },
  };
}

/** How far the application has come: handled, then saved, then acknowledged, in this order. */

import { later } from "./clock.js";
import { type PositionStore } from "./positions.js";
import { NOWHERE, type Positions, readPositions } from "./tracking.js";

/** Seconds from the first message that was handled to the acknowledgement (section 17.6). */
const MAX_WAIT = 1;

/** Messages that are handled before an acknowledgement does not wait any longer. */
const MAX_MESSAGES = 64;

const isKnown = ({ e, b }: Positions): boolean => e !== undefined || !!b;

/** Keeps the positions of what was handled, over all connections of a client. */
export class Progress {
  private _handled = NOWHERE;
  private _settled = NOWHERE;
  private _beginning = NOWHERE; // of the first connection that had one
  private _count = 0;
  private _stopTimer: (() => void) | undefined;
  private _saving: Promise<void> | undefined;

  /**
   * @param _acknowledge - tells the server, if there is one now.
   * @param _report - tells the application what its store threw.
   */
  constructor(
    private _store: PositionStore | undefined,
    private _acknowledge: (positions: Positions) => void,
    private _report: (error: unknown) => void,
  ) {}

  /** From where to go on: what was handled and, with a store, saved; or else the first place of all. */
  get _resumable(): Positions {
    return { ...this._beginning, ...(this._store ? this._settled : this._handled) };
  }

  /** Begin where the store says; what cannot be read counts as nothing. */
  async _load(): Promise<Positions> {
    try {
      this._handled = this._settled = readPositions(await this._store?.load());
    } catch (error) {
      this._report(error);
    }
    return this._handled;
  }

  /**
   * The server has said where the client is: it goes on from there, where it had no position before.
   *
   * @param isAll - whether there is nothing to tell the application first.
   */
  _begin(positions: Positions, isAll: boolean): void {
    this._beginning = { ...positions, ...this._beginning };
    if (!isAll || isKnown(this._handled)) return;
    this._advance(positions);
    this._push();
  }

  /** The application has handled everything up to `positions`. */
  _advance(positions: Positions): void {
    if (positions == this._handled || !isKnown(positions)) return; // what has no number does not move them
    this._handled = positions;
    this._count++;
    this._pace();
  }

  /** Save and acknowledge what is new; there is something to wait for only if the store is slow. */
  async _flush(): Promise<void> {
    await this._saving;
    this._push();
    await this._saving;
  }

  /** Save and acknowledge what is new, without waiting for the time to do so. */
  _push(): void {
    this._stopTimer?.();
    this._stopTimer = undefined;
    const positions = this._handled;
    if (this._saving || positions == this._settled) return;
    this._count = 0;
    try {
      const saved = this._store?.save(positions);
      if (!saved) return this._settle(positions);
      this._saving = saved.then(() => this._settle(positions), this._report).then(() => {
        this._saving = undefined;
        this._pace();
      });
    } catch (error) {
      this._report(error);
    }
  }

  private _pace(): void {
    if (this._count >= MAX_MESSAGES) this._push();
    else if (this._count) this._stopTimer ??= later(MAX_WAIT, () => this._push());
  }

  private _settle(positions: Positions): void {
    this._settled = positions;
    this._acknowledge(positions);
  }
}

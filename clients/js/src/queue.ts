/** What waits to be sent, in the order of the calls, while there is no connection to send it by. */

import { MesaError } from "./errors.js";

/** Something to send: `_write` sends it, or throws; `_reject` tells that it never will be. */
export interface Entry {
  _write(): void;
  _reject(error: unknown): void;
}

export class Queue {
  private _entries: Entry[] = [];

  /** @param _limit - entries that may wait. */
  constructor(private _limit: number) {}

  /** Add an entry; it is rejected if too many wait. */
  _add(entry: Entry): void {
    if (this._entries.length < this._limit) this._entries.push(entry);
    else
      entry._reject(
        new MesaError("queue_full", `${this._limit} messages wait already; send later, or give a larger queueSize`),
      );
  }

  /** Take an entry out that is not waited for any more. */
  _remove(entry: Entry): void {
    this._entries = this._entries.filter((each) => each != entry);
  }

  /** Send what waits, for as long as `isOpen`. */
  _flush(isOpen: () => boolean): void {
    while (this._entries.length && isOpen()) {
      const entry = this._entries.shift()!;
      try {
        entry._write();
      } catch (error) {
        entry._reject(error);
      }
    }
  }

  /** Reject all that waits. */
  _clear(error: MesaError): void {
    for (const entry of this._entries.splice(0)) entry._reject(error);
  }
}

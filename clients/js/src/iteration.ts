/** `for await` over the messages of a client: a handler that is done when the next message is asked for. */

import { type MesaError } from "./errors.js";
import { type Message } from "./frames.js";
import { type Inbox } from "./inbox.js";

interface Asked {
  _resolve(result: IteratorResult<Message>): void;
  _reject(error: MesaError): void;
}

/** The iterations of one client. Each gets every message. */
export class Iterations {
  private _all = new Set<Iteration>();
  private _end: (() => MesaError | undefined) | undefined;

  constructor(private _inbox: Inbox) {}

  _begin(): Iteration {
    const iteration = new Iteration(this._inbox, () => this._all.delete(iteration));
    if (this._end) iteration._finish(this._end());
    this._all.add(iteration);
    return iteration;
  }

  /** No message will come any more; iterations end, with the error if there is one. */
  _finish(error?: MesaError): void {
    this._end = () => error;
    for (const iteration of this._all) iteration._finish(error);
  }
}

class Iteration implements AsyncIterableIterator<Message> {
  private _asked: Asked[] = [];
  private _release = () => {};
  private _remove: (() => void) | undefined;
  private _last: (() => Promise<IteratorResult<Message>>) | undefined;

  constructor(
    private _inbox: Inbox,
    private _ended: () => void,
  ) {}

  [Symbol.asyncIterator](): this {
    return this;
  }

  /** Wait for the next message; the one before is handled. */
  next(): Promise<IteratorResult<Message>> {
    this._release();
    if (this._last) return this._last();
    return new Promise((_resolve, _reject) => {
      this._asked.push({ _resolve, _reject });
      this._remove ??= this._inbox._on("*", (_, value) => {
        const asked = this._asked.shift();
        if (!asked) return; // another handler of the same message has ended the loop
        asked._resolve({ value, done: false });
        if (!this._asked.length) return new Promise<void>((release) => (this._release = release));
      });
    });
  }

  /** Leave the loop: the message in hand is handled. */
  return(): Promise<IteratorResult<Message>> {
    this._finish();
    return this.next();
  }

  _finish(error?: MesaError): void {
    this._remove?.();
    this._ended();
    const result = { value: undefined, done: true } as const;
    this._last = () => (error ? Promise.reject(error) : Promise.resolve(result));
    for (const { _resolve, _reject } of this._asked.splice(0)) error ? _reject(error) : _resolve(result);
  }
}

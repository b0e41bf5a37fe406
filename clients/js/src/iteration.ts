/** `for await` over the messages of a client: a handler that ends when the loop asks for the next message. */

import { type MesaError } from "./errors.js";
import { type Message } from "./frames.js";
import { type Inbox } from "./inbox.js";

interface PendingNext {
  _resolve(result: IteratorResult<Message>): void;
  _reject(error: MesaError): void;
}

/** One loop over all messages from now on; `_finish` ends it, with the error if there is one. */
export interface Iteration extends AsyncIterableIterator<Message> {
  _finish(error?: MesaError): void;
}

/** @param ended - called when the loop is left, or has ended. */
export function iterate({ _on }: Inbox, ended: () => void): Iteration {
  const pending: PendingNext[] = [];
  let release = () => {};
  let remove: (() => void) | undefined;
  let last: (() => Promise<IteratorResult<Message>>) | undefined;

  const iteration: Iteration = {
    [Symbol.asyncIterator]: () => iteration,

    /** Wait for the next message; the one before is handled. */
    next() {
      release();
      if (last) return last();
      remove ??= _on("*", (_, value) => {
        const next = pending.shift();
        if (!next) return; // another handler of the same message has ended the loop
        next._resolve({ value, done: false });
        if (!pending.length) return new Promise<void>((resolve) => (release = resolve));
      });
      return new Promise((_resolve, _reject) => pending.push({ _resolve, _reject }));
    },

    /** Leave the loop; the last message is handled. */
    return() {
      iteration._finish();
      return iteration.next();
    },

    _finish(error) {
      const end = { value: undefined, done: true } as const;
      remove?.();
      ended();
      last = () => (error ? Promise.reject(error) : Promise.resolve(end));
      for (const { _resolve, _reject } of pending.splice(0)) error ? _reject(error) : _resolve(end);
    },
  };
  return iteration;
}

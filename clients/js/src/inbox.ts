/**
 * Received messages and events, on their way to the handlers of the application.
 *
 * They are handed over one after another, in the order in which they arrived; one is *handled* when all its
 * handlers are done. While there is no handler for messages at all, they wait.
 */

import { type Data, type Message } from "./frames.js";
import { type Arrival, type Positions } from "./tracking.js";

/** Called with a message's data; the client waits for its promise before the next message. */
export type MessageHandler<T = Data> = (data: T, message: Message<T>) => unknown;

/** Called with the values of an event that is not a message. */
export type Listener = (...values: Data[]) => unknown;

/** Rollbacks of the server's store that are remembered, so that each is reported once. */
const MAX_ROLLBACKS = 16;

/**
 * Arrivals that may wait for the handlers; beyond, messages that the server does not store are dropped, and reported
 * as lost. A browser cannot stop reading; of stored messages the server sends only a limited number ahead.
 */
const MAX_WAITING = 10_000;

/** Kinds that go to the console if the application does not listen for them. */
const IMPORTANT = ["lost", "forked", "reset"];

const logError = (error: unknown) => console.error("mesa:", error);

/** Add to a set, and return a function that removes it. */
export function addTo<T>(set: Set<T>, entry: T): () => void {
  set.add(entry);
  return () => set.delete(entry);
}

/** Return the handlers for any of the names. */
export const matching = <T>(handlers: Set<readonly [string, T]>, ...names: (string | null)[]) =>
  [...handlers].filter(([wanted]) => names.includes(wanted));

export type Inbox = ReturnType<typeof createInbox>;

/** @param handled - called with the positions after each arrival that was handled. */
export function createInbox(handled: (positions: Positions) => void) {
  const handlers = new Set<readonly [string, MessageHandler]>();
  const listeners = new Set<readonly [string, Listener]>();
  const waiting: (Arrival | (() => void))[] = [];
  let newest: Positions | undefined;
  let isHanding = false;
  let isShut = false;
  let rollbacks: Data[] = [];

  /** Hand over all arrivals that wait, in this very call if no handler returns a promise. */
  async function hand(): Promise<void> {
    if (isHanding) return;
    isHanding = true;
    while (waiting.length && (handlers.size || typeof waiting[0] == "function")) {
      const next = waiting.shift()!;
      if (typeof next == "function") next();
      else {
        const pending = call(next);
        if (pending.length) await Promise.all(pending);
        handled(next[2]);
      }
    }
    isHanding = false;
  }

  /** Call the handlers of one arrival, and return their promises. */
  function call([kind, value]: Arrival): Promise<unknown>[] {
    if (kind == "message") return run(matching(handlers, value.type, "*"), [value.data, value]);
    if (kind == "moved" || (kind == "forked" && rollbacks.includes(value))) return [];
    if (kind == "forked") rollbacks = [value, ...rollbacks].slice(0, MAX_ROLLBACKS);
    return kind == "reset" ? tell(kind) : tell(kind, value);
  }

  /** Call the listeners of one kind, and return their promises. */
  function tell(kind: string, ...values: Data[]): Promise<unknown>[] {
    const heard = matching(listeners, kind);
    if (!heard.length) {
      if (kind == "error") logError(values[0]);
      if (IMPORTANT.includes(kind)) console.warn(`mesa: no handler for ${kind}`, ...values);
    }
    // An error of an error handler goes to the console, not to that handler.
    return run(heard, values, kind == "error" ? logError : report);
  }

  /** Report an error of the application's code to the application. */
  function report(error: unknown): void {
    tell("error", error);
  }

  /** Call handlers, and return their promises. */
  function run(called: (readonly [string, Listener])[], values: Data[], failed = report): Promise<unknown>[] {
    const pending: Promise<unknown>[] = [];
    for (const [, handler] of called) {
      try {
        const result: Data = handler(...values);
        if (result?.then) pending.push(result.then(undefined, failed));
      } catch (error) {
        failed(error);
      }
    }
    return pending;
  }

  return {
    _tell: tell,
    _report: report,
    _waiting: waiting,

    /** Add the next arrival, or a function to call once all earlier arrivals are handled. */
    _add(arrival: Arrival | (() => void)): void {
      if (isShut) return;
      const last: Data = waiting[waiting.length - 1];
      const { 0: kind, 2: positions = newest }: Data = arrival;
      const isDropped = waiting.length >= MAX_WAITING && kind == "message" && positions == newest;
      newest = positions;
      if (isDropped && last[0] == "lost") last[1]++;
      else waiting.push(isDropped ? ["lost", 1, positions] : arrival);
      void hand();
    },

    /** Drop all arrivals from now on, and those that wait, and call `then` when the running handlers are done. */
    _shut(then: () => void): void {
      isShut = true;
      waiting.length = 0;
      if (isHanding) waiting.push(then);
      else then();
    },

    /** Give messages to `handler`; those that wait already, from the next microtask on. */
    _on(type: string, handler: MessageHandler): () => void {
      void Promise.resolve().then(hand);
      return addTo(handlers, [type, handler] as const);
    },

    /** Call `listener` for events of one kind. */
    _listen: (kind: string, listener: Listener) => addTo(listeners, [kind, listener] as const),
  };
}

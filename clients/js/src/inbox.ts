/**
 * What a client received, on its way to the handlers of the application.
 *
 * One thing after the other is handed over, in the order in which it came; what was handed over is *handled*
 * when all its handlers are done. While there is nothing that takes messages at all, they wait.
 */

import { type Data, type Message } from "./frames.js";
import { type Arrival, type Positions } from "./tracking.js";

/** Called with a message's data; a promise that it returns is waited for before the next message. */
export type MessageHandler<T = Data> = (data: T, message: Message<T>) => unknown;

/** Called with what is no message. */
export type Listener = (...values: Data[]) => unknown;

/** Rollbacks of the server's store that are remembered, so that each is reported once. */
const MAX_ROLLBACKS = 16;

/**
 * Things that wait for the handlers, beyond which messages that the server does not store are dropped, and told as
 * lost. A browser cannot stop reading; of stored messages the server itself sends only so many ahead.
 */
const MAX_WAITING = 10_000;

/** Kinds that an application has to know of, though it does not listen. */
const IMPORTANT = ["lost", "forked", "reset"];

const logError = (error: unknown) => console.error("mesa:", error);

/** Add to a set; what is returned takes it out again. */
export function addTo<T>(set: Set<T>, entry: T): () => void {
  set.add(entry);
  return () => set.delete(entry);
}

/** Those of the handlers that want one of the names. */
export const matching = <T>(handlers: Set<readonly [string, T]>, ...names: (string | null)[]) =>
  [...handlers].filter(([wanted]) => names.includes(wanted));

export type Inbox = ReturnType<typeof createInbox>;

/** @param handled - called with the positions of what was handled. */
export function createInbox(handled: (positions: Positions) => void) {
  const handlers = new Set<readonly [string, MessageHandler]>();
  const listeners = new Set<readonly [string, Listener]>();
  const waiting: (Arrival | (() => void))[] = [];
  let newest: Positions | undefined;
  let isHanding = false;
  let isShut = false;
  let rollbacks: Data[] = [];

  /** Hand over what waits. Without promises of handlers all of it is done in this very call. */
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

  /** Call the handlers of one thing; what they have begun, to be waited for. */
  function call([kind, value]: Arrival): Promise<unknown>[] {
    if (kind == "message") return run(matching(handlers, value.type, "*"), [value.data, value]);
    if (kind == "moved" || (kind == "forked" && rollbacks.includes(value))) return [];
    if (kind == "forked") rollbacks = [value, ...rollbacks].slice(0, MAX_ROLLBACKS);
    return kind == "reset" ? tell(kind) : tell(kind, value);
  }

  /** Tell the listeners of one kind. */
  function tell(kind: string, ...values: Data[]): Promise<unknown>[] {
    const heard = matching(listeners, kind);
    if (!heard.length) {
      if (kind == "error") logError(values[0]);
      if (IMPORTANT.includes(kind)) console.warn(`mesa: no handler for ${kind}`, ...values);
    }
    // Who fails to hear of errors is not told of that.
    return run(heard, values, kind == "error" ? logError : report);
  }

  /** Tell the application what its code threw. */
  function report(error: unknown): void {
    tell("error", error);
  }

  /** Call handlers; what they have begun. */
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

    /** Take in what arrived next, or what is to be called once all that arrived before is handled. */
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

    /** Take nothing in any more, drop what waits, and call `then` when the handlers that run are done. */
    _shut(then: () => void): void {
      isShut = true;
      waiting.length = 0;
      if (isHanding) waiting.push(then);
      else then();
    },

    /** Take messages out by `handler`, those that wait already from the next microtask on. */
    _on(type: string, handler: MessageHandler): () => void {
      void Promise.resolve().then(hand);
      return addTo(handlers, [type, handler] as const);
    },

    /** Call `listener` for what is no message. */
    _listen: (kind: string, listener: Listener) => addTo(listeners, [kind, listener] as const),
  };
}

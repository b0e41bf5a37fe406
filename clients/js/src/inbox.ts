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

/** Handlers of what is no message, by the kind of it. */
export type Listener = (...values: Data[]) => unknown;

/** Rollbacks of the server's store that are remembered, so that each is told once. */
const MAX_ROLLBACKS = 16;

const UNHEARD: Record<string, string> = {
  lost: "messages lost; use onLost",
  forked: "messages may be missing; use onForked",
  reset: "messages may be missing, or come again; use onReset",
};

const logError = (error: unknown) => console.error("mesa:", error);

export class Inbox {
  /** Pairs of a type, or `*`, and a handler. */
  readonly _handlers = new Set<readonly [string, MessageHandler]>();
  private _listeners: Record<string, Set<Listener>> = {};
  private _waiting: (Arrival | (() => void))[] = [];
  private _isHanding = false;
  private _isShut = false;
  private _rollbacks: Data[] = [];

  /**
   * @param _handled - called with the positions of what was handled.
   * @param _report - tells the application what a handler threw.
   */
  constructor(
    private _handled: (positions: Positions) => void,
    private _report: (error: unknown) => void,
  ) {}

  /** Take in what arrived next, or what is to be called once all that arrived before is handled. */
  _add(arrival: Arrival | (() => void)): void {
    if (this._isShut) return;
    this._waiting.push(arrival);
    void this._hand();
  }

  /** Take nothing in any more, drop what waits, and call `then` when the handlers that run are done. */
  _shut(then: () => void): void {
    this._isShut = true;
    this._waiting = this._isHanding ? [then] : [];
    if (!this._isHanding) then();
  }

  /** Take messages out by `handler`, those that wait already from the next microtask on. */
  _on(type: string, handler: MessageHandler): () => void {
    const entry = [type, handler] as const;
    this._handlers.add(entry);
    void Promise.resolve().then(() => this._hand());
    return () => this._handlers.delete(entry);
  }

  /** Call `listener` for what is no message. */
  _listen(kind: string, listener: Listener): () => void {
    const listeners = (this._listeners[kind] ??= new Set());
    const own: Listener = (...values) => listener(...values);
    listeners.add(own);
    return () => listeners.delete(own);
  }

  /** Hand over what waits. Without promises of handlers all of it is done in this very call. */
  private async _hand(): Promise<void> {
    if (this._isHanding) return;
    this._isHanding = true;
    while (this._waiting.length && (this._handlers.size || typeof this._waiting[0] == "function")) {
      const next = this._waiting.shift()!;
      if (typeof next == "function") next();
      else {
        const pending = this._call(next);
        if (pending.length) await Promise.all(pending);
        this._handled(next[2]);
      }
    }
    this._isHanding = false;
  }

  /** Call the handlers of one thing; what they have begun, to be waited for. */
  private _call([kind, value]: Arrival): Promise<unknown>[] {
    if (kind == "message") {
      const handlers = [...this._handlers].filter(([type]) => type == "*" || type == value.type);
      return this._run(handlers.map(([, handler]) => () => handler(value.data, value)));
    }
    if (kind == "moved" || (kind == "forked" && this._rollbacks.includes(value))) return [];
    if (kind == "forked") this._rollbacks = [value, ...this._rollbacks].slice(0, MAX_ROLLBACKS);
    return kind == "reset" ? this._tell(kind) : this._tell(kind, value);
  }

  /** Tell the listeners of one kind. */
  _tell(kind: string, ...values: Data[]): Promise<unknown>[] {
    const listeners = [...(this._listeners[kind] ?? [])];
    if (!listeners.length && kind == "error") logError(values[0]);
    if (!listeners.length && UNHEARD[kind]) console.warn(`mesa: ${UNHEARD[kind]}`, ...values);
    const report = kind == "error" ? logError : this._report; // who fails to hear of errors is not told of that
    return this._run(listeners.map((listener) => () => listener(...values)), report);
  }

  private _run(calls: (() => Data)[], report = this._report): Promise<unknown>[] {
    const pending: Promise<unknown>[] = [];
    for (const call of calls) {
      try {
        const result = call();
        if (result?.then) pending.push(result.then(undefined, report));
      } catch (error) {
        report(error);
      }
    }
    return pending;
  }
}
